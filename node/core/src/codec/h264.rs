//! Where a key frame begins in H.264 (RFC 6184).

#![warn(clippy::indexing_slicing)]

const SEQUENCE_PARAMETER_SET: u8 = 7;
const AGGREGATION_A: u8 = 24;

/// Whether the packet begins a key frame.
///
/// A decoder can start only where parameter sets stand in front of the IDR slice, and encoders for
/// real-time use repeat them before each, so the sequence parameter set is what marks the beginning.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some((&first, rest)) = payload.split_first() else {
        return false;
    };
    match first & 0x1F {
        SEQUENCE_PARAMETER_SET => true,
        AGGREGATION_A => Units(rest).any(|kind| kind == SEQUENCE_PARAMETER_SET),
        _ => false,
    }
}

/// Types of the NAL units in an aggregation packet.
struct Units<'a>(&'a [u8]);

impl Iterator for Units<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (size, rest) = self.0.split_first_chunk::<2>()?;
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        self.0 = rest;
        unit.first().map(|header| header & 0x1F)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_parameter_set_begins_a_key_frame() {
        fn check(payload: &[u8], expected: bool) {
            assert_eq!(starts_key_frame(payload), expected, "{payload:02x?}");
        }
        check(&[0x67, 1, 2], true); // SPS
        check(&[0x68, 1, 2], false); // PPS alone
        check(&[0x65, 1, 2], false); // IDR without parameter sets
        check(&[0x41, 1, 2], false); // slice
        check(&[0x78, 0, 2, 0x67, 9, 0, 1, 0x68], true); // STAP-A with SPS and PPS
        check(&[0x78, 0, 1, 0x68, 0, 2, 0x67, 9], true);
        check(&[0x78, 0, 1, 0x68], false);
        check(&[0x78, 0, 9, 0x67], false); // unit longer than the packet
        check(&[0x7C, 0x85], false); // FU-A of an IDR slice
        check(&[], false);
    }
}
