//! Webhooks: what happens in rooms, said over HTTP to whom the settings name.
//!
//! Each address has a queue and a task of its own: one that is slow or away delays no other, and what
//! happens is said to it in order. What must not happen is that rooms wait: a queue that is full drops,
//! and what nobody takes for long is given up; both are counted.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use livekit_protocol::WebhookEvent;
use pipemesh_proto::ids::SessionId;
use pipemesh_service::Chain;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::auth::ApiKey;
use crate::metrics::{Metrics, WebhookEnd};

/// Events that wait for one address, of a few kilobytes each: minutes of a busy mesh. Full: a new one is
/// dropped.
const QUEUE: usize = 4096;

/// How long an address may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Times that an event is said, and the pauses in between, which double up to the longest: half a minute
/// in all, for a service that starts again.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// How long a process that stops goes on saying what has happened.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Who is told, and whose secret it is signed with.
#[derive(Clone)]
pub struct Webhooks {
    /// They may hold a secret: their hosts alone may be printed.
    pub urls: Vec<reqwest::Url>,
    pub key: ApiKey,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.urls.iter().map(reqwest::Url::host_str).collect();
        f.debug_struct("Webhooks")
            .field("hosts", &hosts)
            .field("key", &self.key)
            .finish()
    }
}

/// Takes what has happened. Cloned freely.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    queues: Arc<[mpsc::Sender<Bytes>]>,
    /// Events that are queued or being said.
    pending: watch::Sender<usize>,
    metrics: Option<Arc<Metrics>>,
}

impl Hooks {
    /// Nobody is told.
    pub(crate) fn none() -> Self {
        Self {
            queues: Arc::default(),
            pending: watch::Sender::new(0),
            metrics: None,
        }
    }

    /// What takes events, and what says them.
    pub(crate) fn start(
        webhooks: Webhooks,
        metrics: Arc<Metrics>,
    ) -> reqwest::Result<(Self, Vec<impl Future<Output = ()> + Send + use<>>)> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let pending = watch::Sender::new(0);
        let (mut queues, mut speakers) = (Vec::new(), Vec::new());
        for url in webhooks.urls {
            let (queue, events) = mpsc::channel(QUEUE);
            let speaker = Speaker {
                client: client.clone(),
                url,
                key: webhooks.key.clone(),
                metrics: Arc::clone(&metrics),
                pending: pending.clone(),
            };
            queues.push(queue);
            speakers.push(speaker.run(events));
        }
        let hooks = Self {
            queues: queues.into(),
            pending,
            metrics: Some(metrics),
        };
        Ok((hooks, speakers))
    }

    /// Whether anybody is told.
    pub(crate) fn are_set(&self) -> bool {
        !self.queues.is_empty()
    }

    pub(crate) fn say(&self, event: WebhookEvent) {
        if !self.are_set() {
            return;
        }
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let event = WebhookEvent {
            id: format!("EV_{}", SessionId::random()),
            created_at: i64::try_from(since_1970.as_secs()).unwrap_or(0),
            ..event
        };
        let body = match serde_json::to_vec(&event) {
            Ok(body) => Bytes::from(body),
            // An enumeration of a number that has no name.
            Err(error) => return tracing::warn!(%error, "an event cannot be written"),
        };
        for queue in &*self.queues {
            self.pending.send_modify(|pending| *pending += 1);
            if queue.try_send(body.clone()).is_err() {
                self.pending.send_modify(|pending| *pending -= 1);
                if let Some(metrics) = &self.metrics {
                    metrics.webhook(WebhookEnd::QueueFull);
                }
            }
        }
    }

    /// Waits until everything is said, for a while.
    pub(crate) async fn flushed(&self) {
        let mut pending = self.pending.subscribe();
        let said = pending.wait_for(|pending| *pending == 0);
        if timeout(FLUSH_LIMIT, said).await.is_err() {
            tracing::warn!("some webhooks were not told what has happened");
        }
    }
}

/// Says events to one address.
struct Speaker {
    client: reqwest::Client,
    url: reqwest::Url,
    key: ApiKey,
    metrics: Arc<Metrics>,
    pending: watch::Sender<usize>,
}

/// Why an event was not taken.
enum Refusal {
    /// It may be taken later.
    Passing(String),
    Final(StatusCode),
}

impl Speaker {
    /// For as long as anybody has something to say, which is as long as the process lives.
    async fn run(self, mut events: mpsc::Receiver<Bytes>) {
        while let Some(event) = events.recv().await {
            let host = self.url.host_str().unwrap_or_default();
            let end = insist(host, &self.metrics, || self.say_once(&event)).await;
            self.metrics.webhook(end);
            self.pending.send_modify(|pending| *pending -= 1);
        }
    }

    async fn say_once(&self, event: &Bytes) -> Result<(), Refusal> {
        let token = self.key.sign_body(event);
        let token = token.ok_or_else(|| Refusal::Passing("it cannot be signed".to_owned()))?;
        let request = self
            .client
            .post(self.url.clone())
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/webhook+json")
            .body(event.clone());
        // The address may hold a secret.
        let answer = request.send().await.map_err(|error| error.without_url());
        let answer = answer.map_err(|error| Refusal::Passing(Chain(&error).to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(Refusal::Passing(status.to_string()))
            }
            status if status.is_server_error() => Err(Refusal::Passing(status.to_string())),
            status => Err(Refusal::Final(status)),
        }
    }
}

/// Says an event until it is taken, or refused for good, or has been said often enough.
async fn insist<S: Future<Output = Result<(), Refusal>>>(
    host: &str,
    metrics: &Metrics,
    mut say: impl FnMut() -> S,
) -> WebhookEnd {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        match say().await {
            Ok(()) => return WebhookEnd::Delivered,
            Err(Refusal::Final(status)) => {
                tracing::warn!(host, %status, "a webhook refuses an event");
                return WebhookEnd::Refused;
            }
            Err(Refusal::Passing(error)) if attempt == ATTEMPTS => {
                tracing::warn!(host, error, "a webhook takes nothing, an event is given up");
            }
            Err(Refusal::Passing(error)) => {
                tracing::debug!(host, error, "a webhook did not take an event");
                metrics.webhook_retries.inc();
                sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
    WebhookEnd::GivenUp
}

#[cfg(test)]
mod tests;
