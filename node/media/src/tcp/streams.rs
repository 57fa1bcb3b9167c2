//! The streams of one thread, under numbers that go on where those of its UDP sockets end.

use std::collections::VecDeque;

use slab::Slab;

use super::{End, FrameBatch, Stream};
use crate::udp::Destination;

/// Socket numbers from here up are streams; there are never more UDP sockets.
pub const FIRST_STREAM: u32 = 64;

/// What has become of a stream, for who waits for its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The kernel takes no more for now: tell [`Streams::writable`] when it does.
    Blocked,
    /// It takes more again.
    Unblocked,
    /// Nothing more comes or goes: [remove](Streams::remove) it.
    Ended(End),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStats {
    pub received: u64,
    pub bytes_received: u64,
    /// Datagrams that were taken for sending.
    pub sent: u64,
    pub bytes_sent: u64,
    pub syscalls: u64,
    /// Dropped because too much waited.
    pub overflowed: u64,
    /// Dropped because their stream was gone.
    pub gone: u64,
}

struct Entry {
    stream: Stream,
    /// Has something to be flushed, and is in `dirty`.
    is_dirty: bool,
    is_blocked: bool,
    /// Ends with the next flush.
    is_finished: bool,
}

impl Entry {
    fn flush(&mut self) -> Option<Change> {
        let change = match self.stream.flush() {
            Err(end) => Change::Ended(end),
            Ok(false) if !self.is_blocked => Change::Blocked,
            Ok(true) if self.is_blocked => Change::Unblocked,
            Ok(_) => return None,
        };
        // One that has ended is not tried again either.
        self.is_blocked = change != Change::Unblocked;
        Some(change)
    }
}

#[derive(Default)]
pub struct Streams {
    entries: Slab<Entry>,
    dirty: Vec<u32>,
    changes: VecDeque<(u32, Change)>,
    stats: StreamStats,
}

impl Streams {
    /// Takes a stream in and gives it its number. Numbers are used again.
    pub fn insert(&mut self, stream: Stream) -> u32 {
        let entry = Entry {
            stream,
            is_dirty: false,
            is_blocked: false,
            is_finished: false,
        };
        FIRST_STREAM + self.entries.insert(entry) as u32
    }

    pub fn get(&self, socket: u32) -> Option<&Stream> {
        let entry = self.entries.get(index(socket)?)?;
        Some(&entry.stream)
    }

    /// Closes a stream, whatever it has left to send.
    pub fn remove(&mut self, socket: u32) -> Option<Stream> {
        let entry = self.entries.try_remove(index(socket)?)?;
        if entry.is_dirty {
            self.dirty.retain(|dirty| *dirty != socket);
        }
        self.changes.retain(|(changed, _)| *changed != socket);
        Some(entry.stream)
    }

    /// Reads once from a stream. An end is told as a change.
    pub fn receive(&mut self, socket: u32, batch: &mut FrameBatch) {
        batch.begin(&[]);
        let Some(entry) = index(socket).and_then(|index| self.entries.get_mut(index)) else {
            return;
        };
        if let Err(end) = entry.stream.receive(batch) {
            self.changes.push_back((socket, Change::Ended(end)));
            return;
        }
        for datagram in batch.datagrams() {
            self.stats.received += 1;
            self.stats.bytes_received += datagram.len() as u64;
        }
    }

    /// Queues a datagram until the next flush.
    pub fn push(&mut self, to: Destination, datagram: &[u8]) {
        let entry = index(to.socket).and_then(|index| self.entries.get_mut(index));
        let Some(entry) = entry.filter(|entry| entry.stream.remote() == to.addr) else {
            self.stats.gone += 1;
            return;
        };
        let mut taken = entry.stream.push(datagram);
        if !taken && !entry.is_blocked {
            // A burst larger than what may wait; what the kernel takes makes room.
            self.stats.syscalls += 1;
            self.changes.extend(entry.flush().map(|it| (to.socket, it)));
            taken = entry.stream.push(datagram);
        }
        if !taken {
            self.stats.overflowed += 1;
            return;
        }
        self.stats.sent += 1;
        self.stats.bytes_sent += datagram.len() as u64;
        // A blocked one is tried again when its socket is writable.
        if !entry.is_dirty && !entry.is_blocked {
            entry.is_dirty = true;
            self.dirty.push(to.socket);
        }
    }

    /// The kernel takes more of a stream that was blocked.
    pub fn writable(&mut self, socket: u32) {
        if let Some(entry) = index(socket).and_then(|index| self.entries.get_mut(index))
            && entry.is_blocked
            && !std::mem::replace(&mut entry.is_dirty, true)
        {
            self.dirty.push(socket);
        }
    }

    /// Ends a stream with the next flush: what the kernel takes of what waits is still sent.
    pub fn finish(&mut self, socket: u32) {
        if let Some(entry) = index(socket).and_then(|index| self.entries.get_mut(index)) {
            entry.is_finished = true;
            if !std::mem::replace(&mut entry.is_dirty, true) {
                self.dirty.push(socket);
            }
        }
    }

    /// Sends what waits, each stream's with one system call.
    pub fn flush(&mut self) {
        let Self {
            entries,
            dirty,
            changes,
            stats,
        } = self;
        for socket in dirty.drain(..) {
            let Some(entry) = index(socket).and_then(|index| entries.get_mut(index)) else {
                continue;
            };
            entry.is_dirty = false;
            stats.syscalls += u64::from(entry.stream.waiting() > 0);
            let change = match entry.flush() {
                Some(Change::Ended(end)) => Some(Change::Ended(end)),
                _ if entry.is_finished => Some(Change::Ended(End::Finished)),
                change => change,
            };
            changes.extend(change.map(|it| (socket, it)));
        }
    }

    /// What has become of streams, in the order in which it happened.
    pub fn poll_change(&mut self) -> Option<(u32, Change)> {
        self.changes.pop_front()
    }

    pub fn stats(&self) -> &StreamStats {
        &self.stats
    }
}

fn index(socket: u32) -> Option<usize> {
    socket.checked_sub(FIRST_STREAM).map(|index| index as usize)
}
