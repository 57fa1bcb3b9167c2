//! What lies between nodes: it takes time, loses, reorders, has narrow places that all pipes between two regions
//! share, carries packets up to a length, and is cut at times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Around the UDP payload.
const HEADERS: usize = 28;
/// What a narrow place holds before it drops.
const QUEUE: Duration = Duration::from_millis(120);
/// UDP payload that Ethernet carries over IPv6.
pub(super) const ETHERNET: usize = 1452;
/// Between nodes of one region.
const NEAR: Duration = Duration::from_micros(600);
/// Everything happens at whole ones of these.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// … and what nothing has come for, at whole ones of these.
pub(super) const TURN: Duration = Duration::from_millis(5);

/// What is the matter between two regions, in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) loss: f64,
    pub(super) jitter: Duration,
    pub(super) detour: Duration,
    pub(super) mtu: usize,
    /// Bits per second of the narrow place.
    pub(super) rate: Option<u64>,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            loss: 0.0,
            jitter: Duration::ZERO,
            detour: Duration::ZERO,
            mtu: ETHERNET,
            rate: None,
        }
    }
}

pub(super) struct Network {
    /// Of each node.
    regions: Vec<usize>,
    /// One way, between regions.
    distances: Vec<Vec<Duration>>,
    weather: BTreeMap<(usize, usize), Weather>,
    /// When a narrow place has passed on what it holds.
    free_at: BTreeMap<(usize, usize), Instant>,
    /// From one node to another.
    cut: BTreeSet<(usize, usize)>,
    /// … what it takes longer than between their regions.
    detours: BTreeMap<(usize, usize), Duration>,
    rng: StdRng,
    start: Instant,
    pub(super) lost: u64,
    pub(super) overflowed: u64,
    pub(super) too_long: u64,
    pub(super) cut_off: u64,
}

impl Network {
    pub(super) fn new(regions: Vec<usize>, seed: u64, start: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = regions.iter().max().map_or(0, |most| most + 1);
        let mut distances = vec![vec![NEAR; count]; count];
        let pairs = (0..count).flat_map(|from| (0..from).map(move |to| (from, to)));
        for (from, to) in pairs {
            let distance = Duration::from_millis(rng.random_range(5..=140));
            distances[from][to] = distance;
            distances[to][from] = distance;
        }
        Self {
            regions,
            distances,
            weather: BTreeMap::new(),
            free_at: BTreeMap::new(),
            cut: BTreeSet::new(),
            detours: BTreeMap::new(),
            rng,
            start,
            lost: 0,
            overflowed: 0,
            too_long: 0,
            cut_off: 0,
        }
    }

    pub(super) fn region(&self, node: usize) -> usize {
        self.regions[node]
    }

    pub(super) fn set_weather(&mut self, from: usize, to: usize, weather: Weather) {
        self.weather.insert((from, to), weather);
    }

    /// Between two nodes, both ways.
    pub(super) fn set_detour(&mut self, one: usize, other: usize, detour: Duration) {
        self.detours.insert((one, other), detour);
        self.detours.insert((other, one), detour);
    }

    /// Whether some line has no room for everything, or pipes may take it for such a one.
    pub(super) fn is_narrow(&self) -> bool {
        /// Half of what pipes do not give way to: what they measure is more at times.
        const LOSS: f64 = 0.015;
        let is_narrow = |weather: &Weather| {
            weather.rate.is_some() || weather.loss > LOSS || !weather.detour.is_zero()
        };
        self.weather.values().any(is_narrow)
    }

    pub(super) fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        match is_cut {
            true => self.cut.insert((from, to)),
            false => self.cut.remove(&(from, to)),
        };
    }

    /// When a packet arrives, if it does.
    pub(super) fn carry(
        &mut self,
        from: usize,
        to: usize,
        size: usize,
        now: Instant,
    ) -> Option<Instant> {
        if self.cut.contains(&(from, to)) {
            self.cut_off += 1;
            return None;
        }
        let way = (self.regions[from], self.regions[to]);
        let detour = self.detours.get(&(from, to)).copied().unwrap_or_default();
        let distance = self.distances[way.0][way.1] + detour;
        let Some(weather) = self.weather.get(&way) else {
            return Some(self.round_up(now + distance));
        };
        if size > weather.mtu {
            self.too_long += 1;
            return None;
        }
        let mut leaves = now;
        if let Some(rate) = weather.rate {
            let begins = self.free_at.get(&way).map_or(now, |at| (*at).max(now));
            if begins - now > QUEUE {
                self.overflowed += 1;
                return None;
            }
            let bits = 8 * (size + HEADERS) as u64;
            leaves = begins + Duration::from_nanos(bits * 1_000_000_000 / rate);
            self.free_at.insert(way, leaves);
        }
        if weather.loss > 0.0 && self.rng.random_bool(weather.loss) {
            self.lost += 1;
            return None;
        }
        let jitter = weather.jitter.mul_f64(self.rng.random::<f64>());
        Some(self.round_up(leaves + distance + weather.detour + jitter))
    }

    /// What happens at nearly the same time happens at once: it is handled in one go.
    fn round_up(&self, at: Instant) -> Instant {
        round_up(self.start, at, TICK)
    }
}

pub(super) fn round_up(start: Instant, at: Instant, step: Duration) -> Instant {
    let steps = (at - start).as_nanos().div_ceil(step.as_nanos());
    start + step * u32::try_from(steps).expect("a run takes minutes")
}
