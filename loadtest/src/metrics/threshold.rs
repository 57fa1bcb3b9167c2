//! What thresholds are written in: `p(95)<500` on `metric{tag:value}`.
//!
//! ```text
//! assertion   = aggregation ws* operator ws* number
//! aggregation = "count" | "rate" | "value" | "avg" | "min" | "max" | "med" | "p(" number ")"
//! operator    = ">" | ">=" | "<=" | "<" | "==" | "===" | "!="
//! ```

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::registry::TagSet;
use super::trend::percent;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    Count,
    Rate,
    Value,
    Avg,
    Min,
    Max,
    Med,
    /// 0 to 100.
    Percentile(f64),
}

impl Aggregation {
    #[must_use]
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Count => kind == Kind::Counter,
            Self::Rate => matches!(kind, Kind::Counter | Kind::Rate),
            Self::Value => kind == Kind::Gauge,
            Self::Avg | Self::Min | Self::Max | Self::Med | Self::Percentile(_) => {
                kind == Kind::Trend
            }
        }
    }

    /// What can be asked of a metric, in words.
    #[must_use]
    pub fn supported(kind: Kind) -> &'static str {
        match kind {
            Kind::Counter => "count and rate",
            Kind::Gauge => "value",
            Kind::Rate => "rate",
            Kind::Trend => "avg, min, max, med and p(0..100)",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "count" => Some(Self::Count),
            "rate" => Some(Self::Rate),
            "value" => Some(Self::Value),
            "avg" => Some(Self::Avg),
            "min" => Some(Self::Min),
            "max" => Some(Self::Max),
            "med" => Some(Self::Med),
            text => percent(text).map(Self::Percentile),
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Rate => f.write_str("rate"),
            Self::Value => f.write_str("value"),
            Self::Avg => f.write_str("avg"),
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
            Self::Med => f.write_str("med"),
            Self::Percentile(percent) => write!(f, "p({percent})"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Operator {
    /// As they are written; those that begin alike from the longest to the shortest.
    const WRITTEN: [(&'static str, Self); 7] = [
        ("===", Self::Equal),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">=", Self::GreaterOrEqual),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        ("<", Self::Less),
    ];

    #[must_use]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}

/// What is expected of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    /// As it was written.
    text: String,
    pub aggregation: Aggregation,
    pub operator: Operator,
    pub limit: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    #[error(
        "'{0}' is not a threshold: expected an aggregation, one of > >= <= < == === !=, and a number, for example 'p(95)<500'"
    )]
    Operator(String),
    #[error(
        "'{text}' has no aggregation '{given}': expected count, rate, value, avg, min, max, med or p(0..100)"
    )]
    Aggregation { text: String, given: String },
    #[error("'{text}' compares with '{given}': expected a number, for example 'p(95)<500'")]
    Limit { text: String, given: String },
    #[error("'{text}' asks for '{aggregation}', which a {kind} does not have: expected {}", Aggregation::supported(*kind))]
    Unsupported {
        text: String,
        aggregation: String,
        kind: Kind,
    },
}

impl Expression {
    /// # Errors
    /// When it does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let text = text.trim();
        let operator_at = text.find(['<', '>', '=', '!']);
        let operator = operator_at.and_then(|at| {
            Operator::WRITTEN
                .into_iter()
                .find(|(written, _)| text[at..].starts_with(written))
        });
        let (Some(at), Some((written, operator))) = (operator_at, operator) else {
            return Err(ExpressionError::Operator(text.to_owned()));
        };
        let given = text[..at].trim_end();
        let aggregation =
            Aggregation::parse(given).ok_or_else(|| ExpressionError::Aggregation {
                text: text.to_owned(),
                given: given.to_owned(),
            })?;
        let given = text[at + written.len()..].trim_start();
        let limit = given
            .parse()
            .ok()
            .filter(|limit: &f64| limit.is_finite())
            .ok_or_else(|| ExpressionError::Limit {
                text: text.to_owned(),
                given: given.to_owned(),
            })?;
        Ok(Self {
            text: text.to_owned(),
            aggregation,
            operator,
            limit,
        })
    }

    /// Parses what is expected of a metric of this kind.
    ///
    /// # Errors
    /// When it does not follow the grammar, or asks for what such a metric does not have.
    pub fn parse_for(text: &str, kind: Kind) -> Result<Self, ExpressionError> {
        let expression = Self::parse(text)?;
        if expression.aggregation.fits(kind) {
            return Ok(expression);
        }
        let aggregation = expression.aggregation.to_string();
        Err(ExpressionError::Unsupported {
            text: expression.text,
            aggregation,
            kind,
        })
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn holds(&self, actual: f64) -> bool {
        self.operator.holds(actual, self.limit)
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        Self::parse(&text)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

/// Which samples are meant: `metric`, or those of it with certain tags, `metric{tag:value}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub tags: TagSet,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("'{0}' misses its closing bracket: expected 'metric{{tag:value,tag2:value2}}'")]
    Unclosed(String),
    #[error(
        "'{0}' has a closing bracket without an opening one: expected 'metric{{tag:value,tag2:value2}}'"
    )]
    Unopened(String),
    #[error(
        "'{text}' has no tag in '{given}': expected 'tag:value', several of them separated by commas"
    )]
    Tag { text: String, given: String },
    #[error("'{text}' names the tag '{tag}' twice: expected each tag once")]
    Twice { text: String, tag: String },
}

impl Selector {
    /// # Errors
    /// When the brackets or what is between them are wrong.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        let Some((metric, rest)) = text.split_once('{') else {
            if text.contains('}') {
                return Err(SelectorError::Unopened(text.to_owned()));
            }
            return Ok(Self {
                metric: text.to_owned(),
                tags: TagSet::new(),
            });
        };
        let inner = rest
            .strip_suffix('}')
            .ok_or_else(|| SelectorError::Unclosed(text.to_owned()))?;
        let mut tags = TagSet::new();
        for pair in inner.split(',') {
            let (tag, value) = pair.split_once(':').unwrap_or(("", ""));
            let (tag, value) = (unquoted(tag), unquoted(value));
            if tag.is_empty() {
                return Err(SelectorError::Tag {
                    text: text.to_owned(),
                    given: pair.trim().to_owned(),
                });
            }
            if tags.insert(tag.to_owned(), value.to_owned()).is_some() {
                return Err(SelectorError::Twice {
                    text: text.to_owned(),
                    tag: tag.to_owned(),
                });
            }
        }
        Ok(Self {
            metric: metric.trim().to_owned(),
            tags,
        })
    }

    /// Whether a sample with these tags is meant.
    #[must_use]
    pub fn matches(&self, tags: &TagSet) -> bool {
        self.tags
            .iter()
            .all(|(tag, value)| tags.get(tag) == Some(value))
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

/// A metric and what is expected of it in one text: `sfu_join_failed rate>0.01`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub selector: Selector,
    pub expression: Expression,
}

impl Condition {
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Values of tags may contain spaces, so the metric ends at its bracket if it has one.
        let end = match (text.find('{'), text.find(char::is_whitespace)) {
            (Some(open), space) if space.is_none_or(|space| open < space) => {
                text.find('}').map(|close| close + 1)
            }
            (_, space) => space,
        };
        let (selector, expression) = end.map(|end| text.split_at(end)).ok_or_else(|| {
            format!("condition '{text}': expected a metric and what is expected of it, for example 'sfu_join_failed rate>0.01'")
        })?;
        Ok(Self {
            selector: Selector::parse(selector)
                .map_err(|error| format!("condition '{text}': {error}"))?,
            expression: Expression::parse(expression)
                .map_err(|error| format!("condition '{text}': {error}"))?,
        })
    }
}
