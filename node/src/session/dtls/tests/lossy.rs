//! Handshakes over a network that loses every fifth datagram.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::client::{Client, PROFILES};
use super::*;

const LATENCY: Duration = Duration::from_millis(10);
const LOSS: f64 = 0.2;
const DEADLINE: Duration = Duration::from_secs(30);

/// Either end of the server's side: with our repetition, or rtc-dtls alone.
enum Server {
    Ours(Box<DtlsServer>),
    Bare(Endpoint),
}

impl Server {
    fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        match self {
            Self::Ours(server) => {
                server.handle_datagram(datagram, now);
            }
            Self::Bare(endpoint) => drop(endpoint.read(now, PEER, None, datagram.into())),
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        match self {
            Self::Ours(server) => server.poll_transmit(),
            Self::Bare(endpoint) => sent(endpoint).next(),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Ours(server) => server.poll_timeout(),
            Self::Bare(endpoint) => endpoint.poll_timeout(&PEER),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Ours(server) => server.handle_timeout(now),
            Self::Bare(endpoint) => drop(endpoint.handle_timeout(PEER, now)),
        }
    }
}

/// How long a handshake took, if it came to an end.
fn handshake(mut server: Server, loss: f64, seed: u64) -> Option<Duration> {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut now = start;
    let mut client = Client::new(&PROFILES, now);
    let mut to_server: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut to_client: VecDeque<(Instant, Bytes)> = VecDeque::new();
    loop {
        while let Some(datagram) = client.poll_transmit() {
            if !rng.random_bool(loss) {
                to_server.push_back((now + LATENCY, datagram));
            }
        }
        while let Some(datagram) = server.poll_transmit() {
            assert!(datagram.len() <= 1_200);
            if !rng.random_bool(loss) {
                to_client.push_back((now + LATENCY, datagram));
            }
        }
        if client.connected {
            return Some(now - start);
        }
        let arrivals = [to_server.front(), to_client.front()];
        now = arrivals
            .into_iter()
            .flatten()
            .map(|(at, _)| *at)
            .chain(client.poll_timeout())
            .chain(server.poll_timeout())
            .min()?
            .max(now);
        if now - start > DEADLINE {
            return None;
        }
        while let Some((_, datagram)) = to_server.pop_front_if(|(at, _)| *at <= now) {
            server.handle_datagram(&datagram, now);
        }
        while let Some((_, datagram)) = to_client.pop_front_if(|(at, _)| *at <= now) {
            client.handle_datagram(&datagram, now);
        }
        client.handle_timeout(now);
        server.handle_timeout(now);
    }
}

fn ours() -> Server {
    Server::Ours(Box::new(server()))
}

fn bare() -> Server {
    let config = rtc::dtls::config::ConfigBuilder::default()
        .with_crypto_provider(Arc::new(rtc_crypto::providers::AwsLcRsProvider::new()))
        .with_certificates(vec![bare_certificate()])
        .with_srtp_protection_profiles(PROFILES[2..].to_vec())
        .with_client_auth(rtc::dtls::config::ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_flight_interval(Duration::from_millis(200))
        .build(false, None)
        .unwrap();
    Server::Bare(endpoint(&Arc::new(config)))
}

fn bare_certificate() -> rtc::dtls::crypto::Certificate {
    use rtc_crypto::RTCCryptoProvider;
    let provider = rtc_crypto::providers::AwsLcRsProvider::new();
    rtc::dtls::crypto::Certificate::generate_self_signed(vec!["bare".to_owned()], provider.crypto())
        .unwrap()
}

#[test]
fn two_hundred_of_two_hundred_complete() {
    let mut durations: Vec<Duration> = (0..200)
        .map(|seed| {
            handshake(ours(), LOSS, seed).unwrap_or_else(|| panic!("seed {seed} does not complete"))
        })
        .collect();
    durations.sort();
    println!(
        "20 % loss, 20 ms round trip: p50 {:?}, p90 {:?}, max {:?}",
        durations[100], durations[180], durations[199]
    );
    assert!(durations[100] < Duration::from_millis(500));
    assert!(durations[199] < Duration::from_secs(2));
}

#[test]
fn without_the_repetition_some_never_complete() {
    // The reason for `flight.rs`. Should this fail because rtc-dtls repeats by itself, that file
    // can go.
    let stuck = (0..40)
        .filter(|seed| handshake(bare(), LOSS, *seed).is_none())
        .count();
    println!("rtc-dtls alone: {stuck} of 40 do not complete");
    assert!(stuck > 0);
}

#[test]
fn without_loss_nothing_is_repeated() {
    let duration = handshake(ours(), 0.0, 0).unwrap();
    // Three round trips; the client's first repetition would come after 50 ms.
    assert_eq!(duration, 6 * LATENCY);
}

#[test]
fn a_third_lost_is_survived_as_well() {
    let completed = (0..50)
        .filter(|seed| handshake(ours(), 0.33, *seed).is_some())
        .count();
    println!("33 % loss: {completed} of 50 complete within 30 s");
    assert!(completed >= 49);
}
