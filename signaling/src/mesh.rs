//! Where this process learns which nodes there are and keeps rooms: a list and its own memory, or Consul
//! and Redis, which it shares with other processes.
//!
//! Owns the settings of that, what runs for it, and what the operator is told of it. Where there are both,
//! the ring that rooms are placed by is in Redis, and one process keeps it as Consul says.

mod metrics;
mod ring;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_service::config::{Setting, Values, consul, parse};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_topology::registry::consul::{
    self as registry, Client, ConsulRegistry, Freshness, ServiceName, Settings,
};
use pipemesh_topology::registry::memory::MemoryRegistry;
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::store::redis::{
    DEFAULT_PREFIX, InvalidConfig, RedisConfig, RedisStore, Stats,
};
use pipemesh_topology::{NodeRecord, NodeState, Registry, RingKeeper, SharedRing, Store};
use tokio::sync::watch;

use metrics::{ConsulMetrics, RedisMetrics};
pub(crate) use ring::Ring;

pub(crate) const SETTINGS: &[Setting] = &[
    Setting::optional(
        "mesh.nodes",
        "The nodes, as id/region/host:port, separated by commas. Either this or consul.address.",
        "node-a/eu-west/127.0.0.1:7901",
    ),
    Setting::optional(
        "redis.url",
        "The Redis that signaling processes share rooms in, as `redis://user:password@host:port/database`, \
         `rediss://…` or `unix:///path`. If not set, rooms are this process's own.",
        "",
    )
    .secret(),
    Setting::optional(
        "redis.authority",
        "PEM file with the authorities that sign the certificate of a `rediss://` Redis. The system's if \
         not set.",
        "/etc/redis/ca.pem",
    ),
    Setting::with_default(
        "redis.prefix",
        "What keys in Redis begin with; differs between meshes that share one.",
        DEFAULT_PREFIX,
    ),
];

#[derive(Debug)]
pub(crate) struct Config {
    nodes: Nodes,
    redis: Option<RedisConfig>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Nodes {
    Listed(Vec<NodeRecord>),
    InConsul(registry::Config, ServiceName),
}

impl Config {
    /// `is_open`: nothing but being on this machine shows nodes who calls them.
    pub(crate) fn read(values: &mut Values<'_>, is_open: bool) -> Option<Self> {
        let nodes = nodes(values, is_open);
        let redis = redis(values);
        Some(Self {
            nodes: nodes?,
            redis: redis?,
        })
    }
}

fn nodes(values: &mut Values<'_>, is_open: bool) -> Option<Nodes> {
    let listed = values.optional("mesh.nodes", parse::list(node));
    let service = values.optional(consul::SERVICE, parse::from_str::<ServiceName>);
    let consul = consul::read(values, |variables| {
        registry::Config::from_variables(variables).map_err(registry::config::Problems::named)
    });
    match (listed?, consul?) {
        (Some(nodes), None) => {
            let far = nodes.iter().find(|node| !is_local(node));
            if let (Some(node), true) = (far, is_open) {
                let what = format!(
                    "has {} on another machine, which needs control.secret or control.tls_certificate",
                    node.id
                );
                values.problem("mesh.nodes", what);
            }
            Some(Nodes::Listed(nodes))
        }
        (None, Some(client)) => Some(Nodes::InConsul(client, service?.unwrap_or_default())),
        (Some(_), Some(_)) => {
            values.problem(
                "mesh.nodes",
                "is set beside consul.address: one of them says which nodes there are",
            );
            None
        }
        (None, None) => {
            let what = "is missing, and so is consul.address: one of them says which nodes there are; \
                        example: node-a/eu-west/127.0.0.1:7901";
            values.problem("mesh.nodes", what);
            None
        }
    }
}

fn redis(values: &mut Values<'_>) -> Option<Option<RedisConfig>> {
    let url = values.optional("redis.url", parse::text);
    let authority = values.optional("redis.authority", parse::path);
    let prefix = values.required("redis.prefix", parse::text);
    let (url, authority, prefix) = (url?, authority?, prefix?);
    let Some(url) = url else {
        if authority.is_some() {
            values.problem("redis.authority", "has no effect without redis.url");
        }
        return Some(None);
    };
    match RedisConfig::new(&url, authority.as_deref(), &prefix) {
        Ok(config) => Some(Some(config)),
        Err(error) => {
            let key = match &error {
                InvalidConfig::Prefix(_) => "redis.prefix",
                InvalidConfig::AuthorityWithoutTls
                | InvalidConfig::Authority { .. }
                | InvalidConfig::Certificate { .. } => "redis.authority",
                _ => "redis.url",
            };
            values.check(key, Err(error))
        }
    }
}

/// Whether a node is on this machine; a name may be anywhere, but for one.
fn is_local(node: &NodeRecord) -> bool {
    let (host, _) = node.grpc_address.rsplit_once(':').unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn node(text: &str) -> Result<NodeRecord, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let [id, region, address] = parts[..] else {
        return Err("is not id/region/host:port".to_owned());
    };
    let id = id
        .parse::<NodeId>()
        .map_err(|what| format!("has an id that {what}"))?;
    let region = region
        .parse::<Region>()
        .map_err(|what| format!("has a region that {what}"))?;
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| parse::port(port).is_err()) {
        return Err("has an address without a port".to_owned());
    }
    Ok(NodeRecord {
        id,
        region,
        grpc_address: address.to_owned(),
        boot_id: 0,
        weight: 1,
        pipe: None,
        state: NodeState::Serving,
    })
}

/// What signaling is started with.
pub(crate) struct Mesh {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ring: Option<Ring>,
    consul: Option<watch::Receiver<Freshness>>,
    redis: Option<Redis>,
}

/// What is seen of the store.
#[derive(Debug, Clone)]
struct Redis {
    up: watch::Receiver<bool>,
    stats: Arc<Stats>,
}

impl Mesh {
    /// Reaches for Consul and Redis, and goes on until `stop` closes. Whether they are there is found out
    /// later.
    pub(crate) async fn start(
        config: Config,
        stop: &Stop,
        supervisor: &mut Supervisor,
        metrics: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let (registry, consul): (Arc<dyn Registry>, _) = match config.nodes {
            Nodes::Listed(nodes) => {
                let registry = Arc::new(MemoryRegistry::new());
                for node in nodes {
                    registry.register(node).await?;
                }
                (registry, None)
            }
            Nodes::InConsul(client, service) => {
                let client = Client::new(&client).await?;
                // Who registers says how it is probed; here it is only watched.
                let control_tls = false;
                let lock = ring::lock(&service);
                let settings = Settings {
                    service,
                    control_tls,
                };
                let registry = Arc::new(ConsulRegistry::new(client.clone(), settings));
                let (followed, closing) = (Arc::clone(&registry), stop.closing());
                supervisor.spawn_plain("consul", async move { followed.follow(closing).await });
                metrics.register(Box::new(ConsulMetrics::new(registry.freshness())?))?;
                (registry.clone(), Some((client, lock, registry)))
            }
        };
        let freshness = consul.as_ref().map(|(.., registry)| registry.freshness());
        let (store, redis): (Arc<dyn Store>, _) = match config.redis {
            None => (Arc::new(MemoryStore::new()), None),
            Some(config) => {
                let (store, keep) = RedisStore::start(config, stop.closing());
                supervisor.spawn_plain("redis", keep);
                let redis = Redis {
                    up: store.up(),
                    stats: Arc::clone(store.stats()),
                };
                metrics.register(Box::new(RedisMetrics::new(redis.clone())?))?;
                let ring = SharedRing::new(store.ring());
                (Arc::new(store), Some((redis, ring)))
            }
        };
        let (redis, shared) = redis.unzip();
        let ring = match (consul, shared) {
            (Some((client, lock, registry)), Some(shared)) => {
                let shared = Arc::new(shared);
                let who = ring::who();
                let keeper = RingKeeper::new(client, lock, who, registry, Arc::clone(&shared));
                Some(Ring::start(shared, keeper, stop, supervisor, metrics)?)
            }
            // A list is the same in every process that is given it, and so is its ring.
            _ => None,
        };
        Ok(Self {
            registry,
            store,
            ring,
            consul: freshness,
            redis,
        })
    }

    /// What keeps this process from taking clients. Once it has nodes and rooms, losing Consul or Redis is
    /// no reason: every process loses them at the same time, and what goes on would have no door left.
    pub(crate) fn readiness(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let (consul, redis) = (self.consul.clone(), self.redis.clone());
        let ring = self.ring.clone();
        move || {
            let mut reasons = Vec::new();
            let unlisted =
                |freshness: &watch::Receiver<Freshness>| freshness.borrow().last_success.is_none();
            if consul.as_ref().is_some_and(unlisted) {
                reasons.push("Consul has not listed the nodes yet".to_owned());
            }
            if redis.as_ref().is_some_and(|redis| !redis.was_reached()) {
                reasons.push("Redis has not been reached yet".to_owned());
            }
            if ring.as_ref().is_some_and(|ring| !ring.is_known()) {
                reasons.push("the ring is not known yet".to_owned());
            }
            reasons
        }
    }
}

impl Redis {
    fn was_reached(&self) -> bool {
        *self.up.borrow() || self.stats.disconnects.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_with_all_three_parts() {
        let record = node("node-a/eu-west/127.0.0.1:7901").unwrap();
        assert_eq!(
            (record.id.as_str(), record.region.as_str()),
            ("node-a", "eu-west")
        );
        assert_eq!(record.grpc_address, "127.0.0.1:7901");
        for wrong in [
            "node-a",
            "a/b",
            "a b/eu/h:1",
            "a/eu/h",
            "a/eu/h:x",
            "a/eu/h:1/x",
        ] {
            assert!(node(wrong).is_err(), "{wrong}");
        }
    }
}
