//! What sessions are sent: wanted by a session, begun when its connection can carry it, ended with a note
//! of the numbers it used. How much of a track is sent is told in `allocation`.

use std::time::Instant;

use pipemesh_node_core::allocate::Held;
use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use pipemesh_proto::ids::TrackId;
use rand::Rng;

use super::Shard;
use super::command::Origin;
use super::event::Event;
use super::session::Wanted;
use super::wire::Outgoing;
use crate::session::plan::SendSection;

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        index: usize,
        track: TrackId,
        origin: Option<Origin>,
        wish: LayerWish,
        now: Instant,
    ) {
        let session = &mut self.sessions[index];
        if let Some(wanted) = session.wanted.get_mut(&track) {
            wanted.wish = wish;
            match wanted.subscription {
                Some(key) => {
                    let before = self.router.wanted_layer(key);
                    self.router.set_wish(key, wish, now);
                    // Who asks for more gets it at once if there is room, as a newcomer does.
                    if self.router.wanted_layer(key) > before && wanted.held != Held::Paused {
                        wanted.held = Held::New;
                    }
                    self.allocate_soon(index, now);
                }
                None => self.activate(index, now),
            }
            return;
        }
        let Some(origin) = origin else {
            return;
        };
        let wanted = Wanted {
            origin,
            wish,
            subscription: None,
            held: Held::default(),
        };
        session.wanted.insert(track.clone(), wanted);
        if origin.shard != self.neighbours.number() {
            let room = session.room;
            self.want_remote(room, &track, origin);
        }
        self.activate(index, now);
    }

    pub(super) fn unsubscribe(&mut self, index: usize, track: &TrackId, now: Instant) {
        let Some(wanted) = self.sessions[index].wanted.remove(track) else {
            return;
        };
        if let Some(key) = wanted.subscription {
            self.end_subscription(key, now);
        }
        if wanted.origin.shard != self.neighbours.number() {
            self.unwant_remote(track, wanted.origin);
        }
    }

    /// Begins subscriptions that are wanted, negotiated, and whose connection can send.
    pub(super) fn activate(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.sessions[index].downlink() else {
            return;
        };
        // Nothing draws a number that cannot be sent.
        let has_path = self.wire.link(connection).destination.is_some();
        if self.connections[connection].opener.is_none() || !has_path {
            return;
        }
        for number in 0..self.connections[connection].send.len() {
            let section = &self.connections[connection].send[number];
            let session = &mut self.sessions[index];
            let Some(wanted) = session.wanted.get_mut(&section.track) else {
                continue;
            };
            let Some(published) = self.tracks.get_mut(&section.track) else {
                continue;
            };
            if wanted.subscription.is_some() || wanted.origin.generation != published.generation {
                continue;
            }
            let codec = section
                .codecs
                .first()
                .map_or(Codec::Opus, |first| first.codec);
            let state = &self.connections[connection];
            let mut number = |ssrc| state.first_number(ssrc, self.rng.random_range(0..1 << 15));
            let repair = section.repair_ssrc.map_or(Some(0), &mut number);
            let (Some(first), Some(first_repair)) = (number(section.ssrc), repair) else {
                continue;
            };
            let wish = wanted.wish;
            let Some(key) = self
                .router
                .subscribe(published.key, wish, codec, first, now)
            else {
                continue;
            };
            wanted.subscription = Some(key);
            let outgoing = Outgoing::new(connection, section, first, first_repair);
            self.wire.set_outgoing(key, outgoing);
            let track = section.track.clone();
            if !std::mem::replace(&mut published.is_received, true) {
                match published.session {
                    Some(publisher) => {
                        self.sessions[publisher].tell(Event::TrackSubscribed(track.clone()));
                    }
                    None => self.tell_received(&track),
                }
            }
            self.set_subscriber(key, Some((index, track)));
        }
        self.allocate_soon(index, now);
    }

    /// Ends what a session is sent; it stays wanted.
    pub(super) fn deactivate(&mut self, index: usize, now: Instant) {
        let wanted = self.sessions[index].wanted.values_mut();
        for key in wanted
            .filter_map(|wanted| wanted.subscription.take())
            .collect::<Vec<_>>()
        {
            self.end_subscription(key, now);
        }
    }

    /// Ends subscriptions whose section is gone or was given to something else.
    pub(super) fn end_vanished(
        &mut self,
        index: usize,
        connection: usize,
        former: &[SendSection],
        now: Instant,
    ) {
        for section in former {
            if self.connections[connection].send.contains(section) {
                continue;
            }
            let wanted = self.sessions[index].wanted.get_mut(&section.track);
            if let Some(key) = wanted.and_then(|wanted| wanted.subscription.take()) {
                self.end_subscription(key, now);
            }
        }
    }

    fn end_subscription(&mut self, key: SubscriptionKey, now: Instant) {
        if self.router.unsubscribe(key, now).is_some() {
            self.note_ended(key);
        }
    }

    /// Forgets a subscription that the router has ended, but not the numbers it used: those of packets
    /// that left. What the router has numbered beyond them waits in vain.
    pub(super) fn note_ended(&mut self, key: SubscriptionKey) {
        self.forget_waiting(key);
        self.set_subscriber(key, None);
        if let Some(outgoing) = self.wire.take_outgoing(key)
            && let Some(connection) = self.connections.get_mut(outgoing.link())
        {
            connection.note_spent(outgoing.spent());
        }
    }

    /// Which session and track a subscription belongs to.
    pub(super) fn subscriber(&self, key: SubscriptionKey) -> Option<&(usize, TrackId)> {
        self.subscribers.get(key.index())?.as_ref()
    }

    fn set_subscriber(&mut self, key: SubscriptionKey, subscriber: Option<(usize, TrackId)>) {
        if key.index() >= self.subscribers.len() {
            self.subscribers.resize(key.index() + 1, None);
        }
        self.subscribers[key.index()] = subscriber;
    }
}
