//! A node that runs in the test's own process.

use std::net::SocketAddr;
use std::sync::Arc;

use pipemesh_node::{Config, Node};
use pipemesh_topology::registry::memory::MemoryRegistry;

use super::control::Signaling;
use super::{until, within};

pub(crate) struct TestNode {
    node: Node,
    metrics: prometheus::Registry,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A room's sessions go to its shards in turn.
    pub(crate) async fn spread(shards: usize) -> Self {
        Self::with(|config| {
            config.media.shards = shards;
            config.media.shard_sessions = Some(1);
        })
        .await
    }

    /// With another configuration than one shard on the loopback interface.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(&Arc::default(), "node-a", "eu", change).await
    }

    /// One of a mesh: all that share a registry.
    pub(crate) async fn of(
        mesh: &Arc<MemoryRegistry>,
        id: &str,
        region: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::loopback(id.parse().unwrap(), region.parse().unwrap());
        config.session_limit = 100;
        change(&mut config);
        let metrics = prometheus::Registry::new();
        let registry = Arc::clone(mesh);
        let node = Node::start(config, registry, &metrics).await.unwrap();
        Self { node, metrics }
    }

    pub(crate) fn control_address(&self) -> SocketAddr {
        self.node.control_address()
    }

    /// Where clients come in that UDP does not reach.
    pub(crate) fn tcp_address(&self) -> SocketAddr {
        self.node.tcp_addresses()[0]
    }

    /// A signaling process, with a connection of its own.
    pub(crate) async fn signaling(&self) -> Signaling {
        Signaling::connect(self.control_address()).await
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        within("the node stops", self.node.stop()).await;
    }

    /// The sum of a metric over all shards, 0 if it is not there.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|(name, value)| {
                let mut pairs = metric.get_label().iter();
                pairs.any(|pair| pair.name() == *name && pair.value() == *value)
            })
        };
        metrics
            .iter()
            .filter(wanted)
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// Waits until a metric is so. Shards publish their counters four times a second.
    pub(crate) async fn until_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        is: impl Fn(f64) -> bool,
    ) -> f64 {
        let value = || Some(self.metric(name, labels)).filter(|value| is(*value));
        until(&format!("{name} {labels:?}"), value).await
    }
}
