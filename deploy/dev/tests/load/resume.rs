//! Somebody whose signaling connection breaks comes back, and media goes on.

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Audio, Layout, Media};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

#[tokio::test]
async fn media_goes_on_while_signaling_is_replaced() {
    let mesh = Mesh::start();
    for (room, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
        let steady = mesh.enter(mesh.join(room, "steady", Layout::Single)).await;
        let moving = mesh.enter(mesh.join(room, "moving", layout)).await;
        let voice = || Media::Audio(Audio::default());
        steady.publish("voice", voice(), PATIENCE).await.unwrap();
        moving.publish("voice", voice(), PATIENCE).await.unwrap();
        let hears = |stats: &Stats| stats.tracks.iter().any(|it| it.packets > 50);
        steady.until("it hears", PATIENCE, hears).await.unwrap();
        let before = moving.until("it hears", PATIENCE, hears).await.unwrap();

        moving.reconnect().await.unwrap();
        let restarted = move |stats: &Stats| stats.connects == 2 * before.connects;
        let after = moving
            .until("ICE was restarted", PATIENCE, restarted)
            .await
            .unwrap();
        let heard = after.tracks[0].packets;
        let goes_on = move |stats: &Stats| stats.tracks[0].packets > heard + 50;
        moving
            .until("it hears on", PATIENCE, goes_on)
            .await
            .unwrap();
        let stats = steady.leave().await.unwrap();
        assert_eq!((stats.tracks.len(), stats.tracks[0].lost), (1, 0));
        assert_sound(&stats);
        // What it published before is known to the new connection.
        moving.publish("second", voice(), PATIENCE).await.unwrap();
        let stats = moving.leave().await.unwrap();
        assert_eq!((stats.tracks.len(), stats.failures), (1, 0), "{stats:#?}");
        assert_sound(&stats);
    }
}
