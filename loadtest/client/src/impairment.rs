//! A bad network between a participant and its server: one direction of it, in user space, so that
//! nothing of the machine has to be changed.
//!
//! Pure and in virtual time: what becomes of a packet follows from the profile, the seed, the time
//! and the packets before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One direction. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Profile {
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Mean length of a burst of losses, in packets; up to 1 each is lost independently.
    pub burst: f64,
    pub delay: Duration,
    /// Up to so much is added to each delay; order is kept.
    pub jitter: Duration,
    /// Share of packets that are held back by `reorder_by` and so are overtaken.
    pub reorder: f64,
    pub reorder_by: Duration,
    /// Share of packets that come twice.
    pub duplicate: f64,
    /// None: no limit.
    pub bandwidth: Option<Bandwidth>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandwidth {
    pub kbps: u32,
    /// How long a packet may wait in the queue before the limit; what comes later is dropped.
    pub queue: Duration,
}

/// Both directions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Network {
    pub up: Profile,
    pub down: Profile,
}

impl Network {
    /// The same in both directions.
    #[must_use]
    pub fn symmetric(profile: Profile) -> Self {
        Self {
            up: profile,
            down: profile,
        }
    }
}

/// Packets in flight. More are dropped: a profile that holds so many back has no real network.
const MAX_IN_FLIGHT: usize = 16_384;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    pub lost: u64,
    /// At the bandwidth limit, or because too much was in flight.
    pub dropped: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

#[derive(Debug)]
pub(super) struct Impairment<P> {
    profile: Profile,
    rng: StdRng,
    /// Nothing passes before.
    cut_until: Option<Instant>,
    /// In a burst of losses.
    losing: bool,
    /// When the bandwidth limit has sent everything before.
    free_at: Option<Instant>,
    /// Packets that are not reordered do not overtake.
    last_arrival: Option<Instant>,
    in_flight: BTreeMap<(Instant, u64), P>,
    serial: u64,
    counts: Counts,
}

impl<P: Clone> Impairment<P> {
    pub(super) fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            rng: StdRng::seed_from_u64(seed),
            cut_until: None,
            losing: false,
            free_at: None,
            last_arrival: None,
            in_flight: BTreeMap::new(),
            serial: 0,
            counts: Counts::default(),
        }
    }

    /// From now on.
    pub(super) fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    pub(super) fn cut(&mut self, until: Instant) {
        self.cut_until = Some(until);
    }

    /// Nothing is in flight any more.
    pub(super) fn clear(&mut self) {
        self.in_flight.clear();
        (self.free_at, self.last_arrival) = (None, None);
    }

    /// Packets pass at once and unchanged, and none is in flight.
    pub(super) fn is_transparent(&self, now: Instant) -> bool {
        let cut = self.cut_until.is_some_and(|until| now < until);
        self.profile == Profile::default() && !cut && self.in_flight.is_empty()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// A packet of `len` bytes sets out.
    pub(super) fn push(&mut self, packet: P, len: usize, now: Instant) {
        self.counts.packets += 1;
        if self.cut_until.is_some_and(|until| now < until) || self.loses() {
            self.counts.lost += 1;
            return;
        }
        let Some(departure) = self.departure(len, now) else {
            self.counts.dropped += 1;
            return;
        };
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            self.counts.dropped += 1;
            return;
        }
        let jitter = self
            .profile
            .jitter
            .mul_f64(self.rng.random_range(0.0..=1.0));
        let mut arrival = departure + self.profile.delay + jitter;
        if self.rng.random_bool(share(self.profile.reorder)) {
            self.counts.reordered += 1;
            arrival += self.profile.reorder_by;
        } else {
            arrival = self.last_arrival.map_or(arrival, |last| arrival.max(last));
            self.last_arrival = Some(arrival);
        }
        if self.rng.random_bool(share(self.profile.duplicate)) {
            self.counts.duplicated += 1;
            self.launch(packet.clone(), arrival);
        }
        self.launch(packet, arrival);
    }

    /// The next packet that has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<P> {
        let entry = self.in_flight.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    fn launch(&mut self, packet: P, arrival: Instant) {
        self.serial += 1;
        self.in_flight.insert((arrival, self.serial), packet);
    }

    /// A two-state chain (Gilbert): losses come in bursts whose mean length and share are given.
    fn loses(&mut self) -> bool {
        let loss = share(self.profile.loss);
        let burst = self.profile.burst;
        if burst <= 1.0 || loss >= 1.0 {
            return self.rng.random_bool(loss);
        }
        let stay = 1.0 - 1.0 / burst;
        let enter = share(loss / (1.0 - loss) / burst);
        self.losing = self.rng.random_bool(if self.losing { stay } else { enter });
        self.losing
    }

    /// When a packet has passed the bandwidth limit. None: the queue is full.
    fn departure(&mut self, len: usize, now: Instant) -> Option<Instant> {
        let Some(Bandwidth { kbps, queue }) = self.profile.bandwidth else {
            return Some(now);
        };
        let begins = self.free_at.map_or(now, |free| free.max(now));
        if begins.saturating_duration_since(now) > queue {
            return None;
        }
        let bits_per_second = f64::from(kbps.max(1)) * 1_000.0;
        let ends = begins + Duration::from_secs_f64(len as f64 * 8.0 / bits_per_second);
        self.free_at = Some(ends);
        Some(ends)
    }
}

fn share(value: f64) -> f64 {
    value.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
