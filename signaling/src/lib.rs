//! The front door of the mesh: LiveKit's client protocol, rooms, placement.
//!
//! [`Signaling::start`] runs it inside any process; the binary is one of them.

#![forbid(unsafe_code)]

pub mod admin;
mod api;
pub mod auth;
mod config;
mod context;
mod drain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod geo;
mod http;
mod join;
mod livekit;
mod metrics;
pub mod nodes;
mod orders;
pub mod rooms;
mod server;
mod session;
mod sessions;
mod source;
pub mod turn;
mod ways;
mod web;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipemesh_topology::ring::Record;
use pipemesh_topology::{Registry, Store};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{Config, SETTINGS};
pub use geo::{Database, Geo, SETTINGS as GEO_SETTINGS};
pub use source::Network;
pub use webhook::Webhooks;

use crate::api::demo::Scheme;
use crate::context::Context;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::orders::Post;
use crate::rooms::Rooms;
use crate::server::{Listener, Shared};
use crate::session::driver::Input;
use crate::sessions::Sessions;
use crate::source::Joins;
use crate::webhook::Hooks;

/// Time for sessions to say goodbye when the process stops.
const STOP_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("webhooks cannot be told anything")]
    Webhooks(#[from] reqwest::Error),
}

/// A part ended that runs for as long as the process does.
#[derive(Debug, thiserror::Error)]
#[error("a part of signaling ended early")]
pub struct EndedEarly(#[source] Option<JoinError>);

/// Signaling that runs. Dropped: everything ends at once.
pub struct Signaling {
    context: Arc<Context>,
    hooks: Hooks,
    addresses: Vec<SocketAddr>,
    /// Listeners and what follows the registry and certificates.
    parts: JoinSet<()>,
    stop: CancellationToken,
    close: CancellationToken,
}

impl Signaling {
    /// Binds the addresses and serves. Rooms are placed by the ring of the registry's nodes. Metrics go
    /// to `metrics`.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(
        config: Config,
        registry: Arc<dyn Registry>,
        store: Arc<dyn Store>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        Self::start_with_ring(config, registry, store, None, metrics).await
    }

    /// The same as one of several processes, which place rooms by a ring that they share.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start_with_ring(
        config: Config,
        registry: Arc<dyn Registry>,
        store: Arc<dyn Store>,
        ring: Option<watch::Receiver<Arc<Record>>>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::register(metrics)?);
        let scheme = if config.tls.is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let tls = config
            .tls
            .as_ref()
            .map(pipemesh_service::tls::Tls::server_config);
        let mut listeners = Vec::new();
        for address in config.listen {
            let listener = Listener::bind(address, tls.clone()).await;
            listeners.push(listener.map_err(|source| StartError::Listen { address, source })?);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
        let (nodes, follow_registry) = Nodes::start(
            &*registry,
            ring,
            config.control,
            Arc::clone(&metrics),
            close.clone(),
        );
        let (hooks, speakers) = match config.webhooks {
            Some(webhooks) => Hooks::start(webhooks, Arc::clone(&metrics))?,
            None => (Hooks::none(), Vec::new()),
        };
        let context = Arc::new(Context {
            keys: config.keys,
            rooms: Rooms::new(store, config.rooms, close.clone())
                .with_hooks(hooks.clone())
                .with_loudest_microphones(config.loudest_microphones),
            nodes,
            sessions: Sessions::default(),
            post: Post::default(),
            metrics: Arc::clone(&metrics),
            region: config.region,
            geo: config.geo,
            auto_create: config.auto_create,
            rooms_may_span: config.rooms_span,
            drain_rate: config.drain_rate,
            resume_grace: config.resume_grace,
            turn: config.turn,
            stun: config.stun,
            demo: config.demo,
            proxies: config.trusted_proxies,
            joins: Joins::new(config.joins_per_address),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        let shared = Shared {
            router: http::router(Arc::clone(&context), scheme),
            places: Arc::new(Semaphore::new(config.max_connections)),
            metrics,
            stop: stop.clone(),
        };
        let mut parts = JoinSet::new();
        parts.spawn(follow_registry);
        let keeping = Arc::clone(&context);
        parts.spawn(async move {
            let (rooms, grace) = (&keeping.rooms, keeping.resume_grace);
            rooms.keep_lease(grace, &keeping.metrics).await;
        });
        for speaker in speakers {
            parts.spawn(speaker);
        }
        let listening = Arc::clone(&context);
        parts.spawn(async move { match Post::serve(&listening).await {} });
        let sharing = Arc::clone(&context);
        parts.spawn(async move {
            let (rooms, nodes) = (&sharing.rooms, &sharing.nodes);
            match nodes.share(rooms.process(), rooms.store()).await {}
        });
        let draining = Arc::clone(&context);
        parts.spawn(async move { drain::move_people(&draining).await });
        for listener in listeners {
            let (address, scheme) = (listener.address(), scheme.name());
            tracing::info!(%address, scheme, "listening for clients");
            parts.spawn(listener.serve(shared.clone()));
        }
        if let Some(tls) = config.tls {
            let stop = close.clone();
            parts.spawn(async move {
                if let Err(error) = tls.watch(stop).await {
                    tracing::error!(%error, "certificates are not followed any more");
                }
            });
        }
        Ok(Self {
            context,
            hooks,
            addresses,
            parts,
            stop,
            close,
        })
    }

    /// The addresses in use, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What keeps this process from taking clients, for its readiness check.
    pub fn readiness(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let context = Arc::clone(&self.context);
        move || {
            let mut reasons = Vec::new();
            if context.stop.is_cancelled() {
                reasons.push("signaling stops".to_owned());
            }
            if context.nodes.reachable() == 0 {
                reasons.push("no node can be reached".to_owned());
            }
            reasons
        }
    }

    /// What the admin API answers, to be served by [`admin::bind`].
    pub fn admin_routes(&self) -> axum::Router {
        admin::routes(Arc::clone(&self.context))
    }

    /// Waits for a part to end that should not.
    ///
    /// # Errors
    /// Always, once that has happened.
    pub async fn ended_early(&mut self) -> Result<(), EndedEarly> {
        match self.parts.join_next().await {
            Some(Ok(())) | None => Err(EndedEarly(None)),
            Some(Err(fault)) => Err(EndedEarly(Some(fault))),
        }
    }

    /// Lets nobody in any more, sends everybody to another process or back to the next one here,
    /// and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for session in self.context.sessions.all() {
            // A session that is too busy to listen ends with the process.
            let _ = session.inputs.try_send(Input::Stop);
        }
        self.context.tasks.close();
        let ended = tokio::time::timeout(STOP_LIMIT, self.context.tasks.wait()).await;
        if ended.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.close.cancel();
        self.context.rooms.stopped().await;
        self.hooks.flushed().await;
        self.parts.shutdown().await;
    }
}

impl Drop for Signaling {
    fn drop(&mut self) {
        self.stop.cancel();
        self.close.cancel();
    }
}
