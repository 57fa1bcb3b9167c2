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
