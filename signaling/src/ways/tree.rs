//! A room's tracks, each with the nodes it gets to, as branches of a tree that begins where it is published.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::RelayRole;
use serde_json::{Value, json};

use super::{Leg, Survey, kind_name, role_name, source_name};
use crate::rooms::RoomState;

/// A track and where it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) track: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) source: &'static str,
    pub(crate) publisher: String,
    pub(crate) origin: NodeId,
}

/// A track's way to everywhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    pub(crate) published: Published,
    pub(crate) root: Branch,
    /// Nodes that have it, but from one that has not, as they say: it is about to change its way.
    pub(crate) detached: Vec<NodeId>,
}

/// A node, and those that take the track from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    pub(crate) node: NodeId,
    pub(crate) region: Option<Region>,
    pub(crate) role: RelayRole,
    /// `None`: the node does not say.
    pub(crate) watchers: Option<u32>,
    /// From the node it takes the track from.
    pub(crate) leg: Option<Leg>,
    pub(crate) branches: Vec<Branch>,
}

/// What is published in a room.
pub(crate) fn published(room: &RoomState) -> Vec<Published> {
    let members = room.members.values();
    let tracks = members.flat_map(|member| {
        member.info.tracks.iter().map(|info| Published {
            track: info.sid.clone(),
            name: info.name.clone(),
            kind: kind_name(info),
            source: source_name(info),
            publisher: member.identity.to_string(),
            origin: member.node.clone(),
        })
    });
    tracks.collect()
}

/// Puts together what the nodes say of a track.
pub(crate) fn grow(survey: &Survey, published: Published) -> Tree {
    let (track, origin) = (published.track.as_str(), &published.origin);
    let mut takers: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    let (mut taken, mut branches) = (BTreeSet::new(), BTreeSet::new());
    for (node, _) in survey.answers() {
        if let Some(summary) = survey.track(node, track, origin)
            && let Ok(from) = summary.from_node_id.parse::<NodeId>()
        {
            if summary.role() == RelayRole::Twig {
                branches.insert(from.clone());
            }
            takers.entry(from).or_default().insert(node.clone());
            taken.insert(node.clone());
        }
    }
    // Who is said to give it and does not say from whom it has it is a gateway, unless it gives to twigs: then
    // it may have it from anybody.
    let mute = |node: &&NodeId| survey.answers.get(*node).is_none_or(Result::is_err);
    let gateways: Vec<NodeId> = takers
        .keys()
        .filter(|node| *node != origin)
        .filter(|node| mute(node) && !branches.contains(*node))
        .cloned()
        .collect();
    for gateway in gateways {
        takers.entry(origin.clone()).or_default().insert(gateway);
    }
    let mut reached = BTreeSet::new();
    let root = branch(survey, &published, origin, None, &takers, &mut reached);
    let detached = taken.difference(&reached).cloned().collect();
    Tree {
        published,
        root,
        detached,
    }
}

fn branch(
    survey: &Survey,
    published: &Published,
    node: &NodeId,
    from: Option<&NodeId>,
    takers: &BTreeMap<NodeId, BTreeSet<NodeId>>,
    reached: &mut BTreeSet<NodeId>,
) -> Branch {
    reached.insert(node.clone());
    let summary = survey.track(node, &published.track, &published.origin);
    let role = match (from, summary) {
        (None, _) => RelayRole::Origin,
        (Some(_), Some(summary)) => summary.role(),
        (Some(_), None) => RelayRole::Gateway,
    };
    let says = survey.answers.get(node).is_some_and(Result::is_ok);
    let mut branches = Vec::new();
    for taker in takers.get(node).into_iter().flatten() {
        if !reached.contains(taker) {
            let grown = branch(survey, published, taker, Some(node), takers, reached);
            branches.push(grown);
        }
    }
    Branch {
        node: node.clone(),
        region: survey.region(node).cloned(),
        role,
        watchers: says.then(|| summary.map_or(0, |summary| summary.watchers)),
        leg: from.map(|from| survey.leg(from, node)),
        branches,
    }
}

impl Branch {
    /// This one and all that grow from it, each after the one it grows from.
    pub(crate) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for branch in &self.branches {
            all.extend(branch.all());
        }
        all
    }

    fn to_json(&self) -> Value {
        let branches: Vec<Value> = self.branches.iter().map(Self::to_json).collect();
        let mut told = json!({
            "node": self.node.as_str(),
            "region": self.region.as_ref().map(Region::as_str),
            "role": role_name(self.role),
            "watchers": self.watchers,
            "branches": branches,
        });
        if let Some(leg) = &self.leg {
            leg.add_to(&mut told);
        }
        told
    }
}

impl Tree {
    /// Sessions that are subscribed to it, on nodes that say so.
    pub(crate) fn watchers(&self) -> u32 {
        let branches = self.root.all();
        branches.iter().filter_map(|branch| branch.watchers).sum()
    }

    fn to_json(&self) -> Value {
        let detached = self.detached.iter().map(NodeId::as_str);
        json!({
            "track": self.published.track,
            "name": self.published.name,
            "kind": self.published.kind,
            "source": self.published.source,
            "publisher": self.published.publisher,
            "watchers": self.watchers(),
            "tree": self.root.to_json(),
            "detached": detached.collect::<Vec<_>>(),
        })
    }
}

pub(crate) fn to_json(survey: &Survey, trees: &[Tree]) -> Value {
    let tracks: Vec<Value> = trees.iter().map(Tree::to_json).collect();
    json!({ "tracks": tracks, "mute": survey.mute_json() })
}
