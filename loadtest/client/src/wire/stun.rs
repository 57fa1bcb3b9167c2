//! STUN (RFC 8489) as far as a client needs it: Binding requests out, answers in, and the other way
//! round.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

use super::{be16, be32};

pub(crate) const TRANSACTION_LEN: usize = 12;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER_LEN: usize = 20;
const INTEGRITY_LEN: usize = 24;
const FINGERPRINT_LEN: usize = 8;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554E;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802A;

/// A check (RFC 8445 section 7.2.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) transaction: [u8; TRANSACTION_LEN],
    pub(crate) local_ufrag: &'a str,
    pub(crate) remote_ufrag: &'a str,
    pub(crate) priority: u32,
    pub(crate) tie_breaker: u64,
    pub(crate) nominate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) transaction: [u8; TRANSACTION_LEN],
    pub(crate) outcome: Result<(), u16>,
}

/// The key of a password (RFC 8489 section 9.1.1).
pub(crate) fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

impl Request<'_> {
    pub(crate) fn write(&self, key: &hmac::Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(&self.transaction);
        let username = format!("{}:{}", self.remote_ufrag, self.local_ufrag);
        put(&mut out, USERNAME, username.as_bytes());
        put(&mut out, ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        put(&mut out, PRIORITY, &self.priority.to_be_bytes());
        if self.nominate {
            put(&mut out, USE_CANDIDATE, &[]);
        }
        finish(&mut out, key);
        out
    }
}

/// The transaction of a server's check, if it names `ufrag` as ours and is signed with our `key`.
pub(crate) fn read_request(
    message: &[u8],
    ufrag: &str,
    key: &hmac::Key,
) -> Option<[u8; TRANSACTION_LEN]> {
    let whole = HEADER_LEN + usize::from(be16(message, 2)?) == message.len();
    if !whole || be16(message, 0)? != BINDING_REQUEST || be32(message, 4)? != MAGIC_COOKIE {
        return None;
    }
    let (_, username) = attribute(message, USERNAME)?;
    let rest = username.strip_prefix(ufrag.as_bytes())?;
    let is_ours = rest.first() == Some(&b':') && is_signed(message, key)?;
    is_ours.then(|| message.get(8..HEADER_LEN)?.try_into().ok())?
}

/// The answer to a check that came from `from`.
pub(crate) fn write_success(
    transaction: &[u8; TRANSACTION_LEN],
    from: SocketAddr,
    key: &hmac::Key,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(&BINDING_SUCCESS.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    out.extend_from_slice(transaction);
    let (family, mut ip) = match from.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    for (byte, mask) in ip.iter_mut().zip(&out[4..]) {
        *byte ^= mask;
    }
    let port = from.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let value = [&[0, family], &port.to_be_bytes()[..], &ip].concat();
    put(&mut out, XOR_MAPPED_ADDRESS, &value);
    finish(&mut out, key);
    out
}

/// Signs a message.
fn finish(out: &mut Vec<u8>, key: &hmac::Key) {
    set_len(out, INTEGRITY_LEN);
    let tag = hmac::sign(key, out);
    put(out, MESSAGE_INTEGRITY, tag.as_ref());
    set_len(out, FINGERPRINT_LEN);
    let checksum = crc32fast::hash(out) ^ FINGERPRINT_XOR;
    put(out, FINGERPRINT, &checksum.to_be_bytes());
}

/// Counts what is about to be added as if it were there.
fn set_len(message: &mut [u8], about_to_come: usize) {
    let len = (message.len() + about_to_come - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// An answer. A success counts only if it is signed with the server's password; errors cannot be
/// where the credentials are what is wrong.
pub(crate) fn read_response(message: &[u8], key: &hmac::Key) -> Option<Response> {
    let kind = be16(message, 0)?;
    let whole = HEADER_LEN + usize::from(be16(message, 2)?) == message.len();
    if !whole || be32(message, 4)? != MAGIC_COOKIE {
        return None;
    }
    let transaction = message.get(8..HEADER_LEN)?.try_into().ok()?;
    let outcome = match kind {
        BINDING_SUCCESS => Ok(()),
        BINDING_ERROR => {
            let (at, value) = attribute(message, ERROR_CODE)?;
            debug_assert!(at >= HEADER_LEN);
            Err(u16::from(*value.get(2)?) * 100 + u16::from(*value.get(3)?))
        }
        _ => return None,
    };
    if outcome.is_ok() && !is_signed(message, key)? {
        return None;
    }
    Some(Response {
        transaction,
        outcome,
    })
}

fn is_signed(message: &[u8], key: &hmac::Key) -> Option<bool> {
    let (at, tag) = attribute(message, MESSAGE_INTEGRITY)?;
    let mut covered = message[..at].to_vec();
    set_len(&mut covered, INTEGRITY_LEN);
    Some(hmac::verify(key, &covered, tag).is_ok())
}

fn attribute(message: &[u8], wanted: u16) -> Option<(usize, &[u8])> {
    let mut at = HEADER_LEN;
    while let (Some(kind), Some(len)) = (be16(message, at), be16(message, at + 2)) {
        let value = message.get(at + 4..at + 4 + usize::from(len))?;
        if kind == wanted {
            return Some((at, value));
        }
        at += 4 + usize::from(len).next_multiple_of(4);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The success that a server makes of a request, signed with `key`.
    fn success(transaction: [u8; TRANSACTION_LEN], key: &hmac::Key) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&BINDING_SUCCESS.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(&transaction);
        set_len(&mut out, INTEGRITY_LEN);
        let tag = hmac::sign(key, &out);
        put(&mut out, MESSAGE_INTEGRITY, tag.as_ref());
        out
    }

    #[test]
    fn only_a_signed_success_counts() {
        let (ours, theirs) = (key("ours"), key("theirs"));
        let message = success([7; 12], &ours);
        let response = read_response(&message, &ours).unwrap();
        assert_eq!(
            response,
            Response {
                transaction: [7; 12],
                outcome: Ok(())
            }
        );
        assert_eq!(read_response(&message, &theirs), None);
        assert_eq!(read_response(&message[..30], &ours), None);
        assert_eq!(read_response(&[], &ours), None);
    }

    #[test]
    fn a_check_for_us_is_answered_as_the_rtc_crate_expects() {
        use rtc::stun::fingerprint::FINGERPRINT;
        use rtc::stun::message::{Getter, Message};
        use rtc::stun::xoraddr::XorMappedAddress;
        let ours = key("ours");
        let check = Request {
            transaction: [9; 12],
            local_ufrag: "server",
            remote_ufrag: "me",
            priority: 1,
            tie_breaker: 2,
            nominate: false,
        };
        let check = check.write(&ours);
        assert_eq!(read_request(&check, "me", &ours), Some([9; 12]));
        assert_eq!(read_request(&check, "m", &ours), None);
        assert_eq!(read_request(&check, "you", &ours), None);
        assert_eq!(read_request(&check, "me", &key("theirs")), None);
        assert_eq!(read_request(&check[..40], "me", &ours), None);
        for from in ["192.0.2.1:7000", "[2001:db8::1]:7000"] {
            let from: SocketAddr = from.parse().unwrap();
            let raw = write_success(&[9; 12], from, &ours);
            let outcome = read_response(&raw, &ours).map(|response| response.outcome);
            assert_eq!(outcome, Some(Ok(())));
            assert_eq!(read_request(&raw, "me", &ours), None);
            let mut message = Message::new();
            message.unmarshal_binary(&raw).unwrap();
            let mut address = XorMappedAddress::default();
            address.get_from(&message).unwrap();
            assert_eq!(SocketAddr::new(address.ip, address.port), from);
            FINGERPRINT.check(&message).unwrap();
        }
    }

    #[test]
    fn a_request_is_what_the_rtc_crate_reads() {
        use rtc::stun::attributes::ATTR_USERNAME;
        use rtc::stun::message::Message;
        use rtc::stun::textattrs::TextAttribute;
        let request = Request {
            transaction: [9; 12],
            local_ufrag: "me",
            remote_ufrag: "server",
            priority: 1,
            tie_breaker: 2,
            nominate: true,
        };
        let raw = request.write(&key("password"));
        let mut message = Message::new();
        message.unmarshal_binary(&raw).unwrap();
        let username = TextAttribute::get_from_as(&message, ATTR_USERNAME).unwrap();
        assert_eq!(username.text, "server:me");
        rtc::stun::fingerprint::FINGERPRINT.check(&message).unwrap();
    }
}
