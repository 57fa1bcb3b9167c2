//! Frames of VP8 (RFC 7741) and VP9 (RFC 9628) as packets. Both heads have room for a picture id, which
//! each publisher counts for itself.

use std::ops::Range;
use std::time::Duration;

use super::bits::Bits;
use super::{Cut, RecordingError, pieces, room, wrong};

const VP8_START: [u8; 3] = [0x9D, 0x01, 0x2A];

pub(super) fn vp8(
    cut: &mut Cut,
    bytes: &[u8],
    frame: Range<usize>,
    at: Duration,
) -> Result<(), RecordingError> {
    let number = cut.frames.len() + 1;
    let body = &bytes[frame.clone()];
    // RFC 6386 section 9.1: the lowest bit of the tag is zero for key frames.
    let is_key = body[0] & 1 == 0;
    if is_key && body.get(3..6) != Some(&VP8_START[..]) {
        return Err(wrong(format!("frame {number} is no frame of VP8")));
    }
    cut.begin(at, is_key, false)?;
    for (piece, is_first, _) in pieces(frame, room(4)) {
        cut.packet(&[0x80 | u8::from(is_first) << 4, 0x80, 0x80, 0], piece);
    }
    Ok(())
}

pub(super) fn vp9(
    cut: &mut Cut,
    bytes: &[u8],
    frame: Range<usize>,
    at: Duration,
) -> Result<(), RecordingError> {
    let number = cut.frames.len() + 1;
    let is_key = vp9_key(&bytes[frame.clone()], number)?;
    cut.begin(at, is_key, false)?;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let (width, height) = (cut.size.0.to_be_bytes(), cut.size.1.to_be_bytes());
    let head = [0, 0x80, 0, 0x10, width[0], width[1], height[0], height[1]];
    for (piece, is_first, is_last) in pieces(frame, room(head.len())) {
        let tells = is_key && is_first;
        let mut head = head;
        // A picture id; no layers.
        head[0] = 0x80
            | flag(!is_key, 0x40)
            | flag(is_first, 0x08)
            | flag(is_last, 0x04)
            | flag(tells, 0x02);
        cut.packet(&head[..if tells { 8 } else { 3 }], piece);
    }
    Ok(())
}

/// VP9 bitstream specification, section 6.2.
fn vp9_key(frame: &[u8], number: usize) -> Result<bool, RecordingError> {
    let mut bits = Bits::new(frame);
    let mut next = |count| {
        bits.take(count)
            .ok_or_else(|| wrong(format!("frame {number} is no frame of VP9")))
    };
    if next(2)? != 2 {
        return Err(wrong(format!("frame {number} is no frame of VP9")));
    }
    let profile = next(1)? | next(1)? << 1;
    if profile != 0 {
        return Err(wrong(format!(
            "it is VP9 of profile {profile}: only profile 0 can be sent"
        )));
    }
    let shows_existing = next(1)? == 1;
    Ok(!shows_existing && next(1)? == 0)
}
