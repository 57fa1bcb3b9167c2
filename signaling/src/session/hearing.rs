//! On which nodes the participant's own listens to the room.

use std::collections::BTreeSet;

use pipemesh_proto::ids::NodeId;
use pipemesh_proto::node::HearNodes;
use pipemesh_proto::node::session_request::Request;

use super::link::{Asked, Link};

/// What the node was last told.
#[derive(Debug, Default)]
pub(super) struct Hearing(BTreeSet<NodeId>);

impl Hearing {
    /// The room is on these nodes.
    pub(super) fn handle_nodes(&mut self, nodes: &BTreeSet<NodeId>, own: &NodeId, link: &mut Link) {
        let elsewhere = || nodes.iter().filter(|node| *node != own);
        // Nearly always so; each change in a room comes by here.
        if elsewhere().count() == self.0.len() && elsewhere().all(|node| self.0.contains(node)) {
            return;
        }
        self.0 = elsewhere().cloned().collect();
        self.tell(link);
    }

    /// The node may not have heard it: its stream broke.
    pub(super) fn reconcile(&self, link: &mut Link) {
        if !self.0.is_empty() {
            self.tell(link);
        }
    }

    fn tell(&self, link: &mut Link) {
        let node_ids = self.0.iter().map(NodeId::to_string).collect();
        link.ask(Asked::Other, Request::HearNodes(HearNodes { node_ids }));
    }
}
