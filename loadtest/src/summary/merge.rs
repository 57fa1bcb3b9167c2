//! The results of one generator as a file, and those of several as one.
//!
//! A file holds what was counted, not what was worked out from it: trends with their values or the
//! buckets of their histograms, so that the percentiles of several files together are those of all
//! samples together.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::metrics::{Block, Check, Series, Sink, Snapshot, Statistic};
use crate::summary::{Run, Summary};

/// What a file says it is. Another version is another file.
const FORMAT: &str = "pipemesh-loadtest results 1";

/// Gauges that several generators share, so that theirs are added.
const ADDITIVE: [&str; 2] = ["vus", "vus_max"];

/// What one or several generators found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    format: String,
    pub script: String,
    pub version: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: f64,
    pub fail_on_empty: bool,
    pub warnings: Vec<String>,
    pub snapshot: Snapshot,
}

#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    #[error("{file}: these are no results: {problem}")]
    Unreadable { file: String, problem: String },
    #[error("{file}: metric '{name}' is a {kind} here and a {first_kind} in the files before")]
    Kind {
        file: String,
        name: String,
        kind: String,
        first_kind: String,
    },
}

impl Results {
    #[must_use]
    pub fn new(run: &Run, fail_on_empty: bool, snapshot: Snapshot) -> Self {
        Self {
            format: FORMAT.to_owned(),
            script: run.script.clone(),
            version: run.version.clone(),
            started_at: run.started_at,
            fail_on_empty,
            warnings: run.warnings.clone(),
            snapshot,
        }
    }

    /// Reads what [`Results::to_json`] wrote. `file` is how errors call it.
    ///
    /// # Errors
    /// When it is none, or says what cannot be.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ResultsError> {
        let unreadable = |problem: String| ResultsError::Unreadable {
            file: file.to_owned(),
            problem,
        };
        let results: Self =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if results.format != FORMAT {
            return Err(unreadable(format!(
                "its format is '{}', expected '{FORMAT}'",
                results.format
            )));
        }
        let in_blocks = results
            .snapshot
            .blocks
            .iter()
            .flat_map(|block| &block.series);
        for series in results.snapshot.series.iter().chain(in_blocks) {
            if let Sink::Trend(trend) = &series.sink
                && !trend.is_sound()
            {
                return Err(unreadable(format!(
                    "the values of '{}' are not as many as it says",
                    series.name
                )));
            }
        }
        Ok(results)
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every key is a string and every sample finite")
    }

    /// Takes in what another generator found. `file` is how errors and warnings call it.
    ///
    /// # Errors
    /// When a metric is of another kind there.
    pub fn merge(&mut self, other: Self, file: &str) -> Result<(), ResultsError> {
        self.started_at = self.started_at.min(other.started_at);
        self.fail_on_empty |= other.fail_on_empty;
        if other.script != self.script {
            self.warnings
                .push(format!("{file} is of another script: {}", other.script));
        }
        self.warnings.extend(
            other
                .warnings
                .into_iter()
                .map(|warning| format!("{file}: {warning}")),
        );
        let (into, other) = (&mut self.snapshot, other.snapshot);
        into.elapsed = into.elapsed.max(other.elapsed);
        into.invalid_samples += other.invalid_samples;
        merge_series(&mut into.series, other.series, file)?;
        merge_checks(&mut into.checks, other.checks);
        for block in other.blocks {
            merge_block(&mut into.blocks, block, file)?;
        }
        Ok(())
    }

    /// Judges all thresholds by what is here altogether, and returns the metrics that crossed them.
    pub fn judge(&mut self) -> Vec<String> {
        let elapsed = self.snapshot.elapsed;
        for series in &mut self.snapshot.series {
            series.judge(elapsed, self.fail_on_empty);
        }
        self.snapshot.crossed()
    }

    #[must_use]
    pub fn summary(
        &self,
        trend_stats: Vec<Statistic>,
        time_unit: Option<crate::options::TimeUnit>,
    ) -> Summary {
        let run = Run {
            script: self.script.clone(),
            started_at: self.started_at,
            version: self.version.clone(),
            trend_stats,
            time_unit,
            warnings: self.warnings.clone(),
        };
        Summary::new(run, &self.snapshot)
    }
}

fn merge_series(
    into: &mut Vec<Series>,
    others: Vec<Series>,
    file: &str,
) -> Result<(), ResultsError> {
    for other in others {
        let Some(series) = into.iter_mut().find(|series| series.name == other.name) else {
            into.push(other);
            continue;
        };
        let additive = ADDITIVE.contains(&&*series.metric);
        if !series.sink.merge(&other.sink, additive) {
            return Err(ResultsError::Kind {
                file: file.to_owned(),
                name: other.name.clone(),
                kind: other.kind().to_string(),
                first_kind: series.kind().to_string(),
            });
        }
        for judgement in other.thresholds {
            let known = series
                .thresholds
                .iter()
                .any(|known| known.expression == judgement.expression);
            if !known {
                series.thresholds.push(judgement);
            }
        }
    }
    Ok(())
}

fn merge_checks(into: &mut Vec<Check>, others: Vec<Check>) {
    for other in others {
        match into
            .iter_mut()
            .find(|check| check.group == other.group && check.name == other.name)
        {
            Some(check) => {
                check.passes += other.passes;
                check.fails += other.fails;
            }
            None => into.push(other),
        }
    }
}

fn merge_block(into: &mut Vec<Block>, other: Block, file: &str) -> Result<(), ResultsError> {
    match into
        .iter_mut()
        .find(|block| block.kind == other.kind && block.name == other.name)
    {
        Some(block) => {
            merge_series(&mut block.series, other.series, file)?;
            merge_checks(&mut block.checks, other.checks);
        }
        None => into.push(other),
    }
    Ok(())
}
