//! Temporal units of AV1 as packets (AV1 RTP payload format 1.0): one OBU, or a part of one, in each.

use std::ops::Range;
use std::time::Duration;

use super::{Cut, RecordingError, pieces, room, wrong};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

struct Obu {
    kind: u8,
    /// As it is sent: without its size.
    header: [u8; 2],
    header_len: usize,
    content: Range<usize>,
}

pub(super) fn unit(
    cut: &mut Cut,
    bytes: &[u8],
    unit: Range<usize>,
    at: Duration,
) -> Result<(), RecordingError> {
    let number = cut.frames.len() + 1;
    let (mut place, mut obus) = (unit.start, Vec::new());
    while place < unit.end {
        let obu = obu(bytes, place..unit.end)
            .ok_or_else(|| wrong(format!("frame {number} is broken at byte {place}")))?;
        place = obu.content.end;
        // Section 5 of the format: these are not sent.
        if ![TEMPORAL_DELIMITER, TILE_LIST, PADDING].contains(&obu.kind) {
            obus.push(obu);
        }
    }
    if obus.is_empty() {
        return Ok(());
    }
    let has_sequence = obus.iter().any(|it| it.kind == SEQUENCE_HEADER);
    let mut frames = obus
        .iter()
        .filter(|it| matches!(it.kind, FRAME | FRAME_HEADER));
    // A frame that is shown for the first time, and a key frame (AV1 section 5.9.2).
    let begins = frames
        .next()
        .and_then(|it| bytes[it.content.clone()].first())
        .is_some_and(|first| first & 0xE0 == 0);
    let is_key = has_sequence && begins;
    cut.begin(at, is_key, false)?;
    for (place, obu) in obus.iter().enumerate() {
        for (piece, is_first, is_last) in pieces(obu.content.clone(), room(3)) {
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            // One element, which needs no length.
            let aggregation = 0x10
                | flag(!is_first, 0x80)
                | flag(!is_last, 0x40)
                | flag(is_key && is_first && place == 0, 0x08);
            let head = [aggregation, obu.header[0], obu.header[1]];
            let len = 1 + if is_first { obu.header_len } else { 0 };
            cut.packet(&head[..len], piece);
        }
    }
    Ok(())
}

/// The first of a part of the file.
fn obu(bytes: &[u8], part: Range<usize>) -> Option<Obu> {
    let mut at = part.start;
    let mut next = || {
        let byte = bytes[part.clone()].get(at - part.start).copied();
        at += 1;
        byte
    };
    let first = next()?;
    if first & 0x80 != 0 {
        return None;
    }
    let mut header = [first & !HAS_SIZE, 0];
    let mut header_len = 1;
    if first & HAS_EXTENSION != 0 {
        header[1] = next()?;
        header_len = 2;
    }
    let len = if first & HAS_SIZE == 0 {
        None
    } else {
        let mut len = 0_usize;
        for group in 0..5 {
            let byte = next()?;
            len |= usize::from(byte & 0x7F) << (7 * group);
            if byte & 0x80 == 0 {
                break;
            }
            if group == 4 {
                return None;
            }
        }
        Some(len)
    };
    let end = len.map_or(Some(part.end), |len| at.checked_add(len))?;
    (at <= end && end <= part.end).then_some(Obu {
        kind: first >> 3 & 0x0F,
        header,
        header_len,
        content: at..end,
    })
}
