//! How much one client may send: bits and packets a second, and what is dropped first beyond that.
//!
//! Two buckets that leak: whatever fits is let in and fills them. Video is let in only while there is
//! room to spare, so that somebody who sends too much loses picture before sound.

use std::time::{Duration, Instant};

/// What may come at once, as time of the rate: a key frame of every layer, or what a queue on the way
/// held back.
const BURST: Duration = Duration::from_secs(1);
/// Of that, left to what is not video.
const RESERVE: Duration = Duration::from_millis(125);

/// What one client may send in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub bits_per_second: u64,
    pub packets_per_second: u32,
}

/// How full the buckets are, as the time at which they are empty.
#[derive(Debug, Clone, Copy)]
pub struct Ingress {
    per_kibibyte: Duration,
    per_packet: Duration,
    bytes_gone_at: Instant,
    packets_gone_at: Instant,
}

impl Ingress {
    /// An allowance of 0 is no limit.
    pub fn new(allowance: Allowance, now: Instant) -> Self {
        let share = |number: u64, per_second: u64| {
            let nanoseconds = number.saturating_mul(1_000_000_000).checked_div(per_second);
            Duration::from_nanos(nanoseconds.unwrap_or_default())
        };
        Self {
            per_kibibyte: share(1024 * 8, allowance.bits_per_second),
            per_packet: share(1, allowance.packets_per_second.into()),
            bytes_gone_at: now,
            packets_gone_at: now,
        }
    }

    /// Whether a packet of so many bytes may come in; counts it if so.
    pub fn admit(&mut self, len: usize, is_video: bool, now: Instant) -> bool {
        let room = if is_video { BURST - RESERVE } else { BURST };
        let bytes = self.per_kibibyte * (len.min(1 << 16) as u32) / 1024;
        let bytes = self.bytes_gone_at.max(now) + bytes;
        let packets = self.packets_gone_at.max(now) + self.per_packet;
        let fits = |gone_at: Instant| gone_at.saturating_duration_since(now) <= room;
        let admitted = fits(bytes) && fits(packets);
        if admitted {
            (self.bytes_gone_at, self.packets_gone_at) = (bytes, packets);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    const ALLOWANCE: Allowance = Allowance {
        bits_per_second: 8_192_000,
        packets_per_second: 2_000,
    };

    /// What of so many packets in each of ten seconds, evenly spaced, is let in.
    fn admitted(ingress: &mut Ingress, from: Instant, per_second: u32, len: usize) -> u32 {
        let gap = Duration::from_secs(1) / per_second;
        let packets = 0..per_second * 10;
        let times = packets.map(|number| from + gap * number);
        times.filter(|now| ingress.admit(len, true, *now)).count() as u32
    }

    #[test]
    fn bits_and_packets_are_bounded_in_the_long_run() {
        let now = start();
        // 1,000 packets of 1,024 bytes fit a second.
        let mut ingress = Ingress::new(ALLOWANCE, now);
        assert_eq!(admitted(&mut ingress, now, 1_000, 1_024), 10_000);
        let mut ingress = Ingress::new(ALLOWANCE, now);
        let many = admitted(&mut ingress, now, 1_900, 1_024);
        assert!((10_800..=10_900).contains(&many), "{many}");
        // Short ones are counted by number.
        let mut ingress = Ingress::new(ALLOWANCE, now);
        let many = admitted(&mut ingress, now, 10_000, 60);
        assert!((21_700..=21_800).contains(&many), "{many}");
    }

    #[test]
    fn sound_goes_on_when_the_picture_is_too_much() {
        let now = start();
        let mut ingress = Ingress::new(ALLOWANCE, now);
        let (mut pictures, mut sounds) = (0, 0);
        for millis in 0..10_000 {
            let now = now + Duration::from_millis(millis);
            for _ in 0..4 {
                pictures += u32::from(ingress.admit(1_200, true, now));
            }
            if millis % 20 == 0 {
                assert!(ingress.admit(200, false, now), "silence after {millis} ms");
                sounds += 1;
            }
        }
        assert_eq!(sounds, 500);
        assert!((9_000..9_400).contains(&pictures), "{pictures}");
        // Sound alone is bounded as well.
        let flood =
            (0..10_000).filter(|_| ingress.admit(200, false, now + Duration::from_secs(10)));
        assert!(flood.count() < 1_000);
    }

    #[test]
    fn without_an_allowance_everything_comes_in() {
        let now = start();
        let none = Allowance {
            bits_per_second: 0,
            packets_per_second: 0,
        };
        let mut ingress = Ingress::new(none, now);
        assert!((0..1_000_000).all(|_| ingress.admit(1_500, true, now)));
    }
}
