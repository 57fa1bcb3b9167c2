//! Nodes as an operator looks at them, and what he tells them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::{DrainRequest, NodeReport, UndrainRequest};
use pipemesh_topology::placement::{Load, NoNode, Placement, Refusal, Request, verdicts};
use pipemesh_topology::{Homes, NodeRecord, RoomName};
use tonic::Status;

use super::{Nodes, Reach, StreamError};

/// Choices that are remembered. Full: the oldest is forgotten.
const RECENT: usize = 256;

/// Time for a node to do what the operator says.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How a node stands, as this process knows it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// As the registry has it.
    pub(crate) record: NodeRecord,
    pub(crate) reach: Reached,
}

#[derive(Debug, Clone)]
pub(crate) enum Reached {
    Trying,
    /// Its report, and participants that were placed there since.
    Up(Box<NodeReport>, u32),
    Down,
}

/// A choice that was made.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) at: SystemTime,
    pub(crate) room: RoomName,
    pub(crate) region: Region,
    pub(crate) outcome: Result<Placement, NoNode>,
}

/// The last choices, the newest last.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// Held to add one, or to copy them.
    last: Mutex<VecDeque<Choice>>,
}

impl Choices {
    pub(super) fn add(&self, choice: Choice) {
        let mut last = self.lock();
        if last.len() == RECENT {
            last.pop_front();
        }
        last.push_back(choice);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Choice>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let mesh = self.mesh();
        let entries = self.entries();
        let standing = |record: &NodeRecord| {
            let reach = match entries.get(&record.id).map(|entry| &entry.reach) {
                Some(Reach::Up { report, assigned }) => {
                    Reached::Up(Box::new(report.clone()), *assigned)
                }
                Some(Reach::Trying) => Reached::Trying,
                Some(Reach::Down) | None => Reached::Down,
            };
            Standing {
                record: record.clone(),
                reach,
            }
        };
        mesh.snapshot.nodes().iter().map(standing).collect()
    }

    /// What would be chosen, and whether each node is open to a new room.
    pub(crate) fn weigh(
        &self,
        room: &RoomName,
        region: &Region,
        homes: Option<&Homes>,
        spans: bool,
    ) -> (
        Result<Placement, NoNode>,
        BTreeMap<NodeId, Result<Load, Refusal>>,
    ) {
        let excluded = BTreeSet::new();
        let request = Request {
            room,
            region,
            others: &[],
            allowed: None,
            homes,
            spans,
            excluded: &excluded,
        };
        let mesh = self.mesh();
        let load = |node: &NodeId| self.load(node);
        let verdicts = verdicts(&mesh.snapshot, &mesh.ring.ring, &load, &request);
        (self.choose(&request), verdicts)
    }

    /// The last choices, the newest first.
    pub(crate) fn choices(&self) -> Vec<Choice> {
        self.choices.lock().iter().rev().cloned().collect()
    }

    /// Tells a node to take nobody new, or to serve again; answers how it is then.
    pub(crate) async fn drain(
        &self,
        node: &NodeId,
        drain: bool,
    ) -> Result<NodeReport, StreamError> {
        let link = self.link(node).ok_or(StreamError::Unknown)?;
        let mut client = link.client().map_err(|_| StreamError::Unknown)?;
        let told = async {
            match drain {
                true => client.drain(DrainRequest {}).await,
                false => client.undrain(UndrainRequest {}).await,
            }
        };
        let late = |_| StreamError::Timeout;
        let answer = tokio::time::timeout(ANSWER_LIMIT, told)
            .await
            .map_err(late)?;
        let failed = |status: Status| StreamError::Status(Box::new(status));
        Ok(answer.map_err(failed)?.into_inner())
    }
}
