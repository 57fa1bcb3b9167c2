//! The client side of one connection's DTLS association, around rtc-dtls.
//!
//! rtc-dtls gives its timer up as soon as anything of a handshake comes in, however little of it;
//! so flights are repeated here, in the pauses in which browsers repeat theirs.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};
use pipemesh_node_media::srtp::{DtlsRole, MasterKeys, Profile};
use rtc::dtls::cipher_suite::CipherSuiteId;
use rtc::dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::shared::TransportProtocol;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;

/// rtc-dtls finds associations by address. A connection has one, whatever address it uses.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Handshake messages are cut at this length, so that a datagram stays within 1,200.
const FRAGMENT_LEN: usize = 1_170;

/// Chromium's pauses before it repeats a flight.
const PAUSES: [Duration; 8] = {
    let mut pauses = [Duration::from_millis(50); 8];
    let millis = [50, 70, 130, 250, 500, 1_000, 2_000, 4_000];
    let mut i = 0;
    while i < pauses.len() {
        pauses[i] = Duration::from_millis(millis[i]);
        i += 1;
    }
    pauses
};
const GIVE_UP_AFTER: usize = 12;

/// rtc-dtls ends the association when it repeats a flight more often.
const MAX_OWN_REPEATS: usize = 7;

/// Records that we number ourselves begin here, far from what rtc-dtls numbers.
const FIRST_RENUMBERED: u32 = 1_000;

const HANDSHAKE_EPOCH: [u8; 2] = [0, 0];
const RECORD_HEADER_LEN: usize = 13;

#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS certificate")]
pub struct CertificateError(#[from] rtc::shared::error::Error);

/// The certificate of all simulated participants of a process: making one and the handshake's
/// signature are what joining costs the generator.
pub(crate) struct Identity {
    config: Arc<HandshakeConfig>,
    fingerprint: String,
}

impl Identity {
    /// `profiles` in the order of preference.
    pub(crate) fn generate(profiles: &[Profile]) -> Result<Self, CertificateError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let names = vec!["participant".to_owned()];
        let certificate = crypto::Certificate::generate_self_signed(names, provider.crypto())?;
        let fingerprint = fingerprint(&certificate.certificate[0]);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
            .with_srtp_protection_profiles(profiles.iter().map(|it| offered(*it)).collect())
            // The server's certificate is compared with its fingerprint, not with authorities.
            .with_insecure_skip_verify(true)
            .with_flight_interval(PAUSES[0])
            .with_mtu(FRAGMENT_LEN)
            .build(true, Some(SERVER))?;
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
        })
    }

    /// As in `a=fingerprint:sha-256`.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, certificate);
    let bytes: Vec<String> = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

fn offered(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
        Profile::AesCm128HmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}

pub(crate) enum Event {
    Connected(Box<MasterKeys>),
    Data(Bytes),
    /// The server said goodbye.
    Closed,
    Failed(&'static str),
}

pub(crate) struct Dtls {
    endpoint: Endpoint,
    /// The server's certificate has to have this one.
    expected_fingerprint: String,
    connected: bool,
    over: bool,
    /// Sent last, to be sent again.
    flight: Vec<Bytes>,
    repeat: Option<Instant>,
    repeats: usize,
    next_record: u32,
    transmits: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

impl Dtls {
    /// Begins the handshake.
    pub(crate) fn connect(identity: &Identity, expected_fingerprint: &str, now: Instant) -> Self {
        let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, None);
        let started = endpoint.connect(now, SERVER, Arc::clone(&identity.config), None);
        let mut dtls = Self {
            endpoint,
            expected_fingerprint: expected_fingerprint.to_owned(),
            connected: false,
            over: false,
            flight: Vec::new(),
            repeat: None,
            repeats: 0,
            next_record: FIRST_RENUMBERED,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        match started {
            Ok(()) => dtls.collect(now),
            Err(_) => dtls.fail("the handshake cannot be started"),
        }
        dtls
    }

    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        if self.over {
            return;
        }
        // Errors are of one datagram: alerts among them end nothing that still works.
        let events = self.endpoint.read(now, SERVER, None, datagram.into());
        for event in events.unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => self.complete(),
                EndpointEvent::ApplicationData(data) if self.connected => {
                    self.events.push_back(Event::Data(data.freeze()));
                }
                EndpointEvent::PeerClosed => {
                    self.over = true;
                    self.events.push_back(Event::Closed);
                }
                _ => {}
            }
        }
        self.collect(now);
    }

    /// Seals application data. Before the handshake is complete nothing is sent.
    pub(crate) fn write(&mut self, data: &[u8], now: Instant) {
        if self.connected && !self.over && self.endpoint.write(now, SERVER, data).is_ok() {
            self.collect(now);
        }
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.over, true) {
            self.endpoint.stop(now, SERVER);
            self.collect(now);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.repeat.filter(|_| !self.connected && !self.over)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        self.repeats += 1;
        let repeats = self.repeats;
        if repeats > GIVE_UP_AFTER {
            return self.fail("the server does not answer the handshake");
        }
        // rtc-dtls seals and numbers its flight anew if its timer is still set.
        let due = self.endpoint.poll_timeout(&SERVER);
        let due = due.filter(|_| repeats <= MAX_OWN_REPEATS);
        if due.is_some_and(|due| self.endpoint.handle_timeout(SERVER, due).is_ok()) {
            self.collect(now);
        } else {
            for datagram in &self.flight {
                self.transmits
                    .push_back(renumber(datagram, &mut self.next_record));
            }
        }
        self.repeats = repeats;
        self.repeat = Some(now + PAUSES[repeats.min(PAUSES.len() - 1)]);
    }

    fn complete(&mut self) {
        let Some(state) = self.endpoint.get_connection_state(SERVER) else {
            return self.fail("the handshake left no state");
        };
        let certificate = state.peer_certificates.first();
        let expected = &self.expected_fingerprint;
        if !certificate.is_some_and(|it| fingerprint(it).eq_ignore_ascii_case(expected)) {
            return self.fail("the server's certificate is not the announced one");
        }
        match keys(state) {
            Some(keys) => {
                self.connected = true;
                self.events.push_back(Event::Connected(Box::new(keys)));
            }
            None => self.fail("no SRTP profile was agreed on"),
        }
    }

    fn fail(&mut self, why: &'static str) {
        self.over = true;
        self.events.push_back(Event::Failed(why));
    }

    fn collect(&mut self, now: Instant) {
        let sent = std::iter::from_fn(|| self.endpoint.poll_transmit());
        let datagrams: Vec<Bytes> = sent.map(|transmit| transmit.message.freeze()).collect();
        if datagrams.is_empty() {
            return;
        }
        self.transmits.extend(datagrams.iter().cloned());
        if !self.connected {
            self.flight = datagrams;
            self.repeats = 0;
            self.repeat = Some(now + PAUSES[0]);
        }
    }
}

fn keys(state: &State) -> Option<MasterKeys> {
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => Profile::AeadAes256Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
        _ => return None,
    };
    let len = profile.keying_material_len();
    let material = state
        .export_keying_material(EXPORTER_LABEL, &[], len)
        .ok()?;
    MasterKeys::from_dtls(profile, &material.into_bytes(), DtlsRole::Client).ok()
}

/// The same plain records under numbers that have not been used; sealed ones as they are.
fn renumber(datagram: &[u8], next: &mut u32) -> Bytes {
    let mut out = BytesMut::with_capacity(datagram.len());
    let mut rest = datagram;
    while let Some(header) = rest.first_chunk::<RECORD_HEADER_LEN>() {
        let len = RECORD_HEADER_LEN + usize::from(u16::from_be_bytes([header[11], header[12]]));
        let Some(record) = rest.get(..len) else {
            break;
        };
        if header[3..5] == HANDSHAKE_EPOCH {
            out.put_slice(&record[..7]);
            out.put_u32(*next);
            out.put_slice(&record[11..]);
            *next += 1;
        } else {
            out.put_slice(record);
        }
        rest = &rest[len..];
    }
    out.freeze()
}

#[cfg(test)]
mod tests;
