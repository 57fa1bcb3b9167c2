//! What is made of feedback once it has been read: whether the path is full, and what follows for the
//! estimate.
//!
//! Knows no messages and no time but those of the packets that arrived.

use std::time::Duration;

use super::acknowledged::AcknowledgedRate;
use super::aimd::RateControl;
use super::delay::{DelayTrend, Usage};
use super::loss::Verdict;
use super::standing::{Sight, Standing, StandingQueue};
use super::{Bandwidth, CLEAR_QUEUE, LONG_QUEUE};
use crate::units::DataSize;

/// Packets that overtake each other do so within this; what is missing longer is lost. In microseconds.
const REORDERING: i64 = 60_000;
/// A share sent of the estimate below which the estimate is not what limits.
const LIMITING: f64 = 0.65;
/// No queue to speak of: this long, in microseconds, or as long as a few packets take. Less may be jitter
/// or the tail of a frame; more lets every congestion grow that far.
const SMALL_QUEUE: i64 = 15_000;
const SMALL_QUEUE_SIZE: DataSize = DataSize::from_bytes(3_000);
/// A short queue has to be seen to grow for this long: another's probe or key frame passes sooner.
const GROWING_FOR: i64 = 80_000;
/// A shorter one counts as long if so much lies behind it that it will take as long as this to leave. That
/// is seen a feedback earlier, and a path that falls to a tenth overflows in that time.
const SUDDEN_QUEUE: i64 = 50_000;
const SUDDEN_BACKLOG: Duration = Duration::from_millis(200);
/// Longer queues are not waited for: it may be the receiver's clock that has jumped.
const LONGEST_PAUSE: i64 = 500_000;
/// Loss beyond the usual at which nothing grows.
const NO_GROWTH: f64 = 0.02;

/// Who together tell whether a queue stands, of what is sent as of what comes.
pub(super) struct Judges<'a> {
    pub(super) delay: &'a mut DelayTrend,
    pub(super) delivered: &'a AcknowledgedRate,
    pub(super) standing: &'a mut StandingQueue,
    pub(super) control: &'a mut RateControl,
}

impl Judges<'_> {
    /// Whether a queue stands. What is not ours is no queue from then on, and what followed from it is
    /// undone. `sent` is when the newest packet was sent that arrived.
    pub(super) fn stands(self, queue: &mut i64, sent: i64, now: i64) -> bool {
        let sight = Sight {
            sent,
            queue: *queue,
            delivered: self.delivered.total(),
            rate: self.delivered.rate().as_bps(),
            estimate: self.control.estimate().as_bps(),
        };
        match self.standing.look(sight) {
            Standing::No => false,
            Standing::Queue => self.delay.usage() != Usage::Under,
            Standing::Elsewhere(estimate) => {
                self.delay.rebase();
                *queue = 0;
                self.control.restore(estimate as f64, now);
                false
            }
        }
    }
}

impl Bandwidth {
    /// The path as feedback shows it, and what follows for the estimate.
    pub(super) fn judge(&mut self, reached: u64, waited: i64, now: u64) {
        let time = now as i64;
        self.sent_rate.update(self.sent_bytes, now);
        self.judge_loss(now);
        let round_trip = self.round_trip().as_micros() as i64;
        self.queue = self.delay.queue().max(waited);
        let judges = Judges {
            delay: &mut self.delay,
            delivered: &self.acknowledged,
            standing: &mut self.standing,
            control: &mut self.control,
        };
        let stands = judges.stands(&mut self.queue, self.newest, time);
        let delivered = self.acknowledged.rate();
        if self.is_congested(stands) {
            // A path that is full delivers evenly, so the last moments show what it carries.
            let delivered = if self.is_stuck() {
                self.acknowledged.full_rate()
            } else {
                self.acknowledged.recent_rate().max(delivered)
            };
            if self.control.congested(delivered, time, round_trip) {
                self.stop_probing(now);
                if self.is_stuck() {
                    // The queue may be about to overflow, and what it loses comes a queue's time later, and
                    // again as much. Nothing is lost by waiting for it to be half as long.
                    let pause = self.queue.clamp(0, LONGEST_PAUSE) / 2;
                    self.pacer.hold(now + pause as u64);
                }
            }
        } else if self.delay.usage() == Usage::Normal
            && self.queue < CLEAR_QUEUE
            && self.loss.share() - self.loss.usual() < NO_GROWTH
        {
            self.control.grow(delivered, time, round_trip);
        } else {
            self.control.hold(time);
        }
        let estimate = self.control.estimate();
        if let Some(outcome) = self.probe.evaluate(reached, estimate, now) {
            let too_high = outcome.saturated && outcome.rate < estimate.scale(LIMITING);
            if outcome.rate > estimate || too_high {
                self.control.proven(outcome.rate, time);
            }
        }
        self.update_target(now);
    }

    fn judge_loss(&mut self, now: u64) {
        let until = self.newest - REORDERING;
        let judgement = self.history.judge(until, now);
        // What was sent before the last decrease does not show its effect.
        if self.control.decreased().is_some_and(|at| until < at) {
            return;
        }
        let delivered = self.acknowledged.rate();
        let verdict = self
            .loss
            .judge(judgement.received, judgement.lost, now as i64);
        if verdict == Verdict::Congested {
            self.control.lossy(self.loss.share(), delivered, now as i64);
            self.stop_probing(now);
        }
    }

    pub(super) fn stop_probing(&mut self, now: u64) {
        self.probe.cancel(now);
        self.probe_id = 0;
    }

    fn is_congested(&mut self, stands: bool) -> bool {
        let usage = self.delay.usage();
        if self.is_stuck() && usage != Usage::Under {
            return true;
        }
        if self.probe.disturbs(self.newest) {
            return false;
        }
        let estimate = self.control.estimate();
        let few_packets = SMALL_QUEUE_SIZE.at(estimate).as_micros() as i64;
        let small = if self.sent_rate.rate >= estimate.scale(LIMITING) {
            SMALL_QUEUE
        } else {
            CLEAR_QUEUE
        };
        if usage != Usage::Over || self.queue < small.max(few_packets) {
            self.growing_since = None;
            return stands;
        }
        let since = *self.growing_since.get_or_insert(self.newest);
        stands || self.newest - since >= GROWING_FOR
    }

    /// There is a queue that no trend has to be waited for to see.
    fn is_stuck(&self) -> bool {
        let sudden = self.queue >= SUDDEN_QUEUE && self.backlog >= SUDDEN_BACKLOG;
        self.queue >= LONG_QUEUE || sudden
    }
}
