//! A line that does not even carry everybody's smallest picture: some pause, unless the client wants them
//! all however bad they are.

use std::time::Duration;

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Bandwidth, Layout, Media, Network, Participant, Profile, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// The smallest pictures of three cameras take about twice that.
const KBPS: u32 = 220;
/// Until the estimate has followed the line, and then to look at.
const SETTLED: Duration = Duration::from_secs(8);
const WATCHED: Duration = Duration::from_secs(5);
/// Who is sent more than fits loses a part of it, and whoever's key frame that was waits for the next: a
/// picture may stand for seconds.
const AT_LENGTH: Duration = Duration::from_secs(15);
/// What comes while a pause begins is over by then.
const SILENT: Duration = Duration::from_millis(500);

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
    let speakers = three_cameras(&mesh).await;
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
    let began = tokio::time::Instant::now();
    for ((identity, allow_pause, viewer), before) in viewers.iter().zip(before) {
        let time = match allow_pause {
            Some(false) => AT_LENGTH,
            _ => WATCHED,
        };
        tokio::time::sleep_until(began + time).await;
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
        assert_sound(&viewer.leave().await.unwrap());
    }
    for speaker in speakers {
        assert_sound(&speaker.leave().await.unwrap());
    }
}

/// … the client is told of it, and it ends with the limit.
#[tokio::test]
async fn what_pauses_is_told_and_goes_on_when_there_is_room() {
    const RESUMED_WITHIN: Duration = Duration::from_secs(10);
    let mesh = Mesh::start();
    let speakers = three_cameras(&mesh).await;
    let mut viewers = Vec::new();
    for (identity, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
        let mut join = mesh.join("room", identity, layout);
        join.network = line(None);
        let viewer = mesh.enter(join).await;
        viewer
            .until("it sees everybody", PATIENCE, sees_all)
            .await
            .unwrap();
        assert_eq!(paused(&viewer.stats().await.unwrap()), [""; 0]);
        viewer.set_network(line(Some(KBPS)));
        viewers.push(viewer);
    }
    tokio::time::sleep(SETTLED).await;
    for viewer in &viewers {
        // What was under way when a pause began has come by the second look.
        let mut looks = Vec::new();
        for _ in 0..3 {
            looks.push(viewer.stats().await.unwrap());
            tokio::time::sleep(SILENT).await;
        }
        let silent = paused(&looks[2]);
        println!("{}: {silent:?} are paused", looks[2].identity);
        assert!((1..3).contains(&silent.len()), "{silent:?}");
        for track in &looks[2].tracks {
            let is_paused = |stats: &Stats| paused(stats).contains(&track.sid);
            let since =
                |look: usize| track.packets - looks[look].track(&track.sid).unwrap().packets;
            let times = looks.iter().filter(|look| is_paused(look)).count();
            assert!(times < 3 || since(1) == 0, "{track:#?}");
            assert!(times > 0 || since(0) > 0, "{track:#?}");
        }
    }
    for viewer in &viewers {
        viewer.set_network(line(None));
    }
    for viewer in viewers {
        let before = viewer.stats().await.unwrap();
        let goes_on = move |stats: &Stats| {
            let frames = |stats: &Stats, sid: &str| stats.track(sid).unwrap().frames.decoded;
            let mut tracks = before.tracks.iter().map(|track| &track.sid);
            let all = tracks.all(|sid| frames(stats, sid) > frames(&before, sid) + 15);
            all && paused(stats).is_empty()
        };
        let stats = viewer
            .until("all go on", RESUMED_WITHIN, goes_on)
            .await
            .unwrap();
        println!("{}: {:?}", stats.identity, stats.down);
        assert_sound(&viewer.leave().await.unwrap());
    }
    for speaker in speakers {
        assert_sound(&speaker.leave().await.unwrap());
    }
}

/// What the server says is paused.
fn paused(stats: &Stats) -> Vec<String> {
    let paused = stats.remote.iter().filter(|track| track.paused);
    paused.map(|track| track.sid.clone()).collect()
}

fn sees_all(stats: &Stats) -> bool {
    let seen = stats.tracks.iter().filter(|it| it.frames.decoded > 30);
    seen.count() == 3
}

async fn three_cameras(mesh: &Mesh) -> Vec<Participant> {
    let mut speakers = Vec::new();
    for identity in ["ann", "ben", "cleo"] {
        let join = mesh.join("room", identity, Layout::Single);
        let speaker = mesh.enter(join).await;
        let camera = Media::Video(Video::simulcast());
        speaker.publish("camera", camera, PATIENCE).await.unwrap();
        speakers.push(speaker);
    }
    speakers
}
