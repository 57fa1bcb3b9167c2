//! Reads transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): which packets arrived, and when.
//!
//! Remote bytes: whatever they claim, reading costs no more than they are long, and allocates nothing.

#![warn(clippy::indexing_slicing)]

/// Unit of the reference time, in microseconds.
const REFERENCE_UNIT: i64 = 64_000;
/// Unit of an arrival delta, in microseconds.
const DELTA_UNIT: i64 = 250;
/// Base sequence number, status count, reference time, message count.
const HEADER_LEN: usize = 8;

/// One message, without what RTCP puts in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback<'a> {
    base: u16,
    statuses: u16,
    /// In units of 64 ms; 24 bits, which wrap.
    reference: u32,
    /// Status chunks, then deltas. Where the former end is known when they have been read.
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What happened to packets in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Missing {
        /// Sequence number of the first.
        first: u16,
        count: u16,
    },
    /// One packet.
    Received {
        sequence: u16,
        /// Microseconds after the message's reference time; may be negative.
        arrival: i64,
    },
}

impl<'a> Feedback<'a> {
    /// `None`: too short, or less chunks than the statuses it claims need.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let (&[b0, b1, c0, c1, r0, r1, r2, _count], body) =
            content.split_first_chunk::<HEADER_LEN>()?;
        let statuses = u16::from_be_bytes([c0, c1]);
        let mut deltas = body;
        let mut covered = 0;
        while covered < statuses {
            let (&chunk, rest) = deltas.split_first_chunk()?;
            covered = covered.saturating_add(Chunk::read(chunk).len);
            deltas = rest;
        }
        let (chunks, _) = body.split_at_checked(body.len() - deltas.len())?;
        Some(Self {
            base: u16::from_be_bytes([b0, b1]),
            statuses,
            reference: u32::from_be_bytes([0, r0, r1, r2]),
            chunks,
            deltas,
        })
    }

    /// The reference time in microseconds, given that of the message before: 24 bits of 64 ms wrap
    /// after twelve days.
    pub fn reference_time(&self, before: Option<i64>) -> i64 {
        let own = i64::from(self.reference);
        let Some(before) = before else {
            return own * REFERENCE_UNIT;
        };
        let before = before.div_euclid(REFERENCE_UNIT);
        let step = (own - before) & 0xFF_FFFF;
        let step = if step >= 0x80_0000 {
            step - 0x100_0000
        } else {
            step
        };
        before.saturating_add(step).saturating_mul(REFERENCE_UNIT)
    }

    /// What it says, in the order of the sequence numbers. Ends at what cannot be trusted.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            next: self.base,
            left: self.statuses,
            chunk: Chunk::EMPTY,
            chunks: self.chunks,
            deltas: self.deltas,
            time: 0,
        }
    }
}

/// See [`Feedback::statuses`].
#[derive(Debug, Clone)]
pub struct Statuses<'a> {
    next: u16,
    left: u16,
    chunk: Chunk,
    chunks: &'a [u8],
    deltas: &'a [u8],
    time: i64,
}

impl Iterator for Statuses<'_> {
    type Item = Status;

    #[inline]
    fn next(&mut self) -> Option<Status> {
        if self.left == 0 {
            return None;
        }
        // Runs of nothing are legal, and useless.
        while self.chunk.len == 0 {
            let (&chunk, rest) = self.chunks.split_first_chunk()?;
            self.chunks = rest;
            self.chunk = Chunk::read(chunk);
        }
        let first = self.next;
        let delta = match self.chunk.symbol() {
            MISSING => {
                let count = self.chunk.skip_missing().min(self.left);
                self.advance(count);
                return Some(Status::Missing { first, count });
            }
            SMALL => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(delta)
            }
            LARGE => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(delta))
            }
            // Reserved.
            _ => return None,
        };
        // Packets that came have a delta each, so they are taken one by one.
        self.chunk.skip(1);
        self.advance(1);
        self.time += delta * DELTA_UNIT;
        Some(Status::Received {
            sequence: first,
            arrival: self.time,
        })
    }
}

impl Statuses<'_> {
    #[inline]
    fn advance(&mut self, count: u16) {
        self.next = self.next.wrapping_add(count);
        self.left -= count;
    }
}

/// Symbols of two bits; what else there is, is reserved.
const MISSING: u16 = 0;
const SMALL: u16 = 1;
const LARGE: u16 = 2;

/// A status chunk, or what is left of one.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// The next symbol is the topmost of `width` bits; a run's is the only one.
    bits: u16,
    width: u16,
    len: u16,
    is_run: bool,
}

impl Chunk {
    const EMPTY: Self = Self {
        bits: 0,
        width: 2,
        len: 0,
        is_run: true,
    };

    #[inline]
    fn read(bytes: [u8; 2]) -> Self {
        let word = u16::from_be_bytes(bytes);
        let vector = |width, len| Self {
            bits: word << 2,
            width,
            len,
            is_run: false,
        };
        match word >> 14 {
            0b10 => vector(1, 14),
            0b11 => vector(2, 7),
            _ => Self {
                bits: word << 1,
                width: 2,
                len: word & 0x1FFF,
                is_run: true,
            },
        }
    }

    #[inline]
    fn symbol(self) -> u16 {
        self.bits >> (16 - self.width)
    }

    #[inline]
    fn skip(&mut self, count: u16) {
        self.len -= count;
        if !self.is_run {
            self.bits <<= self.width;
        }
    }

    /// What a run says of all its packets; a vector speaks of one at a time.
    #[inline]
    fn skip_missing(&mut self) -> u16 {
        let count = if self.is_run { self.len } else { 1 };
        self.skip(count);
        count
    }
}

#[cfg(test)]
mod tests;
