//! The way of one track to one node: the nodes it goes over, and the pipes between them. Pure.

use std::collections::BTreeSet;

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::RelayRole;
use serde_json::{Value, json};

use super::{Leg, Mute, Survey, role_name};

/// Nodes on a way at most. A track crosses three pipes; a fourth is seen while it goes over to another way.
const LONGEST: usize = 5;

/// A node on the way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hop {
    pub(crate) node: NodeId,
    pub(crate) region: Option<Region>,
    pub(crate) role: Role,
    /// From the hop before; none to get to the first.
    pub(crate) leg: Option<Leg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Published where it is received.
    Local,
    Relay(RelayRole),
}

/// Why a way is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("node {0} does not say: {1}")]
    Mute(NodeId, Mute),
    #[error("node {0} was not asked")]
    NotAsked(NodeId),
    #[error("node {0} does not take the track at present")]
    NotTaken(NodeId),
    #[error("the nodes' answers do not fit together: the track is about to change its way")]
    Changing,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Relay(role) => role_name(role),
        }
    }
}

/// The way from a track's origin to a node, the origin first.
///
/// # Errors
/// When some node on it does not say from where it takes the track. A gateway that does not, but is known
/// from its leaf or branch, takes it from the origin: it can do nothing else.
pub(crate) fn path(
    survey: &Survey,
    track: &str,
    origin: &NodeId,
    own: &NodeId,
) -> Result<Vec<Hop>, Unclear> {
    if origin == own {
        return Ok(vec![hop(survey, own, Role::Local, None)]);
    }
    let mut hops = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = own.clone();
    let mut taker = None;
    while at != *origin {
        if hops.len() + 1 >= LONGEST || !seen.insert(at.clone()) {
            return Err(Unclear::Changing);
        }
        let (from, role) = match source(survey, track, origin, &at) {
            Ok(found) => found,
            Err(_) if matches!(taker, Some(RelayRole::Leaf | RelayRole::Branch)) => {
                (origin.clone(), RelayRole::Gateway)
            }
            Err(unclear) => return Err(unclear),
        };
        let leg = survey.leg(&from, &at);
        hops.push(hop(survey, &at, Role::Relay(role), Some(leg)));
        at = from;
        taker = Some(role);
    }
    hops.push(hop(survey, origin, Role::Relay(RelayRole::Origin), None));
    hops.reverse();
    Ok(hops)
}

/// From where a node takes the track, and as what.
fn source(
    survey: &Survey,
    track: &str,
    origin: &NodeId,
    node: &NodeId,
) -> Result<(NodeId, RelayRole), Unclear> {
    match survey.answers.get(node) {
        None => return Err(Unclear::NotAsked(node.clone())),
        Some(Err(mute)) => return Err(Unclear::Mute(node.clone(), mute.clone())),
        Some(Ok(_)) => {}
    }
    let not_taken = || Unclear::NotTaken(node.clone());
    let summary = survey.track(node, track, origin).ok_or_else(not_taken)?;
    let from = summary.from_node_id.parse().map_err(|_| not_taken())?;
    Ok((from, summary.role()))
}

fn hop(survey: &Survey, node: &NodeId, role: Role, leg: Option<Leg>) -> Hop {
    Hop {
        node: node.clone(),
        region: survey.region(node).cloned(),
        role,
        leg,
    }
}

pub(crate) fn to_json(hops: &[Hop]) -> Value {
    let told = hops.iter().map(|hop| {
        let mut told = json!({
            "node": hop.node.as_str(),
            "region": hop.region.as_ref().map(Region::as_str),
            "role": hop.role.name(),
        });
        if let Some(leg) = &hop.leg {
            leg.add_to(&mut told);
        }
        told
    });
    told.collect()
}
