use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Takes everything that waits.
fn drain(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    let mut records = consumer.records();
    let taken: Vec<Vec<u8>> = records.by_ref().map(<[u8]>::to_vec).collect();
    let position = records.position();
    consumer.release(position);
    taken
}

#[test]
fn records_come_whole_in_order_and_not_before_they_are_published() {
    let (mut producer, mut consumer) = ring(256);
    assert!(!producer.publish());
    producer.push(b"head", b"body").unwrap();
    producer.push(b"", b"").unwrap();
    assert!(consumer.is_empty());
    assert_eq!(drain(&mut consumer), [b""; 0]);
    assert_eq!(producer.unpublished(), 24);
    assert!(producer.publish());
    assert!(!producer.publish());
    assert_eq!(consumer.len(), 24);
    assert_eq!(drain(&mut consumer), [&b"headbody"[..], b""]);
    assert!(consumer.is_empty());
}

#[test]
fn what_is_not_released_is_kept() {
    let (mut producer, mut consumer) = ring(64);
    for number in 0..4 {
        producer.push(&[number; 12], b"").unwrap();
    }
    producer.publish();
    assert_eq!(producer.push(&[4; 12], b""), Err(Full));
    let mut records = consumer.records();
    assert_eq!(records.next(), Some(&[0; 12][..]));
    let position = records.position();
    assert_eq!(records.next(), Some(&[1; 12][..]));
    assert_eq!(producer.push(&[4; 12], b""), Err(Full));
    consumer.release(position);
    producer.push(&[4; 12], b"").unwrap();
    assert_eq!(producer.push(b"", b""), Err(Full));
    producer.publish();
    let expected: Vec<Vec<u8>> = (1..5).map(|number| vec![number; 12]).collect();
    assert_eq!(drain(&mut consumer), expected);
}

#[test]
fn a_record_longer_than_half_the_ring_is_refused() {
    let (mut producer, _consumer) = ring(64);
    assert_eq!(producer.push(&[0; 29], b""), Err(Full));
    producer.push(&[0; 28], b"").unwrap();
}

#[test]
#[should_panic(expected = "a position of another ring")]
fn a_position_of_another_ring_is_refused() {
    let (mut producer, consumer) = ring(64);
    producer.push(&[0; 20], b"").unwrap();
    producer.publish();
    let mut records = consumer.records();
    records.next();
    let (_, mut other) = ring(64);
    other.release(records.position());
}

#[test]
fn either_end_may_go_first() {
    let (mut producer, consumer) = ring(64);
    drop(consumer);
    producer.push(b"nobody", b"reads").unwrap();
    producer.publish();
    let (mut producer, mut consumer) = ring(64);
    producer.push(b"last", b"words").unwrap();
    producer.publish();
    producer.push(b"never", b"said").unwrap();
    drop(producer);
    assert_eq!(drain(&mut consumer), [b"lastwords"]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Publish,
    /// Reads so many and releases them.
    Take(usize),
}

proptest! {
    /// The ring does what a queue does that has the same room.
    #[test]
    fn behaves_like_a_queue(
        steps in prop::collection::vec(
            prop_oneof![
                4 => (0usize..200).prop_map(Step::Push),
                2 => Just(Step::Publish),
                2 => (0usize..6).prop_map(Step::Take),
            ],
            1..300,
        ),
    ) {
        let (mut producer, mut consumer) = ring(1024);
        let (mut pushed, mut published) = (VecDeque::new(), VecDeque::new());
        let mut number = 0_u8;
        for step in steps {
            match step {
                Step::Push(len) => {
                    number = number.wrapping_add(1);
                    let record = vec![number; len];
                    let (first, second) = record.split_at(len / 3);
                    let waiting: usize = pushed.iter().chain(&published).map(Vec::len).sum();
                    match producer.push(first, second) {
                        Ok(()) => pushed.push_back(record),
                        // Up to 11 bytes of bookkeeping for each, and what is skipped at the end: of
                        // this lap and of the last one.
                        Err(Full) => prop_assert!(
                            waiting + len + 11 * (pushed.len() + published.len() + 1) + 2 * 211
                                > 1024
                        ),
                    }
                }
                Step::Publish => {
                    prop_assert_eq!(producer.publish(), !pushed.is_empty());
                    published.append(&mut pushed);
                }
                Step::Take(count) => {
                    let mut records = consumer.records();
                    for _ in 0..count {
                        let expected = published.pop_front();
                        prop_assert_eq!(records.next(), expected.as_deref());
                    }
                    let position = records.position();
                    consumer.release(position);
                }
            }
        }
    }
}

/// Two threads at full speed: every record that was taken arrives once, whole and in order.
#[test]
fn two_threads_lose_nothing_that_was_taken() {
    // A small ring is full and empty, and turns over, thousands of times.
    for (capacity, records) in [(4096, 40_000_u64), (1 << 16, 200_000)] {
        let (mut producer, mut consumer) = ring(capacity);
        let writer = std::thread::spawn(move || {
            let mut random = Random(capacity as u64);
            let mut refused = 0_u64;
            let mut body = [0; 1500];
            for number in 0..records {
                let len = random.below(1500) as usize;
                fill(&mut body[..len], number);
                let header = [number.to_ne_bytes(), checksum(&body[..len]).to_ne_bytes()].concat();
                while producer.push(&header, &body[..len]).is_err() {
                    refused += 1;
                    producer.publish();
                    std::thread::yield_now();
                }
                if random.below(8) == 0 {
                    producer.publish();
                }
            }
            producer.publish();
            refused
        });
        let mut random = Random(7);
        let mut expected = 0;
        while expected < records {
            let most = 1 + random.below(20) as usize;
            let mut waiting = consumer.records();
            let mut any = false;
            for record in waiting.by_ref().take(most) {
                let (header, body) = record.split_at(16);
                let (number, sum) = header.split_at(8);
                assert_eq!(number, expected.to_ne_bytes());
                assert_eq!(
                    sum,
                    checksum(body).to_ne_bytes(),
                    "record {expected} is torn"
                );
                expected += 1;
                any = true;
            }
            let position = waiting.position();
            consumer.release(position);
            if !any {
                std::thread::yield_now();
            }
        }
        assert!(writer.join().unwrap() > 0, "the ring was never full");
        assert!(consumer.is_empty());
    }
}

fn fill(body: &mut [u8], number: u64) {
    let words = body.chunks_mut(8).enumerate();
    words.for_each(|(index, word)| {
        let value = (number ^ index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word.copy_from_slice(&value.to_ne_bytes()[..word.len()]);
    });
}

fn checksum(body: &[u8]) -> u64 {
    body.chunks(8).fold(body.len() as u64, |sum, word| {
        let mut value = [0; 8];
        value[..word.len()].copy_from_slice(word);
        (sum.rotate_left(5) ^ u64::from_ne_bytes(value)).wrapping_mul(0x517C_C1B7_2722_0A95)
    })
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
