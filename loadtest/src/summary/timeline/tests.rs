//! Short runs, long runs, and runs with holes.

use super::*;
use crate::metrics::TagSetId;

const START: f64 = 1_700_000_000_000.0;

struct Run {
    registry: Registry,
    timeline: Timeline,
}

impl Run {
    fn new() -> Self {
        let registry = Registry::new();
        let timeline = Timeline::new(&registry, START);
        Self { registry, timeline }
    }

    fn add(&mut self, second: f64, metric: &'static str, value: f64, weight: f64) {
        let metric = self.registry.builtin(metric);
        self.timeline.add(&Sample::part(
            metric,
            TagSetId::EMPTY,
            START + second * 1e3,
            value,
            weight,
        ));
    }
}

#[test]
fn each_second_is_a_moment() {
    let mut run = Run::new();
    run.add(0.5, "vus", 3.0, 1.0);
    run.add(2.0, "iterations", 1.0, 1.0);
    run.add(2.9, "iterations", 1.0, 1.0);
    run.add(2.1, "checks", 1.0, 1.0);
    run.add(2.2, "checks", 0.0, 1.0);
    run.add(2.2, "rtc_packet_loss", 1.0, 100.0);
    run.add(2.2, "rtc_bitrate_received", 1e6, 1.0);
    run.add(2.3, "rtc_bitrate_received", 2e6, 1.0);
    run.add(2.3, "gen_loop_lag", 2.0, 1.0);
    run.add(2.4, "gen_loop_lag", 1.0, 1.0);
    run.add(2.4, "rtc_jitter", 1.0, 1.0);
    let moments = run.timeline.moments();
    assert_eq!(moments.len(), 3);
    assert_eq!(
        (moments[1].vus, moments[1].checks, moments[1].bitrate),
        (Some(3.0), None, None)
    );
    let last = &moments[2];
    assert_eq!(
        (last.at, last.vus, last.iterations_per_second),
        (2.0, Some(3.0), 2.0)
    );
    assert_eq!((last.checks, last.packet_loss), (Some(0.5), Some(0.01)));
    assert_eq!((last.bitrate, last.loop_lag), (Some(3e6), Some(2.0)));
}

#[test]
fn percentiles_are_close() {
    let mut run = Run::new();
    for i in 0..=100 {
        run.add(0.0, "rtc_e2e_latency", f64::from(i), 1.0);
    }
    let moment = &run.timeline.moments()[0];
    for (found, expected) in [(moment.latency_p50, 50.0), (moment.latency_p95, 95.0)] {
        assert!((found.unwrap() / expected - 1.0).abs() < 0.005, "{found:?}");
    }
}

#[test]
fn a_long_run_has_no_more_points() {
    let mut run = Run::new();
    for second in 0..20_000 {
        run.add(f64::from(second), "iterations", 1.0, 1.0);
        run.add(f64::from(second), "rtc_bitrate_received", 1e6, 1.0);
    }
    let moments = run.timeline.moments();
    assert!(
        (POINTS / 2..=POINTS).contains(&moments.len()),
        "{}",
        moments.len()
    );
    let seconds = moments[1].at;
    let iterations: f64 = moments
        .iter()
        .map(|moment| moment.iterations_per_second * seconds)
        .sum();
    assert_eq!(iterations, 20_000.0);
    assert_eq!(moments[7].bitrate, Some(1e6));
}

#[test]
fn wrong_clocks_and_wrong_numbers_do_no_harm() {
    let mut run = Run::new();
    for second in [-5.0, f64::NAN, f64::INFINITY, 1e300] {
        run.add(second, "iterations", 1.0, 1.0);
    }
    run.add(0.0, "iterations", f64::NAN, 1.0);
    let moments = run.timeline.moments();
    assert_eq!((moments.len(), moments[0].iterations_per_second), (1, 1.0));
}
