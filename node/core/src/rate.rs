//! The rate of something over the last moments. Knows neither what is counted nor why.

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};

/// Parts of the window: what is forgotten at once is one of them.
const BUCKETS: usize = 8;

/// Bytes over a sliding window.
///
/// Adding is a comparison and an addition until a bucket is full. Times may come slightly out of order;
/// what is older than the newest bucket counts into that.
#[derive(Debug, Clone)]
pub struct RateMeter {
    bucket: Duration,
    /// End of the newest bucket; none before the first byte.
    end: Option<Instant>,
    /// The window is filled up to here since the first byte, at most [`BUCKETS`].
    filled: u8,
    newest: u8,
    buckets: [u32; BUCKETS],
}

impl RateMeter {
    pub fn new(window: Duration) -> Self {
        Self {
            bucket: (window / BUCKETS as u32).max(Duration::from_millis(1)),
            end: None,
            filled: 0,
            newest: 0,
            buckets: [0; BUCKETS],
        }
    }

    pub fn add(&mut self, size: DataSize, now: Instant) {
        if self.end.is_none_or(|end| now >= end) {
            self.advance(now);
        }
        if let Some(bucket) = self.buckets.get_mut(usize::from(self.newest)) {
            let size = u32::try_from(size.as_bytes()).unwrap_or(u32::MAX);
            *bucket = bucket.saturating_add(size);
        }
    }

    /// Opens the bucket that `now` falls into, emptying those that have passed.
    fn advance(&mut self, now: Instant) {
        let passed = match self.end {
            None => BUCKETS as u128,
            Some(end) => 1 + now.saturating_duration_since(end).as_nanos() / self.bucket.as_nanos(),
        };
        if passed >= BUCKETS as u128 {
            // Nothing, or nothing recent: the window begins anew.
            self.buckets = [0; BUCKETS];
            self.end = Some(now + self.bucket);
            self.filled = 1;
            return;
        }
        for _ in 0..passed {
            self.newest = (self.newest + 1) % BUCKETS as u8;
            if let Some(bucket) = self.buckets.get_mut(usize::from(self.newest)) {
                *bucket = 0;
            }
        }
        self.filled = (self.filled + passed as u8).min(BUCKETS as u8);
        self.end = self.end.map(|end| end + self.bucket * passed as u32);
    }

    /// The rate over the window up to now, or over the time since the first byte if that is shorter;
    /// at least over one bucket. Zero after a window without any.
    pub fn rate(&self, now: Instant) -> Bitrate {
        let Some(end) = self.end else {
            return Bitrate::ZERO;
        };
        let late = now.saturating_duration_since(end);
        let passed = if now < end {
            0
        } else {
            1 + late.as_nanos() / self.bucket.as_nanos()
        };
        let kept = (BUCKETS as u128).saturating_sub(passed) as usize;
        let kept = kept.min(usize::from(self.filled));
        let newest = usize::from(self.newest);
        let bytes = (0..kept)
            .filter_map(|age| self.buckets.get((newest + BUCKETS - age) % BUCKETS))
            .map(|&bytes| u64::from(bytes))
            .sum();
        // What has passed of the window: whole buckets, and as much of the newest as there is.
        let open = end.saturating_duration_since(now);
        let span = self.bucket * kept as u32 + late - open.min(self.bucket);
        let span = span.max(self.bucket);
        DataSize::from_bytes(bytes).over(span).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    const PACKET: DataSize = DataSize::from_bytes(1000);

    #[test]
    fn a_steady_rate_is_measured_from_the_first_moments_on() {
        let start = start();
        let mut meter = RateMeter::new(Duration::from_secs(1));
        assert_eq!(meter.rate(start), Bitrate::ZERO);
        for packet in 0..1000u32 {
            let now = start + Duration::from_millis(10) * packet;
            meter.add(PACKET, now);
            if packet > 30 {
                let rate = meter.rate(now).as_bps();
                assert!((760_000..=850_000).contains(&rate), "{packet}: {rate}");
            }
        }
    }

    #[test]
    fn what_is_past_is_forgotten() {
        let start = start();
        let mut meter = RateMeter::new(Duration::from_millis(800));
        for packet in 0..100u32 {
            meter.add(PACKET, start + Duration::from_millis(10) * packet);
        }
        let end = start + Duration::from_secs(1);
        let rates: Vec<u64> = (0..10)
            .map(|step| meter.rate(end + Duration::from_millis(100) * step).as_bps())
            .collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        assert_eq!(rates.last(), Some(&0));
        // After a pause it begins anew, with no memory of the silence.
        let later = start + Duration::from_secs(60);
        meter.add(PACKET, later);
        meter.add(PACKET, later + Duration::from_millis(50));
        let rate = meter.rate(later + Duration::from_millis(100)).as_bps();
        assert_eq!(rate, 160_000);
    }

    proptest! {
        /// Never more than was added within the window and one bucket.
        #[test]
        fn measures_no_more_than_there_was(
            steps in prop::collection::vec((0u64..400, 0u64..3000), 1..200),
        ) {
            let start = start();
            let window = Duration::from_millis(800);
            let mut meter = RateMeter::new(window);
            let mut now = start;
            let mut added = Vec::new();
            for (pause, bytes) in steps {
                now += Duration::from_millis(pause);
                meter.add(DataSize::from_bytes(bytes), now);
                added.push((now, bytes));
                let recent: u64 = added
                    .iter()
                    .filter(|(at, _)| now.duration_since(*at) <= window)
                    .map(|(_, bytes)| bytes)
                    .sum();
                let carried = meter.rate(now).during(Duration::from_millis(100)).as_bytes();
                prop_assert!(carried <= recent, "{carried} of {recent}");
            }
        }
    }
}
