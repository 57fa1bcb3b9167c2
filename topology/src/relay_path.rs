//! From which node a node takes a track that is published on another one.
//!
//! A track goes from its origin to one node of each region, the region's *gateway* for this track, and from
//! there to the others of the region, its *leaves*. In the origin's own region leaves take from the origin
//! itself, until those are many; then those that rank last for the track are sent on to that region's gateway.
//! Where a gateway would have to serve too many, those that rank last take from the *branches*, those that
//! rank next after the gateway, as their *twigs*. So a track crosses to a region once, however many watch it
//! there, and no node gives many copies away.
//!
//! Loops cannot be made, whatever the nodes believe of each other: who takes a track says as what, and is
//! served as that. A gateway takes from the origin alone; whoever is asked by a leaf or a branch takes as a
//! gateway, whoever is asked by a twig as a branch, whether it thinks that it is one or not. Nodes that
//! disagree about who is a region's gateway cost a second copy, until they agree.
//!
//! Pure. Knows nothing of layers: what is taken of a track is the sum of what is wanted of it here.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use pipemesh_proto::ids::{NodeId, Region, TrackId};

use crate::ring::{MAX_WEIGHT, sip13};
use crate::snapshot::{NodeRecord, NodeState, Snapshot};

/// Nodes from the origin to one that takes a track, both counted, when all agree.
pub const LONGEST_PATH: usize = 4;

/// To how many nodes one node gives a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOut {
    /// Leaves of its own region that an origin serves itself, beside the gateways. More: they have one pipe
    /// less to wait for. Fewer: the publisher's node sends less.
    pub direct: usize,
    /// Nodes that a gateway serves, and branches that a region has for a track. Those serve the square of it.
    pub gateway: usize,
}

impl Default for FanOut {
    fn default() -> Self {
        Self {
            direct: 8,
            gateway: 32,
        }
    }
}

/// As what a node takes a track. The later ones serve those before them, and none that come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// For those who are connected to it alone, from a branch.
    Twig,
    /// The same, from a gateway or the origin.
    Leaf,
    /// For some nodes of its region too, from the gateway.
    Branch,
    /// For other nodes too, from the origin.
    Gateway,
}

impl Role {
    /// As what a node has to take a track to serve another one that takes it as this.
    #[must_use]
    pub fn server(self) -> Self {
        match self {
            Self::Twig => Self::Branch,
            Self::Leaf | Self::Branch | Self::Gateway => Self::Gateway,
        }
    }
}

/// How far a leaf was sent on from whom it would take a track at first. It is not taken back, so that nobody
/// goes to and fro.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SentOn {
    #[default]
    Not,
    /// By the origin, which is in its region.
    ByOrigin,
    ByGateway,
}

/// Whom to ask for a track, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub node: NodeId,
    pub role: Role,
}

/// A node, and what it knows of the others. Theirs may be another view.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub node: &'a NodeId,
    pub region: &'a Region,
    pub mesh: &'a Snapshot,
    /// Whom it cannot reach, or who refused: as if they were not there.
    pub excluded: &'a BTreeSet<NodeId>,
    pub fan_out: FanOut,
}

impl View<'_> {
    /// From whom to take a track, to be what others need this node to be. `None`: from nobody at present, or it
    /// is published here. An origin is named though the node knows no way to it: the record may be about to
    /// come.
    #[must_use]
    pub fn source(
        &self,
        role: Role,
        sent_on: SentOn,
        track: &TrackId,
        origin: &NodeId,
    ) -> Option<Source> {
        if role == Role::Gateway || origin == self.node {
            return self.of_origin(Role::Gateway, origin);
        }
        let is_out_of_reach = self.excluded.contains(origin);
        let is_direct = role < Role::Branch && sent_on == SentOn::Not;
        if is_direct && self.is_near(origin) && !is_out_of_reach {
            return self.of_origin(Role::Leaf, origin);
        }
        // Another node of the region may reach an origin that this one does not.
        let may_be = |node: &NodeId| node != origin && !(is_out_of_reach && node == self.node);
        let gateway = match self.gateway(track, may_be) {
            Some(gateway) if gateway != self.node => gateway,
            // Nobody is known who would be: then it is this node, which may not be listed yet.
            Some(_) | None => return self.of_origin(Role::Gateway, origin),
        };
        let of = |node: &NodeId, role| {
            let node = node.clone();
            Some(Source { node, role })
        };
        if role == Role::Branch {
            return of(gateway, Role::Branch);
        }
        let branch = match sent_on {
            SentOn::ByGateway => self.branch(track, gateway, may_be),
            SentOn::Not | SentOn::ByOrigin => None,
        };
        match branch {
            Some(branch) => of(branch, Role::Twig),
            None => of(gateway, Role::Leaf),
        }
    }

    /// Which of the nodes that take a track from here is to take it from elsewhere, since they are too many:
    /// the one that ranks last for it. `leaves` take as such and were not sent on before, `branches` are those
    /// that take as branches. To be asked again until it answers `None`.
    ///
    /// For who takes as a gateway, or is the origin; others serve whom they are given.
    #[must_use]
    pub fn send_on<'b>(
        &self,
        track: &TrackId,
        origin: &NodeId,
        leaves: &[&'b NodeId],
        branches: usize,
    ) -> Option<&'b NodeId> {
        let is_here = origin == self.node;
        let may_be = |node: &NodeId| node != origin && node != self.node;
        let (most, stay) = match is_here {
            // The region's gateway takes it from here in any case.
            true => (self.fan_out.direct, 1),
            false => (self.fan_out.gateway, self.fan_out.gateway),
        };
        if leaves.len() + branches <= most {
            return None;
        }
        let ranked = self.ranked(track, may_be);
        let staying = &ranked[..stay.min(ranked.len())];
        let is_staying = |node: &NodeId| staying.iter().any(|stays| stays.id == *node);
        let leaves = leaves.iter().copied();
        // Who came from another region takes this node for a gateway, and would come again.
        let leaves = leaves.filter(|leaf| !is_here || self.is_near(leaf));
        let (stays, goes): (Vec<_>, Vec<_>) = leaves.partition(|leaf| is_staying(leaf));
        let counted = match is_here {
            true => goes.len(),
            false => goes.len() + stays.len() + branches,
        };
        let place = |leaf: &NodeId| {
            let place = ranked.iter().position(|node| node.id == *leaf);
            place.unwrap_or(ranked.len())
        };
        let last = goes
            .into_iter()
            .max_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
        last.filter(|_| counted > most)
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

    /// The first of the region for this track, of those who have pipes and may be.
    fn gateway(&self, track: &TrackId, may_be: impl Fn(&NodeId) -> bool) -> Option<&NodeId> {
        let candidates = self.candidates(may_be);
        let first = candidates.max_by_key(|node| rank(track, node));
        first.map(|node| &node.id)
    }

    /// The one of the region's branches for this track that this node has it from. `None`: it is one itself, or
    /// there are none.
    fn branch(
        &self,
        track: &TrackId,
        gateway: &NodeId,
        may_be: impl Fn(&NodeId) -> bool,
    ) -> Option<&NodeId> {
        let ranked = self.ranked(track, may_be);
        let others = ranked.into_iter().filter(|node| node.id != *gateway);
        let branches: Vec<&NodeRecord> = others.take(self.fan_out.gateway).collect();
        if branches.iter().any(|node| node.id == *self.node) {
            return None;
        }
        let mine = branches.into_iter();
        let mine = mine.max_by_key(|node| (serves(node), twig_score(track, self.node, node)));
        mine.map(|node| &node.id)
    }

    /// The nodes of the region, the first for this track first.
    fn ranked(&self, track: &TrackId, may_be: impl Fn(&NodeId) -> bool) -> Vec<&NodeRecord> {
        let mut ranked: Vec<&NodeRecord> = self.candidates(may_be).collect();
        ranked.sort_by_cached_key(|node| Reverse(rank(track, node)));
        ranked
    }

    fn candidates(&self, may_be: impl Fn(&NodeId) -> bool) -> impl Iterator<Item = &NodeRecord> {
        let nodes = self.mesh.nodes().iter();
        nodes.filter(move |node| {
            node.region == *self.region && self.has_pipes(node) && may_be(&node.id)
        })
    }
}

/// One that drains, or is to take nothing on, comes after all others.
fn serves(node: &NodeRecord) -> bool {
    node.state != NodeState::Draining && node.weight > 0
}

fn rank(track: &TrackId, node: &NodeRecord) -> (bool, u64) {
    (serves(node), score(track, node))
}

/// Rendezvous hashing: each node draws as many numbers as it weighs, and the greatest of all wins. So its
/// share of the tracks is that of its weight, and who comes or goes moves its own share alone.
///
/// The bytes are written down here, as those of the ring are. Weights are those of the records: by load,
/// tracks would move whenever it changes.
fn score(track: &TrackId, node: &NodeRecord) -> u64 {
    let (track, id) = (track.as_str().as_bytes(), node.id.as_str().as_bytes());
    let len = length(track);
    greatest(node, |i| sip13(&[b"gateway|v1|", &i, &len, track, id]))
}

/// The same, of a branch for one twig: by its place among the branches, all twigs would move whenever a node
/// comes or goes.
fn twig_score(track: &TrackId, twig: &NodeId, branch: &NodeRecord) -> u64 {
    let (track, id) = (track.as_str().as_bytes(), branch.id.as_str().as_bytes());
    let twig = twig.as_str().as_bytes();
    let (len, twig_len) = (length(track), length(twig));
    greatest(branch, |i| {
        sip13(&[b"branch|v1|", &i, &len, track, &twig_len, twig, id])
    })
}

fn length(id: &[u8]) -> [u8; 4] {
    let len = u32::try_from(id.len()).expect("an id has at most 64 bytes");
    len.to_le_bytes()
}

fn greatest(node: &NodeRecord, draw: impl Fn([u8; 4]) -> u64) -> u64 {
    (0..node.weight.clamp(1, MAX_WEIGHT))
        .map(|i| draw(i.to_le_bytes()))
        .max()
        .expect("it weighs something")
}

#[cfg(test)]
mod tests;
