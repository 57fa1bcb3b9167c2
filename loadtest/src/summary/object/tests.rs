//! The three shapes, from one run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::metrics::{Registry, Sample, Statistic, Store, TagSet};
use crate::options::Threshold;
use crate::summary::Run;

fn summary() -> Summary {
    let registry = Arc::new(Registry::new());
    let threshold = |expression: &str| Threshold {
        expression: expression.into(),
        abort_on_fail: false,
        delay_abort_eval: Duration::ZERO,
    };
    let thresholds = BTreeMap::from([
        ("checks".to_owned(), vec![threshold("rate>0.9")]),
        ("rtc_freezes".to_owned(), vec![threshold("count<1")]),
    ]);
    let mut store = Store::new(Arc::clone(&registry), &thresholds).unwrap();
    let mut add = |metric: &'static str, tags: &[(&str, &str)], value: f64| {
        let tags: TagSet = tags
            .iter()
            .map(|(tag, value)| ((*tag).into(), (*value).into()))
            .collect();
        store.add(&Sample::new(
            registry.builtin(metric),
            registry.tag_set(&tags),
            0.0,
            value,
        ));
    };
    add("checks", &[("check", "joined")], 1.0);
    add(
        "checks",
        &[("check", "moving"), ("group", "::watch::closely")],
        0.0,
    );
    add("iterations", &[], 20.0);
    add("sfu_join_duration", &[], 100.0);
    add("sfu_join_duration", &[], 200.0);
    let elapsed = Duration::from_secs(10);
    store.finish(elapsed);
    let run = Run {
        script: "a.js".into(),
        started_at: 1_700_000_000_000.0,
        version: "0.1.0".into(),
        trend_stats: vec![
            Statistic::Avg,
            Statistic::Percentile(90.0),
            Statistic::Count,
        ],
        time_unit: Some(TimeUnit::Milliseconds),
        warnings: vec!["saturated".into()],
    };
    Summary::new(run, &store.snapshot(elapsed))
}

#[test]
fn what_handle_summary_gets() {
    let data = handle_summary(&summary(), true, false, Some(&json!({ "room": "r" })));
    assert_eq!(
        data["metrics"]["sfu_join_duration"],
        json!({ "type": "trend", "contains": "time", "values": { "avg": 150.0, "p(90)": 190.0, "count": 2.0 } })
    );
    assert_eq!(
        data["metrics"]["checks"],
        json!({
            "type": "rate", "contains": "default",
            "values": { "rate": 0.5, "passes": 1.0, "fails": 1.0 },
            "thresholds": { "rate>0.9": { "ok": false } },
        })
    );
    assert_eq!(
        data["metrics"]["iterations"]["values"],
        json!({ "count": 20.0, "rate": 2.0 })
    );
    let closely = &data["root_group"]["groups"][0]["groups"][0];
    assert_eq!(
        (&closely["name"], &closely["path"]),
        (&json!("closely"), &json!("::watch::closely"))
    );
    assert_eq!(
        closely["checks"][0]["path"],
        json!("::watch::closely::moving")
    );
    assert_eq!(data["root_group"]["checks"][0]["passes"], json!(1));
    assert_eq!(data["root_group"]["id"].as_str().unwrap().len(), 32);
    assert_eq!(data["state"]["testRunDurationMs"], json!(10_000.0));
    assert_eq!(data["options"]["summaryTimeUnit"], json!("ms"));
    assert_eq!(data["setup_data"]["room"], json!("r"));
}

#[test]
fn the_flat_shape() {
    let data = export(&summary());
    assert_eq!(
        data["metrics"]["checks"],
        json!({ "value": 0.5, "passes": 1.0, "fails": 1.0, "thresholds": { "rate>0.9": true } })
    );
    assert_eq!(
        data["metrics"]["rtc_freezes"],
        json!({ "thresholds": { "count<1": false } })
    );
    assert_eq!(data["root_group"]["checks"]["joined"]["passes"], json!(1));
    assert_eq!(
        data["root_group"]["groups"]["watch"]["groups"]["closely"]["checks"]["moving"]["fails"],
        json!(1)
    );
}

#[test]
fn the_machine_readable_shape() {
    let data = machine(&summary());
    assert_eq!(
        data["metadata"]["generatedAt"],
        json!("2023-11-14T22:13:30Z")
    );
    assert_eq!(
        data["config"],
        json!({ "script": "a.js", "duration": 10.0, "execution": "local" })
    );
    assert_eq!(data["results"]["passed"], json!(false));
    assert_eq!(
        data["results"]["checks"]["ordered_checks"][0]["name"],
        json!("joined")
    );
    assert_eq!(
        data["results"]["metrics"][0],
        json!({
            "name": "checks", "type": "rate", "contains": "default",
            "values": { "rate": 0.5, "passes": 1.0, "fails": 1.0 },
            "thresholds": [{ "threshold": "rate>0.9", "verdict": "failed", "actual": 0.5 }],
        })
    );
}
