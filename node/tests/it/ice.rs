//! Paths: whom the node answers, where it sends, and how both change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pipemesh_node_media::srtp::Profile;
use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};
use rand::RngCore;
use rtc::stun::message::{BINDING_SUCCESS, Message, MessageType};
use tokio::net::UdpSocket;

use crate::support::call::Call;
use crate::support::control::{Session, Signaling, camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::{self, Remote, Section};
use crate::support::subscriber::Subscriber;
use crate::support::wire::{Wire, check};
use crate::support::{random, recording, until, within};

const TRACK: &str = "TR_ann";
const PROFILE: Profile = Profile::AeadAes128Gcm;

#[tokio::test]
async fn media_follows_to_a_new_address() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;
    for publishers in [false, true, false] {
        let mover = match publishers {
            true => &mut call.ann.wire,
            false => &mut call.bob.wire,
        };
        let (before, consents) = (mover.address(), mover.received().consents);
        mover.change_port().await;
        assert_ne!(mover.address(), before);
        mover.answered_since(consents).await;
        call.goes_on().await;
    }
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn a_reloaded_page_comes_from_the_same_address() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let Call { mut ann, bob, .. } = Call::begin(&signaling, "room", &mut random).await;
    // The page is gone without a word; its session is not.
    let Subscriber { session, wire } = bob;
    let address = wire.address();
    drop(wire);
    let socket = until("the port is free", || {
        std::net::UdpSocket::bind(address).ok()
    })
    .await;
    socket.set_nonblocking(true).unwrap();
    let wire = Wire::over(UdpSocket::from_std(socket).unwrap(), PROFILE);
    let mut reloaded = Subscriber::join_over(wire, &signaling, "room", "bob-again").await;
    let stream = reloaded.subscribe(TRACK, layers(0)).await;
    ann.send_frames(true);
    reloaded.frame(stream.ssrc, 0, 1).await;
    drop(session);
    ann.send_frames(false);
    reloaded.frame(stream.ssrc, 0, 2).await;
    recording::check(&reloaded.recorded(stream.ssrc));
    node.stop().await;
}

/// A client that has negotiated and checked nothing yet: its session, its wire, and what the node said.
async fn unconnected(signaling: &Signaling) -> (Session, Wire, Remote) {
    let open = participant("eve", "room", ConnectionLayout::Single);
    let mut session = signaling.open(open).await;
    let eve = Wire::new().await;
    session.add_track(camera("TR_eve", "camera")).await;
    let offer = sdp::offer(eve.local(), &[Section::camera("camera", &[])]);
    let remote = sdp::remote(&session.offer(&offer).await.sdp);
    (session, eve, remote)
}

#[tokio::test]
async fn an_address_is_not_lost_to_who_only_claims_it() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;
    // Eve has a session of her own; her checks come from where others are.
    let (_session, eve, remote) = unconnected(&signaling).await;
    let claim = check::request(&eve.local().ufrag, &remote.ufrag, &remote.password, true);
    for _ in 0..20 {
        for victim in [&call.ann.wire, &call.bob.wire] {
            victim.send_raw(claim.clone());
            victim.flush().await;
        }
        // Nobody has to check the address again.
        call.goes_on().await;
    }
    call.check();
    node.stop().await;
}

/// … and who has not proved his own yet joins nevertheless.
#[tokio::test]
async fn an_address_is_not_kept_from_who_is_there() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let (_session, eve, remote) = unconnected(&signaling).await;
    let claim = check::request(&eve.local().ufrag, &remote.ufrag, &remote.password, true);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let claims = socket.try_clone().unwrap();
    let claim = || claims.send_to(&claim, remote.candidates[0]);
    // She is there first.
    claim().unwrap();
    node.until_metric("pipemesh_paths", &[], |paths| paths == 1.0)
        .await;
    let open = participant("bob", "room", ConnectionLayout::Dual);
    let session = signaling.open(open).await;
    let wire = Wire::over(UdpSocket::from_std(socket).unwrap(), PROFILE);
    let mut bob = Subscriber { session, wire };
    let offer = bob.session.next_offer().await;
    bob.wire.connect(sdp::remote(&offer.sdp));
    // His checks are there before his description, and she goes on.
    let mut pause = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..500 {
        pause.tick().await;
        let _ = claim();
    }
    let answer = sdp::answer(bob.wire.local(), &offer.sdp);
    bob.session.accept(offer.offer_id, answer).await;
    loop {
        tokio::select! {
            () = bob.wire.connected() => break,
            _ = pause.tick() => drop(claim()),
        }
    }
    bob.connected().await;
    node.stop().await;
}

/// Bob has the password, and can write another address into what he sends: the node's answers go there,
/// and media does not.
#[tokio::test]
async fn media_does_not_go_where_nobody_answers() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let open = participant("bob", "room", ConnectionLayout::Dual);
    let session = signaling.open(open).await;
    let wire = Wire::new().await;
    let ufrag = wire.local().ufrag.clone();
    let mut bob = Subscriber { session, wire };
    let remote = sdp::remote(&bob.negotiate().await.sdp);
    bob.wire.connect(remote.clone());
    bob.connected().await;
    let mut call = Call::between(ann, bob).await;
    let victim = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (mut sent, mut received) = (0, 0);
    let mut buffer = [0; 2048];
    for _ in 0..100 {
        let claim = check::request(&ufrag, &remote.ufrag, &remote.password, true);
        // What a client repeats of its handshake is not answered there either.
        for datagram in [claim, vec![22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 0]] {
            sent += datagram.len();
            let to = remote.candidates[0];
            victim.send_to(&datagram, to).await.unwrap();
        }
        // Bob still gets what is sent to him, where he is.
        call.goes_on().await;
        while let Ok((len, _)) = victim.try_recv_from(&mut buffer) {
            assert!(buffer[0] < 4, "nothing but STUN: {:02x?}", &buffer[..len]);
            received += len;
        }
        assert!(received <= sent, "{received} bytes for {sent}");
    }
    assert!(received > 0);
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn ipv6_carries_media() {
    let node = TestNode::with(|config| config.media.bind.push(Ipv6Addr::LOCALHOST.into())).await;
    let signaling = node.signaling().await;
    let mut random = random();
    let ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let open = participant("bob", "room", ConnectionLayout::Dual);
    let session = signaling.open(open).await;
    let wire = Wire::with(Ipv6Addr::LOCALHOST.into(), PROFILE).await;
    let mut bob = Subscriber { session, wire };
    let offer = bob.negotiate().await;
    let mut remote = sdp::remote(&offer.sdp);
    assert_eq!(remote.candidates.len(), 2, "{remote:?}");
    remote.candidates.retain(SocketAddr::is_ipv6);
    bob.wire.connect(remote);
    bob.connected().await;
    Call::between(ann, bob).await.check();
    node.stop().await;
}

#[tokio::test]
async fn strangers_get_nothing() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    // Somebody else on the path who has seen everything but the password.
    let (_session, eve, remote) = unconnected(&signaling).await;
    let Remote {
        ufrag, password, ..
    } = &remote;
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own = &eve.local().ufrag;
    let mut sent = vec![
        check::request(own, ufrag, "not the password of anybody", true),
        check::request(own, "nobodys", password, true),
        // A DTLS record, RTP and RTCP, from an address that has proved nothing.
        vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0],
        vec![0x80, 200, 0, 6, 0, 0, 0x10, 0],
    ];
    for len in [0, 1, 20, 200, 1400] {
        let mut noise = vec![0; len];
        random.fill_bytes(&mut noise);
        sent.push(noise);
    }
    for datagram in &sent {
        stranger
            .send_to(datagram, remote.candidates[0])
            .await
            .unwrap();
    }
    // What is checked with the password is answered, and with it everything else has been.
    let honest = check::request(own, ufrag, password, false);
    stranger
        .send_to(&honest, remote.candidates[0])
        .await
        .unwrap();
    let success: MessageType = BINDING_SUCCESS;
    let mut buffer = [0; 2048];
    loop {
        let received = within("an answer", stranger.recv_from(&mut buffer)).await;
        let (len, from) = received.unwrap();
        assert_eq!(from, remote.candidates[0]);
        let answer = read(&buffer[..len]).expect("nothing but answers to checks");
        let is_its = |asked: &Message| asked.transaction_id == answer.transaction_id;
        let mut checks = sent.iter().chain([&honest]);
        let check = checks.find(|datagram| read(datagram).as_ref().is_some_and(is_its));
        let check = check.expect("nothing that was not asked for");
        assert!(len <= check.len(), "{len} bytes for {}", check.len());
        if *check == honest {
            assert_eq!(answer.typ, success);
            break;
        }
        assert_ne!(answer.typ, success, "for a check without the password");
    }
    drop(ann);
    node.stop().await;
}

fn read(datagram: &[u8]) -> Option<Message> {
    let mut message = Message::new();
    let read = message.unmarshal_binary(datagram);
    read.is_ok().then_some(message)
}

#[tokio::test]
async fn ice_restarts_on_either_side() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;

    // The client restarts by its offer, from another network.
    let ann = &mut call.ann;
    ann.wire.restart();
    ann.wire.change_port().await;
    let consents = ann.wire.received().consents;
    ann.offer().await;
    ann.wire.answered_since(consents).await;
    call.goes_on().await;

    // Signaling restarts the other connection.
    call.bob.restart_ice().await;
    call.goes_on().await;
    call.check();
    node.stop().await;
}

/// Slow because consent lasts half a minute.
#[tokio::test]
async fn who_was_away_goes_on_with_the_next_number() {
    const CONSENT: Duration = Duration::from_secs(30);
    const FRAMES: u32 = 50;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    // Stays, and shows how far the node is.
    let mut eve = Subscriber::join(&signaling, "room", "eve").await;
    let stream = bob.subscribe(TRACK, layers(0)).await;
    let steady = eve.subscribe(TRACK, layers(0)).await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, 0).await;
    bob.wire.fall_silent();
    tokio::time::sleep(CONSENT - Duration::from_secs(5)).await;
    let (role, failed) = (ConnectionRole::Subscriber, ConnectionState::Failed);
    bob.session.connection(role, failed).await;
    let before = bob.wire.received().rtp.len();
    for frame in 1..=FRAMES {
        ann.send_frames(true);
        eve.frame(steady.ssrc, 0, frame).await;
    }
    assert_eq!(bob.wire.received().rtp.len(), before, "without consent");
    bob.change_port().await;
    signaling.settle("room").await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, FRAMES + 1).await;
    // A receiver that missed half a cycle of numbers would be deaf: none were drawn meanwhile.
    let recorded = bob.recorded(stream.ssrc);
    for pair in recorded.windows(2) {
        assert_eq!(pair[0].index + 1, pair[1].index, "{pair:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn every_profile_of_srtp_carries_media() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let profiles = [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80];
    for (number, profile) in profiles.into_iter().enumerate() {
        let wire = Wire::with(localhost, profile).await;
        let name = format!("viewer{number}");
        let mut viewer = Subscriber::join_over(wire, &signaling, "room", &name).await;
        let stream = viewer.subscribe(TRACK, layers(0)).await;
        ann.send_frames(true);
        viewer.frame(stream.ssrc, 0, number as u32).await;
    }
    node.stop().await;
}
