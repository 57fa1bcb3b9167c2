//! What the router has to come back to, and what it has to say.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Output, Source, TrackKey};
use crate::wheel::TimerWheel;

/// What a timer is for. What it names may be gone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timer<R> {
    KeyFrame(Source),
    Losses(Source),
    Survey(TrackKey),
    Demand(TrackKey),
    Speakers(R),
}

#[derive(Debug)]
pub(super) struct Agenda<R, P> {
    pub(super) timers: TimerWheel<Timer<R>>,
    pub(super) outputs: VecDeque<Output<R, P>>,
    /// Encodings that newcomers begin with out of the cache.
    pub(super) newcomers: Vec<Source>,
}

impl<R: Copy, P> Agenda<R, P> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            timers: TimerWheel::new(now),
            outputs: VecDeque::new(),
            newcomers: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, at: Instant, timer: Timer<R>) {
        self.timers.set(at, timer);
    }
}

impl<R, P> Agenda<R, P> {
    pub(super) fn say(&mut self, output: Output<R, P>) {
        self.outputs.push_back(output);
    }
}
