use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ring::Members;
use crate::snapshot::tests::record;

/// A mesh by hand: id, region, state, load.
struct Mesh {
    snapshot: Snapshot,
    ring: Ring,
    loads: BTreeMap<NodeId, Load>,
    excluded: BTreeSet<NodeId>,
    others: Vec<Region>,
    allowed: Option<BTreeSet<Region>>,
    spans: bool,
}

impl Mesh {
    fn new(nodes: &[(&str, &str, NodeState, f64)]) -> Self {
        let snapshot = Snapshot::new(nodes.iter().map(|(id, region, state, _)| NodeRecord {
            state: *state,
            ..record(id, region)
        }));
        let ring = Ring::new(&Members::from(&snapshot)).unwrap();
        let loads = nodes.iter().map(|(id, _, state, ratio)| {
            let load = Load {
                state: *state,
                ratio: *ratio,
                participants: 0,
            };
            (id.parse().unwrap(), load)
        });
        Self {
            snapshot,
            ring,
            loads: loads.collect(),
            excluded: BTreeSet::new(),
            others: Vec::new(),
            allowed: None,
            spans: false,
        }
    }

    fn place(&self, room: &str, region: &str, homes: Option<&str>) -> Result<Placement, NoNode> {
        let homes = homes.map(|homes| homes.parse().unwrap());
        let request = Request {
            room: &room.parse().unwrap(),
            region: &region.parse().unwrap(),
            others: &self.others,
            allowed: self.allowed.as_ref(),
            homes: homes.as_ref(),
            spans: self.spans,
            excluded: &self.excluded,
        };
        let load = |node: &NodeId| self.loads.get(node).copied();
        place(&self.snapshot, &self.ring, &load, &request)
    }
}

use NodeState::{Draining, Full, Serving};

#[test]
fn a_room_stays_at_home() {
    let check = |state, load, expected: Option<Reason>| {
        let mesh = Mesh::new(&[("a", "eu", state, load), ("b", "eu", Serving, 0.0)]);
        let placement = mesh.place("room", "eu", Some("a")).unwrap();
        let home = (placement.node.as_str() == "a").then_some(placement.reason);
        assert_eq!(home, expected, "{state:?} at {load}");
    };
    check(Serving, 0.1, Some(Reason::Home));
    check(Serving, 0.99, Some(Reason::Home));
    check(Full, 0.99, Some(Reason::Home));
    check(Draining, 0.1, None);
}

#[test]
fn a_home_that_is_gone_leads_to_the_next_of_the_ring() {
    let mut mesh = Mesh::new(&[
        ("a", "eu", Serving, 0.1),
        ("b", "eu", Serving, 0.1),
        ("c", "eu", Serving, 0.1),
    ]);
    let first = mesh.place("room", "eu", None).unwrap();
    assert_eq!(first.reason, Reason::Ring);
    let key = RingKey::new(&"room".parse().unwrap(), &"eu".parse().unwrap());
    let walk: Vec<NodeId> = mesh.ring.walk(key).cloned().collect();
    assert_eq!(first.node, walk[0]);

    mesh.excluded.insert(walk[0].clone());
    let second = mesh.place("room", "eu", Some(walk[0].as_str())).unwrap();
    assert_eq!(second.node, walk[1]);

    mesh.loads.remove(&walk[1]);
    let third = mesh.place("room", "eu", Some(walk[0].as_str())).unwrap();
    assert_eq!(third.node, walk[2]);

    let unknown = mesh.place("room", "eu", Some("zzz")).unwrap();
    assert_eq!(unknown.node, walk[2]);
}

/// A room that spans: as few nodes as will do, one of them in each region.
#[test]
fn a_room_that_spans_has_a_home_in_each_region_and_more_when_they_are_full() {
    let check = |states: [NodeState; 4], homes: &str, expected: (&str, Reason)| {
        let [a, b, c, d] = states;
        let nodes = [
            ("a", "eu", a, 0.1),
            ("b", "eu", b, 0.5),
            ("c", "eu", c, 0.1),
            ("d", "us", d, 0.1),
        ];
        let mesh = Mesh {
            spans: true,
            ..Mesh::new(&nodes)
        };
        let placement = mesh.place("room", "eu", Some(homes)).unwrap();
        let seen = (placement.node.as_str(), placement.reason);
        assert_eq!(seen, expected, "{states:?}, at home on {homes}");
    };
    let all = [Serving; 4];
    // The first that has room, whatever the others have to do.
    check(all, "b", ("b", Reason::Home));
    check(all, "b,a", ("b", Reason::Home));
    check(
        [Serving, Full, Serving, Serving],
        "b,a",
        ("a", Reason::Home),
    );
    check(
        [Serving, Draining, Serving, Serving],
        "b,a",
        ("a", Reason::Home),
    );
    // One in another region does not do.
    check([Full, Serving, Full, Serving], "d", ("b", Reason::Ring));
    check([Full, Serving, Full, Serving], "a,d", ("b", Reason::Ring));
    // All of the region are full: there a room that is at home may grow.
    check([Full, Full, Full, Serving], "d,a", ("a", Reason::Home));
    check([Full, Full, Full, Serving], "b,a", ("b", Reason::Home));
    // One that is not has to go on elsewhere.
    check([Full, Full, Full, Serving], "d", ("d", Reason::Home));
    check(
        [Draining, Full, Full, Serving],
        "a",
        ("d", Reason::OtherRegion),
    );
    check(
        [Full, Draining, Draining, Draining],
        "d,a",
        ("a", Reason::Home),
    );
}

/// Sixty people and nodes that are full with 25.
#[test]
fn a_room_goes_on_where_there_is_room() {
    let mut mesh = Mesh {
        spans: true,
        ..Mesh::new(&[
            ("a", "eu", Serving, 0.0),
            ("b", "eu", Serving, 0.0),
            ("c", "eu", Serving, 0.0),
        ])
    };
    let mut homes: Option<String> = None;
    let mut placed: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..60 {
        let placement = mesh.place("room", "eu", homes.as_deref()).unwrap();
        let node = placement.node.to_string();
        let known: crate::Homes = homes.as_deref().unwrap_or(&node).parse().unwrap();
        homes = Some(match known.contains(&placement.node) {
            true => known.to_string(),
            false => known.joined_by(&placement.node, |_| true).to_string(),
        });
        let load = mesh.loads.get_mut(&placement.node).unwrap();
        load.participants += 1;
        load.ratio = f64::from(load.participants) / 25.0;
        if load.participants == 25 {
            load.state = Full;
        }
        *placed.entry(node).or_default() += 1;
    }
    let mut counts: Vec<u32> = placed.values().copied().collect();
    counts.sort_unstable();
    // By its load a node takes nobody new a little before it is full.
    assert_eq!(counts, [12, 24, 24], "{placed:?}");
    assert_eq!(homes.unwrap().split(',').count(), 3);
}

#[test]
fn load_and_region_decide_in_this_order() {
    let check = |nodes: &[(&str, &str, NodeState, f64)], expected: (&str, Reason)| {
        let placement = Mesh::new(nodes).place("room", "eu", None).unwrap();
        assert_eq!((placement.node.as_str(), placement.reason), expected);
    };
    // One candidate in the region is the first of the ring, whatever its load.
    check(
        &[("a", "eu", Serving, 0.8), ("b", "us", Serving, 0.0)],
        ("a", Reason::Ring),
    );
    // Nobody below the bound: the least loaded of the region, before any other region.
    let busy = [
        ("a", "eu", Serving, 0.8),
        ("b", "eu", Serving, 0.7),
        ("c", "us", Serving, 0.0),
    ];
    let placement = Mesh::new(&busy).place("room", "eu", None).unwrap();
    assert_eq!(placement.node.as_str(), "b");
    // Full or overloaded everywhere in the region.
    check(
        &[
            ("a", "eu", Full, 0.1),
            ("b", "eu", Serving, 0.97),
            ("c", "us", Serving, 0.3),
        ],
        ("c", Reason::OtherRegion),
    );
    // A region without nodes.
    check(&[("c", "us", Serving, 0.3)], ("c", Reason::OtherRegion));
}

#[test]
fn whoever_finds_no_place_goes_to_the_next_region() {
    let mut mesh = Mesh::new(&[
        ("ap-1", "ap", Serving, 0.0),
        ("eu-1", "eu", Full, 0.0),
        ("sa-1", "sa", Serving, 0.0),
        ("us-1", "us", Serving, 0.0),
        ("us-2", "us", Serving, 0.0),
    ]);
    let check = |mesh: &Mesh, others: [&str; 2], expected: &str| {
        let others = others.map(|it| it.parse().unwrap()).to_vec();
        let mesh = Mesh {
            snapshot: mesh.snapshot.clone(),
            ring: Ring::new(&Members::from(&mesh.snapshot)).unwrap(),
            loads: mesh.loads.clone(),
            excluded: mesh.excluded.clone(),
            others,
            allowed: None,
            spans: false,
        };
        for room in ["one", "two", "three", "four"] {
            let placement = mesh.place(room, "eu", None).unwrap();
            let region = &mesh.snapshot.node(&placement.node).unwrap().region;
            assert_eq!(
                (region.as_str(), placement.reason),
                (expected, Reason::OtherRegion)
            );
            if expected == "us" {
                // Where those put the room who are at home there.
                let there = mesh.place(room, "us", None).unwrap();
                assert_eq!(placement.node, there.node);
            }
        }
    };
    check(&mesh, ["us", "ap"], "us");
    check(&mesh, ["ap", "us"], "ap");
    for full in ["us-1", "us-2"] {
        let full: NodeId = full.parse().unwrap();
        mesh.loads.get_mut(&full).unwrap().state = Full;
    }
    check(&mesh, ["us", "ap"], "ap");
    mesh.loads.remove(&"ap-1".parse::<NodeId>().unwrap());
    // Who is not named comes after all who are.
    check(&mesh, ["us", "ap"], "sa");
}

#[test]
fn nobody_is_put_where_they_may_not_be() {
    let mut mesh = Mesh::new(&[
        ("a", "eu", Serving, 0.1),
        ("b", "us", Serving, 0.1),
        ("c", "us", Full, 0.1),
    ]);
    mesh.allowed = Some(["us".parse().unwrap()].into());
    let check = |mesh: &Mesh, home: Option<&str>, expected: Result<(&str, Reason), &str>| {
        let placement = mesh
            .place("room", "eu", home)
            .map_err(|none| none.to_string());
        let placement = placement.as_ref().map(|it| (it.node.as_str(), it.reason));
        assert_eq!(placement.map_err(String::as_str), expected);
    };
    check(&mesh, None, Ok(("b", Reason::OtherRegion)));
    check(&mesh, Some("a"), Ok(("b", Reason::OtherRegion)));
    check(&mesh, Some("c"), Ok(("c", Reason::Home)));
    mesh.excluded.insert("b".parse().unwrap());
    let refusal = "no node can take the room: a is in a region that is not allowed, \
                   b failed or refused just now, c is full";
    check(&mesh, None, Err(refusal));
    let none = mesh.place("room", "eu", None).unwrap_err();
    assert!(none.is_for_want_of_permission());
    // Nor would it have taken anybody else.
    mesh.loads
        .get_mut(&"a".parse::<NodeId>().unwrap())
        .unwrap()
        .state = Full;
    let none = mesh.place("room", "eu", None).unwrap_err();
    assert!(!none.is_for_want_of_permission());
    mesh.ring = Ring::empty();
    check(
        &mesh,
        None,
        Err("no node can take the room: a is full, b failed or refused just now, c is full"),
    );
}

#[test]
fn who_has_much_more_than_the_others_is_passed_over() {
    for first_load in [0.1, 0.55] {
        let mut mesh = Mesh::new(&[
            ("a", "eu", Serving, 0.22),
            ("b", "eu", Serving, 0.22),
            ("c", "eu", Serving, 0.22),
        ]);
        let first = mesh.place("room", "eu", None).unwrap().node;
        mesh.loads.get_mut(&first).unwrap().ratio = first_load;
        let placement = mesh.place("room", "eu", None).unwrap();
        let passed_over = placement.node != first;
        assert_eq!(passed_over, first_load > 0.5, "at {first_load}");
        assert_eq!(placement.reason == Reason::Overflow, passed_over);
    }
}

#[test]
fn a_refusal_names_every_node_and_why() {
    let mut mesh = Mesh::new(&[
        ("drains", "eu", Draining, 0.0),
        ("failed", "eu", Serving, 0.0),
        ("full", "us", Full, 0.0),
        ("gone", "eu", Serving, 0.0),
        ("hot", "us", Serving, 0.97),
    ]);
    mesh.excluded.insert("failed".parse().unwrap());
    mesh.loads.remove(&"gone".parse::<NodeId>().unwrap());
    let error = mesh.place("room", "eu", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no node can take the room: drains drains, failed failed or refused just now, \
         full is full, gone cannot be reached, hot has a load of 0.97"
    );
    let none = Mesh::new(&[]).place("room", "eu", None).unwrap_err();
    assert_eq!(none.to_string(), "no node can take the room: there is none");
}

#[test]
fn a_node_that_is_not_on_the_ring_is_the_last_resort() {
    let mut mesh = Mesh::new(&[
        ("a", "eu", Serving, 0.1),
        ("b", "us", Serving, 0.1),
        ("late", "eu", Serving, 0.1),
        ("later", "us", Serving, 0.1),
    ]);
    let members = Members::from(&mesh.snapshot);
    let on_ring = members
        .iter()
        .filter(|it| !it.id.as_str().starts_with("late"));
    mesh.ring = Ring::new(&Members::new(on_ring.cloned())).unwrap();
    for (node, reason) in [
        ("a", Reason::Ring),
        ("b", Reason::OtherRegion),
        ("late", Reason::OffRing),
        ("later", Reason::OffRing),
    ] {
        for room in ["one", "two", "three"] {
            let placement = mesh.place(room, "eu", None).unwrap();
            assert_eq!((placement.node.as_str(), placement.reason), (node, reason));
        }
        mesh.excluded.insert(node.parse().unwrap());
    }
    let error = mesh.place("room", "eu", None).unwrap_err();
    assert!(
        error
            .refusals
            .iter()
            .all(|(_, why)| *why == Refusal::Excluded)
    );
}

/// Rooms one after the other, of one participant each.
fn first_placements(weights: &[u32], rooms: u32, check: impl Fn(&BTreeMap<NodeId, u32>, u32)) {
    let ids: Vec<String> = (0..weights.len()).map(|i| format!("node-{i}")).collect();
    let list: Vec<_> = ids
        .iter()
        .map(|id| (id.as_str(), "eu", Serving, 0.0))
        .collect();
    let mut mesh = Mesh::new(&list);
    let weighted = mesh.snapshot.nodes().iter().zip(weights);
    mesh.snapshot = Snapshot::new(weighted.map(|(node, weight)| NodeRecord {
        weight: *weight,
        ..node.clone()
    }));
    mesh.ring = Ring::new(&Members::from(&mesh.snapshot)).unwrap();
    let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
    for room in 0..rooms {
        let node = mesh
            .place(&format!("room-{room}"), "eu", None)
            .unwrap()
            .node;
        let load = mesh.loads.get_mut(&node).unwrap();
        load.participants += 1;
        load.ratio += 0.001 / f64::from(mesh.snapshot.node(&node).unwrap().weight);
        *counts.entry(node).or_default() += 1;
        check(&counts, room + 1);
    }
}

#[test]
fn nobody_is_first_given_much_more_than_his_share() {
    for nodes in [2_u32, 3, 7, 20] {
        let weights = vec![1; nodes as usize];
        first_placements(&weights, 60 * nodes, |counts, rooms| {
            let bound = 1.25 * f64::from(rooms) / f64::from(nodes) + 1.0;
            let most = counts.values().max().unwrap();
            assert!(f64::from(*most) <= bound, "{most} of {rooms} on {nodes}");
        });
    }
    let weights = [1, 2, 4];
    first_placements(&weights, 700, |counts, rooms| {
        for (i, weight) in weights.iter().enumerate() {
            let id = format!("node-{i}").parse().unwrap();
            let count = *counts.get(&id).unwrap_or(&0);
            let bound = 1.25 * f64::from(rooms * weight) / 7.0 + 1.0;
            assert!(f64::from(count) <= bound, "{count} of {rooms} on {id}");
        }
    });
}

#[test]
fn a_room_stays_while_the_ring_and_the_loads_change() {
    let mut mesh = Mesh::new(&[
        ("a", "eu", Serving, 0.1),
        ("b", "eu", Serving, 0.1),
        ("c", "eu", Serving, 0.1),
    ]);
    let rooms: Vec<String> = (0..50).map(|i| format!("room-{i}")).collect();
    let homes: Vec<NodeId> = rooms
        .iter()
        .map(|room| mesh.place(room, "eu", None).unwrap().node)
        .collect();
    mesh.loads.get_mut(&homes[0]).unwrap().participants = 1000;
    let of_another = Members::from(&Snapshot::new([record("z", "eu")]));
    let rings = [Ring::empty(), Ring::new(&of_another).unwrap()];
    for ring in rings {
        mesh.ring = ring;
        for (room, home) in rooms.iter().zip(&homes) {
            let placement = mesh.place(room, "eu", Some(home.as_str())).unwrap();
            assert_eq!((&placement.node, placement.reason), (home, Reason::Home));
        }
    }
}

fn any_state() -> impl Strategy<Value = NodeState> {
    prop_oneof![4 => Just(Serving), 1 => Just(Full), 1 => Just(Draining)]
}

/// Which turn a region has: the wanted one, those that are named, the others.
fn mesh_rank(order: &[u8], named: usize, region: u8) -> usize {
    let place = order[..named].iter().position(|it| *it == region);
    if region == 0 {
        0
    } else {
        1 + place.unwrap_or(named)
    }
}

proptest! {
    #[test]
    fn never_a_node_that_may_not_be_used(
        nodes in prop::collection::vec((0..3u8, any_state(), 0.0..1.0f64, any::<bool>(), any::<bool>()), 0..8),
        room in "[a-z]{1,8}",
        home in prop::option::of(0..10usize),
        only in prop::option::of(prop::collection::btree_set(0..3u8, 0..3)),
        order in Just(vec![1u8, 2]).prop_shuffle(),
        named in 0..3usize,
    ) {
        let names: Vec<(String, String)> =
            (0..nodes.len()).map(|i| (format!("n{i}"), format!("r{}", nodes[i].0))).collect();
        let list: Vec<_> = nodes.iter().zip(&names)
            .map(|(node, (id, region))| (id.as_str(), region.as_str(), node.1, node.2))
            .collect();
        let mut mesh = Mesh::new(&list);
        let region = |i: &u8| format!("r{i}").parse::<Region>().unwrap();
        mesh.others = order.iter().take(named).map(region).collect();
        mesh.allowed = only.as_ref().map(|only| only.iter().map(region).collect());
        let allowed = |i: usize| only.as_ref().is_none_or(|only| only.contains(&nodes[i].0));
        let rank = |i: usize| mesh_rank(&order, named, nodes[i].0);
        for (node, (id, _)) in nodes.iter().zip(&names) {
            if node.3 { mesh.excluded.insert(id.parse().unwrap()); }
            if node.4 { mesh.loads.remove(&id.parse::<NodeId>().unwrap()); }
        }
        let home = home.map(|home| format!("n{home}"));
        let usable = |i: usize| !nodes[i].3 && !nodes[i].4 && allowed(i);
        let open = |i: usize| usable(i) && nodes[i].1 == Serving && nodes[i].2 < ANY_LOAD;
        match mesh.place(&room, "r0", home.as_deref()) {
            Ok(placement) => {
                let i = names.iter().position(|(id, _)| id == placement.node.as_str()).unwrap();
                prop_assert!(usable(i) && nodes[i].1 != Draining);
                match placement.reason {
                    Reason::Home => prop_assert_eq!(Some(placement.node.as_str()), home.as_deref()),
                    Reason::Ring | Reason::Overflow => prop_assert!(open(i) && nodes[i].0 == 0),
                    Reason::OtherRegion => {
                        prop_assert!(open(i) && nodes[i].0 != 0);
                        prop_assert!(!(0..nodes.len()).any(|other| rank(other) < rank(i) && open(other)));
                    }
                    Reason::OffRing => prop_assert!(false, "all are on the ring"),
                }
                prop_assert_eq!(Ok(placement), mesh.place(&room, "r0", home.as_deref()));
            }
            Err(none) => {
                prop_assert_eq!(none.refusals.len(), nodes.len());
                prop_assert!(!(0..nodes.len()).any(open));
            }
        }
    }
}
