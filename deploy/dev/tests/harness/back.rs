//! Simulated users whose node dies or drains come back, as somebody with an SDK does.

use std::path::Path;

use crate::mesh::Mesh;
use crate::programs::{Run, run};

const PEOPLE: f64 = 4.0;

/// What became of a call whose node was treated like this: by a signal's name, or `drain`.
async fn call(how: &str) -> Run {
    let mut mesh = Mesh::start().await;
    let signaling = &mesh.signaling[0];
    let url = format!("ws://{}", signaling.clients);
    let mut environment = vec![
        format!("HOW={how}"),
        format!("ADMIN_URL=http://{}", signaling.admin),
    ];
    for id in ["node-a", "node-b"] {
        environment.push(format!("PID_{id}={}", mesh.node(id).id()));
    }
    let ended = tokio::task::spawn_blocking(move || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/back.js");
        let mut arguments = vec!["--allow-exec"];
        for variable in &environment {
            arguments.extend(["--env", variable]);
        }
        run(Path::new(script), &url, &arguments)
    });
    let ended = ended.await.unwrap();
    drop(mesh);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.value("sfu_reconnects", "count"), PEOPLE);
    assert_eq!(ended.value("sfu_reconnect_duration", "count"), PEOPLE);
    assert_eq!(ended.value("rtc_integrity_errors", "count"), 0.0);
    // It bears what was said of the user after the room was joined.
    assert!(ended.value("rtc_packets_received{phase:outage}", "count") > 0.0);
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_comes_back_when_the_node_is_killed() {
    let call = call("KILL").await;
    assert_eq!(call.value("sfu_reconnects{type:rejoin}", "count"), PEOPLE);
    // Whether media breaks first or the server tells first is up to the machine.
    assert_eq!(call.value("sfu_disconnects", "count"), PEOPLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silence_of_a_node_that_hangs_is_a_gap_of_its_own() {
    let call = call("STOP").await;
    assert_eq!(call.value("sfu_reconnects{type:rejoin}", "count"), PEOPLE);
    // It takes more than a second until a node is believed to be dead.
    let longest = call.value("rtc_media_gap{cause:node_down}", "max");
    assert!(longest >= 1_000.0, "{longest} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_moves_when_the_node_drains() {
    let call = call("drain").await;
    assert_eq!(call.value("sfu_reconnects{type:migrate}", "count"), PEOPLE);
    let lost = call.value("sfu_disconnects{reason:migration}", "count");
    assert_eq!(lost, PEOPLE);
}
