//! The packets of one encoding, kept for a second: what every subscriber is sent from and the source
//! of every retransmission. Does not know who asks.

use std::time::{Duration, Instant};

use crate::codec::Codec;

/// How long a packet can be asked for. A retransmission later than this is useless to a decoder that
/// waits at most a few hundred milliseconds; shorter would fail receivers with a long round trip.
const HISTORY: Duration = Duration::from_secs(1);

/// Growth stops here: 1 MiB is a second at 8 Mbit/s.
const MAX_BYTES: usize = 1 << 20;
const MAX_PACKETS: usize = 1 << 12;

/// Stands behind every packet: padding (RFC 3550 section 5.1) that makes it a byte longer. So packets of
/// a frame that differ by a byte can be sent as long as each other without copying one of them.
const PADDING: u8 = 1;

/// A ring of bytes with an index by sequence number. Starts small and doubles while it holds less than
/// [`HISTORY`], so that a microphone costs kilobytes and a screen share what it needs.
#[derive(Debug)]
pub struct PacketCache {
    bytes: Box<[u8]>,
    /// Bytes ever written, gaps at the ring's end included; the ring holds the last `bytes.len()`.
    written: u64,
    /// When the oldest byte of the lap under way was written.
    lap_started: Option<Instant>,
    /// Slot = sequence modulo length, a power of two.
    index: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    start: u64,
    len: u16,
    meta: PacketMeta,
    stored_at: Option<Instant>,
}

/// What was read of a packet once and is needed again when it is resent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketMeta {
    pub codec: Codec,
    pub spatial: u8,
    /// The packet is the last one of its frame.
    pub ends_frame: bool,
}

const EMPTY: Entry = Entry {
    sequence: u64::MAX,
    start: 0,
    len: 0,
    meta: PacketMeta {
        codec: Codec::Opus,
        spatial: 0,
        ends_frame: false,
    },
    stored_at: None,
};

impl PacketCache {
    /// `packets` and `bytes` are where growth begins.
    pub fn new(packets: usize, bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes.next_power_of_two().clamp(1 << 12, MAX_BYTES)].into(),
            written: 0,
            lap_started: None,
            index: vec![EMPTY; packets.next_power_of_two().clamp(16, MAX_PACKETS)].into(),
        }
    }

    /// Keeps a copy of the packet. One with the same sequence number is replaced.
    pub fn store(&mut self, sequence: u64, packet: &[u8], meta: PacketMeta, now: Instant) {
        let Ok(len) = u16::try_from(packet.len()) else {
            return;
        };
        let taken = packet.len() + 1;
        if taken > self.bytes.len() {
            return;
        }
        let replaced = self.index[self.slot(sequence)];
        if replaced.sequence != sequence
            && self.holds(&replaced)
            && is_young(replaced.stored_at, now)
        {
            self.grow_index();
        }
        if self.next_start(taken) != self.written {
            self.end_lap(now);
        }
        let start = self.next_start(taken);
        let at = self.offset(start);
        let (space, padding) = self.bytes[at..at + taken].split_at_mut(packet.len());
        space.copy_from_slice(packet);
        padding.fill(PADDING);
        self.written = start + taken as u64;
        self.lap_started.get_or_insert(now);
        let slot = self.slot(sequence);
        self.index[slot] = Entry {
            sequence,
            start,
            len,
            meta,
            stored_at: Some(now),
        };
    }

    pub fn packet(&self, sequence: u64) -> Option<&[u8]> {
        let padded = self.padded(sequence)?;
        padded.get(..padded.len() - 1)
    }

    /// A packet and the byte of padding behind it.
    pub fn padded(&self, sequence: u64) -> Option<&[u8]> {
        let entry = &self.index[self.slot(sequence)];
        if entry.sequence != sequence || !self.holds(entry) {
            return None;
        }
        let at = self.offset(entry.start);
        self.bytes.get(at..=at + usize::from(entry.len))
    }

    /// Whether packets of so many bytes in all, stored one after the other, are all still there
    /// afterwards, wherever the ring's end lies among them.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        bytes * 2 < self.bytes.len()
    }

    /// Whether a packet that is still there may be asked for.
    pub fn is_recent(&self, sequence: u64, now: Instant) -> bool {
        let entry = &self.index[self.slot(sequence)];
        entry.sequence == sequence && is_young(entry.stored_at, now)
    }

    /// What was stored with a packet that is still there.
    pub fn meta(&self, sequence: u64) -> Option<PacketMeta> {
        let entry = &self.index[self.slot(sequence)];
        (entry.sequence == sequence && self.holds(entry)).then_some(entry.meta)
    }

    /// Bytes of memory the ring and its index take.
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<Entry>()
    }

    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & (self.index.len() - 1)
    }

    fn offset(&self, position: u64) -> usize {
        position as usize & (self.bytes.len() - 1)
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.stored_at.is_some() && entry.start + self.bytes.len() as u64 >= self.written
    }

    /// Where a packet of `len` bytes goes: a packet is never split over the ring's end.
    fn next_start(&self, len: usize) -> u64 {
        let left = self.bytes.len() - self.offset(self.written);
        if len <= left {
            self.written
        } else {
            self.written + left as u64
        }
    }

    /// The ring is full: everything in it was written since `lap_started`.
    fn end_lap(&mut self, now: Instant) {
        if is_young(self.lap_started, now) && self.bytes.len() < MAX_BYTES {
            self.grow_bytes();
        } else {
            self.lap_started = Some(now);
        }
    }

    fn grow_index(&mut self) {
        if self.index.len() >= MAX_PACKETS {
            return;
        }
        let mut index = vec![EMPTY; self.index.len() * 2].into_boxed_slice();
        let mask = index.len() - 1;
        for entry in self.index.iter().filter(|entry| self.holds(entry)) {
            index[entry.sequence as usize & mask] = *entry;
        }
        self.index = index;
    }

    fn grow_bytes(&mut self) {
        let mut grown = Self {
            bytes: vec![0; self.bytes.len() * 2].into(),
            written: 0,
            lap_started: self.lap_started,
            index: vec![EMPTY; self.index.len()].into(),
        };
        let mut kept: Vec<Entry> = self
            .index
            .iter()
            .filter(|e| self.holds(e))
            .copied()
            .collect();
        kept.sort_unstable_by_key(|entry| entry.start);
        for entry in kept {
            let from = self.offset(entry.start);
            let padded = &self.bytes[from..=from + usize::from(entry.len)];
            let start = grown.next_start(padded.len());
            let at = grown.offset(start);
            grown.bytes[at..at + padded.len()].copy_from_slice(padded);
            grown.written = start + padded.len() as u64;
            let slot = grown.slot(entry.sequence);
            grown.index[slot] = Entry { start, ..entry };
        }
        *self = grown;
    }
}

fn is_young(stored_at: Option<Instant>, now: Instant) -> bool {
    stored_at.is_some_and(|at| now.saturating_duration_since(at) < HISTORY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    fn packet(sequence: u64, len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| (sequence as usize * 31 + i) as u8)
            .collect()
    }

    #[test]
    fn a_second_of_packets_is_kept_at_any_rate() {
        for (per_second, len) in [(50u64, 120usize), (260, 1200), (800, 1200)] {
            let mut cache = PacketCache::new(16, 1 << 12);
            let start = start();
            let at =
                |sequence: u64| start + Duration::from_micros(sequence * 1_000_000 / per_second);
            for sequence in 0..per_second * 6 {
                cache.store(sequence, &packet(sequence, len), EMPTY.meta, at(sequence));
            }
            let last = per_second * 6 - 1;
            for sequence in last - per_second * 9 / 10..=last {
                assert_eq!(
                    cache.packet(sequence),
                    Some(&packet(sequence, len)[..]),
                    "{sequence}"
                );
            }
        }
    }

    #[test]
    fn a_microphone_stays_small() {
        let mut cache = PacketCache::new(16, 1 << 12);
        let start = start();
        for sequence in 0..1000 {
            cache.store(
                sequence,
                &packet(sequence, 100),
                EMPTY.meta,
                start + Duration::from_millis(sequence * 20),
            );
        }
        assert!(cache.memory() <= 12 << 10, "{}", cache.memory());
    }

    #[test]
    fn growth_is_bounded() {
        let mut cache = PacketCache::new(16, 1 << 12);
        let now = start();
        for sequence in 0..20_000 {
            cache.store(sequence, &packet(sequence, 1400), EMPTY.meta, now);
        }
        assert!(cache.memory() <= MAX_BYTES + MAX_PACKETS * size_of::<Entry>());
        assert_eq!(cache.packet(19_999), Some(&packet(19_999, 1400)[..]));
        assert_eq!(cache.packet(0), None);
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let mut cache = PacketCache::new(16, 1 << 12);
        cache.store(1, &[0; 5000], EMPTY.meta, start());
        cache.store(2, &[0; 70_000], EMPTY.meta, start());
        assert_eq!(cache.packet(1), None);
        assert_eq!(cache.packet(2), None);
    }

    proptest! {
        /// Whatever is answered is what was stored last under that number.
        #[test]
        fn never_answers_a_wrong_packet(
            stores in prop::collection::vec((0u64..3000, 0usize..1500, 0u64..40), 1..400),
        ) {
            let mut cache = PacketCache::new(16, 1 << 12);
            let mut model = std::collections::BTreeMap::new();
            let mut now = start();
            for (round, (sequence, len, millis)) in stores.into_iter().enumerate() {
                now += Duration::from_millis(millis);
                let bytes = packet(round as u64, len);
                cache.store(sequence, &bytes, EMPTY.meta, now);
                prop_assert_eq!(cache.packet(sequence), Some(&bytes[..]));
                model.insert(sequence, bytes);
                for (sequence, bytes) in &model {
                    if let Some(found) = cache.packet(*sequence) {
                        prop_assert_eq!(found, &bytes[..]);
                    }
                }
            }
        }
    }
}
