//! IVF: a header, then frames, each with its length and its time.

use std::ops::Range;
use std::time::Duration;

use super::{Cut, RecordingError, av1, vpx, wrong};

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 12;

pub(super) fn read(bytes: &[u8]) -> Result<Cut, RecordingError> {
    let cut_off = |what: &str, at: usize| wrong(format!("{what} at byte {at} is cut off"));
    let header = bytes.get(..HEADER_LEN);
    let header = header.ok_or_else(|| cut_off("the header of the file", 0))?;
    let begin = usize::from(le16(header, 6));
    if begin < HEADER_LEN {
        return Err(wrong(format!("its header is {begin} bytes long")));
    }
    let size = (le16(header, 12), le16(header, 14));
    let (ticks, per) = (le32(header, 16), le32(header, 20));
    if ticks == 0 || per == 0 {
        return Err(wrong(format!("its time base is {per}/{ticks}")));
    }
    let codec = Codec::of(&header[8..12])?;
    let mut cut = Cut::new(codec.format(), size);
    let (mut at, mut first) = (begin, None);
    while at < bytes.len() {
        let head = bytes.get(at..at + FRAME_HEADER_LEN);
        let head = head.ok_or_else(|| cut_off("the header of a frame", at))?;
        let len = le32(head, 0) as usize;
        let time = u64::from(le32(head, 4)) | u64::from(le32(head, 8)) << 32;
        let first = *first.get_or_insert(time);
        let number = cut.frames.len() + 1;
        let begin = at + FRAME_HEADER_LEN;
        let frame = begin..begin.saturating_add(len);
        if frame.end > bytes.len() {
            return Err(cut_off(&format!("frame {number}"), at));
        }
        let since = time.checked_sub(first).ok_or_else(|| {
            wrong(format!(
                "frame {number} is shown at {time}, before the first"
            ))
        })?;
        let nanos = u128::from(since) * u128::from(per) * 1_000_000_000 / u128::from(ticks);
        let since = u64::try_from(nanos).map_err(|_| {
            wrong(format!(
                "frame {number} is shown at {time}, which is too late"
            ))
        })?;
        at = frame.end;
        // An encoder that dropped a frame may leave an empty one.
        if len > 0 {
            codec.frame(&mut cut, bytes, frame, Duration::from_nanos(since))?;
        }
    }
    Ok(cut)
}

#[derive(Clone, Copy)]
enum Codec {
    Vp8,
    Vp9,
    Av1,
}

impl Codec {
    fn of(name: &[u8]) -> Result<Self, RecordingError> {
        match name {
            b"VP80" => Ok(Self::Vp8),
            b"VP90" => Ok(Self::Vp9),
            b"AV01" => Ok(Self::Av1),
            other => Err(wrong(format!(
                "its codec is {}: VP80, VP90 and AV01 can be sent",
                other.escape_ascii()
            ))),
        }
    }

    fn format(self) -> crate::sdp::Format {
        match self {
            Self::Vp8 => crate::sdp::Format::Vp8,
            Self::Vp9 => crate::sdp::Format::Vp9,
            Self::Av1 => crate::sdp::Format::Av1,
        }
    }

    fn frame(
        self,
        cut: &mut Cut,
        bytes: &[u8],
        frame: Range<usize>,
        at: Duration,
    ) -> Result<(), RecordingError> {
        match self {
            Self::Vp8 => vpx::vp8(cut, bytes, frame, at),
            Self::Vp9 => vpx::vp9(cut, bytes, frame, at),
            Self::Av1 => av1::unit(cut, bytes, frame, at),
        }
    }
}

/// `at` is within the header that was taken above.
fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}
