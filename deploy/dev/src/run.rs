//! Start order and stop order of the mesh.

use std::sync::Arc;

use pipemesh_node::Node;
use pipemesh_node::config::{Config as NodeConfig, Media};
use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_service::operator::{self, Health, register_process};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_signaling::{Config as SignalingConfig, Signaling, admin};
use pipemesh_topology::Registry;
use pipemesh_topology::registry::memory::MemoryRegistry;
use pipemesh_topology::store::memory::MemoryStore;

use crate::config::{Config, PROGRAM};

/// Nodes are dealt out to these in turn; signaling is in the first. So a tab that is opened with
/// `?region=west` is on another node than one that is not.
const REGIONS: [&str; 2] = ["east", "west"];

pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = Stop::new();
    let signals = stop.on_signals()?;
    let metrics = prometheus::Registry::new();
    register_process(&metrics, &PROGRAM)?;
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let [east, west] = REGIONS;
    let regions: [Region; 2] = [east.parse()?, west.parse()?];

    let mut nodes = Vec::new();
    for number in 0..config.nodes {
        let region = &regions[usize::from(number) % regions.len()];
        let node = node_config(&config, number, region)?;
        nodes.push(Node::start(node, Arc::clone(&registry), &metrics).await?);
    }
    let [region, _] = regions;
    let mut signaling = SignalingConfig::demo(region, vec![config.http]);
    signaling.resume_grace = config.resume_grace;
    let store = Arc::new(MemoryStore::new());
    let mut signaling = Signaling::start(signaling, registry, store, &metrics).await?;
    let health = health(metrics, &nodes, &signaling);
    let operator = operator::bind(config.operator, &PROGRAM, health).await?;
    tracing::info!(address = %operator.address(), "listening for the operator");
    let mut supervisor = Supervisor::new(stop.clone());
    if let Some(listen) = config.admin {
        let admin = admin::bind(admin::Config::open(listen), signaling.admin_routes()).await?;
        say(&format!("mesh:  http://{}/mesh", admin.address()));
        supervisor.spawn("admin", admin.serve(stop.closing()));
    }
    announce(&signaling);

    supervisor.spawn_plain("signals", signals);
    supervisor.spawn("operator", operator.serve(stop.closing()));
    supervisor.spawn("mesh", async move {
        let draining = stop.draining();
        let failed = async {
            let ends = nodes.iter_mut().map(|node| Box::pin(node.ended_early()));
            let (outcome, ..) = futures_util::future::select_all(ends).await;
            outcome
        };
        tokio::select! {
            outcome = failed => outcome?,
            outcome = signaling.ended_early() => outcome?,
            () = draining.cancelled() => {}
        }
        // Nobody waits for a demo's participants.
        signaling.stop().await;
        for node in nodes {
            node.stop().await;
        }
        stop.close();
        Ok::<(), anyhow::Error>(())
    });
    supervisor.run().await?;
    Ok(())
}

fn node_config(config: &Config, number: u16, region: &Region) -> anyhow::Result<NodeConfig> {
    let id: NodeId = format!("node-{}", char::from(b'a' + number as u8)).parse()?;
    let port = match config.media_port {
        0 => 0,
        first => first + number * config.shards,
    };
    let tcp_port = config.tcp_port.map(|first| match first {
        0 => 0,
        first => first + number,
    });
    Ok(NodeConfig {
        media: Media {
            bind: config.media_bind.clone(),
            port,
            tcp_port,
            shards: config.shards.into(),
            shard_sessions: None,
            advertise: config.advertise.clone(),
        },
        ..NodeConfig::loopback(id, region.clone())
    })
}

fn health(metrics: prometheus::Registry, nodes: &[Node], signaling: &Signaling) -> Health {
    let live: Vec<_> = nodes.iter().map(Node::liveness).collect();
    let ready: Vec<_> = nodes.iter().map(Node::readiness).collect();
    let front = signaling.readiness();
    Health {
        metrics,
        not_live: Box::new(move || live.iter().flat_map(|reasons| reasons()).collect()),
        not_ready: Box::new(move || {
            ready
                .iter()
                .flat_map(|reasons| reasons())
                .chain(front())
                .collect()
        }),
    }
}

/// The line that people and scripts wait for.
fn announce(signaling: &Signaling) {
    for address in signaling.addresses() {
        say(&format!("ready: http://{address}/"));
    }
}

#[expect(
    clippy::print_stdout,
    reason = "addresses are what this program is started for"
)]
fn say(line: &str) {
    println!("{line}");
}
