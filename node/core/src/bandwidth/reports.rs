//! What is left where the client gives no transport-wide feedback: its own estimate, and the loss and the
//! round trips of its receiver reports. Coarse, once a second, and rare today.

use std::time::{Duration, Instant};

use super::Bandwidth;
use crate::units::Bitrate;

/// Reports show a rate to fit below this loss, to be too much above that one.
const FINE: f64 = 0.02;
const CONGESTED: f64 = 0.10;
/// … and so do round trips this much longer than the shortest.
const QUEUE: Duration = Duration::from_millis(200);

impl Bandwidth {
    /// The receiver's estimate (REMB). It counts as long as no transport-wide feedback comes: a receiver that
    /// gives both knows less of the path from the one, since it allows only somewhat more than it is sent.
    pub fn handle_remb(&mut self, rate: Bitrate, now: Instant) {
        if self.detailed {
            return;
        }
        let now = self.clock.micros(now);
        self.remote = Some(rate);
        let found = rate > self.control.estimate();
        self.control.proven(rate, now as i64);
        self.probe.evaluate_by_reports(found, now);
        self.update_target(now);
    }

    /// The worst share of packets lost, and the round trip, as receiver reports have it.
    pub fn handle_receiver_report(
        &mut self,
        loss: f32,
        round_trip: Option<Duration>,
        now: Instant,
    ) {
        if let Some(round_trip) = round_trip {
            self.learn_round_trip(round_trip);
        }
        if !self.detailed {
            let now = self.clock.micros(now);
            let queue = self.queue_by_reports(round_trip);
            self.judge_by_reports(loss, queue, now);
        }
    }

    /// Round trips that have grown are the only sign of a queue.
    fn queue_by_reports(&mut self, round_trip: Option<Duration>) -> Duration {
        let Some(sample) = round_trip else {
            return Duration::ZERO;
        };
        let shortest = self.shortest_round_trip.map_or(sample, |s| s.min(sample));
        self.shortest_round_trip = Some(shortest);
        sample - shortest
    }

    fn judge_by_reports(&mut self, loss: f32, queue: Duration, now: u64) {
        self.sent_rate.update(self.sent_bytes, now);
        let time = now as i64;
        let loss = f64::from(loss.clamp(0.0, 1.0));
        let delivered = self.sent_rate.rate.scale(1.0 - loss);
        if loss > CONGESTED || queue > QUEUE {
            self.control.lossy(loss.max(CONGESTED), delivered, time);
            self.stop_probing(now);
        } else if self.remote.is_none() {
            let fine = loss < FINE && queue < QUEUE / 2;
            if fine {
                let round_trip = self.round_trip().as_micros() as i64;
                self.control.grow(delivered, time, round_trip);
            }
            if let Some(rate) = self.probe.evaluate_by_reports(fine, now)
                && rate > self.control.estimate()
            {
                self.control.proven(rate, time);
            }
        }
        self.update_target(now);
    }
}
