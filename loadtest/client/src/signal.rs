//! A signaling connection: one WebSocket, over TLS if need be, typed messages both ways, a deadline for
//! every wait.
//!
//! Knows both dialects and both encodings. What arrives while something else is awaited is kept, so
//! the order of waits need not be the order of arrival.

mod tls;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    JoinResponse, LeaveRequest, Ping, ReconnectResponse, SignalRequest, SignalResponse,
};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::url::{Dialect, target};
pub use tls::{Tls, TrustError};

/// Messages that may wait for somebody to ask for them. More: the test has forgotten to look.
const BACKLOG: usize = 4096;

/// The default is 128 KiB, more than all else of a simulated participant.
const READ_BUFFER: usize = 8 << 10;

/// Whatever bytes go over: TCP, or TLS on top of it.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Who connects, where and how.
#[derive(Debug, Clone)]
pub struct Connect {
    /// `host:port`.
    pub address: String,
    /// Path in front of `/rtc`, empty as a rule.
    pub prefix: String,
    pub token: String,
    pub token_in: TokenIn,
    pub dialect: Dialect,
    /// What the query says besides: SDKs keep the parameters of the URL that they are given.
    pub parameters: Vec<(String, String)>,
    /// Of the upgrade; what proxies add on the way.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub encoding: Encoding,
    /// None: plain TCP.
    pub tls: Option<Tls>,
}

/// Where the token travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenIn {
    /// Browsers, which cannot set headers of a WebSocket.
    Query,
    Header,
}

/// What the client sends; the server answers in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// protobuf in binary frames.
    Binary,
    /// protojson in text frames.
    Text,
}

impl Connect {
    #[must_use]
    pub fn new(address: impl Into<String>, token: impl Into<String>, dialect: Dialect) -> Self {
        Self {
            address: address.into(),
            prefix: String::new(),
            token: token.into(),
            token_in: TokenIn::Query,
            dialect,
            parameters: Vec::new(),
            headers: Vec::new(),
            encoding: Encoding::Binary,
            tls: None,
        }
    }

    /// The path and query of the upgrade.
    #[must_use]
    pub fn target(&self) -> String {
        self.target_of("")
    }

    /// What an SDK asks for after a failed upgrade, to learn why it failed.
    #[must_use]
    pub fn validate_target(&self) -> String {
        self.target_of("/validate")
    }

    fn target_of(&self, suffix: &str) -> String {
        let (prefix, token) = (&self.prefix, self.query_token());
        target(prefix, &self.dialect, suffix, token, &self.parameters)
    }

    fn query_token(&self) -> Option<&str> {
        (self.token_in == TokenIn::Query).then_some(&self.token)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot reach the server")]
    Io(#[from] io::Error),
    /// The server answered, but not with an upgrade.
    #[error("the server answered {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("the WebSocket handshake failed")]
    Handshake(#[source] Box<tungstenite::Error>),
    #[error("the server did not answer in time")]
    Timeout,
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("{awaited} did not come in time; came instead: {came}")]
    Timeout { awaited: &'static str, came: String },
    #[error("the server closed the connection with {code:?} {reason:?}")]
    Closed { code: Option<u16>, reason: String },
    #[error("the connection broke")]
    Broken(#[source] Box<tungstenite::Error>),
    #[error("a message could not be read: {0}")]
    Malformed(String),
}

/// A connection whose upgrade succeeded.
pub struct SignalClient {
    socket: WebSocketStream<Box<dyn Transport>>,
    encoding: Encoding,
    received: Encoding,
    backlog: VecDeque<Response>,
}

impl SignalClient {
    /// Connects over TCP, or TLS on top of it.
    ///
    /// # Errors
    /// When the server cannot be reached or does not upgrade.
    pub async fn connect(connect: &Connect, within: Duration) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + within;
        let tcp = timeout_at(deadline, TcpStream::connect(&connect.address)).await;
        let tcp = tcp.map_err(|_| ConnectError::Timeout)??;
        tcp.set_nodelay(true)?;
        let transport: Box<dyn Transport> = match &connect.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let shaken = timeout_at(deadline, tls.connect(&connect.address, tcp)).await;
                Box::new(shaken.map_err(|_| ConnectError::Timeout)??)
            }
        };
        Self::connect_over(transport, connect, deadline - Instant::now()).await
    }

    /// Connects over something that is connected already.
    ///
    /// # Errors
    /// When the server does not upgrade.
    pub async fn connect_over(
        transport: Box<dyn Transport>,
        connect: &Connect,
        within: Duration,
    ) -> Result<Self, ConnectError> {
        let handshake = |error| ConnectError::Handshake(Box::new(error));
        let url = format!("ws://{}{}", connect.address, connect.target());
        let mut request = url.into_client_request().map_err(handshake)?;
        if connect.token_in == TokenIn::Header {
            let bearer = format!("Bearer {}", connect.token);
            let bearer = HeaderValue::try_from(bearer)
                .map_err(|error| handshake(tungstenite::Error::HttpFormat(error.into())))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        request
            .headers_mut()
            .extend(connect.headers.iter().cloned());
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let upgrade = client_async_with_config(request, transport, Some(config));
        match timeout_at(Instant::now() + within, upgrade).await {
            Err(_) => Err(ConnectError::Timeout),
            Ok(Ok((socket, _))) => Ok(Self {
                socket,
                encoding: connect.encoding,
                received: Encoding::Binary,
                backlog: VecDeque::new(),
            }),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(ConnectError::Refused {
                    status: response.status().as_u16(),
                    body: String::from_utf8_lossy(body).into_owned(),
                })
            }
            Ok(Err(error)) => Err(handshake(error)),
        }
    }

    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, message: Request) -> Result<(), ReceiveError> {
        let request = SignalRequest {
            message: Some(message),
        };
        let frame = match self.encoding {
            Encoding::Binary => Message::binary(request.encode_to_vec()),
            Encoding::Text => {
                let text = serde_json::to_string(&request);
                Message::text(text.map_err(|error| ReceiveError::Malformed(error.to_string()))?)
            }
        };
        self.send_frame(frame).await
    }

    /// Any frame at all, also what no client would send.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_frame(&mut self, frame: Message) -> Result<(), ReceiveError> {
        self.socket.send(frame).await.map_err(broken)
    }

    /// How the message was encoded that arrived last. Servers speak protobuf until they have seen
    /// that the client speaks JSON.
    #[must_use]
    pub fn received_encoding(&self) -> Encoding {
        self.received
    }

    /// The next message, in the order of arrival.
    ///
    /// # Errors
    /// When none comes in time or the connection ends.
    pub async fn next(&mut self, within: Duration) -> Result<Response, ReceiveError> {
        if let Some(message) = self.backlog.pop_front() {
            return Ok(message);
        }
        self.receive("a message", Instant::now() + within).await
    }

    /// Waits for what `wanted` recognises; everything else stays for later.
    ///
    /// # Errors
    /// When it does not come in time or the connection ends.
    pub async fn wait_for<T>(
        &mut self,
        awaited: &'static str,
        within: Duration,
        mut wanted: impl FnMut(&Response) -> Option<T>,
    ) -> Result<T, ReceiveError> {
        for place in 0..self.backlog.len() {
            if let Some(found) = wanted(&self.backlog[place]) {
                self.backlog.remove(place);
                return Ok(found);
            }
        }
        let deadline = Instant::now() + within;
        loop {
            let message = self.receive(awaited, deadline).await?;
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
            assert!(self.backlog.len() < BACKLOG, "nobody reads what arrives");
            self.backlog.push_back(message);
        }
    }

    /// The answer to a join. It has to be the first message.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn joined(&mut self, within: Duration) -> Result<JoinResponse, ReceiveError> {
        match self.next(within).await? {
            Response::Join(join) => Ok(join),
            other => Err(unexpected("join", &other)),
        }
    }

    /// The answer to a resume. It has to be the first message.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn resumed(&mut self, within: Duration) -> Result<ReconnectResponse, ReceiveError> {
        match self.next(within).await? {
            Response::Reconnect(reconnect) => Ok(reconnect),
            other => Err(unexpected("reconnect", &other)),
        }
    }

    /// Sends both kinds of ping, as SDKs do, and waits for both answers.
    ///
    /// # Errors
    /// When an answer does not come in time or the connection ends.
    pub async fn ping(&mut self, within: Duration) -> Result<(), ReceiveError> {
        let ping = Ping {
            timestamp: 1,
            rtt: 0,
        };
        self.send(Request::Ping(1)).await?;
        self.send(Request::PingReq(ping)).await?;
        let pong = |message: &Response| matches!(message, Response::Pong(_)).then_some(());
        self.wait_for("pong", within, pong).await?;
        let pong = |message: &Response| matches!(message, Response::PongResp(_)).then_some(());
        self.wait_for("pong_resp", within, pong).await
    }

    /// # Errors
    /// When the connection is gone.
    pub async fn leave(&mut self) -> Result<(), ReceiveError> {
        self.send(Request::Leave(LeaveRequest::default())).await
    }

    /// Waits until the server has closed the connection; tells how.
    ///
    /// # Errors
    /// When it does not, or the connection broke instead.
    pub async fn closed(
        &mut self,
        within: Duration,
    ) -> Result<(Option<u16>, String), ReceiveError> {
        let nothing = |_: &Response| None::<()>;
        match self.wait_for("a close", within, nothing).await {
            Err(ReceiveError::Closed { code, reason }) => Ok((code, reason)),
            Err(error) => Err(error),
            Ok(()) => unreachable!("nothing is wanted"),
        }
    }

    /// Closes as a browser does whose tab is closed.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn close(mut self) -> Result<(), ReceiveError> {
        self.socket.close(None).await.map_err(broken)
    }

    async fn receive(
        &mut self,
        awaited: &'static str,
        deadline: Instant,
    ) -> Result<Response, ReceiveError> {
        loop {
            let frame = match timeout_at(deadline, self.socket.next()).await {
                Err(_) => {
                    let came = self.backlog.iter().map(name).collect::<Vec<_>>().join(", ");
                    return Err(ReceiveError::Timeout { awaited, came });
                }
                Ok(None) => return Err(closed(None, String::new())),
                Ok(Some(Err(
                    tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed,
                ))) => return Err(closed(None, String::new())),
                Ok(Some(Err(error))) => return Err(broken(error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let malformed =
                |error: &dyn std::fmt::Display| ReceiveError::Malformed(error.to_string());
            let response = match frame {
                Message::Binary(bytes) => {
                    self.received = Encoding::Binary;
                    SignalResponse::decode(bytes).map_err(|error| malformed(&error))?
                }
                Message::Text(text) => {
                    self.received = Encoding::Text;
                    serde_json::from_str(&text).map_err(|error| malformed(&error))?
                }
                Message::Close(frame) => {
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    let (code, reason) = frame.unzip();
                    return Err(closed(code, reason.unwrap_or_default()));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if let Some(message) = response.message {
                return Ok(message);
            }
        }
    }
}

fn closed(code: Option<u16>, reason: String) -> ReceiveError {
    ReceiveError::Closed { code, reason }
}

fn broken(error: tungstenite::Error) -> ReceiveError {
    ReceiveError::Broken(Box::new(error))
}

fn unexpected(awaited: &'static str, other: &Response) -> ReceiveError {
    ReceiveError::Timeout {
        awaited,
        came: format!("{other:?}"),
    }
}

/// The name of a message, for people.
fn name(message: &Response) -> String {
    let text = format!("{message:?}");
    let end = text.find(['(', ' ']).unwrap_or(text.len());
    text[..end].to_owned()
}
