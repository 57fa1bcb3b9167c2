use super::*;
use crate::options::{Executor, Stage};

fn scenarios() -> Vec<Scenario> {
    let stage = |minutes: u64, target| Stage {
        duration: Duration::from_secs(60 * minutes),
        target,
    };
    let mut audience = Scenario::new(
        "audience",
        Executor::RampingVus {
            start_vus: 0,
            stages: vec![stage(2, 500), stage(6, 500), stage(1, 0)],
            graceful_ramp_down: Duration::from_secs(20),
        },
    );
    audience.exec = "viewer".to_owned();
    audience.start_time = Duration::from_secs(10);
    let mut speakers = Scenario::new(
        "speakers",
        Executor::PerVuIterations {
            vus: 6,
            iterations: 1,
            max_duration: Duration::from_secs(720),
        },
    );
    speakers.exec = "speaker".to_owned();
    speakers.graceful_stop = Duration::from_secs(10);
    vec![audience, speakers]
}

fn status(phase: Phase, progress: f64, active_vus: u64, columns: &[&str]) -> Status {
    Status {
        phase,
        active_vus,
        max_vus: 500,
        complete: 3,
        interrupted: 1,
        dropped: 0,
        progress,
        columns: columns.iter().map(|text| (*text).to_owned()).collect(),
    }
}

#[test]
fn the_header() {
    let scenarios = scenarios();
    let outputs = ["json (out.json)".to_owned()];
    let mut about = Header {
        execution: "local",
        script: "large-room.js",
        web_dashboard: Some("http://127.0.0.1:5665"),
        outputs: &outputs,
        scenarios: &scenarios,
        share: &Share::whole(),
    };
    let expected = "     execution: local
        script: large-room.js
 web dashboard: http://127.0.0.1:5665
        output: json (out.json)

     scenarios: (100.00%) 2 scenarios, 506 max VUs, 12m10s max duration (incl. graceful stop):
              * audience: Up to 500 looping VUs for 9m0s over 3 stages (gracefulRampDown: 20s, exec: viewer, startTime: 10s, gracefulStop: 30s)
              * speakers: 1 iterations for each of 6 VUs (maxDuration: 12m0s, exec: speaker, gracefulStop: 10s)
";
    assert_eq!(header(&about), expected);

    about.web_dashboard = None;
    about.outputs = &[];
    about.scenarios = &scenarios[1..];
    let third = Share::new(Some("1/3".parse().unwrap()), None).unwrap();
    about.share = &third;
    let expected = "     execution: local
        script: large-room.js
        output: -

     scenarios: (33.33%) 1 scenario, 2 max VUs, 12m10s max duration (incl. graceful stop):
              * speakers: 1 iterations for each of 2 VUs (maxDuration: 12m0s, exec: speaker, gracefulStop: 10s)
";
    assert_eq!(header(&about), expected);
}

#[test]
fn a_running_scenario() {
    let columns = ["500/500 VUs", "2m00.3s/9m00.0s"];
    let mut audience = status(Phase::Running, 120.3 / 540.0, 506, &columns);
    (audience.complete, audience.interrupted) = (0, 0);
    let text = lines(
        Duration::from_millis(130_300),
        Duration::from_secs(730),
        506,
        &[("audience", audience)],
    );
    let expected = "running (02m10.3s), 506/506 VUs, 0 complete and 0 interrupted iterations
audience   [=======>------------------------------] 500/500 VUs  2m00.3s/9m00.0s
";
    assert_eq!(text, expected);
}

#[test]
fn lines_are_aligned() {
    let text = lines(
        Duration::from_secs(5),
        Duration::from_secs(40),
        10,
        &[
            ("a", status(Phase::Waiting, 0.0, 0, &["waiting", "0m05.0s"])),
            (
                "long-name",
                status(Phase::Stopping, 1.0, 2, &["2 VUs", "0m10.0s/0m10.0s"]),
            ),
            (
                "b",
                status(Phase::Interrupted, 0.02, 0, &["1 VUs", "1", "5/5 iters"]),
            ),
            ("c", status(Phase::Done, 0.99, 0, &[])),
        ],
    );
    let expected = "running (0m05.0s), 02/10 VUs, 12 complete and 4 interrupted iterations
a         • [--------------------------------------] waiting  0m05.0s
long-name ↓ [======================================] 2 VUs    0m10.0s/0m10.0s
b         ✗ [--------------------------------------] 1 VUs    1                5/5 iters
c         ✓ [====================================>-]
";
    assert_eq!(text, expected);
}

#[test]
fn bars_never_leave_their_width() {
    for progress in [f64::NAN, -1.0, 0.0, 0.026, 0.03, 0.5, 0.999_999, 1.0, 7.0] {
        assert_eq!(bar(progress).len(), BAR, "{progress}");
    }
}
