//! Clients that come back to a process that did not know them: another one has held their session.

use livekit_protocol::MuteTrackRequest;
use livekit_protocol::signal_request::Message as FromClient;
use pipemesh_proto::node as contract;

use super::bench::*;
use super::prelude::*;
use super::resuming::{is_told_everything, leave, resume, snapshot, started, sync_state};

/// Whoever publishes `TR_mine`, as the process before has left it.
fn mine() -> MemberRecord {
    let mut mine = record(ME, 7, &["TR_mine"]);
    let track = &mut mine.info.as_mut().unwrap().tracks[0];
    crate::livekit::track::start(track, &started("TR_mine"));
    mine.process = "p-1".to_owned();
    mine.joined = true;
    mine
}

fn setup() -> Setup {
    Setup {
        others: vec![
            ("bob", record("bob", 1, &["TR_bob"])),
            ("carol", record("carol", 1, &[])),
            ("dave", record("dave", 1, &["TR_dave"])),
        ],
        departed: vec!["carol"],
        ..Setup::default()
    }
}

/// With `TR_mine`, and a subscription to `TR_bob`.
fn connected() -> contract::Snapshot {
    contract::Snapshot {
        connections: vec![contract::ConnectionChanged {
            connection: contract::ConnectionRole::Publisher.into(),
            state: contract::ConnectionState::Connected.into(),
        }],
        ..snapshot(&[("TR_mine", false, true)], &["TR_bob"])
    }
}

#[test]
fn a_session_goes_on_in_another_process() {
    let mut bench = Bench::taken_over(setup(), mine(), Some(connected()));
    assert!(bench.asked().is_empty(), "on its node nothing changes");
    bench.attach(resume());
    is_told_everything(&mut bench);
    let me = bench.me();
    assert_eq!((me.presence, me.info.version), (Presence::Here, 7));
    assert_eq!(me.info.tracks[0].sid, "TR_mine");

    // It publishes what the process before knew of, and does not receive Dave: by its own choice.
    bench.says(FromClient::SyncState(sync_state(
        &["TR_mine"],
        &["TR_dave"],
        &[],
    )));
    assert_eq!(leave(&bench), None);
    bench.passes(seconds(60));
    assert!(bench.asked().is_empty());
    assert_eq!(bench.ended, None, "its media is connected");
    bench.says(FromClient::Mute(MuteTrackRequest {
        sid: "TR_mine".to_owned(),
        muted: true,
    }));
    assert_eq!(bench.asked(), ["mute TR_mine true"]);
    assert!(bench.me().info.tracks[0].muted);
}

#[test]
fn who_says_nothing_of_what_it_receives_gets_everything_soon() {
    let mut bench = Bench::taken_over(setup(), mine(), Some(connected()));
    bench.attach(resume());
    assert!(bench.asked().is_empty());
    bench.passes(seconds(2));
    assert_eq!(bench.asked(), ["subscribe TR_dave"]);
}

#[test]
fn what_a_client_can_use_of_a_track_holds_until_it_says_more() {
    let mut has = connected();
    let small = contract::LayerWish {
        width: 320,
        height: 180,
        priority: 1,
        ..Default::default()
    };
    has.subscriptions[0].wish = Some(small);
    let setup = Setup {
        adaptive_stream: true,
        ..setup()
    };
    let mut bench = Bench::taken_over(setup, mine(), Some(has));
    bench.attach(resume());
    bench.says(FromClient::SyncState(sync_state(&["TR_mine"], &[], &[])));
    assert_eq!(bench.asked(), ["subscribe TR_dave"]);
    assert_eq!(bench.node.subscribed["TR_bob"], small);
    bench.says(FromClient::TrackSetting(
        livekit_protocol::UpdateTrackSettings {
            track_sids: vec!["TR_bob".to_owned()],
            width: 640,
            height: 360,
            ..Default::default()
        },
    ));
    assert_eq!(bench.node.subscribed["TR_bob"].width, 640);
}

#[test]
fn what_the_node_heard_last_is_true() {
    // Muted just before the process died, ended, announced and not started.
    let tracks = [("TR_mine", true, true), ("TR_new", false, false)];
    let mut before = mine();
    let ended = record(ME, 7, &["TR_mine", "TR_ended"]);
    before.info = ended.info;
    let mut bench = Bench::taken_over(setup(), before, Some(snapshot(&tracks, &[])));
    assert_eq!(bench.asked(), ["remove TR_new"]);
    let tracks = &bench.me().info.tracks;
    assert_eq!(tracks.len(), 1, "{tracks:?}");
    assert!(tracks[0].sid == "TR_mine" && tracks[0].muted);
    // What is not there any more has to be published anew.
    bench.attach(resume());
    bench.says(FromClient::SyncState(sync_state(&["TR_ended"], &[], &[])));
    assert_eq!(leave(&bench).unwrap().0, Action::Reconnect);
}

#[test]
fn whose_node_is_lost_too_joins_anew_and_stays() {
    let mut bench = Bench::taken_over(setup(), mine(), None);
    assert_eq!(bench.me().presence, Presence::Rejoining);
    assert!(bench.me().is_visible());
    bench.attach(resume());
    assert_eq!(
        leave(&bench),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
    bench.passes(REJOIN_GRACE);
    assert_eq!(bench.ended.unwrap().record, Fate::Remove);
}

#[test]
fn the_process_before_lets_go_without_a_word() {
    let mut bench = Bench::connected(Setup::default());
    bench.asked();
    let mut taken = record(ME, 7, &[]);
    taken.process = "p-2".to_owned();
    taken.holding = 2;
    bench.puts(ME, &taken);
    let end = End {
        close: None,
        record: Fate::TakenOver,
    };
    assert_eq!(end.farewell(), Farewell::Resume, "for who comes too late");
    assert_eq!(bench.ended, Some(end));
    assert_eq!(leave(&bench), None);
    assert!(bench.asked().is_empty(), "on its node it lives on");
}
