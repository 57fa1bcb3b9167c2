//! Where samples go.

use std::collections::BTreeSet;

use prost::Message as _;
use serde_json::Value;

use crate::bench::{Bench, finish, inflated};
use crate::server::Server;

const SCRIPT: &str = "import { check } from 'k6';
    import { Trend, Rate } from 'k6/metrics';
    const trend = new Trend('my_trend', true);
    const rate = new Rate('my_rate');
    export const options = { iterations: 2, tags: { run: 'x' }, thresholds: { my_trend: ['p(95)<1000'] } };
    export default function () { trend.add(12.5, { kind: 'video' }); rate.add(true); check(1, { one: (it) => it === 1 }); }";

#[test]
fn json_lines_describe_a_metric_before_its_first_point() {
    let bench = Bench::new(SCRIPT);
    bench
        .run(&["-q", "--out", "json=out.json", "-o", "json=out.json.gz"])
        .exits(0);
    let text = bench.read("out.json");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut described = BTreeSet::new();
    for line in &lines {
        let name = line["metric"].as_str().unwrap();
        if line["type"] == "Metric" {
            assert!(
                described.insert(name.to_owned()),
                "{name} is described twice: {text}"
            );
        } else {
            assert_eq!(line["type"], "Point", "{line}");
            assert!(described.contains(name), "{name} is not described: {text}");
        }
    }
    let metric = lines
        .iter()
        .find(|line| line["type"] == "Metric" && line["metric"] == "my_trend")
        .unwrap();
    assert_eq!(metric["data"]["type"], "trend", "{metric}");
    assert_eq!(metric["data"]["contains"], "time", "{metric}");
    assert_eq!(metric["data"]["thresholds"][0], "p(95)<1000", "{metric}");
    let points: Vec<&Value> = lines
        .iter()
        .filter(|line| line["type"] == "Point" && line["metric"] == "my_trend")
        .collect();
    assert_eq!(points.len(), 2, "{text}");
    let data = &points[0]["data"];
    assert_eq!(data["value"], 12.5);
    assert_eq!(
        (
            &data["tags"]["kind"],
            &data["tags"]["run"],
            &data["tags"]["scenario"]
        ),
        (&"video".into(), &"x".into(), &"default".into()),
        "{data}"
    );
    assert!(data["time"].as_str().unwrap().starts_with("20"), "{data}");
    let packed = inflated(&std::fs::read(bench.path("out.json.gz")).unwrap());
    assert_eq!(
        packed
            .lines()
            .filter(|line| line.contains("\"Point\"") && line.contains("my_trend"))
            .count(),
        2,
        "{packed}"
    );
}

#[test]
fn csv_has_a_column_for_each_system_tag() {
    let bench = Bench::new(SCRIPT);
    bench
        .run(&[
            "-q",
            "--out",
            "csv=out.csv",
            "--system-tags",
            "scenario,check",
        ])
        .exits(0);
    let text = bench.read("out.csv");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("metric_name,timestamp,metric_value,check,scenario,extra_tags,metadata"),
        "{text}"
    );
    let trend: Vec<&str> = lines
        .clone()
        .find(|line| line.starts_with("my_trend,"))
        .unwrap()
        .split(',')
        .collect();
    assert_eq!(
        (trend[2].parse::<f64>(), trend[4]),
        (Ok(12.5), "default"),
        "{text}"
    );
    assert!(
        trend[5].contains("kind=video") && trend[5].contains("run=x"),
        "{text}"
    );
    assert!(
        lines.any(|line| line.starts_with("checks,") && line.contains(",one,default,")),
        "{text}"
    );
}

/// What is needed of the message of remote write.
#[derive(Clone, PartialEq, prost::Message)]
struct Write {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Point {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    at: i64,
}

#[test]
fn a_prometheus_server_gets_everything() {
    let server = Server::start();
    let bench = Bench::new(SCRIPT);
    let mut command = bench.command(&["-q", "--out", "experimental-prometheus-rw"]);
    command
        .env(
            "K6_PROMETHEUS_RW_SERVER_URL",
            format!("{}/write", server.url),
        )
        .env("K6_PROMETHEUS_RW_TREND_STATS", "avg,p(99)")
        .env("K6_PROMETHEUS_RW_USERNAME", "u")
        .env("K6_PROMETHEUS_RW_PASSWORD", "p");
    finish(&mut command).exits(0);
    let received = server.received();
    let request = received.last().unwrap_or_else(|| panic!("it got nothing"));
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/write"),
        "{request:?}"
    );
    assert_eq!(
        request.header("content-encoding"),
        Some("snappy"),
        "{request:?}"
    );
    assert_eq!(
        request.header("authorization"),
        Some("Basic dTpw"),
        "{request:?}"
    );
    let mut found = Vec::new();
    for request in &received {
        let bytes = snap::raw::Decoder::new()
            .decompress_vec(&request.body)
            .unwrap();
        for series in Write::decode(&bytes[..]).unwrap().series {
            let name = series
                .labels
                .iter()
                .find(|label| label.name == "__name__")
                .unwrap();
            found.push((name.value.clone(), series.samples[0].value));
        }
    }
    for expected in [
        ("k6_iterations_total", 2.0),
        ("k6_my_trend_avg", 0.0125),
        ("k6_my_trend_p99", 0.0125),
        ("k6_my_rate_rate", 1.0),
    ] {
        assert!(
            found
                .iter()
                .any(|(name, value)| (name.as_str(), *value) == expected),
            "{expected:?} is missing: {found:?}"
        );
    }
}

#[test]
fn an_output_that_fails_is_said_and_the_test_goes_on() {
    let bench = Bench::new(SCRIPT);
    let mut command = bench.command(&[
        "-q",
        "--out",
        "experimental-prometheus-rw=http://127.0.0.1:1/write",
    ]);
    finish(&mut command)
        .exits(0)
        .says("127.0.0.1:1")
        .says("did not take")
        .says("iterations");
    bench
        .run(&["--out", "json=absent/out.json"])
        .exits(104)
        .says("absent/out.json");
}

#[test]
fn nothing_is_emptied_for_a_test_that_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (options, arguments, code) in [
        ("thresholds: { iterations: ['p(95)<1'] }", &[][..], 104),
        ("thresholds: { nobody_knows_it: ['avg<1'] }", &[], 104),
        (
            "scenarios: { a: { executor: 'ramping-until', startVUs: 1, step: 1, stepDuration: '1s', maxVUs: 2, until: ['absent rate>1'] } }",
            &[],
            104,
        ),
        ("", &["--address", &taken], 106),
    ] {
        let bench = Bench::new(&format!(
            "export const options = {{ {options} }}; export default function () {{}}"
        ));
        bench.write("out.json", "of the day before");
        bench
            .run(&[&["--out", "json=out.json"], arguments].concat())
            .exits(code);
        assert_eq!(bench.read("out.json"), "of the day before", "{options}");
        bench
            .run(&[&["--out", "csv=new.csv"], arguments].concat())
            .exits(code);
        assert!(!bench.path("new.csv").exists(), "{options}");
    }
}

#[test]
fn ctrl_c_does_not_wait_for_a_server_that_hangs() {
    let server = Server::start();
    let bench = Bench::new(
        "import { sleep } from 'k6';
        export const options = { vus: 1, duration: '1m' };
        export default async function () { console.log('begun'); await sleep(1); }",
    );
    let mut command = bench.command(&["--out", "experimental-prometheus-rw"]);
    command
        .env(
            "K6_PROMETHEUS_RW_SERVER_URL",
            format!("{}/slow", server.url),
        )
        .env("K6_PROMETHEUS_RW_PUSH_INTERVAL", "1s");
    let mut running = crate::bench::start(&mut command);
    running.wait_for("begun");
    running.interrupt();
    let interrupted = std::time::Instant::now();
    let ran = running.end();
    let took = interrupted.elapsed();
    ran.exits(105).says("did not take").says("TOTAL RESULTS");
    assert!(took.as_secs_f64() < 5.0, "{took:?} {ran}");
}
