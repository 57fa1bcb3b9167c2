//! What a hostile client, or somebody who forges its address, can and cannot do.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::client::{Client, PROFILES};
use super::*;

fn record(kind: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xFE, 0xFD];
    record.extend(epoch.to_be_bytes());
    record.extend(&number.to_be_bytes()[2..]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn assert_alive(server: &mut DtlsServer, client: &mut Client, now: Instant) {
    while server.poll_event().is_some() {}
    client.write(b"still there", now);
    exchange(client, server, now, |datagram| vec![datagram]);
    let event = server.poll_event();
    assert!(
        matches!(&event, Some(Event::ApplicationData(data)) if &data[..] == b"still there"),
        "{event:?}"
    );
}

#[test]
fn forged_records_do_not_end_an_association() {
    #[rustfmt::skip]
    let forgeries: &[(&str, Vec<u8>)] = &[
        ("plain fatal alert",           record(21, 0, 900, &[2, 40])),
        ("plain goodbye",               record(21, 0, 901, &[1, 0])),
        ("sealed alert of another key", record(21, 1, 902, &[7; 26])),
        ("data in the clear",           record(23, 0, 903, b"hello")),
        ("data of another key",         record(23, 1, 904, &[7; 40])),
        // rtc-dtls believes this one, and hears nothing of the client any more.
        ("cipher change to epoch 2",    record(20, 1, 905, &[1])),
        ("cipher change",               record(20, 0, 906, &[1])),
        ("damaged cipher change",       record(20, 1, 907, &[9])),
        ("unknown kind",                record(25, 1, 908, &[0; 20])),
        ("cut off",                     record(23, 1, 909, &[0; 20])[..20].to_vec()),
        ("header only",                 record(23, 1, 910, &[])),
        ("later epoch",                 record(23, 2, 911, &[0; 40])),
        ("hello",                       record(22, 0, 912, &[1; 60])),
        ("random",                      vec![0x17; 333]),
    ];
    for (name, datagram) in forgeries {
        let now = Instant::now();
        let mut client = Client::new(&PROFILES, now);
        let (mut server, _) = connect(&mut client, now);
        server.handle_datagram(datagram, now);
        assert!(server.poll_transmit().is_none(), "{name}");
        assert!(server.poll_event().is_none(), "{name}");
        assert_alive(&mut server, &mut client, now);
    }
}

#[test]
fn garbage_does_not_hinder_a_handshake() {
    let mut rng = StdRng::seed_from_u64(6347);
    for _ in 0..20 {
        let now = Instant::now();
        let mut client = Client::new(&PROFILES, now);
        let mut server = server();
        exchange(&mut client, &mut server, now, |datagram| {
            let mut datagrams: Vec<Bytes> = (0..rng.random_range(0..6))
                .map(|_| {
                    let mut garbage = vec![0; rng.random_range(0..200)];
                    rng.fill(&mut garbage[..]);
                    // Not a whole alert: that one may end a handshake.
                    let kind = [20, 22, 23, 24, 63][rng.random_range(0..5)];
                    record(kind, rng.random_range(0..3), 500, &garbage).into()
                })
                // Fragments of the messages that come next would have to be believed.
                .filter(|garbage: &Bytes| garbage[0] != 22 || garbage[4] != 0)
                .collect();
            datagrams.push(datagram);
            datagrams
        });
        connected(&mut server);
    }
}

#[test]
fn what_is_too_short_to_be_sealed_does_not_end_a_handshake() {
    for length in [0, 1, 23] {
        let now = Instant::now();
        let mut client = Client::new(&PROFILES, now);
        let mut server = server();
        exchange(&mut client, &mut server, now, |datagram| {
            let short = record(22, 1, 500, &vec![7; length]);
            vec![short.into(), datagram]
        });
        connected(&mut server);
        assert!(!server.handle_datagram(&record(23, 1, 501, &vec![7; length]), now));
        assert_alive(&mut server, &mut client, now);
    }
}

#[test]
fn a_plain_alert_ends_a_handshake() {
    for (alert, fails) in [([2, 40], true), ([1, 0], true), ([1, 90], false)] {
        let now = Instant::now();
        let mut server = server();
        server.handle_datagram(&record(21, 0, 0, &alert), now);
        let failed = matches!(server.poll_event(), Some(Event::Failed(Failure::PeerAlert)));
        assert_eq!(failed, fails, "{alert:?}");
    }
}

#[test]
fn mutated_handshakes_never_panic_and_never_lie() {
    let mut rng = StdRng::seed_from_u64(8827);
    let mut completed = 0;
    for _ in 0..300 {
        let now = Instant::now();
        let mut client = Client::new(&PROFILES, now);
        let mut server = server();
        exchange(&mut client, &mut server, now, |datagram| {
            let mut datagram = datagram.to_vec();
            if rng.random_bool(0.5) {
                let at = rng.random_range(0..datagram.len());
                datagram[at] ^= 1 << rng.random_range(0..8);
            }
            vec![datagram.into()]
        });
        match server.poll_event() {
            Some(Event::Connected(connected)) => {
                completed += 1;
                if client.connected {
                    assert_same_keys(&client, &connected);
                }
            }
            Some(Event::Failed(failure)) => assert_ne!(failure, Failure::Panicked),
            None => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        completed > 10,
        "only {completed} handshakes were left intact"
    );
}

#[test]
fn early_sealed_records_are_bounded() {
    // rtc-dtls keeps what is sealed before it has keys.
    let now = Instant::now();
    let mut server = server();
    for number in 0..10_000 {
        server.handle_datagram(&record(22, 1, number, &[3; 48]), now);
        server.handle_datagram(&record(23, 1, number, &[3; 1_000]), now);
        server.handle_datagram(&record(20, 0, number, &[1]), now);
    }
    assert_eq!(server.sealed_handshakes, 0);
    let mut client = Client::new(&PROFILES, now);
    exchange(&mut client, &mut server, now, |datagram| vec![datagram]);
    assert!(server.poll_event().is_none(), "its budget is spent");
}

#[test]
fn a_lost_last_flight_is_sent_again_but_not_for_ever() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let mut server = server();
    // The server's last flight never arrives.
    for _ in 0..2 {
        while let Some(datagram) = client.poll_transmit() {
            server.handle_datagram(&datagram, now);
        }
        while let Some(datagram) = server.poll_transmit() {
            client.handle_datagram(&datagram, now);
        }
    }
    while let Some(datagram) = client.poll_transmit() {
        server.handle_datagram(&datagram, now);
    }
    connected(&mut server);
    while server.poll_transmit().is_some() {}

    let mut answered = 0;
    for _ in 0..50 {
        let now = client.poll_timeout().unwrap();
        client.handle_timeout(now);
        while let Some(datagram) = client.poll_transmit() {
            server.handle_datagram(&datagram, now);
        }
        let answers = std::iter::from_fn(|| server.poll_transmit()).count();
        answered += usize::from(answers > 0);
    }
    assert!((5..=20).contains(&answered), "{answered} answers");
}
