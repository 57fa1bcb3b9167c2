//! Scripts that misbehave: they are stopped, it is said where, and everybody else goes on.

use crate::bench::run;

const RAW: [&str; 3] = ["-q", "--log-format", "raw"];

#[test]
fn an_endless_loop_is_stopped_and_its_user_goes_on() {
    // In a timer it is stopped where nothing can be thrown, so nobody knows the place.
    for (function, place) in [
        (
            "function () {\n if (__ITER === 0) for (;;) {}\n console.log('next');\n}",
            "script.js:2",
        ),
        (
            "async function () {\n await null;\n if (__ITER === 0) for (;;) {}\n console.log('next');\n}",
            "script.js:3",
        ),
        (
            "function () { if (__ITER > 0) console.log('next'); else setTimeout(() => {\n for (;;) {} }, 1); }",
            "",
        ),
    ] {
        let ran = run(
            &format!("export default {function}\nexport const options = {{ iterations: 2 }};"),
            &RAW,
        );
        ran.exits(0)
            .says("ran for a second")
            .says(place)
            .says("next\n");
    }
}

#[test]
fn a_user_that_fills_its_memory_is_made_anew() {
    let ran = run(
        "export const options = { vus: 1, iterations: 2 };
        const held = [];
        export default function () {
          if (__ITER === 1) return console.log('held', held.length);
          for (;;) held.push(new Array(10_000).fill(__ITER));
        }",
        &RAW,
    );
    ran.exits(0).says("may hold 16 MiB").says("held 0\n");
}

#[test]
fn what_nobody_catches_ends_the_iteration_and_is_told_with_its_place() {
    for (body, message, place) in [
        ("\n Promise.reject(new Error('lost'));", "Error: lost", 2),
        (
            "\n setTimeout(() => { throw new TypeError('late'); }, 5); setTimeout(() => console.log('not reached'), 10_000);",
            "TypeError: late",
            2,
        ),
        (
            "\n setInterval(() => {\n throw new Error('again'); }, 5);",
            "Error: again",
            3,
        ),
        (
            "\n setTimeout(async () => { await null;\n throw new Error('async'); }, 5);",
            "Error: async",
            3,
        ),
        (
            "\n throw new RangeError('at once');",
            "RangeError: at once",
            2,
        ),
    ] {
        let ran = run(
            &format!(
                "export default function () {{ {body} }}\nexport const options = {{ iterations: 2 }};"
            ),
            &RAW,
        );
        ran.exits(0)
            .says(message)
            .says(&format!("script.js:{place}"))
            .keeps_quiet_about("not reached")
            .keeps_quiet_about("pipemesh:");
        assert_eq!(ran.count(message), 2, "{ran}");
        assert!(ran.row("iterations").starts_with("2 "), "{ran}");
    }
}

#[test]
fn a_rejection_that_somebody_handles_is_none() {
    let ran = run(
        "export default async function () {
          const failing = async () => { throw new Error('expected'); };
          try { await failing(); } catch (error) { console.log('caught', error.message); }
          await Promise.allSettled([failing(), Promise.reject(1)]);
          await failing().catch(() => {});
          console.log('end');
        }",
        &RAW,
    );
    ran.exits(0);
    assert_eq!(ran.lines(), ["caught expected", "end"], "{ran}");
}

#[test]
fn what_an_iteration_leaves_behind_does_not_disturb_the_next() {
    let ran = run(
        "export const options = { iterations: 3, thresholds: { iteration_duration: ['max<1000'] } };
        export default function () { setTimeout(() => console.log('left over'), 2_000); throw new Error('out'); }",
        &RAW,
    );
    ran.exits(0).keeps_quiet_about("left over");
    assert_eq!(ran.count("Error: out"), 3, "{ran}");
}

#[test]
fn a_top_level_that_waits_for_nothing_is_an_error() {
    for (top, message) in [
        (
            "await new Promise(() => {});",
            "waits for something that nobody settles",
        ),
        (
            "await new Promise(() => setInterval(() => {}, 100));",
            "was not done within 10s",
        ),
        (
            "await new Promise((done) => setTimeout(done, 20)); throw new Error('late');",
            "Error: late",
        ),
    ] {
        let ran = run(&format!("{top}\nexport default function () {{}}"), &RAW);
        ran.exits(107).says(message);
    }
    let ran = run(
        "const one = await new Promise((done) => setTimeout(() => done(1), 20));
        export default function () { console.log('one', one, await_); }
        const await_ = await Promise.resolve(2);",
        &RAW,
    );
    ran.exits(0);
    assert_eq!(ran.lines(), ["one 1 2"], "{ran}");
}

#[test]
fn a_script_that_says_more_than_anybody_reads_is_cut_short() {
    // Nobody reads while the script is looked at for its options.
    let ran = run(
        "if (__VU === 0) for (let i = 0; i < 12_000; i++) console.log('line', i);
        export default function () { console.log('x'.repeat(100_000)); }
        export function teardown() { console.log('torn down'); }",
        &RAW,
    );
    ran.exits(0)
        .says("line 0\n")
        .says("3000 lines were left out")
        .says("torn down");
    assert_eq!(ran.count("line "), 9_000);
    let longest = ran.lines().iter().map(|it| it.len()).max();
    assert!(longest < Some(70_000), "{longest:?}");
}

#[test]
fn groups_do_not_run_beside_each_other() {
    let ran = run(
        "import { group, sleep } from 'k6';
        export default async function () {
          await Promise.all([
            group('a', async () => { await sleep(0.01); }),
            group('b', async () => { await sleep(0.01); }),
          ]);
        }",
        &RAW,
    );
    ran.exits(0)
        .says("group() was not awaited before group() at script.js:4: write \"await group(...)\"");
    let ran = run(
        "import { group, sleep } from 'k6';
        import { Counter } from 'k6/metrics';
        const seen = new Counter('seen');
        export const options = { thresholds: {
          'seen{group:::a::b}': ['count==1'], 'seen{group:::a}': ['count==2'], 'seen{group:::c}': ['count==4'] } };
        export default async function () {
          await group('a', async () => {
            await sleep(0.01);
            await group('b', async () => { await null; seen.add(1); });
            await sleep(0.01);
            seen.add(2);
          });
          await group('c', async () => { await sleep(0.01); group('d', () => {}); seen.add(4); });
          group('last', async () => { await sleep(0.01); });
        }",
        &RAW,
    );
    ran.exits(0);
}

#[test]
fn thousands_of_timers_may_wait_at_once() {
    let ran = run(
        "export default function () {
          let fired = 0;
          for (let i = 0; i < 5_000; i++) setTimeout(() => { fired += 1; if (fired === 5_000) console.log('all fired'); }, 100 + i % 100);
        }",
        &RAW,
    );
    ran.exits(0).says("all fired");
}

#[test]
fn a_user_that_always_throws_does_not_hold_the_test_up() {
    let ran = run(
        "export const options = { vus: 2, duration: '1s' };
        export default function () { throw new Error('every time'); }
        export function teardown() { console.log('torn down'); }",
        &RAW,
    );
    ran.exits(0).says("every time").says("torn down");
    assert!(ran.took.as_secs() < 6, "{:?}", ran.took);
}

#[test]
fn five_hundred_users_that_wait_take_little() {
    let ran = run(
        "import { sleep } from 'k6';
        export const options = { vus: 500, iterations: 500, thresholds: { gen_memory_per_vu: ['value<1000000'] } };
        export default async function () { await sleep(1.5); }",
        &["-q"],
    );
    ran.exits(0).says("500");
    assert!(ran.row("iterations").starts_with("500 "), "{ran}");
    assert!(ran.row("vus").ends_with("max=500"), "{ran}");
}
