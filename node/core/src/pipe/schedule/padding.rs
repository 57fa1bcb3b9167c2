//! Bytes of no use, sent to see whether the path carries them.

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};

/// What was not sent for longer is not made up for.
const BURST: Duration = Duration::from_millis(30);
/// When the transport is full.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(super) struct Padding {
    rate: Bitrate,
    next: Option<Instant>,
}

impl Padding {
    pub(super) fn set(&mut self, rate: Bitrate, now: Instant) {
        self.rate = rate;
        self.next = (!rate.is_zero()).then(|| self.next.unwrap_or(now));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn postpone(&mut self, now: Instant) {
        self.next = self.next.map(|next| next.max(now + PAUSE));
    }

    /// Whether so much may be sent now.
    pub(super) fn take(&mut self, size: usize, now: Instant) -> bool {
        let Some(next) = self.next.filter(|&next| next <= now) else {
            return false;
        };
        let from = now.checked_sub(BURST).map_or(next, |then| next.max(then));
        self.next = Some(from + DataSize::from_bytes(size as u64).at(self.rate));
        true
    }
}
