//! Numbers: how sequence numbers, timestamps and picture ids of changing sources become one continuous
//! stream.
//!
//! Two rules carry everything. A packet that the publisher lost stays missing, so that the receiver
//! asks for it; a packet that we leave out leaves no gap. And a packet sent once is described the same
//! way for ever, so that its retransmission is the same packet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::codec::ids::{FrameIds, LastIds, Shift};

/// Unbroken pieces that a packet is remembered to have come from. One begins at every switch and behind
/// every run of packets left out; leaving something out of every picture at 60 a second fills them in
/// two seconds, twice as long as packets are kept. They take 1.5 KB then, and nothing while everything
/// is forwarded.
const MAX_PIECES: usize = 128;
/// Changes of source or layers in that time.
const MAX_ERAS: usize = 16;

/// A run of a source's packets that is forwarded without a break; it ends where the next one begins.
/// Numbers are cut to 32 bits: what is 2^31 packets back is forgotten long since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Source number of its first packet, and what the receiver sees for that.
    first: u32,
    first_out: u32,
    /// Picture ids left out since the era began.
    pictures: u16,
    /// The low bits of its era's number.
    era: u8,
}

/// What holds for all packets between two changes of the source or of its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Era {
    number: u8,
    encoding: u8,
    /// The highest spatial layer that is forwarded.
    top: u8,
    /// The era before was of the same source, without a break.
    continues: bool,
    timestamp_shift: u32,
    shift: Shift,
    /// Source number it began with, in full.
    first: u64,
}

/// The last era and piece, in the form packets are forwarded by.
#[derive(Debug, Clone, Copy)]
struct Current {
    encoding: u8,
    top: u8,
    timestamp_shift: u32,
    shift: Shift,
    /// Source numbers `first..next` were forwarded, or lost.
    first: u64,
    next: u64,
    /// What the receiver sees for `first`.
    first_out: u64,
}

/// How a packet's numbers change on its way to the receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// 48 bits of rollover counter and sequence number (RFC 3711 section 3.3.1), never used twice.
    pub sequence: u64,
    pub timestamp: u32,
    pub shift: Shift,
    /// No layer above is sent, so the marker is set even if the publisher set it later.
    pub ends_picture: bool,
    /// The receiver is to get padding in place of the packet, which it does not want, because the
    /// number is spoken for.
    pub is_filler: bool,
}

/// Where a packet that the receiver asks for came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub encoding: u8,
    /// The highest spatial layer that was forwarded with it.
    pub top: u8,
    pub sequence: u64,
    pub timestamp_shift: u32,
    pub shift: Shift,
}

/// What becomes of a packet that comes late.
struct Late {
    sequence: u64,
    timestamp_shift: u32,
    shift: Shift,
    top: u8,
}

/// A packet of a source, as far as numbers go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbered<'a> {
    pub encoding: u8,
    pub sequence: u64,
    pub timestamp: u32,
    pub ids: Option<&'a FrameIds>,
    /// It is the last packet of a frame of this spatial layer.
    pub ends: Option<u8>,
}

#[derive(Debug, Clone)]
pub struct Continuity {
    current: Option<Current>,
    /// Next number never used before.
    next_out: u64,
    /// What lies below was used by others.
    first_out: u64,
    clock_rate: u32,
    /// Latest timestamp sent, and when.
    last: Option<(u32, Instant)>,
    /// The source forwarded last, and how its timestamps changed; also when its numbers were taken back.
    clock: Option<(u8, u32)>,
    last_ids: LastIds,
    /// Picture ids left out since the era began.
    pictures: u16,
    /// Both oldest first; the last ones are current.
    pieces: VecDeque<Piece>,
    eras: VecDeque<Era>,
}

impl Continuity {
    /// `first` is the first number to use. For an SSRC that nothing was sent under yet it must be below
    /// 2^15, so that a receiver that misses the first packets cannot mistake the rollover counter (RFC
    /// 3711 section 3.3.1); for one that was in use it is [`Self::next`] of then, or a number would be
    /// used twice.
    pub fn new(first: u64, clock_rate: u32) -> Self {
        Self {
            current: None,
            next_out: first,
            first_out: first,
            clock_rate,
            last: None,
            clock: None,
            last_ids: LastIds::default(),
            pictures: 0,
            pieces: VecDeque::new(),
            eras: VecDeque::new(),
        }
    }

    /// Continues the stream with another source, or with the same one after a pause; `top` is the highest
    /// spatial layer that will be forwarded of it. `aligned` is what the receiver's timestamp for this
    /// moment would be on the old source's clock, where sender reports tell.
    pub fn begin(&mut self, at: &Numbered<'_>, top: u8, aligned: Option<u32>, now: Instant) {
        let timestamp_shift = match self.last {
            None => 0,
            Some(last) => self
                .next_timestamp(last, aligned, now)
                .wrapping_sub(at.timestamp),
        };
        let shift = at
            .ids
            .map_or(Shift::default(), |ids| ids.shift_after(self.last_ids));
        let current = Current {
            encoding: at.encoding,
            top,
            timestamp_shift,
            shift,
            first: at.sequence,
            next: at.sequence,
            first_out: self.next_out,
        };
        self.push_era(current, false);
    }

    /// From this packet of the current source on, another spatial layer is the highest.
    pub fn set_top(&mut self, top: u8, sequence: u64) {
        let Some(current) = self.current.as_ref().filter(|it| it.top != top).copied() else {
            return;
        };
        // What has gone out keeps its description.
        let first = sequence.max(current.next);
        let continued = Current {
            top,
            first,
            next: first,
            first_out: current.first_out + (first - current.first),
            ..current
        };
        self.next_out = self.next_out.max(continued.first_out);
        self.push_era(continued, true);
    }

    /// Numbers for a packet. `None`: it belongs to nothing that was forwarded.
    #[inline(always)]
    pub fn forward(&mut self, packet: &Numbered<'_>, now: Instant) -> Option<Rewrite> {
        let current = self.current.as_ref()?;
        if current.encoding != packet.encoding {
            return None;
        }
        let is_late = packet.sequence < current.first;
        let (sequence, timestamp_shift, shift, top) = if is_late {
            let late = self.late(packet.sequence)?;
            (late.sequence, late.timestamp_shift, late.shift, late.top)
        } else {
            let out = current.first_out + (packet.sequence - current.first);
            (out, current.timestamp_shift, current.shift, current.top)
        };
        let timestamp = packet.timestamp.wrapping_add(timestamp_shift);
        if let Some(current) = &mut self.current
            && !is_late
            && packet.sequence >= current.next
        {
            current.next = packet.sequence + 1;
            self.next_out = sequence + 1;
            self.last = Some((timestamp, now));
            if let Some(ids) = packet.ids {
                self.last_ids.update(ids.shifted(shift));
            }
        }
        Some(Rewrite {
            sequence,
            timestamp,
            shift,
            ends_picture: packet.ends == Some(top),
            is_filler: false,
        })
    }

    /// Leaves a packet out so that the receiver does not miss it; `picture` if it is the first of a
    /// picture whose id the receiver is not to miss either. `false`: its number is already spoken for
    /// (it is late, later ones have gone out), so something has to be sent under it.
    pub fn leave_out(&mut self, encoding: u8, sequence: u64, picture: bool) -> bool {
        let Some(current) = &mut self.current else {
            return true;
        };
        if current.encoding != encoding {
            return true;
        }
        if sequence < current.first {
            return self.piece_of(sequence).is_none();
        }
        if sequence < current.next {
            return false;
        }
        if picture {
            self.pictures = self.pictures.wrapping_add(1);
            current.shift = current.shift.less_pictures(1);
        }
        // Numbers between the last one forwarded and this one stay reserved: they are on their way, or
        // lost and will be asked for.
        current.first_out += sequence - current.first;
        current.first = sequence + 1;
        current.next = sequence + 1;
        self.next_out = current.first_out;
        self.push_piece();
        true
    }

    /// Which packet went out under this number, if it is among the recent ones.
    pub fn origin(&self, sequence: u64) -> Option<Origin> {
        const PAST: u64 = 1 << 31;
        if sequence >= self.next_out || self.next_out - sequence >= PAST {
            return None;
        }
        let age = |out: u32| (self.next_out as u32).wrapping_sub(out);
        let wanted = age(sequence as u32);
        let behind = self
            .pieces
            .partition_point(|piece| age(piece.first_out) >= wanted);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        let era = self.era_of(piece)?;
        Some(Origin {
            encoding: era.encoding,
            top: era.top,
            sequence: era.source(piece.first)
                + u64::from((sequence as u32).wrapping_sub(piece.first_out)),
            timestamp_shift: era.timestamp_shift,
            shift: era.shift.less_pictures(piece.pictures),
        })
    }

    /// The 16 bits a receiver names a packet by, extended to the number we used last for them.
    pub fn extend(&self, sequence: u16) -> Option<u64> {
        let highest = self.next_out.checked_sub(1)?;
        highest.checked_sub(u64::from((highest as u16).wrapping_sub(sequence)))
    }

    /// Takes back all numbers from `next` on, under which nothing has gone out. The stream goes on with
    /// [`Self::begin`].
    pub fn rewind(&mut self, next: u64) {
        let next = next.max(self.first_out);
        if next >= self.next_out {
            return;
        }
        // How far back a number lies; those of pieces are cut to 32 bits.
        let age = |out: u32| (self.next_out as u32).wrapping_sub(out);
        let taken = age(next as u32);
        while self
            .pieces
            .back()
            .is_some_and(|piece| age(piece.first_out) <= taken)
        {
            self.pieces.pop_back();
        }
        let kept = self.pieces.back().map(|piece| piece.era);
        while self.eras.back().is_some_and(|era| Some(era.number) != kept) {
            self.eras.pop_back();
        }
        self.current = None;
        self.next_out = next;
    }

    /// The first number that was never used.
    pub fn next(&self) -> u64 {
        self.next_out
    }

    /// The source that was forwarded last.
    pub fn encoding(&self) -> Option<u8> {
        self.clock.map(|(encoding, _)| encoding)
    }

    /// What the receiver sees for a timestamp of the source that was forwarded last.
    pub fn timestamp(&self, source: u32) -> Option<u32> {
        self.clock.map(|(_, shift)| source.wrapping_add(shift))
    }

    /// Where a packet from before the current piece goes.
    #[cold]
    fn late(&self, sequence: u64) -> Option<Late> {
        let (piece, era) = self.piece_of(sequence)?;
        let out = piece
            .first_out
            .wrapping_add((sequence as u32).wrapping_sub(piece.first));
        Some(Late {
            // By the distance from the newest number, which is known in full.
            sequence: self.next_out - u64::from((self.next_out as u32).wrapping_sub(out)),
            timestamp_shift: era.timestamp_shift,
            shift: era.shift.less_pictures(piece.pictures),
            top: era.top,
        })
    }

    /// The past piece that a late packet of the current source belongs to. What lies before the source
    /// was begun does not count: what comes late from a source that was left is not worth a decoder's
    /// confusion.
    fn piece_of(&self, sequence: u64) -> Option<(&Piece, &Era)> {
        let mut next: Option<&Piece> = None;
        let mut eras = self.eras.iter().rev();
        let mut era = eras.next()?;
        for piece in self.pieces.iter().rev() {
            if piece.era != era.number {
                if !era.continues {
                    return None;
                }
                era = eras.next()?;
            }
            if let Some(next) = next {
                let first = era.source(piece.first);
                let len = u64::from(next.first_out.wrapping_sub(piece.first_out));
                if (first..first + len).contains(&sequence) {
                    return Some((piece, era));
                }
            }
            next = Some(piece);
        }
        None
    }

    fn era_of(&self, piece: &Piece) -> Option<&Era> {
        self.eras.iter().rev().find(|era| era.number == piece.era)
    }

    /// Every era has a piece, and every piece its era.
    fn push_era(&mut self, current: Current, mut continues: bool) {
        // An era in which nothing went out is of no use.
        if let (Some(last), Some(era)) = (self.pieces.back(), self.eras.back())
            && last.first_out == current.first_out as u32
        {
            let number = era.number;
            self.pieces.pop_back();
            if self.pieces.back().is_none_or(|piece| piece.era != number) {
                continues &= era.continues;
                self.eras.pop_back();
            }
        }
        if self.eras.len() == MAX_ERAS
            && let Some(oldest) = self.eras.pop_front()
        {
            while self
                .pieces
                .front()
                .is_some_and(|piece| piece.era == oldest.number)
            {
                self.pieces.pop_front();
            }
        }
        let number = self
            .eras
            .back()
            .map_or(0, |last| last.number.wrapping_add(1));
        self.eras.push_back(Era {
            number,
            encoding: current.encoding,
            top: current.top,
            continues,
            timestamp_shift: current.timestamp_shift,
            shift: current.shift,
            first: current.first,
        });
        self.current = Some(current);
        self.clock = Some((current.encoding, current.timestamp_shift));
        self.pictures = 0;
        self.push_piece();
    }

    /// Writes down where the current piece begins, in place of one that nothing went out of.
    fn push_piece(&mut self) {
        let (Some(current), Some(era)) = (&self.current, self.eras.back()) else {
            return;
        };
        let piece = Piece {
            first: current.first as u32,
            first_out: current.first_out as u32,
            pictures: self.pictures,
            era: era.number,
        };
        if let Some(last) = self.pieces.back_mut()
            && last.first_out == piece.first_out
            && last.era == piece.era
        {
            *last = piece;
            return;
        }
        if self.pieces.len() == MAX_PIECES {
            self.pieces.pop_front();
            let oldest = self.pieces.front().map(|piece| piece.era);
            if oldest != self.eras.front().map(|era| era.number) {
                self.eras.pop_front();
            }
        }
        self.pieces.push_back(piece);
    }

    /// Timestamp for the first packet of a new source: where the old source's clock would stand, else
    /// as far on as time has gone; always forwards.
    fn next_timestamp(&self, last: (u32, Instant), aligned: Option<u32>, now: Instant) -> u32 {
        /// Two sources' reports may disagree by this much before arrival times are trusted more.
        const TOLERANCE: Duration = Duration::from_millis(500);
        let (last_out, sent_at) = last;
        let ticks = |time: Duration| (time.as_secs_f64() * f64::from(self.clock_rate)) as i64;
        let elapsed = ticks(now.saturating_duration_since(sent_at));
        // The shortest frame of a 60 Hz camera, or of a 20 ms audio packet.
        let least = i64::from(self.clock_rate) / 60;
        let step = aligned
            .map(|aligned| i64::from(aligned.wrapping_sub(last_out) as i32))
            .filter(|aligned| (aligned - elapsed).abs() <= ticks(TOLERANCE))
            .unwrap_or(elapsed)
            .max(least);
        last_out.wrapping_add(step as u32)
    }
}

impl Era {
    /// A source number in full; right for 2^32 packets of one era.
    fn source(&self, low: u32) -> u64 {
        self.first + u64::from(low.wrapping_sub(self.first as u32))
    }
}

#[cfg(test)]
mod tests;
