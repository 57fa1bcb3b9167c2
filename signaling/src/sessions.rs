//! Whom this process serves, so that a client that comes back finds its session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipemesh_proto::ids::{ParticipantId, SessionId};
use pipemesh_topology::{Identity, RoomName};
use tokio::sync::mpsc;

use crate::session::driver::Input;

/// A session as others reach it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) id: ParticipantId,
    pub(crate) session: SessionId,
    pub(crate) inputs: mpsc::Sender<Input>,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Held for map accesses only. Sessions remove themselves when they end.
    by_name: Mutex<HashMap<(RoomName, Identity), Handle>>,
}

impl Sessions {
    /// A session that was there under that name goes on until it notices; nobody finds it any more.
    pub(crate) fn insert(&self, room: &RoomName, identity: &Identity, handle: Handle) {
        self.lock().insert((room.clone(), identity.clone()), handle);
    }

    pub(crate) fn remove(&self, room: &RoomName, identity: &Identity, session: &SessionId) {
        let key = (room.clone(), identity.clone());
        let mut sessions = self.lock();
        if sessions
            .get(&key)
            .is_some_and(|handle| handle.session == *session)
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
