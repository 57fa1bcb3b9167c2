//! When a ramp has how many VUs: each comes, or goes, at its own time.

use std::time::Duration;

use crate::options::{Stage, total};

/// At an offset from the start of the ramp, the number that is planned from then on. Offsets do
/// not fall; several of one offset are a jump, of which the last counts. Nothing comes at the end
/// of the last stage or behind it.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    stages: Vec<Stage>,
    /// Where the stage begins that is first in the rest.
    begins: Duration,
    from: u64,
    /// The stages before this one are over.
    stage: usize,
    /// How many steps of the stage are over.
    taken: u64,
    total: Duration,
}

impl Steps {
    pub(super) fn new(start: u64, stages: &[Stage]) -> Self {
        Self {
            stages: stages.to_vec(),
            begins: Duration::ZERO,
            from: start,
            stage: 0,
            taken: 0,
            total: total(stages),
        }
    }
}

impl Iterator for Steps {
    type Item = (Duration, u64);

    fn next(&mut self) -> Option<(Duration, u64)> {
        loop {
            let Stage { duration, target } = *self.stages.get(self.stage)?;
            let height = target.abs_diff(self.from);
            if self.taken == height {
                self.begins += duration;
                self.from = target;
                self.taken = 0;
                self.stage += 1;
                continue;
            }
            // A jump is one step.
            self.taken = if duration.is_zero() {
                height
            } else {
                self.taken + 1
            };
            // Computed for each from the whole stage, so that nothing adds up.
            let nanos = duration.as_nanos() * u128::from(self.taken) / u128::from(height);
            let nanos = u64::try_from(nanos).expect("it is within the stage");
            let at = self.begins + Duration::from_nanos(nanos);
            let planned = match target > self.from {
                true => self.from + self.taken,
                false => self.from - self.taken,
            };
            return (at < self.total).then_some((at, planned));
        }
    }
}
