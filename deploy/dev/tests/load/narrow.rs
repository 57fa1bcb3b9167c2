//! Somebody on a thin line: what it carries is given to audio first, then to a steady picture of
//! everybody, and all of it comes back when there is room again.

use std::time::{Duration, Instant};

use pipemesh_loadtest_client::stats::{Stats, Track};
use pipemesh_loadtest_client::{Bandwidth, Layout, Media, Network, Profile, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound, show};

/// What an access network keeps back before it drops.
const QUEUE: Duration = Duration::from_millis(300);
/// One way.
const DELAY: Duration = Duration::from_millis(20);

/// From the end of a limit to full quality.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
/// … which is no passing moment.
const STAYS: Duration = Duration::from_secs(2);

fn line(kbps: Option<u32>) -> Network {
    let profile = Profile {
        delay: DELAY,
        ..Profile::default()
    };
    Network {
        up: profile,
        down: Profile {
            bandwidth: kbps.map(|kbps| Bandwidth { kbps, queue: QUEUE }),
            ..profile
        },
    }
}

fn cameras(stats: &Stats) -> impl Iterator<Item = &Track> {
    stats.tracks.iter().filter(|track| track.is_video)
}

fn tell(what: &str, stats: &Stats) {
    for track in &stats.tracks {
        println!(
            "{what}: {} {}: layers {:?}, {} packets, {} lost, {} recovered, {:?}",
            track.identity,
            track.name,
            track.layers,
            track.packets,
            track.lost,
            track.recovered,
            track.frames
        );
    }
    println!("{what}: {:?} of the line", stats.down);
}

fn assert_audio_is_whole(stats: &Stats) {
    for track in stats.tracks.iter().filter(|track| !track.is_video) {
        assert_eq!(track.lost, 0, "audio of {}: {track:#?}", track.identity);
        assert!(track.packets > 100, "audio of {}", track.identity);
    }
}

#[tokio::test]
async fn a_thin_line_carries_all_voices_and_steady_pictures_and_full_ones_when_it_widens() {
    const STEADY: Duration = Duration::from_secs(8);
    let mesh = Mesh::start();
    let mut speakers = Vec::new();
    for identity in ["ann", "ben", "cleo"] {
        let speaker = mesh
            .enter(mesh.join("room", identity, Layout::Single))
            .await;
        show(&speaker, Video::simulcast()).await;
        speakers.push(speaker);
    }
    let mut join = mesh.join("room", "viewer", Layout::Dual);
    join.network = line(Some(1_000));
    let viewer = mesh.enter(join).await;
    let sees_all = |stats: &Stats| {
        let seen = cameras(stats).filter(|track| track.frames.decoded > 30);
        seen.count() == 3
    };
    let before = viewer
        .until("it sees everybody", PATIENCE, sees_all)
        .await
        .unwrap();
    tokio::time::sleep(STEADY).await;
    let limited = viewer.stats().await.unwrap();
    tell("limited", &limited);
    assert_audio_is_whole(&limited);
    for track in cameras(&limited) {
        let then = before.track(&track.sid).unwrap();
        let decoded = track.frames.decoded - then.frames.decoded;
        assert_eq!(track.frames.freezes, then.frames.freezes, "{track:#?}");
        // The lowest layer has 15 frames a second.
        assert!(decoded >= STEADY.as_secs() * 14, "{decoded}: {track:#?}");
    }

    viewer.set_network(line(None));
    let widened = Instant::now();
    let is_full = |stats: &Stats| cameras(stats).all(|track| track.layer == Some(2));
    let full = viewer
        .until("all is in full quality", RECOVERED_WITHIN, is_full)
        .await
        .unwrap();
    println!("full quality after {:?}", widened.elapsed());
    // … and it stays.
    tokio::time::sleep(STAYS).await;
    let stats = viewer.leave().await.unwrap();
    tell("full", &stats);
    for track in cameras(&stats) {
        let then = full.track(&track.sid).unwrap();
        assert_eq!(track.layers, then.layers, "{track:#?}");
        assert_eq!(track.frames.freezes, then.frames.freezes, "{track:#?}");
    }
    assert_audio_is_whole(&stats);
    assert_sound(&stats);
    for speaker in speakers {
        assert_sound(&speaker.leave().await.unwrap());
    }
}

#[tokio::test]
async fn a_line_that_moves_freezes_nothing_for_long() {
    const LINES: [u32; 8] = [3_000, 300, 3_000, 800, 300, 2_000, 400, 3_000];
    const EACH: Duration = Duration::from_secs(3);
    const LONGEST_FREEZE: Duration = Duration::from_secs(1);
    let mesh = Mesh::start();
    let speaker = mesh.enter(mesh.join("room", "ann", Layout::Single)).await;
    show(&speaker, Video::simulcast()).await;
    let mut join = mesh.join("room", "viewer", Layout::Single);
    join.network = line(Some(LINES[0]));
    let viewer = mesh.enter(join).await;
    let sees = |stats: &Stats| cameras(stats).any(|track| track.frames.decoded > 30);
    viewer.until("it sees", PATIENCE, sees).await.unwrap();
    for kbps in LINES {
        viewer.set_network(line(Some(kbps)));
        tokio::time::sleep(EACH).await;
        let stats = viewer.stats().await.unwrap();
        let track = cameras(&stats).next().unwrap();
        println!("{kbps} kbit/s: layer {:?}, {:?}", track.layer, track.frames);
    }
    let stats = viewer.leave().await.unwrap();
    tell("moved", &stats);
    let track = cameras(&stats).next().unwrap();
    assert!(track.frames.longest_gap < LONGEST_FREEZE, "{track:#?}");
    assert!(track.layers.len() > 3, "it follows the line: {track:#?}");
    assert_sound(&stats);
    assert_sound(&speaker.leave().await.unwrap());
}

#[tokio::test]
async fn who_joins_on_a_wide_line_is_not_held_back_by_a_first_guess() {
    /// Several times what a connection is taken to carry at first.
    const KBPS: u32 = 3_800;
    const USUAL: Duration = Duration::from_millis(40);
    let mesh = Mesh::start();
    let speaker = mesh.enter(mesh.join("room", "ann", Layout::Single)).await;
    let camera = Media::Video(Video::single((1280, 720), 30, KBPS));
    speaker.publish("camera", camera, PATIENCE).await.unwrap();
    let viewer = mesh
        .enter(mesh.join("room", "viewer", Layout::Single))
        .await;
    let sees = |stats: &Stats| cameras(stats).any(|track| track.frames.decoded > 100);
    let stats = viewer.until("it sees", PATIENCE, sees).await.unwrap();
    tell("joined", &stats);
    let latency = |quantile| {
        let micros = stats.video_latency.value_at_quantile(quantile);
        Duration::from_micros(micros)
    };
    println!(
        "half within {:?}, 99 % within {:?}",
        latency(0.5),
        latency(0.99)
    );
    assert!(latency(0.5) < USUAL, "{:?}", latency(0.5));
    let track = cameras(&stats).next().unwrap();
    assert_eq!((track.lost, track.frames.dropped), (0, 0), "{track:#?}");
    assert_sound(&viewer.leave().await.unwrap());
    assert_sound(&speaker.leave().await.unwrap());
}
