//! A fraction of the whole, exactly.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fractions from 0 to 1 such as 1/3, 0.25, 25% or 1, not {0:?}")]
pub struct FractionError(String);

/// From 0 to 1, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    numerator: u64,
    denominator: u64,
}

impl Fraction {
    pub const ZERO: Self = Self {
        numerator: 0,
        denominator: 1,
    };
    pub const ONE: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// If it is from 0 to 1.
    #[must_use]
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        if denominator == 0 || numerator > denominator {
            return None;
        }
        let divisor = gcd(numerator, denominator);
        Some(Self {
            numerator: numerator / divisor,
            denominator: denominator / divisor,
        })
    }

    pub(super) fn denominator(self) -> u64 {
        self.denominator
    }

    /// This fraction of `whole`, if that is a whole number.
    pub(super) fn of(self, whole: u64) -> Option<u64> {
        whole
            .is_multiple_of(self.denominator)
            .then(|| (whole / self.denominator).checked_mul(self.numerator))
            .flatten()
    }

    /// Of a text of digits with at most one point, and so many places further to the right.
    fn decimal(text: &str, places: u32) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let places = u32::try_from(fraction.len()).ok()?.checked_add(places)?;
        Self::new(digits.parse().ok()?, 10_u64.checked_pow(places)?)
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(self.numerator, other.denominator).cmp(&product(other.numerator, self.denominator))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Fraction {
    type Err = FractionError;

    fn from_str(text: &str) -> Result<Self, FractionError> {
        let fraction = match (text.split_once('/'), text.strip_suffix('%')) {
            (Some((numerator, denominator)), _) => whole(numerator)
                .zip(whole(denominator))
                .and_then(|(numerator, denominator)| Self::new(numerator, denominator)),
            (None, Some(percent)) => Self::decimal(percent, 2),
            (None, None) => Self::decimal(text, 0),
        };
        fraction.ok_or_else(|| FractionError(text.to_owned()))
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

/// Digits only: the standard library would take a sign too.
fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}
