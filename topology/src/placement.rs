//! Which node gets a participant. Pure: the same inputs lead to the same node in every process.
//!
//! A room has a home, and everybody in it goes there. A room without a living home gets the first
//! node of the ring, starting in the wanted region, that has room left. A node that is not on the
//! ring yet is the last resort.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pipemesh_proto::ids::{NodeId, Region};

use crate::names::RoomName;
use crate::ring::{Ring, RingKey};
use crate::snapshot::{NodeRecord, NodeState, Snapshot};

/// A new room goes to a node below this load. Higher: fewer nodes are touched, rooms that grow hit
/// the bound sooner. Lower: rooms leave their place on the ring earlier.
const NEW_ROOM_LOAD: f64 = 0.60;

/// When no node is below [`NEW_ROOM_LOAD`], the least loaded one below this is taken.
const ANY_LOAD: f64 = 0.95;

/// A node that has this much more than its region's mean is passed over (bounded load on a ring),
/// be it of load or of participants.
const BOUND: f64 = 1.25;

/// Below this load the bound of load does not apply: in an idle mesh the mean is noise.
const BOUND_FLOOR: f64 = 0.20;

/// What is known of a node beyond its record, by who talks to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub state: NodeState,
    /// 0 to 1 of the busiest bound, with what was placed since the node's last report.
    pub ratio: f64,
    /// Participants on the node, with those placed since its last report. Other than the ratio they
    /// tell from the first on who was given more than the others.
    pub participants: u32,
}

/// Who is to be placed.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub room: &'a RoomName,
    /// Where the participant should be.
    pub region: &'a Region,
    /// Where the room is at home, if it exists.
    pub home: Option<&'a NodeId>,
    /// Nodes that refused or failed just now.
    pub excluded: &'a BTreeSet<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub node: NodeId,
    pub reason: Reason,
}

/// Why a node was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The room is at home there.
    Home,
    /// The first living node of the ring, in the wanted region.
    Ring,
    /// In the wanted region, but the ring's first choice had too much to do.
    Overflow,
    /// No node of the wanted region could take the room.
    OtherRegion,
    /// None of the ring could, and one could that is not on the ring yet.
    OffRing,
}

/// Nobody could be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("no node can take the room: {}", Refusals(refusals))]
pub struct NoNode {
    /// Every node, and why not.
    pub refusals: Vec<(NodeId, Refusal)>,
}

/// Why a node was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("failed or refused just now")]
    Excluded,
    #[error("cannot be reached")]
    Unreachable,
    #[error("drains")]
    Draining,
    #[error("is full")]
    Full,
    #[error("has a load of {0:.2}")]
    Overloaded(f64),
    #[error("has no weight")]
    Weightless,
}

struct Refusals<'a>(&'a [(NodeId, Refusal)]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is none");
        }
        for (i, (node, refusal)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{node} {refusal}")?;
        }
        Ok(())
    }
}

/// Chooses a node.
///
/// `ring` may know nodes that `snapshot` does not, which are passed over, and the other way round:
/// each changes in its own time. A node without an entry in `loads` cannot be reached.
///
/// # Errors
/// Why each of the nodes was refused.
pub fn place(
    snapshot: &Snapshot,
    ring: &Ring,
    loads: &BTreeMap<NodeId, Load>,
    request: &Request<'_>,
) -> Result<Placement, NoNode> {
    let view = View { loads, request };
    let home = request.home.and_then(|home| snapshot.node(home));
    if let Some(home) = home
        && view.usable(home).is_ok()
    {
        return Ok(Placement {
            node: home.id.clone(),
            reason: Reason::Home,
        });
    }
    let key = RingKey::new(request.room, request.region);
    let walk: Vec<&NodeRecord> = ring.walk(key).filter_map(|id| snapshot.node(id)).collect();
    let is_near = |node: &&NodeRecord| node.region == *request.region;
    let (near, far): (Vec<_>, Vec<_>) = walk.iter().copied().partition(is_near);
    if let Some((node, first)) = view.choose(&near) {
        let reason = if first {
            Reason::Ring
        } else {
            Reason::Overflow
        };
        return Ok(Placement { node, reason });
    }
    if let Some((node, _)) = view.choose(&far) {
        let reason = Reason::OtherRegion;
        return Ok(Placement { node, reason });
    }
    let walked: BTreeSet<&NodeId> = walk.iter().map(|node| &node.id).collect();
    let off_ring = |node: &&NodeRecord| node.weight > 0 && !walked.contains(&node.id);
    let off_ring = snapshot.nodes().iter().filter(off_ring);
    let (near, far): (Vec<_>, Vec<_>) = off_ring.partition(is_near);
    if let Some((node, _)) = view.choose(&near).or_else(|| view.choose(&far)) {
        let reason = Reason::OffRing;
        return Ok(Placement { node, reason });
    }
    let refusals = snapshot.nodes().iter().map(|node| {
        let refusal = view.open_to_new_rooms(node).err();
        (node.id.clone(), refusal.unwrap_or(Refusal::Weightless))
    });
    Err(NoNode {
        refusals: refusals.collect(),
    })
}

/// Whether each node is open to a new room: the load by which it is compared with others, or why not.
pub fn verdicts(
    snapshot: &Snapshot,
    loads: &BTreeMap<NodeId, Load>,
    request: &Request<'_>,
) -> BTreeMap<NodeId, Result<Load, Refusal>> {
    let view = View { loads, request };
    let verdict = |node: &NodeRecord| match node.weight {
        0 => Err(Refusal::Weightless),
        _ => view.open_to_new_rooms(node),
    };
    let nodes = snapshot.nodes().iter();
    nodes.map(|node| (node.id.clone(), verdict(node))).collect()
}

struct View<'a> {
    loads: &'a BTreeMap<NodeId, Load>,
    request: &'a Request<'a>,
}

impl View<'_> {
    /// Whether a room that is at home there may grow.
    fn usable(&self, node: &NodeRecord) -> Result<Load, Refusal> {
        if self.request.excluded.contains(&node.id) {
            return Err(Refusal::Excluded);
        }
        let mut load = *self.loads.get(&node.id).ok_or(Refusal::Unreachable)?;
        load.state = load.state.max(node.state);
        match load.state {
            NodeState::Serving | NodeState::Full => Ok(load),
            NodeState::Draining => Err(Refusal::Draining),
        }
    }

    /// Whether a new room may be put there; answers the load.
    fn open_to_new_rooms(&self, node: &NodeRecord) -> Result<Load, Refusal> {
        let load = self.usable(node)?;
        if load.state == NodeState::Full {
            return Err(Refusal::Full);
        }
        if load.ratio >= ANY_LOAD {
            return Err(Refusal::Overloaded(load.ratio));
        }
        Ok(load)
    }

    /// The node for a new room among those of the ring, and whether it is the first that lives.
    fn choose(&self, candidates: &[&NodeRecord]) -> Option<(NodeId, bool)> {
        let open: Vec<(&NodeRecord, Load)> = candidates
            .iter()
            .filter_map(|node| Some((*node, self.open_to_new_rooms(node).ok()?)))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "nobody runs 2^52 nodes")]
        let mean = open.iter().map(|(_, load)| load.ratio).sum::<f64>() / open.len() as f64;
        let bound = NEW_ROOM_LOAD.min((BOUND * mean).max(BOUND_FLOOR));
        // With the one who is to be placed: whoever has no more than that has, with him, no more than
        // one above the bound.
        let participants = open.iter().map(|(_, load)| u64::from(load.participants));
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 participants")]
        let share = |count: u64, weight: u64| count as f64 / weight.max(1) as f64;
        let weight = open.iter().map(|(node, _)| u64::from(node.weight)).sum();
        let share_bound = BOUND * share(participants.sum::<u64>() + 1, weight);
        let has_room = |(node, load): &&(&NodeRecord, Load)| {
            let share = share(load.participants.into(), node.weight.into());
            load.ratio <= bound && share <= share_bound
        };
        let least = open
            .iter()
            .min_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio));
        let (node, _) = open.iter().find(has_room).or(least)?;
        Some((node.id.clone(), node.id == open[0].0.id))
    }
}

#[cfg(test)]
mod tests;
