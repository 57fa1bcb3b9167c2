//! Durations as people write them in options, `1h30m10s500ms`, and as they are shown.
//!
//! The form is that of the Go language, with `d` for days on top. A number without a unit is
//! milliseconds.

use std::time::Duration;

/// What each unit is in nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The longest that is accepted, about 292 years: sums of several cannot overflow.
const LONGEST: u128 = i64::MAX as u128;

/// What a duration has to look like, for messages.
pub(crate) const EXPECTED: &str =
    "a duration that is not negative, such as \"1h30m10s500ms\", or a number of milliseconds";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {EXPECTED}")]
pub struct DurationError;

/// # Errors
/// When it is not of the form, negative, or longer than 292 years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return nanos(fixed(text, 1_000_000)?);
    }
    let mut rest = text;
    let mut total = 0_u128;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(DurationError)?;
        let (value, tail) = rest.split_at(number);
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let (_, length) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(DurationError)?;
        total = total
            .checked_add(fixed(value, *length)?)
            .ok_or(DurationError)?;
        rest = tail;
    }
    nanos(total)
}

/// # Errors
/// When it is negative, not a number, or longer than 292 years.
pub fn from_millis(millis: f64) -> Result<Duration, DurationError> {
    // What is beyond the range of u128 becomes its largest value, which is too long.
    let value = match millis.is_finite() && millis >= 0.0 {
        true => (millis * 1e6).round() as u128,
        false => return Err(DurationError),
    };
    nanos(value)
}

/// `0s`, `1.5µs`, `500ms`, `10s`, `1m0s`, `1h30m0.5s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {}
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// How long something has lasted out of `longest`, always equally many characters: `02m10.3s` of
/// twelve minutes, `2m10.3s` of nine.
#[must_use]
pub fn format_fixed(duration: Duration, longest: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    let (minutes, seconds) = (tenths / 600, tenths % 600);
    let seconds = format!("{:02}.{}s", seconds / 10, seconds % 10);
    let most = longest.as_secs() / 60;
    if most < 60 {
        let width = digits(most);
        return format!("{minutes:0width$}m{seconds}");
    }
    let width = digits(most / 60);
    format!("{:0width$}h{:02}m{seconds}", minutes / 60, minutes % 60)
}

pub(crate) fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn nanos(nanos: u128) -> Result<Duration, DurationError> {
    if nanos > LONGEST {
        return Err(DurationError);
    }
    Ok(Duration::from_nanos(
        u64::try_from(nanos).expect("it is at most i64::MAX"),
    ))
}

/// `text`, digits with at most one point, times `unit`; what is below one is cut off.
fn fixed(text: &str, unit: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError);
    }
    let number = |digits: &str| match digits {
        "" => Ok(0),
        digits => digits.parse::<u128>().map_err(|_| DurationError),
    };
    // The unit is below 10^14 and so many digits below 10^18: their product fits.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).expect("it is at most 18"));
    number(whole)?
        .checked_mul(unit)
        .and_then(|whole| whole.checked_add(number(fraction).ok()? * unit / scale))
        .ok_or(DurationError)
}

/// `value / unit` without zeros at the end. `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{fraction:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("1h30m10s500ms", 5_410_500 * MS),
            ("0", 0),
            ("0s", 0),
            ("1500", 1_500 * MS),
            ("1.5", 1_500_000),
            ("1.5s", 1_500 * MS),
            (".5s", 500 * MS),
            ("1.s", 1_000 * MS),
            ("2d", 172_800_000 * MS),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
            ("1m1m", 120_000 * MS),
            ("0.0000000000000000001s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            ".",
            "s",
            "10x",
            "-1s",
            "1.2.3s",
            "1s ",
            " 1s",
            "10s5",
            "1e3",
            "300000000h",
            "1µ",
            "99999999999999999999999999999999999999999s",
            "٣s",
        ] {
            assert_eq!(parse(text), Err(DurationError), "{text:?}");
        }
        for millis in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(from_millis(millis), Err(DurationError), "{millis}");
        }
        assert_eq!(from_millis(0.5), Ok(Duration::from_micros(500)));
    }

    #[test]
    fn durations_are_shown() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500 * MS, "500ms"),
            (1_500_000, "1.5ms"),
            (10_000 * MS, "10s"),
            (60_000 * MS, "1m0s"),
            (730_000 * MS, "12m10s"),
            (5_400_500 * MS, "1h30m0.5s"),
            (90_000_000 * MS, "25h0m0s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)));
        }
    }

    #[test]
    fn fixed_width_follows_the_longest() {
        for (millis, longest, text) in [
            (130_300, 730, "02m10.3s"),
            (120_399, 540, "2m00.3s"),
            (0, 10, "0m00.0s"),
            (9_990, 10, "0m09.9s"),
            (3_661_000, 3_700, "1h01m01.0s"),
            (61_000, 36_000, "00h01m01.0s"),
            (6_100_000, 540, "101m40.0s"),
        ] {
            let longest = Duration::from_secs(longest);
            assert_eq!(format_fixed(Duration::from_millis(millis), longest), text);
        }
    }
}
