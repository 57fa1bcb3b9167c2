//! What a kernel does that a loopback interface does not: refuse, take a part, and be full.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Datagrams by destination port, as they came out.
type Delivered = BTreeMap<u16, Vec<Vec<u8>>>;

fn egress(chunks: u32, max_segments: usize) -> Egress {
    Egress::new(EgressOptions {
        sockets: 1,
        chunks,
        max_segments,
    })
}

fn to(port: u16) -> Destination {
    Destination {
        socket: 0,
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
    }
}

/// Queues a datagram of `len` bytes that all are `fill`.
fn push(egress: &mut Egress, run: &mut Run, port: u16, len: usize, fill: u8) -> bool {
    let Some(mut slot) = egress.reserve(run, to(port), len) else {
        return false;
    };
    slot.fill(fill);
    slot.commit(len);
    true
}

/// What the network makes of a message: its datagrams, each with its port.
fn cut(pool: &Pool, message: &Message, delivered: &mut Delivered) {
    let port = pool.chunk(message.chunk).to.addr.port();
    let datagrams = pool.bytes(message).chunks(message.segment);
    assert_eq!(datagrams.len(), message.count);
    let delivered = delivered.entry(port).or_default();
    delivered.extend(datagrams.map(<[u8]>::to_vec));
}

/// A kernel that takes everything.
fn take_all(egress: &mut Egress) -> Delivered {
    let mut delivered = Delivered::new();
    let drained = egress.drain(0, &mut true, |pool, plan| {
        for message in plan {
            cut(pool, message, &mut delivered);
        }
        Ok(plan.len())
    });
    assert_eq!(drained, Drained::Empty);
    delivered
}

#[test]
fn neighbours_share_a_message_if_only_the_last_is_shorter() {
    fn check(max_segments: usize, lens: &[usize], expected: &[&[usize]]) {
        let mut egress = egress(1, max_segments);
        let mut run = Run::default();
        for len in lens {
            assert!(push(&mut egress, &mut run, 1, *len, 0));
        }
        let messages: Vec<_> = egress.pool.chunk(0).messages(0, max_segments).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|lens| (lens[0], lens.len(), lens.iter().sum::<usize>()))
            .collect();
        let planned: Vec<_> = messages
            .iter()
            .map(|m| (m.segment, m.count, m.len))
            .collect();
        assert_eq!(planned, expected, "{lens:?}");
        let starts: Vec<_> = messages.iter().map(|message| message.start).collect();
        let mut start = 0;
        for (message, at) in messages.iter().zip(starts) {
            assert_eq!(at, start);
            start += message.len;
        }
    }
    check(64, &[5], &[&[5]]);
    check(64, &[5, 5, 5], &[&[5, 5, 5]]);
    check(64, &[5, 5, 3], &[&[5, 5, 3]]);
    check(64, &[5, 5, 3, 3], &[&[5, 5, 3], &[3]]);
    check(64, &[5, 6, 6], &[&[5], &[6, 6]]);
    check(64, &[6, 5, 6, 5], &[&[6, 5], &[6, 5]]);
    check(2, &[5, 5, 5, 4], &[&[5, 5], &[5, 4]]);
    check(1, &[5, 5, 4], &[&[5], &[5], &[4]]);
    check(3, &[5, 5, 5, 1], &[&[5, 5, 5], &[1]]);
}

#[test]
fn a_run_continues_in_another_chunk_when_one_is_full() {
    let mut egress = egress(3, 64);
    let mut run = Run::default();
    // By bytes, then by number.
    for fill in 0..20 {
        assert!(push(&mut egress, &mut run, 1, MAX_DATAGRAM_LEN, fill));
    }
    for fill in 20..120 {
        assert!(push(&mut egress, &mut run, 1, 50, fill));
    }
    assert_eq!(egress.pool.free_chunks(), 0);
    let fills: Vec<_> = take_all(&mut egress)[&1]
        .iter()
        .map(|datagram| datagram[0])
        .collect();
    assert_eq!(fills, (0..120).collect::<Vec<_>>());
    assert_eq!(egress.pool.free_chunks(), 3);
}

#[test]
fn a_run_that_changes_its_destination_keeps_what_it_has() {
    let mut egress = egress(8, 64);
    let mut run = Run::default();
    for (port, fill) in [(1, 0), (1, 1), (2, 2), (1, 3)] {
        assert!(push(&mut egress, &mut run, port, 10, fill));
    }
    let delivered = take_all(&mut egress);
    assert_eq!(delivered[&1], [[0; 10], [1; 10], [3; 10]]);
    assert_eq!(delivered[&2], [[2; 10]]);
}

#[test]
fn an_exhausted_pool_has_space_again_after_a_flush() {
    let mut egress = egress(2, 64);
    let mut runs: [Run; 3] = Default::default();
    assert!(push(&mut egress, &mut runs[0], 1, 10, 0));
    assert!(push(&mut egress, &mut runs[1], 2, 10, 1));
    assert!(!push(&mut egress, &mut runs[2], 3, 10, 2));
    // Those that have a chunk go on.
    assert!(push(&mut egress, &mut runs[0], 1, 10, 3));
    assert_eq!(take_all(&mut egress).len(), 2);
    assert!(push(&mut egress, &mut runs[2], 3, 10, 4));
    // A handle from before the flush does not reach into a chunk that is another's now.
    assert!(push(&mut egress, &mut runs[1], 2, 10, 5));
    let delivered = take_all(&mut egress);
    assert_eq!(delivered[&3], [[4; 10]]);
    assert_eq!(delivered[&2], [[5; 10]]);
}

#[test]
fn it_is_ripe_for_many_destinations_or_many_bytes_that_are_new() {
    const LEN: usize = 1_000;
    let mut egress = egress(256, 16);
    let mut runs: Vec<Run> = (0..200).map(|_| Run::default()).collect();
    let mut fill = |egress: &mut Egress, ports: std::ops::Range<u16>, each: usize| {
        for port in ports {
            for _ in 0..each {
                let run = &mut runs[usize::from(port)];
                assert!(push(egress, run, port, LEN, 0));
            }
        }
    };
    let most = send::MAX_MESSAGES as u16;
    fill(&mut egress, 0..most - 1, 1);
    assert!(!egress.is_ripe());
    fill(&mut egress, most - 1..most, 1);
    assert!(egress.is_ripe(), "as many as a system call takes");

    // The kernel takes none of it: it is not tried again for the next one's sake.
    let blocked = egress.drain(0, &mut true, |_, _| Err(Errno::AGAIN));
    assert_eq!(blocked, Drained::Blocked);
    egress.note_left();
    assert!(!egress.is_ripe());
    fill(&mut egress, most..most + 1, 1);
    assert!(!egress.is_ripe());

    // Few destinations, but more than the cache holds.
    take_all(&mut egress);
    egress.note_left();
    assert_eq!(egress.waiting, 0);
    let few = (CACHED_BYTES / LEN / 16) as u16;
    fill(&mut egress, 0..few, 16);
    assert!(!egress.is_ripe());
    fill(&mut egress, few..few + 1, 16);
    assert!(egress.is_ripe());
}

#[test]
fn what_is_not_committed_is_not_sent() {
    let mut egress = egress(2, 64);
    let mut run = Run::default();
    assert!(egress.reserve(&mut run, to(1), 100).is_some());
    egress.reserve(&mut run, to(1), 100).unwrap().commit(0);
    assert_eq!(take_all(&mut egress), Delivered::new());
    assert_eq!(egress.pool.free_chunks(), 2);
    assert_eq!(egress.stats().syscalls, 0);

    assert!(push(&mut egress, &mut run, 1, 10, 1));
    assert!(egress.reserve(&mut run, to(1), 100).is_some());
    assert!(push(&mut egress, &mut run, 1, 10, 2));
    assert_eq!(take_all(&mut egress)[&1], [[1; 10], [2; 10]]);
}

/// What a full socket leaves is sent next time, before what came later, and once.
#[test]
fn a_full_socket_is_resumed() {
    let mut egress = egress(4, 2);
    let mut runs: [Run; 2] = Default::default();
    for fill in 0..5 {
        assert!(push(&mut egress, &mut runs[0], 1, 10, fill));
    }
    assert!(push(&mut egress, &mut runs[1], 2, 10, 5));
    let mut answers = [Ok(1), Err(Errno::AGAIN)].into_iter();
    let mut delivered = Delivered::new();
    let drained = egress.drain(0, &mut true, |pool, plan| {
        let answer = answers.next().unwrap();
        for message in &plan[..answer.unwrap_or(0)] {
            cut(pool, message, &mut delivered);
        }
        answer
    });
    assert_eq!(drained, Drained::Blocked);
    assert_eq!(delivered[&1], [[0; 10], [1; 10]]);
    assert_eq!(egress.stats().datagrams, 2);
    assert_eq!(egress.pool.free_chunks(), 2);

    // The chunk that waits takes more, so waiting does not use up the pool.
    assert!(push(&mut egress, &mut runs[0], 1, 10, 6));
    assert_eq!(egress.pool.free_chunks(), 2);
    let delivered = take_all(&mut egress);
    assert_eq!(delivered[&1], [[2; 10], [3; 10], [4; 10], [6; 10]]);
    assert_eq!(delivered[&2], [[5; 10]]);
    assert_eq!(egress.stats().datagrams, 7);
    assert_eq!(egress.stats().bytes, 70);
    assert_eq!(egress.pool.free_chunks(), 4);
}

/// A kernel that refuses, with `errno`, messages that `refuses` says.
fn refusing(
    egress: &mut Egress,
    gso: &mut bool,
    errno: Errno,
    refuses: impl Fn(&Pool, &Message) -> bool,
) -> Delivered {
    let mut delivered = Delivered::new();
    let drained = egress.drain(0, gso, |pool, plan| {
        let taken = plan.iter().take_while(|message| !refuses(pool, message));
        let taken = taken
            .inspect(|message| cut(pool, message, &mut delivered))
            .count();
        if taken == 0 { Err(errno) } else { Ok(taken) }
    });
    assert_eq!(drained, Drained::Empty);
    assert_eq!(egress.pool.free_chunks(), egress.queues[0].capacity());
    delivered
}

#[test]
fn gso_that_fails_is_given_up() {
    for errno in [Errno::IO, Errno::INVAL] {
        let mut egress = egress(4, 64);
        let mut runs: [Run; 2] = Default::default();
        for fill in 0..4 {
            assert!(push(&mut egress, &mut runs[0], 1, 1_200, fill));
            assert!(push(&mut egress, &mut runs[1], 2, 1_200, fill));
        }
        let mut gso = true;
        let delivered = refusing(&mut egress, &mut gso, errno, |_, message| message.count > 1);
        assert!(!gso);
        assert_eq!([delivered[&1].len(), delivered[&2].len()], [4, 4]);
        assert_eq!(egress.stats().dropped, Drops::default());
        // One for the message, one for the rest of it alone and the message behind; then all alone.
        assert_eq!(egress.stats().syscalls, 3, "{errno}");
    }
}

/// A peer must not be able to turn off GSO for others, say by a source port of 0.
#[test]
fn a_bad_destination_does_not_cost_gso() {
    let mut egress = egress(4, 64);
    let mut runs: [Run; 2] = Default::default();
    for fill in 0..4 {
        assert!(push(&mut egress, &mut runs[0], 0, 1_200, fill));
        assert!(push(&mut egress, &mut runs[1], 2, 1_200, fill));
    }
    let mut gso = true;
    let bad = |pool: &Pool, message: &Message| pool.chunk(message.chunk).to.addr.port() == 0;
    let delivered = refusing(&mut egress, &mut gso, Errno::INVAL, bad);
    assert!(gso);
    assert_eq!(delivered[&2].len(), 4);
    assert_eq!(
        egress.stats().dropped,
        Drops {
            other: 4,
            ..Drops::default()
        }
    );
}

/// Segments too long for a path are sent one by one, and only those.
#[test]
fn a_narrow_path_does_not_cost_gso() {
    for errno in [Errno::MSGSIZE, Errno::INVAL] {
        let mut egress = egress(4, 64);
        let mut runs: [Run; 2] = Default::default();
        for fill in 0..4 {
            assert!(push(&mut egress, &mut runs[0], 1, 1_400, fill));
            assert!(push(&mut egress, &mut runs[1], 2, 1_200, fill));
        }
        let mut gso = true;
        let narrow = |_: &Pool, message: &Message| message.count > 1 && message.segment > 1_232;
        let delivered = refusing(&mut egress, &mut gso, errno, narrow);
        assert!(gso);
        assert_eq!([delivered[&1].len(), delivered[&2].len()], [4, 4]);
        assert_eq!(egress.stats().dropped.total(), 0);
        assert_eq!(egress.stats().messages, 5);
    }
}

#[test]
fn refusals_are_counted_by_reason() {
    fn check(errno: Errno, expected: Drops) {
        let mut egress = egress(4, 64);
        let mut runs: [Run; 2] = Default::default();
        for port in [1, 1, 1, 2] {
            let run = &mut runs[usize::from(port == 2)];
            assert!(push(&mut egress, run, port, 100, 0));
        }
        let bad = |pool: &Pool, message: &Message| pool.chunk(message.chunk).to == to(1);
        let delivered = refusing(&mut egress, &mut true, errno, bad);
        assert_eq!(delivered.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(egress.stats().dropped, expected, "{errno}");
        assert_eq!(egress.stats().dropped.total(), 3);
        assert_eq!(egress.stats().datagrams, 1);
    }
    let none = Drops::default();
    check(
        Errno::MSGSIZE,
        Drops {
            too_long: 3,
            ..none
        },
    );
    check(
        Errno::NETUNREACH,
        Drops {
            unreachable: 3,
            ..none
        },
    );
    check(
        Errno::HOSTUNREACH,
        Drops {
            unreachable: 3,
            ..none
        },
    );
    check(
        Errno::PERM,
        Drops {
            forbidden: 3,
            ..none
        },
    );
    check(Errno::CONNREFUSED, Drops { refused: 3, ..none });
    check(
        Errno::NOBUFS,
        Drops {
            no_buffers: 3,
            ..none
        },
    );
    check(Errno::AFNOSUPPORT, Drops { other: 3, ..none });
}

#[test]
fn socket_sets() {
    let mut set = SocketSet::default();
    assert!(set.is_empty());
    set.insert(0);
    set.insert(63);
    assert!(set.contains(63) && !set.contains(62) && !set.contains(64));
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63]);
}

/// What the fake kernel answers next.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Takes up to so many messages.
    Take(usize),
    Interrupted,
    Full,
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => (1..5_usize).prop_map(Answer::Take),
        1 => Just(Answer::Interrupted),
        1 => Just(Answer::Full),
    ]
}

proptest! {
    /// Through any mixture of lengths, partial sends, full sockets and refused destinations, every
    /// run's datagrams come out once, in order, and no chunk is lost.
    #[test]
    fn runs_arrive_whole_and_in_order(
        max_segments in 1..MAX_SEGMENTS,
        refused in prop::collection::btree_set(0..6_u16, 0..3),
        operations in prop::collection::vec(
            (0..6_u16, prop::sample::select(&[100, 700, 1_200, 1_200, 1_200, 1_500][..]), 0..10_u8),
            1..300,
        ),
        answers in prop::collection::vec(answer(), 0..60),
    ) {
        let mut egress = egress(8, max_segments);
        let mut runs: [Run; 6] = Default::default();
        let mut expected = Delivered::new();
        let mut delivered = Delivered::new();
        let mut answers = answers.into_iter();
        let mut kernel = |pool: &Pool, plan: &[Message]| {
            let ok = |m: &&Message| !refused.contains(&pool.chunk(m.chunk).to.addr.port());
            let limit = match answers.next().unwrap_or(Answer::Take(usize::MAX)) {
                Answer::Take(limit) => limit,
                Answer::Interrupted => return Err(Errno::INTR),
                Answer::Full => return Err(Errno::AGAIN),
            };
            let taken = plan.iter().take(limit).take_while(ok);
            match taken.inspect(|message| cut(pool, message, &mut delivered)).count() {
                0 => Err(Errno::NETUNREACH),
                taken => Ok(taken),
            }
        };
        for (number, (port, len, flush)) in (0_u32..).zip(operations) {
            let run = &mut runs[usize::from(port)];
            let datagram: Vec<_> = number.to_be_bytes().into_iter().cycle().take(len).collect();
            if let Some(mut slot) = egress.reserve(run, to(port), MAX_DATAGRAM_LEN) {
                slot[..len].copy_from_slice(&datagram);
                slot.commit(len);
                expected.entry(port).or_default().push(datagram);
            }
            if flush == 0 {
                egress.drain(0, &mut true, &mut kernel);
            }
        }
        while egress.drain(0, &mut true, &mut kernel) == Drained::Blocked {}

        let lost: usize = refused.iter().filter_map(|port| expected.remove(port)).map(|d| d.len()).sum();
        prop_assert_eq!(&delivered, &expected);
        prop_assert_eq!(egress.stats().dropped.total(), lost as u64);
        let sent: usize = delivered.values().map(Vec::len).sum();
        prop_assert_eq!(egress.stats().datagrams, sent as u64);
        prop_assert_eq!(egress.pool.free_chunks(), 8);
    }
}

/// Chunks that were used last are used first.
#[test]
fn chunks_are_reused_while_they_are_warm() {
    let mut egress = egress(64, 64);
    let mut used = BTreeSet::new();
    for _ in 0..100 {
        let mut runs: [Run; 3] = Default::default();
        for (port, run) in (1..).zip(&mut runs) {
            assert!(push(&mut egress, run, port, 100, 0));
            used.insert(run.chunk);
        }
        take_all(&mut egress);
    }
    assert_eq!(used.len(), 3);
}
