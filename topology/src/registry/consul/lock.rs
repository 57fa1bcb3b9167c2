//! One lock of Consul's, of which one process at a time is the holder.
//!
//! A holder that is cut off stops believing before another can begin. What it may have sent by then is
//! told from the other's by the fence, which grows with every holder.

mod lease;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Error, Request};
use super::{chain, now};
use lease::{Lease, TTL};

/// How long the lock of a dead holder stays closed after its session. Fences make more unnecessary.
const LOCK_DELAY: &str = "1s";
/// Until a lock that was free and could not be had is tried for again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const RETRY_AT_MOST: Duration = Duration::from_secs(4);
/// How long to wait for news of a lock that somebody holds, in one request.
const WAIT: Duration = Duration::from_secs(20);

/// Tries to hold a lock for as long as it exists, and lets go of it when dropped.
#[derive(Debug)]
pub struct Lock {
    lease: watch::Receiver<Option<Lease>>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Lock {
    /// Begins to try. `key` is a path in Consul's key-value store; `who` is for people who look there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn contend(client: Client, key: &str, who: &str) -> Self {
        let (sender, lease) = watch::channel(None);
        let stop = CancellationToken::new();
        let contender = Contender {
            client,
            key: key.to_owned(),
            who: who.to_owned(),
            session: None,
            lease: sender,
        };
        let task = Some(tokio::spawn(contender.run(stop.clone())));
        Self { lease, stop, task }
    }

    /// While this process is the holder: what tells its writes from those of earlier holders. Grows
    /// with each of them, unless Consul loses its data.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        let lease = *self.lease.borrow();
        lease
            .filter(|lease| lease.is_held(now()))
            .map(|lease| lease.fence)
    }

    /// Waits until [`Self::fence`] differs from `known`.
    pub async fn changed_from(&self, known: Option<u64>) {
        let mut lease = self.lease.clone();
        while self.fence() == known {
            let until = lease.borrow_and_update().map(|lease| lease.until());
            let end = async {
                match until {
                    Some(until) => tokio::time::sleep_until(Instant::from_std(until)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = lease.changed() => if changed.is_err() {
                    // The task has ended: it is with `stop`, and nobody is told anything more.
                    return;
                },
                () = end => {}
            }
        }
    }

    /// Lets go, and waits until others can have it; no longer than two requests may take.
    pub async fn release(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The task lets go and ends by itself.
        self.stop.cancel();
    }
}

struct Contender {
    client: Client,
    key: String,
    who: String,
    /// Ours at Consul, if there is one.
    session: Option<Arc<str>>,
    lease: watch::Sender<Option<Lease>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    lock_index: u64,
    #[serde(default)]
    session: Option<String>,
}

#[derive(Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
}

impl Contender {
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.contend() => {}
        }
        self.lease.send_replace(None);
        self.end_session().await;
    }

    async fn contend(&mut self) {
        let mut failures = 0;
        loop {
            let outcome = self.hold_once().await;
            if self.lease.send_replace(None).is_some() {
                tracing::warn!(key = self.key, "the lock is lost");
            }
            self.end_session().await;
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    AGAIN_AFTER
                }
                Err(error) => {
                    if failures == 0 {
                        let error = chain(&error);
                        tracing::warn!(key = self.key, error, "cannot try for the lock");
                    }
                    failures += 1;
                    (AGAIN_AFTER * 2_u32.pow(failures.min(4))).min(RETRY_AT_MOST)
                }
            };
            let spread = 0.75 + rand::random::<f64>() / 2.0;
            tokio::time::sleep(pause.mul_f64(spread)).await;
        }
    }

    /// Waits until the lock is free, takes it if it can be had, and returns when it is lost.
    async fn hold_once(&mut self) -> Result<(), Error> {
        self.wait_until_free().await?;
        // Only who may get the lock has a session, so that nobody else has to renew one.
        let asked = now();
        let session = self.create_session().await?;
        let body = json!({ "holder": self.who }).to_string();
        let request = self.request(Request::put).query("acquire", &*session);
        let answer = self.client.send(request.text(&body)).await?;
        if !answer.json::<bool>()? {
            return Ok(());
        }
        let Some(fence) = self.fence(&session).await? else {
            return Ok(());
        };
        let lease = Lease::new(fence, asked);
        tracing::info!(key = self.key, fence, "the lock is held");
        self.lease.send_replace(Some(lease));
        self.keep(&session, lease).await;
        Ok(())
    }

    async fn wait_until_free(&self) -> Result<(), Error> {
        let mut index = 0;
        loop {
            let mut request = self.request(Request::get);
            if index > 0 {
                request = request.wait(index, WAIT);
            }
            let answer = self.client.send(request).await?;
            if !answer.found || holder(&answer.json::<Vec<Key>>()?).is_none() {
                return Ok(());
            }
            index = if answer.index < index {
                0
            } else {
                answer.index
            };
            if index == 0 {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Returns when the lock is lost, or can no longer be believed to be held.
    async fn keep(&self, session: &str, mut lease: Lease) {
        loop {
            tokio::time::sleep_until(Instant::from_std(lease.renew_at())).await;
            let asked = now();
            let end = Instant::from_std(lease.until());
            match tokio::time::timeout_at(end, self.renew(session)).await {
                Ok(Ok(Some(fence))) if fence == lease.fence => {
                    lease.handle_renewed(asked);
                    self.lease.send_replace(Some(lease));
                }
                Ok(Ok(_)) | Err(_) => return,
                Ok(Err(error)) => {
                    let error = chain(&error);
                    tracing::debug!(key = self.key, error, "cannot renew the lock's session");
                    lease.handle_failure(now());
                }
            }
        }
    }

    /// Prolongs the session; answers the fence if it still holds the lock, which an operator can take.
    async fn renew(&self, session: &str) -> Result<Option<u64>, Error> {
        let request = Request::put(&format!("session/renew/{session}"));
        if self.client.send(request).await?.found {
            self.fence(session).await
        } else {
            Ok(None)
        }
    }

    async fn fence(&self, session: &str) -> Result<Option<u64>, Error> {
        let request = self.request(Request::get).query("consistent", "");
        let answer = self.client.send(request).await?;
        if !answer.found {
            return Ok(None);
        }
        let keys: Vec<Key> = answer.json()?;
        let ours = holder(&keys).is_some_and(|holder| holder == session);
        Ok(keys.first().filter(|_| ours).map(|key| key.lock_index))
    }

    async fn create_session(&mut self) -> Result<Arc<str>, Error> {
        // Without checks: renewals alone say who lives. The default, that the agent does, costs the
        // lock when the agent stumbles, and sessions cannot be had right after its start.
        let body = json!({
            "Name": self.key,
            "TTL": format!("{}s", TTL.as_secs()),
            "LockDelay": LOCK_DELAY,
            "Behavior": "release",
            "Checks": [],
        });
        let answer = self
            .client
            .send(Request::put("session/create").json(&body))
            .await?;
        let session: Arc<str> = answer.json::<Session>()?.id.into();
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Gives back what may be held, as far as Consul can be reached; its clock does the rest.
    async fn end_session(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        // A lock that is given back is free at once, one whose session ends is not.
        let release = self.request(Request::put).query("release", &*session);
        let destroy = Request::put(&format!("session/destroy/{session}"));
        for request in [release, destroy] {
            if let Err(error) = self
                .client
                .send(request.within(Duration::from_secs(1)))
                .await
            {
                let error = chain(&error);
                tracing::debug!(key = self.key, error, "cannot end the lock's session");
            }
        }
    }

    fn request(&self, method: fn(&str) -> Request) -> Request {
        method(&format!("kv/{}", self.key))
    }
}

fn holder(keys: &[Key]) -> Option<&str> {
    keys.first()?.session.as_deref().filter(|id| !id.is_empty())
}
