//! From one track to one receiver: which packets go on, and under which numbers, so that the receiver
//! sees a single unbroken stream whatever happens to the layers behind it.
//!
//! Knows neither rooms nor sockets, and not the SSRC the receiver sees.

pub mod continuity;
mod resend;

use std::time::{Duration, Instant};

use crate::codec::vp8;
use crate::stats::SenderClock;
use continuity::{Beginning, Continuity, Origin, Rewrite};
use resend::Resends;

/// Simulcast encodings a track has at most. Browsers send three.
pub const MAX_ENCODINGS: usize = 4;

/// Encodings that are being sent, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodingSet(u8);

impl EncodingSet {
    pub const ALL: Self = Self((1 << MAX_ENCODINGS) - 1);

    pub fn insert(&mut self, encoding: u8) {
        self.0 |= 1 << encoding;
    }

    pub fn remove(&mut self, encoding: u8) {
        self.0 &= !(1 << encoding);
    }

    pub fn contains(self, encoding: u8) -> bool {
        self.0 & 1 << encoding != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The highest one up to `limit`, else the lowest above it.
    fn nearest(self, limit: u8) -> Option<u8> {
        let upto = self.0 & ((2u16 << limit.min(7)) - 1) as u8;
        if upto != 0 {
            return Some(upto.ilog2() as u8);
        }
        (self.0 != 0).then(|| self.0.trailing_zeros() as u8)
    }
}

/// What a receiver wants of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub paused: bool,
    /// Highest encoding that is of use.
    pub highest: u8,
}

/// A packet of the track, as far as choosing needs it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub encoding: u8,
    pub sequence: u64,
    pub timestamp: u32,
    pub starts_key_frame: bool,
    /// Padding only: it has done its work by arriving.
    pub is_empty: bool,
    pub vp8: Option<&'a vp8::Descriptor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selection {
    Paused,
    /// Nothing is sent before a key frame of the target; of any encoding while none is live.
    Waiting {
        target: Option<u8>,
    },
    Forwarding {
        current: u8,
        target: Option<u8>,
    },
}

/// One subscription's rewriting state.
#[derive(Debug)]
pub struct Forwarder {
    wish: Wish,
    selection: Selection,
    numbers: Continuity,
    packets: u32,
    octets: u32,
    resends: Resends,
}

impl Forwarder {
    /// `first`: see [`Continuity::new`].
    pub fn new(wish: Wish, first: u64, clock_rate: u32) -> Self {
        Self {
            wish,
            selection: Selection::Paused,
            numbers: Continuity::new(first, clock_rate),
            packets: 0,
            octets: 0,
            resends: Resends::default(),
        }
    }

    pub fn set_wish(&mut self, wish: Wish, live: EncodingSet) {
        self.wish = wish;
        self.select(live);
    }

    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// Chooses again among the encodings that are being sent.
    pub fn select(&mut self, live: EncodingSet) {
        let best = live.nearest(self.wish.highest);
        self.selection = match self.selection {
            _ if self.wish.paused => Selection::Paused,
            Selection::Paused | Selection::Waiting { .. } => Selection::Waiting { target: best },
            Selection::Forwarding { current, .. } => Selection::Forwarding {
                current,
                target: best.filter(|best| *best != current),
            },
        };
    }

    /// The stream breaks off; it goes on at the next key frame.
    pub fn interrupt(&mut self) {
        if let Selection::Forwarding { current, target } = self.selection {
            self.selection = Selection::Waiting {
                target: target.or(Some(current)),
            };
        }
    }

    /// The encoding a key frame is needed of, if one is.
    pub fn awaits_key_frame_of(&self) -> Option<u8> {
        match self.selection {
            Selection::Paused => None,
            Selection::Waiting { target } | Selection::Forwarding { target, .. } => target,
        }
    }

    /// The encoding that is being sent.
    pub fn current(&self) -> Option<u8> {
        match self.selection {
            Selection::Forwarding { current, .. } => Some(current),
            Selection::Paused | Selection::Waiting { .. } => None,
        }
    }

    /// Encodings whose packets this forwarder has to be shown.
    pub fn interest(&self) -> EncodingSet {
        let mut set = EncodingSet::default();
        match self.selection {
            Selection::Paused => {}
            Selection::Waiting { target: None } => return EncodingSet::ALL,
            Selection::Waiting {
                target: Some(target),
            } => set.insert(target),
            Selection::Forwarding { current, target } => {
                set.insert(current);
                target.into_iter().for_each(|target| set.insert(target));
            }
        }
        set
    }

    /// The numbers this packet goes out under; `None` if it does not. `clocks` are the encodings' last
    /// sender reports.
    pub fn handle_packet(
        &mut self,
        packet: &Candidate<'_>,
        payload_len: usize,
        clocks: &[Option<SenderClock>; MAX_ENCODINGS],
        now: Instant,
    ) -> Option<Rewrite> {
        let begins = match self.selection {
            Selection::Paused => return None,
            Selection::Waiting { target } => {
                if target.is_some_and(|target| target != packet.encoding)
                    || !packet.starts_key_frame
                {
                    return None;
                }
                true
            }
            Selection::Forwarding { target, .. } if target == Some(packet.encoding) => {
                if !packet.starts_key_frame {
                    return None;
                }
                true
            }
            Selection::Forwarding { current, .. } if current == packet.encoding => false,
            Selection::Forwarding { .. } => return None,
        };
        if packet.is_empty {
            self.numbers.leave_out(packet.encoding, packet.sequence);
            return None;
        }
        if begins {
            self.numbers.begin(
                Beginning {
                    encoding: packet.encoding,
                    sequence: packet.sequence,
                    timestamp: packet.timestamp,
                    vp8: packet.vp8,
                    aligned: self.aligned(packet, clocks),
                },
                now,
            );
            self.selection = Selection::Forwarding {
                current: packet.encoding,
                target: None,
            };
        }
        let rewrite = self.numbers.forward(
            packet.encoding,
            packet.sequence,
            packet.timestamp,
            packet.vp8,
            now,
        )?;
        self.resends.earn();
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
        Some(rewrite)
    }

    /// Finds the packet a receiver misses. `None`: it is not among the recent ones, or was resent
    /// within the last round trip.
    pub fn handle_loss(
        &mut self,
        sequence: u16,
        round_trip: Duration,
        now: Instant,
    ) -> Option<Resend> {
        let sequence = self.numbers.extend(sequence)?;
        let origin = self.numbers.origin(sequence)?;
        self.resends
            .allow(sequence, round_trip, now)
            .then_some(Resend { sequence, origin })
    }

    /// The first number that was never used.
    pub fn next_sequence(&self) -> u64 {
        self.numbers.next()
    }

    /// Packets and payload octets sent (RFC 3550 section 6.4.1).
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// What the receiver sees for a timestamp of the current encoding.
    pub fn timestamp(&self, source: u32) -> Option<u32> {
        self.numbers.timestamp(source)
    }

    fn aligned(
        &self,
        packet: &Candidate<'_>,
        clocks: &[Option<SenderClock>; MAX_ENCODINGS],
    ) -> Option<u32> {
        let before = self.numbers.encoding()?;
        let timestamp = if before == packet.encoding {
            packet.timestamp
        } else {
            let clock = |encoding: u8| clocks.get(usize::from(encoding)).copied().flatten();
            clock(packet.encoding)?.translate(packet.timestamp, &clock(before)?)
        };
        self.numbers.timestamp(timestamp)
    }
}

/// A packet to be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resend {
    /// The number it went out under.
    pub sequence: u64,
    pub origin: Origin,
}

#[cfg(test)]
mod tests;
