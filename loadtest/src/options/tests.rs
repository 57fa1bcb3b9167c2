use serde_json::json;

use super::*;
use crate::segment::Share;

fn options(value: &Value) -> Options {
    Options::from_json(value, "script.js").unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn only(plan: &Plan) -> &Executor {
    let [scenario] = &plan.scenarios[..] else {
        panic!("there are {} scenarios", plan.scenarios.len());
    };
    &scenario.executor
}

fn everything() -> Value {
    json!({
        "vus": 5,
        "duration": "10s",
        "iterations": 50,
        "stages": [{ "duration": "1m0s", "target": 3 }],
        "scenarios": { "a": options_of_a() },
        "thresholds": {
            "checks{role:viewer}": ["rate>0.99"],
            "sfu_join_failed": [
                { "threshold": "rate<0.01", "abortOnFail": true, "delayAbortEval": "30s" },
            ],
        },
        "tags": { "a": "b" },
        "systemTags": ["scenario", "check"],
        "setupTimeout": "1s",
        "teardownTimeout": "2s",
        "handleSummaryTimeout": "3s",
        "noSetup": true,
        "noTeardown": false,
        "noThresholds": true,
        "minIterationDuration": "500ms",
        "paused": true,
        "throw": true,
        "summaryTrendStats": ["avg", "p(99.9)"],
        "summaryTimeUnit": "us",
        "insecureSkipTLSVerify": true,
        "hosts": { "sfu.test": "127.0.0.1" },
        "localIPs": ["192.0.2.1", "2001:db8::1"],
        "executionSegment": "0:1/3",
        "executionSegmentSequence": "0,1/3,2/3,1",
        "userAgent": "me",
    })
}

fn options_of_a() -> Value {
    json!({
        "executor": "constant-vus", "vus": 1, "duration": "10s", "startTime": "0s",
        "gracefulStop": "30s", "exec": "default", "env": {}, "tags": {},
    })
}

#[test]
fn every_option_is_read_and_shown() {
    let value = everything();
    let options = options(&value);
    assert_eq!(options.to_json(), value);
    assert_eq!(options.warnings, [""; 0]);
    assert_eq!(Options::default().to_json(), json!({}));
    let threshold = &options.thresholds.unwrap()["sfu_join_failed"][0];
    assert_eq!(threshold.delay_abort_eval, secs(30));
    assert!(threshold.abort_on_fail);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let options = options(&json!({ "rps": 5, "vuss": 1 }));
    assert_eq!(
        options.warnings,
        [
            "script.js: options.rps has no effect here",
            "script.js: options.vuss: there is no such option, it has no effect",
        ]
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let error = Options::from_json(
        &json!({
            "vus": "many",
            "duration": "soon",
            "scenarios": { "a": { "executor": "none" }, "b c": options_of_a() },
            "thresholds": { "checks": "rate>1", "iterations": [5, { "abortOnFail": "x" }] },
            "summaryTimeUnit": "h",
            "localIPs": ["here"],
            "executionSegment": "1:0",
            "executionSegmentSequence": "a",
            "systemTags": "x",
        }),
        "script.js",
    );
    let expected = "\
        script.js: options.vus: \"many\"; expected a whole number, at least 0\n\
        script.js: options.duration: \"soon\"; expected a duration that is not negative, such as \
        \"1h30m10s500ms\", or a number of milliseconds\n\
        script.js: options.scenarios.a.executor: \"none\"; expected shared-iterations, \
        per-vu-iterations, constant-vus, ramping-vus, constant-arrival-rate, ramping-arrival-rate \
        or ramping-until\n\
        script.js: options.scenarios.b c: the name is \"b c\"; expected a name of letters, digits, \
        _ and -\n\
        script.js: options.thresholds['checks']: \"rate>1\"; expected an array of thresholds, such \
        as ['p(95)<500']\n\
        script.js: options.thresholds['iterations'][0]: 5; expected a string such as 'p(95)<500', \
        or an object { threshold, abortOnFail, delayAbortEval }\n\
        script.js: options.thresholds['iterations'][1].threshold: it is missing; expected an \
        expression such as 'p(95)<500'\n\
        script.js: options.thresholds['iterations'][1].abortOnFail: \"x\"; expected true or false\n\
        script.js: options.systemTags: \"x\"; expected an array of strings\n\
        script.js: options.summaryTimeUnit: \"h\"; expected s, ms or us\n\
        script.js: options.localIPs: [\"here\"]; expected IP addresses such as [\"192.0.2.1\", \
        \"2001:db8::1\"]\n\
        script.js: options.executionSegment: \"1:0\"; expected a segment that ends behind its \
        beginning: 1 does not come before 0\n\
        script.js: options.executionSegmentSequence: \"a\"; expected fractions from 0 to 1 such as \
        1/3, 0.25, 25% or 1, not \"a\"";
    assert_eq!(error.unwrap_err().to_string(), expected);
    let error = Options::from_json(&json!([]), "config.json").unwrap_err();
    assert_eq!(
        error.to_string(),
        "config.json: options: []; expected an object"
    );
}

#[test]
fn the_environment() {
    let variables = [
        ("K6_VUS", "5"),
        ("PIPEMESH_VUS", "7"),
        ("K6_DURATION", "1m"),
        ("K6_ITERATIONS", ""),
        ("K6_STAGES", "10s:5,1m:20"),
        ("K6_TAGS", "a=b,c=d=e"),
        ("K6_SYSTEM_TAGS", "scenario, check"),
        ("K6_THRESHOLDS", r#"{"checks":["rate>0.9"]}"#),
        ("K6_NO_THRESHOLDS", "true"),
        ("K6_PAUSED", "0"),
        ("K6_SUMMARY_TREND_STATS", "avg,p(95)"),
        ("K6_LOCAL_IPS", "192.0.2.1"),
        ("K6_EXECUTION_SEGMENT", "1/2"),
        ("K6_HOSTS", r#"{"a":"127.0.0.1"}"#),
        ("K6_USER_AGENT", "1"),
    ];
    let variable = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let expected = options(&json!({
        "vus": 7,
        "duration": "1m",
        "stages": [{ "duration": "10s", "target": 5 }, { "duration": "1m", "target": 20 }],
        "tags": { "a": "b", "c": "d=e" },
        "systemTags": ["scenario", "check"],
        "thresholds": { "checks": ["rate>0.9"] },
        "noThresholds": true,
        "paused": false,
        "summaryTrendStats": ["avg", "p(95)"],
        "localIPs": ["192.0.2.1"],
        "executionSegment": "0:1/2",
        "hosts": { "a": "127.0.0.1" },
        "userAgent": "1",
    }));
    assert_eq!(Options::from_env(variable), Ok(expected));
    assert_eq!(Options::from_env(|_| None), Ok(Options::default()));
}

#[test]
fn mistakes_in_the_environment_and_in_flags() {
    let error = Options::from_env(|name| match name {
        "K6_VUS" => Some("x".to_owned()),
        "K6_STAGES" => Some("10s:5,20".to_owned()),
        "PIPEMESH_TAGS" => Some("a".to_owned()),
        "K6_THRESHOLDS" => Some("rate".to_owned()),
        _ => None,
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "K6_STAGES: \"20\"; expected stages such as 10s:5,1m:20, a duration and a target each\n\
         K6_THRESHOLDS: \"rate\": expected value at line 1 column 1; expected JSON\n\
         PIPEMESH_TAGS: \"a\"; expected key=value\n\
         K6_VUS: \"x\"; expected a whole number, at least 0"
    );
    let error = Options::from_flags(|name| match name {
        "stage" => Some(vec!["10s:5".to_owned(), "x:y".to_owned()]),
        _ => None,
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "--stage[1].duration: \"x\"; expected a duration that is not negative, such as \
         \"1h30m10s500ms\", or a number of milliseconds\n\
         --stage[1].target: \"y\"; expected a whole number, at least 0"
    );
}

#[test]
fn flags_may_be_repeated() {
    let flags = Options::from_flags(|name| match name {
        "stage" => Some(vec!["10s:5".to_owned(), "1m:20".to_owned()]),
        "tag" => Some(vec!["a=b".to_owned(), "c=d".to_owned()]),
        "no-setup" => Some(vec!["true".to_owned()]),
        _ => None,
    });
    let expected = options(&json!({
        "stages": [{ "duration": "10s", "target": 5 }, { "duration": "1m", "target": 20 }],
        "tags": { "a": "b", "c": "d" },
        "noSetup": true,
    }));
    assert_eq!(flags, Ok(expected));
}

#[test]
fn higher_levels_win() {
    let lower = options(&everything());
    assert_eq!(Options::default().over(lower.clone()), lower);
    assert_eq!(lower.clone().over(Options::default()), lower);
    let merged = options(&json!({ "paused": false, "userAgent": "you" })).over(lower.clone());
    assert_eq!(merged.paused, Some(false));
    assert_eq!(merged.user_agent.as_deref(), Some("you"));
    assert_eq!(merged.tags, lower.tags);
}

#[test]
fn a_shortcut_replaces_those_below() {
    let script = json!({ "scenarios": { "a": options_of_a() }, "tags": { "a": "b" } });
    for (shortcut, expected) in [
        (
            json!({ "duration": "5s" }),
            Executor::ConstantVus {
                vus: 1,
                duration: secs(5),
            },
        ),
        (
            json!({ "iterations": 5 }),
            Executor::SharedIterations {
                vus: 1,
                iterations: 5,
                max_duration: secs(600),
            },
        ),
        (
            json!({ "vus": 7 }),
            Executor::SharedIterations {
                vus: 7,
                iterations: 7,
                max_duration: secs(600),
            },
        ),
        (
            json!({ "vus": 2, "iterations": 5, "duration": "9s" }),
            Executor::SharedIterations {
                vus: 2,
                iterations: 5,
                max_duration: secs(9),
            },
        ),
        (
            json!({ "stages": [{ "duration": "5s", "target": 3 }] }),
            Executor::RampingVus {
                start_vus: 1,
                stages: vec![Stage {
                    duration: secs(5),
                    target: 3,
                }],
                graceful_ramp_down: secs(30),
            },
        ),
    ] {
        let alone = shortcut.as_object().unwrap().len() == 1 && shortcut["vus"].is_u64();
        let plan = options(&shortcut).over(options(&script)).plan().unwrap();
        assert_eq!(*only(&plan), expected);
        assert_eq!(plan.scenarios[0].name, "default");
        assert_eq!(plan.tags["a"], "b");
        assert_eq!(
            plan.warnings.len(),
            usize::from(alone),
            "{:?}",
            plan.warnings
        );
    }
    // Scenarios above shortcuts, and VUs above a duration.
    let above = options(&script).over(options(&json!({ "vus": 5, "duration": "5s" })));
    assert_eq!(above.plan().unwrap().warnings, [""; 0]);
    let plan = options(&json!({ "vus": 7 })).over(options(&json!({ "vus": 5, "duration": "5s" })));
    assert_eq!(
        *only(&plan.plan().unwrap()),
        Executor::ConstantVus {
            vus: 7,
            duration: secs(5)
        }
    );
}

#[test]
fn shortcuts_of_one_level_contradict_each_other() {
    let stages = json!([{ "duration": "5s", "target": 3 }]);
    let scenarios = json!({ "a": options_of_a() });
    for (value, what) in [
        (
            json!({ "duration": "5s", "stages": stages }),
            "duration and stages",
        ),
        (
            json!({ "iterations": 5, "stages": stages }),
            "iterations and stages",
        ),
        (
            json!({ "duration": "5s", "scenarios": scenarios }),
            "duration and scenarios",
        ),
        (
            json!({ "stages": stages, "scenarios": scenarios }),
            "stages and scenarios",
        ),
    ] {
        let error = options(&value).plan().unwrap_err().to_string();
        let expected = format!(
            "{what}: they contradict each other; expected one of stages and scenarios, or a \
             duration, iterations, or both of these two"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn nothing_said_is_one_iteration() {
    let plan = Options::default().plan().unwrap();
    assert_eq!(
        *only(&plan),
        Executor::SharedIterations {
            vus: 1,
            iterations: 1,
            max_duration: secs(600)
        }
    );
    assert_eq!(plan.setup_timeout, secs(60));
    assert_eq!(plan.teardown_timeout, secs(60));
    assert_eq!(plan.handle_summary_timeout, secs(120));
    assert_eq!(
        plan.summary_trend_stats,
        ["avg", "min", "med", "max", "p(90)", "p(95)"]
    );
    assert_eq!(plan.share, Share::whole());
    assert!(plan.system_tags.iter().any(|tag| tag == "scenario"));
}

#[test]
fn scenarios_are_in_order_of_their_start() {
    let starting = |at| {
        let mut value = options_of_a();
        value["startTime"] = json!(at);
        value
    };
    let value = json!({ "scenarios": {
        "a": starting("5s"), "c": starting("0s"), "b": starting("5s"), "d": starting("1s"),
    } });
    let plan = options(&value).plan().unwrap();
    let names: Vec<&str> = plan.scenarios.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["c", "d", "a", "b"]);
}

#[test]
fn a_plan_names_everything_that_is_wrong() {
    let error = options(&json!({
        "vus": 5, "iterations": 3, "summaryTrendStats": ["avg", "p(101)", "mean"],
        "executionSegment": "0:1/2", "executionSegmentSequence": "0,1/3,1",
    }));
    assert_eq!(
        error.plan().unwrap_err().to_string(),
        "options.iterations: 3; expected at least as many as vus, 5: they share them\n\
         executionSegment: 0:1/2; expected a segment of the sequence 0,1/3,1\n\
         summaryTrendStats: \"p(101)\"; expected avg, min, med, max, count, or a percentile from \
         p(0) to p(100)\n\
         summaryTrendStats: \"mean\"; expected avg, min, med, max, count, or a percentile from \
         p(0) to p(100)"
    );
    let error = options(&json!({ "scenarios": {} })).plan().unwrap_err();
    assert_eq!(
        error.to_string(),
        "scenarios: there are none; expected at least one"
    );
}

#[test]
fn an_odd_segment_wants_the_sequence() {
    let warnings = |value| options(&value).plan().unwrap().warnings.len();
    assert_eq!(warnings(json!({ "executionSegment": "1/3:2/3" })), 0);
    assert_eq!(warnings(json!({ "executionSegment": "1/3:1" })), 1);
    assert_eq!(
        warnings(json!({
            "executionSegment": "1/3:1", "executionSegmentSequence": "0,1/3,1",
        })),
        0
    );
}
