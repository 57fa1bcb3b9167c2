//! What is around a test: results of several processes as one, the state of a test over HTTP, the
//! admin API and programs that a script starts, and what is written to begin with.

mod script;
mod web;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use self::script::{Ended, Folder};
use self::web::{ask, serve};

#[test]
fn results_of_several_processes_are_judged_together() {
    let folder = Folder::new();
    folder.write(
        "count.js",
        "import { Counter } from 'k6/metrics';
         const mine = new Counter('mine');
         export const options = { iterations: 4, thresholds: { mine: [`count${__ENV.RULE}`] } };
         export default function () { mine.add(1); }",
    );
    for (rule, alone, together) in [("==8", 99, 0), ("<8", 0, 99)] {
        for file in ["a.json", "b.json"] {
            let ended = folder.run(&[
                "run",
                "-q",
                "-e",
                &format!("RULE={rule}"),
                "--results",
                file,
                "count.js",
            ]);
            ended.expect(alone, "");
        }
        let merged = folder.run(&["merge", "a.json", "b.json"]);
        merged.expect(together, &format!("'count{rule}' count=8"));
    }
    folder.write("c.json", "{}");
    folder
        .run(&["merge", "a.json", "c.json"])
        .expect(104, "c.json: these are no results");
    folder
        .run(&["merge", "a.json", "d.json"])
        .expect(104, "d.json cannot be read");
}

#[test]
fn a_test_is_watched_and_stopped_over_http() {
    let folder = Folder::new();
    folder.write(
        "long.js",
        "import { sleep } from 'k6';
         import { Counter } from 'k6/metrics';
         const mine = new Counter('mine');
         export const options = {
           scenarios: { long: { executor: 'constant-vus', vus: 2, duration: '50s', gracefulStop: '0s' } },
           thresholds: { mine: ['count<1'] },
         };
         export default async function () { mine.add(1); await sleep(60); }",
    );
    let mut running = folder.start(&["run", "-q", "--address", "127.0.0.1:0", "long.js"]);
    let line = running.line_with("/v1/status");
    let (_, address) = line.split_once("http://").expect(&line);
    let address = address.split('/').next().expect(&line).to_owned();

    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let (code, status) = ask(&address, "GET", "/v1/status", "");
        assert_eq!(code, 200, "{status}");
        if status["data"]["attributes"]["vus"] == 2
            && status["data"]["attributes"]["tainted"] == true
        {
            break status;
        }
        assert!(Instant::now() < until, "{status}");
    };
    let attributes = &status["data"]["attributes"];
    assert_eq!(status["data"]["type"], "status", "{status}");
    assert_eq!(attributes["running"], true, "{status}");
    assert_eq!(attributes["stopped"], false, "{status}");

    let (code, metrics) = ask(&address, "GET", "/v1/metrics", "");
    assert_eq!(code, 200, "{metrics}");
    let names = metrics["data"].as_array().expect("a list");
    assert!(names.iter().any(|it| it["id"] == "mine"), "{metrics}");
    let (code, metric) = ask(&address, "GET", "/v1/metrics/mine", "");
    assert_eq!(code, 200, "{metric}");
    assert_eq!(
        metric["data"]["attributes"]["sample"]["count"], 2.0,
        "{metric}"
    );
    assert_eq!(metric["data"]["attributes"]["type"], "counter", "{metric}");
    let (code, none) = ask(&address, "GET", "/v1/metrics/absent", "");
    assert_eq!(code, 404, "{none}");

    let more = r#"{"data":{"type":"status","id":"default","attributes":{"vus":9}}}"#;
    let (code, refused) = ask(&address, "PATCH", "/v1/status", more);
    assert_eq!(code, 400, "{refused}");
    assert!(refused["errors"][0]["detail"].is_string(), "{refused}");
    let stop = r#"{"data":{"type":"status","id":"default","attributes":{"stopped":true}}}"#;
    let (code, stopped) = ask(&address, "PATCH", "/v1/status", stop);
    assert_eq!(
        (code, &stopped["data"]["attributes"]["stopped"]),
        (200, &true.into()),
        "{stopped}"
    );
    running.end().expect(103, "stopping, as asked over HTTP");
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let folder = Folder::new();
    folder.write("one.js", "export default function () {}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = folder.run(&["run", "--address", &address, "one.js"]);
    ended.expect(106, &format!("{address} cannot be listened on"));
}

#[test]
fn programs_are_started_only_when_that_is_allowed() {
    let folder = Folder::new();
    folder.write(
        "exec.js",
        "import { chaos } from 'sfu';
         export default async function () {
           const told = await chaos.exec('sh', ['-c', 'echo out; echo err >&2; exit 3']);
           console.log(JSON.stringify(told));
           // What it leaves behind holds its output open.
           const left = await chaos.exec('sh', ['-c', 'echo first; sleep 30 & echo $!']);
           console.log(`left ${left.stdout.split('\\n')[0]}`);
           await chaos.exec('kill', [left.stdout.split('\\n')[1]]);
           const much = await chaos.exec('sh', ['-c', 'head -c 1000000 /dev/zero | tr \"\\\\0\" x']);
           console.log(`kept ${much.stdout.length}`);
           for (const [program, args] of [['absent-program', []], ['sleep', ['30']]]) {
             try {
               await chaos.exec(program, args, { timeout: '200ms' });
             } catch (error) {
               console.log(error.message);
             }
           }
         }",
    );
    let refused = folder.run(&["run", "-q", "exec.js"]);
    assert!(
        refused.text.contains("only with --allow-exec"),
        "{}",
        refused.text
    );
    assert!(
        refused.text.contains("chaos.exec() at exec.js:3"),
        "{}",
        refused.text
    );
    let ended = folder.run(&["run", "-q", "--allow-exec", "exec.js"]);
    for expected in [
        r#"{\"code\":3,\"stderr\":\"err\\n\",\"stdout\":\"out\\n\"}"#,
        "left first",
        "kept 65536",
        "absent-program cannot be started",
        "sleep took longer than 200ms, and was killed",
    ] {
        let plain = expected.replace("\\\"", "\"").replace("\\\\n", "\\n");
        let found = ended.text.contains(expected) || ended.text.contains(&plain);
        assert!(found, "no {expected} in:\n{}", ended.text);
    }
}

#[test]
fn nodes_are_listed_and_drained_over_the_admin_api() {
    let folder = Folder::new();
    let (address, asked) = serve(|request| {
        let (line, _) = request.split_once("\r\n").unwrap_or((request, ""));
        match line {
            _ if !request
                .to_ascii_lowercase()
                .contains("authorization: bearer token") =>
            {
                (401, r#"{"error":"who are you?"}"#)
            }
            "GET /nodes HTTP/1.1" => (200, r#"{"nodes":[{"id":"eu-1"},{"id":"us-1"}]}"#),
            "GET /rooms HTTP/1.1" => (200, r#"{"rooms":[{"name":"a"}],"next":"b c"}"#),
            "GET /rooms?from=b%20c HTTP/1.1" => (200, r#"{"rooms":[{"name":"d"}],"next":null}"#),
            "POST /nodes/eu-1/drain HTTP/1.1" => (200, r#"{"id":"eu-1","state":"draining"}"#),
            "POST /nodes/eu-1/undrain HTTP/1.1" => (409, r#"{"error":"it is about to end"}"#),
            _ => (404, "nothing"),
        }
    });
    folder.write(
        "admin.js",
        "import { check } from 'k6';
         import { admin } from 'sfu';
         export const options = { thresholds: { checks: ['rate==1'] } };
         const said = async (promise) => { try { return await promise; } catch (error) { return error.message; } };
         export default async function () {
           const url = `${__ENV.URL}/`, token = 'token';
           const all = {
             nodes: (await admin.nodes(url, { token })).map((it) => it.id),
             rooms: (await admin.rooms(url, { token })).map((it) => it.name),
             drain: (await admin.drain(url, 'eu-1', { token })).state,
             undrain: await said(admin.undrain(url, 'eu-1', { token })),
             stranger: await said(admin.nodes(url)),
           };
           console.log(Object.values(all).join(' | '));
         }",
    );
    let ended = folder.run(&[
        "run",
        "-q",
        "-e",
        &format!("URL=http://{address}"),
        "--no-thresholds",
        "admin.js",
    ]);
    let asked = asked();
    for expected in [
        "eu-1,us-1 | a,d | draining | admin.undrain(): it is about to end",
        "admin.nodes(): who are you?",
    ] {
        assert!(
            ended.text.contains(expected),
            "no {expected} in:\n{}\nasked: {asked:#?}",
            ended.text
        );
    }
}

#[test]
fn regions_are_listed_with_the_way_to_them() {
    let folder = Folder::new();
    let (far, _) = serve(|request| match request.starts_with("GET /rtt HTTP") {
        true => (204, ""),
        false => (404, "nothing"),
    });
    let list = format!(
        r#"{{"regions":[{{"region":"eu","url":"ws://{far}","distance":"0"}},{{"region":"nowhere","url":"ws://127.0.0.1:1","distance":"9"}}]}}"#
    );
    let list: &'static str = list.leak();
    let (address, asked) = serve(move |request| {
        let allowed = request
            .to_ascii_lowercase()
            .contains("authorization: bearer mine");
        match request.starts_with("GET /prefix/settings/regions HTTP") {
            true if allowed => (200, list),
            true => (401, "who are you?"),
            false => (404, "nothing"),
        }
    });
    folder.write(
        "regions.js",
        "import { Client } from 'sfu';
         export default async function () {
           const client = new Client(`ws://${__ENV.AT}/prefix/`);
           for (const { region, url, rtt } of await client.regions({ token: 'mine' })) {
             console.log(region, url, rtt === null ? 'none' : rtt >= 0 && rtt < 5_000);
           }
           try { await client.regions(); } catch (error) { console.log(error.message); }
         }",
    );
    let at = format!("AT={address}");
    let ended = folder.run(&["run", "-q", "--log-format", "raw", "-e", &at, "regions.js"]);
    for expected in [
        &format!("eu ws://{far} true"),
        "nowhere ws://127.0.0.1:1 none",
        "regions(): status 401: who are you?",
    ] {
        let found = ended.text.contains(expected);
        assert!(found, "no {expected} in:\n{}\n{:#?}", ended.text, asked());
    }
}

#[test]
fn a_beginning_is_written_with_types_for_editors() {
    let folder = Folder::new();
    folder.run(&["new", "first.js"]).expect(0, "new --types");
    folder
        .run(&["new", "--types", "first.js"])
        .expect(104, "first.js cannot be written");
    folder
        .run(&["new", "--types", "-f", "first.js"])
        .expect(0, "first.js is written");
    assert!(folder.read("sfu.d.ts").contains("declare module 'sfu'"));
    assert!(folder.read("k6.d.ts").contains("declare module 'k6'"));
    folder
        .run(&["inspect", "first.js"])
        .expect(0, "sfu_join_failed");
}

#[test]
fn the_scenarios_can_be_read() {
    let scenarios = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let folder = Folder::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(scenarios).expect("they are there") {
        let path = entry.expect("it is there").path();
        let ended: Ended = folder.run(&["inspect", path.to_str().expect("its name is text")]);
        ended.expect(0, "\"thresholds\"");
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn outputs_that_do_not_exist_are_refused() {
    let folder = Folder::new();
    folder.write("one.js", "export default function () {}");
    let ended = folder.run(&["run", "--out", "web-dashboard", "one.js"]);
    ended.expect(104, "there is no live dashboard");
}
