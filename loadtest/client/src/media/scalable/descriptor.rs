//! What stands in front of a scalable frame's bytes: the VP9 payload descriptor (RFC 9628 section 4.2),
//! in its flexible mode, or AV1's aggregation header, and the dependency descriptor of either.

use super::{Frame, Mode, ScalableCodec};
use crate::wire::dependency::{self, MAX_LEN, Targets};

/// Longest head: flags, picture id, layer, reference, structure of three sizes.
pub(crate) const MAX_HEAD: usize = 1 + 2 + 1 + 1 + 1 + 12;

/// One packet of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) frame: Frame,
    pub(crate) is_key: bool,
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    pub(crate) picture_id: u16,
}

impl Part {
    /// Receivers are told of the layers.
    fn tells_layers(&self) -> bool {
        self.is_key && self.begins && self.frame.spatial == 0
    }

    fn needs_lower(&self) -> bool {
        self.frame.inner.references[1] > 0
    }

    fn serves_above(&self, mode: &Mode) -> bool {
        let is_top = usize::from(self.frame.spatial) + 1 == mode.sizes().len();
        !is_top && (self.is_key || !mode.key_only)
    }

    pub(crate) fn write_dependency(&self, mode: &Mode, out: &mut [u8; MAX_LEN]) -> usize {
        let targets = Targets {
            sizes: mode.sizes(),
            temporal: mode.temporal,
        };
        let mut references = self.frame.inner.references;
        // Those that there are come first.
        references.sort_unstable_by_key(|distance| *distance == 0);
        let count = references.iter().filter(|distance| **distance > 0).count();
        let frame = dependency::Frame {
            begins: self.begins,
            ends: self.ends,
            number: self.frame.number as u16,
            spatial: self.frame.spatial,
            temporal: self.frame.inner.temporal,
            structure: self.tells_layers(),
            serves_above: self.serves_above(mode),
            references: &references[..count],
        };
        dependency::write(out, targets, &frame)
    }

    /// Answers the length.
    pub(crate) fn write_head(&self, mode: &Mode, out: &mut [u8]) -> usize {
        match mode.codec {
            ScalableCodec::Vp9 => self.write_vp9(mode, out),
            ScalableCodec::Av1 => self.write_av1(out),
        }
    }

    fn write_vp9(&self, mode: &Mode, out: &mut [u8]) -> usize {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let [earlier, _] = self.frame.inner.references;
        // A picture id, layer indices and flexible mode.
        out[0] = 0xB0
            | flag(earlier > 0, 0x40)
            | flag(self.begins, 0x08)
            | flag(self.ends, 0x04)
            | flag(self.tells_layers(), 0x02)
            | flag(!self.serves_above(mode), 0x01);
        out[1..3].copy_from_slice(&(0x8000 | self.picture_id).to_be_bytes());
        let layer = self.frame.inner.temporal << 5 | self.frame.spatial << 1;
        // Nothing above refers to what is before this frame in its own layer.
        out[3] = layer | 0x10 | flag(self.needs_lower(), 0x01);
        let mut at = 4;
        if earlier > 0 {
            out[at] = (earlier / mode.spatial) << 1;
            at += 1;
        }
        if self.tells_layers() {
            out[at] = (mode.spatial - 1) << 5 | 0x10;
            at += 1;
            for (width, height) in mode.sizes() {
                out[at..at + 2].copy_from_slice(&width.to_be_bytes());
                out[at + 2..at + 4].copy_from_slice(&height.to_be_bytes());
                at += 4;
            }
        }
        at
    }

    /// One OBU a packet, a part of a frame.
    fn write_av1(&self, out: &mut [u8]) -> usize {
        const OBU_FRAME: u8 = 6 << 3;
        let continues = if self.begins { 0 } else { 0x80 };
        let goes_on = if self.ends { 0 } else { 0x40 };
        let new_sequence = if self.tells_layers() { 0x08 } else { 0 };
        out[0] = continues | goes_on | 0x10 | new_sequence;
        if !self.begins {
            return 1;
        }
        out[1] = OBU_FRAME;
        2
    }
}

/// Where the frame's bytes begin, behind a descriptor that a server may have rewritten.
pub(crate) fn vp9_body(payload: &[u8]) -> Option<usize> {
    let flags = *payload.first()?;
    let mut at = 1;
    if flags & 0x80 != 0 {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    at += usize::from(flags & 0x20 != 0);
    if flags & 0x10 == 0 {
        at += usize::from(flags & 0x20 != 0);
    } else if flags & 0x40 != 0 {
        while payload.get(at)? & 1 != 0 {
            at += 1;
        }
        at += 1;
    }
    if flags & 0x02 != 0 {
        let structure = payload.get(at)?;
        let sizes = usize::from(structure >> 5) + 1;
        at += 1 + if structure & 0x10 != 0 { 4 * sizes } else { 0 };
    }
    Some(at)
}

pub(crate) fn av1_body(payload: &[u8]) -> Option<usize> {
    Some(if payload.first()? & 0x80 != 0 { 1 } else { 2 })
}
