//! What the tracks of a room have in common: who speaks.

use std::time::Instant;

use super::agenda::{Agenda, Timer};
use super::{Output, Router, SubscriptionKey, TrackKey};
use crate::loudest::Level;
use crate::speaker::{self, SpeakerChange, Speakers};
use crate::track::TrackSpec;

#[derive(Debug)]
pub(super) struct Room<P> {
    speakers: Speakers<P>,
    tracks: u32,
    /// A timer for the end of the window is set.
    watched: bool,
}

impl<P: Ord + Copy> Room<P> {
    fn new() -> Self {
        Self {
            speakers: Speakers::default(),
            tracks: 0,
            watched: false,
        }
    }

    /// Takes the level of a packet's audio.
    #[inline]
    pub(super) fn hear<R: Copy>(
        &mut self,
        spec: &TrackSpec<R, P>,
        level: u8,
        now: Instant,
        agenda: &mut Agenda<R, P>,
    ) {
        self.speakers.handle_level(spec.participant, level);
        if !self.watched {
            self.watched = true;
            agenda.set(now + speaker::WINDOW, Timer::Speakers(spec.room));
        }
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Who speaks at present, loudest first.
    pub fn active_speakers(&self, room: R) -> Vec<SpeakerChange<P>> {
        self.rooms
            .get(&room)
            .map(|room| room.speakers.active())
            .unwrap_or_default()
    }

    /// What a microphone's packets said since this was asked last.
    pub fn take_level(&mut self, key: TrackKey) -> Level {
        let track = self.track_mut(key);
        track
            .map(|track| std::mem::take(&mut track.level))
            .unwrap_or_default()
    }

    /// Whether anybody here is to be sent a microphone, whoever wishes it; all are until it is said. Nothing of
    /// one that is not heard is asked for upstream, either.
    pub fn set_heard(&mut self, key: TrackKey, is_heard: bool, now: Instant) {
        let Some(track) = self.track_mut(key) else {
            return;
        };
        let is_unheard = track.spec.speaks && !is_heard;
        if std::mem::replace(&mut track.is_unheard, is_unheard) != is_unheard {
            self.reconsider(key, now);
        }
    }

    /// Whether a track is a microphone that nobody here is sent because others are louder.
    pub fn is_unheard(&self, key: SubscriptionKey) -> bool {
        let track = self.subscription(key).and_then(|it| self.track(it.track));
        track.is_some_and(|track| track.is_unheard)
    }

    pub(super) fn enter_room(&mut self, name: R) {
        let room = self.rooms.entry(name).or_insert_with(Room::new);
        room.tracks += 1;
    }

    /// A track of the room has ended. `counts`: for active speakers.
    pub(super) fn leave_room(&mut self, spec: &TrackSpec<R, P>, counts: bool) {
        let Some(room) = self.rooms.get_mut(&spec.room) else {
            return;
        };
        room.tracks -= 1;
        if counts && room.speakers.remove(spec.participant) {
            let change = SpeakerChange {
                participant: spec.participant,
                level: 0.0,
                active: false,
            };
            self.agenda
                .say(Output::SpeakersChanged(spec.room, vec![change]));
        }
        if room.tracks == 0 {
            self.rooms.remove(&spec.room);
        }
    }

    pub(super) fn end_speaker_window(&mut self, name: R, now: Instant) {
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        let mut changes = Vec::new();
        room.speakers.end_window(&mut changes);
        room.watched = !room.speakers.is_empty();
        if room.watched {
            self.agenda
                .set(now + speaker::WINDOW, Timer::Speakers(name));
        }
        if !changes.is_empty() {
            self.agenda.say(Output::SpeakersChanged(name, changes));
        }
    }
}
