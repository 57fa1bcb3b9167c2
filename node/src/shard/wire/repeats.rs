//! What was sent of a subscription that has no retransmission stream, so that it can be sent again as it
//! was.
//!
//! AES-GCM forgives no second packet under one nonce. The same packet is no second one: sealed again from
//! the same bytes it is the same datagram, which tells nobody anything new. So what differs from one
//! sending to the next is kept, and the tag, by which the datagram is known again: what would be another
//! one never leaves.

use super::Stamp;

/// Packets that are kept: 640 ms of audio. A path on which that is too short for an answer is too long for
/// it to be heard.
const KEPT: usize = 32;

/// Bytes of an authentication tag; of the profiles' the shortest is 10 long.
const TAG_LEN: usize = 8;

#[derive(Debug)]
pub(super) struct Repeats(Box<[Sent; KEPT]>);

#[derive(Debug, Clone, Copy)]
struct Sent {
    stamp: Stamp,
    tag: [u8; TAG_LEN],
}

impl Repeats {
    pub(super) fn new() -> Self {
        let none = Sent {
            stamp: Stamp::NONE,
            tag: [0; TAG_LEN],
        };
        Self(Box::new([none; KEPT]))
    }

    /// A packet leaves for the first time, sealed.
    #[inline]
    pub(super) fn note(&mut self, sequence: u64, stamp: Stamp, datagram: &[u8]) {
        if let Some(tag) = datagram.last_chunk() {
            self.0[sequence as usize % KEPT] = Sent { stamp, tag: *tag };
        }
    }

    /// What a packet was marked with, unless that was forgotten for a later one.
    pub(super) fn stamp(&self, sequence: u64) -> Stamp {
        self.0[sequence as usize % KEPT].stamp
    }

    /// Whether this is what was sent under a number.
    pub(super) fn is_same(&self, sequence: u64, datagram: &[u8]) -> bool {
        datagram.last_chunk() == Some(&self.0[sequence as usize % KEPT].tag)
    }
}
