//! One room over two signaling processes.

use std::time::Duration;

use livekit_protocol::UpdateParticipantMetadata;
use livekit_protocol::signal_request::Message as Request;
use pipemesh_loadtest_client::Generator;
use pipemesh_loadtest_client::stats::Stats;
use tokio::time::sleep;

use crate::mesh::{DEPARTURE, Mesh, PATIENCE, until};
use crate::people::*;

/// What is said once in the mesh, by whichever process.
fn said(mesh: &Mesh, message: &str) -> usize {
    let signaling = mesh.signaling.iter();
    signaling.map(|it| it.process.said(message).len()).sum()
}

#[tokio::test]
async fn what_people_do_reaches_those_on_another_process() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let generator = Generator::start(1).unwrap();
    let ann = speak(&generator, one, "standup", "ann").await;
    let ben = speak(&generator, two, "standup", "ben").await;
    for participant in [&ann, &ben] {
        hears_on(participant, 50).await;
    }
    ann.mute("voice", true);
    let muted = |stats: &Stats| {
        stats
            .remote
            .iter()
            .any(|it| it.identity == "ann" && it.muted)
    };
    ben.until("ann is muted", PATIENCE, muted).await.unwrap();

    let (mut cleo, _) = join(one, "standup", "cleo").await;
    let (mut dan, joined) = join(two, "standup", "dan").await;
    assert_eq!(others_of(&joined), ["ann", "ben", "cleo"]);
    sees(&mut cleo, "dan", |info| info.identity == "dan").await;
    let update = UpdateParticipantMetadata {
        metadata: "back soon".to_owned(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        ..Default::default()
    };
    dan.send(Request::UpdateMetadata(update)).await.unwrap();
    let seen = sees(&mut cleo, "a raised hand", |info| {
        info.attributes.contains_key("hand")
    });
    assert_eq!(seen.await.metadata, "back soon");

    dan.leave().await.unwrap();
    sees(&mut cleo, "dan gone", |info| {
        info.identity == "dan" && is_gone(info)
    })
    .await;
    ben.leave().await.unwrap();
    sees(&mut cleo, "ben gone", |info| {
        info.identity == "ben" && is_gone(info)
    })
    .await;
    let alone = |stats: &Stats| stats.remote.is_empty();
    ann.until("it is alone", PATIENCE, alone).await.unwrap();
}

#[tokio::test]
async fn a_room_ends_once_when_everybody_has_left_on_all_processes() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let (mut ann, joined) = join(one, "standup", "ann").await;
    let (mut ben, _) = join(two, "standup", "ben").await;
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    ann.leave().await.unwrap();
    sees(&mut ben, "ann gone", |info| {
        info.identity == "ann" && is_gone(info)
    })
    .await;
    // The process that Ann left has nobody in the room any more.
    sleep(DEPARTURE * 2).await;
    ben.ping(PATIENCE).await.unwrap();
    assert_eq!(said(&mesh, "room ended"), 0);
    let (mut cleo, again) = join(one, "standup", "cleo").await;
    assert_eq!(room_of(&again), room_of(&joined));
    assert_eq!(others_of(&again), ["ben"]);

    ben.leave().await.unwrap();
    cleo.leave().await.unwrap();
    until("the room has ended", async || {
        (said(&mesh, "room ended") > 0).then_some(())
    })
    .await;
    sleep(DEPARTURE + Duration::from_secs(1)).await;
    assert_eq!(said(&mesh, "room ended"), 1);
    let (_dan, new) = join(two, "standup", "dan").await;
    assert_ne!(room_of(&new), room_of(&joined));
}
