use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::snapshot::NodeRecord;
use crate::snapshot::tests::record;

fn snapshot(nodes: impl IntoIterator<Item = (String, u32)>) -> Snapshot {
    Snapshot::new(nodes.into_iter().map(|(id, weight)| NodeRecord {
        weight,
        ..record(&id, "eu")
    }))
}

fn ring(count: usize) -> Ring {
    Ring::new(&snapshot((0..count).map(|i| (format!("node-{i}"), 1)))).unwrap()
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
    let ring = Ring::new(&snapshot(
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
    let ring = Ring::new(&Snapshot::default()).unwrap();
    assert_eq!(ring.walk(key("a", "b")).next(), None);
    let weightless = Ring::new(&snapshot([("a".to_owned(), 0)])).unwrap();
    assert_eq!(weightless.walk(key("a", "b")).next(), None);
}

#[test]
fn rooms_spread_by_weight() {
    let ring = Ring::new(&snapshot(
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

proptest! {
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
        let rest = Ring::new(&snapshot(rest)).unwrap();
        let key = key(&room, "eu");
        let gone = format!("node-{gone}");
        let expected: Vec<&NodeId> = all.walk(key).filter(|id| id.as_str() != gone).collect();
        prop_assert_eq!(rest.walk(key).collect::<Vec<_>>(), expected);
    }
}
