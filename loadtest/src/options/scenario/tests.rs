use serde_json::json;

use super::*;

fn read(value: &Value) -> (Option<Scenario>, String) {
    let mut problems = Problems::default();
    let scenario = Scenario::read("name", value, "at", &mut Vec::new(), &mut problems);
    (scenario, problems.to_string())
}

#[test]
fn defaults() {
    for (value, executor) in [
        (
            json!({ "executor": "shared-iterations" }),
            Executor::SharedIterations {
                vus: 1,
                iterations: 1,
                max_duration: Duration::from_secs(600),
            },
        ),
        (
            json!({ "executor": "per-vu-iterations" }),
            Executor::PerVuIterations {
                vus: 1,
                iterations: 1,
                max_duration: Duration::from_secs(600),
            },
        ),
        (
            json!({ "executor": "constant-vus", "duration": 1500 }),
            Executor::ConstantVus {
                vus: 1,
                duration: Duration::from_millis(1500),
            },
        ),
        (
            json!({ "executor": "ramping-vus", "stages": [{ "duration": "1m", "target": 5 }] }),
            Executor::RampingVus {
                start_vus: 1,
                stages: vec![Stage {
                    duration: Duration::from_secs(60),
                    target: 5,
                }],
                graceful_ramp_down: Duration::from_secs(30),
            },
        ),
        (
            json!({
                "executor": "constant-arrival-rate",
                "rate": "5", "duration": "1m", "preAllocatedVUs": 3.0,
            }),
            Executor::ConstantArrivalRate {
                rate: 5,
                time_unit: Duration::from_secs(1),
                duration: Duration::from_secs(60),
                pre_allocated_vus: 3,
                max_vus: 3,
            },
        ),
        (
            json!({
                "executor": "ramping-arrival-rate", "preAllocatedVUs": 3, "maxVUs": 9,
                "stages": [{ "duration": 1000, "target": 5 }],
            }),
            Executor::RampingArrivalRate {
                start_rate: 0,
                time_unit: Duration::from_secs(1),
                stages: vec![Stage {
                    duration: Duration::from_secs(1),
                    target: 5,
                }],
                pre_allocated_vus: 3,
                max_vus: 9,
            },
        ),
        (
            json!({
                "executor": "ramping-until", "step": 10, "stepDuration": "30s", "maxVUs": 100,
                "until": ["sfu_join_failed rate>0.01"],
            }),
            Executor::RampingUntil {
                start_vus: 1,
                step: 10,
                step_duration: Duration::from_secs(30),
                max_vus: 100,
                until: vec!["sfu_join_failed rate>0.01".to_owned()],
            },
        ),
    ] {
        let (scenario, problems) = read(&value);
        assert_eq!(problems, "");
        let scenario = scenario.unwrap();
        assert_eq!(scenario, Scenario::new("name", executor));
        assert_eq!(scenario.graceful_stop, Duration::from_secs(30));
        // What is shown is read as the same.
        assert_eq!(read(&scenario.to_json()), (Some(scenario), String::new()));
    }
}

#[test]
fn common_keys() {
    let (scenario, problems) = read(&json!({
        "executor": "constant-vus", "duration": "10s", "startTime": "1m", "gracefulStop": "0s",
        "exec": "viewer", "env": { "A": "b" }, "tags": { "role": "viewer" }, "vus": null,
        "options": {},
    }));
    assert_eq!(problems, "");
    let scenario = scenario.unwrap();
    assert_eq!(scenario.start_time, Duration::from_secs(60));
    assert_eq!(scenario.graceful_stop, Duration::ZERO);
    assert_eq!(scenario.exec, "viewer");
    assert_eq!(scenario.env["A"], "b");
    assert_eq!(scenario.tags["role"], "viewer");
}

#[test]
fn everything_that_is_wrong_is_said() {
    for (value, expected) in [
        (json!(5), "at: 5; expected an object"),
        (
            json!({}),
            "at.executor: it is missing; expected shared-iterations, per-vu-iterations, \
             constant-vus, ramping-vus, constant-arrival-rate, ramping-arrival-rate or \
             ramping-until",
        ),
        (
            json!({ "executor": "externally-controlled", "foo": 1 }),
            "at.executor: \"externally-controlled\"; expected shared-iterations, \
             per-vu-iterations, constant-vus, ramping-vus, constant-arrival-rate, \
             ramping-arrival-rate or ramping-until",
        ),
        (
            json!({ "executor": "shared-iterations", "vus": 5, "iterations": 4, "rate": 1 }),
            "at.rate: the executor shared-iterations has no such key; expected only executor, \
             vus, iterations, maxDuration, startTime, gracefulStop, exec, env, tags, options\n\
             at.iterations: 4; expected at least as many as vus, 5: they share them",
        ),
        // What could not be read is not reported a second time.
        (
            json!({ "executor": "shared-iterations", "vus": 5, "iterations": "x" }),
            "at.iterations: \"x\"; expected a whole number, at least 0",
        ),
        (
            json!({ "executor": "per-vu-iterations", "vus": -3, "iterations": 1.5 }),
            "at.vus: -3; expected a whole number, at least 0\n\
             at.iterations: 1.5; expected a whole number, at least 0",
        ),
        (
            json!({ "executor": "constant-vus", "vus": 0, "duration": "999ms", "exec": "" }),
            "at.exec: \"\"; expected the name of an exported function\n\
             at.vus: 0; expected from 1 to 4294967295 VUs\n\
             at.duration: 999ms; expected at least 1s",
        ),
        (
            json!({ "executor": "constant-vus" }),
            "at.duration: it is missing; expected a duration such as \"10m\"",
        ),
        (
            json!({ "executor": "ramping-vus", "stages": [{ "duration": "-1s" }, 7] }),
            "at.stages[0].duration: \"-1s\"; expected a duration that is not negative, such as \
             \"1h30m10s500ms\", or a number of milliseconds\n\
             at.stages[0].target: it is missing; expected what it ends at\n\
             at.stages[1]: 7; expected an object",
        ),
        (
            json!({ "executor": "ramping-vus", "startVUs": 0, "stages": [] }),
            "at.stages: []; expected at least one stage\n\
             at.stages: no target is above 0; expected startVUs or a target above 0",
        ),
        (
            json!({ "executor": "ramping-vus", "stages": [{ "duration": 0, "target": 1 }] }),
            "at.stages: they last 0s; expected at least 1s",
        ),
        (
            json!({
                "executor": "constant-arrival-rate", "rate": 0, "timeUnit": 0, "duration": 1000,
                "preAllocatedVUs": 5, "maxVUs": 4,
            }),
            "at.rate: 0; expected from 1 to 10000000 iterations per timeUnit\n\
             at.timeUnit: 0s; expected a duration above 0\n\
             at.maxVUs: 4; expected at least preAllocatedVUs, 5",
        ),
        (
            json!({ "executor": "constant-arrival-rate" }),
            "at.preAllocatedVUs: it is missing; expected how many VUs are ready when it starts\n\
             at.rate: it is missing; expected how many iterations start per timeUnit\n\
             at.duration: it is missing; expected a duration such as \"10m\"",
        ),
        (
            json!({
                "executor": "ramping-until", "startVUs": 9, "step": 0, "stepDuration": "1s",
                "maxVUs": 3, "until": [],
            }),
            "at.step: 0; expected at least 1\n\
             at.maxVUs: 3; expected at least startVUs, 9\n\
             at.until: []; expected at least one condition, such as 'sfu_join_failed rate>0.01'",
        ),
        (
            json!({ "executor": "constant-vus", "duration": "1s", "tags": { "a": 1 } }),
            "at.tags: {\"a\":1}; expected an object with strings as values",
        ),
    ] {
        let (_, problems) = read(&value);
        assert_eq!(problems, expected, "{value}");
    }
}

#[test]
fn names() {
    for (name, fits) in [
        ("a", true),
        ("A-b_9", true),
        ("", false),
        ("a b", false),
        ("ä", false),
        ("a.b", false),
    ] {
        let executor = Executor::ConstantVus {
            vus: 1,
            duration: SHORTEST,
        };
        let mut problems = Problems::default();
        Scenario::new(name, executor).check("at", &mut problems);
        assert_eq!(problems.is_empty(), fits, "{name:?}");
    }
}
