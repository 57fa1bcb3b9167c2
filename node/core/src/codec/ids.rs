//! The numbers by which a stream counts its frames (VP8 and VP9 picture ids, TL0PICIDX, the dependency
//! descriptor's frame number), and how they are rewritten so that a receiver sees one unbroken count
//! over changes of the source. Does not know which frames are forwarded.

#![warn(clippy::indexing_slicing)]

/// What a packet says of its frame's numbers, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameIds {
    /// Bytes in front of the payload proper; all that [`Self::apply`] changes lie in them.
    pub len: u8,
    picture: Option<PictureId>,
    tl0: Option<Field8>,
    /// Frame number of the dependency descriptor.
    frame: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PictureId {
    offset: u8,
    value: u16,
    /// 15 bits on two bytes, else 7 bits on one.
    long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field8 {
    offset: u8,
    value: u8,
}

/// What has to be added to a source's numbers (modulo their width) for a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    pub picture: u16,
    pub frame: u16,
    pub tl0: u8,
}

impl Shift {
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The same, after so many pictures more have been left out.
    pub(crate) fn less_pictures(self, pictures: u16) -> Self {
        Self {
            picture: self.picture.wrapping_sub(pictures) & 0x7FFF,
            ..self
        }
    }
}

/// Numbers of the newest frame that a receiver was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastIds {
    picture: Option<u16>,
    tl0: Option<u8>,
    frame: Option<u16>,
}

impl LastIds {
    pub(crate) fn update(&mut self, newer: Self) {
        *self = Self {
            picture: newer.picture.or(self.picture),
            tl0: newer.tl0.or(self.tl0),
            frame: newer.frame.or(self.frame),
        };
    }
}

impl FrameIds {
    /// Reads a picture id (`M` bit and 7 or 15 bits) at `offset`; answers what follows it.
    pub(super) fn read_picture(&mut self, payload: &[u8], offset: u8) -> Option<u8> {
        let high = *payload.get(usize::from(offset))?;
        let long = high & 0x80 != 0;
        let value = if long {
            let low = *payload.get(usize::from(offset) + 1)?;
            u16::from(high & 0x7F) << 8 | u16::from(low)
        } else {
            u16::from(high)
        };
        self.picture = Some(PictureId {
            offset,
            value,
            long,
        });
        Some(offset + 1 + u8::from(long))
    }

    /// Reads TL0PICIDX at `offset`; answers what follows it.
    pub(super) fn read_tl0(&mut self, payload: &[u8], offset: u8) -> Option<u8> {
        let value = *payload.get(usize::from(offset))?;
        self.tl0 = Some(Field8 { offset, value });
        Some(offset + 1)
    }

    pub(crate) fn set_frame(&mut self, number: Option<u16>) {
        self.frame = number;
    }

    pub fn picture(&self) -> Option<u16> {
        self.picture.map(|id| id.value)
    }

    /// Bits of the picture id that count.
    pub(crate) fn picture_bits(&self) -> u32 {
        if self.picture.is_some_and(|id| id.long) {
            15
        } else {
            7
        }
    }

    pub fn tl0(&self) -> Option<u8> {
        self.tl0.map(|field| field.value)
    }

    pub fn frame(&self) -> Option<u16> {
        self.frame
    }

    /// The shift that lets this packet's frame follow the last one.
    pub fn shift_after(&self, last: LastIds) -> Shift {
        let pair = |last: Option<u16>, own: Option<u16>| match (last, own) {
            (Some(last), Some(own)) => last.wrapping_add(1).wrapping_sub(own),
            _ => 0,
        };
        Shift {
            picture: pair(last.picture, self.picture()) & 0x7FFF,
            frame: pair(last.frame, self.frame),
            tl0: pair(last.tl0.map(u16::from), self.tl0().map(u16::from)) as u8,
        }
    }

    /// What a receiver sees under `shift`.
    pub fn shifted(&self, shift: Shift) -> LastIds {
        let picture = self
            .picture
            .map(|id| id.value.wrapping_add(shift.picture) & if id.long { 0x7FFF } else { 0x7F });
        LastIds {
            picture,
            tl0: self.tl0().map(|value| value.wrapping_add(shift.tl0)),
            frame: self.frame.map(|number| number.wrapping_add(shift.frame)),
        }
    }

    /// Writes the shifted numbers into a copy of the payload that this was read from.
    #[inline]
    pub fn apply(&self, shift: Shift, payload: &mut [u8]) {
        let LastIds { picture, tl0, .. } = self.shifted(shift);
        if let (Some(field), Some(value)) = (self.picture, picture)
            && let Some(space) = payload.get_mut(usize::from(field.offset)..)
        {
            match space {
                [high, low, ..] if field.long => {
                    *high = 0x80 | (value >> 8) as u8;
                    *low = value as u8;
                }
                [byte, ..] => *byte = value as u8,
                [] => {}
            }
        }
        if let (Some(field), Some(value)) = (self.tl0, tl0)
            && let Some(byte) = payload.get_mut(usize::from(field.offset))
        {
            *byte = value;
        }
    }
}
