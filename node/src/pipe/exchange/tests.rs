use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::forward::EncodingSet;
use pipemesh_node_core::quality::Quality;
use pipemesh_node_core::router::Router;
use pipemesh_node_core::track::TrackSpec;
use pipemesh_node_media::poll::Sleeper;
use pipemesh_node_media::ring::Consumer;

use std::time::Duration;

use bytes::Bytes;
use pipemesh_node_core::pipe::frame::{self, Marks, MediaHead, Stream};
use pipemesh_node_core::router::Source;
use pipemesh_node_core::router::relay::Stamp;
use pipemesh_proto::pipe::Role;

use super::peer::nearest;
use super::*;
use crate::session::plan::{Extensions, PayloadType};
use crate::shard::{Message, RecordHeader, Subscribe};
use crate::shard::{Origin, SessionKey, Speaker};
use crate::tracks::TrackEntry;

const TAKER: Alias = Alias(77);
const GENERATION: u64 = 5;
/// Version 2, sequence number 0x1234, the last of its frame.
const PACKET: [u8; 14] = [0x80, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9];

/// One node: a shard, played by the test, and its end of the pipe.
struct Node {
    shard: Neighbours,
    exchange: Exchange,
    tracks: Arc<Tracks>,
    number: u16,
}

impl Node {
    fn new(name: &str) -> Self {
        let waker = Sleeper::new(|| {}).waker();
        let (mut shards, doors) = Neighbours::connect(std::slice::from_ref(&waker));
        let mut shard = shards.remove(0);
        let number = crate::shard::FIRST_PIPE;
        let (neighbours, door) = doors.pipe(number, waker);
        shard.meet(number, door);
        let tracks: Arc<Tracks> = Arc::default();
        let own = name.parse().unwrap();
        let exchange = Exchange::new(own, neighbours, Arc::clone(&tracks), Instant::now());
        Self {
            shard,
            exchange,
            tracks,
            number,
        }
    }

    fn tell(&mut self, message: Message) {
        self.shard.tell(self.number, message);
        self.shard.flush();
        self.exchange.handle_messages(Instant::now());
    }

    /// What the shard hears next.
    fn hear(&mut self) -> Option<Message> {
        self.exchange.flush();
        let (from, message) = self.shard.poll_message()?;
        assert_eq!(from, self.number);
        Some(message)
    }

    fn news(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.exchange.poll_news()).collect()
    }

    /// Asks for a track as the shard does.
    fn subscribe(&mut self, origin: &str) {
        self.subscribe_as(origin, Role::Leaf);
    }

    fn subscribe_as(&mut self, origin: &str, role: Role) {
        let publication = Publication {
            node: origin.parse().unwrap(),
            session: "s1".parse().unwrap(),
            room: "RM_x".parse().unwrap(),
            role,
        };
        let subscribe = Subscribe {
            track: track(),
            generation: GENERATION,
            alias: TAKER,
            ring: self.shard.open_ring(self.number),
            publication: Some(Arc::new(publication)),
        };
        self.tell(Message::Subscribe(Box::new(subscribe)));
    }

    /// Has a track, published by one of its sessions.
    fn publish(&self, session: &str) {
        let entry = TrackEntry {
            room: "RM_x".parse().unwrap(),
            session: session.parse().unwrap(),
            format: Format::Vp8,
            origin: Origin {
                shard: 0,
                generation: 3,
            },
        };
        self.tracks.insert(track(), entry);
    }

    /// What lies in the ring from the pipe.
    fn packets(&mut self) -> Vec<(RecordHeader, Vec<u8>)> {
        self.exchange.flush();
        let Some(mut ring) = self.shard.take_incoming(self.number) else {
            return Vec::new();
        };
        let packets = records(&mut ring);
        self.shard.return_incoming(self.number, ring);
        packets
    }
}

fn records(ring: &mut Consumer) -> Vec<(RecordHeader, Vec<u8>)> {
    let mut records = ring.records();
    let packets = records.by_ref().map(|record| {
        let (header, packet) = RecordHeader::read(record).unwrap();
        (header, packet.to_vec())
    });
    let packets = packets.collect();
    let position = records.position();
    ring.release(position);
    packets
}

fn track() -> TrackId {
    "TR_cam".parse().unwrap()
}

fn track_key() -> TrackKey {
    let mut router: Router<u64, SessionKey> = Router::new(Instant::now());
    router.publish(state().spec, Instant::now())
}

fn state() -> TrackState {
    TrackState {
        key: TrackKey::ELSEWHERE,
        spec: TrackSpec {
            room: 0,
            participant: SessionKey(0),
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 2,
            sizes: Vec::new(),
        },
        live: EncodingSet::of_bits(0b11),
        extensions: Extensions::default(),
        codecs: vec![PayloadType {
            codec: Codec::Vp8,
            number: 96,
            repair: None,
        }],
        participant: Some("PA_ann".parse().unwrap()),
        path: Arc::default(),
    }
}

fn path(nodes: &[&str]) -> Arc<[NodeId]> {
    nodes.iter().map(|node| node.parse().unwrap()).collect()
}

fn interest() -> Interest {
    Interest {
        encodings: EncodingSet::of_bits(0b10),
        known: EncodingSet::of_bits(0b11),
        wanted: 2,
        fresh: EncodingSet::of_bits(0b10),
        priority: 1,
    }
}

/// Carries over what either has to say, until both are silent.
fn carry(a: &mut Node, b: &mut Node) {
    while carry_to(b, a) | carry_to(a, b) {}
}

fn carry_to(to: &mut Node, from: &mut Node) -> bool {
    let mut is_said = false;
    while let Some(word) = from.exchange.poll_word() {
        is_said = true;
        to.exchange
            .handle_word(word, Duration::ZERO, Instant::now());
    }
    while let Some(datagram) = from.exchange.poll_datagram() {
        is_said = true;
        assert_eq!(to.exchange.handle_datagram(&datagram), None);
    }
    is_said
}

fn connect(a: &mut Node, b: &mut Node) {
    a.exchange.connected();
    b.exchange.connected();
    carry(a, b);
}

/// The taker's shard asks for a track of the origin's, which describes it and is told what is used.
fn taken() -> (
    Node,
    Node,
    Alias,
    TrackKey,
    pipemesh_node_media::ring::Producer,
) {
    let (mut taker, mut origin) = (Node::new("taker"), Node::new("origin"));
    origin.publish("s1");
    connect(&mut taker, &mut origin);
    taker.subscribe("origin");
    carry(&mut taker, &mut origin);
    let Some(Message::Subscribe(subscribe)) = origin.hear() else {
        panic!("the shard is asked");
    };
    assert_eq!((&subscribe.track, subscribe.generation), (&track(), 3));
    let (alias, ring) = (subscribe.alias, subscribe.ring.unwrap());
    let key = track_key();
    let described = TrackState { key, ..state() };
    origin.tell(Message::State(alias, Arc::new(described)));
    carry(&mut taker, &mut origin);
    let Some(Message::State(TAKER, described)) = taker.hear() else {
        panic!("the taker is told");
    };
    let path = path(&["origin"]);
    assert_eq!(*described, TrackState { path, ..state() });
    let news = News::Described {
        track: track(),
        generation: GENERATION,
        format: Format::Vp8,
    };
    assert_eq!(taker.news(), [news]);
    taker.tell(Message::Interest {
        track: TrackKey::ELSEWHERE,
        alias: TAKER,
        interest: interest(),
    });
    carry(&mut taker, &mut origin);
    (taker, origin, alias, key, ring)
}

fn expect_interest(origin: &mut Node, alias: Alias, key: TrackKey) {
    match origin.hear() {
        Some(Message::Interest {
            track,
            alias: told,
            interest: used,
        }) => assert_eq!((track, told, used), (key, alias, interest())),
        other => panic!("{other:?}"),
    }
}

/// A packet as the origin's shard puts it into the ring.
fn record(alias: Alias, number: u64) -> RecordHeader {
    RecordHeader {
        alias,
        encoding: 1,
        stamp: Stamp {
            number,
            restarts: 4,
            resumes: true,
            key_frame: true,
        },
        repaired: false,
    }
}

/// Carries packets over as datagrams.
fn carry_packets(origin: &mut Node, taker: &mut Node) {
    let mut datagrams = Vec::new();
    origin
        .exchange
        .receive(Instant::now(), |_, priority, head, packet| {
            assert_eq!(priority, interest().priority);
            let mut datagram = Vec::new();
            frame::write_media(head, packet, &mut datagram);
            datagrams.push(datagram);
        });
    for datagram in datagrams {
        taker.exchange.handle_datagram(&datagram);
    }
}

/// A leaf becomes its region's gateway, and a leaf again. The origin has to know: it counts leaves.
#[test]
fn another_role_is_told_and_the_track_goes_on() {
    let (mut taker, mut origin, alias, key, mut ring) = taken();
    expect_interest(&mut origin, alias, key);
    origin.news();
    let (subscription, track) = (1, track());
    let given = News::Given {
        subscription,
        track: track.clone(),
        role: Role::Leaf,
    };
    let expected = [
        (
            Role::Gateway,
            News::Released {
                subscription,
                track,
            },
        ),
        (Role::Leaf, given),
    ];
    for (number, (role, news)) in (1..).zip(expected) {
        taker.subscribe_as("origin", role);
        carry(&mut taker, &mut origin);
        assert_eq!(origin.news(), [news]);
        // The shard is asked for nothing anew, and what it sends arrives.
        expect_interest(&mut origin, alias, key);
        assert!(origin.hear().is_none());
        ring.push(&record(alias, number).write(), &PACKET).unwrap();
        ring.publish();
        carry_packets(&mut origin, &mut taker);
        assert_eq!(taker.packets().len(), 1, "{role:?}");
    }
}

#[test]
fn what_is_missed_more_than_before_is_told_to_the_sender() {
    let (mut taker, mut origin, ..) = taken();
    assert_eq!(origin.exchange.poll_demand(), None);
    let say = |taker: &mut Node, origin: &mut Node, priority, wanted| {
        taker.tell(Message::Interest {
            track: TrackKey::ELSEWHERE,
            alias: TAKER,
            interest: Interest {
                priority,
                wanted,
                ..interest()
            },
        });
        carry(taker, origin);
        std::iter::from_fn(|| origin.exchange.poll_demand()).collect::<Vec<_>>()
    };
    let same = interest().wanted;
    assert_eq!(say(&mut taker, &mut origin, 1, same), []);
    for (priority, wanted) in [(2, same), (2, 1)] {
        let told = say(&mut taker, &mut origin, priority, wanted);
        let demand = told.iter().map(|it| (it.priority, it.wanted));
        assert_eq!(demand.collect::<Vec<_>>(), [(priority, wanted)]);
    }
    // Of one that has ended nothing is told.
    taker.tell(Message::Unsubscribe {
        track: track(),
        alias: TAKER,
        moved: false,
    });
    assert_eq!(say(&mut taker, &mut origin, 0, same), []);
}

#[test]
fn a_track_goes_over_a_pipe_as_it_is() {
    let (mut taker, mut origin, alias, key, mut ring) = taken();
    expect_interest(&mut origin, alias, key);
    // A packet whose number has left its cycle long ago.
    let number = 0x0007_1234;
    ring.push(&record(alias, number).write(), &PACKET).unwrap();
    ring.publish();
    carry_packets(&mut origin, &mut taker);
    let expected = (record(TAKER, number), PACKET.to_vec());
    assert_eq!(taker.packets(), [expected]);

    // What does not arrive is asked for by number, and comes again.
    let source = Source {
        track: TrackKey::ELSEWHERE,
        encoding: 1,
    };
    let missing = vec![number - 70, number - 2, number - 1];
    taker.tell(Message::Packets(TAKER, source, missing.clone()));
    carry(&mut taker, &mut origin);
    let at_origin = Source {
        track: key,
        encoding: 1,
    };
    match origin.hear() {
        Some(Message::Packets(told, source, numbers)) => {
            assert_eq!((told, source, numbers), (alias, at_origin, missing));
        }
        other => panic!("{other:?}"),
    }
    let repaired = RecordHeader {
        repaired: true,
        ..record(alias, number - 0x34)
    };
    let mut packet = PACKET;
    packet[3] = 0;
    ring.push(&repaired.write(), &packet).unwrap();
    ring.publish();
    carry_packets(&mut origin, &mut taker);
    let expected = RecordHeader {
        alias: TAKER,
        ..repaired
    };
    assert_eq!(taker.packets(), [(expected, packet.to_vec())]);

    taker.tell(Message::KeyFrame(TAKER, source));
    taker.tell(Message::Received(TAKER, track()));
    carry(&mut taker, &mut origin);
    let heard: Vec<Message> = std::iter::from_fn(|| origin.hear()).collect();
    assert!(
        matches!(
            heard.as_slice(),
            [Message::Received(..), Message::KeyFrame(told, source)]
                if (*told, *source) == (alias, at_origin)
        ),
        "{heard:?}"
    );
    let stats = taker.exchange.stats;
    assert_eq!(
        (stats.packets_in, stats.unknown, stats.malformed),
        (2, 0, 0)
    );
}

#[test]
fn a_track_ends_for_both_sides() {
    // At the origin …
    let (mut taker, mut origin, alias, ..) = taken();
    origin.tell(Message::Ended(alias));
    carry(&mut taker, &mut origin);
    assert!(matches!(taker.hear(), Some(Message::Ended(TAKER))));
    let track = track();
    taker.tell(Message::Unsubscribe {
        track: track.clone(),
        alias: TAKER,
        moved: false,
    });
    let gone = News::Gone {
        track: track.clone(),
        generation: GENERATION,
    };
    assert_eq!(taker.news(), [gone]);
    carry(&mut taker, &mut origin);
    assert!(!taker.exchange.is_used() && !origin.exchange.is_used());
    // … and at the taker.
    let (mut taker, mut origin, alias, key, _) = taken();
    taker.tell(Message::Unsubscribe {
        track,
        alias: TAKER,
        moved: false,
    });
    carry(&mut taker, &mut origin);
    expect_interest(&mut origin, alias, key);
    assert!(
        matches!(origin.hear(), Some(Message::Unsubscribe { alias: told, .. }) if told == alias)
    );
    assert!(!taker.exchange.is_used() && !origin.exchange.is_used());
    // What is still on its way finds nobody.
    let head = MediaHead {
        stream: Stream {
            subscription: 1,
            encoding: 0,
        },
        number: 0x1234,
        restarts: 0,
        sent: 0,
        marks: Marks::default(),
        is_repair: false,
    };
    let mut datagram = Vec::new();
    frame::write_media(&head, &PACKET, &mut datagram);
    taker.exchange.handle_datagram(&datagram);
    assert_eq!(taker.exchange.stats.unknown, 1);
    assert!(taker.packets().is_empty());
}

#[test]
fn after_a_loss_everything_is_asked_for_again() {
    let (mut taker, mut origin, alias, key, mut ring) = taken();
    expect_interest(&mut origin, alias, key);
    taker.exchange.disconnected();
    origin.exchange.disconnected();
    // What was given is not any more; what is taken waits.
    assert!(
        matches!(origin.hear(), Some(Message::Unsubscribe { alias: told, .. }) if told == alias)
    );
    assert!(taker.hear().is_none() && taker.news().is_empty());
    assert!(taker.exchange.is_used() && !origin.exchange.is_used());
    // Nothing is said into the void.
    taker.tell(Message::Received(TAKER, track()));
    assert!(taker.exchange.poll_word().is_none());
    connect(&mut taker, &mut origin);
    let Some(Message::Subscribe(subscribe)) = origin.hear() else {
        panic!("the shard is asked again");
    };
    assert_ne!(subscribe.alias, alias, "by another name");
    assert!(subscribe.ring.is_none(), "the ring is there");
    let again = subscribe.alias;
    origin.tell(Message::State(
        again,
        Arc::new(TrackState { key, ..state() }),
    ));
    carry(&mut taker, &mut origin);
    expect_interest(&mut origin, again, key);
    assert!(matches!(taker.hear(), Some(Message::State(TAKER, _))));
    assert!(taker.news().is_empty(), "it was described before");
    ring.push(&record(again, 0x1234).write(), &PACKET).unwrap();
    // What was put there under the former name is nobody's.
    ring.push(&record(alias, 0x1234).write(), &PACKET).unwrap();
    ring.publish();
    carry_packets(&mut origin, &mut taker);
    assert_eq!(taker.packets().len(), 1);
}

#[test]
fn who_has_not_got_a_track_says_so() {
    let (mut taker, mut origin) = (Node::new("taker"), Node::new("origin"));
    connect(&mut taker, &mut origin);
    // Not published yet; then by another session.
    for _ in 0..2 {
        taker.subscribe("origin");
        carry(&mut taker, &mut origin);
        assert!(matches!(taker.hear(), Some(Message::Unknown(TAKER))));
        assert!(origin.hear().is_none() && !origin.exchange.is_used());
        origin.publish("s0");
    }
    origin.publish("s1");
    taker.subscribe("origin");
    carry(&mut taker, &mut origin);
    assert!(matches!(origin.hear(), Some(Message::Subscribe(_))));
}

#[test]
fn a_gateway_fetches_what_it_is_asked_for() {
    let (mut leaf, mut gateway) = (Node::new("leaf"), Node::new("gateway"));
    connect(&mut leaf, &mut gateway);
    leaf.subscribe("origin");
    carry(&mut leaf, &mut gateway);
    let news = gateway.news();
    let [News::Asked { subscription, .. }] = news.as_slice() else {
        panic!("{news:?}");
    };
    assert!(gateway.hear().is_none() && leaf.hear().is_none());
    // Once it is there …
    gateway.publish("s1");
    gateway.exchange.serve(*subscription);
    assert!(matches!(gateway.hear(), Some(Message::Subscribe(_))));
    // … until the leaf wants it no more.
    leaf.tell(Message::Unsubscribe {
        track: track(),
        alias: TAKER,
        moved: false,
    });
    carry(&mut leaf, &mut gateway);
    let released = News::Released {
        subscription: *subscription,
        track: track(),
    };
    assert_eq!(gateway.news(), [released]);

    // It cannot be had.
    leaf.subscribe("origin");
    carry(&mut leaf, &mut gateway);
    let news = gateway.news();
    let [News::Asked { subscription, .. }] = news.as_slice() else {
        panic!("{news:?}");
    };
    gateway.exchange.refuse(*subscription);
    carry(&mut leaf, &mut gateway);
    assert!(matches!(leaf.hear(), Some(Message::Ended(TAKER))));
    // … or not now.
    leaf.subscribe("origin");
    carry(&mut leaf, &mut gateway);
    let news = gateway.news();
    let [.., News::Asked { subscription, .. }] = news.as_slice() else {
        panic!("{news:?}");
    };
    gateway.exchange.defer(*subscription);
    carry(&mut leaf, &mut gateway);
    assert!(matches!(leaf.hear(), Some(Message::Unknown(TAKER))));
}

#[test]
fn numbers_are_told_by_their_lower_half() {
    let check = |number: u64, known: u64| assert_eq!(nearest(number as u32, known), number);
    check(5, 0);
    check(0x1_0000, 0xFFFF);
    check(0x1_0000_0000, 0xFFFF_FFFF);
    check(0xFFFF_FFFE, 0x1_0000_0005);
    check(0x7_0000_0000, 0x6_FFFF_0000);
    assert_eq!(
        nearest(u32::MAX, 3),
        u64::from(u32::MAX),
        "before the first"
    );
}

#[test]
fn what_is_said_in_a_room_is_heard_where_it_is_followed() {
    let (mut here, mut there) = (Node::new("here"), Node::new("there"));
    connect(&mut here, &mut there);
    let room: RoomId = "RM_x".parse().unwrap();
    let speaker = |active| Speaker {
        participant: "PA_ada".parse().unwrap(),
        level: 0.5,
        active,
    };
    here.exchange.follow(room.clone());
    carry(&mut here, &mut there);
    assert!(matches!(there.hear(), Some(Message::Follow(told)) if told == room));
    // Who speaks at present, then who begins and ends.
    there.tell(Message::RoomHere(room.clone(), vec![speaker(true)]));
    there.tell(Message::Speakers(room.clone(), [speaker(false)].into()));
    let judged = ("PA_ada".parse().unwrap(), Quality::Good, 3.9);
    there.tell(Message::Quality(room.clone(), [judged.clone()].into()));
    let data = || Message::Data {
        room: room.clone(),
        packet: Bytes::from_static(b"hello"),
        reliable: true,
    };
    there.tell(data());
    carry(&mut here, &mut there);
    for active in [true, false] {
        match here.hear() {
            Some(Message::Speakers(told, speakers)) => {
                assert_eq!((&told, &speakers[..]), (&room, &[speaker(active)][..]));
            }
            other => panic!("{other:?}"),
        }
    }
    match here.hear() {
        Some(Message::Quality(_, told)) => assert_eq!(&told[..], &[judged]),
        other => panic!("{other:?}"),
    }
    match here.hear() {
        Some(Message::Data {
            packet, reliable, ..
        }) => assert_eq!((&packet[..], reliable), (&b"hello"[..], true)),
        other => panic!("{other:?}"),
    }
    // Nobody who does not follow hears it.
    here.tell(data());
    carry(&mut here, &mut there);
    assert!(there.hear().is_none());

    // A connection that is lost silences both, until it is back.
    here.exchange.disconnected();
    there.exchange.disconnected();
    assert!(matches!(here.hear(), Some(Message::RoomClosed(_))));
    assert!(matches!(there.hear(), Some(Message::Unfollow(_))));
    connect(&mut here, &mut there);
    assert!(matches!(there.hear(), Some(Message::Follow(_))));
    here.exchange.unfollow(&room);
    carry(&mut here, &mut there);
    assert!(matches!(here.hear(), Some(Message::RoomClosed(_))));
    assert!(matches!(there.hear(), Some(Message::Unfollow(_))));
    there.tell(data());
    carry(&mut here, &mut there);
    assert!(here.hear().is_none());
    assert!(!here.exchange.is_used() && !there.exchange.is_used());
}

/// The other end takes the track from here until it comes another way: nothing is to go round meanwhile.
#[test]
fn who_is_on_the_path_of_a_track_does_not_take_it() {
    let (mut taker, mut origin, alias, key, mut ring) = taken();
    let tell = |origin: &mut Node, taker: &mut Node, nodes: &[&str]| {
        let path = path(nodes);
        let state = TrackState {
            key,
            path,
            ..state()
        };
        origin.tell(Message::State(alias, Arc::new(state)));
        carry(taker, origin);
    };
    let mut push = |origin: &mut Node, taker: &mut Node, number| {
        ring.push(&record(alias, number).write(), &PACKET).unwrap();
        ring.publish();
        carry_packets(origin, taker);
        taker.packets().len()
    };
    assert_eq!(push(&mut origin, &mut taker, 0x1234), 1);
    tell(&mut origin, &mut taker, &["a", "taker"]);
    assert!(taker.hear().is_none());
    assert_eq!(push(&mut origin, &mut taker, 0x1235), 0);
    tell(&mut origin, &mut taker, &["a", "b"]);
    let Some(Message::State(TAKER, described)) = taker.hear() else {
        panic!("the taker is told");
    };
    assert_eq!(described.path, path(&["a", "b", "origin"]));
    assert_eq!(push(&mut origin, &mut taker, 0x1236), 1);
    // Nor what comes from further than anything can.
    let malformed = taker.exchange.stats.malformed;
    tell(&mut origin, &mut taker, &["a", "b", "c", "d", "e"]);
    assert_eq!(taker.exchange.stats.malformed, malformed + 1);
}

#[test]
fn who_is_sent_on_is_served_until_it_goes() {
    let (mut taker, mut origin, ..) = taken();
    let news = origin.news();
    let [News::Given { subscription, .. }] = news[..] else {
        panic!("{news:?}");
    };
    let (track, role) = (track(), Role::Leaf);
    let given = News::Given {
        subscription,
        track,
        role,
    };
    assert_eq!(news, [given]);
    origin.exchange.send_on(subscription + 1);
    assert_eq!(origin.exchange.words(), 0, "there is no such");
    origin.exchange.send_on(subscription);
    carry(&mut taker, &mut origin);
    let (track, generation) = (self::track(), GENERATION);
    assert_eq!(taker.news(), [News::SentOn { track, generation }]);
    assert_eq!(origin.exchange.counts(), (0, 1));
    taker.tell(Message::Unsubscribe {
        track: self::track(),
        alias: TAKER,
        moved: true,
    });
    carry(&mut taker, &mut origin);
    let track = self::track();
    let released = News::Released {
        subscription,
        track,
    };
    assert_eq!(origin.news(), [released]);
}
