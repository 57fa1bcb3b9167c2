//! Start order and stop order of the process.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_service::Program;
use pipemesh_service::config::{Setting, Values, parse};
use pipemesh_service::operator::{Health, Operator, register_process};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_signaling::Signaling;
use pipemesh_topology::registry::memory::MemoryRegistry;
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::{NodeRecord, NodeState, Registry};

/// What only this binary can be told.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::with_default(
        "operator.listen",
        "Address of the operator's endpoint: metrics, health.",
        "127.0.0.1:7889",
    ),
    Setting::required(
        "mesh.nodes",
        "The nodes, as id/region/host:port, separated by commas.",
        "node-a/eu-west/127.0.0.1:7901",
    ),
];

#[derive(Debug)]
pub(crate) struct Config {
    signaling: pipemesh_signaling::Config,
    operator: SocketAddr,
    nodes: Vec<NodeRecord>,
}

impl Config {
    pub(crate) fn read(values: &mut Values<'_>) -> Option<Self> {
        let signaling = pipemesh_signaling::Config::read(values);
        let operator = values.required("operator.listen", parse::socket_addr);
        let nodes = values.required("mesh.nodes", parse::list(node));
        let is_open = |signaling: &pipemesh_signaling::Config| {
            signaling.control.key.is_none() && signaling.control.tls.is_none()
        };
        let far = nodes.iter().flatten().find(|node| !is_local(node));
        if let Some(node) = far
            && signaling.as_ref().is_some_and(is_open)
        {
            let what = format!(
                "has {} on another machine, which needs control.secret or control.tls_certificate",
                node.id
            );
            values.problem("mesh.nodes", what);
        }
        let signaling = signaling?;
        values.log_field("region", signaling.region.to_string());
        Some(Self {
            signaling,
            operator: operator?,
            nodes: nodes?,
        })
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
        state: NodeState::Serving,
    })
}

pub(crate) fn run(program: &Program, config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(program, config))
}

async fn serve(program: &Program, config: Config) -> anyhow::Result<()> {
    let stop = Stop::new();
    let signals = stop.on_signals()?;
    let metrics = prometheus::Registry::new();
    register_process(&metrics, program)?;
    let registry = Arc::new(MemoryRegistry::new());
    for node in config.nodes {
        registry.register(node).await?;
    }
    let store = Arc::new(MemoryStore::new());
    let mut signaling = Signaling::start(config.signaling, registry, store, &metrics).await?;
    let health = Health {
        metrics,
        not_live: Box::new(Vec::new),
        not_ready: Box::new(signaling.readiness()),
    };
    let operator = Operator::bind(config.operator, program, health).await?;
    tracing::info!(address = %operator.address(), "listening for the operator");

    let mut supervisor = Supervisor::new(stop.clone());
    supervisor.spawn_plain("signals", signals);
    supervisor.spawn("operator", operator.serve(stop.closing()));
    supervisor.spawn("signaling", async move {
        let (draining, closing) = (stop.draining(), stop.closing());
        tokio::select! {
            outcome = signaling.ended_early() => outcome?,
            () = draining.cancelled() => {
                tokio::select! {
                    () = signaling.stop() => {}
                    () = closing.cancelled() => {}
                }
                stop.close();
            }
        }
        Ok::<(), anyhow::Error>(())
    });
    supervisor.run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        let page = pipemesh_service::config::markdown(&crate::PROGRAM);
        expect_test::expect_file!["../../docs/config/signaling.md"].assert_eq(&page);
    }

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
