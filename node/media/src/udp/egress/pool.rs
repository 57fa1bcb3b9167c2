//! The memory in which runs wait to be sent: a fixed number of chunks.

use super::Destination;
use crate::udp::address::Name;

/// Datagrams a chunk takes at most: as many as one GSO message may have.
pub(super) const CHUNK_DATAGRAMS: usize = 64;

/// Bytes a chunk takes: a key frame's burst to one subscriber, 16 full-size packets. Larger chunks
/// allow longer runs but spread the pool over more cache.
pub(super) const CHUNK_LEN: usize = 16 * super::MAX_DATAGRAM_LEN;

/// A message is at most a chunk, and so never longer than UDP allows.
const _: () = assert!(CHUNK_LEN <= 65_507);

/// Chunks for all runs of one shard. Freed chunks are used again last in, first out, so that a
/// lightly loaded shard stays in few of them and the cache.
pub(super) struct Pool {
    bytes: Box<[u8]>,
    chunks: Box<[Chunk]>,
    free: Vec<u32>,
}

/// Datagrams for one destination, lying one directly behind the other.
pub(super) struct Chunk {
    /// Counted up whenever the chunk is freed, so that old handles do not fit. Never 0 while in use.
    pub(super) generation: u64,
    pub(super) to: Destination,
    /// The address as system calls take it.
    pub(super) name: Name,
    lens: [u16; CHUNK_DATAGRAMS],
    count: usize,
    /// Bytes of all datagrams.
    used: usize,
    /// Datagrams at the beginning that were sent or dropped.
    done: usize,
    /// Bytes of those.
    done_bytes: usize,
    /// Datagrams at the beginning that must not share a message: a message of several was too long.
    alone: usize,
}

/// Some neighbours in one chunk that can be sent as one message: of equal length, only the last may
/// be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) chunk: u32,
    /// Where they begin in the chunk.
    pub(super) start: usize,
    pub(super) len: usize,
    /// Length of each but the last.
    pub(super) segment: usize,
    pub(super) count: usize,
}

impl Pool {
    pub(super) fn new(chunks: u32) -> Self {
        Self {
            bytes: vec![0; chunks as usize * CHUNK_LEN].into_boxed_slice(),
            chunks: (0..chunks).map(|_| Chunk::unused()).collect(),
            free: (0..chunks).rev().collect(),
        }
    }

    /// Opens a chunk. `None` if all are in use.
    pub(super) fn open(&mut self, to: Destination) -> Option<u32> {
        let number = self.free.pop()?;
        self.chunks[number as usize].reset(to);
        Some(number)
    }

    /// Frees a chunk; handles to it no longer fit.
    pub(super) fn free(&mut self, number: u32) {
        self.chunks[number as usize].generation += 1;
        self.free.push(number);
    }

    pub(super) fn chunk(&self, number: u32) -> &Chunk {
        &self.chunks[number as usize]
    }

    pub(super) fn chunk_mut(&mut self, number: u32) -> &mut Chunk {
        &mut self.chunks[number as usize]
    }

    /// A chunk and the `max_len` bytes behind its last datagram.
    #[inline]
    pub(super) fn space(&mut self, number: u32, max_len: usize) -> (&mut Chunk, &mut [u8]) {
        let chunk = &mut self.chunks[number as usize];
        let start = number as usize * CHUNK_LEN + chunk.used;
        (chunk, &mut self.bytes[start..start + max_len])
    }

    pub(super) fn bytes(&self, message: &Message) -> &[u8] {
        let start = message.chunk as usize * CHUNK_LEN + message.start;
        &self.bytes[start..start + message.len]
    }

    /// The datagrams of a chunk, one by one.
    pub(super) fn datagrams(&self, number: u32) -> impl Iterator<Item = &[u8]> {
        let chunk = self.chunk(number);
        let mut start = number as usize * CHUNK_LEN;
        chunk.lens[..chunk.count].iter().map(move |len| {
            let datagram = &self.bytes[start..start + usize::from(*len)];
            start += datagram.len();
            datagram
        })
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn free_chunks(&self) -> usize {
        self.free.len()
    }
}

impl Chunk {
    fn unused() -> Self {
        Self {
            generation: 1,
            to: Destination::NOWHERE,
            name: Name::EMPTY,
            lens: [0; CHUNK_DATAGRAMS],
            count: 0,
            used: 0,
            done: 0,
            done_bytes: 0,
            alone: 0,
        }
    }

    fn reset(&mut self, to: Destination) {
        self.to = to;
        self.name = to.addr.into();
        self.count = 0;
        self.used = 0;
        self.done = 0;
        self.done_bytes = 0;
        self.alone = 0;
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.count < CHUNK_DATAGRAMS && self.used + len <= CHUNK_LEN
    }

    /// Adds a datagram that was written behind the last.
    pub(super) fn push(&mut self, len: usize) {
        self.lens[self.count] = len as u16;
        self.count += 1;
        self.used += len;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done == self.count
    }

    /// The messages in which what is not done can be sent, in order, of at most `max_segments`
    /// datagrams each.
    pub(super) fn messages(
        &self,
        number: u32,
        max_segments: usize,
    ) -> impl Iterator<Item = Message> {
        let (mut at, mut start) = (self.done, self.done_bytes);
        std::iter::from_fn(move || {
            let lens = &self.lens[at..self.count];
            let segment = usize::from(*lens.first()?);
            let limit = if at < self.alone { 1 } else { max_segments };
            let equal = lens
                .iter()
                .take(limit)
                .take_while(|len| usize::from(**len) == segment);
            let mut message = Message {
                chunk: number,
                start,
                len: 0,
                segment,
                count: equal.count(),
            };
            message.len = message.count * segment;
            match lens.get(message.count) {
                Some(last) if message.count < limit && usize::from(*last) < segment => {
                    message.count += 1;
                    message.len += usize::from(*last);
                }
                _ => {}
            }
            at += message.count;
            start += message.len;
            Some(message)
        })
    }

    /// Notes that the first message of what was not done was sent or dropped.
    pub(super) fn finish(&mut self, message: &Message) {
        debug_assert_eq!(
            message.start, self.done_bytes,
            "messages are finished in order"
        );
        self.done += message.count;
        self.done_bytes += message.len;
    }

    /// Sends the datagrams of a message, the first of what is not done, one by one from now on.
    pub(super) fn split(&mut self, message: &Message) {
        self.alone = self.done + message.count;
    }
}
