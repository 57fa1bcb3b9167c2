//! Somebody on a bad network.

use std::time::Duration;

use pipemesh_loadtest::client::stats::Stats;
use pipemesh_loadtest::client::{Layout, Media, Network, Profile, Video};

use crate::mesh::{Mesh, PATIENCE};

/// Packets of the camera before residual loss means something.
const PACKETS: u64 = 2_500;
/// What is still missing a second after it was sent.
const RESIDUAL_LOSS: f64 = 0.002;

#[tokio::test]
async fn what_is_lost_comes_again() {
    let mesh = Mesh::start();
    let well = mesh.enter(mesh.join("room", "well", Layout::Single)).await;
    let network = Network::symmetric(Profile {
        loss: 0.05,
        delay: Duration::from_millis(20),
        ..Profile::default()
    });
    let mut poor = mesh.join("room", "poor", Layout::Dual);
    poor.network = network;
    let poor = mesh.enter(poor).await;
    let camera = || Media::Video(Video::single((1280, 720), 30, 2_500));
    well.publish("camera", camera(), PATIENCE).await.unwrap();
    poor.publish("camera", camera(), PATIENCE).await.unwrap();
    let enough = |stats: &Stats| {
        let packets = stats.tracks.iter().map(|it| it.packets).max();
        packets.is_some_and(|packets| packets > PACKETS)
    };
    // Its own loss on the way down, and its loss on the way up as the other sees it.
    for (participant, lossy) in [(&poor, "down"), (&well, "up")] {
        let stats = participant
            .until("enough packets came", 2 * PATIENCE, enough)
            .await
            .unwrap();
        let track = &stats.tracks[0];
        println!(
            "loss {lossy}: {:.2} % at first, {:.3} % in the end; {} packets, {} recovered, {} lost, \
             {} missing, {} asked, {} decoded, {} freezes of {:?}, {} key frames asked",
            100.0 * track.loss(),
            100.0 * track.residual_loss(),
            track.packets,
            track.recovered,
            track.lost,
            track.missing,
            track.asked,
            track.frames.decoded,
            track.frames.freezes,
            track.frames.frozen,
            track.key_frame_requests,
        );
        assert!(track.residual_loss() < RESIDUAL_LOSS, "{lossy}: {track:#?}");
        assert_eq!(
            stats.integrity.errors(),
            0,
            "{lossy}: {:#?}",
            stats.integrity
        );
    }
    let stats = poor.leave().await.unwrap();
    println!("up {:?}, down {:?}, {:?}", stats.up, stats.down, stats.sent);
    assert!(stats.tracks[0].recovered > 0 && stats.sent.repairs > 0);
    well.leave().await.unwrap();
}

#[tokio::test]
async fn an_outage_ends_with_a_key_frame() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let viewer = mesh
        .enter(mesh.join("room", "viewer", Layout::Single))
        .await;
    let camera = Media::Video(Video::single((640, 360), 30, 800));
    speaker.publish("camera", camera, PATIENCE).await.unwrap();
    let sees = |stats: &Stats| stats.tracks.iter().any(|it| it.frames.decoded > 30);
    viewer.until("it sees", PATIENCE, sees).await.unwrap();
    let outage = Duration::from_millis(1_500);
    viewer.cut(outage);
    let sees_again = move |stats: &Stats| {
        let frames = stats.tracks[0].frames;
        frames.longest_gap >= outage && frames.decoded > 60
    };
    let stats = viewer
        .until("it sees again", PATIENCE, sees_again)
        .await
        .unwrap();
    let track = &stats.tracks[0];
    println!(
        "{:?}, {} lost, {} recovered",
        track.frames, track.lost, track.recovered
    );
    assert!(
        track.frames.freezes > 0 && track.frames.longest_gap < 2 * outage,
        "{track:#?}"
    );
    assert_eq!(stats.integrity.errors(), 0, "{:#?}", stats.integrity);
    viewer.leave().await.unwrap();
    speaker.leave().await.unwrap();
}

#[tokio::test]
async fn packets_that_overtake_each_other_or_come_twice_change_nothing() {
    /// Some thousand packets.
    const FRAMES: u64 = 250;
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let camera = Media::Video(Video::single((1280, 720), 30, 1_500));
    speaker.publish("camera", camera, PATIENCE).await.unwrap();
    let sees = |stats: &Stats| stats.tracks.iter().any(|it| it.frames.decoded > 30);
    let mut viewers = Vec::new();
    for (identity, network) in [
        ("plain", Network::default()),
        (
            "impaired",
            Network::symmetric(Profile {
                delay: Duration::from_millis(20),
                reorder: 0.05,
                reorder_by: Duration::from_millis(10),
                duplicate: 0.05,
                ..Profile::default()
            }),
        ),
    ] {
        let mut join = mesh.join("room", identity, Layout::Single);
        join.network = network;
        let viewer = mesh.enter(join).await;
        viewer.until("it sees", PATIENCE, sees).await.unwrap();
        viewers.push(viewer);
    }
    // What joining took is not counted.
    let asked = speaker.stats().await.unwrap().sent.key_frame_requests;
    for viewer in &viewers {
        let enough = |stats: &Stats| stats.tracks.iter().any(|it| it.frames.decoded > FRAMES);
        viewer
            .until("it saw enough", PATIENCE, enough)
            .await
            .unwrap();
    }
    let sent = speaker.leave().await.unwrap().sent;
    for viewer in viewers {
        let stats = viewer.leave().await.unwrap();
        let track = &stats.tracks[0];
        println!("{}: {:?}, {track:?}", stats.identity, stats.down);
        assert_eq!((track.lost, track.frames.freezes), (0, 0), "{track:#?}");
        assert_eq!((track.frames.dropped, track.key_frame_requests), (0, 0));
        assert_eq!(stats.integrity.errors(), 0, "{:#?}", stats.integrity);
    }
    assert_eq!(sent.key_frame_requests, asked, "key frames asked for");
}
