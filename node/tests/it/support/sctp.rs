//! As much of SCTP (RFC 9260) as it takes to have an association.

use std::time::Duration;

use super::wire::{Received, Wire};

/// Ports, tag and checksum.
pub(crate) const HEADER: usize = 12;
const INITIAL_TSN: u32 = 1;

/// Ports 5000, no tag and no checksum yet.
const PORTS: [u8; HEADER] = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0];

/// An association as its client knows it.
#[derive(Debug)]
pub(crate) struct Association {
    /// Of the client's packets, without their checksum.
    pub(crate) header: Vec<u8>,
    pub(crate) first_tsn: u32,
}

/// How long the node may take to say that an association lives. It ends some without a word.
const PATIENCE: Duration = Duration::from_secs(1);

impl Association {
    /// Asks the node (RFC 9260 section 8.3). False: the association has ended.
    pub(crate) async fn is_alive(&self, wire: &Wire) -> bool {
        const HEARTBEAT: u8 = 4;
        const HEARTBEAT_ACK: u8 = 5;
        const ABORT: u8 = 6;
        let mark: [u8; 8] = rand::random();
        let mut packet = self.header.clone();
        packet.extend([HEARTBEAT, 0, 0, 16, 0, 1, 0, 12]);
        packet.extend(mark);
        wire.send_data(seal(packet));
        let look = |received: &Received| {
            let mut chunks = received.data.iter().flat_map(|packet| chunks(packet));
            chunks.find_map(|(kind, value)| match kind {
                HEARTBEAT_ACK if value.ends_with(&mark) => Some(true),
                ABORT => Some(false),
                _ => None,
            })
        };
        let answer = tokio::time::timeout(PATIENCE, wire.find(look)).await;
        answer.unwrap_or(false)
    }
}

/// The chunks of a packet: kind and value.
fn chunks(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = packet.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[kind, _, l0, l1] = rest.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Begins an association over a connected wire.
pub(crate) async fn associate(wire: &Wire) -> Association {
    let mut init = PORTS.to_vec();
    // Tag 1, a window of 64 KiB, ten streams each way.
    init.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 10, 0, 10]);
    init.extend(INITIAL_TSN.to_be_bytes());
    wire.send_data(seal(init));
    let look = |received: &Received| received.data.iter().find_map(|packet| accepted(packet));
    let (tag, cookie) = wire.until("INIT is acknowledged", look).await;
    let mut header = PORTS.to_vec();
    header[4..8].copy_from_slice(&tag);
    let mut echo = header.clone();
    echo.extend([10, 0]);
    echo.extend((cookie.len() as u16 + 4).to_be_bytes());
    echo.extend(cookie);
    echo.resize(echo.len().next_multiple_of(4), 0);
    wire.send_data(seal(echo));
    const COOKIE_ACK: u8 = 11;
    let acknowledged = |packet: &Vec<u8>| packet.get(HEADER) == Some(&COOKIE_ACK);
    let look = |received: &Received| received.data.iter().any(acknowledged).then_some(());
    wire.until("the cookie is acknowledged", look).await;
    Association {
        header,
        first_tsn: INITIAL_TSN,
    }
}

/// Tag and cookie of an INIT ACK.
fn accepted(packet: &[u8]) -> Option<([u8; 4], Vec<u8>)> {
    const INIT_ACK: u8 = 2;
    const COOKIE: [u8; 2] = [0, 7];
    if packet.get(HEADER) != Some(&INIT_ACK) {
        return None;
    }
    let tag = *packet.get(HEADER + 4..)?.first_chunk()?;
    let mut parameters = packet.get(HEADER + 20..)?;
    loop {
        let &[k0, k1, l0, l1] = parameters.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [k0, k1] == COOKIE {
            return Some((tag, parameters.get(4..length)?.to_vec()));
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
}

/// Puts the checksum in (CRC-32C).
pub(crate) fn seal(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8..HEADER].fill(0);
    let mut crc = !0u32;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..HEADER].copy_from_slice(&(!crc).to_le_bytes());
    packet
}
