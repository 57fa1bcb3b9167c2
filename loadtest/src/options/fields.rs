//! Reads the values of one JSON object, each as what it should be, and notes what is wrong.
//!
//! A value that is `null` is one that was not given. Numbers and booleans may be strings: what a
//! script takes from its environment is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;
use super::problems::{Problems, shown};

pub(super) struct Fields<'a> {
    at: String,
    /// What a value is called where it was given, if that is not its key.
    names: BTreeMap<&'static str, String>,
    map: &'a Map<String, Value>,
    /// All keys that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Value, at: &str, problems: &mut Problems) -> Option<Self> {
        let Value::Object(map) = value else {
            problems.add(at, shown(value), "an object");
            return None;
        };
        Some(Self {
            at: at.to_owned(),
            names: BTreeMap::new(),
            map,
            known: Vec::new(),
        })
    }

    /// Where each value has a name of its own, as environment variables have.
    pub(super) fn named(
        map: &'a Map<String, Value>,
        names: BTreeMap<&'static str, String>,
    ) -> Self {
        Self {
            at: String::new(),
            names,
            map,
            known: Vec::new(),
        }
    }

    pub(super) fn at(&self, key: &str) -> String {
        match self.names.get(key) {
            Some(name) => name.clone(),
            None => format!("{}.{key}", self.at),
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.iter().filter(|(_, value)| !value.is_null())
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether it was given; if not, that is a problem.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        expected: &str,
        problems: &mut Problems,
    ) -> bool {
        let given = self.value(key).is_some();
        if !given {
            problems.add(self.at(key), "it is missing", expected);
        }
        given
    }

    /// `absent` if it was not given, `bad` if it is no whole number.
    pub(super) fn count_or(
        &mut self,
        key: &'static str,
        absent: u64,
        bad: u64,
        problems: &mut Problems,
    ) -> u64 {
        match self.value(key) {
            None => absent,
            Some(_) => self.count(key, problems).unwrap_or(bad),
        }
    }

    pub(super) fn count(&mut self, key: &'static str, problems: &mut Problems) -> Option<u64> {
        /// The whole numbers of JavaScript end here.
        const LARGEST: f64 = 9_007_199_254_740_991.0;
        let whole = |number: f64| {
            let fits = number.fract() == 0.0 && (0.0..=LARGEST).contains(&number);
            fits.then_some(number as u64)
        };
        self.parse(
            key,
            "a whole number, at least 0",
            problems,
            |value| match value {
                Value::Number(number) => {
                    number.as_u64().or_else(|| number.as_f64().and_then(whole))
                }
                Value::String(text) => text.parse().ok(),
                _ => None,
            },
        )
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Duration> {
        self.parse(key, duration::EXPECTED, problems, |value| match value {
            Value::Number(number) => duration::from_millis(number.as_f64()?).ok(),
            Value::String(text) => duration::parse(text).ok(),
            _ => None,
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        self.parse(key, "true or false", problems, |value| match value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        })
    }

    pub(super) fn text(&mut self, key: &'static str, problems: &mut Problems) -> Option<String> {
        self.parse(key, "a string", problems, |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub(super) fn texts(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<String>> {
        self.parse(key, "an array of strings", problems, |value| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            value.as_array()?.iter().map(text).collect()
        })
    }

    pub(super) fn map(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<BTreeMap<String, String>> {
        self.parse(key, "an object with strings as values", problems, |value| {
            let entry =
                |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            value.as_object()?.iter().map(entry).collect()
        })
    }

    /// A value that `read` can read; otherwise it is no `expected`.
    pub(super) fn parse<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let parsed = read(value);
        if parsed.is_none() {
            problems.add(self.at(key), shown(value), expected);
        }
        parsed
    }

    /// Those that nobody asked for.
    pub(super) fn others(&self) -> impl Iterator<Item = &'a str> {
        let keys = self.map.keys().map(String::as_str);
        keys.filter(|key| !self.known.contains(key))
    }

    pub(super) fn refuse_others(&self, of: &str, problems: &mut Problems) {
        for key in self.others() {
            problems.add(
                self.at(key),
                format!("{of} has no such key"),
                format!("only {}", self.known.join(", ")),
            );
        }
    }
}
