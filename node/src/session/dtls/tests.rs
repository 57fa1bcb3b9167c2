//! Handshakes with the client of rtc-dtls, in virtual time.

pub(in crate::session) mod client;
mod hostile;
mod lossy;

use std::time::Duration;

use aws_lc_rs::digest;

use super::*;
use crate::session::plan::{Fingerprint, HashAlgorithm};
use client::{Client, PROFILES};

fn server() -> DtlsServer {
    DtlsServer::new(certificate())
}

/// Shared by all tests, as in a process.
pub(in crate::session) fn certificate() -> Arc<Certificate> {
    static CERTIFICATE: std::sync::LazyLock<Arc<Certificate>> =
        std::sync::LazyLock::new(|| Arc::new(Certificate::generate().unwrap()));
    CERTIFICATE.clone()
}

/// Passes datagrams to and fro, each through `tamper` on its way to the server, until silence.
fn exchange(
    client: &mut Client,
    server: &mut DtlsServer,
    now: Instant,
    mut tamper: impl FnMut(Bytes) -> Vec<Bytes>,
) {
    loop {
        let mut quiet = true;
        while let Some(datagram) = client.poll_transmit() {
            quiet = false;
            for datagram in tamper(datagram) {
                server.handle_datagram(&datagram, now);
            }
        }
        while let Some(datagram) = server.poll_transmit() {
            quiet = false;
            client.handle_datagram(&datagram, now);
        }
        if quiet {
            return;
        }
    }
}

fn connect(client: &mut Client, now: Instant) -> (DtlsServer, Connected) {
    let mut server = server();
    exchange(client, &mut server, now, |datagram| vec![datagram]);
    let connected = connected(&mut server);
    (server, connected)
}

fn connected(server: &mut DtlsServer) -> Connected {
    match server.poll_event() {
        Some(Event::Connected(connected)) => *connected,
        other => panic!("not connected: {other:?}"),
    }
}

fn assert_same_keys(client: &Client, connected: &Connected) {
    let keys = &connected.keys;
    let material = [
        keys.client().key,
        keys.server().key,
        keys.client().salt,
        keys.server().salt,
    ];
    assert_eq!(
        client.keying_material(material.concat().len()),
        material.concat()
    );
}

#[test]
fn gcm_is_chosen_though_the_client_prefers_cm() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (_, connected) = connect(&mut client, now);
    assert_eq!(connected.keys.profile, SrtpProfile::AeadAes128Gcm);
    assert_eq!(connected.keys.client().salt.len(), 12);
    assert_same_keys(&client, &connected);
    assert_eq!(connected.peer_certificate, client.certificate());
}

#[test]
fn a_client_without_gcm_gets_cm() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES[..1], now);
    let (_, connected) = connect(&mut client, now);
    assert_eq!(connected.keys.profile, SrtpProfile::Aes128CmSha1_80);
    assert_eq!(connected.keys.server().salt.len(), 14);
    assert_same_keys(&client, &connected);
}

#[test]
fn a_client_with_neither_profile_fails() {
    for profiles in [&PROFILES[1..2], &[]] {
        let now = Instant::now();
        let mut client = Client::new(profiles, now);
        let mut server = server();
        exchange(&mut client, &mut server, now, |datagram| vec![datagram]);
        let event = server.poll_event();
        assert!(
            matches!(event, Some(Event::Failed(Failure::NoSrtpProfile))),
            "{event:?}"
        );
    }
}

#[test]
fn the_certificate_is_compared_with_what_was_announced() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (_, connected) = connect(&mut client, now);
    let certificate = connected.peer_certificate;
    let announce = |algorithm, digest: &'static digest::Algorithm| Fingerprint {
        algorithm,
        digest: digest::digest(digest, &certificate).as_ref().to_vec(),
    };
    let mut wrong = announce(HashAlgorithm::Sha256, &digest::SHA256);
    wrong.digest[31] ^= 1;
    let truncated = Fingerprint {
        digest: wrong.digest[..0].to_vec(),
        ..wrong.clone()
    };
    for (algorithm, digest) in [
        (HashAlgorithm::Sha256, &digest::SHA256),
        (HashAlgorithm::Sha384, &digest::SHA384),
        (HashAlgorithm::Sha512, &digest::SHA512),
    ] {
        let right = announce(algorithm, digest);
        assert!(is_announced(&certificate, &[wrong.clone(), right]));
    }
    assert!(!is_announced(&certificate, &[wrong, truncated]));
    assert!(!is_announced(&certificate, &[]));
}

#[test]
fn our_fingerprint_is_that_of_our_certificate() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    connect(&mut client, now);
    let announced = certificate().fingerprint().clone();
    assert!(is_announced(&client.server_certificate(), &[announced]));
}

#[test]
fn application_data_flows_both_ways() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    client.write(b"ping", now);
    server.write(b"pong", now).unwrap();
    exchange(&mut client, &mut server, now, |datagram| vec![datagram]);
    assert!(matches!(server.poll_event(), Some(Event::ApplicationData(d)) if &d[..] == b"ping"));
    assert_eq!(client.received, ["pong"]);
}

#[test]
fn nothing_can_be_written_before_and_after() {
    let now = Instant::now();
    let mut server = server();
    assert!(server.write(b"early", now).is_err());
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    server.close(now);
    assert!(server.write(b"late", now).is_err());
}

#[test]
fn our_goodbye_reaches_the_client() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    server.close(now);
    server.close(now);
    exchange(&mut client, &mut server, now, |datagram| vec![datagram]);
    assert!(client.closed);
    assert!(server.poll_event().is_none());
}

#[test]
fn what_asks_for_a_cookie_is_repeated_unasked() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let mut server = server();
    while let Some(hello) = client.poll_transmit() {
        server.handle_datagram(&hello, now);
    }
    let asked: Vec<Bytes> = std::iter::from_fn(|| server.poll_transmit()).collect();
    let due = server.poll_timeout().unwrap();
    server.handle_timeout(due);
    let again: Vec<Bytes> = std::iter::from_fn(|| server.poll_transmit()).collect();
    assert!(!asked.is_empty());
    assert_eq!(again, asked);
}

#[test]
fn the_last_flight_is_repeated_until_data_shows_that_it_came() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    let due = server.poll_timeout().unwrap();
    server.handle_timeout(due);
    let repeated: Vec<Bytes> = std::iter::from_fn(|| server.poll_transmit()).collect();
    assert!(!repeated.is_empty());
    // Who has it does not mind.
    for datagram in &repeated {
        client.handle_datagram(datagram, due);
    }
    assert!(server.poll_timeout().is_some_and(|next| next > due));
    client.write(b"data", due);
    exchange(&mut client, &mut server, due, |datagram| vec![datagram]);
    assert!(
        matches!(server.poll_event(), Some(Event::ApplicationData(data)) if data == b"data"[..])
    );
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn nothing_comes_after_the_clients_goodbye() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    client.close(now);
    exchange(&mut client, &mut server, now, |datagram| vec![datagram]);
    assert!(matches!(server.poll_event(), Some(Event::Closed)));

    // rtc-dtls would begin a new association with each of these.
    let mut next = Client::new(&PROFILES, now);
    let hello = next.poll_transmit().unwrap();
    for datagram in [&hello[..], b"\x16garbage", &[20; 40], &[63; 1200]] {
        server.handle_datagram(datagram, now);
        assert!(server.poll_transmit().is_none() && server.poll_event().is_none());
    }
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn reordered_and_duplicated_datagrams() {
    let now = Instant::now();
    let mut client = Client::fragmenting(&PROFILES, 90, now);
    let mut server = server();
    // Held back until the flight is whole, then handed over backwards and twice.
    for _ in 0..4 {
        let mut flight: Vec<Bytes> = std::iter::from_fn(|| client.poll_transmit()).collect();
        flight.reverse();
        for datagram in flight.iter().chain(&flight) {
            server.handle_datagram(datagram, now + Duration::from_millis(1));
        }
        while let Some(datagram) = server.poll_transmit() {
            client.handle_datagram(&datagram, now);
        }
    }
    let connected = connected(&mut server);
    assert_same_keys(&client, &connected);
}

#[test]
fn messages_packed_across_records_as_boringssl_does() {
    // A client whose certificate does not fit one datagram puts the end of it and the messages
    // behind it into one record.
    for capacity in [60, 130, 400] {
        let now = Instant::now();
        let mut client = Client::new(&PROFILES, now);
        let mut server = server();
        exchange(&mut client, &mut server, now, |datagram| {
            client::repack(&datagram, capacity)
        });
        let connected = connected(&mut server);
        assert_same_keys(&client, &connected);
    }
}

#[test]
fn it_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<DtlsServer>();
    is_send::<Connected>();
}

#[test]
fn keys_are_not_printed() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (_, connected) = connect(&mut client, now);
    let printed = format!("{:?}", connected.keys);
    assert!(printed.contains("REDACTED"), "{printed}");
}

#[test]
fn what_is_left_of_a_handshake_seals_as_it_should() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let (mut server, _) = connect(&mut client, now);
    for number in 0..100u32 {
        let data = vec![number as u8; 12 * number as usize];
        client.write(&data, now);
        server.write(&data, now).unwrap();
        exchange(&mut client, &mut server, now, |datagram| {
            vec![datagram.clone(), datagram]
        });
        assert!(matches!(server.poll_event(), Some(Event::ApplicationData(d)) if d == data));
        assert!(
            server.poll_event().is_none(),
            "a replayed record is dropped"
        );
    }
    assert_eq!(client.received.len(), 100);
}

#[test]
fn whoever_lacks_our_finished_gets_it_again_until_data_shows_that_it_arrived() {
    let now = Instant::now();
    let mut client = Client::new(&PROFILES, now);
    let mut server = server();
    let mut last = Vec::new();
    exchange(&mut client, &mut server, now, |datagram| {
        last.push(datagram.clone());
        vec![datagram]
    });
    connected(&mut server);
    // The client's last flight once more, its Finished under a number that was taken.
    let later = now + Duration::from_secs(1);
    server.handle_datagram(last.last().unwrap(), later);
    assert!(server.poll_transmit().is_some());
    let State::Connected(connection) = &server.state else {
        panic!("not connected");
    };
    assert!(connection.flight.is_some());
    client.write(b"arrived", later);
    exchange(&mut client, &mut server, later, |datagram| vec![datagram]);
    let State::Connected(connection) = &server.state else {
        panic!("not connected");
    };
    assert!(connection.flight.is_none());
}
