//! The threads that simulated participants live on: a few, with hundreds of participants each.
//!
//! Signaling is tokio's; everything that comes and goes in datagrams belongs to one of these
//! threads, its sockets included. Participants are driven by [`super::participant`].

mod bank;
mod lines;
mod seat;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use pipemesh_node_media::poll::{Poller, Waker};
use pipemesh_node_media::srtp::Profile;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot};

use self::worker::Worker;
use super::impairment::Network;
use super::stats::Stats;
use super::transport::dtls::{CertificateError, Identity};
use super::user::{Message, Notice, Setup, Wish};

/// Commands that wait for a thread. Control waits when it is full.
const COMMANDS: usize = 16_384;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a generator thread cannot be started")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// How the generator itself does: if it is late, what is measured is this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub participants: usize,
    /// CPU time of all threads since their start.
    pub cpu: Duration,
    /// The latest that a timer was served since the last look.
    pub lag: Duration,
    /// Datagrams that the kernel dropped because nobody fetched them in time.
    pub socket_drops: u64,
    /// Datagrams that could not be sent.
    pub send_drops: u64,
}

/// Threads with simulated participants. Dropping it ends them all, without a goodbye.
pub struct Generator {
    threads: Vec<Arc<Thread>>,
    handles: Vec<JoinHandle<()>>,
    identity: Arc<Identity>,
    next: AtomicU32,
}

/// The way to one of the threads.
pub(super) struct Thread {
    commands: SyncSender<Command>,
    waker: Waker,
}

/// Names a participant on its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeatId(u32);

/// A condition that somebody waits for.
pub(super) struct Watch {
    pub(super) holds: Box<dyn FnMut(&Stats) -> bool + Send>,
    pub(super) reply: oneshot::Sender<Stats>,
}

pub(super) struct Newcomer {
    pub(super) setup: Setup,
    pub(super) local: std::net::IpAddr,
    pub(super) network: Network,
    pub(super) identity: Arc<Identity>,
    pub(super) began: Instant,
    pub(super) said: mpsc::UnboundedSender<Said>,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) admitted: oneshot::Sender<io::Result<()>>,
}

/// What a participant says to who carries its messages.
pub(super) enum Said {
    /// Boxed: there is room for many, and there are few.
    Request(Box<Request>),
    Notice(Notice),
}

pub(super) enum Command {
    Add(SeatId, Box<Newcomer>),
    Signal(SeatId, Box<Response>),
    /// The signaling connection is gone.
    SignalLost(SeatId, String),
    Wish(SeatId, Box<Wish>),
    /// Says goodbye to the server, if it is there, and begins anew with other sockets.
    Rejoin(SeatId, oneshot::Sender<io::Result<()>>),
    Network(SeatId, Network),
    Cut(SeatId, Duration),
    Watch(SeatId, Watch),
    /// See [`super::participant::Participant::observe`].
    Observe(SeatId, oneshot::Sender<Stats>),
    /// Says what was seen to the end.
    Remove(SeatId, Option<oneshot::Sender<Stats>>),
    Load(oneshot::Sender<Load>),
    /// See [`Generator::poll`].
    Poll,
    Stop,
}

impl Thread {
    pub(super) fn send(&self, command: Command) {
        // It is gone when the generator is; whoever waits for an answer sees that by himself.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

impl Generator {
    /// Starts the threads. Participants offer AES-GCM first, and the profile that everybody has.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left, or makes no certificate.
    pub fn start(threads: usize) -> Result<Self, StartError> {
        Self::with_profiles(
            threads,
            &[Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80],
        )
    }

    /// The same with other SRTP profiles, in the order of preference.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_profiles(threads: usize, profiles: &[Profile]) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let mut generator = Self {
            threads: Vec::new(),
            handles: Vec::new(),
            identity: Arc::new(Identity::generate(profiles)?),
            next: AtomicU32::new(0),
        };
        for number in 0..threads.max(1) {
            let poller = Poller::new()?;
            let (commands, received) = sync_channel(COMMANDS);
            let waker = poller.waker();
            let builder = std::thread::Builder::new().name(format!("generator-{number}"));
            let worker = move || Worker::new(poller, received).run();
            generator.handles.push(builder.spawn(worker)?);
            generator.threads.push(Arc::new(Thread { commands, waker }));
        }
        Ok(generator)
    }

    /// A place for a participant, on the threads in turn.
    pub(super) fn seat(&self) -> (Arc<Thread>, SeatId) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let thread = &self.threads[number as usize % self.threads.len()];
        (Arc::clone(thread), SeatId(number))
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// From now on threads look whether something has come and sleep in between, instead of waiting for
    /// it. Whoever sends to somebody that waits pays for waking him: with this, a server on the same
    /// machine is not charged for it.
    pub fn poll(&self) {
        self.threads
            .iter()
            .for_each(|thread| thread.send(Command::Poll));
    }

    /// How the generator does, over all threads.
    pub async fn load(&self) -> Load {
        let mut sum = Load::default();
        for thread in &self.threads {
            let (reply, answer) = oneshot::channel();
            thread.send(Command::Load(reply));
            let load = answer.await.unwrap_or_default();
            sum.participants += load.participants;
            sum.cpu += load.cpu;
            sum.lag = sum.lag.max(load.lag);
            sum.socket_drops += load.socket_drops;
            sum.send_drops += load.send_drops;
        }
        sum
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.threads
            .iter()
            .for_each(|thread| thread.send(Command::Stop));
        for handle in self.handles.drain(..) {
            // A panic of a thread was reported when it happened.
            let _ = handle.join();
        }
    }
}

/// Every participant needs a descriptor or two; 1,024 are soon used up.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Refused, the limit shows when a socket cannot be bound.
    let _ = setrlimit(Resource::Nofile, raised);
}
