//! What a run shall be: as it is said on several levels, and the plan that comes of it.
//!
//! Levels are, from the lowest: a configuration file, the script, the environment, flags. Reads
//! neither files nor the environment itself.

pub mod duration;
mod fields;
mod json;
mod plan;
mod problems;
mod scenario;
mod text;
mod threshold;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

pub use plan::Plan;
pub use problems::{Problem, Problems};
pub(crate) use scenario::{DEFAULT_EXEC, highest, total};
pub use scenario::{Executor, Scenario, Stage};
pub use threshold::{Threshold, Thresholds};

use crate::segment::{Segment, Sequence};

/// The unit of all times in the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl TimeUnit {
    /// As it is written in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Seconds, Self::Milliseconds, Self::Microseconds]
            .into_iter()
            .find(|unit| unit.name() == name)
    }
}

/// What a run shall be, as far as somebody said it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub vus: Option<u64>,
    pub duration: Option<Duration>,
    pub iterations: Option<u64>,
    pub stages: Option<Vec<Stage>>,
    pub scenarios: Option<BTreeMap<String, Scenario>>,
    pub thresholds: Option<Thresholds>,
    pub tags: Option<BTreeMap<String, String>>,
    pub system_tags: Option<Vec<String>>,
    pub setup_timeout: Option<Duration>,
    pub teardown_timeout: Option<Duration>,
    pub handle_summary_timeout: Option<Duration>,
    pub no_setup: Option<bool>,
    pub no_teardown: Option<bool>,
    pub no_thresholds: Option<bool>,
    pub min_iteration_duration: Option<Duration>,
    pub paused: Option<bool>,
    pub throw: Option<bool>,
    pub summary_trend_stats: Option<Vec<String>>,
    pub summary_time_unit: Option<TimeUnit>,
    pub insecure_skip_tls_verify: Option<bool>,
    pub hosts: Option<BTreeMap<String, String>>,
    pub local_ips: Option<Vec<IpAddr>>,
    pub execution_segment: Option<Segment>,
    pub execution_segment_sequence: Option<Sequence>,
    pub user_agent: Option<String>,
    /// What was said and does nothing, or replaces something.
    pub warnings: Vec<String>,
}

impl Options {
    /// The options that a script exports, or those of a configuration file. `source` says in
    /// messages which.
    ///
    /// # Errors
    /// With everything in it that is wrong.
    pub fn from_json(value: &Value, source: &str) -> Result<Self, Problems> {
        json::from_json(value, source)
    }

    /// Each option is looked up as `PIPEMESH_<NAME>`, then as `K6_<NAME>`.
    ///
    /// # Errors
    /// With everything in it that is wrong.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        text::from_env(variable)
    }

    /// `flag` has the values that were given to a flag, by its long name without dashes; one that
    /// takes no value has the value `true`.
    ///
    /// # Errors
    /// With everything in it that is wrong.
    pub fn from_flags(flag: impl Fn(&str) -> Option<Vec<String>>) -> Result<Self, Problems> {
        text::from_flags(flag)
    }

    /// These, and from a lower level what they do not say.
    ///
    /// How iterations are run is said by one level alone: its duration, iterations, stages or
    /// scenarios replace all of those of lower levels. So does a number of VUs that stands above
    /// scenarios: as many iterations, shared.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let (mut this, mut lower) = (self, lower);
        let mut warnings = std::mem::take(&mut lower.warnings);
        warnings.append(&mut this.warnings);
        let says_how = this.duration.is_some()
            || this.iterations.is_some()
            || this.stages.is_some()
            || this.scenarios.is_some();
        if let (Some(vus), Some(scenarios), false) = (this.vus, &lower.scenarios, says_how) {
            let names: Vec<&str> = scenarios.keys().map(String::as_str).collect();
            warnings.push(format!(
                "vus alone replaces the scenarios of the script ({}): {vus} iterations are shared \
                 among {vus} VUs",
                names.join(", "),
            ));
        }
        if says_how || this.vus.is_some() && lower.scenarios.is_some() {
            lower.duration = None;
            lower.iterations = None;
            lower.stages = None;
            lower.scenarios = None;
        }
        if this.scenarios.is_some() {
            lower.vus = None;
        }
        Self {
            vus: this.vus.or(lower.vus),
            duration: this.duration.or(lower.duration),
            iterations: this.iterations.or(lower.iterations),
            stages: this.stages.or(lower.stages),
            scenarios: this.scenarios.or(lower.scenarios),
            thresholds: this.thresholds.or(lower.thresholds),
            tags: this.tags.or(lower.tags),
            system_tags: this.system_tags.or(lower.system_tags),
            setup_timeout: this.setup_timeout.or(lower.setup_timeout),
            teardown_timeout: this.teardown_timeout.or(lower.teardown_timeout),
            handle_summary_timeout: this.handle_summary_timeout.or(lower.handle_summary_timeout),
            no_setup: this.no_setup.or(lower.no_setup),
            no_teardown: this.no_teardown.or(lower.no_teardown),
            no_thresholds: this.no_thresholds.or(lower.no_thresholds),
            min_iteration_duration: this.min_iteration_duration.or(lower.min_iteration_duration),
            paused: this.paused.or(lower.paused),
            throw: this.throw.or(lower.throw),
            summary_trend_stats: this.summary_trend_stats.or(lower.summary_trend_stats),
            summary_time_unit: this.summary_time_unit.or(lower.summary_time_unit),
            insecure_skip_tls_verify: this
                .insecure_skip_tls_verify
                .or(lower.insecure_skip_tls_verify),
            hosts: this.hosts.or(lower.hosts),
            local_ips: this.local_ips.or(lower.local_ips),
            execution_segment: this.execution_segment.or(lower.execution_segment),
            execution_segment_sequence: this
                .execution_segment_sequence
                .or(lower.execution_segment_sequence),
            user_agent: this.user_agent.or(lower.user_agent),
            warnings,
        }
    }

    /// What is run.
    ///
    /// # Errors
    /// With everything that is wrong or contradicts something else.
    pub fn plan(self) -> Result<Plan, Problems> {
        plan::plan(self)
    }

    /// By the keys they are written with.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json::to_json(self)
    }
}

#[cfg(test)]
mod tests;
