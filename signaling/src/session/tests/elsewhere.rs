//! Tracks of people who are on another node: what the participant's own node is told of where they are, and
//! what follows when somebody moves.

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::{UpdateSubscription, UpdateTrackSettings};
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use pipemesh_topology::store::Change;

use super::bench::*;
use super::prelude::*;
use super::resuming::{resume, snapshot, sync_state};

/// Bob, in this session of his on this node, with a track.
fn bob(version: u32, session: &str, node: &str) -> MemberRecord {
    MemberRecord {
        session: session.to_owned(),
        node: node.to_owned(),
        ..record("bob", version, &["TR_bob"])
    }
}

fn setup(bob: MemberRecord) -> Setup {
    Setup {
        others: vec![("bob", bob)],
        ..Setup::default()
    }
}

/// Subscribed to a track on node-b, and everything is answered.
fn settled() -> Bench {
    let mut bench = Bench::connected(setup(bob(1, "s-bob", "node-b")));
    bench.all_done();
    bench.asked();
    bench
}

fn origin(node: &str, session: &str) -> Option<contract::Origin> {
    Some(contract::Origin {
        node_id: node.to_owned(),
        session_id: session.to_owned(),
    })
}

fn origin_of(bench: &Bench, track: &str) -> Option<contract::Origin> {
    assert!(bench.node.subscribed.contains_key(track));
    bench.node.origins.get(track).cloned()
}

fn refused(code: contract::Code) -> Event {
    Event::Refused(contract::Refused {
        code: code.into(),
        message: String::new(),
    })
}

fn ended() -> Event {
    Event::SubscriptionEnded(contract::SubscriptionEnded {
        track_id: "TR_bob".to_owned(),
    })
}

fn choose(subscribe: bool) -> FromClient {
    FromClient::Subscription(UpdateSubscription {
        track_sids: vec!["TR_bob".to_owned()],
        subscribe,
        participant_tracks: Vec::new(),
    })
}

/// What the client does with a track, which shows whether the node is still asked about it.
fn shows(width: u32) -> FromClient {
    FromClient::TrackSetting(UpdateTrackSettings {
        track_sids: vec!["TR_bob".to_owned()],
        width,
        height: width / 2,
        ..Default::default()
    })
}

#[test]
fn the_node_is_told_where_a_track_is_published() {
    let check = |own: &'static str, theirs: &str, expected: Option<contract::Origin>| {
        let mut bench = Bench::opening(Setup {
            node: own,
            ..setup(bob(1, "s-bob", theirs))
        });
        assert_eq!(bench.asked(), ["open", "subscribe TR_bob"]);
        assert_eq!(origin_of(&bench, "TR_bob"), expected, "{own} {theirs}");
    };
    check("node-a", "node-a", None);
    check("node-a", "node-b", origin("node-b", "s-bob"));
    // Whoever comes back on another node is in another session, and asks that node.
    check("node-b", "node-b", None);
    check("node-b", "node-a", origin("node-a", "s-bob"));
}

#[test]
fn a_track_of_another_node_is_served_as_any_other() {
    let mut bench = settled();
    bench.says(shows(640));
    assert_eq!(bench.asked(), ["subscribe TR_bob"], "with its origin");
    assert_eq!(bench.node.subscribed["TR_bob"].width, 640);
    bench.event(Event::SubscriptionPaused(contract::SubscriptionPaused {
        track_id: "TR_bob".to_owned(),
        paused: true,
    }));
    assert!(bench.heard_names().contains(&"stream_state_update"));
    let forbidding = MemberRecord {
        permission: Some(livekit_protocol::SubscriptionPermission::default()),
        ..bob(2, "s-bob", "node-b")
    };
    bench.puts("bob", &forbidding);
    assert_eq!(bench.asked(), ["unsubscribe TR_bob"]);
    assert!(
        bench
            .heard_names()
            .contains(&"subscription_permission_update")
    );
    bench.puts("bob", &bob(3, "s-bob", "node-b"));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    bench.leaves("bob");
    assert_eq!(bench.asked(), ["unsubscribe TR_bob"]);
}

#[test]
fn a_track_follows_its_publisher() {
    let mut bench = settled();
    let both = ["unsubscribe TR_bob", "subscribe TR_bob"];
    for (version, session, node, expected) in [
        (2, "s-bob-2", "node-a", None),
        (3, "s-bob-3", "node-b", origin("node-b", "s-bob-3")),
        (4, "s-bob-4", "node-b", origin("node-b", "s-bob-4")),
        (5, "s-bob-5", "node-c", origin("node-c", "s-bob-5")),
        // The same session, handed over.
        (6, "s-bob-5", "node-b", origin("node-b", "s-bob-5")),
    ] {
        bench.puts("bob", &bob(version, session, node));
        assert_eq!(bench.asked(), both, "{session} {node}");
        assert_eq!(origin_of(&bench, "TR_bob"), expected);
    }
    // While they come back nobody has it.
    let mut away = bob(7, "s-bob-7", "node-a");
    away.set_presence(Presence::Rejoining);
    bench.puts("bob", &away);
    assert_eq!(bench.asked(), ["unsubscribe TR_bob"]);
    bench.puts("bob", &bob(8, "s-bob-7", "node-a"));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    assert_eq!(origin_of(&bench, "TR_bob"), None);
}

#[test]
fn a_track_that_was_paused_begins_anew_elsewhere() {
    let mut bench = settled();
    bench.event(Event::SubscriptionPaused(contract::SubscriptionPaused {
        track_id: "TR_bob".to_owned(),
        paused: true,
    }));
    bench.heard.clear();
    bench.puts("bob", &bob(2, "s-bob-2", "node-c"));
    let told = bench.heard.iter().find_map(|message| match message {
        Message::StreamStateUpdate(update) => Some(update.stream_states[0].state()),
        _ => None,
    });
    assert_eq!(told, Some(livekit_protocol::StreamState::Active));
}

/// Both come late: the node said them before it heard of the subscription that is.
#[test]
fn what_is_said_of_the_subscription_before_ends_nothing() {
    let moved = || bob(2, "s-bob-2", "node-c");
    let goes_on = |bench: &mut Bench| {
        bench.all_done();
        bench.asked();
        bench.heard.clear();
        bench.says(shows(640));
        assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    };
    let mut bench = settled();
    bench.puts("bob", &moved());
    bench.event(ended());
    goes_on(&mut bench);

    let mut bench = Bench::connected(setup(bob(1, "s-bob", "node-b")));
    bench.puts("bob", &moved());
    for code in [contract::Code::Limit, contract::Code::TrackNotFound] {
        bench.answer(refused(code));
    }
    assert!(!bench.heard_names().contains(&"subscription_response"));
    goes_on(&mut bench);

    // Nor one that was ended by the client.
    let mut bench = Bench::connected(setup(bob(1, "s-bob", "node-b")));
    bench.says(choose(false));
    bench.answer(refused(contract::Code::Limit));
    bench.event(ended());
    bench.asked();
    assert!(!bench.heard_names().contains(&"subscription_response"));
    bench.says(choose(true));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);

    // What is said of the one that is does.
    let mut bench = settled();
    bench.event(ended());
    bench.says(shows(640));
    assert!(bench.asked().is_empty());
    bench.puts("bob", &bob(2, "s-bob", "node-b"));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
}

/// While a mesh is upgraded some nodes do not relay. Their people would be told of an error for every track
/// of the others.
#[test]
fn a_node_that_does_not_relay_is_no_error_to_its_clients() {
    let mut bench = Bench::connected(setup(bob(1, "s-bob", "node-b")));
    bench.answer(refused(contract::Code::Unimplemented));
    bench.asked();
    bench.says(shows(640));
    assert!(bench.asked().is_empty(), "until its publisher changes");
    bench.puts("bob", &bob(2, "s-bob", "node-b"));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    bench.answer(refused(contract::Code::Unimplemented));
    bench.says(choose(true));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    bench.answer(refused(contract::Code::Unimplemented));
    assert!(!bench.heard_names().contains(&"subscription_response"));

    // Where it is an error, it is said.
    bench.puts("bob", &bob(3, "s-bob", "node-b"));
    bench.answer(refused(contract::Code::Limit));
    assert!(bench.heard_names().contains(&"subscription_response"));
    bench.puts("bob", &bob(4, "s-bob-4", "node-a"));
    bench.answer(refused(contract::Code::Unimplemented));
    assert!(bench.heard_names().contains(&"subscription_response"));
}

fn has(origin: Option<contract::Origin>) -> contract::Snapshot {
    let mut snapshot = snapshot(&[], &["TR_bob"]);
    snapshot.subscriptions[0].origin = origin;
    snapshot
}

#[test]
fn a_stream_that_is_restored_finds_tracks_where_they_are() {
    let here = || bob(2, "s-bob-2", "node-a");
    let there = || bob(2, "s-bob-2", "node-b");
    let check = |had: Option<contract::Origin>, now: MemberRecord, expected: &[&str]| {
        let mut bench = settled();
        bench.session.handle_node_broken();
        bench.drain();
        bench.node.unanswered.clear();
        bench.puts("bob", &now);
        assert!(bench.asked().is_empty(), "nothing is asked meanwhile");
        let has = has(had.clone());
        bench.node.has(&has);
        bench.session.handle_snapshot(has.clone(), bench.now);
        bench.drain();
        assert_eq!(bench.asked(), expected, "{had:?} {now:?}");

        // The same for another process that goes on with the session.
        let mut bench = Bench::taken_over(setup(now), record(ME, 7, &[]), Some(has));
        bench.attach(resume());
        bench.says(FromClient::SyncState(sync_state(&[], &[], &[])));
        assert_eq!(bench.asked(), expected, "{had:?}");
    };
    let anew = ["unsubscribe TR_bob", "subscribe TR_bob"];
    check(None, here(), &[]);
    check(origin("node-b", "s-bob-2"), there(), &[]);
    check(origin("node-b", "s-bob"), there(), &anew);
    check(origin("node-b", "s-bob-2"), here(), &anew);
    check(None, there(), &anew);
}

#[test]
fn the_node_listens_to_the_room_wherever_it_is() {
    let mut bench = settled();
    assert_eq!(bench.hears(), ["node-b"], "bob is there");
    bench.puts("bob", &bob(2, "s-bob-2", "node-a"));
    assert_eq!(bench.hears(), [""]);
    let mut is_at_home = |homes: &str| {
        let moved = Change::RoomUpdated(stored_room(homes));
        bench.world.apply(moved);
        bench.room_changed();
        bench.hears()
    };
    assert_eq!(is_at_home("node-a,node-b"), ["node-b"]);
    assert!(is_at_home("node-b,node-a").is_empty(), "no news");
    assert_eq!(is_at_home("node-a,node-c"), ["node-c"]);
    assert_eq!(is_at_home("node-a"), [""]);
    // Whoever has not left yet a node that the room has left is heard, too.
    bench.puts("bob", &bob(3, "s-bob-3", "node-b"));
    assert_eq!(bench.hears(), ["node-b"]);
    // What was asked of a stream that broke may not have arrived.
    bench.session.handle_node_broken();
    bench.node.has(&contract::Snapshot::default());
    bench
        .session
        .handle_snapshot(contract::Snapshot::default(), bench.now);
    bench.drain();
    assert_eq!(bench.hears(), ["node-b"]);
}
