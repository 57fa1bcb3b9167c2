//! Which packets of a source are missing, and when to ask for them (again).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Reordering shorter than this is not taken for loss. Networks that reorder do so within a few
/// milliseconds; waiting longer delays every repair.
const REORDERING: Duration = Duration::from_millis(10);
/// A repair later than this is of no use to anybody who watches live.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1000);
/// Asked this often, each time a round trip later.
const MAX_REQUESTS: u8 = 8;
/// More missing than this is an outage, which a key frame ends and retransmissions only prolong.
const MAX_MISSING: usize = 256;

/// Losses of one encoding.
#[derive(Debug, Default)]
pub struct LossTracker {
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    requests: u8,
    next: Instant,
}

/// What a packet meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Next,
    /// Packets before it are missing.
    Gap,
    /// One that was missing, or a duplicate.
    Late,
    /// So many are missing that nothing is asked for.
    Outage,
}

impl LossTracker {
    pub fn handle_packet(&mut self, sequence: u64, now: Instant) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return Arrival::Next;
        };
        if sequence <= highest {
            self.missing.remove(&sequence);
            return Arrival::Late;
        }
        self.highest = Some(sequence);
        let gap = (sequence - highest - 1) as usize;
        if gap == 0 {
            return Arrival::Next;
        }
        if gap + self.missing.len() > MAX_MISSING {
            self.missing.clear();
            return Arrival::Outage;
        }
        let missing = Missing {
            since: now,
            requests: 0,
            next: now + REORDERING,
        };
        self.missing
            .extend((highest + 1..sequence).map(|lost| (lost, missing)));
        Arrival::Gap
    }

    /// Nothing older is wanted any more, e.g. because a key frame began.
    pub fn forget_before(&mut self, sequence: u64) {
        self.missing = self.missing.split_off(&sequence);
    }

    /// Adds the numbers to ask for now, ascending, and gives up on those that are too old.
    pub fn due(&mut self, now: Instant, round_trip: Duration, lost: &mut Vec<u16>) {
        let pause =
            (round_trip.mul_f32(1.1) + Duration::from_millis(5)).max(Duration::from_millis(25));
        self.missing.retain(|&sequence, missing| {
            if now.saturating_duration_since(missing.since) >= GIVE_UP_AFTER {
                return false;
            }
            if missing.next <= now {
                missing.requests += 1;
                missing.next = now + pause;
                lost.push(sequence as u16);
            }
            missing.requests < MAX_REQUESTS
        });
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    fn due(tracker: &mut LossTracker, now: Instant) -> Vec<u16> {
        let mut lost = Vec::new();
        tracker.due(now, Duration::from_millis(40), &mut lost);
        lost
    }

    #[test]
    fn a_loss_is_asked_for_until_it_comes_or_is_too_old() {
        let start = start();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut tracker = LossTracker::default();
        assert_eq!(tracker.handle_packet(65_535, at(0)), Arrival::Next);
        assert_eq!(tracker.handle_packet(65_538, at(0)), Arrival::Gap);
        assert_eq!(due(&mut tracker, at(9)), []);
        assert_eq!(due(&mut tracker, at(10)), [0, 1]);
        assert_eq!(due(&mut tracker, at(50)), []);
        assert_eq!(tracker.handle_packet(65_536, at(50)), Arrival::Late);
        assert_eq!(due(&mut tracker, at(60)), [1]);
        let mut requests = 2;
        for millis in 60..2000 {
            requests += due(&mut tracker, at(millis)).len();
        }
        assert_eq!(requests, usize::from(MAX_REQUESTS));
        assert_eq!(tracker.next_deadline(), None);
    }

    #[test]
    fn reordering_is_not_loss() {
        let start = start();
        let mut tracker = LossTracker::default();
        for sequence in [1, 3, 2, 5, 4, 6] {
            tracker.handle_packet(sequence, start);
        }
        assert_eq!(due(&mut tracker, start + Duration::from_secs(1)), []);
        assert_eq!(tracker.next_deadline(), None);
    }

    #[test]
    fn an_outage_and_a_key_frame_end_the_asking() {
        let start = start();
        let mut tracker = LossTracker::default();
        tracker.handle_packet(1, start);
        assert_eq!(tracker.handle_packet(1000, start), Arrival::Outage);
        assert_eq!(tracker.next_deadline(), None);
        assert_eq!(tracker.handle_packet(1003, start), Arrival::Gap);
        tracker.forget_before(1002);
        assert_eq!(due(&mut tracker, start + Duration::from_millis(20)), [1002]);
    }
}
