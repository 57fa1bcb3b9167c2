//! Whom this process serves, so that a client that comes back finds its session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pipemesh_proto::ids::{ParticipantId, RoomId};
use pipemesh_topology::{Identity, RoomName};
use tokio::sync::mpsc;

use crate::session::Farewell;
use crate::session::driver::Input;

/// A session as others reach it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) id: ParticipantId,
    pub(crate) room_id: RoomId,
    /// Where in the room's events the session claimed its identity.
    pub(crate) claimed_at: u64,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// What a socket is told that comes after the session has ended; set before `inputs` closes.
    pub(crate) farewell: Arc<OnceLock<Farewell>>,
}

impl Handle {
    fn is_newer_than(&self, other: &Self) -> bool {
        // Rooms of one name follow one another, and with the room all of its sessions end.
        self.room_id != other.room_id || self.claimed_at > other.claimed_at
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Held for map accesses only. Sessions remove themselves when they end.
    by_name: Mutex<HashMap<(RoomName, Identity), Handle>>,
}

impl Sessions {
    /// Of two sessions of one identity the one that claimed it last is found; the other one goes on
    /// until it notices.
    pub(crate) fn insert(&self, room: &RoomName, identity: &Identity, handle: Handle) {
        match self.lock().entry((room.clone(), identity.clone())) {
            Entry::Occupied(mut there) => {
                if handle.is_newer_than(there.get()) {
                    there.insert(handle);
                }
            }
            Entry::Vacant(free) => {
                free.insert(handle);
            }
        }
    }

    /// Removes a handle, known by its farewell: a session that was taken over and came back has another one.
    pub(crate) fn remove(
        &self,
        room: &RoomName,
        identity: &Identity,
        farewell: &Arc<OnceLock<Farewell>>,
    ) {
        let key = (room.clone(), identity.clone());
        let mut sessions = self.lock();
        if sessions
            .get(&key)
            .is_some_and(|handle| Arc::ptr_eq(&handle.farewell, farewell))
        {
            sessions.remove(&key);
        }
    }

    /// The session of somebody who comes back. `id`: who they say they were, if they say.
    pub(crate) fn find(&self, room: &RoomName, identity: &Identity, id: &str) -> Option<Handle> {
        let sessions = self.lock();
        let handle = sessions.get(&(room.clone(), identity.clone()))?;
        (id.is_empty() || handle.id.as_str() == id).then(|| handle.clone())
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(RoomName, Identity), Handle>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_claim_an_identity_is_found() {
        let (room, alice) = ("standup".parse().unwrap(), "alice".parse().unwrap());
        let handle = |room_id: &str, claimed_at| Handle {
            id: ParticipantId::random(),
            room_id: room_id.parse().unwrap(),
            claimed_at,
            inputs: mpsc::channel(1).0,
            farewell: Arc::default(),
        };
        let sessions = Sessions::default();
        let check = |inserted: &Handle, expected: &Handle| {
            sessions.insert(&room, &alice, inserted.clone());
            let found = sessions.find(&room, &alice, "").unwrap();
            assert!(Arc::ptr_eq(&found.farewell, &expected.farewell));
        };
        let (first, second) = (handle("RM_1", 5), handle("RM_1", 7));
        check(&second, &second);
        check(&first, &second);
        let later = handle("RM_2", 2);
        check(&later, &later);
    }
}
