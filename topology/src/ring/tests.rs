use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn members(nodes: impl IntoIterator<Item = (String, u32)>) -> Members {
    Members::new(nodes.into_iter().map(|(id, weight)| Member {
        id: id.parse().unwrap(),
        region: "eu".parse().unwrap(),
        weight,
    }))
}

fn ring(count: usize) -> Ring {
    Ring::new(&members((0..count).map(|i| (format!("node-{i}"), 1)))).unwrap()
}

fn key(room: &str, region: &str) -> RingKey {
    RingKey::new(&room.parse().unwrap(), &region.parse().unwrap())
}

/// The ring is shared by processes of different builds and machines. If this test fails, the ring
/// has changed and [`ALGORITHM`] has to change with it. The values were computed by an
/// implementation of SipHash of its own.
#[test]
fn golden_vectors() {
    assert_eq!(ALGORITHM, "sip13/v1");
    assert_eq!(key("standup", "eu-west").0, 0x65c8_1b56_f7ab_3f7b);
    assert_eq!(key("Küche | 1", "us-east").0, 0x8007_8be6_adb4_bd34);
    let ring = Ring::new(&members(
        [("alpha", 1), ("beta", 2), ("gamma", 1)].map(|(id, weight)| (id.to_owned(), weight)),
    ))
    .unwrap();
    assert_eq!(ring.points.len(), 640);
    assert_eq!(ring.points[0].place, 0x0003_d3ae_b796_04d0);
    assert_eq!(ring.digest(), 0xb111_038e_9001_3dd4);
    let walk: Vec<&str> = ring
        .walk(key("standup", "eu-west"))
        .map(NodeId::as_str)
        .collect();
    assert_eq!(walk, ["beta", "gamma", "alpha"]);
}

#[test]
fn length_and_order_of_a_key_count() {
    assert_ne!(key("bc", "a"), key("c", "ab"));
    assert_ne!(key("a", "b"), key("b", "a"));
}

#[test]
fn an_empty_ring_has_no_owner() {
    let ring = Ring::empty();
    assert_eq!(ring.walk(key("a", "b")).next(), None);
    let of_nobody = Ring::new(&Members::default()).unwrap();
    assert_eq!(ring.digest(), of_nobody.digest());
    let weightless = Ring::new(&members([("a".to_owned(), 0)])).unwrap();
    assert_eq!(weightless.walk(key("a", "b")).next(), None);
}

#[test]
fn rooms_spread_by_weight() {
    let ring = Ring::new(&members(
        [("a", 1), ("b", 1), ("c", 2)].map(|(id, weight)| (id.to_owned(), weight)),
    ))
    .unwrap();
    let mut counts = BTreeMap::new();
    for i in 0..20_000 {
        let owner = ring.walk(key(&format!("room-{i}"), "eu")).next().unwrap();
        *counts.entry(owner.as_str()).or_insert(0) += 1;
    }
    for (node, share) in [("a", 5_000), ("b", 5_000), ("c", 10_000)] {
        let count: i32 = counts[node];
        assert!(
            (count - share).abs() < share / 4,
            "{node} has {count}, not about {share}"
        );
    }
}

/// What the departure of each node moves: its own rooms and no others, and one share of N on
/// average, whatever the weights.
#[test]
fn a_departure_moves_one_share() {
    const ROOMS: u32 = 10_000;
    for nodes in [3_u32, 10, 40] {
        let weight = |i: u32| 1 + i % 3;
        let all = (0..nodes).map(|i| (format!("node-{i}"), weight(i)));
        let before = Ring::new(&members(all.clone())).unwrap();
        let keys: Vec<RingKey> = (0..ROOMS)
            .map(|i| key(&format!("room-{i}"), "eu"))
            .collect();
        let owners = |ring: &Ring| -> Vec<NodeId> {
            let owner = |key: &RingKey| ring.walk(*key).next().unwrap().clone();
            keys.iter().map(owner).collect()
        };
        let had = owners(&before);
        let mut moved = 0;
        for gone in 0..nodes {
            let rest = all.clone().filter(|(id, _)| *id != format!("node-{gone}"));
            let has = owners(&Ring::new(&members(rest)).unwrap());
            let gone = format!("node-{gone}");
            for (had, has) in had.iter().zip(&has) {
                assert_eq!(
                    had != has,
                    had.as_str() == gone,
                    "only what {gone} had moves"
                );
                moved += u32::from(had != has);
            }
        }
        let mean = f64::from(moved) / f64::from(nodes) / f64::from(ROOMS);
        assert!(mean <= 1.1 / f64::from(nodes), "{mean} of {nodes}");
    }
}

proptest! {
    /// Whoever puts it together, and in whatever order he hears of the nodes.
    #[test]
    fn a_ring_is_what_its_members_are(
        nodes in prop::collection::btree_map("[a-z]{1,6}", 0..4_u32, 0..12),
        seed in any::<u64>(),
        rooms in prop::collection::vec("[a-z]{1,12}", 1..20),
    ) {
        let one = Ring::new(&members(nodes.clone())).unwrap();
        let mut shuffled: Vec<(String, u32)> = nodes.into_iter().collect();
        shuffled.sort_by_key(|(id, _)| sip13(&[&seed.to_le_bytes(), id.as_bytes()]));
        let other = Ring::new(&members(shuffled)).unwrap();
        prop_assert_eq!(one.digest(), other.digest());
        for room in rooms {
            let key = key(&room, "eu");
            prop_assert!(one.walk(key).eq(other.walk(key)));
        }
    }

    /// The first of the walk is whom the hash ring itself names.
    #[test]
    fn walk_begins_with_the_owner(nodes in 1usize..20, room in "[a-z]{1,12}") {
        let ring = ring(nodes);
        let key = key(&room, "eu");
        let owner = ring.ring.get(&Place(key.0)).unwrap();
        prop_assert_eq!(ring.walk(key).next(), Some(&ring.nodes[owner.node as usize]));
    }

    /// Everybody comes once.
    #[test]
    fn walk_visits_each_node_once(nodes in 1usize..20, room in "[a-z]{1,12}") {
        let ring = ring(nodes);
        let walk: Vec<&NodeId> = ring.walk(key(&room, "eu")).collect();
        let distinct: BTreeSet<&NodeId> = walk.iter().copied().collect();
        prop_assert_eq!(walk.len(), nodes);
        prop_assert_eq!(distinct.len(), nodes);
    }

    /// When a node leaves, only what it owned moves, and to whom the walk named second.
    #[test]
    fn a_leaving_node_moves_only_its_own(nodes in 2usize..12, gone in 0usize..12, room in "[a-z]{1,12}") {
        let gone = gone % nodes;
        let all = ring(nodes);
        let rest = (0..nodes).filter(|i| *i != gone).map(|i| (format!("node-{i}"), 1));
        let rest = Ring::new(&members(rest)).unwrap();
        let key = key(&room, "eu");
        let gone = format!("node-{gone}");
        let expected: Vec<&NodeId> = all.walk(key).filter(|id| id.as_str() != gone).collect();
        prop_assert_eq!(rest.walk(key).collect::<Vec<_>>(), expected);
    }
}
