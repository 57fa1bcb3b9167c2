//! One node: its shards, what is decided over its pipes, and the pipes. All of it is the node's own code; only
//! the loops around it are made here, and sessions and the registry speak through [`super::signaling`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use pipemesh_node_core::pipe::frame::{self, Datagram};
use pipemesh_node_media::poll::{Sleeper, Waker};
use pipemesh_proto::ids::{NodeId, Region, SessionId, TrackId};
use pipemesh_proto::pipe::pipe_message::Message as Word;
use pipemesh_proto::{PIPE_VERSION, PIPE_VERSION_MIN};
use pipemesh_topology::Snapshot;
use pipemesh_topology::relay_path::FanOut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::connection::{Body, End, Packet};
use crate::pipe::calls::{Calls, Ear, Met};
use crate::pipe::connection;
use crate::pipe::decisions::{Decisions, Output};
use crate::pipe::exchange::{Exchange, News};
use crate::pipe::link::Order;
use crate::shard::alone::Alone;
use crate::shard::{Command, Doors, Neighbours};
use crate::tracks::Tracks;

/// A call that is not answered is given up after so long, and repeated until then.
const CALL_FOR: Duration = Duration::from_secs(3);
const CALL_AGAIN: Duration = Duration::from_millis(400);
/// Little is sent, and a large mesh has thousands of rings.
const RING: usize = 128 << 10;
const KNOCK_SIZE: usize = 1_200;
const POST_AGAIN: Duration = Duration::from_millis(1);
/// So soon that it happens.
const LET_GO_AFTER: Duration = Duration::from_secs(2);

/// Which language a node speaks on its pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Own,
    /// The next version, which says things that this one does not know.
    Newer,
    /// A version from before rooms were followed, which does not know those messages.
    Older,
    /// One that does not speak with this one any more.
    Foreign,
}

impl Dialect {
    fn versions(self) -> (u32, u32) {
        match self {
            Self::Own | Self::Older => (PIPE_VERSION_MIN, PIPE_VERSION),
            Self::Newer => (PIPE_VERSION, PIPE_VERSION + 1),
            Self::Foreign => (PIPE_VERSION + 1, PIPE_VERSION + 2),
        }
    }

    fn meets(self, (min, max): (u32, u32)) -> bool {
        let (own_min, own_max) = self.versions();
        match self {
            Self::Own | Self::Older => connection::is_spoken(min, max),
            Self::Newer | Self::Foreign => max >= own_min && min <= own_max,
        }
    }

    /// What becomes of a word on its way out.
    fn speak(self, spoken: &mut Vec<Bytes>) {
        /// Field 1000 with a number, and field 99 with three bytes.
        const FIELD: [u8; 3] = [0xC0, 0x3E, 0x01];
        const MESSAGE: [u8; 6] = [0x9A, 0x06, 0x03, b'n', b'e', b'w'];
        if self != Self::Newer {
            return;
        }
        let framed = |content: &[u8], more: &[u8]| {
            let mut bytes = BytesMut::new();
            bytes.put_u32((content.len() + more.len()) as u32);
            bytes.put_slice(content);
            bytes.put_slice(more);
            bytes.freeze()
        };
        let known = framed(&spoken[0][4..], &FIELD);
        *spoken = vec![framed(&[], &MESSAGE), known];
    }

    fn understands(self, word: &Word) -> bool {
        let is_of_rooms = matches!(
            word,
            Word::Follow(_)
                | Word::Unfollow(_)
                | Word::Speakers(_)
                | Word::Quality(_)
                | Word::Data(_)
                | Word::SendOn(_)
                | Word::Doubt(_)
        );
        self != Self::Older || !is_of_rooms
    }
}

/// A call that has not been answered yet.
struct Call {
    id: u64,
    until: Instant,
    again_at: Instant,
}

pub(super) struct Link {
    pub(super) peer: usize,
    node: NodeId,
    pub(super) exchange: Exchange,
    sleeper: Sleeper,
    calls: Calls,
    pub(super) ear: Ear,
    call: Option<Call>,
    pub(super) end: Option<End>,
    /// Packets for which there was no connection.
    pub(super) unsent: u64,
    /// As it was last told.
    pub(super) suspended: BTreeMap<TrackId, u8>,
}

/// What a session is told by what is decided.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Known(SessionId, TrackId, SessionId),
    Gone(SessionId, TrackId, SessionId),
}

/// What happened to a node's pipes, for the story.
#[derive(Debug, Clone)]
pub(super) enum Happened {
    Connected(usize),
    Lost(usize, &'static str),
    Rests(usize),
    Heard(usize),
    Silent(usize),
    Lands(TrackId, usize),
    Leaves(TrackId),
    Version(usize),
}

/// Who it is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) index: usize,
    pub(super) id: NodeId,
    pub(super) region: Region,
    pub(super) boot_id: u64,
    pub(super) dialect: Dialect,
}

/// See the module.
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) tracks: Arc<Tracks>,
    pub(super) shards: Vec<Alone>,
    sleepers: Vec<Sleeper>,
    doors: Doors,
    pub(super) decisions: Decisions,
    nodes: Arc<Snapshot>,
    pub(super) links: BTreeMap<u16, Link>,
    numbers: BTreeMap<NodeId, u16>,
    /// Numbers of shards and pipes that were woken.
    woken: Arc<Mutex<BTreeSet<u16>>>,
    /// Indices of nodes, by id.
    indices: Arc<BTreeMap<NodeId, usize>>,
    last_call: u64,
    start: Instant,
    rng: StdRng,
    pub(super) out: Vec<(usize, Packet)>,
    pub(super) told: Vec<Told>,
    pub(super) happened: Vec<Happened>,
    /// When each shard and pipe wants its next turn.
    dues: BTreeMap<u16, Instant>,
    /// When it has to have its next turn.
    pub(super) wakes_at: Option<Instant>,
}

fn waker(woken: &Arc<Mutex<BTreeSet<u16>>>, number: u16) -> (Sleeper, Waker) {
    let woken = Arc::clone(woken);
    let sleeper = Sleeper::new(move || {
        woken.lock().expect("nobody panics with it").insert(number);
    });
    let waker = sleeper.waker();
    (sleeper, waker)
}

impl Node {
    pub(super) fn new(
        identity: Identity,
        shards: u16,
        fan_out: FanOut,
        nodes: Arc<Snapshot>,
        indices: Arc<BTreeMap<NodeId, usize>>,
        start: Instant,
        now: Instant,
    ) -> Self {
        let woken: Arc<Mutex<BTreeSet<u16>>> = Arc::default();
        let (sleepers, wakers): (Vec<Sleeper>, Vec<Waker>) =
            (0..shards).map(|number| waker(&woken, number)).unzip();
        let (neighbours, doors) = Neighbours::connect(&wakers);
        let seeds = neighbours.into_iter().zip(identity.boot_id..);
        let alone =
            seeds.map(|(neighbours, seed)| Alone::new(neighbours.with_rings(RING), seed, now));
        let tracks: Arc<Tracks> = Arc::default();
        let decisions = Decisions::new(
            identity.id.clone(),
            identity.region.clone(),
            shards,
            Arc::clone(&tracks),
            Arc::clone(&nodes),
            fan_out,
        );
        let mut node = Self {
            shards: alone.collect(),
            rng: StdRng::seed_from_u64(identity.boot_id),
            last_call: identity.boot_id << 24,
            identity,
            tracks,
            sleepers,
            doors,
            decisions,
            nodes,
            links: BTreeMap::new(),
            numbers: BTreeMap::new(),
            woken,
            indices,
            start,
            out: Vec::new(),
            told: Vec::new(),
            happened: Vec::new(),
            dues: BTreeMap::new(),
            wakes_at: None,
        };
        node.wake_all(now);
        node
    }

    fn wake_all(&mut self, now: Instant) {
        self.carry_out(now);
        let mut woken = self.woken.lock().expect("nobody panics with it");
        woken.extend(0..self.shards.len() as u16);
        woken.extend(self.links.keys());
    }

    fn wake(&self, number: u16) {
        let mut woken = self.woken.lock().expect("nobody panics with it");
        woken.insert(number);
    }

    /// Something is done with a shard.
    pub(super) fn shard(&mut self, number: u8) -> &mut Alone {
        self.wake(number.into());
        &mut self.shards[usize::from(number)]
    }

    /// Something is decided.
    pub(super) fn decide(&mut self, now: Instant, decide: impl FnOnce(&mut Decisions)) {
        decide(&mut self.decisions);
        self.carry_out(now);
    }

    pub(super) fn handle_nodes(&mut self, nodes: Arc<Snapshot>, now: Instant) {
        self.nodes = Arc::clone(&nodes);
        self.decide(now, |decisions| decisions.handle_nodes(nodes));
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.decisions.poll_output() {
            match output {
                Output::Open(node, number) => self.open(node, number, now),
                Output::Part(node, number) => {
                    self.links.remove(&number);
                    self.dues.remove(&number);
                    self.numbers.remove(&node);
                    self.decisions.handle_freed(number);
                    for shard in &mut self.shards {
                        shard.command(Command::Part(number));
                    }
                }
                Output::Link(node, order) => self.order(&node, order, now),
                Output::Shard(shard, command) => {
                    self.note_command(&command);
                    self.shard(shard as u8).command(command);
                }
                Output::Known(session, track, of) => {
                    self.told.push(Told::Known(session, track, of));
                }
                Output::Gone(session, track, of) => {
                    self.told.push(Told::Gone(session, track, of));
                }
                Output::Forget(_) => {}
            }
        }
    }

    fn note_command(&mut self, command: &Command) {
        let happened = match command {
            Command::Land(landing) => {
                let from = self.links.get(&landing.origin.shard);
                let from = from.map_or(usize::MAX, |link| link.peer);
                Happened::Lands(landing.track.clone(), from)
            }
            Command::Leave { track, .. } => Happened::Leaves(track.clone()),
            _ => return,
        };
        self.happened.push(happened);
    }

    fn open(&mut self, node: NodeId, number: u16, now: Instant) {
        let (sleeper, waker) = waker(&self.woken, number);
        let (neighbours, door) = self.doors.pipe(number, waker);
        for shard in &mut self.shards {
            let (met, _) = oneshot::channel();
            // The pipe says nothing before: shards have their turns first.
            shard.command(Command::Meet(number, door.clone(), met));
        }
        let exchange = Exchange::new(
            self.identity.id.clone(),
            neighbours.with_rings(RING),
            Arc::clone(&self.tracks),
            self.start,
        );
        let link = Link {
            peer: self.indices[&node],
            calls: Calls::new(self.identity.id < node, LET_GO_AFTER, now),
            ear: Ear::new(now),
            exchange,
            sleeper,
            call: None,
            end: None,
            unsent: 0,
            suspended: BTreeMap::new(),
            node: node.clone(),
        };
        self.links.insert(number, link);
        self.numbers.insert(node, number);
        self.wake(number);
        for shard in 0..self.shards.len() as u16 {
            self.wake(shard);
        }
    }

    fn order(&mut self, node: &NodeId, order: Order, now: Instant) {
        let Some(&number) = self.numbers.get(node) else {
            return;
        };
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        match order {
            Order::Established(_) => {}
            Order::Serve(subscription) => link.exchange.serve(subscription),
            Order::Refuse(subscription) => link.exchange.refuse(subscription),
            Order::Defer(subscription) => link.exchange.defer(subscription),
            Order::SendOn(subscription) => link.exchange.send_on(subscription),
            Order::Keep(is_kept) => link.calls.keep(is_kept),
            Order::List(is_listed) => link.calls.list(is_listed, now),
            Order::Follow(room) => link.exchange.follow(room),
            Order::Unfollow(room) => link.exchange.unfollow(&room),
        }
        self.wake(number);
    }

    // What comes.

    pub(super) fn handle_packet(
        &mut self,
        from: usize,
        from_id: &NodeId,
        packet: Packet,
        now: Instant,
    ) {
        if let Body::Knock { boot_id, versions } = packet.body {
            return self.handle_knock(from, from_id, packet.connection, boot_id, versions, now);
        }
        let Some(&number) = self.numbers.get(from_id) else {
            return;
        };
        self.wake(number);
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let is_called = link
            .call
            .as_ref()
            .is_some_and(|it| it.id == packet.connection);
        let is_met = link
            .end
            .as_ref()
            .is_some_and(|it| it.id == packet.connection);
        match packet.body {
            Body::Welcome { boot_id } if is_called => {
                link.call = None;
                let met = Met {
                    dialled: true,
                    boot_id,
                };
                let end = End::new(packet.connection, met, now);
                self.establish(number, end, now);
            }
            Body::Refuse | Body::Close if is_called => {
                link.call = None;
                self.fail(number, now);
            }
            Body::Close if is_met => self.lose(number, "the other end closed it", now),
            Body::Rest if is_met => self.rest(number, now),
            Body::Knock { .. } | Body::Welcome { .. } | Body::Refuse | Body::Close | Body::Rest => {
            }
            _ if is_met => self.hear(number, packet, now),
            _ => {}
        }
    }

    fn hear(&mut self, number: u16, packet: Packet, now: Instant) {
        let dialect = self.identity.dialect;
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let Some(end) = &mut link.end else {
            return;
        };
        if let Some(datagram) = end.handle_packet(packet, now) {
            link.exchange.handle_datagram(&datagram);
        }
        let delay = end.round_trip() / 2;
        while let Some(word) = end.poll_word() {
            // What another version says that this one does not know is left out.
            if let Some(word) = word.filter(|word| dialect.understands(word)) {
                link.exchange.handle_word(word, delay, now);
            }
        }
        if let Some(is_doubted) = link.exchange.take_doubt()
            && let Some(news) = link.ear.handle_doubt(is_doubted)
        {
            link.exchange.report(news);
        }
    }

    fn handle_knock(
        &mut self,
        from: usize,
        from_id: &NodeId,
        id: u64,
        boot_id: u64,
        versions: (u32, u32),
        now: Instant,
    ) {
        let answer = |body| Packet {
            connection: id,
            number: 0,
            size: KNOCK_SIZE,
            body,
        };
        if !self.identity.dialect.meets(versions) {
            self.happened.push(Happened::Version(from));
            return self.out.push((from, answer(Body::Refuse)));
        }
        if self.nodes.node(from_id).is_none() {
            return self.out.push((from, answer(Body::Refuse)));
        }
        let welcome = answer(Body::Welcome {
            boot_id: self.identity.boot_id,
        });
        let number = self.numbers.get(from_id).copied();
        let known = number.and_then(|number| self.links.get(&number)?.end.as_ref());
        if known.is_some_and(|known| known.id == id) {
            return self.out.push((from, welcome));
        }
        self.decide(now, |decisions| decisions.handle_call(from_id));
        let Some(&number) = self.numbers.get(from_id) else {
            return;
        };
        self.out.push((from, welcome));
        let met = Met {
            dialled: false,
            boot_id,
        };
        self.establish(number, End::new(id, met, now), now);
    }

    fn establish(&mut self, number: u16, end: End, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let close = |id| Packet {
            connection: id,
            number: 0,
            size: KNOCK_SIZE,
            body: Body::Close,
        };
        if let Some(known) = link.end.take() {
            if link.calls.stays(known.met, end.met) {
                self.out.push((link.peer, close(end.id)));
                link.end = Some(known);
                return;
            }
            self.out.push((link.peer, close(known.id)));
            link.exchange.disconnected();
        }
        link.calls.handle_meeting(now);
        link.end = Some(end);
        link.exchange.connected();
        if let Some(news) = link.ear.handle_meeting(now) {
            link.exchange.report(news);
        }
        self.happened.push(Happened::Connected(link.peer));
        self.wake(number);
    }

    fn fail(&mut self, number: u16, now: Instant) {
        let share = self.rng.random_range(0.5..1.0);
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        if link.end.is_none()
            && let Some(news) = link.ear.handle_silence()
        {
            link.exchange.report(news);
        }
        link.calls.handle_failure(share, now);
    }

    fn lose(&mut self, number: u16, why: &'static str, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        link.end = None;
        link.exchange.disconnected();
        if let Some(news) = link.ear.handle_silence() {
            link.exchange.report(news);
        }
        link.calls.handle_loss(now);
        self.happened.push(Happened::Lost(link.peer, why));
    }

    fn rest(&mut self, number: u16, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        link.end = None;
        link.exchange.disconnected();
        link.ear.handle_rest();
        link.calls.handle_rest(now);
        self.happened.push(Happened::Rests(link.peer));
    }

    fn let_go_if_due(&mut self, number: u16, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        link.calls.note_use(link.exchange.is_used(), now);
        if link.let_go_at().is_none_or(|at| now < at) {
            return;
        }
        let close = link.end.as_ref().map(|end| Packet {
            connection: end.id,
            number: 0,
            size: KNOCK_SIZE,
            body: Body::Rest,
        });
        self.out.extend(close.map(|close| (link.peer, close)));
        self.rest(number, now);
    }

    // Turns.

    /// Lets everything have its turn that something has come for, or that is due, until nothing is left to do.
    pub(super) fn settle(&mut self, now: Instant) {
        /// Nodes that talk to themselves for longer do so for ever.
        const TURNS: usize = 10_000;
        self.wake_due(now);
        for _ in 0..TURNS {
            let next = self
                .woken
                .lock()
                .expect("nobody panics with it")
                .pop_first();
            let Some(number) = next else {
                self.wakes_at = self.dues.values().copied().min();
                return;
            };
            match self.sleepers.get(usize::from(number)) {
                Some(sleeper) => {
                    sleeper.unpark();
                    let shard = &mut self.shards[usize::from(number)];
                    shard.turn(now);
                    if shard.is_busy() || !sleeper.park() {
                        self.wake(number);
                    }
                }
                None => self.turn_link(number, now),
            }
            self.note_due(number, now);
        }
        panic!("{} does not come to rest", self.identity.id);
    }

    fn wake_due(&mut self, now: Instant) {
        let due = self.dues.iter().filter(|(_, at)| **at <= now);
        let mut woken = self.woken.lock().expect("nobody panics with it");
        woken.extend(due.map(|(number, _)| *number));
    }

    /// Asked once after each turn: a large mesh has thousands of pipes.
    fn note_due(&mut self, number: u16, now: Instant) {
        let due = match self.shards.get(usize::from(number)) {
            Some(shard) => shard.poll_timeout(),
            None => self
                .links
                .get(&number)
                .and_then(|link| link.poll_timeout(now)),
        };
        match due {
            Some(at) => self.dues.insert(number, at),
            None => self.dues.remove(&number),
        };
    }

    fn turn_link(&mut self, number: u16, now: Instant) {
        let dialect = self.identity.dialect;
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        link.sleeper.unpark();
        let is_alive = match &mut link.end {
            Some(end) => end.handle_timeout(now),
            None => true,
        };
        if !is_alive {
            self.lose(number, "nothing was heard for three seconds", now);
        }
        self.listen(number, now);
        if let Some(link) = self.links.get_mut(&number) {
            link.exchange.handle_messages(now);
        }
        self.let_go_if_due(number, now);
        if let Some(link) = self.links.get_mut(&number)
            && link.calls.poll_gone(link.end.is_some())
        {
            link.exchange.report(News::LetGo);
        }
        self.call_if_due(number, now);
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        match &mut link.end {
            Some(end) => {
                end.carry(&mut link.exchange, now, |spoken| dialect.speak(spoken));
                let packets = end.poll_packets().into_iter();
                self.out.extend(packets.map(|packet| (link.peer, packet)));
            }
            None => link.exchange.receive(now, |_, _, _, _| link.unsent += 1),
        }
        link.exchange.flush();
        let is_busy = link.exchange.has_arrivals();
        if is_busy | !link.sleeper.park() {
            self.wake(number);
        }
        self.tell_news(number, now);
    }

    fn listen(&mut self, number: u16, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        let Some(end) = &link.end else {
            return;
        };
        if let Some(news) = link.ear.handle_timeout(end.received, now) {
            link.exchange.report(news);
        }
        if let Some(is_doubted) = link.ear.poll_doubt() {
            link.exchange.doubt(is_doubted);
        }
        if link.ear.is_lost(now) {
            let close = Packet {
                connection: end.id,
                number: 0,
                size: KNOCK_SIZE,
                body: Body::Close,
            };
            self.out.push((link.peer, close));
            self.lose(number, "nothing was heard", now);
        }
    }

    fn tell_news(&mut self, number: u16, now: Instant) {
        loop {
            let Some(link) = self.links.get_mut(&number) else {
                return;
            };
            let Some(news) = link.exchange.poll_news() else {
                return;
            };
            match &news {
                News::Heard => self.happened.push(Happened::Heard(link.peer)),
                News::Silent => self.happened.push(Happened::Silent(link.peer)),
                _ => {}
            }
            self.decide(now, |decisions| decisions.handle_news(number, news));
        }
    }

    fn call_if_due(&mut self, number: u16, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else {
            return;
        };
        if let Some(call) = &mut link.call {
            if now >= call.until {
                link.call = None;
                return self.fail(number, now);
            }
            if now < call.again_at {
                return;
            }
            call.again_at = now + CALL_AGAIN;
        } else {
            let at = link.calls.poll_timeout();
            if link.end.is_some() || at.is_none_or(|at| now < at) {
                return;
            }
            let registered = self.nodes.node(&link.node);
            if registered.is_none_or(|node| node.pipe.is_none()) {
                return self.fail(number, now);
            }
            self.last_call += 1;
            link.call = Some(Call {
                id: self.last_call << 8 | self.identity.index as u64 & 0xFF,
                until: now + CALL_FOR,
                again_at: now + CALL_AGAIN,
            });
        }
        let Some(call) = &link.call else {
            return;
        };
        let knock = Packet {
            connection: call.id,
            number: 0,
            size: KNOCK_SIZE,
            body: Body::Knock {
                boot_id: self.identity.boot_id,
                versions: self.identity.dialect.versions(),
            },
        };
        self.out.push((link.peer, knock));
    }
}

impl Link {
    fn let_go_at(&self) -> Option<Instant> {
        let dialled = self.end.as_ref()?.met.dialled;
        self.calls.let_go_at(dialled, || false)
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let call_at = match (&self.call, &self.end) {
            (Some(call), _) => Some(call.again_at.min(call.until)),
            (None, Some(_)) => None,
            (None, None) => self.calls.poll_timeout(),
        };
        let let_go_at = self.let_go_at();
        let end_at = self.end.as_ref().map(|end| end.poll_timeout(now));
        let listen_at = self.end.as_ref().map(|_| self.ear.poll_timeout());
        let post_at = self.exchange.is_waiting().then(|| now + POST_AGAIN);
        [call_at, let_go_at, end_at, listen_at, post_at]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The publisher's SSRC and number of the packet that a datagram carries, if it is one and not a repair.
pub(super) fn carried(datagram: &[u8]) -> Option<(u32, u16)> {
    let (head, packet) = match frame::read(datagram)? {
        Datagram::Media(head, packet) => (head, packet),
        Datagram::Piece(head, piece, part) if piece.index == 0 => (head, part),
        _ => return None,
    };
    if head.is_repair {
        return None;
    }
    let ssrc = packet.get(8..12)?.try_into().ok()?;
    let sequence = packet.get(2..4)?.try_into().ok()?;
    Some((u32::from_be_bytes(ssrc), u16::from_be_bytes(sequence)))
}

/// Whether a datagram carries a part of a packet that was too long for one.
pub(super) fn is_piece(datagram: &[u8]) -> bool {
    matches!(frame::read(datagram), Some(Datagram::Piece(..)))
}
