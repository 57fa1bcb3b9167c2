//! What sessions send: tracks with the m-sections they come in, and the SSRCs their encodings have.

use std::time::Instant;

use pipemesh_node_core::router::TrackKey;
use pipemesh_node_core::track::TrackSpec;
use pipemesh_proto::ids::TrackId;

use super::Shard;
use super::command::PublishSpec;
use super::event::Event;
use super::inbound::Bound;
use crate::session::plan::{Extensions, PayloadType, ReceiveSection};

/// A track that sessions of this shard can be sent.
pub(super) struct Published {
    pub(super) key: TrackKey,
    /// Index of the session that publishes it; none: a session of another shard.
    pub(super) session: Option<usize>,
    /// See [`Origin`](super::command::Origin).
    pub(super) generation: u64,
    /// What payload types mean in the section it comes in.
    pub(super) codecs: Vec<PayloadType>,
    /// Whether anybody has received it yet.
    pub(super) is_received: bool,
}

/// Where a published track's packets come from, as far as forwarding them needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher {
    pub(super) key: TrackKey,
    /// Index of the session; none: a session of another shard.
    pub(super) session: Option<usize>,
    /// Of the section it comes in, to read what goes on with its packets.
    pub(super) extensions: Extensions,
}

impl Shard {
    pub(super) fn publish(
        &mut self,
        index: usize,
        track: TrackId,
        generation: u64,
        spec: PublishSpec,
        now: Instant,
    ) {
        self.end_former(&track);
        // One who came back publishes under the ids that the session before had, which may still be here.
        match self.tracks.get(&track) {
            Some(known) if known.generation > generation => return,
            Some(_) => self.unpublish(&track),
            None => {}
        }
        let session = &mut self.sessions[index];
        let spec = TrackSpec {
            room: session.room,
            participant: session.key,
            is_video: spec.is_video,
            speaks: spec.speaks,
            nack: spec.nack,
            muted: spec.muted,
            encodings: spec.encodings,
            sizes: spec.sizes,
        };
        session.published.push(track.clone());
        let (room, is_microphone) = (spec.room, spec.speaks);
        let key = self.router.publish(spec, now);
        if is_microphone {
            self.add_microphone(room, &track, key, true, now);
        }
        let published = Published {
            key,
            session: Some(index),
            generation,
            codecs: Vec::new(),
            is_received: false,
        };
        self.tracks.insert(track, published);
        self.set_publisher(
            key,
            Some(Publisher {
                key,
                session: Some(index),
                extensions: Extensions::default(),
            }),
        );
    }

    pub(super) fn unpublish(&mut self, track: &TrackId) {
        let Some(published) = self.tracks.remove(track) else {
            return;
        };
        self.set_publisher(published.key, None);
        self.tell_ended(published.key);
        self.remove_microphone(track, published.key);
        for (key, _) in self.router.unpublish(published.key) {
            self.note_ended(key);
        }
        let publisher = published.session.and_then(|i| self.sessions.get_mut(i));
        if let Some(session) = publisher {
            session.published.retain(|other| other != track);
            let room = session.room;
            // Told to those, too, whose connection did not carry it yet.
            self.end_wanted(room, track, published.generation);
        }
    }

    pub(super) fn set_muted(&mut self, index: usize, track: &TrackId, muted: bool, now: Instant) {
        let published = self.tracks.get(track);
        let published = published.filter(|published| published.session == Some(index));
        if let Some(key) = published.map(|published| published.key) {
            self.router.set_muted(key, muted, now);
            self.tell_state(track);
            self.withdraw_track(track, now);
        }
    }

    /// What was negotiated of the sections that a session's tracks come in.
    pub(super) fn describe_published(&mut self, index: usize, sections: &[ReceiveSection]) {
        for section in sections {
            let track = self.tracks.get_mut(&section.track);
            let Some(track) = track.filter(|it| it.session == Some(index)) else {
                continue;
            };
            let key = track.key;
            let mut changed = track.codecs != section.codecs;
            track.codecs.clone_from(&section.codecs);
            if let Some(publisher) = self.publisher_mut(key) {
                changed |= publisher.extensions != section.extensions;
                publisher.extensions = section.extensions;
            }
            if changed {
                self.tell_state(&section.track);
            }
        }
    }

    /// Tells of SSRCs that came to be known, and begins encodings anew that changed theirs.
    pub(super) fn handle_bound(&mut self, connection: usize, bound: &[Bound], now: Instant) {
        for bound in bound {
            if bound.restarted {
                self.router.restart(bound.source, now);
            }
            let state = &self.connections[connection];
            let Some(section) = state.inbound.sections().get(bound.section) else {
                continue;
            };
            let known = section
                .encodings()
                .iter()
                .map(|known| (known.ssrc, known.repair_ssrc));
            let event = Event::EncodingsKnown {
                track: section.track.clone(),
                encodings: known.collect(),
            };
            self.sessions[state.session].tell(event);
        }
    }

    /// Tells a publisher what anybody can use of its track.
    pub(super) fn tell_demand(&mut self, key: TrackKey, encodings: u8) {
        let Some(index) = self.publisher(key).and_then(|publisher| publisher.session) else {
            return;
        };
        let session = &mut self.sessions[index];
        let track = session.published.iter().find(|track| {
            self.tracks
                .get(*track)
                .is_some_and(|known| known.key == key)
        });
        if let Some(track) = track.cloned() {
            session.tell(Event::DemandChanged { track, encodings });
        }
    }

    pub(super) fn publisher(&self, key: TrackKey) -> Option<&Publisher> {
        let publisher = self.publishers.get(key.index())?.as_ref();
        publisher.filter(|publisher| publisher.key == key)
    }

    pub(super) fn publisher_mut(&mut self, key: TrackKey) -> Option<&mut Publisher> {
        let publisher = self.publishers.get_mut(key.index())?.as_mut();
        publisher.filter(|publisher| publisher.key == key)
    }

    pub(super) fn set_publisher(&mut self, key: TrackKey, publisher: Option<Publisher>) {
        if key.index() >= self.publishers.len() {
            self.publishers.resize(key.index() + 1, None);
        }
        self.publishers[key.index()] = publisher;
    }
}
