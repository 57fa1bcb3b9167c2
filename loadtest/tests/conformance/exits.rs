//! Each way to end: the code, and the message that says why.

use crate::bench::{Bench, run, start};

const IDLE: &str = "export default function () {}\n";

#[test]
fn configurations_that_cannot_be_run_are_refused_with_the_reason() {
    for (script, arguments, messages) in [
        (
            "export const options = { thresholds: { nobody_knows_it: ['avg<1'] } };",
            &[][..],
            &["nobody_knows_it"][..],
        ),
        (
            "export const options = { thresholds: { checks: ['p(95)<1'], iterations: ['med>1'] } };",
            &[],
            &["checks", "rate", "iterations", "count"],
        ),
        (
            "export const options = { thresholds: { iteration_duration: ['p(95<1'] } };",
            &[],
            &["iteration_duration", "p(95<1"],
        ),
        (
            "export const options = { thresholds: { iteration_duration: ['p(101)<1'] } };",
            &[],
            &["p(101)<1"],
        ),
        (
            "export const options = { scenarios: { a: { executor: 'externally-controlled' } } };",
            &[],
            &["externally-controlled", "constant-vus", "ramping-until"],
        ),
        (
            "export const options = { vus: 'many', duration: {}, setupTimeout: 'soon', tags: [], noSetup: 7 };",
            &[],
            &[
                "vus",
                "many",
                "duration",
                "setupTimeout",
                "soon",
                "tags",
                "noSetup",
            ],
        ),
        (
            "export const options = { scenarios: { a: { executor: 'constant-vus', duration: '5s', exec: 'absent' }, b: { executor: 'constant-vus', duration: '5s', exec: 'away' } } };",
            &[],
            &["'absent'", "'away'"],
        ),
        (
            "export const options = { duration: '1s', stages: [{ duration: '1s', target: 1 }] };",
            &[],
            &["duration and stages", "contradict"],
        ),
        (
            "export const options = { scenarios: { 'a b': { executor: 'constant-vus', duration: '5s' }, c: { executor: 'constant-arrival-rate', rate: 1, duration: '10ms' } } };",
            &[],
            &["a b", "preAllocatedVUs"],
        ),
        ("", &["--vus", "some"], &["some"]),
        ("", &["--out", "influxdb=x"], &["influxdb", "json=FILE"]),
        (
            "",
            &["--summary-mode", "loud"],
            &["compact, full or disabled"],
        ),
        ("", &["--nonsense"], &["--nonsense"]),
        ("", &["--execution-segment", "2:1"], &["2:1"]),
    ] {
        let ran = run(&format!("{IDLE}{script}"), arguments);
        ran.exits(104);
        for message in messages {
            ran.says(message);
        }
    }
}

#[test]
fn scripts_that_cannot_be_loaded_are_refused_with_the_place() {
    for (script, messages) in [
        (
            "\nthrow new Error('not today');",
            &["not today", "script.js:3"][..],
        ),
        (
            "import x from 'k6/browser';",
            &["k6/browser", "k6/metrics", "k6/execution", "sfu"],
        ),
        (
            "import x from 'https://example.com/x.js';",
            &["https://example.com/x.js", "network"],
        ),
        (
            "import x from '../x.js';",
            &["../x.js", "outside of the script's folder"],
        ),
        ("import x from './x.js';", &["x.js"]),
        (
            "open('/etc/hostname');",
            &["/etc/hostname", "outside of the script's folder"],
        ),
        ("open('./absent.txt');", &["absent.txt"]),
        ("export default function ( {", &["SyntaxError"]),
        (
            "import http from 'k6/http'; http.get('http://127.0.0.1:1/');",
            &["no network in the init context"],
        ),
        ("if (__VU === 1) throw new Error('only I');", &["only I"]),
        (
            "export function setup() { throw new Error('no room'); }",
            &["setup()", "no room", "script.js:"],
        ),
    ] {
        let ran = run(&format!("{IDLE}{script}"), &[]);
        ran.exits(107);
        for message in messages {
            ran.says(message);
        }
    }
}

#[test]
fn a_run_in_which_nothing_is_wrong_ends_with_0() {
    run(IDLE, &[])
        .exits(0)
        .says("1 complete and 0 interrupted iterations");
}

#[test]
fn crossed_thresholds_end_with_99() {
    let ran = run(
        "import { check } from 'k6';
        export const options = { thresholds: { checks: ['rate>0.9'], iterations: ['count==1'], http_reqs: ['count>5'] } };
        export default function () { check(1, { one: (it) => it === 1, two: (it) => it === 2 }); }",
        &[],
    );
    ran.exits(99)
        .says("thresholds on metrics 'checks' have been crossed")
        .says("✗ 'rate>0.9' rate=50.00%")
        .says("✓ 'count==1' count=1")
        .says("! 'count>5' no samples");
    let ran = run(
        "export const options = { thresholds: { http_reqs: ['count>5'] } };
        export default function () {}",
        &["--fail-on-empty-thresholds"],
    );
    ran.exits(99);
}

#[test]
fn a_threshold_can_end_the_test() {
    let ran = run(
        "import { check, sleep } from 'k6';
        export const options = { duration: '1m', thresholds: { checks: [{ threshold: 'rate>0.5', abortOnFail: true, delayAbortEval: '0s' }] } };
        export default async function () { check(1, { two: (it) => it === 2 }); await sleep(0.1); }
        export function teardown() { console.log('torn down'); }",
        &[],
    );
    ran.exits(99)
        .says("abortOnFail")
        .says("torn down")
        .says("TOTAL RESULTS");
}

#[test]
fn what_takes_too_long_has_a_code_each() {
    let slow = "await new Promise((done) => setTimeout(done, 30_000));";
    for (script, code, message) in [
        (
            format!(
                "export const options = {{ setupTimeout: '100ms' }}; export async function setup() {{ {slow} }}"
            ),
            100,
            "setup() took longer than 100ms",
        ),
        (
            format!(
                "export const options = {{ teardownTimeout: '100ms' }}; export async function teardown() {{ {slow} }}"
            ),
            101,
            "teardown() took longer than 100ms",
        ),
        (
            format!(
                "export const options = {{ handleSummaryTimeout: '100ms' }}; export async function handleSummary() {{ {slow} }}"
            ),
            102,
            "handleSummary took longer than 100ms",
        ),
    ] {
        let ran = run(&format!("{script}\n{IDLE}"), &[]);
        ran.exits(code).says(message);
        if code > 100 {
            // What was found is told all the same.
            ran.says("TOTAL RESULTS");
        }
    }
}

#[test]
fn a_test_that_aborts_itself_ends_with_108() {
    let ran = run(
        "import exec from 'k6/execution';
        export const options = { vus: 2, duration: '1m' };
        export default function () {
          try { exec.test.abort('enough'); } catch (error) { console.log('caught it'); }
          for (;;) {}
        }
        export function teardown() { console.log('torn down'); }",
        &[],
    );
    ran.exits(108)
        .says("test aborted: enough")
        .says("torn down")
        .says("TOTAL RESULTS")
        .keeps_quiet_about("caught it");
    assert_eq!(ran.count("test aborted: enough"), 1, "{ran}");
    let ran = run(
        "import exec from 'k6/execution';
        export function setup() { exec.test.abort('no server'); }
        export default function () { console.log('it ran'); }",
        &[],
    );
    ran.exits(108).says("no server").keeps_quiet_about("it ran");
}

#[test]
fn a_test_that_marks_itself_failed_goes_on_and_ends_with_110() {
    let ran = run(
        "import exec from 'k6/execution';
        export const options = { iterations: 3 };
        export default function () { exec.test.fail('a bad day'); }",
        &[],
    );
    ran.exits(110)
        .says("test marked as failed: a bad day")
        .says("3 complete and 0 interrupted");
    let ran = run(
        "import exec from 'k6/execution';
        export function setup() { exec.test.fail('early'); }
        export default function () {}",
        &[],
    );
    ran.exits(110).says("1 complete");
}

const ENDLESS: &str = "import { sleep } from 'k6';
    export const options = { scenarios: { a: { executor: 'constant-vus', vus: 2, duration: '1m', gracefulStop: '30s' } } };
    export default async function () { console.log('begun'); await sleep(SECONDS); console.log('done'); }
    export function teardown() { console.log('torn down'); }";

#[test]
fn ctrl_c_lets_iterations_end_and_ends_with_105() {
    let bench = Bench::new(&ENDLESS.replace("SECONDS", "0.5"));
    let mut running = start(&mut bench.command(&[]));
    running.wait_for("begun");
    running.interrupt();
    let ran = running.end();
    ran.exits(105)
        .says("msg=\"done\"")
        .says("torn down")
        .says("TOTAL RESULTS")
        .says("2 complete and 0 interrupted");
}

#[test]
fn a_second_ctrl_c_interrupts_iterations() {
    let bench = Bench::new(&ENDLESS.replace("SECONDS", "50"));
    let mut running = start(&mut bench.command(&[]));
    running.wait_for("begun");
    running.interrupt();
    running.wait_for("once more");
    running.interrupt();
    let ran = running.end();
    ran.exits(105)
        .says("torn down")
        .says("TOTAL RESULTS")
        .says("0 complete and 2 interrupted");
}

#[test]
fn ctrl_c_ends_a_setup_that_hangs() {
    let bench = Bench::new(
        "export async function setup() { console.log('setting up'); await new Promise(() => { setTimeout(() => {}, 50_000); }); }
        export default function () {}",
    );
    let mut running = start(&mut bench.command(&[]));
    running.wait_for("setting up");
    running.interrupt();
    running.end().exits(105).says("stopped in setup()");
}

#[test]
fn a_generator_that_is_given_too_much_says_so_and_ends_with_111_if_it_is_asked_to() {
    // Together they keep their thread from waking up for two seconds at a time.
    let bench = Bench::new(
        "export const options = { scenarios: { a: { executor: 'constant-vus', vus: 4, duration: '9s', gracefulStop: '1s' } } };
        export default function () { const end = Date.now() + 500; while (Date.now() < end); }",
    );
    let begin = |arguments: &[&str]| {
        let all = [&["--threads", "1"], arguments].concat();
        start(&mut bench.command(&all))
    };
    let (asked, not_asked) = (begin(&["--fail-on-saturation"]), begin(&[]));
    let (asked, not_asked) = (asked.end(), not_asked.end());
    asked.exits(111);
    not_asked.exits(0);
    for ran in [asked, not_asked] {
        ran.says("generator saturated, results after")
            .says("measure this machine");
        let lag = ran.row("gen_loop_lag");
        assert!(
            lag.contains("max=") && !lag.contains("max=0"),
            "{lag}: {ran}"
        );
        let cpu = ran.row("gen_cpu");
        assert!(!cpu.ends_with("max=0"), "{cpu}: {ran}");
    }
}
