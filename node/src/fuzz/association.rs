//! DTLS of a client whose handshake is complete: what anybody can send, and what only the client can, who
//! seals what it likes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rtc::dtls::cipher_suite::{CipherSuite, CipherSuiteId, cipher_suite_for_id};
use rtc::dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc::dtls::content::ContentType;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::record_layer::record_layer_header::{PROTOCOL_VERSION1_2, RecordLayerHeader};
use rtc::shared::TransportProtocol;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;

use super::pieces;
use crate::session::dtls::{Certificate, DtlsServer, DtlsTransport, Event, Failure};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

const CIPHERS: CipherSuiteId = CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256;
const MASTER_SECRET_LEN: usize = 48;
/// Of records that the client seals here; its library has used those before.
const FIRST_NUMBER: u64 = 1_000;

/// A piece is a datagram: as it is, or one that the client seals with all else as it should be.
pub fn run(input: &[u8]) {
    let mut now = Instant::now();
    let (mut server, mut client) = connect(now);
    let mut client_spoke = false;
    for piece in pieces(input).take(64) {
        let Some((&how, body)) = piece.split_first() else {
            continue;
        };
        let is_sealed = how & 1 != 0;
        let datagram = match is_sealed {
            true => client.seal(how >> 1, body),
            false => body.to_vec(),
        };
        client_spoke |= is_sealed;
        server.handle_datagram(&datagram, now);
        let sent: usize = std::iter::from_fn(|| server.poll_transmit())
            .map(|datagram| datagram.len())
            .sum();
        // An alert is answered with another one, a repeated flight with ours.
        assert!(sent <= 2_000, "{sent} bytes for {}", datagram.len());
        assert!(is_sealed || sent == 0, "strangers are not answered");
        while let Some(event) = server.poll_event() {
            match event {
                Event::ApplicationData(data) => assert!(is_sealed && data.len() <= body.len()),
                Event::Closed | Event::Failed(Failure::PeerAlert) if client_spoke => return,
                other => panic!("{other:?}"),
            }
        }
        now += Duration::from_millis(u64::from(how));
        server.handle_timeout(now);
    }
    // Nobody but the client has ended it, and it works.
    let hello = client.seal(ContentType::ApplicationData as u8, b"hello");
    assert!(server.handle_datagram(&hello, now));
    let event = server.poll_event();
    assert!(
        matches!(&event, Some(Event::ApplicationData(data)) if &data[..] == b"hello"),
        "{event:?}"
    );
}

/// A client with the keys of an association, who numbers and seals records itself.
struct Client {
    ciphers: Box<dyn CipherSuite>,
    next_number: u64,
}

impl Client {
    fn seal(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let body = &body[..body.len().min(1_400)];
        let header = RecordLayerHeader {
            content_type: ContentType::from(kind),
            protocol_version: PROTOCOL_VERSION1_2,
            epoch: 1,
            sequence_number: self.next_number,
            content_len: body.len() as u16,
        };
        self.next_number += 1;
        let mut raw = Vec::new();
        header.marshal(&mut raw).expect("it fits");
        raw[0] = kind;
        raw.extend(body);
        let sealed = self.ciphers.encrypt(&header, &raw);
        sealed.expect("there are keys")
    }
}

struct Party {
    certificate: Arc<Certificate>,
    config: Arc<HandshakeConfig>,
}

static PARTY: LazyLock<Party> = LazyLock::new(|| {
    let provider = provider();
    let names = vec!["client".to_owned()];
    let own = rtc::dtls::crypto::Certificate::generate_self_signed(names, provider.crypto());
    let config = ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![own.expect("keys can be made")])
        .with_cipher_suites(vec![CIPHERS])
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
        .with_insecure_skip_verify(true)
        .build(true, Some(SERVER))
        .expect("it is complete");
    Party {
        certificate: Arc::new(Certificate::generate().expect("keys can be made")),
        config: Arc::new(config),
    }
});

fn provider() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(AwsLcRsProvider::new())
}

/// A whole handshake. Ends with the client's keys in our hands.
fn connect(now: Instant) -> (DtlsServer, Client) {
    let mut server = DtlsServer::new(Arc::clone(&PARTY.certificate));
    let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, None);
    let config = Arc::clone(&PARTY.config);
    let begun = endpoint.connect(now, SERVER, config, None);
    begun.expect("it is the first");
    let mut randoms = [[0; 32]; 2];
    let mut is_connected = false;
    while !is_connected {
        let mut silent = true;
        while let Some(transmit) = endpoint.poll_transmit() {
            silent = false;
            note_random(&transmit.message, CLIENT_HELLO, &mut randoms[0]);
            server.handle_datagram(&transmit.message, now);
        }
        while let Some(datagram) = server.poll_transmit() {
            silent = false;
            note_random(&datagram, SERVER_HELLO, &mut randoms[1]);
            let events = endpoint.read(now, SERVER, None, datagram[..].into());
            let events = events.expect("the server means well");
            is_connected |= events
                .iter()
                .any(|event| matches!(event, EndpointEvent::HandshakeComplete));
        }
        assert!(!silent, "the handshake does not go on");
    }
    assert!(matches!(server.poll_event(), Some(Event::Connected(_))));
    let state = endpoint.get_connection_state(SERVER);
    let state = state.expect("it is connected").marshal_binary();
    let state = state.expect("it is complete");
    let mut ciphers = cipher_suite_for_id(CIPHERS).expect("it is known");
    // What is not of fixed length comes first, and of that the master secret.
    let secret = &state[..MASTER_SECRET_LEN];
    let begun = ciphers.init(provider(), secret, &randoms[0], &randoms[1], true);
    begun.expect("lengths are right");
    let client = Client {
        ciphers,
        next_number: FIRST_NUMBER,
    };
    (server, client)
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// Takes the random of a hello down, which stands behind the headers and a version (RFC 5246 section 7.4.1).
fn note_random(datagram: &[u8], hello: u8, random: &mut [u8; 32]) {
    const KIND_AT: usize = 13;
    const RANDOM_AT: usize = 13 + 12 + 2;
    if datagram.get(KIND_AT) == Some(&hello)
        && let Some(found) = datagram.get(RANDOM_AT..).and_then(<[u8]>::first_chunk)
    {
        *random = *found;
    }
}
