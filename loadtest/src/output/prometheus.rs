//! Metrics for Prometheus, as its remote-write protocol wants them: protobuf, compressed by Snappy.
//!
//! A series is a metric with a set of tags. What is sent is what each series is over the whole run
//! so far. Times are seconds there, as Prometheus has them. The push itself is not here.

mod settings;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{
    Contains, Metric, MetricId, Registry, Sample, Sink, Statistic, TagSet, TagSetId,
};

pub use settings::{Credentials, Settings};

/// So many values of a series are kept exactly. There may be thousands of series here, and nobody
/// compares their percentiles to the last digit.
const EXACT: u64 = 256;

/// What Prometheus takes for the end of a series: a certain one of all that are no numbers.
const STALE: u64 = 0x7ff0_0000_0000_0002;

#[derive(Debug)]
pub struct RemoteWrite {
    registry: Arc<Registry>,
    trend_stats: Vec<Statistic>,
    stale_markers: bool,
    series: BTreeMap<(MetricId, TagSetId), Series>,
}

#[derive(Debug)]
struct Series {
    sink: Sink,
    contains: Contains,
    /// Its parts: what the name of each ends with, and its labels.
    parts: Vec<(Part, Vec<wire::Label>)>,
    /// It got a sample since it was sent.
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Sum,
    Value,
    Rate,
    Statistic(Statistic),
}

impl RemoteWrite {
    #[must_use]
    pub fn new(registry: Arc<Registry>, settings: &Settings) -> Self {
        Self {
            registry,
            trend_stats: settings.trend_stats.clone(),
            stale_markers: settings.stale_markers,
            series: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, sample: &Sample) {
        if !sample.value.is_finite() || !sample.weight.is_finite() {
            return;
        }
        let (registry, trend_stats) = (&self.registry, &self.trend_stats);
        let series = self
            .series
            .entry((sample.metric, sample.tags))
            .or_insert_with(|| {
                Series::new(
                    &registry.describe(sample.metric),
                    &registry.tags(sample.tags),
                    trend_stats,
                )
            });
        series.changed = true;
        series.sink.add(sample.value, sample.weight);
        if let Sink::Trend(trend) = &mut series.sink
            && trend.count() == EXACT
        {
            trend.coarsen();
        }
    }

    /// The body of the next request: all series that got a sample since the last one; `None` if
    /// there are none. `now` is milliseconds since the Unix epoch.
    pub fn batch(&mut self, now: f64) -> Option<Vec<u8>> {
        let mut request = wire::WriteRequest::default();
        for series in self.series.values_mut().filter(|series| series.changed) {
            series.changed = false;
            for (part, labels) in &series.parts {
                request
                    .timeseries
                    .push(at(labels, series.value(*part), now));
            }
        }
        encoded(&request)
    }

    /// The body of the last request: that all series have ended, if that is wanted.
    pub fn finish(&mut self, now: f64) -> Option<Vec<u8>> {
        let mut request = wire::WriteRequest::default();
        let ended = self.series.values().filter(|_| self.stale_markers);
        for (_, labels) in ended.flat_map(|series| &series.parts) {
            request
                .timeseries
                .push(at(labels, f64::from_bits(STALE), now));
        }
        self.series.clear();
        encoded(&request)
    }
}

impl Series {
    fn new(metric: &Metric, tags: &TagSet, trend_stats: &[Statistic]) -> Self {
        let sink = Sink::new(metric.kind);
        let parts: Vec<Part> = match sink {
            Sink::Counter { .. } => vec![Part::Sum],
            Sink::Gauge { .. } => vec![Part::Value],
            Sink::Rate { .. } => vec![Part::Rate],
            Sink::Trend(_) => trend_stats
                .iter()
                .map(|statistic| Part::Statistic(*statistic))
                .collect(),
        };
        let with_labels = |part: Part| {
            let name = format!("k6_{}{}", metric.name, part.suffix());
            (part, labels(&name, tags))
        };
        Self {
            sink,
            contains: metric.contains,
            parts: parts.into_iter().map(with_labels).collect(),
            changed: false,
        }
    }

    fn value(&self, part: Part) -> f64 {
        let (value, is_of_values) = match (&self.sink, part) {
            (Sink::Counter { sum, .. }, _) => (*sum, true),
            (Sink::Gauge { value, .. }, _) => (*value, true),
            (Sink::Rate { trues, total }, _) if *total > 0.0 => (trues / total, false),
            (Sink::Rate { .. }, _) => (0.0, false),
            (Sink::Trend(trend), Part::Statistic(statistic)) => {
                (trend.statistic(statistic), statistic != Statistic::Count)
            }
            (Sink::Trend(trend), _) => (trend.avg(), true),
        };
        if is_of_values && self.contains == Contains::Time {
            value / 1e3
        } else {
            value
        }
    }
}

impl Part {
    /// `_p99`, and `_p999` for `p(99.9)`: a name has no dots.
    fn suffix(self) -> String {
        match self {
            Self::Sum => "_total".to_owned(),
            Self::Value => String::new(),
            Self::Rate => "_rate".to_owned(),
            Self::Statistic(statistic) => {
                let name: String = statistic
                    .to_string()
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .collect();
                format!("_{name}")
            }
        }
    }
}

/// What a request has to say besides its body.
#[must_use]
pub fn headers(settings: &Settings, version: &str) -> Vec<(String, String)> {
    let mut headers = vec![
        (
            "Content-Type".to_owned(),
            "application/x-protobuf".to_owned(),
        ),
        ("Content-Encoding".to_owned(), "snappy".to_owned()),
        (
            "X-Prometheus-Remote-Write-Version".to_owned(),
            "0.1.0".to_owned(),
        ),
        (
            "User-Agent".to_owned(),
            format!("pipemesh-loadtest/{version}"),
        ),
    ];
    headers.extend(
        settings
            .credentials
            .as_ref()
            .map(|credentials| ("Authorization".to_owned(), credentials.header())),
    );
    headers.extend(settings.headers.iter().cloned());
    headers
}

/// How often [`RemoteWrite::batch`] is to be sent when nobody says otherwise.
pub const PUSH_INTERVAL: Duration = Duration::from_secs(5);

fn at(labels: &[wire::Label], value: f64, now: f64) -> wire::TimeSeries {
    wire::TimeSeries {
        labels: labels.to_vec(),
        samples: vec![wire::Sample {
            value,
            timestamp: now.round() as i64,
        }],
    }
}

fn encoded(request: &wire::WriteRequest) -> Option<Vec<u8>> {
    if request.timeseries.is_empty() {
        return None;
    }
    let bytes = prost::Message::encode_to_vec(request);
    let compressed = snap::raw::Encoder::new().compress_vec(&bytes);
    Some(compressed.expect("what is sent at once is less than 4 GiB"))
}

/// Sorted by name, which the protocol demands. A tag without a value is no label.
fn labels(name: &str, tags: &TagSet) -> Vec<wire::Label> {
    let named = std::iter::once(("__name__".to_owned(), name.to_owned()));
    let tagged = tags.iter().filter(|(_, value)| !value.is_empty());
    let labels: BTreeMap<String, String> = tagged
        .map(|(tag, value)| (label_name(tag), value.clone()))
        .chain(named)
        .collect();
    labels
        .into_iter()
        .map(|(name, value)| wire::Label { name, value })
        .collect()
}

fn label_name(tag: &str) -> String {
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() {
            character
        } else {
            '_'
        }
    };
    let name: String = tag.chars().map(allowed).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}
