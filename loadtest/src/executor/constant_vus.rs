//! So many VUs, each running iterations one after the other, for so long.

use std::time::Duration;

use super::crew::Crew;
use super::program::{clock, part};

#[derive(Debug)]
pub(super) struct ConstantVus {
    vus: u64,
    duration: Duration,
}

impl ConstantVus {
    pub(super) fn new(vus: u64, duration: Duration) -> Self {
        Self { vus, duration }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        for slot in Crew::slots(self.vus) {
            crew.activate_and_start(slot, start);
        }
    }

    pub(super) fn status(&self, _crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let columns = vec![format!("{} VUs", self.vus), clock(elapsed, self.duration)];
        (part(elapsed, self.duration), columns)
    }
}
