//! Query strings. They hold the token, so nothing here may be logged or printed.

use std::borrow::Cow;
use std::fmt;

/// The parameters of a request, decoded. Of a repeated name the first counts.
#[derive(Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(
            pairs
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// `None` also for an empty value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        (!value.is_empty()).then_some(value)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "1" || value == "true")
    }

    pub(crate) fn number(&self, name: &str) -> i32 {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// Percent escapes and `+`. What is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match tail {
                [high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                    bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                    rest = tail;
                }
                _ => bytes.push(b'%'),
            },
            byte => bytes.push(*byte),
        }
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
        Cow::Owned(text) => text,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("a=1&b=x%20y+z&c&d=%zz%4&=&e=%C3%A9&a=2&f=true&g=0");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b"), Some("x y z"));
        assert_eq!(query.get("c"), None);
        assert_eq!(query.get("d"), Some("%zz%4"));
        assert_eq!(query.get("e"), Some("é"));
        assert_eq!(
            (query.flag("f"), query.flag("g"), query.flag("h")),
            (Some(true), Some(false), None)
        );
        assert_eq!((query.number("a"), query.number("b")), (1, 0));
    }

    #[test]
    fn values_are_not_printed() {
        let query = Query::parse("access_token=secret&sdk=js");
        assert_eq!(format!("{query:?}"), r#"["access_token", "sdk"]"#);
    }
}
