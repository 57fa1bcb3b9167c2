//! TCP: who is let in, who is not, and what a call over it is like.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use pipemesh_node_core::rtcp::{Message as RtcpMessage, Messages};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{Close, CloseReason, ConnectionLayout, ConnectionRole, ConnectionState};
use rtc::stun::message::{BINDING_ERROR, BINDING_SUCCESS, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::call::Call;
use crate::support::control::{Session, Signaling, camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::recording::Recorded;
use crate::support::sdp::{self, Remote, Section};
use crate::support::subscriber::Subscriber;
use crate::support::wire::way::{Framed, Way, frame};
use crate::support::wire::{Received, Wire, check};
use crate::support::{random, recording, until, within};

const TRACK: &str = "TR_ann";
const CALLERS: &str = "pipemesh_tcp_connections_total";

/// Somebody whose checks the test makes by hand.
struct Knocker {
    _session: Session,
    wire: Wire,
    remote: Remote,
}

impl Knocker {
    async fn new(signaling: &Signaling, name: &str) -> Self {
        let open = participant(name, "room", ConnectionLayout::Single);
        let mut session = signaling.open(open).await;
        let track = format!("TR_{name}");
        session.add_track(camera(&track, "camera")).await;
        let wire = Wire::new().await;
        let offer = sdp::offer(wire.local(), &[Section::camera("camera", &[])]);
        let remote = sdp::remote(&session.offer(&offer).await.sdp);
        Self {
            _session: session,
            wire,
            remote,
        }
    }

    fn check(&self) -> Vec<u8> {
        self.check_with(&self.remote.password)
    }

    fn check_with(&self, password: &str) -> Vec<u8> {
        check::request(&self.wire.local().ufrag, &self.remote.ufrag, password, true)
    }

    async fn connect(&self) -> Framed {
        Framed::connect(self.remote.tcp_candidates[0])
            .await
            .unwrap()
    }

    /// A connection on which a check was answered.
    async fn enter(&self) -> Framed {
        let mut way = self.connect().await;
        way.send(&self.check()).await.unwrap();
        succeeds(&mut way).await;
        way
    }
}

/// The transaction and type of the answer that comes next.
async fn answer(way: &mut Framed) -> Option<Message> {
    let datagram = within("an answer", way.receive()).await?;
    let mut message = Message::new();
    message.unmarshal_binary(&datagram).unwrap();
    Some(message)
}

async fn succeeds(way: &mut Framed) {
    let answer = answer(way).await.expect("the node has hung up");
    assert_eq!(answer.typ, BINDING_SUCCESS);
}

/// Waits until the node has ended a connection, whichever way.
async fn hung_up(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = within("the end of a connection", stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "nothing is said to strangers");
}

#[tokio::test]
async fn a_call_over_tcp_alone() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann =
        Publisher::join_over(Wire::tcp(), &signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join_over(Wire::tcp(), &signaling, "room", "bob").await;
    let mut cleo = Subscriber::join(&signaling, "room", "cleo").await;
    let to_bob = bob.subscribe(TRACK, layers(0)).await;
    let to_cleo = cleo.subscribe(TRACK, layers(0)).await;
    for frame in 0..50 {
        ann.send_frames(frame == 0);
        bob.frame(to_bob.ssrc, 0, frame).await;
        cleo.frame(to_cleo.ssrc, 0, frame).await;
    }
    recording::check(&bob.recorded(to_bob.ssrc));
    node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 2.0)
        .await;
    node.until_metric(
        "pipemesh_tcp_datagrams_total",
        &[("direction", "out")],
        |sent| sent > 50.0,
    )
    .await;
    node.until_metric(
        "pipemesh_tcp_datagrams_total",
        &[("direction", "in")],
        |sent| sent > 50.0,
    )
    .await;
    assert_eq!(node.metric(CALLERS, &[("result", "proved")]), 2.0);

    // The goodbye comes before the end of the connection.
    let reason = CloseReason::Left.into();
    bob.session.send(Request::Close(Close { reason })).await;
    let gone = |received: &Received| received.hung_up.then_some(received.closed);
    assert!(bob.wire.until("the end", gone).await, "without a goodbye");
    node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 1.0)
        .await;
    node.stop().await;
}

#[tokio::test]
async fn media_moves_between_udp_and_tcp() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;
    // (whether the publisher moves, whether to TCP)
    for (publishes, to_tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let mover = match publishes {
            true => &mut call.ann.wire,
            false => &mut call.bob.wire,
        };
        let consents = mover.received().consents;
        if to_tcp {
            let way = Framed::connect(node.tcp_address()).await.unwrap();
            mover.go_by(Way::Tcp(way));
        } else {
            mover.change_port().await;
        }
        mover.answered_since(consents).await;
        call.goes_on().await;
    }
    call.check();
    // Whose other end was dropped is closed.
    node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 0.0)
        .await;
    node.stop().await;
}

/// Goes on another way, and waits until the node has heard of it.
async fn go_by(wire: &Wire, way: Way) {
    let consents = wire.received().consents;
    wire.go_by(way);
    wire.answered_since(consents).await;
}

/// Between the numbers of two packets that came one after the other.
fn missing(recorded: &[Recorded]) -> Vec<u16> {
    let pairs = recorded.windows(2);
    let holes = pairs.flat_map(|pair| pair[0].index + 1..pair[1].index);
    holes.map(|index| index as u16).collect()
}

#[tokio::test]
async fn a_receiver_whose_udp_dies_goes_on_over_tcp_and_back() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let mut cleo = Subscriber::join(&signaling, "room", "cleo").await;
    let to_bob = bob.subscribe(TRACK, layers(0)).await;
    let to_cleo = cleo.subscribe(TRACK, layers(0)).await;
    let repair = to_bob.repair_ssrc.expect("it has retransmissions");
    let mut frames = 0..;
    let mut film = async |cleo: &Subscriber| {
        let frame = frames.next().expect("without end");
        ann.send_frames(frame == 0);
        cleo.frame(to_cleo.ssrc, 0, frame).await;
        frame
    };
    for _ in 0..30 {
        film(&cleo).await;
    }
    bob.frame(to_bob.ssrc, 0, 29).await;
    let mut lost = 0;
    for _ in 0..3 {
        // Nothing gets through, and nobody says so: the node goes on sending.
        bob.wire.go_by(Way::TcpLater);
        bob.wire.flush().await;
        for _ in 0..5 {
            film(&cleo).await;
        }
        let tcp = Framed::connect(node.tcp_address()).await.unwrap();
        go_by(&bob.wire, Way::Tcp(tcp)).await;
        let frame = film(&cleo).await;
        bob.frame(to_bob.ssrc, 0, frame).await;
        // What was lost on the one is sent again on the other.
        let holes = missing(&bob.recorded(to_bob.ssrc)).split_off(lost);
        assert!(holes.len() >= 5, "{holes:?}");
        bob.wire.send_rtcp(|writer| {
            assert!(writer.nack(1, to_bob.ssrc, &holes));
        });
        let repaired = |received: &Received| {
            let again = received.rtp.iter().filter(|p| p.ssrc == repair);
            let again = again.map(|p| u16::from_be_bytes([p.payload[0], p.payload[1]]));
            let again: Vec<u16> = again.skip(lost).collect();
            (again == holes).then_some(())
        };
        bob.wire.until("all that was lost", repaired).await;
        lost += holes.len();
        // UDP lives again, and TCP is given up.
        bob.change_port().await;
        let frame = film(&cleo).await;
        bob.frame(to_bob.ssrc, 0, frame).await;
        node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 0.0)
            .await;
    }
    // No key frame was needed for any of it.
    assert_eq!(missing(&bob.recorded(to_bob.ssrc)).len(), lost);
    recording::check(&cleo.recorded(to_cleo.ssrc));
    node.stop().await;
}

#[tokio::test]
async fn a_publisher_whose_udp_dies_goes_on_over_tcp_and_back() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let stream = bob.subscribe(TRACK, layers(0)).await;
    let (mut frame, mut repairs) = (0, 500);
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, frame).await;
    for _ in 0..3 {
        ann.wire.go_by(Way::TcpLater);
        ann.advance();
        let lost = ann.make_frame(0, false);
        for packet in &lost {
            ann.send(0, packet.clone());
        }
        let tcp = Framed::connect(node.tcp_address()).await.unwrap();
        go_by(&ann.wire, Way::Tcp(tcp)).await;
        let asked_before = requested(&ann).len();
        ann.send_frames(false);
        bob.frame(stream.ssrc, 0, frame + 2).await;
        // What the network swallowed is asked for and comes the new way.
        let numbers: Vec<u16> = lost.iter().map(|packet| packet.index as u16).collect();
        until("what was lost is asked for", || {
            let asked = requested(&ann).split_off(asked_before);
            numbers.iter().all(|it| asked.contains(it)).then_some(())
        })
        .await;
        for packet in lost {
            ann.repair(0, repairs, packet);
            repairs += 1;
        }
        bob.frame(stream.ssrc, 0, frame + 1).await;
        let consents = ann.wire.received().consents;
        ann.wire.change_port().await;
        ann.wire.answered_since(consents).await;
        frame += 3;
        ann.send_frames(false);
        bob.frame(stream.ssrc, 0, frame).await;
    }
    recording::check(&bob.recorded(stream.ssrc));
    node.stop().await;
}

/// Numbers of packets that a publisher was asked for again.
fn requested(publisher: &Publisher) -> Vec<u16> {
    let received = publisher.wire.received();
    let messages = received.rtcp.iter();
    let messages = messages.flat_map(|packet| Messages::new(&packet.compound));
    let lost = messages.filter_map(|message| match message {
        RtcpMessage::Nack { lost, .. } => Some(lost.collect::<Vec<u16>>()),
        _ => None,
    });
    lost.flatten().collect()
}

#[tokio::test]
async fn a_closed_connection_is_no_path_any_more() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join_over(Wire::tcp(), &signaling, "room", "bob").await;
    let mut cleo = Subscriber::join(&signaling, "room", "cleo").await;
    let stream = bob.subscribe(TRACK, layers(0)).await;
    let to_cleo = cleo.subscribe(TRACK, layers(0)).await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, 0).await;

    // Nothing else is left to send to: it is told at once, not when consent expires.
    let role = ConnectionRole::Subscriber;
    bob.wire.go_by(Way::TcpLater);
    bob.session
        .connection(role, ConnectionState::Interrupted)
        .await;
    for frame in 1..20 {
        ann.send_frames(frame % 10 == 0);
        cleo.frame(to_cleo.ssrc, 0, frame).await;
    }
    let way = Framed::connect(node.tcp_address()).await.unwrap();
    bob.wire.go_by(Way::Tcp(way));
    bob.session
        .connection(role, ConnectionState::Connected)
        .await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, 20).await;
    // Nothing was numbered that could not be sent.
    assert!(missing(&bob.recorded(stream.ssrc)).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn who_does_not_read_loses_whole_packets_and_nobody_else_any() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let mut cleo = Subscriber::join(&signaling, "room", "cleo").await;
    let to_bob = bob.subscribe(TRACK, layers(0)).await;
    let to_cleo = cleo.subscribe(TRACK, layers(0)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let connected = socket.connect(node.tcp_address()).await.unwrap();
    let consents = bob.wire.received().consents;
    bob.wire.go_by(Way::Tcp(Framed::over(connected)));
    bob.wire.answered_since(consents).await;
    ann.send_frames(true);
    bob.frame(to_bob.ssrc, 0, 0).await;

    bob.wire.set_reading(false);
    let full = || node.metric("pipemesh_tcp_drops_total", &[("reason", "queue_full")]);
    let mut frame = 0;
    while full() < 100.0 {
        assert!(frame < 20_000, "a queue without end");
        frame += 1;
        ann.send_frames(frame % 50 == 0);
        cleo.frame(to_cleo.ssrc, 0, frame).await;
    }
    recording::check(&cleo.recorded(to_cleo.ssrc));

    // It reads again. What it gets it can open, and it catches up by itself.
    bob.wire.set_reading(true);
    let mut caught_up = false;
    for _ in 0..500 {
        frame += 1;
        ann.send_frames(true);
        cleo.frame(to_cleo.ssrc, 0, frame).await;
        let at = frame;
        let seen = tokio::time::timeout(Duration::from_millis(100), bob.frame(to_bob.ssrc, 0, at));
        caught_up = seen.await.is_ok();
        if caught_up {
            break;
        }
    }
    assert!(caught_up, "it never catches up");
    assert!(bob.wire.received().refused.is_empty(), "torn packets");
    node.stop().await;
}

#[tokio::test]
async fn frames_may_be_cut_and_joined_in_any_way() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;

    // Byte by byte, the first check at the door and the second on its shard.
    let mut way = knocker.connect().await;
    for _ in 0..2 {
        for byte in frame(&knocker.check()) {
            way.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        succeeds(&mut way).await;
    }
    // Several at once, and the beginning of one more.
    let mut all: Vec<u8> = (0..3).flat_map(|_| frame(&knocker.check())).collect();
    let last = frame(&knocker.check());
    all.extend(&last[..7]);
    way.stream.write_all(&all).await.unwrap();
    for _ in 0..3 {
        succeeds(&mut way).await;
    }
    way.stream.write_all(&last[7..]).await.unwrap();
    succeeds(&mut way).await;

    // Everything in one segment on a new connection.
    let mut way = knocker.connect().await;
    let all: Vec<u8> = (0..3).flat_map(|_| frame(&knocker.check())).collect();
    way.stream.write_all(&all).await.unwrap();
    for _ in 0..3 {
        succeeds(&mut way).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    let Remote {
        ufrag, password, ..
    } = &knocker.remote;
    let unknown = |ufrag: &str| frame(&check::request("self", ufrag, password, true));
    let first = &ufrag[..1];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("malformed", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("malformed", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("malformed", vec![0, 0]),
        ("malformed", frame(&[0x80; 100])),
        ("malformed", frame(&knocker.check()[..40])),
        // Of a shard there is not, and of one there is.
        ("unknown_ufrag", unknown("nobodys")),
        ("unknown_ufrag", unknown(&format!("{first}obodys"))),
    ];
    for (number, (result, sent)) in cases.iter().enumerate() {
        let before = node.metric(CALLERS, &[("result", result)]);
        let mut way = TcpStream::connect(node.tcp_address()).await.unwrap();
        way.write_all(sent).await.unwrap();
        hung_up(&mut way).await;
        let after = |count| count == before + 1.0;
        node.until_metric(CALLERS, &[("result", result)], after)
            .await;
        assert_eq!(
            node.metric(CALLERS, &[("result", "proved")]),
            0.0,
            "case {number}"
        );
    }
    // Who hangs up first is counted, too.
    drop(TcpStream::connect(node.tcp_address()).await.unwrap());
    node.until_metric(CALLERS, &[("result", "closed")], |count| count == 1.0)
        .await;
    assert_eq!(node.metric("pipemesh_tcp_connections", &[]), 0.0);
    node.stop().await;
}

#[tokio::test]
async fn who_has_not_the_password_is_refused_and_soon_gone() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    let mut way = knocker.connect().await;
    let wrong = knocker.check_with("not the password of anybody");
    way.send(&wrong).await.unwrap();
    let refusal = answer(&mut way).await.unwrap();
    assert_eq!(refusal.typ, BINDING_ERROR);
    // Nothing else is heard from it, and it has little time.
    way.send(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0])
        .await
        .unwrap();
    assert_eq!(within("the end", way.receive()).await, None);
    node.until_metric(CALLERS, &[("result", "unproven")], |count| count == 1.0)
        .await;
    node.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_gone_in_seconds() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    let mut silent = TcpStream::connect(node.tcp_address()).await.unwrap();
    // A byte every now and then does not help.
    let mut slow = TcpStream::connect(node.tcp_address()).await.unwrap();
    let check = frame(&knocker.check());
    let drip = async {
        for byte in check {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("a slow check was waited for to the end");
    };
    within("the slow one is gone", drip).await;
    hung_up(&mut silent).await;
    node.until_metric(CALLERS, &[("result", "late")], |count| count == 2.0)
        .await;
    node.stop().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(TcpStream::connect(node.tcp_address()).await.unwrap());
    }
    node.until_metric(CALLERS, &[("result", "source_full")], |count| count == 44.0)
        .await;
    // From elsewhere there is still a way in.
    let socket = TcpSocket::new_v4().unwrap();
    let elsewhere = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    socket.bind(SocketAddr::new(elsewhere, 0)).unwrap();
    let stream = socket.connect(node.tcp_address()).await.unwrap();
    let mut way = Framed::over(stream);
    way.send(&knocker.check()).await.unwrap();
    succeeds(&mut way).await;
    // And from here, too, when the flood is over.
    drop(flood);
    until("the flood is over", || {
        let gone = ["closed", "late"].map(|result| node.metric(CALLERS, &[("result", result)]));
        (gone[0] + gone[1] == 256.0).then_some(())
    })
    .await;
    knocker.enter().await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_nonsense_or_half_of_it() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    for nonsense in [&1501_u16.to_be_bytes()[..], &[0, 0], &[0xff; 40]] {
        let mut way = knocker.enter().await;
        way.stream.write_all(nonsense).await.unwrap();
        assert_eq!(within("the end", way.receive()).await, None);
    }
    let mut way = knocker.enter().await;
    way.stream.shutdown().await.unwrap();
    assert_eq!(within("the end", way.receive()).await, None);
    node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 0.0)
        .await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_is_for_one_client() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let eve = Knocker::new(&signaling, "eve").await;
    let fay = Knocker::new(&signaling, "fay").await;
    let mut way = eve.enter().await;
    // Rightly signed, but not on this connection.
    way.send(&fay.check()).await.unwrap();
    let honest = eve.check();
    way.send(&honest).await.unwrap();
    let answer = answer(&mut way).await.unwrap();
    assert_eq!(answer.transaction_id.0, honest[8..20]);
    // More connections than a client has ways: the stalest go.
    let mut ways = vec![way];
    for _ in 0..10 {
        ways.push(eve.enter().await);
    }
    node.until_metric("pipemesh_tcp_connections", &[], |streams| streams == 8.0)
        .await;
    assert_eq!(within("the end", ways[0].receive()).await, None);
    node.stop().await;
}

#[tokio::test]
async fn tcp_can_be_off() {
    let node = TestNode::with(|config| config.media.tcp_port = None).await;
    let signaling = node.signaling().await;
    let knocker = Knocker::new(&signaling, "eve").await;
    assert!(knocker.remote.tcp_candidates.is_empty());
    assert_eq!(knocker.remote.candidates.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn every_shard_is_reached_through_the_one_port() {
    let node = TestNode::with(|config| config.media.shards = 3).await;
    let signaling = node.signaling().await;
    let mut random = random();
    let mut people = Vec::new();
    for number in 0..6 {
        let (room, name) = (format!("room{number}"), format!("ann{number}"));
        let wire = Wire::tcp();
        let ann = Publisher::join_over(wire, &signaling, &room, &name, &[], &mut random).await;
        people.push(ann);
    }
    assert_eq!(node.metric(CALLERS, &[("result", "proved")]), 6.0);
    for shard in ["0", "1", "2"] {
        node.until_metric("pipemesh_tcp_connections", &[("shard", shard)], |streams| {
            streams == 2.0
        })
        .await;
    }
    drop(people);
    node.stop().await;
}
