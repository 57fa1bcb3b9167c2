//! Transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): written of what arrived, and read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::be16;

/// Feedback covers at most so many packets; what is older is not told. At 20 reports a second no
/// client receives as many in between.
const MAX_PACKETS: u64 = 1_024;

/// Deltas count in these units, reference times in 64 ms.
const DELTA_UNIT: u64 = 250;
const REFERENCE_UNIT: u64 = 64_000;

/// What arrived and has not been told yet.
#[derive(Debug)]
pub(crate) struct Arrivals {
    began: Instant,
    /// By unwrapped sequence number, in microseconds since `began`.
    arrived: BTreeMap<u64, u64>,
    highest: Option<u64>,
    /// All before have been told of.
    next: u64,
    reports: u8,
}

impl Arrivals {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            arrived: BTreeMap::new(),
            highest: None,
            next: 0,
            reports: 0,
        }
    }

    pub(crate) fn handle_arrival(&mut self, sequence: u16, now: Instant) {
        let unwrapped = match self.highest {
            None => (1 << 16) + u64::from(sequence),
            Some(highest) => {
                let step = sequence.wrapping_sub(highest as u16).cast_signed();
                highest.saturating_add_signed(step.into())
            }
        };
        if self.highest.is_none() {
            self.next = unwrapped;
        }
        self.highest = self.highest.max(Some(unwrapped));
        if unwrapped >= self.next {
            let at = now.saturating_duration_since(self.began).as_micros() as u64;
            self.arrived.entry(unwrapped).or_insert(at);
        }
    }

    /// The body of a report from the base sequence number on, if there is news.
    pub(crate) fn poll_feedback(&mut self) -> Option<Vec<u8>> {
        let last = *self.arrived.keys().next_back()?;
        let base = self.next.max(last.saturating_sub(MAX_PACKETS - 1));
        let arrived = std::mem::take(&mut self.arrived);
        let first = arrived.range(base..).next().map_or(0, |(_, at)| *at);
        let reference = first / REFERENCE_UNIT;
        let mut before = reference * REFERENCE_UNIT / DELTA_UNIT;
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        for sequence in base..=last {
            let Some(at) = arrived.get(&sequence) else {
                symbols.push(0);
                continue;
            };
            let ticks = at / DELTA_UNIT;
            let delta = ticks as i64 - before as i64;
            if let Ok(small) = u8::try_from(delta) {
                symbols.push(1);
                deltas.push(small);
            } else {
                symbols.push(2);
                let large = delta.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                deltas.extend_from_slice(&large.to_be_bytes());
            }
            before = ticks;
        }
        self.next = last + 1;
        let mut body = Vec::with_capacity(8 + symbols.len());
        body.extend_from_slice(&(base as u16).to_be_bytes());
        body.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
        body.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        body.push(self.reports);
        self.reports = self.reports.wrapping_add(1);
        for seven in symbols.chunks(7) {
            // A status vector chunk of two-bit symbols.
            let vector = seven
                .iter()
                .enumerate()
                .fold(0xC000_u16, |chunk, (place, symbol)| {
                    chunk | symbol << (12 - 2 * place)
                });
            body.extend_from_slice(&vector.to_be_bytes());
        }
        body.extend_from_slice(&deltas);
        body.resize(body.len().next_multiple_of(4), 0);
        Some(body)
    }
}

/// Of the packets a report covers, how many arrived and how many did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) received: u32,
    pub(crate) lost: u32,
}

/// Reads a report from its base sequence number on.
pub(crate) fn read(body: &[u8]) -> Option<Covered> {
    let count = be16(body, 2)?;
    let mut covered = Covered::default();
    let (mut left, mut at) = (count, 8);
    while left > 0 {
        let chunk = be16(body, at)?;
        at += 2;
        let mut take = |received: bool, count: u16| {
            let count = count.min(left);
            left -= count;
            *(if received {
                &mut covered.received
            } else {
                &mut covered.lost
            }) += u32::from(count);
        };
        match chunk >> 14 {
            0 | 1 => take(chunk >> 13 & 3 != 0, chunk & 0x1FFF),
            2 => (0..14).for_each(|bit| take(chunk >> (13 - bit) & 1 != 0, 1)),
            _ => (0..7).for_each(|pair| take(chunk >> (12 - 2 * pair) & 3 != 0, 1)),
        }
        if chunk >> 14 < 2 && chunk & 0x1FFF == 0 {
            return None;
        }
    }
    Some(covered)
}

/// How long feedback waits for more to tell, as libwebrtc does at most.
pub(crate) const FEEDBACK_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told_and_the_sequence_wraps() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        assert_eq!(arrivals.poll_feedback(), None);
        for (place, sequence) in (65_530..65_536_u32).chain(0..40).enumerate() {
            if sequence % 5 != 3 {
                let at = start + Duration::from_millis(3 * place as u64);
                arrivals.handle_arrival(sequence as u16, at);
            }
        }
        let body = arrivals.poll_feedback().unwrap();
        assert_eq!(body.len() % 4, 0);
        let covered = read(&body).unwrap();
        assert_eq!((covered.received, covered.lost), (37, 9));
        // What is late is told of no more, and what comes next is.
        arrivals.handle_arrival(3, start);
        assert_eq!(arrivals.poll_feedback(), None);
        arrivals.handle_arrival(42, start + Duration::from_secs(20));
        let covered = read(&arrivals.poll_feedback().unwrap()).unwrap();
        assert_eq!((covered.received, covered.lost), (1, 2));
    }

    #[test]
    fn runs_and_one_bit_vectors_are_read() {
        let mut body = vec![0, 1, 0, 20, 0, 0, 0, 0];
        body.extend_from_slice(&(0x2000_u16 | 6).to_be_bytes());
        body.extend_from_slice(&(0x8000_u16 | 0b11).to_be_bytes());
        let covered = read(&body).unwrap();
        assert_eq!((covered.received, covered.lost), (8, 12));
        assert_eq!(read(&body[..10]), None);
    }
}
