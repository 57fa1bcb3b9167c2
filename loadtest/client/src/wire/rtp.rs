//! RTP packets (RFC 3550 section 5.1) and their header extensions (RFC 8285).

use super::{be16, be32};

const FIXED_LEN: usize = 12;
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// The low four bits are the application's.
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// The header of a packet, with the places of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// CSRCs and extensions included.
    pub(crate) len: usize,
    padded: bool,
    profile: u16,
    extensions_at: usize,
}

/// What a header is written from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// Whether a datagram whose first byte is 128 to 191 is RTCP (RFC 5761 section 4).
pub(crate) fn is_rtcp(datagram: &[u8]) -> bool {
    datagram
        .get(1)
        .is_some_and(|kind| (192..=223).contains(kind))
}

impl Header {
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let first = *packet.first().filter(|first| *first >> 6 == 2)?;
        let second = *packet.get(1)?;
        let mut len = FIXED_LEN + 4 * usize::from(first & 0x0F);
        let (mut profile, extensions_at) = (0, len + 4);
        if first & 0x10 != 0 {
            profile = be16(packet, len)?;
            len = extensions_at + 4 * usize::from(be16(packet, len + 2)?);
        }
        if packet.len() < len {
            return None;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: be16(packet, 2)?,
            timestamp: be32(packet, 4)?,
            ssrc: be32(packet, 8)?,
            len,
            padded: first & 0x20 != 0,
            profile,
            extensions_at,
        })
    }

    pub(crate) fn extension<'a>(&self, packet: &'a [u8], wanted: u8) -> Option<&'a [u8]> {
        let mut rest = packet.get(self.extensions_at..self.len)?;
        while let [first, after @ ..] = rest {
            let (id, len, after) = match (*first, self.profile) {
                (0, _) => {
                    rest = after;
                    continue;
                }
                (first, ONE_BYTE_PROFILE) => (first >> 4, usize::from(first & 0x0F) + 1, after),
                (id, profile) if profile & 0xFFF0 == TWO_BYTE_PROFILE => {
                    (id, usize::from(*after.first()?), &after[1..])
                }
                _ => return None,
            };
            let value = after.get(..len)?;
            if id == wanted {
                return Some(value);
            }
            rest = &after[len..];
        }
        None
    }

    /// The payload of an opened packet, without padding.
    pub(crate) fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let payload = packet.get(self.len..)?;
        if !self.padded {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// Writes a header with extensions, whose ids are 1 to 14 and values 1 to 255 bytes: with one byte in
/// front of each, two if a value has more than 16. Answers its length.
pub(crate) fn write_header(out: &mut [u8], fields: Fields, extensions: &[(u8, &[u8])]) -> usize {
    out[0] = 0x80;
    out[1] = u8::from(fields.marker) << 7 | fields.payload_type;
    out[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    out[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
    if extensions.is_empty() {
        return FIXED_LEN;
    }
    out[0] |= 0x10;
    let start = FIXED_LEN + 4;
    let mut at = start;
    let is_long = extensions.iter().any(|(_, value)| value.len() > 16);
    for (id, value) in extensions {
        if is_long {
            out[at..at + 2].copy_from_slice(&[*id, value.len() as u8]);
            at += 2;
        } else {
            out[at] = id << 4 | (value.len() as u8 - 1);
            at += 1;
        }
        out[at..at + value.len()].copy_from_slice(value);
        at += value.len();
    }
    let end = start + (at - start).next_multiple_of(4);
    out[at..end].fill(0);
    let profile = if is_long {
        TWO_BYTE_PROFILE
    } else {
        ONE_BYTE_PROFILE
    };
    out[FIXED_LEN..FIXED_LEN + 2].copy_from_slice(&profile.to_be_bytes());
    out[FIXED_LEN + 2..start].copy_from_slice(&(((end - start) / 4) as u16).to_be_bytes());
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields = Fields {
        marker: true,
        payload_type: 96,
        sequence: 0xFFFE,
        timestamp: 7,
        ssrc: 0xDEAD_BEEF,
    };

    #[test]
    fn what_is_written_is_read() {
        let mut packet = [0xAA; 64];
        let len = write_header(&mut packet, FIELDS, &[(4, b"17"), (10, b"q"), (3, &[1, 2])]);
        assert_eq!(len, 12 + 4 + 8);
        let header = Header::parse(&packet[..40]).unwrap();
        assert_eq!((header.len, header.ssrc), (len, 0xDEAD_BEEF));
        assert_eq!(header.extension(&packet, 10), Some(&b"q"[..]));
        assert_eq!(header.extension(&packet, 3), Some(&[1, 2][..]));
        assert_eq!(header.extension(&packet, 5), None);
        assert_eq!(header.payload(&packet[..40]).map(<[u8]>::len), Some(16));

        let long = [7; 17];
        let len = write_header(&mut packet, FIELDS, &[(4, b"17"), (12, &long)]);
        assert_eq!(len, 12 + 4 + 24);
        let header = Header::parse(&packet[..40]).unwrap();
        assert_eq!(header.extension(&packet, 4), Some(&b"17"[..]));
        assert_eq!(header.extension(&packet, 12), Some(&long[..]));
    }

    #[test]
    fn padding_is_no_payload_and_nonsense_is_refused() {
        let mut packet = [0; 20];
        write_header(&mut packet, FIELDS, &[]);
        packet[0] |= 0x20;
        packet[19] = 3;
        let header = Header::parse(&packet).unwrap();
        assert_eq!(header.payload(&packet).map(<[u8]>::len), Some(5));
        packet[19] = 9;
        assert_eq!(header.payload(&packet), None);
        packet[0] = 0x8F;
        assert_eq!(Header::parse(&packet), None);
        assert_eq!(Header::parse(&[0x80; 11]), None);
    }
}
