//! What a metric has to reach, as it was written.
//!
//! Knows nothing about what an expression means.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration;
use super::fields::Fields;
use super::problems::{Problems, shown};

#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// For example `p(95)<500`.
    pub expression: String,
    /// Whether the test ends as soon as this is not reached.
    pub abort_on_fail: bool,
    /// How long after the start of the test it ends it at the earliest.
    pub delay_abort_eval: Duration,
}

impl Threshold {
    #[must_use]
    pub fn new(expression: impl Into<String>) -> Self {
        Self {
            expression: expression.into(),
            abort_on_fail: false,
            delay_abort_eval: Duration::ZERO,
        }
    }
}

/// By metric, or sub-metric.
pub type Thresholds = BTreeMap<String, Vec<Threshold>>;

pub(super) fn read(value: &Value, at: &str, problems: &mut Problems) -> Option<Thresholds> {
    let fields = Fields::new(value, at, problems)?;
    let of_metric = |(metric, value): (&String, &Value), problems: &mut Problems| {
        let at = format!("{at}['{metric}']");
        let Value::Array(values) = value else {
            problems.add(
                at,
                shown(value),
                "an array of thresholds, such as ['p(95)<500']",
            );
            return None;
        };
        let thresholds = (0..).zip(values);
        let thresholds =
            thresholds.filter_map(|(i, value)| one(value, &format!("{at}[{i}]"), problems));
        Some((metric.clone(), thresholds.collect()))
    };
    Some(
        fields
            .entries()
            .filter_map(|entry| of_metric(entry, problems))
            .collect(),
    )
}

fn one(value: &Value, at: &str, problems: &mut Problems) -> Option<Threshold> {
    if let Value::String(expression) = value {
        return Some(Threshold::new(expression));
    }
    if !value.is_object() {
        problems.add(
            at,
            shown(value),
            "a string such as 'p(95)<500', or an object { threshold, abortOnFail, delayAbortEval }",
        );
        return None;
    }
    let mut fields = Fields::new(value, at, problems)?;
    let threshold = Threshold {
        expression: fields
            .required("threshold", "an expression such as 'p(95)<500'", problems)
            .then(|| fields.text("threshold", problems))
            .flatten()
            .unwrap_or_default(),
        abort_on_fail: fields.boolean("abortOnFail", problems).unwrap_or(false),
        delay_abort_eval: fields
            .duration("delayAbortEval", problems)
            .unwrap_or_default(),
    };
    fields.refuse_others("a threshold", problems);
    Some(threshold)
}

pub(super) fn to_json(thresholds: &Thresholds) -> Value {
    let one = |threshold: &Threshold| {
        if *threshold == Threshold::new(&threshold.expression) {
            return json!(threshold.expression);
        }
        json!({
            "threshold": threshold.expression,
            "abortOnFail": threshold.abort_on_fail,
            "delayAbortEval": duration::format(threshold.delay_abort_eval),
        })
    };
    let of_metric = |(metric, list): (&String, &Vec<Threshold>)| {
        (metric.clone(), list.iter().map(one).collect::<Value>())
    };
    Value::Object(thresholds.iter().map(of_metric).collect::<Map<_, _>>())
}
