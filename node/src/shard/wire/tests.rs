use std::net::Ipv4Addr;
use std::time::Instant;

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::codec::ids::Shift;
use pipemesh_node_core::layer::Limit;
use pipemesh_node_core::router::{Gathered, LayerWish, Media, Output, Router, Source};
use pipemesh_node_core::rtcp::{ArrivalLog, MAX_FEEDBACK_LEN};
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};
use pipemesh_node_media::srtp::{MasterKey, Opener, Profile};
use pipemesh_node_media::udp::{Options, ReceiveBatch};

use super::shaping::SILENT_AFTER;
use super::*;
use crate::session::plan::{Feedback, PayloadType, SendSection};

const PAYLOAD_TYPE: u8 = 96;
const OPUS: u8 = 111;
const RED: u8 = 63;
const SSRC: u32 = 0x5151;
const REPAIR_TYPE: u8 = 97;
const REPAIR_SSRC: u32 = 0x5152;
const FIRST: u64 = 7;
const FIRST_REPAIR: u64 = 40;
/// The id of the transport-wide number.
const NUMBERED: u8 = 3;
/// That of the capture time, which goes on with a packet.
const CAPTURED: u8 = 5;
/// Fills a datagram, if its header is no longer than usual.
const LONGEST: usize = MAX_DATAGRAM_LEN - Profile::MAX_OVERHEAD - 20;

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

/// The same for a frame that refers to those before it.
fn delta(lens: &[usize]) -> Vec<Vec<u8>> {
    let mut payloads = frame(lens);
    // The first bit of the frame's header (RFC 6386 section 9.1).
    payloads[0][1] = 1;
    payloads
}

/// A voice; redundant (RFC 2198), with the block before.
fn voice(codec: Codec, place: u8) -> Vec<Vec<u8>> {
    const BLOCK_LEN: usize = 60;
    let block = [place; BLOCK_LEN];
    let payload = match codec {
        Codec::Red => {
            let headers = [0x80 | 100, 0, 0, BLOCK_LEN as u8, 100];
            [&headers[..], &[place.wrapping_sub(1); BLOCK_LEN], &block].concat()
        }
        _ => block.to_vec(),
    };
    vec![payload]
}

/// What a subscriber has negotiated for a track.
fn section(codec: Codec, taken: &[PayloadType], extensions: Extensions) -> SendSection {
    let numbered = extensions.transport_sequence;
    SendSection {
        mid: "0".into(),
        track: "TR_camera".parse().unwrap(),
        ssrc: SSRC,
        repair_ssrc: codec.is_video().then_some(REPAIR_SSRC),
        codecs: taken.to_vec(),
        extensions,
        feedback: Feedback {
            nack: true,
            transport_wide: numbered.or(extensions.absolute_send_time).is_some(),
            ..Feedback::default()
        },
    }
}

/// One subscriber behind a real socket.
struct Stage {
    codec: Codec,
    now: Instant,
    router: Router<u32, u32>,
    wire: Wire,
    receiver: UdpSocket,
    opener: Opener,
    source: Source,
    key: SubscriptionKey,
    sequence: u16,
    timestamp: u32,
    /// What the publisher's packets carry.
    carried: Extensions,
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
        let camera = PayloadType {
            codec: Codec::Vp8,
            number: PAYLOAD_TYPE,
            repair: Some(REPAIR_TYPE),
        };
        Self::of(Codec::Vp8, &[camera], extensions)
    }

    /// A track of a codec, and what its subscriber takes.
    fn of(codec: Codec, taken: &[PayloadType], extensions: Extensions) -> Self {
        let (sender, receiver) = (bind(), bind());
        let to = receiver.local_addr();
        let now = Instant::now();
        let mut router: Router<u32, u32> = Router::new(now);
        let track = router.publish(
            TrackSpec {
                room: 1,
                participant: 1,
                is_video: codec.is_video(),
                speaks: false,
                nack: true,
                muted: false,
                encodings: 1,
                sizes: vec![Size::default()],
            },
            now,
        );
        let key = router
            .subscribe(track, LayerWish::default(), codec, FIRST, now)
            .unwrap();
        let mut wire = Wire::new(vec![sender]);
        let shaped = extensions
            .transport_sequence
            .or(extensions.absolute_send_time);
        let shaped = shaped.is_some();
        *wire.link(0) = Link {
            destination: Some(Destination {
                socket: 0,
                addr: to,
            }),
            sealer: Some(Sealer::new(&master())),
            shaping: shaped.then(|| Box::new(Shaping::new(now))),
            ..Link::default()
        };
        let section = section(codec, taken, extensions);
        wire.set_outgoing(key, Outgoing::new(0, &section, FIRST, FIRST_REPAIR));
        Self {
            codec,
            now,
            router,
            wire,
            receiver,
            opener: Opener::new(&master(), 4),
            source: Source { track, encoding: 0 },
            key,
            sequence: 9,
            timestamp: 5,
            carried: Extensions {
                absolute_capture_time: extensions.absolute_capture_time,
                ..Extensions::default()
            },
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
            packet.resize(64, 0);
            let mut writer = HeaderWriter::new(&mut packet, header).unwrap();
            if let Some(id) = self.carried.absolute_capture_time {
                writer.extension(id, &[7; 8], false);
            }
            let header_len = writer.finish().unwrap();
            packet.truncate(header_len);
            packet.extend(payload);
            let media = Media {
                codec: self.codec,
                header: Header::parse(&packet).unwrap(),
                packet: &packet,
                audio_level: None,
                dependency: None,
                repaired: false,
                in_place: false,
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
            router,
            wire,
            now,
            carried,
            ..
        } = self;
        router
            .forward(*now, |burst| wire.forward(burst, carried, *now))
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
            let Some((_, packet)) = found else {
                if let Some((_, next)) = self.wire.give_up(&waiting) {
                    self.router.rewind(waiting.subscription, next, self.now);
                }
                continue;
            };
            let header = Header::parse(packet).unwrap();
            let extensions = Extensions::default();
            let mut outbound =
                Outbound::new(waiting.codec, &header, packet, None, None, &extensions).unwrap();
            self.wire
                .send_waiting(&waiting, &mut outbound, self.now)
                .unwrap();
        }
    }

    /// Everything that waits leaves in time; answers the numbers of what has arrived since.
    fn drained(&mut self) -> Vec<u16> {
        let mut sequences = Vec::new();
        for _ in 0..300 {
            sequences.extend(self.received().iter().map(|seen| seen.header.sequence));
            self.passes(5);
            self.drain();
        }
        let shaping = self.wire.link(0).shaping.as_ref();
        assert!(shaping.is_none_or(|shaping| !shaping.has_waiting()));
        sequences
    }

    /// A client asks for packets again, by their numbers.
    fn asks_for(&mut self, sequences: &[u16]) -> Vec<Result<(), DropReason>> {
        let round_trip = std::time::Duration::from_millis(10);
        let repairs = sequences.iter().map(|sequence| {
            let (router, now) = (&mut self.router, self.now);
            let repair = router.handle_loss(self.key, *sequence, round_trip, now)?;
            let (packet, carried) = (repair.packet, &self.carried);
            let header = Header::parse(packet).unwrap();
            let outbound = Outbound::new(repair.codec, &header, packet, None, None, carried);
            self.wire
                .repair(self.key, repair.rewrite, &outbound.unwrap(), now)
        });
        repairs.collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.wire.drops().get(reason)
    }

    /// Whether the publisher was asked for a key frame since the last look.
    fn wants_key_frame(&mut self) -> bool {
        let outputs = std::iter::from_fn(|| self.router.poll_output());
        outputs
            .filter(|output| matches!(output, Output::RequestKeyFrame(_)))
            .count()
            > 0
    }

    fn passes(&mut self, millis: u64) {
        self.now += std::time::Duration::from_millis(millis);
    }

    /// What has arrived since the last look, opened: no number comes twice, or it would not open.
    fn received(&mut self) -> Vec<Seen> {
        let datagrams = self.datagrams().into_iter();
        let seen = datagrams.map(|mut packet| {
            let header = Header::parse(&packet).unwrap();
            let opened = self.opener.open_rtp(&mut packet, header.header_len());
            packet.truncate(opened.unwrap().len);
            Seen { header, packet }
        });
        seen.collect()
    }

    /// The same as it comes, sealed.
    fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let _ = self.wire.flush();
        let mut batch = ReceiveBatch::new();
        let mut received = Vec::new();
        while self.receiver.receive(&mut batch).unwrap() > 0 {
            let datagrams = batch.datagrams();
            received.extend(datagrams.map(|(_, datagram)| datagram.to_vec()));
        }
        received
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

/// What a newcomer begins with is a burst like any other.
#[test]
fn what_a_newcomer_begins_with_waits_for_its_bandwidth() {
    let mut stage = Stage::numbered();
    stage.router.unsubscribe(stage.key, stage.now);
    stage.publish(&frame(&[1000; 20]));
    for _ in 0..10 {
        stage.passes(33);
        stage.publish(&delta(&[1000; 4]));
    }
    assert!(!stage.wants_key_frame());
    let (track, codec) = (stage.source.track, stage.codec);
    let subscribed = stage
        .router
        .subscribe(track, LayerWish::default(), codec, FIRST, stage.now);
    stage.key = subscribed.unwrap();
    let camera = PayloadType {
        codec,
        number: PAYLOAD_TYPE,
        repair: Some(REPAIR_TYPE),
    };
    let extensions = Extensions {
        transport_sequence: Some(NUMBERED),
        ..Extensions::default()
    };
    let section = section(codec, &[camera], extensions);
    let outgoing = Outgoing::new(0, &section, FIRST, FIRST_REPAIR);
    stage.wire.set_outgoing(stage.key, outgoing);
    stage.forward();
    let at_once = stage.received();
    assert!((1..50).contains(&at_once.len()), "{}", at_once.len());
    assert!(stage.wire.paced.delayed > 0);
    // What comes meanwhile stands behind it.
    stage.publish(&delta(&[1000; 4]));
    let mut sequences: Vec<u16> = at_once.iter().map(|seen| seen.header.sequence).collect();
    sequences.extend(stage.drained());
    let all = FIRST as u16..FIRST as u16 + 20 + 11 * 4;
    assert_eq!(sequences, all.collect::<Vec<_>>());
    assert!(!stage.wants_key_frame());
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
    let dropped = stage.dropped(DropReason::Congested);
    assert!(dropped > 300, "{dropped}");
    assert!(stage.wants_key_frame());
    let sequences = stage.drained();
    // The frame that was under way is finished; then it goes on with a key frame.
    let sent = sequences.len() as u16;
    assert!(sent > 60, "{sent}");
    let expected: Vec<u16> = (0..sent).map(|place| FIRST as u16 + place).collect();
    assert_eq!(sequences, expected, "no hole, and no number twice");
}

fn sequences(received: &[Seen]) -> Vec<u16> {
    received.iter().map(|seen| seen.header.sequence).collect()
}

#[test]
fn what_cannot_be_sealed_is_not_missed() {
    let mut stage = Stage::new(Extensions {
        transport_sequence: Some(NUMBERED),
        absolute_capture_time: Some(CAPTURED),
        ..Extensions::default()
    });
    stage.publish(&frame(&[500, 500]));
    assert!(!stage.wants_key_frame());
    // One that is too long by itself, and one that is with the header it is given.
    for too_long in [LONGEST + 1, LONGEST] {
        let dropped = stage.dropped(DropReason::Limit);
        stage.publish(&delta(&[500, too_long, 500]));
        assert_eq!(stage.dropped(DropReason::Limit), dropped + 2);
        assert!(stage.wants_key_frame(), "it is torn");
        stage.publish(&delta(&[500]));
        stage.publish(&frame(&[500, 500]));
        // Key frames are asked for in moderation.
        stage.passes(2000);
    }
    let received = stage.received();
    let count = 2 + 2 * (1 + 2);
    let expected: Vec<u16> = (0..count).map(|place| FIRST as u16 + place).collect();
    assert_eq!(sequences(&received), expected);
    let numbers: Vec<u16> = received.iter().filter_map(Seen::number).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert_eq!(stage.wire.forwarded, u64::from(count));
}

#[test]
fn a_repair_that_is_too_long_uses_up_no_number() {
    let mut stage = Stage::numbered();
    // Two bytes are added to what is sent again.
    stage.publish(&frame(&[LONGEST, 500]));
    let repaired = stage.asks_for(&[FIRST as u16, FIRST as u16 + 1]);
    assert_eq!(repaired, [Err(DropReason::Limit), Ok(())]);
    let received = stage.received();
    let numbers: Vec<u16> = received.iter().filter_map(Seen::number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let last = &received[2].header;
    assert_eq!(
        (last.ssrc, last.sequence),
        (REPAIR_SSRC, FIRST_REPAIR as u16)
    );
}

#[test]
fn what_nobody_can_be_sent_at_present_is_not_missed() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[500, 500]));
    let address = stage.wire.link(0).destination.take();
    stage.publish(&delta(&[500, 500]));
    stage.publish(&delta(&[500]));
    assert_eq!(stage.dropped(DropReason::NoKeys), 2);
    stage.wire.link(0).destination = address;
    stage.publish(&frame(&[500]));
    let expected = [FIRST as u16, FIRST as u16 + 1, FIRST as u16 + 2];
    assert_eq!(sequences(&stage.received()), expected);
}

#[test]
fn what_is_forgotten_while_it_waits_is_not_missed() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[1000; 60]));
    let before = sequences(&stage.received());
    assert!(before.len() < 50, "some of it waits");
    // The publisher goes on for so long that the cache has lost it.
    stage.router.set_limit(stage.key, Limit::Paused, stage.now);
    for _ in 0..20 {
        stage.publish(&delta(&[1000; 60]));
    }
    stage.router.set_limit(stage.key, Limit::NONE, stage.now);
    let mut all = before.clone();
    all.extend(stage.drained());
    assert_eq!(all, before, "nothing of it is sent");
    assert!(stage.wants_key_frame());
    stage.publish(&frame(&[1000, 1000]));
    all.extend(stage.drained());
    assert_eq!(all.len(), before.len() + 2);
    let expected: Vec<u16> = (0..all.len() as u16)
        .map(|place| FIRST as u16 + place)
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn what_waits_when_a_subscription_ends_has_used_up_no_number() {
    let mut stage = Stage::numbered();
    stage.publish(&frame(&[1000; 60]));
    let sent = stage.received().len() as u64;
    assert!(sent < 60, "some of it waits");
    stage.wire.forget_frame(stage.key);
    let withdrawn = stage.wire.withdraw(stage.key);
    assert_eq!(withdrawn, Some((60 - sent as usize, FIRST + sent)));
    let outgoing = stage.wire.take_outgoing(stage.key).unwrap();
    let spent: Vec<(u32, u64)> = outgoing.spent().collect();
    assert_eq!(spent, [(SSRC, FIRST + sent), (REPAIR_SSRC, FIRST_REPAIR)]);
}

/// It is sealed, so nothing else may ever be sealed under its number: it was lost on the way, like any
/// other packet, and is sent again under a number of the retransmission stream.
#[test]
fn what_the_kernel_refuses_is_sent_again_under_another_number() {
    let mut stage = Stage::new(Extensions::default());
    stage.publish(&frame(&[500]));
    let address = stage.wire.link(0).destination;
    let nowhere = address.map(|to| Destination {
        addr: (std::net::Ipv6Addr::LOCALHOST, to.addr.port()).into(),
        ..to
    });
    stage.wire.link(0).destination = nowhere;
    stage.publish(&delta(&[500, 500]));
    assert_eq!(sequences(&stage.received()), [FIRST as u16]);
    assert_eq!(stage.wire.stats().dropped.total(), 2);
    stage.wire.link(0).destination = address;
    stage.publish(&delta(&[500]));
    let repaired = stage.asks_for(&[FIRST as u16 + 1, FIRST as u16 + 2]);
    assert_eq!(repaired, [Ok(()), Ok(())]);
    let received = stage.received();
    let found: Vec<(u32, u16)> = received
        .iter()
        .map(|seen| (seen.header.ssrc, seen.header.sequence))
        .collect();
    let [first, second] = [FIRST_REPAIR as u16, FIRST_REPAIR as u16 + 1];
    let expected = [
        (SSRC, FIRST as u16 + 3),
        (REPAIR_SSRC, first),
        (REPAIR_SSRC, second),
    ];
    assert_eq!(found, expected);
    for (seen, lost) in received[1..].iter().zip([FIRST + 1, FIRST + 2]) {
        assert_eq!(seen.payload()[..2], (lost as u16).to_be_bytes());
    }
}

fn microphone(codec: Codec, taken: &[Codec], extensions: Extensions) -> Stage {
    let taken = taken.iter().map(|codec| PayloadType {
        codec: *codec,
        number: if *codec == Codec::Red { RED } else { OPUS },
        repair: None,
    });
    Stage::of(codec, &taken.collect::<Vec<_>>(), extensions)
}

/// Audio has no retransmission stream: what is missed is the very datagram that was sent, as often as it is
/// asked for, and nothing is numbered anew.
#[test]
fn audio_is_sent_again_as_it_was() {
    let numbered = Extensions {
        transport_sequence: Some(NUMBERED),
        ..Extensions::default()
    };
    let timed = Extensions {
        absolute_send_time: Some(2),
        absolute_capture_time: Some(CAPTURED),
        ..Extensions::default()
    };
    for extensions in [Extensions::default(), numbered, timed] {
        for (codec, taken) in [
            (Codec::Opus, &[Codec::Opus][..]),
            (Codec::Red, &[Codec::Red, Codec::Opus]),
            // What is taken out of redundant audio, too.
            (Codec::Red, &[Codec::Opus]),
        ] {
            let mut stage = microphone(codec, taken, extensions);
            for place in 0..10 {
                stage.publish(&voice(codec, place));
                stage.passes(20);
            }
            let sent = stage.datagrams();
            assert_eq!(sent.len(), 10);
            let lost = [4, 2, 9].map(|place| FIRST as u16 + place);
            assert_eq!(stage.asks_for(&lost), [Ok(()); 3]);
            let again = [4, 2, 9].map(|place: usize| sent[place].clone());
            assert_eq!(stage.datagrams(), again, "{codec:?} as {taken:?}");
            stage.passes(20);
            assert_eq!(stage.asks_for(&lost[..1]), [Ok(())]);
            assert_eq!(stage.datagrams(), again[..1]);
            assert_eq!(stage.wire.repaired, 4);
            stage.publish(&voice(codec, 10));
            let next = stage.received().pop().unwrap();
            assert_eq!(next.header.sequence, FIRST as u16 + 10);
            let number = extensions.transport_sequence.map(|_| 10);
            assert_eq!(next.number(), number);
        }
    }
}

fn comes_late(stage: &mut Stage, sequence: u16, number: u8) {
    let next = std::mem::replace(&mut stage.sequence, sequence);
    stage.publish(&voice(Codec::Opus, number));
    stage.sequence = next;
}

/// What comes late from its publisher leaves late for the first time.
#[test]
fn late_audio_is_sent_again_too() {
    let mut stage = microphone(Codec::Opus, &[Codec::Opus], Extensions::default());
    stage.publish(&voice(Codec::Opus, 0));
    let missing = stage.sequence;
    stage.sequence += 1;
    stage.publish(&voice(Codec::Opus, 2));
    comes_late(&mut stage, missing, 1);
    let sent = stage.datagrams();
    assert_eq!(stage.asks_for(&[FIRST as u16 + 1]), [Ok(())]);
    assert_eq!(stage.datagrams(), sent[2..]);
}

/// Very late it takes the place of none that is newer.
#[test]
fn very_late_audio_is_not_remembered() {
    let mut stage = microphone(Codec::Opus, &[Codec::Opus], Extensions::default());
    let first = stage.sequence;
    stage.publish(&voice(Codec::Opus, 0));
    stage.sequence += 1;
    for place in 2..70 {
        stage.publish(&voice(Codec::Opus, place));
        stage.passes(10);
    }
    let sent = stage.datagrams();
    comes_late(&mut stage, first + 1, 1);
    assert_eq!(stage.datagrams().len(), 1);
    let number = |place: u16| FIRST as u16 + place;
    let asked = stage.asks_for(&[number(1), number(1 + 64)]);
    assert_eq!(asked, [Err(DropReason::NotKept), Ok(())]);
    // One is missing among those that were sent.
    assert_eq!(stage.datagrams(), sent[64..65]);
}

/// No report speaks of audio that carries no number, so none is waited for.
#[test]
fn audio_without_numbers_is_no_reason_to_give_up_on_reports() {
    let mut stage = Stage::numbered();
    let now = stage.now;
    let shaping = stage.wire.link(0).shaping.as_mut().unwrap();
    shaping.sent_unnumbered(120, PacketKind::Audio, now);
    assert!(!shaping.note_silence(now + 2 * SILENT_AFTER) && shaping.is_limiting());
    shaping.sent_unnumbered(900, PacketKind::Video, now);
    assert!(shaping.note_silence(now + SILENT_AFTER));
}

/// A packet that cannot be made as it was, because something is understood otherwise by now, would be a
/// second one under its number.
#[test]
fn audio_that_would_be_another_packet_is_not_sent_again() {
    let extensions = Extensions {
        absolute_capture_time: Some(CAPTURED),
        ..Extensions::default()
    };
    let mut stage = microphone(Codec::Opus, &[Codec::Opus], extensions);
    stage.publish(&voice(Codec::Opus, 0));
    let sent = stage.datagrams();
    let carried = std::mem::take(&mut stage.carried);
    let lost = [FIRST as u16];
    assert_eq!(stage.asks_for(&lost), [Err(DropReason::NotKept)]);
    assert_eq!(stage.datagrams().len(), 0);
    stage.carried = carried;
    stage.passes(20);
    assert_eq!(stage.asks_for(&lost), [Ok(())]);
    assert_eq!(stage.datagrams(), sent);
    // Of packets that are too old to be heard nothing is known.
    for place in 1..=64 {
        stage.publish(&voice(Codec::Opus, place));
        stage.passes(10);
    }
    stage.datagrams();
    let lost = [FIRST as u16, FIRST as u16 + 1];
    let answers = [Err(DropReason::NotKept), Ok(())];
    assert_eq!(stage.asks_for(&lost), answers);
    assert_eq!(stage.datagrams().len(), 1);
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

#[test]
fn numbers_are_the_same_whether_a_packet_is_copied_or_not() {
    let camera = PayloadType {
        codec: Codec::Vp8,
        number: PAYLOAD_TYPE,
        repair: Some(REPAIR_TYPE),
    };
    // A picture id of 15 bits, and TL0PICIDX (RFC 7741 section 4.2).
    let mut packet = vec![0x80, 100, 0, 9, 0, 0, 0, 5, 0, 0, 0, 1];
    packet.extend([0x90, 0xC0, 0x92, 0x34, 0x56, 0]);
    packet.resize(1_000, 7);
    packet.push(1);
    let (header, extensions) = (Header::parse(&packet).unwrap(), Extensions::default());
    let ids = Codec::Vp8.frame_ids(&packet[12..]).unwrap();
    let plain = &packet[..1_000];
    let outbound = |padded| {
        Outbound::new(Codec::Vp8, &header, plain, padded, Some(&ids), &extensions).unwrap()
    };
    let mut shared = [outbound(None), outbound(None)];
    let mut drafts = [vec![0; DRAFT_LEN], vec![0; DRAFT_LEN]];
    let mut copied = [outbound(None), outbound(Some(&packet))];
    for (copied, draft) in copied.iter_mut().zip(&mut drafts) {
        copied.copy_to(draft);
    }
    let sealer = Sealer::new(&master());
    let section = section(Codec::Vp8, &[camera], Extensions::default());
    let shift = |picture, tl0| Shift {
        picture,
        tl0,
        frame: 0,
    };
    let shifts = [shift(0, 0), shift(5, 1), shift(0, 0), shift(0x7FFF, 0xFF)];
    for (place, shift) in (0..).zip(shifts) {
        for (shared, copied) in shared.iter_mut().zip(&mut copied) {
            for is_filler in [false, true, false] {
                let rewrite = Rewrite {
                    sequence: FIRST + place,
                    timestamp: 5,
                    shift,
                    ends_picture: false,
                    is_filler,
                };
                let seal = |packet: &mut Outbound<'_>| {
                    let mut out = vec![0; MAX_DATAGRAM_LEN];
                    let len = Outgoing::new(0, &section, FIRST, FIRST_REPAIR)
                        .seal(&mut out, &sealer, None, packet, &rewrite, Instant::now())
                        .unwrap();
                    out[..len].to_vec()
                };
                assert_eq!(seal(shared), seal(copied), "{shift:?}");
            }
        }
    }
    assert_eq!(packet[12..18], [0x90, 0xC0, 0x92, 0x34, 0x56, 0]);
}
