//! One connection's time, as its estimator counts it.

use std::time::{Duration, Instant};

/// Microseconds since a connection began. Packets of a burst share their time, so the last answer is kept:
/// to subtract two times costs more than all else that a packet needs.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    last: Instant,
    last_micros: u64,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            last: now,
            last_micros: 0,
        }
    }

    #[inline]
    pub(super) fn micros(&mut self, now: Instant) -> u64 {
        if now != self.last {
            let elapsed = now.saturating_duration_since(self.origin);
            self.last_micros = elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros());
            self.last = now;
        }
        self.last_micros
    }

    pub(super) fn instant(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }
}
