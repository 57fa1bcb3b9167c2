//! Fragments in any order, overlapping, hostile.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;

fn fragment(sequence: u16, length: usize, offset: usize, body: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(&(length as u32).to_be_bytes()[1..]);
    out.extend(sequence.to_be_bytes());
    out.extend(&(offset as u32).to_be_bytes()[1..]);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(body);
    out
}

/// Hands the records over one by one; the bodies of what comes out.
fn reassemble(reassembly: &mut Reassembly, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut whole = BytesMut::new();
    let mut number = 0;
    for record in records {
        reassembly.handle_record(record, &mut number, &mut whole);
    }
    record::records(&whole)
        .map(|record| {
            assert_eq!(record.body[6..9], [0; 3]);
            assert_eq!(record.body[1..4], record.body[9..12]);
            record.body[HEADER_LENGTH..].to_vec()
        })
        .collect()
}

#[test]
fn messages_come_out_whole_and_in_order() {
    let mut rng = StdRng::seed_from_u64(423);
    for _ in 0..500 {
        let messages: Vec<Vec<u8>> = (0..rng.random_range(1..5))
            .map(|_| {
                (0..rng.random_range(0..600))
                    .map(|_| rng.random())
                    .collect()
            })
            .collect();
        let mut records = Vec::new();
        for (sequence, message) in messages.iter().enumerate() {
            let mut cut = 0;
            loop {
                let left = message.len() - cut;
                let length = if left == 0 {
                    0
                } else {
                    rng.random_range(1..=left.min(200))
                };
                // Overlapping what came before, as repetitions with another MTU do.
                let start = cut - rng.random_range(0..=cut.min(20));
                let body = &message[start..cut + length];
                records.push(fragment(sequence as u16, message.len(), start, body));
                cut += length;
                if cut == message.len() {
                    break;
                }
            }
        }
        let twice = records.clone();
        records.extend(twice);
        records.shuffle(&mut rng);
        let mut reassembly = Reassembly::default();
        assert_eq!(reassemble(&mut reassembly, &records), messages);
        assert!(reassembly.partial.is_empty());
    }
}

#[test]
fn several_fragments_in_one_record() {
    let record = [
        fragment(0, 4, 2, b"cd"),
        fragment(1, 3, 0, b"efg"),
        fragment(0, 4, 0, b"ab"),
    ];
    let mut reassembly = Reassembly::default();
    let out = reassemble(&mut reassembly, &[record.concat()]);
    assert_eq!(out, [b"abcd".to_vec(), b"efg".to_vec()]);
}

#[test]
fn progress() {
    let mut reassembly = Reassembly::default();
    let mut whole = BytesMut::new();
    let mut check = |record: &[u8], repeats, advances| {
        let progress = reassembly.handle_record(record, &mut 0, &mut whole);
        assert_eq!(progress, Progress { repeats, advances });
    };
    check(&fragment(0, 4, 0, b"ab"), false, true);
    check(&fragment(0, 4, 2, b"cd"), false, true);
    check(&fragment(0, 4, 0, b"abcd"), true, false);
    check(&fragment(1, 2, 0, b"ef"), false, true);
    check(&fragment(0, 4, 0, b"abcd"), true, false);
    check(b"not a fragment", false, false);
    check(&fragment(2, 9, 8, b"out of it"), false, false);
    check(&fragment(2, 1 << 20, 0, b"too long"), false, false);
    check(&fragment(30, 2, 0, b"gh"), false, false);
}

#[test]
fn what_is_no_fragment_does_not_keep_the_true_one_out() {
    let mut reassembly = Reassembly::default();
    let unsound = [
        fragment(0, 5, 0, b""),
        fragment(0, 5, 3, b"abc"),
        fragment(0, MAX_MESSAGE + 1, 0, b"abc"),
    ];
    assert!(reassemble(&mut reassembly, &unsound).is_empty());
    assert!(reassembly.partial.is_empty());
    let out = reassemble(&mut reassembly, &[fragment(0, 4, 0, b"abcd")]);
    assert_eq!(out, [b"abcd".to_vec()]);
}

#[test]
fn hostile_fragments_are_bounded() {
    let mut rng = StdRng::seed_from_u64(424);
    let mut reassembly = Reassembly::default();
    let mut whole = BytesMut::new();
    for _ in 0..200_000 {
        let length = rng.random_range(0..1 << 24);
        let length = if rng.random_bool(0.5) {
            length % MAX_MESSAGE
        } else {
            length
        };
        let offset = rng.random_range(0..1 << 24);
        let offset = if rng.random_bool(0.5) {
            offset % MAX_MESSAGE
        } else {
            offset
        };
        let body = vec![0; rng.random_range(0..3)];
        let record = fragment(rng.random_range(0..20), length, offset, &body);
        reassembly.handle_record(&record, &mut 0, &mut whole);
    }
    assert!(reassembly.partial.len() <= usize::from(WINDOW));
    for partial in reassembly.partial.iter().flatten() {
        assert!(partial.body.len() <= MAX_MESSAGE && partial.pieces.len() <= MAX_PIECES);
    }
    assert!(reassembly.next <= MAX_MESSAGES);
}
