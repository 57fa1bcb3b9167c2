//! A room gets another home, and its people follow it there.

use livekit_protocol::LeaveRequest;
use livekit_protocol::signal_request::Message as FromClient;
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;
use pipemesh_topology::store::Change;

use super::bench::*;
use super::prelude::*;
use super::resuming::resume;

fn goodbye() -> FromClient {
    FromClient::Leave(LeaveRequest::default())
}

fn is_told(bench: &mut Bench) -> Vec<Action> {
    let heard = bench.heard.drain(..).filter_map(|message| match message {
        Message::Leave(leave) => Some(leave.action()),
        _ => None,
    });
    heard.collect()
}

fn home_is(bench: &mut Bench, home: &str) {
    bench.world.apply(Change::RoomUpdated(stored_room(home)));
    bench.room_changed();
}

/// With media, and told to move a moment ago.
fn moving() -> Bench {
    let mut bench = Bench::connected(Setup::default());
    bench.asked();
    home_is(&mut bench, "node-b");
    assert_eq!(is_told(&mut bench), [Action::Reconnect]);
    assert!(bench.asked().is_empty(), "served until it goes");
    assert_eq!(bench.me().presence, Presence::Away);
    bench
}

fn is_gone(bench: &mut Bench) {
    assert_eq!(bench.asked(), ["close"]);
    assert_eq!(bench.me().presence, Presence::Rejoining);
    assert_eq!(is_told(bench), []);
    assert_eq!(bench.ended, None, "others see it stay");
    bench.passes(REJOIN_GRACE);
    assert_eq!(bench.ended.take().unwrap().record, Fate::Remove);
}

#[test]
fn who_is_told_to_move_is_served_until_it_goes() {
    let mut bench = moving();
    bench.puts("bob", &record("bob", 1, &["TR_bob"]));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    bench.passes(seconds(1));
    assert_eq!(bench.updates().len(), 1);
    bench.says(goodbye());
    is_gone(&mut bench);

    // It need not say so.
    let mut bench = moving();
    bench.detach();
    is_gone(&mut bench);

    // One that stays is not waited for.
    let mut bench = moving();
    bench.passes(MOVE_LIMIT);
    is_gone(&mut bench);
}

#[test]
fn the_next_session_ends_the_one_that_moves() {
    let mut bench = moving();
    let mut successor = record(ME, 8, &[]);
    successor.session = "s-me-again".to_owned();
    bench.puts(ME, &successor);
    assert_eq!(is_told(&mut bench), [], "that is the new one");
    let end = bench.ended.unwrap();
    assert_eq!(end.record, Fate::Lost);
    assert!(end.close.is_some(), "the node still had it");
}

#[test]
fn who_did_not_hear_that_it_is_to_move_hears_it_again() {
    let mut bench = moving();
    bench.attach(resume());
    assert_eq!(is_told(&mut bench), [Action::Reconnect]);
    bench.says(goodbye());
    is_gone(&mut bench);
}

#[test]
fn a_node_that_is_lost_meanwhile_is_not_asked() {
    let mut bench = moving();
    bench.session.handle_node_lost(bench.now);
    bench.drain();
    assert_eq!(bench.me().presence, Presence::Rejoining);
    assert!(bench.asked().is_empty());
    assert_eq!(is_told(&mut bench), [], "it knows");

    let mut bench = moving();
    bench.event(Event::Closed(contract::Closed {
        reason: CloseReason::NodeStopping.into(),
        message: String::new(),
    }));
    assert_eq!(bench.me().presence, Presence::Rejoining);
    assert_eq!(is_told(&mut bench), []);
}

/// Where those who have moved and those who have not hear each other, they go one after the other: the node
/// they go to is not asked for all at once, and few are away at any time.
#[test]
fn people_follow_one_after_the_other() {
    let others = vec![
        ("alice", record("alice", 1, &[])),
        (
            "bob",
            MemberRecord {
                node: "node-c".to_owned(),
                ..record("bob", 1, &[])
            },
        ),
        ("carol", record("carol", 1, &[])),
        ("zoe", record("zoe", 1, &[])),
    ];
    let setup = || Setup {
        others: others.clone(),
        move_interval: Duration::from_millis(20),
        ..Setup::default()
    };
    let mut bench = Bench::connected(setup());
    home_is(&mut bench, "node-b");
    bench.passes(Duration::from_millis(39));
    assert_eq!(is_told(&mut bench), [], "alice and carol go first");
    bench.passes(Duration::from_millis(1));
    assert_eq!(is_told(&mut bench), [Action::Reconnect]);

    // The node drains no more, and the room is given back.
    let mut bench = Bench::connected(setup());
    home_is(&mut bench, "node-b");
    bench.passes(Duration::from_millis(39));
    home_is(&mut bench, "node-b,node-a");
    bench.passes(seconds(1));
    assert_eq!(is_told(&mut bench), []);
    assert_eq!(bench.me().presence, Presence::Here);
}

#[test]
fn a_process_that_ends_keeps_who_is_moving() {
    let mut bench = moving();
    bench.session.handle_stop();
    bench.drain();
    let end = bench.ended.take().unwrap();
    assert_eq!((end.close, end.record), (None, Fate::Keep));
    assert_eq!(bench.me().presence, Presence::Away);
}

#[test]
fn a_stream_that_breaks_meanwhile_is_restored() {
    let mut bench = moving();
    assert!(bench.session.is_served());
    bench.session.handle_node_broken();
    bench.drain();
    let snapshot = contract::Snapshot::default();
    bench.node.has(&snapshot);
    bench.session.handle_snapshot(snapshot, bench.now);
    bench.drain();
    bench.asked();
    bench.says(goodbye());
    is_gone(&mut bench);
}
