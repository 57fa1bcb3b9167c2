//! Payloads of synthetic media: Opus frames, and frames of VP8 (RFC 7741), VP9 or AV1 cut into packets,
//! each with a stamp behind what a server reads.
//!
//! A payload is a pure function of a few numbers, so what is kept to be sent again is those.

use std::sync::LazyLock;

use super::scalable::descriptor::{MAX_HEAD, Part, av1_body, vp9_body};
use super::scalable::{Frame, Mode};
use super::stamp::{STAMP_LEN, Stamp, Unstamped};
use crate::sdp::Format;
use crate::wire::dependency::MAX_LEN as MAX_DEPENDENCY;

/// Longest payload of a packet: with headers, tag and two bytes more when it is sent again it stays
/// within 1,200 bytes.
pub(crate) const MAX_PAYLOAD: usize = 1_120;

/// CELT, full band, 20 ms, mono, one frame.
const OPUS_TOC: u8 = 0xF8;

const DESCRIPTOR_LEN: usize = 4;
const FRAME_TAG_LEN: usize = 3;
const KEY_FRAME_HEADER_LEN: usize = 10;
const START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];

/// Shortest payload that has room for all of it.
pub(crate) const MIN_AUDIO: usize = 1 + STAMP_LEN;
pub(crate) const MIN_VIDEO: usize = MAX_VIDEO_HEAD + STAMP_LEN;
const MAX_VIDEO_HEAD: usize = if MAX_HEAD > DESCRIPTOR_LEN + KEY_FRAME_HEADER_LEN {
    MAX_HEAD
} else {
    DESCRIPTOR_LEN + KEY_FRAME_HEADER_LEN
};

static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut word = 0x9E37_79B9_u32;
    let next = |_| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..MAX_PAYLOAD).map(next).collect()
});

#[derive(Debug, Clone, Copy)]
pub(crate) enum Codec {
    Opus,
    Vp8 {
        width: u16,
        height: u16,
        picture_id: u16,
    },
    /// VP9 or AV1 with layers in it; [`Stamp::inner`] says the rest.
    Scalable {
        mode: Mode,
        picture_id: u16,
    },
}

/// A payload to be written, as often as needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) codec: Codec,
    pub(crate) stamp: Stamp,
    pub(crate) len: usize,
}

impl Payload {
    /// Writes the payload to the beginning of `out`.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let out = &mut out[..self.len];
        let at = match self.codec {
            Codec::Opus => {
                out[0] = OPUS_TOC;
                1
            }
            Codec::Vp8 {
                width,
                height,
                picture_id,
            } => self.write_vp8(out, width, height, picture_id),
            Codec::Scalable { mode, picture_id } => self.part(picture_id).write_head(&mode, out),
        };
        let rest = &mut out[at..];
        rest.copy_from_slice(&FILLER[..rest.len()]);
        self.stamp.write(rest);
    }

    /// The dependency descriptor of the packet; empty if it has none.
    pub(crate) fn dependency<'a>(&self, out: &'a mut [u8; MAX_DEPENDENCY]) -> &'a [u8] {
        let Codec::Scalable { mode, picture_id } = self.codec else {
            return &[];
        };
        let len = self.part(picture_id).write_dependency(&mode, out);
        &out[..len]
    }

    fn part(&self, picture_id: u16) -> Part {
        let Stamp {
            packet, packets, ..
        } = self.stamp;
        Part {
            frame: Frame {
                number: self.stamp.frame,
                spatial: self.stamp.layer,
                inner: self.stamp.inner.unwrap_or_default(),
            },
            is_key: self.stamp.is_key_frame,
            begins: packet == 0,
            ends: packet.wrapping_add(1) == packets,
            picture_id,
        }
    }

    fn write_vp8(&self, out: &mut [u8], width: u16, height: u16, picture_id: u16) -> usize {
        let first = self.stamp.packet == 0;
        // Extended, start of a partition; a picture id of 15 bits follows.
        out[0] = 0x80 | u8::from(first) << 4;
        out[1] = 0x80;
        out[2..4].copy_from_slice(&(0x8000 | picture_id).to_be_bytes());
        if !first {
            return DESCRIPTOR_LEN;
        }
        let delta = u8::from(!self.stamp.is_key_frame);
        // Shown; the first partition's length is of no use to anybody here.
        out[DESCRIPTOR_LEN..DESCRIPTOR_LEN + FRAME_TAG_LEN].copy_from_slice(&[0x10 | delta, 0, 0]);
        if delta == 1 {
            return DESCRIPTOR_LEN + FRAME_TAG_LEN;
        }
        let header = &mut out[DESCRIPTOR_LEN + FRAME_TAG_LEN..];
        header[..3].copy_from_slice(&START_CODE);
        header[3..5].copy_from_slice(&width.to_le_bytes());
        header[5..7].copy_from_slice(&height.to_le_bytes());
        DESCRIPTOR_LEN + KEY_FRAME_HEADER_LEN
    }
}

/// The stamp of a payload, behind a descriptor that the server may have rewritten.
pub(crate) fn read(format: Format, payload: &[u8]) -> Result<Stamp, Unstamped> {
    let at = match format {
        Format::Opus => Some(1),
        Format::Vp8 => vp8_body(payload),
        Format::Vp9 => vp9_body(payload),
        Format::Av1 => av1_body(payload),
        // Nobody stamps it.
        Format::H264 => None,
    };
    let body = at.and_then(|at| payload.get(at..));
    Stamp::read(body.ok_or(Unstamped::Foreign)?)
}

fn vp8_body(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extensions = *payload.get(at)?;
        at += 1;
        if extensions & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extensions & 0x40 != 0);
        at += usize::from(extensions & 0x30 != 0);
    }
    if first & 0x17 != 0x10 {
        return Some(at);
    }
    let is_key_frame = payload.get(at)? & 1 == 0;
    Some(
        at + if is_key_frame {
            KEY_FRAME_HEADER_LEN
        } else {
            FRAME_TAG_LEN
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(packet: u16, is_key_frame: bool) -> Stamp {
        Stamp {
            track: Default::default(),
            layer: 1,
            is_key_frame,
            frame: 5,
            begun: 0,
            packet,
            packets: 3,
            sent: 9,
            inner: None,
        }
    }

    #[test]
    fn stamps_are_found_behind_what_servers_read() {
        let codec = Codec::Vp8 {
            width: 320,
            height: 180,
            picture_id: 0x1234,
        };
        for (packet, is_key_frame) in [(0, true), (0, false), (1, true), (2, false)] {
            let stamp = stamp(packet, is_key_frame);
            let payload = Payload {
                codec,
                stamp,
                len: 200,
            };
            let mut out = [0; 300];
            payload.write(&mut out);
            assert_eq!(read(Format::Vp8, &out[..200]), Ok(stamp));
            assert_eq!(read(Format::Vp8, &out[..199]), Err(Unstamped::Damaged));
            if packet == 0 && is_key_frame {
                assert_eq!(out[4] & 1, 0);
                assert_eq!(out[7..14], [0x9D, 1, 0x2A, 64, 1, 180, 0]);
            }
            // A server that shortens the picture id.
            let mut short = out[..200].to_vec();
            short.remove(2);
            short[2] &= 0x7F;
            assert_eq!(read(Format::Vp8, &short), Ok(stamp));
        }
        let payload = Payload {
            codec: Codec::Opus,
            stamp: stamp(0, false),
            len: MIN_AUDIO,
        };
        let mut out = [0; MIN_AUDIO];
        payload.write(&mut out);
        assert_eq!(read(Format::Opus, &out), Ok(payload.stamp));
        assert_eq!(read(Format::Opus, &[]), Err(Unstamped::Foreign));
    }
    #[test]
    fn scalable_payloads_are_read_behind_their_descriptors() {
        use crate::media::scalable::{Encoder, Scalable, ScalableCodec};
        for (codec, format) in [
            (ScalableCodec::Vp9, Format::Vp9),
            (ScalableCodec::Av1, Format::Av1),
        ] {
            let mut encoder = Encoder::new(&Scalable::l3t3(codec, true), || 1);
            for is_key_frame in [true, false, false] {
                let mode = encoder.mode;
                for (frame, _) in encoder.picture(is_key_frame) {
                    for packet in 0..2 {
                        let stamp = Stamp {
                            layer: frame.spatial,
                            frame: frame.number,
                            inner: Some(frame.inner),
                            packets: 2,
                            ..stamp(packet, is_key_frame)
                        };
                        let codec = Codec::Scalable {
                            mode,
                            picture_id: 0x7FFF,
                        };
                        let payload = Payload {
                            codec,
                            stamp,
                            len: MIN_VIDEO,
                        };
                        let mut out = [0; MIN_VIDEO];
                        payload.write(&mut out);
                        assert_eq!(read(format, &out), Ok(stamp));
                        assert!(!payload.dependency(&mut [0; MAX_DEPENDENCY]).is_empty());
                    }
                }
            }
        }
    }
}
