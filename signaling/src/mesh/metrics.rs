//! What Prometheus is told of Consul and Redis, read at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use pipemesh_topology::registry::consul::Freshness;
use pipemesh_topology::store::redis::Stats;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts};
use tokio::sync::watch;

use super::Redis;

pub(super) struct ConsulMetrics {
    freshness: watch::Receiver<Freshness>,
    up: IntGauge,
    last_success: Gauge,
    errors: IntCounter,
}

impl ConsulMetrics {
    pub(super) fn new(freshness: watch::Receiver<Freshness>) -> prometheus::Result<Self> {
        Ok(Self {
            freshness,
            up: IntGauge::new(
                "pipemesh_consul_up",
                "Whether Consul lists the nodes; if not, those last known stay.",
            )?,
            last_success: Gauge::new(
                "pipemesh_consul_last_success_timestamp_seconds",
                "When Consul last listed the nodes, in seconds since 1970; 0 if it never has.",
            )?,
            errors: IntCounter::new(
                "pipemesh_consul_errors_total",
                "Questions that Consul did not answer as it should.",
            )?,
        })
    }

    fn families(&self) -> [&dyn Collector; 3] {
        [&self.up, &self.last_success, &self.errors]
    }
}

impl Collector for ConsulMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let families = self.families().into_iter();
        families.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let freshness = *self.freshness.borrow();
        self.up.set(i64::from(!freshness.stale));
        let since_1970 = freshness.last_success.unwrap_or(UNIX_EPOCH);
        let since_1970 = since_1970.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(since_1970.as_secs_f64());
        raise(&self.errors, freshness.errors);
        let families = self.families().into_iter();
        families.flat_map(Collector::collect).collect()
    }
}

type Read = fn(&Stats) -> &AtomicU64;

/// Why a call of the store failed.
const CALLS: [(&str, Read); 3] = [
    ("not_connected", |stats| &stats.refused),
    ("timed_out", |stats| &stats.timed_out),
    ("error", |stats| &stats.failed),
];

/// How it was noticed that events were lost.
const EVENTS: [(&str, Read); 3] = [
    ("gap", |stats| &stats.gaps),
    ("silence", |stats| &stats.missed),
    ("unreadable", |stats| &stats.unreadable),
];

/// What the server had lost.
const LOSSES: [(&str, Read); 2] = [
    ("everything", |stats| &stats.forgotten),
    ("changes", |stats| &stats.behind),
];

pub(super) struct RedisMetrics {
    redis: Redis,
    up: IntGauge,
    disconnects: IntCounter,
    calls: IntCounterVec,
    events: IntCounterVec,
    losses: IntCounterVec,
}

impl RedisMetrics {
    pub(super) fn new(redis: Redis) -> prometheus::Result<Self> {
        Ok(Self {
            redis,
            up: IntGauge::new("pipemesh_redis_up", "Whether Redis can be reached.")?,
            disconnects: IntCounter::new(
                "pipemesh_redis_disconnects_total",
                "Connections to Redis that broke.",
            )?,
            calls: IntCounterVec::new(
                Opts::new("pipemesh_redis_errors_total", "Calls of Redis that failed."),
                &["reason"],
            )?,
            events: IntCounterVec::new(
                Opts::new(
                    "pipemesh_redis_events_lost_total",
                    "Times that events of a room were lost and the room was read again.",
                ),
                &["reason"],
            )?,
            losses: IntCounterVec::new(
                Opts::new(
                    "pipemesh_redis_losses_total",
                    "What Redis had lost: everything, or the last changes of a room.",
                ),
                &["kind"],
            )?,
        })
    }

    fn families(&self) -> [&dyn Collector; 5] {
        [
            &self.up,
            &self.disconnects,
            &self.calls,
            &self.events,
            &self.losses,
        ]
    }
}

impl Collector for RedisMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let families = self.families().into_iter();
        families.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Redis { up, stats } = &self.redis;
        self.up.set(i64::from(*up.borrow()));
        raise(&self.disconnects, stats.disconnects.load(Ordering::Relaxed));
        let all: [(_, &[(&str, Read)]); 3] = [
            (&self.calls, &CALLS),
            (&self.events, &EVENTS),
            (&self.losses, &LOSSES),
        ];
        for (counters, reasons) in all {
            for (reason, read) in reasons {
                let counter = counters.with_label_values(&[*reason]);
                raise(&counter, read(stats).load(Ordering::Relaxed));
            }
        }
        let families = self.families().into_iter();
        families.flat_map(Collector::collect).collect()
    }
}

/// Brings a counter up to a total that is kept elsewhere.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_kept_elsewhere_is_told_as_it_is() {
        let (freshness, seen) = watch::channel(Freshness {
            errors: 3,
            ..Freshness::default()
        });
        let (up, is_up) = watch::channel(true);
        let stats = Arc::new(Stats::default());
        stats.gaps.store(2, Ordering::Relaxed);
        stats.forgotten.store(1, Ordering::Relaxed);
        let registry = prometheus::Registry::new();
        let consul = ConsulMetrics::new(seen).unwrap();
        let redis = RedisMetrics::new(Redis {
            up: is_up,
            stats: Arc::clone(&stats),
        });
        registry.register(Box::new(consul)).unwrap();
        registry.register(Box::new(redis.unwrap())).unwrap();
        let told = || {
            let encoder = prometheus::TextEncoder::new();
            encoder.encode_to_string(&registry.gather()).unwrap()
        };
        let check = |lines: &[&str]| {
            let told = told();
            for line in lines {
                assert!(told.lines().any(|told| told == *line), "{line}: {told}");
            }
        };
        check(&[
            "pipemesh_consul_up 1",
            "pipemesh_consul_last_success_timestamp_seconds 0",
            "pipemesh_consul_errors_total 3",
            "pipemesh_redis_up 1",
            "pipemesh_redis_events_lost_total{reason=\"gap\"} 2",
            "pipemesh_redis_losses_total{kind=\"everything\"} 1",
            "pipemesh_redis_errors_total{reason=\"timed_out\"} 0",
        ]);
        freshness.send_modify(|freshness| freshness.stale = true);
        up.send_replace(false);
        stats.timed_out.store(1, Ordering::Relaxed);
        check(&[
            "pipemesh_consul_up 0",
            "pipemesh_redis_up 0",
            "pipemesh_redis_errors_total{reason=\"timed_out\"} 1",
        ]);
    }
}
