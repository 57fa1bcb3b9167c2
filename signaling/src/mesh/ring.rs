//! The ring that several signaling processes share: what runs for it here, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_topology::registry::consul::ServiceName;
use pipemesh_topology::ring::{Frozen, Record};
use pipemesh_topology::ring_keeper::Keeping;
use pipemesh_topology::shared_ring::RingStats;
use pipemesh_topology::{RingKeeper, SharedRing};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::metrics::raise;

#[derive(Clone)]
pub(crate) struct Ring {
    shared: Arc<SharedRing>,
    keeping: watch::Receiver<Keeping>,
}

/// Where in Consul is the lock of who keeps the ring of these nodes.
pub(super) fn lock(service: &ServiceName) -> String {
    format!("pipemesh/{service}/ring")
}

/// What is written there of this process, for people who look.
pub(super) fn who() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {}", host.trim_end(), std::process::id())
}

impl Ring {
    /// Goes by the ring until `stop` closes, and keeps it, if it is this process that does, until `stop`
    /// drains: who keeps it while it goes makes the others wait.
    pub(super) fn start(
        shared: Arc<SharedRing>,
        keeper: RingKeeper,
        stop: &Stop,
        supervisor: &mut Supervisor,
        metrics: &prometheus::Registry,
    ) -> prometheus::Result<Self> {
        let ring = Self {
            shared: Arc::clone(&shared),
            keeping: keeper.keeping(),
        };
        metrics.register(Box::new(RingMetrics::new(ring.clone())?))?;
        let (draining, closing) = (stop.draining(), stop.closing());
        supervisor.spawn_plain("ring keeper", async move {
            keeper.run(draining).await;
            closing.cancelled().await;
        });
        let closing = stop.closing();
        supervisor.spawn_plain("ring", async move { shared.follow(closing).await });
        Ok(ring)
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Arc<Record>> {
        self.shared.standing()
    }

    pub(super) fn is_known(&self) -> bool {
        self.standing().borrow().epoch > 0
    }

    /// `GET /ring` of the admin API.
    pub(crate) fn route(self) -> Router {
        let answer = move || {
            let ring = Json(self.describe());
            async move { ring }
        };
        Router::new().route("/ring", get(answer))
    }

    fn describe(&self) -> Value {
        let record = Arc::clone(&self.standing().borrow());
        let keeping = *self.keeping.borrow();
        let members = record.members.iter().map(|member| {
            json!({
                "id": member.id.to_string(),
                "region": member.region.to_string(),
                "weight": member.weight,
            })
        });
        json!({
            "digest": format!("{:016x}", record.digest),
            "epoch": record.epoch,
            "term": record.term,
            "members": members.collect::<Vec<Value>>(),
            "keeper": keeping.term.is_some(),
            "frozen": keeping.frozen.map(reason),
        })
    }
}

fn reason(frozen: Frozen) -> &'static str {
    match frozen {
        Frozen::Silence => "consul",
        Frozen::Vanished => "vanished",
    }
}

type Read = fn(&RingStats) -> &AtomicU64;

const CHANGES: [(&str, Read); 3] = [
    ("added", |stats| &stats.added),
    ("altered", |stats| &stats.altered),
    ("removed", |stats| &stats.removed),
];

/// What Prometheus is told, read at each scrape.
struct RingMetrics {
    ring: Ring,
    members: IntGauge,
    epoch: IntGauge,
    digest: IntGauge,
    keeper: IntGauge,
    frozen: IntGaugeVec,
    unreadable: IntGauge,
    changes: IntCounterVec,
    restored: IntCounter,
}

impl RingMetrics {
    fn new(ring: Ring) -> prometheus::Result<Self> {
        Ok(Self {
            ring,
            members: IntGauge::new("pipemesh_ring_members", "Nodes on the ring.")?,
            epoch: IntGauge::new(
                "pipemesh_ring_epoch",
                "The number of the ring; grows with each change, 0: none is known.",
            )?,
            digest: IntGauge::new(
                "pipemesh_ring_digest",
                "Low 32 bits of the ring's digest. Processes in which it differs place rooms differently.",
            )?,
            keeper: IntGauge::new(
                "pipemesh_ring_keeper",
                "Whether this process keeps the ring; one of all does.",
            )?,
            frozen: IntGaugeVec::new(
                Opts::new(
                    "pipemesh_ring_frozen",
                    "Whether this process keeps nodes on the ring that may be gone, and why.",
                ),
                &["reason"],
            )?,
            unreadable: IntGauge::new(
                "pipemesh_ring_unreadable",
                "Whether Redis holds a ring that this process cannot use; the one last known stays.",
            )?,
            changes: IntCounterVec::new(
                Opts::new(
                    "pipemesh_ring_changes_total",
                    "Nodes that came onto the ring, left it, or have another weight or region there.",
                ),
                &["change"],
            )?,
            restored: IntCounter::new(
                "pipemesh_ring_restored_total",
                "Times that Redis had lost the ring and this process put it back.",
            )?,
        })
    }

    fn families(&self) -> [&dyn Collector; 8] {
        [
            &self.members,
            &self.epoch,
            &self.digest,
            &self.keeper,
            &self.frozen,
            &self.unreadable,
            &self.changes,
            &self.restored,
        ]
    }
}

impl Collector for RingMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let families = self.families().into_iter();
        families.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let record = Arc::clone(&self.ring.standing().borrow());
        let keeping = *self.ring.keeping.borrow();
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.members.set(count(record.members.len() as u64));
        self.epoch.set(count(record.epoch));
        self.digest.set(count(record.digest & u64::from(u32::MAX)));
        self.keeper.set(i64::from(keeping.term.is_some()));
        for frozen in [Frozen::Silence, Frozen::Vanished] {
            let gauge = self.frozen.with_label_values(&[reason(frozen)]);
            gauge.set(i64::from(keeping.frozen == Some(frozen)));
        }
        let unreadable = *self.ring.shared.unreadable().borrow();
        self.unreadable.set(i64::from(unreadable));
        let stats = self.ring.shared.stats();
        for (change, read) in CHANGES {
            let counter = self.changes.with_label_values(&[change]);
            raise(&counter, read(stats).load(Ordering::Relaxed));
        }
        raise(&self.restored, stats.restored.load(Ordering::Relaxed));
        let families = self.families().into_iter();
        families.flat_map(Collector::collect).collect()
    }
}
