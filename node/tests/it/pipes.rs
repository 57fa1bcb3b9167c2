//! Rooms that span nodes: a track of one node is watched on others as if it were theirs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_node::Config;
use pipemesh_node::config::Pipe;
use pipemesh_proto::node::CodecDemand;
use pipemesh_proto::node::session_event::Event;
use pipemesh_service::secret::Secret;
use pipemesh_topology::registry::memory::MemoryRegistry;

use crate::support::camera::RIDS;
use crate::support::control::{Signaling, layers};
use crate::support::narrow::NarrowWay;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::Sent;
use crate::support::subscriber::{Subscriber, sent};
use crate::support::{random, recording, until, within};
use crate::{data, speakers};

const TRACK: &str = "TR_ann";
/// Ann's session, on the first node of every mesh here.
const ORIGIN: (&str, &str) = ("node-a", "S_room_ann");
const TRACKS: &str = "pipemesh_pipe_tracks";
const GIVEN: &[(&str, &str)] = &[("direction", "out")];
const TAKEN: &[(&str, &str)] = &[("direction", "in")];

/// Nodes that know each other.
pub(crate) struct Mesh {
    pub(crate) nodes: Vec<TestNode>,
}

impl Mesh {
    /// Their ids are `node-a` and so on, in this order.
    pub(crate) async fn start(regions: &[&str], change: impl Fn(&mut Config)) -> Self {
        let registry: Arc<MemoryRegistry> = Arc::default();
        let mut nodes = Vec::new();
        for (id, region) in ('a'..).zip(regions) {
            let id = format!("node-{id}");
            nodes.push(TestNode::of(&registry, &id, region, &change).await);
        }
        Self { nodes }
    }

    pub(crate) async fn signaling(&self, node: usize) -> Signaling {
        self.nodes[node].signaling().await
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// Somebody on another node watches up to so many of the track's encodings.
pub(crate) async fn watch(signaling: &Signaling, name: &str, encodings: u32) -> (Subscriber, Sent) {
    let mut subscriber = Subscriber::join(signaling, "room", name).await;
    let stream = subscriber
        .subscribe_at(TRACK, ORIGIN, layers(encodings))
        .await;
    (subscriber, stream)
}

/// A frame of every encoding arrives at each of them.
async fn arrives(ann: &mut Publisher, watching: &[(&Subscriber, Sent, u8)], frame: u32, key: bool) {
    ann.send_frames(key);
    for (subscriber, stream, encoding) in watching {
        subscriber.frame(stream.ssrc, *encoding, frame).await;
    }
}

fn check(subscriber: &Subscriber, stream: Sent) {
    recording::check(&subscriber.recorded(stream.ssrc));
    let received = subscriber.wire.received();
    assert!(received.refused.is_empty(), "{:?}", received.refused);
}

#[tokio::test]
async fn a_track_is_watched_on_another_node_as_if_it_were_there() {
    let mut random = random();
    for shards in [1, 2] {
        let mesh = Mesh::start(&["eu", "eu"], |config| {
            config.media.shards = shards;
            config.media.shard_sessions = Some(1);
        })
        .await;
        let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
        let mut ann = Publisher::join(&here, "room", "ann", &RIDS, &mut random).await;
        let (bob, low) = watch(&there, "bob", 1).await;
        // On another shard, if there is one, and of another encoding.
        let (cyd, high) = watch(&there, "cyd", 3).await;
        there.settle("room").await;
        mesh.nodes[0]
            .until_metric(TRACKS, GIVEN, |n| n == 1.0)
            .await;
        let watching = [(&bob, low, 0), (&cyd, high, 2)];
        for frame in 0..30 {
            arrives(&mut ann, &watching, frame, frame % 10 == 0).await;
        }
        check(&bob, low);
        check(&cyd, high);
        // However many watch there, the node takes the track once.
        assert_eq!(mesh.nodes[1].metric(TRACKS, TAKEN), 1.0);
        mesh.stop().await;
    }
}

#[tokio::test]
async fn who_begins_to_watch_elsewhere_has_a_key_frame_asked_for() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    ann.send_frames(false);
    let (bob, stream) = watch(&there, "bob", 0).await;
    there.settle("room").await;
    let ann = &mut ann;
    until("a request for a key frame", || {
        (ann.key_frames_asked() > 0).then_some(())
    })
    .await;
    arrives(ann, &[(&bob, stream, 0)], 1, true).await;
    check(&bob, stream);
    mesh.stop().await;
}

#[tokio::test]
async fn a_track_crosses_to_a_region_once() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us", "us", "us"], |_| ()).await;
    let here = mesh.signaling(0).await;
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    let mut watching = Vec::new();
    for (node, name) in (1..4).zip(["bob", "cyd", "dan"]) {
        let there = mesh.signaling(node).await;
        watching.push(watch(&there, name, 0).await);
        there.settle("room").await;
    }
    let all: Vec<_> = watching
        .iter()
        .map(|(subscriber, stream)| (subscriber, *stream, 0))
        .collect();
    for frame in 0..20 {
        arrives(&mut ann, &all, frame, frame % 10 == 0).await;
    }
    for (subscriber, stream, _) in all {
        check(subscriber, stream);
    }
    // To the gateway alone, and by it to the others.
    let given = || -> f64 {
        mesh.nodes[1..]
            .iter()
            .map(|n| n.metric(TRACKS, GIVEN))
            .sum()
    };
    until("two tracks to be given", || (given() == 2.0).then_some(())).await;
    mesh.nodes[0]
        .until_metric(TRACKS, GIVEN, |n| n == 1.0)
        .await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_track_ends_everywhere() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us", "us"], |_| ()).await;
    let here = mesh.signaling(0).await;
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    let (mut bob, _) = watch(&mesh.signaling(1).await, "bob", 0).await;
    let (mut cyd, _) = watch(&mesh.signaling(2).await, "cyd", 0).await;
    ann.session.close().await;
    let ended = |event: &Event| match event {
        Event::SubscriptionEnded(ended) => Some(ended.track_id.clone()),
        _ => None,
    };
    for watcher in [&mut bob, &mut cyd] {
        let track = watcher.session.event("the subscription's end", ended).await;
        assert_eq!(track, TRACK);
    }
    for node in &mesh.nodes {
        node.until_metric(TRACKS, TAKEN, |n| n == 0.0).await;
        node.until_metric(TRACKS, GIVEN, |n| n == 0.0).await;
    }
    // One that never was.
    bob.session.subscribe_at("TR_none", ORIGIN, layers(0)).await;
    let track = bob.session.event("the subscription's end", ended).await;
    assert_eq!(track, "TR_none");
    mesh.stop().await;
}

#[tokio::test]
async fn what_nobody_watches_costs_nothing() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    let mut ann = Publisher::join(&here, "room", "ann", &RIDS, &mut random).await;
    let (mut bob, stream) = watch(&there, "bob", 1).await;
    there.settle("room").await;
    arrives(&mut ann, &[(&bob, stream, 0)], 0, true).await;
    let packets = "pipemesh_pipe_packets_total";
    // It is told a moment after it has happened.
    let sent = async || {
        let mut last = -1.0;
        loop {
            let now = mesh.nodes[0].metric(packets, &[("direction", "out")]);
            if now == last {
                return now;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let before = sent().await;
    let received = bob.recorded(stream.ssrc).len();
    for frame in 1..10 {
        arrives(&mut ann, &[(&bob, stream, 0)], frame, false).await;
    }
    // Of three encodings, all of a frame's packets.
    let lowest = bob.recorded(stream.ssrc).len() - received;
    assert_eq!(sent().await - before, lowest as f64);
    // Nobody is left.
    bob.unsubscribe(TRACK).await;
    mesh.nodes[0]
        .until_metric(TRACKS, GIVEN, |n| n == 0.0)
        .await;
    mesh.stop().await;
}

#[tokio::test]
async fn nodes_of_another_secret_are_not_spoken_to() {
    let registry: Arc<MemoryRegistry> = Arc::default();
    let secret = |byte: u8| {
        move |config: &mut Config| {
            let text = format!("{byte} is not the secret of anybody else here");
            config.control.secret = Some(Secret::new(&text, 32).unwrap());
        }
    };
    let a = TestNode::of(&registry, "node-a", "eu", secret(b'a')).await;
    let b = TestNode::of(&registry, "node-b", "eu", secret(b'b')).await;
    let c = TestNode::of(&registry, "node-c", "eu", secret(b'a')).await;
    let connected = "pipemesh_pipe_up";
    a.until_metric(connected, &[], |n| n == 1.0).await;
    c.until_metric(connected, &[], |n| n == 1.0).await;
    // Both sides have refused by now, and say so.
    let refused = "pipemesh_pipe_refused_total";
    b.until_metric(refused, &[("reason", "not_admitted")], |n| n > 0.0)
        .await;
    assert_eq!(b.metric(connected, &[]), 0.0);
    for node in [a, b, c] {
        node.stop().await;
    }
}

/// Waits until Ann's client is told that so many encodings are wanted, and answers how long that took.
async fn wanted(ann: &mut Publisher, encodings: u32) -> Duration {
    let since = Instant::now();
    let what = format!("{encodings} encodings are wanted");
    let told = |event: &Event| match event {
        Event::TrackDemandChanged(demand) => {
            let is_it = |codec: &CodecDemand| codec.spatial_layers == encodings;
            demand.codecs.iter().all(is_it).then_some(())
        }
        _ => None,
    };
    ann.session.event(&what, told).await;
    since.elapsed()
}

#[tokio::test]
async fn a_publisher_is_told_what_is_wanted_in_the_whole_mesh() {
    const UP: Duration = Duration::from_secs(1);
    const DOWN: Duration = Duration::from_secs(5);
    let mut random = random();
    // Behind a gateway, or on it.
    let mesh = Mesh::start(&["eu", "us", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    let over_there = mesh.signaling(2).await;
    let mut ann = Publisher::join(&here, "room", "ann", &RIDS, &mut random).await;
    assert!(wanted(&mut ann, 0).await < DOWN);
    let (mut bob, _) = watch(&there, "bob", 1).await;
    assert!(wanted(&mut ann, 1).await < UP);
    let (mut cyd, _) = watch(&over_there, "cyd", 3).await;
    assert!(wanted(&mut ann, 3).await < UP);
    cyd.unsubscribe(TRACK).await;
    assert!(wanted(&mut ann, 1).await < DOWN);
    bob.unsubscribe(TRACK).await;
    assert!(wanted(&mut ann, 0).await < DOWN);
    mesh.stop().await;
}

/// UDP payloads that a tunnel carries of which nobody has told the nodes.
const TUNNEL: usize = 1230;

/// Two nodes, and the way from the first to the second.
async fn over_a_way(longest: usize) -> (Mesh, NarrowWay) {
    let registry: Arc<MemoryRegistry> = Arc::default();
    let listen = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let way = NarrowWay::to(listen, longest).await;
    // If the one is late to call, the other does: where nobody is, or they would not meet on this way.
    let nobody = "127.0.0.2:9".to_owned();
    let a = TestNode::of(&registry, "node-a", "eu", |config| {
        config.pipe = Some(Pipe {
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: vec![nobody],
        });
    })
    .await;
    let b = TestNode::of(&registry, "node-b", "eu", |config| {
        config.pipe = Some(Pipe {
            listen,
            advertise: vec![way.address.to_string()],
        });
    })
    .await;
    (Mesh { nodes: vec![a, b] }, way)
}

/// Packets that are too long for one datagram of the tunnel get through it.
async fn long_packets_arrive(mesh: &Mesh) {
    let mut random = random();
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    ann.fill(1100);
    ann.send_frames(true);
    let (bob, stream) = watch(&there, "bob", 0).await;
    there.settle("room").await;
    for frame in 1..30 {
        arrives(&mut ann, &[(&bob, stream, 0)], frame, frame % 10 == 1).await;
    }
    check(&bob, stream);
    let dropped = "pipemesh_pipe_packets_dropped_total";
    let too_long = mesh.nodes[0].metric(dropped, &[("reason", "too_long")]);
    assert_eq!(too_long, 0.0);
}

#[tokio::test]
async fn a_way_without_room_for_full_datagrams_carries_packets_in_halves() {
    let (mesh, _way) = over_a_way(TUNNEL).await;
    let up = "pipemesh_pipe_up";
    mesh.nodes[0].until_metric(up, &[], |n| n == 1.0).await;
    long_packets_arrive(&mesh).await;
    let latency = mesh.nodes[1].metric("pipemesh_pipe_latency_seconds", &[]);
    assert!(latency < 5.0, "{latency}");
    mesh.stop().await;
}

/// QUIC alone would go on with what gets lost.
#[tokio::test]
async fn a_way_that_becomes_narrow_is_found_out() {
    let (mesh, way) = over_a_way(usize::MAX).await;
    let connections = "pipemesh_pipe_connections_total";
    let first = &mesh.nodes[0];
    first.until_metric(connections, &[], |n| n > 0.0).await;
    let before = first.metric(connections, &[]);
    way.narrow(TUNNEL);
    let began = Instant::now();
    while first.metric(connections, &[]) <= before {
        let limit = Duration::from_secs(40);
        assert!(began.elapsed() < limit, "it is not found out");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    long_packets_arrive(&mesh).await;
    mesh.stop().await;
}

#[tokio::test]
async fn what_is_said_in_a_room_is_heard_on_all_its_nodes() {
    for shards in [1, 2] {
        let mesh = Mesh::start(&["eu", "us"], |config| {
            config.media.shards = shards;
            config.media.shard_sessions = Some(1);
        })
        .await;
        let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
        data::packets_cross_nodes(&here, &there).await;
        mesh.stop().await;
    }
}

#[tokio::test]
async fn who_speaks_is_told_on_all_nodes_of_a_room() {
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    speakers::who_speaks_is_told_on_other_nodes(&here, &there).await;
    mesh.stop().await;
}

/// Ann sends key frames until everybody has got one that was sent after now.
async fn goes_on(ann: &mut Publisher, watching: &[(Subscriber, Sent)], frame: &mut u32) {
    let first = *frame;
    let has = |(subscriber, stream): &(Subscriber, Sent)| {
        let recorded = subscriber.recorded(stream.ssrc);
        recorded.iter().any(|packet| packet.mark.frame >= first)
    };
    let everybody = async {
        while !watching.iter().all(has) {
            ann.send_frames(true);
            *frame += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("everybody to be sent the track", everybody).await;
}

#[tokio::test]
async fn a_gateway_that_stops_is_replaced() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us", "us", "us"], |_| ()).await;
    let here = mesh.signaling(0).await;
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    let mut watching = Vec::new();
    for (node, name) in (1..4).zip(["bob", "cyd", "dan"]) {
        let there = mesh.signaling(node).await;
        watching.push(watch(&there, name, 0).await);
    }
    let mut frame = 0;
    goes_on(&mut ann, &watching, &mut frame).await;
    let Mesh { mut nodes } = mesh;
    let gateway = nodes[1..]
        .iter()
        .position(|n| n.metric(TRACKS, GIVEN) > 0.0);
    let gateway = gateway.expect("one of them is the gateway");
    drop(watching.remove(gateway));
    nodes.remove(1 + gateway).stop().await;
    // The others were subscribed once, and stay so.
    for _ in 0..3 {
        goes_on(&mut ann, &watching, &mut frame).await;
    }
    nodes[0].until_metric(TRACKS, GIVEN, |n| n == 1.0).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_publisher_who_moves_is_watched_where_he_was() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    // Ann was there before, and the node has not heard yet that she has gone.
    let mut before = Publisher::join(&there, "room", "ann", &[], &mut random).await;
    let mut ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&there, "room", "bob").await;
    bob.session.subscribe_at(TRACK, ORIGIN, layers(0)).await;
    before.send_frames(true);
    before.session.close().await;
    let offer = bob.negotiate().await;
    let stream = sent(&offer, TRACK);
    there.settle("room").await;
    let mut frame = 0;
    goes_on(&mut ann, &[(bob, stream)], &mut frame).await;
    mesh.stop().await;
}
