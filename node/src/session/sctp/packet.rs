//! SCTP packets (RFC 9260 section 3) taken apart far enough to decide about them.

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
pub(super) const INIT_ACK: u8 = 2;
pub(super) const SACK: u8 = 3;
pub(super) const HEARTBEAT: u8 = 4;
pub(super) const ABORT: u8 = 6;
pub(super) const SHUTDOWN: u8 = 7;
pub(super) const SHUTDOWN_ACK: u8 = 8;
pub(super) const COOKIE_ECHO: u8 = 10;
pub(super) const COOKIE_ACK: u8 = 11;
pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
/// RFC 6525.
pub(super) const RECONFIG: u8 = 130;
/// RFC 3758.
pub(super) const FORWARD_TSN: u8 = 192;

/// Parameters of RECONFIG.
pub(super) const OUTGOING_RESET: u16 = 13;
pub(super) const RECONFIG_RESPONSE: u16 = 16;

const COMMON_HEADER_LENGTH: usize = 12;

pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
}

/// Iterates over things of the form type, length, value, padding.
struct Parts<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Parts<'a> {
    /// The next one's first two bytes and its value.
    fn take(&mut self) -> Option<([u8; 2], &'a [u8])> {
        if self.rest.is_empty() || self.malformed {
            return None;
        }
        let part = self.rest.first_chunk().and_then(|header: &[u8; 4]| {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            Some(([header[0], header[1]], self.rest.get(4..length)?, length))
        });
        let Some((head, value, length)) = part else {
            self.malformed = true;
            return None;
        };
        let padded = length.next_multiple_of(4).min(self.rest.len());
        self.rest = &self.rest[padded..];
        Some((head, value))
    }
}

/// Calls `visit` with each chunk until it breaks. False if the packet is malformed.
pub(super) fn for_each_chunk<'a>(
    packet: &'a [u8],
    mut visit: impl FnMut(Chunk<'a>) -> std::ops::ControlFlow<()>,
) -> bool {
    let Some(rest) = packet.get(COMMON_HEADER_LENGTH..).filter(|r| !r.is_empty()) else {
        return false;
    };
    let mut parts = Parts {
        rest,
        malformed: false,
    };
    while let Some(([kind, _flags], value)) = parts.take() {
        if visit(Chunk { kind, value }).is_break() {
            return true;
        }
    }
    !parts.malformed
}

pub(super) fn first_chunk(packet: &[u8]) -> Option<u8> {
    packet.get(COMMON_HEADER_LENGTH).copied()
}

/// Calls `visit` with type and value of each parameter. False if they are malformed.
pub(super) fn for_each_parameter<'a>(
    parameters: &'a [u8],
    mut visit: impl FnMut(u16, &'a [u8]),
) -> bool {
    let mut parts = Parts {
        rest: parameters,
        malformed: false,
    };
    while let Some((kind, value)) = parts.take() {
        visit(u16::from_be_bytes(kind), value);
    }
    !parts.malformed
}

/// A client's wish for an association (RFC 9260 section 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init {
    /// Source and destination port.
    pub(super) ports: [u8; 4],
    pub(super) tag: u32,
    pub(super) window: u32,
    pub(super) outgoing_streams: u16,
    pub(super) incoming_streams: u16,
    pub(super) initial_tsn: u32,
    /// The client can skip what is given up (RFC 3758).
    pub(super) partial_reliability: bool,
}

/// Parameters of INIT: what can be done beyond RFC 9260.
const SUPPORTED_EXTENSIONS: u16 = 0x8008;
const FORWARD_TSN_SUPPORTED: u16 = 0xC000;

impl Init {
    /// Longest packet taken for one; browsers send some 100 bytes.
    const MAX_LENGTH: usize = 600;

    /// None if the packet is anything but one sound INIT.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let sealed = be32(packet, 8)?.swap_bytes() == checksum(packet);
        let chunk = packet.get(COMMON_HEADER_LENGTH..)?;
        let length = usize::from(be16(chunk, 2)?);
        let value = chunk.get(4..length)?;
        let alone = chunk.len() <= length.next_multiple_of(4);
        if chunk[0] != INIT || !alone || packet.len() > Self::MAX_LENGTH || !sealed {
            return None;
        }
        let mut partial_reliability = false;
        let parameters = value.get(16..)?;
        for_each_parameter(parameters, |kind, value| {
            partial_reliability |= kind == FORWARD_TSN_SUPPORTED
                || (kind == SUPPORTED_EXTENSIONS && value.contains(&FORWARD_TSN));
        });
        let init = Self {
            ports: *packet.first_chunk()?,
            tag: be32(value, 0)?,
            window: be32(value, 4)?,
            outgoing_streams: be16(value, 8)?,
            incoming_streams: be16(value, 10)?,
            initial_tsn: be32(value, 12)?,
            partial_reliability,
        };
        let sound = init.tag != 0
            && init.window >= 1_500
            && init.outgoing_streams > 0
            && init.incoming_streams > 0;
        sound.then_some(init)
    }

    /// The same wish in its plainest form.
    pub(super) fn write(&self) -> Bytes {
        const EXTENSIONS: [u8; 2] = [RECONFIG, FORWARD_TSN];
        let extensions = if self.partial_reliability {
            &EXTENSIONS[..]
        } else {
            &EXTENSIONS[..1]
        };
        let mut value = BytesMut::new();
        value.put_u32(self.tag);
        value.put_u32(self.window);
        value.put_u16(self.outgoing_streams);
        value.put_u16(self.incoming_streams);
        value.put_u32(self.initial_tsn);
        value.put_u16(SUPPORTED_EXTENSIONS);
        value.put_u16(4 + extensions.len() as u16);
        value.put_slice(extensions);
        write_packet(self.ports, 0, INIT, &value)
    }
}

/// A packet that answers a reconfiguration request.
pub(super) fn reconfig_response(ports: [u8; 4], tag: u32, number: u32, result: u32) -> Bytes {
    const PARAMETER_LENGTH: u16 = 12;
    let mut value = BytesMut::new();
    value.put_u16(RECONFIG_RESPONSE);
    value.put_u16(PARAMETER_LENGTH);
    value.put_u32(number);
    value.put_u32(result);
    write_packet(ports, tag, RECONFIG, &value)
}

fn write_packet(ports: [u8; 4], tag: u32, kind: u8, value: &[u8]) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_slice(&ports);
    packet.put_u32(tag);
    packet.put_u32(0);
    packet.put_slice(&[kind, 0]);
    packet.put_u16(4 + value.len() as u16);
    packet.put_slice(value);
    packet.put_bytes(0, value.len().next_multiple_of(4) - value.len());
    let checksum = checksum(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet.freeze()
}

/// CRC-32C of a packet whose own is taken for zero (RFC 9260 appendix A). Bit by bit: what is
/// sealed and checked here is short and rare.
pub(super) fn checksum(packet: &[u8]) -> u32 {
    let bytes = packet.iter().enumerate();
    !bytes.fold(!0u32, |crc, (at, byte)| {
        let byte = if (8..12).contains(&at) { 0 } else { *byte };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
