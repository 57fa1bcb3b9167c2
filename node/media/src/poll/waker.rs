//! Ends a poller's wait from another thread, with a system call only when it really waits; and that of who
//! waits elsewhere.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Wakes the thread that waits at a [`Poller`](super::Poller), or whoever a [`Sleeper`] is for.
///
/// What was sent to that thread before [`wake`](Self::wake), say through a queue, is there for it
/// to see when the wait returns that the wake ended.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// [`AWAKE`], [`PARKED`] or [`NOTIFIED`]. Changed by read-modify-writes only, so each side sees
    /// what the other did first: either the waker finds the poller parked and writes, or the poller
    /// finds the notification and does not park.
    state: AtomicU8,
    alarm: Alarm,
}

/// What ends a wait.
pub(super) enum Alarm {
    Eventfd(Arc<OwnedFd>),
    Call(Box<dyn Fn() + Send + Sync>),
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Eventfd(_) => "Eventfd",
            Self::Call(_) => "Call",
        })
    }
}

/// The poller's thread works and will look at its queues before it parks.
const AWAKE: u8 = 0;
/// The poller's thread waits, or is about to.
const PARKED: u8 = 1;
/// Somebody called while the thread was in either state.
const NOTIFIED: u8 = 2;

impl Waker {
    pub(super) fn new(alarm: Alarm) -> Self {
        Self(Arc::new(Shared {
            state: AtomicU8::new(AWAKE),
            alarm,
        }))
    }

    /// Ends the poller's current wait or, if it does not wait, makes its next one return at once.
    /// Costs one atomic operation unless the poller waits.
    pub fn wake(&self) {
        if self.0.state.swap(NOTIFIED, Ordering::AcqRel) != PARKED {
            return;
        }
        match &self.0.alarm {
            // The only error is a counter that would overflow: 2^64 wakes, each of which counted.
            Alarm::Eventfd(eventfd) => drop(rustix::io::write(eventfd, &1_u64.to_ne_bytes())),
            Alarm::Call(call) => call(),
        }
    }

    /// Before the wait: whether the thread may sleep. If not, it was notified since the last one.
    pub(super) fn park(&self) -> bool {
        let state = &self.0.state;
        state
            .compare_exchange(AWAKE, PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// After the wait. The caller looks at its queues next, so notifications up to here are served.
    pub(super) fn unpark(&self) {
        self.0.state.swap(AWAKE, Ordering::AcqRel);
    }
}

/// Who waits, but not at a [`Poller`](super::Poller): a task of somebody else's event loop.
///
/// To wait: [`park`](Self::park); if that allows it, wait for the call; then, however the wait ended,
/// [`unpark`](Self::unpark) and look at the queues.
#[derive(Debug)]
pub struct Sleeper(Waker);

impl Sleeper {
    /// `call` ends the wait, and the next one if there is none.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Waker::new(Alarm::Call(Box::new(call))))
    }

    /// A handle that ends the wait from any thread.
    pub fn waker(&self) -> Waker {
        self.0.clone()
    }

    /// Before the wait: whether there may be one. If not, it was notified since the last one.
    pub fn park(&self) -> bool {
        self.0.park()
    }

    /// After the wait. The caller looks at its queues next, so notifications up to here are served.
    pub fn unpark(&self) {
        self.0.unpark();
    }
}
