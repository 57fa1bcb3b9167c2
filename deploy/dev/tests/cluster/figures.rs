//! What was measured: printed, and kept where `make chaos` asks for it.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

/// A file that gets one JSON object a line: name, value, unit.
const FILE: &str = "PIPEMESH_CHAOS_FIGURES";

/// How long Redis or Consul is away, in seconds.
const OUTAGE: &str = "PIPEMESH_CHAOS_OUTAGE";

pub(crate) fn outage() -> Duration {
    let seconds = std::env::var(OUTAGE).map(|text| text.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(8))
}

pub(crate) fn count(name: &str, value: u64) {
    keep(name, value, "count");
}

pub(crate) fn time(name: &str, value: Duration) {
    let millis = value.as_millis().try_into().expect("a time of this test");
    keep(name, millis, "ms");
}

/// What nineteen of twenty stay within, and the most. Answers the former.
pub(crate) fn spread(name: &str, times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    let p95 = times[(times.len() * 19).div_ceil(20) - 1];
    time(&format!("{name}_p95"), p95);
    time(&format!("{name}_max"), times[times.len() - 1]);
    p95
}

fn keep(name: &str, value: u64, unit: &str) {
    eprintln!("    {name} {value} {unit}");
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let figure = serde_json::json!({ "name": name, "value": value, "unit": unit });
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    writeln!(file, "{figure}").unwrap();
}
