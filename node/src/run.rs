//! Start order and stop order of the process.

use std::sync::Arc;

use anyhow::Context;
use pipemesh_node::Node;
use pipemesh_node::config::{Consul, ProcessConfig};
use pipemesh_service::Program;
use pipemesh_service::operator::{self, Health, register_process};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_topology::Registry;
use pipemesh_topology::registry::consul::{Client, ConsulRegistry};
use pipemesh_topology::registry::memory::MemoryRegistry;

pub(crate) fn run(program: &Program, config: ProcessConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(program, config))
}

async fn serve(program: &Program, config: ProcessConfig) -> anyhow::Result<()> {
    if huge_pages_are_off() {
        tracing::warn!(
            "the kernel gives no transparent huge pages: forwarding costs about a tenth more"
        );
    }
    let stop = Stop::new();
    let signals = stop.on_signals()?;
    let metrics = prometheus::Registry::new();
    register_process(&metrics, program)?;
    let mut supervisor = Supervisor::new(stop.clone());
    let registry: Arc<dyn Registry> = match config.consul {
        Some(consul) => connect(consul, &stop, &mut supervisor).await?,
        // Signaling processes are told where this node is.
        None => Arc::new(MemoryRegistry::new()),
    };
    let mut node = Node::start(config.node, registry, &metrics).await?;
    let health = Health {
        metrics,
        not_live: Box::new(node.liveness()),
        not_ready: Box::new(node.readiness()),
    };
    let operator = operator::bind(config.operator_listen, program, health)
        .await
        .with_context(|| {
            format!(
                "cannot listen for the operator on {}",
                config.operator_listen
            )
        })?;
    tracing::info!(address = %operator.address(), "listening for the operator");

    supervisor.spawn_plain("signals", signals);
    supervisor.spawn("operator", operator.serve(stop.closing()));
    supervisor.spawn("node", async move {
        let (draining, closing) = (stop.draining(), stop.closing());
        tokio::select! {
            outcome = node.ended_early() => outcome?,
            () = draining.cancelled() => {
                tokio::select! {
                    () = node.drain(config.drain_deadline) => {}
                    () = closing.cancelled() => {}
                }
                node.stop().await;
                stop.close();
            }
        }
        Ok::<(), anyhow::Error>(())
    });
    supervisor.run().await?;
    Ok(())
}

/// Consul is followed until everything else has ended: the node deregisters with its last breath.
async fn connect(
    consul: Consul,
    stop: &Stop,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Arc<dyn Registry>> {
    let client = Client::new(&consul.client).await?;
    let registry = Arc::new(ConsulRegistry::new(client, consul.settings));
    let (followed, closing) = (Arc::clone(&registry), stop.closing());
    supervisor.spawn_plain("consul", async move { followed.follow(closing).await });
    Ok(registry)
}

/// Memory is asked for in huge pages; this is where the kernel says whether it has any.
fn huge_pages_are_off() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| modes.contains("[never]"))
}
