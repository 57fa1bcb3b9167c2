//! SCTP and what is in it, of a server that has an association with us and sends what it likes.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pieces;
use crate::transport::data::{Data, Opener, Reliability};

const HEADER: usize = 12;
const PORTS: [u8; 4] = [0x13, 0x88, 0x13, 0x88];

/// The first byte says who opens the channels. A piece holds chunks, behind when they come.
pub fn channels(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else {
        return;
    };
    let mut now = Instant::now();
    let opener = match how & 1 {
        0 => Opener::Client,
        _ => Opener::Server,
    };
    let mut data = Data::connect(opener, now).expect("nothing has come yet");
    let (tag, sent) = associate(&mut data, now).expect("the association stands");
    assert_eq!(sent.is_empty(), opener == Opener::Server, "channels open");
    for piece in pieces(input).take(64) {
        let Some((&how, chunks)) = piece.split_first() else {
            continue;
        };
        data.handle_datagram(packet(tag, &chunks[..chunks.len().min(1_400)]), now);
        let reliability = match how & 2 {
            0 => Reliability::Reliable,
            _ => Reliability::Lossy,
        };
        if how & 1 != 0 {
            data.send(reliability, Bytes::from_static(b"hello"), now);
        }
        let sent: usize = std::iter::from_fn(|| data.poll_transmit(now))
            .map(|packets| packets.len())
            .sum();
        assert!(sent <= 1_024, "{sent} packets for one");
        while let Some(received) = data.poll_received() {
            assert!(received.payload.len() <= 262_144);
        }
        now += Duration::from_millis(u64::from(how >> 2) * 16);
        if data.poll_timeout().is_some_and(|at| at <= now) {
            data.handle_timeout(now);
        }
    }
}

/// Plays the server until the association stands (RFC 9260 section 5.1): the client's tag, and what it
/// sends first.
fn associate(data: &mut Data, now: Instant) -> Option<([u8; 4], Vec<Bytes>)> {
    const COOKIE_ECHO: u8 = 10;
    const COOKIE_ACK: [u8; 4] = [11, 0, 0, 4];
    let init = data.poll_transmit(now)?.pop()?;
    let tag = *init.get(HEADER + 4..)?.first_chunk()?;
    // Tag 1, a window, 128 streams each way, TSN 1; that messages are abandoned and streams reset (RFC 3758,
    // RFC 6525), and a cookie. rtc-sctp reads no parameter of four bytes that is the last.
    let mut answer = vec![
        2, 0, 0, 40, 0, 0, 0, 1, 0, 8, 0, 0, 0, 128, 0, 128, 0, 0, 0, 1,
    ];
    answer.extend([0xC0, 0, 0, 4]);
    answer.extend([0x80, 8, 0, 6, 130, 192, 0, 0]);
    answer.extend([0, 7, 0, 8, 1, 2, 3, 4]);
    data.handle_datagram(packet(tag, &answer), now);
    let echo = data.poll_transmit(now)?.pop()?;
    if echo.get(HEADER) != Some(&COOKIE_ECHO) {
        return None;
    }
    data.handle_datagram(packet(tag, &COOKIE_ACK), now);
    let sent = std::iter::from_fn(|| data.poll_transmit(now)).flatten();
    Some((tag, sent.collect()))
}

/// With the checksum that rtc-sctp wants to see (CRC-32C).
fn packet(tag: [u8; 4], chunks: &[u8]) -> Bytes {
    let mut packet = [&PORTS[..], &tag, &[0; 4], chunks].concat();
    let mut crc = !0u32;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..HEADER].copy_from_slice(&(!crc).to_le_bytes());
    packet.into()
}
