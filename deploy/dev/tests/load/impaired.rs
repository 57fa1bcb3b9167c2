//! Somebody on a bad network.

use std::time::Duration;

use pipemesh_loadtest_client::stats::{Stats, Track};
use pipemesh_loadtest_client::{Layout, Media, Network, Participant, Profile, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound, show};

/// Packets of a track before residual loss means something: ten seconds' worth or more.
const PACKETS: u64 = 1_200;
const AUDIO_PACKETS: u64 = 600;
/// What is still missing a second after it was sent.
const RESIDUAL_LOSS: f64 = 0.002;
const LOSS: f64 = 0.05;

fn lossy() -> Network {
    Network::symmetric(Profile {
        loss: LOSS,
        delay: Duration::from_millis(20),
        ..Profile::default()
    })
}

/// Waits until enough has come of everybody else, and checks how much of it is missing.
async fn is_complete(viewer: &Participant, tracks: usize, network: &str) {
    let enough = move |stats: &Stats| {
        let enough = |track: &&Track| match track.is_video {
            true => track.packets > PACKETS,
            false => track.packets > AUDIO_PACKETS,
        };
        stats.tracks.iter().filter(enough).count() == tracks
    };
    let stats = viewer
        .until("enough packets came", 4 * PATIENCE, enough)
        .await
        .unwrap();
    for track in &stats.tracks {
        println!(
            "{} ({network}) of {} {}: {:.2} % lost at first, {:.3} % in the end; {} packets, {} recovered, \
             {} lost, {} missing, {} asked, {} decoded, {} freezes of {:?}, {} key frames asked",
            stats.identity,
            track.identity,
            track.name,
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
        assert!(
            track.residual_loss() < RESIDUAL_LOSS,
            "{network}: {track:#?}"
        );
        assert!(track.recovered > 0 || network == "good", "{track:#?}");
    }
}

/// There is loss on the way up alone, on the way down alone, and on both.
#[tokio::test]
async fn what_is_lost_comes_again() {
    let mesh = Mesh::start();
    let single = Video::single((1280, 720), 30, 2_500);
    let speakers = [
        ("poor", Layout::Dual, lossy(), single.clone()),
        ("simulcast", Layout::Single, lossy(), Video::simulcast()),
        ("well", Layout::Single, Network::default(), single),
    ];
    let mut participants = Vec::new();
    for (identity, layout, network, camera) in speakers {
        let mut join = mesh.join("room", identity, layout);
        join.network = network;
        let participant = mesh.enter(join).await;
        show(&participant, camera).await;
        participants.push((participant, network));
    }
    for (participant, network) in &participants {
        let network = match *network == Network::default() {
            true => "good",
            false => "lossy",
        };
        is_complete(participant, 4, network).await;
    }
    for (participant, network) in participants {
        let stats = participant.leave().await.unwrap();
        println!(
            "{}: up {:?}, down {:?}, {:?}",
            stats.identity, stats.up, stats.down, stats.sent
        );
        assert_sound(&stats);
        if network != Network::default() {
            let recovered: u64 = stats.tracks.iter().map(|track| track.recovered).sum();
            assert!(recovered > 0 && stats.sent.repairs > 0, "{stats:#?}");
            // The server's feedback says what was lost on the way up.
            let told = stats.sent.acknowledged + stats.sent.reported_lost;
            let lost = stats.sent.reported_lost as f64 / told as f64;
            assert!((0.5 * LOSS..1.5 * LOSS).contains(&lost), "{lost}");
        }
    }
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
    assert_sound(&viewer.leave().await.unwrap());
    assert_sound(&speaker.leave().await.unwrap());
}

#[tokio::test]
async fn packets_that_overtake_each_other_or_come_twice_change_nothing() {
    /// Some thousand packets.
    const FRAMES: u64 = 250;
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    show(&speaker, Video::single((1280, 720), 30, 1_500)).await;
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
        assert_eq!(stats.tracks.len(), 2);
        for track in &stats.tracks {
            println!("{}: {:?}, {track:?}", stats.identity, stats.down);
            assert_eq!((track.lost, track.frames.freezes), (0, 0), "{track:#?}");
            assert_eq!((track.frames.dropped, track.key_frame_requests), (0, 0));
            assert!(track.packets > FRAMES, "{track:#?}");
        }
        assert_sound(&stats);
    }
    assert_eq!(sent.key_frame_requests, asked, "key frames asked for");
}
