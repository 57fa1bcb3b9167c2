//! Which node gets a participant. Pure: the same inputs lead to the same node in every process.
//!
//! A room has a home, and everybody in it goes there. A room without a living home gets the first
//! node of the ring that has room left, of the wanted region, then of the next ones. A node that is
//! not on the ring yet is the last resort. Where somebody may not be, nobody puts them.
//!
//! A room that [spans](Request::spans) nodes has a home in each region in which somebody is, and one more
//! where those it has are full: as few as will do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pipemesh_proto::ids::{NodeId, Region};

use crate::homes::Homes;
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
    /// Where else, the nearest first. Regions that are not named come after.
    pub others: &'a [Region],
    /// The only regions that the participant may be in.
    pub allowed: Option<&'a BTreeSet<Region>>,
    /// Where the room is at home, if it exists.
    pub homes: Option<&'a Homes>,
    /// It may have several homes.
    pub spans: bool,
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

impl Reason {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Home => "sticky",
            Self::Ring => "ring",
            Self::Overflow => "overflow",
            Self::OtherRegion => "region",
            Self::OffRing => "off_ring",
        }
    }
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
    /// It could have taken the participant.
    #[error("is in a region that is not allowed")]
    NotAllowed,
}

impl NoNode {
    /// Whether somebody who may be anywhere would have found a node.
    #[must_use]
    pub fn is_for_want_of_permission(&self) -> bool {
        let mut refusals = self.refusals.iter();
        refusals.any(|(_, refusal)| *refusal == Refusal::NotAllowed)
    }
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
/// each changes in its own time. A node of which `load` says nothing cannot be reached.
///
/// # Errors
/// Why each of the nodes was refused.
pub fn place(
    snapshot: &Snapshot,
    ring: &Ring,
    load: &dyn Fn(&NodeId) -> Option<Load>,
    request: &Request<'_>,
) -> Result<Placement, NoNode> {
    let view = View {
        snapshot,
        ring,
        load,
        request,
    };
    if !request.spans
        && let Some(placement) = view.at_home(&|_| true, &|_| true)
    {
        return Ok(placement);
    }
    let is_elsewhere = |node: &NodeRecord| {
        node.region != *request.region && !request.others.contains(&node.region)
    };
    let is_wanted = is_in(request.region);
    if let Some(placement) = view.within(request.region, &is_wanted, |first| match first {
        true => Reason::Ring,
        false => Reason::Overflow,
    }) {
        return Ok(placement);
    }
    // As those see it who want to be there.
    let mut others = request.others.iter();
    let other = |_| Reason::OtherRegion;
    let next = others.find_map(|region| view.within(region, &is_in(region), other));
    if let Some(placement) = next.or_else(|| view.within(request.region, &is_elsewhere, other)) {
        return Ok(placement);
    }
    let mut regions = std::iter::once(request.region).chain(request.others);
    let next = regions.find_map(|region| view.off_ring(&is_in(region)));
    if let Some((node, _)) = next.or_else(|| view.off_ring(&is_elsewhere)) {
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
    ring: &Ring,
    load: &dyn Fn(&NodeId) -> Option<Load>,
    request: &Request<'_>,
) -> BTreeMap<NodeId, Result<Load, Refusal>> {
    let view = View {
        snapshot,
        ring,
        load,
        request,
    };
    let verdict = |node: &NodeRecord| match node.weight {
        0 => Err(Refusal::Weightless),
        _ => view.open_to_new_rooms(node),
    };
    let nodes = snapshot.nodes().iter();
    nodes.map(|node| (node.id.clone(), verdict(node))).collect()
}

fn is_in(region: &Region) -> impl Fn(&NodeRecord) -> bool {
    move |node| node.region == *region
}

struct View<'a> {
    snapshot: &'a Snapshot,
    ring: &'a Ring,
    load: &'a dyn Fn(&NodeId) -> Option<Load>,
    request: &'a Request<'a>,
}

/// What a node may have to be given a new room before others are asked.
struct Bound {
    load: f64,
    /// Participants for each unit of weight.
    share: f64,
}

impl Bound {
    fn admits(&self, node: &NodeRecord, load: Load) -> bool {
        load.ratio <= self.load && share(load.participants.into(), node.weight.into()) <= self.share
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 participants")]
fn share(participants: u64, weight: u64) -> f64 {
    participants as f64 / weight.max(1) as f64
}

impl View<'_> {
    /// A node for the room among those of a group: one that it has, as long as that is not full, else
    /// another one, else one that is full but takes those of its rooms. `reason` is told whether another one
    /// is the first of the ring that lives.
    fn within(
        &self,
        region: &Region,
        group: &dyn Fn(&NodeRecord) -> bool,
        reason: impl Fn(bool) -> Reason,
    ) -> Option<Placement> {
        let spans = self.request.spans;
        let has_room = |load: Load| load.state == NodeState::Serving && load.ratio < ANY_LOAD;
        let home = spans.then(|| self.at_home(group, &has_room)).flatten();
        let new = || {
            let (node, first) = self.on_ring(region, group)?;
            let reason = reason(first);
            Some(Placement { node, reason })
        };
        let full = || spans.then(|| self.at_home(group, &|_| true)).flatten();
        home.or_else(new).or_else(full)
    }

    /// The first of the room's homes that lives, where the participant may be.
    fn at_home(
        &self,
        group: &dyn Fn(&NodeRecord) -> bool,
        may_grow: &dyn Fn(Load) -> bool,
    ) -> Option<Placement> {
        let homes = self.request.homes?.iter();
        let mut known = homes.filter_map(|home| self.snapshot.node(home));
        let home = known.find(|home| {
            group(home) && self.is_allowed(home) && self.usable(home).is_ok_and(may_grow)
        })?;
        Some(Placement {
            node: home.id.clone(),
            reason: Reason::Home,
        })
    }

    /// Whether a room that is at home there may grow.
    fn usable(&self, node: &NodeRecord) -> Result<Load, Refusal> {
        if self.request.excluded.contains(&node.id) {
            return Err(Refusal::Excluded);
        }
        let mut load = (self.load)(&node.id).ok_or(Refusal::Unreachable)?;
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
        if !self.is_allowed(node) {
            return Err(Refusal::NotAllowed);
        }
        Ok(load)
    }

    fn is_allowed(&self, node: &NodeRecord) -> bool {
        let allowed = self.request.allowed;
        allowed.is_none_or(|allowed| allowed.contains(&node.region))
    }

    /// The node for a new room among those of a group that are on the ring, as it lies before who wants to
    /// be in `region`, and whether it is the first of them that lives.
    fn on_ring(
        &self,
        region: &Region,
        group: &dyn Fn(&NodeRecord) -> bool,
    ) -> Option<(NodeId, bool)> {
        let is_candidate = |node: &NodeRecord| group(node) && self.ring.has(&node.id);
        let key = RingKey::new(self.request.room, region);
        let walk = || {
            let walk = self.ring.walk(key);
            walk.filter_map(|id| self.snapshot.node(id))
                .filter(|node| group(node))
        };
        self.choose(&is_candidate, walk)
    }

    /// The same among those that are not on the ring yet.
    fn off_ring(&self, group: &dyn Fn(&NodeRecord) -> bool) -> Option<(NodeId, bool)> {
        let is_candidate =
            |node: &NodeRecord| node.weight > 0 && group(node) && !self.ring.has(&node.id);
        let nodes = || self.snapshot.nodes().iter();
        self.choose(&is_candidate, || nodes().filter(|node| is_candidate(node)))
    }

    /// `walk` answers the same nodes as `is_candidate`, in the order in which they are asked. It is not gone
    /// further than need be: the first that are asked have room as a rule.
    fn choose<'n, W: Iterator<Item = &'n NodeRecord>>(
        &self,
        is_candidate: &dyn Fn(&NodeRecord) -> bool,
        walk: impl Fn() -> W,
    ) -> Option<(NodeId, bool)> {
        let bound = self.bound(is_candidate)?;
        let open = || walk().filter_map(|node| Some((node, self.open_to_new_rooms(node).ok()?)));
        let mut first = true;
        for (node, load) in open() {
            if bound.admits(node, load) {
                return Some((node.id.clone(), first));
            }
            first = false;
        }
        let least = open().min_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio));
        let (node, _) = least?;
        let (first, _) = open().next()?;
        Some((node.id.clone(), node.id == first.id))
    }

    /// By what the candidates have that are open to new rooms; `None` if none is.
    fn bound(&self, is_candidate: &dyn Fn(&NodeRecord) -> bool) -> Option<Bound> {
        let (mut nodes, mut ratios, mut participants, mut weight) = (0.0, 0.0, 0, 0);
        for node in self.snapshot.nodes() {
            if !is_candidate(node) {
                continue;
            }
            let Ok(load) = self.open_to_new_rooms(node) else {
                continue;
            };
            nodes += 1.0;
            ratios += load.ratio;
            participants += u64::from(load.participants);
            weight += u64::from(node.weight);
        }
        (nodes > 0.0).then(|| Bound {
            load: NEW_ROOM_LOAD.min((BOUND * ratios / nodes).max(BOUND_FLOOR)),
            // With the one who is to be placed: whoever has no more than that has, with him, no more
            // than one above the bound.
            share: BOUND * share(participants + 1, weight),
        })
    }
}

#[cfg(test)]
mod tests;
