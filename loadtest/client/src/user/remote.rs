//! What signaling says others publish, and what the participant wants of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{
    ParticipantInfo, StreamState, StreamStateUpdate, TrackType, UpdateSubscription,
    UpdateTrackSettings, VideoQuality,
};

use super::User;
use crate::connection::Connection;
use crate::media::stamp::TrackStamp;

/// A track that somebody else publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteTrack {
    pub sid: String,
    pub identity: String,
    pub name: String,
    pub is_video: bool,
    pub muted: bool,
    /// The server says that there is not bandwidth enough for it.
    pub paused: bool,
    /// Of its publisher.
    pub place: Place,
    /// When signaling told of it; none if it was there before.
    pub announced: Option<Instant>,
    /// When signaling told that it was muted, or unmuted.
    pub changed: Option<Instant>,
    pub(super) wanted: Option<bool>,
    pub(super) wish: Option<LayerWish>,
}

/// Where a participant is, as far as the server says: attributes that Pipemesh sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub node: String,
    pub region: String,
}

/// Somebody in the room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    pub identity: String,
    pub sid: String,
    pub place: Place,
    pub name: String,
    pub metadata: String,
    pub attributes: BTreeMap<String, String>,
}

impl Person {
    pub(super) fn of(participant: &ParticipantInfo) -> Self {
        Self {
            identity: participant.identity.clone(),
            sid: participant.sid.clone(),
            place: Place::of(participant),
            name: participant.name.clone(),
            metadata: participant.metadata.clone(),
            attributes: participant.attributes.clone().into_iter().collect(),
        }
    }
}

impl Place {
    pub(super) fn of(participant: &ParticipantInfo) -> Self {
        let attribute = |name| {
            participant
                .attributes
                .get(name)
                .cloned()
                .unwrap_or_default()
        };
        Self {
            node: attribute("pipemesh.node"),
            region: attribute("pipemesh.region"),
        }
    }
}

impl RemoteTrack {
    /// Of which no more is known.
    #[must_use]
    pub fn new(sid: impl Into<String>, is_video: bool) -> Self {
        Self {
            sid: sid.into(),
            is_video,
            ..Self::default()
        }
    }

    pub(super) fn stamp(&self, room: &str) -> TrackStamp {
        TrackStamp::of(room, &self.identity, &self.name)
    }
}

/// Which layer of a video track is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerWish {
    /// By name: 0 is the lowest.
    Quality(u8),
    /// The smallest that fills it.
    Size(u32, u32),
    /// Nothing for the time being.
    Off,
}

impl User {
    pub(super) fn handle_update(&mut self, participants: Vec<ParticipantInfo>) {
        for participant in participants {
            let place = Place::of(&participant);
            if participant.identity == self.identity {
                self.place = place;
                self.me = Person::of(&participant);
                continue;
            }
            if participant.state() == State::Disconnected {
                self.others.remove(&participant.identity);
            } else {
                let person = Arc::new(Person::of(&participant));
                self.others.insert(participant.identity.clone(), person);
            }
            let gone = |it: &RemoteTrack| {
                it.identity == participant.identity
                    && !participant.tracks.iter().any(|track| track.sid == it.sid)
            };
            let gone = self.remote.values().filter(|it| gone(it));
            let gone: Vec<String> = gone.map(|it| it.sid.clone()).collect();
            gone.iter().for_each(|sid| self.miss(sid));
            if participant.state() == State::Disconnected {
                self.forget(&participant.identity);
            }
            for info in participant.tracks {
                let absent = self.absent.remove(&info.sid).map(|(_, track)| track);
                let known = self.remote.get(&info.sid).or(absent.as_ref());
                let was_muted = known.is_some_and(|it| it.muted);
                let track = RemoteTrack {
                    identity: participant.identity.clone(),
                    name: info.name.clone(),
                    is_video: info.r#type() == TrackType::Video,
                    muted: info.muted,
                    paused: known.is_some_and(|it| it.paused),
                    place: place.clone(),
                    announced: known.map_or(self.told_at, |it| it.announced),
                    changed: match known {
                        Some(known) if known.muted == info.muted => known.changed,
                        Some(_) => self.told_at,
                        None => None,
                    },
                    wanted: known.and_then(|it| it.wanted),
                    wish: known.and_then(|it| it.wish),
                    sid: info.sid,
                };
                let expected = track.stamp(&self.room);
                for incoming in self
                    .downlink()
                    .incoming_mut()
                    .filter(|it| it.sid == track.sid)
                {
                    incoming.receiver.expect(expected);
                    if was_muted != track.muted {
                        incoming.receiver.handle_pause();
                    }
                }
                if was_muted != track.muted
                    && let Some(lost) = self.lost.get_mut(&track.sid)
                {
                    lost.handle_pause();
                }
                let sid = track.sid.clone();
                self.remote.insert(sid.clone(), track);
                if absent.is_some() {
                    self.wish_again(&sid);
                }
            }
        }
    }

    pub(super) fn handle_stream_states(&mut self, update: &StreamStateUpdate) {
        for info in &update.stream_states {
            let paused = info.state() == StreamState::Paused;
            let track = self.remote.get_mut(&info.track_sid);
            if track.is_some_and(|it| std::mem::replace(&mut it.paused, paused) != paused) {
                self.note_pause(&info.track_sid);
            }
        }
    }

    /// A track pauses, or goes on.
    fn note_pause(&mut self, sid: &str) {
        let connections = self.connections.iter_mut();
        let incoming = connections.flat_map(Connection::incoming_mut);
        incoming
            .filter(|it| it.sid == sid)
            .for_each(|it| it.receiver.handle_pause());
        if let Some(lost) = self.lost.get_mut(sid) {
            lost.handle_pause();
        }
    }

    pub(super) fn subscribe(&mut self, sid: &str, wanted: bool) {
        if let Some(track) = self.remote.get_mut(sid) {
            track.wanted = Some(wanted);
        }
        if !wanted {
            self.lost.remove(sid);
        }
        self.signals.push_back(subscription(sid, wanted));
    }

    pub(super) fn wish_layer(&mut self, sid: &str, wish: LayerWish) {
        let before = self
            .remote
            .get_mut(sid)
            .and_then(|it| it.wish.replace(wish));
        if (wish == LayerWish::Off) != (before == Some(LayerWish::Off)) {
            self.note_pause(sid);
        }
        self.signals.push_back(settings(sid, wish));
    }
}

pub(super) fn subscription(sid: &str, subscribe: bool) -> Request {
    Request::Subscription(UpdateSubscription {
        track_sids: vec![sid.to_owned()],
        subscribe,
        ..Default::default()
    })
}

pub(super) fn settings(sid: &str, wish: LayerWish) -> Request {
    let mut settings = UpdateTrackSettings {
        track_sids: vec![sid.to_owned()],
        quality: VideoQuality::High.into(),
        ..Default::default()
    };
    match wish {
        LayerWish::Quality(0) => settings.quality = VideoQuality::Low.into(),
        LayerWish::Quality(1) => settings.quality = VideoQuality::Medium.into(),
        LayerWish::Quality(_) => {}
        LayerWish::Size(width, height) => (settings.width, settings.height) = (width, height),
        LayerWish::Off => settings.disabled = true,
    }
    Request::TrackSetting(settings)
}
