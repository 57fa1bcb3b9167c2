//! The ring that this process goes by, where several share one in Redis.
//!
//! What is heard of changes is only a reason to read; what is read is taken over if it is later than
//! what is known, so that a ring never goes back to an earlier one. Redis that has lost the ring, or its
//! last changes, is given them back by whoever knows them. Nothing here decides who is on the ring.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ring::{Collision, Members, Record};
use crate::store::Unavailable;
use crate::store::redis::{Ears, PutRing, RedisRing, Stored, UnreadableRing};

/// How often the ring is read although nobody said that it has changed: what is published can be lost.
const POLL: Duration = Duration::from_secs(5);

/// What has happened to the ring since the start, as seen here.
#[derive(Debug, Default)]
pub struct RingStats {
    pub added: AtomicU64,
    pub removed: AtomicU64,
    /// Members that have another weight or region.
    pub altered: AtomicU64,
    /// Times that this process has given Redis a ring that it had lost.
    pub restored: AtomicU64,
}

pub struct SharedRing {
    redis: RedisRing,
    standing: watch::Sender<Arc<Record>>,
    /// What Redis holds is of no use.
    unreadable: watch::Sender<bool>,
    stats: RingStats,
}

/// What became of a ring that was to be written.
#[derive(Debug)]
pub(crate) enum Put {
    Done,
    /// A later keeper has begun.
    Superseded,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the ring cannot be made")]
    Collision(#[from] Collision),
}

impl SharedRing {
    #[must_use]
    pub fn new(redis: RedisRing) -> Self {
        Self {
            redis,
            standing: watch::Sender::new(Arc::new(Record::none())),
            unreadable: watch::Sender::new(false),
            stats: RingStats::default(),
        }
    }

    /// The ring as last known. Each value is later than the one before.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Arc<Record>> {
        self.standing.subscribe()
    }

    /// Whether Redis holds what cannot be used; what is known stays.
    #[must_use]
    pub fn unreadable(&self) -> watch::Receiver<bool> {
        self.unreadable.subscribe()
    }

    #[must_use]
    pub fn stats(&self) -> &RingStats {
        &self.stats
    }

    /// Follows what Redis holds until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let follow = async {
            let mut up = self.redis.up();
            let mut ears = Ears::default();
            let mut failed = false;
            loop {
                up.mark_unchanged();
                let error = self.look(&mut ears).await.err();
                // Why there is no connection is said by who connects.
                let error = error.filter(|_| *up.borrow());
                if let (Some(error), false) = (&error, failed) {
                    let error = error.source().map(ToString::to_string);
                    tracing::warn!(error, "the ring in Redis cannot be read");
                }
                failed = error.is_some();
                let pause = POLL.mul_f64(0.75 + rand::random::<f64>() / 2.0);
                tokio::select! {
                    () = ears.hear() => {}
                    Ok(()) = up.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    async fn look(&self, ears: &mut Ears) -> Result<(), Unavailable> {
        // Before reading: what changes from then on is heard of.
        self.redis.listen(ears).await?;
        self.refresh().await
    }

    /// Reads the ring, and gives back what is lost. A ring of 1000 nodes takes 28 ms to compute, on the
    /// thread of whoever asks; it is computed when it has changed.
    pub(crate) async fn refresh(&self) -> Result<(), Unavailable> {
        let known = self.known();
        let stored = self.redis.read(&known).await?;
        let reason = match &stored {
            Stored::Unreadable(reason) => Some(reason),
            Stored::Nothing | Stored::Same | Stored::Ring(_) => None,
        };
        self.say_unreadable(reason);
        match stored {
            Stored::Ring(record) if record.order() > known.order() => self.take(*record),
            Stored::Nothing if known.epoch == 0 => {}
            Stored::Nothing | Stored::Ring(_) => {
                if self.redis.restore(&known).await? {
                    let epoch = known.epoch;
                    self.stats.restored.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(epoch, "Redis had lost the ring, and has it back");
                }
            }
            Stored::Same | Stored::Unreadable(_) => {}
        }
        Ok(())
    }

    /// A term in which to write, above all that this process has seen.
    pub(crate) async fn draw_term(&self) -> Result<u64, Unavailable> {
        self.redis.draw_term(self.known().term).await
    }

    /// Writes the ring of these members, and goes by it.
    pub(crate) async fn put(&self, term: u64, members: Members) -> Result<Put, PutError> {
        let seen = self.known().epoch;
        let mut record = Record::new(term, seen, members)?;
        let put = self.redis.put(term, seen, &record.members, record.digest);
        match put.await? {
            PutRing::Done { epoch } => {
                record.epoch = epoch;
                self.take(record);
                self.say_unreadable(None);
                Ok(Put::Done)
            }
            PutRing::Superseded => Ok(Put::Superseded),
        }
    }

    fn known(&self) -> Arc<Record> {
        Arc::clone(&self.standing.borrow())
    }

    fn take(&self, record: Record) {
        self.standing.send_if_modified(|standing| {
            // Somebody else here may have taken a later one meanwhile.
            if record.order() <= standing.order() {
                return false;
            }
            self.stats.count(&standing.members, &record.members);
            let (epoch, members) = (record.epoch, record.members.len());
            let digest = format!("{:016x}", record.digest);
            tracing::info!(epoch, members, digest, "the ring has changed");
            *standing = Arc::new(record);
            true
        });
    }

    fn say_unreadable(&self, reason: Option<&UnreadableRing>) {
        let changed = self.unreadable.send_if_modified(|unreadable| {
            let before = std::mem::replace(unreadable, reason.is_some());
            before != *unreadable
        });
        match reason {
            Some(reason) if changed => {
                tracing::error!(%reason, "the ring in Redis is not used, the one last known stays");
            }
            None if changed => tracing::info!("the ring in Redis can be used again"),
            Some(_) | None => {}
        }
    }
}

impl RingStats {
    fn count(&self, before: &Members, after: &Members) {
        let mut counts = [(&self.added, 0), (&self.altered, 0), (&self.removed, 0)];
        for member in after.iter() {
            match before.get(&member.id) {
                None => counts[0].1 += 1,
                Some(was) if was != member => counts[1].1 += 1,
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|member| !after.contains(&member.id));
        counts[2].1 = gone.count() as u64;
        for (counter, count) in counts {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}
