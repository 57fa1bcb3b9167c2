//! What a publisher is told of its way to the node: what arrived and when, or an estimate made of that, as it
//! has negotiated.

use std::time::{Duration, Instant};

use pipemesh_node_core::bandwidth::feedback::{Feedback, Status};
use pipemesh_node_core::rtcp::{Message, Messages};

use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::random;
use crate::support::sdp::{Reports, extension};
use crate::support::wire::{Received, Wire};
use crate::support::within;

/// A packet in each of these: about 1.6 Mbit/s.
const PACKET_EVERY: Duration = Duration::from_millis(5);
const SIZE: usize = 900;

async fn publisher(node: &TestNode, reports: Reports) -> Publisher {
    let signaling = node.signaling().await;
    let wire = Wire::reporting(reports).await;
    let mut ann = Publisher::join_over(wire, &signaling, "room", "ann", &[], &mut random()).await;
    ann.fill(SIZE);
    ann
}

/// Sends the camera's packets, each with one more header extension, until something is so.
async fn send_until(
    ann: &mut Publisher,
    what: &str,
    mut extension: impl FnMut() -> (u8, Vec<u8>),
    is_so: impl Fn(&Received) -> bool,
) {
    let mut pace = tokio::time::interval(PACKET_EVERY);
    let mut key = true;
    let sending = async {
        while !is_so(&ann.wire.received()) {
            ann.advance();
            for packet in ann.make_frame(0, std::mem::take(&mut key)) {
                pace.tick().await;
                let mut outgoing = ann.outgoing(0, packet);
                outgoing.extensions.push(extension());
                ann.wire.send(outgoing);
            }
        }
    };
    within(what, sending).await;
}

/// The estimates that came, with how many bytes the message of each has.
fn estimates(received: &Received) -> Vec<(u64, usize)> {
    let mut estimates = Vec::new();
    for packet in &received.rtcp {
        for message in Messages::new(&packet.compound) {
            if let Message::EstimatedMaximumBitrate { bits_per_second } = message {
                estimates.push((bits_per_second, packet.compound.len()));
            }
        }
    }
    estimates
}

/// The numbers that feedback says have arrived.
fn arrivals(received: &Received) -> Vec<u16> {
    let mut numbers = Vec::new();
    for packet in &received.rtcp {
        for message in Messages::new(&packet.compound) {
            if let Message::TransportFeedback { content } = message {
                let feedback = Feedback::parse(content).unwrap();
                numbers.extend(feedback.statuses().filter_map(|status| match status {
                    Status::Received { sequence, .. } => Some(sequence),
                    Status::Missing { .. } => None,
                }));
            }
        }
    }
    numbers
}

/// Seconds, 6.18 fixed point.
fn stamp(at: Duration) -> (u8, Vec<u8>) {
    let units = ((at.as_micros() << 18) / 1_000_000) as u32;
    (
        extension::ABSOLUTE_SEND_TIME,
        units.to_be_bytes()[1..].to_vec(),
    )
}

#[tokio::test]
async fn who_cannot_estimate_is_told_an_estimate() {
    let node = TestNode::start().await;
    let mut ann = publisher(&node, Reports::Estimates).await;
    // Close to a wrap.
    let offset = Duration::from_secs(63);
    let begun = Instant::now();
    // What comes as it was sent leaves room for more.
    let true_time = || stamp(offset + begun.elapsed());
    let allows_more = |received: &Received| {
        let told = estimates(received);
        told.last().is_some_and(|(rate, _)| *rate > 1_900_000)
    };
    send_until(&mut ann, "it is allowed more", true_time, allows_more).await;
    // Header, sender, "REMB", rate, and one source: its camera.
    let (_, len) = estimates(&ann.wire.received())[0];
    assert_eq!(len, 4 + 8 + 8 + 4);
    let media = Publisher::ssrc(0).to_be_bytes();
    let names_it = |received: &Received| {
        let mut messages = received.rtcp.iter().map(|packet| &packet.compound);
        messages.any(|compound| compound[12..16] == *b"REMB" && compound[20..] == media)
    };
    assert!(names_it(&ann.wire.received()));

    // What comes later and later was sent faster than the way carries it.
    let slowed = Instant::now();
    let queue = move || {
        let passed = slowed.elapsed();
        stamp(offset + (slowed - begun) + passed - passed / 3)
    };
    let calls_for_less = |received: &Received| {
        let told = estimates(received);
        told.last().is_some_and(|(rate, _)| *rate < 1_500_000)
    };
    send_until(&mut ann, "it is told to send less", queue, calls_for_less).await;
    assert_eq!(arrivals(&ann.wire.received()), [0; 0]);
    node.stop().await;
}

#[tokio::test]
async fn who_can_estimate_is_told_what_arrived() {
    const PACKETS: u16 = 200;
    let node = TestNode::start().await;
    let mut ann = publisher(&node, Reports::Arrivals).await;
    // Close to a wrap. Every tenth is lost.
    let first = u16::MAX - 50;
    let mut sent = 0;
    let number = || {
        let number = first.wrapping_add(sent + sent / 9);
        sent += 1;
        let number = number.to_be_bytes().to_vec();
        (extension::TRANSPORT_SEQUENCE, number)
    };
    let enough = |received: &Received| arrivals(received).len() >= usize::from(PACKETS);
    send_until(&mut ann, "it is told of enough", number, enough).await;
    let told = arrivals(&ann.wire.received());
    let expected = (0..told.len() as u16).map(|sent| first.wrapping_add(sent + sent / 9));
    let mut in_order = told.clone();
    in_order.sort_by_key(|number| number.wrapping_sub(first));
    assert_eq!(in_order, expected.collect::<Vec<_>>());
    assert_eq!(estimates(&ann.wire.received()), []);
    node.stop().await;
}
