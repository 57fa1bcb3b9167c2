use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::PipeAddress;
use crate::snapshot::tests;

fn record(id: &str, region: &str) -> NodeRecord {
    NodeRecord {
        pipe: PipeAddress::new(["127.0.0.1:7902".to_owned()], [7; 32]).ok(),
        ..tests::record(id, region)
    }
}

fn id(number: usize) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

fn region(number: usize) -> Region {
    format!("region-{number}").parse().unwrap()
}

fn track(name: impl std::fmt::Display) -> TrackId {
    format!("TR_{name}").parse().unwrap()
}

/// Nodes of one region, by their weights.
fn weighing(weights: &[u32]) -> Snapshot {
    Snapshot::new((0..).zip(weights).map(|(number, weight)| NodeRecord {
        weight: *weight,
        ..record(id(number).as_str(), "region-0")
    }))
}

fn gateway(mesh: &Snapshot, track: &TrackId, excluded: &BTreeSet<NodeId>) -> Option<NodeId> {
    let view = View {
        node: &id(999),
        region: &region(0),
        mesh,
        excluded,
    };
    view.gateway(track, |_| true).cloned()
}

/// Nodes of different versions and machines have to agree. If this test fails, a track crosses to a region
/// twice while a mesh is upgraded. The values were computed by an implementation of SipHash of its own.
#[test]
fn golden_vectors() {
    let check = |name: &str, node: &str, weight, expected: u64| {
        let node = NodeRecord {
            weight,
            ..record(node, "eu")
        };
        assert_eq!(score(&track(name), &node), expected, "{name} {node:?}");
    };
    check("camera", "alpha", 1, 0xd295_492a_3514_11bc);
    check("camera", "beta", 1, 0x75d0_8651_4513_61fd);
    check("camera", "gamma", 1, 0x64e4_2c8c_3993_4b3d);
    check("camera", "gamma", 3, 0xfd56_9b05_0ae1_ce48);
    check("sound", "alpha", 1, 0xa29e_1240_26ed_f9bf);

    let nodes = ["alpha", "beta", "gamma", "delta"];
    let mesh = Snapshot::new(nodes.map(|node| record(node, "region-0")));
    for (name, expected) in [
        ("camera", ["alpha", "delta", "beta", "gamma"]),
        ("sound", ["gamma", "beta", "alpha", "delta"]),
        ("1", ["beta", "delta", "alpha", "gamma"]),
    ] {
        let mut excluded = BTreeSet::new();
        for expected in expected {
            let first = gateway(&mesh, &track(name), &excluded).unwrap();
            assert_eq!(first.as_str(), expected, "{name}");
            excluded.insert(first);
        }
        assert_eq!(gateway(&mesh, &track(name), &excluded), None);
    }
}

/// Two regions: `a1` to `a4` and `b1` to `b3`; the gateway of `a` for the track, and who comes second.
fn scene() -> (Snapshot, TrackId, [NodeId; 2]) {
    let nodes = ["a1", "a2", "a3", "a4", "b1", "b2", "b3"];
    let mesh = Snapshot::new(nodes.map(|node| record(node, &node[..1])));
    let (track, mut excluded) = (track("x"), BTreeSet::new());
    let ranked = [(); 2].map(|()| {
        let view = view(&mesh, "a1", &excluded);
        let first = view.gateway(&track, |_| true).unwrap().clone();
        excluded.insert(first.clone());
        first
    });
    (mesh, track, ranked)
}

fn view<'a>(mesh: &'a Snapshot, node: &str, excluded: &'a BTreeSet<NodeId>) -> View<'a> {
    let node = mesh.node(&node.parse().unwrap()).unwrap();
    View {
        node: &node.id,
        region: &node.region,
        mesh,
        excluded,
    }
}

fn source(node: &NodeId, role: Role) -> Option<Source> {
    let node = node.clone();
    Some(Source { node, role })
}

#[test]
fn a_track_crosses_to_a_region_once() {
    let (mesh, track, [first, second]) = scene();
    let (nobody, origin) = (BTreeSet::new(), "b1".parse().unwrap());
    for node in ["a1", "a2", "a3", "a4"] {
        let node = view(&mesh, node, &nobody);
        let expected = match *node.node == first {
            true => source(&origin, Role::Gateway),
            false => source(&first, Role::Leaf),
        };
        assert_eq!(node.source(Role::Leaf, &track, &origin), expected);
        // Who serves others takes from the origin, whoever it thinks is the gateway.
        let as_gateway = node.source(Role::Gateway, &track, &origin);
        assert_eq!(as_gateway, source(&origin, Role::Gateway));
    }
    // Where it is published nobody stands between.
    for node in ["b2", "b3"] {
        let node = view(&mesh, node, &nobody);
        let expected = source(&origin, Role::Leaf);
        assert_eq!(node.source(Role::Leaf, &track, &origin), expected);
    }
    let own = view(&mesh, "b1", &nobody).source(Role::Leaf, &track, &origin);
    assert_eq!(own, None);

    // A gateway that is dead has a successor at once, which is found without the registry.
    let dead = BTreeSet::from([first.clone()]);
    for node in ["a1", "a2", "a3", "a4"] {
        let node = view(&mesh, node, &dead);
        let expected = match *node.node {
            ref node if *node == first => continue,
            ref node if *node == second => source(&origin, Role::Gateway),
            _ => source(&second, Role::Leaf),
        };
        assert_eq!(node.source(Role::Leaf, &track, &origin), expected);
    }
}

#[test]
fn an_origin_out_of_reach_may_be_in_reach_of_another() {
    let (mesh, track, [first, second]) = scene();
    let origin: NodeId = "b1".parse().unwrap();
    let cut_off = BTreeSet::from([origin.clone()]);
    let gateway = view(&mesh, first.as_str(), &cut_off);
    let expected = source(&second, Role::Leaf);
    assert_eq!(gateway.source(Role::Leaf, &track, &origin), expected);
    // Who serves others has nobody else to take from, and refuses them.
    assert_eq!(gateway.source(Role::Gateway, &track, &origin), None);
    let near = view(&mesh, "b2", &cut_off).source(Role::Leaf, &track, &origin);
    assert_eq!(near, source(&"b3".parse().unwrap(), Role::Leaf));
    let alone = BTreeSet::from(["b1", "b3"].map(|node| node.parse().unwrap()));
    let near = view(&mesh, "b2", &alone).source(Role::Leaf, &track, &origin);
    assert_eq!(near, None);
}

#[test]
fn who_knows_of_nobody_takes_from_the_origin() {
    let (_, track, _) = scene();
    let nobody = BTreeSet::new();
    let mesh = Snapshot::default();
    let alone = View {
        node: &id(1),
        region: &region(0),
        mesh: &mesh,
        excluded: &nobody,
    };
    let expected = source(&id(2), Role::Gateway);
    assert_eq!(alone.source(Role::Leaf, &track, &id(2)), expected);
}

#[test]
fn an_origin_sends_its_neighbours_to_their_gateway_once_they_are_many() {
    let (mesh, track, [first, second]) = scene();
    let nobody = BTreeSet::new();
    // In the region of those two.
    let origin: &str = ["a1", "a2", "a3", "a4"]
        .into_iter()
        .find(|node| *node != first.as_str() && *node != second.as_str())
        .unwrap();
    let at = view(&mesh, origin, &nobody);
    let serve = |asker: &NodeId, role, leaves| at.serve(asker, role, &track, at.node, leaves);
    let far: NodeId = "b1".parse().unwrap();
    assert_eq!(serve(&second, Role::Leaf, DIRECT_LEAVES - 1), Serve::Yes);
    let redirected = Serve::Redirect(first.clone());
    assert_eq!(serve(&second, Role::Leaf, DIRECT_LEAVES), redirected);
    assert_eq!(serve(&first, Role::Leaf, DIRECT_LEAVES), Serve::Yes);
    assert_eq!(serve(&second, Role::Gateway, 100), Serve::Yes);
    assert_eq!(serve(&far, Role::Leaf, 100), Serve::Yes, "who is mistaken");
    let leaf = view(&mesh, second.as_str(), &nobody);
    let expected = source(&first, Role::Leaf);
    assert_eq!(leaf.redirected(&first, at.node), expected);
    // Who cannot go there is served all the same.
    let expected = source(at.node, Role::Gateway);
    let dead = BTreeSet::from([first.clone()]);
    let leaf = view(&mesh, second.as_str(), &dead);
    assert_eq!(leaf.redirected(&first, at.node), expected);
    assert_eq!(leaf.redirected(&second, at.node), expected);
    assert_eq!(leaf.redirected(&id(5), at.node), expected, "unknown");

    // Elsewhere leaves are served however many they are, and gateways never.
    let other = view(&mesh, first.as_str(), &nobody);
    let serve = |role| other.serve(&second, role, &track, at.node, 100);
    assert_eq!(serve(Role::Leaf), Serve::Yes);
    assert_eq!(serve(Role::Gateway), Serve::No);
}

#[test]
fn who_drains_is_a_gateway_only_where_everybody_does() {
    let nobody = BTreeSet::new();
    let mut nodes: Vec<NodeRecord> = weighing(&[1, 2, 1, 0]).nodes().to_vec();
    nodes[1].state = NodeState::Draining;
    nodes[2].state = NodeState::Full;
    let shares = |nodes: &[NodeRecord]| shares(&Snapshot::new(nodes.to_vec()), 300, &nobody);
    let serving = shares(&nodes);
    let expected: Vec<&NodeId> = vec![&nodes[0].id, &nodes[2].id];
    assert_eq!(serving.keys().collect::<Vec<_>>(), expected);
    nodes[0].state = NodeState::Draining;
    nodes[2].state = NodeState::Draining;
    assert_eq!(shares(&nodes).len(), 4);
    nodes[1].pipe = None;
    assert_eq!(shares(&nodes).len(), 3, "nor one of a version before pipes");
}

/// How many of the tracks each node is the gateway of.
fn shares(mesh: &Snapshot, tracks: u32, excluded: &BTreeSet<NodeId>) -> BTreeMap<NodeId, u32> {
    let mut shares = BTreeMap::new();
    for number in 0..tracks {
        let gateway = gateway(mesh, &track(number), excluded).unwrap();
        *shares.entry(gateway).or_default() += 1;
    }
    shares
}

#[test]
fn tracks_spread_over_a_region() {
    let shares = shares(&weighing(&[1; 20]), 20_000, &BTreeSet::new());
    assert_eq!(shares.len(), 20);
    for (node, share) in shares {
        // Five standard deviations.
        assert!(share.abs_diff(1_000) < 155, "{node} has {share} of 20000");
    }
}

#[test]
fn a_node_of_twice_the_weight_has_twice_the_tracks() {
    let shares = shares(&weighing(&[1, 1, 2, 1, 4]), 18_000, &BTreeSet::new());
    let expected = [2_000, 2_000, 4_000, 2_000, 8_000];
    for ((node, share), expected) in shares.into_iter().zip(expected) {
        assert!(share.abs_diff(expected) < 300, "{node} has {share}");
    }
}

const NODES: usize = 9;
const REGIONS: usize = 3;

/// What one node believes of the mesh.
#[derive(Debug, Clone)]
struct Belief {
    mesh: Snapshot,
    excluded: BTreeSet<NodeId>,
}

fn node_record(number: usize) -> impl Strategy<Value = NodeRecord> {
    // Most know where a node is; it may have been elsewhere.
    let place = prop_oneof![5 => Just(number % REGIONS), 1 => 0..REGIONS];
    let has_pipes = prop::bool::weighted(0.9);
    let state = prop_oneof![
        4 => Just(NodeState::Serving),
        1 => Just(NodeState::Full),
        1 => Just(NodeState::Draining),
    ];
    (place, has_pipes, state, 0..4_u32).prop_map(move |(place, has_pipes, state, weight)| {
        let record = record(id(number).as_str(), region(place).as_str());
        NodeRecord {
            state,
            weight,
            pipe: record.pipe.filter(|_| has_pipes),
            ..record
        }
    })
}

fn belief() -> impl Strategy<Value = Belief> {
    let nodes: Vec<_> = (0..NODES)
        .map(|number| {
            let record = prop::option::weighted(0.9, node_record(number));
            (record, prop::bool::weighted(0.1))
        })
        .collect();
    nodes.prop_map(|nodes| {
        let excluded = (0..).zip(&nodes).filter(|(_, (_, excluded))| *excluded);
        Belief {
            excluded: excluded.map(|(number, _)| id(number)).collect(),
            mesh: Snapshot::new(nodes.iter().filter_map(|(record, _)| record.clone())),
        }
    })
}

/// Nodes that need not agree about anything but where each of them is itself.
#[derive(Debug, Clone)]
struct Mesh {
    ids: Vec<NodeId>,
    regions: Vec<Region>,
    beliefs: Vec<Belief>,
    /// How many leaves each of them serves already.
    leaves: Vec<usize>,
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let beliefs = prop::collection::vec(belief(), NODES);
    let leaves = prop::collection::vec(0..2 * DIRECT_LEAVES, NODES);
    (beliefs, leaves).prop_map(|(beliefs, leaves)| Mesh {
        ids: (0..NODES).map(id).collect(),
        regions: (0..NODES).map(|number| region(number % REGIONS)).collect(),
        beliefs,
        leaves,
    })
}

impl Mesh {
    fn number(&self, node: &NodeId) -> usize {
        self.ids.iter().position(|id| id == node).unwrap()
    }

    fn view(&self, number: usize) -> View<'_> {
        View {
            node: &self.ids[number],
            region: &self.regions[number],
            mesh: &self.beliefs[number].mesh,
            excluded: &self.beliefs[number].excluded,
        }
    }

    /// Who serves it in the end, and as what, if anybody does.
    fn taken_from(
        &self,
        taker: usize,
        role: Role,
        track: &TrackId,
        origin: usize,
    ) -> Option<(usize, Role)> {
        let view = self.view(taker);
        let mut source = view.source(role, track, &self.ids[origin])?;
        for is_redirected in [false, true] {
            let asked = self.number(&source.node);
            assert_ne!(asked, taker, "nobody asks himself");
            assert!(!view.excluded.contains(&source.node));
            let leaves = self.leaves[asked];
            let at = self.view(asked);
            match at.serve(view.node, source.role, track, &self.ids[origin], leaves) {
                Serve::Yes => return Some((asked, source.role)),
                Serve::No => panic!("{taker} asks {asked} in vain"),
                Serve::Redirect(to) => {
                    assert!(
                        !is_redirected,
                        "{taker} is sent on by who was not the origin"
                    );
                    assert_eq!(asked, origin);
                    source = view.redirected(&to, &self.ids[origin])?;
                }
            }
        }
        unreachable!("who is redirected is served");
    }
}

proptest! {
    /// Each hop with the eyes of whoever is there.
    #[test]
    fn two_hops_lead_to_the_origin(
        mesh in mesh(),
        taker in 0..NODES,
        origin in 0..NODES,
        track in "TR_[a-z]{1,8}",
    ) {
        prop_assume!(taker != origin);
        let track: TrackId = track.parse().unwrap();
        let mut path = vec![taker];
        let mut role = Role::Leaf;
        while *path.last().unwrap() != origin {
            let at = *path.last().unwrap();
            let Some((next, as_what)) = mesh.taken_from(at, role, &track, origin) else {
                break;
            };
            prop_assert!(!path.contains(&next), "{next} is on {path:?}");
            prop_assert!(next == origin || as_what == Role::Leaf);
            path.push(next);
            role = Role::Gateway;
        }
        prop_assert!(path.len() <= 3, "{path:?}");
    }

    /// All take at once, and who is asked becomes a gateway. There is no ring of nodes that have it from each
    /// other.
    #[test]
    fn nobody_has_a_track_from_himself(
        mesh in mesh(),
        takers in prop::collection::vec(any::<bool>(), NODES),
        origin in 0..NODES,
        track in "TR_[a-z]{1,8}",
    ) {
        let track: TrackId = track.parse().unwrap();
        let roles = takers.iter().map(|takes| takes.then_some(Role::Leaf));
        let mut roles: Vec<Option<Role>> = roles.collect();
        roles[origin] = None;
        let mut sources;
        loop {
            let took = |(taker, role): (usize, &Option<Role>)| {
                mesh.taken_from(taker, (*role)?, &track, origin)
            };
            sources = roles.iter().enumerate().map(took).collect::<Vec<_>>();
            let before = roles.clone();
            for (asked, _) in sources.iter().flatten() {
                if *asked != origin {
                    roles[*asked] = Some(Role::Gateway);
                }
            }
            if roles == before {
                break;
            }
        }
        for taker in 0..NODES {
            let mut path = vec![taker];
            while let Some((next, _)) = sources[*path.last().unwrap()] {
                prop_assert!(!path.contains(&next), "{next} is on {path:?}");
                path.push(next);
            }
            prop_assert!(path.len() <= 3, "{path:?}");
        }
    }

    /// What a node that leaves was the gateway of moves to whoever came second, nothing else moves, and so it
    /// is for those who only know that it is dead.
    #[test]
    fn a_departure_moves_what_the_node_had(
        weights in prop::collection::vec(1..4_u32, 2..12),
        gone in any::<Index>(),
        name in "[a-z]{1,8}",
    ) {
        let (mesh, track) = (weighing(&weights), track(name));
        let gone = mesh.nodes()[gone.index(weights.len())].id.clone();
        let nobody = BTreeSet::new();
        let rest = mesh.nodes().iter().filter(|node| node.id != gone).cloned();
        let had = gateway(&mesh, &track, &nobody);
        let has = gateway(&Snapshot::new(rest), &track, &nobody);
        prop_assert_eq!(had != has, had.as_ref() == Some(&gone));
        let known_dead = BTreeSet::from([gone.clone()]);
        prop_assert_eq!(&has, &gateway(&mesh, &track, &known_dead));
        // One that drains gives up as much, and keeps what it must.
        let drains = mesh.nodes().iter().cloned().map(|node| NodeRecord {
            state: if node.id == gone { NodeState::Draining } else { node.state },
            ..node
        });
        prop_assert_eq!(&has, &gateway(&Snapshot::new(drains), &track, &nobody));
    }

    /// Who grows takes from others, and gives nothing away.
    #[test]
    fn more_weight_moves_tracks_to_it_alone(
        weights in prop::collection::vec(1..4_u32, 2..12),
        grown in any::<Index>(),
        name in "[a-z]{1,8}",
    ) {
        let (track, nobody) = (track(name), BTreeSet::new());
        let grown = grown.index(weights.len());
        let had = gateway(&weighing(&weights), &track, &nobody);
        let mut heavier = weights;
        heavier[grown] += 3;
        let has = gateway(&weighing(&heavier), &track, &nobody);
        prop_assert!(has == had || has == Some(id(grown)));
    }

    /// Whatever others are there, and in whatever order they were heard of.
    #[test]
    fn equal_snapshots_lead_to_equal_choices(
        belief in belief(),
        seed in any::<u64>(),
        name in "[a-z]{1,8}",
    ) {
        let (track, nobody) = (track(name), BTreeSet::new());
        let mut nodes: Vec<NodeRecord> = belief.mesh.nodes().to_vec();
        nodes.sort_by_key(|node| sip13(&[&seed.to_le_bytes(), node.id.as_str().as_bytes()]));
        let strangers = (0..5).map(|number| record(&format!("stranger-{number}"), "elsewhere"));
        let other = Snapshot::new(nodes.into_iter().chain(strangers));
        prop_assert_eq!(gateway(&belief.mesh, &track, &nobody), gateway(&other, &track, &nobody));
    }
}
