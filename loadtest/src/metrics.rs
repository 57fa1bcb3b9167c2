//! What a run measures: metrics, samples, and what becomes of them.
//!
//! A metric and a set of tags are numbers once [`Registry`] has named them, so that a sample is a
//! few words without a pointer. One collector owns a [`Store`] and feeds it every sample; the store
//! keeps one [`Sink`] per metric, one per sub-metric that a threshold names, and nothing per sample.
//! Nothing here knows scripts or files.

pub mod builtin;
mod checks;
mod registry;
mod sink;
mod store;
mod threshold;
mod trend;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use checks::Check;
pub use registry::{Metric, MetricError, Registry, TagSet};
pub use sink::Sink;
pub use store::{
    Block, BlockKind, Evaluation, Finding, Judgement, Series, Snapshot, Store, Verdict, WatchId,
};
pub use threshold::{
    Aggregation, Condition, Expression, ExpressionError, Operator, Selector, SelectorError,
};
pub use trend::{Statistic, Trend};

/// What is done with the values of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// They are added.
    Counter,
    /// The last one counts, and the smallest and the greatest.
    Gauge,
    /// The share of those that are true.
    Rate,
    /// Their distribution.
    Trend,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Rate => "rate",
            Self::Trend => "trend",
        })
    }
}

/// What the values of a metric are, which decides how they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contains {
    /// Plain numbers.
    Default,
    /// Milliseconds.
    Time,
    /// Bytes.
    Data,
}

impl fmt::Display for Contains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Time => "time",
            Self::Data => "data",
        })
    }
}

/// A metric of one [`Registry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(u32);

/// A set of tags of one [`Registry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagSetId(u32);

impl MetricId {
    /// From 0 without gaps, so that a list can be kept by metric.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl TagSetId {
    /// No tags at all.
    pub const EMPTY: Self = Self(0);

    /// From 0 without gaps, so that a list can be kept by tag set.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One value that was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub metric: MetricId,
    pub tags: TagSetId,
    /// Milliseconds since the Unix epoch.
    pub at: f64,
    pub value: f64,
    /// A rate gets `value` of `weight`: packets lost of packets expected, seconds frozen of seconds
    /// watched. 1 for a yes or no; the other kinds do not look at it.
    pub weight: f64,
}

impl Sample {
    #[must_use]
    pub fn new(metric: MetricId, tags: TagSetId, at: f64, value: f64) -> Self {
        Self {
            metric,
            tags,
            at,
            value,
            weight: 1.0,
        }
    }

    /// A yes or no of a rate.
    #[must_use]
    pub fn flag(metric: MetricId, tags: TagSetId, at: f64, yes: bool) -> Self {
        Self::new(metric, tags, at, f64::from(u8::from(yes)))
    }

    /// `part` of `whole` of a rate.
    #[must_use]
    pub fn part(metric: MetricId, tags: TagSetId, at: f64, part: f64, whole: f64) -> Self {
        Self {
            metric,
            tags,
            at,
            value: part,
            weight: whole,
        }
    }

    /// What a line of an output shows: of a rate its share, of everything else the value.
    #[must_use]
    pub fn shown(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Rate if self.weight > 0.0 => (self.value / self.weight).clamp(0.0, 1.0),
            Kind::Rate => 0.0,
            Kind::Counter | Kind::Gauge | Kind::Trend => self.value,
        }
    }
}

#[cfg(test)]
mod tests;
