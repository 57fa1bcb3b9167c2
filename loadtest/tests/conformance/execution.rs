//! Who runs how many iterations: shortcuts, the environment, executors at their limits, several processes.

use crate::bench::{Bench, finish, run, start};

const COUNT: &str = "export default function () { console.log('vu', __VU); }";

#[test]
fn shortcuts_and_the_environment_say_how_many() {
    let scenarios = "export const options = { scenarios: { mine: { executor: 'per-vu-iterations', vus: 1, iterations: 1 } } };";
    for (script, arguments, variables, said, iterations) in [
        (
            "",
            &["-i", "5"][..],
            &[][..],
            "5 iterations shared among 1 VUs",
            5,
        ),
        (
            "",
            &["-u", "2", "-i", "4"],
            &[],
            "4 iterations shared among 2 VUs",
            4,
        ),
        ("", &["--vus=3"], &[], "3 iterations shared among 3 VUs", 3),
        (
            scenarios,
            &[],
            &[],
            "mine: 1 iterations for each of 1 VUs",
            1,
        ),
        (
            scenarios,
            &["-u", "2", "-i", "2"],
            &[],
            "default: 2 iterations shared among 2 VUs",
            2,
        ),
        (
            "",
            &[],
            &[("K6_VUS", "2"), ("K6_ITERATIONS", "3")],
            "3 iterations shared among 2 VUs",
            3,
        ),
        (
            "",
            &["-i", "2"],
            &[("K6_ITERATIONS", "3")],
            "2 iterations shared among 1 VUs",
            2,
        ),
        (
            "",
            &[],
            &[("PIPEMESH_ITERATIONS", "4"), ("K6_ITERATIONS", "3")],
            "4 iterations shared among 1 VUs",
            4,
        ),
        (
            "export const options = { iterations: 9 };",
            &[],
            &[("K6_ITERATIONS", "3")],
            "3 iterations shared",
            3,
        ),
    ] {
        let bench = Bench::new(&format!("{script} {COUNT}"));
        let ran = finish(bench.command(arguments).envs(variables.iter().copied()));
        ran.exits(0).says(said);
        assert_eq!(
            ran.count("vu "),
            iterations,
            "{arguments:?} {variables:?} {ran}"
        );
    }
    let bench = Bench::new(&format!(
        "export const options = {{ iterations: 2 }}; {COUNT}"
    ));
    bench.write(
        "config.json",
        r#"{ "iterations": 7, "tags": { "from": "config" } }"#,
    );
    bench
        .run(&["-c", "config.json"])
        .exits(0)
        .says("2 iterations shared");
}

#[test]
fn stages_and_durations_take_their_time() {
    let script =
        "import { sleep } from 'k6'; export default async function () { await sleep(0.1); }";
    let ran = run(script, &["-s", "500ms:2", "-s", "500ms:0", "-q"]);
    ran.exits(0);
    assert!((1.0..4.0).contains(&ran.took.as_secs_f64()), "{ran}");
    let ran = run(script, &["-d", "1s", "-u", "2"]);
    ran.exits(0).says("2 looping VUs for 1s");
    let iterations: f64 = ran
        .row("iterations")
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((10.0..=22.0).contains(&iterations), "{ran}");
}

#[test]
fn what_does_not_end_in_time_is_interrupted_and_counted() {
    let ran = run(
        "import { sleep } from 'k6';
        export const options = { scenarios: { a: { executor: 'constant-vus', vus: 2, duration: '1s', gracefulStop: '200ms' } } };
        export default async function () { try { await sleep(30); } finally { console.log('not reached'); } }",
        &[],
    );
    ran.exits(0)
        .says("0 complete and 2 interrupted iterations")
        .keeps_quiet_about("not reached");
    assert!(ran.took.as_secs() < 5, "{ran}");
}

#[test]
fn iterations_that_nobody_is_free_for_are_dropped() {
    let ran = run(
        "import { sleep } from 'k6';
        export const options = { thresholds: { dropped_iterations: ['count>5'] }, scenarios: { a: { executor: 'constant-arrival-rate', rate: 20, duration: '1s', preAllocatedVUs: 1, maxVUs: 2, gracefulStop: '2s' } } };
        export default async function () { await sleep(0.4); }",
        &[],
    );
    ran.exits(0)
        .says("Insufficient VUs, reached 2 active VUs and cannot initialize more");
    assert_eq!(ran.count("Insufficient VUs"), 1, "{ran}");
    let of = |row: &str| {
        ran.row(row)
            .split(' ')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert!(
        (20..=21).contains(&(of("dropped_iterations") + of("iterations"))),
        "{ran}"
    );
    assert!(ran.row("vus_max").ends_with("max=2"), "{ran}");
}

#[test]
fn a_virtual_user_made_late_that_cannot_be_loaded_does_not_hold_the_test_up() {
    let ran = run(
        "import { sleep } from 'k6';
        if (__VU > 1) throw new Error('no more of us');
        export const options = { scenarios: { a: { executor: 'constant-arrival-rate', rate: 10, duration: '1s', preAllocatedVUs: 1, maxVUs: 2, gracefulStop: '10s' } } };
        export default async function () { await sleep(0.3); }",
        &["-q"],
    );
    ran.exits(0).says("no more of us");
    assert!(ran.took.as_secs() < 5, "{ran}");
}

#[test]
fn two_processes_together_make_the_whole() {
    let bench = Bench::new(
        "import exec from 'k6/execution';
        export const options = { scenarios: { a: { executor: 'shared-iterations', vus: 4, iterations: 10 } } };
        export default function () { console.log('at', exec.scenario.iterationInTest); }",
    );
    let command = |segment: &str| {
        bench.command(&[
            "-q",
            "--log-format",
            "raw",
            "--execution-segment",
            segment,
            "--execution-segment-sequence",
            "0,1/2,1",
        ])
    };
    let both = ["0:1/2", "1/2:1"].map(|segment| start(&mut command(segment)));
    let mut seen = Vec::new();
    for ran in both.map(|running| running.end()) {
        ran.exits(0);
        let lines = ran.lines();
        assert_eq!(lines.len(), 5, "{ran}");
        seen.extend(
            lines
                .iter()
                .map(|line| line.trim_start_matches("at ").parse::<u32>().unwrap()),
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<u32>>());
}

#[test]
fn ramping_until_finds_the_last_level_that_passed() {
    let ran = run(
        "import { sleep } from 'k6';
        import { Rate } from 'k6/metrics';
        import exec from 'k6/execution';
        const bad = new Rate('bad');
        export const options = { scenarios: { a: { executor: 'ramping-until', startVUs: 1, step: 1, stepDuration: '1s', maxVUs: 9, until: ['bad rate>0.01'], gracefulStop: '1s' } } };
        export default async function () { bad.add(exec.instance.vusActive > 2); await sleep(0.05); }",
        &[],
    );
    ran.exits(0)
        .says("1 VUs: fine")
        .says("2 VUs: fine")
        .says("3 VUs: bad rate>0.01")
        .says("capacity 2 VUs");
}
