//! A client that means harm: it has keys and an association, and sends what it likes.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::client::Pair;
use super::*;

/// The checksum that rtc-sctp wants to see (CRC-32C).
fn seal(mut packet: Vec<u8>) -> Bytes {
    packet[8..12].fill(0);
    let checksum = packet::checksum(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet.into()
}

/// A connected pair with a channel, and the header of the client's packets.
fn connected(seed: u64) -> (Pair, Vec<u8>) {
    let mut pair = Pair::connected(seed);
    pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.client.send(0, b"x", pair.now);
    let packet = pair.client.transmits(pair.now).remove(0);
    let header = packet[..12].to_vec();
    pair.server.handle_dtls_data(packet, pair.now);
    drain(&mut pair);
    (pair, header)
}

fn next_tsn(pair: &Pair) -> u32 {
    match &pair.server.association {
        Slot::Taken(association) => association.gate.highest_tsn().wrapping_add(1),
        _ => panic!("no association"),
    }
}

fn data(tsn: u32, stream: u16, ssn: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut chunk = vec![0, flags];
    chunk.extend((payload.len() as u16 + 16).to_be_bytes());
    chunk.extend(tsn.to_be_bytes());
    chunk.extend(stream.to_be_bytes());
    chunk.extend(ssn.to_be_bytes());
    chunk.extend(53u32.to_be_bytes());
    chunk.extend(payload);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn drain(pair: &mut Pair) -> Vec<Event> {
    while pair.server.poll_transmit(pair.now).is_some() {}
    std::iter::from_fn(|| pair.server.poll_event()).collect()
}

#[test]
fn mutated_packets_never_panic() {
    let mut rng = StdRng::seed_from_u64(9260);
    let mut ended = 0;
    for round in 0..300 {
        let (mut pair, _) = connected(round);
        let mut originals = Vec::new();
        pair.client.open(2, &ChannelSpec::lossy("l"), pair.now);
        originals.extend(pair.client.transmits(pair.now));
        pair.client.send(0, &payload(3_000, 1), pair.now);
        originals.extend(pair.client.transmits(pair.now));
        pair.client.close_stream(0, pair.now);
        pair.client.send(2, &payload(100, 1), pair.now);
        originals.extend(pair.client.transmits(pair.now));
        for _ in 0..60 {
            let mut packet = originals[rng.random_range(0..originals.len())].to_vec();
            for _ in 0..rng.random_range(0..4) {
                let at = rng.random_range(12..packet.len().min(60));
                packet[at] = if rng.random_bool(0.5) {
                    rng.random()
                } else {
                    packet[at] ^ (1 << rng.random_range(0..8))
                };
            }
            if rng.random_bool(0.3) {
                // Another kind of chunk with the same inside; not ABORT, which ends it at once.
                packet[12] = [1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 130, 192][rng.random_range(0..12)];
            }
            if rng.random_bool(0.2) {
                packet.truncate(rng.random_range(12..=packet.len()));
            }
            pair.server.handle_dtls_data(seal(packet), pair.now);
            let _ = pair
                .server
                .send(ChannelId(0), Bytes::from_static(b"y"), true, pair.now);
            let events = drain(&mut pair);
            assert!(
                !events.contains(&Event::Ended(EndReason::Panicked)),
                "round {round}"
            );
            ended += usize::from(events.iter().any(|event| matches!(event, Event::Ended(_))));
            pair.now += Duration::from_millis(rng.random_range(0..500));
            pair.server.handle_timeout(pair.now);
        }
    }
    println!("{ended} of 300 associations were ended");
}

#[test]
fn forward_tsn_cannot_make_it_walk() {
    let (mut pair, header) = connected(1);
    let tsn = next_tsn(&pair).wrapping_add(0x7fff_0000);
    let forward = [&header[..], &[192, 0, 0, 8], &tsn.to_be_bytes()].concat();
    let begin = std::time::Instant::now();
    pair.server.handle_dtls_data(seal(forward), pair.now);
    assert!(begin.elapsed() < Duration::from_millis(200));
    assert_eq!(drain(&mut pair), [Event::Ended(EndReason::Violation)]);
}

#[test]
fn a_message_without_end_is_cut_off() {
    let (mut pair, header) = connected(2);
    let first = next_tsn(&pair);
    let mut taken = 0;
    for n in 0..5_000u32 {
        let flags = if n == 0 { 2 } else { 0 };
        let chunk = data(first.wrapping_add(n), 0, 2, flags, &[0; 1_000]);
        pair.server
            .handle_dtls_data(seal([&header[..], &chunk].concat()), pair.now);
        if drain(&mut pair) == [Event::Ended(EndReason::Violation)] {
            break;
        }
        taken += 1_000;
    }
    assert!((MAX_MESSAGE..2 << 20).contains(&taken), "{taken}");
}

#[test]
fn tiny_fragments_do_not_pile_up() {
    // The first of an ordered stream never comes; all that follows would wait for it.
    let (mut pair, header) = connected(3);
    let first = next_tsn(&pair);
    for n in 0..20_000u32 {
        let chunk = data(first.wrapping_add(n), 0, n as u16 + 3, 3, b"z");
        pair.server
            .handle_dtls_data(seal([&header[..], &chunk].concat()), pair.now);
        assert_eq!(drain(&mut pair), []);
    }
    let Slot::Taken(association) = &pair.server.association else {
        panic!("ended");
    };
    assert!(association.gate.queued_chunks() <= 3_000);
}

#[test]
fn streams_are_bounded() {
    let (mut pair, header) = connected(4);
    let first = next_tsn(&pair);
    for stream in 0..STREAMS {
        let chunk = data(first.wrapping_add(stream.into()), stream, 0, 3, b"z");
        pair.server
            .handle_dtls_data(seal([&header[..], &chunk].concat()), pair.now);
    }
    assert!(
        !drain(&mut pair)
            .iter()
            .any(|event| matches!(event, Event::Ended(_)))
    );
    let chunk = data(next_tsn(&pair), STREAMS, 0, 3, b"z");
    pair.server
        .handle_dtls_data(seal([&header[..], &chunk].concat()), pair.now);
    assert!(drain(&mut pair).contains(&Event::Ended(EndReason::Violation)));
}

#[test]
fn opening_and_closing_without_end_is_cut_off() {
    let mut pair = Pair::connected(5);
    let mut rounds = 0;
    while rounds < 10_000 {
        let now = pair.now;
        pair.client.open(0, &ChannelSpec::reliable("r"), now);
        let end = now + Duration::from_secs(5);
        pair.run_until(end, |pair| {
            !pair.client.acknowledged.is_empty() || pair.client.association.is_closed()
        });
        if pair.client.association.is_closed() {
            break;
        }
        pair.client.acknowledged.clear();
        pair.client.close_stream(0, pair.now);
        let end = pair.now + Duration::from_secs(5);
        pair.run_until(end, |pair| !pair.client.closed.is_empty());
        pair.client.closed.clear();
        pair.events.retain(|event| matches!(event, Event::Ended(_)));
        rounds += 1;
    }
    assert_eq!(rounds, MAX_ACCEPTED);
    assert_eq!(pair.events.pop(), Some(Event::Ended(EndReason::Violation)));
}

#[test]
fn an_unreadable_abort_ends_the_association_and_nothing_else() {
    let (mut pair, header) = connected(6);
    // rtc-sctp panics on this error cause, which is longer than the packet.
    let abort = [&header[..], &[6, 0, 0, 8, 0, 12, 0xff, 0xff]].concat();
    pair.server.handle_dtls_data(seal(abort), pair.now);
    assert_eq!(drain(&mut pair), [Event::Ended(EndReason::Closed)]);
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn what_only_informs_does_not_end_the_association() {
    let (mut pair, header) = connected(7);
    let error = [&header[..], &[9, 0, 0, 8, 0, 8, 0, 4]].concat();
    let add_streams = [
        &header[..],
        &[130, 0, 0, 16, 0, 17, 0, 12, 0, 0, 0, 1, 0, 5, 0, 0],
    ]
    .concat();
    for packet in [error, add_streams] {
        pair.server.handle_dtls_data(seal(packet), pair.now);
        assert_eq!(drain(&mut pair), []);
    }
    assert_eq!(pair.server.take_counters().packets_refused, 2);
    pair.client.send(0, b"alive", pair.now);
    pair.run();
    assert_eq!(pair.messages().last().unwrap(), "alive");
}

#[test]
fn a_client_that_takes_nothing_costs_no_more_than_the_limit() {
    let (mut pair, _) = connected(8);
    let mut sent = 0;
    for _ in 0..100_000 {
        if pair
            .server
            .send(ChannelId(0), payload(1_000, 0).into(), true, pair.now)
            .is_ok()
        {
            sent += 1_000;
        }
        while pair.server.poll_transmit(pair.now).is_some() {}
    }
    assert!(sent <= 1 << 20, "{sent}");
}
