//! Keeps the ring in Redis as the registry says, in whichever process holds the lock.
//!
//! Who holds it draws a term, and with that no earlier holder can write any more, whatever he believes
//! and however late his writes arrive. Terms are drawn from Redis because Consul's own numbers begin
//! anew when it loses its data. What the ring is to be is decided in `ring/damping`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Registry;
use crate::registry::consul::{Client, ConsulRegistry, Lock};
use crate::ring::damping::Damping;
use crate::ring::{Frozen, Members};
use crate::shared_ring::{Put, PutError, SharedRing};

/// Until what Redis did not do is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Who was superseded and is the keeper again within this time goes on where he was: what he has waited
/// for he need not wait for again. Otherwise two who take themselves for the keeper could bar each other
/// for ever, each in the time that the other waits. Longer: what he knows may no longer hold.
const GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// What is seen of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// In which this process keeps the ring, if it does.
    pub term: Option<u64>,
    /// Why the ring does not follow the registry.
    pub frozen: Option<Frozen>,
}

pub struct RingKeeper {
    consul: Client,
    /// Of the lock, in Consul's key-value store.
    key: String,
    /// For people who look there.
    who: String,
    registry: Arc<ConsulRegistry>,
    ring: Arc<SharedRing>,
    keeping: watch::Sender<Keeping>,
}

/// Somebody has drawn a later term.
struct Superseded {
    at: Instant,
    damping: Damping,
}

impl Superseded {
    fn new(damping: Damping) -> Self {
        Self {
            at: Instant::now(),
            damping,
        }
    }
}

impl RingKeeper {
    #[must_use]
    pub fn new(
        consul: Client,
        key: String,
        who: String,
        registry: Arc<ConsulRegistry>,
        ring: Arc<SharedRing>,
    ) -> Self {
        Self {
            consul,
            key,
            who,
            registry,
            ring,
            keeping: watch::Sender::default(),
        }
    }

    #[must_use]
    pub fn keeping(&self) -> watch::Receiver<Keeping> {
        self.keeping.subscribe()
    }

    /// Tries to be the one who keeps the ring until `stop`; then lets the next one have it.
    pub async fn run(self, stop: CancellationToken) {
        let mut superseded = None;
        while !stop.is_cancelled() {
            let lock = Lock::contend(self.consul.clone(), &self.key, &self.who);
            let keep = self.keep(&lock, superseded);
            superseded = stop.run_until_cancelled(keep).await;
            self.keeping.send_replace(Keeping::default());
            // Whoever was superseded holds a lock that somebody else holds, too: he cannot know which of
            // the two is right, but that one of them has to begin anew.
            lock.release().await;
            if superseded.is_some() {
                tracing::warn!("another process keeps the ring, this one lets go of the lock");
                stop.run_until_cancelled(sleep(spread(RETRY))).await;
            }
        }
    }

    async fn keep(&self, lock: &Lock, mut before: Option<Superseded>) -> Superseded {
        loop {
            lock.changed_from(None).await;
            let Some(fence) = lock.fence() else {
                // Lost again just now.
                sleep(spread(RETRY)).await;
                continue;
            };
            let before = before.take();
            let before = before.filter(|before| before.at.elapsed() < GOES_ON_WITHIN);
            tokio::select! {
                biased;
                () = lock.changed_from(Some(fence)) => {}
                superseded = self.lead(before) => return superseded,
            }
            self.keeping.send_replace(Keeping::default());
        }
    }

    /// For as long as the lock is held.
    async fn lead(&self, before: Option<Superseded>) -> Superseded {
        let term = loop {
            match self.begin().await {
                Ok(term) => break term,
                Err(error) => {
                    tracing::debug!(%error, "the ring cannot be kept yet");
                    sleep(spread(RETRY)).await;
                }
            }
        };
        tracing::info!(term, "this process keeps the ring");
        let damping = before.map(|before| before.damping);
        let mut damping = damping.unwrap_or_else(|| Damping::new(now()));
        let (mut nodes, mut freshness) = (self.registry.watch(), self.registry.freshness());
        let (mut standing, mut unreadable) = (self.ring.standing(), self.ring.unreadable());
        loop {
            let listed = Members::from(&**nodes.borrow_and_update());
            // A list of nobody never says that everybody has left.
            let is_old = freshness.borrow_and_update().stale || listed.is_empty();
            let listed = (!is_old).then_some(listed);
            let known = Arc::clone(&standing.borrow_and_update());
            if known.term > term {
                return Superseded::new(damping);
            }
            let wanted = damping.handle(&known.members, listed.as_ref(), now());
            let is_lost = *unreadable.borrow_and_update() && known.epoch > 0;
            let wanted = wanted.or_else(|| is_lost.then(|| known.members.clone()));
            self.say(Keeping {
                term: Some(term),
                frozen: damping.frozen(),
            });
            let mut due = damping.poll_timeout().map(Instant::from_std);
            if let Some(members) = wanted {
                match self.ring.put(term, members).await {
                    Ok(Put::Done) => continue,
                    Ok(Put::Superseded) => return Superseded::new(damping),
                    Err(error) => {
                        say_failure(&error);
                        due = Some(Instant::now() + spread(RETRY));
                    }
                }
            }
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                Ok(()) = nodes.changed() => {}
                Ok(()) = freshness.changed() => {}
                Ok(()) = standing.changed() => {}
                Ok(()) = unreadable.changed() => {}
            }
        }
    }

    /// Draws a term, and reads the ring once nobody of an earlier term can change it any more.
    async fn begin(&self) -> Result<u64, crate::store::Unavailable> {
        let term = self.ring.draw_term().await?;
        self.ring.refresh().await?;
        Ok(term)
    }

    fn say(&self, keeping: Keeping) {
        let changed = self.keeping.send_if_modified(|before| {
            let differs = *before != keeping;
            *before = keeping;
            differs
        });
        if changed && keeping.frozen == Some(Frozen::Vanished) {
            tracing::warn!("too many nodes vanished together, they stay on the ring for now");
        }
    }
}

fn say_failure(error: &PutError) {
    match error {
        // Why is said by who connects to it.
        PutError::Unavailable(_) => tracing::debug!(%error, "the ring cannot be written"),
        PutError::Collision(collision) => tracing::error!(%collision, "the ring stays as it is"),
    }
}

fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
