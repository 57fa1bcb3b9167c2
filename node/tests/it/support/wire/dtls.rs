//! The DTLS client of a [`Wire`](super::Wire), and the SRTP keys that come out of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;
use pipemesh_node_media::srtp::{DtlsRole, MasterKeys, Opener, Profile, Sealer};
use rtc::dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;

/// rtc-dtls finds associations by address; ours has one, wherever its packets come from.
const NODE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
const SELF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// SSRCs that the node may use towards one client.
const MAX_SOURCES: usize = 1024;

pub(super) struct Dtls {
    endpoint: Endpoint,
    config: Arc<HandshakeConfig>,
    fingerprint: String,
    profile: Profile,
    started: bool,
}

pub(super) enum Event {
    Connected(Box<Opener>, Box<Sealer>),
    Data(Vec<u8>),
    Closed,
}

impl Dtls {
    pub(super) fn new(profile: Profile) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let names = vec!["client".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto()).unwrap();
        let hash = digest::digest(&digest::SHA256, &certificate.certificate[0]);
        let bytes: Vec<String> = hash.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        let offered = match profile {
            Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Profile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            Profile::AesCm128HmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![offered])
            .with_insecure_skip_verify(true)
            .build(true, Some(NODE))
            .unwrap();
        Self {
            endpoint: Endpoint::new(SELF, TransportProtocol::UDP, None),
            config: Arc::new(config),
            fingerprint: bytes.join(":"),
            profile,
            started: false,
        }
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Begins the handshake, once.
    pub(super) fn start(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.started, true) {
            let config = Arc::clone(&self.config);
            self.endpoint.connect(now, NODE, config, None).unwrap();
        }
    }

    pub(super) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> Vec<Event> {
        // What it does not understand it drops, as a client does.
        let events = self.endpoint.read(now, NODE, None, datagram.into());
        let mut told = Vec::new();
        for event in events.unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => told.push(self.connected()),
                EndpointEvent::ApplicationData(data) => told.push(Event::Data(data.to_vec())),
                EndpointEvent::PeerClosed => told.push(Event::Closed),
                _ => {}
            }
        }
        told
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let transmit = self.endpoint.poll_transmit()?;
        Some(transmit.message.to_vec())
    }

    /// Seals application data; nothing before the handshake is complete.
    pub(super) fn write(&mut self, data: &[u8], now: Instant) {
        let _ = self.endpoint.write(now, NODE, data);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&NODE)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        // A client whose flights are not answered gives up; the test's deadline reports it.
        let _ = self.endpoint.handle_timeout(NODE, now);
    }

    fn connected(&self) -> Event {
        let state = self.endpoint.get_connection_state(NODE).unwrap();
        let len = self.profile.keying_material_len();
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len);
        let material = material.unwrap().into_bytes();
        let keys = MasterKeys::from_dtls(self.profile, &material, DtlsRole::Client).unwrap();
        let opener = Opener::new(&keys.remote, MAX_SOURCES);
        Event::Connected(Box::new(opener), Box::new(Sealer::new(&keys.local)))
    }
}
