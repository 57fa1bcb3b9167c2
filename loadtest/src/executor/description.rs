//! A scenario in one line, as it is shown before a test starts.

use std::time::Duration;

use crate::options::{DEFAULT_EXEC, Executor, Scenario, duration, highest, total};
use crate::segment::Share;

/// What an instance runs of it.
#[must_use]
pub fn description(scenario: &Scenario, share: &Share) -> String {
    let shown = |duration: &Duration| duration::format(*duration);
    let mut details = Vec::new();
    let what = match &scenario.executor {
        Executor::SharedIterations {
            vus,
            iterations,
            max_duration,
        } => {
            details.push(format!("maxDuration: {}", shown(max_duration)));
            let iterations = share.among(*vus).count(*iterations);
            format!(
                "{iterations} iterations shared among {} VUs",
                share.count(*vus)
            )
        }
        Executor::PerVuIterations {
            vus,
            iterations,
            max_duration,
        } => {
            details.push(format!("maxDuration: {}", shown(max_duration)));
            format!(
                "{iterations} iterations for each of {} VUs",
                share.count(*vus)
            )
        }
        Executor::ConstantVus { vus, duration } => {
            format!("{} looping VUs for {}", share.count(*vus), shown(duration))
        }
        Executor::RampingVus {
            start_vus,
            stages,
            graceful_ramp_down,
        } => {
            if !graceful_ramp_down.is_zero() {
                details.push(format!("gracefulRampDown: {}", shown(graceful_ramp_down)));
            }
            format!(
                "Up to {} looping VUs for {} over {} stages",
                share.count(highest(*start_vus, stages)),
                shown(&total(stages)),
                stages.len(),
            )
        }
        Executor::ConstantArrivalRate {
            rate,
            time_unit,
            duration,
            pre_allocated_vus,
            max_vus,
        } => {
            details.push(max_vus_detail(*pre_allocated_vus, *max_vus, share));
            let rate = per_second(*rate, *time_unit, *max_vus, share);
            format!("{rate:.2} iterations/s for {}", shown(duration))
        }
        Executor::RampingArrivalRate {
            start_rate,
            time_unit,
            stages,
            pre_allocated_vus,
            max_vus,
        } => {
            details.push(max_vus_detail(*pre_allocated_vus, *max_vus, share));
            let rate = per_second(highest(*start_rate, stages), *time_unit, *max_vus, share);
            format!(
                "Up to {rate:.2} iterations/s for {} over {} stages",
                shown(&total(stages)),
                stages.len(),
            )
        }
        Executor::RampingUntil {
            start_vus,
            step,
            step_duration,
            max_vus,
            until,
        } => {
            details.push(format!("until: {}", until.join(" or ")));
            format!(
                "From {} up to {} looping VUs, {step} more every {}",
                share.count(*start_vus),
                share.count(*max_vus),
                shown(step_duration),
            )
        }
    };
    if scenario.exec != DEFAULT_EXEC {
        details.push(format!("exec: {}", scenario.exec));
    }
    if !scenario.start_time.is_zero() {
        details.push(format!("startTime: {}", shown(&scenario.start_time)));
    }
    if !scenario.graceful_stop.is_zero() {
        details.push(format!("gracefulStop: {}", shown(&scenario.graceful_stop)));
    }
    match details.is_empty() {
        true => what,
        false => format!("{what} ({})", details.join(", ")),
    }
}

fn max_vus_detail(pre_allocated: u64, max: u64, share: &Share) -> String {
    let (pre_allocated, max) = (share.count(pre_allocated), share.count(max));
    match pre_allocated == max {
        true => format!("maxVUs: {max}"),
        false => format!("maxVUs: {pre_allocated}-{max}"),
    }
}

fn per_second(rate: u64, time_unit: Duration, max_vus: u64, share: &Share) -> f64 {
    rate as f64 / time_unit.as_secs_f64() * share.among(max_vus).ratio()
}
