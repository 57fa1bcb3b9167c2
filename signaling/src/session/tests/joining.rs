//! A join, and what makes it fail.

use expect_test::expect_file;
use livekit_protocol::signal_request::Message as FromClient;
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use super::bench::*;
use super::prelude::*;

#[test]
fn everything_is_asked_before_anything_is_answered() {
    let mut bench = Bench::opening(Setup {
        add_tracks: vec![add_track("cam"), add_track("screen")],
        offer: Some(offer(1)),
        others: vec![("bob", record("bob", 1, &["TR_bob"]))],
        ..Setup::default()
    });
    assert_eq!(
        bench.asked(),
        ["open", "add TR_1", "add TR_2", "offer", "subscribe TR_bob"]
    );
    bench.opened();
    for _ in 0..2 {
        bench.answer(Event::Done(contract::Done {}));
    }
    bench.answer(Event::AnswerCreated(contract::AnswerCreated {
        sdp: "answer".to_owned(),
        offer_id: 1,
        mid_to_track: Default::default(),
    }));
    // The answer came before the socket; it follows the join.
    bench.attach(None);
    assert_eq!(
        bench.heard_names(),
        ["join", "track_published", "track_published", "answer"]
    );
    assert_eq!(bench.tokens, 1);
}

#[test]
fn the_join_answer_says_what_sdks_look_at() {
    let mut bench = Bench::opening(Setup {
        others: vec![
            ("bob", record("bob", 3, &["TR_bob"])),
            ("carol", record("carol", 1, &[])),
        ],
        ..Setup::default()
    });
    bench.opened();
    bench.attach(None);
    let Message::Join(join) = &bench.heard[0] else {
        panic!("{:?}", bench.heard[0]);
    };
    let json = serde_json::to_value(join).unwrap();
    let json = serde_json::to_string_pretty(&json).unwrap() + "\n";
    expect_file!["../../../tests/golden/join_response.json"].assert_eq(&json);
}

#[test]
fn two_connections_are_negotiated_from_both_sides() {
    let mut bench = Bench::opening(Setup {
        layout: ConnectionLayout::Dual,
        ..Setup::default()
    });
    bench.opened();
    let created = |id| {
        Event::OfferCreated(contract::OfferCreated {
            sdp: "offer".to_owned(),
            offer_id: id,
            mid_to_track: Default::default(),
        })
    };
    bench.event(created(1));
    bench.attach(None);
    let Message::Join(join) = &bench.heard[0] else {
        panic!("{:?}", bench.heard[0]);
    };
    assert!(join.subscriber_primary && join.fast_publish);
    assert_eq!(bench.heard_names(), ["join", "offer"]);
    bench.asked();
    let answer = |id| {
        FromClient::Answer(SessionDescription {
            r#type: "answer".to_owned(),
            sdp: "answer".to_owned(),
            id,
            ..Default::default()
        })
    };
    bench.says(answer(1));
    assert_eq!(bench.asked(), ["answer"]);
    bench.says(answer(1));
    assert!(bench.asked().is_empty(), "one answer per offer");
    bench.event(created(2));
    bench.says(answer(1));
    assert!(bench.asked().is_empty(), "overtaken");
    bench.says(answer(0));
    assert_eq!(
        bench.asked(),
        ["answer"],
        "older SDKs do not echo the number"
    );
}

#[test]
fn a_client_that_may_not_subscribe_is_not_led_by_the_other_connection() {
    let check = |subscribe, protocol, expected| {
        let mut bench = Bench::opening(Setup {
            layout: ConnectionLayout::Dual,
            protocol,
            rights: Rights {
                subscribe,
                ..Setup::default().rights
            },
            ..Setup::default()
        });
        bench.opened();
        bench.attach(None);
        let Message::Join(join) = &bench.heard[0] else {
            panic!()
        };
        assert_eq!(join.subscriber_primary, expected);
        assert!(!join.fast_publish || join.participant.as_ref().unwrap().sid == "PA_me");
    };
    check(true, 17, true);
    check(false, 17, false);
    check(true, 2, false);
}

#[test]
fn others_see_somebody_who_is_in_and_not_before() {
    let mut bench = Bench::opening(Setup::default());
    assert!(!bench.me().is_visible());
    bench.opened();
    assert!(bench.me().is_visible());
    assert_eq!(bench.me().info.state(), State::Joined);
    bench.attach(None);
    bench.connection(
        ConnectionRole::Publisher,
        contract::ConnectionState::Connected,
    );
    assert_eq!(bench.me().info.state(), State::Active);
}

#[test]
fn a_slow_node_is_waited_for_and_a_slow_client_only_for_a_while() {
    let mut bench = Bench::opening(Setup::default());
    bench.passes(seconds(3600));
    assert_eq!(
        bench.ended, None,
        "the join decides how long a node may take"
    );
    bench.opened();
    bench.passes(FIRST_SOCKET - Duration::from_millis(1));
    assert_eq!(bench.ended, None);
    bench.passes(Duration::from_millis(1));
    let left = End {
        close: Some(CloseReason::Left),
        record: Fate::Remove,
    };
    assert_eq!(bench.ended, Some(left));
}

#[test]
fn whoever_gets_no_media_is_removed() {
    let mut bench = Bench::joined(Setup::default());
    bench.passes(CONNECT_LIMIT);
    let Some(Message::Leave(leave)) = bench.heard.last() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(leave.reason(), DisconnectReason::JoinFailure);
    assert!(bench.socket_closed && bench.ended.is_some());

    let mut bench = Bench::connected(Setup::default());
    bench.passes(CONNECT_LIMIT);
    assert_eq!(bench.ended, None);
}

#[test]
fn whose_media_breaks_may_restore_it() {
    let mut bench = Bench::connected(Setup::default());
    bench.connection(ConnectionRole::Publisher, contract::ConnectionState::Failed);
    bench.passes(MEDIA_GRACE - seconds(1));
    bench.connection(
        ConnectionRole::Publisher,
        contract::ConnectionState::Connected,
    );
    bench.passes(seconds(60));
    assert_eq!(bench.ended, None);
    bench.connection(ConnectionRole::Publisher, contract::ConnectionState::Failed);
    bench.passes(MEDIA_GRACE);
    let leave = bench.heard.iter().find_map(|message| match message {
        Message::Leave(leave) => Some(leave.reason()),
        _ => None,
    });
    assert_eq!(leave, Some(DisconnectReason::ConnectionTimeout));
}

#[test]
fn a_client_has_no_say_before_it_is_in() {
    let mut bench = Bench::opening(Setup::default());
    bench.asked();
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.says(FromClient::Leave(Default::default()));
    assert!(bench.asked().is_empty());
    assert_eq!(bench.ended, None);
}

#[test]
fn a_refused_open_ends_the_session_without_a_trace() {
    let mut bench = Bench::opening(Setup::default());
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::NodeDraining.into(),
        message: String::new(),
    }));
    let end = End {
        close: None,
        record: Fate::Remove,
    };
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn a_room_that_moves_during_the_join_takes_the_client_along() {
    let mut bench = Bench::opening(Setup::default());
    bench
        .world
        .apply(pipemesh_topology::store::Change::RoomUpdated(stored_room(
            "node-b",
        )));
    bench.room_changed();
    bench.opened();
    bench.attach(None);
    // SDKs take nothing but a join for a first message.
    assert_eq!(bench.heard_names(), ["join", "leave"]);
}

#[test]
fn pings_are_answered_in_unix_milliseconds() {
    let mut bench = Bench::joined(Setup::default());
    bench.passes(Duration::from_millis(1500));
    bench.heard.clear();
    bench.says(FromClient::Ping(7));
    bench.says(FromClient::PingReq(livekit_protocol::Ping {
        timestamp: 42,
        rtt: 3,
    }));
    let pong = livekit_protocol::Pong {
        last_ping_timestamp: 42,
        timestamp: 1_700_000_001_500,
    };
    assert_eq!(
        bench.heard,
        [Message::Pong(1_700_000_001_500), Message::PongResp(pong)]
    );
}

/// A client that hears nothing for 15 s takes its connection to be lost, whatever else is the matter.
#[test]
fn a_ping_is_answered_in_every_state() {
    let check = |state: &str, bench: &mut Bench| {
        bench.heard.clear();
        bench.says(FromClient::Ping(1));
        let ping = livekit_protocol::Ping::default();
        bench.says(FromClient::PingReq(ping));
        assert_eq!(bench.heard_names(), ["pong", "pong"], "{state}");
    };
    let closed = |reason: contract::CloseReason| {
        Event::Closed(contract::Closed {
            reason: reason.into(),
            message: String::new(),
        })
    };
    let mut bench = Bench::joined(Setup::default());
    check("without media", &mut bench);
    let mut bench = Bench::connected(Setup::default());
    check("with media", &mut bench);
    bench.session.handle_node_broken();
    bench.drain();
    check("while the node is not reached", &mut bench);

    let mut bench = Bench::connected(Setup::default());
    bench.store_works = false;
    bench.says(FromClient::AddTrack(add_track("cam")));
    check("while the store is away", &mut bench);

    let mut bench = Bench::connected(Setup::default());
    bench.detach();
    bench.attach(Some(Resume::default()));
    check("on a second socket", &mut bench);

    let mut bench = Bench::connected(Setup::default());
    bench.event(closed(contract::CloseReason::TakenOver));
    check("held by another process", &mut bench);
    let mut bench = Bench::connected(Setup::default());
    bench.event(closed(contract::CloseReason::NodeStopping));
    check("told to come back", &mut bench);
    bench.detach();
    bench.attach(Some(Resume::default()));
    check("come back to where nobody waits", &mut bench);
}

#[test]
fn tokens_stay_fresh_while_somebody_holds_them() {
    let mut bench = Bench::connected(Setup::default());
    bench.passes(seconds(901));
    assert_eq!(bench.tokens, 4);
    bench.detach();
    bench.passes(seconds(10));
    assert_eq!(bench.tokens, 4);
}
