//! Iterations start on schedule, whether or not others have ended.
//!
//! One that finds no free VU takes a new one, as long as there are any; then it is dropped. None
//! waits: a server that gets slow would not be loaded as asked, and would look better than it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::crew::{Crew, Seat};
use super::program::{clock, part, vus};
use super::schedule::{Ramps, Schedule};
use super::{Output, Slot};
use crate::options::Executor;
use crate::segment::Share;

#[derive(Debug)]
pub(super) struct ArrivalRate {
    start: Duration,
    duration: Duration,
    time_unit: Duration,
    schedule: Schedule,
    /// Of the iterations of the test.
    share: Share,
    /// How many of ours have been started or dropped.
    passed: u64,
    due: Option<Duration>,
    pre_allocated_vus: u64,
    /// The slots below it have been activated.
    taken: u64,
    /// Who has been free for longest comes first.
    free: VecDeque<Slot>,
    /// Whether it has been said that there are not enough VUs.
    said: bool,
}

impl ArrivalRate {
    pub(super) fn new(executor: &Executor, start: Duration, share: &Share) -> Self {
        let (schedule, time_unit, pre_allocated_vus, max_vus) = match executor {
            Executor::ConstantArrivalRate {
                rate,
                time_unit,
                duration,
                pre_allocated_vus,
                max_vus,
            } => {
                let schedule = Schedule::Constant {
                    rate: *rate,
                    time_unit: *time_unit,
                    duration: *duration,
                };
                (schedule, *time_unit, *pre_allocated_vus, *max_vus)
            }
            Executor::RampingArrivalRate {
                start_rate,
                time_unit,
                stages,
                pre_allocated_vus,
                max_vus,
            } => {
                let ramps = Ramps::new(*start_rate, *time_unit, stages);
                let schedule = Schedule::Ramping(ramps);
                (schedule, *time_unit, *pre_allocated_vus, *max_vus)
            }
            _ => unreachable!("only these two have a rate"),
        };
        Self {
            start,
            duration: executor.duration(),
            time_unit,
            schedule,
            // An instance without VUs starts nothing.
            share: share.among(max_vus),
            passed: 0,
            due: None,
            pre_allocated_vus: share.count(pre_allocated_vus),
            taken: 0,
            free: VecDeque::new(),
            said: false,
        }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew) {
        for slot in Crew::slots(self.pre_allocated_vus) {
            crew.activate(slot);
            self.free.push_back(slot);
        }
        self.taken = self.pre_allocated_vus;
        self.look_ahead();
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn step(&mut self, crew: &mut Crew) {
        let Some(intended) = self.due else {
            return;
        };
        if let Some(slot) = self.free.pop_front() {
            crew.start(slot, intended);
        } else if self.taken < crew.len() {
            let slot = Slot(u32::try_from(self.taken).expect("VUs are numbered by 32 bits"));
            self.taken += 1;
            crew.activate_and_start(slot, intended);
        } else {
            crew.drop_one();
            if !std::mem::replace(&mut self.said, true) {
                crew.push(Output::Insufficient {
                    max_vus: crew.len(),
                });
            }
        }
        self.passed += 1;
        self.look_ahead();
    }

    pub(super) fn handle_free(&mut self, crew: &Crew, slot: Slot) {
        if crew.seat(slot) == Seat::Idle {
            self.free.push_back(slot);
        }
    }

    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let per_second = self.schedule.rate(elapsed) / self.time_unit.as_secs_f64();
        let columns = vec![
            vus(crew.active(), crew.len()),
            clock(elapsed, self.duration),
            format!("{:.2} iters/s", per_second * self.share.ratio()),
        ];
        (part(elapsed, self.duration), columns)
    }

    fn look_ahead(&mut self) {
        let number = self.share.nth(self.passed);
        let offset = number.and_then(|number| self.schedule.start_of(number));
        self.due = offset.map(|offset| self.start.saturating_add(offset));
    }
}
