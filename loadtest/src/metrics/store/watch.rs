//! Conditions that are looked at window by window: what happened in the last one alone.

use std::time::Duration;

use super::find;
use crate::metrics::{Aggregation, Condition, MetricId, Registry, Sample, Sink, TagSet};

/// A set of conditions that a store watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchId(pub(super) usize);

/// What one condition was in its window.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// As it was written.
    pub condition: String,
    /// What the metric was; `None` without samples.
    pub actual: Option<f64>,
    /// Whether the condition is met; without samples it is not.
    pub holds: bool,
}

#[derive(Debug)]
pub(super) struct Watch {
    since: Duration,
    conditions: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    text: String,
    condition: Condition,
    metric: MetricId,
    sink: Sink,
}

impl Watch {
    pub(super) fn new(
        registry: &Registry,
        conditions: &[String],
        now: Duration,
    ) -> Result<Self, Vec<String>> {
        let (mut watched, mut problems) = (Vec::new(), Vec::new());
        for text in conditions {
            match Watched::new(registry, text.trim()) {
                Ok(condition) => watched.push(condition),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(Self {
                since: now,
                conditions: watched,
            })
        } else {
            Err(problems)
        }
    }

    pub(super) fn add(&mut self, sample: &Sample, tags: &TagSet) {
        for watched in &mut self.conditions {
            if watched.metric == sample.metric && watched.condition.selector.matches(tags) {
                watched.sink.add(sample.value, sample.weight);
            }
        }
    }

    pub(super) fn judge(&mut self, now: Duration) -> Vec<Finding> {
        let elapsed = now.saturating_sub(self.since);
        self.since = now;
        self.conditions
            .iter_mut()
            .map(|watched| watched.judge(elapsed))
            .collect()
    }
}

impl Watched {
    fn new(registry: &Registry, text: &str) -> Result<Self, String> {
        let condition = Condition::parse(text)?;
        let (_, metric) = find(registry, &condition.selector.metric)
            .map_err(|problem| format!("condition {problem}"))?;
        let expression = &condition.expression;
        if !expression.aggregation.fits(metric.kind) {
            return Err(format!(
                "condition '{text}': '{}' asks for '{}', which a {} does not have: expected {}",
                expression.text(),
                expression.aggregation,
                metric.kind,
                Aggregation::supported(metric.kind)
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            condition,
            metric: metric.id,
            sink: Sink::new(metric.kind),
        })
    }

    fn judge(&mut self, elapsed: Duration) -> Finding {
        let expression = &self.condition.expression;
        let actual = self.sink.aggregate(expression.aggregation, elapsed);
        let holds = actual.is_some_and(|actual| expression.holds(actual));
        self.sink = Sink::new(self.sink.kind());
        Finding {
            condition: self.text.clone(),
            actual,
            holds,
        }
    }
}
