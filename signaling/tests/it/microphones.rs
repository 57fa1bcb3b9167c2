//! How many microphones of a room are heard: what is set, or what its configuration says, as nodes are told.

use livekit_protocol::RoomConfiguration;
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_signaling::Config;
use serde_json::{Value, json};

use crate::fake_node::FakeNode;
use crate::fixture::*;

const TAG: &str = "pipemesh.loudest_microphones";

fn limited() -> Config {
    Config {
        loudest_microphones: 5,
        ..config()
    }
}

/// What a node was told when somebody joined.
async fn told(node: &FakeNode, identity: &str) -> u32 {
    let session = node.session(identity, "a session", |_| true).await;
    session.open.loudest_microphones
}

fn configured(identity: &str, room: &str, tag: &str, value: &str) -> String {
    let grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        ..Default::default()
    };
    let config = RoomConfiguration {
        tags: [(tag.to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    AccessToken::with_api_key(KEY, SECRET)
        .with_identity(identity)
        .with_grants(grants)
        .with_room_config(config)
        .to_jwt()
        .unwrap()
}

async fn create(fixture: &Fixture, room: &str, value: &str) -> (u16, Value) {
    let grants = VideoGrants {
        room_create: true,
        ..Default::default()
    };
    let token = AccessToken::with_api_key(KEY, SECRET)
        .with_identity("operator")
        .with_grants(grants)
        .to_jwt()
        .unwrap();
    let url = format!(
        "http://{}/twirp/livekit.RoomService/CreateRoom",
        fixture.address
    );
    // Which is written anew with what is open.
    let metadata = format!("{value} are heard");
    let body = json!({ "name": room, "metadata": metadata, "tags": { TAG: value } }).to_string();
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let answer = response.text().await.unwrap();
    (status, serde_json::from_str(&answer).unwrap())
}

#[tokio::test]
async fn nodes_are_told_what_is_set_or_what_the_room_says() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::with(limited(), &[&node]).await;
    let (_alice, _) = fixture.join("standup", "alice").await;
    assert_eq!(told(&node, "alice").await, 5);

    let (status, answer) = create(&fixture, "town hall", "3").await;
    assert_eq!(status, 200, "{answer}");
    let (_bob, _) = fixture.join("town hall", "bob").await;
    assert_eq!(told(&node, "bob").await, 3);
    // One that is open stays as it was opened, whatever else of it changes.
    let (status, answer) = create(&fixture, "town hall", "9").await;
    assert_eq!(status, 200, "{answer}");
    let (_carol, _) = fixture.join("town hall", "carol").await;
    assert_eq!(told(&node, "carol").await, 3);

    let token = configured("dave", "choir", TAG, "0");
    let (_dave, _) = fixture.join_with(&token, single(Default::default())).await;
    assert_eq!(told(&node, "dave").await, 0);
}

#[tokio::test]
async fn what_no_room_can_be_is_refused() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let wrong = format!("the room's tag {TAG} is \"many\", not a number from 0 to 250");
    let (status, answer) = create(&fixture, "standup", "many").await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["code"], "invalid_argument");
    assert_eq!(answer["msg"], wrong.as_str());

    let token = configured("eve", "standup", TAG, "many");
    let connect = fixture.connect(&token, single(Default::default()));
    let (status, body) = fixture.refusal(&connect).await;
    let expected = format!("the token's room configuration: {wrong}");
    assert_eq!((status, body), (400, expected));
    let token = configured("eve", "standup", "pipemesh.loudest", "3");
    let connect = fixture.connect(&token, single(Default::default()));
    let (status, body) = fixture.refusal(&connect).await;
    assert_eq!(status, 400);
    assert!(body.contains("\"pipemesh.loudest\" is no tag"), "{body}");
}
