//! When iterations start that come at a rate: each time is computed by itself and exactly, so that
//! nothing adds up, however long it goes on.

use std::time::Duration;

use crate::options::Stage;

#[derive(Debug)]
pub(super) enum Schedule {
    Constant {
        rate: u64,
        time_unit: Duration,
        duration: Duration,
    },
    Ramping(Ramps),
}

impl Schedule {
    /// When iteration `number` of the test starts, from 0, as an offset from the start of the
    /// scenario. Asked in growing order.
    ///
    /// At a constant rate the first starts at once. On a ramp one starts when the rate has added up
    /// to one more: at the very start it has added up to nothing.
    pub(super) fn start_of(&mut self, number: u64) -> Option<Duration> {
        match self {
            Self::Constant {
                rate,
                time_unit,
                duration,
            } => {
                let nanos = u128::from(number) * time_unit.as_nanos() / u128::from((*rate).max(1));
                let at = Duration::from_nanos(u64::try_from(nanos).ok()?);
                (at < *duration).then_some(at)
            }
            Self::Ramping(ramps) => ramps.start_of(number),
        }
    }

    /// Iterations per time unit, so long after the start.
    pub(super) fn rate(&self, elapsed: Duration) -> f64 {
        match self {
            Self::Constant { rate, .. } => *rate as f64,
            Self::Ramping(ramps) => ramps.rate(elapsed),
        }
    }
}

/// The area under a rate that changes linearly. It is measured in half iterations times nanoseconds
/// of the time unit, of which all areas that occur are whole.
#[derive(Debug)]
pub(super) struct Ramps {
    start_rate: u64,
    time_unit: u128,
    stages: Vec<Stage>,
    /// The first stage in which anything is still to start.
    stage: usize,
    begins: Duration,
    from: u64,
    /// Before that stage.
    area: u128,
    /// Within it, where the last one started: the next does not start before.
    last: u128,
}

impl Ramps {
    pub(super) fn new(start_rate: u64, time_unit: Duration, stages: &[Stage]) -> Self {
        Self {
            start_rate,
            time_unit: time_unit.as_nanos(),
            stages: stages.to_vec(),
            stage: 0,
            begins: Duration::ZERO,
            from: start_rate,
            area: 0,
            last: 0,
        }
    }

    fn start_of(&mut self, number: u64) -> Option<Duration> {
        let wanted = 2 * self.time_unit * (u128::from(number) + 1);
        loop {
            let Stage { duration, target } = *self.stages.get(self.stage)?;
            let length = duration.as_nanos();
            let within = length * (u128::from(self.from) + u128::from(target));
            if self.area + within < wanted {
                self.area += within;
                self.begins += duration;
                self.from = target;
                self.last = 0;
                self.stage += 1;
                continue;
            }
            self.last = self.reach(wanted - self.area, length, target);
            let nanos = u64::try_from(self.last).expect("it is within the stage");
            return Some(self.begins + Duration::from_nanos(nanos));
        }
    }

    /// The first nanosecond of a stage at which the area within it is `wanted`, from 1 up to the
    /// area of the stage: the smallest t of
    /// `2·from·t + (target - from)·t²/length >= wanted`, times `length` so that all is whole.
    fn reach(&self, wanted: u128, length: u128, target: u64) -> u128 {
        // The options allow stages and rates only of which these products fit.
        let (from, target) = (u128::from(self.from), u128::from(target));
        let reached = |t: u128| {
            let level = 2 * from * t * length;
            let area = match target >= from {
                true => level + (target - from) * t * t,
                false => level - (from - target) * t * t,
            };
            area >= wanted * length
        };
        let (mut low, mut high) = (self.last, length);
        while low < high {
            let middle = low + (high - low) / 2;
            match reached(middle) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        low
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        let mut from = self.start_rate;
        let mut left = elapsed;
        for stage in &self.stages {
            if left < stage.duration {
                let part = left.as_secs_f64() / stage.duration.as_secs_f64();
                return from as f64 + (stage.target as f64 - from as f64) * part;
            }
            left -= stage.duration;
            from = stage.target;
        }
        from as f64
    }
}
