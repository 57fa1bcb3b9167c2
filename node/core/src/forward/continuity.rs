//! Numbers: how sequence numbers, timestamps and VP8 picture ids of changing sources become one
//! continuous stream.
//!
//! Two rules carry everything. A packet that the publisher lost stays missing, so that the receiver
//! asks for it; a packet that we leave out leaves no gap. And a packet sent once is described the same
//! way for ever, so that its retransmission is the same packet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::codec::vp8;

/// Past stretches that a retransmission can still be found in. One begins at every switch and behind
/// every packet left out; 64 are seconds of dropped temporal layers.
const MAX_STRETCHES: usize = 64;

/// A stretch of one source that is forwarded without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    encoding: u8,
    /// Source numbers `first..next` belong to it; the last stretch is open-ended.
    first: u64,
    next: u64,
    /// What the receiver sees for `first`.
    first_out: u64,
    timestamp_shift: u32,
    vp8: vp8::Shift,
}

/// How a packet's numbers change on its way to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// 48 bits of rollover counter and sequence number (RFC 3711 section 3.3.1), never used twice.
    pub sequence: u64,
    pub timestamp: u32,
    pub vp8: vp8::Shift,
}

/// Where a packet that the receiver asks for came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub encoding: u8,
    pub sequence: u64,
    pub timestamp_shift: u32,
    pub vp8: vp8::Shift,
}

/// The packet a new source begins with.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a> {
    pub encoding: u8,
    pub sequence: u64,
    pub timestamp: u32,
    pub vp8: Option<&'a vp8::Descriptor>,
    /// What the receiver's timestamp for this moment would be on the old source's clock, where sender
    /// reports tell.
    pub aligned: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Continuity {
    /// Oldest first; the last one is current.
    stretches: VecDeque<Stretch>,
    clock_rate: u32,
    /// Next number never used before.
    next_out: u64,
    /// Latest timestamp sent, and when.
    last: Option<(u32, Instant)>,
    last_picture: Option<u16>,
    last_tl0_picture: Option<u8>,
}

impl Continuity {
    /// `first` is the first number to use. For an SSRC that nothing was sent under yet it must be below
    /// 2^15, so that a receiver that misses the first packets cannot mistake the rollover counter (RFC
    /// 3711 section 3.3.1); for one that was in use it is [`Self::next`] of then, or a number would be
    /// used twice.
    pub fn new(first: u64, clock_rate: u32) -> Self {
        Self {
            stretches: VecDeque::with_capacity(4),
            clock_rate,
            next_out: first,
            last: None,
            last_picture: None,
            last_tl0_picture: None,
        }
    }

    /// Continues the stream with another source, or with the same one after a pause.
    pub fn begin(&mut self, at: Beginning<'_>, now: Instant) {
        let timestamp_shift = match self.last {
            None => 0,
            Some(last) => self
                .next_timestamp(last, at, now)
                .wrapping_sub(at.timestamp),
        };
        let vp8 = match at.vp8 {
            None => vp8::Shift::default(),
            Some(descriptor) => descriptor.shift_after(self.last_picture, self.last_tl0_picture),
        };
        self.push(Stretch {
            encoding: at.encoding,
            first: at.sequence,
            next: at.sequence,
            first_out: self.next_out,
            timestamp_shift,
            vp8,
        });
    }

    /// Numbers for a packet of `encoding`. `None`: it belongs to nothing that was forwarded.
    pub fn forward(
        &mut self,
        encoding: u8,
        sequence: u64,
        timestamp: u32,
        vp8: Option<&vp8::Descriptor>,
        now: Instant,
    ) -> Option<Rewrite> {
        let current = self.stretches.back_mut()?;
        if current.encoding != encoding {
            return None;
        }
        if sequence < current.first {
            return self.forward_late(encoding, sequence, timestamp);
        }
        let out = current.first_out + (sequence - current.first);
        let timestamp = timestamp.wrapping_add(current.timestamp_shift);
        let shift = current.vp8;
        if sequence >= current.next {
            current.next = sequence + 1;
            self.next_out = out + 1;
            self.last = Some((timestamp, now));
            if let Some(descriptor) = vp8 {
                let (picture, tl0) = descriptor.shifted(shift);
                self.last_picture = picture.or(self.last_picture);
                self.last_tl0_picture = tl0.or(self.last_tl0_picture);
            }
        }
        Some(Rewrite {
            sequence: out,
            timestamp,
            vp8: shift,
        })
    }

    /// Leaves a packet out so that the receiver does not miss it. `false`: its number is already
    /// spoken for (it is late, later ones have gone out), so it is better forwarded.
    pub fn leave_out(&mut self, encoding: u8, sequence: u64) -> bool {
        let Some(current) = self.stretches.back_mut() else {
            return true;
        };
        if current.encoding != encoding {
            return true;
        }
        if sequence < current.next && sequence >= current.first {
            return false;
        }
        if sequence < current.first {
            return self.stretch_of(encoding, sequence).is_none();
        }
        // Numbers between the last one forwarded and this one stay reserved: they are on their way, or
        // lost and will be asked for.
        let first_out = current.first_out + (sequence - current.first);
        current.next = sequence;
        let resumed = Stretch {
            first: sequence + 1,
            next: sequence + 1,
            first_out,
            ..*current
        };
        self.push(resumed);
        self.next_out = first_out;
        true
    }

    /// Which packet went out under this number, if it is among the recent ones.
    pub fn origin(&self, sequence: u64) -> Option<Origin> {
        let stretch = self
            .stretches
            .iter()
            .rev()
            .find(|stretch| stretch.first_out <= sequence)?;
        let source = stretch.first + (sequence - stretch.first_out);
        (source < stretch.next).then_some(Origin {
            encoding: stretch.encoding,
            sequence: source,
            timestamp_shift: stretch.timestamp_shift,
            vp8: stretch.vp8,
        })
    }

    /// The 16 bits a receiver names a packet by, extended to the number we used last for them.
    pub fn extend(&self, sequence: u16) -> Option<u64> {
        let highest = self.next_out.checked_sub(1)?;
        highest.checked_sub(u64::from((highest as u16).wrapping_sub(sequence)))
    }

    /// The first number that was never used.
    pub fn next(&self) -> u64 {
        self.next_out
    }

    /// The source of the current stretch.
    pub fn encoding(&self) -> Option<u8> {
        self.stretches.back().map(|current| current.encoding)
    }

    /// What the receiver sees for a source timestamp of the current stretch.
    pub fn timestamp(&self, source: u32) -> Option<u32> {
        self.stretches
            .back()
            .map(|current| source.wrapping_add(current.timestamp_shift))
    }

    fn forward_late(&self, encoding: u8, sequence: u64, timestamp: u32) -> Option<Rewrite> {
        let stretch = self.stretch_of(encoding, sequence)?;
        Some(Rewrite {
            sequence: stretch.first_out + (sequence - stretch.first),
            timestamp: timestamp.wrapping_add(stretch.timestamp_shift),
            vp8: stretch.vp8,
        })
    }

    /// The past stretch a late packet belongs to. Stretches before a switch do not count: what comes
    /// late from a source that was left is not worth a decoder's confusion.
    fn stretch_of(&self, encoding: u8, sequence: u64) -> Option<&Stretch> {
        let of_source = self
            .stretches
            .iter()
            .rev()
            .take_while(|s| s.encoding == encoding);
        of_source
            .skip(1)
            .find(|s| (s.first..s.next).contains(&sequence))
    }

    fn push(&mut self, stretch: Stretch) {
        // A stretch that nothing went out of is of no use.
        if self
            .stretches
            .back()
            .is_some_and(|last| last.first == last.next)
        {
            self.stretches.pop_back();
        }
        if self.stretches.len() == MAX_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// Timestamp for the first packet of a new source: where the old source's clock would stand, else
    /// as far on as time has gone; always forwards.
    fn next_timestamp(&self, last: (u32, Instant), at: Beginning<'_>, now: Instant) -> u32 {
        /// Two sources' reports may disagree by this much before arrival times are trusted more.
        const TOLERANCE: Duration = Duration::from_millis(500);
        let (last_out, sent_at) = last;
        let ticks = |time: Duration| (time.as_secs_f64() * f64::from(self.clock_rate)) as i64;
        let elapsed = ticks(now.saturating_duration_since(sent_at));
        // The shortest frame of a 60 Hz camera, or of a 20 ms audio packet.
        let least = i64::from(self.clock_rate) / 60;
        let step = at
            .aligned
            .map(|aligned| i64::from(aligned.wrapping_sub(last_out) as i32))
            .filter(|aligned| (aligned - elapsed).abs() <= ticks(TOLERANCE))
            .unwrap_or(elapsed)
            .max(least);
        last_out.wrapping_add(step as u32)
    }
}

#[cfg(test)]
mod tests;
