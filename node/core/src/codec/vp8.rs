//! The VP8 payload descriptor (RFC 7741 section 4.2): where a key frame begins, and how picture ids
//! are rewritten so that a receiver sees one unbroken count over layer switches.

#![warn(clippy::indexing_slicing)]

/// What the descriptor in front of a VP8 payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The packet begins a frame (S set on partition 0).
    pub starts_frame: bool,
    /// The packet begins a key frame.
    pub starts_key_frame: bool,
    /// Temporal layer, if stated.
    pub temporal: Option<u8>,
    /// Bytes in front of the VP8 payload proper, all that [`Self::apply`] changes lie in them.
    pub len: u8,
    picture_id: Option<PictureId>,
    tl0_picture: Option<Field8>,
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

/// What has to be added to a source's picture ids (modulo their width) for a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    pub picture_id: u16,
    pub tl0_picture: u8,
}

impl Shift {
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl Descriptor {
    /// `None`: the payload is not VP8.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut at = 0usize;
        let mut next = || {
            let byte = payload.get(at).copied();
            at += 1;
            byte
        };
        let first = next()?;
        let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
        let (mut picture_id, mut tl0_picture, mut temporal) = (None, None, None);
        if first & 0x80 != 0 {
            let flags = next()?;
            let mut offset = 2u8;
            if flags & 0x80 != 0 {
                let high = next()?;
                let long = high & 0x80 != 0;
                let value = if long {
                    u16::from(high & 0x7F) << 8 | u16::from(next()?)
                } else {
                    u16::from(high)
                };
                picture_id = Some(PictureId {
                    offset,
                    value,
                    long,
                });
                offset += 1 + u8::from(long);
            }
            if flags & 0x40 != 0 {
                tl0_picture = Some(Field8 {
                    offset,
                    value: next()?,
                });
            }
            if flags & 0x30 != 0 {
                let byte = next()?;
                temporal = (flags & 0x20 != 0).then_some(byte >> 6);
            }
        }
        let len = at as u8;
        // The first payload byte of a frame has the inverse key frame flag in its lowest bit.
        let starts_key_frame = starts_frame && payload.get(at)? & 0x01 == 0;
        Some(Self {
            starts_frame,
            starts_key_frame,
            temporal,
            len,
            picture_id,
            tl0_picture,
        })
    }

    pub fn picture_id(&self) -> Option<u16> {
        self.picture_id.map(|id| id.value)
    }

    pub fn tl0_picture(&self) -> Option<u8> {
        self.tl0_picture.map(|field| field.value)
    }

    /// The shift that lets this packet's frame follow a frame with the given ids.
    pub fn shift_after(&self, picture_id: Option<u16>, tl0_picture: Option<u8>) -> Shift {
        let pair = |last: Option<u16>, own: Option<u16>| match (last, own) {
            (Some(last), Some(own)) => last.wrapping_add(1).wrapping_sub(own),
            _ => 0,
        };
        Shift {
            picture_id: pair(picture_id, self.picture_id()) & 0x7FFF,
            tl0_picture: pair(
                tl0_picture.map(u16::from),
                self.tl0_picture().map(u16::from),
            ) as u8,
        }
    }

    /// The ids a receiver sees under `shift`.
    pub fn shifted(&self, shift: Shift) -> (Option<u16>, Option<u8>) {
        let picture_id = self.picture_id.map(|id| {
            id.value.wrapping_add(shift.picture_id) & if id.long { 0x7FFF } else { 0x7F }
        });
        (
            picture_id,
            self.tl0_picture()
                .map(|value| value.wrapping_add(shift.tl0_picture)),
        )
    }

    /// Writes the shifted ids into a copy of the payload this descriptor was read from.
    pub fn apply(&self, shift: Shift, payload: &mut [u8]) {
        let (picture_id, tl0_picture) = self.shifted(shift);
        if let (Some(field), Some(value)) = (self.picture_id, picture_id)
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
        if let (Some(field), Some(value)) = (self.tl0_picture, tl0_picture)
            && let Some(byte) = payload.get_mut(usize::from(field.offset))
        {
            *byte = value;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    const KEY: u8 = 0x00;
    const DELTA: u8 = 0x01;

    #[test]
    fn tells_where_key_frames_begin() {
        fn check(payload: &[u8], starts_frame: bool, starts_key_frame: bool) {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!(
                (descriptor.starts_frame, descriptor.starts_key_frame),
                (starts_frame, starts_key_frame),
                "{payload:02x?}"
            );
        }
        check(&[0x10, KEY], true, true);
        check(&[0x10, DELTA], true, false);
        check(&[0x00, KEY], false, false); // continues a frame
        check(&[0x11, KEY], false, false); // begins partition 1
        check(&[0x90, 0x80, 0x12, KEY], true, true); // 7-bit picture id
        check(&[0x90, 0x80, 0x92, 0x34, KEY], true, true); // 15-bit picture id
        check(&[0x90, 0xE0, 0x92, 0x34, 7, 0x40, DELTA], true, false);
    }

    #[test]
    fn reads_and_shifts_ids() {
        fn check(payload: &[u8], shift: Shift, expected: (Option<u16>, Option<u8>)) {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!(descriptor.shifted(shift), expected);
            let mut copy = payload.to_vec();
            descriptor.apply(shift, &mut copy);
            let again = Descriptor::parse(&copy).unwrap();
            assert_eq!((again.picture_id(), again.tl0_picture()), expected);
            assert_eq!(again.temporal, descriptor.temporal);
        }
        let shift = Shift {
            picture_id: 3,
            tl0_picture: 250,
        };
        check(
            &[0x90, 0xE0, 0xFF, 0xFE, 9, 0x80, DELTA],
            Shift::default(),
            (Some(0x7FFE), Some(9)),
        );
        check(
            &[0x90, 0xE0, 0xFF, 0xFE, 9, 0x80, DELTA],
            shift,
            (Some(1), Some(3)),
        );
        check(&[0x90, 0x80, 0x7F, DELTA], shift, (Some(2), None));
        check(&[0x10, DELTA], shift, (None, None));
    }

    #[test]
    fn the_shift_after_a_switch_continues_the_count() {
        let descriptor = Descriptor::parse(&[0x90, 0xE0, 0x80, 0x05, 200, 0x00, KEY]).unwrap();
        let shift = descriptor.shift_after(Some(0x7FFF), Some(255));
        assert_eq!(descriptor.shifted(shift), (Some(0), Some(0)));
        let shift = descriptor.shift_after(Some(2), Some(10));
        assert_eq!(descriptor.shifted(shift), (Some(3), Some(11)));
        assert!(descriptor.shift_after(None, None).is_zero());
    }

    #[test]
    fn short_payloads_are_refused() {
        for payload in [
            &[][..],
            &[0x10],
            &[0x90],
            &[0x90, 0x80],
            &[0x90, 0x80, 0x80],
            &[0x90, 0x40],
        ] {
            assert_eq!(Descriptor::parse(payload), None, "{payload:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_patched_without_a_panic(
            payload in prop::collection::vec(any::<u8>(), 0..12),
            picture_id in any::<u16>(), tl0_picture in any::<u8>(),
        ) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                let mut copy = payload.clone();
                descriptor.apply(Shift { picture_id, tl0_picture }, &mut copy);
                descriptor.apply(Shift { picture_id, tl0_picture }, &mut copy[..payload.len().min(2)]);
            }
        }
    }
}
