//! A browser's DTLS, as far as the server can tell: the client of rtc-dtls, which in addition
//! repeats its flight the way Chromium does, again and again after 50, 120, 250, 500 ms.

use std::time::Duration;

use bytes::BufMut;
use rtc::dtls::config::ConfigBuilder;
use rtc::dtls::crypto::Certificate;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};

use super::super::keys::EXPORTER_LABEL;
use super::super::*;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

/// In Chromium's order.
pub(in crate::session) const PROFILES: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
];

pub(in crate::session) struct Client {
    endpoint: Endpoint,
    certificate: Vec<u8>,
    transmits: VecDeque<Bytes>,
    flight: Vec<Bytes>,
    deadline: Option<Instant>,
    repeats: usize,
    next_record: u32,
    pub(in crate::session) connected: bool,
    pub(in crate::session) closed: bool,
    pub(in crate::session) received: Vec<BytesMut>,
}

impl Client {
    pub(in crate::session) fn new(profiles: &[SrtpProtectionProfile], now: Instant) -> Self {
        Self::fragmenting(profiles, 1_200, now)
    }

    pub(in crate::session) fn fragmenting(
        profiles: &[SrtpProtectionProfile],
        mtu: usize,
        now: Instant,
    ) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate =
            Certificate::generate_self_signed(vec!["browser".to_owned()], provider.crypto())
                .unwrap();
        let der = certificate.certificate[0].to_vec();
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_insecure_skip_verify(true)
            .with_flight_interval(Duration::from_millis(50))
            .with_mtu(mtu)
            .build(true, Some(SERVER))
            .unwrap();
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint
            .connect(now, SERVER, Arc::new(config), None)
            .unwrap();
        let mut client = Self {
            endpoint,
            certificate: der,
            transmits: VecDeque::new(),
            flight: Vec::new(),
            deadline: None,
            repeats: 0,
            next_record: 1_000,
            connected: false,
            closed: false,
            received: Vec::new(),
        };
        client.collect(now);
        client
    }

    pub(in crate::session) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(in crate::session) fn server_certificate(&self) -> Vec<u8> {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        state.peer_certificates[0].clone()
    }

    pub(in crate::session) fn keying_material(&self, length: usize) -> Vec<u8> {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        let material = state.export_keying_material(EXPORTER_LABEL, &[], length);
        material.unwrap().into_bytes()
    }

    pub(in crate::session) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        if let Ok(events) = self.endpoint.read(now, SERVER, None, datagram.into()) {
            for event in events {
                match event {
                    EndpointEvent::HandshakeComplete => self.connected = true,
                    EndpointEvent::ApplicationData(data) => self.received.push(data),
                    EndpointEvent::PeerClosed => self.closed = true,
                    _ => {}
                }
            }
        }
        self.collect(now);
    }

    pub(in crate::session) fn write(&mut self, data: &[u8], now: Instant) {
        self.endpoint.write(now, SERVER, data).unwrap();
        self.collect(now);
    }

    pub(in crate::session) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, SERVER);
        self.collect(now);
    }

    pub(in crate::session) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmits.pop_front()
    }

    pub(in crate::session) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.connected)
    }

    pub(in crate::session) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.repeats += 1;
        let repeats = self.repeats;
        // rtc-dtls seals and numbers its flight anew, as browsers do, if its timer is still set.
        // At the eighth time it would give up, as browsers do not.
        let due = self.endpoint.poll_timeout(&SERVER).filter(|_| repeats <= 7);
        if due.is_none_or(|due| self.endpoint.handle_timeout(SERVER, due).is_err()) {
            for datagram in self.flight.clone() {
                let renumbered = renumber(&datagram, &mut self.next_record);
                self.transmits.push_back(renumbered);
            }
        } else {
            self.collect(now);
        }
        self.repeats = repeats;
        let pauses = [50, 70, 130, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];
        let pause = pauses[self.repeats.min(pauses.len() - 1)];
        self.deadline = Some(now + Duration::from_millis(pause));
    }

    fn collect(&mut self, now: Instant) {
        let datagrams: Vec<Bytes> = sent(&mut self.endpoint).collect();
        if !datagrams.is_empty() {
            self.transmits.extend(datagrams.iter().cloned());
            self.flight = datagrams;
            self.repeats = 0;
            self.deadline = Some(now + Duration::from_millis(50));
        }
    }
}

/// The same plain records under numbers that have not been used.
fn renumber(datagram: &[u8], next: &mut u32) -> Bytes {
    let mut out = BytesMut::new();
    for record in record::records(datagram) {
        if record.epoch == 0 {
            record::write_plain(&mut out, record.kind, *next, &[record.body]);
            *next += 1;
        } else {
            out.extend_from_slice(record.bytes);
        }
    }
    out.freeze()
}

/// Packs a flight's plain handshake messages into records of `capacity` bytes, cutting messages
/// where a record is full. One datagram per record.
pub(in crate::session) fn repack(datagram: &[u8], capacity: usize) -> Vec<Bytes> {
    let mut number = u32::from_be_bytes(datagram[7..11].try_into().unwrap()) * 100;
    let mut out = Vec::new();
    let mut record_body: Vec<u8> = Vec::new();
    let mut flush = |body: &mut Vec<u8>| {
        if !body.is_empty() {
            let mut record = BytesMut::new();
            record::write_plain(&mut record, record::HANDSHAKE, number, &[body]);
            number += 1;
            body.clear();
            out.push(record.freeze());
        }
    };
    let mut rest = Vec::new();
    for record in record::records(datagram) {
        if record.kind != record::HANDSHAKE || record.epoch != 0 {
            rest.push(Bytes::copy_from_slice(record.bytes));
            continue;
        }
        let (header, body) = record.body.split_at(12);
        let mut offset = 0;
        loop {
            let room = capacity.saturating_sub(record_body.len() + 12);
            if room == 0 {
                flush(&mut record_body);
                continue;
            }
            let length = room.min(body.len() - offset);
            record_body.extend_from_slice(&header[..6]);
            record_body.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
            record_body.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
            record_body.put_slice(&body[offset..offset + length]);
            offset += length;
            if offset == body.len() {
                break;
            }
        }
    }
    flush(&mut record_body);
    out.extend(rest);
    out
}
