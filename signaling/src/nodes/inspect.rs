//! Nodes as an operator looks at them, and what he tells them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use pipemesh_proto::ids::{NodeId, Region, RoomId, SessionId};
use pipemesh_proto::node::{
    DrainRequest, InspectPipesRequest, InspectPipesResponse, InspectRoomRequest, NodeReport,
    SessionSummary, UndrainRequest,
};
use pipemesh_topology::placement::{Load, NoNode, Placement, Refusal, Request, verdicts};
use pipemesh_topology::{Homes, NodeRecord, RoomName};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;

use super::link::Client;
use super::{Nodes, Reach, StreamError};

/// Choices that are remembered. Full: the oldest is forgotten.
const RECENT: usize = 256;

/// Inspections at a time, for each of which several nodes are asked: whoever has a token may ask for them.
const INSPECTIONS: usize = 16;

/// Time for a node to do what the operator says, and to say what somebody asks.
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

/// Bounds how much is inspected at a time.
pub(super) struct Inspections(Semaphore);

impl Default for Inspections {
    fn default() -> Self {
        Self(Semaphore::new(INSPECTIONS))
    }
}

impl Nodes {
    /// A place among those who inspect; `None`: all are taken.
    pub(crate) fn may_inspect(&self) -> Option<SemaphorePermit<'_>> {
        self.inspections.0.try_acquire().ok()
    }

    /// A session as its node sees it; `None`: there is none.
    pub(crate) async fn inspect_session(
        &self,
        node: &NodeId,
        room: &RoomId,
        session: &SessionId,
    ) -> Result<Option<SessionSummary>, StreamError> {
        let request = InspectRoomRequest {
            room_id: room.to_string(),
            session_id: session.to_string(),
        };
        let mut client = self.client(node)?;
        let answer = in_time(client.inspect_room(request)).await?;
        // One of an earlier version answers with the whole room.
        let mut sessions = answer.sessions.into_iter();
        Ok(sessions.find(|summary| summary.session_id == session.as_str()))
    }

    pub(crate) async fn inspect_pipes(
        &self,
        node: &NodeId,
        request: &InspectPipesRequest,
    ) -> Result<InspectPipesResponse, StreamError> {
        let mut client = self.client(node)?;
        in_time(client.inspect_pipes(request.clone())).await
    }

    fn client(&self, node: &NodeId) -> Result<Client, StreamError> {
        let link = self.link(node).ok_or(StreamError::Unknown)?;
        link.client().map_err(|_| StreamError::Unknown)
    }

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
        let mut client = self.client(node)?;
        match drain {
            true => in_time(client.drain(DrainRequest {})).await,
            false => in_time(client.undrain(UndrainRequest {})).await,
        }
    }
}

async fn in_time<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, StreamError> {
    let late = |_| StreamError::Timeout;
    let answer = tokio::time::timeout(ANSWER_LIMIT, asked)
        .await
        .map_err(late)?;
    let failed = |status: Status| StreamError::Status(Box::new(status));
    Ok(answer.map_err(failed)?.into_inner())
}
