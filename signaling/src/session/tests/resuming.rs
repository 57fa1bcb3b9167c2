//! Sockets that come and go, nodes that break, clients that have to join anew.

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{
    MuteTrackRequest, SimulateScenario, SyncState, TrackInfo, TrackPublishedResponse,
    UpdateSubscription,
};
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use super::bench::*;
use super::prelude::*;
use super::publishing::{demand, wanted};

pub(super) fn resume() -> Option<Resume> {
    Some(Resume {
        participant_sid: "PA_me".to_owned(),
        sync_state: None,
    })
}

pub(super) fn sync_state(
    published: &[&str],
    unsubscribed: &[&str],
    disabled: &[&str],
) -> SyncState {
    let own = |tracks: &[&str]| tracks.iter().map(|track| (*track).to_owned()).collect();
    SyncState {
        publish_tracks: published
            .iter()
            .map(|sid| TrackPublishedResponse {
                cid: String::new(),
                track: Some(TrackInfo {
                    sid: (*sid).to_owned(),
                    ..Default::default()
                }),
            })
            .collect(),
        subscription: Some(UpdateSubscription {
            track_sids: own(unsubscribed),
            subscribe: false,
            ..Default::default()
        }),
        track_sids_disabled: own(disabled),
        ..Default::default()
    }
}

pub(super) fn leave(bench: &Bench) -> Option<(Action, DisconnectReason)> {
    bench.heard.iter().find_map(|message| match message {
        Message::Leave(leave) => Some((leave.action(), leave.reason())),
        _ => None,
    })
}

/// Carol has left, Bob and Dave are there.
pub(super) fn is_told_everything(bench: &mut Bench) {
    let Message::Update(update) = &bench.heard[1] else {
        panic!("{:?}", bench.heard[1]);
    };
    let expected = [
        ("PA_carol", false),
        ("PA_bob", true),
        ("PA_dave", true),
        ("PA_me", true),
    ];
    assert_eq!(
        shown(update),
        expected.map(|(sid, there)| (sid.to_owned(), there))
    );
    assert_eq!(bench.heard_names(), ["reconnect", "update", "room_update"]);
}

#[test]
fn a_client_that_comes_back_is_told_everything() {
    let mut bench = Bench::connected(Setup {
        others: vec![
            ("bob", record("bob", 1, &["TR_bob"])),
            ("carol", record("carol", 1, &[])),
        ],
        ..Setup::default()
    });
    bench.detach();
    assert_eq!(bench.me().presence, Presence::Away);
    bench.leaves("carol");
    bench.puts("dave", &record("dave", 1, &["TR_dave"]));
    assert_eq!(bench.asked(), ["subscribe TR_dave"], "media goes on");
    bench.passes(seconds(10));
    bench.attach(resume());
    assert_eq!(bench.me().presence, Presence::Here);
    let Message::Reconnect(reconnect) = &bench.heard[0] else {
        panic!("{:?}", bench.heard[0]);
    };
    assert_eq!(reconnect.ice_servers.len(), 1);
    is_told_everything(&mut bench);
    assert!(
        bench.asked().is_empty(),
        "one connection is restarted by the client"
    );
}

#[test]
fn who_left_just_before_the_socket_broke_is_told_again() {
    let mut bench = Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &[]))],
        ..Setup::default()
    });
    bench.passes(seconds(1));
    bench.leaves("bob");
    assert_eq!(bench.updates().len(), 1, "perhaps nobody heard it");
    bench.detach();
    bench.attach(resume());
    let Message::Update(update) = &bench.heard[1] else {
        panic!("{:?}", bench.heard[1]);
    };
    assert_eq!(shown(update)[0], ("PA_bob".to_owned(), false));
    // Who is back under the same identity must not be taken away by it.
    bench.puts("bob", &record("bob", 2, &[]));
    bench.detach();
    bench.heard.clear();
    bench.attach(resume());
    let Message::Update(update) = &bench.heard[1] else {
        panic!("{:?}", bench.heard[1]);
    };
    assert_eq!(shown(update)[0], ("PA_bob".to_owned(), true));
}

#[test]
fn the_connection_on_which_the_node_offers_is_restarted_by_the_node() {
    let mut bench = Bench::connected(Setup {
        layout: ConnectionLayout::Dual,
        ..Setup::default()
    });
    bench.all_done();
    bench.detach();
    bench.attach(resume());
    assert_eq!(bench.asked(), ["restart_ice"]);
    // Nothing to restart: the offer that the client never saw has to do.
    bench.detach();
    bench.event(Event::OfferCreated(contract::OfferCreated {
        sdp: "offer".to_owned(),
        offer_id: 1,
        mid_to_track: Default::default(),
    }));
    bench.attach(resume());
    bench.answer(Event::Done(contract::Done {}));
    bench.heard.clear();
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::ConnectionState.into(),
        message: String::new(),
    }));
    assert_eq!(bench.heard_names(), ["offer"]);
}

#[test]
fn sections_that_are_still_needed_are_asked_for_again() {
    let mut bench = Bench::connected(Setup::default());
    bench.detach();
    bench.event(Event::SectionsNeeded(contract::SectionsNeeded {
        audio: 1,
        video: 0,
    }));
    bench.attach(resume());
    assert!(bench.heard_names().contains(&"media_sections_requirement"));
    bench.says(FromClient::Offer(offer(5)));
    bench.detach();
    bench.attach(resume());
    assert!(
        !bench.heard_names().contains(&"media_sections_requirement"),
        "it offered"
    );
}

#[test]
fn who_does_not_come_back_is_gone() {
    let mut bench = Bench::connected(Setup::default());
    bench.detach();
    bench.passes(seconds(15) - Duration::from_millis(1));
    assert_eq!(bench.ended, None);
    bench.passes(Duration::from_millis(1));
    assert_eq!(
        bench.ended.as_ref().map(|end| end.record),
        Some(Fate::Remove)
    );

    // Who never had media has less to lose.
    let mut bench = Bench::joined(Setup::default());
    bench.detach();
    bench.passes(GRACE_BEFORE_MEDIA);
    assert!(bench.ended.is_some());
}

#[test]
fn a_second_socket_replaces_the_first() {
    let mut bench = Bench::connected(Setup::default());
    bench.attach(resume());
    assert_eq!(bench.heard_names(), ["reconnect", "update", "room_update"]);
    bench.passes(seconds(60));
    assert_eq!(bench.ended, None);
}

#[test]
fn what_the_client_believes_is_checked() {
    let mut bench = Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &["TR_bob", "TR_bob2"]))],
        ..Setup::default()
    });
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.detach();
    bench.attach(resume());
    bench.asked();
    bench.says(FromClient::SyncState(sync_state(
        &["TR_1"],
        &["TR_bob"],
        &["TR_bob2"],
    )));
    assert_eq!(leave(&bench), None);
    let mut asked = bench.asked();
    asked.sort();
    assert_eq!(asked, ["subscribe TR_bob2", "unsubscribe TR_bob"]);
    assert!(bench.node.subscribed["TR_bob2"].paused);

    bench.says(FromClient::SyncState(sync_state(&["TR_9"], &[], &[])));
    assert_eq!(
        leave(&bench),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
    assert_eq!(bench.asked(), ["close"]);
}

#[test]
fn a_client_that_joins_anew_leaves_nothing_behind_and_is_not_seen_to_leave() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.session.handle_node_lost(bench.now);
    bench.drain();
    assert_eq!(
        leave(&bench),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
    let me = bench.me();
    assert!(me.is_visible() && me.info.tracks.is_empty());
    assert_eq!(me.tracks_by_client_id()["cam"].as_str(), "TR_1");
    // SDKs say goodbye to the old session first.
    bench.says(FromClient::Leave(Default::default()));
    bench.detach();
    bench.passes(REJOIN_GRACE - Duration::from_millis(1));
    assert_eq!(bench.ended, None);
    let mut again = record(ME, 9, &[]);
    again.session = "s-me-2".to_owned();
    bench.puts(ME, &again);
    let end = End {
        close: None,
        record: Fate::Lost,
    };
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn a_client_that_does_not_join_anew_is_gone_soon() {
    let mut bench = Bench::connected(Setup::default());
    bench.session.handle_node_lost(bench.now);
    bench.drain();
    bench.passes(REJOIN_GRACE);
    let end = End {
        close: None,
        record: Fate::Remove,
    };
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn a_client_that_did_not_hear_that_it_has_to_join_anew_is_told_when_it_resumes() {
    let mut bench = Bench::connected(Setup::default());
    bench.detach();
    bench.session.handle_node_lost(bench.now);
    bench.drain();
    assert!(bench.heard.is_empty());
    bench.attach(resume());
    assert_eq!(
        leave(&bench),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
}

pub(super) fn started(track: &str) -> contract::TrackStarted {
    contract::TrackStarted {
        track_id: track.to_owned(),
        mime_type: "video/VP8".to_owned(),
        ..Default::default()
    }
}

/// What a node has, as it would say it.
pub(super) fn snapshot(
    tracks: &[(&str, bool, bool)],
    subscriptions: &[&str],
) -> contract::Snapshot {
    contract::Snapshot {
        tracks: tracks
            .iter()
            .map(|(id, muted, is_started)| contract::PublishedTrack {
                announced: Some(contract::AddTrack {
                    track_id: (*id).to_owned(),
                    muted: *muted,
                    ..Default::default()
                }),
                started: is_started.then(|| started(id)),
                demand: None,
            })
            .collect(),
        subscriptions: subscriptions
            .iter()
            .map(|id| contract::Subscribe {
                track_id: (*id).to_owned(),
                wish: Some(contract::LayerWish {
                    priority: 1,
                    ..Default::default()
                }),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn broken(bench: &mut Bench) {
    bench.session.handle_node_broken();
    bench.drain();
    bench.node.unanswered.clear();
    bench.node.asked.clear();
}

fn restored(bench: &mut Bench, snapshot: contract::Snapshot) {
    bench.node.has(&snapshot);
    bench.asked();
    bench.session.handle_snapshot(snapshot, bench.now);
    bench.drain();
}

#[test]
fn a_restored_stream_is_asked_for_the_difference_only() {
    let mut bench = Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &["TR_a", "TR_b"]))],
        ..Setup::default()
    });
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.says(FromClient::AddTrack(add_track("screen")));
    bench.started("TR_1");
    broken(&mut bench);
    // All of this the node does not hear.
    bench.says(FromClient::AddTrack(add_track("third")));
    bench.says(FromClient::Mute(MuteTrackRequest {
        sid: "TR_1".to_owned(),
        muted: true,
    }));
    bench.puts("bob", &record("bob", 2, &["TR_b", "TR_c"]));
    bench.says(FromClient::Offer(offer(3)));
    assert!(bench.asked().is_empty());
    let had = [
        ("TR_1", false, true),
        ("TR_2", false, true),
        ("TR_lost", false, true),
    ];
    restored(&mut bench, snapshot(&had, &["TR_a", "TR_b"]));
    let mut asked = bench.asked();
    asked.sort();
    assert_eq!(
        asked,
        [
            "add TR_3",
            "mute TR_1 true",
            "offer",
            "remove TR_lost",
            "subscribe TR_c",
            "unsubscribe TR_a"
        ]
    );
    let tracks: Vec<&str> = bench
        .me()
        .info
        .tracks
        .iter()
        .map(|track| track.sid.as_str())
        .collect();
    assert_eq!(
        tracks,
        ["TR_1", "TR_2"],
        "the second started while nobody listened"
    );
}

#[test]
fn what_ended_while_nobody_listened_has_ended() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    broken(&mut bench);
    restored(&mut bench, snapshot(&[], &[]));
    assert!(bench.me().info.tracks.is_empty());
    assert!(bench.asked().is_empty());
    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(bench.asked(), ["add TR_2"]);
}

#[test]
fn an_offer_and_its_answer_survive_a_broken_stream() {
    let mut bench = Bench::connected(Setup {
        layout: ConnectionLayout::Dual,
        ..Setup::default()
    });
    let created = |id| contract::OfferCreated {
        sdp: "offer".to_owned(),
        offer_id: id,
        mid_to_track: Default::default(),
    };
    bench.event(Event::OfferCreated(created(1)));
    broken(&mut bench);
    bench.says(FromClient::Answer(SessionDescription {
        sdp: "answer".to_owned(),
        id: 1,
        ..Default::default()
    }));
    let with_offer = |id| contract::Snapshot {
        outstanding_offer: Some(created(id)),
        ..Default::default()
    };
    restored(&mut bench, with_offer(1));
    assert_eq!(bench.asked(), ["answer"]);
    bench.all_done();
    bench.heard.clear();
    broken(&mut bench);
    bench.node.last_offer_is(2);
    restored(&mut bench, with_offer(2));
    assert_eq!(bench.heard_names(), ["offer"], "made while nobody listened");
}

#[test]
fn whoever_takes_the_nodes_session_over_gets_the_record_or_nobody_does() {
    let taken_over = || {
        let mut bench = Bench::connected(Setup::default());
        bench.event(Event::Closed(contract::Closed {
            reason: CloseReason::TakenOver.into(),
            message: String::new(),
        }));
        assert!(bench.asked().is_empty(), "the node's session is theirs");
        assert_eq!(bench.ended, None);
        bench
    };
    let end = |record| End {
        close: None,
        record,
    };
    let mut bench = taken_over();
    let mut successor = record(ME, 1, &[]);
    successor.session = "s-other".to_owned();
    bench.puts(ME, &successor);
    assert_eq!(bench.ended, Some(end(Fate::Lost)));
    let mut bench = taken_over();
    bench.passes(seconds(5));
    assert_eq!(bench.ended, Some(end(Fate::Remove)));
    // Its client comes back here before that is known: it finds the session where it is by then.
    let mut bench = taken_over();
    bench.detach();
    bench.heard.clear();
    bench.attach(Some(Resume::default()));
    assert_eq!(
        leave(&bench).map(|(action, _)| action),
        Some(Action::Resume)
    );
    assert!(bench.socket_closed);
    let end = end(Fate::TakenOver);
    assert_eq!(end.farewell(), Farewell::Resume);
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn a_node_that_closes_the_session_makes_the_client_join_anew() {
    let mut bench = Bench::connected(Setup::default());
    bench.event(Event::Closed(contract::Closed {
        reason: CloseReason::NodeStopping.into(),
        message: String::new(),
    }));
    assert_eq!(
        leave(&bench).map(|(action, _)| action),
        Some(Action::Reconnect)
    );
    assert!(bench.asked().is_empty(), "it is closed already");
}

#[test]
fn a_process_that_stops_sends_its_clients_to_another() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.asked();
    bench.session.handle_stop();
    bench.drain();
    assert_eq!(
        leave(&bench),
        Some((Action::Resume, DisconnectReason::ServerShutdown))
    );
    let end = End {
        close: None,
        record: Fate::Keep,
    };
    assert_eq!(end.farewell(), Farewell::Resume);
    assert_eq!(bench.ended, Some(end));
    assert_eq!(bench.me().presence, Presence::Away);
    assert_eq!(bench.me().info.tracks[0].sid, "TR_1", "media goes on");
    assert!(bench.asked().is_empty(), "on its node it lives on");
}

#[test]
fn clients_can_ask_for_trouble() {
    let simulate = |scenario| {
        FromClient::Simulate(SimulateScenario {
            scenario: Some(scenario),
        })
    };
    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::LeaveRequestFullReconnect(true)));
    assert_eq!(
        leave(&bench).map(|(action, _)| action),
        Some(Action::Reconnect)
    );

    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::ServerLeave(true)));
    assert_eq!(
        leave(&bench),
        Some((Action::Disconnect, DisconnectReason::ServerShutdown))
    );
    assert!(bench.ended.is_some());

    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::NodeFailure(true)));
    assert_eq!(leave(&bench), None);
    assert!(bench.ended.is_some() && bench.socket_closed);

    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::DisconnectSignalOnResume(true)));
    bench.detach();
    bench.attach(resume());
    assert!(bench.socket_closed);
    assert_eq!(bench.heard_names(), ["reconnect", "update", "room_update"]);
    bench.detach();
    bench.attach(resume());
    assert!(!bench.socket_closed, "once");

    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::DisconnectSignalOnResumeNoMessages(true)));
    bench.detach();
    bench.attach(resume());
    assert!(bench.socket_closed && bench.heard.is_empty());

    let mut bench = Bench::connected(Setup::default());
    bench.says(simulate(Scenario::SpeakerUpdate(3)));
    bench.passes(seconds(3));
    let active: Vec<bool> = bench
        .heard
        .iter()
        .filter_map(|message| match message {
            Message::SpeakersChanged(changed) => Some(changed.speakers[0].active),
            _ => None,
        })
        .collect();
    assert_eq!(active, [true, false]);
}

#[test]
fn what_is_wanted_of_tracks_is_said_again_to_who_may_not_have_heard_it() {
    let off = || vec![("TR_1".to_owned(), vec![false, false, false])];
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.all_done();
    bench.started("TR_1");
    bench.detach();
    bench.event(Event::TrackDemandChanged(demand("TR_1", 0)));
    bench.attach(resume());
    assert_eq!(wanted(&mut bench), off());

    // The stream to the node was broken when it changed.
    for (layers, expected) in [(0, vec![]), (1, vec![("TR_1".to_owned(), vec![true; 3])])] {
        broken(&mut bench);
        let mut snapshot = snapshot(&[("TR_1", false, true)], &[]);
        snapshot.tracks[0].demand = Some(demand("TR_1", layers));
        restored(&mut bench, snapshot);
        assert_eq!(wanted(&mut bench), expected);
    }
}
