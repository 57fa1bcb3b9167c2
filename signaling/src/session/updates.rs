//! What the client knows of the room and of the others in it, and when it is told more.
//!
//! Changes are not queued: it is only remembered whose they are. When it is time, what the client
//! was told last is compared with what is true then, so a burst of changes is one message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message;
use livekit_protocol::{ParticipantInfo, Room, RoomUpdate};
use pipemesh_topology::Identity;

use crate::livekit::message;
use crate::rooms::RoomState;
use crate::rooms::record::Member;

/// Time between two updates about participants. Longer: fewer messages in a room where many join.
/// Shorter: changes are seen sooner.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two updates that only count people.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Leavings told lately. The client may not have heard the last of them when its socket broke.
const DEPARTED: usize = 256;

/// Whom the client knows.
#[derive(Debug, Default)]
struct Known {
    /// As they were told last.
    by_identity: BTreeMap<Identity, Arc<Member>>,
    sids: BTreeSet<String>,
}

impl Known {
    fn get(&self, identity: &Identity) -> Option<&Arc<Member>> {
        self.by_identity.get(identity)
    }

    fn insert(&mut self, identity: &Identity, member: &Arc<Member>) {
        self.remove(identity);
        self.sids.insert(member.info.sid.clone());
        self.by_identity
            .insert(identity.clone(), Arc::clone(member));
    }

    fn remove(&mut self, identity: &Identity) -> Option<Arc<Member>> {
        let told = self.by_identity.remove(identity)?;
        self.sids.remove(&told.info.sid);
        Some(told)
    }
}

#[derive(Debug, Default)]
pub(super) struct Updates {
    known: Known,
    changed: BTreeSet<Identity>,
    /// The client itself changed in a way that it has to be told.
    self_changed: bool,
    last: Option<Instant>,
    departed: VecDeque<(Identity, Arc<Member>)>,
    room: Option<Room>,
    room_told: Option<Instant>,
    room_changed: bool,
}

impl Updates {
    pub(super) fn mark(&mut self, identity: &Identity) {
        self.changed.insert(identity.clone());
    }

    pub(super) fn mark_self(&mut self) {
        self.self_changed = true;
    }

    /// Others left before this process served the client, who may not have heard it.
    pub(super) fn departed_before(&mut self, departed: impl Iterator<Item = Arc<Member>>) {
        for told in departed {
            self.depart(told.identity.clone(), told);
        }
    }

    /// Everybody whom the client knows or might have to get to know.
    pub(super) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.known.by_identity.keys()
    }

    /// Whether the client knows of somebody by this sid.
    pub(super) fn knows(&self, sid: &str) -> bool {
        self.known.sids.contains(sid)
    }

    /// When something is to be said.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let people = (!self.changed.is_empty() || self.self_changed)
            .then(|| self.last.map_or(now, |last| last + UPDATE_INTERVAL));
        let room = self
            .room_changed
            .then(|| self.room_told.map_or(now, |told| told + COUNT_INTERVAL));
        people.into_iter().chain(room).min()
    }

    /// The others as a client that joins is told.
    pub(super) fn begin(
        &mut self,
        room: &RoomState,
        me: &Identity,
        now: Instant,
    ) -> (Room, Vec<ParticipantInfo>) {
        self.known = Known::default();
        self.changed.clear();
        self.self_changed = false;
        self.last = Some(now);
        let others = room.members.iter().filter(|(identity, _)| *identity != me);
        let others = others.filter(|(_, member)| member.is_visible());
        let others = others.map(|(identity, member)| {
            self.known.insert(identity, member);
            member.info.clone()
        });
        let others = others.collect();
        let info = room.info();
        self.room_is_told(&info, now);
        (Room::clone(&info), others)
    }

    /// Everything, for a client that comes back: who left lately, everybody there, itself.
    pub(super) fn again(
        &mut self,
        room: &RoomState,
        me: &Identity,
        myself: &ParticipantInfo,
        now: Instant,
    ) -> [Message; 2] {
        let known = std::mem::take(&mut self.known).by_identity;
        for (identity, told) in known {
            if visible(room, &identity).is_none_or(|member| member.info.sid != told.info.sid) {
                self.depart(identity, told);
            }
        }
        // Somebody who came back under the same identity is there, whatever the client last heard.
        let gone = self
            .departed
            .iter()
            .filter(|(who, _)| visible(room, who).is_none());
        let mut participants: Vec<ParticipantInfo> =
            gone.map(|(_, told)| message::gone(&told.info)).collect();
        let (info, others) = self.begin(room, me, now);
        participants.extend(others);
        participants.push(myself.clone());
        let room = RoomUpdate { room: Some(info) };
        [message::update(participants), Message::RoomUpdate(room)]
    }

    /// Notes how the room is now; says at once what is more than a count.
    pub(super) fn handle_room(&mut self, info: &Arc<Room>, now: Instant) -> Option<Message> {
        let before = self.room.as_mut()?;
        if *before == **info {
            self.room_changed = false;
            return None;
        }
        self.room_changed = true;
        // Compared in place: everybody in a room hears of each who comes and goes.
        let counts = |room: &Room| (room.num_participants, room.num_publishers);
        let told = counts(before);
        (before.num_participants, before.num_publishers) = counts(info);
        let is_counted_only = *before == **info;
        (before.num_participants, before.num_publishers) = told;
        (!is_counted_only).then(|| self.tell_room(info, now))
    }

    /// What is due by now.
    pub(super) fn poll(
        &mut self,
        room: &RoomState,
        myself: &ParticipantInfo,
        now: Instant,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.room_changed
            && self
                .room_told
                .is_none_or(|told| told + COUNT_INTERVAL <= now)
        {
            messages.push(self.tell_room(&room.info(), now));
        }
        if self.last.is_none_or(|last| last + UPDATE_INTERVAL <= now) {
            messages.extend(self.flush(room, myself, now));
        }
        messages
    }

    /// What is known of changes by now, due or not, if one of these tracks is among them.
    pub(super) fn flush_for<'a>(
        &mut self,
        tracks: impl IntoIterator<Item = &'a String>,
        room: &RoomState,
        myself: &ParticipantInfo,
        now: Instant,
    ) -> Option<Message> {
        let mut tracks = tracks.into_iter();
        let carried = tracks.any(|track| {
            self.changed.iter().any(|identity| {
                let member = room.members.get(identity);
                member
                    .is_some_and(|member| member.info.tracks.iter().any(|info| info.sid == *track))
            })
        });
        if carried {
            self.flush(room, myself, now)
        } else {
            None
        }
    }

    fn flush(
        &mut self,
        room: &RoomState,
        myself: &ParticipantInfo,
        now: Instant,
    ) -> Option<Message> {
        let mut participants = Vec::new();
        for identity in std::mem::take(&mut self.changed) {
            let member = visible(room, &identity);
            let stays =
                |told: &Arc<Member>| member.is_some_and(|member| member.info.sid == told.info.sid);
            if self.known.get(&identity).is_some_and(|told| !stays(told))
                && let Some(told) = self.known.remove(&identity)
            {
                participants.push(message::gone(&told.info));
                self.depart(identity.clone(), told);
            }
            let Some(member) = member else { continue };
            let news = |told: &Arc<Member>| told.info.version < member.info.version;
            if self.known.get(&identity).is_none_or(news) {
                participants.push(member.info.clone());
                self.known.insert(&identity, member);
            }
        }
        if std::mem::take(&mut self.self_changed) {
            participants.push(myself.clone());
        }
        if participants.is_empty() {
            return None;
        }
        self.last = Some(now);
        Some(message::update(participants))
    }

    fn depart(&mut self, identity: Identity, told: Arc<Member>) {
        if self.departed.len() == DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back((identity, told));
    }

    fn tell_room(&mut self, info: &Arc<Room>, now: Instant) -> Message {
        self.room_is_told(info, now);
        Message::RoomUpdate(RoomUpdate {
            room: Some(Room::clone(info)),
        })
    }

    fn room_is_told(&mut self, info: &Arc<Room>, now: Instant) {
        self.room = Some(Room::clone(info));
        self.room_told = Some(now);
        self.room_changed = false;
    }
}

fn visible<'a>(room: &'a RoomState, identity: &Identity) -> Option<&'a Arc<Member>> {
    let member = room.members.get(identity)?;
    member.is_visible().then_some(member)
}
