//! Each VU runs so many iterations and is done.

use std::time::Duration;

use super::Slot;
use super::crew::Crew;
use super::program::clock;
use crate::options::duration::digits;

#[derive(Debug)]
pub(super) struct PerVuIterations {
    iterations: u64,
    max_duration: Duration,
    /// How many each VU has still to start.
    left: Vec<u64>,
}

impl PerVuIterations {
    pub(super) fn new(vus: u64, iterations: u64, max_duration: Duration) -> Self {
        Self {
            iterations,
            max_duration,
            left: Crew::slots(vus).map(|_| iterations).collect(),
        }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        for slot in Crew::slots(self.left.len() as u64) {
            crew.activate(slot);
            self.handle_end(crew, slot, start);
        }
    }

    pub(super) fn handle_end(&mut self, crew: &mut Crew, slot: Slot, now: Duration) {
        let left = &mut self.left[slot.0 as usize];
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                crew.start(slot, now);
            }
            None => crew.release(slot),
        }
    }

    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let vus = self.left.len() as u64;
        let total = vus.saturating_mul(self.iterations);
        let done = crew.counts().complete + crew.counts().interrupted;
        let width = digits(total);
        let columns = vec![
            format!("{vus} VUs"),
            clock(elapsed, self.max_duration),
            format!("{done:0width$}/{total} iters, {} per VU", self.iterations),
        ];
        (done as f64 / total.max(1) as f64, columns)
    }
}
