//! The state of a test over HTTP while it goes on, as k6 tells it: JSON:API, version 1.
//!
//! It reads counters and asks the collector; what it changes is one thing: whether the test goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::metrics::{Snapshot, Statistic};
use crate::run::Sight;
use crate::script::{Shared, Signal};
use crate::summary::{Measured, Run, Summary};

/// JSON:API 1.1, section 5.
const MEDIA_TYPE: &str = "application/vnd.api+json";

#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened on for the state of the test")]
pub(crate) struct ListenError {
    address: String,
    source: std::io::Error,
}

/// What there is to see.
pub(crate) struct View {
    shared: Arc<Shared>,
    sight: Sight,
    trend_stats: Vec<Statistic>,
    stopped: AtomicBool,
}

/// Where it will be told; nobody is answered yet.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// Answers as long as it lives.
pub(crate) struct Server {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl View {
    pub(crate) fn new(shared: &Arc<Shared>, sight: Sight, trend_stats: Vec<Statistic>) -> Self {
        Self {
            shared: Arc::clone(shared),
            sight,
            trend_stats,
            stopped: AtomicBool::new(false),
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let over = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the test is over");
        self.sight.snapshot().await.ok_or_else(over)
    }

    async fn summary(&self) -> Result<Summary, Refusal> {
        let run = Run {
            script: String::new(),
            started_at: 0.0,
            version: String::new(),
            trend_stats: self.trend_stats.clone(),
            time_unit: None,
            warnings: Vec::new(),
        };
        Ok(Summary::new(run, &self.snapshot().await?))
    }
}

impl Listener {
    /// Port 0 lets the system choose.
    pub(crate) async fn bind(address: &str) -> Result<Self, ListenError> {
        let refused = |source| ListenError {
            address: address.to_owned(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    pub(crate) fn serve(self, view: View) -> Server {
        let Self { listener, address } = self;
        let router = Router::new()
            .route("/v1/status", get(status).patch(change))
            .route("/v1/metrics", get(metrics))
            .route("/v1/metrics/{id}", get(metric))
            .with_state(Arc::new(view));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Ends when it is dropped, with the test.
            let _ = axum::serve(listener, router).await;
        });
        Server {
            address,
            _serving: serving,
        }
    }
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn status(State(view): State<Arc<View>>) -> Result<Document, Refusal> {
    let snapshot = view.snapshot().await?;
    Ok(Document(told(&view, &snapshot)))
}

fn told(view: &View, snapshot: &Snapshot) -> Value {
    let instance = &view.shared.instance;
    let stopped = view.stopped.load(Ordering::Relaxed);
    json!({
        "type": "status",
        "id": "default",
        "attributes": {
            "vus": instance.active.load(Ordering::Relaxed),
            "vus-max": instance.initialized.load(Ordering::Relaxed),
            "paused": false,
            "stopped": stopped,
            "running": view.shared.began.get().is_some() && !stopped,
            "tainted": !snapshot.crossed().is_empty(),
        },
    })
}

#[derive(Deserialize)]
struct Change {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    attributes: Attributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Attributes {
    stopped: Option<bool>,
    paused: Option<bool>,
    vus: Option<u64>,
    vus_max: Option<u64>,
}

async fn change(State(view): State<Arc<View>>, body: Bytes) -> Result<Document, Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let change: Change = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let Attributes {
        stopped,
        paused,
        vus,
        vus_max,
    } = change.data.attributes;
    let snapshot = view.snapshot().await?;
    let instance = &view.shared.instance;
    // Whoever sends back what it read changes nothing.
    let changes = paused == Some(true)
        || vus.is_some_and(|vus| vus != instance.active.load(Ordering::Relaxed))
        || vus_max.is_some_and(|most| most != instance.initialized.load(Ordering::Relaxed));
    if changes || stopped == Some(false) && view.stopped.load(Ordering::Relaxed) {
        return Err(bad(
            "a test can be stopped, and nothing else of it be changed".to_owned(),
        ));
    }
    if stopped == Some(true) {
        view.stopped.store(true, Ordering::Relaxed);
        // Nobody listens once it is over.
        let _ = view.shared.signals.send(Signal::Stop);
    }
    Ok(Document(told(&view, &snapshot)))
}

async fn metrics(State(view): State<Arc<View>>) -> Result<Document, Refusal> {
    let summary = view.summary().await?;
    Ok(Document(summary.metrics.iter().map(described).collect()))
}

async fn metric(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Document, Refusal> {
    let summary = view.summary().await?;
    match summary.find(&id) {
        Some(measured) => Ok(Document(described(measured))),
        None => {
            let text = format!("no metric '{id}' has had samples or has thresholds");
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
    }
}

fn described(measured: &Measured) -> Value {
    let sample: serde_json::Map<String, Value> = measured
        .values
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let tainted = (!measured.thresholds.is_empty()).then(|| !measured.passed());
    json!({
        "type": "metrics",
        "id": measured.name,
        "attributes": {
            "type": measured.kind.to_string(),
            "contains": measured.contains.to_string(),
            "tainted": tainted,
            "sample": sample,
        },
    })
}

struct Document(Value);

struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let body = json!({ "data": self.0 }).to_string();
        ([(CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{
            "status": self.status.as_u16().to_string(),
            "title": self.status.canonical_reason(),
            "detail": self.text,
        }] });
        let headers = [(CONTENT_TYPE, MEDIA_TYPE)];
        (self.status, headers, body.to_string()).into_response()
    }
}
