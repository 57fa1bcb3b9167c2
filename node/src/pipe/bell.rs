//! How shards, which know no tokio, wake a task.

use std::sync::Arc;

use pipemesh_node_media::poll::{Sleeper, Waker};
use tokio::sync::Notify;

/// Rung by whoever has put something into a queue.
#[derive(Debug)]
pub(super) struct Bell {
    sleeper: Sleeper,
    ring: Arc<Notify>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let ring = Arc::new(Notify::new());
        let rung = Arc::clone(&ring);
        let sleeper = Sleeper::new(move || rung.notify_one());
        Self { sleeper, ring }
    }

    pub(super) fn waker(&self) -> Waker {
        self.sleeper.waker()
    }

    /// Waits until it is rung; not at all if it was since the last [`Self::awake`].
    pub(super) async fn rung(&self) {
        if self.sleeper.park() {
            self.ring.notified().await;
        }
    }

    /// The wait is over, for whatever reason; look at the queues now.
    pub(super) fn awake(&self) {
        self.sleeper.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_ring_is_missed() {
        let bell = Bell::new();
        let waker = bell.waker();
        let within = |bell| tokio::time::timeout(Duration::from_secs(5), bell);
        // Before the wait, during it, and by another thread.
        waker.wake();
        within(bell.rung()).await.unwrap();
        bell.awake();
        let ring = tokio::task::spawn_blocking({
            let waker = waker.clone();
            move || {
                for _ in 0..1000 {
                    waker.wake();
                    std::thread::yield_now();
                }
            }
        });
        within(bell.rung()).await.unwrap();
        bell.awake();
        ring.await.unwrap();
        // Given up, it begins anew.
        bell.awake();
        let quiet = Duration::from_millis(20);
        // What was rung meanwhile may end one wait at once.
        let _ = tokio::time::timeout(quiet, bell.rung()).await;
        bell.awake();
        assert!(tokio::time::timeout(quiet, bell.rung()).await.is_err());
        waker.wake();
        within(bell.rung()).await.unwrap();
    }
}
