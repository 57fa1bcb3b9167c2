//! What waits for a stream to take it: whole frames, up to a bound.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::{HEADER_LEN, MAX_FRAME_LEN};

/// Bytes that may wait. A key frame of a large picture fits; at 2 Mbit/s it is three quarters of a
/// second, and what is later than that is better not sent.
const CAPACITY: usize = 192 << 10;

/// Of these, what only small datagrams may use: with it audio, feedback and checks get through a stream
/// that is clogged with video.
const RESERVED: usize = 32 << 10;

/// Longest of the small: audio with redundancy, reports, checks. Video packets that short end frames
/// and are few.
const SMALL: usize = 400;

const _: () = assert!(CAPACITY > RESERVED + MAX_FRAME_LEN);

pub(super) struct Outgoing {
    bytes: VecDeque<u8>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::with_capacity(CAPACITY),
        }
    }

    /// Frames a datagram. False: it does not fit, nothing of it was taken.
    pub(super) fn push(&mut self, datagram: &[u8]) -> bool {
        let reserved = if datagram.len() <= SMALL { 0 } else { RESERVED };
        let len = HEADER_LEN + datagram.len();
        if len > MAX_FRAME_LEN || self.bytes.len() + len > CAPACITY - reserved {
            return false;
        }
        self.bytes.extend((datagram.len() as u16).to_be_bytes());
        self.bytes.extend(datagram);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All that waits, in order.
    pub(super) fn slices(&self) -> [IoSlice<'_>; 2] {
        let (front, back) = self.bytes.as_slices();
        [IoSlice::new(front), IoSlice::new(back)]
    }

    /// Forgets what was taken.
    pub(super) fn taken(&mut self, len: usize) {
        self.bytes.drain(..len);
        if self.bytes.is_empty() {
            // The next burst uses the memory that the cache has.
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(outgoing: &Outgoing) -> Vec<u8> {
        outgoing
            .slices()
            .iter()
            .flat_map(|it| it.to_vec())
            .collect()
    }

    #[test]
    fn what_is_small_outlives_what_is_large() {
        let mut outgoing = Outgoing::new();
        while outgoing.push(&[1; 1200]) {}
        let large = outgoing.len();
        assert!(large <= CAPACITY - RESERVED && large > CAPACITY - RESERVED - 1202);
        let mut small = 0;
        while outgoing.push(&[2; 100]) {
            small += 1;
        }
        assert!(small >= RESERVED / 102, "{small} small datagrams");
        assert!(outgoing.len() <= CAPACITY);
        assert_eq!(outgoing.bytes.capacity(), Outgoing::new().bytes.capacity());
        outgoing.taken(large);
        assert!(outgoing.push(&[1; 1200]));
    }

    #[test]
    fn nothing_longer_than_a_datagram_is_framed() {
        assert!(!Outgoing::new().push(&[0; 1501]));
        assert!(Outgoing::new().push(&[0; 1500]));
    }

    proptest! {
        #[test]
        fn what_leaves_is_what_was_taken_in_order(
            steps in prop::collection::vec((1..1500_usize, any::<u8>(), 0..200_000_usize), 1..300),
        ) {
            let (mut outgoing, mut expected, mut left) = (Outgoing::new(), Vec::new(), Vec::new());
            for (len, fill, taken) in steps {
                let datagram = vec![fill; len];
                if outgoing.push(&datagram) {
                    expected.extend((len as u16).to_be_bytes());
                    expected.extend(&datagram);
                }
                let taken = if taken % 3 == 0 { taken.min(outgoing.len()) } else { 0 };
                left.extend(&all(&outgoing)[..taken]);
                outgoing.taken(taken);
                prop_assert!(outgoing.len() <= CAPACITY);
            }
            left.extend(all(&outgoing));
            prop_assert_eq!(left, expected);
        }
    }
}
