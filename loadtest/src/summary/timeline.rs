//! What the plots over time show, in bounded memory however long the run is.
//!
//! It begins with a point for each second. Whenever there would be more than [`POINTS`], neighbours
//! are merged and each point stands for twice the time. Percentiles are of a point's own samples,
//! within half a per cent.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metrics::{MetricId, Registry, Sample};

/// More than a plot has room for says nothing more.
pub const POINTS: usize = 600;

/// One moment of a plot; `None` where nothing was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds since the run began.
    pub at: f64,
    pub vus: Option<f64>,
    pub iterations_per_second: f64,
    /// Share of checks that held.
    pub checks: Option<f64>,
    /// 95th percentile, ms.
    pub join_duration_p95: Option<f64>,
    /// ms.
    pub latency_p50: Option<f64>,
    pub latency_p95: Option<f64>,
    /// Share of packets.
    pub packet_loss: Option<f64>,
    /// Bits per second, of all tracks together.
    pub bitrate: Option<f64>,
    pub freezes_per_second: f64,
    /// The highest, %.
    pub cpu: Option<f64>,
    /// The longest, ms.
    pub loop_lag: Option<f64>,
}

#[derive(Debug)]
pub struct Timeline {
    metrics: Metrics,
    /// Milliseconds since the Unix epoch.
    started_at: f64,
    /// Seconds that a point stands for.
    width: u64,
    points: Vec<Point>,
}

#[derive(Debug)]
struct Metrics {
    vus: MetricId,
    iterations: MetricId,
    checks: MetricId,
    join_duration: MetricId,
    latency: MetricId,
    packet_loss: MetricId,
    bitrate: MetricId,
    freezes: MetricId,
    cpu: MetricId,
    loop_lag: MetricId,
}

#[derive(Debug, Clone, Default)]
struct Point {
    vus: Option<f64>,
    iterations: f64,
    checks: Share,
    join_duration: Sketch,
    latency: Sketch,
    packet_loss: Share,
    /// Bits that arrived.
    bits: Option<f64>,
    freezes: f64,
    cpu: Option<f64>,
    loop_lag: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    part: f64,
    whole: f64,
}

/// A coarse histogram of values from 0: 128 buckets for each power of two.
#[derive(Debug, Clone, Default)]
struct Sketch {
    count: u64,
    buckets: BTreeMap<u32, u64>,
}

impl Timeline {
    #[must_use]
    pub fn new(registry: &Registry, started_at: f64) -> Self {
        let metrics = Metrics {
            vus: registry.builtin("vus"),
            iterations: registry.builtin("iterations"),
            checks: registry.builtin("checks"),
            join_duration: registry.builtin("sfu_join_duration"),
            latency: registry.builtin("rtc_e2e_latency"),
            packet_loss: registry.builtin("rtc_packet_loss"),
            bitrate: registry.builtin("rtc_bitrate_received"),
            freezes: registry.builtin("rtc_freezes"),
            cpu: registry.builtin("gen_cpu"),
            loop_lag: registry.builtin("gen_loop_lag"),
        };
        Self {
            metrics,
            started_at,
            width: 1,
            points: Vec::new(),
        }
    }

    /// Samples may come a little late, and from before the beginning, which is the first moment.
    pub fn add(&mut self, sample: &Sample) {
        let is_number =
            sample.value.is_finite() && sample.weight.is_finite() && sample.at.is_finite();
        if !is_number || !self.metrics.shows(sample.metric) {
            return;
        }
        // A cast of what is too large is the largest, which is centuries and taken as a wrong clock.
        let second = ((sample.at - self.started_at) / 1e3).max(0.0) as u64;
        if second > u64::from(u32::MAX) {
            return;
        }
        while second / self.width >= POINTS as u64 {
            self.thin();
        }
        let index = (second / self.width) as usize;
        if self.points.len() <= index {
            self.points.resize_with(index + 1, Point::default);
        }
        self.points[index].add(&self.metrics, sample);
    }

    /// Everything so far. A gauge that nobody set again is what it was.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        let seconds = self.width as f64;
        let mut vus = None;
        let mut moments = Vec::with_capacity(self.points.len());
        for (index, point) in self.points.iter().enumerate() {
            vus = point.vus.or(vus);
            moments.push(Moment {
                at: index as f64 * seconds,
                vus,
                iterations_per_second: point.iterations / seconds,
                checks: point.checks.value(),
                join_duration_p95: point.join_duration.quantile(0.95),
                latency_p50: point.latency.quantile(0.5),
                latency_p95: point.latency.quantile(0.95),
                packet_loss: point.packet_loss.value(),
                bitrate: point.bits.map(|bits| bits / seconds),
                freezes_per_second: point.freezes / seconds,
                cpu: point.cpu,
                loop_lag: point.loop_lag,
            });
        }
        moments
    }

    fn thin(&mut self) {
        self.width *= 2;
        let merged = self.points.chunks(2).map(|pair| {
            let mut point = pair[0].clone();
            if let Some(later) = pair.get(1) {
                point.merge(later);
            }
            point
        });
        self.points = merged.collect();
    }
}

impl Metrics {
    fn shows(&self, metric: MetricId) -> bool {
        let Self {
            vus,
            iterations,
            checks,
            join_duration,
            latency,
            packet_loss,
            bitrate,
            freezes,
            cpu,
            loop_lag,
        } = self;
        [
            vus,
            iterations,
            checks,
            join_duration,
            latency,
            packet_loss,
            bitrate,
            freezes,
            cpu,
            loop_lag,
        ]
        .contains(&&metric)
    }
}

impl Point {
    fn add(&mut self, metrics: &Metrics, sample: &Sample) {
        let (metric, value) = (sample.metric, sample.value);
        if metric == metrics.vus {
            self.vus = Some(value);
        } else if metric == metrics.iterations {
            self.iterations += value;
        } else if metric == metrics.checks {
            self.checks.add(sample);
        } else if metric == metrics.join_duration {
            self.join_duration.add(value);
        } else if metric == metrics.latency {
            self.latency.add(value);
        } else if metric == metrics.packet_loss {
            self.packet_loss.add(sample);
        } else if metric == metrics.bitrate {
            // A sample is the bits of one second.
            self.bits = sum(self.bits, Some(value));
        } else if metric == metrics.freezes {
            self.freezes += value;
        } else if metric == metrics.cpu {
            self.cpu = greater(self.cpu, Some(value));
        } else if metric == metrics.loop_lag {
            self.loop_lag = greater(self.loop_lag, Some(value));
        }
    }

    fn merge(&mut self, later: &Self) {
        self.vus = later.vus.or(self.vus);
        self.iterations += later.iterations;
        self.checks.merge(later.checks);
        self.join_duration.merge(&later.join_duration);
        self.latency.merge(&later.latency);
        self.packet_loss.merge(later.packet_loss);
        self.bits = sum(self.bits, later.bits);
        self.freezes += later.freezes;
        self.cpu = greater(self.cpu, later.cpu);
        self.loop_lag = greater(self.loop_lag, later.loop_lag);
    }
}

impl Share {
    fn add(&mut self, sample: &Sample) {
        let weight = sample.weight.max(0.0);
        self.merge(Self {
            part: sample.value.clamp(0.0, weight),
            whole: weight,
        });
    }

    fn merge(&mut self, other: Self) {
        self.part += other.part;
        self.whole += other.whole;
    }

    fn value(self) -> Option<f64> {
        (self.whole > 0.0).then(|| self.part / self.whole)
    }
}

impl Sketch {
    fn add(&mut self, value: f64) {
        self.count += 1;
        // Below a millionth it is nothing; the exponent and seven bits of the mantissa are the bucket.
        let bucket = if value < 1e-6 {
            0
        } else {
            (value.to_bits() >> 45) as u32
        };
        *self.buckets.entry(bucket).or_default() += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = ((quantile * self.count as f64).ceil() as u64).saturating_sub(1);
        let mut passed = 0;
        let (bucket, _) = self.buckets.iter().find(|(_, count)| {
            passed += **count;
            passed > rank
        })?;
        if *bucket == 0 {
            return Some(0.0);
        }
        let half = 1 << 44;
        Some(f64::from_bits((u64::from(*bucket) << 45) | half))
    }
}

fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn greater(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}
