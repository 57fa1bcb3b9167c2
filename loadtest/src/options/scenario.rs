//! One scenario: which function is run, by how many VUs, when.
//!
//! Its numbers are those of the whole test; what an instance runs of them is not known here.

mod check;
mod read;
mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::problems::Problems;
pub(super) use read::read_stages;
pub(super) use show::stages_to_json;

/// The longest that iterations may go on behind the end of a scenario, if nothing else was said.
pub(crate) const GRACEFUL_STOP: Duration = Duration::from_secs(30);
/// The same for VUs that a ramp takes away.
pub(crate) const GRACEFUL_RAMP_DOWN: Duration = Duration::from_secs(30);
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(600);
/// What runs for less says nothing about a load.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
/// The function that is run, if nothing else was said.
pub(crate) const DEFAULT_EXEC: &str = "default";

#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub executor: Executor,
    pub start_time: Duration,
    pub graceful_stop: Duration,
    /// The exported function that is an iteration.
    pub exec: String,
    pub env: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Executor {
    /// VUs take iterations from one pool until it is empty.
    SharedIterations {
        vus: u64,
        iterations: u64,
        max_duration: Duration,
    },
    /// Each VU runs so many.
    PerVuIterations {
        vus: u64,
        iterations: u64,
        max_duration: Duration,
    },
    ConstantVus {
        vus: u64,
        duration: Duration,
    },
    RampingVus {
        start_vus: u64,
        stages: Vec<Stage>,
        graceful_ramp_down: Duration,
    },
    /// Iterations start on schedule, whether or not others have ended.
    ConstantArrivalRate {
        rate: u64,
        time_unit: Duration,
        duration: Duration,
        pre_allocated_vus: u64,
        max_vus: u64,
    },
    RampingArrivalRate {
        start_rate: u64,
        time_unit: Duration,
        stages: Vec<Stage>,
        pre_allocated_vus: u64,
        max_vus: u64,
    },
    /// More VUs step by step, until one of the conditions becomes true: the last level at which
    /// none was is the capacity.
    RampingUntil {
        start_vus: u64,
        step: u64,
        step_duration: Duration,
        max_vus: u64,
        until: Vec<String>,
    },
}

/// A linear way from what was before to a target. Of no duration: a jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub duration: Duration,
    pub target: u64,
}

impl Scenario {
    /// With everything but the executor as it is by default.
    #[must_use]
    pub fn new(name: impl Into<String>, executor: Executor) -> Self {
        Self {
            name: name.into(),
            executor,
            start_time: Duration::ZERO,
            graceful_stop: GRACEFUL_STOP,
            exec: DEFAULT_EXEC.to_owned(),
            env: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Notes what is wrong with it, as something that was said at `at`.
    pub fn check(&self, at: &str, problems: &mut Problems) {
        check::check(self, at, problems);
    }

    /// By the keys it is written with.
    #[must_use]
    pub fn to_json(&self) -> Value {
        show::to_json(self)
    }

    pub(super) fn read(
        name: &str,
        value: &Value,
        at: &str,
        warnings: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Option<Self> {
        read::read(name, value, at, warnings, problems)
    }
}

impl Executor {
    /// As `executor` names it in a script.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SharedIterations { .. } => "shared-iterations",
            Self::PerVuIterations { .. } => "per-vu-iterations",
            Self::ConstantVus { .. } => "constant-vus",
            Self::RampingVus { .. } => "ramping-vus",
            Self::ConstantArrivalRate { .. } => "constant-arrival-rate",
            Self::RampingArrivalRate { .. } => "ramping-arrival-rate",
            Self::RampingUntil { .. } => "ramping-until",
        }
    }

    /// The most VUs it uses at once.
    #[must_use]
    pub fn max_vus(&self) -> u64 {
        match self {
            Self::SharedIterations { vus, .. }
            | Self::PerVuIterations { vus, .. }
            | Self::ConstantVus { vus, .. } => *vus,
            Self::RampingVus {
                start_vus, stages, ..
            } => highest(*start_vus, stages),
            Self::ConstantArrivalRate { max_vus, .. }
            | Self::RampingArrivalRate { max_vus, .. }
            | Self::RampingUntil { max_vus, .. } => *max_vus,
        }
    }

    /// From its start until it starts no more iterations, if it uses all its time.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match self {
            Self::SharedIterations { max_duration, .. }
            | Self::PerVuIterations { max_duration, .. } => *max_duration,
            Self::ConstantVus { duration, .. } | Self::ConstantArrivalRate { duration, .. } => {
                *duration
            }
            Self::RampingVus { stages, .. } | Self::RampingArrivalRate { stages, .. } => {
                total(stages)
            }
            Self::RampingUntil {
                start_vus,
                step,
                step_duration,
                max_vus,
                ..
            } => {
                let raised = max_vus.saturating_sub(*start_vus).div_ceil((*step).max(1));
                let levels = u32::try_from(raised.saturating_add(1)).unwrap_or(u32::MAX);
                step_duration.saturating_mul(levels)
            }
        }
    }
}

pub(crate) fn total(stages: &[Stage]) -> Duration {
    stages.iter().fold(Duration::ZERO, |sum, stage| {
        sum.saturating_add(stage.duration)
    })
}

/// The highest target, or where it starts.
pub(crate) fn highest(start: u64, stages: &[Stage]) -> u64 {
    let targets = stages.iter().map(|stage| stage.target);
    targets.max().unwrap_or(0).max(start)
}

#[cfg(test)]
mod tests;
