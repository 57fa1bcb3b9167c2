//! The time that the path itself takes: the least of the last seconds.
//!
//! The least of the connection's life would be a trap: after a change of route to a longer path, all the
//! difference would look like a queue, for ever.

use std::time::{Duration, Instant};

/// Half of the time that is remembered.
const HALF: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Base {
    /// The least since then.
    recent: Option<(Duration, Instant)>,
    /// The least of the half before.
    earlier: Option<Duration>,
}

impl Base {
    pub(super) fn add(&mut self, time: Duration, now: Instant) {
        let Some((least, since)) = &mut self.recent else {
            self.recent = Some((time, now));
            return;
        };
        let age = now.saturating_duration_since(*since);
        if age < HALF {
            *least = time.min(*least);
        } else {
            // After a silence of a whole half, what was before is too old.
            self.earlier = (age < 2 * HALF).then_some(*least);
            self.recent = Some((time, now));
        }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let (recent, _) = self.recent?;
        Some(self.earlier.map_or(recent, |earlier| earlier.min(recent)))
    }

    /// The path has become another.
    pub(super) fn reset(&mut self, time: Duration, now: Instant) {
        *self = Self {
            recent: Some((time, now)),
            earlier: None,
        };
    }
}
