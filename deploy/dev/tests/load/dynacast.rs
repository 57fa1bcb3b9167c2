//! A publisher that listens sends what somebody wants, and nothing else.

use std::time::{Duration, Instant};

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{LayerWish, Layout, Media, Participant, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// From a wish to the layer's first packets from its publisher.
const RESUMED_WITHIN: Duration = Duration::from_secs(1);
/// What is not sent for so long is not sent.
const SILENCE: Duration = Duration::from_millis(500);

/// Packets sent of each layer.
fn sent(stats: &Stats) -> Vec<u32> {
    stats.published[0].packets.clone()
}

/// Waits until the layers from `silent` on are not sent any more, while those below are.
async fn sends_up_to(speaker: &Participant, silent: usize) {
    let began = Instant::now();
    loop {
        let before = sent(&speaker.stats().await.unwrap());
        tokio::time::sleep(SILENCE).await;
        let after = sent(&speaker.stats().await.unwrap());
        let flows: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a < b).collect();
        let expected: Vec<bool> = (0..flows.len()).map(|layer| layer < silent).collect();
        if flows == expected {
            return println!("{silent} layers flow after {:?}", began.elapsed());
        }
        assert!(began.elapsed() < PATIENCE, "{flows:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn what_nobody_wants_is_not_sent_and_comes_back_within_a_second() {
    let mesh = Mesh::start();
    let mut join = mesh.join("room", "speaker", Layout::Single);
    join.dynacast = true;
    let speaker = mesh.enter(join).await;
    let viewer = mesh.enter(mesh.join("room", "viewer", Layout::Dual)).await;
    let camera = Media::Video(Video::simulcast());
    let sid = speaker.publish("camera", camera, PATIENCE).await.unwrap();
    let highest = |stats: &Stats| stats.tracks.iter().any(|it| it.layer == Some(2));
    viewer
        .until("it sees all", PATIENCE, highest)
        .await
        .unwrap();

    for (less, flowing) in [
        (LayerWish::Quality(1), 2),
        (LayerWish::Quality(0), 1),
        (LayerWish::Off, 0),
    ] {
        viewer.wish_layer(&sid, less);
        sends_up_to(&speaker, flowing).await;
        let before = sent(&speaker.stats().await.unwrap());
        let frames = viewer.stats().await.unwrap().tracks[0].frames.decoded;

        viewer.wish_layer(&sid, LayerWish::Quality(2));
        let wished = Instant::now();
        let resumed = move |stats: &Stats| sent(stats)[2] > before[2];
        speaker
            .until("it sends all again", RESUMED_WITHIN, resumed)
            .await
            .unwrap();
        println!("sent again after {:?}", wished.elapsed());
        let shown = move |stats: &Stats| {
            let track = &stats.tracks[0];
            track.layer == Some(2) && track.frames.decoded > frames
        };
        viewer
            .until("it sees all again", PATIENCE, shown)
            .await
            .unwrap();
        println!("seen again after {:?}", wished.elapsed());
    }

    // Nobody is left who could want anything.
    let stats = viewer.leave().await.unwrap();
    assert_sound(&stats);
    assert_eq!(stats.tracks[0].lost, 0, "{stats:#?}");
    sends_up_to(&speaker, 0).await;
    assert_sound(&speaker.leave().await.unwrap());
}

/// … and one that does not listen sends everything on.
#[tokio::test]
async fn who_does_not_listen_goes_on() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let viewer = mesh
        .enter(mesh.join("room", "viewer", Layout::Single))
        .await;
    let camera = Media::Video(Video::simulcast());
    let sid = speaker.publish("camera", camera, PATIENCE).await.unwrap();
    viewer.wish_layer(&sid, LayerWish::Quality(0));
    tokio::time::sleep(Duration::from_secs(6)).await;
    sends_up_to(&speaker, 3).await;
    assert_sound(&viewer.leave().await.unwrap());
    assert_sound(&speaker.leave().await.unwrap());
}
