//! What a room's members share, on whichever shards they sit: who speaks, how good connections are, data
//! packets.
//!
//! Each shard tells its own members what is said here, and the other shards and nodes that host the room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pipemesh_node_core::data::{DataPacket, Destination};
use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::speaker::SpeakerChange;
use pipemesh_proto::ids::{ParticipantId, RoomId};

use super::Shard;
use super::command::SessionKey;
use super::event::{Event, Judgement, Speaker};
use super::message::Message;
use super::microphones::Microphones;
use super::neighbours::ShardSet;
use super::session::{Parcel, RoomKey};

/// The part of a room that sits on one shard.
pub(super) struct Room {
    pub(super) id: RoomId,
    /// Indices of the sessions.
    pub(super) members: Vec<usize>,
    /// Judgements that the members have not been told.
    pub(super) judged: Vec<Judgement>,
    /// Tracks of other nodes that are taken here, for whomever.
    pub(super) landed: usize,
    /// Other shards that host a part of it.
    elsewhere: ShardSet,
    /// Who speaks there, and where.
    speaking: Vec<(u16, Speaker)>,
    pub(super) microphones: Microphones,
}

impl Room {
    fn new(id: RoomId) -> Self {
        Self {
            id,
            members: Vec::new(),
            judged: Vec::new(),
            landed: 0,
            elsewhere: ShardSet::default(),
            speaking: Vec::new(),
            microphones: Microphones::default(),
        }
    }

    /// Whether somebody speaks elsewhere; nobody: who spoke last is as important as they were.
    pub(super) fn has_speakers(&self) -> bool {
        !self.speaking.is_empty()
    }

    pub(super) fn speaks(&self, participant: &ParticipantId) -> bool {
        let mut speaking = self.speaking.iter();
        speaking.any(|(_, speaker)| speaker.participant == *participant)
    }

    /// Whether other shards host a part of it.
    pub(super) fn is_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty()
    }
}

/// Pipes to nodes that are told what is said in a room here.
#[derive(Default)]
pub(super) struct Followers(BTreeMap<RoomId, Vec<u16>>);

impl Followers {
    fn of(&self, room: &RoomId) -> &[u16] {
        self.0.get(room).map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, room: RoomId, pipe: u16) {
        let followers = self.0.entry(room).or_default();
        if !followers.contains(&pipe) {
            followers.push(pipe);
        }
    }

    fn remove(&mut self, room: &RoomId, pipe: u16) {
        if let Some(followers) = self.0.get_mut(room) {
            followers.retain(|other| *other != pipe);
            if followers.is_empty() {
                self.0.remove(room);
            }
        }
    }

    pub(super) fn forget(&mut self, pipe: u16) {
        self.0.retain(|_, followers| {
            followers.retain(|other| *other != pipe);
            !followers.is_empty()
        });
    }
}

impl Shard {
    /// The room of this name; a new one if there is none.
    pub(super) fn open_room(&mut self, id: &RoomId) -> RoomKey {
        if let Some(&room) = self.room_keys.get(id) {
            return room;
        }
        let room = self.next_key();
        self.room_keys.insert(id.clone(), room);
        self.rooms.insert(room, Room::new(id.clone()));
        for other in self.neighbours.shards() {
            self.neighbours.tell(other, Message::RoomOpened(id.clone()));
        }
        room
    }

    /// A session has left its room.
    pub(super) fn leave_room(&mut self, key: RoomKey, index: usize) {
        let Some(room) = self.rooms.get_mut(&key) else {
            return;
        };
        room.members.retain(|member| *member != index);
        self.close_empty(key);
    }

    /// Closes a room in which nothing is left.
    pub(super) fn close_empty(&mut self, key: RoomKey) {
        let room = self.rooms.get(&key);
        if room.is_none_or(|room| !room.members.is_empty() || room.landed > 0) {
            return;
        }
        if let Some(room) = self.rooms.remove(&key) {
            self.room_keys.remove(&room.id);
            // To all, not only those known to host it: one of them may be about to say so.
            for other in self.neighbours.shards() {
                let message = Message::RoomClosed(room.id.clone());
                self.neighbours.tell(other, message);
            }
        }
    }

    fn room_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.rooms.get_mut(self.room_keys.get(id)?)
    }

    pub(super) fn tell_elsewhere(&mut self, key: RoomKey, message: impl Fn(RoomId) -> Message) {
        let Some(room) = self.rooms.get(&key) else {
            return;
        };
        let followers = self.followers.of(&room.id).iter().copied();
        for neighbour in room.elsewhere.iter().chain(followers) {
            self.neighbours.tell(neighbour, message(room.id.clone()));
        }
    }

    pub(super) fn is_elsewhere(&self, key: RoomKey) -> bool {
        self.rooms
            .get(&key)
            .is_some_and(|room| room.is_elsewhere() || !self.followers.of(&room.id).is_empty())
    }

    pub(super) fn handle_follow(&mut self, from: u16, id: RoomId, now: Instant) {
        self.followers.insert(id.clone(), from);
        if let Some(&key) = self.room_keys.get(&id) {
            let speakers = self.name_speakers(&self.router.active_speakers(key));
            self.neighbours.tell(from, Message::RoomHere(id, speakers));
            self.greet_microphones(from, key, now);
        }
    }

    pub(super) fn handle_unfollow(&mut self, from: u16, id: &RoomId) {
        self.followers.remove(id, from);
    }

    pub(super) fn handle_room_opened(&mut self, from: u16, id: &RoomId, now: Instant) {
        let Some(&key) = self.room_keys.get(id) else {
            return;
        };
        if let Some(room) = self.rooms.get_mut(&key) {
            room.elsewhere.insert(from);
        }
        let speakers = self.name_speakers(&self.router.active_speakers(key));
        let message = Message::RoomHere(id.clone(), speakers);
        self.neighbours.tell(from, message);
        self.greet_microphones(from, key, now);
    }

    pub(super) fn handle_room_here(
        &mut self,
        from: u16,
        id: &RoomId,
        speakers: Vec<Speaker>,
        now: Instant,
    ) {
        let Some(&key) = self.room_keys.get(id) else {
            return;
        };
        if let Some(room) = self.rooms.get_mut(&key) {
            room.elsewhere.insert(from);
        }
        self.handle_speakers(from, id, &speakers);
        self.greet_microphones(from, key, now);
    }

    pub(super) fn handle_room_closed(&mut self, from: u16, id: &RoomId) {
        let Some(room) = self.room_mut(id) else {
            return;
        };
        room.elsewhere.remove(from);
        self.silence(from, id);
    }

    /// A pipe is gone: who spoke there is heard no more.
    pub(super) fn forget_speakers(&mut self, from: u16) {
        for id in self.room_keys.keys().cloned().collect::<Vec<_>>() {
            self.silence(from, &id);
        }
    }

    /// Nobody is left there to speak.
    fn silence(&mut self, from: u16, id: &RoomId) {
        let Some(room) = self.room_mut(id) else {
            return;
        };
        room.microphones.forget(from);
        let silent = room.speaking.iter().filter(|(shard, _)| *shard == from);
        let silent: Vec<Speaker> = silent
            .map(|(_, speaker)| Speaker {
                level: 0.0,
                active: false,
                ..speaker.clone()
            })
            .collect();
        self.handle_speakers(from, id, &silent);
    }

    // Speakers.

    /// Somebody here began or ceased to speak.
    pub(super) fn tell_speakers(&mut self, key: RoomKey, changes: &[SpeakerChange<SessionKey>]) {
        let speakers = self.name_speakers(changes);
        if speakers.is_empty() {
            return;
        }
        self.tell_members(key, &Event::SpeakersChanged(speakers.clone()));
        let speakers: Arc<[Speaker]> = speakers.into();
        self.tell_elsewhere(key, |room| Message::Speakers(room, Arc::clone(&speakers)));
    }

    /// A session has come: who speaks is told at once, not when they next pause.
    pub(super) fn greet(&mut self, index: usize) {
        let key = self.sessions[index].room;
        let mut speakers = self.name_speakers(&self.router.active_speakers(key));
        if let Some(room) = self.rooms.get(&key) {
            speakers.extend(room.speaking.iter().map(|(_, speaker)| speaker.clone()));
        }
        if !speakers.is_empty() {
            self.sessions[index].tell(Event::SpeakersChanged(speakers));
        }
    }

    pub(super) fn handle_speakers(&mut self, from: u16, id: &RoomId, changes: &[Speaker]) {
        let Some(&key) = self.room_keys.get(id) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&key) else {
            return;
        };
        let mut is_another = false;
        for change in changes {
            is_another |= change.active != room.speaks(&change.participant);
            room.speaking
                .retain(|(_, speaker)| speaker.participant != change.participant);
            if change.active {
                room.speaking.push((from, change.clone()));
            }
        }
        if !changes.is_empty() {
            self.tell_members(key, &Event::SpeakersChanged(changes.to_vec()));
        }
        if is_another {
            self.weigh_remote(key);
        }
    }

    fn name_speakers(&self, changes: &[SpeakerChange<SessionKey>]) -> Vec<Speaker> {
        let named = changes.iter().filter_map(|change| {
            let index = self.session_index.get(&change.participant)?;
            let participant = self.sessions.get(*index)?.participant.clone();
            Some(Speaker {
                participant,
                level: change.level,
                active: change.active,
            })
        });
        named.collect()
    }

    fn tell_members(&mut self, key: RoomKey, event: &Event) {
        let members = self.rooms.get(&key).map(|room| &room.members);
        for &member in members.map_or(&[][..], |members| members) {
            self.sessions[member].tell(event.clone());
        }
    }

    // Quality.

    /// Tells a room's members what has been judged of late, all in one.
    pub(super) fn tell_quality(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(&key) else {
            return;
        };
        let judged: Arc<[Judgement]> = std::mem::take(&mut room.judged).into();
        self.tell_members(key, &Event::QualityChanged(Arc::clone(&judged)));
        self.tell_elsewhere(key, |room| Message::Quality(room, Arc::clone(&judged)));
    }

    pub(super) fn handle_quality(&mut self, id: &RoomId, judged: &Arc<[Judgement]>) {
        if let Some(&key) = self.room_keys.get(id) {
            self.tell_members(key, &Event::QualityChanged(Arc::clone(judged)));
        }
    }

    // Data.

    /// Sends a stamped packet to whom it is meant for, here and elsewhere, but its sender.
    pub(super) fn spread_parcel(&mut self, sender: usize, parcel: &Parcel, now: Instant) {
        let key = self.sessions[sender].room;
        if self.is_elsewhere(key) {
            // Like a client that takes data more slowly than it is sent.
            if self.neighbours.is_congested() {
                self.data_drops.count(DropReason::Congested);
            } else {
                self.tell_elsewhere(key, |room| Message::Data {
                    room,
                    packet: parcel.bytes.clone(),
                    reliable: parcel.reliable,
                });
            }
        }
        self.deliver_parcel(key, Some(sender), parcel, now);
    }

    pub(super) fn handle_data_elsewhere(
        &mut self,
        id: &RoomId,
        bytes: Bytes,
        reliable: bool,
        now: Instant,
    ) {
        let Some(&key) = self.room_keys.get(id) else {
            return self.data_drops.count(DropReason::Gone);
        };
        self.deliver_parcel(key, None, &Parcel { bytes, reliable }, now);
    }

    fn deliver_parcel(
        &mut self,
        key: RoomKey,
        sender: Option<usize>,
        parcel: &Parcel,
        now: Instant,
    ) {
        let Ok(packet) = DataPacket::parse(&parcel.bytes) else {
            return self.data_drops.count(DropReason::Malformed);
        };
        let destinations: Vec<Destination<'_>> = packet.destinations().collect();
        let members = self.rooms.get(&key).map(|room| room.members.clone());
        for member in members.unwrap_or_default() {
            let receiver = &self.sessions[member];
            let (identity, id) = (&receiver.identity, receiver.participant.as_str());
            let is_meant =
                destinations.is_empty() || destinations.iter().any(|to| to.is(identity, id));
            if Some(member) != sender && is_meant && receiver.rights.receive {
                self.send_parcel(member, parcel, now);
            }
        }
    }
}
