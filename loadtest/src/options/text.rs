//! Options from the environment and from flags, where everything is text.
//!
//! Each text is made the JSON value it stands for, so that it is read and refused like one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::problems::Problems;
use super::{Options, json as options_json};

/// What a text stands for.
#[derive(Clone, Copy)]
enum Form {
    /// A number, duration, boolean or string: it is read from a string.
    Plain,
    /// With commas between.
    List,
    /// `10s:5,1m:20`.
    Stages,
    /// `key=value`, with commas between; or JSON.
    Pairs,
    Json,
}

struct Setting {
    key: &'static str,
    /// Behind the prefix.
    variable: &'static str,
    flag: &'static str,
    form: Form,
}

const fn setting(
    key: &'static str,
    variable: &'static str,
    flag: &'static str,
    form: Form,
) -> Setting {
    Setting {
        key,
        variable,
        flag,
        form,
    }
}

#[rustfmt::skip]
const SETTINGS: [Setting; 25] = [
    setting("vus", "VUS", "vus", Form::Plain),
    setting("duration", "DURATION", "duration", Form::Plain),
    setting("iterations", "ITERATIONS", "iterations", Form::Plain),
    setting("stages", "STAGES", "stage", Form::Stages),
    setting("scenarios", "SCENARIOS", "scenarios", Form::Json),
    setting("thresholds", "THRESHOLDS", "thresholds", Form::Json),
    setting("tags", "TAGS", "tag", Form::Pairs),
    setting("systemTags", "SYSTEM_TAGS", "system-tags", Form::List),
    setting("setupTimeout", "SETUP_TIMEOUT", "setup-timeout", Form::Plain),
    setting("teardownTimeout", "TEARDOWN_TIMEOUT", "teardown-timeout", Form::Plain),
    setting("handleSummaryTimeout", "HANDLE_SUMMARY_TIMEOUT", "handle-summary-timeout", Form::Plain),
    setting("noSetup", "NO_SETUP", "no-setup", Form::Plain),
    setting("noTeardown", "NO_TEARDOWN", "no-teardown", Form::Plain),
    setting("noThresholds", "NO_THRESHOLDS", "no-thresholds", Form::Plain),
    setting("minIterationDuration", "MIN_ITERATION_DURATION", "min-iteration-duration", Form::Plain),
    setting("paused", "PAUSED", "paused", Form::Plain),
    setting("throw", "THROW", "throw", Form::Plain),
    setting("summaryTrendStats", "SUMMARY_TREND_STATS", "summary-trend-stats", Form::List),
    setting("summaryTimeUnit", "SUMMARY_TIME_UNIT", "summary-time-unit", Form::Plain),
    setting("insecureSkipTLSVerify", "INSECURE_SKIP_TLS_VERIFY", "insecure-skip-tls-verify", Form::Plain),
    setting("hosts", "HOSTS", "hosts", Form::Pairs),
    setting("localIPs", "LOCAL_IPS", "local-ips", Form::List),
    setting("executionSegment", "EXECUTION_SEGMENT", "execution-segment", Form::Plain),
    setting("executionSegmentSequence", "EXECUTION_SEGMENT_SEQUENCE", "execution-segment-sequence", Form::Plain),
    setting("userAgent", "USER_AGENT", "user-agent", Form::Plain),
];

pub(super) fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Options, Problems> {
    from_texts(|setting| {
        ["PIPEMESH", "K6"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}_{}", setting.variable);
            let text = variable(&name).filter(|text| !text.is_empty())?;
            Some((name, vec![text]))
        })
    })
}

pub(super) fn from_flags(flag: impl Fn(&str) -> Option<Vec<String>>) -> Result<Options, Problems> {
    from_texts(|setting| Some((format!("--{}", setting.flag), flag(setting.flag)?)))
}

fn from_texts(
    find: impl Fn(&Setting) -> Option<(String, Vec<String>)>,
) -> Result<Options, Problems> {
    let mut problems = Problems::default();
    let mut values = Map::new();
    let mut names = BTreeMap::new();
    for setting in &SETTINGS {
        let Some((name, texts)) = find(setting) else {
            continue;
        };
        if let Some(value) = value(setting.form, &texts, &name, &mut problems) {
            values.insert(setting.key.to_owned(), value);
        }
        names.insert(setting.key, name);
    }
    let options = options_json::read(&mut Fields::named(&values, names), &mut problems);
    problems.or(options)
}

fn value(form: Form, texts: &[String], name: &str, problems: &mut Problems) -> Option<Value> {
    let whole = texts.join(",");
    let items = || {
        whole
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
    };
    match form {
        Form::Plain => texts.last().map(|text| Value::from(text.as_str())),
        Form::List => Some(items().map(Value::from).collect()),
        Form::Stages => {
            let mut stages = Vec::new();
            for item in items() {
                let Some((duration, target)) = item.rsplit_once(':') else {
                    let expected = "stages such as 10s:5,1m:20, a duration and a target each";
                    problems.add(name, format!("{item:?}"), expected);
                    continue;
                };
                stages.push(json!({ "duration": duration, "target": target }));
            }
            Some(Value::Array(stages))
        }
        Form::Pairs if !whole.trim_start().starts_with('{') => {
            let mut pairs = Map::new();
            for item in items() {
                match item.split_once('=') {
                    Some((key, value)) if !key.is_empty() => {
                        pairs.insert(key.to_owned(), Value::from(value));
                    }
                    _ => problems.add(name, format!("{item:?}"), "key=value"),
                }
            }
            Some(Value::Object(pairs))
        }
        Form::Pairs | Form::Json => serde_json::from_str(&whole)
            .map_err(|error| problems.add(name, format!("{whole:?}: {error}"), "JSON"))
            .ok(),
    }
}
