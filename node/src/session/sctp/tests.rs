//! Data channels between our server and the client of rtc-sctp, in virtual time.

mod client;
mod hostile;
mod lossy;

use std::time::Duration;

use super::*;
use client::Pair;

fn payload(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

#[test]
fn the_client_opens_a_reliable_and_a_lossy_channel() {
    let mut pair = Pair::connected(1);
    for (id, spec) in [
        (0, ChannelSpec::reliable("_reliable")),
        (2, ChannelSpec::lossy("_lossy")),
        (
            4,
            ChannelSpec {
                label: "timed".into(),
                ordered: true,
                reliability: Reliability::Lifetime(Duration::from_millis(300)),
            },
        ),
    ] {
        let channel = pair.client_channel(id, &spec);
        assert_eq!(pair.events, [Event::Opened { channel, spec }]);
        pair.events.clear();

        pair.client.send(id, b"up", pair.now);
        pair.server
            .send(channel, Bytes::from_static(b"down"), false, pair.now)
            .unwrap();
        pair.run();
        assert_eq!(pair.messages(), ["up"]);
        let (stream, ppi, message) = pair.client.received.pop().unwrap();
        assert_eq!((stream, ppi, &message[..]), (id, Ppi::String, &b"down"[..]));
    }
}

#[test]
fn livekits_channels_opened_by_the_server() {
    // Before the client has begun: they are opened as soon as it has.
    let mut pair = Pair::new(2);
    let specs = [
        ChannelSpec::reliable("_reliable"),
        ChannelSpec::lossy("_lossy"),
        ChannelSpec::lossy("_data_track"),
    ];
    assert!(client::is_rexmit(&specs[1], 0));
    let channels: Vec<ChannelId> = specs
        .iter()
        .map(|spec| pair.server.open(spec.clone(), pair.now).unwrap())
        .collect();
    assert_eq!(channels, [1, 3, 5].map(ChannelId));
    for channel in &channels {
        let refused = pair
            .server
            .send(*channel, Bytes::from_static(b"x"), true, pair.now);
        assert_eq!(refused, Err(SendError::Full));
    }
    pair.run();
    assert_eq!(
        pair.client.opened.values().collect::<Vec<_>>(),
        ["_reliable", "_lossy", "_data_track"]
    );
    for (channel, spec) in channels.iter().zip(specs) {
        let opened = Event::Opened {
            channel: *channel,
            spec,
        };
        assert!(pair.events.contains(&opened), "{opened:?}");
        pair.server
            .send(*channel, Bytes::from_static(b"x"), true, pair.now)
            .unwrap();
    }
    pair.run();
    assert_eq!(pair.client.received.len(), 3);
}

#[test]
fn unordered_data_waits_for_the_acknowledgment() {
    let mut pair = Pair::connected(3);
    let message = Bytes::from_static(b"early");
    let lossy = pair.server.open(ChannelSpec::lossy("l"), pair.now).unwrap();
    let reliable = pair
        .server
        .open(ChannelSpec::reliable("r"), pair.now)
        .unwrap();
    assert_eq!(
        pair.server.send(lossy, message.clone(), true, pair.now),
        Err(SendError::Full)
    );
    assert_eq!(pair.server.take_counters().lossy_dropped, 1);
    // What is ordered comes behind the OPEN anyway.
    pair.server
        .send(reliable, message.clone(), true, pair.now)
        .unwrap();
    pair.run();
    pair.server.send(lossy, message, true, pair.now).unwrap();
    pair.run();
    assert_eq!(pair.client.received.len(), 2);
}

#[test]
fn empty_messages() {
    let mut pair = Pair::connected(4);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    for binary in [true, false] {
        pair.server
            .send(channel, Bytes::new(), binary, pair.now)
            .unwrap();
    }
    pair.client.send_as(0, &[0], Ppi::BinaryEmpty, pair.now);
    pair.client.send_as(0, &[0], Ppi::StringEmpty, pair.now);
    pair.run();
    let kinds: Vec<Ppi> = pair
        .client
        .received
        .iter()
        .map(|(_, ppi, _)| *ppi)
        .collect();
    assert_eq!(kinds, [Ppi::BinaryEmpty, Ppi::StringEmpty]);
    let received: Vec<_> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Message {
                binary, payload, ..
            } => Some((*binary, payload.len())),
            _ => None,
        })
        .collect();
    assert_eq!(received, [(true, 0), (false, 0)]);
}

#[test]
fn the_longest_messages_both_ways() {
    let mut pair = Pair::connected(5);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    let longest = payload(MAX_MESSAGE, 7);
    for _ in 0..3 {
        pair.server
            .send(channel, longest.clone().into(), true, pair.now)
            .unwrap();
        pair.client.send(0, &longest, pair.now);
    }
    pair.run();
    assert_eq!(pair.messages(), [&longest; 3].map(|m| m.clone()));
    assert!(
        pair.client
            .received
            .iter()
            .all(|(_, _, message)| *message == longest)
    );
    assert_eq!(pair.client.received.len(), 3);
}

#[test]
fn what_is_too_long_is_not_sent() {
    for (announced, limit) in [
        (262_144, 262_144),
        (65_536, 65_536),
        (0, 262_144),
        (1 << 30, 262_144),
    ] {
        let plan = DataPlan {
            remote_port: 5_000,
            max_message_size: announced,
        };
        let mut pair = Pair::with(6, DataChannels::new(plan, Limits::default()));
        pair.run();
        let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
        let sent = pair
            .server
            .send(channel, payload(limit + 1, 0).into(), true, pair.now);
        assert_eq!(sent, Err(SendError::TooLarge), "{announced}");
        pair.server
            .send(channel, payload(limit, 0).into(), true, pair.now)
            .unwrap();
    }
}

#[test]
fn what_is_too_long_is_not_taken() {
    let mut pair = Pair::connected(7);
    pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.client_channel(2, &ChannelSpec::reliable("s"));
    pair.events.clear();
    pair.client.send(0, &payload(MAX_MESSAGE + 1, 0), pair.now);
    pair.client.send(2, b"unharmed", pair.now);
    pair.run();
    assert_eq!(pair.messages(), ["unharmed"]);
    assert_eq!(
        pair.events,
        [Event::Closed {
            channel: ChannelId(0)
        }]
    );
    assert_eq!(pair.client.closed, [0]);
}

#[test]
fn many_channels() {
    let mut pair = Pair::connected(8);
    for id in (0..STREAMS).step_by(2) {
        pair.client.open(
            id,
            &ChannelSpec::reliable(&format!("client {id}")),
            pair.now,
        );
    }
    let own: Vec<_> = (0..STREAMS / 2)
        .map(|n| {
            pair.server
                .open(ChannelSpec::lossy(&format!("server {n}")), pair.now)
                .unwrap()
        })
        .collect();
    let refused = pair.server.open(ChannelSpec::lossy("one more"), pair.now);
    assert_eq!(refused, Err(OpenError::TooMany));
    pair.run();
    assert_eq!(pair.client.opened.len(), own.len());
    assert_eq!(pair.client.acknowledged.len(), own.len());
    pair.events.clear();
    for id in (0..STREAMS).step_by(2) {
        pair.client.send(id, &id.to_be_bytes(), pair.now);
    }
    for channel in &own {
        pair.server
            .send(*channel, Bytes::from_static(b"x"), true, pair.now)
            .unwrap();
    }
    pair.run();
    assert_eq!(pair.messages().len(), own.len());
    assert_eq!(pair.client.received.len(), own.len());
}

#[test]
fn a_channel_is_closed_by_either_side_and_opened_again() {
    let mut pair = Pair::connected(9);
    let spec = ChannelSpec::reliable("again");
    for round in 0..5 {
        let channel = pair.client_channel(0, &spec);
        pair.client.acknowledged.clear();
        pair.events.clear();
        pair.client.send(0, b"hello", pair.now);
        pair.run();
        assert_eq!(pair.messages(), ["hello"]);
        if round % 2 == 0 {
            pair.client.close_stream(0, pair.now);
        } else {
            pair.server.close_channel(channel, pair.now);
            let sent = pair.server.send(channel, Bytes::new(), true, pair.now);
            assert_eq!(sent, Err(SendError::Closed));
        }
        pair.run();
        assert_eq!(pair.events, [Event::Closed { channel }], "round {round}");
        assert_eq!(
            std::mem::take(&mut pair.client.closed),
            [0],
            "round {round}"
        );
        let sent = pair.server.send(channel, Bytes::new(), true, pair.now);
        assert_eq!(sent, Err(SendError::Closed));
    }
    let channel = pair.server_channel(ChannelSpec::reliable("ours"));
    pair.server.close_channel(channel, pair.now);
    pair.run();
    assert_eq!(pair.server_channel(ChannelSpec::reliable("ours")), channel);
}

#[test]
fn a_repeated_reset_does_not_close_the_next_channel() {
    let mut pair = Pair::connected(15);
    pair.client_channel(0, &ChannelSpec::reliable("first"));
    pair.client.close_stream(0, pair.now);
    let reset = pair.client.transmits(pair.now).remove(0);
    pair.server.handle_dtls_data(reset.clone(), pair.now);
    pair.run();
    pair.client_channel(0, &ChannelSpec::reliable("second"));
    pair.events.clear();
    // The network is late with a copy.
    pair.server.handle_dtls_data(reset, pair.now);
    assert!(
        pair.server.poll_transmit(pair.now).is_some(),
        "it is answered again"
    );
    pair.client.send(0, b"still open", pair.now);
    pair.run();
    assert_eq!(pair.messages(), ["still open"]);
    assert_eq!(pair.events, []);
}

#[test]
fn a_reliable_channel_that_falls_behind_is_reported_once() {
    let mut pair = Pair::connected(10);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.events.clear();
    let message = Bytes::from(payload(10_000, 0));
    let accepted = (0..500)
        .filter(|_| {
            pair.server
                .send(channel, message.clone(), true, pair.now)
                .is_ok()
        })
        .count();
    assert_eq!(accepted, (1 << 20) / 10_000);
    assert!(pair.server.buffered(channel) <= 1 << 20);
    assert_eq!(
        pair.server.take_counters().reliable_refused,
        500 - accepted as u64
    );
    pair.run();
    assert_eq!(pair.events, [Event::Overrun { channel }]);
    assert_eq!(pair.client.received.len(), accepted);
    assert_eq!(pair.server.buffered(channel), 0);
    // It has caught up: the next time is reported again.
    for _ in 0..200 {
        let _ = pair.server.send(channel, message.clone(), true, pair.now);
    }
    pair.run();
    assert_eq!(
        pair.events,
        [Event::Overrun { channel }, Event::Overrun { channel }]
    );
}

#[test]
fn a_lossy_channel_drops_what_would_wait() {
    let mut pair = Pair::connected(11);
    let channel = pair.server_channel(ChannelSpec::lossy("l"));
    pair.events.clear();
    let message = Bytes::from(payload(1_000, 0));
    for _ in 0..200 {
        let _ = pair.server.send(channel, message.clone(), true, pair.now);
    }
    assert!(pair.server.buffered(channel) <= 64 << 10);
    assert_eq!(pair.server.take_counters().lossy_dropped, 200 - 65);
    pair.run();
    assert_eq!(pair.client.received.len(), 65);
    assert_eq!(pair.events, []);
    // One that is longer than the limit still goes if nothing waits.
    pair.server
        .send(channel, payload(100_000, 0).into(), true, pair.now)
        .unwrap();
    pair.run();
    assert_eq!(pair.client.received.len(), 66);
}

#[test]
fn one_sack_for_a_batch() {
    let mut pair = Pair::connected(12);
    pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.client.send(0, &payload(4_000, 0), pair.now);
    let packets = pair.client.transmits(pair.now);
    assert!(packets.len() >= 3);
    for packet in packets {
        pair.server.handle_dtls_data(packet, pair.now);
    }
    assert!(pair.server.poll_transmit(pair.now).is_some());
    assert!(pair.server.poll_transmit(pair.now).is_none());
}

#[test]
fn the_end_of_the_association() {
    let mut pair = Pair::connected(13);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.events.clear();
    pair.client.association.abort().unwrap();
    pair.run();
    assert_eq!(pair.events, [Event::Ended(EndReason::Closed)]);
    let late = pair.server.send(channel, Bytes::new(), true, pair.now);
    assert_eq!(late, Err(SendError::Closed));
    let late = pair.server.open(ChannelSpec::lossy("l"), pair.now);
    assert_eq!(late, Err(OpenError::Ended));

    let mut pair = Pair::connected(14);
    let channel = pair.client_channel(0, &ChannelSpec::reliable("r"));
    pair.server
        .send(channel, Bytes::from_static(b"last words"), true, pair.now)
        .unwrap();
    pair.server.close(pair.now);
    pair.run();
    assert_eq!(pair.client.received.len(), 1);
    assert!(pair.client.association.is_closed());
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn it_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<DataChannels>();
}
