//! One threshold and how it stands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metrics::{Expression, Sink};
use crate::options::Threshold;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    Failed,
    /// There was nothing to judge, which passes, but is shown.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub expression: Expression,
    pub abort_on_fail: bool,
    #[serde(skip)]
    pub delay_abort_eval: Duration,
    pub verdict: Verdict,
    /// What the metric is; `None` without samples.
    pub actual: Option<f64>,
}

impl Judgement {
    pub(super) fn new(expression: Expression, threshold: &Threshold) -> Self {
        Self {
            expression,
            abort_on_fail: threshold.abort_on_fail,
            delay_abort_eval: threshold.delay_abort_eval,
            verdict: Verdict::Unknown,
            actual: None,
        }
    }

    pub(crate) fn judge(&mut self, sink: &Sink, elapsed: Duration, fail_on_empty: bool) {
        self.actual = sink.aggregate(self.expression.aggregation, elapsed);
        self.verdict = match self.actual {
            Some(actual) if self.expression.holds(actual) => Verdict::Passed,
            None if !fail_on_empty => Verdict::Unknown,
            Some(_) | None => Verdict::Failed,
        };
    }

    pub(super) fn wants_abort(&self, elapsed: Duration) -> bool {
        self.abort_on_fail && elapsed >= self.delay_abort_eval
    }

    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict != Verdict::Failed
    }
}
