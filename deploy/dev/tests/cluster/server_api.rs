//! The server API of a mesh: each call through the process that does not serve whom it is about.

use std::time::Duration;

use livekit_protocol::signal_response::Message as Response;
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::Generator;
use pipemesh_loadtest_client::stats::Stats;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::http;
use crate::mesh::{DEPARTURE, Mesh, PATIENCE, Signaling, until};
use crate::people::*;

/// Somebody who may do everything in a room, and to rooms.
fn admin(room: &str) -> VideoGrants {
    VideoGrants {
        room_create: true,
        room_list: true,
        room_admin: true,
        room: room.to_owned(),
        ..Default::default()
    }
}

async fn call_with(
    grants: VideoGrants,
    signaling: &Signaling,
    method: &str,
    body: &Value,
) -> (u16, Value) {
    let token = AccessToken::with_api_key(KEY, SECRET).with_identity("desk");
    let token = token.with_grants(grants);
    let target = format!("/twirp/livekit.RoomService/{method}");
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
        token.to_jwt().unwrap()
    );
    let answer = http::post(signaling.clients, &target, &headers, &body.to_string()).await;
    let answer = answer.unwrap();
    let json = serde_json::from_str(&answer.body);
    (answer.status, json.unwrap_or_else(|_| panic!("{answer:?}")))
}

/// What is answered to whoever may do everything.
pub(crate) async fn call(signaling: &Signaling, method: &str, body: Value) -> Value {
    let room = body["room"].as_str().or(body["name"].as_str());
    let grants = admin(room.unwrap_or_default());
    let (status, answer) = call_with(grants, signaling, method, &body).await;
    assert_eq!(status, 200, "{method}: {answer}");
    answer
}

/// The error that is answered.
async fn refused(signaling: &Signaling, method: &str, body: Value) -> (u16, String) {
    let room = body["room"].as_str().or(body["name"].as_str());
    let grants = admin(room.unwrap_or_default());
    let (status, answer) = call_with(grants, signaling, method, &body).await;
    (
        status,
        answer["code"].as_str().unwrap_or_default().to_owned(),
    )
}

fn identities(answer: &Value) -> Vec<&str> {
    let participants = answer["participants"].as_array();
    let participants = participants.into_iter().flatten();
    participants
        .map(|it| it["identity"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn rooms_are_opened_counted_and_deleted_in_the_whole_mesh() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let room = json!({ "name": "standup", "empty_timeout": 60, "maxParticipants": 2 });
    let opened = call(one, "CreateRoom", room.clone()).await;
    assert_eq!(opened["emptyTimeout"], 60);
    // Opened for people who come later: it does not end like one that they have left.
    sleep(DEPARTURE * 2).await;
    let again = call(
        two,
        "CreateRoom",
        json!({ "name": "standup", "metadata": "daily" }),
    )
    .await;
    assert_eq!(again["sid"], opened["sid"]);
    assert_eq!(again["metadata"], "daily");

    let (mut ann, joined) = join(one, "standup", "ann").await;
    assert_eq!(room_of(&joined), opened["sid"].as_str().unwrap());
    let (mut ben, _) = join(two, "standup", "ben").await;
    let (_zoe, _) = join(two, "another", "zoe").await;
    for signaling in [one, two] {
        let listed = call(signaling, "ListRooms", json!({})).await;
        let rooms = listed["rooms"].as_array().unwrap().iter();
        let mut counts: Vec<_> = rooms
            .map(|room| {
                (
                    room["name"].as_str().unwrap(),
                    room["numParticipants"].as_u64(),
                )
            })
            .collect();
        counts.sort();
        assert_eq!(counts, [("another", Some(1)), ("standup", Some(2))]);
        let one = call(
            signaling,
            "ListRooms",
            json!({ "names": ["standup", "nowhere"] }),
        )
        .await;
        assert_eq!(one["rooms"].as_array().unwrap().len(), 1);
        let people = call(signaling, "ListParticipants", json!({ "room": "standup" })).await;
        assert_eq!(identities(&people), ["ann", "ben"]);
        let ann = json!({ "room": "standup", "identity": "ann" });
        let ann = call(signaling, "GetParticipant", ann).await;
        assert_eq!(ann["sid"], joined.participant.as_ref().unwrap().sid);
    }
    let full = connect(one, "standup", "cleo");
    let full = pipemesh_loadtest_client::signal::SignalClient::connect(&full, PATIENCE).await;
    assert!(full.is_err(), "the room holds two");

    call(two, "DeleteRoom", json!({ "room": "standup" })).await;
    for client in [&mut ann, &mut ben] {
        let reason = client.wait_for("a leave", PATIENCE, |message| match message {
            Response::Leave(leave) => Some(leave.reason()),
            _ => None,
        });
        let deleted = livekit_protocol::DisconnectReason::RoomDeleted;
        assert_eq!(reason.await.unwrap(), deleted);
    }
    let nobody = refused(one, "ListParticipants", json!({ "room": "standup" })).await;
    assert_eq!(nobody, (404, "not_found".to_owned()));
    let (_, new) = join(one, "standup", "ann").await;
    assert_ne!(room_of(&new), opened["sid"].as_str().unwrap());
}

#[tokio::test]
async fn a_room_that_nobody_joins_ends_after_its_time() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    call(
        one,
        "CreateRoom",
        json!({ "name": "empty", "emptyTimeout": 2 }),
    )
    .await;
    let listed = call(two, "ListRooms", json!({})).await;
    assert_eq!(listed["rooms"][0]["name"], "empty");
    until("the room has ended", async || {
        let listed = call(two, "ListRooms", json!({})).await;
        listed.get("rooms").is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn people_are_changed_muted_and_removed_by_the_process_that_serves_them() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let generator = Generator::start(1).unwrap();
    let ann = speak(&generator, one, "standup", "ann").await;
    let (mut ben, _) = join(two, "standup", "ben").await;
    let (mut cleo, _) = join(one, "standup", "cleo").await;

    let people = call(two, "ListParticipants", json!({ "room": "standup" })).await;
    let track = people["participants"][0]["tracks"][0]["sid"].clone();
    let mute =
        |muted| json!({ "room": "standup", "identity": "ann", "track_sid": track, "muted": muted });
    let muted = call(two, "MutePublishedTrack", mute(true)).await;
    assert_eq!(muted["track"]["muted"], true);
    let is_muted = |info: &livekit_protocol::ParticipantInfo| {
        info.identity == "ann" && info.tracks.iter().any(|track| track.muted)
    };
    sees(&mut ben, "ann is muted", is_muted).await;
    let unmute = refused(two, "MutePublishedTrack", mute(false)).await;
    assert_eq!(unmute, (412, "failed_precondition".to_owned()));

    let update = json!({
        "room": "standup", "identity": "cleo", "name": "Cleo", "metadata": "here",
        "attributes": { "role": "host" }, "permission": { "canSubscribe": true, "canPublish": false },
    });
    let updated = call(two, "UpdateParticipant", update).await;
    assert_eq!(updated["permission"].get("canPublish"), None);
    let seen = sees(&mut ben, "cleo is changed", |info| info.name == "Cleo").await;
    assert_eq!(
        (seen.metadata.as_str(), &seen.attributes["role"][..]),
        ("here", "host")
    );
    // She is told herself.
    sees(&mut cleo, "herself changed", |info| info.name == "Cleo").await;

    call(
        one,
        "UpdateRoomMetadata",
        json!({ "room": "standup", "metadata": "on air" }),
    )
    .await;
    for client in [&mut ben, &mut cleo] {
        let said = client.wait_for(
            "what is said of the room",
            PATIENCE,
            |message| match message {
                Response::RoomUpdate(update) => {
                    let room = update.room.as_ref()?;
                    (room.metadata == "on air").then_some(())
                }
                _ => None,
            },
        );
        said.await.unwrap();
    }

    let cleo_is = json!({ "room": "standup", "identity": "cleo" });
    call(two, "RemoveParticipant", cleo_is.clone()).await;
    let gone = refused(one, "GetParticipant", cleo_is.clone()).await;
    assert_eq!(gone, (404, "not_found".to_owned()));
    let reason = cleo.wait_for("a leave", PATIENCE, |message| match message {
        Response::Leave(leave) => Some(leave.reason()),
        _ => None,
    });
    let removed = livekit_protocol::DisconnectReason::ParticipantRemoved;
    assert_eq!(reason.await.unwrap(), removed);
    sees(&mut ben, "cleo gone", |info| {
        info.identity == "cleo" && is_gone(info)
    })
    .await;
    let again = refused(two, "RemoveParticipant", cleo_is).await;
    assert_eq!(again, (404, "not_found".to_owned()));
    assert_unbroken(&ann.stats().await.unwrap());
}

#[tokio::test]
async fn data_and_subscriptions_reach_people_on_all_processes() {
    let mesh = Mesh::start().await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let generator = Generator::start(1).unwrap();
    let mut ann = speak(&generator, one, "standup", "ann").await;
    let mut ben = speak(&generator, two, "standup", "ben").await;
    hears_on(&ben, 20).await;
    let people = call(two, "ListParticipants", json!({ "room": "standup" })).await;
    let track = people["participants"][0]["tracks"][0]["sid"].clone();
    let subscribe = |subscribe| json!({ "room": "standup", "identity": "ben", "trackSids": [track], "subscribe": subscribe });
    call(one, "UpdateSubscriptions", subscribe(false)).await;
    let packets = async || -> u64 {
        let stats = ben.stats().await.unwrap();
        stats.tracks.iter().map(|track| track.packets).sum()
    };
    let before = until("ben hears nothing more", async || {
        let before = packets().await;
        sleep(Duration::from_millis(300)).await;
        (packets().await == before).then_some(before)
    })
    .await;
    call(one, "UpdateSubscriptions", subscribe(true)).await;
    until("ben hears on", async || {
        (packets().await > before + 20).then_some(())
    })
    .await;

    for participant in [&ann, &ben] {
        let open = |stats: &Stats| stats.data_open;
        participant
            .until("data can come", PATIENCE, open)
            .await
            .unwrap();
    }
    // «hello» to everybody, and «ben» to him.
    let hello =
        json!({ "room": "standup", "data": "aGVsbG8=", "kind": "RELIABLE", "topic": "greeting" });
    call(one, "SendData", hello.clone()).await;
    let to_ben = json!({
        "room": "standup", "data": "YmVu", "kind": "RELIABLE", "destination_identities": ["ben"],
    });
    call(one, "SendData", to_ben).await;
    call(two, "SendData", hello).await;
    let expected = |texts: &[&str]| -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    };
    for (participant, texts) in [
        (&mut ann, &["hello", "hello"][..]),
        (&mut ben, &["hello", "ben", "hello"][..]),
    ] {
        let mut heard = Vec::new();
        for _ in texts {
            let message = participant.next_message(PATIENCE).await.unwrap();
            assert_eq!(message.from, "", "nobody in the room said it");
            heard.push(message.payload);
        }
        assert_eq!(heard, expected(texts));
    }
}

#[tokio::test]
async fn whom_a_killed_process_served_is_removed_by_any_other() {
    let mut mesh = Mesh::start().await;
    let (mut ann, _) = join(&mesh.signaling[0], "standup", "ann").await;
    let (_ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    mesh.signaling[1].process.kill();
    let ben = json!({ "room": "standup", "identity": "ben" });
    let update = json!({ "room": "standup", "identity": "ben", "name": "Ben" });
    let nobody = refused(&mesh.signaling[0], "UpdateParticipant", update).await;
    assert_eq!(nobody, (503, "unavailable".to_owned()));
    call(&mesh.signaling[0], "RemoveParticipant", ben).await;
    sees(&mut ann, "ben gone", |info| {
        info.identity == "ben" && is_gone(info)
    })
    .await;
}

#[tokio::test]
async fn nobody_does_what_their_token_does_not_grant() {
    let mesh = Mesh::start().await;
    let one = &mesh.signaling[0];
    let (mut ann, _) = join(one, "standup", "ann").await;
    let remove = json!({ "room": "standup", "identity": "ann" });
    let joins = VideoGrants {
        room_join: true,
        room: "standup".to_owned(),
        ..Default::default()
    };
    for grants in [joins, admin("another")] {
        let (status, answer) = call_with(grants, one, "RemoveParticipant", &remove).await;
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!("permission_denied"))
        );
    }
    let target = "/twirp/livekit.RoomService/ListRooms";
    let headers = "Content-Type: application/json\r\n";
    let answer = http::post(one.clients, target, headers, "{}")
        .await
        .unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
    let nothing = refused(one, "MoveParticipant", json!({ "room": "standup" })).await;
    assert_eq!(nothing, (501, "unimplemented".to_owned()));
    let nothing = refused(one, "Dance", json!({ "room": "standup" })).await;
    assert_eq!(nothing, (404, "bad_route".to_owned()));
    stays(&mut ann).await;
}
