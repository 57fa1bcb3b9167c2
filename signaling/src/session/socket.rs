//! A client's WebSocket: frames ↔ messages, and nothing else.
//!
//! Messages are protobuf in binary frames. A client that sends text frames speaks protojson and is
//! answered in it from then on. A frame that cannot be read closes this socket and hurts nobody else.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_response::Message;
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use super::SocketClose;
use super::driver::Input;
use crate::livekit::message::{request_name, response_name};
use crate::metrics::{Direction, Metrics, SocketEnd};

/// Longest message of a client. LiveKit's limit.
pub(crate) const MAX_MESSAGE: usize = 2 << 20;

/// What is read at a time. Clients say little at once, and all of it is zeroed before each attempt: with the
/// default of 128 KiB that is an eighth of what a large room costs, and a third of a member's memory.
pub(crate) const READ_BUFFER: usize = 4 << 10;

/// Messages that wait for a client to read. Full: the client is too slow and its socket is closed;
/// it may come back and is then told everything anew.
const OUTBOUND: usize = 1024;

/// Bytes of such messages. A single one may be larger: the answer to a join of a very large room.
const OUTBOUND_BYTES: usize = 8 << 20;

/// Time for one message to be taken by the network.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Keeps proxies from closing an idle connection, and makes a living client answer.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A client that sent nothing for this long, not even the answer to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(25);

/// Time for a client to react to a leave before its socket is closed. SDKs that see both at once
/// may do the wrong one of two things.
const AFTER_LEAVE: Duration = Duration::from_secs(1);

/// Time for the closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum ToSocket {
    Message(Box<Message>),
    Close(SocketClose),
}

/// The session's end of a socket. Dropped: the socket closes after what was said.
#[derive(Debug)]
pub(crate) struct SocketHandle {
    /// Tells the sockets of a session apart.
    pub(crate) number: u64,
    out: mpsc::Sender<ToSocket>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    abort: CancellationToken,
}

impl SocketHandle {
    /// `false`: the client is too slow; its socket is being closed.
    pub(crate) fn say(&self, message: Box<Message>) -> bool {
        let size = message.encoded_len();
        if self.waiting.fetch_add(size, Ordering::Relaxed) > OUTBOUND_BYTES {
            self.abort.cancel();
            return false;
        }
        self.send(ToSocket::Message(message))
    }

    pub(crate) fn close(&self, close: SocketClose) {
        self.send(ToSocket::Close(close));
    }

    fn send(&self, item: ToSocket) -> bool {
        match self.out.try_send(item) {
            // A socket that has ended reports that itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.abort.cancel();
                false
            }
        }
    }
}

/// The other end, to be run.
pub(crate) struct Socket {
    number: u64,
    out: mpsc::Receiver<ToSocket>,
    waiting: Arc<AtomicUsize>,
    abort: CancellationToken,
}

pub(crate) fn socket(number: u64) -> (SocketHandle, Socket) {
    let (sender, receiver) = mpsc::channel(OUTBOUND);
    let abort = CancellationToken::new();
    let waiting = Arc::new(AtomicUsize::new(0));
    let handle = SocketHandle {
        number,
        out: sender,
        waiting: Arc::clone(&waiting),
        abort: abort.clone(),
    };
    let socket = Socket {
        number,
        out: receiver,
        waiting,
        abort,
    };
    (handle, socket)
}

/// How it ended, and what is said in the close frame.
struct Ended {
    end: SocketEnd,
    code: u16,
    reason: String,
    /// A leave was said; after it only pings are answered.
    after_leave: bool,
}

impl Ended {
    fn new(end: SocketEnd, code: u16, reason: impl Into<String>) -> Self {
        Self {
            end,
            code,
            reason: reason.into(),
            after_leave: false,
        }
    }
}

impl Socket {
    /// Runs until either side ends it. `session` hears the client and that the socket ended.
    pub(crate) async fn run(
        mut self,
        socket: WebSocket,
        session: mpsc::Sender<Input>,
        metrics: Arc<Metrics>,
    ) {
        let number = self.number;
        metrics.connections.inc();
        let (mut sink, mut stream) = socket.split();
        let text = AtomicBool::new(false);
        let ended = tokio::select! {
            ended = read(&mut stream, number, &session, &text, &metrics) => ended,
            ended = write(&mut sink, &mut self.out, &self.waiting, &text, &metrics) => ended,
            () = self.abort.cancelled() => {
                Ended::new(SocketEnd::TooSlow, close_code::POLICY, "too slow to read")
            }
        };
        // The session must not wait for the closing handshake.
        let _ = session.send(Input::Detached(number)).await;
        metrics.connections.dec();
        metrics.socket_closed(ended.end);
        if ended.after_leave {
            let left = async { while let Some(Ok(_)) = stream.next().await {} };
            let _ = tokio::time::timeout(AFTER_LEAVE, left).await;
        }
        let close = Frame::Close(Some(CloseFrame {
            code: ended.code,
            reason: ended.reason.into(),
        }));
        let handshake = async {
            if sink.send(close).await.is_ok() {
                while let Some(Ok(_)) = stream.next().await {}
            }
        };
        let _ = tokio::time::timeout(CLOSE_LIMIT, handshake).await;
    }
}

async fn read(
    stream: &mut SplitStream<WebSocket>,
    number: u64,
    session: &mpsc::Sender<Input>,
    text: &AtomicBool,
    metrics: &Metrics,
) -> Ended {
    loop {
        let frame = match tokio::time::timeout(SILENCE, stream.next()).await {
            Err(_) => {
                return Ended::new(SocketEnd::Silent, close_code::AWAY, "silent for too long");
            }
            Ok(None) => return Ended::new(SocketEnd::Client, close_code::NORMAL, ""),
            Ok(Some(Err(error))) => return broken(&error),
            Ok(Some(Ok(frame))) => frame,
        };
        let request = match frame {
            Frame::Binary(bytes) => {
                text.store(false, Ordering::Relaxed);
                SignalRequest::decode(bytes).map_err(|_| "not a SignalRequest in protobuf")
            }
            Frame::Text(json) => {
                text.store(true, Ordering::Relaxed);
                serde_json::from_str(&json).map_err(|_| "not a SignalRequest in JSON")
            }
            Frame::Ping(_) | Frame::Pong(_) => continue,
            Frame::Close(_) => return Ended::new(SocketEnd::Client, close_code::NORMAL, ""),
        };
        let message = match request {
            Ok(SignalRequest {
                message: Some(message),
            }) => message,
            // A message of a later protocol.
            Ok(SignalRequest { message: None }) => {
                metrics.message(Direction::In, "unknown");
                continue;
            }
            Err(reason) => {
                return Ended::new(SocketEnd::Malformed, close_code::INVALID, reason);
            }
        };
        metrics.message(Direction::In, request_name(&message));
        // Waits while the session has enough to do; the network then slows the client down.
        let input = Input::Client(number, Box::new(message));
        if session.send(input).await.is_err() {
            // The session has ended. What it said last, a leave above all, is still being written.
            return std::future::pending().await;
        }
    }
}

async fn write(
    sink: &mut SplitSink<WebSocket, Frame>,
    out: &mut mpsc::Receiver<ToSocket>,
    waiting: &AtomicUsize,
    text: &AtomicBool,
    metrics: &Metrics,
) -> Ended {
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.reset();
    let mut after_leave = false;
    loop {
        let frame = tokio::select! {
            item = out.recv() => match item {
                Some(ToSocket::Message(message)) => {
                    metrics.message(Direction::Out, response_name(&message));
                    waiting.fetch_sub(message.encoded_len(), Ordering::Relaxed);
                    after_leave |= matches!(*message, Message::Leave(_));
                    encode(*message, text.load(Ordering::Relaxed))
                }
                Some(ToSocket::Close(close)) => {
                    let ended = Ended::new(SocketEnd::Session, close.code, close.reason);
                    return Ended { after_leave, ..ended };
                }
                None => {
                    let reason = "the session has ended";
                    let ended = Ended::new(SocketEnd::Session, close_code::NORMAL, reason);
                    return Ended { after_leave, ..ended };
                }
            },
            _ = pings.tick() => Frame::Ping(Bytes::new()),
        };
        match tokio::time::timeout(SEND_LIMIT, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return broken(&error),
            Err(_) => {
                return Ended::new(SocketEnd::TooSlow, close_code::POLICY, "too slow to read");
            }
        }
    }
}

fn encode(message: Message, text: bool) -> Frame {
    let response = SignalResponse {
        message: Some(message),
    };
    if text {
        // protojson of a message that was made from Rust values does not fail.
        Frame::Text(serde_json::to_string(&response).unwrap_or_default().into())
    } else {
        Frame::Binary(response.encode_to_vec().into())
    }
}

/// What the WebSocket layer found wrong: the client broke the protocol, or the connection broke.
fn broken(error: &axum::Error) -> Ended {
    use tungstenite::error::{Error, ProtocolError};
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Capacity(_)) => {
            let reason = format!("a message may have {MAX_MESSAGE} bytes");
            Ended::new(SocketEnd::Malformed, close_code::SIZE, reason)
        }
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
            Ended::new(SocketEnd::Broken, close_code::AWAY, "")
        }
        Some(Error::Protocol(_) | Error::Utf8(_)) => Ended::new(
            SocketEnd::Malformed,
            close_code::PROTOCOL,
            "not a WebSocket message",
        ),
        _ => Ended::new(SocketEnd::Broken, close_code::AWAY, ""),
    }
}
