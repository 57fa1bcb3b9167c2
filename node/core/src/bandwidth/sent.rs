//! How fast a connection sends.

use std::time::Duration;

use crate::units::{Bitrate, DataSize};

/// The rate of sending, looked at now and then.
#[derive(Debug, Default)]
pub(super) struct SentRate {
    bytes: u64,
    at: u64,
    pub(super) rate: Bitrate,
}

impl SentRate {
    /// Frames even out over this long, in microseconds.
    const INTERVAL: u64 = 400_000;

    pub(super) fn update(&mut self, bytes: u64, now: u64) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed < Self::INTERVAL {
            return;
        }
        let sent = DataSize::from_bytes(bytes - self.bytes);
        self.rate = sent
            .over(Duration::from_micros(elapsed))
            .unwrap_or_default();
        (self.bytes, self.at) = (bytes, now);
    }
}
