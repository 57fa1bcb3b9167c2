//! What is wrong with a scenario of which every value is of the right type.

use std::time::Duration;

use super::{Executor, SHORTEST, Scenario, Stage, highest, total};
use crate::options::duration;
use crate::options::problems::Problems;

/// VUs are numbered by 32 bits.
const MOST_VUS: u64 = u32::MAX as u64;
/// With these two, the time of each start is computed exactly in 128 bits.
const HIGHEST_RATE: u64 = 10_000_000;
const LONGEST_STAGE: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn check(scenario: &Scenario, at: &str, problems: &mut Problems) {
    let mut check = Check { at, problems };
    let name = &scenario.name;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(allowed) {
        check.problems.add(
            at,
            format!("the name is {name:?}"),
            "a name of letters, digits, _ and -",
        );
    }
    if scenario.exec.is_empty() {
        check.wrong("exec", "\"\"", "the name of an exported function");
    }
    match &scenario.executor {
        Executor::SharedIterations {
            vus,
            iterations,
            max_duration,
        } => {
            check.vus("vus", *vus, 1);
            if iterations < vus {
                let expected = format!("at least as many as vus, {vus}: they share them");
                check.wrong("iterations", iterations.to_string(), &expected);
            }
            check.lasts("maxDuration", *max_duration);
        }
        Executor::PerVuIterations {
            vus,
            iterations,
            max_duration,
        } => {
            check.vus("vus", *vus, 1);
            if *iterations == 0 {
                check.wrong("iterations", "0", "at least 1");
            }
            check.lasts("maxDuration", *max_duration);
        }
        Executor::ConstantVus { vus, duration } => {
            check.vus("vus", *vus, 1);
            check.lasts("duration", *duration);
        }
        Executor::RampingVus {
            start_vus, stages, ..
        } => {
            check.vus("startVUs", *start_vus, 0);
            check.stages(stages);
            for (i, stage) in stages.iter().enumerate() {
                check.vus(&format!("stages[{i}].target"), stage.target, 0);
            }
            if highest(*start_vus, stages) == 0 {
                check.wrong(
                    "stages",
                    "no target is above 0",
                    "startVUs or a target above 0",
                );
            }
        }
        Executor::ConstantArrivalRate {
            rate,
            time_unit,
            duration,
            pre_allocated_vus,
            max_vus,
        } => {
            check.rate("rate", *rate, 1);
            check.time_unit(*time_unit);
            check.lasts("duration", *duration);
            check.pool(*pre_allocated_vus, *max_vus);
        }
        Executor::RampingArrivalRate {
            start_rate,
            time_unit,
            stages,
            pre_allocated_vus,
            max_vus,
        } => {
            check.rate("startRate", *start_rate, 0);
            check.time_unit(*time_unit);
            check.stages(stages);
            for (i, stage) in stages.iter().enumerate() {
                check.rate(&format!("stages[{i}].target"), stage.target, 0);
                if stage.duration > LONGEST_STAGE {
                    let given = duration::format(stage.duration);
                    check.wrong(&format!("stages[{i}].duration"), given, "at most 30 days");
                }
            }
            if highest(*start_rate, stages) == 0 {
                check.wrong(
                    "stages",
                    "no target is above 0",
                    "startRate or a target above 0",
                );
            }
            check.pool(*pre_allocated_vus, *max_vus);
        }
        Executor::RampingUntil {
            start_vus,
            step,
            step_duration,
            max_vus,
            until,
        } => {
            check.vus("startVUs", *start_vus, 1);
            if *step == 0 {
                check.wrong("step", "0", "at least 1");
            }
            check.lasts("stepDuration", *step_duration);
            check.vus("maxVUs", *max_vus, 1);
            if max_vus < start_vus {
                let expected = format!("at least startVUs, {start_vus}");
                check.wrong("maxVUs", max_vus.to_string(), &expected);
            }
            if until.is_empty() {
                let expected = "at least one condition, such as 'sfu_join_failed rate>0.01'";
                check.wrong("until", "[]", expected);
            }
        }
    }
}

struct Check<'a> {
    at: &'a str,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn wrong(&mut self, key: &str, given: impl Into<String>, expected: &str) {
        let what = format!("{}.{key}", self.at);
        self.problems.add(what, given, expected);
    }

    fn vus(&mut self, key: &str, vus: u64, least: u64) {
        if !(least..=MOST_VUS).contains(&vus) {
            let expected = format!("from {least} to {MOST_VUS} VUs");
            self.wrong(key, vus.to_string(), &expected);
        }
    }

    fn rate(&mut self, key: &str, rate: u64, least: u64) {
        if !(least..=HIGHEST_RATE).contains(&rate) {
            let expected = format!("from {least} to {HIGHEST_RATE} iterations per timeUnit");
            self.wrong(key, rate.to_string(), &expected);
        }
    }

    fn lasts(&mut self, key: &str, given: Duration) {
        if given < SHORTEST {
            let expected = format!("at least {}", duration::format(SHORTEST));
            self.wrong(key, duration::format(given), &expected);
        }
    }

    fn time_unit(&mut self, given: Duration) {
        if given.is_zero() {
            self.wrong("timeUnit", "0s", "a duration above 0");
        }
    }

    fn stages(&mut self, stages: &[Stage]) {
        if stages.is_empty() {
            self.wrong("stages", "[]", "at least one stage");
        } else if total(stages) < SHORTEST {
            let given = format!("they last {}", duration::format(total(stages)));
            let expected = format!("at least {}", duration::format(SHORTEST));
            self.wrong("stages", given, &expected);
        }
    }

    fn pool(&mut self, pre_allocated: u64, max: u64) {
        self.vus("preAllocatedVUs", pre_allocated, 0);
        self.vus("maxVUs", max, 1);
        if max < pre_allocated {
            let expected = format!("at least preAllocatedVUs, {pre_allocated}");
            self.wrong("maxVUs", max.to_string(), &expected);
        }
    }
}
