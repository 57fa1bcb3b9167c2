//! Times as text. Only UTC, only the calendar everybody has.

/// Milliseconds since the Unix epoch as `2026-11-28T06:48:42.123456Z`: as many digits as there are
/// microseconds to tell. More precise than that a float is not.
#[must_use]
pub fn rfc3339(milliseconds: f64) -> String {
    let microseconds = (milliseconds * 1e3).round() as i64;
    let (seconds, fraction) = (
        microseconds.div_euclid(1_000_000),
        microseconds.rem_euclid(1_000_000),
    );
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = match fraction {
        0 => String::new(),
        fraction => format!(".{}", format!("{fraction:06}").trim_end_matches('0')),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Whole seconds since the Unix epoch.
#[must_use]
pub fn seconds(milliseconds: f64) -> i64 {
    (milliseconds / 1e3).floor() as i64
}

/// Days since 1970 as year, month and day. Years are counted from March, so that the day that is
/// missing most years is the last; 400 years always have the same number of days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    //! Known moments.

    use super::*;

    #[test]
    fn known_moments() {
        for (milliseconds, expected) in [
            (0.0, "1970-01-01T00:00:00Z"),
            (951_782_400_000.0, "2000-02-29T00:00:00Z"),
            (951_868_799_999.5, "2000-02-29T23:59:59.9995Z"),
            (1_700_000_000_120.0, "2023-11-14T22:13:20.12Z"),
            (4_107_542_400_000.0, "2100-03-01T00:00:00Z"),
            (-1.0, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(milliseconds), expected);
        }
    }
}
