//! Who is on the ring, and how heavy.

use pipemesh_proto::ids::{NodeId, Region};

use crate::snapshot::{NodeRecord, Snapshot};

/// A node as far as the ring cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// Not where its points lie: who keeps the ring asks whether a region is lost as a whole.
    pub region: Region,
    /// In units of one ordinary node; 0 has no point of the ring.
    pub weight: u32,
}

/// Each node once, sorted by id. Equal members make equal rings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members(Vec<Member>);

impl Members {
    /// Of two members with the same id the one given last stays.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut members: Vec<Member> = members.into_iter().collect();
        // Stable: those of one id stay in the order in which they were given.
        members.sort_by(|a, b| b.id.cmp(&a.id));
        members.reverse();
        members.dedup_by(|later, earlier| later.id == earlier.id);
        Self(members)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Member> {
        let place = self.0.binary_search_by(|member| member.id.cmp(id)).ok()?;
        Some(&self.0[place])
    }

    #[must_use]
    pub fn contains(&self, id: &NodeId) -> bool {
        self.get(id).is_some()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&NodeRecord> for Member {
    fn from(node: &NodeRecord) -> Self {
        Self {
            id: node.id.clone(),
            region: node.region.clone(),
            weight: node.weight,
        }
    }
}

/// Nodes of every state: to walk past one that drains leads where a ring without it does, and the
/// ring stays as it is when the drain is undone.
impl From<&Snapshot> for Members {
    fn from(snapshot: &Snapshot) -> Self {
        Self::new(snapshot.nodes().iter().map(Member::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_sorted_and_the_last_of_an_id_stays() {
        let member = |id: &str, weight| Member {
            id: id.parse().unwrap(),
            region: "eu".parse().unwrap(),
            weight,
        };
        let members = Members::new([member("b", 1), member("a", 2), member("b", 3)]);
        let expected = [member("a", 2), member("b", 3)];
        assert!(members.iter().eq(&expected));
        assert_eq!(members.get(&"b".parse().unwrap()), Some(&expected[1]));
        assert!(!members.contains(&"c".parse().unwrap()));
        assert_eq!((members.len(), members.is_empty()), (2, false));
    }
}
