//! What is wrong with a configuration: all of it, so that one look is enough to mend it.

use std::fmt;

use serde_json::Value;

/// Longer values are shown with their end cut off.
const SHOWN: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said, and under what name.
    pub what: String,
    pub given: String,
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; expected {}",
            self.what, self.given, self.expected
        )
    }
}

/// One line each when shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(
        &mut self,
        what: impl Into<String>,
        given: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.0.push(Problem {
            what: what.into(),
            given: given.into(),
            expected: expected.into(),
        });
    }

    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// `value`, if nothing was wrong.
    ///
    /// # Errors
    /// When there is a problem.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        match self.is_empty() {
            true => Ok(value),
            false => Err(self),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value as it was given, short enough to be read in a message.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
