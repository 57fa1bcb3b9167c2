//! A scenario from JSON.

use std::time::Duration;

use serde_json::Value;

use super::{
    DEFAULT_EXEC, Executor, GRACEFUL_RAMP_DOWN, GRACEFUL_STOP, MAX_DURATION, SHORTEST, Scenario,
    Stage,
};
use crate::options::fields::Fields;
use crate::options::problems::{Problems, shown};

const EXECUTORS: &str = "shared-iterations, per-vu-iterations, constant-vus, ramping-vus, \
    constant-arrival-rate, ramping-arrival-rate or ramping-until";

/// A value that could not be read is replaced by one that is wrong in no other respect, so that
/// each mistake is reported once.
pub(super) fn read(
    name: &str,
    value: &Value,
    at: &str,
    warnings: &mut Vec<String>,
    problems: &mut Problems,
) -> Option<Scenario> {
    let mut fields = Fields::new(value, at, problems)?;
    let executor = fields
        .required("executor", EXECUTORS, problems)
        .then(|| fields.text("executor", problems))
        .flatten()?;
    let executor = read_executor(&executor, &mut fields, problems)?;
    let scenario = Scenario {
        name: name.to_owned(),
        executor,
        start_time: fields.duration("startTime", problems).unwrap_or_default(),
        graceful_stop: fields
            .duration("gracefulStop", problems)
            .unwrap_or(GRACEFUL_STOP),
        exec: fields
            .text("exec", problems)
            .unwrap_or_else(|| DEFAULT_EXEC.to_owned()),
        env: fields.map("env", problems).unwrap_or_default(),
        tags: fields.map("tags", problems).unwrap_or_default(),
    };
    if fields.value("options").is_some() {
        warnings.push(format!(
            "{} has no effect: no browsers here",
            fields.at("options")
        ));
    }
    let kind = format!("the executor {}", scenario.executor.name());
    fields.refuse_others(&kind, problems);
    scenario.check(at, problems);
    Some(scenario)
}

fn read_executor(name: &str, fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Executor> {
    Some(match name {
        "shared-iterations" => Executor::SharedIterations {
            vus: fields.count_or("vus", 1, 1, problems),
            iterations: fields.count_or("iterations", 1, u64::MAX, problems),
            max_duration: fields
                .duration("maxDuration", problems)
                .unwrap_or(MAX_DURATION),
        },
        "per-vu-iterations" => Executor::PerVuIterations {
            vus: fields.count_or("vus", 1, 1, problems),
            iterations: fields.count_or("iterations", 1, 1, problems),
            max_duration: fields
                .duration("maxDuration", problems)
                .unwrap_or(MAX_DURATION),
        },
        "constant-vus" => Executor::ConstantVus {
            vus: fields.count_or("vus", 1, 1, problems),
            duration: required_duration("duration", fields, problems),
        },
        "ramping-vus" => Executor::RampingVus {
            start_vus: fields.count_or("startVUs", 1, 1, problems),
            stages: required_stages(fields, problems),
            graceful_ramp_down: fields
                .duration("gracefulRampDown", problems)
                .unwrap_or(GRACEFUL_RAMP_DOWN),
        },
        "constant-arrival-rate" => {
            let (pre_allocated_vus, max_vus) = pool(fields, problems);
            Executor::ConstantArrivalRate {
                rate: required_count(
                    "rate",
                    "how many iterations start per timeUnit",
                    fields,
                    problems,
                ),
                time_unit: time_unit(fields, problems),
                duration: required_duration("duration", fields, problems),
                pre_allocated_vus,
                max_vus,
            }
        }
        "ramping-arrival-rate" => {
            let (pre_allocated_vus, max_vus) = pool(fields, problems);
            Executor::RampingArrivalRate {
                start_rate: fields.count_or("startRate", 0, 1, problems),
                time_unit: time_unit(fields, problems),
                stages: required_stages(fields, problems),
                pre_allocated_vus,
                max_vus,
            }
        }
        "ramping-until" => {
            let start_vus = fields.count_or("startVUs", 1, 1, problems);
            Executor::RampingUntil {
                start_vus,
                step: required_count("step", "how many VUs come with each step", fields, problems),
                step_duration: required_duration("stepDuration", fields, problems),
                max_vus: match fields.required("maxVUs", "the most VUs to try", problems) {
                    true => fields.count_or("maxVUs", start_vus, start_vus, problems),
                    false => start_vus,
                },
                until: required_conditions(fields, problems),
            }
        }
        other => {
            problems.add(fields.at("executor"), format!("{other:?}"), EXECUTORS);
            return None;
        }
    })
}

fn required_count(
    key: &'static str,
    expected: &str,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> u64 {
    match fields.required(key, expected, problems) {
        true => fields.count(key, problems).unwrap_or(1),
        false => 1,
    }
}

fn required_duration(
    key: &'static str,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Duration {
    match fields.required(key, "a duration such as \"10m\"", problems) {
        true => fields.duration(key, problems).unwrap_or(SHORTEST),
        false => SHORTEST,
    }
}

fn time_unit(fields: &mut Fields<'_>, problems: &mut Problems) -> Duration {
    fields
        .duration("timeUnit", problems)
        .unwrap_or(Duration::from_secs(1))
}

/// `preAllocatedVUs` and `maxVUs`, which is the same if it was not given.
fn pool(fields: &mut Fields<'_>, problems: &mut Problems) -> (u64, u64) {
    let expected = "how many VUs are ready when it starts";
    let pre_allocated = required_count("preAllocatedVUs", expected, fields, problems);
    let max = fields.count_or("maxVUs", pre_allocated, u64::from(u32::MAX), problems);
    (pre_allocated, max)
}

fn required_conditions(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<String> {
    let expected = "an array of conditions, such as ['sfu_join_failed rate>0.01']";
    match fields.required("until", expected, problems) {
        true => fields.texts("until", problems),
        false => None,
    }
    .unwrap_or_else(|| vec![String::new()])
}

fn required_stages(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<Stage> {
    let expected = "an array of stages, such as [{ duration: '1m', target: 10 }]";
    let value = match fields.required("stages", expected, problems) {
        true => fields.value("stages"),
        false => None,
    };
    value
        .and_then(|value| read_stages(value, &fields.at("stages"), problems))
        .unwrap_or_else(|| vec![substitute()])
}

pub(in crate::options) fn read_stages(
    value: &Value,
    at: &str,
    problems: &mut Problems,
) -> Option<Vec<Stage>> {
    let Value::Array(values) = value else {
        let expected = "an array of stages, such as [{ duration: '1m', target: 10 }]";
        problems.add(at, shown(value), expected);
        return None;
    };
    let stages = values.iter().enumerate();
    let stages = stages.map(|(i, value)| {
        let Some(mut fields) = Fields::new(value, &format!("{at}[{i}]"), problems) else {
            return substitute();
        };
        let stage = Stage {
            duration: required_duration("duration", &mut fields, problems),
            target: required_count("target", "what it ends at", &mut fields, problems),
        };
        fields.refuse_others("a stage", problems);
        stage
    });
    Some(stages.collect())
}

fn substitute() -> Stage {
    Stage {
        duration: SHORTEST,
        target: 1,
    }
}
