//! Numbers of data messages, by which a receiver sees that some did not come.
//!
//! Who sends counts for each circle of receivers apart, and reliable messages apart from others: what is
//! not for somebody is not missed by them. What a receiver misses lies between the first and the newest
//! that came; before and behind nobody can tell.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use crate::transport::data::Reliability;

/// Circles that are counted; messages to others bear no number.
const MAX_CIRCLES: usize = 256;
/// Senders' circles that are kept in mind.
const MAX_SERIES: usize = 16_384;
/// A message that is so much older than the newest and comes all the same was counted as missing.
const WINDOW: u32 = 64;

/// What a message bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// Drawn by lot, so that nobody else has it.
    pub(super) series: u32,
    pub(super) place: u32,
}

/// Of one sender.
#[derive(Debug, Default)]
pub(in crate::user) struct Sending {
    circles: BTreeMap<(bool, Vec<String>), Number>,
}

impl Sending {
    /// Of the next message.
    pub(super) fn number(
        &mut self,
        reliability: Reliability,
        to: &[String],
        rng: &mut StdRng,
    ) -> Option<Number> {
        let circle = (reliability == Reliability::Reliable, to.to_vec());
        if !self.circles.contains_key(&circle) && self.circles.len() == MAX_CIRCLES {
            return None;
        }
        let number = self.circles.entry(circle).or_insert_with(|| Number {
            series: rng.random(),
            place: 0,
        });
        Some(*number)
    }

    /// The last one was sent.
    pub(super) fn advance(&mut self, reliability: Reliability, to: &[String]) {
        let circle = (reliability == Reliability::Reliable, to.to_vec());
        if let Some(number) = self.circles.get_mut(&circle) {
            number.place = number.place.wrapping_add(1);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Series {
    newest: u32,
    /// One bit for the newest and each before it that came.
    seen: u64,
}

/// Of one receiver.
#[derive(Debug, Default)]
pub(in crate::user) struct Arrivals {
    series: BTreeMap<u32, Series>,
    /// That came or were missed.
    pub(in crate::user) expected: u64,
    pub(in crate::user) came: u64,
}

impl Arrivals {
    pub(super) fn handle(&mut self, number: Number) {
        let Some(series) = self.series.get_mut(&number.series) else {
            if self.series.len() < MAX_SERIES {
                let first = Series {
                    newest: number.place,
                    seen: 1,
                };
                self.series.insert(number.series, first);
                self.expected += 1;
                self.came += 1;
            }
            return;
        };
        let step = number.place.wrapping_sub(series.newest);
        if step.cast_signed() > 0 {
            self.expected += u64::from(step);
            self.came += 1;
            series.newest = number.place;
            series.seen = series.seen.checked_shl(step).unwrap_or(0) | 1;
            return;
        }
        let age = step.wrapping_neg();
        let bit = 1_u64.checked_shl(age).filter(|_| age < WINDOW);
        // One that is older than the first that came was never expected, as its bit tells as little as that
        // of one which came twice.
        if let Some(bit) = bit.filter(|bit| series.seen & bit == 0) {
            series.seen |= bit;
            self.came = (self.came + 1).min(self.expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn arrivals(places: &[u32]) -> (u64, u64) {
        let mut arrivals = Arrivals::default();
        let numbers = places.iter().map(|place| Number {
            series: 7,
            place: *place,
        });
        numbers.for_each(|it| arrivals.handle(it));
        (arrivals.expected, arrivals.came)
    }

    #[test]
    fn what_lies_between_is_missed() {
        for (places, expected) in [
            (&[5, 6, 7][..], (3, 3)),
            (&[5, 9], (5, 2)),
            (&[5, 9, 7], (5, 3)),
            (&[5, 9, 7, 7, 9], (5, 3)),
            (&[u32::MAX, 1], (3, 2)),
            (&[5, 205, 105], (201, 2)),
            // Older than the first.
            (&[5, 4], (1, 1)),
        ] {
            assert_eq!(arrivals(places), expected, "{places:?}");
        }
    }

    #[test]
    fn each_circle_is_counted_apart() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sending = Sending::default();
        let everybody: &[String] = &[];
        let ann = ["ann".to_owned()];
        let mut next = |how, to: &[String]| {
            let number = sending.number(how, to, &mut rng).unwrap();
            sending.advance(how, to);
            number
        };
        let first = next(Reliability::Lossy, everybody);
        let to_ann = next(Reliability::Lossy, &ann);
        let reliable = next(Reliability::Reliable, everybody);
        let second = next(Reliability::Lossy, everybody);
        assert_eq!((first.place, second.place), (0, 1));
        assert_eq!(first.series, second.series);
        assert_eq!((to_ann.place, reliable.place), (0, 0));
        let mut series = [first.series, to_ann.series, reliable.series];
        series.sort_unstable();
        assert!(series.windows(2).all(|it| it[0] != it[1]), "{series:?}");
    }
}
