use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::store::Lagged;

fn name(text: &str) -> RoomName {
    text.parse().unwrap()
}

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

fn new_room(id: &str) -> NewRoom {
    NewRoom {
        id: id.parse().unwrap(),
        home: "node-a".parse().unwrap(),
        body: Bytes::from_static(b"room"),
    }
}

fn put(who: &str, expected: Option<u64>) -> PutMember {
    PutMember {
        identity: identity(who),
        expected,
        body: Bytes::from_static(b"member"),
        capacity: None,
    }
}

async fn version(store: &MemoryStore, room: &RoomName, id: &RoomId, member: PutMember) -> u64 {
    match store.put_member(room, id, member).await.unwrap() {
        PutOutcome::Done { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_to_open_a_room_decides_what_it_is() {
    let (store, room) = (MemoryStore::new(), name("room"));
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

#[tokio::test]
async fn a_room_that_ended_cannot_be_written_under_its_name() {
    let (store, room) = (MemoryStore::new(), name("room"));
    let old = store.open_room(&room, new_room("RM_1")).await.unwrap();
    let ended = store.end_room(&room, &old.room.id, old.sequence).await;
    assert_eq!(ended.unwrap(), EndOutcome::Done);
    store.open_room(&room, new_room("RM_2")).await.unwrap();
    let written = store.put_member(&room, &old.room.id, put("a", None)).await;
    assert_eq!(written.unwrap(), PutOutcome::NoRoom);
    let ended = store.end_room(&room, &old.room.id, old.sequence).await;
    assert_eq!(ended.unwrap(), EndOutcome::NoRoom);
}

#[tokio::test]
async fn a_room_does_not_end_under_somebody_who_just_came() {
    let (store, room) = (MemoryStore::new(), name("room"));
    let id = store
        .open_room(&room, new_room("RM_1"))
        .await
        .unwrap()
        .room
        .id;
    let v = version(&store, &room, &id, put("a", None)).await;
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
    version(&store, &room, &id, put("b", None)).await;
    let ended = store.end_room(&room, &id, sequence).await.unwrap();
    assert_eq!(ended, EndOutcome::Conflict);
}

#[tokio::test]
async fn a_bounded_room_takes_nobody_new_when_full() {
    let (store, room) = (MemoryStore::new(), name("room"));
    let id = store
        .open_room(&room, new_room("RM_1"))
        .await
        .unwrap()
        .room
        .id;
    let bounded = |who, expected| PutMember {
        capacity: Some(1),
        ..put(who, expected)
    };
    let v = version(&store, &room, &id, bounded("a", None)).await;
    let second = store.put_member(&room, &id, bounded("b", None)).await;
    assert_eq!(second.unwrap(), PutOutcome::Full);
    // Whoever is in may change.
    version(&store, &room, &id, bounded("a", Some(v))).await;
}

#[tokio::test]
async fn whoever_lags_is_told() {
    let (store, room) = (MemoryStore::new(), name("room"));
    let mut watch = store.watch(&room).await.unwrap();
    let id = store
        .open_room(&room, new_room("RM_1"))
        .await
        .unwrap()
        .room
        .id;
    let mut v = None;
    for _ in 0..WATCH_CAPACITY {
        v = Some(version(&store, &room, &id, put("a", v)).await);
    }
    assert_eq!(watch.next().await, Err(Lagged));
    let snapshot = store.read_room(&room).await.unwrap().unwrap();
    let mut last = 0;
    while last < snapshot.sequence {
        last = watch.next().await.unwrap().unwrap().sequence;
    }
    assert_eq!(last, snapshot.sequence);
}

#[tokio::test]
async fn nothing_is_left_of_what_nobody_watches() {
    let store = MemoryStore::new();
    for i in 0..10 {
        let watch = store.watch(&name(&format!("room-{i}"))).await.unwrap();
        drop(watch);
    }
    let _watch = store.watch(&name("last")).await.unwrap();
    assert_eq!(store.names().len(), 1);
}

/// What anybody may do. Versions and sequences are given relative to what is right.
#[derive(Debug, Clone)]
enum Op {
    Open,
    Update {
        off: u64,
    },
    Put {
        who: u8,
        off: Option<u64>,
        capacity: Option<u32>,
    },
    Remove {
        who: u8,
        off: u64,
        end: bool,
    },
    End {
        off: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let off = || prop_oneof![4 => Just(0), 1 => 1..3u64];
    prop_oneof![
        2 => Just(Op::Open),
        1 => off().prop_map(|off| Op::Update { off }),
        5 => (0..4u8, prop::option::weighted(0.9, off()), prop::option::weighted(0.3, 1..4u32))
            .prop_map(|(who, off, capacity)| Op::Put { who, off, capacity }),
        4 => (0..4u8, off(), any::<bool>())
            .prop_map(|(who, off, end)| Op::Remove { who, off, end }),
        1 => off().prop_map(|off| Op::End { off }),
    ]
}

/// The store as simply as it can be said.
#[derive(Debug, Default)]
struct Model {
    open: Option<(RoomId, u64, u64)>,
    members: BTreeMap<Identity, u64>,
    rooms: u64,
}

/// A room as somebody sees it who only hears of events.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    open: Option<(RoomId, u64, u64)>,
    members: BTreeMap<Identity, u64>,
}

impl Heard {
    fn apply(&mut self, event: &RoomEvent) {
        if let Change::Opened(room) = &event.change {
            assert_eq!((event.sequence, &self.open), (1, &None), "opened once");
            *self = Self::default();
            self.open = Some((room.id.clone(), room.version, 1));
            return;
        }
        let (id, version, sequence) = self.open.as_mut().expect("only open rooms change");
        assert_eq!(&event.room, id);
        assert_eq!(event.sequence, *sequence + 1, "no gap");
        *sequence += 1;
        match &event.change {
            Change::Opened(_) => unreachable!(),
            Change::RoomUpdated(room) => {
                assert!(room.version > *version, "versions grow");
                *version = room.version;
            }
            Change::MemberPut(member) => {
                let old = self.members.insert(member.identity.clone(), member.version);
                assert!(old.is_none_or(|old| old < member.version), "versions grow");
            }
            Change::MemberRemoved(identity) => {
                assert!(self.members.remove(identity).is_some(), "was there");
            }
            Change::Ended => {
                assert!(self.members.is_empty(), "ends empty");
                self.open = None;
            }
        }
    }
}

async fn run(ops: Vec<Op>) {
    let (store, room) = (MemoryStore::new(), name("room"));
    let mut watch = store.watch(&room).await.unwrap();
    let (mut model, mut heard) = (Model::default(), Heard::default());
    // Versions an identity has had in this room: they never come again.
    let mut past: BTreeMap<Identity, u64> = BTreeMap::new();
    for op in ops {
        let no_room: RoomId = "RM_none".parse().unwrap();
        let (id, room_version, sequence) = model.open.clone().unwrap_or((no_room, 0, 0));
        let exists = model.open.is_some();
        match op {
            Op::Open => {
                let new = new_room(&format!("RM_{}", model.rooms));
                let opened = store.open_room(&room, new.clone()).await.unwrap();
                assert_eq!(opened.created, !exists);
                if !exists {
                    model.rooms += 1;
                    model.open = Some((new.id, 1, 1));
                    past.clear();
                }
                let seen = (opened.room.id, opened.room.version, opened.sequence);
                assert_eq!(Some(seen), model.open);
            }
            Op::Update { off } => {
                let home = Some("node-b".parse().unwrap());
                let update = RoomUpdate { home, body: None };
                let expected = room_version + off;
                match store
                    .update_room(&room, &id, expected, update)
                    .await
                    .unwrap()
                {
                    UpdateRoom::Done { version, sequence } => {
                        assert!(exists && off == 0);
                        assert_eq!(version, room_version + 1);
                        model.open = Some((id, version, sequence));
                    }
                    UpdateRoom::Conflict(current) => {
                        assert_eq!(current.is_some(), exists);
                        assert!(!exists || off != 0);
                    }
                }
            }
            Op::Put { who, off, capacity } => {
                let who = identity(&who.to_string());
                let current = model.members.get(&who).copied();
                let expected = match (current, off) {
                    (Some(version), Some(off)) => Some(version + off),
                    (None, Some(off)) if off > 0 => Some(off),
                    _ => None,
                };
                let full = current.is_none()
                    && capacity.is_some_and(|capacity| model.members.len() >= capacity as usize);
                let put = PutMember {
                    capacity,
                    ..put(who.as_str(), expected)
                };
                match store.put_member(&room, &id, put).await.unwrap() {
                    PutOutcome::Done {
                        version,
                        sequence: now,
                    } => {
                        assert!(exists && current == expected && !full);
                        let last = past.insert(who.clone(), version);
                        assert!(last.is_none_or(|last| last < version));
                        assert_eq!(now, sequence + 1);
                        model.members.insert(who, version);
                        model.open = Some((id, room_version, now));
                    }
                    PutOutcome::Conflict(member) => {
                        assert!(current != expected);
                        assert_eq!(member.map(|member| member.version), current);
                    }
                    PutOutcome::Full => assert!(full && current == expected),
                    PutOutcome::NoRoom => assert!(!exists),
                }
            }
            Op::Remove { who, off, end } => {
                let who = identity(&who.to_string());
                let current = model.members.get(&who).copied();
                let expected = current.unwrap_or(0) + off;
                let when = if end { WhenEmpty::End } else { WhenEmpty::Keep };
                match store
                    .remove_member(&room, &id, &who, expected, when)
                    .await
                    .unwrap()
                {
                    RemoveOutcome::Done {
                        sequence: now,
                        empty,
                    } => {
                        assert_eq!(current, Some(expected));
                        model.members.remove(&who);
                        assert_eq!(empty, model.members.is_empty());
                        assert_eq!(now, sequence + 1);
                        model.open = (!(empty && end)).then_some((id, room_version, now));
                    }
                    RemoveOutcome::Conflict => assert!(exists && current != Some(expected)),
                    RemoveOutcome::NoRoom => assert!(!exists),
                }
            }
            Op::End { off } => match store.end_room(&room, &id, sequence + off).await.unwrap() {
                EndOutcome::Done => {
                    assert!(exists && off == 0 && model.members.is_empty());
                    model.open = None;
                }
                EndOutcome::Conflict => assert!(exists && (off != 0 || !model.members.is_empty())),
                EndOutcome::NoRoom => assert!(!exists),
            },
        }
        // Nothing waits in the store: the events of an operation are there when it returns.
        while let Ok(event) = watch.events.try_recv() {
            heard.apply(&event);
        }
        let read = store.read_room(&room).await.unwrap();
        let seen = Heard {
            open: read
                .as_ref()
                .map(|read| (read.room.id.clone(), read.room.version, read.sequence)),
            members: read
                .iter()
                .flat_map(|read| &read.members)
                .map(|member| (member.identity.clone(), member.version))
                .collect(),
        };
        assert_eq!(seen, heard, "events tell everything");
        assert_eq!(
            (seen.open, seen.members),
            (model.open.clone(), model.members.clone())
        );
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model_and_events_tell_everything(ops in prop::collection::vec(op(), 0..60)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(ops));
    }
}
