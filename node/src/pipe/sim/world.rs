//! A mesh in virtual time: nodes, what lies between them, the registry, the people; and what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_topology::relay_path::FanOut;
use pipemesh_topology::{NodeRecord, NodeState, PipeAddress, Snapshot};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::checks::Checks;
use super::connection::{Body, Packet};
use super::coverage::Coverage;
use super::network::{Network, TICK, TURN, round_up};
use super::node::{Dialect, Happened, Identity, Node, carried, is_piece};
use super::people::Member;
use super::plan::Step;
use super::signaling::Notice;
use super::story::Story;

/// What a node hears of the registry it hears so late at most.
const NEWS_WITHIN: Duration = Duration::from_millis(1_500);

pub(super) enum Event {
    Packet {
        from: usize,
        to: usize,
        packet: Packet,
    },
    Wake(usize),
    /// What the registry says gets to a node.
    Nodes(usize),
    /// Somebody's session is told something.
    Tell(usize, Notice),
    /// Somebody's next frame is due.
    Frame(usize),
    /// Somebody is given a place.
    Seat(usize),
    /// The registry has found out that a node is gone.
    Expire(usize, u64),
    /// Signaling has found out that a node is gone.
    Mourn(usize),
    Step(Step),
    /// A second has passed.
    Check,
}

struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A node as it is known whether it lives or not.
pub(super) struct Place {
    pub(super) id: NodeId,
    pub(super) region: Region,
    pub(super) shards: u16,
    pub(super) dialect: Dialect,
}

/// See the module.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) rng: StdRng,
    queue: BinaryHeap<Reverse<Entry>>,
    last_event: u64,
    pub(super) places: Vec<Place>,
    pub(super) nodes: Vec<Option<Node>>,
    /// When each is going to have its next turn, if nothing happens before.
    wakes: Vec<Option<Instant>>,
    indices: Arc<BTreeMap<NodeId, usize>>,
    last_boot: u64,
    pub(super) network: Network,
    pub(super) fan_out: FanOut,
    /// The registry.
    pub(super) records: BTreeMap<usize, NodeRecord>,
    pub(super) members: Vec<Member>,
    pub(super) last_key: u64,
    pub(super) last_ssrc: u32,
    /// Nodes that something was done to since they last had their turn.
    pub(super) touched: BTreeSet<usize>,
    pub(super) checks: Checks,
    pub(super) coverage: Coverage,
    pub(super) story: Story,
}

impl World {
    pub(super) fn new(seed: u64, places: Vec<Place>, regions: Vec<usize>, story: Story) -> Self {
        let start = Instant::now();
        let indices = places.iter().zip(0..);
        let indices = indices
            .map(|(place, index)| (place.id.clone(), index))
            .collect();
        let mut world = Self {
            now: start,
            start,
            rng: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            last_event: 0,
            nodes: places.iter().map(|_| None).collect(),
            wakes: vec![None; places.len()],
            places,
            indices: Arc::new(indices),
            last_boot: seed << 20,
            network: Network::new(regions, seed ^ 0x6E65_7477_6F72_6B00, start),
            fan_out: FanOut::default(),
            records: BTreeMap::new(),
            members: Vec::new(),
            last_key: 0,
            last_ssrc: 0,
            touched: BTreeSet::new(),
            checks: Checks::new(start),
            coverage: Coverage::default(),
            story,
        };
        world.coverage.nodes = world.places.len() as u64;
        world
    }

    pub(super) fn after(&mut self, pause: Duration, event: Event) {
        let at = round_up(self.start, self.now + pause, TICK);
        self.at(at, event);
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.last_event += 1;
        self.queue.push(Reverse(Entry {
            at,
            number: self.last_event,
            event,
        }));
    }

    pub(super) fn time(&self) -> Duration {
        self.now - self.start
    }

    /// A random time.
    pub(super) fn within(&mut self, from: Duration, to: Duration) -> Duration {
        self.rng.random_range(from..=to)
    }

    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.story.is_told() {
            let (time, what) = (self.time(), what(self));
            self.story.add(time, &what);
        }
    }

    pub(super) fn name(&self, node: usize) -> &str {
        self.places.get(node).map_or("?", |place| place.id.as_str())
    }

    pub(super) fn fail(&mut self, what: String) {
        let time = self.time();
        self.story.fail(time, what);
    }

    /// Runs until then, or until an invariant is broken.
    pub(super) fn run_until(&mut self, until: Instant) {
        while !self.story.has_failed() && self.queue.peek().is_some_and(|next| next.0.at <= until) {
            let Some(Reverse(next)) = self.queue.pop() else {
                return;
            };
            let is_later = next.at > self.now;
            if is_later {
                self.settle();
                self.now = self.now.max(next.at);
            }
            self.handle(next.event);
            if self.queue.peek().is_none_or(|next| next.0.at > self.now) {
                self.settle();
            }
        }
        self.now = self.now.max(until);
    }

    fn handle(&mut self, event: Event) {
        self.coverage.events += 1;
        match event {
            Event::Packet { from, to, packet } => self.deliver(from, to, packet),
            Event::Wake(node) => {
                self.wakes[node] = None;
                self.touched.insert(node);
            }
            Event::Nodes(node) => {
                let (now, snapshot) = (self.now, self.snapshot());
                if let Some(living) = self.nodes[node].as_mut() {
                    living.handle_nodes(snapshot, now);
                    self.touched.insert(node);
                }
            }
            Event::Tell(member, notice) => self.notify(member, notice),
            Event::Frame(member) => self.send_frame(member),
            Event::Seat(member) => self.seat(member),
            Event::Expire(node, boot_id) => {
                let known = self.records.get(&node).map(|record| record.boot_id);
                if known == Some(boot_id) && self.nodes[node].is_none() {
                    self.records.remove(&node);
                    self.tell(|it| format!("the registry gives {} up", it.name(node)));
                    self.publish_nodes();
                }
            }
            Event::Mourn(node) => self.mourn(node),
            Event::Step(step) => self.take_step(step),
            Event::Check => {
                self.check();
                self.after(Duration::from_secs(1), Event::Check);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        let now = self.now;
        if self.nodes[to].is_none() {
            return;
        }
        if let Body::Datagram(datagram) = &packet.body
            && let Some((ssrc, _)) = carried(datagram)
            && let Some(wrong) = self.checks.note_arrival(ssrc, from, to)
        {
            self.fail(wrong);
        }
        if let Some(node) = self.nodes[to].as_mut() {
            node.handle_packet(from, &self.places[from].id, packet, now);
            self.touched.insert(to);
        }
    }

    /// Lets everything that was touched have its turn, and carries on what comes of it.
    pub(super) fn settle(&mut self) {
        while let Some(index) = self.touched.pop_first() {
            let now = self.now;
            let Some(node) = self.nodes[index].as_mut() else {
                continue;
            };
            node.settle(now);
            let out = std::mem::take(&mut node.out);
            let told = std::mem::take(&mut node.told);
            let happened = std::mem::take(&mut node.happened);
            let wakes_at = node.wakes_at;
            for (to, packet) in out {
                self.send(index, to, packet);
            }
            for happened in happened {
                self.note(index, happened);
            }
            self.hear_shards(index);
            for told in told {
                self.tell_session(index, told);
            }
            if let Some(at) = wakes_at {
                let at = round_up(self.start, at.max(now + TICK), TURN);
                if self.wakes[index].is_none_or(|known| at < known) {
                    self.wakes[index] = Some(at);
                    self.at(at, Event::Wake(index));
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: Packet) {
        if let Body::Datagram(datagram) = &packet.body
            && self.network.region(from) != self.network.region(to)
            && let Some((ssrc, _)) = carried(datagram)
        {
            let region = self.network.region(to);
            self.checks.note_copy(ssrc, region, (from, to));
        }
        self.coverage.packets += 1;
        if let Body::Datagram(datagram) = &packet.body
            && is_piece(datagram)
        {
            self.coverage.pieces += 1;
        }
        if let Some(at) = self.network.carry(from, to, packet.size, self.now) {
            let at = at.max(round_up(self.start, self.now + TICK, TICK));
            self.at(at, Event::Packet { from, to, packet });
        }
    }

    fn note(&mut self, node: usize, happened: Happened) {
        match &happened {
            Happened::Connected(_) => self.coverage.connections += 1,
            Happened::Lost(..) => self.coverage.losses += 1,
            Happened::Rests(_) => self.coverage.rests += 1,
            Happened::Silent(_) => self.coverage.suspicions += 1,
            Happened::Lands(..) => self.coverage.landings += 1,
            Happened::Version(_) => self.coverage.versions += 1,
            Happened::Heard(_) | Happened::Leaves(_) => {}
        }
        self.tell(|it| {
            let own = it.name(node);
            match happened {
                Happened::Connected(peer) => format!("{own}: a pipe to {}", it.name(peer)),
                Happened::Lost(peer, why) => {
                    format!("{own}: the pipe to {} is lost: {why}", it.name(peer))
                }
                Happened::Rests(peer) => {
                    format!("{own}: nobody needs the pipe to {}", it.name(peer))
                }
                Happened::Heard(peer) => format!("{own}: hears {}", it.name(peer)),
                Happened::Silent(peer) => format!("{own}: hears nothing of {}", it.name(peer)),
                Happened::Lands(track, from) => {
                    format!("{own}: takes {track} from {}", it.name(from))
                }
                Happened::Leaves(track) => format!("{own}: leaves {track}"),
                Happened::Version(peer) => {
                    format!(
                        "{own}: refuses {}, which speaks another version",
                        it.name(peer)
                    )
                }
            }
        });
    }

    // Nodes and the registry.

    /// A node starts, for the first time or again.
    pub(super) fn start_node(&mut self, index: usize) {
        self.last_boot += 1;
        let boot_id = self.last_boot;
        let place = &self.places[index];
        let record = NodeRecord {
            id: place.id.clone(),
            region: place.region.clone(),
            grpc_address: String::new(),
            boot_id,
            weight: 1,
            pipe: PipeAddress::new([format!("{}:7000", place.id)], [0; 32]).ok(),
            state: NodeState::Serving,
        };
        let identity = Identity {
            index,
            id: place.id.clone(),
            region: place.region.clone(),
            boot_id,
            dialect: place.dialect,
        };
        let shards = place.shards;
        self.records.insert(index, record);
        let snapshot = self.snapshot();
        let indices = Arc::clone(&self.indices);
        let fan_out = self.fan_out;
        let node = Node::new(
            identity, shards, fan_out, snapshot, indices, self.start, self.now,
        );
        self.nodes[index] = Some(node);
        self.touched.insert(index);
        self.tell(|it| format!("{} starts", it.name(index)));
        self.publish_nodes();
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot::new(self.records.values().cloned()))
    }

    /// Every node hears of it in its own time.
    pub(super) fn publish_nodes(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_some() {
                let pause = self.within(TICK, NEWS_WITHIN);
                self.after(pause, Event::Nodes(index));
            }
        }
    }

    pub(super) fn living(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter_map(|(index, node)| node.as_ref().map(|_| index))
            .collect()
    }

    /// What is counted by others.
    pub(super) fn count(&mut self) {
        let network = &self.network;
        self.coverage.lost = network.lost;
        self.coverage.overflowed = network.overflowed;
        self.coverage.too_long = network.too_long;
        self.coverage.cut_off = network.cut_off;
    }
}
