//! The core's rule for how much may be on its way, as a congestion controller of a QUIC connection.
//!
//! What it finds is published where the connection's owner can read it: QUIC itself tells nobody.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pipemesh_node_core::pipe::congestion::{Congestion, Limits};
use pipemesh_node_core::units::Bitrate;
use quinn::congestion::{Controller, ControllerFactory};

#[cfg(test)]
mod tests;

/// No rate is known.
const UNKNOWN: u64 = 0;
const MILLION: f64 = 1e6;

/// What the controller of one connection has found; each value by itself.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Bits per second.
    rate: AtomicU64,
    /// Parts of a million.
    loss: AtomicU32,
    /// Microseconds.
    queue: AtomicU64,
    window: AtomicU64,
}

impl Published {
    /// What the path carries. `None`: nothing is known of it yet.
    pub(super) fn rate(&self) -> Option<Bitrate> {
        match self.rate.load(Ordering::Relaxed) {
            UNKNOWN => None,
            rate => Some(Bitrate::from_bps(rate)),
        }
    }

    /// The part of what is sent that is lost.
    pub(super) fn loss(&self) -> f64 {
        f64::from(self.loss.load(Ordering::Relaxed)) / MILLION
    }

    /// How long packets wait on the path.
    pub(super) fn queue(&self) -> Duration {
        Duration::from_micros(self.queue.load(Ordering::Relaxed))
    }

    /// Bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, rule: &Congestion) {
        let rate = rule.rate().map_or(UNKNOWN, Bitrate::as_bps);
        self.rate.store(rate, Ordering::Relaxed);
        let loss = (rule.loss() * MILLION) as u32;
        self.loss.store(loss, Ordering::Relaxed);
        let queue = u64::try_from(rule.queue().as_micros()).unwrap_or(u64::MAX);
        self.queue.store(queue, Ordering::Relaxed);
        self.window.store(rule.window(), Ordering::Relaxed);
    }
}

/// Makes the controllers of one connection: of its path, and of those that it migrates to.
#[derive(Debug)]
pub(super) struct MediaCongestion {
    limits: Limits,
    published: Arc<Published>,
}

impl MediaCongestion {
    pub(super) fn new(limits: Limits) -> (Self, Arc<Published>) {
        let published = Arc::new(Published::default());
        let congestion = Self {
            limits,
            published: published.clone(),
        };
        (congestion, published)
    }
}

impl ControllerFactory for MediaCongestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(MediaController {
            rule: Congestion::new(self.limits, current_mtu, now),
            initial: self.limits.initial,
            published: self.published.clone(),
        })
    }
}

#[derive(Clone)]
struct MediaController {
    rule: Congestion,
    initial: u64,
    published: Arc<Published>,
}

impl Controller for MediaController {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        self.rule.on_sent(now);
    }

    /// QUIC's own estimate of the round trip is left aside: it begins with a guess, and its least is that
    /// of the connection's life.
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &quinn_proto::RttEstimator,
    ) {
        self.rule.on_ack(sent, bytes, app_limited, now);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        _in_flight: u64,
        _app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.rule.on_acks_end(now);
        self.published.set(&self.rule);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.rule
            .on_loss(sent, lost_bytes, is_persistent_congestion, now);
        self.published.set(&self.rule);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.rule.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.rule.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
