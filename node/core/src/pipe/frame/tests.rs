#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use proptest::prelude::*;

use super::*;

/// As short as a packet can be: version 2, sequence number 0x1234.
const PACKET: [u8; 12] = [0x80, 96, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2];

fn media(subscription: u32, encoding: u8) -> MediaHead {
    MediaHead {
        stream: Stream {
            subscription,
            encoding,
        },
        number: 0x0005_1234,
        restarts: 7,
        sent: 0x0102_0304,
        marks: Marks {
            key_frame: true,
            frame_end: false,
            resumes: true,
        },
        is_repair: false,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// As in `docs/pipe.md`: what other versions of us read must not change by accident.
#[test]
fn layouts_are_those_of_the_document() {
    let check = |bytes: Vec<u8>, expected: &[u8], datagram: Datagram<'_>| {
        assert_eq!(bytes, expected);
        assert_eq!(read(&bytes), Some(datagram));
    };
    // A packet: head, stream, restarts, cycle, sent, packet.
    let head = media(3, 2);
    let mut expected = vec![0b0000_0101, 14, 7, 0, 5, 1, 2, 3, 4];
    expected.extend(PACKET);
    let bytes = written(|out| write_media(&head, &PACKET, out));
    check(bytes, &expected, Datagram::Media(head, &PACKET));
    // Sent again, under a number of two bytes.
    let head = MediaHead {
        is_repair: true,
        ..media(100, 1)
    };
    let mut expected = vec![0b0001_0101, 0x41, 0x91, 7, 0, 5, 1, 2, 3, 4];
    expected.extend(PACKET);
    let bytes = written(|out| write_media(&head, &PACKET, out));
    check(bytes, &expected, Datagram::Media(head, &PACKET));
    // The second half of one, under a number of four bytes.
    let head = media(5000, 0);
    let piece = Piece {
        index: 1,
        is_last: true,
    };
    let expected = [
        0b0000_1101,
        0x80,
        0,
        0x4E,
        0x20,
        7,
        0,
        5,
        0x12,
        0x34,
        1,
        2,
        3,
        4,
        0b11,
        9,
        9,
    ];
    let bytes = written(|out| write_piece(&head, piece, &[9, 9], out));
    check(bytes, &expected, Datagram::Piece(head, piece, &[9, 9]));
    // Three packets that are missing: 5, 6 and 21 after it; then 22 alone.
    let stream = media(3, 2).stream;
    let expected = [
        0b0010_0000,
        0,
        14,
        7,
        0,
        0,
        0,
        5,
        0x80,
        0x01,
        0,
        0,
        0,
        22,
        0,
        0,
    ];
    let bytes = written(|out| {
        assert_eq!(write_nack(stream, 7, &[5, 6, 21, 22], out), 4);
    });
    let Some(Datagram::Nack(nack)) = read(&bytes) else {
        panic!("{bytes:?}");
    };
    assert_eq!(bytes, expected);
    assert_eq!((nack.stream, nack.restarts), (stream, 7));
    assert_eq!(nack.numbers().collect::<Vec<_>>(), [5, 6, 21, 22]);
    // A key frame.
    let bytes = written(|out| write_key_frame_request(stream, out));
    check(
        bytes,
        &[0b0010_0000, 1, 14],
        Datagram::KeyFrameRequest(stream),
    );
    // A probe, filled up.
    let probe = Probe {
        sequence: 1,
        sent: 2,
        echoed: 3,
        echo_delay: 4,
    };
    let expected = [
        0b0010_0000,
        2,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        3,
        0,
        0,
        0,
        4,
        0,
        0,
    ];
    let bytes = written(|out| write_probe(&probe, 28, out));
    check(bytes, &expected, Datagram::Probe(probe));
    let bytes = written(|out| write_padding(3, out));
    check(bytes, &[0b0010_1000, 0, 0], Datagram::Padding);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |bytes: &[u8]| assert_eq!(read(bytes), None, "{bytes:?}");
    check(&[]);
    // Other versions, other types.
    check(&[0b0100_0000]);
    check(&[0b0001_1000, 0, 0, 0, 0]);
    check(&[0b0011_0000, 0]);
    // A stream number of eight bytes.
    check(&[0, 0xC0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    // A third piece, an empty one.
    let mut third = written(|out| {
        let piece = Piece {
            index: 2,
            is_last: true,
        };
        write_piece(&media(1, 0), piece, &[1], out);
    });
    check(&third);
    third.pop();
    check(&third);
    // Nothing is asked for, or half a pair.
    check(&[0b0010_0000, 0, 14, 7]);
    check(&[0b0010_0000, 0, 14, 7, 0, 0, 0, 5, 0]);
    check(&[0b0010_0000, 1, 14, 0]);
    check(&[0b0010_0000, 9, 14]);
    // Cut off anywhere.
    let whole = written(|out| write_media(&media(5000, 3), &PACKET, out));
    for len in 0..whole.len() - 8 {
        check(&whole[..len]);
    }
}

proptest! {
    #[test]
    fn reading_inverts_writing(
        subscription in 0..Stream::SUBSCRIPTIONS,
        encoding in 0..MAX_ENCODINGS as u8,
        cycle: u16,
        restarts: u8,
        sent: u32,
        is_repair: bool,
        bits in 0..8_u8,
        index in 0..MAX_PIECES,
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let head = MediaHead {
            stream: Stream { subscription, encoding },
            number: u32::from(cycle) << 16 | 0x1234,
            restarts,
            sent,
            marks: Marks::of(bits),
            is_repair,
        };
        let mut packet = PACKET.to_vec();
        packet.extend(tail);
        let bytes = written(|out| write_media(&head, &packet, out));
        prop_assert!(bytes.len() <= packet.len() + MEDIA_OVERHEAD);
        prop_assert_eq!(read(&bytes), Some(Datagram::Media(head, &packet)));
        let piece = Piece { index, is_last: is_repair };
        let bytes = written(|out| write_piece(&head, piece, &packet, out));
        prop_assert!(bytes.len() <= packet.len() + PIECE_OVERHEAD);
        prop_assert_eq!(read(&bytes), Some(Datagram::Piece(head, piece, &packet)));
    }

    #[test]
    fn what_is_asked_for_arrives_as_it_was(
        start: u32,
        steps in prop::collection::vec(1..40_u32, 1..200),
    ) {
        let mut numbers = vec![start];
        for step in steps {
            numbers.push(numbers[numbers.len() - 1].wrapping_add(step));
        }
        let stream = Stream { subscription: 1, encoding: 0 };
        let mut bytes = Vec::new();
        let asked = write_nack(stream, 0, &numbers, &mut bytes);
        prop_assert_eq!(asked, numbers.len().min(MAX_ASKED));
        let Some(Datagram::Nack(nack)) = read(&bytes) else {
            return Err(TestCaseError::fail("not understood"));
        };
        prop_assert_eq!(nack.numbers().collect::<Vec<_>>(), &numbers[..asked]);
    }

    #[test]
    fn anything_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(Datagram::Nack(nack)) = read(&bytes) {
            prop_assert!(nack.numbers().count() <= MAX_ASKED);
        }
    }
}
