use super::*;
use proptest::prelude::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn begin(continuity: &mut Continuity, encoding: u8, sequence: u64, timestamp: u32, now: Instant) {
    continuity.begin(
        Beginning {
            encoding,
            sequence,
            timestamp,
            vp8: None,
            aligned: None,
        },
        now,
    );
}

/// The number a packet goes out under.
fn out(continuity: &mut Continuity, encoding: u8, sequence: u64) -> Option<u64> {
    continuity
        .forward(encoding, sequence, 0, None, start())
        .map(|rewrite| rewrite.sequence)
}

#[test]
fn lost_packets_leave_a_gap_and_dropped_ones_none() {
    let mut numbers = Continuity::new(100, 90_000);
    begin(&mut numbers, 0, 1000, 0, start());
    assert_eq!(out(&mut numbers, 0, 1000), Some(100));
    assert_eq!(out(&mut numbers, 0, 1002), Some(102)); // 1001 is lost
    assert!(numbers.leave_out(0, 1003));
    assert_eq!(out(&mut numbers, 0, 1004), Some(103));
    assert_eq!(out(&mut numbers, 0, 1001), Some(101)); // it was only late
    assert!(numbers.leave_out(0, 1005));
    assert!(numbers.leave_out(0, 1006));
    assert_eq!(out(&mut numbers, 0, 1007), Some(104));
}

#[test]
fn a_number_reserved_before_a_drop_is_used_when_its_packet_comes_late() {
    let mut numbers = Continuity::new(0, 90_000);
    begin(&mut numbers, 0, 10, 0, start());
    assert_eq!(out(&mut numbers, 0, 10), Some(0));
    assert!(numbers.leave_out(0, 13)); // 11 and 12 are on their way
    assert_eq!(out(&mut numbers, 0, 14), Some(3));
    assert_eq!(out(&mut numbers, 0, 12), Some(2));
    assert!(!numbers.leave_out(0, 11), "its number is spoken for");
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
    let first = numbers.forward(0, 10, 1000, None, now).unwrap();
    let later = now + Duration::from_millis(100);
    begin(&mut numbers, 1, 500, 77_000, later);
    let second = numbers.forward(1, 500, 77_000, None, later).unwrap();
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
        numbers.forward(0, 10, 1000, None, now);
        let now = now + Duration::from_millis(elapsed_ms);
        numbers.begin(
            Beginning {
                encoding: 1,
                sequence: 0x1_0000,
                timestamp: 5,
                vp8: None,
                aligned,
            },
            now,
        );
        let rewrite = numbers.forward(1, 0x1_0000, 5, None, now).unwrap();
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

#[test]
fn picture_ids_continue_over_a_switch() {
    // Long picture id and TL0PICIDX, delta frame.
    let descriptor = |picture: u16, tl0: u8| {
        let bytes = [
            0x90,
            0xC0,
            0x80 | (picture >> 8) as u8,
            picture as u8,
            tl0,
            0x01,
        ];
        vp8::Descriptor::parse(&bytes).unwrap()
    };
    let mut numbers = Continuity::new(0, 90_000);
    let now = start();
    let first = descriptor(0x7FFF, 9);
    numbers.begin(
        Beginning {
            encoding: 0,
            sequence: 10,
            timestamp: 0,
            vp8: Some(&first),
            aligned: None,
        },
        now,
    );
    let rewrite = numbers.forward(0, 10, 0, Some(&first), now).unwrap();
    assert!(
        rewrite.vp8.is_zero(),
        "the first source is passed on as it is"
    );
    let second = descriptor(300, 200);
    numbers.begin(
        Beginning {
            encoding: 1,
            sequence: 20,
            timestamp: 0,
            vp8: Some(&second),
            aligned: None,
        },
        now,
    );
    let rewrite = numbers.forward(1, 20, 0, Some(&second), now).unwrap();
    assert_eq!(second.shifted(rewrite.vp8), (Some(0), Some(10)));
    let third = descriptor(301, 200);
    let rewrite = numbers.forward(1, 21, 0, Some(&third), now).unwrap();
    assert_eq!(third.shifted(rewrite.vp8), (Some(1), Some(10)));
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
            let out = numbers.forward(source, sequence, 0, None, now).map(|rewrite| rewrite.sequence);
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
                    prop_assert!(numbers.leave_out(source, next));
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
