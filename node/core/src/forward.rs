//! From one track to one receiver: which packets go on, and under which numbers, so that the receiver
//! sees a single unbroken stream whatever happens to the layers behind it.
//!
//! Knows neither rooms nor sockets, and not the SSRC the receiver sees.

mod choice;
pub mod continuity;
mod resend;

use std::time::{Duration, Instant};

use crate::codec::frame::Frame;
use crate::codec::ids::FrameIds;
use crate::layer::Layer;
use crate::stats::SenderClock;
use choice::{Choice, Verdict};
use continuity::{Continuity, Numbered, Origin, Rewrite};
use resend::Resends;

/// Simulcast encodings a track has at most. Browsers send three.
pub const MAX_ENCODINGS: usize = 4;

/// Encodings that are being sent, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodingSet(u8);

impl EncodingSet {
    pub const ALL: Self = Self((1 << MAX_ENCODINGS) - 1);

    /// So many, from the lowest up.
    pub(crate) fn first(number: u8) -> Self {
        Self(((1_u16 << number.min(7)) - 1) as u8).and(Self::ALL)
    }

    /// As a number whose lowest bit is the lowest encoding.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Those beyond [`MAX_ENCODINGS`] are left out.
    pub fn of_bits(bits: u8) -> Self {
        Self(bits).and(Self::ALL)
    }

    pub fn insert(&mut self, encoding: u8) {
        self.0 |= 1 << encoding;
    }

    pub fn remove(&mut self, encoding: u8) {
        self.0 &= !(1 << encoding);
    }

    /// Removes an encoding; whether it was there.
    pub(crate) fn take(&mut self, encoding: u8) -> bool {
        let was_there = self.contains(encoding);
        self.remove(encoding);
        was_there
    }

    pub fn contains(self, encoding: u8) -> bool {
        self.0 & 1 << encoding != 0
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

/// What a receiver is to be sent of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    pub paused: bool,
    /// Highest encoding that is of use.
    pub encoding: u8,
    /// Highest layer within an encoding.
    pub layer: Layer,
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
    pub ids: Option<&'a FrameIds>,
    /// `None`: the packet does not say which frame it belongs to.
    pub frame: Option<&'a Frame>,
}

impl<'a> Candidate<'a> {
    fn numbered(&self) -> Numbered<'a> {
        Numbered {
            encoding: self.encoding,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ids: self.ids,
            ends: self
                .frame
                .filter(|frame| frame.ends)
                .map(|frame| frame.layer.spatial),
        }
    }
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
    portion: Portion,
    selection: Selection,
    choice: Choice,
    numbers: Continuity,
    packets: u32,
    octets: u32,
    resends: Resends,
    /// What lies below is not sent again.
    kept_from: u64,
}

impl Forwarder {
    /// `first`: see [`Continuity::new`].
    pub fn new(portion: Portion, first: u64, clock_rate: u32) -> Self {
        Self {
            portion,
            selection: Selection::Paused,
            choice: Choice::new(portion.layer),
            numbers: Continuity::new(first, clock_rate),
            packets: 0,
            octets: 0,
            resends: Resends::default(),
            kept_from: 0,
        }
    }

    pub fn set_portion(&mut self, portion: Portion, live: EncodingSet) {
        self.portion = portion;
        self.choice.set_wanted(portion.layer);
        self.select(live);
    }

    pub fn portion(&self) -> Portion {
        self.portion
    }

    /// Chooses again among the encodings that are being sent.
    pub fn select(&mut self, live: EncodingSet) {
        let best = live.nearest(self.portion.encoding);
        self.selection = match self.selection {
            _ if self.portion.paused => Selection::Paused,
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

    /// What was numbered from `next` on, if anything, has not gone out: the numbers are used again, from the
    /// next key frame on.
    pub fn rewind(&mut self, next: u64) {
        if next >= self.numbers.next() {
            return;
        }
        self.numbers.rewind(next);
        self.kept_from = self.kept_from.min(self.numbers.next());
        self.interrupt();
    }

    /// What is being sent takes the room of what is to follow: it ends here, without waiting for a key
    /// frame of that, and nothing of it is sent again. Where nothing else is to follow, it goes on.
    pub fn abandon(&mut self) {
        match self.selection {
            Selection::Forwarding {
                target: Some(target),
                ..
            } => {
                self.selection = Selection::Waiting {
                    target: Some(target),
                };
            }
            Selection::Paused => {}
            Selection::Forwarding { target: None, .. } | Selection::Waiting { .. } => return,
        }
        self.kept_from = self.numbers.next();
    }

    /// Whether the receiver has never been sent anything, or at least nothing was numbered for it.
    pub fn is_new(&self) -> bool {
        self.numbers.encoding().is_none()
    }

    /// The encoding a key frame is needed of, if one is.
    pub fn awaits_key_frame_of(&self) -> Option<u8> {
        match self.selection {
            Selection::Paused => None,
            Selection::Waiting { target } => target,
            Selection::Forwarding { current, target } => {
                target.or_else(|| self.choice.awaits_key_picture().then_some(current))
            }
        }
    }

    /// The encoding that is being sent.
    pub fn current(&self) -> Option<u8> {
        match self.selection {
            Selection::Forwarding { current, .. } => Some(current),
            Selection::Paused | Selection::Waiting { .. } => None,
        }
    }

    /// The layer of the current encoding up to which is sent.
    pub fn layer(&self) -> Layer {
        self.choice.current()
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

    /// Gives `send` the numbers this packet goes out under, if it does. `clocks` are the encodings' last
    /// sender reports.
    // Not as an answer: a processor waits for what was written in parts when it is read as a whole.
    #[inline(always)]
    pub fn handle_packet(
        &mut self,
        packet: &Candidate<'_>,
        payload_len: usize,
        clocks: &[Option<SenderClock>; MAX_ENCODINGS],
        now: Instant,
        mut send: impl FnMut(Rewrite),
    ) {
        let begins = match self.selection {
            Selection::Paused => return,
            Selection::Waiting { target } => {
                if target.is_some_and(|target| target != packet.encoding)
                    || !packet.starts_key_frame
                {
                    return;
                }
                true
            }
            Selection::Forwarding { target, .. } if target == Some(packet.encoding) => {
                if !packet.starts_key_frame {
                    return;
                }
                true
            }
            Selection::Forwarding { current, .. } if current == packet.encoding => false,
            Selection::Forwarding { .. } => return,
        };
        if packet.is_empty {
            let filler = self.leave_out(packet, false, now);
            return filler.into_iter().for_each(send);
        }
        if begins {
            self.choice.restart();
        }
        let verdict = packet.frame.map_or(Verdict::Forward, |frame| {
            self.choice.decide(frame, packet.timestamp)
        });
        let top = self.choice.current().spatial;
        if begins {
            let aligned = self.aligned(packet, clocks);
            self.numbers.begin(&packet.numbered(), top, aligned, now);
            self.selection = Selection::Forwarding {
                current: packet.encoding,
                target: None,
            };
        } else if packet.frame.is_some() {
            self.numbers.set_top(top, packet.sequence);
        }
        if let Verdict::LeaveOut { is_first } = verdict {
            let is_counted = packet.frame.is_some_and(|frame| frame.is_counted);
            let filler = self.leave_out(packet, is_first && is_counted, now);
            return filler.into_iter().for_each(send);
        }
        let Some(rewrite) = self.numbers.forward(&packet.numbered(), now) else {
            return;
        };
        self.resends.earn();
        if rewrite.sequence + 1 < self.numbers.next() {
            self.resends.note_late(rewrite.sequence, now);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
        send(rewrite);
    }

    /// Leaves a packet out; padding goes in its place if the receiver knows of it already.
    #[inline(never)]
    fn leave_out(
        &mut self,
        packet: &Candidate<'_>,
        picture: bool,
        now: Instant,
    ) -> Option<Rewrite> {
        if self
            .numbers
            .leave_out(packet.encoding, packet.sequence, picture)
        {
            return None;
        }
        let rewrite = self.numbers.forward(&packet.numbered(), now)?;
        self.packets = self.packets.wrapping_add(1);
        Some(Rewrite {
            ends_picture: false,
            is_filler: true,
            ..rewrite
        })
    }

    /// Finds the packet a receiver misses. `None`: it is not among the recent ones.
    pub fn find(&self, sequence: u16) -> Option<Resend> {
        let sequence = self.numbers.extend(sequence)?;
        if sequence < self.kept_from {
            return None;
        }
        let origin = self.numbers.origin(sequence)?;
        Some(Resend { sequence, origin })
    }

    /// Whether a packet may be sent again now, and not within a round trip of the last time; counts it if
    /// so.
    pub fn may_resend(&mut self, sequence: u64, round_trip: Duration, now: Instant) -> bool {
        self.resends.allow(sequence, round_trip, now)
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
