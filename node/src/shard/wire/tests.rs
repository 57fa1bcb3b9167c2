use std::net::Ipv4Addr;
use std::time::Instant;

use pipemesh_node_core::router::{Gathered, LayerWish, Media, Router, Source};
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::track::{Size, TrackSpec};
use pipemesh_node_media::srtp::{MasterKey, Opener};
use pipemesh_node_media::udp::{Options, ReceiveBatch};

use super::*;
use crate::session::plan::Feedback;

const PAYLOAD_TYPE: u8 = 96;
const SSRC: u32 = 0x5151;

fn master() -> MasterKey {
    MasterKey::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap()
}

fn bind() -> UdpSocket {
    let options = Options {
        receive_buffer: 1 << 18,
        send_buffer: 1 << 18,
    };
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap()
}

/// The payloads of a VP8 frame, as lengths; the first one begins a key frame.
fn frame(lens: &[usize]) -> Vec<Vec<u8>> {
    let payloads = lens.iter().enumerate().map(|(place, len)| {
        let mut payload = vec![if place == 0 { 0x10 } else { 0 }, 0];
        payload.resize(*len, place as u8);
        payload
    });
    payloads.collect()
}

/// Sends a frame to one subscriber through a real socket: (messages, what arrived and was opened).
fn send(payloads: &[Vec<u8>]) -> (u64, Vec<(bool, Vec<u8>)>) {
    let (sender, receiver) = (bind(), bind());
    let to = receiver.local_addr();
    let now = Instant::now();
    let mut router: Router<u32, u32> = Router::new(now);
    let track = router.publish(
        TrackSpec {
            room: 1,
            participant: 1,
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            sizes: vec![Size::default()],
        },
        now,
    );
    let key = router
        .subscribe(track, LayerWish::default(), Codec::Vp8, 7, now)
        .unwrap();
    let mut wire = Wire::new(vec![sender]);
    *wire.link(0) = Link {
        destination: Some(Destination {
            socket: 0,
            addr: to,
        }),
        sealer: Some(Sealer::new(&master())),
        ..Link::default()
    };
    let section = SendSection {
        mid: "0".into(),
        track: "TR_camera".parse().unwrap(),
        ssrc: SSRC,
        repair_ssrc: None,
        codecs: vec![PayloadType {
            codec: Codec::Vp8,
            number: PAYLOAD_TYPE,
            repair: None,
        }],
        extensions: Extensions::default(),
        feedback: Feedback::default(),
    };
    wire.set_outgoing(key, Outgoing::new(0, &section, 0));

    for (place, payload) in payloads.iter().enumerate() {
        let mut packet = vec![0; 12];
        let header = OutgoingHeader {
            padding: false,
            marker: place + 1 == payloads.len(),
            payload_type: 100,
            sequence: 9 + place as u16,
            timestamp: 5,
            ssrc: 1,
        };
        HeaderWriter::new(&mut packet, header).unwrap();
        packet.extend(payload);
        let media = Media {
            codec: Codec::Vp8,
            header: Header::parse(&packet).unwrap(),
            packet: &packet,
            audio_level: None,
            dependency: None,
            repaired: false,
        };
        let source = Source { track, encoding: 0 };
        assert_eq!(router.handle_media(source, media, now), Ok(Gathered::Open));
    }
    router
        .forward(now, |burst| wire.forward(burst, &Extensions::default()))
        .unwrap();
    let _ = wire.flush();

    let mut opener = Opener::new(&master(), 4);
    let mut batch = ReceiveBatch::new();
    receiver.receive(&mut batch).unwrap();
    let received = batch.datagrams().map(|(_, datagram)| {
        let header = Header::parse(datagram).unwrap();
        assert_eq!((header.payload_type, header.ssrc), (PAYLOAD_TYPE, SSRC));
        let len = opener.open_rtp(datagram, header.header_len()).unwrap().len;
        let packet = &datagram[..len];
        let payload = header.payload(packet).unwrap().to_vec();
        (payload.len() + header.header_len() < len, payload)
    });
    let received = received.collect();
    (wire.stats().messages, received)
}

#[test]
fn a_frame_of_packets_that_differ_by_a_byte_is_one_message() {
    let payloads = frame(&[1000, 1000, 1000, 1001, 1001]);
    let (messages, received) = send(&payloads);
    assert_eq!(messages, 1);
    let (padded, received): (Vec<bool>, Vec<_>) = received.into_iter().unzip();
    assert_eq!(received, payloads, "a decoder sees what the publisher sent");
    assert_eq!(padded, [true, true, true, false, false]);
}

#[test]
fn what_differs_by_more_is_sent_as_it_is() {
    let payloads = frame(&[1000, 1100]);
    let (messages, received) = send(&payloads);
    assert_eq!(messages, 2);
    assert!(received.iter().all(|(padded, _)| !padded));
    assert_eq!(received[1].1, payloads[1]);
}
