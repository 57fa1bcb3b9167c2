//! From which node a node takes a track that is published on another one.
//!
//! A track goes over two pipes at most: from its origin to one node of each region, the region's *gateway* for
//! this track, and from there to the others of the region, its *leaves*. In the origin's own region leaves
//! take from the origin itself, until those are many. So a track crosses to a region once, however many watch
//! it there, and no node gives many copies away.
//!
//! Loops cannot be made, whatever the nodes believe of each other: who takes a track says as what, a gateway
//! takes from the origin alone, and whoever is asked by a leaf takes as a gateway, whether it thinks that it
//! is one or not. Nodes that disagree about who is a region's gateway cost a second copy, until they agree.
//!
//! Pure. Knows nothing of layers: what is taken of a track is the sum of what is wanted of it here.

use std::collections::BTreeSet;

use pipemesh_proto::ids::{NodeId, Region, TrackId};

use crate::ring::{MAX_WEIGHT, sip13};
use crate::snapshot::{NodeRecord, NodeState, Snapshot};

/// Leaves of its own region that an origin serves itself. More: they have one pipe less to wait for. Fewer:
/// the publisher's node sends less.
pub const DIRECT_LEAVES: usize = 8;

/// As what a node takes a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// For those who are connected to it alone.
    Leaf,
    /// For other nodes too, from the first of them that asks to the last that leaves.
    Gateway,
}

/// Whom to ask for a track, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub node: NodeId,
    pub role: Role,
}

/// What becomes of another node's wish for a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serve {
    Yes,
    /// That node is to be asked instead, as a leaf.
    Redirect(NodeId),
    /// The track is not published here, and only its origin serves gateways.
    No,
}

/// A node, and what it knows of the others. Theirs may be another view.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub node: &'a NodeId,
    pub region: &'a Region,
    pub mesh: &'a Snapshot,
    /// Whom it cannot reach, or who refused: as if they were not there.
    pub excluded: &'a BTreeSet<NodeId>,
}

impl View<'_> {
    /// From whom to take a track. `None`: from nobody at present, or it is published here. An origin is named
    /// though the node knows no way to it: the record may be about to come.
    #[must_use]
    pub fn source(&self, role: Role, track: &TrackId, origin: &NodeId) -> Option<Source> {
        if role == Role::Gateway || origin == self.node {
            return self.of_origin(Role::Gateway, origin);
        }
        let is_out_of_reach = self.excluded.contains(origin);
        if self.is_near(origin) && !is_out_of_reach {
            return self.of_origin(Role::Leaf, origin);
        }
        // Another node of the region may reach an origin that this one does not.
        let may_be = |node: &NodeId| node != origin && !(is_out_of_reach && node == self.node);
        match self.gateway(track, may_be) {
            Some(gateway) if gateway != self.node => Some(Source {
                node: gateway.clone(),
                role: Role::Leaf,
            }),
            // Nobody is known who would be: then it is this node, which may not be listed yet.
            Some(_) | None => self.of_origin(Role::Gateway, origin),
        }
    }

    /// From whom to take a track whose origin said to ask somebody else.
    #[must_use]
    pub fn redirected(&self, to: &NodeId, origin: &NodeId) -> Option<Source> {
        let is_known = self.mesh.node(to).is_some_and(|to| self.has_pipes(to));
        if is_known && to != self.node && to != origin {
            return Some(Source {
                node: to.clone(),
                role: Role::Leaf,
            });
        }
        // Gateways are served in any case.
        self.of_origin(Role::Gateway, origin)
    }

    /// Whether to give a track of `origin` to another node. `leaves`: how many it is given to as to leaves.
    #[must_use]
    pub fn serve(
        &self,
        asker: &NodeId,
        role: Role,
        track: &TrackId,
        origin: &NodeId,
        leaves: usize,
    ) -> Serve {
        let is_here = origin == self.node;
        match role {
            Role::Gateway if is_here => Serve::Yes,
            Role::Gateway => Serve::No,
            Role::Leaf if !is_here || leaves < DIRECT_LEAVES || !self.is_near(asker) => Serve::Yes,
            Role::Leaf => match self.gateway(track, |node| node != self.node) {
                Some(gateway) if gateway != asker => Serve::Redirect(gateway.clone()),
                Some(_) | None => Serve::Yes,
            },
        }
    }

    fn of_origin(&self, role: Role, origin: &NodeId) -> Option<Source> {
        let can_be_asked = origin != self.node && !self.excluded.contains(origin);
        can_be_asked.then(|| Source {
            node: origin.clone(),
            role,
        })
    }

    fn has_pipes(&self, node: &NodeRecord) -> bool {
        node.pipe.is_some() && !self.excluded.contains(&node.id)
    }

    fn is_near(&self, node: &NodeId) -> bool {
        let record = self.mesh.node(node);
        record.is_some_and(|record| record.region == *self.region)
    }

    /// The first of the region for this track, of those who have pipes and may be. One that drains, or is to
    /// take nothing on, comes after all others.
    fn gateway(&self, track: &TrackId, may_be: impl Fn(&NodeId) -> bool) -> Option<&NodeId> {
        let nodes = self.mesh.nodes().iter();
        let candidates = nodes
            .filter(|node| node.region == *self.region && self.has_pipes(node) && may_be(&node.id));
        let rank = |node: &&NodeRecord| {
            let serves = node.state != NodeState::Draining && node.weight > 0;
            (serves, score(track, node))
        };
        candidates.max_by_key(rank).map(|node| &node.id)
    }
}

/// Rendezvous hashing: each node draws as many numbers as it weighs, and the greatest of all wins. So its
/// share of the tracks is that of its weight, and who comes or goes moves its own share alone.
///
/// The bytes are written down here, as those of the ring are. Weights are those of the records: by load,
/// tracks would move whenever it changes.
fn score(track: &TrackId, node: &NodeRecord) -> u64 {
    let (track, id) = (track.as_str().as_bytes(), node.id.as_str().as_bytes());
    let len = u32::try_from(track.len()).expect("an id has at most 64 bytes");
    let draw = |i: u32| {
        let (i, len) = (i.to_le_bytes(), len.to_le_bytes());
        sip13(&[b"gateway|v1|", &i, &len, track, id])
    };
    (0..node.weight.clamp(1, MAX_WEIGHT))
        .map(draw)
        .max()
        .expect("it weighs something")
}

#[cfg(test)]
mod tests;
