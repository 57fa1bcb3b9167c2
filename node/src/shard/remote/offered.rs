//! Tracks of this shard that others take: described to them, passed on, and what they miss sent again.

use std::sync::Arc;
use std::time::Instant;

use pipemesh_node_core::router::relay::{Alias, Interest, Port};
use pipemesh_node_core::router::{Source, TrackKey};
use pipemesh_proto::ids::TrackId;

use super::record::pass_on;
use crate::shard::Shard;
use crate::shard::event::Event;
use crate::shard::message::{Message, Subscribe, TrackState};
use crate::shard::publications::Published;

impl Shard {
    pub(in crate::shard) fn handle_subscribe(
        &mut self,
        from: u16,
        subscribe: Subscribe,
        now: Instant,
    ) {
        let Subscribe {
            track,
            generation,
            alias,
            ring,
            publication: _,
        } = subscribe;
        if let Some(ring) = ring {
            self.neighbours.set_ring(from, ring);
        }
        // What another shard of this node has is asked for there.
        let is_here = |p: &&Published| p.session.is_some() || self.remote.is_landed(&track);
        let published = self.tracks.get(&track);
        let published = published.filter(|p| p.generation == generation && is_here(p));
        let Some(key) = published.map(|published| published.key) else {
            return self.neighbours.tell(from, Message::Unknown(alias));
        };
        self.router
            .relay(key, Port(from), alias, Interest::default(), now);
        if let Some(state) = self.describe(&track) {
            self.neighbours
                .tell(from, Message::State(alias, Arc::new(state)));
        }
        for report in self.router.reports(key) {
            self.neighbours.tell(from, Message::Report(alias, report));
        }
    }

    /// What a taker uses of a track has changed.
    pub(in crate::shard) fn handle_interest(
        &mut self,
        port: Port,
        track: TrackKey,
        alias: Alias,
        interest: Interest,
        now: Instant,
    ) {
        let Self {
            router, neighbours, ..
        } = self;
        router.relay(track, port, alias, interest, now);
        router.catch_up(track, port, |encoding, packet, port, alias, stamp| {
            pass_on(neighbours, encoding, packet, false)(port, alias, stamp)
        });
    }

    fn describe(&self, track: &TrackId) -> Option<TrackState> {
        let published = self.tracks.get(track)?;
        let elsewhere = self.remote.state(track);
        Some(TrackState {
            key: published.key,
            spec: self.router.spec(published.key)?.clone(),
            live: self.router.live(published.key),
            extensions: self.publisher(published.key)?.extensions,
            codecs: elsewhere.map_or(&published.codecs, |it| &it.codecs).clone(),
            participant: match published.session {
                Some(session) => self.sessions.get(session).map(|it| it.participant.clone()),
                None => elsewhere.and_then(|it| it.participant.clone()),
            },
            path: elsewhere.map_or_else(Arc::default, |it| Arc::clone(&it.path)),
        })
    }

    pub(in crate::shard) fn handle_unsubscribe(
        &mut self,
        from: u16,
        track: &TrackId,
        alias: Alias,
        now: Instant,
    ) {
        let Some(published) = self.tracks.get(track) else {
            return;
        };
        let key = published.key;
        let is_taken = (self.router.relays(key)).any(|taken| taken == (Port(from), alias));
        if is_taken {
            self.router.end_relay(key, Port(from), now);
        }
    }

    pub(in crate::shard) fn handle_received(&mut self, track: TrackId) {
        let Some(published) = self.tracks.get_mut(&track) else {
            return;
        };
        if std::mem::replace(&mut published.is_received, true) {
            return;
        }
        match published.session {
            Some(publisher) => self.sessions[publisher].tell(Event::TrackSubscribed(track)),
            None => self.tell_received(&track),
        }
    }

    /// Sends packets again that another shard misses.
    pub(in crate::shard) fn repair_remote(&mut self, from: u16, source: Source, numbers: &[u64]) {
        let alias = self
            .router
            .relays(source.track)
            .find(|(port, _)| *port == Port(from));
        let Some((port, alias)) = alias else {
            return;
        };
        let Self {
            router, neighbours, ..
        } = self;
        for number in numbers {
            if let Some((packet, stamp)) = router.repair(source, *number) {
                // Without room it is asked for again.
                pass_on(neighbours, source.encoding, packet, true)(port, alias, stamp);
            }
        }
    }

    /// Tells the shards that take a track what has become of it.
    pub(in crate::shard) fn tell_state(&mut self, track: &TrackId) {
        let Some(key) = self.tracks.get(track).map(|published| published.key) else {
            return;
        };
        let mut takers = self.router.relays(key).peekable();
        if takers.peek().is_none() {
            return;
        }
        let Some(state) = self.describe(track).map(Arc::new) else {
            return;
        };
        for (port, alias) in takers {
            let message = Message::State(alias, Arc::clone(&state));
            self.neighbours.tell(port.0, message);
        }
    }

    /// The same for the router's name of it.
    pub(in crate::shard) fn tell_live(&mut self, key: TrackKey) {
        let publisher = self.publisher(key).and_then(|publisher| publisher.session);
        let published = publisher.and_then(|index| self.sessions.get(index));
        let mut tracks = published.map_or(&[][..], |s| &s.published).iter();
        let is_it = |track: &&TrackId| self.tracks.get(*track).is_some_and(|p| p.key == key);
        if let Some(track) = tracks.find(is_it).cloned() {
            self.tell_state(&track);
        }
    }

    /// Tells the shards that take a track of its encoding's last sender report.
    pub(in crate::shard) fn tell_report(&mut self, source: Source) {
        if self.router.relays(source.track).next().is_none() {
            return;
        }
        let report = self
            .router
            .reports(source.track)
            .find(|report| report.encoding == source.encoding);
        let Some(report) = report else {
            return;
        };
        for (port, alias) in self.router.relays(source.track) {
            let message = Message::Report(alias, report);
            self.neighbours.tell(port.0, message);
        }
    }

    /// Tells the shards that take a track what its layers take.
    pub(in crate::shard) fn tell_rates(&mut self, key: TrackKey) {
        let Some(rates) = self.router.layer_rates(key).map(Arc::new) else {
            return;
        };
        for (port, alias) in self.router.relays(key) {
            let message = Message::Rates(alias, Arc::clone(&rates));
            self.neighbours.tell(port.0, message);
        }
    }

    /// A track is about to go: tells the shards that take it.
    pub(in crate::shard) fn tell_ended(&mut self, key: TrackKey) {
        for (port, alias) in self.router.relays(key) {
            self.neighbours.tell(port.0, Message::Ended(alias));
        }
    }
}
