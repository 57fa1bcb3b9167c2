//! Which signaling processes live, and whether this one may have been taken for dead.
//!
//! Pure, in virtual time. Each process says something new of itself again and again. Who looks judges by
//! a clock of his own how long another one has been silent, and only while the store could be reached all
//! the time: neither a clock that jumps nor a store that was away ends a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pipemesh_proto::ids::ProcessId;
use pipemesh_topology::store::Lease;
use tokio::time::Instant;

/// How often a lease is renewed, and others' are looked at.
pub(super) const RENEW: Duration = Duration::from_secs(1);

/// Silence after which a process is taken to be gone: several renewals, and time to reach the store again
/// after it was away. Longer: ghosts stay longer. Shorter: a process that is slow is taken to be gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Those who are looked at by many are not all found at the same moment.
const SPREAD: Duration = Duration::from_secs(1);

/// Whoever found somebody gone may be gone himself before he has removed what was left.
const AGAIN: Duration = Duration::from_secs(15);

/// Time for what was removed in vain to be written again, once a process learns that it was taken to be
/// gone.
const AFTERMATH: Duration = Duration::from_secs(15);

/// What is to be done about another process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It is silent: its lease is to be ended if it still is this one, and what it left to be removed.
    End(ProcessId, Lease),
    /// Its lease was ended some time ago, and what it left is still not removed.
    Remove(ProcessId),
}

/// What is known of the other processes.
#[derive(Debug)]
pub(super) struct Others {
    me: ProcessId,
    /// Time for people to go on with another process, beyond the silence.
    grace: Duration,
    seen: BTreeMap<ProcessId, Seen>,
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Others {
    pub(super) fn new(me: ProcessId, grace: Duration) -> Self {
        Self {
            me,
            // After a store was away everybody needs time to renew.
            grace: grace.max(SILENCE),
            seen: BTreeMap::new(),
        }
    }

    /// All leases were read. `spread`: 0 to 1, at random for this process.
    pub(super) fn handle_leases(
        &mut self,
        leases: BTreeMap<ProcessId, Lease>,
        spread: f64,
        now: Instant,
    ) -> Vec<Duty> {
        let mut before = std::mem::take(&mut self.seen);
        let mut duties = Vec::new();
        for (process, lease) in leases {
            if process == self.me {
                continue;
            }
            let seen = before.remove(&process).filter(|seen| seen.lease == lease);
            let mut since = seen.map_or(now, |seen| seen.since);
            let limit = match lease {
                Lease::Held(_) => SILENCE + self.grace,
                Lease::Ended => AGAIN,
            };
            if now >= since + limit + SPREAD.mul_f64(spread) {
                duties.push(match &lease {
                    Lease::Held(_) => Duty::End(process.clone(), lease.clone()),
                    Lease::Ended => Duty::Remove(process.clone()),
                });
                since = now;
            }
            self.seen.insert(process, Seen { lease, since });
        }
        duties
    }

    /// The store could not be reached: what was silent may not have been able to speak.
    pub(super) fn handle_failure(&mut self) {
        self.seen.clear();
    }

    /// Those of whom nothing is known.
    pub(super) fn unknown(&self, named: BTreeSet<ProcessId>) -> BTreeSet<ProcessId> {
        let mut unknown = named;
        unknown.retain(|process| *process != self.me && !self.seen.contains_key(process));
        unknown
    }
}

/// This process's own lease.
#[derive(Debug, Default)]
pub(super) struct Own {
    said: u64,
    /// Since when there are people whose records name this process.
    serving: Option<Instant>,
    renewed: Option<Instant>,
    /// Until when those who took this process to be gone may still be at work.
    aftermath: Option<Instant>,
}

impl Own {
    /// What to say next.
    pub(super) fn next(&mut self) -> String {
        self.said += 1;
        self.said.to_string()
    }

    /// Somebody is served by this process from now on.
    pub(super) fn serve(&mut self, now: Instant) {
        self.serving.get_or_insert(now);
    }

    /// What [`Own::next`] said was said, at `asked` or later, in place of `before`. Whether somebody has
    /// ended the lease meanwhile.
    pub(super) fn handle_renewed(&mut self, before: Option<&Lease>, asked: Instant) -> bool {
        let could_be = self.renewed.is_some() || self.is_late(asked);
        self.renewed = Some(asked);
        // None: it was ended and all is removed, or the store has forgotten it.
        let ended = could_be && !matches!(before, Some(Lease::Held(_)));
        if ended {
            self.aftermath = Some(asked + AFTERMATH);
        }
        ended
    }

    /// Whether somebody may have taken this process to be gone, and removed what it wrote.
    pub(super) fn may_have_ended(&self, now: Instant) -> bool {
        self.is_late(now) || self.aftermath.is_some_and(|until| now < until)
    }

    /// Whether others had reason to take this process to be gone. One that has never said a word is known
    /// by the records of those whom it serves.
    fn is_late(&self, now: Instant) -> bool {
        let known = self.renewed.or(self.serving);
        known.is_some_and(|known| now >= known + SILENCE)
    }
}

#[cfg(test)]
mod tests;
