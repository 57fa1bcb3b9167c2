//! Amounts with their unit: bit rates and sizes of data. Arithmetic saturates, since both are computed
//! from what remote parties report.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::time::Duration;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// `a * b / c`, in 64 bits where that is enough: a division of 128 takes many times as long. `None`: `c` is
/// zero.
#[inline]
fn scaled(a: u64, b: u64, c: u64) -> Option<u64> {
    match a.checked_mul(b) {
        Some(product) => product.checked_div(c),
        None => {
            let quotient = (u128::from(a) * u128::from(b)).checked_div(u128::from(c))?;
            Some(u64::try_from(quotient).unwrap_or(u64::MAX))
        }
    }
}

/// 584 years at most.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Bits per second.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(u64);

impl Bitrate {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(u64::MAX);

    pub const fn from_bps(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    pub const fn from_kbps(kilobits_per_second: u64) -> Self {
        Self(kilobits_per_second.saturating_mul(1_000))
    }

    pub const fn as_bps(self) -> u64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// A negative factor, or none at all, gives zero.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as u64)
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What is carried in this time.
    pub fn during(self, time: Duration) -> DataSize {
        DataSize(scaled(self.0, nanos(time), 8 * NANOS_PER_SEC).unwrap_or_default())
    }
}

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.0)
    }
}

impl Add for Bitrate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bitrate {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bitrate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Add::add)
    }
}

/// Bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataSize(u64);

impl DataSize {
    pub const ZERO: Self = Self(0);

    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The rate that carries this in that time; none if there was no time.
    pub fn over(self, time: Duration) -> Option<Bitrate> {
        scaled(self.0, 8 * NANOS_PER_SEC, nanos(time)).map(Bitrate)
    }

    /// How long this takes at that rate; an hour at most.
    pub fn at(self, rate: Bitrate) -> Duration {
        const LONGEST: Duration = Duration::from_secs(3600);
        scaled(self.0, 8 * NANOS_PER_SEC, rate.0)
            .map_or(LONGEST, |nanos| Duration::from_nanos(nanos).min(LONGEST))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for DataSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

impl Add for DataSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for DataSize {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_sizes_and_times_agree() {
        let rate = Bitrate::from_kbps(800);
        let time = Duration::from_millis(250);
        let size = DataSize::from_bytes(25_000);
        assert_eq!(rate.during(time), size);
        assert_eq!(size.over(time), Some(rate));
        assert_eq!(size.at(rate), time);
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(Bitrate::MAX + Bitrate::MAX, Bitrate::MAX);
        assert_eq!(Bitrate::MAX.scale(2.0), Bitrate::MAX);
        assert_eq!(Bitrate::MAX.scale(-1.0), Bitrate::ZERO);
        assert_eq!(Bitrate::MAX.scale(f64::NAN), Bitrate::ZERO);
        assert_eq!(
            Bitrate::MAX.during(Duration::MAX),
            DataSize::from_bytes(u64::MAX)
        );
        assert_eq!(DataSize::from_bytes(1).over(Duration::ZERO), None);
        assert_eq!(
            DataSize::from_bytes(u64::MAX).at(Bitrate::from_bps(1)),
            Duration::from_secs(3600)
        );
        assert_eq!(
            DataSize::from_bytes(1).at(Bitrate::ZERO),
            Duration::from_secs(3600)
        );
    }
}
