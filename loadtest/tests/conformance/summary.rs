//! What is said at the end, and to whom.

use crate::bench::{Bench, run};

const SCRIPT: &str = "import { check, group } from 'k6';
    import { Counter } from 'k6/metrics';
    const counter = new Counter('my_counter');
    export const options = { iterations: 2, thresholds: { my_counter: ['count>1'] } };
    export default function () { group('a part', () => { counter.add(1); check(1, { fine: () => true, bad: () => false }); }); }";

#[test]
fn the_summary_can_be_short_long_or_absent() {
    let compact = run(SCRIPT, &[]);
    compact
        .exits(0)
        .says("█ THRESHOLDS")
        .says("█ TOTAL RESULTS")
        .says("✗ bad")
        .says("↳  0% — ✓ 0 / ✗ 2");
    compact
        .says("execution: local")
        .says("script: script.js")
        .keeps_quiet_about("GROUP: a part")
        .keeps_quiet_about("group_duration");
    let full = run(SCRIPT, &["--summary-mode", "full"]);
    full.exits(0)
        .says("GROUP: a part")
        .says("SCENARIO: default")
        .says("group_duration");
    let none = run(SCRIPT, &["--summary-mode=disabled", "-q"]);
    none.exits(0);
    assert_eq!(none.out, "", "{none}");
    let quiet = run(SCRIPT, &["-q"]);
    quiet
        .exits(0)
        .says("TOTAL RESULTS")
        .keeps_quiet_about("execution: local")
        .keeps_quiet_about("running (");
    let unjudged = run(
        &SCRIPT.replace("count>1", "count>100"),
        &["--no-thresholds"],
    );
    unjudged.exits(0).keeps_quiet_about("THRESHOLDS");
    let unit = run(
        SCRIPT,
        &["--summary-time-unit", "us", "--summary-trend-stats", "max"],
    );
    let row = unit.row("iteration_duration");
    assert!(
        row.starts_with("max=") && row.ends_with("µs") && !row.contains("avg"),
        "{unit}"
    );
}

#[test]
fn the_summary_is_exported() {
    let bench = Bench::new(SCRIPT);
    bench
        .run(&[
            "-q",
            "--summary-export",
            "out.json",
            "--report",
            "out.html",
            "--results",
            "results.json",
        ])
        .exits(0);
    let export = bench.json("out.json");
    assert_eq!(export["metrics"]["my_counter"]["count"], 2.0, "{export:#}");
    assert_eq!(export["metrics"]["checks"]["passes"], 2.0, "{export:#}");
    assert!(bench.read("out.html").contains("my_counter"));
    assert!(bench.json("results.json").is_object());
}

#[test]
fn a_script_can_make_the_summary_itself() {
    let bench = Bench::new(&format!(
        "{SCRIPT}
        export function setup() {{ return {{ room: 'r' }}; }}
        export function handleSummary(data) {{
          console.log('summing up');
          return {{ stdout: `count ${{data.metrics.my_counter.values.count}} room ${{data.setup_data.room}}\\n`, stderr: 'to stderr', 'own.json': JSON.stringify(Object.keys(data)) }};
        }}"
    ));
    let ran = bench.run(&["-q", "--log-format", "raw"]);
    ran.exits(0)
        .says("summing up")
        .keeps_quiet_about("TOTAL RESULTS");
    assert_eq!(ran.out, "count 2 room r\n", "{ran}");
    assert!(ran.err.contains("to stderr"), "{ran}");
    let keys = bench.json("own.json");
    let has = |key: &str| keys.as_array().unwrap().iter().any(|it| it == key);
    assert!(
        has("metrics") && has("root_group") && has("options") && has("state"),
        "{keys}"
    );
    bench
        .run(&["-q", "--summary-mode", "disabled"])
        .exits(0)
        .keeps_quiet_about("summing up");
}

#[test]
fn a_summary_of_the_script_that_fails_is_no_loss() {
    let ran = run(
        &format!("{SCRIPT} export function handleSummary() {{ throw new Error('cannot count'); }}"),
        &[],
    );
    ran.exits(0).says("cannot count").says("TOTAL RESULTS");
    let ran = run(
        &format!("{SCRIPT} export function teardown() {{ throw new Error('cannot tidy'); }}"),
        &[],
    );
    ran.exits(107).says("cannot tidy").says("TOTAL RESULTS");
}
