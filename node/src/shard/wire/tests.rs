use std::net::Ipv4Addr;
use std::time::Instant;

use pipemesh_node_core::router::{Gathered, LayerWish, Media, Router, Source};
use pipemesh_node_core::rtcp::{ArrivalLog, MAX_FEEDBACK_LEN};
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::track::{Size, TrackSpec};
use pipemesh_node_media::srtp::{MasterKey, Opener};
use pipemesh_node_media::udp::{Options, ReceiveBatch};

use super::shaping::SILENT_AFTER;
use super::*;
use crate::session::plan::Feedback;

const PAYLOAD_TYPE: u8 = 96;
const SSRC: u32 = 0x5151;
const REPAIR_TYPE: u8 = 97;
const REPAIR_SSRC: u32 = 0x5152;
const FIRST: u64 = 7;
const FIRST_REPAIR: u64 = 40;
/// The id of the transport-wide number.
const NUMBERED: u8 = 3;

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

/// One subscriber behind a real socket.
struct Stage {
    now: Instant,
    router: Router<u32, u32>,
    wire: Wire,
    receiver: UdpSocket,
    opener: Opener,
    source: Source,
    key: SubscriptionKey,
    sequence: u16,
    timestamp: u32,
}

/// A packet as the subscriber opens it.
struct Seen {
    header: Header,
    packet: Vec<u8>,
}

impl Seen {
    fn payload(&self) -> &[u8] {
        self.header.payload(&self.packet).unwrap()
    }

    fn is_padded(&self) -> bool {
        self.payload().len() + self.header.header_len() < self.packet.len()
    }

    /// Its transport-wide number.
    fn number(&self) -> Option<u16> {
        let value = self.header.extension(&self.packet, NUMBERED)?;
        Some(u16::from_be_bytes(value.try_into().unwrap()))
    }
}

impl Stage {
    fn new(extensions: Extensions) -> Self {
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
                encodings: 1,
                sizes: vec![Size::default()],
            },
            now,
        );
        let key = router
            .subscribe(track, LayerWish::default(), Codec::Vp8, FIRST, now)
            .unwrap();
        let mut wire = Wire::new(vec![sender]);
        let shaped = extensions.transport_sequence.is_some();
        *wire.link(0) = Link {
            destination: Some(Destination {
                socket: 0,
                addr: to,
            }),
            sealer: Some(Sealer::new(&master())),
            shaping: shaped.then(|| Box::new(Shaping::new(now))),
            ..Link::default()
        };
        let section = SendSection {
            mid: "0".into(),
            track: "TR_camera".parse().unwrap(),
            ssrc: SSRC,
            repair_ssrc: Some(REPAIR_SSRC),
            codecs: vec![PayloadType {
                codec: Codec::Vp8,
                number: PAYLOAD_TYPE,
                repair: Some(REPAIR_TYPE),
            }],
            extensions,
            feedback: Feedback {
                transport_wide: shaped,
                ..Feedback::default()
            },
        };
        wire.set_outgoing(key, Outgoing::new(0, &section, FIRST, FIRST_REPAIR));
        Self {
            now,
            router,
            wire,
            receiver,
            opener: Opener::new(&master(), 4),
            source: Source { track, encoding: 0 },
            key,
            sequence: 9,
            timestamp: 5,
        }
    }

    /// On a line whose client gives transport-wide feedback.
    fn numbered() -> Self {
        Self::new(Extensions {
            transport_sequence: Some(NUMBERED),
            ..Extensions::default()
        })
    }

    /// The publisher sends a frame.
    fn publish(&mut self, payloads: &[Vec<u8>]) {
        for (place, payload) in payloads.iter().enumerate() {
            let mut packet = vec![0; 12];
            let header = OutgoingHeader {
                padding: false,
                marker: place + 1 == payloads.len(),
                payload_type: 100,
                sequence: self.sequence,
                timestamp: self.timestamp,
                ssrc: 1,
            };
            self.sequence += 1;
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
            let gathered = self.router.handle_media(self.source, media, self.now);
            if gathered == Ok(Gathered::Full) {
                self.forward();
            }
        }
        self.timestamp += 3000;
        self.forward();
    }

    fn forward(&mut self) {
        let Self {
            router, wire, now, ..
        } = self;
        router
            .forward(*now, |burst| {
                wire.forward(burst, &Extensions::default(), *now)
            })
            .unwrap();
    }

    /// Sends what waits and may leave, as the shard does.
    fn drain(&mut self) {
        loop {
            let shaping = self.wire.link(0).shaping.as_mut().unwrap();
            let Some(waiting) = shaping.poll_admitted(self.now) else {
                return;
            };
            let found = self.router.waiting_packet(
                waiting.subscription,
                waiting.encoding,
                waiting.sequence,
            );
            let (_, packet) = found.unwrap();
            let header = Header::parse(packet).unwrap();
            let extensions = Extensions::default();
            let outbound =
                Outbound::new(waiting.codec, &header, packet, None, None, &extensions).unwrap();
            self.wire
                .send_waiting(&waiting, &outbound, self.now)
                .unwrap();
        }
    }

    fn passes(&mut self, millis: u64) {
        self.now += std::time::Duration::from_millis(millis);
    }

    /// What has arrived since the last look, opened: no number comes twice, or it would not open.
    fn received(&mut self) -> Vec<Seen> {
        let _ = self.wire.flush();
        let mut batch = ReceiveBatch::new();
        let mut seen = Vec::new();
        while self.receiver.receive(&mut batch).unwrap() > 0 {
            for (_, datagram) in batch.datagrams() {
                let header = Header::parse(datagram).unwrap();
                let opened = self.opener.open_rtp(datagram, header.header_len());
                let packet = datagram[..opened.unwrap().len].to_vec();
                seen.push(Seen { header, packet });
            }
        }
        seen
    }
}

/// Sends a frame to one subscriber: (messages, what arrived and was opened).
fn send(payloads: &[Vec<u8>]) -> (u64, Vec<(bool, Vec<u8>)>) {
    let mut stage = Stage::new(Extensions::default());
    stage.publish(payloads);
    let received = stage.received().into_iter().map(|seen| {
        let header = seen.header;
        assert_eq!((header.payload_type, header.ssrc), (PAYLOAD_TYPE, SSRC));
        (seen.is_padded(), seen.payload().to_vec())
    });
    let received = received.collect();
    (stage.wire.stats().messages, received)
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

#[test]
fn everything_is_numbered_in_the_order_of_sending() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[500, 500]));
    assert!(stage.wire.pad(0, 500, stage.now));
    stage.publish(&frame(&[500]));
    let received = stage.received();
    let numbers: Vec<u16> = received.iter().filter_map(Seen::number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    // Padding: the retransmission stream, numbers of its own, nothing in it.
    let padding: Vec<&Seen> = received
        .iter()
        .filter(|seen| seen.header.ssrc == REPAIR_SSRC)
        .collect();
    let sequences: Vec<u16> = padding.iter().map(|seen| seen.header.sequence).collect();
    assert_eq!(sequences, [FIRST_REPAIR as u16, FIRST_REPAIR as u16 + 1]);
    for seen in padding {
        assert!(seen.is_padded() && seen.payload().is_empty());
        assert_eq!(seen.header.payload_type, REPAIR_TYPE);
    }
    assert_eq!(stage.wire.paced.padding, 2);
}

#[test]
fn who_reports_nothing_is_sent_everything_unnumbered() {
    let mut stage = Stage::new(Extensions::default());
    stage.publish(&frame(&[1000; 60]));
    let received = stage.received();
    assert_eq!(received.len(), 60);
    assert!(received.iter().all(|seen| seen.number().is_none()));
    assert!(!stage.wire.pad(0, 600, stage.now));
    assert_eq!(stage.received().len(), 0, "nobody would count it");
}

#[test]
fn what_is_above_the_budget_waits_and_comes_in_order() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[1000; 60]));
    let mut sequences: Vec<u16> = Vec::new();
    let mut rounds = 0;
    while sequences.len() < 60 {
        let received = stage.received();
        sequences.extend(received.iter().map(|seen| seen.header.sequence));
        stage.passes(5);
        stage.drain();
        rounds += 1;
        assert!(rounds < 1000, "{} came", sequences.len());
    }
    let expected: Vec<u16> = (0..60).map(|place| FIRST as u16 + place).collect();
    assert_eq!(sequences, expected);
    // 60 KB at two and a half times the first estimate.
    assert!((20..100).contains(&rounds), "{rounds} times 5 ms");
    assert!(stage.wire.paced.delayed > 20);
    assert_eq!(stage.wire.poll_delayed(), Some(0));
    assert_eq!(stage.wire.poll_delayed(), None);
}

#[test]
fn a_first_guess_delays_nobody_for_long() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[1000; 60]));
    let mut arrived = stage.received().len();
    // Of the first packet it is told that it came, which says nothing of the rate.
    let mut arrivals = ArrivalLog::new(stage.now);
    arrivals.handle_arrival(0, stage.now);
    let mut feedback = [0; MAX_FEEDBACK_LEN];
    let len = arrivals.feedback(&mut feedback);
    let now = stage.now;
    let shaping = stage.wire.link(0).shaping.as_mut().unwrap();
    let estimate = shaping.bandwidth.estimate();
    shaping
        .bandwidth
        .handle_feedback(&feedback[..len], now)
        .unwrap();
    assert_eq!(shaping.bandwidth.estimate(), estimate);
    let mut millis = 0;
    while arrived < 60 {
        stage.passes(5);
        millis += 5;
        stage.drain();
        arrived += stage.received().len();
    }
    // Half as much again at two and a half times the estimate.
    assert_eq!(millis, 100);
}

#[test]
fn what_finds_no_place_is_taken_back_and_its_numbers_are_used_again() {
    let mut stage = Stage::numbered();
    for _ in 0..10 {
        stage.publish(&frame(&[1000; 60]));
    }
    let shaping = stage.wire.link(0).shaping.as_mut().unwrap();
    assert_eq!(shaping.poll_overflowed(), Some(stage.key));
    assert_eq!(shaping.poll_overflowed(), None, "said once");
    let (dropped, next) = stage.wire.withdraw(stage.key).unwrap();
    assert!(dropped > 100, "{dropped}");
    stage.router.rewind(stage.key, next, stage.now);
    // The frame that was under way is finished; then it goes on with a key frame.
    let mut sequences = Vec::new();
    for round in 0..200 {
        let received = stage.received();
        sequences.extend(received.iter().map(|seen| seen.header.sequence));
        stage.passes(5);
        stage.drain();
        if round == 150 {
            stage.publish(&frame(&[1000, 1000]));
        }
    }
    let expected: Vec<u16> = (0..62).map(|place| FIRST as u16 + place).collect();
    assert_eq!(sequences, expected, "no hole, and no number twice");
}

#[test]
fn who_negotiates_reports_and_gives_none_is_sent_everything_soon() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[1000]));
    let now = stage.now;
    let shaping = stage.wire.link(0).shaping.as_mut().unwrap();
    assert!(!shaping.note_silence(now + SILENT_AFTER / 2) && shaping.is_limiting());
    assert!(shaping.note_silence(now + SILENT_AFTER) && !shaping.is_limiting());
    stage.passes(SILENT_AFTER.as_millis() as u64);
    assert_eq!(stage.received().len(), 1);
    stage.publish(&frame(&[1000; 60]));
    assert_eq!(stage.received().len(), 60);
    assert_eq!(stage.wire.paced.delayed, 0);
    // It was slow.
    let shaping = stage.wire.link(0).shaping.as_mut().unwrap();
    shaping.note_report();
    assert!(shaping.is_limiting());
}
