//! Numbers as people read them: times, bytes, shares, counts.

#[cfg(test)]
mod tests;

use crate::metrics::Contains;
use crate::options::TimeUnit;

/// A value of what the metric contains.
#[must_use]
pub fn value(value: f64, contains: Contains, unit: Option<TimeUnit>) -> String {
    match contains {
        Contains::Default => number(value),
        Contains::Time => time(value, unit),
        Contains::Data => bytes(value),
    }
}

/// Six decimals at most, fewer of large numbers, and no zeros at their end.
#[must_use]
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude < 1e3 => 6,
        magnitude if magnitude < 1e6 => 2,
        _ => 0,
    };
    trimmed(&format!("{value:.decimals$}"))
}

/// A share in per cent: two decimals, cut off, so that 99.999 % is not 100 %.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.2}%", cut(share * 100.0, 2))
}

/// Milliseconds in a unit that suits them, or in the one that is wanted.
#[must_use]
pub fn time(milliseconds: f64, unit: Option<TimeUnit>) -> String {
    match unit {
        Some(TimeUnit::Seconds) => return format!("{:.2}s", milliseconds / 1e3),
        Some(TimeUnit::Milliseconds) => return format!("{milliseconds:.2}ms"),
        Some(TimeUnit::Microseconds) => return format!("{:.2}µs", milliseconds * 1e3),
        None => {}
    }
    let (sign, milliseconds) = if milliseconds < 0.0 {
        ("-", -milliseconds)
    } else {
        ("", milliseconds)
    };
    let text = if milliseconds == 0.0 {
        return "0s".to_owned();
    } else if milliseconds < 1e-3 {
        format!("{}ns", (milliseconds * 1e6).round())
    } else if milliseconds < 1.0 {
        format!("{}µs", two_decimals(milliseconds * 1e3))
    } else if milliseconds < 1e3 {
        format!("{}ms", two_decimals(milliseconds))
    } else if milliseconds < 60e3 {
        format!("{}s", two_decimals(milliseconds / 1e3))
    } else {
        let seconds = (milliseconds / 1e3) as u64;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            format!("{hours}h{minutes}m{seconds}s")
        } else {
            format!("{minutes}m{seconds}s")
        }
    };
    format!("{sign}{text}")
}

/// Bytes, in steps of a thousand; one decimal below ten.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let magnitude = bytes.abs();
    if magnitude < 1e3 {
        return format!("{} B", bytes.round());
    }
    let (mut scaled, mut unit) = (magnitude / 1e3, 0);
    // What would be rounded to a thousand is one of the next unit.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1e3;
        unit += 1;
    }
    let digits = usize::from(scaled < 9.95);
    let sign = if bytes < 0.0 { "-" } else { "" };
    format!("{sign}{scaled:.digits$} {}", UNITS[unit])
}

/// At most two decimals, cut off, without zeros at their end.
fn two_decimals(value: f64) -> String {
    trimmed(&format!("{:.2}", cut(value, 2)))
}

/// Cuts decimals off. What is a whole number but for how floats are stored is left whole: 1.89 is
/// not 1.88.
fn cut(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    let scaled = value * scale;
    let nearest = scaled.round();
    let whole = if (scaled - nearest).abs() < 1e-6 {
        nearest
    } else {
        scaled.trunc()
    };
    whole / scale
}

fn trimmed(text: &str) -> String {
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    };
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}
