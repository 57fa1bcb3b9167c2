//! What is sent again: each lost packet once a round trip, and all in all no more than a share of what
//! was sent.
//!
//! A packet is often asked for several times before the first answer can have arrived. A receiver that
//! asks for everything, out of malice or because its link is full, gets a share more, not a multiple.

use std::time::{Duration, Instant};

/// Packets whose last sending is remembered at most. More missing at once is an outage; who still wants
/// them asks again.
const MAX_REMEMBERED: usize = 256;
const FIRST_REMEMBERED: usize = 16;

/// One packet may be sent again for so many sent: half as much again repairs a loss of every third,
/// retransmissions included.
const SENT_PER_RESEND: u32 = 2;
/// What may be sent again right after the beginning, of a burst that was lost: two large key frames.
const FIRST_CREDIT: u32 = 64 * SENT_PER_RESEND;
/// What a stream that lost nothing for long has saved: a second of what a layer has at most.
const MAX_CREDIT: u32 = 1024 * SENT_PER_RESEND;

#[derive(Debug)]
pub(super) struct Resends {
    /// By sequence number modulo its length, a power of two: number and last sending.
    recent: Vec<Option<(u64, Instant)>>,
    credit: u32,
}

impl Default for Resends {
    fn default() -> Self {
        Self {
            recent: Vec::new(),
            credit: FIRST_CREDIT,
        }
    }
}

impl Resends {
    /// A packet was sent for the first time.
    pub(super) fn earn(&mut self) {
        self.credit = (self.credit + 1).min(MAX_CREDIT);
    }

    /// Whether a packet may be sent again; counts it if so.
    pub(super) fn allow(&mut self, sequence: u64, round_trip: Duration, now: Instant) -> bool {
        let Some(credit) = self.credit.checked_sub(SENT_PER_RESEND) else {
            return false;
        };
        loop {
            let mask = self.recent.len().wrapping_sub(1) as u64;
            let slot = self.recent.get_mut((sequence & mask) as usize);
            match slot {
                Some(Some((known, at))) if now.saturating_duration_since(*at) < round_trip => {
                    if *known == sequence || self.recent.len() >= MAX_REMEMBERED {
                        return false;
                    }
                    self.grow();
                }
                Some(slot) => {
                    *slot = Some((sequence, now));
                    self.credit = credit;
                    return true;
                }
                None => self.grow(),
            }
        }
    }

    /// A packet that came late is sent for the first time: who asks for it within a round trip asked before it
    /// arrived. Takes no memory before anybody has asked for anything: then one answer may be too many.
    pub(super) fn note_late(&mut self, sequence: u64, now: Instant) {
        let mask = self.recent.len().wrapping_sub(1) as u64;
        if let Some(slot) = self.recent.get_mut((sequence & mask) as usize) {
            *slot = Some((sequence, now));
        }
    }

    fn grow(&mut self) {
        let len = (self.recent.len() * 2).max(FIRST_REMEMBERED);
        let former = std::mem::replace(&mut self.recent, vec![None; len]);
        for (sequence, at) in former.into_iter().flatten() {
            if let Some(slot) = self.recent.get_mut(sequence as usize & (len - 1)) {
                *slot = Some((sequence, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    #[test]
    fn a_packet_is_sent_again_once_a_round_trip() {
        let start = start();
        let at = |millis| start + Duration::from_millis(millis);
        let mut resends = Resends::default();
        assert!(resends.allow(7, ROUND_TRIP, at(0)));
        assert!(!resends.allow(7, ROUND_TRIP, at(39)));
        // Others are not in its way, however they fall.
        for other in [8, 23, 39, 7 + 128] {
            assert!(resends.allow(other, ROUND_TRIP, at(39)), "{other}");
            assert!(!resends.allow(7, ROUND_TRIP, at(39)), "after {other}");
        }
        assert!(resends.allow(7, ROUND_TRIP, at(40)));
        assert!(!resends.allow(7, ROUND_TRIP, at(41)));
    }

    #[test]
    fn what_has_just_left_is_not_sent_again() {
        let start = start();
        let at = |millis| start + Duration::from_millis(millis);
        let mut resends = Resends::default();
        resends.note_late(3, at(0));
        assert!(resends.allow(7, ROUND_TRIP, at(0)));
        resends.note_late(8, at(0));
        assert!(!resends.allow(8, ROUND_TRIP, at(39)));
        assert!(resends.allow(8, ROUND_TRIP, at(40)));
    }

    #[test]
    fn a_burst_is_repaired_whole() {
        let now = start();
        let mut resends = Resends::default();
        (0..2_000).for_each(|_| resends.earn());
        let lost = 1_000..1_200;
        assert!(
            lost.clone()
                .all(|lost| resends.allow(lost, ROUND_TRIP, now))
        );
        assert!(
            !lost
                .clone()
                .any(|lost| resends.allow(lost, ROUND_TRIP, now))
        );
        let again = now + ROUND_TRIP;
        assert!(
            lost.clone()
                .all(|lost| resends.allow(lost, ROUND_TRIP, again))
        );
    }

    #[test]
    fn who_asks_for_everything_gets_half_as_much_again() {
        let start = start();
        let mut resends = Resends::default();
        let mut resent = 0;
        for millis in 0..10_000u64 {
            let now = start + Duration::from_millis(millis);
            resends.earn();
            for lost in millis.saturating_sub(900)..=millis {
                resent += u64::from(resends.allow(lost, Duration::from_millis(10), now));
            }
        }
        assert!((4_900..=5_100).contains(&resent), "{resent}");
        assert!(resends.recent.len() <= MAX_REMEMBERED);
    }
}
