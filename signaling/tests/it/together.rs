//! Several people in a room.

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DisconnectReason, JoinRequest, MuteTrackRequest, SubscriptionPermission, TrackPermission,
    UpdateParticipantMetadata, leave_request,
};
use pipemesh_proto::node::CloseReason;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request as Asked;
use pipemesh_proto::node::{Speaker, SpeakersChanged, TrackEnded};

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

#[tokio::test]
async fn two_see_each_other_and_each_others_tracks() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    let track = publish(&mut alice, &node, "alice", "cam").await;

    let (mut bob, join) = fixture.join("standup", "bob").await;
    let [other] = &join.other_participants[..] else {
        panic!("{join:?}");
    };
    assert_eq!(
        (other.identity.as_str(), other.name.as_str()),
        ("alice", "ALICE")
    );
    assert_eq!(other.tracks[0].sid, track);
    assert_eq!(other.tracks[0].mime_type, "video/VP8");
    // Asked for with the join, not after it.
    let session = node
        .session("bob", "a subscription", |bob| bob.subscribed.len() == 1)
        .await;
    let subscribed = &session.subscribed[&track];
    assert_eq!(subscribed.msid_stream, format!("{}|{track}", other.sid));

    let seen = sees(&mut alice, "bob", |info| info.identity == "bob").await;
    assert!(!is_gone(&seen));
    let second = publish(&mut bob, &node, "bob", "cam").await;
    sees(&mut alice, "bob's track", |info| {
        info.tracks.iter().any(|t| t.sid == second)
    })
    .await;
    node.session("alice", "a subscription", |alice| {
        alice.subscribed.contains_key(&second)
    })
    .await;

    node.says(
        "bob",
        Event::TrackEnded(TrackEnded {
            track_id: second.clone(),
        }),
    )
    .await;
    sees(&mut alice, "no track", |info| {
        info.identity == "bob" && info.tracks.is_empty()
    })
    .await;
    bob.leave().await.unwrap();
    bob.closed(PATIENCE).await.unwrap();
    sees(&mut alice, "bob gone", |info| {
        info.identity == "bob" && is_gone(info)
    })
    .await;
    let closed = ("bob".to_owned(), CloseReason::Left);
    node.until("bob closed", |node| {
        node.closed.contains(&closed).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rooms_do_not_see_each_other() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("one", "alice").await;
    let (_bob, join) = fixture.join("two", "bob").await;
    assert!(join.other_participants.is_empty());
    let (_carol, join) = fixture.join("one", "carol").await;
    assert_eq!(join.other_participants.len(), 1);
    let seen = sees(&mut alice, "somebody", |info| info.identity != "alice").await;
    assert_eq!(seen.identity, "carol");
}

#[tokio::test]
async fn mute_is_seen_by_others_and_done_by_the_node() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    let muted = |muted| {
        let track = track.clone();
        move |info: &livekit_protocol::ParticipantInfo| {
            info.tracks
                .iter()
                .any(|one| one.sid == track && one.muted == muted)
        }
    };
    sees(&mut bob, "a track", muted(false)).await;
    for mute in [true, false] {
        let request = MuteTrackRequest {
            sid: track.clone(),
            muted: mute,
        };
        alice.send(Request::Mute(request)).await.unwrap();
        sees(&mut bob, "the mute", muted(mute)).await;
        node.session("alice", "the mute", |session| {
            let last = session.asked.iter().rev().find_map(|asked| match asked {
                Asked::MuteTrack(asked) => Some(asked.muted),
                _ => None,
            });
            last == Some(mute)
        })
        .await;
    }
}

#[tokio::test]
async fn a_publisher_decides_who_receives_its_tracks() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let track = publish(&mut alice, &node, "alice", "cam").await;
    node.session("bob", "a subscription", |bob| bob.subscribed.len() == 1)
        .await;
    let permission = |all_participants| {
        Request::SubscriptionPermission(SubscriptionPermission {
            all_participants,
            track_permissions: vec![TrackPermission {
                participant_identity: "carol".to_owned(),
                all_tracks: true,
                ..Default::default()
            }],
        })
    };
    let allowed = |message: &Response| match message {
        Response::SubscriptionPermissionUpdate(update) => {
            assert_eq!(update.track_sid, track);
            Some(update.allowed)
        }
        _ => None,
    };
    alice.send(permission(false)).await.unwrap();
    assert!(!bob.wait_for("a refusal", PATIENCE, allowed).await.unwrap());
    node.session("bob", "no subscription", |bob| bob.subscribed.is_empty())
        .await;
    let (_carol, _) = fixture.join("standup", "carol").await;
    node.session("carol", "a subscription", |carol| {
        carol.subscribed.len() == 1
    })
    .await;
    alice.send(permission(true)).await.unwrap();
    assert!(bob.wait_for("permission", PATIENCE, allowed).await.unwrap());
    node.session("bob", "a subscription", |bob| bob.subscribed.len() == 1)
        .await;
}

#[tokio::test]
async fn a_second_client_of_an_identity_replaces_the_first() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let (mut first, join) = fixture.join("standup", "alice").await;
    let first_sid = join.participant.unwrap().sid;
    let (mut second, join) = fixture.join("standup", "alice").await;
    let second_sid = join.participant.unwrap().sid;
    assert_ne!(first_sid, second_sid);
    let others: Vec<&str> = join
        .other_participants
        .iter()
        .map(|info| info.identity.as_str())
        .collect();
    assert_eq!(others, ["bob"]);
    let leave = first
        .wait_for("leave", PATIENCE, |message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.action(), leave_request::Action::Disconnect);
    first.closed(PATIENCE).await.unwrap();
    sees(&mut bob, "the second", |info| {
        info.sid == second_sid && !is_gone(info)
    })
    .await;
    second.ping(PATIENCE).await.unwrap();
    let closed = ("alice".to_owned(), CloseReason::Replaced);
    node.until("the first closed", |node| {
        node.closed.contains(&closed).then_some(())
    })
    .await;
    assert_eq!(fixture.metric("pipemesh_signal_sessions", &[]), 2.0);
}

#[tokio::test]
async fn what_people_say_of_themselves_is_told() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let update = UpdateParticipantMetadata {
        name: "Alice".to_owned(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        request_id: 9,
        ..Default::default()
    };
    alice.send(Request::UpdateMetadata(update)).await.unwrap();
    let seen = sees(&mut bob, "a raised hand", |info| {
        info.attributes.contains_key("hand")
    })
    .await;
    assert_eq!(seen.name, "Alice");
    sees(&mut alice, "its own hand", |info| {
        info.attributes.contains_key("hand")
    })
    .await;
    let answered = |message: &Response| match message {
        Response::RequestResponse(response) => Some(response.request_id),
        _ => None,
    };
    assert_eq!(
        alice
            .wait_for("an answer", PATIENCE, answered)
            .await
            .unwrap(),
        9
    );
}

#[tokio::test]
async fn speakers_are_told_to_who_knows_them() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (_alice, join) = fixture.join("standup", "alice").await;
    let alice = join.participant.unwrap().sid;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let speaker = Speaker {
        participant_id: alice.clone(),
        level: 0.7,
        active: true,
    };
    let speakers = vec![speaker];
    node.says("bob", Event::SpeakersChanged(SpeakersChanged { speakers }))
        .await;
    let spoke = |message: &Response| match message {
        Response::SpeakersChanged(changed) => Some(changed.speakers[0].sid.clone()),
        _ => None,
    };
    assert_eq!(
        bob.wait_for("a speaker", PATIENCE, spoke).await.unwrap(),
        alice
    );
}

#[tokio::test]
async fn a_room_ends_with_its_last_participant_and_begins_anew() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.rooms.departure = std::time::Duration::ZERO;
    let fixture = Fixture::with(config, &[&node]).await;
    let (mut alice, first) = fixture.join("standup", "alice").await;
    let mut watch = fixture
        .store
        .watch(&"standup".parse().unwrap())
        .await
        .unwrap();
    alice.leave().await.unwrap();
    let ended = async {
        while watch.next().await.unwrap().unwrap().change != pipemesh_topology::store::Change::Ended
        {
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let (_alice, second) = fixture.join("standup", "alice").await;
    assert_ne!(first.room.unwrap().sid, second.room.unwrap().sid);
}

#[tokio::test]
async fn many_join_at_once() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let tokens: Vec<String> = (0..50)
        .map(|i| token("standup", &format!("person-{i}")))
        .collect();
    let joins = tokens.iter().map(|token| async {
        fixture
            .join_with(token, single(JoinRequest::default()))
            .await
    });
    let joined = futures_util::future::join_all(joins).await;
    let mut clients: Vec<_> = joined.into_iter().map(|(client, _)| client).collect();
    // Whoever was first hears of everybody, in few messages.
    let (mut known, mut updates) = (std::collections::BTreeSet::new(), 0);
    let (mut last, join) = fixture.join("standup", "last").await;
    assert_eq!(join.other_participants.len(), 50);
    while !known.contains("last") {
        match clients[0].next(PATIENCE).await.unwrap() {
            Response::Update(update) => {
                updates += 1;
                known.extend(update.participants.into_iter().map(|info| info.identity));
            }
            _ => continue,
        }
    }
    assert!(updates < 50, "{updates} updates");
    last.ping(PATIENCE).await.unwrap();
}
