//! SCTP of a client that has keys and an association, and sends what it likes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pipemesh_node::session::plan::DataPlan;
use pipemesh_node::session::sctp::{ChannelId, DataChannels, Event, Limits};

/// Ports 5000, a zero tag and checksum, and INIT: tag 1, a window, ten streams each way, TSN 1.
const INIT: [u8; 32] = [
    0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 10, 0,
    10, 0, 0, 0, 1,
];
const HEADER: usize = 12;

pub fn run(input: &[u8]) {
    let mut now = Instant::now();
    let plan = DataPlan {
        remote_port: 5000,
        max_message_size: 262_144,
    };
    let mut channels = DataChannels::new(plan, Limits::default());
    let Some(tag) = associate(&mut channels, now) else {
        return;
    };
    for piece in super::pieces(input).take(64) {
        let Some((&how, chunks)) = piece.split_first() else {
            continue;
        };
        let mut packet = INIT[..HEADER].to_vec();
        packet[4..8].copy_from_slice(&tag);
        packet.extend(chunks);
        channels.handle_dtls_data(seal(packet), now);
        if how & 1 != 0 {
            let message = Bytes::from_static(b"hello");
            let _ = channels.send(ChannelId(u16::from(how >> 4)), message, true, now);
        }
        now += Duration::from_millis(u64::from(how) * 4);
        channels.handle_timeout(now);
        let sent = std::iter::from_fn(|| channels.poll_transmit(now)).count();
        assert!(sent <= 256, "{sent} packets for one");
        while let Some(event) = channels.poll_event() {
            // A bug of rtc-sctp is caught and ends the association; it is one all the same.
            let panicked = format!("{event:?}").contains("Panicked");
            assert!(!panicked, "{event:?}");
            if let Event::Message { payload, .. } = event {
                assert!(payload.len() <= pipemesh_node::session::sctp::MAX_MESSAGE);
            }
        }
    }
}

/// Sets an association up; answers the node's tag.
fn associate(channels: &mut DataChannels, now: Instant) -> Option<[u8; 4]> {
    channels.handle_dtls_data(seal(INIT.to_vec()), now);
    let answer = channels.poll_transmit(now)?;
    let tag = *answer.get(HEADER + 4..)?.first_chunk()?;
    let cookie = cookie(&answer)?;
    let mut echo = INIT[..HEADER].to_vec();
    echo[4..8].copy_from_slice(&tag);
    echo.extend([10, 0]);
    echo.extend((cookie.len() as u16 + 4).to_be_bytes());
    echo.extend(cookie);
    echo.resize(echo.len().next_multiple_of(4), 0);
    channels.handle_dtls_data(seal(echo), now);
    while channels.poll_transmit(now).is_some() {}
    Some(tag)
}

/// The state cookie of an INIT ACK (RFC 9260 section 3.3.3).
fn cookie(answer: &[u8]) -> Option<&[u8]> {
    let mut parameters = answer.get(HEADER + 20..)?;
    while let Some(&[high, low, l0, l1]) = parameters.first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = parameters.get(4..length)?;
        if (high, low) == (0, 7) {
            return Some(value);
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The checksum that rtc-sctp wants to see (CRC-32C).
fn seal(mut packet: Vec<u8>) -> Bytes {
    packet[8..12].fill(0);
    let mut crc = !0u32;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet.into()
}
