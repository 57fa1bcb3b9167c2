//! Ogg (RFC 3533) with one stream of Opus in it (RFC 7845): each of its packets is a payload (RFC 7587).

use std::ops::Range;
use std::time::Duration;

use super::{Cut, RecordingError, room, wrong};
use crate::sdp::Format;

const PAGE_HEADER_LEN: usize = 27;
const CONTINUES: u8 = 1;
/// What an encoder sends that has nothing to say: a table of contents, and little behind it.
const SILENCE_LEN: usize = 3;

pub(super) fn read(bytes: &[u8]) -> Result<Cut, RecordingError> {
    let (content, packets) = packets(bytes)?;
    let mut packets = packets.into_iter();
    let head = packets.next().unwrap_or_default();
    if !content[head.clone()].starts_with(b"OpusHead") {
        return Err(wrong("it is Ogg, and what is in it is not Opus"));
    }
    // RFC 7845 section 5.1.1: family 0 is mono or stereo.
    if content[head].get(18) != Some(&0) {
        return Err(wrong("it has more channels than two"));
    }
    let tags = packets.next().unwrap_or_default();
    if !content[tags].starts_with(b"OpusTags") {
        return Err(wrong("its second packet is no OpusTags"));
    }
    let mut cut = Cut::new(Format::Opus, (0, 0));
    let mut at = Duration::ZERO;
    for (number, packet) in (1..).zip(packets) {
        let payload = &content[packet.clone()];
        let length =
            duration(payload).ok_or_else(|| wrong(format!("packet {number} of Opus is broken")))?;
        if payload.len() > room(0) {
            return Err(wrong(format!(
                "packet {number} of Opus has {} bytes: more than {} do not fit",
                payload.len(),
                room(0)
            )));
        }
        cut.begin(at, true, payload.len() <= SILENCE_LEN)?;
        cut.packet(&[], packet);
        at += length;
    }
    cut.end = Some(at);
    cut.content = Some(content.into());
    Ok(cut)
}

/// Of all frames in a packet (RFC 6716 section 3.1).
fn duration(packet: &[u8]) -> Option<Duration> {
    let first = *packet.first()?;
    let config = usize::from(first >> 3);
    let micros = match config {
        0..12 => [10_000, 20_000, 40_000, 60_000][config % 4],
        12..16 => [10_000, 20_000][config % 2],
        _ => [2_500, 5_000, 10_000, 20_000][config % 4],
    };
    let count = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(*packet.get(1)? & 0x3F),
    };
    let length = micros * count;
    (1..=120_000)
        .contains(&length)
        .then(|| Duration::from_micros(length))
}

/// What the pages of one stream hold, and where in it each packet is. Packets may be spread over pages.
fn packets(bytes: &[u8]) -> Result<(Vec<u8>, Vec<Range<usize>>), RecordingError> {
    let (mut content, mut packets) = (Vec::new(), Vec::new());
    let (mut at, mut begin, mut stream) = (0, 0, None);
    while at < bytes.len() {
        let cut_off = || wrong(format!("the page at byte {at} is cut off"));
        let header = bytes.get(at..at + PAGE_HEADER_LEN).ok_or_else(cut_off)?;
        if !header.starts_with(b"OggS\0") {
            return Err(wrong(format!("there is no page of Ogg at byte {at}")));
        }
        let serial = &header[14..18];
        if *stream.get_or_insert(serial) != serial {
            return Err(wrong("it has more than one stream"));
        }
        if (header[5] & CONTINUES != 0) != (begin < content.len()) {
            return Err(wrong(format!("something is missing before byte {at}")));
        }
        let table = at + PAGE_HEADER_LEN;
        let mut next = table + usize::from(header[26]);
        for length in bytes.get(table..next).ok_or_else(cut_off)? {
            let end = next + usize::from(*length);
            content.extend_from_slice(bytes.get(next..end).ok_or_else(cut_off)?);
            next = end;
            if *length < 255 {
                packets.push(begin..content.len());
                begin = content.len();
            }
        }
        at = next;
    }
    if begin < content.len() {
        return Err(wrong("its last packet is cut off"));
    }
    Ok((content, packets))
}
