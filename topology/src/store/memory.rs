//! The store of the embedded default. What it holds ends with the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, RoomId};
use tokio::sync::broadcast;

use super::{
    Change, EndOutcome, Heard, LETTERS_CAPACITY, Lease, Letters, Member, NewRoom, Opened,
    PutMember, PutOutcome, RemoveOutcome, Renewed, Room, RoomEvent, RoomPage, RoomSnapshot,
    RoomUpdate, Store, Unavailable, UpdateRoom, WATCH_CAPACITY, Watch, WhenEmpty,
};
use crate::names::{Identity, RoomName};

/// One lock around all rooms, one around all leases, one around who listens: each operation is a few map accesses, and nothing
/// waits inside.
#[derive(Debug, Default)]
pub struct MemoryStore {
    names: Mutex<HashMap<RoomName, Name>>,
    leases: Mutex<BTreeMap<ProcessId, Lease>>,
    /// Processes that listen. Held for a map access.
    listening: Mutex<HashMap<ProcessId, broadcast::Sender<Bytes>>>,
}

/// What is known under a name: a room, watchers, or both.
#[derive(Debug, Default)]
struct Name {
    open: Option<Open>,
    watchers: Option<broadcast::Sender<Heard>>,
}

#[derive(Debug)]
struct Open {
    room: Room,
    sequence: u64,
    members: BTreeMap<Identity, Member>,
    /// The highest version any member has had, so that an identity's versions grow also when it
    /// left in between.
    member_version: u64,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn names(&self) -> MutexGuard<'_, HashMap<RoomName, Name>> {
        // A panic inside leaves no half-made change: every operation checks first and changes then.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listening(&self) -> MutexGuard<'_, HashMap<ProcessId, broadcast::Sender<Bytes>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an operation on the room `id`; `None` if it is not the one that is open.
    fn with<T>(
        &self,
        name: &RoomName,
        id: &RoomId,
        operation: impl FnOnce(&mut Name) -> T,
    ) -> Option<T> {
        let mut names = self.names();
        let entry = names.get_mut(name)?;
        if entry.open.as_ref().is_none_or(|open| open.room.id != *id) {
            return None;
        }
        let outcome = operation(entry);
        entry.forget_watchers();
        if entry.open.is_none() && entry.watchers.is_none() {
            names.remove(name);
        }
        Some(outcome)
    }
}

impl Name {
    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("the caller found the room open")
    }

    /// Counts a change and tells whoever watches.
    fn record(&mut self, change: Change) -> u64 {
        let open = self.open();
        open.sequence += 1;
        let event = RoomEvent {
            room: open.room.id.clone(),
            sequence: open.sequence,
            change,
        };
        let sequence = open.sequence;
        if let Some(watchers) = &self.watchers {
            // Fails when nobody watches any more.
            let _ = watchers.send(Ok(Arc::new(event)));
        }
        sequence
    }

    fn end(&mut self) {
        self.record(Change::Ended);
        self.open = None;
    }

    fn forget_watchers(&mut self) {
        let watched = |watchers: &broadcast::Sender<_>| watchers.receiver_count() > 0;
        if !self.watchers.as_ref().is_some_and(watched) {
            self.watchers = None;
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open_room(&self, name: &RoomName, new: NewRoom) -> Result<Opened, Unavailable> {
        let mut names = self.names();
        let entry = names.entry(name.clone()).or_default();
        let created = entry.open.is_none();
        if created {
            let room = Room {
                id: new.id,
                homes: new.homes,
                version: new.after + 1,
                body: new.body,
            };
            entry.open = Some(Open {
                room: room.clone(),
                sequence: new.after,
                members: BTreeMap::new(),
                member_version: new.after,
            });
            entry.record(Change::Opened(room));
        }
        let open = entry.open();
        Ok(Opened {
            room: open.room.clone(),
            sequence: open.sequence,
            created,
        })
    }

    async fn read_room(&self, name: &RoomName) -> Result<Option<RoomSnapshot>, Unavailable> {
        let names = self.names();
        let open = names.get(name).and_then(|entry| entry.open.as_ref());
        Ok(open.map(|open| RoomSnapshot {
            room: open.room.clone(),
            sequence: open.sequence,
            members: open.members.values().cloned().collect(),
        }))
    }

    async fn update_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        expected: u64,
        update: RoomUpdate,
    ) -> Result<UpdateRoom, Unavailable> {
        let outcome = self.with(name, id, |entry| {
            let room = &mut entry.open().room;
            if room.version != expected {
                return UpdateRoom::Conflict(Some(room.clone()));
            }
            room.version += 1;
            if let Some(homes) = update.homes {
                room.homes = homes;
            }
            if let Some(body) = update.body {
                room.body = body;
            }
            let room = room.clone();
            let version = room.version;
            let sequence = entry.record(Change::RoomUpdated(room));
            UpdateRoom::Done { version, sequence }
        });
        Ok(outcome.unwrap_or(UpdateRoom::Conflict(None)))
    }

    async fn put_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        put: PutMember,
    ) -> Result<PutOutcome, Unavailable> {
        let outcome = self.with(name, id, |entry| {
            let open = entry.open();
            let current = open.members.get(&put.identity);
            if current.map(|member| member.version) != put.expected {
                return PutOutcome::Conflict(current.cloned());
            }
            let full = |capacity: u32| open.members.len() >= capacity as usize;
            if current.is_none() && put.capacity.is_some_and(full) {
                return PutOutcome::Full;
            }
            open.member_version += 1;
            let member = Member {
                identity: put.identity.clone(),
                version: open.member_version,
                body: put.body,
            };
            open.members.insert(put.identity, member.clone());
            let version = member.version;
            let sequence = entry.record(Change::MemberPut(member));
            PutOutcome::Done { version, sequence }
        });
        Ok(outcome.unwrap_or(PutOutcome::NoRoom))
    }

    async fn remove_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        identity: &Identity,
        expected: u64,
        when_empty: WhenEmpty,
    ) -> Result<RemoveOutcome, Unavailable> {
        let outcome = self.with(name, id, |entry| {
            let members = &mut entry.open().members;
            if members.get(identity).map(|member| member.version) != Some(expected) {
                return RemoveOutcome::Conflict;
            }
            members.remove(identity);
            let empty = members.is_empty();
            let sequence = entry.record(Change::MemberRemoved(identity.clone()));
            if empty && when_empty == WhenEmpty::End {
                entry.end();
            }
            RemoveOutcome::Done { sequence, empty }
        });
        Ok(outcome.unwrap_or(RemoveOutcome::NoRoom))
    }

    async fn end_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        sequence: u64,
    ) -> Result<EndOutcome, Unavailable> {
        let outcome = self.with(name, id, |entry| {
            let open = entry.open();
            if open.sequence != sequence || !open.members.is_empty() {
                return EndOutcome::Conflict;
            }
            entry.end();
            EndOutcome::Done
        });
        Ok(outcome.unwrap_or(EndOutcome::NoRoom))
    }

    async fn list_rooms(&self, _from: Option<u64>) -> Result<RoomPage, Unavailable> {
        let names = self.names();
        let open = names.iter().filter(|(_, entry)| entry.open.is_some());
        Ok(RoomPage {
            names: open.map(|(name, _)| name.clone()).collect(),
            next: None,
        })
    }

    async fn renew_lease(&self, process: &ProcessId, said: &str) -> Result<Renewed, Unavailable> {
        let mut leases = self.leases();
        let before = leases.insert(process.clone(), Lease::Held(said.to_owned()));
        Ok(Renewed {
            before,
            leases: leases.clone(),
        })
    }

    async fn change_lease(
        &self,
        process: &ProcessId,
        expected: Option<&Lease>,
        lease: Option<&Lease>,
    ) -> Result<bool, Unavailable> {
        let mut leases = self.leases();
        if leases.get(process) != expected {
            return Ok(false);
        }
        match lease {
            Some(lease) => leases.insert(process.clone(), lease.clone()),
            None => leases.remove(process),
        };
        Ok(true)
    }

    async fn tell(&self, process: &ProcessId, said: Bytes) -> Result<bool, Unavailable> {
        let listening = self.listening();
        let there = listening.get(process);
        Ok(there.is_some_and(|there| there.send(said).is_ok()))
    }

    async fn listen(&self, process: &ProcessId) -> Result<Letters, Unavailable> {
        let mut listening = self.listening();
        listening.retain(|_, there| there.receiver_count() > 0);
        let there = listening
            .entry(process.clone())
            .or_insert_with(|| broadcast::Sender::new(LETTERS_CAPACITY));
        Ok(Letters::new(there.subscribe()))
    }

    async fn watch(&self, name: &RoomName) -> Result<Watch, Unavailable> {
        let mut names = self.names();
        // Names that nobody watches any more and that have no room end here.
        names.retain(|_, entry| {
            entry.forget_watchers();
            entry.open.is_some() || entry.watchers.is_some()
        });
        let entry = names.entry(name.clone()).or_default();
        let watchers = entry
            .watchers
            .get_or_insert_with(|| broadcast::Sender::new(WATCH_CAPACITY));
        Ok(Watch::new(watchers.subscribe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_what_nobody_watches() {
        let store = MemoryStore::new();
        for i in 0..10 {
            let name = format!("room-{i}").parse().unwrap();
            drop(store.watch(&name).await.unwrap());
        }
        let _watch = store.watch(&"last".parse().unwrap()).await.unwrap();
        assert_eq!(store.names().len(), 1);
    }
}
