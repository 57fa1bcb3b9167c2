//! Clients that lose their socket.

use std::time::Duration;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DisconnectReason, JoinRequest, MuteTrackRequest, SyncState, TrackInfo, TrackPublishedResponse,
    leave_request,
};
use pipemesh_loadtest_client::signal::SignalClient;
use pipemesh_loadtest_client::url::Dialect;
use pipemesh_proto::node::session_request::Request as Asked;

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
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
}

#[tokio::test]
async fn a_session_outlives_its_socket() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (mut alice, join) = fixture.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    let (carol, _) = fixture.join("standup", "carol").await;
    sees(&mut alice, "carol", |info| info.identity == "carol").await;
    // The socket just breaks.
    drop(alice);
    fixture
        .until_metric("pipemesh_signal_connections", &[], |open| open == 2.0)
        .await;
    let second = publish(&mut bob, &node, "bob", "cam").await;
    node.session("alice", "a subscription", |alice| {
        alice.subscribed.contains_key(&second)
    })
    .await;
    carol.close().await.unwrap();

    let mut alice = fixture.resume("standup", "alice", &sid).await;
    alice.resumed(PATIENCE).await.unwrap();
    let Response::Update(update) = alice.next(PATIENCE).await.unwrap() else {
        panic!("the whole room comes next");
    };
    let me = update
        .participants
        .iter()
        .find(|info| info.sid == sid)
        .expect("itself included");
    assert_eq!(me.tracks[0].sid, track);
    let of_bob = update
        .participants
        .iter()
        .find(|info| info.identity == "bob")
        .unwrap();
    assert_eq!(of_bob.tracks[0].sid, second);
    let Response::RoomUpdate(_) = alice.next(PATIENCE).await.unwrap() else {
        panic!("and the room itself");
    };
    let session = node.session("alice", "one session", |_| true).await;
    assert_eq!(session.attached, 1, "the node noticed nothing");
    alice.ping(PATIENCE).await.unwrap();
    let state = |track: &str| SyncState {
        publish_tracks: vec![TrackPublishedResponse {
            cid: "cam".to_owned(),
            track: Some(TrackInfo {
                sid: track.to_owned(),
                ..Default::default()
            }),
        }],
        ..Default::default()
    };
    alice.send(Request::SyncState(state(&track))).await.unwrap();
    alice.ping(PATIENCE).await.unwrap();
    alice
        .send(Request::SyncState(state("TR_unknown")))
        .await
        .unwrap();
    told_to_rejoin(&mut alice).await;
}

#[tokio::test]
async fn nobody_else_notices_a_resume() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (alice, join) = fixture.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    drop(alice);
    fixture
        .until_metric("pipemesh_signal_connections", &[], |open| open == 1.0)
        .await;
    let mut alice = fixture.resume("standup", "alice", &sid).await;
    alice.resumed(PATIENCE).await.unwrap();
    alice.ping(PATIENCE).await.unwrap();
    bob.ping(PATIENCE).await.unwrap();
    let gone = bob.wait_for("a leave", A_MOMENT, |message| match message {
        Response::Update(update) => update.participants.iter().any(is_gone).then_some(()),
        _ => None,
    });
    assert!(gone.await.is_err(), "alice never left");
}

#[tokio::test]
async fn the_older_path_resumes_with_query_parameters() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (client, join) = fixture.join_with(&token("standup", "alice"), dual()).await;
    let sid = join.participant.unwrap().sid;
    drop(client);
    let parameters = [
        ("sdk", "android"),
        ("protocol", "13"),
        ("reconnect", "1"),
        ("sid", &sid),
    ];
    let connect = fixture.connect(&token("standup", "alice"), Dialect::dual(parameters));
    let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
    client.resumed(PATIENCE).await.unwrap();
    // The connection on which the node offers is restarted by the node.
    let offered = |message: &Response| match message {
        Response::Offer(offer) => Some(offer.sdp.clone()),
        _ => None,
    };
    assert_eq!(
        client.wait_for("offer", PATIENCE, offered).await.unwrap(),
        "restarted"
    );
    node.session("alice", "a restart", |session| {
        session
            .asked
            .iter()
            .any(|asked| matches!(asked, Asked::RestartIce(_)))
    })
    .await;
}

#[tokio::test]
async fn who_is_not_known_has_to_join_anew() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let mut nobody = fixture.resume("standup", "nobody", "PA_x").await;
    told_to_rejoin(&mut nobody).await;
    let (_alice, _) = fixture.join("standup", "alice").await;
    // The identity is there, but it is somebody else.
    let mut other = fixture.resume("standup", "alice", "PA_other").await;
    told_to_rejoin(&mut other).await;
    let unknown = [("result", "state_mismatch")];
    assert_eq!(fixture.metric("pipemesh_joins_total", &unknown), 2.0);
}

#[tokio::test]
async fn a_client_whose_old_socket_still_seems_open_resumes_too() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut old, join) = fixture.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    let mut new = fixture.resume("standup", "alice", &sid).await;
    new.resumed(PATIENCE).await.unwrap();
    old.closed(PATIENCE).await.unwrap();
    new.ping(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn who_joins_anew_after_losing_the_socket_is_who_they_were() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (mut alice, join) = fixture.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    sees(&mut bob, "alice's track", |info| !info.tracks.is_empty()).await;
    drop(alice);
    fixture
        .until_metric("pipemesh_signal_connections", &[], |open| open == 1.0)
        .await;
    let (mut alice, join) = fixture.join("standup", "alice").await;
    let me = join.participant.unwrap();
    assert_eq!(me.sid, sid);
    assert!(me.tracks.is_empty());
    let again = publish(&mut alice, &node, "alice", "cam").await;
    assert_eq!(again, track, "the same media under the same id");
    node.session("bob", "the new track", |bob| {
        bob.subscribed.contains_key(&track)
    })
    .await;
    let gone = bob.wait_for("a leave", A_MOMENT, |message| match message {
        Response::Update(update) => update.participants.iter().any(is_gone).then_some(()),
        _ => None,
    });
    assert!(gone.await.is_err(), "alice never left");
}

#[tokio::test]
async fn who_does_not_come_back_is_gone() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.resume_grace = Duration::from_millis(200);
    let fixture = Fixture::with(config, &[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (alice, _) = fixture.join("standup", "alice").await;
    drop(alice);
    sees(&mut bob, "alice gone", |info| {
        info.identity == "alice" && is_gone(info)
    })
    .await;
    let (_again, join) = fixture
        .join_with(&token("standup", "carol"), single(JoinRequest::default()))
        .await;
    assert_eq!(join.other_participants.len(), 1);
}

/// It was frozen meanwhile, and hears of it from the node first.
#[tokio::test]
async fn who_has_lost_a_session_learns_it_from_the_node_and_lets_go() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (mut alice, join) = fixture.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    sees(&mut bob, "alice's track", |info| !info.tracks.is_empty()).await;
    let stored = async || {
        let room = fixture.store.read_room(&"standup".parse().unwrap()).await;
        let members = room.unwrap().expect("it is open").members;
        let alice = members
            .into_iter()
            .find(|it| it.identity.as_str() == "alice");
        alice.expect("she is in it")
    };
    let before = stored().await;
    node.is_taken_over("alice");
    node.break_streams();
    alice.closed(PATIENCE).await.unwrap();
    let taken_over = [("reason", "taken_over")];
    fixture
        .until_metric("pipemesh_signal_sessions_ended_total", &taken_over, |it| {
            it == 1.0
        })
        .await;
    assert_eq!(stored().await, before, "the record is theirs");
    let closed = node.until("a session", |node| Some(node.closed.clone()));
    assert_eq!(closed.await, []);
    let bobs = node
        .session("bob", "a second stream", |session| session.attached == 2)
        .await;
    assert!(bobs.subscribed.contains_key(&track));
    bob.ping(PATIENCE).await.unwrap();
    let gone = bob.wait_for("a leave", A_MOMENT, |message| match message {
        Response::Update(update) => update.participants.iter().any(is_gone).then_some(()),
        _ => None,
    });
    assert!(gone.await.is_err(), "alice never left");

    // And back: whoever claims the session later has it.
    let mut alice = fixture.resume("standup", "alice", &sid).await;
    alice.resumed(PATIENCE).await.unwrap();
    let alices = node.session("alice", "a stream", |alice| alice.attached == 2);
    let opened = alices.await;
    assert!(opened.claim > opened.open.claim + 1, "{opened:?}");
}

#[tokio::test]
async fn another_process_takes_over_by_a_resume_or_a_new_join() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut first = Fixture::start(&[&node]).await;
    let second = Fixture::sharing(config(), first.registry.clone(), first.store.clone()).await;
    let (mut bob, _) = second.join("standup", "bob").await;
    let (mut alice, join) = first.join("standup", "alice").await;
    let sid = join.participant.unwrap().sid;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    sees(&mut bob, "alice's track", |info| {
        info.tracks.iter().any(|one| one.sid == track)
    })
    .await;
    first.signaling.take().unwrap().stop().await;
    let leave = alice
        .wait_for("leave", PATIENCE, |message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(leave.action(), leave_request::Action::Resume);
    let mut alice = second.resume("standup", "alice", &sid).await;
    alice.resumed(PATIENCE).await.unwrap();
    alice.ping(PATIENCE).await.unwrap();
    let taken_over = [("result", "taken_over")];
    assert_eq!(second.metric("pipemesh_joins_total", &taken_over), 1.0);
    // The other one knows its tracks, and who it is if it cannot resume.
    let mute = MuteTrackRequest {
        sid: track.clone(),
        muted: true,
    };
    alice.send(Request::Mute(mute)).await.unwrap();
    sees(&mut bob, "alice's mute", |info| {
        info.tracks.iter().any(|one| one.sid == track && one.muted)
    })
    .await;
    drop(alice);
    second
        .until_metric("pipemesh_signal_connections", &[], |open| open == 1.0)
        .await;
    let (mut alice, join) = second.join("standup", "alice").await;
    assert_eq!(join.participant.unwrap().sid, sid);
    assert_eq!(publish(&mut alice, &node, "alice", "cam").await, track);
}
