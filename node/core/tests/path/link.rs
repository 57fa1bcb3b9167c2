//! A path: it carries so much, queues so much, takes so long, and loses, reorders and repeats some.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::camera::Piece;
use crate::sim::Rng;
use pipemesh_node_core::units::{Bitrate, DataSize};

#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// None: nobody is told when it arrives.
    pub sequence: Option<u16>,
    pub size: u16,
    pub content: Content,
    pub flow: u8,
}

#[derive(Debug, Clone, Copy)]
pub enum Content {
    Padding,
    /// Of a camera's microphone.
    Audio(usize),
    Video(usize, Piece),
    /// The place of a receiver's report among all of them.
    Report(usize),
}

#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub packet: Packet,
    /// How long it waited.
    pub queued: Duration,
}

#[derive(Debug)]
pub struct Link {
    pub capacity: Bitrate,
    /// Packets that would wait longer are dropped.
    pub longest_queue: Duration,
    pub delay: Duration,
    /// Added, evenly spread; order is kept unless `reordered`.
    pub jitter: Duration,
    /// Packets arrive together, at every multiple of this: a radio link that gives turns.
    pub turn: Duration,
    /// Nothing gets through.
    pub is_cut: bool,
    /// Percent.
    pub loss: u64,
    pub reordered: u64,
    pub repeated: u64,
    pub dropped: u64,
    pub dropped_audio: u64,
    queue: VecDeque<(Packet, Instant)>,
    queued: u64,
    /// Bytes that may leave, in thousandths of a bit.
    budget: u64,
    underway: BTreeMap<(Instant, u64), Arrival>,
    count: u64,
    begin: Option<Instant>,
    last_exit: Option<Instant>,
}

impl Link {
    pub fn new(capacity: Bitrate) -> Self {
        Self {
            capacity,
            longest_queue: Duration::from_millis(500),
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            turn: Duration::ZERO,
            begin: None,
            is_cut: false,
            loss: 0,
            reordered: 0,
            repeated: 0,
            dropped: 0,
            dropped_audio: 0,
            queue: VecDeque::new(),
            queued: 0,
            budget: 0,
            underway: BTreeMap::new(),
            count: 0,
            last_exit: None,
        }
    }

    pub fn with_delay(mut self, millis: u64) -> Self {
        self.delay = Duration::from_millis(millis);
        self
    }

    pub fn delay_of_queue(&self) -> Duration {
        DataSize::from_bytes(self.queued).at(self.capacity)
    }

    pub fn send(&mut self, packet: Packet, now: Instant, rng: &mut Rng) {
        if self.is_cut || rng.chance(self.loss) {
            return;
        }
        if self.delay_of_queue() > self.longest_queue {
            self.dropped += 1;
            self.dropped_audio += u64::from(matches!(packet.content, Content::Audio(_)));
            return;
        }
        self.queued += u64::from(packet.size);
        self.queue.push_back((packet, now));
    }

    /// One millisecond.
    pub fn tick(&mut self, now: Instant, rng: &mut Rng) -> Vec<Arrival> {
        self.budget += self.capacity.as_bps();
        while let Some(&(packet, since)) = self.queue.front() {
            let cost = u64::from(packet.size) * 8_000;
            if cost > self.budget {
                break;
            }
            self.budget -= cost;
            self.queue.pop_front();
            self.queued -= u64::from(packet.size);
            let arrival = Arrival {
                packet,
                queued: now - since,
            };
            self.leave(arrival, now, rng);
        }
        if self.queue.is_empty() {
            self.budget = self.budget.min(self.capacity.as_bps());
        }
        let mut arrived = Vec::new();
        while let Some(entry) = self.underway.first_entry() {
            if entry.key().0 > now {
                break;
            }
            arrived.push(entry.remove());
        }
        arrived
    }

    fn leave(&mut self, arrival: Arrival, now: Instant, rng: &mut Rng) {
        let jitter = rng.below(self.jitter.as_micros() as u64 + 1);
        let mut at = now + self.delay + Duration::from_micros(jitter);
        let begin = *self.begin.get_or_insert(now);
        if let Some(late) = (at - begin).as_millis().checked_rem(self.turn.as_millis()) {
            at += self.turn - Duration::from_millis(late as u64);
        }
        if rng.chance(self.reordered) {
            at += Duration::from_millis(5 + rng.below(25));
        } else {
            at = self.last_exit.map_or(at, |last| last.max(at));
            self.last_exit = Some(at);
        }
        self.count += 1;
        self.underway.insert((at, self.count), arrival);
        if rng.chance(self.repeated) {
            self.count += 1;
            let again = at + Duration::from_millis(rng.below(20));
            self.underway.insert((again, self.count), arrival);
        }
    }
}
