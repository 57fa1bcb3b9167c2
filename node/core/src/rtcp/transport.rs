//! Transport-wide congestion control feedback towards a publisher
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets arrived, and when.

use std::time::{Duration, Instant};

use crate::rtp::SequenceUnwrapper;

/// Arrivals one message reports at most, and so what is remembered between two. At 100 ms that is
/// 4,800 packets a second from one client; beyond it the oldest are reported as lost. More would not fit
/// every path if each took two bytes, as reordering or pauses make them do.
const MAX_ARRIVALS: usize = 480;

/// Arrivals that are remembered after they were told of. What comes later than so many others counts as lost;
/// each costs 16 bytes.
const MAX_TOLD: usize = 64;

/// … or by more than this, in units of a delta: one that goes back takes no more than twice as much.
const LATEST: i64 = 16_000;

/// Longest body [`ArrivalLog::feedback`] writes.
pub const MAX_FEEDBACK_LEN: usize = 8 + 2 * MAX_ARRIVALS.div_ceil(7) + 2 * MAX_ARRIVALS;

/// Unit of the reference time.
const REFERENCE_UNIT: Duration = Duration::from_millis(64);
/// Unit of an arrival delta.
const DELTA_UNIT: Duration = Duration::from_micros(250);

/// Arrivals since the last feedback, and the last ones before.
#[derive(Debug)]
pub struct ArrivalLog {
    /// Times are counted from here.
    origin: Instant,
    unwrapper: SequenceUnwrapper,
    /// (sequence, units of 250 µs since the origin): what was told of, in the order of sending, then what was
    /// not, in the order of arrival.
    arrivals: Vec<(u64, i64)>,
    told: usize,
    /// All that has arrived from here on is among them.
    complete: u64,
    /// First sequence number not reported yet.
    next: Option<u64>,
    count: u8,
}

impl ArrivalLog {
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            unwrapper: SequenceUnwrapper::default(),
            arrivals: Vec::new(),
            told: 0,
            complete: 0,
            next: None,
            count: 0,
        }
    }

    pub fn handle_arrival(&mut self, sequence: u16, now: Instant) {
        let sequence = self.unwrapper.unwrap(sequence);
        let time = now.saturating_duration_since(self.origin);
        // In 64 bits: a division of 128 costs more than the rest of this.
        let units = (time.as_micros() as u64 / DELTA_UNIT.as_micros() as u64) as i64;
        let is_late = self.next.is_some_and(|next| sequence < next);
        if is_late && !self.is_news(sequence, units) {
            return;
        }
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push((sequence, units));
        }
    }

    /// Whether a packet that comes late was missing so far, and what came since is still known.
    fn is_news(&self, sequence: u64, now: i64) -> bool {
        let told = self.arrivals.get(..self.told).unwrap_or_default();
        let Err(place) = told.binary_search_by_key(&sequence, |(sequence, _)| *sequence) else {
            return false;
        };
        let is_recent = |(_, at): &(u64, i64)| now - at <= LATEST;
        sequence >= self.complete && told.get(place).is_some_and(is_recent)
    }

    /// Writes the body of a feedback message (base sequence and on), or nothing if nothing arrived. If something
    /// came late, it begins there, and tells of what came since once more: left out, that would be missing.
    pub fn feedback(&mut self, out: &mut [u8; MAX_FEEDBACK_LEN]) -> usize {
        let news = self.arrivals.get(self.told..).unwrap_or_default();
        let Some(first) = news.iter().map(|(sequence, _)| *sequence).min() else {
            return 0;
        };
        self.arrivals.sort_unstable();
        self.arrivals.dedup_by_key(|(sequence, _)| *sequence);
        let Some(&(last, _)) = self.arrivals.last() else {
            return 0;
        };
        let base = self
            .next
            .map_or(first, |next| next.min(first))
            .max(last.saturating_sub(MAX_ARRIVALS as u64 - 1));
        let from = self
            .arrivals
            .partition_point(|(sequence, _)| *sequence < base);
        let told = self.arrivals.get(from..).unwrap_or_default();
        let first_time = told.first().map_or(0, |(_, time)| *time);
        let reference_units = (REFERENCE_UNIT.as_micros() / DELTA_UNIT.as_micros()) as i64;
        let reference = first_time.div_euclid(reference_units);

        let mut body = Body {
            out,
            len: 8,
            chunk: Vector::default(),
            statuses: 0,
        };
        let mut deltas = [0u8; 2 * MAX_ARRIVALS];
        let mut deltas_len = 0;
        let mut expected = base;
        let mut time = reference * reference_units;
        for &(sequence, at) in told {
            while expected < sequence {
                body.status(NOT_RECEIVED);
                expected += 1;
            }
            let delta = at - time;
            let status = if (0..=255).contains(&delta) {
                if let Some(space) = deltas.get_mut(deltas_len) {
                    *space = delta as u8;
                }
                deltas_len += 1;
                SMALL_DELTA
            } else {
                let Ok(delta) = i16::try_from(delta) else {
                    break;
                };
                if let Some(space) = deltas.get_mut(deltas_len..deltas_len + 2) {
                    space.copy_from_slice(&delta.to_be_bytes());
                }
                deltas_len += 2;
                LARGE_DELTA
            };
            body.status(status);
            time = at;
            expected += 1;
        }
        let statuses = body.statuses;
        let mut len = body.finish();
        let [r0, r1, r2] = [
            (reference >> 16) as u8,
            (reference >> 8) as u8,
            reference as u8,
        ];
        let [b0, b1] = (base as u16).to_be_bytes();
        let [c0, c1] = statuses.to_be_bytes();
        if let Some(header) = out.first_chunk_mut::<8>() {
            *header = [b0, b1, c0, c1, r0, r1, r2, self.count];
        }
        if let (Some(space), Some(deltas)) =
            (out.get_mut(len..len + deltas_len), deltas.get(..deltas_len))
        {
            space.copy_from_slice(deltas);
            len += deltas_len;
        }
        self.count = self.count.wrapping_add(1);
        self.next = self.next.max(Some(expected));
        let forgotten = self.arrivals.len().saturating_sub(MAX_TOLD);
        if let Some(&(sequence, _)) = self.arrivals.get(forgotten).filter(|_| forgotten > 0) {
            self.complete = sequence;
        }
        self.arrivals.drain(..forgotten);
        self.told = self.arrivals.len();
        len
    }
}

const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

/// Status vector chunks of seven two-bit symbols.
struct Body<'a> {
    out: &'a mut [u8; MAX_FEEDBACK_LEN],
    len: usize,
    chunk: Vector,
    statuses: u16,
}

#[derive(Default)]
struct Vector {
    bits: u16,
    symbols: u16,
}

impl Body<'_> {
    fn status(&mut self, symbol: u16) {
        self.chunk.bits = self.chunk.bits << 2 | symbol;
        self.chunk.symbols += 1;
        self.statuses += 1;
        if self.chunk.symbols == 7 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        const STATUS_VECTOR_OF_TWO_BITS: u16 = 0xC000;
        let word = STATUS_VECTOR_OF_TWO_BITS | self.chunk.bits << (2 * (7 - self.chunk.symbols));
        if let Some(space) = self.out.get_mut(self.len..self.len + 2) {
            space.copy_from_slice(&word.to_be_bytes());
            self.len += 2;
        }
        self.chunk = Vector::default();
    }

    fn finish(mut self) -> usize {
        if self.chunk.symbols > 0 {
            self.flush();
        }
        self.len
    }
}
