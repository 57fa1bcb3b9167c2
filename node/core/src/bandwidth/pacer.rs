//! How much may leave at once: a budget that refills somewhat faster than the estimate. Holds no packets.
//!
//! Frames come in bursts, and bursts are what makes sending cheap, so most pass untouched. What is held
//! back is the key frame that a thin link would have to queue or lose.

use std::time::Duration;

use crate::units::Bitrate;

/// Of the estimate. Lower delays key frames; higher lets more of them queue on the way.
const FACTOR: f64 = 2.5;
/// … of an estimate that was found by filling the path, of late: it is all there is.
const KNOWN_FACTOR: f64 = 1.25;
/// … while a queue has to drain.
const DRAINING_FACTOR: f64 = 1.0;
/// How long at that rate a burst may last.
const BURST: Duration = Duration::from_millis(40);
/// Five full packets leave at once whatever the estimate: a run that thin links queue without loss.
const MIN_BURST: i64 = 6_000;
/// … but one at a time while a queue has to drain: it may be about to overflow.
const DRAINING_BURST: i64 = 1_500;

/// What is known of the path beside its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// There may be more.
    Free,
    /// A limit was met a moment ago.
    Known,
    /// A queue has to drain.
    Queue,
}

#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes that may leave now; what leaves regardless makes it negative.
    pub(super) balance: i64,
    rate: Bitrate,
    burst: i64,
    /// Microseconds since the owner's origin.
    refilled: u64,
}

impl Pacer {
    pub(super) fn new(estimate: Bitrate) -> Self {
        let mut pacer = Self {
            balance: 0,
            rate: Bitrate::ZERO,
            burst: 0,
            refilled: 0,
        };
        pacer.set_estimate(estimate, Room::Free);
        pacer.balance = pacer.burst;
        pacer
    }

    pub(super) fn set_estimate(&mut self, estimate: Bitrate, room: Room) {
        let (factor, burst, least) = match room {
            Room::Free => (FACTOR, BURST, MIN_BURST),
            Room::Known => (KNOWN_FACTOR, BURST, MIN_BURST),
            Room::Queue => (DRAINING_FACTOR, Duration::ZERO, DRAINING_BURST),
        };
        self.rate = estimate.scale(factor);
        let burst = self.rate.during(burst).as_bytes();
        self.burst = i64::try_from(burst).unwrap_or(i64::MAX).max(least);
        self.balance = self.balance.min(self.burst);
    }

    /// Adds what time has brought. `now` in microseconds.
    pub(super) fn refill(&mut self, now: u64) {
        let elapsed = Duration::from_micros(now.saturating_sub(self.refilled));
        let earned = self.rate.during(elapsed).as_bytes();
        // Times in which less than a byte is earned add up.
        if earned > 0 {
            self.refilled = now;
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            // What leaves regardless is no debt for long.
            let owed = self.balance.max(-self.burst);
            self.balance = owed.saturating_add(earned).min(self.burst);
        }
    }

    /// Nothing may leave until then but what leaves regardless.
    pub(super) fn hold(&mut self, until: u64) {
        self.refilled = self.refilled.max(until);
        self.balance = self.balance.min(-self.burst);
    }

    pub(super) fn burst(&self) -> i64 {
        self.burst
    }
}
