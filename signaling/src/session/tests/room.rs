//! What the client is told of others, and how often; being sent away.

use livekit_protocol::signal_request::Message as FromClient;
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use super::bench::*;
use super::prelude::*;

fn there(sid: &str) -> (String, bool) {
    (sid.to_owned(), true)
}

fn gone(sid: &str) -> (String, bool) {
    (sid.to_owned(), false)
}

/// Joined a while ago: nothing was told lately.
fn settled() -> Bench {
    let mut bench = Bench::connected(Setup::default());
    bench.passes(seconds(10));
    bench.heard.clear();
    bench
}

#[test]
fn a_change_is_told_at_once_and_a_burst_of_them_together() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 1, &[]));
    assert_eq!(bench.updates(), [[there("PA_bob")]]);
    for version in 2..20 {
        bench.puts("bob", &record("bob", version, &[]));
        bench.puts("carol", &record("carol", version, &[]));
    }
    assert!(bench.updates().is_empty(), "not within 100 ms");
    bench.passes(Duration::from_millis(100));
    assert_eq!(bench.updates(), [[there("PA_bob"), there("PA_carol")]]);
    bench.passes(seconds(60));
    assert!(bench.updates().is_empty(), "everything is told");
}

#[test]
fn at_most_one_update_per_interval() {
    let mut bench = settled();
    let mut told = 0;
    for version in 1..=1000 {
        bench.puts("bob", &record("bob", version, &[]));
        bench.passes(Duration::from_millis(3));
        told += bench.updates().len();
    }
    assert!((25..=31).contains(&told), "{told} in three seconds");
}

#[test]
fn who_came_and_went_in_between_is_not_mentioned() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 1, &[]));
    bench.heard.clear();
    bench.puts("carol", &record("carol", 1, &[]));
    bench.leaves("carol");
    bench.leaves("bob");
    bench.passes(Duration::from_millis(100));
    assert_eq!(bench.updates(), [[gone("PA_bob")]]);
}

#[test]
fn who_takes_an_identity_over_is_somebody_else() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 7, &[]));
    bench.heard.clear();
    let mut other = record("bob", 0, &[]);
    other.info.as_mut().unwrap().sid = "PA_bob2".to_owned();
    other.session = "s-bob-2".to_owned();
    bench.puts("bob", &other);
    bench.passes(Duration::from_millis(100));
    assert_eq!(bench.updates(), [[gone("PA_bob"), there("PA_bob2")]]);
}

#[test]
fn an_older_version_is_not_told() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 7, &[]));
    bench.heard.clear();
    bench.puts("bob", &record("bob", 6, &[]));
    bench.passes(seconds(1));
    assert!(bench.updates().is_empty());
}

#[test]
fn a_track_is_told_before_the_answer_that_carries_it() {
    let mut bench = settled();
    bench.puts("carol", &record("carol", 1, &[]));
    bench.heard.clear();
    // Within 100 ms of the last update.
    bench.puts("bob", &record("bob", 1, &["TR_bob"]));
    assert!(bench.heard.is_empty());
    bench.says(FromClient::Offer(offer(2)));
    let carries = |track: &str| {
        Event::AnswerCreated(contract::AnswerCreated {
            sdp: "answer".to_owned(),
            offer_id: 2,
            mid_to_track: [("3".to_owned(), track.to_owned())].into(),
        })
    };
    bench.event(carries("TR_other"));
    assert_eq!(bench.heard_names(), ["answer"], "nothing about bob in it");
    bench.event(carries("TR_bob"));
    assert_eq!(bench.heard_names(), ["update", "answer"]);
}

#[test]
fn counts_are_told_now_and_then_and_news_of_the_room_at_once() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 1, &[]));
    let rooms = |bench: &mut Bench| {
        let updates = bench.heard.drain(..).filter_map(|message| match message {
            Message::RoomUpdate(update) => update.room.map(|room| room.num_participants),
            _ => None,
        });
        updates.collect::<Vec<u32>>()
    };
    assert_eq!(rooms(&mut bench), [2]);
    bench.puts("carol", &record("carol", 1, &[]));
    bench.puts("dave", &record("dave", 1, &[]));
    assert!(rooms(&mut bench).is_empty());
    bench.passes(seconds(5));
    assert_eq!(rooms(&mut bench), [4]);
    bench.leaves("dave");
    let recorder = {
        let mut recorder = record("rec", 1, &[]);
        let rights = Rights {
            recorder: true,
            hidden: true,
            ..Default::default()
        };
        recorder.info.as_mut().unwrap().permission = Some(rights.to_permission());
        recorder
    };
    bench.puts("rec", &recorder);
    assert_eq!(rooms(&mut bench), [3], "recording began");
    bench.passes(seconds(60));
    assert!(rooms(&mut bench).is_empty());
}

#[test]
fn who_leaves_is_gone() {
    let mut bench = settled();
    bench.says(FromClient::Leave(Default::default()));
    let end = End {
        close: Some(CloseReason::Left),
        record: Fate::Remove,
    };
    assert_eq!(bench.ended, Some(end));
    assert!(bench.socket_closed);
    bench.says(FromClient::Ping(1));
    assert!(bench.heard.is_empty());
}

#[test]
fn who_is_replaced_is_told_if_there() {
    let other = || {
        let mut other = record(ME, 0, &[]);
        other.session = "s-other".to_owned();
        other
    };
    let end = End {
        close: Some(CloseReason::Replaced),
        record: Fate::Lost,
    };
    let mut bench = settled();
    bench.puts(ME, &other());
    let Some(Message::Leave(leave)) = bench.heard.first() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.action(), Action::Disconnect);
    assert_eq!(bench.ended, Some(end.clone()));

    let mut bench = settled();
    bench.detach();
    bench.puts(ME, &other());
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn who_is_removed_or_whose_room_ends_is_told_why() {
    let check = |act: fn(&mut Bench), expected: DisconnectReason| {
        let mut bench = settled();
        act(&mut bench);
        let Some(Message::Leave(leave)) = bench.heard.last() else {
            panic!("{:?}", bench.heard);
        };
        assert_eq!(leave.reason(), expected);
        assert_eq!(bench.ended.as_ref().map(|end| end.record), Some(Fate::Lost));
    };
    check(
        |bench| bench.leaves(ME),
        DisconnectReason::ParticipantRemoved,
    );
    check(
        |bench| {
            bench.session.handle_room(None, bench.now);
            bench.drain();
        },
        DisconnectReason::RoomDeleted,
    );
    check(
        |bench| {
            bench.session.handle_superseded();
            bench.drain();
        },
        DisconnectReason::DuplicateIdentity,
    );
}

#[test]
fn a_record_that_the_store_has_lost_is_written_again() {
    let mut bench = settled();
    bench.puts("bob", &record("bob", 1, &[]));
    assert_eq!(bench.updates(), [[there("PA_bob")]]);
    bench.world.state.lose();
    bench.room_changed();
    assert!(!bench.world.state.lacks(&ME.parse().unwrap()));
    // Bob is another process's to write, and nobody is told that he is gone.
    assert!(bench.world.state.lacks(&"bob".parse().unwrap()));
    bench.passes(seconds(1));
    assert!(bench.updates().is_empty());
    bench.world.state.give_up_missing();
    bench.room_changed();
    assert_eq!(bench.updates(), [[gone("PA_bob")]]);
    assert_eq!(bench.ended, None);
}

#[test]
fn who_finds_another_room_under_the_name_goes_there() {
    let mut bench = settled();
    bench.world.state.id = "RM_other".parse().unwrap();
    bench.room_changed();
    let Some(Message::Leave(leave)) = bench.heard.last() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(leave.action(), Action::Reconnect);
    let end = End {
        close: Some(CloseReason::RoomEnded),
        record: Fate::Lost,
    };
    assert_eq!(bench.ended, Some(end));
}

#[test]
fn a_room_state_from_before_the_claim_is_not_believed() {
    let bench = Bench::opening(Setup::default());
    let mut old = bench.world.state.clone();
    old.sequence -= 1;
    old.members.clear();
    let mut bench = bench;
    bench.session.handle_room(Some(&Arc::new(old)), bench.now);
    bench.drain();
    assert_eq!(bench.ended, None);
}
