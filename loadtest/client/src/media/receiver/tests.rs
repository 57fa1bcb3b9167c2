use super::super::packet::{Codec, Payload};
use super::*;
use crate::wire::rtp::{Fields, write_header};

const SETUP: Setup = Setup {
    format: Format::Vp8,
    ssrc: 1,
    repair_ssrc: Some(2),
    payload_type: 96,
    repair_payload_type: Some(97),
    nack: true,
};

fn track() -> TrackStamp {
    TrackStamp::of("room", "ann", "camera")
}

/// A packet of a frame of two.
fn stamp(layer: u8, frame: u32, packet: u16, is_key_frame: bool) -> Stamp {
    Stamp {
        track: track(),
        layer,
        is_key_frame,
        frame,
        begun: 0,
        packet,
        packets: 2,
        sent: 0,
        inner: None,
    }
}

/// Gives packets to a receiver: sequence number, timestamp and stamp.
fn receive(packets: &[(u16, u32, Stamp)]) -> Integrity {
    let now = Instant::now();
    let mut receiver = Receiver::new(SETUP, Some(track()));
    for packet in packets {
        give(&mut receiver, packet, now);
    }
    receiver.integrity
}

fn give(receiver: &mut Receiver, (sequence, timestamp, stamp): &(u16, u32, Stamp), now: Instant) {
    let fields = Fields {
        marker: false,
        payload_type: 96,
        sequence: *sequence,
        timestamp: *timestamp,
        ssrc: 1,
    };
    let mut bytes = [0; 12];
    write_header(&mut bytes, fields, &[]);
    let header = Header::parse(&bytes).unwrap();
    let codec = Codec::Vp8 {
        width: 2,
        height: 2,
        picture_id: 0,
    };
    let mut payload = [0; 100];
    Payload {
        codec,
        stamp: *stamp,
        len: 100,
    }
    .write(&mut payload);
    let place = receiver.handle_media(&header, 112, now);
    receiver.handle_payload(&payload, &header, place, true, now, now);
}

/// A receiver of which signaling has said nothing, and to which a packet came every second.
fn told_nothing(packets: u16) -> Receiver {
    let began = Instant::now();
    let mut receiver = Receiver::new(SETUP, None);
    for number in 0..packets {
        let (frame, packet) = (u32::from(number / 2), number % 2);
        let sent = (number, 10 + frame, stamp(0, frame, packet, frame == 0));
        let now = began + Duration::from_secs(number.into());
        give(&mut receiver, &sent, now);
    }
    receiver
}

#[test]
fn media_may_be_faster_than_word_of_it_but_not_for_long() {
    let mut soon = told_nothing(2);
    soon.expect(track());
    assert_eq!(soon.integrity, Integrity::default());
    let mut wrong = told_nothing(2);
    wrong.expect(TrackStamp::of("room", "ben", "camera"));
    assert_eq!((wrong.integrity.foreign, wrong.integrity.errors()), (2, 2));
    let mut never = told_nothing(4);
    assert_eq!(never.integrity.unannounced, 4);
    never.expect(track());
    assert_eq!(
        (never.integrity.unannounced, never.integrity.errors()),
        (4, 4)
    );
}

#[test]
fn a_stream_that_is_forwarded_whole_is_no_error() {
    let none = receive(&[
        (1, 10, stamp(0, 5, 0, true)),
        (2, 10, stamp(0, 5, 1, true)),
        (3, 20, stamp(0, 6, 0, false)),
        // A loss that shows, and one that comes late.
        (5, 30, stamp(0, 7, 0, false)),
        (4, 20, stamp(0, 6, 1, false)),
        (6, 30, stamp(0, 7, 1, false)),
        // A switch at a key frame.
        (7, 40, stamp(2, 99, 0, true)),
        (8, 40, stamp(2, 99, 1, true)),
    ]);
    assert_eq!(none, Integrity::default());
}

#[test]
fn what_a_server_must_not_do_is_seen() {
    let first = [(1, 10, stamp(0, 5, 0, true)), (2, 10, stamp(0, 5, 1, true))];
    let check = |next: (u16, u32, Stamp), expected: Integrity| {
        assert_eq!(receive(&[first[0], first[1], next]), expected, "{next:?}");
    };
    let torn = Integrity {
        torn_switches: 1,
        ..Integrity::default()
    };
    check((3, 20, stamp(1, 50, 0, false)), torn);
    check((3, 20, stamp(1, 50, 1, true)), torn);
    let hidden = Integrity {
        hidden_losses: 1,
        ..Integrity::default()
    };
    check((3, 20, stamp(0, 7, 0, false)), hidden);
    check((3, 20, stamp(0, 6, 1, false)), hidden);
    let mixed = Integrity {
        mixed_frames: 1,
        ..Integrity::default()
    };
    check((3, 10, stamp(0, 6, 0, false)), mixed);
    let foreign = Stamp {
        track: TrackStamp::of("room", "ben", "camera"),
        ..stamp(0, 6, 0, false)
    };
    check(
        (3, 20, foreign),
        Integrity {
            foreign: 1,
            ..Integrity::default()
        },
    );
    // A key frame may come after a pause.
    check((3, 20, stamp(0, 90, 0, true)), Integrity::default());
}

/// Gives payloads to a receiver of VP8, one packet after the other.
fn receive_payloads(payloads: &[Vec<u8>]) -> Receiver {
    let now = Instant::now();
    let mut receiver = Receiver::new(SETUP, Some(track()));
    for (sequence, payload) in (1..).zip(payloads) {
        let fields = Fields {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp: u32::from(sequence) * 3_000,
            ssrc: 1,
        };
        let mut bytes = [0; 12];
        write_header(&mut bytes, fields, &[]);
        let header = Header::parse(&bytes).unwrap();
        let place = receiver.handle_media(&header, 112, now);
        receiver.handle_payload(payload, &header, place, true, now, now);
    }
    receiver
}

#[test]
fn media_that_bears_no_stamps_is_neither_damaged_nor_late() {
    let stamped = |stamp: Stamp| {
        let mut payload = vec![0; 100];
        let codec = Codec::Vp8 {
            width: 2,
            height: 2,
            picture_id: 0,
        };
        let len = payload.len();
        Payload { codec, stamp, len }.write(&mut payload);
        payload
    };
    let ours = stamped(Stamp {
        packets: 1,
        ..stamp(0, 5, 0, true)
    });
    let key = vec![
        0x90, 0x80, 0x80, 1, 0x10, 0, 0, 0x9D, 1, 0x2A, 2, 0, 2, 0, 9, 9,
    ];
    let delta = vec![0x90, 0x80, 0x80, 2, 0x11, 0, 0, 9, 9];
    let mut damaged = ours.clone();
    *damaged.last_mut().unwrap() ^= 1;

    let receiver = receive_payloads(&[key.clone(), delta.clone(), delta.clone()]);
    assert_eq!(
        (receiver.integrity.unstamped, receiver.integrity.errors()),
        (3, 0)
    );
    assert_eq!(
        (receiver.frames().decoded, receiver.frames().key_frames),
        (3, 1)
    );
    assert!(receiver.first_frame.is_some() && receiver.layer().is_none());

    // Bytes that happen to look like a stamp.
    let receiver =
        receive_payloads(&[damaged.clone(), key.clone(), damaged.clone(), delta.clone()]);
    assert_eq!(receiver.integrity.errors(), 0, "{:?}", receiver.integrity);
    // Nobody has them again and again by chance.
    let receiver = receive_payloads(&vec![damaged.clone(); 4]);
    assert_eq!(receiver.integrity.damaged, 4);
    let receiver = receive_payloads(&[damaged.clone(), ours.clone(), damaged]);
    assert_eq!(receiver.integrity.damaged, 2);

    // A server's own frame before those of the publisher.
    let receiver = receive_payloads(&[key.clone(), ours]);
    assert_eq!(receiver.integrity.errors(), 0, "{:?}", receiver.integrity);
    assert_eq!(receiver.layer(), Some(0));
    let foreign = stamped(Stamp {
        track: TrackStamp::of("room", "ben", "camera"),
        ..stamp(0, 5, 0, true)
    });
    let receiver = receive_payloads(&[key, foreign]);
    assert_eq!(receiver.integrity.foreign, 1, "{:?}", receiver.integrity);
}

#[test]
fn frames_without_stamps_wait_for_a_key_frame_after_a_loss() {
    let now = Instant::now();
    let mut receiver = Receiver::new(SETUP, None);
    let receive = |receiver: &mut Receiver, sequence: u16, is_key: bool, at: Duration| {
        let fields = Fields {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp: u32::from(sequence) * 3_000,
            ssrc: 1,
        };
        let mut bytes = [0; 12];
        write_header(&mut bytes, fields, &[]);
        let header = Header::parse(&bytes).unwrap();
        let tag = if is_key { 0x10 } else { 0x11 };
        let payload = [0x90, 0x80, 0x80, 1, tag, 0, 0, 0x9D, 1, 0x2A, 2, 0, 2, 0];
        let place = receiver.handle_media(&header, 112, now + at);
        receiver.handle_payload(&payload, &header, place, true, now, now + at);
        receiver.frames().decoded
    };
    let ms = Duration::from_millis;
    assert_eq!(receive(&mut receiver, 1, false, ms(0)), 0);
    assert_eq!(receive(&mut receiver, 2, true, ms(30)), 1);
    assert_eq!(receive(&mut receiver, 3, false, ms(60)), 2);
    // One is missing, and comes.
    assert_eq!(receive(&mut receiver, 5, false, ms(120)), 2);
    assert_eq!(receive(&mut receiver, 4, false, ms(150)), 4);
    assert!(!receiver.wants_key_frame(true, now + ms(150)));
    // One does not.
    assert_eq!(receive(&mut receiver, 7, false, ms(180)), 4);
    receiver.handle_timeout(ms(50), now + ms(1_300));
    assert!(receiver.wants_key_frame(true, now + ms(1_300)));
    assert!(!receiver.wants_key_frame(true, now + ms(1_400)));
    assert_eq!(receive(&mut receiver, 8, false, ms(1_500)), 4);
    assert_eq!(receive(&mut receiver, 9, true, ms(1_600)), 5);
    assert!(!receiver.wants_key_frame(true, now + ms(9_000)));
}
