//! One published track: its encodings, which of them are being sent, and what is missing of each. Does
//! not know who receives it beyond their keys.

use std::time::{Duration, Instant};

use crate::cache::PacketCache;
use crate::demand::Demand;
use crate::forward::{EncodingSet, MAX_ENCODINGS, Portion};
use crate::key_frames::KeyFrameRequests;
use crate::layer::{Layer, LayerMeter, LayerRates, Limit};
use crate::loudest::Level;
use crate::nack::{LossTracker, MAX_MISSING};
use crate::router::relay::{Relay, Upstream};
use crate::router::{LayerWish, Pending, Recent, SubscriptionKey};
use crate::rtp::SequenceUnwrapper;
use crate::seen::Seen;
use crate::stats::{ReceiveStats, SenderClock};
use crate::structure::Structure;
use crate::wheel::Alarm;

/// An encoding that sent nothing for this long, while another of its track did, has been stopped by
/// the publisher. Shorter mistakes a slow frame for an end; longer is a longer freeze.
const STOPPED_AFTER: Duration = Duration::from_millis(1000);
/// … and this recently the other one must have sent.
const STILL_SENDING: Duration = Duration::from_millis(500);

/// What is known of a track before its media arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackSpec<R, P> {
    pub room: R,
    pub participant: P,
    pub is_video: bool,
    /// It is a microphone: where it is published it counts for active speakers, and everywhere it may be one
    /// of those that are not loud enough to be heard.
    pub speaks: bool,
    /// Lost packets are asked for.
    pub nack: bool,
    pub muted: bool,
    /// At least one.
    pub encodings: u8,
    /// Pixels of each encoding, or of each spatial layer that the only one was announced with, from the
    /// lowest up; zero where unknown.
    pub sizes: Vec<Size>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    fn fills(self, view: Size) -> bool {
        let sides = |size: Size| (size.width.min(size.height), size.width.max(size.height));
        let (own, other) = (sides(self), sides(view));
        own.0 >= other.0 && own.1 >= other.1
    }
}

#[derive(Debug)]
pub(crate) struct Track<R, P> {
    pub(crate) spec: TrackSpec<R, P>,
    pub(crate) encodings: Vec<Encoding>,
    /// Each encoding's last sender report.
    pub(crate) clocks: [Option<SenderClock>; MAX_ENCODINGS],
    pub(crate) live: EncodingSet,
    pub(crate) demand: Demand,
    pub(crate) demand_alarm: Alarm,
    pub(crate) subscriptions: Vec<SubscriptionKey>,
    /// Who takes it to receivers elsewhere.
    pub(crate) relays: Vec<Relay>,
    /// It is published elsewhere.
    pub(crate) upstream: Option<Upstream>,
    /// What a microphone's packets said since somebody looked.
    pub(crate) level: Level,
    /// Others are louder: nobody here is sent it.
    pub(crate) is_unheard: bool,
    /// How much it is missed here where there is not room for everything.
    pub(crate) priority: u8,
}

#[derive(Debug)]
pub(crate) struct Encoding {
    pub(crate) sequences: SequenceUnwrapper,
    pub(crate) seen: Seen,
    pub(crate) structure: Structure,
    pub(crate) meter: LayerMeter,
    pub(crate) cache: PacketCache,
    pub(crate) stats: ReceiveStats,
    pub(crate) losses: LossTracker,
    pub(crate) losses_alarm: Alarm,
    /// Numbers that are to be asked for, and nobody was told of yet.
    pub(crate) lost: Vec<u16>,
    pub(crate) key_frames: KeyFrameRequests,
    pub(crate) key_frames_alarm: Alarm,
    pub(crate) last_packet: Option<Instant>,
    /// Subscriptions that have to be shown this encoding's packets.
    pub(crate) interested: Vec<SubscriptionKey>,
    /// Packets that have not been forwarded yet, and how many bytes they have.
    pub(crate) pending: Vec<Pending>,
    pub(crate) pending_bytes: usize,
    /// What newcomers can begin with.
    pub(crate) recent: Recent,
    /// How often it began anew, modulo 256.
    pub(crate) restarts: u8,
    /// The last packet that came was dropped on purpose, and whoever was sent those before it was told.
    pub(crate) is_torn: bool,
}

impl Encoding {
    /// Whether it has not been sent for so long that it is not any more.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        let silent = |last| now.saturating_duration_since(last) >= STOPPED_AFTER;
        self.last_packet.is_some_and(silent)
    }

    /// What was learned of one SSRC does not hold for the next; the packets stay for those who miss
    /// them.
    pub(crate) fn restart(&mut self) {
        self.sequences.restart();
        self.structure = Structure::default();
        self.stats = ReceiveStats::default();
        self.losses.restart();
        self.lost.clear();
        self.pending.clear();
        self.pending_bytes = 0;
        self.recent = Recent::default();
        self.restarts = self.restarts.wrapping_add(1);
    }

    /// Whether a packet of this number can be one that is sent again: of those that came, or that are hardly
    /// ahead of them. One that was sent under a former SSRC, or a client's mistake, would move the count by half
    /// a cycle, and all that comes after would be old.
    pub(crate) fn may_have_missed(&self, sequence: u16) -> bool {
        let highest = self.sequences.highest();
        highest.is_some_and(|highest| self.sequences.peek(sequence) <= highest + MAX_MISSING as u64)
    }
}

impl<R, P> Track<R, P> {
    pub(crate) fn new(spec: TrackSpec<R, P>, now: Instant) -> Self {
        let (packets, bytes) = if spec.is_video {
            (64, 1 << 16)
        } else {
            (64, 1 << 12)
        };
        let encodings = usize::from(spec.encodings).min(MAX_ENCODINGS);
        Self {
            encodings: (0..encodings)
                .map(|_| Encoding {
                    sequences: SequenceUnwrapper::default(),
                    seen: Seen::default(),
                    structure: Structure::default(),
                    meter: LayerMeter::default(),
                    cache: PacketCache::new(packets, bytes),
                    stats: ReceiveStats::default(),
                    losses: LossTracker::default(),
                    losses_alarm: Alarm::default(),
                    lost: Vec::new(),
                    key_frames: KeyFrameRequests::default(),
                    key_frames_alarm: Alarm::default(),
                    last_packet: None,
                    interested: Vec::new(),
                    pending: Vec::new(),
                    pending_bytes: 0,
                    recent: Recent::default(),
                    restarts: 0,
                    is_torn: false,
                })
                .collect(),
            clocks: [None; MAX_ENCODINGS],
            live: EncodingSet::default(),
            demand: Demand::new(spec.sizes.len().min(MAX_ENCODINGS) as u8, now),
            demand_alarm: Alarm::default(),
            subscriptions: Vec::new(),
            relays: Vec::new(),
            upstream: None,
            level: Level::default(),
            is_unheard: false,
            priority: 0,
            spec,
        }
    }

    /// What a receiver is to be sent: no more than it can use, and no more than bandwidth allows.
    pub(crate) fn portion(&self, wish: LayerWish, limit: Limit) -> Portion {
        let wanted = self.wanted(wish);
        let (paused, allowed) = match limit {
            Limit::Paused => (true, wanted),
            Limit::UpTo(layer) => (wish.paused, wanted.min_each(layer)),
        };
        let whole = Layer {
            spatial: u8::MAX,
            ..allowed
        };
        let (encoding, layer) = if self.encodings.len() > 1 {
            (allowed.spatial, whole)
        } else {
            (0, allowed)
        };
        Portion {
            paused: paused || self.is_unheard,
            encoding,
            layer,
        }
    }

    /// The lowest layer that is all a receiver can use.
    pub(crate) fn wanted(&self, wish: LayerWish) -> Layer {
        let limit = wish.spatial_layers.checked_sub(1).unwrap_or(u8::MAX);
        let spatial = self.highest_for(wish.view).min(limit);
        let temporal = match wish.frames_per_second {
            0 => u8::MAX,
            wanted => self.rates().temporal_for(spatial, wanted),
        };
        Layer { spatial, temporal }
    }

    /// The highest encoding or spatial layer that is of use for a view of this size.
    fn highest_for(&self, view: Size) -> u8 {
        let top = self.spatial_layers().clamp(1, MAX_ENCODINGS) as u8 - 1;
        if view == Size::default() {
            return top;
        }
        let fitting = self.sizes().iter().position(|size| size.fills(view));
        fitting.map_or(top, |spatial| (spatial as u8).min(top))
    }

    /// Pixels of what there is to choose from, from the lowest up; fewer, or zero, where nobody knows.
    pub(crate) fn sizes(&self) -> &[Size] {
        let [only] = self.encodings.as_slice() else {
            return &self.spec.sizes;
        };
        // The media knows better than whoever announced it, who may have named the whole alone.
        let as_announced = match self.spatial_layers() {
            shown if shown == 0 || shown == self.spec.sizes.len() => self.spec.sizes.as_slice(),
            _ => &[],
        };
        only.structure.sizes().unwrap_or(as_announced)
    }

    /// How many there are to choose from: encodings, or spatial layers of the only one.
    fn spatial_layers(&self) -> usize {
        match self.encodings.as_slice() {
            [only] => usize::from(only.structure.spatial_layers()),
            several => several.len(),
        }
    }

    /// A layer within an encoding as a layer of the track.
    pub(crate) fn place(&self, encoding: u8, layer: Layer) -> Layer {
        let spatial = if self.encodings.len() > 1 {
            encoding
        } else {
            layer.spatial
        };
        Layer { spatial, ..layer }
    }

    pub(crate) fn rates(&self) -> LayerRates {
        if let Some(rates) = self.rates_elsewhere() {
            return *rates;
        }
        match self.encodings.as_slice() {
            [only] => LayerRates::of_layers(&only.meter, only.structure.is_nested()),
            several => LayerRates::of_encodings(several.iter().map(|encoding| &encoding.meter)),
        }
    }

    /// Marks encodings that have stopped. `true` if one has. Where all fall silent, those that are
    /// wanted stay: a still picture is no reason to wait for another one.
    pub(crate) fn update_live(&mut self, now: Instant) -> bool {
        let age = |encoding: &Encoding| {
            encoding
                .last_packet
                .map(|at| now.saturating_duration_since(at))
        };
        let still_sending = self
            .encodings
            .iter()
            .filter_map(age)
            .any(|age| age < STILL_SENDING);
        let before = self.live;
        for (index, encoding) in self.encodings.iter().enumerate() {
            let may_stop = still_sending || index >= usize::from(self.demand.told());
            if may_stop && encoding.is_silent(now) {
                self.live.remove(index as u8);
            }
        }
        self.live != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_encoding_that_fills_the_view_is_enough() {
        let size = |width, height| Size { width, height };
        let spec = TrackSpec {
            room: (),
            participant: (),
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 3,
            sizes: vec![size(320, 180), size(640, 360), size(1280, 720)],
        };
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let track = Track::new(spec, Instant::now());
        let check =
            |view: Size, expected: u8| assert_eq!(track.highest_for(view), expected, "{view:?}");
        check(size(0, 0), 2);
        check(size(100, 100), 0);
        check(size(320, 180), 0);
        check(size(180, 320), 0); // turned
        check(size(321, 180), 1);
        check(size(640, 361), 2);
        check(size(4000, 3000), 2);
    }
}
