//! What arrives from a server, and files that are published, fed to what reads it: for fuzzers (`make fuzz`), and for the test that
//! repeats every input worth keeping.

mod channels;
mod recording;
mod user;

use std::time::{Duration, Instant};

pub use self::channels::channels;
pub use self::recording::recording;
pub use self::user::user;
use super::media::packet::{Codec, MIN_VIDEO, Payload};
use super::media::receiver::{Receiver, Setup};
use super::media::stamp::{Inner, Stamp, TrackStamp};
use super::sdp::{Description, Format, read_candidate};
use super::user::Protocol;
use super::wire::rtcp::Message;
use super::wire::rtp::Header;
use super::wire::{be16, be32, rtcp, stun, transport_cc};

/// A reader, and the folder of its inputs below `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("channels", channels),
    ("description", description),
    ("media", media),
    ("packets", packets),
    ("recording", recording),
    ("user", user),
];

const PASSWORD: &str = "passwordpasswordpassword";

/// A session description, line by line also as candidates.
pub fn description(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let description = Description::parse(&text);
    assert!(description.sections.len() <= text.lines().count());
    for section in &description.sections {
        assert!(section.formats().count() <= section.codecs.len());
    }
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let _ = description.remote_end(protocol);
    }
    let candidates = text.lines().filter_map(read_candidate);
    assert!(candidates.count() <= text.lines().count());
}

/// Packets that were opened or never sealed: RTP, RTCP, answers to checks.
pub fn packets(input: &[u8]) {
    let key = stun::key(PASSWORD);
    for piece in pieces(input).take(64) {
        let _ = stun::read_response(piece, &key);
        let _ = stun::read_request(piece, "client", &key);
        if let Some(header) = Header::parse(piece) {
            assert!(header.len <= piece.len());
            for id in 0..=15 {
                let _ = header.extension(piece, id);
            }
            let payload = header.payload(piece);
            assert!(payload.is_none_or(|it| it.len() <= piece.len() - header.len));
        }
        rtcp::read(piece, |message| match message {
            Message::Nack { lost, .. } => assert!(lost.iter().count() <= piece.len() / 4 * 17),
            Message::TransportWide(body) => {
                if let Some(covered) = transport_cc::read(body) {
                    assert!(covered.received + covered.lost <= u16::MAX.into());
                }
            }
            Message::SenderReport { .. } | Message::Block(_) | Message::KeyFrame { .. } => {}
        });
    }
}

/// A stream as it arrives: in any order, with any numbers, some of it stamped as ours is.
pub fn media(input: &[u8]) {
    let began = Instant::now();
    let mut now = began;
    let formats = [
        Format::Vp8,
        Format::Vp9,
        Format::Av1,
        Format::Opus,
        Format::H264,
    ];
    let place = usize::from(input.last().copied().unwrap_or(0));
    let setup = Setup {
        format: formats[place % formats.len()],
        ssrc: 1,
        repair_ssrc: Some(2),
        payload_type: 96,
        repair_payload_type: Some(97),
        nack: true,
    };
    let mut receiver = Receiver::new(setup, None);
    let mut newest = None;
    for piece in pieces(input).take(64) {
        let Some((&how, packet)) = piece.split_first() else {
            continue;
        };
        now += Duration::from_millis(u64::from(how >> 3) * 10);
        let arrived = match how & 1 {
            0 => Header::parse(packet).and_then(|header| {
                let payload = header.payload(packet)?;
                let place = receiver.handle_media(&header, packet.len(), now);
                Some((header, place, payload))
            }),
            _ => newest.and_then(|header| {
                let (place, payload) = receiver.handle_retransmission(packet, now)?;
                Some((header, place, payload))
            }),
        };
        if let Some((header, place, payload)) = arrived {
            newest = Some(header);
            let stamped = (how & 2 != 0).then(|| stamp(payload)).flatten();
            let payload = stamped.as_deref().unwrap_or(payload);
            let verified = how & 4 != 0;
            receiver.handle_payload(payload, &header, place, verified, began, now);
        }
        let asked = receiver.handle_timeout(Duration::from_millis(50), now);
        assert!(asked.len() <= receiver.missing());
        let _ = receiver.wants_key_frame(how & 4 != 0, now);
        let _ = receiver.report(now);
    }
}

/// A payload that bears what these bytes say.
fn stamp(bytes: &[u8]) -> Option<Vec<u8>> {
    let &[layer, flags, ..] = bytes else {
        return None;
    };
    let payload = Payload {
        codec: Codec::Vp8 {
            width: 320,
            height: 180,
            picture_id: be16(bytes, 2)? & 0x7FFF,
        },
        stamp: Stamp {
            track: TrackStamp::default(),
            layer,
            is_key_frame: flags & 1 != 0,
            frame: be32(bytes, 4)?,
            begun: 0,
            packet: be16(bytes, 8)?,
            packets: be16(bytes, 10)?,
            sent: u64::from(be32(bytes, 12)?) << 32,
            inner: (flags & 2 != 0).then_some(Inner {
                temporal: 0,
                references: [layer, flags],
            }),
        },
        len: MIN_VIDEO,
    };
    let mut out = vec![0; payload.len];
    payload.write(&mut out);
    Some(out)
}

/// Takes an input apart into pieces, each preceded by its length in two bytes.
fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
