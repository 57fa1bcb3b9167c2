//! What the executors have in common, each asked in its own way.

use std::time::Duration;

use super::Slot;
use super::arrival_rate::ArrivalRate;
use super::constant_vus::ConstantVus;
use super::crew::Crew;
use super::per_vu_iterations::PerVuIterations;
use super::ramping_until::RampingUntil;
use super::ramping_vus::RampingVus;
use super::shared_iterations::SharedIterations;
use crate::options::{Executor, duration};
use crate::segment::Share;

#[derive(Debug)]
pub(super) enum Program {
    SharedIterations(SharedIterations),
    PerVuIterations(PerVuIterations),
    ConstantVus(ConstantVus),
    RampingVus(RampingVus),
    ArrivalRate(ArrivalRate),
    RampingUntil(RampingUntil),
}

impl Program {
    pub(super) fn new(executor: &Executor, start: Duration, share: &Share) -> Self {
        match executor {
            Executor::SharedIterations {
                vus,
                iterations,
                max_duration,
            } => Self::SharedIterations(SharedIterations::new(
                *vus,
                *iterations,
                *max_duration,
                share,
            )),
            Executor::PerVuIterations {
                vus,
                iterations,
                max_duration,
            } => Self::PerVuIterations(PerVuIterations::new(
                share.count(*vus),
                *iterations,
                *max_duration,
            )),
            Executor::ConstantVus { vus, duration } => {
                Self::ConstantVus(ConstantVus::new(share.count(*vus), *duration))
            }
            Executor::RampingVus {
                start_vus,
                stages,
                graceful_ramp_down,
            } => Self::RampingVus(RampingVus::new(
                *start_vus,
                stages,
                *graceful_ramp_down,
                start,
                share,
            )),
            Executor::ConstantArrivalRate { .. } | Executor::RampingArrivalRate { .. } => {
                Self::ArrivalRate(ArrivalRate::new(executor, start, share))
            }
            Executor::RampingUntil {
                start_vus,
                step,
                step_duration,
                max_vus,
                until,
            } => Self::RampingUntil(RampingUntil::new(
                *start_vus,
                *step,
                *step_duration,
                *max_vus,
                until.clone(),
                executor.duration(),
                share,
            )),
        }
    }

    /// Whether it is known beforehand when it starts no more iterations.
    pub(super) fn has_end(&self) -> bool {
        !matches!(self, Self::RampingUntil(_))
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        match self {
            Self::SharedIterations(program) => program.begin(crew, start),
            Self::PerVuIterations(program) => program.begin(crew, start),
            Self::ConstantVus(program) => program.begin(crew, start),
            Self::RampingVus(program) => program.begin(crew, start),
            Self::ArrivalRate(program) => program.begin(crew),
            Self::RampingUntil(program) => program.begin(crew, start),
        }
    }

    /// When it does something of its own accord.
    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::SharedIterations(_) | Self::PerVuIterations(_) | Self::ConstantVus(_) => None,
            Self::RampingVus(program) => program.due(),
            Self::ArrivalRate(program) => program.due(),
            Self::RampingUntil(program) => program.due(),
        }
    }

    /// Does what is due next.
    pub(super) fn step(&mut self, crew: &mut Crew) {
        match self {
            Self::SharedIterations(_) | Self::PerVuIterations(_) | Self::ConstantVus(_) => {}
            Self::RampingVus(program) => program.step(crew),
            Self::ArrivalRate(program) => program.step(crew),
            Self::RampingUntil(program) => program.step(crew),
        }
    }

    /// An iteration has ended; what was due before now comes first.
    pub(super) fn handle_free(&mut self, crew: &Crew, slot: Slot) {
        if let Self::ArrivalRate(program) = self {
            program.handle_free(crew, slot);
        }
    }

    /// An iteration has ended, and the scenario goes on.
    pub(super) fn handle_end(&mut self, crew: &mut Crew, slot: Slot, now: Duration) {
        match self {
            Self::SharedIterations(program) => program.handle_end(crew, slot, now),
            Self::PerVuIterations(program) => program.handle_end(crew, slot, now),
            Self::ConstantVus(_) | Self::RampingUntil(_) => crew.start(slot, now),
            Self::RampingVus(program) => program.handle_end(crew, slot, now),
            Self::ArrivalRate(_) => {}
        }
    }

    /// Whether it has nothing more to do, before its time is up.
    pub(super) fn is_exhausted(&self, crew: &Crew) -> bool {
        match self {
            Self::SharedIterations(_) | Self::PerVuIterations(_) => crew.active() == 0,
            Self::ConstantVus(_)
            | Self::RampingVus(_)
            | Self::ArrivalRate(_)
            | Self::RampingUntil(_) => crew.len() == 0,
        }
    }

    /// No more iterations.
    pub(super) fn close(&mut self, crew: &mut Crew) {
        if let Self::RampingUntil(program) = self {
            program.close(crew);
        }
    }

    /// How far it is, and the columns beside the bar.
    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        match self {
            Self::SharedIterations(program) => program.status(crew, elapsed),
            Self::PerVuIterations(program) => program.status(crew, elapsed),
            Self::ConstantVus(program) => program.status(crew, elapsed),
            Self::RampingVus(program) => program.status(crew, elapsed),
            Self::ArrivalRate(program) => program.status(crew, elapsed),
            Self::RampingUntil(program) => program.status(crew, elapsed),
        }
    }
}

/// How much of a duration is over, from 0 to 1.
pub(super) fn part(elapsed: Duration, of: Duration) -> f64 {
    if of.is_zero() {
        return 1.0;
    }
    (elapsed.as_secs_f64() / of.as_secs_f64()).min(1.0)
}

/// `2m00.3s/9m00.0s`
pub(super) fn clock(elapsed: Duration, of: Duration) -> String {
    let shown = |duration| duration::format_fixed(duration, of);
    format!("{}/{}", shown(elapsed.min(of)), shown(of))
}

/// `017/500 VUs`
pub(super) fn vus(active: u64, of: u64) -> String {
    let width = duration::digits(of);
    format!("{active:0width$}/{of} VUs")
}
