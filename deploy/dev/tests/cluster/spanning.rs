//! A room with more people than a node takes.

use std::collections::BTreeMap;

use livekit_protocol::UpdateParticipantMetadata;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use pipemesh_loadtest_client::Generator;
use pipemesh_loadtest_client::signal::SignalClient;
use serde_json::json;

use crate::mesh::{Mesh, PATIENCE, until};
use crate::people::*;
use crate::server_api::call;

const PEOPLE: usize = 60;
const NODES: usize = 3;
const LIMIT: usize = 25;

/// Everybody in turn through the one and the other signaling process; two of them with media: who comes first, and
/// who comes last and is on another node.
#[tokio::test]
async fn sixty_people_are_in_one_room_on_three_nodes_that_take_25_each() {
    let spans = ("PIPEMESH_SIGNALING_ROOM_SPANS_NODES", "true".to_owned());
    let limit = ("PIPEMESH_NODE_SESSION_LIMIT", LIMIT.to_string());
    let mesh = Mesh::start_as(NODES, &[limit], &[spans]).await;
    let generator = Generator::start(1).unwrap();
    let mut ann = speak(&generator, &mesh.signaling[0], "hall", "ann").await;
    let mut people: Vec<(String, SignalClient)> = Vec::new();
    let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 1..PEOPLE - 1 {
        let identity = format!("p{number:02}");
        let signaling = &mesh.signaling[number % mesh.signaling.len()];
        let (client, joined) = join(signaling, "hall", &identity).await;
        // Whoever comes sees everybody who is there, on whichever node.
        assert_eq!(joined.other_participants.len(), number, "{identity}");
        on.entry(node_of(&joined))
            .or_default()
            .push(identity.clone());
        people.push((identity, client));
    }
    let mut zoe = speak(&generator, &mesh.signaling[1], "hall", "zoe").await;
    for (number, identity) in [(0, "ann"), (1, "zoe")] {
        let body = json!({ "room": "hall", "identity": identity });
        let told = call(&mesh.signaling[number], "GetParticipant", body).await;
        let node = told["attributes"]["pipemesh.node"].as_str().unwrap();
        on.entry(node.to_owned())
            .or_default()
            .push(identity.to_owned());
    }
    println!(
        "on each node: {:?}",
        on.values().map(Vec::len).collect::<Vec<_>>()
    );
    assert_eq!(on.len(), NODES, "{on:?}");
    assert!(on.values().all(|there| there.len() <= LIMIT), "{on:?}");

    // Each signaling process and each node says the same.
    for signaling in &mesh.signaling {
        let room = signaling.tells("/rooms/hall").await.unwrap();
        let mut homes: Vec<&str> = Vec::new();
        for home in room["homes"].as_array().unwrap() {
            homes.push(home.as_str().unwrap());
        }
        homes.sort_unstable();
        assert_eq!(homes, on.keys().map(String::as_str).collect::<Vec<_>>());
        let listed = call(signaling, "ListParticipants", json!({ "room": "hall" })).await;
        assert_eq!(listed["participants"].as_array().unwrap().len(), PEOPLE);
        until("each node reports whom it has", async || {
            let nodes = signaling.tells("/nodes").await?;
            let nodes = nodes["nodes"].as_array()?;
            let is_so = nodes.iter().all(|node| {
                let there = on[node["id"].as_str().unwrap()].len();
                node["report"]["sessions"] == there
            });
            is_so.then_some(())
        })
        .await;
    }

    // What happens to somebody is seen by everybody.
    let first = people[0].0.clone();
    let change = UpdateParticipantMetadata {
        metadata: "hand raised".to_owned(),
        ..Default::default()
    };
    let said = Request::UpdateMetadata(change);
    people[0].1.send(said).await.unwrap();
    for (identity, client) in people.iter_mut().skip(1) {
        let what = "the hand";
        let seen = sees(client, what, |info| {
            info.identity == first && info.metadata == "hand raised"
        });
        assert_eq!(seen.await.identity, first, "{identity}");
    }

    // What an application says reaches everybody, on whichever node.
    for signaling in &mesh.signaling {
        let data = json!({ "room": "hall", "data": "aGVsbG8=", "kind": "RELIABLE" });
        call(signaling, "SendData", data).await;
    }
    for participant in [&mut ann, &mut zoe] {
        for _ in &mesh.signaling {
            let message = participant.next_message(PATIENCE).await.unwrap();
            assert_eq!(message.payload, b"hello");
        }
    }

    // Who leaves is gone for everybody; the room lives with those who stay.
    let (leaver, mut client) = people.remove(0);
    client.leave().await.unwrap();
    client.closed(PATIENCE).await.unwrap();
    for (_, client) in &mut people {
        sees(client, "somebody gone", |info| {
            info.identity == leaver && is_gone(info)
        })
        .await;
    }
    for (identity, client) in &mut people {
        client.ping(PATIENCE).await.unwrap();
        while let Ok(message) = client.next(std::time::Duration::ZERO).await {
            assert!(
                !matches!(message, Response::Leave(_)),
                "{identity} was sent away"
            );
        }
    }
}
