//! What one client may send and begin, and that nobody else notices where that ends.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pipemesh_node::config::Limits;
use pipemesh_node_media::srtp::Profile;
use pipemesh_proto::node::{ConnectionLayout, LayerWish};
use tokio::net::UdpSocket;

use crate::support::call::Call;
use crate::support::control::{Session, Signaling, camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::{self, OPUS, Remote, Section, extension};
use crate::support::subscriber::Subscriber;
use crate::support::wire::{Outgoing, Received, Wire, check, hello};
use crate::support::{random, recording, until};

const PROFILE: Profile = Profile::AeadAes128Gcm;
/// An office behind one address, and somebody else.
const OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 88));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

/// An answer takes a moment; who is refused is not answered at all.
const SOON: Duration = Duration::from_millis(500);

const DROPPED: &str = "pipemesh_packets_dropped_total";
const LIMIT: [(&str, &str); 1] = [("reason", "limit")];

#[tokio::test]
async fn who_sends_too_many_bits_loses_picture_before_sound() {
    let kilobits = Limits {
        publish_kilobits: 800,
        ..Limits::NONE
    };
    who_sends_too_much_loses_picture_before_sound(kilobits, 900).await;
}

#[tokio::test]
async fn who_sends_too_many_packets_loses_picture_before_sound() {
    let packets = Limits {
        publish_packets: 200,
        ..Limits::NONE
    };
    who_sends_too_much_loses_picture_before_sound(packets, 0).await;
}

/// A picture of some 400 packets a second, each `fill` bytes longer than it has to be, and sound beside it.
async fn who_sends_too_much_loses_picture_before_sound(limits: Limits, fill: usize) {
    const FRAMES: u32 = 800;
    const FRAME: Duration = Duration::from_millis(4);
    /// Frames to a packet of sound.
    const SOUND: u32 = 5;
    let mut random = random();
    let node = TestNode::with(|config| config.limits = limits).await;
    let signaling = node.signaling().await;
    let mut mia = Publisher::join(&signaling, "room", "mia", &[], &mut random).await;
    let (sound, mid) = mia.add_microphone().await;
    let mut max = Subscriber::join(&signaling, "room", "max").await;
    let picture = max.subscribe("TR_mia", layers(0)).await;
    let sound = max.subscribe(&sound, LayerWish::default()).await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    mia.fill(fill);
    let mut frames = tokio::time::interval(FRAME);
    let mut sent = 0;
    for frame in 0..FRAMES {
        frames.tick().await;
        sent += mia.send_frames(frame % 10 == 0);
        if frame % SOUND == 0 {
            let number = frame / SOUND;
            mia.wire.send(Outgoing {
                ssrc: 7,
                index: 1000 + u64::from(number),
                payload_type: OPUS,
                timestamp: number * 960,
                extensions: vec![(extension::MID, mid.clone().into_bytes())],
                payload: number.to_be_bytes().to_vec(),
                ..Outgoing::default()
            });
        }
        if frame % 100 == 0 {
            call.goes_on().await;
        }
    }
    mia.wire.flush().await;
    let of = |received: &Received, ssrc| {
        let packets = received.rtp.iter().filter(|packet| packet.ssrc == ssrc);
        packets
            .map(|packet| (packet.index, packet.timestamp))
            .collect::<Vec<_>>()
    };
    let all = |received: &Received| {
        let heard = of(received, sound.ssrc);
        (heard.len() == (FRAMES / SOUND) as usize).then_some(heard)
    };
    let heard = max.wire.until("all of the sound", all).await;
    for pair in heard.windows(2) {
        assert_eq!(pair[1].0, pair[0].0 + 1);
        assert_eq!(pair[1].1.wrapping_sub(pair[0].1), 960);
    }
    let dropped = node.until_metric(DROPPED, &LIMIT, |n| n > 200.0).await;
    let seen = max.recorded(picture.ssrc);
    assert!(seen.len() > 50, "{} of {sent}", seen.len());
    assert!(
        seen.len() as f64 + dropped <= sent as f64,
        "{dropped} of {sent}"
    );
    // It is not a picture any more, but nothing of it looks lost, and nobody asks for what was refused.
    recording::check(&seen);
    assert_eq!(
        node.metric("pipemesh_rtcp_requests_total", &[("kind", "nack_out")]),
        0.0
    );
    call.goes_on().await;
    call.check();
    node.stop().await;
}

/// A client that has negotiated; its address has proved nothing yet.
async fn negotiated(signaling: &Signaling, name: &str, ip: IpAddr) -> (Session, Wire, Remote) {
    let open = participant(name, "room", ConnectionLayout::Single);
    let mut session = signaling.open(open).await;
    let wire = Wire::with(ip, PROFILE).await;
    let track = format!("TR_{name}");
    session.add_track(camera(&track, "camera")).await;
    let offer = sdp::offer(wire.local(), &[Section::camera("camera", &[])]);
    let remote = sdp::remote(&session.offer(&offer).await.sdp);
    (session, wire, remote)
}

/// Twenty seconds' worth of one a second.
const BURST: usize = 20;

async fn node_of_few_newcomers() -> TestNode {
    TestNode::with(|config| config.limits.handshakes_per_address = 1).await
}

#[tokio::test]
async fn an_address_that_many_come_from_has_its_share() {
    let mut random = random();
    let node = node_of_few_newcomers().await;
    let signaling = node.signaling().await;
    let mut office = Vec::new();
    for number in 0..BURST {
        let wire = Wire::with(OFFICE, PROFILE).await;
        let name = format!("ann{number}");
        let joined = Publisher::join_over(wire, &signaling, "room", &name, &[], &mut random);
        office.push(joined.await);
    }
    // Some of its share may have come back meanwhile.
    let mut refused = None;
    for number in 0..BURST {
        let client = negotiated(&signaling, &format!("late{number}"), OFFICE).await;
        let socket = UdpSocket::bind((OFFICE, 0)).await.unwrap();
        if !is_heard(&socket, &client).await {
            refused = Some(client);
            break;
        }
    }
    let (_session, wire, remote) = refused.expect("somebody is refused");
    node.until_metric(DROPPED, &LIMIT, |n| n > 0.0).await;
    // Everybody else comes in, and so does who was refused, in time.
    let other = Wire::with(ELSEWHERE, PROFILE).await;
    Publisher::join_over(other, &signaling, "room", "eve", &[], &mut random).await;
    wire.connect(remote);
    wire.connected().await;
    node.stop().await;
}

#[tokio::test]
async fn an_address_begins_no_handshakes_without_end() {
    /// Of one client, which may begin eight.
    const EACH: usize = 6;
    /// A fatal alert: the handshake is over.
    const GIVE_UP: [u8; 15] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let mut random = random();
    let node = node_of_few_newcomers().await;
    let signaling = node.signaling().await;
    let begun = std::time::Instant::now();
    let mut answered = 0;
    let mut clients = Vec::new();
    'office: for number in 0..BURST {
        let client = negotiated(&signaling, &format!("ann{number}"), OFFICE).await;
        let socket = UdpSocket::bind((OFFICE, 0)).await.unwrap();
        assert!(is_heard(&socket, &client).await);
        let to = client.2.candidates[0];
        clients.push(client);
        for _ in 0..EACH {
            // What was said again of the handshake before.
            while answer(&socket, Duration::from_millis(1)).await.is_some() {}
            for datagram in hello() {
                socket.send_to(&datagram, to).await.unwrap();
            }
            if answer(&socket, SOON).await.is_none() {
                break 'office;
            }
            answered += 1;
            socket.send_to(&GIVE_UP, to).await.unwrap();
            let over = || {
                let failed = [("result", "failed")];
                let failed = node.metric("pipemesh_dtls_handshakes_total", &failed);
                (failed == answered as f64).then_some(())
            };
            until("the handshake is over", over).await;
            // The shard has heard it, too.
            signaling.settle("room").await;
        }
    }
    let refilled = begun.elapsed().as_secs() as usize + 1;
    assert!(
        (BURST..=BURST + refilled).contains(&answered),
        "{answered} handshakes"
    );
    node.until_metric(DROPPED, &LIMIT, |n| n > 0.0).await;
    let other = Wire::with(ELSEWHERE, PROFILE).await;
    Publisher::join_over(other, &signaling, "room", "eve", &[], &mut random).await;
    node.stop().await;
}

/// Whether a client's check is answered.
async fn is_heard(socket: &UdpSocket, (_, wire, remote): &(Session, Wire, Remote)) -> bool {
    let own = &wire.local().ufrag;
    let check = check::request(own, &remote.ufrag, &remote.password, false);
    socket.send_to(&check, remote.candidates[0]).await.unwrap();
    let answer = answer(socket, SOON).await;
    answer.is_some_and(|answer| check::is_success(&answer))
}

/// The next datagram, if one comes in time.
async fn answer(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 2048];
    let received = tokio::time::timeout(within, socket.recv_from(&mut buffer)).await;
    let (len, _) = received.ok()?.unwrap();
    buffer.truncate(len);
    Some(buffer)
}
