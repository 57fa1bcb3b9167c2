//! Redundant audio (RFC 2198): who takes it gets it as it is, everybody else the newest frame in it.

use std::collections::BTreeMap;

use pipemesh_proto::node::{
    AddTrack, ConnectionLayout, ConnectionRole, ConnectionState, LayerWish, Open,
};

use crate::support::control::{microphone, participant};
use crate::support::node::TestNode;
use crate::support::sdp::{self, OPUS, RED, Section, extension};
use crate::support::subscriber::Subscriber;
use crate::support::wire::{Outgoing, Received, Wire};

const TRACK: &str = "TR_ann";
const FRAMES: usize = 40;

/// 20 ms of audio, unlike any other.
fn frame(number: usize) -> Vec<u8> {
    let len = 40 + number % 30;
    (0..len).map(|byte| (byte * 7 + number) as u8).collect()
}

/// A frame behind the one before it.
fn redundant(number: usize) -> Vec<u8> {
    const TICKS: u32 = 960;
    let (before, newest) = (frame(number - 1), frame(number));
    // Follows, payload type, 14 bits of time, 10 bits of length; then the newest's payload type.
    let block = TICKS << 10 | before.len() as u32;
    let [_, b1, b2, b3] = block.to_be_bytes();
    [&[0x80 | OPUS, b1, b2, b3, OPUS][..], &before, &newest].concat()
}

async fn listener(
    signaling: &crate::support::control::Signaling,
    name: &str,
    without_red: bool,
) -> Subscriber {
    let open = Open {
        without_red,
        ..participant(name, "room", ConnectionLayout::Dual)
    };
    Subscriber::join_as(Wire::new().await, signaling, open).await
}

/// (payload type, payload) by index, of a stream.
async fn heard(subscriber: &Subscriber, ssrc: u32) -> Vec<(u8, Vec<u8>)> {
    let look = |received: &Received| {
        let of_stream = received.rtp.iter().filter(|packet| packet.ssrc == ssrc);
        let packets: BTreeMap<u64, (u8, Vec<u8>)> = of_stream
            .map(|packet| (packet.index, (packet.payload_type, packet.payload.clone())))
            .collect();
        (packets.len() >= FRAMES).then_some(packets)
    };
    let what = format!("{FRAMES} packets of audio");
    let packets = subscriber.wire.until(&what, look).await;
    let (first, last) = (
        *packets.first_key_value().unwrap().0,
        *packets.last_key_value().unwrap().0,
    );
    assert_eq!(last - first + 1, packets.len() as u64, "a hole");
    packets.into_values().collect()
}

#[tokio::test]
async fn who_does_not_take_redundancy_gets_plain_opus() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = signaling
        .open(participant("ann", "room", ConnectionLayout::Single))
        .await;
    let announced = AddTrack {
        red: true,
        ..microphone(TRACK, "microphone")
    };
    ann.add_track(announced).await;
    let wire = Wire::new().await;
    let sections = [Section::redundant_microphone("microphone")];
    let answer = ann.offer(&sdp::offer(wire.local(), &sections)).await;
    wire.connect(sdp::remote(&answer.sdp));
    wire.connected().await;
    let (role, connected) = (ConnectionRole::Publisher, ConnectionState::Connected);
    ann.connection(role, connected).await;

    let mut takes = listener(&signaling, "ben", false).await;
    let mut takes_not = listener(&signaling, "cem", true).await;
    let with = takes.subscribe(TRACK, LayerWish::default()).await;
    let without = takes_not.subscribe(TRACK, LayerWish::default()).await;

    for number in 1..=FRAMES {
        wire.send(Outgoing {
            ssrc: 7,
            index: number as u64,
            payload_type: RED,
            timestamp: number as u32 * 960,
            extensions: vec![(extension::MID, b"0".to_vec())],
            payload: redundant(number),
            ..Outgoing::default()
        });
    }
    let with = heard(&takes, with.ssrc).await;
    let without = heard(&takes_not, without.ssrc).await;
    let (red, opus) = (with[0].0, without[0].0);
    assert_ne!(red, opus);
    for (place, number) in (1..=FRAMES).enumerate() {
        let (payload_type, payload) = &with[place];
        assert_eq!(*payload_type, red);
        let mut renamed = redundant(number);
        (renamed[0], renamed[4]) = (0x80 | opus, opus);
        assert_eq!(
            *payload, renamed,
            "the blocks inside are named as the receiver names them"
        );
        assert_eq!(
            without[place],
            (opus, frame(number)),
            "the newest frame alone"
        );
    }
}
