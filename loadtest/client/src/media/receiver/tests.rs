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
    for (sequence, timestamp, stamp) in packets {
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
    receiver.integrity
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
