//! Packets that were asked for and came under their own numbers: sent again, or only late?
//!
//! Nothing in such a packet tells, since it is the same packet. But whoever was asked answers: of one that was
//! only late there comes a second copy, a round trip after the request.

use std::time::{Duration, Instant};

/// So many are in doubt at a time. Of one more the oldest counts as sent again.
const MAX_DOUBTS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Oldest first. Keeps its memory.
    doubts: Vec<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    sequence: u64,
    /// The only request.
    asked: Instant,
    came: Instant,
}

impl Doubts {
    /// Answers the round trip that the oldest has shown, if there was no place for one more.
    pub(super) fn add(&mut self, sequence: u64, asked: Instant, came: Instant) -> Option<Duration> {
        let is_full = self.doubts.len() == MAX_DOUBTS;
        let oldest = is_full.then(|| self.doubts.remove(0).round_trip());
        let doubt = Doubt {
            sequence,
            asked,
            came,
        };
        self.doubts.push(doubt);
        oldest
    }

    /// A second copy came: the first was late, and this one says how long an answer takes.
    pub(super) fn handle_copy(&mut self, sequence: u64, now: Instant) -> Option<Duration> {
        let is_it = |doubt: &Doubt| doubt.sequence == sequence;
        let place = self.doubts.iter().position(is_it)?;
        let doubt = self.doubts.remove(place);
        Some(now.saturating_duration_since(doubt.asked))
    }

    /// The round trip that one has shown of which no copy came until now.
    pub(super) fn settle(&mut self, asked_before: Instant) -> Option<Duration> {
        let oldest = self.doubts.first()?;
        (oldest.asked < asked_before).then(|| self.doubts.remove(0).round_trip())
    }

    pub(super) fn clear(&mut self) {
        self.doubts.clear();
    }
}

impl Doubt {
    fn round_trip(&self) -> Duration {
        self.came.saturating_duration_since(self.asked)
    }
}
