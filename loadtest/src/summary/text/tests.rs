//! The layout, character by character.

use std::time::Duration;

use super::*;
use crate::metrics::{Expression, Statistic};
use crate::summary::Run;

const TREND: [(&str, f64); 6] = [
    ("avg", 212.4),
    ("min", 98.1),
    ("med", 187.7),
    ("max", 1890.0),
    ("p(90)", 301.3),
    ("p(95)", 388.9),
];

fn judged(text: &str, verdict: Verdict, actual: Option<f64>) -> Judgement {
    let expression = Expression::parse(text).unwrap();
    Judgement {
        expression,
        abort_on_fail: false,
        delay_abort_eval: Duration::ZERO,
        verdict,
        actual,
    }
}

fn measured(
    name: &str,
    kind: Kind,
    contains: Contains,
    section: Section,
    values: &[(&str, f64)],
) -> Measured {
    Measured {
        name: name.to_owned(),
        metric: name.split('{').next().unwrap().to_owned(),
        tags: crate::metrics::TagSet::new(),
        kind,
        contains,
        section,
        values: values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
        thresholds: Vec::new(),
    }
}

fn check(name: &str, passes: u64, fails: u64) -> Check {
    Check {
        passes,
        fails,
        ..Check::new("", name)
    }
}

fn example() -> Summary {
    use Contains::{Data, Default, Time};
    use Kind::{Counter, Gauge, Rate, Trend};
    use Section::{Custom, Execution, Network, Webrtc};
    let long = [
        ("avg", 61e3),
        ("min", 60e3),
        ("med", 61e3),
        ("max", 65e3),
        ("p(90)", 62e3),
        ("p(95)", 63e3),
    ];
    let mut metrics = vec![
        measured(
            "checks",
            Rate,
            Default,
            Execution,
            &[("rate", 0.996), ("passes", 498.0), ("fails", 2.0)],
        ),
        measured(
            "data_received",
            Counter,
            Data,
            Network,
            &[("count", 124e6), ("rate", 2e6)],
        ),
        measured(
            "data_sent",
            Counter,
            Data,
            Network,
            &[("count", 12e6), ("rate", 201e3)],
        ),
        measured("iteration_duration", Trend, Time, Execution, &long),
        measured(
            "iterations",
            Counter,
            Default,
            Execution,
            &[("count", 500.0), ("rate", 4.1)],
        ),
        measured("my_trend", Trend, Time, Custom, &TREND),
        measured(
            "vus",
            Gauge,
            Default,
            Execution,
            &[("value", 1.0), ("min", 1.0), ("max", 50.0)],
        ),
        measured(
            "vus_max",
            Gauge,
            Default,
            Execution,
            &[("value", 50.0), ("min", 50.0), ("max", 50.0)],
        ),
        measured("webrtc_join_duration", Trend, Time, Webrtc, &TREND),
        measured(
            "webrtc_join_duration{region:eu-west}",
            Trend,
            Time,
            Webrtc,
            &TREND,
        ),
        measured(
            "webrtc_packets_lost",
            Rate,
            Default,
            Webrtc,
            &[("rate", 0.0012), ("passes", 120.0), ("fails", 99_880.0)],
        ),
    ];
    metrics[0].thresholds = vec![judged("rate>0.99", Verdict::Passed, Some(0.996))];
    metrics[8].thresholds = vec![
        judged("p(95)<800", Verdict::Passed, Some(388.9)),
        judged("max<1500", Verdict::Failed, Some(1890.0)),
    ];
    metrics[9].thresholds = vec![judged("p(95)<500", Verdict::Passed, Some(388.9))];
    Summary {
        run: Run {
            script: "large-room.js".into(),
            started_at: 0.0,
            version: "0.1.0".into(),
            trend_stats: Statistic::USUAL.into(),
            time_unit: None,
            warnings: Vec::new(),
        },
        elapsed: Duration::from_secs_f64(500.0 / 4.1),
        metrics,
        checks: vec![
            check("joined", 250, 0),
            check("first frame under 2s", 248, 2),
        ],
        parts: Vec::new(),
    }
}

// Not one string: some lines end with spaces, which editors remove.
const EXPECTED: &[&str] = &[
    "",
    "",
    "  █ THRESHOLDS ",
    "",
    "    checks",
    "    ✓ 'rate>0.99' rate=99.60%",
    "",
    "    webrtc_join_duration",
    "    ✓ 'p(95)<800' p(95)=388.9ms",
    "    ✗ 'max<1500' max=1.89s",
    "",
    "      {region:eu-west}",
    "      ✓ 'p(95)<500' p(95)=388.9ms",
    "",
    "",
    "  █ TOTAL RESULTS ",
    "",
    "    checks_total.......: 500    4.1/s",
    "    checks_succeeded...: 99.60% 498 out of 500",
    "    checks_failed......: 0.40%  2 out of 500",
    "",
    "    ✓ joined",
    "    ✗ first frame under 2s",
    "      ↳  99% — ✓ 248 / ✗ 2",
    "",
    "    CUSTOM",
    "    my_trend...............: avg=212.4ms min=98.1ms med=187.7ms max=1.89s p(90)=301.3ms p(95)=388.9ms",
    "",
    "    WEBRTC",
    "    webrtc_join_duration...: avg=212.4ms min=98.1ms med=187.7ms max=1.89s p(90)=301.3ms p(95)=388.9ms",
    "      { region:eu-west }...: avg=212.4ms min=98.1ms med=187.7ms max=1.89s p(90)=301.3ms p(95)=388.9ms",
    "    webrtc_packets_lost....: 0.12%  120 out of 100000",
    "",
    "    EXECUTION",
    "    iteration_duration.....: avg=1m1s    min=1m0s   med=1m1s    max=1m5s  p(90)=1m2s    p(95)=1m3s   ",
    "    iterations.............: 500    4.1/s",
    "    vus....................: 1      min=1             max=50",
    "    vus_max................: 50     min=50            max=50",
    "",
    "    NETWORK",
    "    data_received..........: 124 MB 2.0 MB/s",
    "    data_sent..............: 12 MB  201 kB/s",
    "",
];

#[test]
fn the_compact_summary() {
    let text = render(&example(), Mode::Compact, false);
    let lines: Vec<&str> = text.split('\n').collect();
    for (line, expected) in lines.iter().zip(EXPECTED) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), EXPECTED.len());
}

#[test]
fn colours_move_nothing() {
    let mut text = render(&example(), Mode::Compact, true);
    assert!(text.contains("\x1b[1m█ THRESHOLDS\x1b[0m \n"));
    assert!(text.contains(
        "    vus\x1b[2m....................:\x1b[0m \x1b[36m1\x1b[0m      \x1b[36mmin=1\x1b[0m"
    ));
    for code in ["0", "1", "2", "31", "32", "33", "36"] {
        text = text.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(text, render(&example(), Mode::Compact, false));
}

#[test]
fn warnings_come_first_and_thresholds_without_samples_are_marked() {
    let mut summary = example();
    summary.run.warnings =
        vec!["generator saturated, results after 01m20s measure this machine".into()];
    summary.metrics[8].thresholds = vec![judged("p(95)<500", Verdict::Unknown, None)];
    let text = render(&summary, Mode::Compact, false);
    assert!(text.starts_with(
        "\n\n  █ WARNINGS \n\n    ! generator saturated, results after 01m20s measure this machine\n\n\n  █ THRESHOLDS \n"
    ));
    assert!(text.contains(
        "    webrtc_join_duration\n    ! 'p(95)<500' no samples\n\n      {region:eu-west}\n"
    ));
}

#[test]
fn details_are_for_the_full_summary() {
    let mut summary = example();
    let values = TREND;
    summary.metrics.push(measured(
        "group_duration",
        Kind::Trend,
        Contains::Time,
        Section::Execution,
        &values,
    ));
    assert!(!render(&summary, Mode::Compact, false).contains("group_duration"));
    assert!(
        render(&summary, Mode::Full, false).contains("\n    group_duration.........: avg=212.4ms")
    );
    assert_eq!(render(&summary, Mode::Disabled, false), "");
}

#[test]
fn the_full_summary_has_groups_within_groups_and_scenarios() {
    let mut summary = example();
    let vus = measured(
        "vus",
        Kind::Gauge,
        Contains::Default,
        Section::Execution,
        &[("value", 1.0), ("min", 1.0), ("max", 1.0)],
    );
    let part = |kind, name: &str| Part {
        kind,
        name: name.into(),
        checks: vec![check("held", 1, 0)],
        metrics: vec![vus.clone()],
    };
    summary.parts = vec![
        part(BlockKind::Scenario, "viewers"),
        part(BlockKind::Group, "::a::b"),
        part(BlockKind::Group, "::a"),
    ];
    let text = render(&summary, Mode::Full, false);
    let (_, parts) = text
        .split_once("    data_sent..............: 12 MB  201 kB/s\n")
        .unwrap();
    let row = "vus....................: 1      min=1             max=1\n";
    assert_eq!(
        parts,
        format!(
            "\n\n  █ GROUP: a \n\n    ✓ held\n\n    EXECUTION\n    {row}\
             \n\n    █ GROUP: b \n\n      ✓ held\n\n      EXECUTION\n      {row}\
             \n\n  █ SCENARIO: viewers \n\n    ✓ held\n\n    EXECUTION\n    {row}"
        )
    );
}

#[test]
fn modes_are_parsed() {
    assert_eq!("full".parse(), Ok(Mode::Full));
    assert_eq!(
        "legacy".parse::<Mode>().unwrap_err(),
        "summary mode 'legacy' does not exist: expected compact, full or disabled"
    );
}
