//! DTLS 1.2 records (RFC 6347 section 4.1): taking a datagram apart and writing plain ones.

use bytes::{BufMut, BytesMut};

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

pub(super) const HEADER_LENGTH: usize = 13;
pub(super) const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];

pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) epoch: u16,
    /// Epoch and sequence number.
    pub(super) number: u64,
    pub(super) body: &'a [u8],
    /// Header and body.
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to the first that is cut off.
pub(super) fn records(mut datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_LENGTH] = datagram.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let bytes = datagram.get(..HEADER_LENGTH + length)?;
        datagram = &datagram[bytes.len()..];
        Some(Record {
            kind: header[0],
            epoch: u16::from_be_bytes([header[3], header[4]]),
            number: u64::from_be_bytes(*header[3..].first_chunk()?),
            body: &bytes[HEADER_LENGTH..],
            bytes,
        })
    })
}

/// Writes what precedes a record's body; `number` is its epoch and sequence number.
pub(super) fn write_header(out: &mut BytesMut, kind: u8, number: u64, length: usize) {
    out.put_u8(kind);
    out.put_slice(&DTLS_1_2);
    out.put_u64(number);
    out.put_u16(length as u16);
}

/// Whether a datagram of a server begins with its hello, which answers a cookie. What asks for the cookie
/// is another message, and an alert is another kind of record.
pub(crate) fn is_server_hello(datagram: &[u8]) -> bool {
    const SERVER_HELLO: u8 = 2;
    let first = records(datagram).next();
    first.is_some_and(|record| {
        (record.kind, record.epoch, record.body.first()) == (HANDSHAKE, 0, Some(&SERVER_HELLO))
    })
}

/// Writes a record of epoch 0 made of `parts`.
pub(super) fn write_plain(out: &mut BytesMut, kind: u8, sequence: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    write_header(out, kind, sequence.into(), length);
    for part in parts {
        out.put_slice(part);
    }
}
