//! The transport that all sections share: ICE (RFC 8839), DTLS (RFC 8842), one BUNDLE group
//! (RFC 8843). The node is ICE-lite and always the DTLS server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use super::text::Writer;
use crate::session::ice::Credentials;
use crate::session::plan::{Fingerprint, HashAlgorithm};

/// More hashes of one certificate than there are algorithms.
const MAX_FINGERPRINTS: usize = 8;

/// Type preference of a host (RFC 8445 section 5.1.2.2).
const UDP_PREFERENCE: usize = 126;
/// Media suffers over TCP, so it is for those who have nothing else (RFC 6544 section 4.2). The number
/// is libwebrtc's.
const TCP_PREFERENCE: usize = 90;
/// Direction preference of a passive candidate (RFC 6544 section 4.2).
const PASSIVE: usize = 4;

/// The node's end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTransport {
    pub credentials: Credentials,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// UDP addresses, the preferred one first.
    pub candidates: Vec<SocketAddr>,
    /// Addresses that take TCP connections, for those that UDP does not reach.
    pub tcp_candidates: Arc<[SocketAddr]>,
    /// Largest data channel message the node takes, in bytes.
    pub max_message_size: u32,
}

/// Who opens the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    /// Offers only: the answer decides.
    Either,
    Client,
    Server,
}

impl Setup {
    fn name(self) -> &'static str {
        match self {
            Self::Either => "actpass",
            Self::Client => "active",
            Self::Server => "passive",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Either, Self::Client, Self::Server]
            .into_iter()
            .find(|setup| setup.name() == name)
    }
}

impl LocalTransport {
    /// The lines of every section. RFC 8843 wants them in the first one only, but not every client
    /// looks for them there.
    pub(super) fn section_lines(&self, setup: Setup) -> String {
        let mut lines = Writer::with_capacity(256);
        lines.line(format_args!("a=setup:{}", setup.name()));
        lines.line(format_args!("a=ice-ufrag:{}", self.credentials.ufrag));
        lines.line(format_args!("a=ice-pwd:{}", self.credentials.password));
        lines.line(format_args!(
            "a=fingerprint:sha-256 {}",
            hex(&self.fingerprint)
        ));
        lines.finish()
    }

    /// The candidates, all of them: what is bundled needs them once.
    pub(super) fn candidate_lines(&self) -> String {
        let (udp, tcp) = (&self.candidates, &self.tcp_candidates);
        let mut lines = Writer::with_capacity(80 * (udp.len() + tcp.len()));
        for (index, address) in udp.iter().enumerate() {
            let priority = priority(UDP_PREFERENCE, 65_535 - index.min(65_535));
            let (ip, port) = (address.ip(), address.port());
            lines.line(format_args!(
                "a=candidate:{} 1 udp {priority} {ip} {port} typ host",
                index + 1
            ));
        }
        for (index, address) in tcp.iter().enumerate() {
            let preference = (PASSIVE << 13) | (8_191 - index.min(8_191));
            let priority = priority(TCP_PREFERENCE, preference);
            let (ip, port) = (address.ip(), address.port());
            lines.line(format_args!(
                "a=candidate:{} 1 tcp {priority} {ip} {port} typ host tcptype passive",
                udp.len() + index + 1
            ));
        }
        lines.block("a=end-of-candidates\r\n");
        lines.finish()
    }
}

/// RFC 8445 section 5.1.2.1, of component 1.
fn priority(type_preference: usize, local_preference: usize) -> usize {
    (type_preference << 24) | (local_preference << 8) | 255
}

fn hex(digest: &[u8]) -> String {
    let mut text = String::with_capacity(3 * digest.len());
    for (index, byte) in digest.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        write!(text, "{colon}{byte:02X}").expect("a string takes what is written to it");
    }
    text
}

/// The peer's transport lines of the session or of one section.
#[derive(Debug, Clone, Default)]
pub(super) struct TransportLines<'a> {
    pub(super) ufrag: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) setup: Option<&'a str>,
    fingerprints: Vec<&'a str>,
}

impl<'a> TransportLines<'a> {
    /// Whether the attribute was one of them.
    pub(super) fn attribute(&mut self, name: &str, value: &'a str) -> bool {
        match name {
            "ice-ufrag" => self.ufrag = Some(value),
            "ice-pwd" => self.password = Some(value),
            "setup" => self.setup = Some(value),
            "fingerprint" if self.fingerprints.len() < MAX_FINGERPRINTS => {
                self.fingerprints.push(value)
            }
            "fingerprint" => {}
            _ => return false,
        }
        true
    }

    /// What a section does not say, the session says for all.
    pub(super) fn or(&self, session: &TransportLines<'a>) -> Self {
        let fingerprints = if self.fingerprints.is_empty() {
            &session.fingerprints
        } else {
            &self.fingerprints
        };
        Self {
            ufrag: self.ufrag.or(session.ufrag),
            password: self.password.or(session.password),
            setup: self.setup.or(session.setup),
            fingerprints: fingerprints.clone(),
        }
    }

    /// RFC 8839 section 5.4 gives the lengths. Whoever writes other characters than it allows is
    /// served all the same.
    pub(super) fn credentials(&self) -> Option<(&'a str, &'a str)> {
        let visible =
            |text: &&str| text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
        let ufrag = self
            .ufrag
            .filter(visible)
            .filter(|ufrag| ufrag.len() >= 4)?;
        let password = self
            .password
            .filter(visible)
            .filter(|password| password.len() >= 22)?;
        Some((ufrag, password))
    }

    /// `None` for a value that is not known. An offer that says nothing is active (RFC 4145 section
    /// 4.1), an answer passive.
    pub(super) fn setup(&self, absent: Setup) -> Option<Setup> {
        self.setup.map_or(Some(absent), Setup::parse)
    }

    /// Hashes that are too weak to rely on are passed over.
    pub(super) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.fingerprints
            .iter()
            .filter_map(|value| fingerprint(value))
            .collect()
    }
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, digest) = value.split_once(' ')?;
    let (algorithm, bytes) = match algorithm {
        name if name.eq_ignore_ascii_case("sha-256") => (HashAlgorithm::Sha256, 32),
        name if name.eq_ignore_ascii_case("sha-384") => (HashAlgorithm::Sha384, 48),
        name if name.eq_ignore_ascii_case("sha-512") => (HashAlgorithm::Sha512, 64),
        _ => return None,
    };
    let is_byte =
        |pair: &str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |pair: &str| is_byte(pair).then(|| u8::from_str_radix(pair, 16).ok())?;
    let digest: Vec<u8> = digest.trim().split(':').map(byte).collect::<Option<_>>()?;
    (digest.len() == bytes).then_some(Fingerprint { algorithm, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_address_families_and_protocols_are_offered() {
        let transport = LocalTransport {
            credentials: Credentials {
                ufrag: "user".into(),
                password: "password".into(),
            },
            fingerprint: [0xab; 32],
            candidates: vec![
                "192.0.2.1:7000".parse().unwrap(),
                "[2001:db8::1]:7000".parse().unwrap(),
            ],
            tcp_candidates: [
                "192.0.2.1:443".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            ]
            .into(),
            max_message_size: 262_144,
        };
        let expected = "a=candidate:1 1 udp 2130706431 192.0.2.1 7000 typ host\r\n\
                        a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host\r\n\
                        a=candidate:3 1 tcp 1520435199 192.0.2.1 443 typ host tcptype passive\r\n\
                        a=candidate:4 1 tcp 1520434943 2001:db8::1 443 typ host tcptype passive\r\n\
                        a=end-of-candidates\r\n";
        assert_eq!(transport.candidate_lines(), expected);
        let digest = ["AB"; 32].join(":");
        let expected = format!(
            "a=setup:passive\r\na=ice-ufrag:user\r\na=ice-pwd:password\r\na=fingerprint:sha-256 {digest}\r\n"
        );
        assert_eq!(transport.section_lines(Setup::Server), expected);
    }

    #[test]
    fn fingerprints_are_checked() {
        fn check(value: &str, expected: Option<HashAlgorithm>) {
            assert_eq!(
                fingerprint(value).map(|fingerprint| fingerprint.algorithm),
                expected,
                "{value}"
            );
        }
        check(
            &format!("sha-256 {}", ["0a"; 32].join(":")),
            Some(HashAlgorithm::Sha256),
        );
        check(
            &format!("SHA-512 {}", ["FF"; 64].join(":")),
            Some(HashAlgorithm::Sha512),
        );
        check(&format!("sha-256 {}", ["0a"; 31].join(":")), None);
        check(&format!("sha-256 {}", ["+a"; 32].join(":")), None);
        check(&format!("sha-1 {}", ["0a"; 20].join(":")), None);
        check("sha-256", None);
    }

    #[test]
    fn credentials_are_checked() {
        fn check(ufrag: &str, password: &str, valid: bool) {
            let lines = TransportLines {
                ufrag: Some(ufrag),
                password: Some(password),
                ..TransportLines::default()
            };
            assert_eq!(lines.credentials().is_some(), valid, "{ufrag} {password}");
        }
        let password = "sAYtWlW3y+vaybolLcY1cylz";
        check("yM3y", password, true);
        check("yM3", password, false);
        check("yM3y", "short", false);
        check("y 3y", password, false);
        check(&"u".repeat(257), password, false);
    }
}
