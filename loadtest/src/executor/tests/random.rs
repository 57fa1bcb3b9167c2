//! What holds for every scenario, whatever iterations do.

use proptest::prelude::*;

use super::sim::Sim;
use super::*;

fn ramps(highest: u64) -> impl Strategy<Value = Vec<Stage>> {
    let stage =
        (prop_oneof![Just(0), 1_u64..8_000], 0..=highest).prop_map(|(length, target)| Stage {
            duration: millis(length),
            target,
        });
    prop::collection::vec(stage, 1..6)
}

fn rates() -> impl Strategy<Value = Executor> {
    prop_oneof![
        (1_u64..30, 1_u64..9, 0_u64..4, 1_u64..6).prop_map(|(per_second, duration, pre, more)| {
            rate(per_second, duration, pre, pre + more)
        }),
        (0_u64..9, ramps(30), 0_u64..4, 1_u64..6).prop_map(|(start_rate, stages, pre, more)| {
            Executor::RampingArrivalRate {
                start_rate,
                time_unit: secs(1),
                stages,
                pre_allocated_vus: pre,
                max_vus: pre + more,
            }
        }),
    ]
}

fn executors() -> impl Strategy<Value = Executor> {
    prop_oneof![
        (1_u64..6, 0_u64..20, 1_u64..20).prop_map(|(vus, more, max)| Executor::SharedIterations {
            vus,
            iterations: vus + more,
            max_duration: secs(max),
        }),
        (1_u64..6, 1_u64..6, 1_u64..20).prop_map(|(vus, iterations, max)| {
            Executor::PerVuIterations {
                vus,
                iterations,
                max_duration: secs(max),
            }
        }),
        (1_u64..6, 1_u64..20).prop_map(|(vus, duration)| constant(vus, duration)),
        (0_u64..6, ramps(8), 0_u64..6_000).prop_map(|(start_vus, stages, grace)| {
            Executor::RampingVus {
                start_vus,
                stages,
                graceful_ramp_down: millis(grace),
            }
        }),
        rates(),
        (1_u64..4, 1_u64..4, 0_u64..6).prop_map(|(start_vus, step, more)| until(
            start_vus,
            step,
            start_vus + more
        )),
    ]
}

/// How many iterations the whole test is to start, if it starts them at a rate.
fn integral(executor: &Executor) -> Option<u64> {
    match executor {
        Executor::ConstantArrivalRate { rate, duration, .. } => Some(rate * duration.as_secs()),
        Executor::RampingArrivalRate {
            start_rate, stages, ..
        } => {
            let mut from = *start_rate;
            let mut doubled = 0;
            for stage in stages {
                let length = u64::try_from(stage.duration.as_millis()).unwrap();
                doubled += length * (from + stage.target);
                from = stage.target;
            }
            Some(doubled / 2_000)
        }
        _ => None,
    }
}

/// Numbers without a pattern.
fn noise(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_scenario_keeps_the_rules(
        executor in executors(),
        start_time in 0_u64..4_000,
        graceful_stop in 0_u64..4_000,
        longest in 1_u64..6_000,
        latest in prop_oneof![Just(1_u64), 1_u64..3_000],
        stop in prop::option::of(0_u64..20_000),
        part in (0_u64..3).prop_flat_map(|from| (Just(from), from + 1..=3)),
        seed in any::<u64>(),
    ) {
        let mut scenario = Scenario::new("test", executor);
        scenario.start_time = millis(start_time);
        scenario.graceful_stop = millis(graceful_stop);
        let segment = format!("{}/3:{}/3", part.0, part.1).parse().unwrap();
        let share = Share::new(Some(segment), None).unwrap();

        let mut random = noise(seed);
        let mut lateness = noise(seed ^ 0x5555);
        let mut sim = Sim::new(&scenario, &share, move |_, _| {
            (random(20) > 0).then(|| millis(random(longest)))
        });
        sim.late = Box::new(move || millis(lateness(latest)));
        sim.verdict = |level| level % 5 != 4;
        let stopped = stop.map(millis);
        if let Some(at) = stopped {
            sim.run_until(at);
            let now = sim.now;
            sim.runner.stop(now);
        }
        sim.run();

        let is_until = matches!(scenario.executor, Executor::RampingUntil { .. });
        let regular = scenario.start_time + scenario.executor.duration();
        let max_vus = share.count(scenario.executor.max_vus());
        let late = millis(latest);
        let mut active = vec![false; usize::try_from(max_vus).unwrap()];
        let mut next = 0;
        let mut dropped = 0;
        for (i, (at, output)) in sim.outputs.iter().enumerate() {
            match output {
                Output::Activate(Slot(slot)) => {
                    prop_assert!(!active[*slot as usize], "{:?} is active twice", slot);
                    active[*slot as usize] = true;
                }
                Output::Start { slot, iteration, intended } => {
                    prop_assert!(active[slot.0 as usize], "{:?} starts from the pool", slot);
                    prop_assert_eq!(*iteration, next);
                    next += 1;
                    prop_assert!(*intended >= scenario.start_time);
                    prop_assert!(intended <= at);
                    if !is_until {
                        prop_assert!(*intended <= regular);
                    }
                    if let Some(stop) = stopped {
                        prop_assert!(*at <= stop + late);
                    }
                }
                Output::Interrupt(Slot(slot)) => prop_assert!(active[*slot as usize]),
                Output::Release(Slot(slot)) => {
                    prop_assert!(active[*slot as usize]);
                    active[*slot as usize] = false;
                }
                Output::Dropped { count } => dropped += count,
                Output::Done => {
                    prop_assert!(active.iter().all(|active| !active), "done, and not released");
                    prop_assert_eq!(i + 1, sim.outputs.len());
                    // Each thing that is waited for may be late, and the end of one makes up for
                    // the lateness of the one before: only levels are counted from their verdict.
                    let lates = if is_until { 20 } else { 2 };
                    prop_assert!(*at <= regular + scenario.graceful_stop + late * lates);
                }
                Output::Insufficient { max_vus: said } => prop_assert_eq!(*said, max_vus),
                Output::Judge { .. } | Output::Capacity { .. } => {}
            }
        }
        prop_assert_eq!(sim.outputs.last().map(|(_, output)| output), Some(&Output::Done));
        let status = sim.runner.status(sim.now);
        prop_assert_eq!(status.complete + status.interrupted, next);
        prop_assert_eq!(status.dropped, dropped);
        prop_assert_eq!(status.active_vus, 0);
        if let (None, Some(all)) = (stopped, integral(&scenario.executor)) {
            let ours = share.among(scenario.executor.max_vus()).count(all);
            prop_assert_eq!(next + dropped, ours);
        }
    }

    #[test]
    fn instances_start_what_one_would(
        executor in rates(),
    ) {
        let scenario = Scenario::new("test", executor);
        let starts = |share: &Share| {
            let mut sim = Sim::new(&scenario, share, |_, _| Some(Duration::ZERO));
            sim.run();
            let start = |(_, output): &(Duration, Output)| match output {
                Output::Start { iteration, intended, .. } => {
                    Some((sim.runner.iteration_in_test(*iteration), *intended))
                }
                _ => None,
            };
            sim.outputs.iter().filter_map(start).collect::<Vec<_>>()
        };
        let whole = starts(&Share::whole());
        let sequence = "0,1/2,3/4,1".parse().unwrap();
        let parts = ["0:1/2", "1/2:3/4", "3/4:1"].map(|segment| {
            Share::new(Some(segment.parse().unwrap()), Some(&sequence)).unwrap()
        });
        let mut together: Vec<_> = parts.iter().flat_map(starts).collect();
        together.sort_unstable();
        prop_assert_eq!(together, whole);
    }
}
