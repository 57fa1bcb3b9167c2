//! What the way of a publisher to us can take, for one who has no transport-wide feedback: its packets say
//! when they were sent, and it is told an estimate (REMB).
//!
//! The same judges as for what is sent, fed as packets come: [`delay`](super::delay),
//! [`standing`](super::standing), [`acknowledged`](super::acknowledged), and [`aimd`](super::aimd). There
//! are no probes: unlike a forwarder, an encoder can send a little more and see what happens.
//!
//! Knows no tracks. How a client shares what it is told among its encodings is its own business.

use std::time::Instant;

use super::acknowledged::AcknowledgedRate;
use super::aimd::RateControl;
use super::clock::Clock;
use super::delay::{DelayTrend, Usage};
use super::standing::StandingQueue;
use super::verdict::Judges;
use super::{CLEAR_QUEUE, LONG_QUEUE, Limits, ROUND_TRIP, while_draining};
use crate::units::Bitrate;

/// How far what is told lies above what comes. Encoders stay below what they are told, so less holds them
/// where they are; more lets one that was idle begin with a queue.
const HEADROOM: f64 = 1.5;
/// Nothing is told of what has come for less than this: a rate needs its window.
const LEAST_TIME: i64 = 500_000;
/// It is told anew so often, in microseconds, since messages are lost; and at once if it has fallen below
/// this share of what was told.
const TELL_EVERY: i64 = 250_000;
const FALLEN: f64 = 0.97;
/// More is lost than radio links lose.
const LOSSY: f32 = 0.10;
/// Send times count in this part of a second, and wrap after 64 seconds.
const STAMP_FRACTION: u32 = 18;
const STAMP_BITS: u32 = 24;

/// See the module.
///
/// [`Self::handle_packet`] is on the way of packets: no allocation but the first. Call
/// [`Self::poll_report`] some times a second while packets come.
#[derive(Debug)]
pub struct IncomingBandwidth {
    clock: Clock,
    newest: Option<Newest>,
    delay: DelayTrend,
    arrived: AcknowledgedRate,
    standing: StandingQueue,
    control: RateControl,
    limits: Limits,
    /// When the first packet came.
    since: i64,
    /// How long packets wait on the way, in microseconds.
    queue: i64,
    /// Nothing has shown a limit yet.
    is_guess: bool,
    /// What was told last, and when.
    told: Option<(Bitrate, i64)>,
}

/// The packet that was sent last of those that came.
#[derive(Debug, Clone, Copy)]
struct Newest {
    stamp: u32,
    /// In microseconds, since any time.
    sent: i64,
    arrival: i64,
}

impl IncomingBandwidth {
    pub fn new(limits: Limits, now: Instant) -> Self {
        let control = RateControl::new(limits.start, limits.min, limits.max);
        Self {
            clock: Clock::new(now),
            newest: None,
            delay: DelayTrend::default(),
            arrived: AcknowledgedRate::new(),
            standing: StandingQueue::default(),
            control: control.with_headroom(HEADROOM),
            limits,
            since: 0,
            queue: 0,
            is_guess: true,
            told: None,
        }
    }

    /// A packet came that says when it was sent: in seconds, 6.18 fixed point. `size` is that of the
    /// datagram.
    pub fn handle_packet(&mut self, stamp: [u8; 3], size: u16, now: Instant) {
        let [high, middle, low] = stamp;
        let stamp = u32::from_be_bytes([0, high, middle, low]);
        let arrival = self.clock.micros(now) as i64;
        let sent = match self.newest {
            None => {
                self.since = arrival;
                arrival
            }
            Some(newest) => newest.sent_of(stamp, arrival),
        };
        if self.newest.is_none_or(|newest| newest.sent <= sent) {
            self.newest = Some(Newest {
                stamp,
                sent,
                arrival,
            });
        }
        let waited = self.delay.queue_of(sent, arrival);
        self.arrived.receive(arrival, 1, size.into(), waited);
        self.delay.receive(sent, arrival);
    }

    /// The share of the client's packets that was lost lately. A policer loses without a queue.
    pub fn handle_loss(&mut self, share: f32, now: Instant) {
        if share > LOSSY {
            let now = self.clock.micros(now) as i64;
            self.control
                .lossy(f64::from(share), self.arrived.rate(), now);
            self.is_guess = false;
        }
    }

    /// What the client is to be told now, if anything.
    pub fn poll_report(&mut self, now: Instant) -> Option<Bitrate> {
        let newest = self.newest?;
        let now = self.clock.micros(now) as i64;
        if now - self.since < LEAST_TIME {
            return None;
        }
        self.judge(newest.sent, now);
        let estimate = self.control.estimate();
        let rate = estimate.scale(while_draining(self.queue));
        let rate = rate.max(self.limits.min);
        let is_due =
            |(told, at): (Bitrate, i64)| rate < told.scale(FALLEN) || now - at >= TELL_EVERY;
        let due = self.told.is_none_or(is_due);
        due.then(|| {
            self.told = Some((rate, now));
            rate
        })
    }

    fn judge(&mut self, sent: i64, now: i64) {
        const ROUND_TRIP_MICROS: i64 = ROUND_TRIP.as_micros() as i64;
        self.queue = self.delay.queue();
        let delivered = self.arrived.rate();
        let judges = Judges {
            delay: &mut self.delay,
            delivered: &self.arrived,
            standing: &mut self.standing,
            control: &mut self.control,
        };
        let stands = judges.stands(&mut self.queue, sent, now);
        let usage = self.delay.usage();
        let is_long = self.queue >= LONG_QUEUE && usage != Usage::Under;
        let grows = self.queue >= CLEAR_QUEUE && usage == Usage::Over;
        if is_long || grows || stands {
            // A way that is full delivers evenly, so the last moments show what it carries.
            let delivered = if is_long {
                self.arrived.full_rate()
            } else {
                self.arrived.recent_rate().max(delivered)
            };
            self.control.congested(delivered, now, ROUND_TRIP_MICROS);
            self.is_guess = false;
        } else if self.queue >= CLEAR_QUEUE || usage != Usage::Normal {
            self.control.hold(now);
        } else if self.is_guess {
            let allowed = delivered.scale(HEADROOM);
            if allowed > self.control.estimate() {
                self.control.proven(allowed, now);
            }
        } else {
            self.control.grow(delivered, now, ROUND_TRIP_MICROS);
        }
    }
}

impl Newest {
    /// When a packet was sent, of all times that its stamp may mean the one that its arrival makes
    /// likely: a client that was silent for long goes on, too.
    fn sent_of(&self, stamp: u32, arrival: i64) -> i64 {
        const SECOND: i64 = 1_000_000;
        const UNUSED: u32 = 32 - STAMP_BITS;
        let elapsed = ((arrival - self.arrival) << STAMP_FRACTION) / SECOND;
        let off = stamp.wrapping_sub(self.stamp).wrapping_sub(elapsed as u32);
        let off = i64::from((off << UNUSED) as i32 >> UNUSED);
        self.sent + (((elapsed + off) * SECOND) >> STAMP_FRACTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_wrap_and_long_silences_are_passed_over() {
        const SECOND: i64 = 1_000_000;
        let ticks = |micros: i64| ((micros << STAMP_FRACTION) / SECOND) as u32 & 0x00FF_FFFF;
        let first = 63 * SECOND;
        let mut newest = Newest {
            stamp: ticks(first),
            sent: first,
            arrival: 0,
        };
        // (sent, arrival) since the first one.
        for (sent, arrival) in [
            (20_000, 20_500),
            (2 * SECOND, 2 * SECOND + 300_000),
            (50 * SECOND, 50 * SECOND),
            (49 * SECOND, 50 * SECOND + 1),
            (180 * SECOND, 181 * SECOND),
            (86_400 * SECOND, 86_400 * SECOND),
        ] {
            let stamp = ticks(first + sent);
            let found = newest.sent_of(stamp, arrival);
            assert!((found - first - sent).abs() < 10, "{sent}: {found}");
            if found > newest.sent {
                newest = Newest {
                    stamp,
                    sent: found,
                    arrival,
                };
            }
        }
    }
}
