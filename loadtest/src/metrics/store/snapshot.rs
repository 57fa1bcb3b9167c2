//! A store at one moment, as summaries and files are made from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judgement::{Judgement, Verdict};
use crate::metrics::builtin::Section;
use crate::metrics::{Check, Contains, Kind, Metric, Sink, TagSet};

/// A metric, or those of its samples that have certain tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// As a threshold writes it: `metric{tag:value}`, or the metric alone.
    pub name: String,
    pub metric: String,
    #[serde(default, skip_serializing_if = "TagSet::is_empty")]
    pub tags: TagSet,
    pub contains: Contains,
    pub section: Section,
    pub sink: Sink,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Judgement>,
}

impl Series {
    pub(super) fn new(metric: &Metric, name: &str, tags: TagSet) -> Self {
        Self {
            name: name.to_owned(),
            metric: metric.name.to_string(),
            tags,
            contains: metric.contains,
            section: metric.section,
            sink: Sink::new(metric.kind),
            thresholds: Vec::new(),
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.sink.kind()
    }

    /// Whether a sample with these tags belongs to it.
    pub(super) fn has(&self, tags: &TagSet) -> bool {
        self.tags
            .iter()
            .all(|(tag, value)| tags.get(tag) == Some(value))
    }

    pub(crate) fn judge(&mut self, elapsed: Duration, fail_on_empty: bool) {
        if let Sink::Trend(trend) = &mut self.sink {
            trend.settle();
        }
        for judgement in &mut self.thresholds {
            judgement.judge(&self.sink, elapsed, fail_on_empty);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    Group,
    Scenario,
}

/// What happened in one group, or in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub kind: BlockKind,
    /// Of a group its path, `::a::b`.
    pub name: String,
    pub series: Vec<Series>,
    pub checks: Vec<Check>,
}

/// A store at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// How much of the run had passed.
    pub elapsed: Duration,
    pub series: Vec<Series>,
    /// In the order in which they were first executed.
    pub checks: Vec<Check>,
    pub blocks: Vec<Block>,
    /// Samples that were no finite numbers.
    pub invalid_samples: u64,
}

impl Snapshot {
    /// The series of this name, as a threshold writes it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    /// Metrics and sub-metrics one of whose thresholds does not hold.
    #[must_use]
    pub fn crossed(&self) -> Vec<String> {
        let failed = |series: &&Series| {
            series
                .thresholds
                .iter()
                .any(|judgement| judgement.verdict == Verdict::Failed)
        };
        let mut crossed: Vec<String> = self
            .series
            .iter()
            .filter(failed)
            .map(|series| series.name.clone())
            .collect();
        crossed.sort();
        crossed
    }
}
