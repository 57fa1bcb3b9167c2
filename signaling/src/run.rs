//! Start order and stop order of the process.

use std::net::SocketAddr;

use anyhow::Context;
use pipemesh_service::Program;
use pipemesh_service::config::{Setting, Values, parse};
use pipemesh_service::operator::{self, Health, register_process};
use pipemesh_service::stop::{Stop, Supervisor};
use pipemesh_signaling::Signaling;
use pipemesh_signaling::admin;

use crate::mesh::{self, Mesh, Ring};

/// What only this binary can be told.
pub(crate) const SETTINGS: &[Setting] = &[Setting::with_default(
    "operator.listen",
    "Address of the operator's endpoint: metrics, health.",
    "127.0.0.1:7889",
)];

#[derive(Debug)]
pub(crate) struct Config {
    signaling: pipemesh_signaling::Config,
    operator: SocketAddr,
    admin: Option<admin::Config>,
    mesh: mesh::Config,
}

impl Config {
    pub(crate) fn read(values: &mut Values<'_>) -> Option<Self> {
        let signaling = pipemesh_signaling::Config::read(values);
        let operator = values.required("operator.listen", parse::socket_addr);
        let admin = admin::Config::read(values);
        let is_open = signaling.as_ref().is_some_and(|signaling| {
            signaling.control.key.is_none() && signaling.control.tls.is_none()
        });
        let mesh = mesh::Config::read(values, is_open);
        let signaling = signaling?;
        values.log_field("region", signaling.region.to_string());
        Some(Self {
            signaling,
            operator: operator?,
            admin: admin?,
            mesh: mesh?,
        })
    }
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
    let mut supervisor = Supervisor::new(stop.clone());
    let mesh = Mesh::start(config.mesh, &stop, &mut supervisor, &metrics).await?;
    let mesh_readiness = mesh.readiness();
    let ring = mesh.ring.as_ref().map(Ring::standing);
    let (registry, store) = (mesh.registry, mesh.store);
    let signaling = Signaling::start_with_ring(config.signaling, registry, store, ring, &metrics);
    let mut signaling = signaling.await?;
    let readiness = signaling.readiness();
    let health = Health {
        metrics,
        not_live: Box::new(Vec::new),
        not_ready: Box::new(move || mesh_readiness().into_iter().chain(readiness()).collect()),
    };
    let operator = operator::bind(config.operator, program, health)
        .await
        .with_context(|| format!("cannot listen for the operator on {}", config.operator))?;
    tracing::info!(address = %operator.address(), "listening for the operator");
    if let Some(config) = config.admin {
        let mut routes = signaling.admin_routes();
        if let Some(ring) = mesh.ring {
            routes = routes.merge(ring.route());
        }
        let admin = admin::bind(config, routes).await?;
        tracing::info!(address = %admin.address(), "listening for the admin API");
        supervisor.spawn("admin", admin.serve(stop.closing()));
    }

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
    #[test]
    fn the_reference_is_up_to_date() {
        let page = pipemesh_service::config::markdown(&crate::PROGRAM);
        expect_test::expect_file!["../../docs/config/signaling.md"].assert_eq(&page);
    }
}
