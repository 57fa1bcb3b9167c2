//! One stream with layers in it: every viewer is sent what it asks for, and can decode all that it is
//! sent.

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{LayerWish, Layout, Media, Scalable, ScalableCodec};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// Wishes in a row: each layer from each other one.
const WISHES: [u8; 7] = [0, 2, 1, 0, 1, 2, 0];

/// Pictures that may be lost to a switch or wait when a viewer leaves.
const UNDER_WAY: u64 = 10;

#[tokio::test]
async fn viewers_walk_through_the_layers_of_one_stream() {
    let mesh = Mesh::start();
    for (codec, key_only, room) in [
        (ScalableCodec::Vp9, true, "vp9-key"),
        (ScalableCodec::Vp9, false, "vp9"),
        (ScalableCodec::Av1, true, "av1-key"),
        (ScalableCodec::Av1, false, "av1"),
    ] {
        let speaker = mesh.enter(mesh.join(room, "speaker", Layout::Single)).await;
        let mut viewers = Vec::new();
        for (identity, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
            viewers.push(mesh.enter(mesh.join(room, identity, layout)).await);
        }
        let camera = Media::Scalable(Scalable::l3t3(codec, key_only));
        let sid = speaker.publish("camera", camera, PATIENCE).await.unwrap();
        for wish in WISHES {
            for viewer in &viewers {
                viewer.wish_layer(&sid, LayerWish::Quality(wish));
            }
            for viewer in &viewers {
                let shown =
                    move |stats: &Stats| stats.tracks.iter().any(|it| it.layer == Some(wish));
                viewer
                    .until(&format!("layer {wish} of {room}"), PATIENCE, shown)
                    .await
                    .unwrap();
            }
        }
        for viewer in viewers {
            let stats = viewer.leave().await.unwrap();
            let track = &stats.tracks[0];
            println!(
                "{room}, {}: {} packets, {:?}",
                stats.identity, track.packets, track.frames
            );
            assert_sound(&stats);
            assert_eq!(track.lost, 0, "{track:#?}");
            assert!(track.frames.dropped <= UNDER_WAY, "{track:#?}");
            assert_eq!(track.key_frame_requests, 0, "{track:#?}");
        }
        let stats = speaker.leave().await.unwrap();
        assert_sound(&stats);
        // A switch takes a key frame at most, for both viewers.
        let most = 2 * (WISHES.len() as u64 + 2);
        assert!(stats.sent.key_frame_requests <= most, "{:?}", stats.sent);
    }
}
