//! What is done to a mesh, and when: drawn from the seed before anything happens.

use std::ops::Range;
use std::time::{Duration, Instant};

use pipemesh_topology::NodeState;
use rand::Rng;
use rand::rngs::StdRng;

use super::checks::RECOVERED_AFTER;
use super::media::LAYERS;
use super::network::{ETHERNET, Weather};
use super::node::Dialect;
use super::world::{Event, World};
use crate::pipe::transport::MTU;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Kill(usize),
    Start(usize),
    Cut {
        from: usize,
        to: usize,
        is_cut: bool,
    },
    /// Between two regions, in one direction.
    Weather(usize, usize, Weather),
    Loud(bool),
    Drain(usize, bool),
    Join(usize),
    Leave(usize),
    Mute(usize, bool),
    Wish(usize, u8),
    Restart(usize, usize),
    Dialect(usize, Dialect),
}

/// All that is done, by name.
pub(super) const FAULTS: [&str; 19] = [
    "node dies",
    "node starts anew at once",
    "gateway dies",
    "nodes are cut off from each other",
    "one direction is cut",
    "regions are cut off from each other",
    "loss",
    "longer route",
    "reordering",
    "shorter packets",
    "narrow place",
    "narrow both ways",
    "drain",
    "join or leave",
    "mute",
    "other layers wanted",
    "encoder restarts",
    "newer or older version",
    "foreign version",
];

/// What a mesh is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) regions: usize,
    pub(super) members: usize,
    pub(super) rooms: usize,
    pub(super) episodes: usize,
}

impl Size {
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let nodes = rng.random_range(3..=12);
        Self {
            nodes,
            regions: rng.random_range(1..=nodes.min(4)),
            members: rng.random_range(3..=9),
            rooms: rng.random_range(1..=2),
            episodes: 2,
        }
    }

    pub(super) const LARGE: Self = Self {
        nodes: 200,
        regions: 10,
        members: 60,
        rooms: 2,
        episodes: 2,
    };
}

/// Everybody has joined.
const JOINED: Duration = Duration::from_secs(4);
/// An episode: things happen within this time, …
const EPISODE: Duration = Duration::from_secs(4);
/// … some of which take this long.
const LONGEST: Duration = Duration::from_secs(6);
/// Bits per second of a narrow place: all audio and the lowest layers have room, all layers of two do not.
const NARROW: Range<u64> = 500_000..1_600_000;
/// Peace in which everything is looked at.
const PEACE: Duration = Duration::from_secs(4);

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

/// Draws what happens; answers when all of it is over and everybody may leave.
pub(super) fn draw(world: &mut World, size: Size) -> Instant {
    let mut at = Duration::ZERO;
    for node in 0..size.nodes {
        let pause = millis(&mut world.rng, 0, 200);
        world.after(pause, Event::Step(Step::Start(node)));
    }
    for member in 0..world.members.len() {
        let pause = millis(&mut world.rng, 800, 3_000);
        world.after(pause, Event::Step(Step::Join(member)));
    }
    at += JOINED + RECOVERED_AFTER + PEACE;
    for _ in 0..size.episodes {
        let mut longest = EPISODE;
        for _ in 0..world.rng.random_range(1..=4) {
            let begins = at + millis(&mut world.rng, 0, EPISODE.as_millis() as u64);
            let lasts = draw_fault(world, size, begins);
            longest = longest.max(begins + lasts - at);
        }
        at += longest + RECOVERED_AFTER + PEACE;
    }
    world.start + at
}

struct Drawing<'a> {
    world: &'a mut World,
    begins: Duration,
    ends: Duration,
}

impl Drawing<'_> {
    fn begin(&mut self, step: Step) {
        let at = self.world.start + self.begins;
        self.world.after(at - self.world.now, Event::Step(step));
    }

    fn end(&mut self, step: Step) {
        let at = self.world.start + self.ends;
        self.world.after(at - self.world.now, Event::Step(step));
    }

    fn fault(&mut self, name: &'static str) {
        self.world.coverage.fault(name);
    }
}

/// Draws one thing that happens, and answers how long it lasts.
fn draw_fault(world: &mut World, size: Size, begins: Duration) -> Duration {
    let lasts = millis(&mut world.rng, 300, LONGEST.as_millis() as u64);
    let node = world.rng.random_range(0..size.nodes);
    let other = (node + world.rng.random_range(1..size.nodes)) % size.nodes;
    let region = world.rng.random_range(0..size.regions);
    let far = world.rng.random_range(0..size.regions);
    let member = world.rng.random_range(0..world.members.len());
    let kind = world.rng.random_range(0..18);
    let way = world.some_way();
    let mut drawing = Drawing {
        world,
        begins,
        ends: begins + lasts,
    };
    match kind {
        0 | 1 => {
            drawing.fault("node dies");
            drawing.begin(Step::Kill(node));
            drawing.end(Step::Start(node));
        }
        2 => {
            drawing.fault("node starts anew at once");
            drawing.ends = begins + Duration::from_millis(500);
            drawing.begin(Step::Kill(node));
            drawing.end(Step::Start(node));
        }
        3 | 4 => {
            drawing.fault("gateway dies");
            // Whose turn it is by then is found when it happens.
            drawing.begin(Step::Kill(usize::MAX));
        }
        5 => {
            drawing.fault("nodes are cut off from each other");
            for (from, to) in [(node, other), (other, node)] {
                drawing.begin(Step::Cut {
                    from,
                    to,
                    is_cut: true,
                });
                drawing.end(Step::Cut {
                    from,
                    to,
                    is_cut: false,
                });
            }
        }
        6 => {
            drawing.fault("one direction is cut");
            let (from, to) = (node, other);
            drawing.begin(Step::Cut {
                from,
                to,
                is_cut: true,
            });
            drawing.end(Step::Cut {
                from,
                to,
                is_cut: false,
            });
        }
        7 => {
            drawing.fault("regions are cut off from each other");
            draw_partition(&mut drawing, size, region, far);
        }
        8 => {
            drawing.fault("loss");
            let loss = drawing.world.rng.random_range(0.002..0.06);
            let weather = Weather {
                loss,
                ..Weather::default()
            };
            draw_weather(&mut drawing, region, far, weather);
        }
        9 => {
            drawing.fault("longer route");
            let detour = millis(&mut drawing.world.rng, 20, 150);
            let weather = Weather {
                detour,
                ..Weather::default()
            };
            draw_weather(&mut drawing, region, far, weather);
        }
        10 => {
            drawing.fault("reordering");
            let jitter = millis(&mut drawing.world.rng, 2, 12);
            let loss = 0.003;
            let weather = Weather {
                jitter,
                loss,
                ..Weather::default()
            };
            draw_weather(&mut drawing, region, far, weather);
        }
        11 => {
            drawing.fault("shorter packets");
            let mtu = drawing.world.rng.random_range(usize::from(MTU)..ETHERNET);
            let weather = Weather {
                mtu,
                ..Weather::default()
            };
            draw_weather(&mut drawing, region, far, weather);
        }
        12 | 13 if let Some((region, far)) = way => {
            let is_both = drawing.world.rng.random_bool(0.5);
            drawing.fault("narrow place");
            let rate = Some(drawing.world.rng.random_range(NARROW));
            let weather = Weather {
                rate,
                ..Weather::default()
            };
            drawing.begin(Step::Loud(true));
            drawing.end(Step::Loud(false));
            drawing.ends = begins + Duration::from_secs(15);
            drawing.begin(Step::Weather(region, far, weather));
            drawing.end(Step::Weather(region, far, Weather::default()));
            if is_both {
                drawing.fault("narrow both ways");
                drawing.begin(Step::Weather(far, region, weather));
                drawing.end(Step::Weather(far, region, Weather::default()));
            }
            return Duration::from_secs(15);
        }
        12..=14 => {
            drawing.fault("drain");
            drawing.begin(Step::Drain(node, true));
            drawing.end(Step::Drain(node, false));
        }
        15 => draw_person(&mut drawing, member),
        16 => {
            drawing.fault("other layers wanted");
            let layers = drawing.world.rng.random_range(0..=LAYERS);
            drawing.begin(Step::Wish(member, layers));
        }
        _ => {
            let dialect = match drawing.world.rng.random_range(0..3) {
                0 => Dialect::Newer,
                1 => Dialect::Older,
                _ => Dialect::Foreign,
            };
            match dialect {
                Dialect::Foreign => drawing.fault("foreign version"),
                _ => drawing.fault("newer or older version"),
            }
            drawing.begin(Step::Kill(node));
            drawing.begin(Step::Dialect(node, dialect));
            drawing.end(Step::Start(node));
        }
    }
    lasts
}

fn draw_partition(drawing: &mut Drawing<'_>, size: Size, region: usize, far: usize) {
    for from in 0..size.nodes {
        for to in 0..size.nodes {
            let ends = [from, to].map(|node| drawing.world.network.region(node));
            if from != to && (ends == [region, far] || ends == [far, region]) {
                drawing.begin(Step::Cut {
                    from,
                    to,
                    is_cut: true,
                });
                drawing.end(Step::Cut {
                    from,
                    to,
                    is_cut: false,
                });
            }
        }
    }
}

/// It stays as it is for the peace after, so that what is looked at then is looked at under it.
fn draw_weather(drawing: &mut Drawing<'_>, region: usize, far: usize, weather: Weather) {
    drawing.begin(Step::Weather(region, far, weather));
    if drawing.world.rng.random_bool(0.5) {
        drawing.begin(Step::Weather(far, region, weather));
    }
}

fn draw_person(drawing: &mut Drawing<'_>, member: usize) {
    let layer = drawing.world.rng.random_range(0..LAYERS).into();
    match drawing.world.rng.random_range(0..4) {
        0 => {
            drawing.fault("join or leave");
            drawing.begin(Step::Leave(member));
            drawing.ends = drawing.ends.max(drawing.begins + Duration::from_secs(1));
            drawing.end(Step::Join(member));
        }
        1 => {
            drawing.fault("mute");
            drawing.begin(Step::Mute(member, true));
            drawing.end(Step::Mute(member, false));
        }
        _ => {
            drawing.fault("encoder restarts");
            drawing.begin(Step::Restart(member, layer));
        }
    }
}

impl World {
    /// From the region of somebody who publishes to the other one of somebody who watches them.
    fn some_way(&mut self) -> Option<(usize, usize)> {
        let mut ways = Vec::new();
        for publisher in self.members.iter().filter(|it| it.publishes) {
            let watchers = self.members.iter();
            let watchers = watchers.filter(|it| {
                it.watches && it.room == publisher.room && it.region != publisher.region
            });
            ways.extend(watchers.map(|watcher| (publisher.region, watcher.region)));
        }
        let place = self.rng.random_range(0..ways.len().max(1));
        ways.get(place).copied()
    }

    pub(super) fn take_step(&mut self, step: Step) {
        self.tell(|it| it.describe(&step));
        let now = self.now;
        self.checks.disturb(now);
        match step {
            Step::Start(_) | Step::Drain(..) => self.checks.hand_over(),
            Step::Kill(_) | Step::Cut { .. } | Step::Weather(..) => self.checks.break_off(),
            _ => {}
        }
        match step {
            Step::Kill(usize::MAX) => {
                if let Some(gateway) = self.some_gateway() {
                    self.kill(gateway);
                    let pause = self.within(Duration::from_secs(1), LONGEST);
                    self.after(pause, Event::Step(Step::Start(gateway)));
                }
            }
            // One node is left to connect to, at least.
            Step::Kill(node) if self.living().len() > 1 => self.kill(node),
            Step::Kill(_) => {}
            Step::Start(node) if self.nodes[node].is_none() => self.start_node(node),
            Step::Start(_) => {}
            Step::Cut { from, to, is_cut } => self.network.cut(from, to, is_cut),
            Step::Weather(from, to, weather) => {
                self.network.set_weather(from, to, weather);
                self.checks.is_narrow = self.network.is_narrow();
            }
            Step::Loud(is_loud) => {
                for member in &mut self.members {
                    member.is_loud = is_loud;
                }
            }
            Step::Drain(node, drains) => {
                let state = match drains {
                    true => NodeState::Draining,
                    false => NodeState::Serving,
                };
                self.set_state(node, state);
            }
            Step::Join(member) => self.join(member, Duration::from_millis(1)),
            Step::Leave(member) => self.leave(member),
            Step::Mute(member, muted) => self.mute(member, muted),
            Step::Wish(member, layers) => self.wish(member, layers),
            Step::Restart(member, layer) => self.restart_encoder(member, layer),
            Step::Dialect(node, dialect) => self.places[node].dialect = dialect,
        }
    }

    /// A node through which others take tracks of a third.
    fn some_gateway(&mut self) -> Option<usize> {
        let mut gateways = Vec::new();
        for index in self.living() {
            let links = self.nodes[index]
                .iter()
                .flat_map(|node| node.links.values());
            let counts = links.map(|link| link.exchange.counts());
            let (taken, given) = counts.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
            if taken > 0 && given > 0 {
                gateways.push(index);
            }
        }
        let place = self.rng.random_range(0..gateways.len().max(1));
        gateways.get(place).copied()
    }

    fn describe(&self, step: &Step) -> String {
        let cut = |is_cut: bool| if is_cut { "cut" } else { "whole" };
        match step {
            Step::Kill(usize::MAX) => "a gateway is to die".to_owned(),
            Step::Kill(node) => format!("{} is to die", self.name(*node)),
            Step::Start(node) => format!("{} is to start", self.name(*node)),
            Step::Cut { from, to, is_cut } => {
                let (from, to) = (self.name(*from), self.name(*to));
                format!("the way from {from} to {to} is {}", cut(*is_cut))
            }
            Step::Weather(from, to, weather) => format!("from r{from} to r{to}: {weather:?}"),
            Step::Loud(is_loud) => format!("pictures move a lot: {is_loud}"),
            Step::Drain(node, drains) => format!("{} drains: {drains}", self.name(*node)),
            Step::Join(member) => format!("{} is to join", self.members[*member].id),
            Step::Leave(member) => format!("{} is to leave", self.members[*member].id),
            Step::Mute(member, muted) => format!("{} is muted: {muted}", self.members[*member].id),
            Step::Wish(member, layers) => {
                format!("{} wants {layers} layers", self.members[*member].id)
            }
            Step::Restart(member, layer) => {
                format!("{}'s encoder {layer} begins anew", self.members[*member].id)
            }
            Step::Dialect(node, dialect) => {
                format!("{} speaks another version: {dialect:?}", self.name(*node))
            }
        }
    }
}
