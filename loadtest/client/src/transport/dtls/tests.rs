use rtc::dtls::config::ClientAuthType;

use super::*;

struct Server {
    endpoint: Endpoint,
    fingerprint: String,
    connected: bool,
    received: Vec<BytesMut>,
}

impl Server {
    fn new(profile: Profile) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let names = vec!["server".to_owned()];
        let certificate =
            crypto::Certificate::generate_self_signed(names, provider.crypto()).unwrap();
        let fingerprint = fingerprint(&certificate.certificate[0]);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![offered(profile)])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(false, None)
            .unwrap();
        let endpoint = Endpoint::new(SERVER, TransportProtocol::UDP, Some(Arc::new(config)));
        Self {
            endpoint,
            fingerprint,
            connected: false,
            received: Vec::new(),
        }
    }

    fn handle(&mut self, datagram: &[u8], now: Instant) -> Vec<Bytes> {
        for event in self
            .endpoint
            .read(now, CLIENT, None, datagram.into())
            .unwrap_or_default()
        {
            match event {
                EndpointEvent::HandshakeComplete => self.connected = true,
                EndpointEvent::ApplicationData(data) => self.received.push(data),
                _ => {}
            }
        }
        let sent = std::iter::from_fn(|| self.endpoint.poll_transmit());
        sent.map(|transmit| transmit.message.freeze()).collect()
    }
}

/// Runs until nothing happens any more; `lose` decides of the client's datagrams, by number.
fn run(client: &mut Dtls, server: &mut Server, mut now: Instant, lose: impl Fn(usize) -> bool) {
    let mut sent = 0;
    loop {
        while let Some(datagram) = client.poll_transmit() {
            sent += 1;
            if lose(sent) {
                continue;
            }
            for answer in server.handle(&datagram, now) {
                client.handle_datagram(&answer, now);
            }
        }
        match client.poll_timeout() {
            Some(at) => now = at,
            None => return,
        }
        client.handle_timeout(now);
    }
}

fn identity() -> Identity {
    Identity::generate(&[Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80]).unwrap()
}

#[test]
fn the_profile_of_the_server_is_agreed_on_and_data_flows() {
    let identity = identity();
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        let now = Instant::now();
        let mut server = Server::new(profile);
        let mut client = Dtls::connect(&identity, &server.fingerprint, now);
        run(&mut client, &mut server, now, |_| false);
        let Some(Event::Connected(keys)) = client.poll_event() else {
            panic!("{profile:?}");
        };
        assert_eq!(keys.local.profile(), profile);
        client.write(b"hello", now);
        run(&mut client, &mut server, now, |_| false);
        assert_eq!(server.received[0][..], b"hello"[..]);
    }
}

#[test]
fn lost_flights_are_repeated() {
    let identity = identity();
    for lost in 1..6 {
        let now = Instant::now();
        let mut server = Server::new(Profile::AeadAes128Gcm);
        let mut client = Dtls::connect(&identity, &server.fingerprint, now);
        run(&mut client, &mut server, now, |number| number == lost);
        assert!(
            matches!(client.poll_event(), Some(Event::Connected(_))),
            "datagram {lost}"
        );
    }
}

#[test]
fn another_certificate_than_announced_is_refused_and_silence_ends() {
    let identity = identity();
    let now = Instant::now();
    let mut server = Server::new(Profile::AeadAes128Gcm);
    let mut client = Dtls::connect(&identity, "AA:BB", now);
    run(&mut client, &mut server, now, |_| false);
    assert!(matches!(client.poll_event(), Some(Event::Failed(_))));
    let mut client = Dtls::connect(&identity, "AA:BB", now);
    run(&mut client, &mut server, now, |_| true);
    assert!(matches!(client.poll_event(), Some(Event::Failed(_))));
}
