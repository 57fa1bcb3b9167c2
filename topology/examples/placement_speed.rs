//! How long it takes to find a node for somebody, in a mesh of 1000 nodes with 160 places on the ring each:
//! `cargo run --release -p pipemesh-topology --example placement_speed`.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_topology::placement::{Load, Request, place};
use pipemesh_topology::ring::{Members, Ring};
use pipemesh_topology::{Homes, NodeRecord, NodeState, RoomName, Snapshot};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};

const NODES: u32 = 1_000;
const REGIONS: u32 = 5;
const ROOMS: u32 = 20_000;
const RINGS: u32 = 20;

fn main() {
    let mut rng = StdRng::seed_from_u64(1);
    let regions: Vec<Region> = (0..REGIONS)
        .map(|number| format!("region-{number}").parse().expect("a region"))
        .collect();
    let snapshot = Snapshot::new((0..NODES).map(|number| NodeRecord {
        id: format!("node-{number:04}").parse().expect("a node id"),
        region: regions[(number % REGIONS) as usize].clone(),
        grpc_address: "127.0.0.1:7901".to_owned(),
        boot_id: 1,
        weight: 1,
        pipe: None,
        state: NodeState::Serving,
    }));
    let members = Members::from(&snapshot);
    let build = || Ring::new(&members).expect("no two places are the same");
    let ring = build();
    timed("the ring is built", RINGS, |_| {
        black_box(build());
    });

    let loads: BTreeMap<NodeId, Load> = snapshot
        .nodes()
        .iter()
        .map(|node| {
            let load = Load {
                state: NodeState::Serving,
                ratio: rng.random_range(0.2..0.5),
                participants: rng.random_range(100..200),
            };
            (node.id.clone(), load)
        })
        .collect();
    let rooms: Vec<RoomName> = (0..ROOMS)
        .map(|number| format!("room-{number}").parse().expect("a room's name"))
        .collect();
    let excluded = BTreeSet::new();
    let place_all = |what: &str, homes: Option<&Homes>, excluded: &BTreeSet<NodeId>| {
        timed(what, ROOMS, |number| {
            let request = Request {
                room: &rooms[number as usize],
                region: &regions[(number % REGIONS) as usize],
                others: &regions,
                allowed: None,
                homes,
                spans: false,
                excluded,
            };
            let load = |node: &NodeId| loads.get(node).copied();
            let placed = place(&snapshot, &ring, &load, &request);
            black_box(placed.expect("there is room"));
        });
    };
    place_all("a new room is placed", None, &excluded);
    let home = snapshot.nodes()[NODES as usize / 2].id.clone();
    let homes = Homes::from(home.clone());
    place_all(
        "a room's next participant is placed",
        Some(&homes),
        &excluded,
    );
    let lost = BTreeSet::from([home]);
    place_all("a room whose node is lost is placed", Some(&homes), &lost);
}

fn timed(what: &str, times: u32, mut act: impl FnMut(u32)) {
    let begin = Instant::now();
    (0..times).for_each(&mut act);
    let each: Duration = begin.elapsed() / times;
    let per_second = 1.0 / each.as_secs_f64();
    println!("{what:<38} {each:>12.1?} each, {per_second:>12.0} a second");
}
