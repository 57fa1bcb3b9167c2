//! The ways to receive, and the SRTP profile of those who have no better one.

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Audio, Generator, Layout, Media, ReceiveMode, Video};
use pipemesh_node_media::srtp::Profile;

use crate::mesh::{Mesh, PATIENCE, assert_sound};

#[tokio::test]
async fn media_is_received_as_closely_as_asked() {
    let mut mesh = Mesh::start();
    mesh.generator = Generator::with_profiles(1, &[Profile::AesCm128HmacSha1_80]).unwrap();
    let speaker = mesh.enter(mesh.join("room", "speaker", Layout::Dual)).await;
    let camera = Media::Video(Video::single((640, 360), 30, 800));
    speaker.publish("camera", camera, PATIENCE).await.unwrap();
    speaker
        .publish("voice", Media::Audio(Audio::default()), PATIENCE)
        .await
        .unwrap();
    let modes = [
        ReceiveMode::Full,
        ReceiveMode::Sampled(10),
        ReceiveMode::Drain,
    ];
    let mut viewers = Vec::new();
    for (number, mode) in modes.into_iter().enumerate() {
        let mut join = mesh.join("room", &format!("viewer-{number}"), Layout::Single);
        join.mode = mode;
        viewers.push(mesh.enter(join).await);
    }
    let enough = |stats: &Stats| {
        let packets: u64 = stats.tracks.iter().map(|it| it.packets).sum();
        packets + stats.drained_packets > 300
    };
    let mut seen = Vec::new();
    for viewer in viewers {
        viewer
            .until("something came", PATIENCE, enough)
            .await
            .unwrap();
        seen.push(viewer.leave().await.unwrap());
    }
    let [full, sampled, drain] = &seen[..] else {
        panic!("{seen:?}");
    };
    let looked = |stats: &Stats| stats.video_latency.len() + stats.audio_latency.len();
    let packets = |stats: &Stats| stats.tracks.iter().map(|it| it.packets).sum::<u64>();
    assert_eq!(looked(full), packets(full));
    let share = looked(sampled) as f64 / packets(sampled) as f64;
    assert!((0.05..0.3).contains(&share), "{share}");
    assert!(sampled.times.first_frame.is_some() && packets(sampled) > 300);
    assert_eq!((looked(drain), packets(drain)), (0, 0));
    assert!(drain.drained_bytes > 300 * 50);
    for stats in &seen {
        assert_sound(stats);
    }
    assert_sound(&speaker.leave().await.unwrap());
}
