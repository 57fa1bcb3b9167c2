//! Bits of a descriptor, read in order and never past the end.

#![warn(clippy::indexing_slicing)]

#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32, the first one highest.
    pub(super) fn read(&mut self, count: usize) -> Option<u32> {
        let mut value = 0u64;
        let mut left = count;
        while left > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let unread = 8 - self.at % 8;
            let taken = left.min(unread);
            let bits = byte >> (unread - taken) & ((1 << taken) - 1);
            value = value << taken | bits;
            self.at += taken;
            left -= taken;
        }
        Some(value as u32)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit != 0)
    }

    /// A number below `limit` in the fewest bits (AV1, section 4.10.7).
    pub(super) fn non_symmetric(&mut self, limit: u32) -> Option<u32> {
        let width = u32::BITS - limit.leading_zeros();
        let short = (1u32 << width) - limit;
        let value = self.read(width.checked_sub(1)? as usize)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.read(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_in_order() {
        let mut bits = Bits::new(&[0b1010_0110, 0xFF, 0x01]);
        assert_eq!(bits.read(3), Some(0b101));
        assert_eq!(bits.flag(), Some(false));
        assert_eq!(bits.read(8), Some(0b0110_1111));
        assert_eq!(bits.read(12), Some(0xF01));
        assert_eq!(bits.read(0), Some(0));
        assert_eq!(bits.read(1), None);
    }

    #[test]
    fn small_numbers_take_few_bits() {
        // Below five: 00, 01, 10, 110, 111.
        let check = |byte: u8, expected: (u32, usize)| {
            let bytes = [byte];
            let mut bits = Bits::new(&bytes);
            let value = bits.non_symmetric(5).unwrap();
            assert_eq!((value, bits.at), expected);
        };
        check(0b0000_0000, (0, 2));
        check(0b0100_0000, (1, 2));
        check(0b1000_0000, (2, 2));
        check(0b1100_0000, (3, 3));
        check(0b1110_0000, (4, 3));
        assert_eq!(Bits::new(&[0]).non_symmetric(1), Some(0));
    }
}
