//! The VUs of one scenario: who is active, who runs an iteration, who has to end by when.
//!
//! Knows nothing about when they should.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Output, Slot};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// Its VU is in the pool.
    Empty,
    /// Active, between iterations.
    Idle,
    Running {
        /// The iteration is interrupted then.
        deadline: Option<Duration>,
    },
    /// Interrupted, and not yet ended.
    Interrupted,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) started: u64,
    pub(super) complete: u64,
    pub(super) interrupted: u64,
    pub(super) dropped: u64,
}

#[derive(Debug)]
pub(super) struct Crew {
    seats: Vec<Seat>,
    /// Of running seats.
    deadlines: BTreeSet<(Duration, Slot)>,
    active: u64,
    running: u64,
    counts: Counts,
    outputs: VecDeque<Output>,
}

impl Crew {
    pub(super) fn new(seats: u64) -> Self {
        let seats = usize::try_from(seats).expect("VUs are numbered by 32 bits");
        Self {
            seats: vec![Seat::Empty; seats],
            deadlines: BTreeSet::new(),
            active: 0,
            running: 0,
            counts: Counts::default(),
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.seats.len() as u64
    }

    /// The first `count` of them.
    pub(super) fn slots(count: u64) -> impl DoubleEndedIterator<Item = Slot> {
        let count = u32::try_from(count).expect("VUs are numbered by 32 bits");
        (0..count).map(Slot)
    }

    pub(super) fn seat(&self, slot: Slot) -> Seat {
        self.seats[slot.0 as usize]
    }

    pub(super) fn active(&self) -> u64 {
        self.active
    }

    /// Iterations that have not been told to end.
    pub(super) fn running(&self) -> u64 {
        self.running
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn activate(&mut self, slot: Slot) {
        debug_assert_eq!(self.seat(slot), Seat::Empty);
        self.seats[slot.0 as usize] = Seat::Idle;
        self.active += 1;
        self.push(Output::Activate(slot));
    }

    pub(super) fn start(&mut self, slot: Slot, intended: Duration) {
        debug_assert_eq!(self.seat(slot), Seat::Idle);
        self.seats[slot.0 as usize] = Seat::Running { deadline: None };
        self.running += 1;
        let iteration = self.counts.started;
        self.counts.started += 1;
        self.push(Output::Start {
            slot,
            iteration,
            intended,
        });
    }

    pub(super) fn activate_and_start(&mut self, slot: Slot, intended: Duration) {
        self.activate(slot);
        self.start(slot, intended);
    }

    pub(super) fn release(&mut self, slot: Slot) {
        debug_assert_eq!(self.seat(slot), Seat::Idle);
        self.seats[slot.0 as usize] = Seat::Empty;
        self.active -= 1;
        self.push(Output::Release(slot));
    }

    pub(super) fn release_idle(&mut self) {
        for slot in Self::slots(self.len()) {
            if self.seat(slot) == Seat::Idle {
                self.release(slot);
            }
        }
    }

    /// Until when a running iteration may go on; none takes back what was said before.
    pub(super) fn limit(&mut self, slot: Slot, to: Option<Duration>) {
        if let Seat::Running { deadline } = &mut self.seats[slot.0 as usize] {
            if let Some(at) = deadline.take() {
                self.deadlines.remove(&(at, slot));
            }
            *deadline = to;
            self.deadlines.extend(to.map(|at| (at, slot)));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn interrupt_due(&mut self, now: Duration) {
        while let Some((at, slot)) = self.deadlines.first().copied()
            && at <= now
        {
            self.interrupt(slot);
        }
    }

    pub(super) fn interrupt_all(&mut self) {
        for slot in Self::slots(self.len()) {
            if matches!(self.seat(slot), Seat::Running { .. }) {
                self.interrupt(slot);
            }
        }
    }

    fn interrupt(&mut self, slot: Slot) {
        self.limit(slot, None);
        self.seats[slot.0 as usize] = Seat::Interrupted;
        self.running -= 1;
        self.push(Output::Interrupt(slot));
    }

    /// An iteration has ended. A VU that was interrupted goes back to the pool. False if there was
    /// no iteration.
    pub(super) fn handle_end(&mut self, slot: Slot, interrupted: bool) -> bool {
        let seat = self.seats.get(slot.0 as usize).copied();
        match seat {
            None | Some(Seat::Empty | Seat::Idle) => return false,
            Some(Seat::Running { .. }) => {
                self.limit(slot, None);
                self.running -= 1;
                self.seats[slot.0 as usize] = Seat::Idle;
            }
            Some(Seat::Interrupted) => {
                self.seats[slot.0 as usize] = Seat::Idle;
                self.release(slot);
            }
        }
        match interrupted {
            true => self.counts.interrupted += 1,
            false => self.counts.complete += 1,
        }
        true
    }

    pub(super) fn drop_one(&mut self) {
        self.counts.dropped += 1;
        match self.outputs.back_mut() {
            Some(Output::Dropped { count }) => *count += 1,
            _ => self.push(Output::Dropped { count: 1 }),
        }
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
