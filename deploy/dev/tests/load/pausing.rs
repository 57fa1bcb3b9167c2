//! A line that does not even carry everybody's smallest picture: some pause, unless the client wants them
//! all however bad they are.

use std::time::Duration;

use pipemesh_loadtest::client::stats::Stats;
use pipemesh_loadtest::client::{Bandwidth, Layout, Media, Network, Profile, Video};

use crate::mesh::{Mesh, PATIENCE};

/// The smallest pictures of three cameras take about twice that.
const KBPS: u32 = 220;
/// Until the estimate has followed the line, and then to look at.
const SETTLED: Duration = Duration::from_secs(8);
const WATCHED: Duration = Duration::from_secs(5);

fn line(kbps: Option<u32>) -> Network {
    let queue = Duration::from_millis(300);
    let profile = Profile {
        delay: Duration::from_millis(20),
        ..Profile::default()
    };
    Network {
        up: profile,
        down: Profile {
            bandwidth: kbps.map(|kbps| Bandwidth { kbps, queue }),
            ..profile
        },
    }
}

#[tokio::test]
async fn who_does_not_allow_pauses_is_sent_something_of_everybody() {
    let mesh = Mesh::start();
    let mut speakers = Vec::new();
    for identity in ["ann", "ben", "cleo"] {
        let join = mesh.join("room", identity, Layout::Single);
        let speaker = mesh.enter(join).await;
        let camera = Media::Video(Video::simulcast());
        speaker.publish("camera", camera, PATIENCE).await.unwrap();
        speakers.push(speaker);
    }
    let mut viewers = Vec::new();
    for (identity, layout, allow_pause) in [
        ("patient", Layout::Single, None),
        ("stubborn", Layout::Single, Some(false)),
        ("dual", Layout::Dual, Some(false)),
    ] {
        let mut join = mesh.join("room", identity, layout);
        join.network = line(None);
        join.allow_pause = allow_pause;
        let viewer = mesh.enter(join).await;
        let sees_all = |stats: &Stats| {
            let seen = stats.tracks.iter().filter(|it| it.frames.decoded > 30);
            seen.count() == 3
        };
        viewer
            .until("it sees everybody", PATIENCE, sees_all)
            .await
            .unwrap();
        viewers.push((identity, allow_pause, viewer));
    }
    for (.., viewer) in &viewers {
        viewer.set_network(line(Some(KBPS)));
    }
    tokio::time::sleep(SETTLED).await;
    let mut before = Vec::new();
    for (.., viewer) in &viewers {
        before.push(viewer.stats().await.unwrap());
    }
    tokio::time::sleep(WATCHED).await;
    for ((identity, allow_pause, viewer), before) in viewers.iter().zip(before) {
        let stats = viewer.stats().await.unwrap();
        let came = stats.tracks.iter().map(|track| {
            let then = before.track(&track.sid).map_or(0, |then| then.packets);
            track.packets - then
        });
        let came: Vec<u64> = came.collect();
        println!("{identity}: {came:?} packets, {:?}", stats.down);
        let silent = came.iter().filter(|packets| **packets < 10).count();
        match allow_pause {
            Some(false) => assert_eq!(silent, 0, "{identity}: {came:?}"),
            _ => assert!(silent > 0, "{identity}: {came:?}"),
        }
    }
    for (.., viewer) in viewers {
        viewer.leave().await.unwrap();
    }
    for speaker in speakers {
        speaker.leave().await.unwrap();
    }
}
