//! The tracks published on this node, and those it takes from others, so that subscribers' sessions know
//! what they will be sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipemesh_proto::ids::{RoomId, SessionId, TrackId};

use crate::session::sdp::Format;
use crate::shard::Origin;

/// Written by each publishing session, read by subscribing ones.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    // Held for one look-up or change, never across an await; a subscription a second is a busy node.
    known: Mutex<HashMap<TrackId, TrackEntry>>,
    generations: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrackEntry {
    pub(crate) room: RoomId,
    pub(crate) session: SessionId,
    pub(crate) format: Format,
    pub(crate) origin: Origin,
}

impl Tracks {
    /// A number for a track that is about to be published; see [`Origin`].
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn insert(&self, track: TrackId, entry: TrackEntry) {
        self.lock().insert(track, entry);
    }

    /// Forgets a session's track. One that another session has published under its id since, as a
    /// participant that came back does, stays.
    pub(crate) fn remove(&self, track: &TrackId, session: &SessionId) {
        let mut known = self.lock();
        if known.get(track).is_some_and(|it| it.session == *session) {
            known.remove(track);
        }
    }

    /// Forgets a track of another node, unless another one took its place.
    pub(crate) fn remove_generation(&self, track: &TrackId, generation: u64) {
        let mut known = self.lock();
        if known
            .get(track)
            .is_some_and(|it| it.origin.generation == generation)
        {
            known.remove(track);
        }
    }

    pub(crate) fn get(&self, track: &TrackId) -> Option<TrackEntry> {
        self.lock().get(track).cloned()
    }

    /// The tracks of a room, each with the session that publishes it.
    pub(crate) fn of_room(&self, room: &RoomId) -> Vec<(TrackId, SessionId)> {
        let known = self.lock();
        let of_room = known.iter().filter(|(_, entry)| entry.room == *room);
        of_room
            .map(|(track, entry)| (track.clone(), entry.session.clone()))
            .collect()
    }

    pub(crate) fn count_by_room(&self) -> HashMap<RoomId, u32> {
        let mut counts = HashMap::new();
        for entry in self.lock().values() {
            *counts.entry(entry.room.clone()).or_default() += 1;
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TrackId, TrackEntry>> {
        // No operation leaves the map half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
