#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use super::*;
use crate::bandwidth::feedback::{Feedback, Status};
use proptest::prelude::*;
use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{SymbolTypeTcc, TransportLayerCc};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn written(write: impl FnOnce(&mut CompoundWriter<'_>)) -> Vec<u8> {
    let mut out = [0; 1500];
    let mut writer = CompoundWriter::new(&mut out);
    write(&mut writer);
    let len = writer.len();
    out[..len].to_vec()
}

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 7,
    fraction_lost: 12,
    total_lost: -3,
    highest_sequence: 0x1_2345,
    jitter: 99,
    last_report: 0xAABB_CCDD,
    delay: 65_536,
};

#[test]
fn what_is_written_is_read_back() {
    let info = SenderInfo {
        ntp: 0x0123_4567_89AB_CDEF,
        rtp: 5,
        packets: 6,
        octets: 7,
    };
    let packet = written(|w| {
        assert!(w.sender_report(1, info, &[BLOCK]));
        assert!(w.canonical_name(1, "name"));
        assert!(w.receiver_report(2, &[BLOCK, BLOCK]));
        assert!(w.nack(1, 9, &[65_534, 65_535, 0, 14, 15, 200]));
        assert!(w.picture_loss(1, 10));
        assert!(w.full_intra_request(1, 11, 3));
        assert!(w.estimated_maximum_bitrate(1, [12, 13].into_iter(), 2_500_000));
        assert!(w.transport_feedback(1, 13, &[1, 2, 3, 4, 5]));
    });
    let mut messages = Messages::new(&packet);
    let Some(Message::SenderReport {
        ssrc: 1,
        info: read,
        mut blocks,
    }) = messages.next()
    else {
        panic!()
    };
    assert_eq!(read, info);
    assert_eq!(info.compact_ntp(), 0x4567_89AB);
    assert_eq!((blocks.next(), blocks.next()), (Some(BLOCK), None));
    let Some(Message::ReceiverReport { ssrc: 2, blocks }) = messages.next() else {
        panic!()
    };
    assert_eq!(blocks.count(), 2);
    let Some(Message::Nack {
        media_ssrc: 9,
        lost,
    }) = messages.next()
    else {
        panic!()
    };
    assert_eq!(lost.collect::<Vec<_>>(), [65_534, 65_535, 0, 14, 15, 200]);
    assert!(matches!(
        messages.next(),
        Some(Message::PictureLoss { media_ssrc: 10 })
    ));
    assert!(matches!(
        messages.next(),
        Some(Message::FullIntraRequest { media_ssrc: 11 })
    ));
    let Some(Message::EstimatedMaximumBitrate { bits_per_second }) = messages.next() else {
        panic!()
    };
    assert!((2_490_000..=2_500_000).contains(&bits_per_second));
    let Some(Message::TransportFeedback { content }) = messages.next() else {
        panic!()
    };
    assert_eq!(content, [1, 2, 3, 4, 5]);
    assert!(messages.next().is_none());
    // A second reader agrees that each message is well-formed.
    let before_feedback = &packet[..packet.len() - 20];
    assert_eq!(unmarshal(&mut &before_feedback[..]).unwrap().len(), 7);
}

#[test]
fn a_message_that_does_not_fit_is_left_out_whole() {
    let mut out = [0; 20];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(writer.picture_loss(1, 2));
    assert!(!writer.picture_loss(1, 3));
    assert_eq!((writer.len(), writer.left_out()), (12, 1));
}

#[test]
fn reading_ends_at_a_malformed_message() {
    fn read(packet: &[u8]) -> (usize, bool) {
        let mut messages = Messages::new(packet);
        let read = messages.by_ref().count();
        assert!(messages.next().is_none(), "{packet:02x?}");
        (read, messages.is_malformed())
    }
    fn check(packet: &[u8], expected: usize) {
        assert_eq!(read(packet), (expected, true), "{packet:02x?}");
    }
    let good = written(|w| assert!(w.picture_loss(1, 2)));
    assert_eq!(read(&good), (1, false));
    assert_eq!(read(&[]), (0, false));
    let unknown = [&[0x80, 199, 0, 0], &good[..], &[0x80, 204, 0, 0]].concat();
    assert_eq!(read(&unknown), (1, false), "unknown kinds are skipped");
    check(&good[..11], 0);
    check(&[&good[..], &[0x80, 201, 0, 0]].concat(), 1); // report without an SSRC
    check(&[&[0x80, 201, 0, 0], &good[..]].concat(), 0);
    check(&[&good[..], &[0x80, 201, 0]].concat(), 1); // half a header
    check(&[&good[..], &[0x40, 201, 0, 0]].concat(), 1); // another version
    check(&[0x9F, 201, 0, 1, 0, 0, 0, 0], 0); // 31 blocks promised, none there
    check(&[0xA0, 201, 0, 1, 0, 0, 0, 9], 0); // more padding than message
    check(&[&good[..], &[0xA0, 201, 0, 0]].concat(), 1); // padding, and no room for any
    check(&[0x84, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], 0); // half an intra request
    let other = [
        0x8F, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, b'A', b'B', b'C', b'D',
    ];
    assert_eq!(read(&other), (0, false), "another application's");
    let estimate = [
        0x8F, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B',
    ];
    check(&estimate, 0); // an estimate of nothing
}

#[test]
fn an_estimate_that_does_not_fit_is_the_largest() {
    fn check(word: u32, expected: u64) {
        let mut packet = written(|w| assert!(w.estimated_maximum_bitrate(1, [12].into_iter(), 0)));
        let at = packet.len() - 8;
        packet[at..at + 4].copy_from_slice(&(1 << 24 | word).to_be_bytes());
        let read = Messages::new(&packet).next();
        assert_eq!(
            read.map(|message| format!("{message:?}")),
            Some(format!(
                "{:?}",
                Message::EstimatedMaximumBitrate {
                    bits_per_second: expected
                }
            )),
            "{word:x}"
        );
    }
    check(3 << 18 | 5, 40);
    check(46 << 18 | 0x3_FFFF, 0x3_FFFF << 46);
    check(47 << 18 | 0x3_FFFF, u64::MAX);
    check(63 << 18 | 1, 1 << 63);
    check(63 << 18 | 2, u64::MAX);
    check(63 << 18, 0);
}

/// Arrival times a second implementation reads from a feedback body: (sequence, time in µs).
fn arrivals_read(body: &[u8]) -> Vec<(u16, u64)> {
    let packet = written(|w| assert!(w.transport_feedback(1, 2, body)));
    let packets = unmarshal(&mut &packet[..]).unwrap();
    let feedback = packets[0]
        .as_any()
        .downcast_ref::<TransportLayerCc>()
        .unwrap();
    let mut time = u64::from(feedback.reference_time) * 64_000;
    let mut deltas = feedback.recv_deltas.iter();
    let mut sequence = feedback.base_sequence_number;
    let mut arrivals = Vec::new();
    for chunk in &feedback.packet_chunks {
        let rtc_rtcp::transport_feedbacks::transport_layer_cc::PacketStatusChunk::StatusVectorChunk(
            chunk,
        ) = chunk
        else {
            panic!("only vectors are written")
        };
        for symbol in &chunk.symbol_list {
            if *symbol != SymbolTypeTcc::PacketNotReceived {
                let Some(delta) = deltas.next() else { break };
                time = time.checked_add_signed(delta.delta).unwrap();
                arrivals.push((sequence, time));
            }
            sequence = sequence.wrapping_add(1);
        }
    }
    arrivals
}

#[test]
fn arrivals_are_reported_with_gaps_and_across_messages() {
    let start = start();
    let at = |millis: u64| start + Duration::from_millis(millis);
    let mut log = ArrivalLog::new(start);
    let mut body = [0; MAX_FEEDBACK_LEN];
    assert_eq!(log.feedback(&mut body), 0);
    for (sequence, millis) in [(65_534, 100), (65_535, 101), (1, 150), (2, 151)] {
        log.handle_arrival(sequence, at(millis));
    }
    let len = log.feedback(&mut body);
    assert_eq!(
        arrivals_read(&body[..len]),
        [
            (65_534, 100_000),
            (65_535, 101_000),
            (1, 150_000),
            (2, 151_000)
        ]
    );
    // What was missing comes late, and something new behind a gap.
    for (sequence, millis) in [(0, 300), (5, 302)] {
        log.handle_arrival(sequence, at(millis));
    }
    // What lies between them is told of again, lest it be missing.
    let len = log.feedback(&mut body);
    assert_eq!(
        arrivals_read(&body[..len]),
        [(0, 300_000), (1, 150_000), (2, 151_000), (5, 302_000)]
    );
    // The count of messages goes up, so that the sender sees when one is lost.
    assert_eq!(body[7], 1);
    // Once more is no news.
    for sequence in [0, 2, 5] {
        log.handle_arrival(sequence, at(400));
    }
    assert_eq!(log.feedback(&mut body), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        for message in Messages::new(&packet) {
            match message {
                Message::Nack { lost, .. } => prop_assert!(lost.count() <= packet.len() * 17),
                Message::SenderReport { blocks, .. } | Message::ReceiverReport { blocks, .. } => {
                    prop_assert!(blocks.count() <= 31);
                }
                _ => {}
            }
        }
    }

    /// In whatever order they come: every packet is told of, and none that was told of is said to be missing.
    #[test]
    fn what_was_told_of_is_not_taken_back(
        batches in prop::collection::vec(prop::collection::vec(0u16..60, 0..20), 1..10),
    ) {
        let start = start();
        let mut log = ArrivalLog::new(start);
        let mut body = [0; MAX_FEEDBACK_LEN];
        let (mut arrived, mut told) = (BTreeSet::new(), BTreeSet::new());
        for (batch, ahead) in (0u16..).zip(batches) {
            let now = start + Duration::from_millis(50) * u32::from(batch);
            for ahead in ahead {
                // Soon to wrap around.
                let sequence = 65_500u16.wrapping_add(batch * 20 + ahead);
                if arrived.insert(sequence) {
                    log.handle_arrival(sequence, now);
                }
            }
            let len = log.feedback(&mut body);
            if let Some(feedback) = Feedback::parse(&body[..len]) {
                for status in feedback.statuses() {
                    match status {
                        Status::Received { sequence, .. } => {
                            told.insert(sequence);
                        }
                        Status::Missing { first, count } => {
                            let mut missing = (0..count).map(|place| first.wrapping_add(place));
                            prop_assert!(missing.all(|sequence| !told.contains(&sequence)));
                        }
                    }
                }
            }
            prop_assert_eq!(&told, &arrived);
        }
    }

    #[test]
    fn feedback_reports_every_arrival(
        packets in prop::collection::vec((0u16..4, 0u64..70), 1..300), first in any::<u16>(),
    ) {
        let start = start();
        let mut log = ArrivalLog::new(start);
        let mut body = [0; MAX_FEEDBACK_LEN];
        let (mut sequence, mut millis) = (first, 0);
        let mut expected = Vec::new();
        for (lost, gap) in packets {
            sequence = sequence.wrapping_add(lost + 1);
            millis += gap;
            log.handle_arrival(sequence, start + Duration::from_millis(millis));
            expected.push((sequence, millis * 1000));
        }
        let len = log.feedback(&mut body);
        prop_assert!(len <= MAX_FEEDBACK_LEN);
        let read = arrivals_read(&body[..len]);
        // More than one message can carry: the oldest are given up.
        let kept = expected.iter().filter(|(s, _)| sequence.wrapping_sub(*s) < 480).copied().collect::<Vec<_>>();
        prop_assert_eq!(read, kept);
    }
}

#[test]
fn the_longest_report_of_arrivals_fits_a_packet() {
    /// What the node makes of RTCP before it is sealed.
    const PACKET: usize = 1_150;
    let start = start();
    let mut log = ArrivalLog::new(start);
    // Far apart, so that each takes two bytes.
    for number in 0..2_000u64 {
        log.handle_arrival(number as u16, start + Duration::from_millis(number * 70));
    }
    let mut body = [0; MAX_FEEDBACK_LEN];
    let len = log.feedback(&mut body);
    assert!(len > 1_000, "{len}");
    let mut out = [0; PACKET];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(writer.transport_feedback(1, 2, &body[..len]));
}
