//! One file, nothing outside, nothing unescaped.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::metrics::{Registry, Sample, Statistic, Store, TagSet};
use crate::options::Threshold;
use crate::summary::Run;
use crate::summary::timeline::Timeline;

fn page(script: &str, threshold: &str) -> String {
    let registry = Arc::new(Registry::new());
    let threshold = Threshold {
        expression: threshold.into(),
        abort_on_fail: false,
        delay_abort_eval: Duration::ZERO,
    };
    let thresholds = [("sfu_join_duration{region:<eu>}".to_owned(), vec![threshold])].into();
    let mut store = Store::new(Arc::clone(&registry), &thresholds).unwrap();
    store.detailed = true;
    let mut timeline = Timeline::new(&registry, 0.0);
    let mut add = |second: u32, metric: &'static str, pairs: &[(&str, &str)], value: f64| {
        let tags: TagSet = pairs
            .iter()
            .map(|(tag, value)| ((*tag).into(), (*value).into()))
            .collect();
        let at = f64::from(second) * 1e3;
        let sample = Sample::new(registry.builtin(metric), registry.tag_set(&tags), at, value);
        store.add(&sample);
        timeline.add(&sample);
    };
    for second in 0..90 {
        let wave = f64::from(second % 20);
        add(second, "vus", &[], f64::from(second.min(50)));
        add(
            second,
            "sfu_join_duration",
            &[("region", "<eu>"), ("scenario", "s<1>")],
            100.0 + 10.0 * wave,
        );
        add(second, "rtc_e2e_latency", &[], 20.0 + wave);
        add(second, "rtc_bitrate_received", &[], 1e6 + 1e5 * wave);
        add(
            second,
            "checks",
            &[("check", "<b>joined</b>"), ("group", "::a::b&c")],
            f64::from(u8::from(second > 3)),
        );
        add(second, "gen_cpu", &[], 30.0 + wave);
    }
    let elapsed = Duration::from_secs(90);
    store.finish(elapsed);
    let run = Run {
        script: script.into(),
        started_at: 1_700_000_000_123.0,
        version: "0.1.0".into(),
        trend_stats: Statistic::USUAL.into(),
        time_unit: None,
        warnings: vec!["saturated <script>alert(1)</script>".into()],
    };
    render(
        &Summary::new(run, &store.snapshot(elapsed)),
        &timeline.moments(),
    )
}

#[test]
fn it_is_one_file_and_says_everything() {
    let page = page("large-room.js", "p(95)<500");
    for outside in [
        "http:", "https:", "src=", "href=", "@import", "url(", "<script",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    for part in [
        "<h1>large-room.js</h1>",
        "Passed: the threshold holds",
        "2023-11-14T22:13:20Z",
        "1m30s",
        "Read this first",
        "<h2>Thresholds</h2>",
        "<h2>Over time</h2>",
        "<h2>Checks</h2>",
        "<h2>Metrics</h2>",
        "prefers-color-scheme: dark",
        "End-to-end latency",
        "<code>rtc_bitrate_received</code>",
        "Scenario s&lt;1&gt;",
        "a › b&amp;c",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for tag in [
        "section", "table", "figure", "svg", "details", "div", "dl", "tr", "td", "th",
    ] {
        let (opened, closed) = (
            page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count(),
            page.matches(&format!("</{tag}>")).count(),
        );
        assert_eq!(opened, closed, "{tag}");
    }
}

#[test]
fn nothing_is_unescaped() {
    let page = page("<img src=x onerror=\"alert('1')\">.js", "p(95)<1");
    assert!(page.contains("<h1>&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;.js</h1>"));
    assert!(page.contains("Failed: 1 of 1 thresholds crossed"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("sfu_join_duration{region:&lt;eu&gt;}"));
    assert!(page.contains("<code>p(95)&lt;1</code>"));
    for raw in ["<script", "<img", "<b>", "<eu>", "s<1>"] {
        assert!(!page.contains(raw), "{raw}");
    }
}

#[test]
fn an_empty_run_is_a_short_page() {
    let run = Run {
        script: "a.js".into(),
        started_at: 0.0,
        version: "0.1.0".into(),
        trend_stats: Statistic::USUAL.into(),
        time_unit: None,
        warnings: Vec::new(),
    };
    let store = Store::new(
        Arc::new(Registry::new()),
        &std::collections::BTreeMap::new(),
    )
    .unwrap();
    let page = render(&Summary::new(run, &store.snapshot(Duration::ZERO)), &[]);
    assert!(page.contains("No thresholds"));
    assert!(!page.contains("<table") && !page.contains("<svg"));
}
