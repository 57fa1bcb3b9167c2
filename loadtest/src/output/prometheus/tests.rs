//! What Prometheus would read.

use prost::Message as _;

use super::*;

fn settings(variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    Settings::from_env(None, |name| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn decoded(body: &[u8]) -> Vec<(String, f64, i64)> {
    let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let request = wire::WriteRequest::decode(&bytes[..]).unwrap();
    let series = request.timeseries.iter().map(|series| {
        let labels: Vec<String> = series
            .labels
            .iter()
            .map(|label| format!("{}={}", label.name, label.value))
            .collect();
        (
            labels.join(","),
            series.samples[0].value,
            series.samples[0].timestamp,
        )
    });
    series.collect()
}

#[test]
fn each_kind_has_its_series() {
    let registry = Arc::new(Registry::new());
    let tags = [("region", "eu"), ("a-b", "c"), ("empty", "")];
    let tags = registry.tag_set(
        &tags
            .map(|(tag, value)| (tag.to_owned(), value.to_owned()))
            .into(),
    );
    let settings = settings(&[("K6_PROMETHEUS_RW_TREND_STATS", "p(99.9),avg,count")]).unwrap();
    let mut output = RemoteWrite::new(Arc::clone(&registry), &settings);
    for (metric, value) in [
        ("sfu_join_duration", 100.0),
        ("sfu_join_duration", 300.0),
        ("iterations", 2.0),
        ("vus", 7.0),
        ("sfu_join_failed", 1.0),
    ] {
        output.add(&Sample::new(registry.builtin(metric), tags, 0.0, value));
    }
    let mut found = decoded(&output.batch(5000.4).unwrap());
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let named = |name: &str, value: f64| (format!("__name__={name},a_b=c,region=eu"), value, 5000);
    assert_eq!(
        found,
        [
            named("k6_iterations_total", 2.0),
            named("k6_sfu_join_duration_avg", 0.2),
            named("k6_sfu_join_duration_count", 2.0),
            named("k6_sfu_join_duration_p999", 0.2998),
            named("k6_sfu_join_failed_rate", 1.0),
            named("k6_vus", 7.0),
        ]
    );
    assert_eq!(output.batch(6000.0), None, "nothing has changed");
    output.add(&Sample::new(registry.builtin("iterations"), tags, 0.0, 1.0));
    assert_eq!(
        decoded(&output.batch(7000.0).unwrap()),
        [(found[0].0.clone(), 3.0, 7000)]
    );
    assert_eq!(output.finish(8000.0), None, "nobody asked for markers");
}

#[test]
fn markers_end_the_series() {
    let registry = Arc::new(Registry::new());
    let settings = settings(&[("K6_PROMETHEUS_RW_STALE_MARKERS", "true")]).unwrap();
    let mut output = RemoteWrite::new(Arc::clone(&registry), &settings);
    output.add(&Sample::new(
        registry.builtin("vus"),
        TagSetId::EMPTY,
        0.0,
        1.0,
    ));
    let ended = decoded(&output.finish(9000.0).unwrap());
    assert_eq!((ended.len(), ended[0].1.to_bits()), (1, STALE));
}

#[test]
fn settings_have_defaults_and_our_prefix_comes_first() {
    let usual = settings(&[]).unwrap();
    assert_eq!(usual.url, "http://localhost:9090/api/v1/write");
    assert_eq!(
        (usual.push_interval, usual.trend_stats.len()),
        (Duration::from_secs(5), 1)
    );
    let both = settings(&[
        ("K6_PROMETHEUS_RW_SERVER_URL", "http://a"),
        ("PIPEMESH_PROMETHEUS_RW_SERVER_URL", "http://b"),
        ("K6_PROMETHEUS_RW_USERNAME", "user"),
        ("K6_PROMETHEUS_RW_PASSWORD", "pass"),
        ("K6_PROMETHEUS_RW_HTTP_HEADERS", "X-Scope: one, X-Other:two"),
    ])
    .unwrap();
    assert_eq!(both.url, "http://b");
    let headers = headers(&both, "0.1.0");
    for (name, value) in [
        ("Content-Encoding", "snappy"),
        ("Authorization", "Basic dXNlcjpwYXNz"),
        ("X-Scope", "one"),
        ("X-Other", "two"),
    ] {
        assert!(
            headers.contains(&(name.to_owned(), value.to_owned())),
            "{name}"
        );
    }
    assert!(!format!("{both:?}").contains("pass"));
}

#[test]
fn all_problems_are_told_and_no_secret() {
    let problems = settings(&[
        ("K6_PROMETHEUS_RW_SERVER_URL", "localhost"),
        ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "often"),
        ("PIPEMESH_PROMETHEUS_RW_TREND_STATS", "avg,mean"),
        ("K6_PROMETHEUS_RW_STALE_MARKERS", "maybe"),
        ("K6_PROMETHEUS_RW_BEARER_TOKEN", "secret"),
        ("K6_PROMETHEUS_RW_USERNAME", "user"),
        ("K6_PROMETHEUS_RW_HTTP_HEADERS", "nothing"),
    ])
    .unwrap_err();
    assert_eq!(problems.len(), 6, "{problems:?}");
    assert!(
        problems[0]
            .starts_with("K6_PROMETHEUS_RW_STALE_MARKERS: 'maybe' is neither true nor false")
    );
    assert!(problems.iter().all(|problem| !problem.contains("secret")));
}
