//! What goes nowhere is counted by reason, and nobody takes it for loss.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

use crate::support::call::Call;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::extension;
use crate::support::wire::Outgoing;
use crate::support::{random, recording};

const DROPPED: &str = "pipemesh_packets_dropped_total";

#[tokio::test]
async fn what_a_publisher_may_not_send_is_not_missed() {
    /// Longer than any path lets through; loopback does.
    const TOO_LONG: usize = 1500;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;
    for round in 0..20 {
        call.ann.advance();
        let mut packets = call.ann.make_frame(0, false);
        let torn = packets.pop().expect("a frame has packets");
        packets
            .into_iter()
            .for_each(|packet| call.ann.send(0, packet));
        if round % 2 == 0 {
            let mut payload = torn.payload;
            payload.resize(TOO_LONG, 0);
            call.ann
                .send(0, crate::support::camera::Packet { payload, ..torn });
        } else {
            call.ann.wire.send(Outgoing {
                ssrc: Publisher::ssrc(0),
                index: torn.index,
                payload_type: 99,
                timestamp: torn.timestamp,
                extensions: vec![(extension::MID, b"0".to_vec())],
                payload: torn.payload,
                ..Outgoing::default()
            });
        }
        call.frames += 1;
        // What follows is of no use before a key frame.
        call.ann.send_frames(false);
        call.frames += 1;
        call.ann.send_frames(true);
        call.bob.frame(call.stream.ssrc, 0, call.frames).await;
        call.frames += 1;
    }
    for reason in ["limit", "unknown_payload_type"] {
        node.until_metric(DROPPED, &[("reason", reason)], |n| n == 10.0)
            .await;
    }
    recording::check(&call.bob.recorded(call.stream.ssrc));
    let asked = node.metric("pipemesh_rtcp_requests_total", &[("kind", "nack_out")]);
    assert_eq!(asked, 0.0, "nobody asks for what was refused");
    node.stop().await;
}

#[tokio::test]
async fn what_clients_ask_for_in_vain_is_counted_by_reason() {
    const NOBODYS: u32 = 0xdead;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "room", &mut random).await;
    let (bob, ssrc) = (&call.bob, call.stream.ssrc);
    let sent = bob.recorded(ssrc);
    let sent = sent.last().expect("a frame has come").index as u16;
    bob.wire.send_rtcp(|writer| {
        writer.nack(1, NOBODYS, &[1, 2, 3]);
        writer.picture_loss(1, NOBODYS);
        // The first time it is sent, the second time it has just been.
        writer.nack(1, ssrc, &[sent]);
        writer.nack(1, ssrc, &[sent]);
        // Never sent.
        writer.nack(1, ssrc, &[sent.wrapping_add(1000), sent.wrapping_add(1001)]);
    });
    // A report that claims to be longer than the packet.
    bob.wire.send_sealed_rtcp(vec![0x80, 201, 0, 9, 0, 0, 0, 1]);
    bob.wire.flush().await;
    for (reason, times) in [
        ("unknown_source", 4.0),
        ("limit", 1.0),
        ("not_kept", 2.0),
        ("malformed", 1.0),
    ] {
        let labels = [("reason", reason)];
        node.until_metric("pipemesh_rtcp_ignored_total", &labels, |n| n == times)
            .await;
    }
    call.goes_on().await;
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn datagrams_that_hold_nothing_are_counted() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let call = Call::begin(&signaling, "room", &mut random).await;
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = call.ann.remote().candidates[0];
    stranger.send_to(&[], to).await.unwrap();
    let empty = [("reason", "empty")];
    node.until_metric("pipemesh_udp_receive_drops_total", &empty, |n| n == 1.0)
        .await;
    node.stop().await;
}
