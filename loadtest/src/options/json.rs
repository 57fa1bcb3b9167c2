//! Options from JSON and back.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::problems::{Problems, shown};
use super::scenario::{self, Scenario};
use super::{Options, TimeUnit, duration, threshold};

/// Keys that scripts written for k6 may have, and that nothing here listens to.
const WITHOUT_EFFECT: [&str; 21] = [
    "batch",
    "batchPerHost",
    "blacklistIPs",
    "blockHostnames",
    "cloud",
    "compatibilityMode",
    "discardResponseBodies",
    "dns",
    "ext",
    "httpDebug",
    "linger",
    "maxRedirects",
    "metricSamplesBufferSize",
    "noConnectionReuse",
    "noCookiesReset",
    "noUsageReport",
    "noVUConnectionReuse",
    "rps",
    "tlsAuth",
    "tlsCipherSuites",
    "tlsVersion",
];

pub(super) fn from_json(value: &Value, source: &str) -> Result<Options, Problems> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::new(value, &format!("{source}: options"), &mut problems) else {
        return Err(problems);
    };
    let mut options = read(&mut fields, &mut problems);
    for key in fields.others() {
        let at = fields.at(key);
        options.warnings.push(match WITHOUT_EFFECT.contains(&key) {
            true => format!("{at} has no effect here"),
            false => format!("{at}: there is no such option, it has no effect"),
        });
    }
    problems.or(options)
}

pub(super) fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Options {
    let mut warnings = Vec::new();
    Options {
        vus: fields.count("vus", problems),
        duration: fields.duration("duration", problems),
        iterations: fields.count("iterations", problems),
        stages: fields
            .value("stages")
            .and_then(|value| scenario::read_stages(value, &fields.at("stages"), problems)),
        scenarios: fields.value("scenarios").and_then(|value| {
            read_scenarios(value, &fields.at("scenarios"), &mut warnings, problems)
        }),
        thresholds: fields
            .value("thresholds")
            .and_then(|value| threshold::read(value, &fields.at("thresholds"), problems)),
        tags: fields.map("tags", problems),
        system_tags: fields.texts("systemTags", problems),
        setup_timeout: fields.duration("setupTimeout", problems),
        teardown_timeout: fields.duration("teardownTimeout", problems),
        handle_summary_timeout: fields.duration("handleSummaryTimeout", problems),
        no_setup: fields.boolean("noSetup", problems),
        no_teardown: fields.boolean("noTeardown", problems),
        no_thresholds: fields.boolean("noThresholds", problems),
        min_iteration_duration: fields.duration("minIterationDuration", problems),
        paused: fields.boolean("paused", problems),
        throw: fields.boolean("throw", problems),
        summary_trend_stats: fields.texts("summaryTrendStats", problems),
        summary_time_unit: fields.parse("summaryTimeUnit", "s, ms or us", problems, |value| {
            TimeUnit::of_name(value.as_str()?)
        }),
        insecure_skip_tls_verify: fields.boolean("insecureSkipTLSVerify", problems),
        hosts: fields.map("hosts", problems),
        local_ips: read_addresses(fields, problems),
        execution_segment: read_from_str("executionSegment", fields, problems),
        execution_segment_sequence: read_from_str("executionSegmentSequence", fields, problems),
        user_agent: fields.text("userAgent", problems),
        warnings,
    }
}

fn read_scenarios(
    value: &Value,
    at: &str,
    warnings: &mut Vec<String>,
    problems: &mut Problems,
) -> Option<BTreeMap<String, Scenario>> {
    let fields = Fields::new(value, at, problems)?;
    let one = |(name, value): (&String, &Value)| {
        let scenario = Scenario::read(name, value, &fields.at(name), warnings, problems)?;
        Some((name.clone(), scenario))
    };
    Some(fields.entries().filter_map(one).collect())
}

/// Single addresses, in an array or with commas between them.
fn read_addresses(
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Option<Vec<std::net::IpAddr>> {
    let expected = "IP addresses such as [\"192.0.2.1\", \"2001:db8::1\"]";
    fields.parse("localIPs", expected, problems, |value| match value {
        Value::String(text) => text
            .split(',')
            .map(|text| text.trim().parse().ok())
            .collect(),
        Value::Array(values) => {
            let address = |value: &Value| value.as_str()?.trim().parse().ok();
            values.iter().map(address).collect()
        }
        _ => None,
    })
}

/// A value with a text form and errors of its own.
fn read_from_str<T>(
    key: &'static str,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let value = fields.value(key)?;
    let parsed = match value {
        Value::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
        _ => Err("a string such as \"0:1/3\" or \"0,1/3,2/3,1\"".to_owned()),
    };
    parsed
        .map_err(|error| problems.add(fields.at(key), shown(value), error))
        .ok()
}

pub(super) fn to_json(options: &Options) -> Value {
    let shown = |duration: &std::time::Duration| json!(duration::format(*duration));
    let scenarios = |scenarios: &BTreeMap<String, Scenario>| {
        let scenarios = scenarios.iter();
        let scenarios = scenarios.map(|(name, scenario)| (name.clone(), scenario.to_json()));
        Value::Object(scenarios.collect())
    };
    let stages = |stages: &Vec<_>| scenario::stages_to_json(stages);
    let o = options;
    let values = [
        ("vus", o.vus.map(Value::from)),
        ("duration", o.duration.as_ref().map(shown)),
        ("iterations", o.iterations.map(Value::from)),
        ("stages", o.stages.as_ref().map(stages)),
        ("scenarios", o.scenarios.as_ref().map(scenarios)),
        ("thresholds", o.thresholds.as_ref().map(threshold::to_json)),
        ("tags", o.tags.as_ref().map(|tags| json!(tags))),
        ("systemTags", o.system_tags.as_ref().map(|tags| json!(tags))),
        ("setupTimeout", o.setup_timeout.as_ref().map(shown)),
        ("teardownTimeout", o.teardown_timeout.as_ref().map(shown)),
        (
            "handleSummaryTimeout",
            o.handle_summary_timeout.as_ref().map(shown),
        ),
        ("noSetup", o.no_setup.map(Value::from)),
        ("noTeardown", o.no_teardown.map(Value::from)),
        ("noThresholds", o.no_thresholds.map(Value::from)),
        (
            "minIterationDuration",
            o.min_iteration_duration.as_ref().map(shown),
        ),
        ("paused", o.paused.map(Value::from)),
        ("throw", o.throw.map(Value::from)),
        (
            "summaryTrendStats",
            o.summary_trend_stats.as_ref().map(|stats| json!(stats)),
        ),
        (
            "summaryTimeUnit",
            o.summary_time_unit.map(|unit| json!(unit.name())),
        ),
        (
            "insecureSkipTLSVerify",
            o.insecure_skip_tls_verify.map(Value::from),
        ),
        ("hosts", o.hosts.as_ref().map(|hosts| json!(hosts))),
        ("localIPs", o.local_ips.as_ref().map(|ips| json!(ips))),
        (
            "executionSegment",
            o.execution_segment
                .map(|segment| json!(segment.to_string())),
        ),
        (
            "executionSegmentSequence",
            o.execution_segment_sequence
                .as_ref()
                .map(|sequence| json!(sequence.to_string())),
        ),
        ("userAgent", o.user_agent.as_ref().map(|agent| json!(agent))),
    ];
    let said = values
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(said.collect::<Map<_, _>>())
}
