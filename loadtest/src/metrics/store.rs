//! Everything that came in so far: a sink per metric and per sub-metric that a threshold names, the
//! checks, and, if somebody wants to see them, the metrics of each group and scenario.
//!
//! Owned by one collector. It knows no clock: how much of the run has passed is said to it.

mod growing;
mod judgement;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::registry::{Metric, Registry};
use super::threshold::{Expression, Selector};
use super::{Check, Kind, MetricId, Sample, Sink, TagSet, checks};
use crate::options::Threshold;

pub use judgement::{Judgement, Verdict};
pub use snapshot::{Block, BlockKind, Series, Snapshot};
pub use watch::{Finding, WatchId};

/// So many groups, and as many scenarios, have metrics of their own. More: names made up by a script
/// fill the memory. Fewer: the full summary lacks blocks.
const MAX_BLOCKS: usize = 1_000;

/// What a look at the thresholds found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// Metrics and sub-metrics one of whose thresholds does not hold, as they were written.
    pub crossed: Vec<String>,
    /// One of them wants the run to end.
    pub abort: bool,
}

#[derive(Debug)]
pub struct Store {
    /// A threshold without samples fails at the end instead of passing.
    pub fail_on_empty: bool,
    /// Keeps the metrics of each group and scenario too, from the first sample on: several times
    /// the memory.
    pub detailed: bool,
    registry: Arc<Registry>,
    checks_metric: MetricId,
    series: Vec<Series>,
    /// By metric: where its series are.
    places: Vec<Option<Places>>,
    /// By set of tags: what they mean here.
    meanings: Vec<Option<Meaning>>,
    checks: Vec<Check>,
    blocks: Vec<growing::Growing>,
    watches: Vec<watch::Watch>,
    invalid: u64,
}

#[derive(Debug, Clone)]
struct Places {
    whole: usize,
    /// Those with tags, and which tags.
    parts: Vec<usize>,
}

/// What a set of tags means, worked out when it is first seen.
#[derive(Debug)]
struct Meaning {
    tags: Arc<TagSet>,
    /// By series: whether a sample with these tags belongs to it.
    matches: Vec<bool>,
    check: Option<usize>,
    blocks: Vec<usize>,
}

impl Store {
    /// With the thresholds of a run.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(
        registry: Arc<Registry>,
        thresholds: &BTreeMap<String, Vec<Threshold>>,
    ) -> Result<Self, Vec<String>> {
        let mut store = Self {
            fail_on_empty: false,
            detailed: false,
            checks_metric: registry.builtin("checks"),
            registry,
            series: Vec::new(),
            places: Vec::new(),
            meanings: Vec::new(),
            checks: Vec::new(),
            blocks: Vec::new(),
            watches: Vec::new(),
            invalid: 0,
        };
        let mut problems = Vec::new();
        for (name, thresholds) in thresholds {
            match find(&store.registry, name) {
                Ok((selector, metric)) => {
                    let judgements = judgements(name, metric.kind, thresholds, &mut problems);
                    let index = store.place(&metric, name, selector);
                    store.series[index].thresholds.extend(judgements);
                }
                Err(problem) => problems.push(format!("thresholds: {problem}")),
            }
        }
        if problems.is_empty() {
            Ok(store)
        } else {
            Err(problems)
        }
    }

    /// Adds a sample. One that is no finite number is counted, and nothing else.
    pub fn add(&mut self, sample: &Sample) {
        if !sample.value.is_finite() || !sample.weight.is_finite() {
            self.invalid += 1;
            return;
        }
        self.learn(sample);
        let (value, weight) = (sample.value, sample.weight);
        let places = self.places[sample.metric.index()]
            .as_ref()
            .expect("the metric was learnt above");
        let meaning = self.meanings[sample.tags.index()]
            .as_ref()
            .expect("the tags were learnt above");
        self.series[places.whole].sink.add(value, weight);
        for part in &places.parts {
            // Whoever has a place after these tags were learnt has no tags to match.
            if meaning.matches.get(*part) == Some(&true) {
                self.series[*part].sink.add(value, weight);
            }
        }
        let is_check = sample.metric == self.checks_metric;
        if let Some(check) = meaning.check.filter(|_| is_check) {
            self.checks[check].count(value != 0.0);
        }
        let whole = &self.series[places.whole];
        for block in &meaning.blocks {
            let block = &mut self.blocks[*block];
            if is_check {
                block.count_check(&meaning.tags, value != 0.0);
            } else {
                block.sink(places.whole, whole).add(value, weight);
            }
        }
        for watch in &mut self.watches {
            watch.add(sample, &meaning.tags);
        }
    }

    /// Looks at the thresholds in the course of the run, of which `elapsed` has passed.
    pub fn evaluate(&mut self, elapsed: Duration) -> Evaluation {
        self.judge_all(elapsed, false)
    }

    /// Looks at the thresholds for the last time.
    pub fn finish(&mut self, elapsed: Duration) -> Evaluation {
        self.judge_all(elapsed, self.fail_on_empty)
    }

    /// Everything so far, to be printed, written or sent.
    #[must_use]
    pub fn snapshot(&self, elapsed: Duration) -> Snapshot {
        Snapshot {
            elapsed,
            series: self.series.clone(),
            checks: self.checks.clone(),
            blocks: self
                .blocks
                .iter()
                .map(|growing| growing.block.clone())
                .collect(),
            invalid_samples: self.invalid,
        }
    }

    /// What is kept of a metric, if it has had a sample.
    #[must_use]
    pub fn sink(&self, metric: MetricId) -> Option<&Sink> {
        let places = self.places.get(metric.index())?.as_ref()?;
        Some(&self.series[places.whole].sink).filter(|sink| !sink.is_empty())
    }

    /// Begins to watch conditions, all together, from `now` on.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn watch(&mut self, conditions: &[String], now: Duration) -> Result<WatchId, Vec<String>> {
        self.watches
            .push(watch::Watch::new(&self.registry, conditions, now)?);
        Ok(WatchId(self.watches.len() - 1))
    }

    /// What the conditions are since they were asked about last; begins their next window.
    pub fn judge(&mut self, watch: WatchId, now: Duration) -> Vec<Finding> {
        self.watches[watch.0].judge(now)
    }

    fn judge_all(&mut self, elapsed: Duration, fail_on_empty: bool) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for series in self
            .series
            .iter_mut()
            .filter(|series| !series.thresholds.is_empty())
        {
            series.judge(elapsed, fail_on_empty);
            let mut failed = series
                .thresholds
                .iter()
                .filter(|judgement| judgement.verdict == Verdict::Failed)
                .peekable();
            if failed.peek().is_some() {
                evaluation.crossed.push(series.name.clone());
            }
            evaluation.abort |= failed.any(|judgement| judgement.wants_abort(elapsed));
        }
        evaluation.crossed.sort();
        evaluation
    }

    /// Finds a place for the metric and a meaning for the tags, unless they have them.
    fn learn(&mut self, sample: &Sample) {
        let (metric, tags) = (sample.metric.index(), sample.tags.index());
        if self.places.get(metric).is_none_or(Option::is_none) {
            let metric = self.registry.describe(sample.metric);
            self.place_whole(&metric);
        }
        if self.meanings.get(tags).is_none_or(Option::is_none) {
            let meaning = self.meaning(self.registry.tags(sample.tags));
            if self.meanings.len() <= tags {
                self.meanings.resize_with(tags + 1, || None);
            }
            self.meanings[tags] = Some(meaning);
        }
        // A check's tags may have been seen before with other metrics, a group's before any check.
        if sample.metric == self.checks_metric
            && let Some(meaning) = &mut self.meanings[tags]
            && meaning.check.is_none()
            && let Some(check) = meaning.tags.get("check")
        {
            let group = meaning.tags.get("group").map_or("", String::as_str);
            meaning.check = Some(checks::position(&mut self.checks, group, check));
        }
    }

    fn meaning(&mut self, tags: Arc<TagSet>) -> Meaning {
        let matches = self
            .series
            .iter()
            .map(|series| !series.tags.is_empty() && series.has(&tags))
            .collect();
        let mut blocks = Vec::new();
        if self.detailed {
            for (tag, kind) in [
                ("group", BlockKind::Group),
                ("scenario", BlockKind::Scenario),
            ] {
                if let Some(name) = tags.get(tag).filter(|name| !name.is_empty()) {
                    blocks.extend(self.block(kind, name));
                }
            }
        }
        Meaning {
            tags,
            matches,
            check: None,
            blocks,
        }
    }

    fn block(&mut self, kind: BlockKind, name: &str) -> Option<usize> {
        let of_kind = || {
            self.blocks
                .iter()
                .map(|growing| &growing.block)
                .enumerate()
                .filter(|(_, block)| block.kind == kind)
        };
        if let Some((known, _)) = of_kind().find(|(_, block)| block.name == name) {
            return Some(known);
        }
        if of_kind().count() >= MAX_BLOCKS {
            return None;
        }
        self.blocks.push(growing::Growing::new(kind, name));
        Some(self.blocks.len() - 1)
    }

    /// Where the series of a threshold is.
    fn place(&mut self, metric: &Metric, name: &str, selector: Selector) -> usize {
        let whole = self.place_whole(metric);
        if selector.tags.is_empty() {
            return whole;
        }
        let index = self.series.len();
        self.series
            .push(Series::new(metric, name.trim(), selector.tags));
        let places = self.places[metric.id.index()]
            .as_mut()
            .expect("it was placed above");
        places.parts.push(index);
        index
    }

    fn place_whole(&mut self, metric: &Metric) -> usize {
        let index = metric.id.index();
        if let Some(Some(places)) = self.places.get(index) {
            return places.whole;
        }
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        let whole = self.series.len();
        self.places[index] = Some(Places {
            whole,
            parts: Vec::new(),
        });
        self.series
            .push(Series::new(metric, &metric.name, TagSet::new()));
        whole
    }
}

/// The metric a selector means.
fn find(registry: &Registry, text: &str) -> Result<(Selector, Metric), String> {
    let selector = Selector::parse(text).map_err(|error| error.to_string())?;
    let Some(id) = registry.metric(&selector.metric) else {
        let name = &selector.metric;
        return Err(format!(
            "'{}': no metric '{name}' exists: expected a built-in metric or one that the script defines",
            text.trim()
        ));
    };
    Ok((selector, registry.describe(id)))
}

fn judgements(
    name: &str,
    kind: Kind,
    thresholds: &[Threshold],
    problems: &mut Vec<String>,
) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for threshold in thresholds {
        match Expression::parse_for(&threshold.expression, kind) {
            Ok(expression) => judgements.push(Judgement::new(expression, threshold)),
            Err(error) => problems.push(format!("threshold of '{}': {error}", name.trim())),
        }
    }
    judgements
}
