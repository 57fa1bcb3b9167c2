//! Redundant audio (RFC 2198): where its headers end, which block is the newest, and how the payload
//! types inside are made those of a receiver.

#![warn(clippy::indexing_slicing)]

/// More redundant blocks than any encoder sends; what has more is not taken apart.
const MAX_BLOCKS: usize = 16;

/// The parts of a redundant payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of block headers at the beginning.
    pub headers: u8,
    /// Where the newest block begins; it reaches to the end.
    pub primary: u16,
}

impl Layout {
    /// `None`: the payload is malformed.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let mut headers = 0usize;
        let mut redundant = 0usize;
        for _ in 0..MAX_BLOCKS {
            let &first = rest.first()?;
            if first & 0x80 == 0 {
                headers += 1;
                let primary = headers + redundant;
                payload.get(primary..)?;
                return Some(Self {
                    headers: headers as u8,
                    primary: primary as u16,
                });
            }
            let (&[_, _, high, low], after) = rest.split_first_chunk()?;
            redundant += usize::from(u16::from_be_bytes([high, low]) & 0x3FF);
            headers += 4;
            rest = after;
        }
        None
    }

    /// Names `payload_type` for every block, in a copy of the headers this was read from.
    pub fn set_payload_type(self, payload_type: u8, headers: &mut [u8]) {
        let last = usize::from(self.headers).saturating_sub(1);
        for at in (0..=last).step_by(4) {
            if let Some(byte) = headers.get_mut(at) {
                *byte = *byte & 0x80 | payload_type & 0x7F;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_found_and_renamed() {
        let check = |payload: &[u8], expected: Option<(u8, u16)>| {
            let layout = Layout::parse(payload);
            let found = layout.map(|layout| (layout.headers, layout.primary));
            assert_eq!(found, expected, "{payload:02x?}");
        };
        check(&[111, 1, 2, 3], Some((1, 1)));
        check(&[0x80 | 111, 0, 2, 2, 111, 7, 7, 9, 9], None); // 514 bytes are promised
        check(&[0x80 | 111, 0, 0, 2, 111, 7, 7, 9, 9], Some((5, 7)));
        check(
            &[0xEF, 0, 0, 1, 0xEF, 0, 0, 2, 111, 1, 2, 2, 9],
            Some((9, 12)),
        );
        check(&[], None);
        check(&[0xEF, 0, 0], None);
        check(&[0xEF; 100], None);

        let mut payload = [0xEF, 0, 0, 1, 0xEF, 0, 0, 2, 111, 1, 2, 2, 9];
        Layout::parse(&payload)
            .unwrap()
            .set_payload_type(96, &mut payload[..9]);
        assert_eq!(payload, [0xE0, 0, 0, 1, 0xE0, 0, 0, 2, 96, 1, 2, 2, 9]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(layout) = Layout::parse(&payload) {
                prop_assert!(usize::from(layout.primary) <= payload.len());
                prop_assert!(u16::from(layout.headers) <= layout.primary);
                let mut copy = payload.clone();
                layout.set_payload_type(1, &mut copy[..usize::from(layout.headers)]);
                prop_assert_eq!(Layout::parse(&copy), Some(layout));
            }
        }
    }
}
