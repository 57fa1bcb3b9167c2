//! Media of files through the mesh: every format that can be published, to viewers of both dialects.

use std::sync::Arc;

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Layout, Media, Recorded, Recording};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// Inputs of the client's fuzzer: a byte for the frame rate, then a file. Each is shorter than a second.
const FILES: [(&str, &[u8]); 5] = [
    (
        "vp8",
        include_bytes!("../../../../loadtest/client/fuzz/corpus/recording/vp8"),
    ),
    (
        "vp9",
        include_bytes!("../../../../loadtest/client/fuzz/corpus/recording/vp9"),
    ),
    (
        "av1",
        include_bytes!("../../../../loadtest/client/fuzz/corpus/recording/av1"),
    ),
    (
        "h264",
        include_bytes!("../../../../loadtest/client/fuzz/corpus/recording/h264"),
    ),
    (
        "opus",
        include_bytes!("../../../../loadtest/client/fuzz/corpus/recording/opus"),
    ),
];

/// So many have been sent when a file has begun anew.
const PACKETS: u64 = 50;
/// Frames of a file of video, and a few more.
const FRAMES: u64 = 15;

#[tokio::test]
async fn files_are_played_to_everybody() {
    let mesh = Mesh::start();
    for (name, file) in FILES {
        let recording = Arc::new(Recording::read(file[1..].into(), 25).unwrap());
        assert_eq!(recording.codec(), name);
        let is_video = recording.is_video();
        let media = Media::Recorded(Recorded {
            recording,
            loops: true,
        });
        let speaker = mesh.enter(mesh.join(name, "speaker", Layout::Single)).await;
        let mut viewers = Vec::new();
        for (identity, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
            viewers.push(mesh.enter(mesh.join(name, identity, layout)).await);
        }
        let sid = speaker.publish("file", media, PATIENCE).await.unwrap();
        let came = move |stats: &Stats| {
            stats.tracks.iter().any(|it| {
                let is_shown = !is_video || it.frames.decoded > FRAMES;
                it.packets > PACKETS && it.first_frame.is_some() && is_shown
            })
        };
        for viewer in &viewers {
            let awaited = format!("it was sent {name}");
            viewer.until(&awaited, PATIENCE, came).await.unwrap();
        }
        // Somebody comes in the middle, and does not wait for the file's next key frame.
        let late = mesh.enter(mesh.join(name, "late", Layout::Single)).await;
        late.until("it sees something", PATIENCE, came)
            .await
            .unwrap();
        viewers.push(late);
        for viewer in viewers {
            let stats = viewer.leave().await.unwrap();
            let track = stats.track(&sid).unwrap();
            println!(
                "{name}, {}: {} packets, {:?}",
                stats.identity, track.packets, track.frames
            );
            assert_sound(&stats);
            assert!(track.latencies.is_empty(), "{track:#?}");
            assert_eq!(stats.video_latency.len() + stats.audio_latency.len(), 0);
            assert!(stats.integrity.unstamped >= PACKETS, "{stats:#?}");
            if is_video {
                assert!(track.frames.decoded > FRAMES, "{track:#?}");
                assert_eq!(track.layer, None, "{track:#?}");
            }
        }
        assert_sound(&speaker.leave().await.unwrap());
    }
}
