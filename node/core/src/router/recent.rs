//! What came of an encoding since its last key frame, while that is recent: who comes anew begins with it at
//! once, and nobody is asked for another.
//!
//! Noted down is what forwarding has read of each packet; the packets themselves are the cache's. Who is
//! being sent the track does not begin with it: that would be to go back.

use std::time::{Duration, Instant};

use super::burst::{Burst, Pending};
use super::requests::update_interest;
use super::{MAX_BURST, Router, Source, SubscriptionKey};
use crate::track::Encoding;

/// How old a key frame may be. All that came since is sent and decoded before the picture moves: longer is
/// more of that, shorter asks publishers more often.
const RECENT: Duration = Duration::from_millis(500);
/// The same in ticks of 90 kHz. What comes out of another cache is older than its arrival.
const RECENT_TICKS: u32 = 45_000;
/// As many packets as wait for one client's bandwidth.
const MAX_PACKETS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// When the key frame came. `None`: there is none.
    began: Option<Instant>,
    /// From the key frame's first on, in the order of their numbers.
    packets: Vec<Pending>,
}

impl Recent {
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.began.is_some()
    }

    pub(super) fn packets(&self) -> &[Pending] {
        &self.packets
    }

    /// Notes down what has been forwarded.
    #[cold]
    pub(super) fn note(&mut self, pending: &[Pending], now: Instant) {
        for packet in pending {
            if packet.starts_key_frame() && self.is_another(packet) {
                self.packets.clear();
                self.began = Some(now);
            }
            self.insert(packet);
        }
        if self.packets.len() > MAX_PACKETS {
            *self = Self::default();
        }
        self.expire(now);
    }

    /// Gives its memory back when it is of no use any more.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.is_open() && !self.is_recent(now) {
            *self = Self::default();
        }
    }

    /// Whether another key frame begins with a packet.
    fn is_another(&self, packet: &Pending) -> bool {
        self.packets.first().is_none_or(|first| {
            first.sequence < packet.sequence && first.header.timestamp != packet.header.timestamp
        })
    }

    fn insert(&mut self, packet: &Pending) {
        let is_of_it = match self.packets.first() {
            Some(first) => first.sequence < packet.sequence,
            None => self.is_open(),
        };
        if is_of_it {
            let earlier = |other: &Pending| other.sequence < packet.sequence;
            let place = match self.packets.last() {
                Some(last) if !earlier(last) => self.packets.partition_point(earlier),
                _ => self.packets.len(),
            };
            self.packets.insert(place, *packet);
        }
    }

    fn is_recent(&self, now: Instant) -> bool {
        let is_young = |at| now.saturating_duration_since(at) < RECENT;
        let shown = |packet: &Pending| packet.header.timestamp;
        let first = self.packets.first().map_or(0, shown);
        let last = self.packets.last().map_or(0, shown);
        self.began.is_some_and(is_young) && last.wrapping_sub(first) < RECENT_TICKS
    }
}

impl Encoding {
    /// Whether a key frame is about to be shown to whom it is for.
    pub(super) fn has_gathered_key_frame(&self) -> bool {
        self.pending.iter().any(Pending::starts_key_frame)
    }

    /// Whether there is a recent key frame, and all that came since, what has gathered included.
    pub(super) fn has_recent(&self, now: Instant) -> bool {
        let Some(first) = self.recent.packets.first() else {
            return false;
        };
        let gathered = self.pending.iter();
        let gathered = gathered.filter(|packet| packet.sequence >= first.sequence);
        let there = self.recent.packets.len() + gathered.count();
        let highest = self.sequences.highest().unwrap_or_default();
        let is_kept = |packet: &Pending| self.cache.meta(packet.sequence).is_some();
        // No number comes twice.
        first.sequence + there as u64 == highest + 1
            && self.recent.is_recent(now)
            && self.recent.packets.iter().all(is_kept)
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Lets newcomers begin, before they are shown what has gathered.
    pub(super) fn begin_newcomers(
        &mut self,
        now: Instant,
        forward: &mut impl FnMut(&mut Burst<'_>),
    ) {
        for source in std::mem::take(&mut self.agenda.newcomers) {
            self.show_recent(source, now, forward);
        }
    }

    #[cold]
    fn show_recent(
        &mut self,
        source: Source,
        now: Instant,
        forward: &mut impl FnMut(&mut Burst<'_>),
    ) {
        let Some(track) = self.tracks.get_mut(source.track.0) else {
            return;
        };
        let subscriptions = &self.subscriptions;
        let begins = |key: &&SubscriptionKey| {
            let forwarder = &subscriptions[key.0].forwarder;
            forwarder.is_new() && forwarder.awaits_key_frame_of() == Some(source.encoding)
        };
        let newcomers: Vec<_> = track.subscriptions.iter().filter(begins).copied().collect();
        let Some(encoding) = track.encodings.get_mut(usize::from(source.encoding)) else {
            return;
        };
        let may_begin = !track.spec.muted && !encoding.has_gathered_key_frame();
        if may_begin && encoding.has_recent(now) {
            // Taken out for the time being: should the caller panic, nothing half done is left.
            let recent = std::mem::take(&mut encoding.recent);
            for packets in recent.packets.chunks(MAX_BURST) {
                let mut burst = Burst::new(
                    source,
                    packets,
                    encoding,
                    &track.clocks,
                    &newcomers,
                    &mut self.subscriptions,
                    &mut self.forwards,
                    now,
                );
                forward(&mut burst);
            }
            encoding.recent = recent;
        }
        // Whom it has not helped needs a key frame of the publisher's.
        let agenda = &mut self.agenda;
        update_interest(track, source.track, &self.subscriptions, now, agenda);
    }
}
