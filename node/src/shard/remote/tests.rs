//! Two shards without sockets, in virtual time: what they tell each other, and a ring that overflows.

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::relay::Stamp;
use pipemesh_node_core::router::{LayerWish, Router, SubscriptionKey};
use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::Size;
use pipemesh_node_media::poll::{Poller, Sleeper, Waker};
use pipemesh_node_media::udp::{Options, UdpSocket};
use pipemesh_proto::pipe::Role;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::alone::Alone;
use super::super::command::{Command, DataRights, OpenSession, PublishSpec, SessionKey};
use super::super::event::QUEUE;
use super::super::neighbours::Neighbours;
use super::*;
use crate::config::Limits;
use crate::mailbox;
use crate::session::dtls::Certificate;
use crate::session::handshake::{HandshakePool, Outlet};
use crate::session::plan::PayloadType;

const OPUS: PayloadType = PayloadType {
    codec: Codec::Opus,
    number: 111,
    repair: None,
};
const GENERATION: u64 = 5;

struct Pair {
    shards: Vec<Shard>,
    /// What sessions are told, in the order they were opened.
    events: Vec<mailbox::Receiver<Event>>,
    now: Instant,
    sequence: u16,
    _pool: HandshakePool,
}

fn audio() -> PublishSpec {
    PublishSpec {
        is_video: false,
        speaks: false,
        nack: false,
        muted: false,
        encodings: 1,
        sizes: vec![Size::default()],
    }
}

fn track() -> TrackId {
    "TR_a".parse().unwrap()
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let pollers: Vec<Poller> = (0..2).map(|_| Poller::new().unwrap()).collect();
        let wakers: Vec<Waker> = pollers.iter().map(Poller::waker).collect();
        let outlets = (0..2).map(|_| Outlet {
            outputs: crossbeam_channel::bounded(1).0,
            wake: Box::new(|| {}),
        });
        let certificate = Arc::new(Certificate::generate().unwrap());
        let pool = HandshakePool::start(1.try_into().unwrap(), certificate, outlets.collect());
        let pool = pool.unwrap();
        let shards = Neighbours::connect(&wakers).0.into_iter().enumerate();
        let shards = shards.map(|(number, neighbours)| {
            let counters = Arc::default();
            let rng = StdRng::seed_from_u64(number as u64);
            // Nothing is sent on it.
            let options = Options {
                receive_buffer: 4096,
                send_buffer: 4096,
            };
            let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
            Shard::new(
                vec![socket],
                neighbours,
                pool.handle(number),
                Limits::NONE,
                counters,
                rng,
                now,
            )
        });
        Self {
            shards: shards.collect(),
            events: Vec::new(),
            now,
            sequence: 65_000,
            _pool: pool,
        }
    }

    /// Opens a session on a shard; its key is its number.
    fn open(&mut self, shard: usize) -> SessionKey {
        let key = SessionKey(self.events.len() as u64 + 1);
        let (events, told) = mailbox::channel(QUEUE);
        self.events.push(told);
        let open = OpenSession {
            key,
            room: "RM_r".parse().unwrap(),
            participant: format!("PA_{}", key.0).parse().unwrap(),
            identity: key.0.to_string(),
            anonymous: false,
            may_pause: true,
            loudest_microphones: 0,
            rights: DataRights::default(),
            connections: Vec::new(),
            events,
        };
        self.command(shard, Command::Open(open));
        key
    }

    fn command(&mut self, shard: usize, command: Command) {
        let now = self.now;
        self.shards[shard].guarded(|shard| shard.handle_command(command, now));
    }

    fn publish(&mut self, session: SessionKey) {
        let publish = Command::Publish {
            session,
            track: track(),
            generation: GENERATION,
            spec: audio(),
        };
        self.command(0, publish);
        // What negotiation says of it.
        self.shards[0].tracks.get_mut(&track()).unwrap().codecs = vec![OPUS];
    }

    fn want(&mut self, session: SessionKey, generation: u64) {
        let origin = Origin {
            shard: 0,
            generation,
        };
        let subscribe = Command::Subscribe {
            session,
            track: track(),
            origin: Some(origin),
            wish: LayerWish::default(),
        };
        self.command(1, subscribe);
    }

    /// What happens when a connection carries the track.
    fn activate(&mut self, session: SessionKey) -> SubscriptionKey {
        let (now, shard) = (self.now, &mut self.shards[1]);
        let key = shard.tracks[&track()].key;
        let wish = LayerWish::default();
        let key = shard.router.subscribe(key, wish, Codec::Opus, 0, now);
        let index = shard.session_index[&session];
        let wanted = shard.sessions[index].wanted.get_mut(&track()).unwrap();
        wanted.subscription = key;
        key.unwrap()
    }

    /// Each shard's turn, several times.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.turn(0);
            self.turn(1);
        }
    }

    fn turn(&mut self, shard: usize) {
        let (now, shard) = (self.now, &mut self.shards[shard]);
        shard.receive_messages(now);
        shard.receive_relayed(now);
        shard.guarded(|shard| shard.forward(now));
        shard.guarded(|shard| shard.handle_timeouts(now));
        shard.guarded(|shard| shard.handle_router_output());
        shard.neighbours.flush();
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    /// A packet of 1,000 bytes from the publisher.
    fn send(&mut self) {
        let mut packet = vec![0x55; 1000];
        self.sequence = self.sequence.wrapping_add(1);
        let header = OutgoingHeader {
            marker: false,
            padding: false,
            payload_type: OPUS.number,
            sequence: self.sequence,
            timestamp: u32::from(self.sequence) * 960,
            ssrc: 7,
        };
        let header = HeaderWriter::new(&mut packet, header).unwrap().finish();
        assert_eq!(header, Some(12));
        let header = Header::parse(&packet).unwrap();
        let (now, shard) = (self.now, &mut self.shards[0]);
        let source = Source {
            track: shard.tracks[&track()].key,
            encoding: 0,
        };
        let media = Media {
            codec: Codec::Opus,
            header,
            packet: &packet,
            audio_level: None,
            dependency: None,
            repaired: false,
            in_place: false,
        };
        let gathered = shard.router.handle_media(source, media, now).unwrap();
        let elsewhere = pass_on(&mut shard.neighbours, 0, &packet, false);
        shard.router.pass_on(source, self.sequence, elsewhere);
        if gathered == Gathered::Full {
            shard.forward(now);
        }
    }

    fn told(&mut self, session: SessionKey) -> Vec<Event> {
        let events = &mut self.events[session.0 as usize - 1];
        std::iter::from_fn(|| events.try_recv()).collect()
    }

    /// Packets that a subscription was sent; ends it.
    fn count(&mut self, key: SubscriptionKey) -> u64 {
        self.shards[1].router.unsubscribe(key, self.now).unwrap()
    }

    fn assert_nothing_crosses(&self) {
        let [origin, taker] = &self.shards[..] else {
            unreachable!("there are two");
        };
        assert_eq!(taker.router.len().0, 0);
        assert_eq!(taker.remote.len(), 0);
        assert!(taker.remote.by_id.is_empty() && taker.remote.by_key.is_empty());
        assert!(taker.tracks.is_empty());
        let mut published = origin.tracks.values();
        assert!(published.all(|track| origin.router.relays(track.key).count() == 0));
    }
}

fn ended(generation: u64) -> Event {
    Event::SubscriptionEnded {
        track: track(),
        generation,
    }
}

#[test]
fn a_track_is_described_taken_and_let_go() {
    let mut pair = Pair::new();
    let (ann, bob) = (pair.open(0), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.settle();
    let state = &pair.shards[1].remote.tracks[0]
        .known
        .as_ref()
        .unwrap()
        .state;
    assert_eq!((&state.codecs[..], state.spec.speaks), (&[OPUS][..], false));
    pair.send();
    pair.settle();
    assert_eq!(
        pair.shards[1].neighbours.stats.packets_in, 0,
        "nobody wants it"
    );
    let key = pair.activate(bob);
    pair.shards[1].tell_received(&track());
    pair.settle();
    assert_eq!(pair.told(ann), [Event::TrackSubscribed(track())]);
    for _ in 0..10 {
        pair.send();
    }
    pair.settle();
    assert_eq!(pair.shards[1].neighbours.stats.packets_in, 10);
    assert!(pair.shards[1].router.current_layer(key).is_some());
    pair.command(
        1,
        Command::Unsubscribe {
            session: bob,
            track: track(),
        },
    );
    pair.settle();
    pair.send();
    pair.settle();
    assert_eq!(pair.shards[1].neighbours.stats.packets_in, 10);
    pair.assert_nothing_crosses();
}

#[test]
fn an_overflowing_ring_is_counted_and_its_losses_are_repaired() {
    let mut pair = Pair::new();
    let (ann, bob) = (pair.open(0), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.settle();
    let key = pair.activate(bob);
    pair.settle();
    // The other shard stands still until a hundred packets have found no room.
    let mut sent = 0;
    while pair.shards[0].neighbours.stats.refused < 100 {
        pair.send();
        sent += 1;
    }
    assert!(sent > 1000, "{sent}");
    pair.settle();
    pair.send();
    pair.settle();
    assert_eq!(pair.shards[1].neighbours.stats.packets_in, sent + 1 - 100);
    for _ in 0..5 {
        pair.advance(Duration::from_millis(20));
    }
    assert_eq!(pair.shards[1].neighbours.stats.packets_in, sent + 1);
    assert_eq!(pair.count(key), sent + 1, "every packet was forwarded once");
}

#[test]
fn what_ends_here_ends_there() {
    let mut pair = Pair::new();
    let (ann, bob, eve) = (pair.open(0), pair.open(1), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.want(eve, GENERATION);
    pair.settle();
    pair.activate(bob);
    pair.settle();
    pair.send();
    pair.command(0, Command::Close(ann));
    pair.settle();
    // To her, too, whom no connection carried it to.
    for session in [bob, eve] {
        assert_eq!(pair.told(session), [ended(GENERATION)]);
    }
    pair.assert_nothing_crosses();
}

#[test]
fn a_track_that_comes_back_under_its_id_is_another() {
    let mut pair = Pair::new();
    let (ann, bob, eve) = (pair.open(0), pair.open(1), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.settle();
    pair.activate(bob);
    // Eve hears of the new publication before her shard hears of the end of the old one.
    pair.want(eve, GENERATION + 1);
    assert_eq!(pair.told(bob), [ended(GENERATION)]);
    pair.settle();
    assert_eq!(pair.told(eve), []);
    let (session, track) = (ann, track());
    pair.command(0, Command::Unpublish { session, track });
    pair.publish(ann);
    pair.shards[0]
        .tracks
        .get_mut(&self::track())
        .unwrap()
        .generation = GENERATION + 1;
    // It was not there when it was asked for; it is asked for again.
    pair.advance(Duration::from_secs(1));
    let key = pair.activate(eve);
    pair.settle();
    pair.send();
    pair.settle();
    assert_eq!(pair.count(key), 1);
    assert_eq!(pair.told(eve), []);
}

#[test]
fn who_asks_late_for_what_was_published_before_harms_nobody() {
    let mut pair = Pair::new();
    let (ann, bob, eve) = (pair.open(0), pair.open(1), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.settle();
    let key = pair.activate(bob);
    pair.settle();
    pair.want(eve, GENERATION - 1);
    assert_eq!(pair.told(eve), [ended(GENERATION - 1)]);
    assert_eq!(pair.told(bob), []);
    pair.send();
    pair.settle();
    assert_eq!(pair.count(key), 1);
}

/// A participant that comes back publishes under the ids it had, before its former session has ended.
#[test]
fn a_track_outlives_the_session_that_published_it_before() {
    for shard in [0, 1] {
        let mut pair = Pair::new();
        let former = pair.open(shard);
        let publish = Command::Publish {
            session: former,
            track: track(),
            generation: GENERATION - 1,
            spec: audio(),
        };
        pair.command(shard, publish);
        let (ann, bob) = (pair.open(0), pair.open(1));
        pair.publish(ann);
        pair.want(bob, GENERATION);
        pair.settle();
        let key = pair.activate(bob);
        pair.command(shard, Command::Close(former));
        pair.settle();
        pair.send();
        pair.settle();
        assert_eq!(pair.told(bob), []);
        assert_eq!(pair.count(key), 1, "on shard {shard}");
        assert_eq!(pair.shards[0].router.len().0, 1);
        assert_eq!(pair.shards[1].router.len().0, 1);
        pair.command(0, Command::Close(ann));
        pair.settle();
        assert_eq!(pair.shards[0].router.len(), (0, 0, 0));
        pair.assert_nothing_crosses();
    }
}

#[test]
fn a_track_that_never_comes_ends() {
    let mut pair = Pair::new();
    let bob = pair.open(1);
    pair.want(bob, GENERATION);
    for _ in 0..100 {
        pair.advance(Duration::from_millis(100));
    }
    assert_eq!(pair.told(bob), [ended(GENERATION)]);
    pair.assert_nothing_crosses();
}

#[test]
fn a_session_that_a_panic_ends_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let (ann, bob) = (pair.open(0), pair.open(1));
    pair.publish(ann);
    pair.want(bob, GENERATION);
    pair.settle();
    pair.activate(bob);
    pair.settle();
    pair.send();
    let index = pair.shards[1].session_index[&bob];
    pair.shards[1].guarded(|shard| {
        shard.serving = Some(index);
        panic!("on purpose");
    });
    pair.settle();
    assert_eq!(pair.told(bob), [Event::Fault]);
    pair.assert_nothing_crosses();
    assert_eq!(pair.shards[1].router.len(), (0, 0, 0));
    assert!(pair.shards[1].rooms.is_empty());
    // The same at the origin's end.
    let eve = pair.open(1);
    pair.want(eve, GENERATION);
    pair.settle();
    pair.activate(eve);
    let index = pair.shards[0].session_index[&ann];
    pair.shards[0].guarded(|shard| {
        shard.serving = Some(index);
        panic!("on purpose");
    });
    pair.settle();
    assert_eq!(pair.told(eve), [ended(GENERATION)]);
    pair.assert_nothing_crosses();
}

#[test]
fn shards_know_who_else_hosts_a_room() {
    let mut pair = Pair::new();
    let hosts = |pair: &Pair, shard: usize| {
        let mut rooms = pair.shards[shard].rooms.values();
        rooms.next().map(|room| room.is_elsewhere())
    };
    let ann = pair.open(0);
    pair.settle();
    assert_eq!(hosts(&pair, 0), Some(false));
    let bob = pair.open(1);
    pair.settle();
    assert_eq!((hosts(&pair, 0), hosts(&pair, 1)), (Some(true), Some(true)));
    pair.command(0, Command::Close(ann));
    pair.settle();
    assert_eq!((hosts(&pair, 0), hosts(&pair, 1)), (None, Some(false)));
    // Both at once.
    pair.command(1, Command::Close(bob));
    pair.open(0);
    pair.open(1);
    pair.settle();
    assert_eq!((hosts(&pair, 0), hosts(&pair, 1)), (Some(true), Some(true)));
}

#[test]
fn a_record_says_what_was_written() {
    let stamp = Stamp {
        number: 0x1234_5678_9abc_def0,
        restarts: 255,
        resumes: true,
        key_frame: false,
    };
    let header = RecordHeader {
        alias: Alias(7 << 32 | 3),
        encoding: 2,
        stamp,
        repaired: false,
    };
    let record = [&header.write()[..], b"packet"].concat();
    let (read, packet) = RecordHeader::read(&record).unwrap();
    assert_eq!((read.alias, read.encoding), (header.alias, 2));
    assert_eq!((read.stamp, read.repaired), (stamp, false));
    assert_eq!(packet, b"packet");
    assert!(RecordHeader::read(&record[..RecordHeader::LEN - 1]).is_none());
}

/// A shard that takes a track of another node, and two pipes, played by the test.
struct Landed {
    shard: Alone,
    pipes: Vec<Neighbours>,
    now: Instant,
}

impl Landed {
    fn new() -> Self {
        let now = Instant::now();
        let waker = || Sleeper::new(|| {}).waker();
        let (mut shards, doors) = Neighbours::connect(&[waker()]);
        let mut shard = Alone::new(shards.remove(0), 1, now);
        let pipes = [FIRST_PIPE, FIRST_PIPE + 1].map(|number| {
            let (pipe, door) = doors.pipe(number, waker());
            let (met, _) = tokio::sync::oneshot::channel();
            shard.command(Command::Meet(number, door, met));
            pipe
        });
        let pipes = pipes.into();
        Self { shard, pipes, now }
    }

    /// The track is to be taken through this pipe from now on.
    fn land(&mut self, pipe: u16) {
        let origin = Origin {
            shard: FIRST_PIPE + pipe,
            generation: GENERATION,
        };
        let publication = Arc::new(Publication {
            node: "far".parse().unwrap(),
            session: "s1".parse().unwrap(),
            room: "RM_r".parse().unwrap(),
            role: Role::Leaf,
        });
        let track = track();
        self.shard.command(Command::Land(Landing {
            track,
            origin,
            publication,
        }));
        self.shard.turn(self.now);
    }

    fn tell(&mut self, pipe: usize, message: Message) {
        self.pipes[pipe].tell(0, message);
        self.shard.turn(self.now);
    }

    fn describe(&mut self, pipe: usize, alias: Alias) {
        let mut router = Router::new(self.now);
        let spec = TrackSpec {
            room: 1,
            participant: SessionKey(1),
            is_video: false,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 1,
            sizes: Vec::new(),
        };
        let state = TrackState {
            key: router.publish(spec.clone(), self.now),
            spec,
            live: Default::default(),
            extensions: Default::default(),
            codecs: vec![OPUS],
            participant: None,
            path: Arc::default(),
        };
        self.tell(pipe, Message::State(alias, Arc::new(state)));
    }

    fn heard(&mut self, pipe: usize) -> Vec<Message> {
        let pipe = &mut self.pipes[pipe];
        std::iter::from_fn(|| Some(pipe.poll_message()?.1)).collect()
    }

    /// Under which name a pipe is asked for the track.
    fn asked(&mut self, pipe: usize) -> Alias {
        match &self.heard(pipe)[..] {
            [Message::Subscribe(subscribe), ..] => subscribe.alias,
            other => panic!("{other:?}"),
        }
    }
}

/// It takes a track from one pipe, is told to take it from another one, and that one has not got it.
#[test]
fn who_does_not_bring_a_track_is_not_asked_for_it_any_more() {
    let mut landed = Landed::new();
    landed.land(0);
    let alias = landed.asked(0);
    landed.describe(0, alias);
    landed.land(1);
    assert!(matches!(
        &landed.heard(1)[..],
        [Message::Subscribe(_), Message::Interest { .. }]
    ));
    landed.heard(0);
    landed.tell(1, Message::Ended(alias));
    assert!(matches!(
        &landed.heard(1)[..],
        [Message::Unsubscribe { moved: false, .. }]
    ));
    assert!(
        matches!(&landed.heard(0)[..], [Message::Interest { .. }]),
        "what is used is said to who brings it"
    );
}

/// Who has a track says that somebody else is to be asked, and describes it after.
#[test]
fn a_track_is_known_by_who_was_asked_first() {
    let mut landed = Landed::new();
    landed.land(0);
    let alias = landed.asked(0);
    landed.land(1);
    assert_eq!(landed.asked(1), alias);
    landed.describe(0, alias);
    landed.heard(0);
    landed.tell(1, Message::Ended(alias));
    landed.heard(1);
    assert!(
        matches!(&landed.heard(0)[..], [Message::Interest { .. }]),
        "it is known what there is to be used"
    );
}
