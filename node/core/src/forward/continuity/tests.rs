use super::*;
use proptest::prelude::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn numbered(encoding: u8, sequence: u64, timestamp: u32) -> Numbered<'static> {
    Numbered {
        encoding,
        sequence,
        timestamp,
        ..Numbered::default()
    }
}

fn begin(numbers: &mut Continuity, encoding: u8, sequence: u64, timestamp: u32, now: Instant) {
    numbers.begin(&numbered(encoding, sequence, timestamp), 0, None, now);
}

/// The number a packet goes out under.
fn out(numbers: &mut Continuity, encoding: u8, sequence: u64) -> Option<u64> {
    numbers
        .forward(&numbered(encoding, sequence, 0), start())
        .map(|rewrite| rewrite.sequence)
}

#[test]
fn lost_packets_leave_a_gap_and_dropped_ones_none() {
    let mut numbers = Continuity::new(100, 90_000);
    begin(&mut numbers, 0, 1000, 0, start());
    assert_eq!(out(&mut numbers, 0, 1000), Some(100));
    assert_eq!(out(&mut numbers, 0, 1002), Some(102)); // 1001 is lost
    assert!(numbers.leave_out(0, 1003, false));
    assert_eq!(out(&mut numbers, 0, 1004), Some(103));
    assert_eq!(out(&mut numbers, 0, 1001), Some(101)); // it was only late
    assert!(numbers.leave_out(0, 1005, false));
    assert!(numbers.leave_out(0, 1006, false));
    assert_eq!(out(&mut numbers, 0, 1007), Some(104));
}

#[test]
fn a_number_reserved_before_a_drop_is_used_when_its_packet_comes_late() {
    let mut numbers = Continuity::new(0, 90_000);
    begin(&mut numbers, 0, 10, 0, start());
    assert_eq!(out(&mut numbers, 0, 10), Some(0));
    assert!(numbers.leave_out(0, 13, false)); // 11 and 12 are on their way
    assert_eq!(out(&mut numbers, 0, 14), Some(3));
    assert_eq!(out(&mut numbers, 0, 12), Some(2));
    assert!(!numbers.leave_out(0, 11, false), "its number is spoken for");
    assert_eq!(out(&mut numbers, 0, 11), Some(1));
    assert_eq!(out(&mut numbers, 0, 13), None, "it was left out for good");
}

#[test]
fn a_switch_continues_the_numbers_and_forgets_the_old_source() {
    let mut numbers = Continuity::new(0, 90_000);
    begin(&mut numbers, 0, 10, 0, start());
    assert_eq!(out(&mut numbers, 0, 10), Some(0));
    assert_eq!(out(&mut numbers, 0, 11), Some(1));
    begin(&mut numbers, 2, 70_000, 0, start());
    assert_eq!(out(&mut numbers, 2, 70_000), Some(2));
    assert_eq!(out(&mut numbers, 0, 12), None);
    assert_eq!(out(&mut numbers, 2, 69_999), None, "before the key frame");
    assert_eq!(out(&mut numbers, 2, 70_001), Some(3));
}

#[test]
fn a_retransmission_is_described_as_the_packet_was() {
    let mut numbers = Continuity::new(5, 90_000);
    let now = start();
    begin(&mut numbers, 0, 10, 1000, now);
    let first = numbers.forward(&numbered(0, 10, 1000), now).unwrap();
    let later = now + Duration::from_millis(100);
    begin(&mut numbers, 1, 500, 77_000, later);
    let second = numbers.forward(&numbered(1, 500, 77_000), later).unwrap();
    assert_eq!(second.timestamp, 1000 + 9000);

    let origin = numbers.origin(first.sequence).unwrap();
    assert_eq!(
        (origin.encoding, origin.sequence, origin.timestamp_shift),
        (0, 10, 0)
    );
    let origin = numbers.origin(second.sequence).unwrap();
    assert_eq!((origin.encoding, origin.sequence), (1, 500));
    assert_eq!(
        77_000u32.wrapping_add(origin.timestamp_shift),
        second.timestamp
    );
    assert_eq!(numbers.origin(second.sequence + 1), None);
    assert_eq!(numbers.origin(4), None);
}

#[test]
fn timestamps_follow_the_senders_clock_where_it_is_known() {
    let check = |aligned: Option<u32>, elapsed_ms: u64, expected: u32| {
        let mut numbers = Continuity::new(0, 90_000);
        let now = start();
        begin(&mut numbers, 0, 10, 1000, now);
        numbers.forward(&numbered(0, 10, 1000), now);
        let now = now + Duration::from_millis(elapsed_ms);
        numbers.begin(&numbered(1, 0x1_0000, 5), 0, aligned, now);
        let rewrite = numbers.forward(&numbered(1, 0x1_0000, 5), now).unwrap();
        assert_eq!(
            rewrite.timestamp.wrapping_sub(1000),
            expected,
            "{aligned:?} {elapsed_ms}"
        );
    };
    check(None, 40, 3600);
    check(None, 0, 1500); // never the same frame again
    check(Some(1000 + 3000), 40, 3000);
    check(Some(1000u32.wrapping_sub(3000)), 40, 1500); // never backwards
    check(Some(1000 + 900_000), 40, 3600); // reports that disagree with the clock on the wall
}

/// VP8 with a long picture id and TL0PICIDX, delta frame.
fn picture(picture: u16, tl0: u8) -> FrameIds {
    let [high, low] = (0x8000 | picture).to_be_bytes();
    let bytes = [0x90, 0xC0, high, low, tl0, 0x01];
    crate::codec::vp8::Descriptor::parse(&bytes).unwrap().ids
}

#[test]
fn picture_ids_continue_over_a_switch() {
    let mut numbers = Continuity::new(0, 90_000);
    let now = start();
    let packet = |encoding, sequence, ids| Numbered {
        ids: Some(ids),
        ..numbered(encoding, sequence, 0)
    };
    let first = picture(0x7FFF, 9);
    numbers.begin(&packet(0, 10, &first), 0, None, now);
    let rewrite = numbers.forward(&packet(0, 10, &first), now).unwrap();
    assert!(
        rewrite.shift.is_zero(),
        "the first source is passed on as it is"
    );
    let second = picture(300, 200);
    numbers.begin(&packet(1, 20, &second), 0, None, now);
    let rewrite = numbers.forward(&packet(1, 20, &second), now).unwrap();
    assert_eq!(
        second.shifted(rewrite.shift),
        picture(0, 10).shifted(Shift::default())
    );
    let third = picture(301, 200);
    let rewrite = numbers.forward(&packet(1, 21, &third), now).unwrap();
    assert_eq!(
        third.shifted(rewrite.shift),
        picture(1, 10).shifted(Shift::default())
    );
}

#[test]
fn pictures_left_out_leave_no_gap_in_their_ids() {
    let mut numbers = Continuity::new(0, 90_000);
    let now = start();
    let mut send = |sequence: u64, forwarded: bool| {
        // Two packets to a picture.
        let ids = picture((0x7FFE + (sequence / 2) as u16) & 0x7FFF, 5);
        let packet = Numbered {
            ids: Some(&ids),
            ..numbered(0, sequence, 0)
        };
        if sequence == 0 {
            numbers.begin(&packet, 0, None, now);
        }
        if forwarded {
            let rewrite = numbers.forward(&packet, now).unwrap();
            let origin = numbers.origin(rewrite.sequence).unwrap();
            assert_eq!((origin.sequence, origin.shift), (sequence, rewrite.shift));
            Some((rewrite.sequence, ids.shifted(rewrite.shift)))
        } else {
            assert!(numbers.leave_out(0, sequence, sequence.is_multiple_of(2)));
            None
        }
    };
    let expected = |id: u16| picture(id, 5).shifted(Shift::default());
    let pattern = [true, false, false, true, false, true];
    let seen: Vec<_> = (0..12)
        .filter_map(|sequence| send(sequence, pattern[sequence as usize / 2]))
        .collect();
    let wanted = [0x7FFE, 0x7FFE, 0x7FFF, 0x7FFF, 0, 0].map(expected);
    assert_eq!(seen, (0..).zip(wanted).collect::<Vec<_>>());
}

#[test]
fn the_last_packet_of_the_highest_layer_ends_the_picture() {
    let mut numbers = Continuity::new(0, 90_000);
    let now = start();
    let packet = |sequence: u64, ends: u8| Numbered {
        ends: Some(ends),
        ..numbered(0, sequence, 0)
    };
    numbers.begin(&packet(10, 0), 2, None, now);
    let ends = |numbers: &mut Continuity, sequence, layer| {
        let rewrite = numbers.forward(&packet(sequence, layer), now).unwrap();
        let origin = numbers.origin(rewrite.sequence).unwrap();
        assert_eq!(origin.sequence, sequence);
        assert_eq!(rewrite.ends_picture, origin.top == layer);
        rewrite.ends_picture
    };
    assert!(!ends(&mut numbers, 10, 0));
    assert!(!ends(&mut numbers, 11, 1));
    assert!(ends(&mut numbers, 12, 2));
    // 13 is on its way while the layers above 1 are given up.
    numbers.set_top(1, 14);
    assert!(!ends(&mut numbers, 14, 0));
    assert!(ends(&mut numbers, 15, 1));
    assert!(numbers.leave_out(0, 16, false));
    assert!(!ends(&mut numbers, 17, 0));
    let late = numbers.forward(&packet(13, 1), now).unwrap();
    assert_eq!(
        (late.sequence, late.ends_picture),
        (3, false),
        "as it was before"
    );
}

#[test]
fn what_was_sent_is_found_for_seconds() {
    // 60 pictures a second of two packets, of which one is left out.
    let mut numbers = Continuity::new(0x7FF0, 90_000);
    begin(&mut numbers, 0, 0x1_0000, 0, start());
    let mut sent = Vec::new();
    for picture in 0..6000u64 {
        let sequence = 0x1_0000 + picture * 2;
        sent.push((out(&mut numbers, 0, sequence).unwrap(), sequence));
        assert!(numbers.leave_out(0, sequence + 1, false));
        for (number, source) in sent.iter().rev().take(120) {
            assert_eq!(numbers.origin(*number).unwrap().sequence, *source);
        }
    }
    let bytes = numbers.pieces.capacity() * size_of::<Piece>()
        + numbers.eras.capacity() * size_of::<Era>()
        + size_of::<Continuity>();
    assert!(bytes < 2048, "{bytes}");
}

#[test]
fn a_stream_passed_on_whole_takes_little() {
    let mut numbers = Continuity::new(0, 90_000);
    begin(&mut numbers, 0, 0, 0, start());
    for sequence in 0..10_000 {
        out(&mut numbers, 0, sequence);
    }
    let bytes = numbers.pieces.capacity() * size_of::<Piece>()
        + numbers.eras.capacity() * size_of::<Era>()
        + size_of::<Continuity>();
    assert!(bytes < 512, "{bytes}");
}

#[test]
fn numbers_of_a_receiver_are_extended_to_ours() {
    let mut numbers = Continuity::new(0x7FFF, 90_000);
    begin(&mut numbers, 0, 0, 0, start());
    for sequence in 0..0x8000 {
        out(&mut numbers, 0, sequence);
    }
    assert_eq!(numbers.extend(0xFFFE), Some(0xFFFE));
    assert_eq!(numbers.extend(0xFFF0), Some(0xFFF0));
    for sequence in 0x8000..0x8010 {
        out(&mut numbers, 0, sequence);
    }
    assert_eq!(numbers.extend(0xFFFF), Some(0xFFFF));
    assert_eq!(numbers.extend(3), Some(0x1_0003));
}

#[derive(Debug, Clone)]
enum Step {
    /// Next packets of the current source, all forwarded.
    Forward(u8),
    /// Packets of the current source that never come.
    Lose(u8),
    /// Packets we leave out.
    LeaveOut(u8),
    /// Lost packets that come after all.
    Late,
    Switch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..20).prop_map(Step::Forward),
        2 => (1u8..4).prop_map(Step::Lose),
        2 => (1u8..4).prop_map(Step::LeaveOut),
        1 => Just(Step::Late),
        1 => (0u8..3).prop_map(Step::Switch),
    ]
}

proptest! {
    /// A number is never used twice; every gap a receiver sees is a packet that was lost; and a packet
    /// sent is found again under its number.
    #[test]
    fn a_receiver_sees_one_stream(steps in prop::collection::vec(step(), 1..60)) {
        let mut numbers = Continuity::new(7, 90_000);
        let now = start();
        let (mut source, mut next) = (0u8, 0x1_0000u64);
        begin(&mut numbers, source, next, 0, now);
        let mut sent = std::collections::BTreeMap::new();
        let mut lost = std::collections::BTreeSet::new();
        let mut gaps = 0u64;
        let mut began = 0u64; // first number of the current source
        let send = |numbers: &mut Continuity, source: u8, sequence: u64, sent: &mut std::collections::BTreeMap<u64, (u8, u64)>| {
            let out = numbers.forward(&numbered(source, sequence, 0), now).map(|rewrite| rewrite.sequence);
            if let Some(out) = out {
                prop_assert!(sent.insert(out, (source, sequence)).is_none(), "{} twice", out);
            }
            Ok(out)
        };
        began += send(&mut numbers, source, next, &mut sent)?.unwrap();
        next += 1;
        for step in steps {
            match step {
                Step::Forward(count) => for _ in 0..count {
                    prop_assert!(send(&mut numbers, source, next, &mut sent)?.is_some());
                    next += 1;
                },
                Step::Lose(count) => for _ in 0..count {
                    lost.insert(next);
                    next += 1;
                },
                Step::LeaveOut(count) => for _ in 0..count {
                    prop_assert!(numbers.leave_out(source, next, false));
                    next += 1;
                },
                Step::Late => for sequence in std::mem::take(&mut lost) {
                    // Only what lies between packets that came can be known to be missing.
                    if let Some(out) = send(&mut numbers, source, sequence, &mut sent)? {
                        prop_assert!(out >= began);
                    }
                },
                Step::Switch(to) => {
                    gaps += lost.len() as u64;
                    lost.clear();
                    source = to;
                    next += 0x2_0000;
                    begin(&mut numbers, source, next, 0, now);
                    began = send(&mut numbers, source, next, &mut sent)?.unwrap();
                    next += 1;
                }
            }
        }
        let (first, last) = (*sent.first_key_value().unwrap().0, *sent.last_key_value().unwrap().0);
        let missing = last - first + 1 - sent.len() as u64;
        prop_assert!(missing <= gaps + lost.len() as u64, "{} missing", missing);
        for (out, (encoding, sequence)) in sent.iter().rev().take(50) {
            if let Some(origin) = numbers.origin(*out) {
                prop_assert_eq!((origin.encoding, origin.sequence), (*encoding, *sequence));
            }
        }
        let origin = numbers.origin(last).unwrap();
        prop_assert_eq!((origin.encoding, origin.sequence), sent[&last]);
    }
}
