//! Bits of a header, from the highest down.

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// So many bits, 32 at most.
    pub(super) fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// Exp-Golomb (H.264 section 9.1).
    pub(super) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        let rest = self.take(zeros)?;
        Some(((1_u64 << zeros) - 1) as u32 + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_bit_by_bit() {
        // 1, 010, 011, 00100, 00101 and three bits of padding.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&bytes);
        let read: Vec<_> = (0..5).map(|_| bits.golomb()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4].map(Some));
        assert_eq!(bits.golomb(), None);
        let mut bits = Bits::new(&bytes);
        assert_eq!((bits.take(4), bits.take(20)), (Some(10), Some(0x6_4280)));
        assert_eq!(bits.take(1), None);
        assert_eq!(Bits::new(&[0; 9]).golomb(), None);
    }
}
