//! The rate at which data reaches the receiver, by its own clock.

use std::time::Duration;

use crate::rate::RateMeter;
use crate::units::{Bitrate, DataSize};

/// Frames come every 33 to 66 ms, so a window has to hold several; longer is slower to show that a
/// path has become narrow.
const WINDOW: Duration = Duration::from_millis(400);
/// … for a path that is known to be full.
const SHORT_WINDOW: Duration = Duration::from_millis(160);
/// Packets that waited longer on the way, in microseconds, came one behind the other.
const WAITED: i64 = 15_000;
/// What came one behind the other tells the rate of the path from this time and so many packets on.
const LEAST_TIME: i64 = 30_000;
const LEAST_PACKETS: u32 = 2;
/// A receiver's clock that jumps by this much tells nothing any more.
const JUMP: i64 = 10_000_000;

#[derive(Debug)]
pub(super) struct AcknowledgedRate {
    /// Arrival times are counted from here, all of the receiver's clock in microseconds.
    first: Option<i64>,
    newest: i64,
    meter: RateMeter,
    short: RateMeter,
    total: u64,
    run: Option<Run>,
}

/// Packets that left a queue one behind the other, up to now.
#[derive(Debug, Clone, Copy)]
struct Run {
    since: i64,
    /// How long the first ones waited, and the last ones.
    waited: (i64, i64),
    /// Behind those that came first.
    bytes: u64,
    packets: u32,
}

impl AcknowledgedRate {
    pub(super) fn new() -> Self {
        Self {
            first: None,
            newest: 0,
            meter: RateMeter::new(WINDOW),
            short: RateMeter::new(SHORT_WINDOW),
            total: 0,
            run: None,
        }
    }

    /// So many packets, bytes together, arrived at once. `waited` is how long they were on their way beyond
    /// the shortest time.
    pub(super) fn receive(&mut self, arrival: i64, packets: u32, bytes: u64, waited: i64) {
        if self.first.is_none() || (arrival - self.newest).abs() > JUMP {
            *self = Self {
                first: Some(arrival),
                newest: arrival,
                total: self.total,
                ..Self::new()
            };
        }
        self.newest = self.newest.max(arrival);
        self.total += bytes;
        self.run = match self.run {
            _ if waited < WAITED => None,
            None => Some(Run {
                since: arrival,
                waited: (waited, waited),
                bytes: 0,
                packets: 0,
            }),
            Some(run) => Some(Run {
                bytes: run.bytes + bytes,
                packets: run.packets.saturating_add(packets),
                waited: (run.waited.0, waited),
                ..run
            }),
        };
        let at = self.time(arrival);
        let size = DataSize::from_bytes(bytes);
        self.meter.add(size, at);
        self.short.add(size, at);
    }

    /// Microseconds since the first arrival.
    fn time(&self, arrival: i64) -> u64 {
        let after = arrival.saturating_sub(self.first.unwrap_or(arrival));
        after.max(0) as u64
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

    /// What a path carries that is full: the rate since a queue began to grow. The last moments may hold
    /// more that came before, when the path was wider.
    pub(super) fn full_rate(&self) -> Bitrate {
        let rate = self.run.and_then(|run| {
            let time = self.newest - run.since;
            let is_enough = time >= LEAST_TIME && run.packets >= LEAST_PACKETS;
            let is_all = time < SHORT_WINDOW.as_micros() as i64;
            // They came slower than they were sent. If not, they may have come as they were sent.
            let (first, last) = run.waited;
            let is_slow = (last - first) * 4 >= time;
            let time = Duration::from_micros(time.max(0) as u64);
            let rate = DataSize::from_bytes(run.bytes).over(time);
            rate.filter(|_| is_enough && is_all && is_slow)
        });
        rate.unwrap_or_else(|| self.recent_rate())
    }
}
