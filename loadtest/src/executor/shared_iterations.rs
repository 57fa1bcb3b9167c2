//! VUs take iterations from one pool until it is empty: fast ones run more.

use std::time::Duration;

use super::Slot;
use super::crew::Crew;
use super::program::clock;
use crate::options::duration::digits;
use crate::segment::Share;

#[derive(Debug)]
pub(super) struct SharedIterations {
    vus: u64,
    iterations: u64,
    max_duration: Duration,
    /// Still to be started.
    left: u64,
}

impl SharedIterations {
    /// An instance without VUs has no iterations either.
    pub(super) fn new(vus: u64, iterations: u64, max_duration: Duration, share: &Share) -> Self {
        let iterations = share.among(vus).count(iterations);
        Self {
            vus: share.count(vus),
            iterations,
            max_duration,
            left: iterations,
        }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        for slot in Crew::slots(self.vus) {
            crew.activate(slot);
            self.handle_end(crew, slot, start);
        }
    }

    pub(super) fn handle_end(&mut self, crew: &mut Crew, slot: Slot, now: Duration) {
        match self.left.checked_sub(1) {
            Some(rest) => {
                self.left = rest;
                crew.start(slot, now);
            }
            None => crew.release(slot),
        }
    }

    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let done = crew.counts().complete + crew.counts().interrupted;
        let (total, width) = (self.iterations, digits(self.iterations));
        let columns = vec![
            format!("{} VUs", self.vus),
            clock(elapsed, self.max_duration),
            format!("{done:0width$}/{total} shared iters"),
        ];
        (done as f64 / total.max(1) as f64, columns)
    }
}
