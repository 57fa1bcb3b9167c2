//! The VP9 payload descriptor (RFC 9628 section 4.2), as far as forwarding a whole stream needs it.

#![warn(clippy::indexing_slicing)]

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const BEGINS_FRAME: u8 = 0x08;

/// Whether the packet begins a key frame: the first packet of the lowest spatial layer of a picture
/// that is predicted from no other.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some((&flags, rest)) = payload.split_first() else {
        return false;
    };
    if flags & INTER_PREDICTED != 0 || flags & BEGINS_FRAME == 0 {
        return false;
    }
    if flags & LAYER_INDICES == 0 {
        return true;
    }
    let id_len = match rest.first() {
        _ if flags & PICTURE_ID == 0 => 0,
        Some(high) if high & 0x80 != 0 => 2,
        _ => 1,
    };
    // T T T U S S S D
    rest.get(id_len).is_some_and(|layers| layers & 0x0E == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_begins_in_the_lowest_layer() {
        fn check(payload: &[u8], expected: bool) {
            assert_eq!(starts_key_frame(payload), expected, "{payload:02x?}");
        }
        check(&[0x08], true);
        check(&[0x88, 0x81, 0x02], true);
        check(&[0xA8, 0x81, 0x02, 0x00], true);
        check(&[0xA8, 0x01, 0x00], true);
        check(&[0xA8, 0x81, 0x02, 0x02], false); // spatial layer 1
        check(&[0xE8, 0x81, 0x02, 0x00], false); // predicted
        check(&[0xA0, 0x81, 0x02, 0x00], false); // continues a frame
        check(&[0xA8, 0x81], false);
        check(&[], false);
    }
}
