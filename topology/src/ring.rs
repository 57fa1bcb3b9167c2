//! The consistent-hash ring: which node a room belongs to, and who comes next.
//!
//! Every process computes the same ring from the same nodes, on every platform and with every
//! compiler: points are hashes of bytes written down here, not of what `std::hash::Hash` feeds.
//! Who is on it is said by whoever makes it: the registry's list in one process, what Redis holds in
//! several.

pub(crate) mod damping;
mod members;
mod record;

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use pipemesh_proto::ids::{NodeId, Region};
use siphasher::sip::SipHasher13;

use crate::names::RoomName;

pub use damping::Frozen;
pub use members::{Member, Members};
pub use record::Record;

/// What the points are computed with. Another value is another ring: processes that disagree about
/// it place the same room on different nodes.
pub const ALGORITHM: &str = "sip13/v1";

/// Points of a node of weight 1. More: rooms spread more evenly (160: 8 % standard deviation).
/// Fewer: the ring is built faster (160: 28 ms for 1000 nodes).
pub const POINTS_PER_WEIGHT: u32 = 160;

/// Heavier nodes count as this heavy, so that one record cannot make the ring huge.
pub const MAX_WEIGHT: u32 = 64;

/// SipHash-1-3 under a fixed key: a checksum with good spread, not a secret.
const KEY: (u64, u64) = (0x7069_7065_6d65_7368, 0x7269_6e67_2f76_3100);

/// Two points fell on the same place. With 64 bits and 1000 nodes the chance is below 1 : 10⁹;
/// it is refused because two processes could order the two differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nodes {first} and {second} have a point of the ring in common")]
pub struct Collision {
    pub first: NodeId,
    pub second: NodeId,
}

/// Where a room's key lies on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingKey(u64);

impl RingKey {
    #[must_use]
    pub fn new(room: &RoomName, region: &Region) -> Self {
        let (room, region) = (room.as_str().as_bytes(), region.as_str().as_bytes());
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        let len = u32::try_from(region.len()).expect("an id has at most 64 bytes");
        Self(sip13(&[b"key|v1|", &len.to_le_bytes(), region, room]))
    }
}

/// One place of a node on the ring.
#[derive(Debug, Clone, Copy)]
struct Point {
    place: u64,
    node: u32,
    /// Where this point stands among all, sorted by place.
    rank: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place);
    }
}

/// A key as `HashRing` looks it up.
struct Place(u64);

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Passes on the places that were computed before.
#[derive(Debug, Clone, Copy, Default)]
struct Precomputed(u64);

impl Hasher for Precomputed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("points and keys are one u64");
    }

    fn write_u64(&mut self, place: u64) {
        self.0 = place;
    }
}

impl BuildHasher for Precomputed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

#[derive(Debug)]
pub struct Ring {
    /// Those of weight, sorted.
    nodes: Vec<NodeId>,
    /// The same points as in `ring`, sorted: a successor is one step further, not another search.
    points: Vec<Point>,
    ring: HashRing<Point, Precomputed>,
}

impl Ring {
    /// # Errors
    /// When two nodes have a point in common.
    pub fn new(members: &Members) -> Result<Self, Collision> {
        let members = || members.iter().filter(|member| member.weight > 0);
        let nodes: Vec<NodeId> = members().map(|member| member.id.clone()).collect();
        let mut points = Vec::new();
        for (node, member) in (0..).zip(members()) {
            let id = member.id.as_str().as_bytes();
            for i in 0..member.weight.min(MAX_WEIGHT) * POINTS_PER_WEIGHT {
                let place = sip13(&[b"node|v1|", &i.to_le_bytes(), id]);
                points.push(Point {
                    place,
                    node,
                    rank: 0,
                });
            }
        }
        points.sort_unstable_by_key(|point| point.place);
        for pair in points.windows(2) {
            if pair[0].place == pair[1].place {
                let name = |point: &Point| nodes[point.node as usize].clone();
                let (first, second) = (name(&pair[0]), name(&pair[1]));
                return Err(Collision { first, second });
            }
        }
        for (rank, point) in (0..).zip(&mut points) {
            point.rank = rank;
        }
        let mut ring = HashRing::with_hasher(Precomputed::default());
        ring.batch_add(points.clone());
        Ok(Self {
            nodes,
            points,
            ring,
        })
    }

    /// The ring that nobody is on.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            points: Vec::new(),
            ring: HashRing::with_hasher(Precomputed::default()),
        }
    }

    /// Whether a node has a place on it.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.nodes.binary_search(node).is_ok()
    }

    /// All nodes of weight, each once, in the order in which they are responsible for the key.
    pub fn walk(&self, key: RingKey) -> impl Iterator<Item = &NodeId> {
        let start = self
            .ring
            .get(&Place(key.0))
            .map_or(0, |point| point.rank as usize);
        let mut seen = vec![false; self.nodes.len()];
        let points = self.points[start..].iter().chain(&self.points[..start]);
        points.filter_map(move |point| {
            let node = point.node as usize;
            (!std::mem::replace(&mut seen[node], true)).then(|| &self.nodes[node])
        })
    }

    /// Which ring this is: processes with equal digests agree about every room.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(KEY.0, KEY.1);
        for point in &self.points {
            hasher.write(&point.place.to_le_bytes());
            hasher.write(self.nodes[point.node as usize].as_str().as_bytes());
        }
        hasher.finish()
    }
}

pub(crate) fn sip13(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(KEY.0, KEY.1);
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
