//! What is needed to send a packet of audio again: the identical datagram, or nothing.
//!
//! Audio has no retransmission stream, so a lost packet can come again only under its own SRTP index. A second,
//! different packet under that index would break AES-GCM (RFC 7714 section 8.4); the same one is safe, since
//! it tells nobody anything that the first did not. It is built and sealed anew from the cache, with the
//! transport-wide number or send time it had, and sent only if its authentication tag is the one it had.

use super::stamp::Stamp;

/// Packets that are remembered: more than a second of audio in frames of 20 ms, two thirds of one in frames
/// of 10. On a path that takes longer to ask, audio comes too late to be heard.
const KEPT: usize = 64;

/// The last bytes of a tag, which is at least 10 long.
const TAG_END: usize = 8;

#[derive(Debug)]
pub(super) struct Repeats(Box<[Sent; KEPT]>);

#[derive(Debug, Clone, Copy)]
struct Sent {
    /// The lower half of the packet's number.
    sequence: u32,
    stamp: Stamp,
    tag_end: [u8; TAG_END],
}

impl Repeats {
    pub(super) fn new() -> Self {
        // Nothing has this tag under number 0, but with a chance of one in 2^64.
        let none = Sent {
            sequence: 0,
            stamp: Stamp::NONE,
            tag_end: [0; TAG_END],
        };
        Self(Box::new([none; KEPT]))
    }

    /// A packet leaves for the first time, as this datagram.
    #[inline]
    pub(super) fn note(&mut self, sequence: u64, stamp: Stamp, datagram: &[u8]) {
        let sent = &mut self.0[sequence as usize % KEPT];
        let step = (sequence as u32).wrapping_sub(sent.sequence).cast_signed();
        if let Some(tag_end) = datagram.last_chunk()
            // One that comes very late takes no newer one's place.
            && step >= 0
        {
            *sent = Sent {
                sequence: sequence as u32,
                stamp,
                tag_end: *tag_end,
            };
        }
    }

    /// What a packet was marked with; `None`: it is too old, or was never sent.
    pub(super) fn stamp(&self, sequence: u64) -> Option<Stamp> {
        let sent = &self.0[sequence as usize % KEPT];
        (sent.sequence == sequence as u32).then_some(sent.stamp)
    }

    /// Whether a packet sealed again is the datagram it was.
    pub(super) fn is_same(&self, sequence: u64, datagram: &[u8]) -> bool {
        let sent = &self.0[sequence as usize % KEPT];
        sent.sequence == sequence as u32 && datagram.last_chunk() == Some(&sent.tag_end)
    }
}
