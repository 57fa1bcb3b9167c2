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

/// What is known of one packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    sequence: u64,
    pub(super) stamp: Stamp,
    tag_end: [u8; TAG_END],
}

impl Sent {
    /// Whether the packet sealed again is the datagram it was.
    pub(super) fn is(&self, datagram: &[u8]) -> bool {
        datagram.last_chunk() == Some(&self.tag_end)
    }
}

impl Repeats {
    pub(super) fn new() -> Self {
        let none = Sent {
            sequence: u64::MAX,
            stamp: Stamp::NONE,
            tag_end: [0; TAG_END],
        };
        Self(Box::new([none; KEPT]))
    }

    /// A packet leaves for the first time, as this datagram; `next` has never left. One that comes very late
    /// takes no newer one's place.
    #[inline]
    pub(super) fn note(&mut self, sequence: u64, next: u64, stamp: Stamp, datagram: &[u8]) {
        if let Some(tag_end) = datagram.last_chunk()
            && sequence + KEPT as u64 >= next
        {
            self.0[sequence as usize % KEPT] = Sent {
                sequence,
                stamp,
                tag_end: *tag_end,
            };
        }
    }

    /// `None`: it is too old, or was never sent.
    pub(super) fn find(&self, sequence: u64) -> Option<&Sent> {
        let sent = &self.0[sequence as usize % KEPT];
        (sent.sequence == sequence).then_some(sent)
    }
}
