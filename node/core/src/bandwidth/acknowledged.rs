//! The rate at which data reaches the receiver, by its own clock.

use std::time::{Duration, Instant};

use crate::rate::RateMeter;
use crate::units::{Bitrate, DataSize};

/// Frames come every 33 to 66 ms, so a window has to hold several; longer is slower to show that a
/// path has become narrow.
const WINDOW: Duration = Duration::from_millis(400);
/// … for a path that is known to be full.
const SHORT_WINDOW: Duration = Duration::from_millis(160);
/// A receiver's clock that jumps by this much tells nothing any more.
const JUMP: i64 = 10_000_000;

#[derive(Debug)]
pub(super) struct AcknowledgedRate {
    /// Arrival times are counted from here, those of the receiver's clock in microseconds.
    origin: Instant,
    first: Option<i64>,
    newest: i64,
    meter: RateMeter,
    short: RateMeter,
    total: u64,
}

impl AcknowledgedRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            first: None,
            newest: 0,
            meter: RateMeter::new(WINDOW),
            short: RateMeter::new(SHORT_WINDOW),
            total: 0,
        }
    }

    pub(super) fn receive(&mut self, arrival: i64, size: u16) {
        if self.first.is_none() || (arrival - self.newest).abs() > JUMP {
            *self = Self {
                first: Some(arrival),
                newest: arrival,
                total: self.total,
                ..Self::new(self.origin)
            };
        }
        self.newest = self.newest.max(arrival);
        self.total += u64::from(size);
        let at = self.time(arrival);
        let size = DataSize::from_bytes(size.into());
        self.meter.add(size, at);
        self.short.add(size, at);
    }

    fn time(&self, arrival: i64) -> Instant {
        let after = arrival.saturating_sub(self.first.unwrap_or(arrival));
        self.origin + Duration::from_micros(after.max(0) as u64)
    }

    /// Bytes that arrived.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Zero before anything arrived.
    pub(super) fn rate(&self) -> Bitrate {
        self.meter.rate(self.time(self.newest))
    }

    pub(super) fn recent_rate(&self) -> Bitrate {
        self.short.rate(self.time(self.newest))
    }
}
