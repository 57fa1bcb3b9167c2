//! What a stream's receiver can say about it (RFC 3550 sections 6.4.1 and A.8), and rates.

use std::time::{Duration, Instant};

use crate::rtcp::{ReportBlock, SenderInfo};

/// Reception statistics of one encoding.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    first: Option<u64>,
    highest: u64,
    received: u64,
    /// 1/16 of a timestamp unit, as in RFC 3550 A.8.
    jitter: u32,
    last_transit: Option<u32>,
    /// Of the previous report.
    reported_expected: u64,
    reported_received: u64,
    last_sender_report: Option<(SenderInfo, Instant)>,
}

impl ReceiveStats {
    /// `arrival` is in timestamp units of the stream.
    pub fn handle_packet(&mut self, sequence: u64, timestamp: u32, arrival: u32) {
        self.count(sequence);
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.last_transit {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs();
            self.jitter = self.jitter.saturating_add(difference) - ((self.jitter + 8) >> 4);
        }
        self.last_transit = Some(transit);
    }

    /// A packet that came, whatever becomes of it.
    pub fn count(&mut self, sequence: u64) {
        let first = self.first.map_or(sequence, |first| first.min(sequence));
        self.first = Some(first);
        self.highest = self.highest.max(sequence);
        self.received += 1;
    }

    pub fn handle_sender_report(&mut self, info: SenderInfo, now: Instant) {
        self.last_sender_report = Some((info, now));
    }

    pub fn last_sender_report(&self) -> Option<(SenderInfo, Instant)> {
        self.last_sender_report
    }

    /// The report since the last call. `None`: nothing has been received yet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<Report> {
        let first = self.first?;
        let expected = self.highest - first + 1;
        let lost = |expected: u64, received: u64| expected as i64 - received as i64;
        let expected_interval = expected - self.reported_expected.min(expected);
        let lost_interval = lost(expected_interval, self.received - self.reported_received);
        self.reported_expected = expected;
        self.reported_received = self.received;
        let fraction = match expected_interval {
            0 => 0,
            expected => (lost_interval.max(0) as u64 * 256 / expected).min(255),
        };
        let (last_report, delay) = match &self.last_sender_report {
            None => (0, 0),
            Some((info, at)) => (
                info.compact_ntp(),
                compact(now.saturating_duration_since(*at)),
            ),
        };
        let block = ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            total_lost: lost(expected, self.received).clamp(-0x80_0000, 0x7F_FFFF) as i32,
            // Receivers count cycles from the first packet's.
            highest_sequence: (self.highest - (first & !0xFFFF)) as u32,
            jitter: self.jitter >> 4,
            last_report,
            delay,
        };
        Some(Report {
            block,
            expected: expected_interval,
        })
    }
}

/// What is reported of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub block: ReportBlock,
    /// Packets that its share of lost ones is a share of.
    pub expected: u64,
}

/// A duration in 1/65536 s, as reports count.
fn compact(duration: Duration) -> u32 {
    (duration.as_micros() * 65_536 / 1_000_000).min(u128::from(u32::MAX)) as u32
}

/// Where a receiver's clock for one source stands: sender reports of several sources of a participant
/// share a clock, which is what aligns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// 32.32 fixed point.
    pub ntp: u64,
    pub rtp: u32,
    pub rate: u32,
}

impl SenderClock {
    /// What `other`'s timestamp is at the moment this source's is `rtp`.
    pub fn translate(&self, rtp: u32, other: &SenderClock) -> u32 {
        // Widened, so that a report that lies about its time wraps and panics nowhere.
        let ticks = i128::from(rtp.wrapping_sub(self.rtp) as i32);
        let ntp = i128::from(self.ntp) + (ticks << 32) / i128::from(self.rate);
        let elapsed = ((ntp - i128::from(other.ntp)) * i128::from(other.rate)) >> 32;
        other.rtp.wrapping_add(elapsed as u32)
    }
}

/// A duration in timestamp units, modulo 2^32.
pub(crate) fn ticks(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_micros() as u64)
        .wrapping_mul(u64::from(clock_rate))
        .wrapping_div(1_000_000) as u32
}

/// Round trip from a report block: when it arrived, in the compact NTP its report was stamped in.
pub fn round_trip(arrival: u32, block: &ReportBlock) -> Option<Duration> {
    if block.last_report == 0 {
        return None;
    }
    let units = arrival
        .wrapping_sub(block.last_report)
        .wrapping_sub(block.delay);
    // A receiver that counts its delay wrongly comes out just below zero.
    if units > u32::MAX / 2 {
        return Some(Duration::ZERO);
    }
    Some(Duration::from_micros(u64::from(units) * 1_000_000 / 65_536))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    #[test]
    fn loss_is_reported_per_interval_and_in_total() {
        let mut stats = ReceiveStats::default();
        let now = start();
        assert_eq!(stats.report(1, now), None);
        for sequence in (0..100).filter(|sequence| sequence % 4 != 1) {
            stats.handle_packet(0x1_0000 + sequence, 0, 0);
        }
        let Report { block, expected } = stats.report(1, now).unwrap();
        assert_eq!(expected, 100);
        assert_eq!(
            (
                block.fraction_lost,
                block.total_lost,
                block.highest_sequence
            ),
            (64, 25, 99)
        );
        for sequence in 100..200 {
            stats.handle_packet(0x1_0000 + sequence, 0, 0);
        }
        let Report { block, expected } = stats.report(1, now).unwrap();
        assert_eq!(expected, 100);
        assert_eq!(
            (
                block.fraction_lost,
                block.total_lost,
                block.highest_sequence
            ),
            (0, 25, 199)
        );
        // Duplicates make up for losses in the count, never below zero in the fraction.
        for _ in 0..50 {
            stats.handle_packet(0x1_0000 + 199, 0, 0);
        }
        let Report { block, expected } = stats.report(1, now).unwrap();
        assert_eq!((block.fraction_lost, block.total_lost), (0, -25));
        assert_eq!(expected, 0);
    }

    #[test]
    fn jitter_converges_to_the_mean_deviation() {
        let mut stats = ReceiveStats::default();
        for packet in 0..1000u32 {
            let late = if packet % 2 == 0 { 0 } else { 90 };
            stats.handle_packet(
                0x1_0000 + u64::from(packet),
                packet * 3000,
                packet * 3000 + late,
            );
        }
        let jitter = stats.report(1, start()).unwrap().block.jitter;
        assert!((80..=95).contains(&jitter), "{jitter}");
    }

    #[test]
    fn the_last_sender_report_is_echoed_with_its_age() {
        let mut stats = ReceiveStats::default();
        let now = start();
        stats.handle_packet(0x1_0000, 0, 0);
        let info = SenderInfo {
            ntp: 0x1122_3344_5566_7788,
            rtp: 0,
            packets: 0,
            octets: 0,
        };
        stats.handle_sender_report(info, now);
        let report = stats.report(1, now + Duration::from_millis(250)).unwrap();
        let block = report.block;
        assert_eq!((block.last_report, block.delay), (0x3344_5566, 16_384));
        assert_eq!(
            round_trip(0x3344_5566 + 16_384 + 6554, &block),
            Some(Duration::from_micros(100_006))
        );
        assert_eq!(
            round_trip(0x3344_5566 + 16_000, &block),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn clocks_of_two_sources_translate() {
        let second = 1u64 << 32;
        let low = SenderClock {
            ntp: 1000 * second,
            rtp: 5_000,
            rate: 90_000,
        };
        let high = SenderClock {
            ntp: 1002 * second,
            rtp: 4_000_000_000,
            rate: 90_000,
        };
        // Half a second after `low`'s report is 1.5 s before `high`'s.
        assert_eq!(low.translate(50_000, &high), 4_000_000_000 - 135_000);
        assert_eq!(high.translate(4_000_000_000 - 135_000, &low), 50_000);
    }

    #[test]
    fn a_lying_report_panics_nowhere() {
        let zero = SenderClock {
            ntp: 0,
            rtp: 0,
            rate: 90_000,
        };
        let far = SenderClock {
            ntp: u64::MAX,
            rtp: u32::MAX,
            rate: 48_000,
        };
        let _ = zero.translate(u32::MAX / 2, &far);
        let _ = far.translate(1 << 31, &zero);
    }
}
