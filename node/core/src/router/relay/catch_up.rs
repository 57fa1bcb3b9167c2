//! Takers that come anew: what a recent key frame has begun is passed on at once, and nobody is asked for another.
//!
//! A taker's request for a key frame and its word of what it uses may overtake each other. So what is asked for
//! before it is used waits for that word, and what is asked for behind it is answered already. Both are asked
//! again by the taker should that be wrong.

use std::time::Instant;

use super::{Alias, Port, Relay, Stamp};
use crate::forward::EncodingSet;
use crate::router::{Router, Source, TrackKey};
use crate::track::Track;

/// Of encodings that a taker has begun to use, or is about to.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// To be passed on since their last key frame.
    behind: EncodingSet,
    /// That was done, and a key frame was not asked for since.
    done: EncodingSet,
    /// A key frame was asked for that may be there already.
    asked: EncodingSet,
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// A taker needs a key frame.
    pub fn handle_relayed_key_frame_request(&mut self, source: Source, port: Port, now: Instant) {
        let Some(track) = self.tracks.get_mut(source.track.0) else {
            return;
        };
        let encoding = track.encodings.get(usize::from(source.encoding));
        let is_recent = encoding.is_some_and(|encoding| encoding.has_recent(now));
        let relay = track.relays.iter_mut().find(|relay| relay.port == port);
        if is_recent && relay.is_some_and(|relay| relay.has_answer(source.encoding)) {
            return;
        }
        self.want_key_frame(source, now);
    }

    /// A taker uses more encodings than before.
    pub(super) fn begin_elsewhere(
        &mut self,
        key: TrackKey,
        port: Port,
        used: EncodingSet,
        now: Instant,
    ) {
        for encoding in 0..crate::forward::MAX_ENCODINGS as u8 {
            let source = Source {
                track: key,
                encoding,
            };
            if used.contains(encoding) && self.begins_elsewhere(source, port, now) {
                self.want_key_frame(source, now);
            }
        }
    }

    /// `true`: the key frame it has asked for has to be another one.
    fn begins_elsewhere(&mut self, source: Source, port: Port, now: Instant) -> bool {
        let Some(track) = self.tracks.get_mut(source.track.0) else {
            return false;
        };
        let may_begin = track.spec.is_video && !track.spec.muted;
        let encoding = track.encodings.get(usize::from(source.encoding));
        let is_recent = may_begin && encoding.is_some_and(|encoding| encoding.has_recent(now));
        let Some(relay) = track.relays.iter_mut().find(|relay| relay.port == port) else {
            return false;
        };
        let asked = relay.catch_up.asked.take(source.encoding);
        let is_new = relay.interest.fresh.contains(source.encoding)
            && !relay.begun.contains(source.encoding);
        if is_new && is_recent {
            relay.catch_up.behind.insert(source.encoding);
            if !asked {
                relay.catch_up.done.insert(source.encoding);
            }
            return false;
        }
        asked
    }

    /// To be called after [`Self::relay`]: shows the taker what it is behind with. `send` as in
    /// [`Self::pass_on`].
    pub fn catch_up(
        &mut self,
        key: TrackKey,
        port: Port,
        mut send: impl FnMut(u8, &[u8], Port, Alias, Stamp) -> bool,
    ) {
        let Some(track) = self.tracks.get_mut(key.0) else {
            return;
        };
        let Track {
            encodings, relays, ..
        } = track;
        let Some(relay) = relays.iter_mut().find(|relay| relay.port == port) else {
            return;
        };
        let behind = std::mem::take(&mut relay.catch_up.behind);
        for (index, encoding) in (0..).zip(encodings.iter()) {
            if !behind.contains(index) {
                continue;
            }
            for noted in encoding.recent.packets().iter().chain(&encoding.pending) {
                let Some(packet) = encoding.cache.packet(noted.number()) else {
                    continue;
                };
                let stamp = Stamp {
                    number: noted.number(),
                    restarts: encoding.restarts,
                    resumes: !relay.begun.contains(index),
                    key_frame: noted.starts_key_frame(),
                };
                if send(index, packet, port, relay.alias, stamp) {
                    relay.begun.insert(index);
                }
            }
        }
    }

    /// Encodings that are used by newcomers alone, here or elsewhere: they may begin with what is past.
    pub(super) fn fresh(&self, key: TrackKey) -> EncodingSet {
        let Some(track) = self.track(key) else {
            return EncodingSet::default();
        };
        let (mut fresh, mut others) = (EncodingSet::default(), EncodingSet::default());
        for subscription in &track.subscriptions {
            let forwarder = &self.subscriptions[subscription.0].forwarder;
            if let Some(encoding) = forwarder.awaits_key_frame_of() {
                match forwarder.is_new() {
                    true => fresh.insert(encoding),
                    false => others.insert(encoding),
                }
            }
        }
        for relay in &track.relays {
            let awaited = relay.interest.encodings.without(relay.begun);
            fresh = fresh.or(awaited.and(relay.interest.fresh));
            others = others.or(awaited.without(relay.interest.fresh));
        }
        fresh.without(others)
    }
}

impl CatchUp {
    /// A key frame is passed on: who asks from now on asks for a later one than it began with.
    pub(super) fn handle_key_frame(&mut self, encoding: u8) {
        self.done.remove(encoding);
    }
}

impl Relay {
    /// Whether a key frame that is asked for is one that the taker has been sent as it began, or will be as soon
    /// as it says that it begins.
    fn has_answer(&mut self, encoding: u8) -> bool {
        if self.catch_up.done.take(encoding) {
            return true;
        }
        let is_about_to_begin = !self.interest.encodings.contains(encoding);
        if is_about_to_begin {
            self.catch_up.asked.insert(encoding);
        }
        is_about_to_begin
    }
}
