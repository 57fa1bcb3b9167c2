//! What every store does, with each store there is.

use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, RoomId};
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::store::{
    Change, EndOutcome, Lagged, Lease, NewRoom, Opened, PutMember, PutOutcome, RemoveOutcome,
    RoomUpdate, Store, UpdateRoom, WATCH_CAPACITY, WhenEmpty, life, next_life,
};
use pipemesh_topology::{Identity, RoomName};

use crate::next;
use crate::server::Server;

macro_rules! contract {
    ($($clause:ident)*) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $clause() {
                super::$clause(&MemoryStore::new()).await;
            })*
        }
        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $clause() {
                let server = Server::start().await;
                super::$clause(&server.store().await).await;
            })*
        }
    };
}

contract! {
    the_first_to_open_a_room_decides_what_it_is
    a_room_that_ended_cannot_be_written_under_its_name
    a_room_does_not_end_under_somebody_who_just_came
    a_bounded_room_takes_nobody_new_when_full
    whoever_lags_is_told
    any_name_and_any_bytes_come_back_as_they_were
    rooms_do_not_touch_each_other
    an_update_leaves_what_it_does_not_name
    members_are_sorted_by_identity
    a_room_that_is_brought_back_counts_on
    all_rooms_that_are_open_are_listed
    a_lease_is_changed_by_who_knows_it
    what_is_said_to_a_process_is_heard_there_and_nowhere_else
}

pub(crate) fn name(text: &str) -> RoomName {
    text.parse().unwrap()
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(crate) fn new_room(id: &str) -> NewRoom {
    NewRoom {
        id: id.parse().unwrap(),
        homes: "node-a".parse().unwrap(),
        body: Bytes::from_static(b"room"),
        after: 0,
    }
}

pub(crate) fn put(who: &str, expected: Option<u64>) -> PutMember {
    PutMember {
        identity: identity(who),
        expected,
        body: Bytes::from_static(b"member"),
        capacity: None,
    }
}

/// Opens a room; answers its id.
pub(crate) async fn opened(store: &dyn Store, room: &RoomName) -> RoomId {
    let opened = store.open_room(room, new_room("RM_1")).await;
    opened.unwrap().room.id
}

pub(crate) async fn version(
    store: &dyn Store,
    room: &RoomName,
    id: &RoomId,
    member: PutMember,
) -> u64 {
    match store.put_member(room, id, member).await.unwrap() {
        PutOutcome::Done { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

async fn the_first_to_open_a_room_decides_what_it_is(store: &dyn Store) {
    let room = name("room");
    let first = store.open_room(&room, new_room("RM_1")).await.unwrap();
    assert!(first.created);
    let second = store.open_room(&room, new_room("RM_2")).await.unwrap();
    assert_eq!(
        second,
        Opened {
            created: false,
            ..first
        }
    );
}

async fn a_room_that_ended_cannot_be_written_under_its_name(store: &dyn Store) {
    let room = name("room");
    let old = store.open_room(&room, new_room("RM_1")).await.unwrap();
    let ended = store.end_room(&room, &old.room.id, old.sequence).await;
    assert_eq!(ended.unwrap(), EndOutcome::Done);
    store.open_room(&room, new_room("RM_2")).await.unwrap();
    let written = store.put_member(&room, &old.room.id, put("a", None)).await;
    assert_eq!(written.unwrap(), PutOutcome::NoRoom);
    let ended = store.end_room(&room, &old.room.id, old.sequence).await;
    assert_eq!(ended.unwrap(), EndOutcome::NoRoom);
}

async fn a_room_does_not_end_under_somebody_who_just_came(store: &dyn Store) {
    let room = name("room");
    let id = opened(store, &room).await;
    let v = version(store, &room, &id, put("a", None)).await;
    let removed = store
        .remove_member(&room, &id, &identity("a"), v, WhenEmpty::Keep)
        .await;
    let RemoveOutcome::Done {
        sequence,
        empty: true,
    } = removed.unwrap()
    else {
        panic!("the last member left")
    };
    version(store, &room, &id, put("b", None)).await;
    let ended = store.end_room(&room, &id, sequence).await.unwrap();
    assert_eq!(ended, EndOutcome::Conflict);
}

async fn a_bounded_room_takes_nobody_new_when_full(store: &dyn Store) {
    let room = name("room");
    let id = opened(store, &room).await;
    let bounded = |who, expected| PutMember {
        capacity: Some(1),
        ..put(who, expected)
    };
    let v = version(store, &room, &id, bounded("a", None)).await;
    let second = store.put_member(&room, &id, bounded("b", None)).await;
    assert_eq!(second.unwrap(), PutOutcome::Full);
    // Whoever is in may change.
    version(store, &room, &id, bounded("a", Some(v))).await;
}

async fn whoever_lags_is_told(store: &dyn Store) {
    let room = name("room");
    let mut watch = store.watch(&room).await.unwrap();
    // Whoever listens has heard of everything when the other looks for the first time.
    let mut listener = store.watch(&room).await.unwrap();
    let id = opened(store, &room).await;
    next(&mut listener).await;
    let mut v = None;
    for _ in 0..WATCH_CAPACITY {
        v = Some(version(store, &room, &id, put("a", v)).await);
        next(&mut listener).await;
    }
    assert_eq!(watch.next().await, Err(Lagged));
    let snapshot = store.read_room(&room).await.unwrap().unwrap();
    let mut last = 0;
    while last < snapshot.sequence {
        last = next(&mut watch).await.sequence;
    }
    assert_eq!(last, snapshot.sequence);
}

async fn any_name_and_any_bytes_come_back_as_they_were(store: &dyn Store) {
    let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
    for text in [
        "{}",
        "a}:room",
        "%7B%7D",
        "\0\n\"\\/'",
        "Küche 🚪",
        &"x".repeat(256),
    ] {
        let (room, who) = (name(text), identity(text));
        let mut watch = store.watch(&room).await.unwrap();
        let new = NewRoom {
            body: bytes.clone(),
            ..new_room("RM_1")
        };
        let opened = store.open_room(&room, new).await.unwrap();
        assert_eq!(opened.room.body, bytes);
        let event = next(&mut watch).await;
        assert_eq!(event.change, Change::Opened(opened.room.clone()));

        let member = PutMember {
            body: bytes.clone(),
            ..put(text, None)
        };
        let v = version(store, &room, &opened.room.id, member.clone()).await;
        let event = next(&mut watch).await;
        let Change::MemberPut(stored) = event.change.clone() else {
            panic!("{event:?}")
        };
        assert_eq!((&stored.identity, stored.version), (&who, v));
        assert_eq!(stored.body, bytes);

        let read = store.read_room(&room).await.unwrap().unwrap();
        assert_eq!((read.room, read.sequence), (opened.room.clone(), 2));
        assert_eq!(read.members, std::slice::from_ref(&stored));
        let again = store.put_member(&room, &opened.room.id, member).await;
        assert_eq!(again.unwrap(), PutOutcome::Conflict(Some(stored)));

        let removed = store.remove_member(&room, &opened.room.id, &who, v, WhenEmpty::End);
        let sequence = 3;
        let empty = true;
        assert_eq!(
            removed.await.unwrap(),
            RemoveOutcome::Done { sequence, empty }
        );
        assert_eq!(next(&mut watch).await.change, Change::MemberRemoved(who));
        assert_eq!(next(&mut watch).await.change, Change::Ended);
        assert_eq!(store.read_room(&room).await.unwrap(), None);
    }
}

async fn all_rooms_that_are_open_are_listed(store: &dyn Store) {
    // More than one page, and names that do not stand in keys as they are.
    let mut names: Vec<RoomName> = (0..1500).map(|i| name(&format!("room }}:{i}"))).collect();
    for room in &names {
        store.open_room(room, new_room("RM_1")).await.unwrap();
    }
    let ended = names.pop().unwrap();
    let id = "RM_1".parse().unwrap();
    store.end_room(&ended, &id, 1).await.unwrap();
    let (mut listed, mut from) = (Vec::new(), None);
    loop {
        let page = store.list_rooms(from).await.unwrap();
        listed.extend(page.names);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    listed.sort();
    listed.dedup();
    names.sort();
    assert_eq!(listed, names);
}

async fn a_lease_is_changed_by_who_knows_it(store: &dyn Store) {
    let [one, two] = ["one", "two"].map(|id| id.parse::<ProcessId>().unwrap());
    let held = |said: &str| Lease::Held(said.to_owned());
    let renewed = store.renew_lease(&one, "1").await.unwrap();
    assert_eq!(renewed.before, None);
    assert_eq!(renewed.leases, [(one.clone(), held("1"))].into());
    let renewed = store.renew_lease(&two, "7").await.unwrap();
    assert_eq!(renewed.leases.len(), 2);
    let renewed = store.renew_lease(&one, "2").await.unwrap();
    assert_eq!(renewed.before, Some(held("1")));

    let change = async |expected: Option<Lease>, lease: Option<Lease>| {
        let changed = store.change_lease(&one, expected.as_ref(), lease.as_ref());
        changed.await.unwrap()
    };
    assert!(!change(Some(held("1")), Some(Lease::Ended)).await);
    assert!(!change(None, Some(held("0"))).await);
    assert!(change(Some(held("2")), Some(Lease::Ended)).await);
    assert!(!change(Some(held("2")), Some(Lease::Ended)).await, "once");
    let renewed = store.renew_lease(&two, "8").await.unwrap();
    let expected = [(one.clone(), Lease::Ended), (two.clone(), held("8"))];
    assert_eq!(renewed.leases, expected.into());
    assert!(change(Some(Lease::Ended), None).await);
    assert!(!change(Some(Lease::Ended), None).await);
    assert!(change(None, Some(held("0"))).await);
    let renewed = store.renew_lease(&one, "3").await.unwrap();
    assert_eq!(renewed.before, Some(held("0")));
}

async fn rooms_do_not_touch_each_other(store: &dyn Store) {
    let (one, other) = (name("room"), name("room}"));
    let mut watch = store.watch(&one).await.unwrap();
    let id = store.open_room(&other, new_room("RM_2")).await.unwrap();
    version(store, &other, &id.room.id, put("a", None)).await;
    let opened = store.open_room(&one, new_room("RM_1")).await.unwrap();
    assert!(opened.created);
    let event = next(&mut watch).await;
    assert_eq!((event.room.as_str(), event.sequence), ("RM_1", 1));
    let read = store.read_room(&one).await.unwrap().unwrap();
    assert!(read.members.is_empty());
}

async fn an_update_leaves_what_it_does_not_name(store: &dyn Store) {
    let room = name("room");
    let first = store.open_room(&room, new_room("RM_1")).await.unwrap().room;
    let homes = Some("node-b,node-a".parse().unwrap());
    let body = Some(Bytes::from_static(b"new\0\xff"));
    let empty = Some(Bytes::new());
    let steps = [(homes, None), (None, body), (None, empty), (None, None)];
    let mut expected = first;
    for (homes, body) in steps {
        let update = RoomUpdate {
            homes: homes.clone(),
            body: body.clone(),
        };
        let version = expected.version;
        let updated = store.update_room(&room, &expected.id, version, update.clone());
        let UpdateRoom::Done { version, sequence } = updated.await.unwrap() else {
            panic!("nobody else changes it")
        };
        expected.version += 1;
        expected.homes = homes.unwrap_or(expected.homes);
        expected.body = body.unwrap_or(expected.body);
        assert_eq!((version, sequence), (expected.version, expected.version));
        let read = store.read_room(&room).await.unwrap().unwrap();
        assert_eq!(read.room, expected);
        let stale = store.update_room(&room, &expected.id, version - 1, update);
        let conflict = UpdateRoom::Conflict(Some(expected.clone()));
        assert_eq!(stale.await.unwrap(), conflict);
    }
}

async fn members_are_sorted_by_identity(store: &dyn Store) {
    let room = name("room");
    let opened = store.open_room(&room, new_room("RM_1")).await.unwrap();
    let mut everybody: Vec<String> = (0..300).map(|i| format!("{}", i * 7919 % 300)).collect();
    for who in &everybody {
        version(store, &room, &opened.room.id, put(who, None)).await;
    }
    everybody.sort();
    let read = store.read_room(&room).await.unwrap().unwrap();
    let read: Vec<_> = read.members.iter().map(|it| it.identity.as_str()).collect();
    assert_eq!(read, everybody);
}

async fn a_room_that_is_brought_back_counts_on(store: &dyn Store) {
    let room = name("room");
    let mut watch = store.watch(&room).await.unwrap();
    let lost = NewRoom {
        after: next_life(next_life(7)),
        ..new_room("RM_1")
    };
    let opened = store.open_room(&room, lost.clone()).await.unwrap();
    let first = 2 * next_life(0) + 1;
    assert_eq!((opened.room.version, opened.sequence), (first, first));
    let event = next(&mut watch).await;
    assert_eq!(event.sequence, first);
    assert_eq!(event.change, Change::Opened(opened.room.clone()));
    let v = version(store, &room, &opened.room.id, put("a", None)).await;
    assert_eq!((v, next(&mut watch).await.sequence), (first, first + 1));
    let read = store.read_room(&room).await.unwrap().unwrap();
    assert_eq!((read.sequence, life(read.sequence)), (first + 1, 2));
    // Whoever comes second finds it.
    let again = store.open_room(&room, lost).await.unwrap();
    assert!(!again.created);
    let v = version(store, &room, &opened.room.id, put("a", Some(v))).await;
    assert_eq!(v, first + 1);
}

async fn what_is_said_to_a_process_is_heard_there_and_nowhere_else(store: &dyn Store) {
    let process = |id: &str| id.parse::<ProcessId>().unwrap();
    let (one, two) = (process("one"), process("two"));
    let said = Bytes::from_static(b"body\n\0\xff");
    assert!(!store.tell(&one, said.clone()).await.unwrap());
    let mut to_one = store.listen(&one).await.unwrap();
    let mut to_two = store.listen(&two).await.unwrap();
    assert!(
        store
            .tell(&two, Bytes::from_static(b"first"))
            .await
            .unwrap()
    );
    assert!(store.tell(&one, said.clone()).await.unwrap());
    assert!(
        store
            .tell(&two, Bytes::from_static(b"second"))
            .await
            .unwrap()
    );
    assert_eq!(to_one.next().await.unwrap(), said);
    assert_eq!(&to_two.next().await.unwrap()[..], b"first");
    assert_eq!(&to_two.next().await.unwrap()[..], b"second");
    assert!(!store.tell(&process("three"), said).await.unwrap());
}
