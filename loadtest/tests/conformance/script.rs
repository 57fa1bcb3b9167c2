//! What scripts can do: modules, data, timers, checks, and where in the test they are.

use crate::bench::{Bench, finish, run};

/// With lines of the console as they were written, and nothing else.
const RAW: [&str; 3] = ["-q", "--log-format", "raw"];

#[test]
fn what_setup_answers_reaches_everybody_as_a_copy() {
    let ran = run(
        "export const options = { scenarios: { a: { executor: 'per-vu-iterations', vus: 2, iterations: 1 } } };
        export function setup() { return { room: 'r', list: [1, { two: 2 }], lost: () => 1 }; }
        export default function (data) { console.log('vu', data); data.room = 'changed'; }
        export function teardown(data) { console.log('teardown', data); }",
        &RAW,
    );
    let copy = r#"{"room":"r","list":[1,{"two":2}]}"#;
    ran.exits(0);
    let expected = [
        format!("vu {copy}"),
        format!("vu {copy}"),
        format!("teardown {copy}"),
    ];
    assert_eq!(ran.lines(), expected, "{ran}");
}

#[test]
fn setup_and_teardown_can_be_left_out() {
    let script = "export function setup() { console.log('set up'); }
        export default function (data) { console.log('data', data); }
        export function teardown() { console.log('torn down'); }";
    for (arguments, expected) in [
        (&[][..], &["set up", "data undefined", "torn down"][..]),
        (&["--no-setup"], &["data undefined", "torn down"]),
        (&["--no-teardown"], &["set up", "data undefined"]),
    ] {
        let ran = run(script, &[&RAW, arguments].concat());
        ran.exits(0);
        assert_eq!(ran.lines(), expected, "{arguments:?} {ran}");
    }
}

#[test]
fn variables_come_from_the_command_line_the_system_and_the_scenario() {
    let bench = Bench::new(
        "export const options = { scenarios: {
          a: { executor: 'shared-iterations', env: { WHO: 'scenario' } },
          b: { executor: 'shared-iterations', startTime: '1s' } } };
        export default function () { console.log(__ENV.WHO, __ENV.FLAG, __ENV.SYSTEM); }",
    );
    let mut command = bench.command(&[&RAW[..], &["-e", "FLAG=a=b", "-e", "WHO=flag"]].concat());
    let ran = finish(command.env("SYSTEM", "s").env("WHO", "system"));
    ran.exits(0);
    assert_eq!(ran.lines(), ["scenario a=b s", "flag a=b s"], "{ran}");
}

#[test]
fn a_virtual_user_knows_who_and_where_it_is() {
    let ran = run(
        "import exec from 'k6/execution';
        export const options = { tags: { run: 'r' }, scenarios: { first: { executor: 'per-vu-iterations', vus: 1, iterations: 2, tags: { role: 'x' }, exec: 'go' } } };
        let kept = 0;
        export function go() {
          kept += 1;
          const { vu, scenario, instance, test } = exec;
          console.log(JSON.stringify([__VU, __ITER, kept, vu.idInTest, vu.idInInstance, vu.iterationInInstance, vu.iterationInScenario,
            scenario.name, scenario.executor, scenario.iterationInTest, scenario.iterationInInstance,
            scenario.startTime <= Date.now(), scenario.progress >= 0, instance.vusActive, instance.vusInitialized,
            instance.iterationsCompleted, instance.iterationsInterrupted, instance.currentTestRunDuration >= 0, Object.keys(test.options.scenarios),
            vu.metrics.tags.role, vu.metrics.tags.scenario, vu.metrics.tags.run]));
        }",
        &RAW,
    );
    let line = |iteration: u32| {
        format!(
            r#"[1,{iteration},{},1,1,{iteration},{iteration},"first","per-vu-iterations",{iteration},{iteration},true,true,1,1,{iteration},0,true,["first"],"x","first","r"]"#,
            iteration + 1
        )
    };
    ran.exits(0);
    assert_eq!(ran.lines(), [line(0), line(1)], "{ran}");
}

#[test]
fn checks_groups_and_tags_are_what_thresholds_look_at() {
    let ran = run(
        "import { check, group, sleep } from 'k6';
        import { Counter } from 'k6/metrics';
        import exec from 'k6/execution';
        const seen = new Counter('seen');
        export const options = { thresholds: {
          'checks{role:viewer}': ['rate==1'], 'checks{role:other}': ['rate==0'],
          'seen{group:::outer::inner}': ['count==2'], 'seen{group:::outer}': ['count==4'], 'seen{phase:late}': ['count==8'],
          'seen{own:tag}': ['count==16'], 'group_duration{group:::outer::inner}': ['min>=20'] } };
        export default async function () {
          check(1, { one: (it) => it === 1 }, { role: 'viewer' });
          check(1, { two: (it) => it === 2 }, { role: 'other' });
          const answer = await group('outer', async () => {
            await group('inner', async () => { await sleep(0.02); seen.add(2); });
            seen.add(4);
            return 'answer';
          });
          console.log(answer, group('sync', () => 7));
          exec.vu.metrics.tags.phase = 'late';
          seen.add(8);
          delete exec.vu.metrics.tags.phase;
          seen.add(16, { own: 'tag' });
        }",
        &["--log-format", "raw"],
    );
    ran.exits(0).says("answer 7").says("✓ one").says("✗ two");
    assert_eq!(
        ran.row("seen"),
        "30 ".to_owned() + ran.row("seen").trim_start_matches("30 ")
    );
    // Checks have rows of their own.
    assert_eq!(ran.count("{ role:"), 0, "{ran}");
}

#[test]
fn each_kind_of_metric_adds_up_in_its_way() {
    let ran = run(
        "import { Counter, Gauge, Rate, Trend } from 'k6/metrics';
        const [counter, gauge, rate, trend, time] = [new Counter('my_counter'), new Gauge('my_gauge'), new Rate('my_rate'), new Trend('my_trend'), new Trend('my_time', true)];
        export const options = { thresholds: { my_rate: ['rate<0.02'] }, iterations: 1 };
        export default function () {
          counter.add(2); counter.add(3);
          gauge.add(9); gauge.add(1); gauge.add(4);
          rate.add(true); rate.add(false); rate.add(0, 98);
          for (let i = 1; i <= 4; i++) trend.add(i);
          time.add(1500);
          try { trend.add('x'); } catch (error) { console.log(error.message); }
          try { new Counter('late'); } catch (error) { console.log(error.message); }
        }",
        &["--log-format", "raw", "--summary-trend-stats", "avg,p(50),max,count"],
    );
    ran.exits(0)
        .says("cannot be added to the metric 'my_trend'")
        .says("init context");
    assert!(ran.row("my_counter").starts_with("5 "), "{ran}");
    assert_eq!(
        ran.row("my_gauge").split_whitespace().collect::<Vec<_>>(),
        ["4", "min=1", "max=9"]
    );
    assert!(ran.row("my_rate").starts_with("1.00%"), "{ran}");
    assert!(ran.row("my_rate").ends_with("1 out of 100"), "{ran}");
    let trend: Vec<_> = ran.row("my_trend").split_whitespace().collect();
    assert_eq!(trend, ["avg=2.5", "p(50)=2.5", "max=4", "count=4"], "{ran}");
    assert!(ran.row("my_time").starts_with("avg=1.5s"), "{ran}");
}

#[test]
fn files_are_opened_and_imported_at_the_top() {
    let bench = Bench::new(
        "import { name } from './lib/a.js';
        import data from './data.json';
        const text = open('./lib/text.txt');
        const binary = new Uint8Array(open('bytes.bin', 'b'));
        export default function () {
          console.log(name, data.list[1], text, Array.from(binary).join());
          try { open('./lib/text.txt'); } catch (error) { console.log(error.message); }
        }",
    );
    bench.write(
        "lib/a.js",
        "import { b } from '../b.js'; export const name = `a${b}`;",
    );
    bench.write("b.js", "export const b = 'b';");
    bench.write("data.json", r#"{"list": [1, "two"]}"#);
    bench.write("lib/text.txt", "héllo");
    bench.write("bytes.bin", [0, 255, 7]);
    let ran = bench.run(&RAW);
    ran.exits(0)
        .says("ab two héllo 0,255,7\n")
        .says("works in the init context only");
}

#[test]
fn a_shared_array_is_made_once_and_cannot_be_changed() {
    let ran = run(
        "import { SharedArray } from 'k6/data';
        const users = new SharedArray('users', () => { console.log('made'); return [{ name: 'a' }, { name: 'b' }, 3]; });
        export const options = { vus: 3, iterations: 3 };
        export default function () {
          const names = users.map((it) => it.name ?? it);
          let refused = 0;
          try { users[0] = 1; } catch { refused += 1; }
          users[0].name = 'changed';
          console.log(users.length, names.join(), users[1].name, users[7], [...users].length, refused, users[0].name);
        }",
        &RAW,
    );
    ran.exits(0);
    let line = "3 a,b,3 b undefined 3 1 a";
    assert_eq!(ran.lines(), ["made", line, line, line], "{ran}");
}

#[test]
fn an_iteration_ends_when_nothing_is_left_to_be_done() {
    let ran = run(
        "import { sleep } from 'k6';
        import { setTimeout as later } from 'k6/timers';
        export const options = { iterations: 2, thresholds: { iteration_duration: ['min>=100'] } };
        export default function () {
          const iteration = __ITER;
          let count = 0;
          const never = setTimeout(() => console.log('never'), 20);
          clearTimeout(never);
          const id = setInterval((word) => {
            count += 1;
            console.log(word, iteration, count);
            if (count === 3) clearInterval(id);
          }, 10, 'tick');
          later(() => Promise.resolve().then(() => sleep(0.03)).then(() => console.log('last', iteration)), 70);
        }",
        &RAW,
    );
    ran.exits(0);
    let of = |iteration: u32| -> Vec<String> {
        let ticks = (1..=3).map(|count| format!("tick {iteration} {count}"));
        ticks.chain([format!("last {iteration}")]).collect()
    };
    assert_eq!(ran.lines(), [of(0), of(1)].concat(), "{ran}");
}

#[test]
fn a_sleep_at_the_end_need_not_be_awaited_and_one_before_something_must() {
    let ran = run(
        "import { sleep } from 'k6';
        export const options = { thresholds: { iteration_duration: ['min>=200'] } };
        export default function () { sleep(0.2); }",
        &[],
    );
    ran.exits(0);
    let ran = run(
        "import { sleep, check } from 'k6';
        export default function () {
          sleep(0.05);
          check(1, {});
        }",
        &RAW,
    );
    ran.exits(0)
        .says("sleep() was not awaited before check() at script.js:3: write \"await sleep(...)\"");
}

#[test]
fn the_console_has_levels_and_the_log_has_formats() {
    let script = "export default function () { console.debug('d'); console.log('l', 1, { a: [2] }); console.warn('w'); console.error(new Error('e')); }";
    let ran = run(script, &["-q"]);
    ran.exits(0)
        .says("level=info msg=\"l 1 {\\\"a\\\":[2]}\" source=console")
        .says("level=warning msg=\"w\"")
        .says("level=error msg=\"Error: e")
        .keeps_quiet_about("level=debug");
    run(script, &["-q", "-v"]).says("level=debug msg=\"d\"");
    let ran = run(script, &["-q", "--log-format", "json"]);
    let lines: Vec<serde_json::Value> = ran
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["level"], "info", "{ran}");
    assert_eq!(lines[0]["msg"], "l 1 {\"a\":[2]}", "{ran}");
    assert_eq!(lines[0]["source"], "console", "{ran}");
    let ran = run(script, &RAW);
    assert_eq!(&ran.lines()[..2], ["l 1 {\"a\":[2]}", "w"], "{ran}");
}

#[test]
fn digests_and_encodings_are_those_that_others_compute() {
    let ran = run(
        "import crypto from 'k6/crypto';
        import encoding from 'k6/encoding';
        export default function () {
          console.log(crypto.sha256('abc', 'hex'));
          console.log(crypto.hmac('sha256', 'key', 'The quick brown fox jumps over the lazy dog', 'hex'));
          const hasher = crypto.createHash('sha1'); hasher.update('a'); hasher.update('bc'); console.log(hasher.digest('hex'));
          console.log(encoding.b64encode('hé?>'), encoding.b64encode('hé?>', 'rawurl'), encoding.b64decode('aMOpPz4=', 'std', 's'));
          console.log(new Uint8Array(encoding.b64decode('AP8=')).join(), crypto.randomBytes(5).byteLength);
          console.log(new TextDecoder().decode(new TextEncoder().encode('é')), /^[0-9a-f-]{36}$/.test(globalThis.crypto.randomUUID()));
          try { crypto.createHash('md17').digest('hex'); } catch (error) { console.log(error.message); }
        }",
        &RAW,
    );
    ran.exits(0);
    assert_eq!(
        ran.lines()[..6],
        [
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "aMOpPz4= aMOpPz4 hé?>",
            "0,255 5",
            "é true",
        ],
        "{ran}"
    );
    ran.says("there is no algorithm 'md17'");
}

#[test]
fn a_script_can_come_from_standard_input() {
    let bench = Bench::new("");
    bench.write(
        "other.js",
        "export default function () { console.log('from there'); }",
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pipemesh-loadtest"));
    let file = std::fs::File::open(bench.path("other.js")).unwrap();
    let output = command
        .args(["run", "-q", "-"])
        .stdin(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("from there"),
        "{output:?}"
    );
}
