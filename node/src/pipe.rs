//! Pipes: tracks of other nodes, taken through QUIC connections between the nodes.
//!
//! Which tracks are taken from whom is told in [`decisions`], without any I/O; the [`director`] does what was
//! decided, and has a [`link`] for each node that is spoken to. A link is one more neighbour of every shard
//! ([`exchange`]): a track that comes through it is forwarded like any other, and what is taken through it is
//! sent like to another shard. Packets never wait for the director. The protocol is told in `docs/pipe.md`.

mod alarm;
mod audience;
mod bell;
mod caller;
mod calls;
mod congestion;
mod connection;
mod decisions;
mod director;
mod exchange;
mod hearing;
mod link;
mod metrics;
mod narrow;
mod peers;
mod pieces;
mod relays;
mod sender;
#[cfg(test)]
mod sim;
mod stats;
mod tls;
mod traffic;
mod translate;
mod transport;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, Region, RoomId};
use pipemesh_topology::Snapshot;
use quinn::TokioRuntime;
use rustix::net::sockopt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use director::Ask;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use exchange::fuzz;
pub(crate) use metrics::PipeMetrics;
pub(crate) use relays::{Elsewhere, Relayed};
pub(crate) use stats::{LinkStats, PipeStats};
pub use tls::TlsError;
pub(crate) use tls::{KeyHash, Tls};

use crate::shard::{Doors, ShardHandle};
use crate::tracks::Tracks;
use caller::Caller;
use connection::{Established, Introduction};
use director::{Director, Parts};
use peers::Peers;

/// What sessions ask for and was not decided yet; then they wait.
const ASKS: usize = 4096;
/// Nodes that called and are about to be introduced.
const CALLED: usize = 64;
/// Nodes that call and have not said yet who they are. More are refused: who calls in earnest tries again.
const STRANGERS: usize = 64;
/// … without having shown that they are where they say. Beyond, a call takes a round trip more.
const TRUSTED: usize = 8;
/// Kernel buffers of the socket. The default loses packets at 50,000 a second; see `net.core.rmem_max`.
const SOCKET_BUFFER: usize = 8 << 20;

/// For other nodes to hear that this one stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How sessions reach the pipes of their node.
#[derive(Debug, Clone)]
pub(crate) struct Pipes {
    asks: mpsc::Sender<Ask>,
    stats: PipeStats,
}

impl Pipes {
    pub(crate) async fn ask(&self, ask: Ask) {
        // Without a director the node is about to end.
        let _ = self.asks.send(ask).await;
    }

    /// Whom there is a pipe to, and how it is.
    pub(crate) fn links(&self) -> Vec<(NodeId, LinkStats)> {
        self.stats.links()
    }

    /// The tracks of a room that are taken from other nodes.
    pub(crate) async fn relayed(&self, room: &RoomId) -> Vec<Relayed> {
        let (reply, relayed) = oneshot::channel();
        self.ask(Ask::Inspect(room.clone(), reply)).await;
        relayed.await.unwrap_or_default()
    }
}

/// Pipes whose socket is bound, and that do nothing yet.
pub(crate) struct Bound {
    socket: UdpSocket,
    tls: Tls,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(address: SocketAddr, tls: Tls) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
        sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)?;
        // The kernel grants twice what it was asked for, up to a limit, and says so without an error.
        let granted = sockopt::socket_recv_buffer_size(&socket)?;
        if granted < SOCKET_BUFFER {
            tracing::warn!(
                granted,
                asked = SOCKET_BUFFER,
                "the kernel's receive buffer for pipes is small: bursts will be lost; \
                 sysctl -w net.core.rmem_max={SOCKET_BUFFER}"
            );
        }
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            tls,
            address,
        })
    }

    /// What the registry is told of this node's key.
    pub(crate) fn key(&self) -> KeyHash {
        self.tls.key
    }
}

/// Who this node is, and what its pipes are between.
pub(crate) struct Between {
    pub(crate) node: NodeId,
    pub(crate) region: Region,
    pub(crate) boot_id: u64,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) doors: Doors,
    pub(crate) tracks: Arc<Tracks>,
    pub(crate) nodes: watch::Receiver<Arc<Snapshot>>,
    pub(crate) origin: Instant,
    pub(crate) stats: PipeStats,
}

/// Starts pipes. The task ends once `closing` is cancelled and every other node has been told.
///
/// # Errors
/// What the kernel says of the socket.
pub(crate) fn start(
    bound: Bound,
    between: Between,
    closing: CancellationToken,
) -> io::Result<(Pipes, impl Future<Output = ()> + Send)> {
    let Bound { socket, tls, .. } = bound;
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(tls.server.clone()),
        socket,
        Arc::new(TokioRuntime),
    )?;
    let peers = Peers::new(between.nodes);
    let own = Introduction {
        node: between.node.clone(),
        region: between.region.clone(),
        boot_id: between.boot_id,
    };
    let caller = Caller::new(endpoint.clone(), tls, own, peers.clone());
    let (asks, asked) = mpsc::channel(ASKS);
    let (introduced, called) = mpsc::channel(CALLED);
    let director = Director::new(Parts {
        own: between.node,
        region: between.region,
        shards: between.shards,
        doors: between.doors,
        tracks: between.tracks,
        caller: caller.clone(),
        peers,
        asks: asked,
        called,
        stats: between.stats.clone(),
        origin: between.origin,
        closing: closing.clone(),
    });
    let stats = between.stats;
    let pipes = Pipes {
        asks,
        stats: stats.clone(),
    };
    let task = async move {
        tokio::select! {
            () = director.run() => {}
            () = hear(&endpoint, &caller, &stats, introduced) => {}
        }
        endpoint.close(0_u32.into(), b"the node stops");
        // A node that does not answer is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, endpoint.wait_idle()).await;
    };
    Ok((pipes, task))
}

/// Takes calls of other nodes.
async fn hear(
    endpoint: &quinn::Endpoint,
    caller: &Caller,
    stats: &PipeStats,
    introduced: mpsc::Sender<Established>,
) {
    let mut strangers: JoinSet<()> = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while strangers.try_join_next().is_some() {}
        if strangers.len() >= STRANGERS {
            incoming.refuse();
            continue;
        }
        // Who forges a source does not get this far twice (RFC 9000 section 8.1.2).
        if strangers.len() >= TRUSTED && !incoming.remote_address_validated() {
            // Refused only to who has been asked already.
            let _ = incoming.retry();
            continue;
        }
        let (caller, introduced) = (caller.clone(), introduced.clone());
        let stats = stats.clone();
        let address = incoming.remote_address();
        strangers.spawn(async move {
            match caller.hear(incoming).await {
                // Without a director the node is about to end.
                Ok(established) => drop(introduced.send(established).await),
                Err(failed) => {
                    stats.count(failed.refusal());
                    let error = &failed as &dyn std::error::Error;
                    tracing::warn!(%address, error, "a call of a node is refused");
                }
            }
        });
    }
    std::future::pending().await
}
