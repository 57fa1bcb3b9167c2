#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::rtcp::{ArrivalLog, MAX_FEEDBACK_LEN};

/// Writes a message about packets from `base` on: nothing for one that is missing, else its delta in
/// units of 250 µs. `shapes` says which kind of chunk comes next, and how long a run may be.
fn write(base: u16, reference: u32, deltas: &[Option<i16>], shapes: &[(u8, u16)]) -> Vec<u8> {
    let symbol = |delta: &Option<i16>| match delta {
        None => 0,
        Some(0..=255) => 1u16,
        Some(_) => 2,
    };
    let symbols: Vec<u16> = deltas.iter().map(symbol).collect();
    let mut out = base.to_be_bytes().to_vec();
    out.extend((symbols.len() as u16).to_be_bytes());
    out.extend(&reference.to_be_bytes()[1..]);
    out.push(9);
    let mut rest = &symbols[..];
    let mut shapes = shapes.iter().cycle();
    while let Some(&first) = rest.first() {
        let &(shape, limit) = shapes.next().unwrap();
        let at = |index: usize| rest.get(index).copied().unwrap_or(0);
        let one_bit = (0..14).all(|index| at(index) < 2);
        let (word, len) = match shape {
            0 if one_bit => ((0..14).fold(0b10, |word, index| word << 1 | at(index)), 14),
            1 => ((0..7).fold(0b11, |word, index| word << 2 | at(index)), 7),
            _ => {
                let same = rest.iter().take_while(|symbol| **symbol == first).count();
                let len = same.min(limit.max(1).into());
                (first << 13 | len as u16, len)
            }
        };
        out.extend(word.to_be_bytes());
        rest = &rest[len.min(rest.len())..];
    }
    for delta in deltas.iter().flatten() {
        match u8::try_from(*delta) {
            Ok(small) => out.push(small),
            Err(_) => out.extend(delta.to_be_bytes()),
        }
    }
    out
}

/// Arrival of each packet after the base, in microseconds, as far as the message says.
fn read(content: &[u8]) -> Vec<Option<i64>> {
    let feedback = Feedback::parse(content).unwrap();
    let mut next = feedback.base;
    let mut arrivals = Vec::new();
    for status in feedback.statuses() {
        match status {
            Status::Missing { first, count } => {
                assert_eq!(first, next);
                arrivals.extend(std::iter::repeat_n(None, count.into()));
                next = next.wrapping_add(count);
            }
            Status::Received { sequence, arrival } => {
                assert_eq!(sequence, next);
                arrivals.push(Some(arrival));
                next = next.wrapping_add(1);
            }
        }
    }
    arrivals
}

/// The example of a run of missing packets, one-bit and two-bit vectors, put together by hand.
#[test]
fn each_kind_of_chunk_is_read() {
    let content = [
        0xFF, 0xFE, 0, 26, // base 65,534, 26 statuses
        0xFF, 0xFF, 0xFF, 3, // the last reference time before it wraps
        0x00, 0x03, // three missing
        0xA0, 0x01, // one bit each: received at the first and the last of 14
        0xD8, 0x00, // two bits each: small, large, five missing
        0x40, 0x02, // two with large deltas
        4, 8, 12, 0xFF, 0xFE, // 1 ms, 2 ms, 3 ms, -0.5 ms
        0x7F, 0xFF, 0x80, 0x00,
    ];
    let feedback = Feedback::parse(&content).unwrap();
    assert_eq!(feedback.reference_time(None), 0xFF_FFFF * 64_000);
    let read = read(&content);
    let mut expected = vec![None; 26];
    expected[3] = Some(1_000);
    expected[16] = Some(3_000);
    expected[17] = Some(6_000);
    expected[18] = Some(5_500);
    expected[24] = Some(5_500 + 32_767 * 250);
    expected[25] = Some(5_500 - 250);
    assert_eq!(read, expected);
}

#[test]
fn runs_of_nothing_are_passed_over() {
    let mut content = vec![0, 7, 0, 1, 0, 0, 0, 9];
    content.extend([0; 2 * 100_000]);
    content.extend([0x20, 1, 4]);
    assert_eq!(read(&content), [Some(1_000)]);
}

#[test]
fn what_is_cut_off_says_nothing() {
    fn check(content: &[u8], expected: Option<usize>) {
        let count = Feedback::parse(content).map(|feedback| feedback.statuses().count());
        assert_eq!(count, expected, "{content:02x?}");
    }
    check(&[], None);
    check(&[0, 1, 0, 1, 0, 0, 0], None);
    check(&[0, 1, 0, 0, 0, 0, 0, 0], Some(0));
    // A status without a chunk, chunks of nothing.
    check(&[0, 1, 0, 1, 0, 0, 0, 0], None);
    check(&[0, 1, 0, 1, 0, 0, 0, 0, 0], None);
    check(&[0, 1, 0, 1, 0, 0, 0, 0, 0x20, 0, 0x20, 0], None);
    // Received, but without a delta, or with half of one.
    check(&[0, 1, 0, 1, 0, 0, 0, 0, 0x20, 1], Some(0));
    check(&[0, 1, 0, 2, 0, 0, 0, 0, 0x40, 2, 1, 1, 1], Some(1));
    // The reserved symbol.
    check(&[0, 1, 0, 2, 0, 0, 0, 0, 0xDF, 0, 7, 7, 7], Some(1));
    check(&[0, 1, 0, 2, 0, 0, 0, 0, 0x60, 2, 7, 7, 7], Some(0));
    // A chunk of nothing between others, padding behind.
    check(
        &[
            0, 1, 0, 2, 0, 0, 0, 0, 0x20, 1, 0x20, 0, 0x20, 1, 7, 7, 0, 0,
        ],
        Some(2),
    );
}

#[test]
fn reference_times_go_on_where_24_bits_wrap() {
    fn check(before: i64, reference: u32, expected: i64) {
        let content = write(0, reference, &[], &[(0, 0)]);
        let feedback = Feedback::parse(&content).unwrap();
        let time = feedback.reference_time(Some(before * 64_000));
        assert_eq!(time, expected * 64_000);
    }
    check(5, 6, 6);
    check(5, 4, 4);
    check(0xFF_FFFF, 0, 0x100_0000);
    check(0x100_0000, 0xFF_FFFE, 0xFF_FFFE);
    check(0, 0xFF_FFFF, -1);
    check(-1, 1, 1);
}

#[test]
fn what_our_receiver_writes_is_read() {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    let start = Instant::now();
    let mut log = ArrivalLog::new(start);
    let at = |millis: u64| start + Duration::from_millis(millis);
    for (sequence, millis) in [
        (65_530, 1_000),
        (65_533, 1_900),
        (65_532, 1_001),
        (3, 1_002),
    ] {
        log.handle_arrival(sequence, at(millis));
    }
    let mut out = [0; MAX_FEEDBACK_LEN];
    let len = log.feedback(&mut out);
    let content = &out[..len];
    let reference = Feedback::parse(content).unwrap().reference_time(None) / 1_000;
    let received: Vec<_> = read(content)
        .into_iter()
        .enumerate()
        .filter_map(|(index, arrival)| Some((index, reference + arrival? / 1_000)))
        .collect();
    assert_eq!(received, [(0, 1_000), (2, 1_001), (3, 1_900), (9, 1_002)]);
}

proptest! {
    #[test]
    fn any_mix_of_chunks_is_read_back(
        base in any::<u16>(),
        deltas in prop::collection::vec(
            prop_oneof![
                3 => Just(None),
                5 => (0i16..256).prop_map(Some),
                2 => any::<i16>().prop_map(Some),
            ],
            0..300,
        ),
        shapes in prop::collection::vec((0u8..3, 0u16..40), 1..10),
    ) {
        let content = write(base, 77, &deltas, &shapes);
        let mut time = 0;
        let expected: Vec<_> = deltas
            .iter()
            .map(|delta| {
                time += i64::from((*delta)?) * 250;
                Some(time)
            })
            .collect();
        prop_assert_eq!(read(&content), &expected[..]);
        // Cut anywhere, it says less and nothing else.
        for len in 0..content.len() {
            if Feedback::parse(&content[..len]).is_some() {
                prop_assert!(expected.starts_with(&read(&content[..len])));
            }
        }
    }

    #[test]
    fn any_bytes_cost_no_more_than_they_are_long(
        content in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(feedback) = Feedback::parse(&content) {
            prop_assert!(feedback.statuses().count() <= content.len() * 7);
            let packets = feedback.statuses().map(|status| match status {
                Status::Missing { count, .. } => u32::from(count),
                Status::Received { .. } => 1,
            });
            prop_assert!(packets.sum::<u32>() <= u32::from(feedback.statuses));
        }
    }
}
