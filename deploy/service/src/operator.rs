//! The operator's HTTP endpoint, on an address of its own: metrics, health, version.
//!
//! Liveness speaks of this process alone. Whoever makes it depend on a store or a registry has
//! every node of a mesh restarted when that one thing fails.

mod process;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};

use crate::{Endpoint, Program};

/// Why not; empty means yes.
pub type Reasons = Vec<String>;

/// What the endpoint tells. Everything is asked for at each request, nothing is cached.
pub struct Health {
    pub metrics: Registry,
    /// Reasons why this process is beyond help and should be restarted.
    pub not_live: Box<dyn Fn() -> Reasons + Send + Sync>,
    /// Reasons why this process should get nothing new.
    pub not_ready: Box<dyn Fn() -> Reasons + Send + Sync>,
}

/// The endpoint, bound.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(listen: SocketAddr, program: &Program, health: Health) -> io::Result<Endpoint> {
    Endpoint::bind(listen, router(program, health)).await
}

/// Adds what every process tells about itself: `pipemesh_build_info` and `process_*`.
///
/// # Errors
/// When the registry has it already.
pub fn register_process(metrics: &Registry, program: &Program) -> prometheus::Result<()> {
    let options = prometheus::Opts::new("pipemesh_build_info", "Which build runs, always 1.")
        .const_label("program", program.name)
        .const_label("version", program.version);
    let build = prometheus::IntGauge::with_opts(options)?;
    build.set(1);
    metrics.register(Box::new(build))?;
    metrics.register(Box::new(process::Process::new()?))
}

fn router(program: &Program, health: Health) -> Router {
    let version = serde_json::json!({ "name": program.name, "version": program.version });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/version", get(|| async { Json(version) }))
        .with_state(Arc::new(health))
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&health.metrics.gather()) {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
            (StatusCode::OK, kind, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn live(State(health): State<Arc<Health>>) -> impl IntoResponse {
    answer((health.not_live)())
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    answer((health.not_ready)())
}

fn answer(reasons: Reasons) -> (StatusCode, String) {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}
