//! When which VU of a scenario starts an iteration, and when it is interrupted.
//!
//! Reads no clock and runs nothing: whoever does calls `handle_*` with the time since the test
//! began, drains `poll_output` after each call, and calls `handle_timeout` no later than
//! `poll_timeout`. What was due before a late call is done in the order in which it was due.

mod arrival_rate;
mod constant_vus;
mod crew;
mod description;
mod per_vu_iterations;
mod program;
mod ramping_until;
mod ramping_vus;
mod requirements;
mod schedule;
mod shared_iterations;
mod steps;

use std::time::Duration;

pub use description::description;
pub use requirements::Requirements;

use crate::options::{Scenario, duration};
use crate::segment::Share;
use crew::{Crew, Seat};
use program::Program;

/// A VU of one scenario on this instance, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The VU is taken from the pool.
    Activate(Slot),
    Start {
        slot: Slot,
        /// The iteration's number in the scenario on this instance, from 0.
        iteration: u64,
        /// When it should have started. It may have come to this later.
        intended: Duration,
    },
    /// The iteration is over time. It ends like any other, by `handle_iteration_end`.
    Interrupt(Slot),
    /// The VU goes back to the pool.
    Release(Slot),
    /// Iterations were due and no VU was free.
    Dropped { count: u64 },
    /// There are as many VUs as there may be, and that was not enough. Said once.
    Insufficient { max_vus: u64 },
    /// A level has been held for its time: `handle_verdict` has to say how it went.
    Judge { level: u64, until: Vec<String> },
    /// The last level at which all was well, if there was one.
    Capacity { level: Option<u64> },
    /// Nothing comes after this.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For its start time.
    Waiting,
    Running,
    /// No more iterations start, some go on.
    Stopping,
    /// Over, and not as planned: it was stopped, or iterations took too long at the end.
    Interrupted,
    Done,
}

/// How a scenario is doing, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub phase: Phase,
    pub active_vus: u64,
    /// The most that may be active at once.
    pub max_vus: u64,
    /// Iterations that ended by themselves.
    pub complete: u64,
    pub interrupted: u64,
    pub dropped: u64,
    /// From 0 to 1.
    pub progress: f64,
    /// What stands beside the bar, in columns.
    pub columns: Vec<String>,
}

/// Where in its life a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Waiting,
    Running,
    /// Iterations may go on until then.
    Stopping {
        until: Duration,
    },
    /// All that still run were interrupted.
    Interrupting,
    Done,
}

/// One scenario being run.
#[derive(Debug)]
pub struct Runner {
    start: Duration,
    graceful_stop: Duration,
    /// When it starts no more iterations; nobody knows it beforehand if the load decides.
    end: Option<Duration>,
    course: Course,
    /// Whether it ended otherwise than planned.
    cut_short: bool,
    crew: Crew,
    program: Program,
    /// Which of the test's iterations are ours.
    share: Share,
}

impl Runner {
    /// The part of a scenario that belongs to an instance.
    #[must_use]
    pub fn new(scenario: &Scenario, share: &Share) -> Self {
        let max_vus = scenario.executor.max_vus();
        let start = scenario.start_time;
        let program = Program::new(&scenario.executor, start, share);
        Self {
            start,
            graceful_stop: scenario.graceful_stop,
            end: program
                .has_end()
                .then(|| start.saturating_add(scenario.executor.duration())),
            course: Course::Waiting,
            cut_short: false,
            crew: Crew::new(share.count(max_vus)),
            program,
            share: share.among(max_vus),
        }
    }

    /// `interrupted` says whether it was cut off, by an `Interrupt` or otherwise.
    pub fn handle_iteration_end(&mut self, slot: Slot, interrupted: bool, now: Duration) {
        if !self.crew.handle_end(slot, interrupted) {
            return;
        }
        self.program.handle_free(&self.crew, slot);
        self.advance(now);
        match self.course {
            Course::Running => self.program.handle_end(&mut self.crew, slot, now),
            _ if self.crew.seat(slot) == Seat::Idle => self.crew.release(slot),
            _ => {}
        }
        self.advance(now);
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        self.advance(now);
    }

    /// The answer to `Judge`: whether all was well with the level.
    pub fn handle_verdict(&mut self, passed: bool, now: Duration) {
        self.advance(now);
        if self.course == Course::Running
            && let Program::RampingUntil(program) = &mut self.program
            && program.handle_verdict(&mut self.crew, passed, now)
        {
            self.close(now);
            self.advance(now);
        }
    }

    /// No more iterations from now on; those that run may go on for the graceful period.
    pub fn stop(&mut self, now: Duration) {
        self.advance(now);
        match self.course {
            Course::Waiting => {
                self.cut_short = true;
                self.finish();
            }
            Course::Running => {
                self.cut_short = true;
                self.close(now);
                self.advance(now);
            }
            Course::Stopping { .. } | Course::Interrupting | Course::Done => {}
        }
    }

    /// As `stop`, but iterations that run are interrupted at once.
    pub fn interrupt(&mut self, now: Duration) {
        self.stop(now);
        if let Course::Stopping { until } = &mut self.course {
            self.cut_short = true;
            *until = now;
        }
        self.advance(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.crew.poll_output()
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadline = self.crew.next_deadline();
        match self.course {
            Course::Waiting => Some(self.start),
            Course::Running => [self.program.due(), deadline, self.end]
                .into_iter()
                .flatten()
                .min(),
            Course::Stopping { until } => Some(deadline.map_or(until, |at| at.min(until))),
            Course::Interrupting | Course::Done => None,
        }
    }

    /// The number in the whole test of an iteration of this instance.
    #[must_use]
    pub fn iteration_in_test(&self, iteration: u64) -> u64 {
        self.share.nth(iteration).unwrap_or(iteration)
    }

    #[must_use]
    pub fn status(&self, now: Duration) -> Status {
        let elapsed = now.saturating_sub(self.start);
        let (progress, columns) = match self.course {
            Course::Waiting => {
                let left = self.start.saturating_sub(now);
                let left = duration::format_fixed(left, self.start);
                (0.0, vec!["waiting".to_owned(), left])
            }
            Course::Running => self.program.status(&self.crew, elapsed),
            Course::Stopping { .. } | Course::Interrupting | Course::Done => {
                let end = self.end.unwrap_or(now).saturating_sub(self.start);
                self.program.status(&self.crew, end.min(elapsed))
            }
        };
        let counts = self.crew.counts();
        Status {
            phase: match self.course {
                Course::Waiting => Phase::Waiting,
                Course::Running => Phase::Running,
                Course::Stopping { .. } | Course::Interrupting => Phase::Stopping,
                Course::Done if self.cut_short => Phase::Interrupted,
                Course::Done => Phase::Done,
            },
            active_vus: self.crew.active(),
            max_vus: self.crew.len(),
            complete: counts.complete,
            interrupted: counts.interrupted,
            dropped: counts.dropped,
            progress: match self.course {
                Course::Done if !self.cut_short => 1.0,
                _ => progress.clamp(0.0, 1.0),
            },
            columns,
        }
    }

    /// Does all that is due.
    fn advance(&mut self, now: Duration) {
        if self.course == Course::Waiting && self.start <= now {
            self.course = Course::Running;
            self.program.begin(&mut self.crew, self.start);
        }
        if self.course == Course::Running {
            self.run_until(self.end.map_or(now, |end| end.min(now)));
            match self.end {
                _ if self.program.is_exhausted(&self.crew) => self.finish(),
                Some(end) if end <= now => self.close(end),
                _ => {}
            }
        }
        if let Course::Stopping { until } = self.course {
            self.crew.interrupt_due(now.min(until));
            if until <= now {
                self.cut_short |= self.crew.running() > 0;
                self.crew.interrupt_all();
                self.course = Course::Interrupting;
            }
        }
        if matches!(self.course, Course::Stopping { .. } | Course::Interrupting)
            && self.crew.active() == 0
        {
            self.finish();
        }
    }

    fn run_until(&mut self, until: Duration) {
        loop {
            let due = self.program.due().filter(|due| *due <= until);
            let deadline = self.crew.next_deadline().filter(|at| *at <= until);
            match (due, deadline) {
                // A ramp that goes up again at the very moment saves the VU.
                (Some(due), deadline) if deadline.is_none_or(|deadline| due <= deadline) => {
                    self.program.step(&mut self.crew);
                }
                (_, Some(deadline)) => self.crew.interrupt_due(deadline),
                _ => return,
            }
        }
    }

    fn close(&mut self, end: Duration) {
        self.end = Some(end);
        self.course = Course::Stopping {
            until: end.saturating_add(self.graceful_stop),
        };
        self.program.close(&mut self.crew);
        self.crew.release_idle();
    }

    fn finish(&mut self) {
        self.course = Course::Done;
        self.crew.push(Output::Done);
    }
}

#[cfg(test)]
mod tests;
