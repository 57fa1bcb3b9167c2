//! Where a track came from before, for as long as it comes from there as well: until the present way has joined it,
//! so that nothing is missed in between.
//!
//! The ways are not equally long. What the longer one still brings when the shorter one begins is not to be had
//! from there if that began just now.

use std::time::{Duration, Instant};

use pipemesh_node_core::forward::{EncodingSet, MAX_ENCODINGS};

/// After so long the ways have joined, or one of them brings nothing. Ways differ by less; longer is twice the
/// packets for nothing.
const JOINED_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Former {
    pub(super) pipe: u16,
    /// Whoever brings it now has said what it is, as it is now.
    pub(super) is_described_elsewhere: bool,
    /// When the first packet came the present way.
    since: Option<Instant>,
    joints: [Joint; MAX_ENCODINGS],
}

/// Of one encoding.
#[derive(Debug, Clone, Copy, Default)]
struct Joint {
    /// The number of the first packet that came the present way.
    first: Option<u64>,
    /// All before it has come.
    is_closed: bool,
}

impl Former {
    pub(super) fn new(pipe: u16) -> Self {
        Self {
            pipe,
            is_described_elsewhere: false,
            since: None,
            joints: Default::default(),
        }
    }

    /// A packet comes the present way, when `highest` was the highest number of its encoding. `true`: it is the
    /// first of it.
    pub(super) fn handle_present(
        &mut self,
        encoding: u8,
        number: u64,
        highest: Option<u64>,
        now: Instant,
    ) -> bool {
        self.since.get_or_insert(now);
        let joint = self.joints.get_mut(usize::from(encoding));
        let Some(joint) = joint.filter(|joint| joint.first.is_none()) else {
            return false;
        };
        joint.first = Some(number);
        joint.is_closed = highest.is_none_or(|highest| number <= highest + 1);
        true
    }

    /// … or the way before.
    pub(super) fn handle_former(&mut self, encoding: u8, number: u64) {
        if let Some(joint) = self.joints.get_mut(usize::from(encoding)) {
            joint.is_closed |= joint.first.is_some_and(|first| first <= number + 1);
        }
    }

    /// Whether nothing is missed without it, if these encodings are used.
    pub(super) fn is_over(&self, used: impl FnOnce() -> EncodingSet, now: Instant) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        if self.joints.iter().all(|joint| !joint.is_closed) && now < since + JOINED_AFTER {
            return false;
        }
        let used = used();
        let mut joints = (0..).zip(&self.joints);
        let is_joined = joints.all(|(encoding, joint)| joint.is_closed || !used.contains(encoding));
        is_joined || now.saturating_duration_since(since) >= JOINED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(bits: u8) -> impl FnOnce() -> EncodingSet {
        move || EncodingSet::of_bits(bits)
    }

    #[test]
    fn a_shorter_way_waits_for_the_longer_one() {
        let now = Instant::now();
        let mut former = Former::new(7);
        former.handle_former(2, 100);
        assert!(!former.is_over(used(0b100), now));
        assert!(former.handle_present(2, 104, Some(100), now));
        assert!(!former.handle_present(2, 105, Some(104), now));
        for number in 101..103 {
            former.handle_former(2, number);
            assert!(!former.is_over(used(0b100), now), "{number}");
        }
        former.handle_former(2, 103);
        assert!(former.is_over(used(0b100), now));
    }

    #[test]
    fn a_longer_way_is_joined_with_its_first_packet() {
        for first in [90, 100, 101] {
            let now = Instant::now();
            let mut former = Former::new(7);
            former.handle_present(0, first, Some(100), now);
            assert!(former.is_over(used(0b1), now), "{first}");
        }
    }

    #[test]
    fn each_encoding_is_joined() {
        let now = Instant::now();
        let mut former = Former::new(7);
        former.handle_present(0, 50, Some(50), now);
        assert!(!former.is_over(used(0b101), now));
        assert!(former.is_over(used(0b001), now), "the other is not used");
        former.handle_present(2, 9, None, now);
        assert!(former.is_over(used(0b101), now));
    }

    #[test]
    fn a_way_that_brings_nothing_any_more_is_left() {
        let now = Instant::now();
        let mut former = Former::new(7);
        assert!(!former.is_over(used(0b1), now + Duration::from_secs(60)));
        former.handle_present(0, 50, Some(40), now);
        assert!(!former.is_over(used(0b1), now + JOINED_AFTER / 2));
        assert!(former.is_over(used(0b1), now + JOINED_AFTER));
    }
}
