//! The rest of the node's end of a shard: starting its thread, and telling it things.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use pipemesh_node_media::poll::{Poller, Waker};
use pipemesh_node_media::thread;
use pipemesh_node_media::udp::UdpSocket;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use super::command::Command;
use super::counters::Counters;
use super::neighbours::Neighbours;
use super::{Start, run};
use crate::config::Limits;
use crate::session::handshake::{Handshakes, Output as HandshakeOutput};

/// Commands that wait for a shard. Control waits when it is full: joins slow down, media does not.
const COMMANDS: usize = 4096;
/// Handshake outputs that wait for a shard; a datagram too many is lost, and repeated by its sender.
pub(crate) const HANDSHAKE_OUTPUTS: usize = 4096;

/// Tells a shard what to do.
#[derive(Clone)]
pub(crate) struct ShardHandle {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardHandle").finish_non_exhaustive()
    }
}

impl ShardHandle {
    /// Waits while the shard has too much to do. A shard that is gone takes nothing; its node is about
    /// to end.
    pub(crate) async fn send(&self, command: Command) {
        let sent = match self.commands.try_send(command) {
            Ok(()) => true,
            // In a box: who seldom waits has no room for it.
            Err(mpsc::error::TrySendError::Full(command)) => {
                Box::pin(self.commands.send(command)).await.is_ok()
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        };
        if sent {
            self.waker.wake();
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// A shard about to run, with the parts that others need before it does.
pub(crate) struct Prepared {
    pub(crate) handle: ShardHandle,
    poller: Poller,
    sockets: Vec<UdpSocket>,
    commands: mpsc::Receiver<Command>,
}

impl Prepared {
    pub(crate) fn new(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let poller = Poller::new()?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let handle = ShardHandle {
            commands: sender,
            waker: poller.waker(),
            counters: Arc::new(Counters::default()),
        };
        Ok(Self {
            handle,
            poller,
            sockets,
            commands,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Starts the thread, on a core of its own if `core` says which.
    pub(crate) fn start(
        self,
        index: usize,
        core: Option<usize>,
        neighbours: Neighbours,
        handshakes: Handshakes,
        handshake_outputs: crossbeam_channel::Receiver<HandshakeOutput>,
        limits: Limits,
        origin: Instant,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        let start = Start {
            sockets: self.sockets,
            poller: self.poller,
            commands: self.commands,
            neighbours,
            handshakes,
            handshake_outputs,
            limits,
            counters: self.handle.counters,
            rng: StdRng::from_os_rng(),
            origin,
        };
        std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || {
                if let Some(core) = core
                    && let Err(error) = thread::pin_to_core(core)
                {
                    tracing::warn!(%error, core, "cannot pin the shard to a core");
                }
                run(start)
            })
    }
}
