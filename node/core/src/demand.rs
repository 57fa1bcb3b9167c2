//! How much of a track anybody can use, as its publisher is to be told: more at once, less after a
//! while.
//!
//! Counts what receivers wish for, not what their bandwidth lets through: bandwidth comes back within
//! seconds, and a layer that is not sent can neither be measured nor taken up when it does.

use std::time::{Duration, Instant};

/// How long layers are kept going for nobody. Less would restart encoders whenever somebody turns a
/// page to and fro; more wastes the publisher's uplink. Clients expect it within five seconds.
const RELEASE_AFTER: Duration = Duration::from_secs(4);

/// Layers from the lowest up, by their number: 0 is nothing.
#[derive(Debug)]
pub(crate) struct Demand {
    wanted: u8,
    /// What the publisher goes by. It begins with all it has.
    told: u8,
    /// When less is told.
    release_at: Option<Instant>,
}

impl Demand {
    pub(crate) fn new(all: u8, now: Instant) -> Self {
        Self {
            wanted: 0,
            told: all,
            release_at: (all > 0).then(|| now + RELEASE_AFTER),
        }
    }

    pub(crate) fn told(&self) -> u8 {
        self.told
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.release_at
    }

    /// `true`: the publisher has to be told.
    pub(crate) fn set(&mut self, wanted: u8, now: Instant) -> bool {
        self.wanted = wanted;
        if wanted < self.told {
            self.release_at.get_or_insert(now + RELEASE_AFTER);
            return false;
        }
        self.release_at = None;
        let rises = wanted > self.told;
        self.told = wanted;
        rises
    }

    /// `true`: the publisher has to be told.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let due = self.release_at.is_some_and(|at| at <= now);
        if due {
            self.release_at = None;
            self.told = self.wanted;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_less_later() {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut demand = Demand::new(3, at(0));
        // Somebody who wants all of it comes before anything is released: nothing is told.
        assert!(!demand.set(3, at(3_000)));
        assert!(!demand.due(at(5_000)));
        // Less, then less still: one message, with what is true by then.
        assert!(!demand.set(2, at(10_000)));
        assert!(!demand.set(1, at(13_000)));
        assert!(!demand.due(at(13_999)));
        assert!(demand.due(at(14_000)) && demand.told() == 1);
        assert!(!demand.due(at(14_000)), "told once");
        assert!(demand.set(2, at(14_001)) && demand.told() == 2);
        // To and fro within the time: nothing is told.
        assert!(!demand.set(0, at(15_000)));
        assert!(!demand.set(2, at(18_999)));
        assert!(!demand.due(at(30_000)));
        // Who leaves again begins the time anew.
        assert!(!demand.set(0, at(31_000)));
        assert_eq!(demand.deadline(), Some(at(35_000)));
    }
}
