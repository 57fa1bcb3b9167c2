//! From text to final types. Each function's error is a predicate that completes
//! "the value …", so that it can stand behind the name of any setting.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Secret;

pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub fn ip_addr(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "is not an IP address".to_owned())
}

pub fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "is not an address with a port, like 127.0.0.1:7880 or [::1]:7880".to_owned())
}

pub fn socket_addrs(text: &str) -> Result<Vec<SocketAddr>, String> {
    list(socket_addr)(text)
}

pub fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err("is not a port number (1-65535)".to_owned()),
    }
}

/// `5s`, `100ms`, `2m`, `3h`, and sums of them such as `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || "is not a duration, like 5s, 100ms, 2m or 1h30m".to_owned();
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let seconds = match &rest[..letters] {
            "ms" => 0,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(refused()),
        };
        let part = match seconds {
            0 => Some(Duration::from_millis(number)),
            seconds => number.checked_mul(seconds).map(Duration::from_secs),
        };
        sum = part
            .and_then(|part| sum.checked_add(part))
            .ok_or_else(refused)?;
        rest = &rest[letters..];
    }
    Ok(sum)
}

/// A whole number within `range`.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "is not a whole number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// A number with a fraction within `range`.
pub fn fraction(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "is not a number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// What `value` reads, or `off`.
pub fn or_off<T>(
    value: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text {
        "off" => Ok(None),
        text => value(text)
            .map(Some)
            .map_err(|error| format!("{error} or off")),
    }
}

/// One of several words.
pub fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(format!("is not one of {}", words.join(", ")))
        }
    }
}

/// Separated by commas; spaces around them do not count.
pub fn list<T>(
    item: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Vec<T>, String> {
    move |text| {
        let one = |text: &str| item(text).map_err(|what| format!("has {text:?}, which {what}"));
        text.split(',').map(str::trim).map(one).collect()
    }
}

/// Any type that parses itself; its error should complete "is not valid: …".
pub fn from_str<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err: fmt::Display>,
{
    text.parse()
        .map_err(|error| format!("is not valid: {error}"))
}

/// A secret long enough for HMAC-SHA256.
pub fn secret(text: &str) -> Result<Secret, String> {
    secret_of_at_least(32)(text)
}

pub fn secret_of_at_least(bytes: usize) -> impl Fn(&str) -> Result<Secret, String> {
    move |text| Secret::new(text, bytes).map_err(|weak| weak.to_string())
}
