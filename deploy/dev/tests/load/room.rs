//! Three people in both dialects see and hear each other.

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Audio, LayerWish, Layout, Media, Participant, Video};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

/// Frames of every track before a look is worth it: two seconds.
const FRAMES: u64 = 60;

fn receives_all(stats: &Stats) -> bool {
    let audio = stats
        .tracks
        .iter()
        .filter(|it| !it.is_video && it.packets > 2 * FRAMES);
    let video = stats
        .tracks
        .iter()
        .filter(|it| it.is_video && it.frames.decoded > FRAMES);
    audio.count() == 2 && video.count() == 2
}

/// Waits until a video track is decoded in a layer.
async fn sees_layer(participant: &Participant, sid: &str, layer: u8) {
    let sid = sid.to_owned();
    let shown = move |stats: &Stats| stats.track(&sid).and_then(|it| it.layer) == Some(layer);
    participant
        .until(&format!("layer {layer}"), PATIENCE, shown)
        .await
        .unwrap();
}

#[tokio::test]
async fn three_people_in_both_dialects_receive_each_other() {
    let mesh = Mesh::start();
    let people = [
        ("ann", Layout::Single),
        ("ben", Layout::Dual),
        ("cleo", Layout::Single),
    ];
    let mut participants = Vec::new();
    for (identity, layout) in people {
        let participant = mesh.enter(mesh.join("room", identity, layout)).await;
        let camera = Media::Video(Video::simulcast());
        participant
            .publish("camera", camera, PATIENCE)
            .await
            .unwrap();
        let voice = Media::Audio(Audio::default());
        participant
            .publish("microphone", voice, PATIENCE)
            .await
            .unwrap();
        participants.push(participant);
    }
    for participant in &participants {
        participant
            .until("all is received", PATIENCE, receives_all)
            .await
            .unwrap();
    }

    // Everybody looks at everybody small, and at one person large.
    for participant in &participants {
        let stats = participant.stats().await.unwrap();
        let cameras: Vec<&str> = stats
            .remote
            .iter()
            .filter(|it| it.is_video)
            .map(|it| it.sid.as_str())
            .collect();
        assert_eq!(cameras.len(), 2);
        for camera in &cameras {
            participant.wish_layer(camera, LayerWish::Quality(0));
        }
        for camera in &cameras {
            sees_layer(participant, camera, 0).await;
        }
        participant.wish_layer(cameras[0], LayerWish::Size(1280, 720));
        participant.wish_layer(cameras[1], LayerWish::Quality(1));
        sees_layer(participant, cameras[0], 2).await;
        sees_layer(participant, cameras[1], 1).await;
    }

    let load = mesh.generator.load().await;
    for participant in participants {
        let stats = participant.leave().await.unwrap();
        println!(
            "{}: {:?}, audio {} us, video {} us at the median",
            stats.identity,
            stats.times,
            stats.audio_latency.value_at_quantile(0.5),
            stats.video_latency.value_at_quantile(0.5),
        );
        assert_eq!(
            (stats.failures, stats.integrity.unstamped),
            (0, 0),
            "{stats:#?}"
        );
        assert_sound(&stats);
        // What was sent in the last moments the server has not spoken of yet.
        let sent = stats.sent;
        let told = sent.acknowledged + sent.reported_lost;
        assert!(told * 10 > sent.numbered * 9, "{sent:?}");
        // The cameras' packets, which are far more than those of voices.
        assert!(sent.numbered * 4 > sent.packets * 3, "{sent:?}");
        assert_eq!(stats.tracks.len(), 4);
        for track in &stats.tracks {
            // A thread that the machine keeps waiting loses what its sockets cannot hold.
            let lost = track.lost + track.recovered;
            assert!(lost == 0 || load.socket_drops > 0, "{track:#?} {load:?}");
            assert_eq!(track.duplicates, 0, "{track:#?}");
        }
    }
}
