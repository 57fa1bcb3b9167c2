//! What participants change while they are there, and what others see of it.

use std::time::{Duration, Instant};

use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{
    Audio, DataMessage, Description, Layout, Media, Reliability, Video,
};

use crate::mesh::{Mesh, PATIENCE, assert_sound, show};

#[tokio::test]
async fn a_track_that_ends_is_gone_for_everybody_and_its_name_is_free() {
    let mesh = Mesh::start();
    for (room, layout) in [("single", Layout::Single), ("dual", Layout::Dual)] {
        let speaker = mesh.enter(mesh.join(room, "speaker", layout)).await;
        let viewer = mesh.enter(mesh.join(room, "viewer", layout)).await;
        let camera = || Media::Video(Video::simulcast());
        let mut before = None;
        for _ in 0..3 {
            let sid = speaker.publish("camera", camera(), PATIENCE).await.unwrap();
            assert_ne!(before.as_ref(), Some(&sid));
            let shown = {
                let sid = sid.clone();
                move |stats: &Stats| stats.track(&sid).is_some_and(|it| it.frames.decoded > 0)
            };
            viewer.until("it sees it", PATIENCE, shown).await.unwrap();
            speaker.unpublish("camera");
            let gone = {
                let sid = sid.clone();
                move |stats: &Stats| stats.remote.iter().all(|it| it.sid != sid)
            };
            viewer.until("it is gone", PATIENCE, gone).await.unwrap();
            before = Some(sid);
        }
        // Others are not concerned.
        speaker
            .publish("voice", Media::Audio(Audio::default()), PATIENCE)
            .await
            .unwrap();
        let heard = |stats: &Stats| {
            stats
                .tracks
                .iter()
                .any(|it| !it.is_video && it.packets > 20)
        };
        viewer.until("it hears it", PATIENCE, heard).await.unwrap();
        for participant in [speaker, viewer] {
            assert_sound(&participant.leave().await.unwrap());
        }
    }
}

#[tokio::test]
async fn layers_that_are_left_out_are_not_sent_and_come_back() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let viewer = mesh
        .enter(mesh.join("room", "viewer", Layout::Single))
        .await;
    show(&speaker, Video::simulcast()).await;
    let layer =
        |wanted: u8| move |stats: &Stats| stats.tracks.iter().any(|it| it.layer == Some(wanted));
    viewer
        .until("it sees all", PATIENCE, layer(2))
        .await
        .unwrap();
    for (rids, highest) in [(&["q", "h"][..], 1), (&["q"], 0), (&["q", "h", "f"], 2)] {
        let rids = rids.iter().map(|it| (*it).to_owned()).collect();
        speaker.set_layers("camera", rids);
        let awaited = format!("it sees layer {highest}");
        viewer
            .until(&awaited, PATIENCE, layer(highest))
            .await
            .unwrap();
    }
    for participant in [speaker, viewer] {
        assert_sound(&participant.leave().await.unwrap());
    }
}

#[tokio::test]
async fn a_key_frame_comes_to_who_asks() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let viewer = mesh.enter(mesh.join("room", "viewer", Layout::Dual)).await;
    let camera = Media::Video(Video::single((640, 360), 30, 300));
    let sid = speaker.publish("camera", camera, PATIENCE).await.unwrap();
    let key_frames = |count: u64| {
        move |stats: &Stats| stats.tracks.iter().any(|it| it.frames.key_frames >= count)
    };
    let stats = viewer
        .until("it sees it", PATIENCE, key_frames(1))
        .await
        .unwrap();
    let before = stats.tracks[0].frames.key_frames;
    let asked = Instant::now();
    viewer.request_key_frame(&sid);
    viewer
        .until("one more", PATIENCE, key_frames(before + 1))
        .await
        .unwrap();
    println!("after {:?}", asked.elapsed());
}

#[tokio::test]
async fn what_somebody_says_of_itself_reaches_others_or_is_refused() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    let description = Description {
        name: "Ann".to_owned(),
        ..Description::default()
    };
    speaker.describe(7, description);
    // Its token does not allow it.
    let answered = |stats: &Stats| stats.answers.contains_key(&7);
    let stats = speaker
        .until("an answer", PATIENCE, answered)
        .await
        .unwrap();
    let refusal = stats.answers[&7].as_deref().unwrap_or_default();
    assert!(refusal.contains("permission"), "{refusal:?}");
    assert_eq!(stats.me.name, "");

    let mut join = mesh.join("room", "allowed", Layout::Single);
    let grants = VideoGrants {
        room_join: true,
        room: "room".to_owned(),
        can_update_own_metadata: Some(true),
        ..VideoGrants::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret").with_identity("allowed");
    join.token = token.with_grants(grants).to_jwt().unwrap();
    let allowed = mesh.enter(join).await;
    let attributes = [("seat".to_owned(), "7".to_owned())].into();
    let description = Description {
        name: "Ben".to_owned(),
        metadata: "m".to_owned(),
        attributes,
    };
    allowed.describe(8, description);
    let agreed = |stats: &Stats| stats.answers.get(&8) == Some(&None);
    allowed.until("it may", PATIENCE, agreed).await.unwrap();
    let seen = |stats: &Stats| {
        stats.others.iter().any(|it| {
            let seat = it.attributes.get("seat").map(String::as_str);
            (it.name.as_str(), it.metadata.as_str(), seat) == ("Ben", "m", Some("7"))
        })
    };
    speaker.until("it is told", PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn news_bear_the_time_at_which_they_came_and_lost_messages_are_counted() {
    let mesh = Mesh::start();
    let speaker = mesh
        .enter(mesh.join("room", "speaker", Layout::Single))
        .await;
    show(&speaker, Video::single((640, 360), 30, 300)).await;
    let viewer = mesh
        .enter(mesh.join("room", "viewer", Layout::Single))
        .await;
    let known = |stats: &Stats| stats.remote.len() == 2;
    let stats = viewer
        .until("it knows both", PATIENCE, known)
        .await
        .unwrap();
    // They were there before.
    assert!(
        stats.remote.iter().all(|it| it.announced.is_none()),
        "{stats:#?}"
    );
    let began = Instant::now();
    let more = Media::Audio(Audio::default());
    speaker.publish("more", more, PATIENCE).await.unwrap();
    let named = |stats: &Stats| stats.remote.iter().any(|it| it.name == "more");
    let stats = viewer
        .until("it knows more", PATIENCE, named)
        .await
        .unwrap();
    let more = stats.remote.iter().find(|it| it.name == "more").unwrap();
    assert!(
        more.announced > Some(began) && more.changed.is_none(),
        "{more:?}"
    );
    let muted = Instant::now();
    speaker.mute("more", true);
    let is_muted = |stats: &Stats| stats.remote.iter().any(|it| it.muted);
    let stats = viewer
        .until("it is muted", PATIENCE, is_muted)
        .await
        .unwrap();
    let more = stats.remote.iter().find(|it| it.name == "more").unwrap();
    assert!(more.changed > Some(muted), "{more:?}");
    println!("muted after {:?}", more.changed.unwrap() - muted);

    let send = |count: usize, reliability: Reliability| {
        for _ in 0..count {
            speaker.send(DataMessage {
                reliability,
                topic: "t".to_owned(),
                payload: b"x".to_vec(),
                to: Vec::new(),
            });
        }
    };
    send(20, Reliability::Lossy);
    let came = |count: u64| move |stats: &Stats| stats.data.received >= count;
    viewer.until("it has 20", PATIENCE, came(20)).await.unwrap();
    viewer.cut(Duration::from_secs(2));
    send(30, Reliability::Lossy);
    // It is over when something comes again.
    let deadline = Instant::now() + PATIENCE;
    let stats = loop {
        send(1, Reliability::Lossy);
        let one = viewer
            .until("one more", Duration::from_millis(500), came(21))
            .await;
        match one {
            Ok(stats) => break stats,
            Err(in_vain) => assert!(Instant::now() < deadline, "{in_vain}"),
        }
    };
    let data = &stats.data;
    assert!(data.missing >= 30, "{data:?}");
    assert_eq!(data.expected, data.received + data.missing, "{data:?}");
}
