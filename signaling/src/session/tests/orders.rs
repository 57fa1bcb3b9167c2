//! What the server API has done to somebody.

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::{
    MuteRoomTrackRequest, ParticipantPermission, TrackSource, UpdateParticipantRequest,
    UpdateSubscriptionsRequest,
};

use super::bench::*;
use super::prelude::*;
use crate::orders::{Answer, Data, Leave, Outcome, What};

fn order(bench: &mut Bench, what: What) -> Answer {
    let answer = bench.session.handle_order(what, bench.now);
    bench.drain();
    answer
}

fn publishing() -> Bench {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.asked();
    bench.heard.clear();
    bench
}

fn told_to_leave(bench: &Bench) -> Option<(DisconnectReason, Action)> {
    bench.heard.iter().find_map(|message| match message {
        Message::Leave(leave) => Some((leave.reason(), leave.action())),
        _ => None,
    })
}

#[test]
fn whoever_is_removed_is_told_why_and_leaves_nothing() {
    for (room_deleted, reason, close) in [
        (
            false,
            DisconnectReason::ParticipantRemoved,
            CloseReason::Removed,
        ),
        (true, DisconnectReason::RoomDeleted, CloseReason::RoomEnded),
    ] {
        let mut bench = Bench::connected(Setup::default());
        bench.heard.clear();
        let answer = order(&mut bench, What::Leave(Leave { room_deleted }));
        assert_eq!(answer.outcome(), Outcome::Done);
        assert_eq!(told_to_leave(&bench), Some((reason, Action::Disconnect)));
        let end = End {
            close: Some(close),
            record: Fate::Remove,
        };
        assert_eq!(bench.ended, Some(end));
        let again = order(&mut bench, What::Leave(Leave { room_deleted }));
        assert_eq!(again.outcome(), Outcome::NobodyHere);
    }
}

#[test]
fn a_track_is_muted_for_everybody_and_its_publisher_is_told() {
    let mut bench = publishing();
    let mute = |track_sid: &str| {
        What::Mute(MuteRoomTrackRequest {
            track_sid: track_sid.to_owned(),
            muted: true,
            ..Default::default()
        })
    };
    let answer = order(&mut bench, mute("TR_1"));
    assert_eq!(answer.outcome(), Outcome::Done);
    assert!(answer.track.unwrap().muted);
    assert_eq!(bench.asked(), ["mute TR_1 true"]);
    assert!(bench.me().info.tracks[0].muted);
    let told = |message: &Message| matches!(message, Message::Mute(mute) if mute.sid == "TR_1" && mute.muted);
    assert!(bench.heard.iter().any(told), "{:?}", bench.heard);
    assert_eq!(order(&mut bench, mute("TR_2")).outcome(), Outcome::NoTrack);
    assert!(bench.asked().is_empty());
}

#[test]
fn an_update_changes_what_it_names_whatever_the_token_allows() {
    let mut bench = Bench::connected(Setup {
        rights: Rights {
            update_own_metadata: false,
            ..Setup::default().rights
        },
        ..Setup::default()
    });
    let tokens = bench.tokens;
    let update = UpdateParticipantRequest {
        name: "Alice".to_owned(),
        attributes: [("role".to_owned(), "host".to_owned())].into(),
        ..Default::default()
    };
    let answer = order(&mut bench, What::Update(update));
    let info = answer.info.unwrap();
    assert_eq!(info.name, "Alice");
    assert_eq!(bench.me().info, info);
    assert_eq!(info.attributes["role"], "host");
    assert_eq!(bench.tokens, tokens + 1);

    let update = UpdateParticipantRequest {
        metadata: "x".repeat((512 << 10) + 1),
        attributes: [("role".to_owned(), String::new())].into(),
        ..Default::default()
    };
    let answer = order(&mut bench, What::Update(update));
    assert_eq!(answer.outcome(), Outcome::Invalid);
    assert_eq!(bench.me().info, info, "all of it or nothing");
}

#[test]
fn what_is_not_permitted_any_more_ends_at_once() {
    let mut bench = Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &["TR_b"]))],
        ..Setup::default()
    });
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    assert!(bench.node.subscribed.contains_key("TR_b"));
    bench.asked();
    bench.heard.clear();
    let permit = |publish, subscribe| {
        What::Update(UpdateParticipantRequest {
            permission: Some(ParticipantPermission {
                can_publish: publish,
                can_publish_sources: vec![TrackSource::Microphone.into()],
                can_subscribe: subscribe,
                ..Default::default()
            }),
            ..Default::default()
        })
    };
    order(&mut bench, permit(true, false));
    let asked = bench.asked();
    assert_eq!(
        asked,
        ["remove TR_1", "unsubscribe TR_b", "configure false"]
    );
    assert!(bench.me().info.tracks.is_empty());
    let permission = bench.me().info.permission.clone().unwrap();
    assert!(permission.can_publish && !permission.can_subscribe && !permission.can_publish_data);
    let names = bench.heard_names();
    assert!(names.contains(&"track_unpublished"), "{names:?}");

    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(
        bench.asked(),
        Vec::<String>::new(),
        "a camera is not allowed"
    );
    order(&mut bench, permit(true, true));
    assert_eq!(bench.asked(), ["subscribe TR_b"]);
}

#[test]
fn subscriptions_and_data_go_to_the_node() {
    let mut bench = Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &["TR_b"]))],
        ..Setup::default()
    });
    bench.asked();
    let update = |subscribe| {
        What::Subscriptions(UpdateSubscriptionsRequest {
            track_sids: vec!["TR_b".to_owned()],
            subscribe,
            ..Default::default()
        })
    };
    order(&mut bench, update(false));
    assert_eq!(bench.asked(), ["unsubscribe TR_b"]);
    order(&mut bench, update(true));
    assert_eq!(bench.asked(), ["subscribe TR_b"]);
    let data = Data {
        packet: vec![1, 2, 3],
        reliable: true,
    };
    assert_eq!(order(&mut bench, What::Data(data)).outcome(), Outcome::Done);
    assert_eq!(bench.asked(), ["send 3 true"]);
}

#[test]
fn whoever_is_about_to_join_anew_is_removed_and_not_changed() {
    let mut bench = publishing();
    bench.session.handle_node_lost(bench.now);
    bench.drain();
    let update = UpdateParticipantRequest::default();
    let answer = order(&mut bench, What::Update(update));
    assert_eq!(answer.outcome(), Outcome::Absent);
    let answer = order(&mut bench, What::Leave(Leave::default()));
    assert_eq!(answer.outcome(), Outcome::Done);
    assert_eq!(bench.ended.as_ref().unwrap().record, Fate::Remove);
}
