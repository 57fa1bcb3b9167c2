//! A QUIC connection to another node from its first packet to the moment at which both know who the other
//! is; and the stream on which they speak.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::pipe::pipe_message::Message as Word;
use pipemesh_proto::pipe::{CloseCode, Hello, PipeMessage};
use pipemesh_proto::{PIPE_VERSION, PIPE_VERSION_MIN};
use pipemesh_service::Chain;
use prost::Message;
use quinn::{ConnectionError, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::congestion::Published;
use super::narrow::Narrow;
use super::peers::Peers;
use super::stats::Refusal;
use super::tls::{NotAdmitted, SERVER_NAME, Tls};
use super::transport::transport;

/// For QUIC's handshake, on either side. Who is called begins later, by as much as the next call takes to get
/// there; QUIC alone would have it wait for as long after the last datagram of who calls.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
/// For both sides to say who they are.
const HELLO_WITHIN: Duration = Duration::from_secs(3);
/// … with the handshake before.
pub(super) const MEETING_WITHIN: Duration = Duration::from_secs(5);
/// Longest message: a data packet, and room for what is to come.
const LONGEST: usize = 1 << 20;
/// Messages that wait to be handled; then the sender waits.
const WORDS_IN: usize = 256;
/// Messages that wait to be sent. When it is full the link waits with more.
const WORDS_OUT: usize = 1024;
/// Messages that are written at once.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Who this node is.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) node: NodeId,
    pub(super) region: Region,
    pub(super) boot_id: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("its address {0:?} cannot be resolved")]
    Address(String, #[source] Option<std::io::Error>),
    #[error("no connection can be begun")]
    Connect(#[from] quinn::ConnectError),
    #[error("the connection failed")]
    Connection(#[from] ConnectionError),
    #[error("it said nothing in time")]
    Silent,
    #[error("it does not introduce itself")]
    NoHello,
    #[error("it calls itself {0:?}, which is no node's id")]
    BadName(String),
    #[error("it is {found}, not {expected}")]
    Another { expected: NodeId, found: NodeId },
    #[error("it speaks versions {min} to {max}, this node {PIPE_VERSION_MIN} to {PIPE_VERSION}")]
    Version { min: u32, max: u32 },
    #[error("it is not admitted")]
    NotAdmitted(#[from] NotAdmitted),
}

impl Failed {
    /// What the other side is told.
    fn code(&self) -> CloseCode {
        match self {
            Self::Version { .. } => CloseCode::Version,
            Self::Another { .. } | Self::NotAdmitted(_) => CloseCode::NotAdmitted,
            _ => CloseCode::Protocol,
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Address(..) | Self::Connect(_) => Refusal::Unreachable,
            Self::Connection(ConnectionError::ApplicationClosed(closed)) => {
                match CloseCode::try_from(closed.error_code.into_inner() as i32) {
                    Ok(CloseCode::NotAdmitted) => Refusal::NotAdmitted,
                    Ok(CloseCode::Version) => Refusal::Version,
                    _ => Refusal::Protocol,
                }
            }
            // TLS has refused one of both (RFC 9001 section 4.8), here or there.
            Self::Connection(ConnectionError::TransportError(_)) => Refusal::NotAdmitted,
            Self::Connection(ConnectionError::ConnectionClosed(closed))
                if u64::from(closed.error_code) & !0xff == 0x100 =>
            {
                Refusal::NotAdmitted
            }
            Self::Connection(_) => Refusal::Unreachable,
            Self::Another { .. } | Self::NotAdmitted(_) => Refusal::NotAdmitted,
            Self::Version { .. } => Refusal::Version,
            Self::Silent | Self::NoHello | Self::BadName(_) => Refusal::Protocol,
        }
    }
}

/// A connection whose ends know each other.
pub(super) struct Established {
    pub(super) connection: quinn::Connection,
    /// What its congestion controller finds.
    pub(super) published: Arc<Published>,
    pub(super) node: NodeId,
    pub(super) boot_id: u64,
    /// This node began it.
    pub(super) dialled: bool,
    /// The UDP payload that is taken to get through in any case.
    pub(super) floor: u16,
    pub(super) words_in: mpsc::Receiver<Word>,
    pub(super) words_out: mpsc::Sender<Word>,
    /// Reads and writes the stream; ends when dropped.
    _stream: JoinSet<()>,
}

/// Calls a node.
pub(super) async fn dial(
    endpoint: &quinn::Endpoint,
    tls: &Tls,
    own: &Introduction,
    peers: &Peers,
    narrow: &Narrow,
    node: &NodeId,
) -> Result<Established, Failed> {
    let registered = peers.find(node);
    let registered = registered.ok_or_else(|| NotAdmitted::Unregistered(node.clone()))?;
    let mut connected = Err(NotAdmitted::Unregistered(node.clone()).into());
    for address in &registered.addresses {
        connected = connect(endpoint, tls, narrow, address).await;
        if connected.is_ok() {
            break;
        }
    }
    let (connection, published, floor) = connected?;
    let greeted = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        send_hello(&mut send, &connection, tls, own).await?;
        let hello = read_hello(&mut receive).await?;
        let found = check(&hello, tls, &connection, peers)?;
        if found != *node {
            let expected = node.clone();
            return Err(Failed::Another { expected, found });
        }
        Ok((hello.boot_id, send, receive))
    };
    let (boot_id, send, receive) = in_time(&connection, greeted).await?;
    Ok(Established::new(
        connection,
        published,
        node.clone(),
        boot_id,
        true,
        floor,
        send,
        receive,
    ))
}

async fn connect(
    endpoint: &quinn::Endpoint,
    tls: &Tls,
    narrow: &Narrow,
    address: &str,
) -> Result<(quinn::Connection, Arc<Published>, u16), Failed> {
    let address = super::peers::resolve(address).await?;
    let path = narrow.path(address.ip(), Instant::now());
    let (transport, published) = transport(path);
    let mut config = tls.client.clone();
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, address, SERVER_NAME)?;
    let connected = in_doubt(connecting, address.ip(), narrow).await;
    Ok((connected?, published, path.mtu))
}

/// Hears a node that called.
pub(super) async fn accept(
    incoming: quinn::Incoming,
    tls: &Tls,
    own: &Introduction,
    peers: &Peers,
    narrow: &Narrow,
) -> Result<Established, Failed> {
    let address = incoming.remote_address().ip();
    let path = narrow.path(address, Instant::now());
    let (transport, published) = transport(path);
    let mut config = tls.server.clone();
    config.transport_config(Arc::new(transport));
    let accepting = incoming.accept_with(Arc::new(config))?;
    let connection = in_doubt(accepting, address, narrow).await?;
    let greeted = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let hello = read_hello(&mut receive).await?;
        let node = check(&hello, tls, &connection, peers)?;
        send_hello(&mut send, &connection, tls, own).await?;
        Ok((node, hello.boot_id, send, receive))
    };
    let (node, boot_id, send, receive) = in_time(&connection, greeted).await?;
    Ok(Established::new(
        connection, published, node, boot_id, false, path.mtu, send, receive,
    ))
}

/// A handshake that takes too long may have had too long datagrams. Both ends are to know before the next call.
async fn in_doubt<T>(
    handshake: impl Future<Output = Result<T, ConnectionError>>,
    address: IpAddr,
    narrow: &Narrow,
) -> Result<T, ConnectionError> {
    let met = tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await;
    let met = met.unwrap_or(Err(ConnectionError::TimedOut));
    if matches!(met, Err(ConnectionError::TimedOut)) {
        narrow.doubt(address, tokio::time::Instant::now().into_std());
    }
    met
}

/// Ends a connection that is greeted too late, or badly, and says why.
async fn in_time<T>(
    connection: &quinn::Connection,
    greeted: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let greeted = tokio::time::timeout(HELLO_WITHIN, greeted).await;
    let greeted = greeted.unwrap_or(Err(Failed::Silent));
    if let Err(failed) = &greeted {
        close(connection, failed.code(), &Chain(failed).to_string());
    }
    greeted
}

pub(super) fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code as u32), reason.as_bytes());
}

async fn send_hello(
    send: &mut SendStream,
    connection: &quinn::Connection,
    tls: &Tls,
    own: &Introduction,
) -> Result<(), Failed> {
    let hello = Hello {
        version_min: PIPE_VERSION_MIN,
        version_max: PIPE_VERSION,
        node_id: own.node.to_string(),
        region: own.region.to_string(),
        boot_id: own.boot_id,
        proof: tls.prove(connection, &own.node),
    };
    let mut bytes = BytesMut::new();
    write(Word::Hello(hello), &mut bytes);
    // Whatever broke the stream broke the connection, which says why.
    let written = send.write_all(&bytes).await;
    written.map_err(|_| lost(connection))
}

async fn read_hello(receive: &mut RecvStream) -> Result<Hello, Failed> {
    match read(receive).await {
        Ok(Some(Word::Hello(hello))) => Ok(hello),
        Ok(_) => Err(Failed::NoHello),
        Err(Broken::Connection(error)) => Err(Failed::Connection(error)),
        Err(Broken::Stream) => Err(Failed::NoHello),
    }
}

fn lost(connection: &quinn::Connection) -> Failed {
    match connection.close_reason() {
        Some(reason) => Failed::Connection(reason),
        None => Failed::NoHello,
    }
}

fn check(
    hello: &Hello,
    tls: &Tls,
    connection: &quinn::Connection,
    peers: &Peers,
) -> Result<NodeId, Failed> {
    let (min, max) = (hello.version_min, hello.version_max);
    if !is_spoken(min, max) {
        return Err(Failed::Version { min, max });
    }
    let named = hello.node_id.parse();
    let node: NodeId = named.map_err(|_| Failed::BadName(hello.node_id.clone()))?;
    let registered = peers.find(&node).map(|peer| peer.key);
    tls.admit(connection, &node, registered, &hello.proof)?;
    Ok(node)
}

/// Whether there is a version that this one and one of versions `min` to `max` both speak.
pub(super) fn is_spoken(min: u32, max: u32) -> bool {
    max >= PIPE_VERSION_MIN && min <= PIPE_VERSION
}

impl Established {
    fn new(
        connection: quinn::Connection,
        published: Arc<Published>,
        node: NodeId,
        boot_id: u64,
        dialled: bool,
        floor: u16,
        send: SendStream,
        receive: RecvStream,
    ) -> Self {
        let (to_link, words_in) = mpsc::channel(WORDS_IN);
        let (words_out, from_link) = mpsc::channel(WORDS_OUT);
        let mut stream = JoinSet::new();
        stream.spawn(listen(receive, to_link));
        stream.spawn(speak(send, from_link));
        Self {
            connection,
            published,
            node,
            boot_id,
            dialled,
            floor,
            words_in,
            words_out,
            _stream: stream,
        }
    }
}

/// Ends with the stream; the link sees its channel closed.
async fn listen(mut receive: RecvStream, words: mpsc::Sender<Word>) {
    while let Ok(word) = read(&mut receive).await {
        // What another version says that this one does not know is left out.
        if let Some(word) = word
            && words.send(word).await.is_err()
        {
            return;
        }
    }
}

async fn speak(mut send: SendStream, mut words: mpsc::Receiver<Word>) {
    let mut bytes = BytesMut::new();
    while let Some(word) = words.recv().await {
        bytes.clear();
        write(word, &mut bytes);
        while bytes.len() < WRITTEN_AT_ONCE
            && let Ok(word) = words.try_recv()
        {
            write(word, &mut bytes);
        }
        if send.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Each message is preceded by its length in four bytes.
pub(super) fn write(word: Word, out: &mut BytesMut) {
    let message = PipeMessage {
        message: Some(word),
    };
    out.put_u32(message.encoded_len() as u32);
    message
        .encode(out)
        .expect("a buffer that grows has room for every message");
}

enum Broken {
    Connection(ConnectionError),
    Stream,
}

/// `None`: a message that this version does not know.
async fn read(receive: &mut RecvStream) -> Result<Option<Word>, Broken> {
    let broken = |error| match error {
        ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => {
            Broken::Connection(error)
        }
        ReadExactError::ReadError(_) | ReadExactError::FinishedEarly(_) => Broken::Stream,
    };
    let mut length = [0; 4];
    receive.read_exact(&mut length).await.map_err(broken)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(Broken::Stream);
    }
    let mut bytes = vec![0; length];
    receive.read_exact(&mut bytes).await.map_err(broken)?;
    decode(&bytes).map_err(|_| Broken::Stream)
}

/// What follows a length. `None`: a message that this version does not know.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<Word>, prost::DecodeError> {
    Ok(PipeMessage::decode(bytes)?.message)
}

#[cfg(test)]
mod tests;
