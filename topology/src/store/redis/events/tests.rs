use std::task::{Context, Poll, Waker};

use super::*;
use crate::store::redis::keys::Keys;

struct Fixture {
    topics: Topics,
    keys: RoomKeys,
    stats: Arc<Stats>,
}

fn fixture() -> Fixture {
    let stats = Arc::new(Stats::default());
    Fixture {
        topics: Topics::new(Arc::clone(&stats)),
        keys: Keys::new("pipemesh", 0).room(&"room".parse().unwrap()),
        stats,
    }
}

fn at(room: &str, sequence: u64) -> Position {
    let room = room.parse().unwrap();
    Position::At { room, sequence }
}

impl Fixture {
    fn watch(&self, position: Position) -> Watch {
        let watch = self.topics.watch(&self.keys).unwrap();
        self.topics.begin(&self.keys.channel, position);
        watch
    }

    fn hear(&self, change: &str, room: &str, sequence: u64) {
        let message = format!(
            "{{\"change\":\"{change}\",\"room\":\"{room}\",\"sequence\":{sequence},\
             \"version\":1,\"home\":\"node\",\"identity\":\"a\"}}\n"
        );
        let channel = self.keys.channel.as_bytes();
        self.topics.hear(channel, message.as_bytes());
    }

    fn compare(&self, server: Position) {
        let [standing] = &self.topics.standings()[..] else {
            panic!("one room is watched")
        };
        self.topics.compare(standing, server);
    }

    fn counted(&self) -> (u64, u64, u64) {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let Stats {
            gaps,
            missed,
            unreadable,
            ..
        } = &*self.stats;
        (load(gaps), load(missed), load(unreadable))
    }
}

/// What a watcher is told without waiting: sequences, `lagged`, `ended`.
fn told(watch: &mut Watch) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let next = std::pin::pin!(watch.next());
        told.push(
            match Future::poll(next, &mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return told,
                Poll::Ready(Ok(Some(event))) => event.sequence.to_string(),
                Poll::Ready(Err(Lagged)) => "lagged".to_owned(),
                Poll::Ready(Ok(None)) => {
                    told.push("ended".to_owned());
                    return told;
                }
            },
        );
    }
}

#[test]
fn from_room_to_room_without_a_gap() {
    let fixture = fixture();
    let mut watch = fixture.watch(Position::NoRoom);
    fixture.hear("opened", "RM_1", 1);
    fixture.hear("member_put", "RM_1", 2);
    fixture.hear("ended", "RM_1", 3);
    fixture.compare(Position::NoRoom);
    fixture.hear("opened", "RM_2", 1);
    fixture.compare(at("RM_2", 1));
    assert_eq!(told(&mut watch), ["1", "2", "3", "1"]);
    assert_eq!(fixture.counted(), (0, 0, 0));
}

#[test]
fn a_gap_is_told_before_what_follows() {
    let check = |begin: Position, room: &str, sequence: u64, expected: &[&str]| {
        let fixture = fixture();
        let mut watch = fixture.watch(begin);
        let change = if sequence == 1 {
            "opened"
        } else {
            "member_put"
        };
        fixture.hear(change, room, sequence);
        fixture.hear("member_put", room, sequence + 1);
        assert_eq!(told(&mut watch), expected);
    };
    check(at("RM_1", 4), "RM_1", 5, &["5", "6"]);
    check(at("RM_1", 4), "RM_1", 6, &["lagged", "6", "7"]);
    check(at("RM_1", 4), "RM_2", 1, &["lagged", "1", "2"]);
    check(Position::NoRoom, "RM_2", 2, &["lagged", "2", "3"]);
    // Published before the room was asked for, heard after.
    check(at("RM_1", 5), "RM_1", 4, &["4", "5"]);
}

#[test]
fn silence_is_compared_with_the_server() {
    let fixture = fixture();
    let mut watch = fixture.watch(at("RM_1", 4));
    fixture.compare(at("RM_1", 4));
    assert!(told(&mut watch).is_empty());
    for lost in [at("RM_1", 5), at("RM_2", 1), Position::NoRoom] {
        fixture.compare(lost.clone());
        fixture.compare(lost);
        assert_eq!(told(&mut watch), ["lagged"], "once");
    }
    assert_eq!(fixture.counted(), (0, 3, 0));
}

#[test]
fn an_answer_older_than_what_was_heard_tells_nothing() {
    let fixture = fixture();
    let mut watch = fixture.watch(at("RM_1", 4));
    let standings = fixture.topics.standings();
    fixture.hear("member_put", "RM_1", 5);
    fixture.topics.compare(&standings[0], at("RM_1", 4));
    assert_eq!(told(&mut watch), ["5"]);
}

#[test]
fn what_cannot_be_read_is_read_from_the_room() {
    let fixture = fixture();
    let mut watch = fixture.watch(at("RM_1", 4));
    let channel = fixture.keys.channel.as_bytes();
    fixture.topics.hear(channel, b"{}");
    fixture.topics.hear(channel, b"\xff");
    fixture.hear("painted", "RM_1", 5);
    fixture.topics.hear(b"another channel", b"");
    assert_eq!(told(&mut watch), ["lagged"; 3]);
    // Nothing follows: the comparison notices.
    fixture.compare(at("RM_1", 5));
    assert_eq!(told(&mut watch), ["lagged"]);
    assert_eq!(fixture.counted(), (0, 1, 3));
}

#[test]
fn every_watch_ends_with_the_connection() {
    let fixture = fixture();
    let mut watches = [(); 2].map(|()| fixture.watch(Position::NoRoom));
    fixture.topics.close();
    fixture.topics.close();
    for watch in &mut watches {
        assert_eq!(told(watch), ["lagged", "ended"]);
    }
    assert!(fixture.topics.watch(&fixture.keys).is_none());
}

#[test]
fn nothing_is_left_of_what_nobody_watches() {
    let fixture = fixture();
    let [one, other] = [(); 2].map(|()| fixture.watch(Position::NoRoom));
    drop(one);
    assert!(fixture.topics.forget_unwatched().is_empty());
    drop(other);
    let channels = fixture.topics.forget_unwatched();
    assert_eq!(channels, std::slice::from_ref(&fixture.keys.channel));
    assert!(fixture.topics.standings().is_empty());
}
