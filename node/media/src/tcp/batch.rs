//! What was read last from a stream, cut into datagrams. One for all streams of a thread.

use super::{HEADER_LEN, MAX_FRAME_LEN, datagram_len};

/// Bytes that one read takes at most: some twenty-five full-size packets, so that one busy stream does
/// not keep the others waiting.
const READ_LEN: usize = 32 << 10;

/// Room for what one read brings, behind the beginning of a frame that came before.
pub struct FrameBatch {
    bytes: Box<[u8]>,
    /// Bytes of whole frames at the beginning.
    whole: usize,
}

/// No frame can begin like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoFrame;

impl FrameBatch {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; MAX_FRAME_LEN + READ_LEN].into_boxed_slice(),
            whole: 0,
        }
    }

    /// The datagrams of the last read. May be changed in place.
    pub fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = &mut self.bytes[..self.whole];
        std::iter::from_fn(move || {
            let (header, behind) = std::mem::take(&mut rest).split_first_chunk_mut()?;
            let (datagram, behind) = behind.split_at_mut(datagram_len(*header)?);
            rest = behind;
            Some(datagram)
        })
    }

    /// Puts the beginning of a frame in front, and gives the space for what follows it.
    pub(super) fn begin(&mut self, partial: &[u8]) -> &mut [u8] {
        self.whole = 0;
        let (front, space) = self.bytes.split_at_mut(partial.len());
        front.copy_from_slice(partial);
        space
    }

    /// Takes note of `filled` bytes, those in front included, and answers what is no whole frame yet.
    pub(super) fn cut(&mut self, filled: usize) -> Result<&[u8], NoFrame> {
        let bytes = &self.bytes[..filled];
        while let Some(header) = bytes[self.whole..].first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + datagram_len(*header).ok_or(NoFrame)?;
            if bytes.len() - self.whole < len {
                break;
            }
            self.whole += len;
        }
        Ok(&bytes[self.whole..])
    }
}

impl Default for FrameBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(datagram: &[u8]) -> Vec<u8> {
        [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
    }

    /// Everything that comes out of reads of these lengths, over and over.
    fn read(mut bytes: &[u8], reads: &[usize]) -> Result<Vec<Vec<u8>>, NoFrame> {
        let mut batch = FrameBatch::new();
        let (mut partial, mut read) = (Vec::new(), Vec::new());
        for len in reads.iter().cycle() {
            if bytes.is_empty() {
                return Ok(read);
            }
            let (now, later) = bytes.split_at((*len).min(bytes.len()));
            batch.begin(&partial)[..now.len()].copy_from_slice(now);
            partial = batch.cut(partial.len() + now.len())?.to_vec();
            assert!(partial.len() < MAX_FRAME_LEN);
            read.extend(batch.datagrams().map(|datagram| datagram.to_vec()));
            bytes = later;
        }
        unreachable!("there are reads without end")
    }

    proptest! {
        #[test]
        fn however_they_are_cut_the_same_datagrams_come_out(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1500), 0..20),
            reads in prop::collection::vec(1..READ_LEN, 1..10),
        ) {
            let bytes: Vec<u8> = datagrams.iter().flat_map(|it| frame(it)).collect();
            prop_assert_eq!(read(&bytes, &reads), Ok(datagrams));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            reads in prop::collection::vec(1..3000_usize, 1..5),
        ) {
            let _ = read(&bytes, &reads);
        }
    }

    #[test]
    fn byte_by_byte() {
        let datagrams = vec![vec![1; 1500], vec![2], vec![3; 700]];
        let bytes: Vec<u8> = datagrams.iter().flat_map(|it| frame(it)).collect();
        assert_eq!(read(&bytes, &[1]), Ok(datagrams));
    }

    #[test]
    fn lengths_of_no_datagram_are_refused_before_it_comes() {
        assert_eq!(read(&[0, 0], &[2]), Err(NoFrame));
        assert_eq!(read(&1501_u16.to_be_bytes(), &[2]), Err(NoFrame));
        assert_eq!(read(b"GET / HTTP/1.1\r\n", &[16]), Err(NoFrame));
        assert_eq!(read(&[0, 1, 7, 0, 0], &[5]), Err(NoFrame));
        assert_eq!(read(&[5], &[1]), Ok(Vec::new()));
    }
}
