//! Data channels over networks that lose, delay and reorder.

use super::client::Pair;
use super::*;

#[test]
fn every_lost_packet_of_the_beginning_is_made_up_for() {
    // INIT and COOKIE-ECHO go to the server, INIT-ACK and COOKIE-ACK to the client.
    for side in 0..2 {
        for number in 1..=2 {
            let mut pair = Pair::new(20);
            pair.lose[side] = vec![number];
            pair.run();
            assert!(pair.client.connected, "{side} {number}");
            pair.client_channel(0, &ChannelSpec::reliable("r"));
        }
    }
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        pair.loss = 0.3;
        pair.client_after_handshake(seed);
    }
}

impl Pair {
    fn client_after_handshake(&mut self, seed: u64) {
        let end = self.now + Duration::from_secs(120);
        self.run_until(end, |pair| pair.client.connected);
        assert!(self.client.connected, "seed {seed}");
    }
}

#[test]
fn a_late_init_ack_and_a_repeated_init() {
    // The INIT-ACK takes longer than the client waits: both INITs and both answers arrive.
    let mut pair = Pair::new(21);
    let init = pair.client.transmits(pair.now).remove(0);
    pair.server.handle_dtls_data(init.clone(), pair.now);
    let first = pair.server.poll_transmit(pair.now).unwrap();
    pair.server.handle_dtls_data(init.clone(), pair.now);
    let second = pair.server.poll_transmit(pair.now).unwrap();
    assert_eq!(first, second);
    pair.client.handle_packet(first, pair.now);
    pair.client.handle_packet(second, pair.now);
    pair.run();
    assert!(pair.client.connected);
    // And once more when everything is established.
    pair.server.handle_dtls_data(init, pair.now);
    assert!(pair.server.poll_transmit(pair.now).is_none());
    pair.client_channel(0, &ChannelSpec::reliable("r"));
    assert_eq!(pair.server.take_counters().packets_refused, 0);
}

#[test]
fn reliable_messages_arrive_once_and_in_order() {
    for seed in 0..10 {
        let mut pair = Pair::connected(seed);
        let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
        pair.events.clear();
        pair.loss = 0.1;
        pair.jitter = Duration::from_millis(15);
        let message = |n: u32| {
            let mut message = payload(20 + (n as usize * 97) % 3_000, n as u8);
            message[..4].copy_from_slice(&n.to_be_bytes());
            message
        };
        let mut next = 0;
        for _ in 0..30 {
            for _ in 0..10 {
                pair.client.send(0, &message(next), pair.now);
                pair.server
                    .send(channel, message(next).into(), true, pair.now)
                    .unwrap();
                next += 1;
            }
            let end = pair.now + Duration::from_millis(500);
            pair.run_until(end, |_| false);
        }
        let end = pair.now + Duration::from_secs(600);
        pair.run_until(end, |_| false);
        let expected: Vec<Vec<u8>> = (0..next).map(message).collect();
        assert_eq!(pair.messages(), expected, "seed {seed}");
        let received = pair.client.received.into_iter();
        let received: Vec<Vec<u8>> = received.map(|(_, _, message)| message).collect();
        assert_eq!(received, expected, "seed {seed}");
    }
}

#[test]
fn lossy_messages_arrive_at_most_once_and_nothing_gets_stuck() {
    for seed in 0..10 {
        let mut pair = Pair::connected(seed);
        let up = pair.client_channel(0, &ChannelSpec::lossy("up"));
        let down = pair.server_channel(ChannelSpec::lossy("down"));
        pair.events.clear();
        pair.loss = 0.1;
        pair.jitter = Duration::from_millis(15);
        for n in 0..500u32 {
            // Some span several packets.
            let mut message = payload(if n % 7 == 0 { 3_000 } else { 200 }, n as u8);
            message[..4].copy_from_slice(&n.to_be_bytes());
            pair.client.send(up.0, &message, pair.now);
            let _ = pair.server.send(down, message.into(), true, pair.now);
            let end = pair.now + Duration::from_millis(20);
            pair.run_until(end, |_| false);
        }
        pair.loss = 0.0;
        pair.run();
        let numbers = |messages: Vec<Vec<u8>>| {
            let mut numbers: Vec<u32> = messages
                .iter()
                .map(|m| u32::from_be_bytes(m[..4].try_into().unwrap()))
                .collect();
            let received = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), received, "seed {seed}");
            received
        };
        let uplink = numbers(pair.messages().into_iter().map(Vec::from).collect());
        let received = std::mem::take(&mut pair.client.received);
        let downlink = numbers(received.into_iter().map(|(_, _, m)| m).collect());
        let dropped = pair.server.take_counters().lossy_dropped as usize;
        println!("seed {seed}: {uplink} up, {downlink} down and {dropped} dropped of 500");
        assert!(uplink > 400 && downlink + dropped > 400 && downlink > 300);

        pair.client.send(up.0, b"after all", pair.now);
        pair.server
            .send(down, Bytes::from_static(b"after all"), true, pair.now)
            .unwrap();
        pair.run();
        assert_eq!(pair.messages(), ["after all"]);
        assert_eq!(pair.client.received.len(), 1);
        assert_eq!(pair.server.buffered(down), 0);
    }
}

#[test]
fn channels_are_closed_and_opened_again_under_loss() {
    for seed in 0..10 {
        let mut pair = Pair::connected(seed);
        pair.loss = 0.15;
        for round in 0..10 {
            let id = 2 * (round % 3);
            pair.client.open(id, &ChannelSpec::reliable("r"), pair.now);
            pair.client.send(id, b"hello", pair.now);
            // rtc-sctp lets its retransmission timer grow to a minute. And its stream cannot be read
            // any more once it is closed, so that the client waits for its ACK first.
            let end = pair.now + Duration::from_secs(600);
            pair.run_until(end, |pair| {
                let is_message = |event: &Event| matches!(event, Event::Message { .. });
                pair.events.iter().any(is_message) && !pair.client.acknowledged.is_empty()
            });
            pair.client.acknowledged.clear();
            assert_eq!(pair.messages(), ["hello"], "seed {seed} round {round}");
            pair.client.close_stream(id, pair.now);
            let end = pair.now + Duration::from_secs(600);
            pair.run_until(end, |pair| {
                // The rtc-sctp at the client's end would perform a repeated reset once more.
                let answered = match &pair.server.association {
                    Slot::Taken(association) => association.gate.unanswered_resets().len() == 0,
                    Slot::Vacant | Slot::Over => true,
                };
                answered && !pair.client.closed.is_empty()
            });
            let closed = Event::Closed {
                channel: ChannelId(id),
            };
            assert_eq!(pair.events.pop(), Some(closed), "seed {seed} round {round}");
            assert_eq!(
                pair.client.closed.pop(),
                Some(id),
                "seed {seed} round {round}"
            );
            pair.events.clear();
        }
    }
}

#[test]
fn a_long_silence_is_survived() {
    // Longer than rtc-sctp would retransmit by default.
    let mut pair = Pair::connected(22);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.loss = 1.0;
    pair.server
        .send(channel, Bytes::from_static(b"patience"), true, pair.now)
        .unwrap();
    let end = pair.now + Duration::from_secs(100);
    pair.run_until(end, |_| false);
    pair.loss = 0.0;
    let end = pair.now + Duration::from_secs(200);
    pair.run_until(end, |_| false);
    assert_eq!(pair.client.received.len(), 1);
}
