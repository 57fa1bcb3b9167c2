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
        fan_out: FanOut::default(),
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
    let check = |name: &str, twig: &str, branch: &str, weight, expected: u64| {
        let branch = NodeRecord {
            weight,
            ..record(branch, "eu")
        };
        let score = twig_score(&track(name), &twig.parse().unwrap(), &branch);
        assert_eq!(score, expected, "{name} {twig} {branch:?}");
    };
    check("camera", "delta", "alpha", 1, 0x0603_b7b4_a6e2_8021);
    check("camera", "delta", "beta", 1, 0xe8ec_fe47_a85c_fd07);
    check("camera", "alpha", "beta", 1, 0x2f74_c8da_9665_aac8);
    check("sound", "delta", "beta", 3, 0xfd99_f355_e336_bfd9);

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
        fan_out: FanOut::default(),
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
        assert_eq!(
            node.source(Role::Leaf, SentOn::Not, &track, &origin),
            expected
        );
        // Who serves others takes from the origin, whoever it thinks is the gateway.
        let as_gateway = node.source(Role::Gateway, SentOn::Not, &track, &origin);
        assert_eq!(as_gateway, source(&origin, Role::Gateway));
    }
    // Where it is published nobody stands between.
    for node in ["b2", "b3"] {
        let node = view(&mesh, node, &nobody);
        let expected = source(&origin, Role::Leaf);
        assert_eq!(
            node.source(Role::Leaf, SentOn::Not, &track, &origin),
            expected
        );
    }
    let own = view(&mesh, "b1", &nobody).source(Role::Leaf, SentOn::Not, &track, &origin);
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
        assert_eq!(
            node.source(Role::Leaf, SentOn::Not, &track, &origin),
            expected
        );
    }
}

#[test]
fn an_origin_out_of_reach_may_be_in_reach_of_another() {
    let (mesh, track, [first, second]) = scene();
    let origin: NodeId = "b1".parse().unwrap();
    let cut_off = BTreeSet::from([origin.clone()]);
    let gateway = view(&mesh, first.as_str(), &cut_off);
    let expected = source(&second, Role::Leaf);
    assert_eq!(
        gateway.source(Role::Leaf, SentOn::Not, &track, &origin),
        expected
    );
    // Who serves others has nobody else to take from, and refuses them.
    assert_eq!(
        gateway.source(Role::Gateway, SentOn::Not, &track, &origin),
        None
    );
    let near = view(&mesh, "b2", &cut_off).source(Role::Leaf, SentOn::Not, &track, &origin);
    assert_eq!(near, source(&"b3".parse().unwrap(), Role::Leaf));
    let alone = BTreeSet::from(["b1", "b3"].map(|node| node.parse().unwrap()));
    let near = view(&mesh, "b2", &alone).source(Role::Leaf, SentOn::Not, &track, &origin);
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
        fan_out: FanOut::default(),
    };
    let expected = source(&id(2), Role::Gateway);
    assert_eq!(
        alone.source(Role::Leaf, SentOn::Not, &track, &id(2)),
        expected
    );
}

/// A region of so many nodes, and the nodes in the order of their rank for a track.
fn ranked(nodes: usize) -> (Snapshot, TrackId, Vec<NodeId>) {
    let (mesh, track) = (weighing(&vec![1; nodes]), track("x"));
    let nobody = BTreeSet::new();
    let at = view(&mesh, "node-0", &nobody);
    let ranked = at.ranked(&track, |_| true).into_iter();
    let ranked = ranked.map(|node| node.id.clone()).collect();
    (mesh, track, ranked)
}

#[test]
fn an_origin_sends_on_who_ranks_last_of_its_neighbours() {
    let (mut mesh, track, ranked) = ranked(20);
    let far = record("far", "region-1");
    mesh = Snapshot::new(mesh.nodes().iter().cloned().chain([far]));
    let (nobody, far) = (BTreeSet::new(), "far".parse().unwrap());
    let (origin, gateway) = (&ranked[5], &ranked[0]);
    let at = view(&mesh, origin.as_str(), &nobody);
    let send_on = |leaves: &[&NodeId]| at.send_on(&track, origin, leaves, 0).cloned();
    let mut leaves: Vec<&NodeId> = [19, 2, 7, 9, 11, 12, 3, 8].map(|rank| &ranked[rank]).into();
    assert_eq!(send_on(&leaves), None);
    // The gateway is served in any case, and so is who is mistaken.
    leaves.extend([gateway, &far]);
    assert_eq!(send_on(&leaves), None);
    leaves.push(&ranked[10]);
    assert_eq!(send_on(&leaves).as_ref(), Some(&ranked[19]));
    leaves.remove(0);
    assert_eq!(send_on(&leaves), None);

    let leaf = view(&mesh, ranked[19].as_str(), &nobody);
    let path = |role, sent_on| leaf.source(role, sent_on, &track, origin);
    let direct = source(origin, Role::Leaf);
    assert_eq!(path(Role::Leaf, SentOn::Not), direct);
    let sent_on = source(gateway, Role::Leaf);
    assert_eq!(path(Role::Leaf, SentOn::ByOrigin), sent_on);
    // Who serves others does not care.
    let as_gateway = source(origin, Role::Gateway);
    assert_eq!(path(Role::Gateway, SentOn::ByOrigin), as_gateway);
    let is_gateway = view(&mesh, gateway.as_str(), &nobody);
    let path = is_gateway.source(Role::Leaf, SentOn::ByOrigin, &track, origin);
    assert_eq!(path, as_gateway);
    // The gateway's place is taken at once.
    let dead = BTreeSet::from([gateway.clone()]);
    let leaf = view(&mesh, ranked[19].as_str(), &dead);
    let path = leaf.source(Role::Leaf, SentOn::ByOrigin, &track, origin);
    assert_eq!(path, source(&ranked[1], Role::Leaf));
}

#[test]
fn a_gateway_sends_on_who_ranks_last_to_the_branches() {
    let (mesh, track, ranked) = ranked(200);
    let (nobody, origin) = (BTreeSet::new(), "far".parse().unwrap());
    let most = FanOut::default().gateway;
    let (gateway, branches) = (&ranked[0], &ranked[1..=most]);
    let at = view(&mesh, gateway.as_str(), &nobody);
    let mut leaves: Vec<&NodeId> = ranked[150..150 + most].iter().collect();
    assert_eq!(at.send_on(&track, &origin, &leaves, 0), None);
    let last = Some(leaves[most - 1]);
    assert_eq!(at.send_on(&track, &origin, &leaves, 1), last);
    leaves.push(&branches[3]);
    assert_eq!(at.send_on(&track, &origin, &leaves, 0), last);
    // Branches have nowhere to go.
    let all: Vec<&NodeId> = branches.iter().collect();
    assert_eq!(at.send_on(&track, &origin, &all, 1), None);

    let mut twigs: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in &ranked[1..] {
        let at = view(&mesh, node.as_str(), &nobody);
        let path = |role, sent_on| at.source(role, sent_on, &track, &origin);
        let leaf = source(gateway, Role::Leaf);
        assert_eq!(path(Role::Leaf, SentOn::ByOrigin), leaf);
        // Who serves twigs takes from the gateway.
        let branch = source(gateway, Role::Branch);
        assert_eq!(path(Role::Branch, SentOn::ByGateway), branch);
        match path(Role::Leaf, SentOn::ByGateway).unwrap() {
            path if branches.contains(node) => assert_eq!(Some(path), leaf),
            path => {
                assert_eq!(path.role, Role::Twig);
                assert!(branches.contains(&path.node));
                *twigs.entry(path.node).or_default() += 1;
            }
        }
    }
    assert_eq!(twigs.values().sum::<usize>(), 200 - 1 - most);
    assert!(twigs.len() > most / 2, "they share them");
    assert!(twigs.values().all(|twigs| *twigs <= most), "{twigs:?}");
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
    sent_on: Vec<SentOn>,
}

/// So small that all of it is met.
const FAN_OUT: FanOut = FanOut {
    direct: 1,
    gateway: 2,
};

fn sent_on() -> impl Strategy<Value = SentOn> {
    prop_oneof![
        1 => Just(SentOn::Not),
        1 => Just(SentOn::ByOrigin),
        2 => Just(SentOn::ByGateway),
    ]
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let beliefs = prop::collection::vec(belief(), NODES);
    let sent_on = prop::collection::vec(sent_on(), NODES);
    (beliefs, sent_on).prop_map(|(beliefs, sent_on)| Mesh {
        ids: (0..NODES).map(id).collect(),
        regions: (0..NODES).map(|number| region(number % REGIONS)).collect(),
        beliefs,
        sent_on,
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
            fan_out: FAN_OUT,
        }
    }

    /// From whom a node takes it that has to be this for others, and as what.
    fn taken_from(
        &self,
        taker: usize,
        role: Role,
        track: &TrackId,
        origin: usize,
    ) -> Option<(usize, Role)> {
        let view = self.view(taker);
        let source = view.source(role, self.sent_on[taker], track, &self.ids[origin])?;
        let asked = self.number(&source.node);
        assert_ne!(asked, taker, "nobody asks himself");
        assert!(!view.excluded.contains(&source.node));
        if role > Role::Leaf {
            assert!(source.role >= role, "who serves twigs is no leaf");
        }
        if source.role == Role::Gateway {
            assert_eq!(asked, origin, "a gateway takes from the origin alone");
        }
        Some((asked, source.role))
    }
}

/// A track in a mesh whose nodes agree.
struct Tree<'a> {
    mesh: &'a Snapshot,
    track: &'a TrackId,
    origin: &'a NodeId,
    excluded: &'a BTreeSet<NodeId>,
    fan_out: FanOut,
    /// As what each takes it at least, and how far it was sent on.
    takers: BTreeMap<NodeId, (Role, SentOn)>,
}

impl Tree<'_> {
    fn view(&self, node: &NodeId) -> View<'_> {
        View {
            fan_out: self.fan_out,
            ..view(self.mesh, node.as_str(), self.excluded)
        }
    }

    fn region(&self, node: &NodeId) -> &Region {
        &self.mesh.node(node).unwrap().region
    }

    fn source(&self, node: &NodeId) -> Source {
        let (role, sent_on) = self.takers[node];
        let source = self
            .view(node)
            .source(role, sent_on, self.track, self.origin);
        source.unwrap()
    }

    fn given(&self, node: &NodeId) -> Vec<&NodeId> {
        let takers = self.takers.keys();
        takers
            .filter(|taker| self.source(taker).node == *node)
            .collect()
    }

    fn path(&self, node: &NodeId) -> Vec<NodeId> {
        let mut path = vec![node.clone()];
        while *path.last().unwrap() != *self.origin {
            path.push(self.source(path.last().unwrap()).node);
        }
        path
    }

    /// Those who are asked take it, and those who are too many are sent on.
    fn settle(&mut self) {
        loop {
            let sources = self.takers.keys().map(|taker| self.source(taker));
            let asked: Vec<Source> = sources
                .filter(|source| source.node != *self.origin)
                .collect();
            let mut is_settled = true;
            for source in asked {
                let role = source.role.server();
                let known = self
                    .takers
                    .entry(source.node)
                    .or_insert((Role::Twig, SentOn::Not));
                is_settled &= known.0 >= role;
                known.0 = known.0.max(role);
            }
            let servers = self.takers.iter();
            let servers = servers.filter(|(_, (role, _))| *role == Role::Gateway);
            let servers: Vec<NodeId> = servers.map(|(node, _)| node.clone()).collect();
            for server in servers.iter().chain([self.origin]) {
                let given = self.given(server);
                let leaves = given.iter().copied().filter(|it| {
                    let by = match server == self.origin {
                        true => SentOn::ByOrigin,
                        false => SentOn::ByGateway,
                    };
                    self.source(it).role == Role::Leaf && self.takers[*it].1 < by
                });
                let leaves: Vec<&NodeId> = leaves.collect();
                let branches = given
                    .iter()
                    .filter(|it| self.source(it).role == Role::Branch);
                let branches = branches.count();
                let at = self.view(server);
                if let Some(leaf) = at.send_on(self.track, self.origin, &leaves, branches) {
                    let leaf = leaf.clone();
                    let sent_on = match server == self.origin {
                        true => SentOn::ByOrigin,
                        false => SentOn::ByGateway,
                    };
                    self.takers.get_mut(&leaf).unwrap().1 = sent_on;
                    is_settled = false;
                }
            }
            if is_settled {
                return;
            }
        }
    }
}

proptest! {
    /// Each hop with the eyes of whoever is there. Who is met again has to be more by then than it was before.
    #[test]
    fn three_hops_lead_to_the_origin(
        mesh in mesh(),
        taker in 0..NODES,
        origin in 0..NODES,
        track in "TR_[a-z]{1,8}",
    ) {
        prop_assume!(taker != origin);
        let track: TrackId = track.parse().unwrap();
        let (mut at, mut role, mut hops) = (taker, Role::Leaf, 0);
        while at != origin {
            let Some((next, as_what)) = mesh.taken_from(at, role, &track, origin) else {
                break;
            };
            prop_assert!(next == origin || as_what.server() > role);
            (at, role, hops) = (next, as_what.server(), hops + 1);
        }
        prop_assert!(hops < LONGEST_PATH, "{hops}");
    }

    /// All take at once, and who is asked becomes what it has to be. There is no ring of nodes that have it
    /// from each other.
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
            for (asked, as_what) in sources.iter().flatten() {
                if *asked != origin {
                    roles[*asked] = roles[*asked].max(Some(as_what.server()));
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
            prop_assert!(path.len() <= LONGEST_PATH, "{path:?}");
        }
    }

    /// Nodes that know the same take a track one after the other, in any order. No node gives it to more than
    /// it should, and it crosses to a region once.
    #[test]
    fn no_node_gives_a_track_to_many(
        takers in prop::collection::vec(any::<Index>(), 1..60),
        name in "[a-z]{1,8}",
    ) {
        let fan_out = FanOut { direct: 3, gateway: 5 };
        let nodes = (0..40).map(|number| record(id(number).as_str(), region(number % 2).as_str()));
        let (mesh, track, nobody) = (Snapshot::new(nodes), track(name), BTreeSet::new());
        let origin = id(0);
        let mut tree = Tree { mesh: &mesh, track: &track, origin: &origin, excluded: &nobody, fan_out, takers: BTreeMap::new() };
        for taker in takers {
            let taker = id(taker.index(40));
            if taker != origin {
                tree.takers.entry(taker).or_insert((Role::Leaf, SentOn::Not));
                tree.settle();
            }
            for (node, (role, _)) in &tree.takers {
                let given = tree.given(node);
                let crossing = given.iter().filter(|it| tree.region(it) != tree.region(node));
                prop_assert_eq!(crossing.count(), 0, "only the origin's cross");
                match role {
                    Role::Gateway => prop_assert!(given.len() <= fan_out.gateway),
                    // Each node picks its branch by itself.
                    Role::Branch => {}
                    Role::Leaf | Role::Twig => prop_assert!(given.is_empty()),
                }
                prop_assert!(tree.path(node).len() <= LONGEST_PATH);
            }
            let given = tree.given(&origin);
            let near = given.iter().filter(|it| tree.region(it) == tree.region(&origin));
            prop_assert!(near.count() <= fan_out.direct + 1, "the gateway is one too");
            let far = given.iter().filter(|it| tree.region(it) != tree.region(&origin));
            prop_assert!(far.count() <= 1);
        }
    }

    /// A branch that goes has its twigs moved, and whoever is a branch instead takes its share of the others'.
    #[test]
    fn a_branch_that_goes_moves_what_it_had(gone in any::<Index>(), name in "[a-z]{1,8}") {
        let (mesh, track, origin) = (weighing(&[1; 60]), track(name), "far".parse().unwrap());
        let source = |node: &NodeId, excluded| {
            let view = View {
                fan_out: FanOut { direct: 3, gateway: 5 },
                ..view(&mesh, node.as_str(), excluded)
            };
            let source = view.source(Role::Leaf, SentOn::ByGateway, &track, &origin);
            source.unwrap()
        };
        let nobody = BTreeSet::new();
        let ids = mesh.nodes().iter().map(|node| &node.id);
        let before: BTreeMap<&NodeId, Source> = ids.map(|id| (id, source(id, &nobody))).collect();
        let twigs = |of: &NodeId| {
            let twigs = before.iter().filter(|(_, it)| it.role == Role::Twig && it.node == *of);
            twigs.count()
        };
        let branches: Vec<&NodeId> = before.keys().copied().filter(|id| twigs(id) > 0).collect();
        let gone = branches[gone.index(branches.len())];
        let dead = BTreeSet::from([gone.clone()]);
        let mut fresh = BTreeSet::new();
        for (node, before) in before.iter().filter(|(node, _)| **node != gone) {
            let after = source(node, &dead);
            if before.node == *gone || before.node == after.node {
                continue;
            }
            // It is a branch now, or has one that was none before.
            if after.role == Role::Twig {
                prop_assert_eq!(twigs(&after.node), 0);
            }
            fresh.insert(match after.role {
                Role::Twig => after.node,
                _ => (*node).clone(),
            });
        }
        prop_assert!(fresh.len() <= 1, "{fresh:?}");
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
