//! Layers change again and again while packets are lost, overtake each other and come twice.

use std::time::Duration;

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{LayerWish, Layout, Media, Network, Profile, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// Wishes in a row.
const WISHES: [u8; 12] = [0, 2, 1, 0, 1, 2, 0, 2, 1, 2, 0, 1];

#[tokio::test]
async fn switching_tears_nothing_however_bad_the_network() {
    let mesh = Mesh::start();
    let network = Network::symmetric(Profile {
        loss: 0.03,
        burst: 2.0,
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(5),
        reorder: 0.02,
        reorder_by: Duration::from_millis(8),
        duplicate: 0.01,
        ..Profile::default()
    });
    let mut speaker = mesh.join("room", "speaker", Layout::Single);
    speaker.network = network;
    let speaker = mesh.enter(speaker).await;
    let mut viewers = Vec::new();
    for (identity, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
        let mut join = mesh.join("room", identity, layout);
        join.network = network;
        viewers.push(mesh.enter(join).await);
    }
    let camera = Media::Video(Video::simulcast());
    let sid = speaker.publish("camera", camera, PATIENCE).await.unwrap();
    for viewer in &viewers {
        let sees = |stats: &Stats| stats.tracks.iter().any(|it| it.frames.decoded > 0);
        viewer.until("it sees", PATIENCE, sees).await.unwrap();
    }
    for wish in WISHES {
        for viewer in &viewers {
            viewer.wish_layer(&sid, LayerWish::Quality(wish));
        }
        for viewer in &viewers {
            let shown = move |stats: &Stats| stats.tracks.iter().any(|it| it.layer == Some(wish));
            viewer
                .until(&format!("layer {wish}"), PATIENCE, shown)
                .await
                .unwrap();
        }
    }
    for viewer in viewers {
        let stats = viewer.leave().await.unwrap();
        let track = &stats.tracks[0];
        println!(
            "{}: {} switches, {:.2} % lost at first, {:.3} % in the end, {:?}, {:?}",
            stats.identity,
            track.layers.len() - 1,
            100.0 * track.loss(),
            100.0 * track.residual_loss(),
            track.frames,
            stats.integrity,
        );
        assert_sound(&stats);
    }
    let stats = speaker.leave().await.unwrap();
    println!("{:?}", stats.sent);
    assert_sound(&stats);
}
