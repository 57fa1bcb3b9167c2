//! Microphones of rooms in which only the loudest are heard: measured where they are published, told to
//! whoever else hosts the room, and chosen among where their listeners are. Who is loudest is the core's
//! decision (`core/loudest.rs`).
//!
//! A microphone that is not heard here is asked for nowhere: its packets neither leave for listeners nor cross
//! from other shards and nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pipemesh_node_core::loudest::{self, Loudest, Told};
use pipemesh_node_core::router::TrackKey;
use pipemesh_proto::ids::{RoomId, TrackId};

use super::message::Message;
use super::session::RoomKey;
use super::{Shard, Timer};

/// The microphones of a room that are published here, or taken from elsewhere.
#[derive(Default)]
pub(super) struct Microphones {
    here: BTreeMap<TrackId, Here>,
    /// If only so many are heard.
    loudest: Option<Loudest<TrackId>>,
    /// A timer for the end of the window is set.
    is_watched: bool,
}

#[derive(Clone, Copy)]
struct Here {
    key: TrackKey,
    is_own: bool,
}

impl Microphones {
    /// Another shard or node has nobody in the room any more. What follows is chosen with the next window.
    pub(super) fn forget(&mut self, from: u16) {
        if let Some(loudest) = &mut self.loudest {
            loudest.forget(from);
        }
    }

    /// Whether there is anything to choose, or to tell others so that they can.
    fn is_to_be_watched(&self, is_elsewhere: bool) -> bool {
        let Some(loudest) = &self.loudest else {
            return false;
        };
        let has_own = self.here.values().any(|it| it.is_own);
        loudest.len() > loudest.most() || is_elsewhere && has_own
    }
}

impl Shard {
    /// Of a room's microphones so many are heard, the loudest; 0: all. All of its sessions say the same.
    pub(super) fn limit_microphones(&mut self, room: RoomKey, most: u32, now: Instant) {
        let Some(known) = self.rooms.get_mut(&room) else {
            return;
        };
        let microphones = &mut known.microphones;
        let most = most as usize;
        match &mut microphones.loudest {
            Some(loudest) if loudest.most() == most => return,
            None if most == 0 => return,
            _ if most == 0 => microphones.loudest = None,
            Some(loudest) => loudest.set_most(most),
            None => {
                let mut loudest = Loudest::new(most);
                for (track, here) in &microphones.here {
                    match here.is_own {
                        true => loudest.publish(track.clone()),
                        false => loudest.take(track.clone()),
                    }
                }
                microphones.loudest = Some(loudest);
            }
        }
        self.choose_microphones(room, now);
    }

    /// A microphone is published here, or taken from elsewhere.
    pub(super) fn add_microphone(
        &mut self,
        room: RoomKey,
        track: &TrackId,
        key: TrackKey,
        is_own: bool,
        now: Instant,
    ) {
        let Some(known) = self.rooms.get_mut(&room) else {
            return;
        };
        let microphones = &mut known.microphones;
        let here = Here { key, is_own };
        microphones.here.insert(track.clone(), here);
        if let Some(loudest) = &mut microphones.loudest {
            match is_own {
                true => loudest.publish(track.clone()),
                false => loudest.take(track.clone()),
            }
            self.choose_microphones(room, now);
        }
    }

    /// … and ends, if it is one.
    pub(super) fn remove_microphone(&mut self, track: &TrackId, key: TrackKey) {
        let room = self.router.spec(key).map(|spec| spec.room);
        let Some(known) = room.and_then(|room| self.rooms.get_mut(&room)) else {
            return;
        };
        let microphones = &mut known.microphones;
        let here = microphones.here.get(track);
        if here.is_none_or(|here| here.key != key) {
            return;
        }
        microphones.here.remove(track);
        if let Some(loudest) = &mut microphones.loudest {
            // Its place is another's with the next window.
            loudest.end(track);
        }
        if let Some(room) = room {
            self.tell_microphones(room);
        }
    }

    /// A window has ended.
    pub(super) fn measure_microphones(&mut self, room: RoomKey, now: Instant) {
        let Self { rooms, router, .. } = self;
        let Some(known) = rooms.get_mut(&room) else {
            return;
        };
        let Microphones {
            here,
            loudest,
            is_watched,
        } = &mut known.microphones;
        *is_watched = false;
        let Some(loudest) = loudest else {
            return;
        };
        for (track, here) in here.iter().filter(|(_, here)| here.is_own) {
            let level = router.take_level(here.key);
            match router.spec(here.key) {
                Some(spec) if spec.muted => loudest.handle_mute(track),
                _ => loudest.handle_window(track, level.loudness()),
            }
        }
        self.choose_microphones(room, now);
        self.tell_microphones(room);
    }

    /// Tells others what has changed among the loudest here.
    fn tell_microphones(&mut self, room: RoomKey) {
        let known = self.rooms.get_mut(&room);
        let loudest = known.and_then(|known| known.microphones.loudest.as_mut());
        let news = loudest.map(Loudest::news).unwrap_or_default();
        if !news.is_empty() {
            let news: Arc<[Told<TrackId>]> = news.into();
            self.tell_elsewhere(room, |id| Message::Microphones(id, Arc::clone(&news)));
        }
    }

    /// Another shard or node tells of its loudest.
    pub(super) fn handle_microphones(
        &mut self,
        from: u16,
        id: &RoomId,
        told: &[Told<TrackId>],
        now: Instant,
    ) {
        let Some(&room) = self.room_keys.get(id) else {
            return;
        };
        let known = self.rooms.get_mut(&room);
        let Some(loudest) = known.and_then(|known| known.microphones.loudest.as_mut()) else {
            return;
        };
        for told in told {
            loudest.handle_told(from, told);
        }
        self.choose_microphones(room, now);
    }

    /// Somebody else hosts the room, too, and has to hear what was told already.
    pub(super) fn greet_microphones(&mut self, to: u16, room: RoomKey, now: Instant) {
        let Some(known) = self.rooms.get(&room) else {
            return;
        };
        let told = known.microphones.loudest.as_ref().map(Loudest::told);
        if let Some(told) = told.filter(|told| !told.is_empty()) {
            let message = Message::Microphones(known.id.clone(), told.into());
            self.neighbours.tell(to, message);
        }
        self.watch_microphones(room, now);
    }

    /// Sees to it that those who are among the loudest are heard, and nobody else.
    fn choose_microphones(&mut self, room: RoomKey, now: Instant) {
        let Self { rooms, router, .. } = self;
        let Some(known) = rooms.get_mut(&room) else {
            return;
        };
        let Microphones { here, loudest, .. } = &mut known.microphones;
        if let Some(loudest) = loudest {
            loudest.choose(now);
        }
        for (track, here) in here {
            let is_heard = loudest.as_ref().is_none_or(|it| it.is_heard(track));
            router.set_heard(here.key, is_heard, now);
        }
        self.watch_microphones(room, now);
    }

    fn watch_microphones(&mut self, room: RoomKey, now: Instant) {
        let is_elsewhere = self.is_elsewhere(room);
        let Some(known) = self.rooms.get_mut(&room) else {
            return;
        };
        let microphones = &mut known.microphones;
        if microphones.is_watched || !microphones.is_to_be_watched(is_elsewhere) {
            return;
        }
        microphones.is_watched = true;
        let timer = Timer::Microphones(room);
        self.timers.set(now + loudest::WINDOW, timer);
    }
}
