//! The nodes that a room is at home on. There is always one; a room that outgrows a node, or has people in
//! several regions, has more.

use std::fmt;
use std::str::FromStr;

use pipemesh_proto::ids::{InvalidId, NodeId};

/// Nodes in the order in which the room came to them. As text they are separated by commas, so one alone is
/// written as the versions wrote it that knew no more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Homes {
    first: NodeId,
    others: Vec<NodeId>,
}

/// No node's id can contain it.
const SEPARATOR: char = ',';

impl Homes {
    /// Where the room came to first, of those that are left.
    #[must_use]
    pub fn first(&self) -> &NodeId {
        &self.first
    }

    pub fn iter(&self) -> impl Iterator<Item = &NodeId> {
        std::iter::once(&self.first).chain(&self.others)
    }

    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.iter().any(|home| home == node)
    }

    /// One more, behind those that are still wanted.
    #[must_use]
    pub fn joined_by(&self, node: &NodeId, is_wanted: impl Fn(&NodeId) -> bool) -> Self {
        let kept = self.iter().filter(|home| *home != node && is_wanted(home));
        let mut all = kept.cloned().chain([node.clone()]);
        Self {
            first: all.next().unwrap_or_else(|| node.clone()),
            others: all.collect(),
        }
    }

    /// Those that are left without one of them; `None` if it is none of them, or the only one.
    #[must_use]
    pub fn without(&self, node: &NodeId) -> Option<Self> {
        let mut left = self.iter().filter(|home| *home != node).cloned();
        let first = left.next().filter(|_| self.contains(node))?;
        Some(Self {
            first,
            others: left.collect(),
        })
    }

    /// One node in the place of another.
    #[must_use]
    pub fn moved(&self, from: &NodeId, to: &NodeId) -> Self {
        let mut homes = Vec::new();
        for home in self.iter() {
            let home = if home == from { to } else { home };
            if !homes.contains(home) {
                homes.push(home.clone());
            }
        }
        Self {
            first: homes.remove(0),
            others: homes,
        }
    }
}

impl From<NodeId> for Homes {
    fn from(node: NodeId) -> Self {
        Self {
            first: node,
            others: Vec::new(),
        }
    }
}

impl fmt::Display for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.first.as_str())?;
        for other in &self.others {
            write!(f, "{SEPARATOR}{other}")?;
        }
        Ok(())
    }
}

impl FromStr for Homes {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (first, others) = match text.split_once(SEPARATOR) {
            Some((first, others)) => (first, Some(others)),
            None => (text, None),
        };
        let others = others.into_iter().flat_map(|it| it.split(SEPARATOR));
        Ok(Self {
            first: first.parse()?,
            others: others.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> NodeId {
        id.parse().unwrap()
    }

    fn homes(text: &str) -> Homes {
        text.parse().unwrap()
    }

    #[test]
    fn they_are_read_as_they_are_written() {
        for text in ["a", "a,b", "a,b,c"] {
            assert_eq!(homes(text).to_string(), text);
        }
        assert_eq!(
            homes("a,b"),
            Homes::from(node("a")).joined_by(&node("b"), |_| true)
        );
        for text in ["", ",", "a,", ",a", "a,,b", "a, b"] {
            assert!(text.parse::<Homes>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn they_grow_shrink_and_move() {
        let grown = |text: &str, node_id, unwanted: &str| {
            let wanted = |home: &NodeId| !unwanted.contains(home.as_str());
            homes(text).joined_by(&node(node_id), wanted).to_string()
        };
        assert_eq!(grown("a", "b", ""), "a,b");
        assert_eq!(grown("a,b", "c", "a"), "b,c");
        assert_eq!(grown("a", "b", "a"), "b");
        // The last of them that came.
        assert_eq!(grown("a,b", "a", ""), "b,a");
        let moved = |text: &str, from, to| homes(text).moved(&node(from), &node(to)).to_string();
        assert_eq!(moved("a", "a", "b"), "b");
        assert_eq!(moved("a,b,c", "b", "d"), "a,d,c");
        assert_eq!(moved("a,b", "a", "b"), "b");
        assert_eq!(moved("a,b", "c", "d"), "a,b");
        let left = |text: &str, gone| homes(text).without(&node(gone)).map(|it| it.to_string());
        assert_eq!(left("a,b,c", "a").as_deref(), Some("b,c"));
        assert_eq!(left("a,b,c", "b").as_deref(), Some("a,c"));
        assert_eq!(left("a", "a"), None);
        assert_eq!(left("a,b", "c"), None);
    }
}
