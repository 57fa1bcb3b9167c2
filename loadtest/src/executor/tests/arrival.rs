use super::super::schedule::{Ramps, Schedule};
use super::sim::{Sim, check};
use super::*;

fn starts(sim: &mut Sim) -> Vec<Duration> {
    sim.run();
    let starts = sim.outputs.iter().filter_map(|(_, output)| match output {
        Output::Start { intended, .. } => Some(*intended),
        _ => None,
    });
    starts.collect()
}

#[test]
fn iterations_start_on_schedule() {
    check(
        &mut Sim::of(rate(2, 2, 2, 2), millis(700)),
        &[
            "0s: +0 +1 0#0",
            "500ms: 1#1",
            "1s: 0#2",
            "1.5s: 1#3",
            "2s: -0",
            "2.2s: -1 done",
        ],
    );
}

#[test]
fn times_do_not_drift() {
    let starts = starts(&mut Sim::of(rate(7, 100, 1, 1), millis(1)));
    assert_eq!(starts.len(), 700);
    for (k, start) in (0..).zip(starts) {
        assert_eq!(start, Duration::from_nanos(k * 1_000_000_000 / 7));
    }
}

#[test]
fn vus_are_added_up_to_the_most_and_then_iterations_are_dropped() {
    check(
        &mut Sim::of(rate(1, 6, 1, 3), secs(10)),
        &[
            "0s: +0 0#0",
            "1s: +1 1#1",
            "2s: +2 2#2",
            "3s: dropped 1 insufficient 3",
            "4s: dropped 1",
            "5s: dropped 1",
            "10s: -0",
            "11s: -1",
            "12s: -2 done",
        ],
    );
}

#[test]
fn a_late_timeout_drops_and_starts_what_was_due() {
    let mut runner = Runner::new(&Scenario::new("test", rate(1, 60, 2, 2)), &Share::whole());
    runner.handle_timeout(secs(0));
    runner.handle_timeout(millis(4_500));
    let outputs: Vec<Output> = std::iter::from_fn(|| runner.poll_output()).collect();
    let start = |slot, iteration| Output::Start {
        slot: Slot(slot),
        iteration,
        intended: secs(iteration),
    };
    assert_eq!(
        outputs,
        [
            Output::Activate(Slot(0)),
            Output::Activate(Slot(1)),
            start(0, 0),
            start(1, 1),
            Output::Dropped { count: 1 },
            Output::Insufficient { max_vus: 2 },
            Output::Dropped { count: 2 },
        ]
    );
}

#[test]
fn a_rate_may_be_slower_than_one_per_time_unit() {
    let executor = Executor::ConstantArrivalRate {
        rate: 3,
        time_unit: secs(60),
        duration: secs(60),
        pre_allocated_vus: 1,
        max_vus: 1,
    };
    let starts = starts(&mut Sim::of(executor, secs(1)));
    assert_eq!(starts, [secs(0), secs(20), secs(40)]);
}

#[test]
fn ramped_rates_start_when_the_area_is_full() {
    // A rate of t²/2 reaches 1, 2, 3 … at the roots of 2, 4, 6 …
    let rising = starts(&mut Sim::of(ramping_rate(0, &[(10, 10)], 1), millis(1)));
    assert_eq!(rising.len(), 50);
    for (k, start) in (1_u32..).zip(&rising) {
        let expected = f64::from(2 * k).sqrt();
        assert!(
            (start.as_secs_f64() - expected).abs() < 2e-9,
            "{k}: {start:?}"
        );
    }
    assert_eq!(rising.last(), Some(&secs(10)));
    // Falling, it is the same from behind.
    let falling = starts(&mut Sim::of(ramping_rate(10, &[(10, 0)], 1), millis(1)));
    assert_eq!(falling.len(), 50);
    for (start, other) in falling.iter().zip(rising.iter().rev().skip(1)) {
        let sum = start.as_secs_f64() + other.as_secs_f64();
        assert!((sum - 10.0).abs() < 4e-9, "{start:?} {other:?}");
    }
    // Level stages, pauses and jumps.
    let level = starts(&mut Sim::of(
        ramping_rate(2, &[(1, 2), (0, 0), (5, 0), (0, 1), (2, 1)], 1),
        millis(1),
    ));
    assert_eq!(level, [millis(500), secs(1), secs(7), secs(8)]);
}

#[test]
fn instances_share_a_schedule() {
    let scenario = Scenario::new("test", rate(6, 2, 6, 6));
    let mut all = Vec::new();
    for segment in ["0:1/3", "1/3:2/3", "2/3:1"] {
        let share = Share::new(Some(segment.parse().unwrap()), None).unwrap();
        let mut sim = Sim::new(&scenario, &share, |_, _| Some(millis(1)));
        let starts = starts(&mut sim);
        assert_eq!(starts.len(), 4);
        assert_eq!(starts[1] - starts[0], millis(500));
        let numbers = (0..).zip(starts);
        all.extend(numbers.map(|(i, start)| (sim.runner.iteration_in_test(i), start)));
    }
    all.sort_unstable();
    for (k, (number, start)) in (0..).zip(all) {
        assert_eq!(number, k);
        assert_eq!(start, Duration::from_nanos(k * 1_000_000_000 / 6));
    }
}

#[test]
fn the_longest_stages_at_the_highest_rates_do_not_overflow() {
    let month = secs(30 * 86_400);
    let stage = |target| Stage {
        duration: month,
        target,
    };
    let ramps = Ramps::new(10_000_000, secs(3_600), &[stage(0), stage(10_000_000)]);
    let mut schedule = Schedule::Ramping(ramps);
    for (number, expected) in [
        (3_599_999_999, Some(month)),
        (7_199_999_999, Some(2 * month)),
        (7_200_000_000, None),
    ] {
        assert_eq!(schedule.start_of(number), expected);
    }
}
