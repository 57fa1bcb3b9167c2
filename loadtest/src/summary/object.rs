//! The summary as JSON, in the three shapes that people's tools know: what `handleSummary` gets, the
//! flat one of `--summary-export`, and the machine-readable one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Measured, Summary};
use crate::metrics::{Check, Kind};
use crate::options::TimeUnit;
use crate::output::timestamp;

/// What `handleSummary(data)` gets. `setup_data` is what `setup()` returned.
#[must_use]
pub fn handle_summary(
    summary: &Summary,
    is_terminal: bool,
    no_colour: bool,
    setup_data: Option<&Value>,
) -> Value {
    let metrics: Map<String, Value> = summary
        .metrics
        .iter()
        .map(|measured| (measured.name.clone(), metric(measured)))
        .collect();
    let statistics: Vec<String> = summary
        .run
        .trend_stats
        .iter()
        .map(ToString::to_string)
        .collect();
    let unit = match summary.run.time_unit {
        None => "",
        Some(TimeUnit::Seconds) => "s",
        Some(TimeUnit::Milliseconds) => "ms",
        Some(TimeUnit::Microseconds) => "us",
    };
    let mut data = json!({
        "root_group": Group::tree(&summary.checks).with_lists(),
        "options": { "summaryTrendStats": statistics, "summaryTimeUnit": unit, "noColor": no_colour },
        "state": {
            "isStdOutTTY": is_terminal,
            "isStdErrTTY": is_terminal,
            "testRunDurationMs": summary.elapsed.as_secs_f64() * 1e3,
        },
        "metrics": metrics,
        "warnings": summary.run.warnings,
    });
    if let Some(setup_data) = setup_data {
        data["setup_data"] = setup_data.clone();
    }
    data
}

/// What `--summary-export` writes: values flat beside each other, and of each threshold whether it
/// has been crossed.
#[must_use]
pub fn export(summary: &Summary) -> Value {
    let flat = |measured: &Measured| {
        let mut values = Map::new();
        for (name, value) in &measured.values {
            let name = if measured.kind == Kind::Rate && name == "rate" {
                "value"
            } else {
                name
            };
            values.insert(name.to_owned(), json!(value));
        }
        if !measured.thresholds.is_empty() {
            let each = measured.thresholds.iter();
            let crossed: Map<String, Value> = each
                .map(|judgement| {
                    (
                        judgement.expression.text().to_owned(),
                        json!(!judgement.passed()),
                    )
                })
                .collect();
            values.insert("thresholds".into(), crossed.into());
        }
        (measured.name.clone(), Value::from(values))
    };
    let metrics: Map<String, Value> = summary.metrics.iter().map(flat).collect();
    json!({ "root_group": Group::tree(&summary.checks).with_maps(), "metrics": metrics })
}

/// The machine-readable summary.
#[must_use]
pub fn machine(summary: &Summary) -> Value {
    let values = |measured: &Measured| -> Map<String, Value> {
        measured
            .values
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect()
    };
    let entry = |measured: &Measured| {
        let thresholds: Vec<Value> = measured
            .thresholds
            .iter()
            .map(|judgement| {
                json!({
                    "threshold": judgement.expression.text(),
                    "verdict": judgement.verdict,
                    "actual": judgement.actual,
                })
            })
            .collect();
        json!({
            "name": measured.name,
            "type": measured.kind,
            "contains": measured.contains,
            "values": values(measured),
            "thresholds": thresholds,
        })
    };
    let check = |check: &Check| json!({ "name": check.name, "path": check.group, "passes": check.passes, "fails": check.fails });
    let (passes, total) = summary.check_totals();
    json!({
        "version": "1.0.0",
        "metadata": {
            "k6Version": format!("pipemesh-loadtest {}", summary.run.version),
            "generatedAt": timestamp::rfc3339(summary.run.started_at + summary.elapsed.as_secs_f64() * 1e3),
        },
        "config": {
            "script": summary.run.script,
            "duration": summary.elapsed.as_secs_f64(),
            "execution": "local",
        },
        "results": {
            "passed": summary.passed(),
            "warnings": summary.run.warnings,
            "checks": {
                "total": total,
                "passes": passes,
                "fails": total - passes,
                "ordered_checks": summary.checks.iter().map(check).collect::<Vec<_>>(),
            },
            "metrics": summary.metrics.iter().map(entry).collect::<Vec<_>>(),
        },
    })
}

fn metric(measured: &Measured) -> Value {
    let values: Map<String, Value> = measured
        .values
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let mut metric =
        json!({ "type": measured.kind, "contains": measured.contains, "values": values });
    if !measured.thresholds.is_empty() {
        let each = measured.thresholds.iter();
        let thresholds: Map<String, Value> = each
            .map(|judgement| {
                (
                    judgement.expression.text().to_owned(),
                    json!({ "ok": judgement.passed() }),
                )
            })
            .collect();
        metric["thresholds"] = thresholds.into();
    }
    metric
}

/// Groups within groups, made from the paths of checks.
#[derive(Debug, Default)]
struct Group<'a> {
    name: &'a str,
    path: String,
    groups: Vec<Group<'a>>,
    checks: Vec<&'a Check>,
}

impl<'a> Group<'a> {
    fn tree(checks: &'a [Check]) -> Self {
        let mut root = Self::default();
        for check in checks {
            let mut group = &mut root;
            for name in check.group.split("::").filter(|name| !name.is_empty()) {
                let path = format!("{}::{name}", group.path);
                let known = group.groups.iter().position(|group| group.name == name);
                let index = known.unwrap_or(group.groups.len());
                if known.is_none() {
                    group.groups.push(Group {
                        name,
                        path,
                        ..Group::default()
                    });
                }
                group = &mut group.groups[index];
            }
            group.checks.push(check);
        }
        root
    }

    fn with_lists(&self) -> Value {
        let groups: Vec<Value> = self.groups.iter().map(Self::with_lists).collect();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| check_object(check))
            .collect();
        self.object(groups.into(), checks.into())
    }

    fn with_maps(&self) -> Value {
        let groups: BTreeMap<&str, Value> = self
            .groups
            .iter()
            .map(|group| (group.name, group.with_maps()))
            .collect();
        let checks: BTreeMap<&str, Value> = self
            .checks
            .iter()
            .map(|check| (check.name.as_str(), check_object(check)))
            .collect();
        self.object(json!(groups), json!(checks))
    }

    fn object(&self, groups: Value, checks: Value) -> Value {
        json!({ "name": self.name, "path": self.path, "id": id(&self.path), "groups": groups, "checks": checks })
    }
}

fn check_object(check: &Check) -> Value {
    let path = format!("{}::{}", check.group, check.name);
    let id = id(&path);
    json!({ "name": check.name, "path": path, "id": id, "passes": check.passes, "fails": check.fails })
}

/// The same for the same path, in every run: 32 hexadecimal digits of FNV-1a, twice with different
/// beginnings.
fn id(path: &str) -> String {
    let hash = |start: u64| {
        path.bytes().fold(start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    format!(
        "{:016x}{:016x}",
        hash(0xcbf2_9ce4_8422_2325),
        hash(0x9e37_79b9_7f4a_7c15)
    )
}
