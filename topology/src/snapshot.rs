//! What the registry knew at one moment: a frozen, sorted list of nodes.

use pipemesh_proto::ids::{NodeId, Region};

use crate::pipe_address::PipeAddress;

/// A node as it describes itself.
///
/// Slow facts only: a change wakes every process that watches. Load travels on `Node.Watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    pub id: NodeId,
    pub region: Region,
    /// `host:port` of the control endpoint.
    pub grpc_address: String,
    /// Differs after every start of the node.
    pub boot_id: u64,
    /// Share of the ring in units of one ordinary node; 0 takes no new rooms.
    pub weight: u32,
    /// `None`: no other node takes tracks from it. It has no pipes, or is of a version that knows none.
    pub pipe: Option<PipeAddress>,
    pub state: NodeState,
}

/// Ordered by how much is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    Serving,
    /// Rooms at home here may grow; no new room.
    Full,
    /// Nobody new.
    Draining,
}

/// The nodes of the mesh, sorted by id. Equal snapshots lead to equal choices everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    nodes: Vec<NodeRecord>,
}

impl Snapshot {
    /// Of two records with the same id the one given last stays.
    pub fn new(nodes: impl IntoIterator<Item = NodeRecord>) -> Self {
        let mut sorted: Vec<NodeRecord> = Vec::new();
        for node in nodes {
            match sorted.binary_search_by(|other| other.id.cmp(&node.id)) {
                Ok(place) => sorted[place] = node,
                Err(place) => sorted.insert(place, node),
            }
        }
        Self { nodes: sorted }
    }

    #[must_use]
    pub fn nodes(&self) -> &[NodeRecord] {
        &self.nodes
    }

    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&NodeRecord> {
        let place = self.nodes.binary_search_by(|node| node.id.cmp(id)).ok()?;
        Some(&self.nodes[place])
    }

    /// Whether tracks can get from any node to any other.
    #[must_use]
    pub fn is_piped(&self) -> bool {
        self.nodes.iter().all(|node| node.pipe.is_some())
    }

    #[must_use]
    pub fn has_region(&self, region: &Region) -> bool {
        self.nodes.iter().any(|node| node.region == *region)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(id: &str, region: &str) -> NodeRecord {
        NodeRecord {
            id: id.parse().unwrap(),
            region: region.parse().unwrap(),
            grpc_address: "127.0.0.1:7901".to_owned(),
            boot_id: 1,
            weight: 1,
            pipe: None,
            state: NodeState::Serving,
        }
    }

    #[test]
    fn is_sorted_and_the_last_record_of_a_node_stays() {
        let newer = NodeRecord {
            boot_id: 2,
            ..record("b", "eu")
        };
        let snapshot = Snapshot::new([record("b", "eu"), record("a", "us"), newer.clone()]);
        let ids: Vec<&str> = snapshot
            .nodes()
            .iter()
            .map(|node| node.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(snapshot.node(&newer.id), Some(&newer));
        assert_eq!(snapshot.node(&"c".parse().unwrap()), None);
        assert!(snapshot.has_region(&"us".parse().unwrap()));
        assert!(!snapshot.has_region(&"ap".parse().unwrap()));
    }
}
