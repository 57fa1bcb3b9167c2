mod arrival;
mod closed;
mod random;
mod shown;
mod sim;

use std::time::Duration;

use super::*;
use crate::options::{Executor, Stage};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn stages(stages: &[(u64, u64)]) -> Vec<Stage> {
    let stage = |&(duration, target): &(u64, u64)| Stage {
        duration: secs(duration),
        target,
    };
    stages.iter().map(stage).collect()
}

fn constant(vus: u64, duration: u64) -> Executor {
    Executor::ConstantVus {
        vus,
        duration: secs(duration),
    }
}

fn ramping(start_vus: u64, ramp: &[(u64, u64)], graceful_ramp_down: u64) -> Executor {
    Executor::RampingVus {
        start_vus,
        stages: stages(ramp),
        graceful_ramp_down: secs(graceful_ramp_down),
    }
}

fn rate(rate: u64, duration: u64, pre_allocated_vus: u64, max_vus: u64) -> Executor {
    Executor::ConstantArrivalRate {
        rate,
        time_unit: secs(1),
        duration: secs(duration),
        pre_allocated_vus,
        max_vus,
    }
}

fn ramping_rate(start_rate: u64, ramp: &[(u64, u64)], max_vus: u64) -> Executor {
    Executor::RampingArrivalRate {
        start_rate,
        time_unit: secs(1),
        stages: stages(ramp),
        pre_allocated_vus: max_vus,
        max_vus,
    }
}

fn until(start_vus: u64, step: u64, max_vus: u64) -> Executor {
    Executor::RampingUntil {
        start_vus,
        step,
        step_duration: secs(10),
        max_vus,
        until: vec!["sfu_join_failed rate>0.01".to_owned()],
    }
}
