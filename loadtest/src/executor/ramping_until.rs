//! More VUs step by step, until the load is too much: how many users can the server take?
//!
//! Each level is held for the same time and judged by whoever measures.

use std::time::Duration;

use super::Output;
use super::crew::Crew;
use super::program::{clock, part, vus};
use crate::segment::Share;

#[derive(Debug)]
pub(super) struct RampingUntil {
    step: u64,
    step_duration: Duration,
    max_vus: u64,
    until: Vec<String>,
    share: Share,
    /// VUs in the whole test.
    level: u64,
    /// The last that passed.
    passed: Option<u64>,
    /// When the level is judged; none while the verdict is awaited.
    due: Option<Duration>,
    /// If it goes up to the last level.
    total: Duration,
}

impl RampingUntil {
    pub(super) fn new(
        start_vus: u64,
        step: u64,
        step_duration: Duration,
        max_vus: u64,
        until: Vec<String>,
        total: Duration,
        share: &Share,
    ) -> Self {
        Self {
            step,
            step_duration,
            max_vus,
            until,
            share: share.clone(),
            level: start_vus,
            passed: None,
            due: None,
            total,
        }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        self.hold(crew, 0, start);
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn step(&mut self, crew: &mut Crew) {
        if self.due.take().is_some() {
            crew.push(Output::Judge {
                level: self.level,
                until: self.until.clone(),
            });
        }
    }

    /// True if there is no next level.
    pub(super) fn handle_verdict(&mut self, crew: &mut Crew, passed: bool, now: Duration) -> bool {
        if self.due.is_some() {
            // Nothing was asked.
            return false;
        }
        if !passed {
            return true;
        }
        let before = self.share.count(self.level);
        self.passed = Some(self.level);
        if self.level >= self.max_vus {
            return true;
        }
        self.level = self.level.saturating_add(self.step).min(self.max_vus);
        // From the verdict: a level is held for its whole time, however long that took.
        self.hold(crew, before, now);
        false
    }

    pub(super) fn close(&mut self, crew: &mut Crew) {
        self.due = None;
        crew.push(Output::Capacity { level: self.passed });
    }

    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let columns = vec![
            vus(crew.active(), crew.len()),
            clock(elapsed, self.total),
            format!("level {} of {}", self.level, self.max_vus),
        ];
        (part(elapsed, self.total), columns)
    }

    fn hold(&mut self, crew: &mut Crew, before: u64, from: Duration) {
        let vus = self.share.count(self.level);
        for slot in Crew::slots(vus).skip(before as usize) {
            crew.activate_and_start(slot, from);
        }
        self.due = Some(from.saturating_add(self.step_duration));
    }
}
