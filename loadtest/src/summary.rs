//! What a run found, ready to be shown: on a terminal, to a script, in a file, in a report.
//!
//! Everything shows the same [`Summary`], whose numbers were worked out once. Nothing here writes
//! anything anywhere.

pub mod format;
pub mod html;
pub mod merge;
pub mod object;
pub mod text;
pub mod timeline;

use std::time::Duration;

use crate::metrics::builtin::Section;
use crate::metrics::{
    Aggregation, Block, BlockKind, Check, Contains, Judgement, Kind, Series, Sink, Snapshot,
    Statistic, TagSet,
};
use crate::options::TimeUnit;

/// The run a summary is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// As it was given on the command line.
    pub script: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: f64,
    /// Of this program.
    pub version: String,
    /// What the summary says about trends.
    pub trend_stats: Vec<Statistic>,
    /// What times are printed in; `None`: each in its own.
    pub time_unit: Option<TimeUnit>,
    /// What has to be known before the numbers are believed.
    pub warnings: Vec<String>,
}

/// A metric or a sub-metric that has had samples or has thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// `metric{tag:value}`, or the metric alone.
    pub name: String,
    pub metric: String,
    pub tags: TagSet,
    pub kind: Kind,
    pub contains: Contains,
    pub section: Section,
    /// What there is to say, in the order in which it is said; empty without samples.
    pub values: Vec<(String, f64)>,
    pub thresholds: Vec<Judgement>,
}

/// A group or a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub kind: BlockKind,
    /// Of a group its path, `::a::b`.
    pub name: String,
    pub checks: Vec<Check>,
    pub metrics: Vec<Measured>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub run: Run,
    pub elapsed: Duration,
    /// By name; sub-metrics after their metrics.
    pub metrics: Vec<Measured>,
    /// In the order in which they were first executed.
    pub checks: Vec<Check>,
    pub parts: Vec<Part>,
}

impl Summary {
    #[must_use]
    pub fn new(run: Run, snapshot: &Snapshot) -> Self {
        let statistics = run.trend_stats.clone();
        let measured = |series: &[Series]| measure(series, &statistics, snapshot.elapsed);
        let part = |block: &Block| Part {
            kind: block.kind,
            name: block.name.clone(),
            checks: block.checks.clone(),
            metrics: measured(&block.series),
        };
        let mut warnings = Vec::new();
        if snapshot.invalid_samples > 0 {
            warnings.push(format!(
                "{} samples were no finite numbers and are missing here",
                snapshot.invalid_samples
            ));
        }
        let mut summary = Self {
            metrics: measured(&snapshot.series),
            checks: snapshot.checks.clone(),
            parts: snapshot.blocks.iter().map(part).collect(),
            elapsed: snapshot.elapsed,
            run,
        };
        summary.run.warnings.append(&mut warnings);
        summary
    }

    /// Whether all thresholds hold.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.metrics.iter().all(Measured::passed)
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Measured> {
        self.metrics.iter().find(|measured| measured.name == name)
    }

    /// How many checks held, of how many.
    #[must_use]
    pub fn check_totals(&self) -> (u64, u64) {
        totals(&self.checks)
    }
}

impl Measured {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(Judgement::passed)
    }

    #[must_use]
    pub fn has_samples(&self) -> bool {
        !self.values.is_empty()
    }

    /// What stands between the brackets of a sub-metric.
    #[must_use]
    pub fn suffix(&self) -> Option<&str> {
        let (_, suffix) = self.name.split_once('{')?;
        Some(suffix.trim_end_matches('}'))
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }
}

fn measure(series: &[Series], statistics: &[Statistic], elapsed: Duration) -> Vec<Measured> {
    let shown = series
        .iter()
        .filter(|series| !series.sink.is_empty() || !series.thresholds.is_empty());
    let mut measured: Vec<Measured> = shown
        .map(|series| Measured {
            name: series.name.clone(),
            metric: series.metric.clone(),
            tags: series.tags.clone(),
            kind: series.kind(),
            contains: series.contains,
            section: series.section,
            values: values(&series.sink, statistics, elapsed),
            thresholds: series.thresholds.clone(),
        })
        .collect();
    measured.sort_by(|a, b| (&a.metric, &a.name).cmp(&(&b.metric, &b.name)));
    measured
}

fn values(sink: &Sink, statistics: &[Statistic], elapsed: Duration) -> Vec<(String, f64)> {
    if sink.is_empty() {
        return Vec::new();
    }
    let named = |name: &str, value: f64| (name.to_owned(), value);
    match sink {
        Sink::Counter { sum, .. } => {
            let rate = sink.aggregate(Aggregation::Rate, elapsed).unwrap_or(0.0);
            vec![named("count", *sum), named("rate", rate)]
        }
        Sink::Gauge {
            value, min, max, ..
        } => {
            vec![
                named("value", *value),
                named("min", *min),
                named("max", *max),
            ]
        }
        Sink::Rate { trues, total } => {
            vec![
                named("rate", trues / total),
                named("passes", *trues),
                named("fails", total - trues),
            ]
        }
        Sink::Trend(trend) => {
            let mut settled = trend.clone();
            settled.settle();
            statistics
                .iter()
                .map(|statistic| (statistic.to_string(), settled.statistic(*statistic)))
                .collect()
        }
    }
}

/// How many checks held, of how many.
fn totals(checks: &[Check]) -> (u64, u64) {
    checks.iter().fold((0, 0), |(passes, total), check| {
        (passes + check.passes, total + check.total())
    })
}
