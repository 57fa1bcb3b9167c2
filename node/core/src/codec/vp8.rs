//! The VP8 payload descriptor (RFC 7741 section 4.2): where frames and key frames begin, and which
//! temporal layer they belong to.

#![warn(clippy::indexing_slicing)]

use super::ids::FrameIds;

/// What the descriptor in front of a VP8 payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The packet begins a frame (S set on partition 0).
    pub starts_frame: bool,
    /// The packet begins a key frame.
    pub starts_key_frame: bool,
    /// Temporal layer, if stated.
    pub temporal: Option<u8>,
    /// The frame needs no other than the base layer's last one (the Y bit).
    pub needs_base_only: bool,
    pub ids: FrameIds,
}

impl Descriptor {
    /// `None`: the payload is not VP8.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
        let mut ids = FrameIds::default();
        let (mut temporal, mut needs_base_only) = (None, false);
        let mut at = 1;
        if first & 0x80 != 0 {
            let flags = *payload.get(1)?;
            at = 2;
            if flags & 0x80 != 0 {
                at = ids.read_picture(payload, at)?;
            }
            if flags & 0x40 != 0 {
                at = ids.read_tl0(payload, at)?;
            }
            if flags & 0x30 != 0 {
                let byte = *payload.get(usize::from(at))?;
                if flags & 0x20 != 0 {
                    (temporal, needs_base_only) = (Some(byte >> 6), byte & 0x20 != 0);
                }
                at += 1;
            }
        }
        ids.len = at;
        // The first payload byte of a frame has the inverse key frame flag in its lowest bit.
        let starts_key_frame = starts_frame && payload.get(usize::from(at))? & 0x01 == 0;
        Some(Self {
            starts_frame,
            starts_key_frame,
            temporal,
            needs_base_only,
            ids,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use crate::codec::ids::{LastIds, Shift};
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
            let mut copy = payload.to_vec();
            descriptor.ids.apply(shift, &mut copy);
            let again = Descriptor::parse(&copy).unwrap();
            assert_eq!((again.ids.picture(), again.ids.tl0()), expected);
            assert_eq!(
                again.ids.shifted(Shift::default()),
                descriptor.ids.shifted(shift)
            );
            assert_eq!(again.temporal, descriptor.temporal);
        }
        let shift = Shift {
            picture: 3,
            tl0: 250,
            frame: 0,
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
        let ids = |payload: &[u8]| Descriptor::parse(payload).unwrap().ids;
        let last = |picture: u16, tl0: u8| {
            let [high, low] = (0x8000 | picture).to_be_bytes();
            ids(&[0x90, 0xE0, high, low, tl0, 0x00, KEY]).shifted(Shift::default())
        };
        let next = ids(&[0x90, 0xE0, 0x80, 0x05, 200, 0x00, KEY]);
        let check = |before: LastIds, expected: LastIds| {
            assert_eq!(next.shifted(next.shift_after(before)), expected);
        };
        check(last(0x7FFF, 255), last(0, 0));
        check(last(2, 10), last(3, 11));
        assert!(next.shift_after(LastIds::default()).is_zero());
    }

    #[test]
    fn tells_what_a_temporal_layer_needs() {
        let check = |byte: u8, expected: (Option<u8>, bool)| {
            let descriptor = Descriptor::parse(&[0x90, 0xE0, 0x05, 9, byte, DELTA]).unwrap();
            assert_eq!((descriptor.temporal, descriptor.needs_base_only), expected);
        };
        check(0x00, (Some(0), false));
        check(0x60, (Some(1), true));
        check(0x80, (Some(2), false));
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
            picture in any::<u16>(), tl0 in any::<u8>(),
        ) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                let mut copy = payload.clone();
                let shift = Shift { picture, tl0, frame: 0 };
                descriptor.ids.apply(shift, &mut copy);
                descriptor.ids.apply(shift, &mut copy[..payload.len().min(2)]);
            }
        }
    }
}
