//! Samples in, verdicts out.

use super::*;
use crate::metrics::{Statistic, TagSetId};

fn threshold(expression: &str) -> Threshold {
    Threshold {
        expression: expression.to_owned(),
        abort_on_fail: false,
        delay_abort_eval: Duration::ZERO,
    }
}

fn thresholds(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Threshold>> {
    let each = |(name, expressions): &(&str, &[&str])| {
        (
            (*name).to_owned(),
            expressions
                .iter()
                .map(|expression| threshold(expression))
                .collect(),
        )
    };
    list.iter().map(each).collect()
}

fn store(list: &[(&str, &[&str])]) -> Store {
    Store::new(Arc::new(Registry::new()), &thresholds(list)).unwrap()
}

fn tags(store: &Store, pairs: &[(&str, &str)]) -> TagSetId {
    store.registry.tag_set(
        &pairs
            .iter()
            .map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

fn add(store: &mut Store, metric: &'static str, pairs: &[(&str, &str)], value: f64) {
    let sample = Sample::new(
        store.registry.builtin(metric),
        tags(store, pairs),
        0.0,
        value,
    );
    store.add(&sample);
}

const TEN: Duration = Duration::from_secs(10);

#[test]
fn every_problem_is_told_at_once() {
    let list = thresholds(&[
        ("checks", &["count>1", "rate>0.9"]),
        ("nothing{a:b}", &["rate>1"]),
        ("vus{a:b", &["value>1"]),
        ("sfu_join_duration", &["p(95)", "rate<1"]),
    ]);
    let problems = Store::new(Arc::new(Registry::new()), &list).unwrap_err();
    assert_eq!(
        problems,
        [
            "threshold of 'checks': 'count>1' asks for 'count', which a rate does not have: expected rate",
            "thresholds: 'nothing{a:b}': no metric 'nothing' exists: expected a built-in metric or one that the script defines",
            "threshold of 'sfu_join_duration': 'p(95)' is not a threshold: expected an aggregation, one of > >= <= < == === !=, and a number, for example 'p(95)<500'",
            "threshold of 'sfu_join_duration': 'rate<1' asks for 'rate', which a trend does not have: expected avg, min, max, med and p(0..100)",
            "thresholds: 'vus{a:b' misses its closing bracket: expected 'metric{tag:value,tag2:value2}'",
        ]
    );
}

#[test]
fn sub_metrics_get_their_samples_only() {
    let mut store = store(&[
        ("sfu_join_duration{region:eu}", &["max<100"]),
        ("sfu_join_duration", &["max<500"]),
    ]);
    add(&mut store, "sfu_join_duration", &[("region", "us")], 300.0);
    add(
        &mut store,
        "sfu_join_duration",
        &[("region", "eu"), ("role", "viewer")],
        90.0,
    );
    assert_eq!(store.evaluate(TEN), Evaluation::default());
    let snapshot = store.snapshot(TEN);
    let count = |name: &str| match &snapshot.find(name).unwrap().sink {
        Sink::Trend(trend) => trend.statistic(Statistic::Count),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (
            count("sfu_join_duration"),
            count("sfu_join_duration{region:eu}")
        ),
        (2.0, 1.0)
    );
    add(&mut store, "sfu_join_duration", &[("region", "eu")], 101.0);
    assert_eq!(
        store.evaluate(TEN).crossed,
        ["sfu_join_duration{region:eu}"]
    );
}

#[test]
fn without_samples_a_threshold_passes_unless_it_must_not() {
    let mut store = store(&[("rtc_freezes", &["count<1"])]);
    assert_eq!(store.finish(TEN), Evaluation::default());
    let series = store.snapshot(TEN).series.remove(0);
    assert_eq!(
        (series.thresholds[0].verdict, series.thresholds[0].actual),
        (Verdict::Unknown, None)
    );
    store.fail_on_empty = true;
    assert_eq!(
        store.evaluate(TEN),
        Evaluation::default(),
        "there is still time"
    );
    assert_eq!(store.finish(TEN).crossed, ["rtc_freezes"]);
}

#[test]
fn a_run_is_aborted_after_the_delay_only() {
    let mut list = thresholds(&[("rtc_freezes", &["count<1"])]);
    let threshold = &mut list.get_mut("rtc_freezes").unwrap()[0];
    (threshold.abort_on_fail, threshold.delay_abort_eval) = (true, TEN);
    let mut store = Store::new(Arc::new(Registry::new()), &list).unwrap();
    add(&mut store, "rtc_freezes", &[], 1.0);
    let crossed = vec!["rtc_freezes".to_owned()];
    assert_eq!(
        store.evaluate(Duration::from_secs(8)),
        Evaluation {
            crossed: crossed.clone(),
            abort: false
        }
    );
    assert_eq!(
        store.evaluate(TEN),
        Evaluation {
            crossed,
            abort: true
        }
    );
}

#[test]
fn a_counter_has_a_rate_over_the_run() {
    let mut store = store(&[("sfu_joins", &["rate>=0.5", "count==5"])]);
    add(&mut store, "sfu_joins", &[], 5.0);
    assert_eq!(store.evaluate(TEN), Evaluation::default());
    assert_eq!(store.evaluate(TEN * 2).crossed, ["sfu_joins"]);
}

#[test]
fn checks_are_counted_in_the_order_of_their_first_execution() {
    let mut store = store(&[]);
    let second = [("check", "b"), ("group", "::watch")];
    // The tags are seen before with another metric.
    add(&mut store, "iterations", &[("check", "a")], 1.0);
    for (pairs, value) in [
        (&second[..], 1.0),
        (&[("check", "a")], 0.0),
        (&second, 0.0),
        (&[("check", "b")], 1.0),
    ] {
        add(&mut store, "checks", pairs, value);
    }
    let checks = store.snapshot(TEN).checks;
    let seen: Vec<_> = checks
        .iter()
        .map(|check| (&*check.group, &*check.name, check.passes, check.fails))
        .collect();
    assert_eq!(
        seen,
        [("::watch", "b", 1, 1), ("", "a", 0, 1), ("", "b", 1, 0)]
    );
}

#[test]
fn groups_and_scenarios_have_metrics_if_asked_for() {
    for detailed in [false, true] {
        let mut store = store(&[]);
        store.detailed = detailed;
        add(
            &mut store,
            "rtc_freezes",
            &[("group", "::a"), ("scenario", "s")],
            2.0,
        );
        add(
            &mut store,
            "checks",
            &[("group", "::a"), ("check", "c")],
            1.0,
        );
        add(&mut store, "rtc_freezes", &[("group", "")], 3.0);
        let blocks = store.snapshot(TEN).blocks;
        if !detailed {
            assert!(blocks.is_empty());
            continue;
        }
        let names: Vec<_> = blocks
            .iter()
            .map(|block| (block.kind, &*block.name, block.checks.len()))
            .collect();
        assert_eq!(
            names,
            [(BlockKind::Group, "::a", 1), (BlockKind::Scenario, "s", 0)]
        );
        assert_eq!(
            blocks[0].series[0].sink,
            Sink::Counter {
                sum: 2.0,
                samples: 1
            }
        );
    }
}

#[test]
fn what_is_no_number_is_counted_apart() {
    let mut store = store(&[]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        add(&mut store, "rtc_jitter", &[], value);
    }
    let snapshot = store.snapshot(TEN);
    assert_eq!((snapshot.invalid_samples, snapshot.series.len()), (3, 0));
}

#[test]
fn conditions_see_their_window_alone() {
    let mut store = store(&[]);
    let conditions = [
        "sfu_join_failed rate>0.1".to_owned(),
        "sfu_joins{region:eu} rate>0.5".to_owned(),
    ];
    let watch = store.watch(&conditions, TEN).unwrap();
    add(&mut store, "sfu_join_failed", &[], 1.0);
    add(&mut store, "sfu_joins", &[("region", "eu")], 10.0);
    add(&mut store, "sfu_joins", &[("region", "us")], 10.0);
    let findings = store.judge(watch, TEN * 2);
    let seen: Vec<_> = findings
        .iter()
        .map(|finding| (finding.actual, finding.holds))
        .collect();
    assert_eq!(seen, [(Some(1.0), true), (Some(1.0), true)]);
    let findings = store.judge(watch, TEN * 3);
    let seen: Vec<_> = findings
        .iter()
        .map(|finding| (finding.actual, finding.holds))
        .collect();
    assert_eq!(seen, [(None, false), (None, false)]);
    let problems = store
        .watch(&["nothing rate>1".to_owned(), "vus rate>1".to_owned()], TEN)
        .unwrap_err();
    assert_eq!(
        problems,
        [
            "condition 'nothing': no metric 'nothing' exists: expected a built-in metric or one that the script defines",
            "condition 'vus rate>1': 'rate>1' asks for 'rate', which a gauge does not have: expected value",
        ]
    );
}
