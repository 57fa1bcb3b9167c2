use super::sim::{Sim, check};
use super::*;

fn shared(vus: u64, iterations: u64, max_duration: u64) -> Executor {
    Executor::SharedIterations {
        vus,
        iterations,
        max_duration: secs(max_duration),
    }
}

fn per_vu(vus: u64, iterations: u64, max_duration: u64) -> Executor {
    Executor::PerVuIterations {
        vus,
        iterations,
        max_duration: secs(max_duration),
    }
}

#[test]
fn shared_iterations_go_to_who_is_free() {
    let scenario = Scenario::new("test", shared(2, 4, 60));
    let mut sim = Sim::new(&scenario, &Share::whole(), |slot, _| {
        Some(secs(if slot.0 == 0 { 1 } else { 5 }))
    });
    check(
        &mut sim,
        &[
            "0s: +0 0#0 +1 1#1",
            "1s: 0#2",
            "2s: 0#3",
            "3s: -0",
            "5s: -1 done",
        ],
    );
}

#[test]
fn max_duration_ends_it() {
    check(
        &mut Sim::of(shared(1, 10, 5), secs(3)),
        &["0s: +0 0#0", "3s: 0#1", "6s: -0 done"],
    );
    check(
        &mut Sim::of(per_vu(1, 10, 5), secs(100)),
        &["0s: +0 0#0", "35s: !0 -0 done"],
    );
}

#[test]
fn each_vu_runs_its_iterations() {
    let scenario = Scenario::new("test", per_vu(2, 2, 60));
    let mut sim = Sim::new(&scenario, &Share::whole(), |slot, _| {
        Some(secs(if slot.0 == 0 { 1 } else { 5 }))
    });
    check(
        &mut sim,
        &[
            "0s: +0 0#0 +1 1#1",
            "1s: 0#2",
            "2s: -0",
            "5s: 1#3",
            "10s: -1 done",
        ],
    );
}

#[test]
fn constant_vus_start_at_the_start_time() {
    let mut scenario = Scenario::new("test", constant(1, 5));
    scenario.start_time = secs(10);
    let mut sim = Sim::new(&scenario, &Share::whole(), |_, _| Some(secs(2)));
    assert_eq!(sim.runner.poll_timeout(), Some(secs(10)));
    check(
        &mut sim,
        &["10s: +0 0#0", "12s: 0#1", "14s: 0#2", "16s: -0 done"],
    );
}

#[test]
fn nothing_starts_at_the_end() {
    check(
        &mut Sim::of(constant(1, 4), secs(2)),
        &["0s: +0 0#0", "2s: 0#1", "4s: -0 done"],
    );
}

#[test]
fn iterations_may_end_within_the_graceful_stop() {
    let with = |graceful_stop, length: u64| {
        let mut scenario = Scenario::new("test", constant(1, 5));
        scenario.graceful_stop = secs(graceful_stop);
        Sim::new(&scenario, &Share::whole(), move |_, _| Some(secs(length)))
    };
    check(&mut with(10, 14), &["0s: +0 0#0", "14s: -0 done"]);
    check(&mut with(10, 16), &["0s: +0 0#0", "15s: !0 -0 done"]);
    check(&mut with(0, 6), &["0s: +0 0#0", "5s: !0 -0 done"]);
    let mut sim = with(10, 16);
    sim.run();
    let status = sim.runner.status(sim.now);
    assert_eq!(
        (status.phase, status.complete, status.interrupted),
        (Phase::Interrupted, 0, 1)
    );
}

#[test]
fn vus_come_and_go_along_the_ramp() {
    check(
        &mut Sim::of(ramping(0, &[(4, 2), (2, 2), (4, 0)], 30), secs(100)),
        &[
            "2s: +0 0#0",
            "4s: +1 1#1",
            // Vu 1 goes at 8 s and could go on until 38 s, vu 0 until the graceful stop is over.
            "38s: !1 -1",
            "40s: !0 -0 done",
        ],
    );
    check(
        &mut Sim::of(ramping(3, &[(3, 0)], 0), millis(900)),
        &[
            "0s: +0 0#0 +1 1#1 +2 2#2",
            "900ms: 0#3 1#4 2#5",
            "1s: !2 -2",
            "1.8s: 0#6 1#7",
            "2s: !1 -1",
            "2.7s: 0#8",
            "3.6s: -0 done",
        ],
    );
}

#[test]
fn a_stage_of_no_duration_is_a_jump() {
    check(
        &mut Sim::of(ramping(1, &[(0, 3), (5, 3), (0, 1), (5, 1)], 2), secs(4)),
        &[
            "0s: +0 0#0 +1 1#1 +2 2#2",
            "4s: 0#3 1#4 2#5",
            "7s: !1 !2 -2 -1",
            "8s: 0#6",
            "12s: -0 done",
        ],
    );
}

#[test]
fn a_vu_that_is_wanted_again_stays() {
    // Vu 1 goes at 1 s, may go on until 11 s, and is wanted again from 5 s on.
    check(
        &mut Sim::of(
            ramping(2, &[(1, 2), (0, 1), (4, 1), (0, 2), (5, 2)], 10),
            millis(7_000),
        ),
        &["0s: +0 0#0 +1 1#1", "7s: 0#2 1#3", "14s: -0 -1 done"],
    );
    // So it does if that is when it would have been interrupted.
    check(
        &mut Sim::of(
            ramping(2, &[(1, 2), (0, 1), (4, 1), (0, 2), (5, 2)], 4),
            millis(7_000),
        ),
        &["0s: +0 0#0 +1 1#1", "7s: 0#2 1#3", "14s: -0 -1 done"],
    );
    // It has ended its iteration meanwhile: it went to the pool and comes back.
    check(
        &mut Sim::of(
            ramping(2, &[(1, 2), (0, 1), (4, 1), (0, 2), (5, 2)], 10),
            millis(4_000),
        ),
        &[
            "0s: +0 0#0 +1 1#1",
            "4s: 0#2 -1",
            "5s: +1 1#3",
            "8s: 0#4",
            "9s: 1#5",
            "12s: -0",
            "13s: -1 done",
        ],
    );
}

#[test]
fn a_vu_that_is_wanted_while_it_is_interrupted_comes_back() {
    let executor = ramping(1, &[(1, 1), (0, 0), (3, 0), (0, 1), (5, 1)], 1);
    let mut runner = Runner::new(&Scenario::new("test", executor), &Share::whole());
    runner.handle_timeout(secs(0));
    runner.handle_timeout(secs(1));
    runner.handle_timeout(secs(2));
    runner.handle_timeout(secs(4));
    let outputs: Vec<Output> = std::iter::from_fn(|| runner.poll_output()).collect();
    assert_eq!(outputs.last(), Some(&Output::Interrupt(Slot(0))));
    runner.handle_iteration_end(Slot(0), true, secs(5));
    let outputs: Vec<Output> = std::iter::from_fn(|| runner.poll_output()).collect();
    assert_eq!(
        outputs,
        [
            Output::Release(Slot(0)),
            Output::Activate(Slot(0)),
            Output::Start {
                slot: Slot(0),
                iteration: 1,
                intended: secs(5)
            },
        ]
    );
}

#[test]
fn levels_rise_until_one_fails() {
    let log = |verdict: fn(u64) -> bool| {
        let mut sim = Sim::of(until(2, 2, 5), secs(20));
        sim.verdict = verdict;
        sim.run().log()
    };
    assert_eq!(
        log(|_| true),
        [
            "0s: +0 0#0 +1 1#1",
            "10s: judge 2 +2 2#2 +3 3#3",
            "20s: judge 4 0#4 +4 4#5 1#6",
            "30s: judge 5 2#7 capacity 5 -3",
            "40s: -0 -1 -4",
            "50s: -2 done",
        ]
    );
    assert_eq!(
        log(|level| level < 4),
        [
            "0s: +0 0#0 +1 1#1",
            "10s: judge 2 +2 2#2 +3 3#3",
            "20s: judge 4 0#4 capacity 2 -1",
            "30s: -2 -3",
            "40s: -0 done",
        ]
    );
    assert_eq!(
        log(|_| false),
        [
            "0s: +0 0#0 +1 1#1",
            "10s: judge 2 no capacity",
            "20s: -0 -1 done"
        ]
    );
}

#[test]
fn stopping_early_counts_the_graceful_period_from_then() {
    for executor in [
        constant(1, 60),
        ramping(1, &[(60, 1)], 5),
        per_vu(1, 9, 60),
        shared(1, 9, 60),
    ] {
        let mut sim = Sim::of(executor, secs(100));
        sim.run_until(secs(10)).runner.stop(secs(10));
        check(&mut sim, &["0s: +0 0#0", "40s: !0 -0 done"]);
        assert_eq!(sim.runner.status(sim.now).phase, Phase::Interrupted);
    }
    let mut sim = Sim::of(constant(1, 60), secs(3));
    sim.run_until(secs(10)).runner.stop(secs(10));
    check(
        &mut sim,
        &[
            "0s: +0 0#0",
            "3s: 0#1",
            "6s: 0#2",
            "9s: 0#3",
            "12s: -0 done",
        ],
    );
}

#[test]
fn stopping_for_good_interrupts_at_once() {
    let mut sim = Sim::of(constant(1, 60), secs(100));
    sim.run_until(secs(10)).runner.stop(secs(10));
    sim.run_until(secs(12)).runner.interrupt(secs(12));
    check(&mut sim, &["0s: +0 0#0", "12s: !0 -0 done"]);
}

#[test]
fn what_waits_is_over_when_it_is_stopped() {
    let mut scenario = Scenario::new("test", constant(1, 5));
    scenario.start_time = secs(10);
    let mut sim = Sim::new(&scenario, &Share::whole(), |_, _| None);
    sim.run_until(secs(3)).runner.stop(secs(3));
    check(&mut sim, &["3s: done"]);
}

#[test]
fn who_has_no_vu_is_done() {
    let second = Share::new(Some("1/2:1".parse().unwrap()), None).unwrap();
    for executor in [
        constant(1, 60),
        ramping(1, &[(60, 1)], 5),
        per_vu(1, 9, 60),
        shared(1, 9, 60),
        rate(10, 60, 1, 1),
    ] {
        let scenario = Scenario::new("test", executor);
        let mut sim = Sim::new(&scenario, &second, |_, _| None);
        check(&mut sim, &["0s: done"]);
    }
}

#[test]
fn instances_share_a_ramp() {
    let scenario = Scenario::new("test", ramping(0, &[(4, 4), (4, 0)], 0));
    let log = |segment: &str| {
        let share = Share::new(Some(segment.parse().unwrap()), None).unwrap();
        let mut sim = Sim::new(&scenario, &share, |_, _| None);
        sim.run().log()
    };
    assert_eq!(
        log("0:1/2"),
        ["1s: +0 0#0", "3s: +1 1#1", "6s: !1 -1", "38s: !0 -0 done"]
    );
    assert_eq!(
        log("1/2:1"),
        [
            "2s: +0 0#0",
            "4s: +1 1#1",
            "5s: !1 -1",
            "7s: !0 -0",
            "8s: done"
        ]
    );
}
