//! The registry of a mesh of many machines: Consul, over the HTTP API of the agent next door.
//!
//! Does what is asked and decides nothing: what a record looks like is in `service`, what to believe
//! of an answer in `watch`, how the agent is reached in `config` and `client`. While Consul cannot be
//! reached, or answers nonsense, the nodes stay as last known.

mod client;
pub mod config;
pub mod lock;
mod service;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pipemesh_proto::ids::NodeId;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use client::{Client, Error as ConsulError, StartError};
pub use config::Config;
pub use lock::Lock;
pub use service::{InvalidServiceName, ServiceName};

use super::{Registry, RegistryError};
use crate::snapshot::{NodeRecord, NodeState, Snapshot};
use client::{Answer, Request};
use service::{Claim, Entry, Ids, Initial, Listing, Status, registration};
use watch::{Failure, Query, Trouble, Watch};

/// What Consul 1.8 answers with 500 when a heartbeat is for nobody; later versions answer 404.
const UNKNOWN_CHECK: &str = "does not have associated TTL";

/// How the nodes of a mesh are registered.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub service: ServiceName,
    /// The control endpoint speaks TLS, so the agent has to when it probes.
    pub control_tls: bool,
}

/// How good the list of nodes is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// When Consul last answered with a list of nodes, or said that there is no news.
    pub last_success: Option<SystemTime>,
    /// Queries that failed, since the start.
    pub errors: u64,
    /// The list is the last good one, and may be out of date.
    pub stale: bool,
}

#[derive(Debug)]
pub struct ConsulRegistry {
    client: Client,
    settings: Settings,
    /// What this process has registered. Held for map accesses only.
    written: Mutex<BTreeMap<NodeId, Written>>,
    /// Who holds which node id, as last listed. Held for map accesses only.
    holders: Mutex<BTreeMap<NodeId, Claim>>,
    snapshot: Sender<Arc<Snapshot>>,
    freshness: Sender<Freshness>,
}

#[derive(Debug, Clone)]
struct Written {
    node: NodeRecord,
    generation: u64,
}

impl Written {
    fn claim(&self) -> Claim {
        Claim {
            generation: self.generation,
            boot_id: self.node.boot_id,
        }
    }
}

impl ConsulRegistry {
    #[must_use]
    pub fn new(client: Client, settings: Settings) -> Self {
        Self {
            client,
            settings,
            written: Mutex::default(),
            holders: Mutex::default(),
            snapshot: Sender::default(),
            freshness: Sender::new(Freshness {
                stale: true,
                ..Freshness::default()
            }),
        }
    }

    #[must_use]
    pub fn freshness(&self) -> Receiver<Freshness> {
        self.freshness.subscribe()
    }

    /// Follows the list of nodes until `stop`. Nothing is known before this runs.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut watch = Watch::new(now());
        let follow = async {
            loop {
                tokio::time::sleep_until(Instant::from_std(watch.due())).await;
                let outcome = self.list(watch.query(now())).await;
                self.take(&mut watch, outcome);
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow => {}
        }
    }

    async fn list(&self, query: Query) -> Result<(u64, Listing), ConsulError> {
        let mut request = Request::get(&format!("health/service/{}", self.settings.service));
        if query.index > 0 {
            request = request.wait(query.index, query.wait);
        }
        let answer = self.client.send(request).await?;
        Ok((answer.index, listing(&answer)?))
    }

    fn take(&self, watch: &mut Watch, outcome: Result<(u64, Listing), ConsulError>) {
        let before = watch.trouble();
        let unreadable = watch.unreadable().clone();
        let mut cause = None;
        match outcome {
            Ok((index, listing)) => watch.handle_answer(index, listing, now()),
            Err(error) => {
                watch.handle_failure(failure(&error), rand::random(), now());
                cause = Some(error);
            }
        }
        let next = watch.snapshot();
        if watch.trouble() != before {
            say(watch.trouble(), cause.as_ref(), &next);
        }
        say_unreadable(&unreadable, watch.unreadable());
        self.freshness.send_modify(|freshness| {
            freshness.stale = watch.trouble().is_some();
            match cause {
                Some(_) => freshness.errors += 1,
                None if !freshness.stale => freshness.last_success = Some(SystemTime::now()),
                None => {}
            }
        });
        self.holders().clone_from(watch.holders());
        self.snapshot.send_if_modified(|snapshot| {
            let changed = **snapshot != next;
            if changed {
                *snapshot = Arc::new(next);
            }
            changed
        });
    }

    /// Everything that is registered under the node's id, on whichever agent.
    async fn holder(&self, node: &NodeId) -> Result<Option<Claim>, ConsulError> {
        let service = Ids::new(&self.settings.service, node, 0).service;
        let request = Request::get(&format!("health/service/{}", self.settings.service));
        let request = request.query("filter", format!("Service.ID == \"{service}\""));
        let listing = listing(&self.client.send(request).await?)?;
        Ok(listing.holders.get(node).copied())
    }

    /// Writes the record. `replace` drops the checks that stand, maintenance among them.
    async fn write(&self, written: &Written, probe: Status, replace: bool) -> Outcome {
        let Settings {
            service,
            control_tls,
        } = &self.settings;
        let initial = Initial {
            heartbeat: match written.node.state {
                NodeState::Serving => Status::Passing,
                NodeState::Full => Status::Warning,
                // Until the maintenance stands that says so, the node is not to be seen at all.
                NodeState::Draining => Status::Critical,
            },
            probe,
        };
        let body = registration(
            service,
            &written.node,
            written.generation,
            *control_tls,
            initial,
        );
        let mut request = Request::put("agent/service/register").json(&body.map_err(unusable)?);
        if replace {
            request = request.query("replace-existing-checks", "true");
        }
        let answer = self.client.send(request).await.map_err(unusable)?;
        self.expect_found(&written.node.id, &answer)
    }

    async fn set_maintenance(&self, node: &NodeRecord, on: bool) -> Outcome {
        let service = Ids::new(&self.settings.service, &node.id, node.boot_id).service;
        let request = Request::put(&format!("agent/service/maintenance/{service}"))
            .query("enable", on.to_string())
            .query("reason", "drain");
        let answer = self.client.send(request).await.map_err(unusable)?;
        self.expect_found(&node.id, &answer)
    }

    /// Says that the node lives. The agent forwards it only if the state differs.
    async fn feed(&self, node: &NodeRecord) -> Outcome {
        let check = Ids::new(&self.settings.service, &node.id, node.boot_id).heartbeat;
        let status = match node.state {
            NodeState::Full => "warn",
            NodeState::Serving | NodeState::Draining => "pass",
        };
        let request = Request::put(&format!("agent/check/{status}/{check}"));
        match self.client.send(request).await {
            Ok(answer) => self.expect_found(&node.id, &answer),
            Err(ConsulError::Refused { reason, .. }) if reason.contains(UNKNOWN_CHECK) => {
                Err(RegistryError::NotRegistered(node.id.clone()))
            }
            Err(error) => Err(unusable(error)),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what is expected of this registry"
    )]
    fn expect_found(&self, node: &NodeId, answer: &Answer) -> Outcome {
        if answer.found {
            Ok(())
        } else {
            Err(RegistryError::NotRegistered(node.clone()))
        }
    }

    /// What was written for this boot.
    fn own(&self, node: &NodeId, boot_id: u64) -> Result<Written, RegistryError> {
        let written = self.written().get(node).cloned();
        let written = written.ok_or_else(|| RegistryError::NotRegistered(node.clone()))?;
        let holder = self.holders().get(node).copied();
        if written.node.boot_id != boot_id || holder > Some(written.claim()) {
            return Err(RegistryError::TakenOver(node.clone()));
        }
        Ok(written)
    }

    /// Writes what differs, and feeds the heartbeat in any case.
    async fn bring_up_to_date(&self, before: &NodeRecord, after: &Written) -> Outcome {
        let node = &after.node;
        let state = before.state;
        if *before
            != (NodeRecord {
                state,
                ..node.clone()
            })
        {
            self.write(after, Status::Passing, false).await?;
        }
        let drains = node.state == NodeState::Draining;
        if drains != (state == NodeState::Draining) {
            self.set_maintenance(node, drains).await?;
        }
        self.feed(node).await
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<NodeId, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<NodeId, Claim>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Outcome = Result<(), RegistryError>;

#[async_trait]
impl Registry for ConsulRegistry {
    async fn register(&self, node: NodeRecord) -> Result<(), RegistryError> {
        let known = self.written().get(&node.id).cloned();
        let known = known.filter(|known| known.node.boot_id == node.boot_id);
        let holder = self.holder(&node.id).await.map_err(unusable)?;
        // A record that this boot has had before and that got lost: the agent has probed it all along.
        let (generation, probe) = match &known {
            Some(known) if holder > Some(known.claim()) => {
                return Err(RegistryError::TakenOver(node.id));
            }
            Some(known) => (known.generation, Status::Passing),
            None => (next_generation(holder), Status::Critical),
        };
        let written = Written { node, generation };
        self.write(&written, probe, true).await?;
        if written.node.state == NodeState::Draining {
            self.set_maintenance(&written.node, true).await?;
            self.feed(&written.node).await?;
        }
        self.written().insert(written.node.id.clone(), written);
        Ok(())
    }

    async fn update(&self, node: NodeRecord) -> Result<(), RegistryError> {
        let written = self.own(&node.id, node.boot_id)?;
        let before = written.node.clone();
        let after = Written { node, ..written };
        match self.bring_up_to_date(&before, &after).await {
            Ok(()) => {
                self.written().insert(before.id, after);
                Ok(())
            }
            // The agent has forgotten the record, or somebody else's stands in its place.
            Err(RegistryError::NotRegistered(id)) => {
                let holder = self.holder(&id).await.map_err(unusable)?;
                if holder > Some(after.claim()) {
                    Err(RegistryError::TakenOver(id))
                } else {
                    Err(RegistryError::NotRegistered(id))
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn deregister(&self, node: &NodeId, boot_id: u64) -> Result<(), RegistryError> {
        let written = self.own(node, boot_id)?;
        if self.holder(node).await.map_err(unusable)? > Some(written.claim()) {
            return Err(RegistryError::TakenOver(node.clone()));
        }
        let service = Ids::new(&self.settings.service, node, boot_id).service;
        let request = Request::put(&format!("agent/service/deregister/{service}"));
        let answer = self.client.send(request).await.map_err(unusable)?;
        self.written().remove(node);
        self.expect_found(node, &answer)
    }

    fn watch(&self) -> Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn next_generation(holder: Option<Claim>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let after = holder.map_or(0, |holder| holder.generation.saturating_add(1));
    now.max(after)
}

fn listing(answer: &Answer) -> Result<Listing, ConsulError> {
    Ok(Listing::read(&answer.json::<Vec<Entry>>()?))
}

fn unusable(error: impl Error + Send + Sync + 'static) -> RegistryError {
    RegistryError::Unavailable(Box::new(error))
}

fn failure(error: &ConsulError) -> Failure {
    match error {
        ConsulError::Unreachable(_) => Failure::Unreachable,
        ConsulError::Denied(_)
        | ConsulError::Refused { .. }
        | ConsulError::Unreadable(_)
        | ConsulError::Token { .. }
        | ConsulError::InvalidToken { .. } => Failure::Refused,
    }
}

/// Tells the operator of a change, once.
fn say(trouble: Option<Trouble>, cause: Option<&ConsulError>, nodes: &Snapshot) {
    let kept = nodes.nodes().len();
    match trouble {
        None => tracing::info!(nodes = kept, "Consul lists the nodes"),
        Some(Trouble::Failing) => {
            let error = cause.map(chain).unwrap_or_default();
            tracing::warn!(
                error,
                kept,
                "Consul does not list the nodes, those last known stay"
            );
        }
        Some(Trouble::Empty) if kept == 0 => tracing::info!(
            "Consul lists no node: none has registered, or the token lacks service:read and node:read"
        ),
        Some(Trouble::Empty) => tracing::warn!(
            kept,
            "Consul lists no node, those last known stay: it has lost them, or the token lacks \
             service:read and node:read"
        ),
    }
}

fn say_unreadable(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    for service in after.difference(before) {
        tracing::warn!(
            service,
            "a node's record in Consul cannot be read and is ignored"
        );
    }
}

/// An error with its causes.
fn chain(error: &ConsulError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
