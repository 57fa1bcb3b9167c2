//! The AV1 aggregation header (AV1 RTP payload format 1.0, section 4.4), as far as forwarding a whole
//! stream needs it.

/// Whether the packet begins a coded video sequence, i.e. a key frame with its sequence header.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    const CONTINUES: u8 = 0x80;
    const NEW_SEQUENCE: u8 = 0x08;
    payload
        .first()
        .is_some_and(|header| header & (CONTINUES | NEW_SEQUENCE) == NEW_SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_n_bit_marks_a_key_frame() {
        fn check(payload: &[u8], expected: bool) {
            assert_eq!(starts_key_frame(payload), expected, "{payload:02x?}");
        }
        check(&[0x18, 0x0A], true);
        check(&[0x10, 0x0A], false);
        check(&[0x98, 0x0A], false);
        check(&[], false);
    }
}
