//! STUN (RFC 8489) as far as our ICE agent needs it: Binding requests and their answers, in both
//! directions.
//!
//! Reading borrows the datagram and writing fills an array, so a flood of checks costs no
//! allocation. What is read stays untrusted until `is_signed_by` says otherwise.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_LENGTH: usize = 20;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
pub(super) const TRANSACTION_LENGTH: usize = 12;
const TAG_LENGTH: usize = 20;
const INTEGRITY_LENGTH: usize = ATTRIBUTE_HEADER_LENGTH + TAG_LENGTH;
const FINGERPRINT_LENGTH: usize = ATTRIBUTE_HEADER_LENGTH + 4;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLED_LENGTH: usize = ATTRIBUTE_HEADER_LENGTH + 8;
const PRIORITY_LENGTH: usize = ATTRIBUTE_HEADER_LENGTH + 4;
/// Of a peer-reflexive candidate (RFC 8445 section 5.1.2), which a client would take our address for if
/// it did not know it.
const OUR_PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 0xFF;
/// draft-thatcher-ice-renomination; the number is libwebrtc's.
const NOMINATION: u16 = 0xC001;
/// Attribute types below this one have to be understood (RFC 8489 section 14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// A Binding request, borrowed from its datagram.
#[derive(Debug)]
pub(super) struct Request<'a> {
    datagram: &'a [u8],
    pub(super) username: Option<&'a [u8]>,
    /// Offset of the MESSAGE-INTEGRITY attribute. Nothing behind it is read (RFC 8489 section 14.5).
    integrity: Option<usize>,
    pub(super) use_candidate: bool,
    pub(super) nomination: Option<u32>,
    /// The sender believes that it is controlled.
    pub(super) controlled: bool,
    /// The first attribute that would have to be understood and is not.
    pub(super) unknown: Option<u16>,
    fingerprint: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParseError {
    Malformed,
    /// Well-formed STUN, but no Binding request: an indication, a response, another method.
    NotARequest,
    /// Well-formed STUN, but no success of a Binding request.
    NotASuccess,
    /// The checksum over a well-formed message does not match.
    Fingerprint,
}

impl<'a> Request<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let kind = header(datagram).ok_or(ParseError::Malformed)?;
        if kind != BINDING_REQUEST {
            return Err(ParseError::NotARequest);
        }
        let mut request = Self {
            datagram,
            username: None,
            integrity: None,
            use_candidate: false,
            nomination: None,
            controlled: false,
            unknown: None,
            fingerprint: false,
        };
        let mut attributes = Attributes::of(datagram);
        for attribute in &mut attributes {
            request.take(&attribute)?;
        }
        if attributes.malformed {
            return Err(ParseError::Malformed);
        }
        Ok(request)
    }

    fn take(&mut self, attribute: &Attribute<'a>) -> Result<(), ParseError> {
        if self.fingerprint {
            // FINGERPRINT is the last attribute (RFC 8489 section 14.7).
            return Err(ParseError::Malformed);
        }
        let value = attribute.value;
        match attribute.kind {
            FINGERPRINT => {
                let expected = checksum(&self.datagram[..attribute.offset]) ^ FINGERPRINT_XOR;
                if value != expected.to_be_bytes() {
                    return Err(ParseError::Fingerprint);
                }
                self.fingerprint = true;
            }
            _ if self.integrity.is_some() => {}
            MESSAGE_INTEGRITY if value.len() == TAG_LENGTH => {
                self.integrity = Some(attribute.offset);
            }
            MESSAGE_INTEGRITY => return Err(ParseError::Malformed),
            USERNAME if self.username.is_none() => self.username = Some(value),
            USE_CANDIDATE => self.use_candidate = true,
            NOMINATION => {
                let value = value.try_into().map_err(|_| ParseError::Malformed)?;
                self.nomination = Some(u32::from_be_bytes(value));
            }
            ICE_CONTROLLED => self.controlled = true,
            USERNAME | PRIORITY => {}
            unknown if unknown < COMPREHENSION_OPTIONAL => {
                self.unknown.get_or_insert(unknown);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.datagram.len()
    }

    pub(super) fn claims_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether MESSAGE-INTEGRITY was made with `key`; compared in constant time.
    pub(super) fn is_signed_by(&self, key: &hmac::Key) -> bool {
        is_signed(self.datagram, self.integrity, key)
    }

    fn transaction(&self) -> &'a [u8; TRANSACTION_LENGTH] {
        transaction_of(self.datagram).expect("it has a header")
    }
}

/// A success that answers a Binding request, borrowed from its datagram. Whoever does not know us says
/// so with an error, which proves nothing.
#[derive(Debug)]
pub(super) struct Success<'a> {
    datagram: &'a [u8],
    integrity: Option<usize>,
}

impl<'a> Success<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        if header(datagram).ok_or(ParseError::Malformed)? != BINDING_SUCCESS {
            return Err(ParseError::NotASuccess);
        }
        let mut attributes = Attributes::of(datagram);
        let integrity = attributes.find(|attribute| attribute.kind == MESSAGE_INTEGRITY);
        let whole = integrity.filter(|attribute| attribute.value.len() == TAG_LENGTH);
        Ok(Self {
            datagram,
            integrity: whole.map(|attribute| attribute.offset),
        })
    }

    /// See [`Request::is_signed_by`].
    pub(super) fn is_signed_by(&self, key: &hmac::Key) -> bool {
        is_signed(self.datagram, self.integrity, key)
    }

    pub(super) fn answers(&self, transaction: &[u8; TRANSACTION_LENGTH]) -> bool {
        transaction_of(self.datagram) == Some(transaction)
    }
}

/// The transaction of a Binding response. Nothing about the datagram is verified.
pub(super) fn answered(datagram: &[u8]) -> Option<&[u8; TRANSACTION_LENGTH]> {
    let kind = header(datagram)?;
    let is_response = kind == BINDING_SUCCESS || kind == BINDING_ERROR;
    transaction_of(datagram).filter(|_| is_response)
}

fn transaction_of(datagram: &[u8]) -> Option<&[u8; TRANSACTION_LENGTH]> {
    datagram
        .get(HEADER_LENGTH - TRANSACTION_LENGTH..)?
        .first_chunk()
}

/// Whether the MESSAGE-INTEGRITY at `offset` was made with `key`; compared in constant time.
fn is_signed(datagram: &[u8], offset: Option<usize>, key: &hmac::Key) -> bool {
    let Some(offset) = offset else {
        return false;
    };
    let tag = &datagram[offset + ATTRIBUTE_HEADER_LENGTH..offset + INTEGRITY_LENGTH];
    let expected = sign(key, &datagram[..offset]);
    constant_time::verify_slices_are_equal(expected.as_ref(), tag).is_ok()
}

/// The part of USERNAME that names the receiver, if `datagram` is a Binding request.
///
/// Only says where the datagram wants to go: nothing about it is verified.
pub(super) fn receiver_of(datagram: &[u8]) -> Option<&str> {
    if header(datagram)? != BINDING_REQUEST {
        return None;
    }
    let username = Attributes::of(datagram).find(|attribute| attribute.kind == USERNAME)?;
    std::str::from_utf8(split_username(username.value)?.0).ok()
}

/// `receiver:sender` (RFC 8445 section 7.2.2).
pub(super) fn split_username(username: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = username.iter().position(|byte| *byte == b':')?;
    Some((&username[..colon], &username[colon + 1..]))
}

/// The message type, if this is the header of a message that fills the datagram.
fn header(datagram: &[u8]) -> Option<u16> {
    let header: &[u8; HEADER_LENGTH] = datagram.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let whole = length.is_multiple_of(4) && HEADER_LENGTH + length == datagram.len();
    let kind = u16::from_be_bytes([header[0], header[1]]);
    (whole && header[4..8] == MAGIC_COOKIE && kind & 0xC000 == 0).then_some(kind)
}

struct Attribute<'a> {
    kind: u16,
    /// Of the attribute's header in the datagram.
    offset: usize,
    value: &'a [u8],
}

struct Attributes<'a> {
    datagram: &'a [u8],
    offset: usize,
    malformed: bool,
}

impl<'a> Attributes<'a> {
    fn of(datagram: &'a [u8]) -> Self {
        Self {
            datagram,
            offset: HEADER_LENGTH,
            malformed: false,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.datagram.get(self.offset..)?;
        if rest.is_empty() || self.malformed {
            return None;
        }
        let attribute = rest.first_chunk().and_then(|header: &[u8; 4]| {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            Some(Attribute {
                kind: u16::from_be_bytes([header[0], header[1]]),
                offset: self.offset,
                value: rest.get(ATTRIBUTE_HEADER_LENGTH..ATTRIBUTE_HEADER_LENGTH + length)?,
            })
        });
        match &attribute {
            Some(attribute) => {
                self.offset += ATTRIBUTE_HEADER_LENGTH + attribute.value.len().next_multiple_of(4);
            }
            None => self.malformed = true,
        }
        attribute
    }
}

/// HMAC over a message up to its MESSAGE-INTEGRITY attribute, with the length that the message
/// has if that attribute ends it (RFC 8489 section 14.5).
fn sign(key: &hmac::Key, covered: &[u8]) -> hmac::Tag {
    let length = (covered.len() + INTEGRITY_LENGTH - HEADER_LENGTH) as u16;
    let mut context = hmac::Context::with_key(key);
    context.update(&covered[..2]);
    context.update(&length.to_be_bytes());
    context.update(&covered[4..]);
    context.sign()
}

/// The key of a password (short-term credentials, RFC 8489 section 9.1.1).
pub(super) fn integrity_key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorCode {
    BadRequest,
    Unauthenticated,
    UnknownAttribute(u16),
    RoleConflict,
}

/// A message to be sent. An answer is never longer than the request it answers, so that a forged sender
/// address gains an attacker nothing.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    buffer: [u8; Self::CAPACITY],
    length: usize,
}

impl Message {
    /// Of a check with the longest username that a client's 256 characters (RFC 8839 section 5.4) and
    /// ours make.
    const CAPACITY: usize = 352;

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    pub(super) fn success(request: &Request<'_>, to: SocketAddr, key: &hmac::Key) -> Option<Self> {
        let mut reply = Self::reply(BINDING_SUCCESS, request);
        reply.put_address(to);
        reply.put_integrity(key);
        reply.finish_reply(request)
    }

    /// Signed only with a `key`: an error about missing or wrong credentials cannot be.
    pub(super) fn error(
        request: &Request<'_>,
        code: ErrorCode,
        key: Option<&hmac::Key>,
    ) -> Option<Self> {
        let mut reply = Self::reply(BINDING_ERROR, request);
        let (class, number) = match code {
            ErrorCode::BadRequest => (4, 0),
            ErrorCode::Unauthenticated => (4, 1),
            ErrorCode::UnknownAttribute(_) => (4, 20),
            ErrorCode::RoleConflict => (4, 87),
        };
        reply.put(ERROR_CODE, &[0, 0, class, number]);
        if let ErrorCode::UnknownAttribute(kind) = code {
            reply.put(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
        }
        if let Some(key) = key {
            reply.put_integrity(key);
        }
        reply.finish_reply(request)
    }

    /// Bytes of a check with such a username; `None`: it would be too long.
    pub(super) fn check_length(username: usize) -> Option<usize> {
        let username = ATTRIBUTE_HEADER_LENGTH + username.next_multiple_of(4);
        let attributes = username + ICE_CONTROLLED_LENGTH + PRIORITY_LENGTH;
        let length = HEADER_LENGTH + attributes + INTEGRITY_LENGTH + FINGERPRINT_LENGTH;
        (length <= Self::CAPACITY).then_some(length)
    }

    /// A check of our own, of the one that is controlled. `None`: the username is too long.
    pub(super) fn check(
        transaction: &[u8; TRANSACTION_LENGTH],
        username: &str,
        tie_breaker: u64,
        key: &hmac::Key,
    ) -> Option<Self> {
        Self::check_length(username.len())?;
        let mut check = Self::begin(BINDING_REQUEST, transaction);
        check.put(USERNAME, username.as_bytes());
        check.put(ICE_CONTROLLED, &tie_breaker.to_be_bytes());
        check.put(PRIORITY, &OUR_PRIORITY.to_be_bytes());
        check.put_integrity(key);
        check.put_fingerprint();
        Some(check)
    }

    fn reply(kind: u16, request: &Request<'_>) -> Self {
        Self::begin(kind, request.transaction())
    }

    fn begin(kind: u16, transaction: &[u8; TRANSACTION_LENGTH]) -> Self {
        let mut buffer = [0; Self::CAPACITY];
        buffer[..2].copy_from_slice(&kind.to_be_bytes());
        buffer[4..8].copy_from_slice(&MAGIC_COOKIE);
        buffer[8..HEADER_LENGTH].copy_from_slice(transaction);
        Self {
            buffer,
            length: HEADER_LENGTH,
        }
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.length;
        let body = start + ATTRIBUTE_HEADER_LENGTH;
        self.buffer[start..start + 2].copy_from_slice(&kind.to_be_bytes());
        self.buffer[start + 2..body].copy_from_slice(&(value.len() as u16).to_be_bytes());
        self.buffer[body..body + value.len()].copy_from_slice(value);
        self.length = body + value.len().next_multiple_of(4);
        self.set_length(self.length);
    }

    fn set_length(&mut self, end: usize) {
        self.buffer[2..4].copy_from_slice(&((end - HEADER_LENGTH) as u16).to_be_bytes());
    }

    fn put_address(&mut self, address: SocketAddr) {
        let port = address.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&port.to_be_bytes());
        // On a dual-stack socket an IPv4 client shows up as an IPv4-mapped IPv6 address.
        let length = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 0x01;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 0x02;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        // Cookie and transaction id stand side by side in the header: the whole key for IPv6.
        for (byte, key) in value[4..length].iter_mut().zip(&self.buffer[4..]) {
            *byte ^= key;
        }
        self.put(XOR_MAPPED_ADDRESS, &value[..length]);
    }

    fn put_integrity(&mut self, key: &hmac::Key) {
        let tag = sign(key, &self.buffer[..self.length]);
        self.put(MESSAGE_INTEGRITY, tag.as_ref());
    }

    fn put_fingerprint(&mut self) {
        self.set_length(self.length + FINGERPRINT_LENGTH);
        let checksum = checksum(&self.buffer[..self.length]) ^ FINGERPRINT_XOR;
        self.put(FINGERPRINT, &checksum.to_be_bytes());
    }

    /// Adds FINGERPRINT if the request has one. None if the answer outgrew the request.
    fn finish_reply(mut self, request: &Request<'_>) -> Option<Self> {
        if request.fingerprint {
            self.put_fingerprint();
        }
        (self.length <= request.len()).then_some(self)
    }
}

/// CRC-32 of ITU V.42, four bytes at a time.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        crc ^= u32::from_le_bytes(*word);
        crc = CRC[3][(crc & 0xFF) as usize]
            ^ CRC[2][(crc >> 8 & 0xFF) as usize]
            ^ CRC[1][(crc >> 16 & 0xFF) as usize]
            ^ CRC[0][(crc >> 24) as usize];
    }
    for byte in rest {
        crc = crc >> 8 ^ CRC[0][usize::from(crc as u8 ^ byte)];
    }
    !crc
}

/// `CRC[n][byte]` is what `byte` contributes from `n` bytes further away.
static CRC: [[u32; 256]; 4] = {
    let mut tables = [[0u32; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut distance = 1;
    while distance < 4 {
        let mut byte = 0;
        while byte < 256 {
            let nearer = tables[distance - 1][byte];
            tables[distance][byte] = nearer >> 8 ^ tables[0][(nearer & 0xFF) as usize];
            byte += 1;
        }
        distance += 1;
    }
    tables
};

#[cfg(test)]
mod tests;
