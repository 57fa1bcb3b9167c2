//! Nodes that break, drain or die.

use std::time::Duration;

use livekit_protocol::JoinRequest;
use livekit_protocol::leave_request;
use livekit_protocol::signal_response::Message as Response;
use pipemesh_loadtest_client::signal::SignalClient;
use pipemesh_proto::auth::ClusterKey;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request as Asked;
use pipemesh_proto::node::{Code, NodeState, SpeakersChanged};
use pipemesh_signaling::nodes::Control;
use pipemesh_topology::ring::{Members, Ring, RingKey};
use pipemesh_topology::{Registry, Snapshot};

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

async fn told_to_rejoin(client: &mut SignalClient) {
    let leave = client
        .wait_for("leave", PATIENCE, |message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
}

/// Where somebody is.
fn node_of(join: &livekit_protocol::JoinResponse) -> String {
    join.participant.as_ref().unwrap().attributes["pipemesh.node"].clone()
}

#[tokio::test]
async fn a_stream_that_breaks_is_restored_unnoticed() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    node.session("bob", "a subscription", |bob| bob.subscribed.len() == 1)
        .await;
    node.break_streams();
    node.session("alice", "a second stream", |session| session.attached == 2)
        .await;
    let bobs = node
        .session("bob", "a second stream", |session| session.attached == 2)
        .await;
    assert!(bobs.subscribed.contains_key(&track));
    let second = publish(&mut bob, &node, "bob", "cam").await;
    node.session("alice", "a subscription", |alice| {
        alice.subscribed.contains_key(&second)
    })
    .await;
    alice.ping(PATIENCE).await.unwrap();
}

/// As when this process is short of CPU and reads them too late.
#[tokio::test]
async fn a_node_whose_reports_are_not_heard_is_kept_while_its_streams_speak() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    node.falls_mute();
    let muted = tokio::time::Instant::now();
    while muted.elapsed() < Duration::from_secs(6) {
        node.says("alice", Event::SpeakersChanged(SpeakersChanged::default()))
            .await;
        let nothing = Duration::from_millis(200);
        while let Ok(message) = alice.next(nothing).await {
            assert!(!matches!(message, Response::Leave(_)), "{message:?}");
        }
    }
    alice.ping(PATIENCE).await.unwrap();
    told_to_rejoin(&mut alice).await;
}

#[tokio::test]
async fn everybody_on_a_node_that_dies_goes_to_another_as_who_they_were() {
    let mut nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let fixture = Fixture::start(&[&nodes[0], &nodes[1]]).await;
    let (mut alice, joined) = fixture.join("standup", "alice").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let home = node_of(&joined);
    let dying = usize::from(home == "node-b");
    let track = publish(&mut alice, &nodes[dying], "alice", "cam").await;
    sees(&mut bob, "alice's track", |info| !info.tracks.is_empty()).await;
    nodes[dying].kill();
    told_to_rejoin(&mut alice).await;
    told_to_rejoin(&mut bob).await;
    drop((alice, bob));
    let (mut alice, rejoined) = fixture.join("standup", "alice").await;
    assert_ne!(node_of(&rejoined), home);
    assert_eq!(
        rejoined.participant.unwrap().sid,
        joined.participant.unwrap().sid
    );
    assert_eq!(
        rejoined.room.unwrap().sid,
        joined.room.unwrap().sid,
        "it is the same room"
    );
    let alive = &nodes[1 - dying];
    assert_eq!(publish(&mut alice, alive, "alice", "cam").await, track);
    let (_bob, rejoined) = fixture.join("standup", "bob").await;
    assert_ne!(node_of(&rejoined), home);
    assert_eq!(rejoined.other_participants.len(), 1);
    alive
        .session("bob", "alice's track", |bob| {
            bob.subscribed.contains_key(&track)
        })
        .await;
    // Nor does a room wait for it: whoever comes next is with the others when it is back.
    let room = "standup".parse().unwrap();
    let left = async {
        while fixture.homes(&room).await != alive.record.id.as_str() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left)
        .await
        .expect("the room leaves it");
}

#[tokio::test]
async fn a_node_that_came_back_knows_nobody() {
    let mut node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    node.kill();
    told_to_rejoin(&mut alice).await;
    let again = FakeNode::start("node-a", "eu", 2);
    fixture
        .registry
        .register(again.record.clone())
        .await
        .unwrap();
    fixture.join("standup", "alice").await;
    again.session("alice", "a session", |_| true).await;
}

#[tokio::test]
async fn a_node_that_drains_gets_nobody_and_its_room_moves_with_the_next_join() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let fixture = Fixture::start(&[&nodes[0], &nodes[1]]).await;
    let (mut alice, joined) = fixture.join("standup", "alice").await;
    let home = node_of(&joined);
    let draining = &nodes[usize::from(home == "node-b")];
    draining.refuse(Some(Code::NodeDraining));
    draining.set_state(NodeState::Draining);
    let (_bob, joined) = fixture.join("standup", "bob").await;
    assert_ne!(node_of(&joined), home);
    told_to_rejoin(&mut alice).await;
    let (_alice, joined) = fixture.join("standup", "alice").await;
    assert_ne!(node_of(&joined), home);
    assert_eq!(joined.other_participants.len(), 1);
}

#[tokio::test]
async fn rooms_on_a_node_that_drains_move_one_after_the_other_until_it_serves_again() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let mut config = config();
    config.drain_rate = 1;
    let fixture = Fixture::with(config, &[&nodes[0]]).await;
    let mut people = Vec::new();
    for (room, identity) in [("one", "alice"), ("two", "bob")] {
        let (client, joined) = fixture.join(room, identity).await;
        people.push((room, identity, client, joined));
    }
    let other = nodes[1].record.clone();
    fixture.registry.register(other).await.unwrap();
    fixture
        .until_metric("pipemesh_signal_nodes_up", &[], |up| up > 1.0)
        .await;
    nodes[0].set_state(NodeState::Draining);
    let (moves, moved) = ("pipemesh_signal_drain_moves_total", [("result", "moved")]);
    fixture
        .until_metric(moves, &moved, |rooms| rooms > 0.0)
        .await;
    nodes[0].set_state(NodeState::Serving);
    let mut moved = 0;
    for (room, identity, mut client, joined) in people {
        let leave =
            client.wait_for(
                "leave",
                std::time::Duration::from_secs(2),
                |message| match message {
                    Response::Leave(leave) => Some(leave.action()),
                    _ => None,
                },
            );
        let Ok(action) = leave.await else {
            client.ping(PATIENCE).await.unwrap();
            continue;
        };
        moved += 1;
        assert_eq!(action, leave_request::Action::Reconnect);
        let (_client, rejoined) = fixture.join(room, identity).await;
        assert_eq!(node_of(&rejoined), "node-b");
        let who = |joined: livekit_protocol::JoinResponse| joined.participant.unwrap().sid;
        assert_eq!(who(rejoined), who(joined));
    }
    assert_eq!(moved, 1);
}

/// Rooms that the ring puts on a node, of the two that there are.
fn rooms_for(node: &FakeNode, other: &FakeNode) -> impl Iterator<Item = String> {
    let nodes = [node.record.clone(), other.record.clone()];
    let ring = Ring::new(&Members::from(&Snapshot::new(nodes))).unwrap();
    let (id, region) = (node.record.id.clone(), node.record.region.clone());
    let rooms = (0..).map(|number| format!("room-{number}"));
    rooms.filter(move |room| {
        let key = RingKey::new(&room.parse().unwrap(), &region);
        ring.walk(key).next() == Some(&id)
    })
}

/// The node has not reported them yet.
#[tokio::test]
async fn whom_another_process_has_placed_counts_too() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let one = Fixture::start(&[&nodes[0], &nodes[1]]).await;
    let two = Fixture::sharing(config(), one.registry.clone(), one.store.clone()).await;
    let mut rooms = rooms_for(&nodes[0], &nodes[1]);
    let mut people = Vec::new();
    for _ in 0..2 {
        let (client, joined) = one.join(&rooms.next().unwrap(), "alice").await;
        assert_eq!(node_of(&joined), "node-a");
        people.push(client);
    }
    two.until_node("node-a", |node| node["assigned"] == 2).await;
    // Two are more than a quarter above the mean, which whoever knows of none would not say.
    let (_client, joined) = two.join(&rooms.next().unwrap(), "alice").await;
    assert_eq!(node_of(&joined), "node-b");
}

#[tokio::test]
async fn a_room_that_outgrows_its_node_goes_on_on_the_next() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let mut config = config();
    config.rooms_span = true;
    let fixture = Fixture::with(config, &[&nodes[0], &nodes[1]]).await;
    let (mut alice, joined) = fixture.join("standup", "alice").await;
    let first = node_of(&joined);
    let (mut bob, joined) = fixture.join("standup", "bob").await;
    assert_eq!(node_of(&joined), first, "there is room");
    let (full, other) = match first.as_str() {
        "node-a" => (&nodes[0], &nodes[1]),
        _ => (&nodes[1], &nodes[0]),
    };
    full.set_state(NodeState::Full);
    fixture
        .until_node(&first, |node| node["report"]["state"] == "full")
        .await;
    let track = publish(&mut alice, full, "alice", "cam").await;
    let (mut cleo, joined) = fixture.join("standup", "cleo").await;
    assert_ne!(node_of(&joined), first);
    // Who is there, what they publish, what is said of them: as on one node.
    assert_eq!(joined.other_participants.len(), 2);
    assert_eq!(joined.other_participants[0].tracks[0].sid, track);
    for client in [&mut alice, &mut bob] {
        sees(client, "cleo", |info| info.identity == "cleo").await;
    }
    let second = publish(&mut cleo, other, "cleo", "cam").await;
    sees(&mut alice, "cleo's track", |info| {
        info.tracks.iter().any(|track| track.sid == second)
    })
    .await;
    // Nobody was moved; a node is told where the others' tracks are.
    full.session("bob", "a subscription", |bob| {
        bob.subscribed.contains_key(&second)
    })
    .await;
    for client in [&mut alice, &mut bob, &mut cleo] {
        client.ping(PATIENCE).await.unwrap();
    }
    // Only who is on it leaves a node that drains, for the one that the room has.
    full.set_state(NodeState::Draining);
    told_to_rejoin(&mut alice).await;
    told_to_rejoin(&mut bob).await;
    let (_alice, joined) = fixture.join("standup", "alice").await;
    assert_ne!(node_of(&joined), first);
    cleo.ping(PATIENCE).await.unwrap();
    let homes = fixture.homes(&"standup".parse().unwrap()).await;
    assert_eq!(homes, other.record.id.as_str());
}

#[tokio::test]
async fn a_node_that_refuses_is_passed_over() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let fixture = Fixture::start(&[&nodes[0], &nodes[1]]).await;
    for (refusing, other) in [(0, "node-b"), (1, "node-a")] {
        nodes[refusing].refuse(Some(Code::NodeFull));
        for room in 0..4 {
            let (_client, joined) = fixture.join(&format!("{refusing}-{room}"), "alice").await;
            assert_eq!(node_of(&joined), other);
        }
        nodes[refusing].refuse(None);
    }
}

#[tokio::test]
async fn a_room_whose_node_is_full_stays_together() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let fixture = Fixture::with(undivided(), &[&nodes[0], &nodes[1]]).await;
    let (mut alice, joined) = fixture.join("standup", "alice").await;
    let home = node_of(&joined);
    nodes[usize::from(home == "node-b")].refuse(Some(Code::NodeFull));
    let connect = fixture.connect(&token("standup", "bob"), single(JoinRequest::default()));
    let expected = (503, "the room's node takes nobody".to_owned());
    assert_eq!(fixture.refusal(&connect).await, expected);
    alice.ping(PATIENCE).await.unwrap();
    let room = fixture
        .store
        .read_room(&"standup".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(room.home_and_members(), (home, 1));
}

trait Look {
    fn home_and_members(&self) -> (String, usize);
}

impl Look for pipemesh_topology::store::RoomSnapshot {
    fn home_and_members(&self) -> (String, usize) {
        (self.room.homes.to_string(), self.members.len())
    }
}

#[tokio::test]
async fn a_token_may_ask_for_a_region() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "us", 1),
    ];
    let fixture = Fixture::start(&[&nodes[0], &nodes[1]]).await;
    for (region, node) in [("eu", "node-a"), ("us", "node-b"), ("mars", "node-a")] {
        let token = livekit_token::AccessToken::with_api_key(KEY, SECRET)
            .with_identity("alice")
            .with_attributes([("pipemesh.region", region)])
            .with_grants(livekit_token::VideoGrants {
                room_join: true,
                room: format!("in-{region}"),
                ..Default::default()
            })
            .to_jwt()
            .unwrap();
        let (_client, joined) = fixture
            .join_with(&token, single(JoinRequest::default()))
            .await;
        assert_eq!(node_of(&joined), node, "{region}");
    }
}

#[tokio::test]
async fn a_node_that_comes_later_is_used() {
    let fixture = Fixture::start(&[]).await;
    let node = FakeNode::start("node-a", "eu", 1);
    fixture
        .registry
        .register(node.record.clone())
        .await
        .unwrap();
    fixture
        .until_metric("pipemesh_signal_nodes_up", &[], |up| up == 1.0)
        .await;
    fixture.join("standup", "alice").await;
}

#[tokio::test]
async fn what_a_join_left_behind_on_a_node_is_closed_when_the_client_gives_up() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (client, _) = fixture.join("standup", "alice").await;
    node.session("alice", "a session", |_| true).await;
    let mut client = client;
    client.leave().await.unwrap();
    node.until("nobody", |node| node.sessions.is_empty().then_some(()))
        .await;
    node.until("closed once", |node| (node.closed.len() == 1).then_some(()))
        .await;
}

/// With a secret every call carries a bearer that a node with the same secret accepts.
#[tokio::test]
async fn a_cluster_secret_travels_as_a_bearer() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.control = Control {
        tls: None,
        key: Some(ClusterKey::new(&[7; 32]).unwrap()),
    };
    let fixture = Fixture::with(config, &[&node]).await;
    fixture.join("standup", "alice").await;
    let bearers = node
        .until("bearers", |node| Some(node.bearers.clone()))
        .await;
    let key = ClusterKey::new(&[7; 32]).unwrap();
    assert!(!bearers.is_empty());
    for bearer in bearers {
        assert_eq!(key.verify(&bearer, std::time::SystemTime::now()), Ok(()));
    }
    let session = node.session("alice", "a session", |_| true).await;
    assert!(
        !session
            .asked
            .iter()
            .any(|asked| matches!(asked, Asked::Close(_)))
    );
}
