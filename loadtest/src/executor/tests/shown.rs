use super::sim::Sim;
use super::*;

#[test]
fn descriptions() {
    let share = Share::whole();
    let mut viewer = Scenario::new(
        "audience",
        ramping(0, &[(120, 500), (360, 500), (60, 0)], 20),
    );
    viewer.exec = "viewer".to_owned();
    viewer.start_time = secs(10);
    let mut speaker = Scenario::new(
        "speakers",
        Executor::PerVuIterations {
            vus: 6,
            iterations: 1,
            max_duration: secs(720),
        },
    );
    speaker.exec = "speaker".to_owned();
    speaker.graceful_stop = secs(10);
    let mut plain = Scenario::new("plain", constant(10, 90));
    plain.graceful_stop = Duration::ZERO;
    let of = |executor| Scenario::new("test", executor);
    for (scenario, expected) in [
        (
            &viewer,
            "Up to 500 looping VUs for 9m0s over 3 stages (gracefulRampDown: 20s, exec: viewer, \
             startTime: 10s, gracefulStop: 30s)",
        ),
        (
            &speaker,
            "1 iterations for each of 6 VUs (maxDuration: 12m0s, exec: speaker, gracefulStop: 10s)",
        ),
        (&plain, "10 looping VUs for 1m30s"),
        (
            &of(Executor::SharedIterations {
                vus: 10,
                iterations: 200,
                max_duration: secs(600),
            }),
            "200 iterations shared among 10 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
        ),
        (
            &of(rate(50, 60, 5, 20)),
            "50.00 iterations/s for 1m0s (maxVUs: 5-20, gracefulStop: 30s)",
        ),
        (
            &of(ramping_rate(3, &[(60, 7), (30, 0)], 5)),
            "Up to 7.00 iterations/s for 1m30s over 2 stages (maxVUs: 5, gracefulStop: 30s)",
        ),
        (
            &of(until(100, 20, 500)),
            "From 100 up to 500 looping VUs, 20 more every 10s (until: sfu_join_failed rate>0.01, \
             gracefulStop: 30s)",
        ),
    ] {
        assert_eq!(description(scenario, &share), expected);
    }
    let half = Share::new(Some("0:1/2".parse().unwrap()), None).unwrap();
    assert_eq!(
        description(&of(rate(50, 60, 4, 20)), &half),
        "25.00 iterations/s for 1m0s (maxVUs: 2-10, gracefulStop: 30s)"
    );
}

#[test]
fn requirements() {
    let check = |scenarios: &[(u64, u64, Executor)], max_vus, total| {
        let scenarios: Vec<Scenario> = scenarios
            .iter()
            .map(|(start_time, graceful_stop, executor)| {
                let mut scenario = Scenario::new("test", executor.clone());
                scenario.start_time = secs(*start_time);
                scenario.graceful_stop = secs(*graceful_stop);
                scenario
            })
            .collect();
        let expected = Requirements {
            max_vus,
            total_duration: secs(total),
        };
        assert_eq!(Requirements::of(&scenarios, &Share::whole()), expected);
    };
    check(&[], 0, 0);
    check(&[(0, 30, constant(10, 60))], 10, 90);
    // One after the other, with and without an overlap of graceful stops.
    check(
        &[(0, 30, constant(10, 60)), (90, 30, constant(7, 60))],
        10,
        180,
    );
    check(
        &[(0, 30, constant(10, 60)), (89, 30, constant(7, 60))],
        17,
        179,
    );
    check(&[(5, 0, rate(5, 60, 2, 9))], 9, 65);
    check(&[(0, 30, until(2, 2, 7))], 7, 70);
    // The ramp is down to 5 after 5 s, and 5 more may go on for 10 s.
    let ramp = || ramping(10, &[(10, 0)], 10);
    check(&[(0, 30, ramp())], 10, 40);
    check(&[(0, 30, ramp()), (10, 0, constant(1, 60))], 11, 70);
    // At 15 s those five have gone that went until 5 s.
    check(&[(0, 30, ramp()), (15, 0, constant(5, 60))], 10, 75);
    check(&[(0, 30, ramp()), (14, 0, constant(5, 60))], 11, 74);
}

#[test]
fn the_state_is_told() {
    let mut scenario = Scenario::new("test", ramping(0, &[(10, 100)], 0));
    scenario.start_time = secs(10);
    let mut sim = Sim::new(&scenario, &Share::whole(), |_, _| None);
    let mut check = |at, phase, active_vus, progress: f64, columns: &str| {
        sim.run_until(secs(at));
        let status = sim.runner.status(secs(at));
        assert_eq!(status.phase, phase, "at {at} s");
        assert_eq!(status.active_vus, active_vus);
        assert!((status.progress - progress).abs() < 1e-9);
        assert_eq!(status.columns.join("  "), columns);
    };
    check(4, Phase::Waiting, 0, 0.0, "waiting  0m06.0s");
    check(15, Phase::Running, 50, 0.5, "050/100 VUs  0m05.0s/0m10.0s");
    check(21, Phase::Stopping, 99, 1.0, "099/100 VUs  0m10.0s/0m10.0s");
    check(
        60,
        Phase::Interrupted,
        0,
        1.0,
        "000/100 VUs  0m10.0s/0m10.0s",
    );
}

#[test]
fn columns_are_those_of_the_executor() {
    for (executor, expected) in [
        (constant(5, 60), "5 VUs|0m07.5s/1m00.0s"),
        (
            Executor::SharedIterations {
                vus: 2,
                iterations: 100,
                max_duration: secs(60),
            },
            "2 VUs|0m07.5s/1m00.0s|014/100 shared iters",
        ),
        (
            Executor::PerVuIterations {
                vus: 2,
                iterations: 10,
                max_duration: secs(60),
            },
            "2 VUs|0m07.5s/1m00.0s|14/20 iters, 10 per VU",
        ),
        (rate(2, 60, 5, 20), "05/20 VUs|0m07.5s/1m00.0s|2.00 iters/s"),
        (
            ramping_rate(0, &[(60, 60)], 20),
            "20/20 VUs|0m07.5s/1m00.0s|7.50 iters/s",
        ),
        (until(2, 2, 10), "02/10 VUs|0m07.5s/0m50.0s|level 2 of 10"),
    ] {
        let mut sim = Sim::of(executor, secs(1));
        sim.run_until(millis(7_500));
        let status = sim.runner.status(sim.now);
        assert_eq!(status.columns.join("|"), expected);
    }
}
