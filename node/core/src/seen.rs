//! Which packets of an encoding have come, whichever way: by themselves or sent again.
//!
//! What goes out to a receiver is numbered by what came in, so a packet that comes twice would be sealed
//! twice under one number, which must never happen (RFC 7714 section 8.4). Repetitions come under an SSRC
//! of their own, past the replay check of the original's (`node/media/src/srtp/replay.rs`, which does the same
//! for an SSRC), and name whatever number they like.

#![warn(clippy::indexing_slicing)]

/// How far behind the newest a packet may come: as many as the packet cache holds at most. Wider costs a
/// byte per eight packets and encoding; narrower refuses what was asked for on long paths.
const WIDTH: u64 = 4096;
const WORDS: usize = WIDTH as usize / 64;

#[derive(Debug)]
pub(crate) struct Seen {
    /// The number behind the highest.
    next: u64,
    /// One bit for each of the [`WIDTH`] numbers below that.
    bits: [u64; WORDS],
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            next: 0,
            bits: [0; WORDS],
        }
    }
}

impl Seen {
    /// Whether a packet comes for the first time, as far as is known. What is too old to know does not.
    #[inline]
    pub(crate) fn admit(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            self.advance(sequence);
        } else if self.next - sequence > WIDTH {
            return false;
        }
        let bit = 1 << (sequence % 64);
        let Some(word) = self.bits.get_mut(Self::word(sequence)) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Nothing is known yet of what lies between.
    fn advance(&mut self, sequence: u64) {
        if sequence - self.next >= WIDTH {
            self.bits = [0; WORDS];
        } else {
            for skipped in self.next..=sequence {
                if let Some(word) = self.bits.get_mut(Self::word(skipped)) {
                    *word &= !(1 << (skipped % 64));
                }
            }
        }
        self.next = sequence + 1;
    }

    fn word(sequence: u64) -> usize {
        (sequence % WIDTH / 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing is admitted twice, and nothing refused that is new and within reach.
        #[test]
        fn each_packet_is_admitted_once(
            steps in prop::collection::vec(
                prop_oneof![8 => -20i64..20, 1 => -6_000i64..0, 1 => 0i64..9_000], 1..400,
            ),
        ) {
            let mut seen = Seen::default();
            let mut admitted = BTreeSet::new();
            let (mut at, mut highest) = (1i64 << 16, 0);
            for step in steps {
                at = (at + step).max(0);
                highest = highest.max(at);
                let is_in_reach = ((highest - at) as u64) < WIDTH;
                let is_new = admitted.insert(at);
                prop_assert_eq!(seen.admit(at as u64), is_in_reach && is_new, "{}", at);
                if !is_in_reach && is_new {
                    admitted.remove(&at);
                }
            }
        }
    }
}
