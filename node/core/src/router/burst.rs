//! The second half of a packet's way: what has gathered of an encoding is shown to one subscriber after
//! the other.
//!
//! A receive batch brings several packets of one encoding: a frame, or what waited while the shard was
//! busy. A subscriber is shown all of them before the next has its turn, so that what is known of a
//! subscriber comes into the cache once per burst, and its packets lie one behind the other when they
//! are sent. Does not know what a subscriber's packets look like on the wire.

use std::time::Instant;

use super::requests::update_interest;
use super::slots::Slots;
use super::subscriptions::Subscription;
use super::{Router, Source, SubscriptionKey};
use crate::cache::PacketCache;
use crate::codec::Codec;
use crate::codec::ids::FrameIds;
use crate::drops::DropReason;
use crate::forward::continuity::Rewrite;
use crate::forward::{Candidate, MAX_ENCODINGS};
use crate::rtp::Header;
use crate::stats::SenderClock;
use crate::structure::PacketInfo;
use crate::track::Encoding;

/// Packets of one encoding that gather at most. As many as go to a subscriber in one message: what is
/// more would not be sent any cheaper.
pub const MAX_BURST: usize = 16;

/// Longer ones fit no path. And what gathers needs room in its cache, beside packets that are asked for
/// again: no packet may push out another one that still has to be forwarded.
pub(super) const LONGEST_PACKET: usize = 1500;

/// Packets that had gathered and went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind {
    pub reason: DropReason,
    pub packets: usize,
}

/// Whether more can gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Gathered {
    /// The packet is forwarded with those that follow, if any do.
    Open,
    /// Call [`Router::forward`] before the next packet of this source.
    Full,
}

/// A packet in the cache that has not been forwarded yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(super) sequence: u64,
    pub(super) header: Header,
    pub(super) codec: Codec,
    pub(super) payload_len: u16,
    pub(super) info: PacketInfo,
}

impl Pending {
    pub(super) fn starts_key_frame(&self) -> bool {
        self.info.starts_key_frame
    }

    /// As the track counts them.
    pub(super) fn number(&self) -> u64 {
        self.sequence
    }

    pub(super) fn begins_key_frame_with(&self, number: u64) -> bool {
        self.info.starts_key_frame && self.sequence == number
    }

    #[inline]
    fn candidate(&self, encoding: u8) -> Candidate<'_> {
        Candidate {
            encoding,
            sequence: self.sequence,
            timestamp: self.header.timestamp,
            starts_key_frame: self.info.starts_key_frame,
            is_empty: self.payload_len == 0,
            ids: self.info.ids.as_ref(),
            frame: self.info.frame.as_ref(),
        }
    }
}

/// Whether packets that take `bytes` in the cache are sure to be in it when the next has arrived, too.
pub(super) fn is_full(count: usize, bytes: usize, cache: &PacketCache) -> bool {
    count >= MAX_BURST || !cache.has_room_for(bytes + LONGEST_PACKET)
}

/// A packet of a burst, as its publisher sent it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub codec: Codec,
    pub header: Header,
    pub bytes: &'a [u8],
    /// The same with a byte of RTP padding behind it, which counts itself; the header does not say so.
    pub padded: &'a [u8],
    /// To apply [`Rewrite::shift`] with, if that is not zero.
    pub ids: Option<&'a FrameIds>,
    /// Under which it can be found again ([`Router::waiting_packet`]).
    pub sequence: u64,
}

/// A packet of a burst on its way to one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Its place among [`Burst::packets`].
    pub packet: usize,
    pub rewrite: Rewrite,
}

/// What has gathered of one encoding, and whom it has to be shown.
#[derive(Debug)]
pub struct Burst<'a> {
    source: Source,
    pending: &'a [Pending],
    cache: &'a PacketCache,
    clocks: &'a [Option<SenderClock>; MAX_ENCODINGS],
    /// Those whose turn has not come.
    interested: &'a [SubscriptionKey],
    subscriptions: &'a mut Slots<Subscription>,
    forwards: &'a mut Vec<Forward>,
    has_key_frame: bool,
    /// Somebody has got the key frame that was waited for, or waits for another.
    changed: bool,
    now: Instant,
}

impl<'a> Burst<'a> {
    pub(super) fn new(
        source: Source,
        pending: &'a [Pending],
        encoding: &'a Encoding,
        clocks: &'a [Option<SenderClock>; MAX_ENCODINGS],
        interested: &'a [SubscriptionKey],
        subscriptions: &'a mut Slots<Subscription>,
        forwards: &'a mut Vec<Forward>,
        now: Instant,
    ) -> Self {
        Self {
            source,
            pending,
            cache: &encoding.cache,
            clocks,
            interested,
            subscriptions,
            forwards,
            has_key_frame: pending.iter().any(Pending::starts_key_frame),
            changed: false,
            now,
        }
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// At most [`MAX_BURST`], in the order of their arrival.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'a>> + use<'a> {
        let cache = self.cache;
        self.pending.iter().map(move |pending| {
            let padded = cache.padded(pending.sequence).unwrap_or_default();
            Packet {
                codec: pending.codec,
                header: pending.header,
                bytes: &padded[..padded.len().saturating_sub(1)],
                padded,
                ids: pending.info.ids.as_ref(),
                sequence: pending.sequence,
            }
        })
    }

    /// Whose turn is `ahead` turns after the next, and where it is written down what this subscriber is to
    /// be sent: to be fetched before it is needed.
    #[inline]
    pub fn upcoming(&self, ahead: usize) -> Option<(SubscriptionKey, &(impl Sized + use<>))> {
        let key = *self.interested.get(ahead)?;
        Some((key, self.subscriptions.place(key.0)?))
    }

    /// The next subscriber that is sent something.
    #[inline]
    pub fn next_subscriber(&mut self) -> Option<SubscriptionKey> {
        loop {
            let (&key, rest) = self.interested.split_first()?;
            self.interested = rest;
            self.show(key);
            if !self.forwards.is_empty() {
                return Some(key);
            }
        }
    }

    /// What it is sent.
    pub fn forwards(&self) -> &[Forward] {
        self.forwards
    }

    /// Not all of what a subscriber was shown can be sent: nothing that is numbered from `next` on has left,
    /// or will. Its stream goes on from there, with a key frame, so that nothing looks lost.
    #[cold]
    pub fn take_back(&mut self, key: SubscriptionKey, next: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(key.0) {
            subscription.forwarder.rewind(next);
            self.changed = true;
        }
    }

    #[inline]
    fn show(&mut self, key: SubscriptionKey) {
        self.forwards.clear();
        let forwarder = &mut self.subscriptions[key.0].forwarder;
        let awaited = forwarder.awaits_key_frame_of();
        for (packet, pending) in self.pending.iter().enumerate() {
            forwarder.handle_packet(
                &pending.candidate(self.source.encoding),
                usize::from(pending.payload_len),
                self.clocks,
                self.now,
                |rewrite| self.forwards.push(Forward { packet, rewrite }),
            );
        }
        // Whom a key frame has not helped, because not all of it came, needs another.
        let awaits = forwarder.awaits_key_frame_of();
        self.changed |=
            awaits != awaited || self.has_key_frame && awaits == Some(self.source.encoding);
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Whether anything has gathered, or a newcomer can begin.
    pub fn has_gathered(&self) -> bool {
        !self.gathered.is_empty() || !self.agenda.newcomers.is_empty()
    }

    /// Forwards what has gathered: `forward` gets one burst per encoding and takes its subscribers from
    /// it. Newcomers begin before that, with what was forwarded since a recent key frame. Answers what was left behind, if something was.
    pub fn forward(
        &mut self,
        now: Instant,
        mut forward: impl FnMut(&mut Burst<'_>),
    ) -> Result<(), LeftBehind> {
        if !self.agenda.newcomers.is_empty() {
            self.begin_newcomers(now, &mut forward);
        }
        let mut outcome: Result<(), LeftBehind> = Ok(());
        for number in 0..self.gathered.len() {
            let source = self.gathered[number];
            let forwarded = self.forward_source(source, now, &mut forward);
            outcome = match (outcome, forwarded) {
                (Err(before), Err(left)) => Err(LeftBehind {
                    packets: before.packets + left.packets,
                    ..left
                }),
                (outcome, forwarded) => outcome.and(forwarded),
            };
        }
        self.gathered.clear();
        outcome
    }

    fn forward_source(
        &mut self,
        source: Source,
        now: Instant,
        forward: &mut impl FnMut(&mut Burst<'_>),
    ) -> Result<(), LeftBehind> {
        let left = |reason, packets| Err(LeftBehind { reason, packets });
        // How many it were is gone with it.
        let Some(track) = self.tracks.get_mut(source.track.0) else {
            return left(DropReason::UnknownSource, 1);
        };
        let Some(encoding) = track.encodings.get_mut(usize::from(source.encoding)) else {
            return left(DropReason::UnknownSource, 1);
        };
        // Taken out for the time being: should the caller panic, nothing half done is left.
        let mut pending = std::mem::take(&mut encoding.pending);
        encoding.pending_bytes = 0;
        let gathered = pending.len();
        pending.retain(|pending| encoding.cache.padded(pending.sequence).is_some());
        let outcome = match pending.len() {
            kept if kept < gathered => left(DropReason::Limit, gathered - kept),
            _ => Ok(()),
        };
        let mut burst = Burst::new(
            source,
            &pending,
            encoding,
            &track.clocks,
            &encoding.interested,
            &mut self.subscriptions,
            &mut self.forwards,
            now,
        );
        forward(&mut burst);
        let (changed, has_key_frame) = (burst.changed, burst.has_key_frame);
        if track.spec.is_video && (has_key_frame || encoding.recent.is_open()) {
            encoding.recent.note(&pending, now);
        }
        pending.clear();
        encoding.pending = pending;
        if changed {
            let agenda = &mut self.agenda;
            update_interest(track, source.track, &self.subscriptions, now, agenda);
        }
        outcome
    }
}
