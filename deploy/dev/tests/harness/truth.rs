//! What the harness says of a network that is bad in a known way is that.

use std::path::Path;
use std::time::Duration;

use crate::doors;
use crate::line::{self, ITS, OURS, Spoiling};
use crate::ports::free_ports;
use crate::programs::{Mesh, Run, run};

fn script() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/harness/truth.js"
    ))
}

/// A speaker and a viewer whose node's packets are spoiled.
async fn watched(spoiling: Spoiling) -> Run {
    let [port] = free_ports();
    let mesh = Mesh::start(&[
        "--mesh-nodes",
        "1",
        "--media-tcp-port",
        "off",
        "--media-advertise",
        &format!("{OURS}/{ITS}"),
        "--media-port",
        &port.to_string(),
    ]);
    line::lay(port, spoiling).await;
    tokio::task::spawn_blocking(move || run(script(), &mesh.url, &[]))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_packet_in_a_hundred_is_one_per_cent() {
    let run = watched(Spoiling {
        lose_one_in: 100,
        ..Spoiling::default()
    })
    .await;
    assert_eq!(run.code, Some(0));
    let loss = run.value("rtc_packet_loss{kind:video}", "value");
    assert!((0.009..=0.011).contains(&loss), "{loss}");
    // Each was asked for again, and came.
    let residual = run.value("rtc_residual_loss{kind:video}", "value");
    assert!(residual < 0.000_5, "{residual}");
    assert!(run.value("rtc_rtx_received", "count") > 5.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_milliseconds_are_fifty() {
    let delay = Duration::from_millis(50);
    let late = Spoiling {
        delay,
        ..Spoiling::default()
    };
    let (straight, late) = tokio::join!(watched(Spoiling::default()), watched(late));
    let median = |run: &Run| run.value("rtc_e2e_latency{kind:video}", "med");
    let added = median(&late) - median(&straight);
    assert!((48.0..=52.0).contains(&added), "{added} ms");
    let loss = late.value("rtc_packet_loss{kind:video}", "value");
    assert!(loss < 0.001, "{loss}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_nobody_asked_for_is_seen() {
    let mesh = Mesh::start(&["--media-port", "0"]);
    let behind = mesh.url.trim_start_matches("http://").trim_end_matches('/');
    let door = doors::open(behind.to_owned()).await;
    let lowest = |url: String| {
        tokio::task::spawn_blocking(move || run(script(), &url, &["--env", "LAYER=q"]))
    };
    let (honest, deaf) = tokio::join!(lowest(mesh.url.clone()), lowest(door));
    let (honest, deaf) = (honest.unwrap(), deaf.unwrap());
    assert_eq!(honest.value("rtc_layer_mismatch", "value"), 0.0);
    assert!(deaf.value("rtc_layer_mismatch", "value") > 0.9);
}
