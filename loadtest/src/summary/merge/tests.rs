//! Several generators against one that did everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::metrics::{Registry, Sample, Store, TagSet};
use crate::options::Threshold;

const ELAPSED: Duration = Duration::from_secs(60);

fn run(script: &str) -> Run {
    Run {
        script: script.into(),
        started_at: 1000.0,
        version: "0.1.0".into(),
        trend_stats: Statistic::USUAL.into(),
        time_unit: None,
        warnings: Vec::new(),
    }
}

struct Generator {
    registry: Arc<Registry>,
    store: Store,
}

impl Generator {
    fn new() -> Self {
        let registry = Arc::new(Registry::new());
        let threshold = |expression: &str| {
            vec![Threshold {
                expression: expression.into(),
                abort_on_fail: false,
                delay_abort_eval: Duration::ZERO,
            }]
        };
        let thresholds = BTreeMap::from([
            ("sfu_joins".to_owned(), threshold("count<=3")),
            (
                "rtc_e2e_latency{path:cross_node}".to_owned(),
                threshold("p(95)<150"),
            ),
        ]);
        let mut store = Store::new(Arc::clone(&registry), &thresholds).unwrap();
        store.detailed = true;
        Self { registry, store }
    }

    fn add(&mut self, metric: &'static str, tags: &[(&str, &str)], value: f64, weight: f64) {
        let tags: TagSet = tags
            .iter()
            .map(|(tag, value)| ((*tag).into(), (*value).into()))
            .collect();
        let (metric, tags) = (self.registry.builtin(metric), self.registry.tag_set(&tags));
        self.store
            .add(&Sample::part(metric, tags, 0.0, value, weight));
    }

    fn results(&mut self) -> Results {
        self.store.finish(ELAPSED);
        Results::new(&run("a.js"), false, self.store.snapshot(ELAPSED))
    }
}

#[test]
fn thresholds_are_judged_together() {
    let (mut first, mut second) = (Generator::new(), Generator::new());
    for generator in [&mut first, &mut second] {
        generator.add("sfu_joins", &[], 2.0, 1.0);
        generator.add("vus", &[], 10.0, 1.0);
        generator.add("checks", &[("check", "a"), ("group", "::g")], 1.0, 1.0);
        assert!(generator.store.finish(ELAPSED).crossed.is_empty());
    }
    second.add("checks", &[("check", "b")], 0.0, 1.0);
    let mut merged = first.results();
    merged.merge(second.results(), "b.json").unwrap();
    assert_eq!(merged.judge(), ["sfu_joins"]);
    let summary = merged.summary(Statistic::USUAL.into(), None);
    assert_eq!(summary.find("vus").unwrap().value("value"), Some(20.0));
    let checks: Vec<_> = summary
        .checks
        .iter()
        .map(|check| (&*check.name, check.passes, check.fails))
        .collect();
    assert_eq!(checks, [("a", 2, 0), ("b", 0, 1)]);
    assert_eq!(summary.parts.len(), 1);
    assert_eq!(summary.parts[0].checks[0].passes, 2);
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let mut generator = Generator::new();
    generator.add("rtc_packet_loss", &[("path", "cross_node")], 3.0, 500.0);
    generator.add("rtc_e2e_latency", &[("path", "cross_node")], 42.5, 1.0);
    generator.add("gen_cpu", &[("scenario", "s")], 12.0, 1.0);
    let results = generator.results();
    assert_eq!(
        Results::from_json(&results.to_json(), "a.json").unwrap(),
        results
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let error = |text: &str| Results::from_json(text, "a.json").unwrap_err().to_string();
    assert!(
        error("{}").starts_with("a.json: these are no results: missing field `format`"),
        "{}",
        error("{}")
    );
    let results = Generator::new().results().to_json();
    let other = results.replace("results 1", "results 2");
    assert_eq!(
        error(&other),
        "a.json: these are no results: its format is 'pipemesh-loadtest results 2', expected 'pipemesh-loadtest results 1'"
    );
    let mut generator = Generator::new();
    generator.add("rtc_e2e_latency", &[], 42.5, 1.0);
    let broken = generator
        .results()
        .to_json()
        .replace("\"count\":1,", "\"count\":7,");
    assert_eq!(
        error(&broken),
        "a.json: these are no results: the values of 'rtc_e2e_latency' are not as many as it says"
    );
}

#[test]
fn other_kinds_and_other_scripts_are_noticed() {
    let mut first = Generator::new().results();
    let mut second = first.clone();
    second.script = "b.js".into();
    second.warnings = vec!["saturated".into()];
    first.merge(second.clone(), "b.json").unwrap();
    assert_eq!(
        first.warnings,
        ["b.json is of another script: b.js", "b.json: saturated"]
    );
    let series = second
        .snapshot
        .series
        .iter_mut()
        .find(|series| series.name == "sfu_joins")
        .unwrap();
    series.sink = Sink::new(crate::metrics::Kind::Gauge);
    assert_eq!(
        first.merge(second, "c.json").unwrap_err().to_string(),
        "c.json: metric 'sfu_joins' is a gauge here and a counter in the files before"
    );
}

proptest! {
    #[test]
    fn merged_results_are_those_of_all_samples(
        samples in prop::collection::vec((0_usize..3, 0..4, 0.0..1e4), 0..200),
        through_files in any::<bool>(),
    ) {
        let mut apart = [Generator::new(), Generator::new(), Generator::new()];
        let mut together = Generator::new();
        for (generator, metric, value) in samples {
            let value: f64 = value;
            // Whole numbers, so that sums do not depend on the order.
            let value = value.round();
            for generator in [&mut apart[generator], &mut together] {
                match metric {
                    0 => generator.add("rtc_e2e_latency", &[("path", "cross_node")], value, 1.0),
                    1 => generator.add("sfu_joins", &[("scenario", "s")], 1.0, 1.0),
                    2 => generator.add("rtc_packet_loss", &[], value, 1e4),
                    _ => generator.add("checks", &[("check", "c")], f64::from(value > 5e3), 1.0),
                }
            }
        }
        let [first, second, third] = &mut apart;
        let mut merged = first.results();
        for (generator, file) in [(second, "b"), (third, "c")] {
            let mut results = generator.results();
            if through_files {
                results = Results::from_json(&results.to_json(), file).unwrap();
            }
            merged.merge(results, file).unwrap();
        }
        let mut together = together.results();
        prop_assert_eq!(merged.judge(), together.judge());
        let usual = || Statistic::USUAL.to_vec();
        let (merged, together) = (merged.summary(usual(), None), together.summary(usual(), None));
        prop_assert_eq!(merged.metrics, together.metrics);
        prop_assert_eq!(merged.checks, together.checks);
    }
}
