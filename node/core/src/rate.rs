//! The rate of something over the last moments. Knows neither what is counted nor why.

use std::time::Duration;

use crate::units::{Bitrate, DataSize};

/// Parts of the window: what is forgotten at once is one of them.
const BUCKETS: usize = 8;

/// Bytes over a sliding window.
///
/// Times are microseconds of any clock, after its beginning. Adding is a comparison and an addition until
/// a bucket is full. Times may come slightly out of order; what is older than the newest bucket counts
/// into that.
#[derive(Debug, Clone)]
pub struct RateMeter {
    /// Microseconds of a part of the window.
    bucket: u64,
    /// End of the newest bucket; 0 before the first byte.
    end: u64,
    /// The window is filled up to here since the first byte, at most [`BUCKETS`].
    filled: u8,
    newest: u8,
    buckets: [u32; BUCKETS],
}

impl RateMeter {
    pub fn new(window: Duration) -> Self {
        Self {
            bucket: (window.as_micros() as u64 / BUCKETS as u64).max(1_000),
            end: 0,
            filled: 0,
            newest: 0,
            buckets: [0; BUCKETS],
        }
    }

    #[inline]
    pub fn add(&mut self, size: DataSize, now: u64) {
        if now >= self.end {
            self.advance(now);
        }
        if let Some(bucket) = self.buckets.get_mut(usize::from(self.newest)) {
            let size = u32::try_from(size.as_bytes()).unwrap_or(u32::MAX);
            *bucket = bucket.saturating_add(size);
        }
    }

    /// Opens the bucket that `now` falls into, emptying those that have passed.
    fn advance(&mut self, now: u64) {
        let passed = self.passed(now);
        if self.filled == 0 || passed >= BUCKETS as u64 {
            // Nothing, or nothing recent: the window begins anew.
            self.buckets = [0; BUCKETS];
            self.end = now.saturating_add(self.bucket);
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
        self.end = self.end.saturating_add(self.bucket * passed);
    }

    /// How many buckets lie between the newest and the one that `now` falls into, that one included.
    fn passed(&self, now: u64) -> u64 {
        let late = now.checked_sub(self.end);
        late.map_or(0, |late| 1 + late / self.bucket)
    }

    /// The rate over the window up to now, or over the time since the first byte if that is shorter;
    /// at least over one bucket. Zero after a window without any.
    pub fn rate(&self, now: u64) -> Bitrate {
        let kept = (BUCKETS as u64).saturating_sub(self.passed(now)) as usize;
        let kept = kept.min(usize::from(self.filled));
        let newest = usize::from(self.newest);
        let bytes = (0..kept)
            .filter_map(|age| self.buckets.get((newest + BUCKETS - age) % BUCKETS))
            .map(|&bytes| u64::from(bytes))
            .sum();
        // What has passed of the window: whole buckets, and as much of the newest as there is.
        let open = self.end.saturating_sub(now).min(self.bucket);
        let late = now.saturating_sub(self.end);
        let span = (self.bucket * kept as u64).saturating_add(late);
        let span = Duration::from_micros(span.saturating_sub(open).max(self.bucket));
        DataSize::from_bytes(bytes).over(span).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: DataSize = DataSize::from_bytes(1000);

    #[test]
    fn a_steady_rate_is_measured_from_the_first_moments_on() {
        let mut meter = RateMeter::new(Duration::from_secs(1));
        assert_eq!(meter.rate(0), Bitrate::ZERO);
        for packet in 0..1000 {
            let now = 10_000 * packet;
            meter.add(PACKET, now);
            if packet > 30 {
                let rate = meter.rate(now).as_bps();
                assert!((760_000..=850_000).contains(&rate), "{packet}: {rate}");
            }
        }
    }

    #[test]
    fn what_is_past_is_forgotten() {
        let mut meter = RateMeter::new(Duration::from_millis(800));
        for packet in 0..100 {
            meter.add(PACKET, 10_000 * packet);
        }
        let end = 1_000_000;
        let rates: Vec<u64> = (0..10)
            .map(|step| meter.rate(end + 100_000 * step).as_bps())
            .collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        assert_eq!(rates.last(), Some(&0));
        // After a pause it begins anew, with no memory of the silence.
        let later = 60_000_000;
        meter.add(PACKET, later);
        meter.add(PACKET, later + 50_000);
        let rate = meter.rate(later + 100_000).as_bps();
        assert_eq!(rate, 160_000);
    }

    proptest! {
        /// Never more than was added within the window and one bucket.
        #[test]
        fn measures_no_more_than_there_was(
            steps in prop::collection::vec((0u64..400, 0u64..3000), 1..200),
        ) {
            let window = Duration::from_millis(800);
            let mut meter = RateMeter::new(window);
            let mut now = 0;
            let mut added = Vec::new();
            for (pause, bytes) in steps {
                now += pause * 1_000;
                meter.add(DataSize::from_bytes(bytes), now);
                added.push((now, bytes));
                let recent: u64 = added
                    .iter()
                    .filter(|(at, _)| now - at <= window.as_micros() as u64)
                    .map(|(_, bytes)| bytes)
                    .sum();
                let carried = meter.rate(now).during(Duration::from_millis(100)).as_bytes();
                prop_assert!(carried <= recent, "{carried} of {recent}");
            }
        }
    }
}
