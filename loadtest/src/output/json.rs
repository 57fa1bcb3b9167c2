//! Samples as JSON lines: each metric is described before its first sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::names::Names;
use super::timestamp;
use crate::metrics::{Contains, Kind, Metric, Registry, Sample, Selector, TagSet};
use crate::options::Threshold;

#[derive(Debug)]
pub struct Json {
    names: Names,
    thresholds: BTreeMap<String, Vec<Threshold>>,
}

#[derive(Serialize)]
struct Description<'a> {
    r#type: &'static str,
    data: DescriptionData<'a>,
    metric: &'a str,
}

#[derive(Serialize)]
struct DescriptionData<'a> {
    name: &'a str,
    r#type: Kind,
    contains: Contains,
    thresholds: Vec<&'a str>,
    submetrics: Option<Vec<Submetric>>,
}

#[derive(Serialize)]
struct Submetric {
    name: String,
    suffix: String,
    tags: TagSet,
}

#[derive(Serialize)]
struct Point<'a> {
    metric: &'a str,
    r#type: &'static str,
    data: PointData<'a>,
}

#[derive(Serialize)]
struct PointData<'a> {
    time: String,
    value: f64,
    /// Of a rate that got more than a yes or no: of how much `value` is a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    tags: &'a TagSet,
}

impl Json {
    #[must_use]
    pub fn new(registry: Arc<Registry>, thresholds: BTreeMap<String, Vec<Threshold>>) -> Self {
        Self {
            names: Names::new(registry),
            thresholds,
        }
    }

    /// Adds the lines of these samples to `out`. What is no finite number has no line: JSON cannot
    /// say it.
    pub fn write(&mut self, samples: &[Sample], out: &mut Vec<u8>) {
        for sample in samples {
            if !sample.value.is_finite() || !sample.weight.is_finite() || !sample.at.is_finite() {
                continue;
            }
            let (metric, tags, is_new) = self.names.of(sample);
            if is_new {
                describe(metric, &self.thresholds, out);
            }
            let has_weight = metric.kind == Kind::Rate && sample.weight != 1.0;
            let data = PointData {
                time: timestamp::rfc3339(sample.at),
                value: sample.shown(metric.kind),
                weight: Some(sample.weight).filter(|_| has_weight),
                tags,
            };
            line(
                &Point {
                    metric: &metric.name,
                    r#type: "Point",
                    data,
                },
                out,
            );
        }
    }
}

fn describe(metric: &Metric, all: &BTreeMap<String, Vec<Threshold>>, out: &mut Vec<u8>) {
    let (mut thresholds, mut submetrics) = (Vec::new(), Vec::new());
    for (name, list) in all {
        let Ok(selector) = Selector::parse(name) else {
            continue;
        };
        if selector.metric != *metric.name {
            continue;
        }
        if selector.tags.is_empty() {
            thresholds.extend(list.iter().map(|threshold| threshold.expression.as_str()));
            continue;
        }
        let suffix = name
            .split_once('{')
            .map_or("", |(_, suffix)| suffix.trim_end_matches('}'));
        submetrics.push(Submetric {
            name: name.clone(),
            suffix: suffix.to_owned(),
            tags: selector.tags,
        });
    }
    let data = DescriptionData {
        name: &metric.name,
        r#type: metric.kind,
        contains: metric.contains,
        thresholds,
        submetrics: Some(submetrics).filter(|submetrics| !submetrics.is_empty()),
    };
    line(
        &Description {
            r#type: "Metric",
            data,
            metric: &metric.name,
        },
        out,
    );
}

fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value).expect("keys are strings and a Vec takes everything");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    //! Lines as they are written.

    use std::time::Duration;

    use super::*;
    use crate::metrics::TagSetId;

    #[test]
    fn a_metric_is_described_once_before_its_points() {
        let registry = Arc::new(Registry::new());
        let threshold = |expression: &str| {
            vec![Threshold {
                expression: expression.into(),
                abort_on_fail: false,
                delay_abort_eval: Duration::ZERO,
            }]
        };
        let thresholds = BTreeMap::from([
            ("sfu_join_duration".to_owned(), threshold("p(95)<500")),
            (
                "sfu_join_duration{region:eu}".to_owned(),
                threshold("p(95)<300"),
            ),
        ]);
        let tags = registry.tag_set(&TagSet::from([("region".into(), "eu".into())]));
        let join = registry.builtin("sfu_join_duration");
        let loss = registry.builtin("rtc_packet_loss");
        let at = 1_700_000_000_120.0;
        let mut json = Json::new(registry, thresholds);
        let mut out = Vec::new();
        json.write(
            &[
                Sample::new(join, tags, at, 1.5),
                Sample::new(join, TagSetId::EMPTY, at, 2.0),
                Sample::new(join, tags, at, f64::NAN),
                Sample::part(loss, TagSetId::EMPTY, at, 1.0, 4.0),
                Sample::flag(loss, TagSetId::EMPTY, at, true),
            ],
            &mut out,
        );
        let expected = [
            r#"{"type":"Metric","data":{"name":"sfu_join_duration","type":"trend","contains":"time","thresholds":["p(95)<500"],"submetrics":[{"name":"sfu_join_duration{region:eu}","suffix":"region:eu","tags":{"region":"eu"}}]},"metric":"sfu_join_duration"}"#,
            r#"{"metric":"sfu_join_duration","type":"Point","data":{"time":"2023-11-14T22:13:20.12Z","value":1.5,"tags":{"region":"eu"}}}"#,
            r#"{"metric":"sfu_join_duration","type":"Point","data":{"time":"2023-11-14T22:13:20.12Z","value":2.0,"tags":{}}}"#,
            r#"{"type":"Metric","data":{"name":"rtc_packet_loss","type":"rate","contains":"default","thresholds":[],"submetrics":null},"metric":"rtc_packet_loss"}"#,
            r#"{"metric":"rtc_packet_loss","type":"Point","data":{"time":"2023-11-14T22:13:20.12Z","value":0.25,"weight":4.0,"tags":{}}}"#,
            r#"{"metric":"rtc_packet_loss","type":"Point","data":{"time":"2023-11-14T22:13:20.12Z","value":1.0,"tags":{}}}"#,
        ];
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
