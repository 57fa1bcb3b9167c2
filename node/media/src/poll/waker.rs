//! Ends a poller's wait from another thread, with a system call only when it really waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that waits at a [`Poller`](super::Poller).
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
    eventfd: OwnedFd,
}

/// The poller's thread works and will look at its queues before it parks.
const AWAKE: u8 = 0;
/// The poller's thread waits, or is about to.
const PARKED: u8 = 1;
/// Somebody called while the thread was in either state.
const NOTIFIED: u8 = 2;

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shared {
            state: AtomicU8::new(AWAKE),
            eventfd,
        })))
    }

    /// Ends the poller's current wait or, if it does not wait, makes its next one return at once.
    /// Costs one atomic operation unless the poller waits.
    pub fn wake(&self) {
        if self.0.state.swap(NOTIFIED, Ordering::AcqRel) == PARKED {
            // The only error is a counter that would overflow: 2^64 wakes, each of which counted.
            let _ = rustix::io::write(&self.0.eventfd, &1_u64.to_ne_bytes());
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

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}
