//! A ring as it was written, and what makes one of two the later one.

use super::{Collision, Members, Ring};

/// A ring as a keeper wrote it once. Of two of them the greater one by [`Self::order`] is the later
/// one, wherever and in whatever order they are heard of.
#[derive(Debug)]
pub struct Record {
    /// Of the keeper that wrote it.
    pub term: u64,
    /// Counts what was written; 0: nothing yet.
    pub epoch: u64,
    pub members: Members,
    pub ring: Ring,
    pub digest: u64,
}

impl Record {
    /// # Errors
    /// When two of the members have a point of the ring in common.
    pub fn new(term: u64, epoch: u64, members: Members) -> Result<Self, Collision> {
        let ring = Ring::new(&members)?;
        Ok(Self {
            term,
            epoch,
            members,
            digest: ring.digest(),
            ring,
        })
    }

    /// Earlier than all that was ever written.
    #[must_use]
    pub fn none() -> Self {
        let ring = Ring::empty();
        Self {
            term: 0,
            epoch: 0,
            members: Members::default(),
            digest: ring.digest(),
            ring,
        }
    }

    #[must_use]
    pub fn order(&self) -> (u64, u64, u64) {
        // Of two with the same numbers, from before and after a loss, everybody has to choose the same.
        (self.term, self.epoch, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_one_is_the_greater_one() {
        let of = |term, epoch| Record::new(term, epoch, Members::default()).unwrap();
        let order = [of(0, 0), of(1, 9), of(2, 1), of(2, 2), of(3, 0)];
        assert!(order.is_sorted_by(|a, b| a.order() < b.order()));
        assert_eq!(Record::none().order(), of(0, 0).order());
    }
}
