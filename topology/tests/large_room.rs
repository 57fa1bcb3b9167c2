//! What a large room costs between nodes: 100,000 people watch 20, who publish sound and video of three
//! layers, on 200 nodes in 10 regions. Watchers are counted one by one; each node takes what its own want,
//! along the paths of `relay_path`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(
    clippy::print_stdout,
    reason = "the table is what the test is read for"
)]

use std::collections::{BTreeMap, BTreeSet};

use pipemesh_proto::ids::{NodeId, Region, TrackId};
use pipemesh_topology::relay_path::{FanOut, Role, SentOn, Source, View};
use pipemesh_topology::{NodeRecord, NodeState, PipeAddress, Snapshot};

const REGIONS: usize = 10;
const NODES_PER_REGION: usize = 20;
const PUBLISHERS_PER_REGION: usize = 2;
const WATCHERS_PER_NODE: usize = 500;

const PUBLISHERS: usize = REGIONS * PUBLISHERS_PER_REGION;
const SPEAKERS: usize = 2;
/// Up to this one they spoke lately, and are seen larger than the rest.
const LATELY: usize = SPEAKERS + 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Sound,
    Low,
    Medium,
    High,
}

impl Layer {
    const ALL: [Self; 4] = [Self::Sound, Self::Low, Self::Medium, Self::High];

    fn kilobits(self) -> u32 {
        match self {
            Self::Sound => 50,
            Self::Low => 150,
            Self::Medium => 500,
            Self::High => 1_700,
        }
    }
}

/// What one watcher sees of a publisher. Every other one sees all of them alike; the rest see a speaker in
/// full, those who spoke before larger, and the others small.
fn seen(watcher: usize, publisher: usize) -> Layer {
    let is_stage = watcher.is_multiple_of(2);
    let speaker = watcher / 2 % SPEAKERS;
    match publisher {
        _ if !is_stage => Layer::Low,
        publisher if publisher == speaker => Layer::High,
        SPEAKERS..=LATELY => Layer::Medium,
        _ => Layer::Low,
    }
}

struct Track {
    id: TrackId,
    origin: NodeId,
    layers: &'static [Layer],
    /// What is wanted of it where.
    wanted: BTreeMap<NodeId, BTreeSet<Layer>>,
}

struct Room {
    mesh: Snapshot,
    tracks: Vec<Track>,
    watchers: usize,
}

/// One node gives layers of a track to another.
struct Copy {
    publisher: usize,
    from: NodeId,
    to: NodeId,
    layers: BTreeSet<Layer>,
}

fn node_id(region: usize, number: usize) -> NodeId {
    format!("r{region}-n{number}").parse().unwrap()
}

impl Room {
    fn new() -> Self {
        let nodes = (0..REGIONS).flat_map(|region| {
            (0..NODES_PER_REGION).map(move |number| NodeRecord {
                id: node_id(region, number),
                region: format!("r{region}").parse().unwrap(),
                grpc_address: "127.0.0.1:7901".to_owned(),
                boot_id: 1,
                weight: 1,
                pipe: PipeAddress::new(["127.0.0.1:7902".to_owned()], [7; 32]).ok(),
                state: NodeState::Serving,
            })
        });
        let mesh = Snapshot::new(nodes);
        let published = (0..PUBLISHERS).flat_map(|publisher| {
            let origin = node_id(publisher % REGIONS, publisher / REGIONS);
            let tracks: [(_, &[Layer]); 2] =
                [("sound", &Layer::ALL[..1]), ("camera", &Layer::ALL[1..])];
            tracks.map(move |(name, layers)| Track {
                id: format!("TR_{name}{publisher}").parse().unwrap(),
                origin: origin.clone(),
                layers,
                wanted: BTreeMap::new(),
            })
        });
        let mut tracks: Vec<Track> = published.collect();
        let mut watchers = 0;
        for node in mesh.nodes() {
            let mut counted = [[0_u32; Layer::ALL.len()]; PUBLISHERS];
            for watcher in 0..WATCHERS_PER_NODE {
                watchers += 1;
                for (publisher, counted) in counted.iter_mut().enumerate() {
                    counted[Layer::Sound as usize] += 1;
                    counted[seen(watcher, publisher) as usize] += 1;
                }
            }
            for (place, track) in tracks.iter_mut().enumerate() {
                let counted = counted[place / 2];
                let wanted = track.layers.iter().copied();
                let wanted = wanted.filter(|layer| counted[*layer as usize] > 0);
                if *node.id.as_str() != *track.origin.as_str() {
                    track.wanted.insert(node.id.clone(), wanted.collect());
                }
            }
        }
        Self {
            mesh,
            tracks,
            watchers,
        }
    }

    fn region(&self, node: &NodeId) -> &Region {
        &self.mesh.node(node).expect("a node of the mesh").region
    }

    /// Every node takes what its watchers want, one after the other, as `relay_path` says.
    fn relayed(&self) -> Vec<Copy> {
        let nobody = BTreeSet::new();
        let view = |node: &NodeId| {
            let record = self.mesh.node(node).expect("a node of the mesh");
            View {
                node: &record.id,
                region: &record.region,
                mesh: &self.mesh,
                excluded: &nobody,
                fan_out: FanOut::default(),
            }
        };
        let mut copies = Vec::new();
        for (place, track) in self.tracks.iter().enumerate() {
            let (id, origin) = (&track.id, &track.origin);
            let source = |taker: &NodeId, sent_on| {
                let source = view(taker).source(Role::Leaf, sent_on, id, origin);
                source.expect("everybody can be reached")
            };
            let mut sources: BTreeMap<NodeId, Source> = BTreeMap::new();
            // Whom the origin serves as leaves.
            let mut leaves: Vec<&NodeId> = Vec::new();
            for taker in track.wanted.keys() {
                let taken = source(taker, SentOn::Not);
                if taken.role == Role::Leaf && taken.node == *origin {
                    leaves.push(taker);
                }
                sources.insert(taker.clone(), taken);
                if let Some(last) = view(origin).send_on(id, origin, &leaves, 0) {
                    leaves.retain(|leaf| *leaf != last);
                    sources.insert(last.clone(), source(last, SentOn::ByOrigin));
                }
            }
            let direct = FanOut::default().direct;
            assert!(leaves.len() <= direct + 1, "the gateway is one too");
            let mut carried = track.wanted.clone();
            for (taker, source) in &sources {
                if source.node != *origin {
                    let of_gateway = &sources[&source.node];
                    assert_eq!(of_gateway.node, *origin, "two hops, not more");
                    let gateway = carried.entry(source.node.clone()).or_default();
                    gateway.extend(&track.wanted[taker]);
                }
            }
            for (taker, source) in &sources {
                copies.push(Copy {
                    publisher: place / 2,
                    from: source.node.clone(),
                    to: taker.clone(),
                    layers: carried[taker].clone(),
                });
            }
        }
        copies
    }

    /// Every node takes everything from the origin.
    fn pushed(&self, layers: impl Fn(&Track, &NodeId) -> BTreeSet<Layer>) -> Vec<Copy> {
        let of_track = |(place, track): (usize, &Track)| {
            let takers = self.mesh.nodes().iter().map(|node| node.id.clone());
            let takers = takers.filter(|taker| *taker != track.origin);
            let copy = |to: NodeId| Copy {
                publisher: place / 2,
                from: track.origin.clone(),
                layers: layers(track, &to),
                to,
            };
            takers.map(copy).collect::<Vec<_>>()
        };
        self.tracks.iter().enumerate().flat_map(of_track).collect()
    }

    fn sum<'a>(&self, copies: impl IntoIterator<Item = &'a Copy>) -> Sum {
        let mut sum = Sum::default();
        let mut pairs = BTreeSet::new();
        for copy in copies {
            pairs.insert((copy.publisher, self.region(&copy.to), &copy.to));
            sum.layers += copy.layers.len();
            let kilobits = copy.layers.iter().map(|layer| layer.kilobits());
            sum.kilobits += kilobits.sum::<u32>();
        }
        let regions = pairs
            .iter()
            .map(|(publisher, region, _)| (publisher, region));
        sum.regions = regions.collect::<BTreeSet<_>>().len();
        sum.copies = pairs.len();
        sum
    }

    fn crosses(&self, copy: &Copy) -> bool {
        self.region(&copy.from) != self.region(&copy.to)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Publishers, once for each region that has them from elsewhere.
    regions: usize,
    /// Publishers, once for each node.
    copies: usize,
    layers: usize,
    kilobits: u32,
}

fn print(how: &str, sum: &Sum) {
    let megabits = f64::from(sum.kilobits) / 1000.0;
    println!(
        "{how:<34} {:>5} {:>6} {:>7} {megabits:>9.1} Mbit/s",
        sum.regions, sum.copies, sum.layers
    );
}

#[test]
fn a_large_room_costs_one_copy_for_each_region() {
    let room = Room::new();
    assert_eq!(room.watchers, 100_000);
    let demand = |node: &NodeId| {
        let layers = room.tracks.iter().flat_map(|track| &track.wanted[node]);
        layers.fold(BTreeMap::new(), |mut counted, layer| {
            *counted.entry(*layer).or_insert(0) += 1;
            counted
        })
    };
    let (sound, low, medium, high) = (Layer::Sound, Layer::Low, Layer::Medium, Layer::High);
    assert_eq!(
        demand(&node_id(0, 19)),
        BTreeMap::from([(sound, 20), (low, 20), (medium, 4), (high, 2)]),
        "where nobody publishes"
    );

    let wan = |copies: &[Copy]| room.sum(copies.iter().filter(|copy| room.crosses(copy)));
    let all_of = |track: &Track, _: &NodeId| track.layers.iter().copied().collect();
    let wanted = |track: &Track, to: &NodeId| track.wanted[to].clone();
    let relayed = room.relayed();
    let (pushed, pulled, tree) = (
        wan(&room.pushed(all_of)),
        wan(&room.pushed(wanted)),
        wan(&relayed),
    );
    println!("between regions                  regions copies  layers       RTP");
    print("full mesh, everything pushed", &pushed);
    print("full mesh, layers by demand", &pulled);
    print("gateways, layers by demand", &tree);
    let lan = room.sum(relayed.iter().filter(|copy| !room.crosses(copy)));
    print("the same, within regions", &lan);

    let mut origins: BTreeMap<(usize, &NodeId), BTreeSet<&NodeId>> = BTreeMap::new();
    let mut gateways: BTreeMap<&NodeId, u32> = BTreeMap::new();
    for node in room.mesh.nodes() {
        gateways.insert(&node.id, 0);
    }
    for copy in &relayed {
        let publishes = room.tracks[2 * copy.publisher].origin == copy.from;
        if publishes {
            let to = origins.entry((copy.publisher, &copy.from)).or_default();
            to.insert(&copy.to);
        } else {
            let kilobits = copy.layers.iter().map(|layer| layer.kilobits());
            *gateways.entry(&copy.from).or_default() += kilobits.sum::<u32>();
        }
    }
    let fan_out = origins.values().map(BTreeSet::len).max().unwrap();
    println!("most nodes that have a publisher's tracks from the origin: {fan_out}");
    let worst = f64::from(*gateways.values().max().unwrap()) / 1000.0;
    let all = f64::from(gateways.values().sum::<u32>()) / 1000.0;
    let mean = all / gateways.len() as f64;
    println!("a gateway gives {mean:.1} Mbit/s on average, {worst:.1} at most");

    assert_eq!((pushed.copies, pushed.kilobits), (3_600, 8_640_000));
    assert_eq!((pulled.copies, pulled.kilobits), (3_600, 1_692_000));
    assert_eq!(tree.regions, 180);
    assert_eq!((tree.layers, tree.kilobits), (414, 84_600));
    assert_eq!(lan.kilobits, 1_786_000);
}
