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
            covered = covered.saturating_add(Chunk::read(chunk).len());
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
        while self.chunk.len() == 0 {
            let (&chunk, rest) = self.chunks.split_first_chunk()?;
            self.chunks = rest;
            self.chunk = Chunk::read(chunk);
        }
        let (symbol, count) = self.chunk.take();
        let count = count.min(self.left);
        let first = self.next;
        let status = match symbol {
            Symbol::Missing => {
                self.advance(count);
                return Some(Status::Missing { first, count });
            }
            Symbol::Small => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                self.time += i64::from(delta) * DELTA_UNIT;
                Status::Received {
                    sequence: first,
                    arrival: self.time,
                }
            }
            Symbol::Large => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                self.time += i64::from(i16::from_be_bytes(delta)) * DELTA_UNIT;
                Status::Received {
                    sequence: first,
                    arrival: self.time,
                }
            }
            Symbol::Reserved => return None,
        };
        // Packets that came have a delta each, so they are taken one by one.
        self.advance(1);
        self.chunk.put_back(symbol, count - 1);
        Some(status)
    }
}

impl Statuses<'_> {
    fn advance(&mut self, count: u16) {
        self.next = self.next.wrapping_add(count);
        self.left -= count;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Missing,
    Small,
    Large,
    Reserved,
}

impl Symbol {
    fn from_bits(bits: u16) -> Self {
        match bits & 3 {
            0 => Self::Missing,
            1 => Self::Small,
            2 => Self::Large,
            _ => Self::Reserved,
        }
    }
}

/// A status chunk, or what is left of one.
#[derive(Debug, Clone, Copy)]
enum Chunk {
    Run {
        symbol: Symbol,
        len: u16,
    },
    /// Symbols of `width` bits each, the first one topmost of 14.
    Vector {
        bits: u16,
        width: u16,
        len: u16,
    },
}

impl Chunk {
    const EMPTY: Self = Self::Run {
        symbol: Symbol::Missing,
        len: 0,
    };

    fn read(bytes: [u8; 2]) -> Self {
        let word = u16::from_be_bytes(bytes);
        let bits = word & 0x3FFF;
        match word >> 14 {
            0b10 => Self::Vector {
                bits,
                width: 1,
                len: 14,
            },
            0b11 => Self::Vector {
                bits,
                width: 2,
                len: 7,
            },
            _ => Self::Run {
                symbol: Symbol::from_bits(word >> 13),
                len: word & 0x1FFF,
            },
        }
    }

    fn len(self) -> u16 {
        match self {
            Self::Run { len, .. } | Self::Vector { len, .. } => len,
        }
    }

    /// The next symbol and how often it stands there; a vector gives one at a time.
    fn take(&mut self) -> (Symbol, u16) {
        match self {
            Self::Run { symbol, len } => (*symbol, std::mem::take(len)),
            Self::Vector { bits, width, len } => {
                let top = *bits >> (14 - *width);
                *bits = (*bits << *width) & 0x3FFF;
                *len -= 1;
                (Symbol::from_bits(top), 1)
            }
        }
    }

    /// Undoes a part of [`Self::take`], of runs only: vectors give nothing that could come back.
    fn put_back(&mut self, symbol: Symbol, count: u16) {
        if count > 0 {
            *self = Self::Run { symbol, len: count };
        }
    }
}

#[cfg(test)]
mod tests;
