//! Collects what is to be sent, a run per destination, and sends all of it together.
//!
//! Sealed packets are written straight into the pool, one directly behind the other per run, because
//! equal neighbours can then be given to the kernel as one message that it cuts (`UDP_SEGMENT`): its
//! work per message, not per byte, is what sending costs.

mod pool;
mod report;
mod send;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};

use rustix::io::Errno;

use self::pool::{Chunk, Message, Pool};
pub use self::report::{Drops, EgressStats, FlushReport, SocketSet};
use super::UdpSocket;
use crate::tcp::{FIRST_STREAM, Streams};

/// The longest datagram a run takes, in bytes: an Ethernet frame's payload, more than any path of
/// 1,500 bytes lets through.
pub const MAX_DATAGRAM_LEN: usize = 1_500;

/// Most datagrams in one message: what every kernel that knows GSO takes.
pub const MAX_SEGMENTS: usize = 64;

/// IPv6 links carry at least 1,280 bytes, of which its header and UDP's take 48. Datagrams up to
/// here fit everywhere, so if cutting into them fails, it is not the path's fault.
const FITS_EVERY_PATH: usize = 1_232;

/// Where a datagram goes: to whom, and through which of the sockets given to [`Egress::flush`] or, from
/// [`FIRST_STREAM`] up, of the streams given to [`Egress::flush_streams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    pub socket: u32,
    pub addr: SocketAddr,
}

impl Destination {
    const NOWHERE: Self = Self {
        socket: 0,
        addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    };
}

/// Where a connection's next datagram goes in the pool. Belongs to one [`Egress`]; holds nothing while
/// nothing waits to be sent, and may be dropped at any time without taking back what waits.
#[derive(Debug, Default)]
pub struct Run {
    chunk: u32,
    /// The chunk is this run's only while it has the same generation. 0 fits none.
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct EgressOptions {
    /// Number of sockets, at most 64.
    pub sockets: usize,
    /// Chunks in the pool, 24 KB each and touched only when used. Each destination with something to
    /// send needs one. Fewer means more flushes of shorter runs; more than the cache holds means that
    /// packets are written to memory and read back.
    pub chunks: u32,
    /// Most datagrams in one message, 1 to [`MAX_SEGMENTS`]. More cost less here; fewer lose less at
    /// once where a queue on the way overflows.
    pub max_segments: usize,
}

/// Outgoing datagrams of one shard.
pub struct Egress {
    pool: Pool,
    /// Per socket, the chunks to be sent, in the order in which they were opened.
    queues: Box<[Vec<u32>]>,
    /// The same for all streams together.
    stream_queue: Vec<u32>,
    max_segments: usize,
    /// Bytes that were committed and not sent.
    waiting: usize,
    /// What waited in spite of the last flush: destinations, and bytes.
    left: (usize, usize),
    /// Between calls empty; here to keep its memory.
    plan: Vec<Message>,
    stats: EgressStats,
}

/// Space for one datagram. Nothing is sent of it unless it is [committed](Self::commit).
pub struct Slot<'a> {
    chunk: &'a mut Chunk,
    bytes: &'a mut [u8],
    waiting: &'a mut usize,
}

impl Egress {
    /// # Panics
    ///
    /// If an option is out of its range.
    pub fn new(options: EgressOptions) -> Self {
        let EgressOptions {
            sockets,
            chunks,
            max_segments,
        } = options;
        assert!((1..=64).contains(&sockets), "{sockets} sockets");
        assert!(
            (1..=MAX_SEGMENTS).contains(&max_segments),
            "{max_segments} segments"
        );
        Self {
            pool: Pool::new(chunks),
            queues: (0..sockets)
                .map(|_| Vec::with_capacity(chunks as usize))
                .collect(),
            stream_queue: Vec::with_capacity(chunks as usize),
            max_segments,
            waiting: 0,
            left: (0, 0),
            plan: Vec::with_capacity(send::MAX_MESSAGES),
            stats: EgressStats::default(),
        }
    }

    /// Space for a datagram of up to `max_len` bytes, directly behind the run's previous one where
    /// that is possible. `None` if the pool is exhausted: flush, or drop the datagram if that did not
    /// help. What a run commits is sent in that order, also when it changes its destination between
    /// datagrams of the same socket.
    ///
    /// # Panics
    ///
    /// If `max_len` is above [`MAX_DATAGRAM_LEN`] or the destination's socket is neither one of ours nor
    /// a stream.
    // What it answers is needed at once, and stays in registers.
    #[inline(always)]
    pub fn reserve(&mut self, run: &mut Run, to: Destination, max_len: usize) -> Option<Slot<'_>> {
        assert!(max_len <= MAX_DATAGRAM_LEN, "a datagram of {max_len} bytes");
        let chunk = self.pool.chunk(run.chunk);
        if chunk.generation != run.generation || chunk.to != to || !chunk.has_room(max_len) {
            *run = self.begin(to)?;
        }
        let (chunk, bytes) = self.pool.space(run.chunk, max_len);
        Some(Slot {
            chunk,
            bytes,
            waiting: &mut self.waiting,
        })
    }

    /// A run that has nothing yet, behind all that waits for its socket.
    #[inline(never)]
    fn begin(&mut self, to: Destination) -> Option<Run> {
        let queue = match to.socket {
            FIRST_STREAM.. => &mut self.stream_queue,
            socket => &mut self.queues[socket as usize],
        };
        let chunk = self.pool.open(to)?;
        queue.push(chunk);
        Some(Run {
            chunk,
            generation: self.pool.chunk(chunk).generation,
        })
    }

    /// Whether it is time to flush although more is to come: what waits is as much as one system call
    /// takes, or as stays in the cache until the kernel reads it. What a blocked socket did not take does
    /// not count, so that it is not tried again and again.
    #[inline]
    pub fn is_ripe(&self) -> bool {
        let (destinations, bytes) = self.left;
        self.destinations() >= destinations + send::MAX_MESSAGES
            || self.waiting >= bytes + CACHED_BYTES
    }

    fn note_left(&mut self) {
        self.left = (self.destinations(), self.waiting);
    }

    /// Chunks in use: one for each destination with something to send, if none has more than one takes.
    fn destinations(&self) -> usize {
        self.pool.chunks() - self.pool.free_chunks()
    }

    /// Whether the next [`reserve`](Self::reserve) may find no chunk left: time to flush.
    pub fn is_exhausted(&self) -> bool {
        self.pool.free_chunks() == 0
    }

    /// Sends everything that was committed. `sockets` are those that destinations name by number.
    ///
    /// A datagram that the kernel refuses is dropped and counted, and the others are sent. If a
    /// socket is [blocked](FlushReport::blocked), its datagrams wait in the pool for the next flush.
    ///
    /// # Panics
    ///
    /// If there are not as many sockets as were announced.
    pub fn flush(&mut self, sockets: &[UdpSocket]) -> FlushReport {
        assert_eq!(sockets.len(), self.queues.len(), "sockets");
        let mut report = FlushReport::default();
        for (number, socket) in (0..).zip(sockets) {
            if self.queues[usize::from(number)].is_empty() {
                continue;
            }
            let mut gso = socket.gso();
            let send = |pool: &Pool, plan: &[Message]| send::send(socket, pool, plan);
            if self.drain(number, &mut gso, send) == Drained::Blocked {
                report.blocked.insert(number);
            }
            if gso != socket.gso() {
                socket.disable_gso();
                report.gso_lost.insert(number);
            }
        }
        self.note_left();
        report
    }

    /// Hands over everything that was committed for streams; what it does not take, it counts.
    pub fn flush_streams(&mut self, streams: &mut Streams) {
        for number in self.stream_queue.drain(..) {
            let to = self.pool.chunk(number).to;
            for datagram in self.pool.datagrams(number) {
                self.waiting -= datagram.len();
                streams.push(to, datagram);
            }
            self.pool.free(number);
        }
        self.note_left();
    }

    pub fn stats(&self) -> &EgressStats {
        &self.stats
    }

    /// Sends a socket's queue through `send`, which is [`send::send`] or a test's stand-in. Clears
    /// `gso` if the device turns out not to do it.
    fn drain(
        &mut self,
        socket: u8,
        gso: &mut bool,
        mut send: impl FnMut(&Pool, &[Message]) -> Result<usize, Errno>,
    ) -> Drained {
        let Self {
            pool,
            queues,
            max_segments,
            waiting,
            plan,
            stats,
            ..
        } = self;
        let queue = &mut queues[usize::from(socket)];
        let mut freed = 0;
        // The kernel's next answer is about a datagram alone that it refused with others in a message.
        let mut gso_suspect = false;
        let drained = loop {
            while let Some(&chunk) = queue.get(freed)
                && pool.chunk(chunk).is_done()
            {
                pool.free(chunk);
                freed += 1;
            }
            let max_segments = if *gso { *max_segments } else { 1 };
            let messages = queue[freed..]
                .iter()
                .flat_map(|chunk| pool.chunk(*chunk).messages(*chunk, max_segments))
                .take(send::MAX_MESSAGES);
            plan.clear();
            plan.extend(messages);
            let Some(first) = plan.first() else {
                break Drained::Empty;
            };
            stats.syscalls += 1;
            match send(pool, plan) {
                Ok(sent) => {
                    *gso &= !gso_suspect;
                    gso_suspect = false;
                    for message in &plan[..sent] {
                        pool.chunk_mut(message.chunk).finish(message);
                        *waiting -= message.len;
                        stats.datagrams += message.count as u64;
                        stats.bytes += message.len as u64;
                    }
                    stats.messages += sent as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Drained::Blocked,
                Err(errno) if first.count > 1 && may_be_gso(errno) => {
                    pool.chunk_mut(first.chunk).split(first);
                    gso_suspect = is_gso_if_alone_works(errno, first.segment);
                }
                Err(errno) => {
                    gso_suspect = false;
                    pool.chunk_mut(first.chunk).finish(first);
                    *waiting -= first.len;
                    *stats.dropped.by(errno) += first.count as u64;
                }
            }
        };
        queue.drain(..freed);
        drained
    }
}

/// What is sealed and sent before the cache of a core, half a megabyte or more, has lost it; a system
/// call's own cost is little beside so much.
const CACHED_BYTES: usize = 384 << 10;

#[derive(Debug, PartialEq, Eq)]
enum Drained {
    Empty,
    /// The kernel's buffer is full.
    Blocked,
}

/// Whether a message of several datagrams may have been refused for being one.
fn may_be_gso(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::INVAL | Errno::MSGSIZE)
}

/// Whether GSO does not work on this socket, given why it was refused and that the first datagram
/// alone is then taken. `EIO` is a device that cannot compute the segments' checksums. `EINVAL` is
/// anything, but with `EMSGSIZE` also what kernels say, depending on their age, of segments longer
/// than the path; alone those are fragmented.
fn is_gso_if_alone_works(errno: Errno, segment: usize) -> bool {
    errno == Errno::IO || errno == Errno::INVAL && segment <= FITS_EVERY_PATH
}

impl Drops {
    /// The counter for an error.
    fn by(&mut self, errno: Errno) -> &mut u64 {
        match errno {
            Errno::MSGSIZE => &mut self.too_long,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL => &mut self.unreachable,
            Errno::PERM | Errno::ACCESS => &mut self.forbidden,
            Errno::CONNREFUSED => &mut self.refused,
            Errno::NOBUFS | Errno::NOMEM => &mut self.no_buffers,
            _ => &mut self.other,
        }
    }
}

impl Slot<'_> {
    /// Queues the first `len` bytes as a datagram. None are no datagram.
    ///
    /// # Panics
    ///
    /// If `len` is more than was reserved.
    #[inline]
    pub fn commit(self, len: usize) {
        assert!(
            len <= self.bytes.len(),
            "{len} bytes of {}",
            self.bytes.len()
        );
        if len > 0 {
            self.chunk.push(len);
            *self.waiting += len;
        }
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for Slot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
