//! Which packets of one incoming stream came, which are missing, and when to ask for them again.
//!
//! Sees sequence numbers and time, no payloads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A packet may be this late before it is asked for: what overtakes it on a jittery path is not
/// lost. libwebrtc asks at once, and asks for much that comes anyway.
const REORDER_GRACE: Duration = Duration::from_millis(5);
/// A packet that has not come by then is lost for good.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
const MAX_ASKS: u8 = 10;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// A jump further ahead than this is a stream that began anew, not a loss.
const MAX_JUMP: u64 = 5_000;

/// How what is missing is sent again, as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Not at all.
    None,
    /// On a retransmission stream.
    Aside,
    /// As it was: audio.
    InPlace,
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Media,
    Retransmission,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The newest, this many behind the one that was newest before: 1 if nothing is missing between.
    Newest { step: u64 },
    /// One that was missing.
    Missing,
    /// One that was there, or had been given up.
    Duplicate,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Without duplicates.
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    /// Came by themselves, though later than ones behind them.
    pub(crate) reordered: u64,
    /// Came because they were asked for.
    pub(crate) recovered: u64,
    /// Given up.
    pub(crate) lost: u64,
    pub(crate) asked: u64,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    asks: u8,
    /// To be asked for, or given up.
    due: Instant,
}

#[derive(Debug)]
pub(crate) struct Sequence {
    repair: Repair,
    first: u64,
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    due: Option<Instant>,
    /// The newest that was given up.
    newest_lost: Option<u64>,
    counts: Counts,
}

impl Sequence {
    pub(crate) fn new(repair: Repair) -> Self {
        Self {
            repair,
            first: 0,
            highest: None,
            missing: BTreeMap::new(),
            due: None,
            newest_lost: None,
            counts: Counts::default(),
        }
    }

    /// With a number that does not roll over.
    pub(crate) fn newest(&self) -> u64 {
        self.highest.unwrap_or(0)
    }

    /// Whether one of this number or a later one is missing.
    pub(crate) fn missing_since(&self, number: u64) -> bool {
        self.missing.range(number..).next().is_some()
    }

    /// Whether one of this number or a later one was given up.
    pub(crate) fn lost_since(&self, number: u64) -> bool {
        self.newest_lost >= Some(number)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Packets that are neither there nor given up.
    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Packets there should be by now.
    pub(crate) fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest - self.first + 1)
    }

    /// As reports have it: with the count of rollovers in the upper half.
    pub(crate) fn highest(&self) -> u32 {
        self.highest
            .map_or(0, |highest| (highest - (1 << 16)) as u32)
    }

    pub(crate) fn handle(&mut self, sequence: u16, via: Via, now: Instant) -> Place {
        let Some(highest) = self.highest else {
            // One rollover in advance, so that what comes before the first has a number.
            let first = (1 << 16) + u64::from(sequence);
            (self.first, self.highest) = (first, Some(first));
            self.counts.received += 1;
            return Place::Newest { step: 1 };
        };
        let step = sequence.wrapping_sub(highest as u16).cast_signed();
        let number = highest.saturating_add_signed(step.into());
        if number <= highest {
            return self.handle_older(number, via);
        }
        self.counts.received += 1;
        self.highest = Some(number);
        let step = number - highest;
        if step > MAX_JUMP {
            self.counts.lost += self.missing.len() as u64;
            self.newest_lost = self
                .newest_lost
                .max(self.missing.keys().next_back().copied());
            self.missing.clear();
            self.first += step - 1;
            return Place::Newest { step };
        }
        let due = now
            + match self.repair {
                Repair::None => GIVE_UP_AFTER,
                Repair::Aside | Repair::InPlace => REORDER_GRACE,
            };
        for number in highest + 1..number {
            let missing = Missing {
                since: now,
                asks: 0,
                due,
            };
            self.missing.insert(number, missing);
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
        Place::Newest { step }
    }

    fn handle_older(&mut self, number: u64, via: Via) -> Place {
        let Some(missing) = self.missing.remove(&number) else {
            self.counts.duplicates += 1;
            return Place::Duplicate;
        };
        self.counts.received += 1;
        match (via, self.repair) {
            (Via::Retransmission, _) => self.counts.recovered += 1,
            (Via::Media, Repair::InPlace) if missing.asks > 0 => self.counts.recovered += 1,
            (Via::Media, _) => self.counts.reordered += 1,
        }
        Place::Missing
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Gives up what is too late. Answers what to ask for, ascending, and whether anything was
    /// given up.
    pub(crate) fn handle_timeout(
        &mut self,
        round_trip: Duration,
        now: Instant,
    ) -> (Vec<u16>, bool) {
        if self.due.is_none_or(|due| now < due) {
            return (Vec::new(), false);
        }
        let asks = self.repair != Repair::None;
        let pause = (round_trip + round_trip / 4).max(SHORTEST_PAUSE);
        let (mut wanted, mut given_up, mut next) = (Vec::new(), 0, None::<Instant>);
        self.missing.retain(|number, missing| {
            let age = now.saturating_duration_since(missing.since);
            if age >= GIVE_UP_AFTER {
                given_up += 1;
                self.newest_lost = self.newest_lost.max(Some(*number));
                return false;
            }
            if missing.due <= now && asks && missing.asks < MAX_ASKS {
                wanted.push(*number as u16);
                missing.asks += 1;
                missing.due = now + pause;
            }
            if missing.due <= now || missing.asks == MAX_ASKS {
                missing.due = missing.since + GIVE_UP_AFTER;
            }
            next = Some(next.map_or(missing.due, |earlier| earlier.min(missing.due)));
            true
        });
        self.due = next;
        self.counts.asked += wanted.len() as u64;
        self.counts.lost += given_up;
        (wanted, given_up > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn gaps_are_asked_for_again_and_again_and_given_up() {
        let start = Instant::now();
        let mut sequence = Sequence::new(Repair::Aside);
        sequence.handle(65_534, Via::Media, start);
        assert_eq!(
            sequence.handle(2, Via::Media, start),
            Place::Newest { step: 4 }
        );
        assert_eq!(sequence.poll_timeout(), Some(start + REORDER_GRACE));
        assert_eq!(sequence.handle_timeout(ROUND_TRIP, start), (vec![], false));
        let asked = sequence.handle_timeout(ROUND_TRIP, start + ms(5));
        assert_eq!(asked, (vec![65_535, 0, 1], false));
        assert_eq!(
            sequence.handle(0, Via::Retransmission, start + ms(45)),
            Place::Missing
        );
        assert_eq!(
            sequence.handle(1, Via::Media, start + ms(45)),
            Place::Missing
        );
        assert_eq!(
            sequence.handle(1, Via::Media, start + ms(46)),
            Place::Duplicate
        );
        let asked = sequence.handle_timeout(ROUND_TRIP, start + ms(55));
        assert_eq!(asked, (vec![65_535], false));
        let mut given_up = false;
        while let Some(at) = sequence.poll_timeout() {
            given_up |= sequence.handle_timeout(ROUND_TRIP, at).1;
        }
        assert!(given_up);
        let counts = sequence.counts();
        assert_eq!(
            (counts.received, counts.recovered, counts.reordered),
            (4, 1, 1)
        );
        assert_eq!((counts.lost, counts.duplicates), (1, 1));
        assert!((10..=13).contains(&counts.asked), "{}", counts.asked);
        assert_eq!(sequence.expected(), 5);
        assert_eq!(sequence.highest(), 65_538);
    }

    #[test]
    fn without_retransmission_nothing_is_asked_for() {
        let start = Instant::now();
        let mut sequence = Sequence::new(Repair::None);
        sequence.handle(1, Via::Media, start);
        sequence.handle(4, Via::Media, start);
        assert_eq!(
            sequence.handle(3, Via::Media, start + ms(30)),
            Place::Missing
        );
        let at = sequence.poll_timeout().unwrap();
        assert_eq!(sequence.handle_timeout(ROUND_TRIP, at), (vec![], true));
        let counts = sequence.counts();
        assert_eq!((counts.lost, counts.reordered, counts.asked), (1, 1, 0));
        assert_eq!(sequence.poll_timeout(), None);
    }

    #[test]
    fn what_is_sent_again_as_it_was_is_told_from_what_was_late() {
        let start = Instant::now();
        let mut sequence = Sequence::new(Repair::InPlace);
        sequence.handle(1, Via::Media, start);
        sequence.handle(4, Via::Media, start);
        sequence.handle(3, Via::Media, start + ms(2));
        let asked = sequence.handle_timeout(ROUND_TRIP, start + ms(5));
        assert_eq!(asked, (vec![2], false));
        let place = sequence.handle(2, Via::Media, start + ms(45));
        assert_eq!(place, Place::Missing);
        let counts = sequence.counts();
        assert_eq!((counts.reordered, counts.recovered, counts.lost), (1, 1, 0));
    }

    #[test]
    fn a_jump_is_no_loss() {
        let start = Instant::now();
        let mut sequence = Sequence::new(Repair::Aside);
        sequence.handle(1, Via::Media, start);
        assert_eq!(
            sequence.handle(9_000, Via::Media, start),
            Place::Newest { step: 8_999 }
        );
        assert_eq!((sequence.missing(), sequence.expected()), (0, 2));
    }
}
