//! Which part of a test one of several instances runs.
//!
//! Everything that is counted in a test - VUs, iterations - is numbered, and each number belongs to
//! one instance. So the instances together make the whole exactly, whatever the counts are, and when
//! a count grows no number changes hands.

mod fraction;
mod share;

use std::fmt;
use std::str::FromStr;

pub use fraction::{Fraction, FractionError};
pub use share::{Share, ShareError};

/// Each says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Fraction(#[from] FractionError),
    #[error("a segment that ends behind its beginning: {from} does not come before {to}")]
    Empty { from: Fraction, to: Fraction },
    #[error("a sequence that grows: {first} does not come before {second}")]
    NotAscending { first: Fraction, second: Fraction },
}

/// A part of the whole, from one fraction of it to another: `0:1/3`, or `1/3` for short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    from: Fraction,
    to: Fraction,
}

impl Segment {
    pub const WHOLE: Self = Self {
        from: Fraction::ZERO,
        to: Fraction::ONE,
    };

    /// # Errors
    /// When nothing lies between the two.
    pub fn new(from: Fraction, to: Fraction) -> Result<Self, SegmentError> {
        match from < to {
            true => Ok(Self { from, to }),
            false => Err(SegmentError::Empty { from, to }),
        }
    }

    #[must_use]
    pub fn from(&self) -> Fraction {
        self.from
    }

    #[must_use]
    pub fn to(&self) -> Fraction {
        self.to
    }

    /// Whether the whole can be cut into equal parts of which this is one.
    #[must_use]
    pub fn is_nth(&self) -> bool {
        let share = Share::new(Some(*self), None);
        share.is_ok_and(|share| share.is_one_part())
    }
}

impl FromStr for Segment {
    type Err = SegmentError;

    fn from_str(text: &str) -> Result<Self, SegmentError> {
        match text.split_once(':') {
            Some((from, to)) => Self::new(from.parse()?, to.parse()?),
            None => Self::new(Fraction::ZERO, text.parse()?),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.from, self.to)
    }
}

/// Where the segments of all instances end: `0,1/3,2/3,1`. What lies before the first and behind
/// the last is a segment too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence(Vec<Fraction>);

impl Sequence {
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        self.0.windows(2).map(|ends| Segment {
            from: ends[0],
            to: ends[1],
        })
    }
}

impl FromStr for Sequence {
    type Err = SegmentError;

    fn from_str(text: &str) -> Result<Self, SegmentError> {
        let mut ends = Vec::new();
        for end in text.split(',') {
            ends.push(end.trim().parse()?);
        }
        if ends.first() != Some(&Fraction::ZERO) {
            ends.insert(0, Fraction::ZERO);
        }
        if ends.last() != Some(&Fraction::ONE) {
            ends.push(Fraction::ONE);
        }
        for pair in ends.windows(2) {
            if pair[0] >= pair[1] {
                return Err(SegmentError::NotAscending {
                    first: pair[0],
                    second: pair[1],
                });
            }
        }
        Ok(Self(ends))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, end) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{end}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
