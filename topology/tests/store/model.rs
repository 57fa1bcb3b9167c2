//! A store against a model of it: random operations, right ones and wrong ones, and what a watcher
//! makes of the events alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use pipemesh_proto::ids::RoomId;
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::store::{
    Change, EndOutcome, PutMember, PutOutcome, RemoveOutcome, RoomEvent, RoomUpdate, Store,
    UpdateRoom, WhenEmpty,
};
use pipemesh_topology::{Identity, RoomName};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Runtime;

use crate::contract::{identity, name, new_room, put};
use crate::next;
use crate::server::Server;

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
    fn stands_at(&self) -> Option<(&RoomId, u64)> {
        self.open.as_ref().map(|(id, _, sequence)| (id, *sequence))
    }

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

async fn run(store: &dyn Store, room: RoomName, ops: Vec<Op>) {
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
                let homes = Some("node-b".parse().unwrap());
                let update = RoomUpdate { homes, body: None };
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
        let read = store.read_room(&room).await.unwrap();
        // An event may arrive some time after its operation.
        let read_until = read.as_ref().map(|read| (&read.room.id, read.sequence));
        while heard.stands_at() != read_until {
            let event = next(&mut watch).await;
            heard.apply(&event);
        }
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

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..60)
}

/// One store for all cases, each in a room of its own.
fn check(cases: u32, runtime: &Runtime, store: &dyn Store) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let case = AtomicU32::new(0);
    let mut runner = TestRunner::new(config);
    let tested = runner.run(&ops(), |ops| {
        let case = case.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(run(store, name(&format!("room-{case}")), ops));
        Ok(())
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn memory_behaves_like_the_model_and_events_tell_everything() {
    check(256, &runtime(), &MemoryStore::new());
}

#[test]
fn redis_behaves_like_the_model_and_events_tell_everything() {
    let runtime = runtime();
    let (_server, store) = runtime.block_on(async {
        let server = Server::start().await;
        let store = server.store().await;
        (server, store)
    });
    // The keeper of the store needs the runtime to drop it.
    let _inside = runtime.enter();
    check(64, &runtime, &store);
    drop(store);
}
