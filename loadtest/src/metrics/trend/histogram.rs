//! A histogram of floats with three significant digits, in bounded memory.
//!
//! The buckets are those of an HDR histogram, 1024 for each power of two, taken from the bits of the
//! float itself: there is no unit to choose beforehand, so that fractions of a millisecond and
//! gigabits per second are equally precise, and negative values have buckets of their own.
//! Magnitudes below 2⁻⁴⁰ count as 0; those of 2⁶⁴ and more all lie in the last bucket. Which bucket
//! a value lies in depends on nothing else, so histograms are added without any loss.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of the mantissa that tell buckets apart: 10 bits are 0.1 % of the value from bucket to bucket.
const BITS: u32 = 10;
const BUCKETS: usize = 1 << BITS;
const SMALLEST: i16 = -40;
const GREATEST: i16 = 63;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Sparse", into = "Sparse")]
pub(super) struct Histogram {
    count: u64,
    zero: u64,
    negative: Octaves,
    positive: Octaves,
}

/// The buckets of one sign: a power of two has its buckets once it has a value.
#[derive(Debug, Clone, PartialEq, Default)]
struct Octaves(BTreeMap<i16, Box<[u64]>>);

/// As it is written to files: the buckets that hold something, as pairs of number and count. Bucket
/// `1024 * octave + part` begins at `2^octave * (1 + part / 1024)`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sparse {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    negative: Vec<(i32, u64)>,
    #[serde(default)]
    zero: u64,
    positive: Vec<(i32, u64)>,
}

impl Histogram {
    pub(super) fn add(&mut self, value: f64, times: u64) {
        self.count += times;
        match octave_and_part(value.abs()) {
            None => self.zero += times,
            Some(place) if value < 0.0 => self.negative.add(place, times),
            Some(place) => self.positive.add(place, times),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.zero += other.zero;
        self.negative.merge(&other.negative);
        self.positive.merge(&other.positive);
    }

    #[must_use]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The value of a rank, from 0; the greatest one beyond the last.
    #[must_use]
    pub(super) fn nth(&self, rank: u64) -> f64 {
        let below = self
            .negative
            .iter()
            .rev()
            .map(|(octave, part, count)| (-middle(octave, part), count));
        let above = self
            .positive
            .iter()
            .map(|(octave, part, count)| (middle(octave, part), count));
        let mut passed = 0;
        let mut last = 0.0;
        for (value, count) in below.chain(std::iter::once((0.0, self.zero))).chain(above) {
            if count == 0 {
                continue;
            }
            passed += count;
            last = value;
            if passed > rank {
                break;
            }
        }
        last
    }
}

impl Octaves {
    fn add(&mut self, (octave, part): (i16, usize), times: u64) {
        let buckets = self
            .0
            .entry(octave)
            .or_insert_with(|| vec![0; BUCKETS].into());
        buckets[part] += times;
    }

    fn merge(&mut self, other: &Self) {
        for (octave, part, count) in other.iter().filter(|(_, _, count)| *count > 0) {
            self.add((octave, part), count);
        }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (i16, usize, u64)> {
        self.0.iter().flat_map(|(octave, buckets)| {
            buckets
                .iter()
                .enumerate()
                .map(move |(part, count)| (*octave, part, *count))
        })
    }

    fn to_sparse(&self) -> Vec<(i32, u64)> {
        let filled = self.iter().filter(|(_, _, count)| *count > 0);
        filled
            .map(|(octave, part, count)| (i32::from(octave) * BUCKETS as i32 + part as i32, count))
            .collect()
    }

    fn from_sparse(sparse: &[(i32, u64)]) -> Result<Self, String> {
        let mut octaves = Self::default();
        for (bucket, count) in sparse {
            let octave = i16::try_from(bucket.div_euclid(BUCKETS as i32)).ok();
            let octave = octave.filter(|octave| (SMALLEST..=GREATEST).contains(octave));
            let octave = octave.ok_or_else(|| format!("a histogram has no bucket {bucket}"))?;
            octaves.add((octave, bucket.rem_euclid(BUCKETS as i32) as usize), *count);
        }
        Ok(octaves)
    }
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        Self {
            negative: histogram.negative.to_sparse(),
            zero: histogram.zero,
            positive: histogram.positive.to_sparse(),
        }
    }
}

impl TryFrom<Sparse> for Histogram {
    type Error = String;

    fn try_from(sparse: Sparse) -> Result<Self, String> {
        let counts = sparse
            .negative
            .iter()
            .chain(&sparse.positive)
            .map(|(_, count)| *count);
        let count = counts
            .chain([sparse.zero])
            .try_fold(0_u64, u64::checked_add);
        Ok(Self {
            count: count.ok_or("a histogram counts more values than there can be")?,
            zero: sparse.zero,
            negative: Octaves::from_sparse(&sparse.negative)?,
            positive: Octaves::from_sparse(&sparse.positive)?,
        })
    }
}

/// Where a magnitude belongs; `None` is 0.
fn octave_and_part(magnitude: f64) -> Option<(i16, usize)> {
    let bits = magnitude.to_bits();
    let octave = (bits >> 52) as i16 - 1023;
    if octave < SMALLEST {
        return None;
    }
    if octave > GREATEST {
        return Some((GREATEST, BUCKETS - 1));
    }
    Some((octave, (bits >> (52 - BITS)) as usize & (BUCKETS - 1)))
}

/// The middle of a bucket: no value in it is further away than 0.05 %.
fn middle(octave: i16, part: usize) -> f64 {
    f64::from(octave).exp2() * (1.0 + (part as f64 + 0.5) / BUCKETS as f64)
}
