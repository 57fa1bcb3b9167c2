//! Puts the client's handshake messages together (RFC 6347 section 4.2.3), whole and in order.
//!
//! rtc-dtls does that as well, but trusts the fragments: it keeps any number of them, follows
//! their offsets recursively, and takes what stands behind a fragment in the same record for a
//! part of it. Here everything is bounded, and what leaves is one whole message per record.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::record;

const HEADER_LENGTH: usize = 12;

/// Longest message taken. A ClientHello with a post-quantum key share has 1.5 KB, a chain of
/// RSA certificates some 4 KB.
const MAX_MESSAGE: usize = 8 * 1024;

/// Messages put together at once; a client's longest flight has four.
const WINDOW: u16 = 6;

/// Messages of a whole handshake; a client sends six.
const MAX_MESSAGES: u16 = 12;

/// Separate pieces of one message. Fragments that would need more are dropped, and come again.
const MAX_PIECES: usize = 16;

#[derive(Default)]
pub(super) struct Reassembly {
    /// Sequence number of the message that is due.
    next: u16,
    /// What has arrived of it and of those behind it.
    partial: VecDeque<Option<Partial>>,
}

struct Partial {
    kind: u8,
    body: Vec<u8>,
    /// What of `body` has arrived, sorted and disjoint.
    pieces: Vec<(usize, usize)>,
}

/// What a record said about the client's progress.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// It repeats a message that is complete: the client waits for our answer.
    pub(super) repeats: bool,
    /// It belongs to a message that was still due: our last flight has arrived.
    pub(super) advances: bool,
}

/// A fragment's header (RFC 6347 section 4.2.2).
struct Fragment<'a> {
    kind: u8,
    length: usize,
    sequence: u16,
    offset: usize,
    body: &'a [u8],
}

impl Fragment<'_> {
    fn end(&self) -> usize {
        self.offset + self.body.len()
    }

    /// It can be a part of a message that is taken. What cannot must not decide how the message it claims
    /// to be of looks: the true one would not fit any more.
    fn is_sound(&self) -> bool {
        let says_something = !self.body.is_empty() || self.length == 0;
        self.length <= MAX_MESSAGE && self.end() <= self.length && says_something
    }
}

impl Reassembly {
    /// Takes the body of a handshake record. Messages that it completes are appended to `whole`,
    /// each as a record of its own, numbered by `record_sequence`.
    pub(super) fn handle_record(
        &mut self,
        mut body: &[u8],
        record_sequence: &mut u32,
        whole: &mut BytesMut,
    ) -> Progress {
        let mut progress = Progress::default();
        while let Some((fragment, rest)) = read_fragment(body) {
            body = rest;
            if fragment.sequence < self.next {
                progress.repeats = true;
            } else if self.insert(&fragment) {
                progress.advances = true;
            }
        }
        while let Some(message) = self.take_complete() {
            let mut header = [0; HEADER_LENGTH];
            let length = (message.body.len() as u32).to_be_bytes();
            header[0] = message.kind;
            header[1..4].copy_from_slice(&length[1..]);
            header[4..6].copy_from_slice(&self.next.to_be_bytes());
            header[9..12].copy_from_slice(&length[1..]);
            record::write_plain(
                whole,
                record::HANDSHAKE,
                *record_sequence,
                &[&header, &message.body],
            );
            *record_sequence += 1;
            self.next += 1;
        }
        progress
    }

    fn insert(&mut self, fragment: &Fragment<'_>) -> bool {
        let ahead = fragment.sequence - self.next;
        if ahead >= WINDOW || fragment.sequence >= MAX_MESSAGES || !fragment.is_sound() {
            return false;
        }
        let index = usize::from(ahead);
        if self.partial.len() <= index {
            self.partial.resize_with(index + 1, || None);
        }
        let partial = self.partial[index].get_or_insert_with(|| Partial {
            kind: fragment.kind,
            body: vec![0; fragment.length],
            pieces: Vec::new(),
        });
        partial.insert(fragment)
    }

    fn take_complete(&mut self) -> Option<Partial> {
        if self.partial.front()?.as_ref()?.is_complete() {
            self.partial.pop_front()?
        } else {
            None
        }
    }
}

impl Partial {
    fn insert(&mut self, fragment: &Fragment<'_>) -> bool {
        let matches = fragment.kind == self.kind && fragment.length == self.body.len();
        if !matches {
            return false;
        }
        let end = fragment.end();
        self.body[fragment.offset..end].copy_from_slice(fragment.body);
        self.pieces.push((fragment.offset, end));
        self.pieces.sort_unstable();
        self.pieces.dedup_by(|later, earlier| {
            let touches = later.0 <= earlier.1;
            if touches {
                earlier.1 = earlier.1.max(later.1);
            }
            touches
        });
        if self.pieces.len() > MAX_PIECES {
            self.pieces.retain(|piece| *piece != (fragment.offset, end));
            return false;
        }
        true
    }

    fn is_complete(&self) -> bool {
        self.pieces == [(0, self.body.len())]
    }
}

fn read_fragment(record: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let header: &[u8; HEADER_LENGTH] = record.first_chunk()?;
    let u24 = |at: usize| {
        let bytes = [0, header[at], header[at + 1], header[at + 2]];
        u32::from_be_bytes(bytes) as usize
    };
    let end = HEADER_LENGTH + u24(9);
    let fragment = Fragment {
        kind: header[0],
        length: u24(1),
        sequence: u16::from_be_bytes([header[4], header[5]]),
        offset: u24(6),
        body: record.get(HEADER_LENGTH..end)?,
    };
    Some((fragment, &record[end..]))
}

#[cfg(test)]
mod tests;
