//! From what was said to what is run: shortcuts become scenarios, and what nobody said gets its
//! default.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::scenario::{GRACEFUL_RAMP_DOWN, MAX_DURATION};
use super::{Executor, Options, Problems, Scenario, Thresholds, TimeUnit};
use crate::segment::{Segment, Share};

/// The name of the scenario that a shortcut stands for.
const DEFAULT_NAME: &str = "default";

const SETUP_TIMEOUT: Duration = Duration::from_secs(60);
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(60);
const HANDLE_SUMMARY_TIMEOUT: Duration = Duration::from_secs(120);

const TREND_STATS: [&str; 6] = ["avg", "min", "med", "max", "p(90)", "p(95)"];

const SYSTEM_TAGS: [&str; 14] = [
    "check",
    "error",
    "error_code",
    "expected_response",
    "group",
    "method",
    "name",
    "proto",
    "scenario",
    "service",
    "status",
    "subproto",
    "tls_version",
    "url",
];

/// What is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order in which they start, then by name.
    pub scenarios: Vec<Scenario>,
    pub thresholds: Thresholds,
    pub tags: BTreeMap<String, String>,
    pub system_tags: Vec<String>,
    pub setup_timeout: Duration,
    pub teardown_timeout: Duration,
    pub handle_summary_timeout: Duration,
    pub no_setup: bool,
    pub no_teardown: bool,
    pub no_thresholds: bool,
    /// Zero: an iteration may be as short as it is.
    pub min_iteration_duration: Duration,
    pub paused: bool,
    pub throw: bool,
    pub summary_trend_stats: Vec<String>,
    /// None: each time in the unit that suits it.
    pub summary_time_unit: Option<TimeUnit>,
    pub insecure_skip_tls_verify: bool,
    pub hosts: BTreeMap<String, String>,
    pub local_ips: Vec<IpAddr>,
    /// What of it this instance runs.
    pub share: Share,
    pub user_agent: Option<String>,
    pub warnings: Vec<String>,
}

pub(super) fn plan(mut options: Options) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let mut warnings = std::mem::take(&mut options.warnings);
    let mut scenarios = scenarios(&mut options, &mut warnings, &mut problems);
    scenarios.sort_by(|a, b| (a.start_time, &a.name).cmp(&(b.start_time, &b.name)));
    let share = share(&options, &mut warnings, &mut problems);
    let stats = options
        .summary_trend_stats
        .unwrap_or_else(|| owned(&TREND_STATS));
    for stat in &stats {
        if !is_stat(stat) {
            problems.add(
                "summaryTrendStats",
                format!("{stat:?}"),
                "avg, min, med, max, count, or a percentile from p(0) to p(100)",
            );
        }
    }
    problems.or(Plan {
        scenarios,
        thresholds: options.thresholds.unwrap_or_default(),
        tags: options.tags.unwrap_or_default(),
        system_tags: options.system_tags.unwrap_or_else(|| owned(&SYSTEM_TAGS)),
        setup_timeout: options.setup_timeout.unwrap_or(SETUP_TIMEOUT),
        teardown_timeout: options.teardown_timeout.unwrap_or(TEARDOWN_TIMEOUT),
        handle_summary_timeout: options
            .handle_summary_timeout
            .unwrap_or(HANDLE_SUMMARY_TIMEOUT),
        no_setup: options.no_setup.unwrap_or(false),
        no_teardown: options.no_teardown.unwrap_or(false),
        no_thresholds: options.no_thresholds.unwrap_or(false),
        min_iteration_duration: options.min_iteration_duration.unwrap_or_default(),
        paused: options.paused.unwrap_or(false),
        throw: options.throw.unwrap_or(false),
        summary_trend_stats: stats,
        summary_time_unit: options.summary_time_unit,
        insecure_skip_tls_verify: options.insecure_skip_tls_verify.unwrap_or(false),
        hosts: options.hosts.unwrap_or_default(),
        local_ips: options.local_ips.unwrap_or_default(),
        share,
        user_agent: options.user_agent,
        warnings,
    })
}

fn scenarios(
    options: &mut Options,
    warnings: &mut Vec<String>,
    problems: &mut Problems,
) -> Vec<Scenario> {
    let said = [
        ("iterations", options.iterations.is_some()),
        ("duration", options.duration.is_some()),
        ("stages", options.stages.is_some()),
        ("scenarios", options.scenarios.is_some()),
    ];
    let said: Vec<&str> = said
        .iter()
        .filter(|(_, said)| *said)
        .map(|(key, _)| *key)
        .collect();
    if !matches!(said[..], [] | [_] | ["iterations", "duration"]) {
        problems.add(
            said.join(" and "),
            "they contradict each other",
            "one of stages and scenarios, or a duration, iterations, or both of these two",
        );
    }
    if let Some(scenarios) = options.scenarios.take() {
        if options.vus.is_some() {
            warnings.push("vus has no effect beside scenarios: each says how many".to_owned());
        }
        if scenarios.is_empty() {
            problems.add("scenarios", "there are none", "at least one");
        }
        let scenarios: Vec<Scenario> = scenarios.into_values().collect();
        for scenario in &scenarios {
            scenario.check(&format!("scenarios.{}", scenario.name), problems);
        }
        return scenarios;
    }
    let scenario = Scenario::new(DEFAULT_NAME, shortcut(options));
    scenario.check("options", problems);
    vec![scenario]
}

fn shortcut(options: &mut Options) -> Executor {
    let vus = options.vus.unwrap_or(1);
    match (options.stages.take(), options.iterations, options.duration) {
        (Some(stages), ..) => Executor::RampingVus {
            start_vus: vus,
            stages,
            graceful_ramp_down: GRACEFUL_RAMP_DOWN,
        },
        (None, None, Some(duration)) => Executor::ConstantVus { vus, duration },
        (None, iterations, duration) => Executor::SharedIterations {
            vus,
            iterations: iterations.unwrap_or(vus),
            max_duration: duration.unwrap_or(MAX_DURATION),
        },
    }
}

fn share(options: &Options, warnings: &mut Vec<String>, problems: &mut Problems) -> Share {
    let segment = options.execution_segment;
    let sequence = options.execution_segment_sequence.as_ref();
    if let (Some(segment), None) = (segment, sequence)
        && !segment.is_nth()
    {
        warnings.push(format!(
            "executionSegment {segment} is not one of equal parts: unless the other instances' \
             segments have ends of the same denominator, give all of them the same \
             executionSegmentSequence"
        ));
    }
    Share::new(segment, sequence).unwrap_or_else(|error| {
        let given = segment.unwrap_or(Segment::WHOLE).to_string();
        problems.add("executionSegment", given, error.to_string());
        Share::whole()
    })
}

fn is_stat(stat: &str) -> bool {
    let percentile = |text: &str| {
        let number = text.strip_prefix("p(")?.strip_suffix(')')?;
        number.parse::<f64>().ok()
    };
    matches!(stat, "avg" | "min" | "med" | "max" | "count")
        || percentile(stat).is_some_and(|percent| (0.0..=100.0).contains(&percent))
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
