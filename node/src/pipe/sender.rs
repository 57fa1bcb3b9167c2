//! What leaves for another node: datagrams are made here, ordered by the core's [`Schedule`], and handed to
//! QUIC no earlier than it sends them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use pipemesh_node_core::forward::MAX_ENCODINGS;
use pipemesh_node_core::pipe::frame::{
    self, MAX_PIECES, MEDIA_OVERHEAD, MediaHead, PIECE_OVERHEAD, Piece, Stream,
};
use pipemesh_node_core::pipe::schedule::{Event, Kind, OpenError, Packet, Schedule, Slot, Stats};

use super::congestion::Published;
use super::exchange::{Demand, Exchange};
use super::transport::{SEND_BUFFER, media_size};

/// Memory for datagrams is taken in pieces of this size.
const CHUNK: usize = 64 << 10;
/// QUIC says nothing when it has sent what it was given; it is looked this often while more waits. Longer:
/// more has to lie in its queue, where nothing can be overtaken.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What takes datagrams away: a connection.
pub(super) trait Way {
    /// Bytes of the longest datagram that it takes at present.
    fn longest(&self) -> usize;
    /// What is free of the [`SEND_BUFFER`] in which they wait for it.
    fn room(&self) -> usize;
    /// What there is no room for after all is lost like on the way.
    fn send(&mut self, datagram: Bytes);
}

impl Way for quinn::Connection {
    fn longest(&self) -> usize {
        self.max_datagram_size().unwrap_or(0)
    }

    fn room(&self) -> usize {
        self.datagram_send_buffer_space()
    }

    fn send(&mut self, datagram: Bytes) {
        let _ = self.send_datagram(datagram);
    }
}

/// See the module. One for each connection.
pub(super) struct Sender {
    schedule: Schedule<Bytes>,
    /// Of the streams that were sent anything: their numbers are the other node's choice.
    slots: HashMap<u32, Slot, RandomState>,
    published: Arc<Published>,
    memory: BytesMut,
    /// Streams of which packets were dropped: what goes on with a key frame misses nothing of before.
    torn: BTreeSet<u32>,
    /// Packets that are too long for this path, even in pieces.
    pub(super) too_long: u64,
}

impl Sender {
    pub(super) fn new(published: Arc<Published>, now: Instant) -> Self {
        Self {
            schedule: Schedule::new(now),
            slots: HashMap::default(),
            published,
            memory: BytesMut::new(),
            torn: BTreeSet::new(),
            too_long: 0,
        }
    }

    /// Takes what leaves of an exchange, and hands over what there is room for.
    pub(super) fn carry(&mut self, exchange: &mut Exchange, way: &mut impl Way, now: Instant) {
        while let Some(subscription) = exchange.poll_closed() {
            self.close(subscription);
        }
        while let Some(demand) = exchange.poll_demand() {
            self.set_demand(demand);
        }
        let longest = way.longest();
        exchange.receive(now, |kind, priority, head, packet| {
            let slot = self.slot(head.stream, kind, priority, now);
            self.push(slot.ok(), head, packet, longest, now);
        });
        while let Some(datagram) = exchange.poll_datagram() {
            self.push_control(datagram, now);
        }
        self.flush(way, now);
        while let Some(event) = self.poll_event() {
            match event {
                Event::Suspended(alias) => exchange.suspend(Stream::of(alias), true),
                Event::Resumed(alias) => exchange.suspend(Stream::of(alias), false),
                Event::KeyFrameNeeded(alias) => exchange.want_key_frame(Stream::of(alias)),
            }
        }
    }

    /// A datagram that is no packet.
    pub(super) fn push_control(&mut self, datagram: Vec<u8>, now: Instant) {
        let len = datagram.len();
        self.schedule.push_control(len, Bytes::from(datagram), now);
    }

    /// `longest`: what QUIC takes in one datagram.
    fn push(
        &mut self,
        slot: Option<Slot>,
        head: &MediaHead,
        packet: &[u8],
        longest: usize,
        now: Instant,
    ) {
        const { assert!(MAX_PIECES == 2, "a packet goes in halves") };
        let mut head = *head;
        // What was dropped here was not lost on the way: nobody is to ask for it.
        head.marks.resumes |= head.marks.key_frame && self.torn.remove(&head.stream.number());
        let head = &head;
        let longest = media_size(longest);
        let room = packet.len() + 2 * PIECE_OVERHEAD;
        if self.memory.capacity() < room {
            self.memory.reserve(CHUNK.max(room));
        }
        if packet.len() + MEDIA_OVERHEAD <= longest {
            frame::write_media(head, packet, &mut self.memory);
            return self.push_datagram(slot, head, head.marks.frame_end, now);
        }
        let half = packet.len().div_ceil(2);
        if half + PIECE_OVERHEAD > longest {
            self.too_long += 1;
            return;
        }
        let (first, second) = packet.split_at(half);
        for (index, part) in [first, second].into_iter().enumerate() {
            let is_last = index == 1;
            let piece = Piece {
                index: index as u8,
                is_last,
            };
            frame::write_piece(head, piece, part, &mut self.memory);
            self.push_datagram(slot, head, is_last && head.marks.frame_end, now);
        }
    }

    fn push_datagram(
        &mut self,
        slot: Option<Slot>,
        head: &MediaHead,
        frame_end: bool,
        now: Instant,
    ) {
        let datagram = self.memory.split().freeze();
        let packet = Packet {
            alias: head.stream.number(),
            len: datagram.len(),
            key_frame: head.marks.key_frame,
            frame_end,
            resend: head.is_repair,
        };
        match slot {
            Some(slot) => self.schedule.push_at(slot, packet, datagram, now),
            // It is counted there.
            None => self.schedule.push(packet, datagram, now),
        }
    }

    fn slot(
        &mut self,
        stream: Stream,
        kind: Kind,
        priority: u8,
        now: Instant,
    ) -> Result<Slot, OpenError> {
        let alias = stream.number();
        if let Some(slot) = self.slots.get(&alias) {
            return Ok(*slot);
        }
        let slot = self.schedule.open(alias, kind, priority, now)?;
        self.slots.insert(alias, slot);
        Ok(slot)
    }

    /// A subscription is missed more or less than before.
    fn set_demand(&mut self, demand: Demand) {
        for stream in streams(demand.subscription) {
            let is_wanted = stream.encoding < demand.wanted;
            self.schedule
                .set_demand(stream.number(), demand.priority, is_wanted);
        }
    }

    /// A subscription is over.
    fn close(&mut self, subscription: u32) {
        for stream in streams(subscription) {
            self.schedule.close(stream.number());
            self.slots.remove(&stream.number());
            self.torn.remove(&stream.number());
        }
    }

    /// Hands over what there is room for.
    fn flush(&mut self, way: &mut impl Way, now: Instant) {
        if let Some(rate) = self.published.rate() {
            self.schedule.set_path(rate, self.published.queue());
        }
        self.schedule.handle_timeout(now);
        while !self.schedule.is_empty() && self.fill(way, now) {}
        while self.schedule.is_padding()
            && let Some(len) = self.schedule.poll_padding(now, self.space(way))
        {
            let mut padding = Vec::with_capacity(len);
            frame::write_padding(len, &mut padding);
            way.send(Bytes::from(padding));
        }
    }

    /// Fills the room that there is; `false`: there is none. QUIC may make more meanwhile, but to ask it for
    /// every datagram is to wait for its lock twice.
    fn fill(&mut self, way: &mut impl Way, now: Instant) -> bool {
        let room = self.space(way);
        let mut space = room;
        while let Some(datagram) = self.schedule.pop(now, space) {
            space = space.saturating_sub(datagram.len());
            way.send(datagram);
        }
        space < room
    }

    /// What may be added to the connection's own queue.
    fn space(&self, way: &impl Way) -> usize {
        let waiting = SEND_BUFFER.saturating_sub(way.room());
        self.schedule.transport_share().saturating_sub(waiting)
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.schedule.poll_event()?;
        if let Event::KeyFrameNeeded(alias) | Event::Suspended(alias) = event {
            self.torn.insert(alias);
        }
        Some(event)
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let waiting = !self.schedule.is_empty();
        let again = waiting.then(|| now + LOOK_AGAIN);
        [again, self.schedule.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn stats(&self) -> &Stats {
        self.schedule.stats()
    }
}

/// All that a subscription may have.
fn streams(subscription: u32) -> impl Iterator<Item = Stream> {
    (0..MAX_ENCODINGS as u8).map(move |encoding| Stream {
        subscription,
        encoding,
    })
}
