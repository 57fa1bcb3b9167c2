//! How much may leave at once: a budget that refills somewhat faster than the estimate. Holds no packets.
//!
//! Frames come in bursts, and bursts are what makes sending cheap, so most pass untouched. What is held
//! back is the key frame that a thin link would have to queue or lose.

use std::time::Duration;

use crate::units::Bitrate;

/// Of the estimate. Lower delays key frames; higher lets more of them queue on the way.
const FACTOR: f64 = 2.5;
/// … while a queue has to drain.
const DRAINING_FACTOR: f64 = 1.2;
/// How long at that rate a burst may last.
const BURST: Duration = Duration::from_millis(40);
/// Five full packets leave at once whatever the estimate: a run that thin links queue without loss.
const MIN_BURST: i64 = 6_000;

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
        pacer.set_estimate(estimate, false);
        pacer.balance = pacer.burst;
        pacer
    }

    pub(super) fn set_estimate(&mut self, estimate: Bitrate, draining: bool) {
        let factor = if draining { DRAINING_FACTOR } else { FACTOR };
        self.rate = estimate.scale(factor);
        let burst = self.rate.during(BURST).as_bytes();
        self.burst = i64::try_from(burst).unwrap_or(i64::MAX).max(MIN_BURST);
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
            self.balance = self.balance.saturating_add(earned).min(self.burst);
        }
    }

    /// How long after the last refill the balance is above `floor` again, if nothing is sent.
    pub(super) fn until_above(&self, floor: i64) -> Duration {
        let missing = (floor + 1).saturating_sub(self.balance).max(0) as u64;
        crate::units::DataSize::from_bytes(missing).at(self.rate)
    }

    pub(super) fn burst(&self) -> i64 {
        self.burst
    }

    pub(super) fn refilled(&self) -> u64 {
        self.refilled
    }
}
