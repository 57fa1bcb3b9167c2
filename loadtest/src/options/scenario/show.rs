//! A scenario as JSON, by the keys it is written with.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Executor, Scenario, Stage};
use crate::options::duration;

pub(super) fn to_json(scenario: &Scenario) -> Value {
    let shown = |duration: &Duration| duration::format(*duration);
    let mut value = match &scenario.executor {
        Executor::SharedIterations {
            vus,
            iterations,
            max_duration,
        }
        | Executor::PerVuIterations {
            vus,
            iterations,
            max_duration,
        } => json!({
            "vus": vus, "iterations": iterations, "maxDuration": shown(max_duration),
        }),
        Executor::ConstantVus { vus, duration } => json!({
            "vus": vus, "duration": shown(duration),
        }),
        Executor::RampingVus {
            start_vus,
            stages,
            graceful_ramp_down,
        } => json!({
            "startVUs": start_vus,
            "stages": stages_to_json(stages),
            "gracefulRampDown": shown(graceful_ramp_down),
        }),
        Executor::ConstantArrivalRate {
            rate,
            time_unit,
            duration,
            pre_allocated_vus,
            max_vus,
        } => json!({
            "rate": rate,
            "timeUnit": shown(time_unit),
            "duration": shown(duration),
            "preAllocatedVUs": pre_allocated_vus,
            "maxVUs": max_vus,
        }),
        Executor::RampingArrivalRate {
            start_rate,
            time_unit,
            stages,
            pre_allocated_vus,
            max_vus,
        } => json!({
            "startRate": start_rate,
            "timeUnit": shown(time_unit),
            "stages": stages_to_json(stages),
            "preAllocatedVUs": pre_allocated_vus,
            "maxVUs": max_vus,
        }),
        Executor::RampingUntil {
            start_vus,
            step,
            step_duration,
            max_vus,
            until,
        } => json!({
            "startVUs": start_vus,
            "step": step,
            "stepDuration": shown(step_duration),
            "maxVUs": max_vus,
            "until": until,
        }),
    };
    value["executor"] = json!(scenario.executor.name());
    value["startTime"] = json!(shown(&scenario.start_time));
    value["gracefulStop"] = json!(shown(&scenario.graceful_stop));
    value["exec"] = json!(scenario.exec);
    value["env"] = json!(scenario.env);
    value["tags"] = json!(scenario.tags);
    value
}

pub(in crate::options) fn stages_to_json(stages: &[Stage]) -> Value {
    let stage = |stage: &Stage| {
        json!({
            "duration": duration::format(stage.duration), "target": stage.target,
        })
    };
    stages.iter().map(stage).collect()
}
