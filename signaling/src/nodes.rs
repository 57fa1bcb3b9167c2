//! The nodes as this process reaches them: one connection each, how loaded they are, which failed.
//!
//! Owns which ring rooms are placed by: one that is shared, or that of the nodes that the registry knows.
//! Chooses nothing: `topology::placement` does.

mod assigned;
mod inspect;
mod link;
mod silence;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use pipemesh_proto::ids::NodeId;
use pipemesh_proto::node::{self as contract, NodeReport};
use pipemesh_service::Chain;
use pipemesh_topology::placement::{Load, NoNode, Placement, Request, place};
use pipemesh_topology::ring::{Members, Record};
use pipemesh_topology::{NodeRecord, NodeState, Registry, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use assigned::Untold;
pub(crate) use inspect::{Choice, Reached, Standing};
use inspect::{Choices, Inspections};
pub use link::Control;
use link::Link;
pub(crate) use stream::{Attached, NodeStream, StreamError};

use crate::metrics::Metrics;

/// What a participant costs a node of unknown size, as a part of what it can bear. Too low: a burst
/// of joins goes to one node before it has reported. Too high: it goes elsewhere too early.
const ASSUMED_COST: f64 = 0.002;

/// Sessions from which on a node's own report says what one costs.
const KNOWN_COST_SESSIONS: u32 = 20;

/// The registry's nodes, and the ring that rooms are placed by.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) snapshot: Arc<Snapshot>,
    ring: Arc<Record>,
}

/// A ring that several processes share, as last known.
pub(crate) type Rings = watch::Receiver<Arc<Record>>;

/// How a node stands.
#[derive(Debug)]
enum Reach {
    /// Not reached yet, and not failed.
    Trying,
    Up {
        report: NodeReport,
        /// Participants placed there since the report, by whichever process.
        assigned: u32,
    },
    Down,
}

struct Entry {
    link: Arc<Link>,
    reach: Reach,
    _watcher: AbortOnDropHandle<()>,
}

impl Entry {
    /// None: it cannot be reached.
    fn load(&self) -> Option<Load> {
        match &self.reach {
            Reach::Up { report, assigned } => Some(load(report, *assigned)),
            Reach::Trying | Reach::Down => None,
        }
    }
}

pub(crate) struct Nodes {
    control: Control,
    metrics: Arc<Metrics>,
    /// If it is shared; else it is the registry's nodes'.
    rings: Option<Rings>,
    /// Replaced as a whole when the nodes or the ring change; held for the copy of a pointer.
    mesh: RwLock<Arc<Mesh>>,
    /// Held for map accesses only.
    entries: Mutex<BTreeMap<NodeId, Entry>>,
    choices: Choices,
    inspections: Inspections,
    /// Whom this process has placed.
    untold: Untold,
    /// Counts changes of reach, so that one can be awaited.
    changes: watch::Sender<u64>,
}

impl Nodes {
    /// Follows the registry, and the ring if it is shared, until `stop`.
    pub(crate) fn start(
        registry: &dyn Registry,
        rings: Option<Rings>,
        control: Control,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + use<>) {
        let mut snapshots = registry.watch();
        let empty = Mesh {
            snapshot: Arc::default(),
            ring: Arc::new(Record::none()),
        };
        let mut changed_rings = rings.clone();
        let nodes = Arc::new(Self {
            control,
            metrics,
            rings,
            mesh: RwLock::new(Arc::new(empty)),
            entries: Mutex::default(),
            choices: Choices::default(),
            inspections: Inspections::default(),
            untold: Untold::default(),
            changes: watch::Sender::new(0),
        });
        let first = Arc::clone(&snapshots.borrow_and_update());
        nodes.follow(first);
        let follower = Arc::clone(&nodes);
        let task = async move {
            loop {
                let ring_changed = async {
                    match &mut changed_rings {
                        Some(rings) => rings.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => break,
                    changed = snapshots.changed() => if changed.is_err() { break },
                    changed = ring_changed => if changed.is_err() { break },
                }
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                follower.follow(snapshot);
            }
            stop.cancelled().await;
            follower.entries().clear();
        };
        (nodes, task)
    }

    pub(crate) fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Chooses a node for a participant.
    pub(crate) fn place(&self, request: &Request<'_>) -> Result<Placement, NoNode> {
        let outcome = self.choose(request);
        self.choices.add(Choice {
            at: SystemTime::now(),
            room: request.room.clone(),
            region: request.region.clone(),
            outcome: outcome.clone(),
        });
        outcome
    }

    fn choose(&self, request: &Request<'_>) -> Result<Placement, NoNode> {
        let mesh = self.mesh();
        // What is held meanwhile is not waited for longer than a placement takes.
        let entries = self.entries();
        let load = |node: &NodeId| entries.get(node)?.load();
        place(&mesh.snapshot, &mesh.ring.ring, &load, request)
    }

    /// Counts a participant that was placed, here and elsewhere, until the node's next report does.
    pub(crate) fn assign(&self, node: &NodeId) {
        self.count(node, 1);
        self.untold.add(node);
    }

    fn count(&self, node: &NodeId, participants: u32) {
        if let Some(Entry {
            reach: Reach::Up { assigned, .. },
            ..
        }) = self.entries().get_mut(node)
        {
            *assigned = assigned.saturating_add(participants);
        }
    }

    pub(crate) fn is_up(&self, node: &NodeId) -> bool {
        let entries = self.entries();
        entries
            .get(node)
            .is_some_and(|entry| matches!(entry.reach, Reach::Up { .. }))
    }

    /// Waits until a node is lost or drains, at most `limit`. Its reports say so, not what becomes of
    /// one session: a room is not to be moved because of that.
    pub(crate) async fn gives_up(&self, node: &NodeId, limit: Duration) -> bool {
        let mut changes = self.changes.subscribe();
        let gave_up = async {
            loop {
                changes.borrow_and_update();
                let drains = |load: Load| load.state == NodeState::Draining;
                let registered = self.mesh().snapshot.node(node).map(|node| node.state);
                if registered.is_none_or(|state| state == NodeState::Draining)
                    || self.load(node).is_none_or(drains)
                    || changes.changed().await.is_err()
                {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, gave_up).await.is_ok()
    }

    /// Nodes that can be reached and drain, and how many participants each has.
    pub(crate) fn draining(&self) -> BTreeMap<NodeId, u32> {
        let mesh = self.mesh();
        let entries = self.entries();
        let drains = |record: &NodeRecord| {
            let load = entries.get(&record.id)?.load()?;
            let state = load.state.max(record.state);
            (state == NodeState::Draining).then_some((record.id.clone(), load.participants))
        };
        mesh.snapshot.nodes().iter().filter_map(drains).collect()
    }

    /// Changes of what nodes there are, how they stand and what they report.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Nodes that can be reached.
    pub(crate) fn reachable(&self) -> usize {
        up(&self.entries())
    }

    /// Waits until of every node it is known whether it can be reached, at most `limit`. Else the
    /// first joins after a start would take rooms from nodes that were merely not asked yet.
    pub(crate) async fn known(&self, limit: Duration) {
        let mut changes = self.changes.subscribe();
        let known = async {
            loop {
                changes.borrow_and_update();
                let trying = |entry: &Entry| matches!(entry.reach, Reach::Trying);
                if !self.entries().values().any(trying) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, known).await;
    }

    fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        Some(Arc::clone(&self.entries().get(node)?.link))
    }

    fn load(&self, node: &NodeId) -> Option<Load> {
        self.entries().get(node)?.load()
    }

    /// Takes over what the registry says.
    fn follow(self: &Arc<Self>, snapshot: Arc<Snapshot>) {
        let mut entries = self.entries();
        let ids: BTreeSet<&NodeId> = snapshot.nodes().iter().map(|node| &node.id).collect();
        entries.retain(|id, _| ids.contains(id));
        for record in snapshot.nodes() {
            let current = entries.get(&record.id);
            if current.is_none_or(|entry| !entry.link.is_to(record)) {
                entries.insert(record.id.clone(), self.connect(record));
            }
        }
        self.tell_reachable(&entries);
        drop(entries);
        let ring = match &self.rings {
            Some(rings) => Ok(Arc::clone(&rings.borrow())),
            None => Record::new(0, 0, Members::from(&*snapshot)).map(Arc::new),
        };
        match ring {
            Ok(ring) => {
                let mesh = Arc::new(Mesh { snapshot, ring });
                *self.mesh.write().unwrap_or_else(PoisonError::into_inner) = mesh;
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::error!(error, "the ring cannot be built, the old one stays");
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn connect(self: &Arc<Self>, record: &NodeRecord) -> Entry {
        let link = Arc::new(Link::new(record, &self.control));
        let (weak, watched) = (Arc::downgrade(self), Arc::clone(&link));
        let id = record.id.clone();
        let watcher = async move {
            let report = |report: Option<NodeReport>| {
                let Some(nodes) = weak.upgrade() else { return };
                let reach = report.map_or(Reach::Down, |report| Reach::Up {
                    report,
                    assigned: 0,
                });
                nodes.set(&id, reach);
            };
            watched.watch(report).await;
        };
        Entry {
            link,
            reach: Reach::Trying,
            _watcher: AbortOnDropHandle::new(tokio::spawn(watcher)),
        }
    }

    fn set(&self, node: &NodeId, reach: Reach) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(node) else {
            return;
        };
        let (was_up, is_up) = (
            matches!(entry.reach, Reach::Up { .. }),
            matches!(reach, Reach::Up { .. }),
        );
        entry.reach = reach;
        if was_up != is_up {
            self.tell_reachable(&entries);
        }
        drop(entries);
        if was_up != is_up {
            if is_up {
                tracing::info!(%node, "node reached");
            } else {
                tracing::warn!(%node, "node lost");
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Under the lock: of two that are reached at once, the one that counted first could write last.
    fn tell_reachable(&self, entries: &BTreeMap<NodeId, Entry>) {
        self.metrics
            .nodes_up
            .set(i64::try_from(up(entries)).unwrap_or(0));
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn up(entries: &BTreeMap<NodeId, Entry>) -> usize {
    let is_up = |entry: &&Entry| matches!(entry.reach, Reach::Up { .. });
    entries.values().filter(is_up).count()
}

fn load(report: &NodeReport, assigned: u32) -> Load {
    let load = report.load.unwrap_or_default();
    let cost = if load.sessions >= KNOWN_COST_SESSIONS {
        load.ratio / f64::from(load.sessions)
    } else {
        ASSUMED_COST
    };
    Load {
        state: match report.state() {
            contract::NodeState::Serving => NodeState::Serving,
            contract::NodeState::Full => NodeState::Full,
            // A state of a later contract: nobody new.
            contract::NodeState::Draining | contract::NodeState::Unspecified => NodeState::Draining,
        },
        ratio: load.ratio + cost * f64::from(assigned),
        participants: load.sessions.saturating_add(assigned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_placed_since_the_report_counts() {
        let report = |sessions, ratio, state: contract::NodeState| NodeReport {
            state: state.into(),
            load: Some(contract::NodeLoad {
                ratio,
                sessions,
                ..Default::default()
            }),
            ..Default::default()
        };
        use contract::NodeState::{Full, Serving, Unspecified};
        let check = |report: NodeReport, assigned, state, ratio: f64| {
            let load = load(&report, assigned);
            assert_eq!(load.state, state);
            assert!((load.ratio - ratio).abs() < 1e-9, "{load:?}");
            let sessions = report.load.unwrap().sessions;
            assert_eq!(load.participants, sessions + assigned);
        };
        check(report(0, 0.0, Serving), 10, NodeState::Serving, 0.02);
        check(report(100, 0.5, Serving), 10, NodeState::Serving, 0.55);
        check(report(100, 0.9, Full), 0, NodeState::Full, 0.9);
        check(report(0, 0.0, Unspecified), 0, NodeState::Draining, 0.0);
    }
}
