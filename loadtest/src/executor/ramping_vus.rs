//! As many VUs as a ramp says, each running iterations one after the other.
//!
//! Those that came last go first. A VU that goes may end its iteration within the graceful period,
//! and stays if it is wanted again meanwhile.

use std::time::Duration;

use super::Slot;
use super::crew::{Crew, Seat};
use super::program::{clock, part, vus};
use super::steps::Steps;
use crate::options::{Stage, total};
use crate::segment::Share;

#[derive(Debug)]
pub(super) struct RampingVus {
    start: Duration,
    duration: Duration,
    graceful_ramp_down: Duration,
    share: Share,
    steps: Steps,
    next_step: Option<(Duration, u64)>,
    /// On this instance: the slots below it are wanted.
    planned: u64,
    start_vus: u64,
}

impl RampingVus {
    pub(super) fn new(
        start_vus: u64,
        stages: &[Stage],
        graceful_ramp_down: Duration,
        start: Duration,
        share: &Share,
    ) -> Self {
        let mut steps = Steps::new(start_vus, stages);
        Self {
            start,
            duration: total(stages),
            graceful_ramp_down,
            share: share.clone(),
            next_step: steps.next(),
            steps,
            planned: 0,
            start_vus,
        }
    }

    pub(super) fn begin(&mut self, crew: &mut Crew, start: Duration) {
        let jumped = self.take_steps(Duration::ZERO);
        let vus = self.share.count(jumped.unwrap_or(self.start_vus));
        self.plan(crew, vus, start);
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.next_step
            .map(|(offset, _)| self.start.saturating_add(offset))
    }

    pub(super) fn step(&mut self, crew: &mut Crew) {
        let Some((offset, _)) = self.next_step else {
            return;
        };
        if let Some(vus) = self.take_steps(offset) {
            let vus = self.share.count(vus);
            self.plan(crew, vus, self.start.saturating_add(offset));
        }
    }

    pub(super) fn handle_end(&mut self, crew: &mut Crew, slot: Slot, now: Duration) {
        let wanted = u64::from(slot.0) < self.planned;
        match (crew.seat(slot), wanted) {
            (Seat::Idle, true) => crew.start(slot, now),
            (Seat::Idle, false) => crew.release(slot),
            // It was interrupted, and the ramp went up again before it ended.
            (Seat::Empty, true) => crew.activate_and_start(slot, now),
            (Seat::Empty, false) | (Seat::Running { .. } | Seat::Interrupted, _) => {}
        }
    }

    pub(super) fn status(&self, crew: &Crew, elapsed: Duration) -> (f64, Vec<String>) {
        let columns = vec![
            vus(crew.active(), crew.len()),
            clock(elapsed, self.duration),
        ];
        (part(elapsed, self.duration), columns)
    }

    /// Takes all steps of that offset; the last counts.
    fn take_steps(&mut self, offset: Duration) -> Option<u64> {
        let mut planned = None;
        while let Some((at, vus)) = self.next_step
            && at <= offset
        {
            planned = Some(vus);
            self.next_step = self.steps.next();
        }
        planned
    }

    fn plan(&mut self, crew: &mut Crew, vus: u64, at: Duration) {
        let before = std::mem::replace(&mut self.planned, vus);
        for slot in Crew::slots(vus).skip(before as usize) {
            match crew.seat(slot) {
                Seat::Empty => crew.activate_and_start(slot, at),
                Seat::Idle => crew.start(slot, at),
                Seat::Running { .. } => crew.limit(slot, None),
                // It comes back when the iteration has ended.
                Seat::Interrupted => {}
            }
        }
        let gone = before.saturating_sub(vus) as usize;
        for slot in Crew::slots(before).rev().take(gone) {
            match crew.seat(slot) {
                Seat::Idle => crew.release(slot),
                Seat::Running { .. } => {
                    let until = at.saturating_add(self.graceful_ramp_down);
                    crew.limit(slot, Some(until));
                }
                Seat::Empty | Seat::Interrupted => {}
            }
        }
    }
}
