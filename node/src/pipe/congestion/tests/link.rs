//! One direction of a path: takes time, has a narrow place with a queue before it, loses and reorders.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Around the UDP payload.
const HEADERS: usize = 28;

pub(super) struct Link {
    pub(super) delay: Duration,
    /// Bits per second.
    pub(super) rate: u64,
    queue: Duration,
    pub(super) loss: f64,
    /// The longest UDP payload that gets through.
    pub(super) mtu: usize,
    jitter: Duration,
    rng: StdRng,
    /// When the narrow place has passed on what it holds.
    free_at: Option<Instant>,
    pub(super) overflowed: u64,
    pub(super) lost: u64,
}

impl Link {
    pub(super) fn new(seed: u64, delay: Duration, rate: u64, queue: Duration) -> Self {
        Self {
            delay,
            rate,
            queue,
            loss: 0.0,
            mtu: usize::MAX,
            jitter: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            free_at: None,
            overflowed: 0,
            lost: 0,
        }
    }

    pub(super) fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// Of each packet for itself, so that they overtake each other.
    pub(super) fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// When it arrives, if it does.
    pub(super) fn carry(&mut self, size: usize, now: Instant) -> Option<Instant> {
        if size > self.mtu {
            self.lost += 1;
            return None;
        }
        let begins = self.free_at.map_or(now, |at| at.max(now));
        if begins - now > self.queue {
            self.overflowed += 1;
            return None;
        }
        let bits = 8 * (size + HEADERS) as u64;
        let leaves = begins + Duration::from_nanos(bits * 1_000_000_000 / self.rate);
        self.free_at = Some(leaves);
        if self.loss > 0.0 && self.rng.random_bool(self.loss) {
            self.lost += 1;
            return None;
        }
        let jitter = self.jitter.mul_f64(self.rng.random::<f64>());
        Some(leaves + self.delay + jitter)
    }
}
