//! Which numbers belong to this instance.

use std::sync::Arc;

use super::fraction::{Fraction, gcd};
use super::{Segment, Sequence};

/// The pattern of numbers repeats after at most so many. More: finer segments. Fewer: less memory
/// and time when a test starts.
const LONGEST_PERIOD: u64 = 10_000;

/// Each says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("an execution segment beside the execution segment sequence")]
    NoSegment,
    #[error("a segment of the sequence {sequence}")]
    NotInSequence { sequence: Sequence },
    #[error("simpler fractions: the common denominator of all ends is above {LONGEST_PERIOD}")]
    TooFine,
}

/// The numbers, from 0, that belong to one instance: a pattern that repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    period: u64,
    /// Within the period, ascending.
    ours: Arc<[u64]>,
}

impl Share {
    /// The only instance's: all numbers.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            period: 1,
            ours: Arc::new([0]),
        }
    }

    /// What belongs to the instance of `segment`, when all instances have the segments of
    /// `sequence`.
    ///
    /// Without a sequence the whole is cut into as many equal parts as the ends of the segment
    /// ask for, and the parts take turns. All instances have to agree about that: segments with
    /// ends of different denominators, `0:1/2` beside `1/2:3/4`, need the sequence.
    ///
    /// # Errors
    /// When the segment is not in the sequence, or there is only a sequence.
    pub fn new(segment: Option<Segment>, sequence: Option<&Sequence>) -> Result<Self, ShareError> {
        let Some(sequence) = sequence else {
            return Self::of_equal_parts(segment.unwrap_or(Segment::WHOLE));
        };
        let segment = segment.ok_or(ShareError::NoSegment)?;
        let segments: Vec<Segment> = sequence.segments().collect();
        let place = segments.iter().position(|each| *each == segment);
        let place = place.ok_or_else(|| ShareError::NotInSequence {
            sequence: sequence.clone(),
        })?;
        let period = common_denominator(segments.iter().map(Segment::to))?;
        let weights: Vec<u64> = segments
            .iter()
            .map(|segment| within(segment.to(), period) - within(segment.from(), period))
            .collect();
        let turns = turns(&weights, period);
        let ours = (0..).zip(turns).filter(|(_, turn)| *turn == place);
        Ok(Self {
            period,
            ours: ours.map(|(number, _)| number).collect(),
        })
    }

    fn of_equal_parts(segment: Segment) -> Result<Self, ShareError> {
        let period = common_denominator([segment.from(), segment.to()].into_iter())?;
        Ok(Self {
            period,
            ours: (within(segment.from(), period)..within(segment.to(), period)).collect(),
        })
    }

    /// How many of the first `total` numbers are ours.
    #[must_use]
    pub fn count(&self, total: u64) -> u64 {
        let in_rest = self
            .ours
            .partition_point(|number| *number < total % self.period);
        total / self.period * self.ours.len() as u64 + in_rest as u64
    }

    /// The number that is ours after `before` others of ours; none if nothing is ours.
    #[must_use]
    pub fn nth(&self, before: u64) -> Option<u64> {
        let each = self.ours.len() as u64;
        let periods = before.checked_div(each)?;
        let place = usize::try_from(before % each).expect("it is below a length");
        periods
            .checked_mul(self.period)?
            .checked_add(self.ours[place])
    }

    /// The share of what `vus` VUs do in turn: only an instance that has some of them has a part
    /// of it.
    #[must_use]
    pub fn among(&self, vus: u64) -> Self {
        if *self == Self::whole() || vus == 0 {
            return self.clone();
        }
        let numbers = (0..self.count(vus)).filter_map(|before| self.nth(before));
        Self {
            period: vus,
            ours: numbers.collect(),
        }
    }

    pub(super) fn is_one_part(&self) -> bool {
        self.ours.len() == 1
    }

    /// How much of the whole this is, from 0 to 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ours.len() as f64 / self.period as f64
    }
}

fn within(end: Fraction, period: u64) -> u64 {
    end.of(period)
        .expect("the period is a multiple of all denominators")
}

fn common_denominator(ends: impl Iterator<Item = Fraction>) -> Result<u64, ShareError> {
    let mut common = 1_u64;
    for end in ends {
        let denominator = end.denominator();
        let factor = denominator / gcd(common, denominator);
        common = common
            .checked_mul(factor)
            .filter(|common| *common <= LONGEST_PERIOD)
            .ok_or(ShareError::TooFine)?;
    }
    Ok(common)
}

/// Whose each number of a period is, so that after any of them everybody has their weight's share
/// rounded up or down. Of those who would not be above that, the one comes who would be below it
/// first.
fn turns(weights: &[u64], period: u64) -> Vec<usize> {
    let mut had = vec![0_u64; weights.len()];
    let mut turns = Vec::new();
    for number in 1..=period {
        let may = |i: &usize| had[*i] * period < number * weights[*i];
        let due = |i: &usize| ((had[*i] + 1) * period).div_ceil(weights[*i]);
        let next = (0..weights.len())
            .filter(may)
            .min_by_key(due)
            .expect("shares add up to the number, so somebody is below theirs");
        had[next] += 1;
        turns.push(next);
    }
    turns
}
