//! A queue of packets from one thread to one other: bounded, without locks, and read where it lies.
//!
//! A block of memory in which records follow each other, each in one piece. What is pushed is seen by
//! the other side once it is published, so that a batch costs one store; what is read stays in place
//! until it is released. Neither side ever waits: a full ring refuses. Knows nothing of what a record
//! means; who wakes the reader is the caller's business (see [`Waker`](crate::poll::Waker)).

#![allow(
    unsafe_code,
    reason = "two threads share memory that no lock guards; the positions say whose each byte is"
)]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{ptr, slice};

/// In front of every record: its length.
const LENGTH: usize = size_of::<u32>();
/// Records begin at multiples of this, so that a length always fits in front of the ring's end.
const ALIGNMENT: usize = 8;
/// In the place of a length: what is left up to the ring's end is not used.
const SKIP: u32 = u32::MAX;

/// The ring refuses a record: there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full")]
pub struct Full;

/// Makes a ring of `capacity` bytes, rounded up to a power of two of at least 64. Its memory takes
/// effect as it is first used. Records longer than half of it are always refused.
pub fn ring(capacity: usize) -> (Producer, Consumer) {
    let capacity = capacity.next_power_of_two().max(64);
    let shared = Arc::new(Shared {
        bytes: zeroed(capacity),
        tail: OwnLine(AtomicUsize::new(0)),
        head: OwnLine(AtomicUsize::new(0)),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: 0,
        published: 0,
        head: 0,
    };
    let consumer = Consumer { shared, head: 0 };
    (producer, consumer)
}

/// On a cache line of its own (two, because CPUs fetch pairs): each is written by one thread and read
/// by the other.
#[derive(Debug)]
#[repr(align(128))]
struct OwnLine<T>(T);

/// Positions only grow; a byte's place is its position modulo the length.
///
/// Bytes in `head..tail` are the consumer's to read, all others the producer's to write. `tail` is
/// stored by the producer only, with `Release` after it wrote the bytes before it; `head` by the
/// consumer only, with `Release` after it read them. Each side loads the other's with `Acquire`.
struct Shared {
    bytes: Box<[UnsafeCell<u8>]>,
    tail: OwnLine<AtomicUsize>,
    head: OwnLine<AtomicUsize>,
}

// SAFETY: the bytes are reached through the one `Producer` and the one `Consumer` only, which keep to
// the parts that the positions give them, as stated above.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn offset(&self, position: usize) -> usize {
        position & (self.bytes.len() - 1)
    }

    /// Bytes from a position's place to the end of the memory.
    fn left(&self, position: usize) -> usize {
        self.bytes.len() - self.offset(position)
    }

    /// # Safety
    ///
    /// `position..position + from.len()` is the producer's, the caller is the producer, and it does
    /// not cross the end of the memory.
    unsafe fn write(&self, position: usize, from: &[u8]) {
        debug_assert!(from.len() <= self.left(position));
        let to = self.bytes.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the range lies within `bytes` and nobody else reads or writes it, by the contract;
        // the cells allow writing through a shared reference. `from` cannot overlap it, being a
        // reference to initialised memory outside of the cells.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), to.add(self.offset(position)), from.len());
        }
    }

    /// # Safety
    ///
    /// `position..position + len` is the consumer's for as long as `'a`, and does not cross the end of
    /// the memory.
    unsafe fn read<'a>(&self, position: usize, len: usize) -> &'a [u8] {
        debug_assert!(len <= self.left(position));
        let from = self.bytes.as_ptr().cast::<u8>();
        // SAFETY: the range lies within `bytes`, which was zeroed when it was made, and nobody writes
        // it for as long as `'a`, by the contract.
        unsafe { slice::from_raw_parts(from.add(self.offset(position)), len) }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("capacity", &self.bytes.len())
            .field("tail", &self.tail)
            .field("head", &self.head)
            .finish()
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    /// Where the next record begins, published or not.
    tail: usize,
    published: usize,
    /// The consumer's position when last looked at; it may have gone on.
    head: usize,
}

impl Producer {
    /// Puts a record of two parts at the end. The other side does not see it before
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// There is no room; nothing has changed.
    pub fn push(&mut self, first: &[u8], second: &[u8]) -> Result<(), Full> {
        let shared = &*self.shared;
        let len = first.len() + second.len();
        let size = (LENGTH + len).next_multiple_of(ALIGNMENT);
        let capacity = shared.bytes.len();
        if size > capacity / 2 {
            return Err(Full);
        }
        let left = shared.left(self.tail);
        let skipped = if size <= left { 0 } else { left };
        let needed = skipped + size;
        if self.tail + needed - self.head > capacity {
            self.head = shared.head.0.load(Ordering::Acquire);
            if self.tail + needed - self.head > capacity {
                return Err(Full);
            }
        }
        let start = self.tail + skipped;
        // SAFETY: `tail..tail + needed` is free, as was just checked, and stays the producer's until
        // `tail` is published beyond it; this is the only producer. The record lies in one piece: it
        // fits up to the end or begins at the beginning. At `tail` a length fits because positions are
        // multiples of `ALIGNMENT`, and so is the capacity.
        unsafe {
            if skipped > 0 {
                shared.write(self.tail, &SKIP.to_ne_bytes());
            }
            shared.write(start, &(len as u32).to_ne_bytes());
            shared.write(start + LENGTH, first);
            shared.write(start + LENGTH + first.len(), second);
        }
        self.tail = start + size;
        Ok(())
    }

    /// Shows the other side what was pushed; `false`: nothing was. Wake it afterwards.
    pub fn publish(&mut self) -> bool {
        if self.tail == self.published {
            return false;
        }
        self.shared.tail.0.store(self.tail, Ordering::Release);
        self.published = self.tail;
        true
    }

    /// Bytes that were pushed since the other side was last shown any.
    pub fn unpublished(&self) -> usize {
        self.tail - self.published
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    head: usize,
}

/// How far a [`Consumer`] has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(usize);

impl Consumer {
    /// What has been published and not been released, in order. It stays in the ring until
    /// [`release`](Self::release).
    pub fn records(&self) -> Records<'_> {
        Records {
            tail: self.shared.tail.0.load(Ordering::Acquire),
            position: self.head,
            consumer: self,
        }
    }

    /// Gives everything before `position` back to the producer.
    ///
    /// # Panics
    ///
    /// If the position is not one of this ring's that has been read and not been released.
    pub fn release(&mut self, position: Position) {
        let tail = self.shared.tail.0.load(Ordering::Relaxed);
        assert!(
            position.0.wrapping_sub(self.head) <= tail - self.head,
            "a position of another ring, or of long ago"
        );
        self.head = position.0;
        self.shared.head.0.store(self.head, Ordering::Release);
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait, with what their bookkeeping takes.
    pub fn len(&self) -> usize {
        self.shared.tail.0.load(Ordering::Relaxed) - self.head
    }
}

/// Records of a ring, where they lie.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    consumer: &'a Consumer,
    position: usize,
    tail: usize,
}

impl Records<'_> {
    /// Behind the record that was answered last: releasing up to here frees all that were answered.
    pub fn position(&self) -> Position {
        Position(self.position)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let shared = &*self.consumer.shared;
        loop {
            if self.position == self.tail {
                return None;
            }
            // SAFETY: positions of records, and the tail, are multiples of `ALIGNMENT`, so a length
            // lies in `position..tail`, in one piece. That range is the consumer's until it releases
            // beyond it, for which it has to be borrowed mutably: not before `'a` is over.
            let length: &[u8] = unsafe { shared.read(self.position, LENGTH) };
            let length = length.first_chunk().copied().unwrap_or_default();
            let length = u32::from_ne_bytes(length);
            let left = shared.left(self.position);
            if length == SKIP {
                self.position += left;
                continue;
            }
            let len = length as usize;
            let size = (LENGTH + len).next_multiple_of(ALIGNMENT);
            assert!(
                size <= left && size <= self.tail - self.position,
                "a record that the producer did not write"
            );
            // SAFETY: as above, and the record ends before the tail and the end of the memory, as was
            // just checked.
            let record = unsafe { shared.read(self.position + LENGTH, len) };
            self.position += size;
            return Some(record);
        }
    }
}

/// Bytes that the system backs as they are first used.
fn zeroed(len: usize) -> Box<[UnsafeCell<u8>]> {
    let bytes = Box::into_raw(vec![0_u8; len].into_boxed_slice());
    // SAFETY: the pointer comes from a box, and a cell has the layout of what is in it.
    unsafe { Box::from_raw(bytes as *mut [UnsafeCell<u8>]) }
}

#[cfg(test)]
mod tests;
