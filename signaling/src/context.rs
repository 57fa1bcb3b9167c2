//! What every part of this process shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use livekit_protocol::IceServer;
use pipemesh_proto::ids::Region;
use pipemesh_topology::geo::Clues;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Grants, Keys};
use crate::geo::Geo;
use crate::livekit::query::Query;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::orders::Post;
use crate::rooms::Rooms;
use crate::sessions::Sessions;
use crate::source::{Joins, Network};
use crate::turn::{Turn, ice_servers};

pub(crate) struct Context {
    pub(crate) keys: Keys,
    pub(crate) rooms: Rooms,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) sessions: Sessions,
    pub(crate) post: Post,
    pub(crate) metrics: Arc<Metrics>,
    /// Where this process is; participants are placed there if nothing else tells where they are.
    pub(crate) region: Region,
    pub(crate) geo: Geo,
    /// Whether joining opens a room.
    pub(crate) auto_create: bool,
    /// A room may be on several nodes, where those have pipes.
    pub(crate) rooms_may_span: bool,
    /// Participants moved from a node that drains, a second.
    pub(crate) drain_rate: u32,
    pub(crate) resume_grace: Duration,
    pub(crate) turn: Option<Turn>,
    pub(crate) stun: Vec<String>,
    pub(crate) demo: bool,
    /// Whose word counts on where a request comes from.
    pub(crate) proxies: Vec<Network>,
    pub(crate) joins: Joins,
    /// Joins and sessions. They outlive the requests that started them.
    pub(crate) tasks: TaskTracker,
    /// Nobody new is let in any more.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// Whether a room may be on several nodes at present.
    pub(crate) fn rooms_span(&self) -> bool {
        self.rooms_may_span && self.nodes.mesh().snapshot.is_piped()
    }

    /// Time between two who follow a room to another node. Without pipes nobody hears the others until all
    /// have moved, so all move at once.
    pub(crate) fn move_interval(&self) -> Duration {
        match self.rooms_span() {
            true => Duration::from_secs(1) / self.drain_rate,
            false => Duration::ZERO,
        }
    }

    /// What is known of where somebody is.
    pub(crate) fn clues(
        &self,
        grants: Option<&Grants>,
        query: &Query,
        headers: &HeaderMap,
        peer: SocketAddr,
    ) -> Clues {
        self.geo.clues(grants, query, headers, peer, &self.proxies)
    }

    pub(crate) fn ice_servers(&self, identity: &str) -> Vec<IceServer> {
        ice_servers(self.turn.as_ref(), &self.stun, identity, SystemTime::now())
    }
}
