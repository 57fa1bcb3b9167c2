//! RTP packets (RFC 3550 section 5.1) and their header extensions (RFC 8285), read in place and
//! written in place. Knows nothing of codecs or encryption.

#![warn(clippy::indexing_slicing)]

/// The part of the header that every packet has.
pub const FIXED_HEADER_LEN: usize = 12;

/// `a=extmap` ids up to here fit the one-byte form.
const ONE_BYTE_MAX_ID: u8 = 14;
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// The lower four bits are free for the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Where things are in a packet; stays valid while the packet's bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// The last byte of the packet counts padding (only meaningful once decrypted).
    padding: bool,
    extension_profile: u16,
    extension_start: u16,
    payload_start: u16,
}

impl Header {
    /// Reads the header of a packet, encrypted or not. `None`: not an RTP packet.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED_HEADER_LEN>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return None;
        }
        let csrcs = usize::from(first & 0x0F) * 4;
        let mut payload_start = FIXED_HEADER_LEN + csrcs;
        let mut extension_profile = 0;
        let mut extension_start = payload_start;
        if first & 0x10 != 0 {
            let (profile, after) = rest.get(csrcs..)?.split_first_chunk::<2>()?;
            let (words, _) = after.split_first_chunk::<2>()?;
            extension_profile = u16::from_be_bytes(*profile);
            extension_start = payload_start + 4;
            payload_start = extension_start + usize::from(u16::from_be_bytes(*words)) * 4;
        }
        if payload_start > packet.len() {
            return None;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            padding: first & 0x20 != 0,
            extension_profile,
            extension_start: u16::try_from(extension_start).ok()?,
            payload_start: u16::try_from(payload_start).ok()?,
        })
    }

    /// Length of the header including CSRCs and extensions.
    pub fn header_len(&self) -> usize {
        usize::from(self.payload_start)
    }

    /// The payload without padding. `None`: the padding count is impossible. An empty payload is a
    /// padding-only packet, as sent to probe for bandwidth.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let payload = packet.get(self.header_len()..)?;
        if !self.padding {
            return Some(payload);
        }
        let count = usize::from(*payload.last()?);
        if count == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(count)?)
    }

    /// The value of the header extension `id`.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet)
            .find(|&(found, _)| found == id)
            .map(|(_, value)| value)
    }

    /// All header extensions as (id, value), in the order they stand.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> ExtensionIter<'a> {
        let bytes = packet
            .get(usize::from(self.extension_start)..usize::from(self.payload_start))
            .unwrap_or_default();
        ExtensionIter {
            bytes: if self.extension_profile == ONE_BYTE_PROFILE || self.is_two_byte() {
                bytes
            } else {
                &[]
            },
            two_byte: self.is_two_byte(),
        }
    }

    fn is_two_byte(&self) -> bool {
        self.extension_profile & 0xFFF0 == TWO_BYTE_PROFILE
    }
}

/// See [`Header::extensions`].
#[derive(Debug, Clone)]
pub struct ExtensionIter<'a> {
    bytes: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.bytes.split_first()?;
            // A zero byte is padding in both forms.
            if first == 0 {
                self.bytes = rest;
                continue;
            }
            let (id, len, rest) = if self.two_byte {
                let (&len, rest) = rest.split_first()?;
                (first, usize::from(len), rest)
            } else {
                (first >> 4, usize::from(first & 0x0F) + 1, rest)
            };
            // RFC 8285 section 4.2: id 15 of the one-byte form ends the processing.
            if !self.two_byte && id > ONE_BYTE_MAX_ID {
                return None;
            }
            let (value, rest) = rest.split_at_checked(len)?;
            self.bytes = rest;
            return Some((id, value));
        }
    }
}

/// The fixed header of a packet to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingHeader {
    /// The last byte of the packet counts padding.
    pub padding: bool,
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl OutgoingHeader {
    /// The fixed part (RFC 3550 section 5.1), without extensions. In whole words: bytes that are put together
    /// in memory are read back as a word only when all that was written before has left the core.
    #[inline]
    fn write_fixed(self, out: &mut [u8; FIXED_HEADER_LEN], has_extensions: bool) {
        const VERSION: u32 = 2 << 30;
        let word = VERSION
            | u32::from(self.padding) << 29
            | u32::from(has_extensions) << 28
            | u32::from(self.marker) << 23
            | u32::from(self.payload_type & 0x7F) << 16
            | u32::from(self.sequence);
        let (first, rest) = out.split_at_mut(4);
        let (second, third) = rest.split_at_mut(4);
        first.copy_from_slice(&word.to_be_bytes());
        second.copy_from_slice(&self.timestamp.to_be_bytes());
        third.copy_from_slice(&self.ssrc.to_be_bytes());
    }

    /// The header that nearly every packet to a browser has, at once: with one extension of two bytes in the
    /// one-byte form, `id` 1 to 14. As [`HeaderWriter`] writes it. `None`: it does not fit.
    #[inline]
    pub fn write_with_number(self, out: &mut [u8], id: u8, number: u16) -> Option<usize> {
        const EXTENSION_LEN: usize = 8;
        const LEN: usize = FIXED_HEADER_LEN + EXTENSION_LEN;
        let (fixed, rest) = out.split_first_chunk_mut()?;
        let extension = rest.first_chunk_mut::<EXTENSION_LEN>()?;
        self.write_fixed(fixed, true);
        let words = u64::from(ONE_BYTE_PROFILE) << 48
            | 1 << 32
            | u64::from(id << 4 | 1) << 24
            | u64::from(number) << 8;
        *extension = words.to_be_bytes();
        Some(LEN)
    }
}

/// Writes a header in front of a payload: the fixed part, then extensions, then [`Self::finish`].
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    out: &'a mut [u8],
    /// End of what has been written; extensions begin behind the four bytes of their own header.
    end: usize,
    profile: u16,
}

const EXTENSION_HEADER_LEN: usize = 4;

impl<'a> HeaderWriter<'a> {
    /// `None`: `out` is shorter than the fixed header.
    pub fn new(out: &'a mut [u8], header: OutgoingHeader) -> Option<Self> {
        header.write_fixed(out.first_chunk_mut()?, false);
        Some(Self {
            out,
            end: FIXED_HEADER_LEN,
            profile: 0,
        })
    }

    /// Appends an extension; one that does not fit the form in use or the space is left out. The first
    /// one decides the form, so callers whose ids or values may need the two-byte form say so.
    pub fn extension(&mut self, id: u8, value: &[u8], two_byte: bool) {
        if id == 0 || value.len() > 255 {
            return;
        }
        if self.profile == 0 {
            self.profile = if two_byte {
                TWO_BYTE_PROFILE
            } else {
                ONE_BYTE_PROFILE
            };
            self.end += EXTENSION_HEADER_LEN;
        }
        let two_byte = self.profile == TWO_BYTE_PROFILE;
        let len = value.len() as u8;
        let (head, head_len) = if two_byte {
            ([id, len], 2)
        } else if id <= ONE_BYTE_MAX_ID && (1..=16).contains(&len) {
            ([id << 4 | (len - 1), 0], 1)
        } else {
            return;
        };
        let Some(space) = self
            .out
            .get_mut(self.end..self.end + head_len + value.len())
        else {
            return;
        };
        let (head_space, value_space) = space.split_at_mut(head_len);
        head_space.copy_from_slice(head.get(..head_len).unwrap_or_default());
        value_space.copy_from_slice(value);
        self.end += head_len + value.len();
    }

    /// Completes the header and returns its length. `None`: it does not fit.
    pub fn finish(self) -> Option<usize> {
        if self.profile == 0 {
            return Some(self.end);
        }
        let start = FIXED_HEADER_LEN + EXTENSION_HEADER_LEN;
        let padded = start + (self.end - start).next_multiple_of(4);
        self.out.get_mut(self.end..padded)?.fill(0);
        let words = u16::try_from((padded - start) / 4).ok()?;
        let (first, _) = self.out.split_first_mut()?;
        *first |= 0x10;
        let space = self.out.get_mut(FIXED_HEADER_LEN..start)?;
        let (profile_space, words_space) = space.split_at_mut(2);
        profile_space.copy_from_slice(&self.profile.to_be_bytes());
        words_space.copy_from_slice(&words.to_be_bytes());
        Some(padded)
    }
}

/// Extends 16-bit sequence numbers to 64 bits, tolerating reordering of half the range.
///
/// The first number is extended to lie in the second cycle, so that packets before it can be told
/// from it.
#[derive(Debug, Clone)]
pub struct SequenceUnwrapper {
    highest: Option<u64>,
    /// Cycle the next first number is put into.
    base: u64,
}

impl Default for SequenceUnwrapper {
    fn default() -> Self {
        Self {
            highest: None,
            base: 1,
        }
    }
}

impl SequenceUnwrapper {
    pub fn unwrap(&mut self, sequence: u16) -> u64 {
        let extended = self.peek(sequence);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// What [`Self::unwrap`] would answer, without learning from it.
    pub fn peek(&self, sequence: u16) -> u64 {
        match self.highest {
            None => self.base << 16 | u64::from(sequence),
            Some(highest) => {
                let step = sequence.wrapping_sub(highest as u16) as i16;
                highest.saturating_add_signed(i64::from(step))
            }
        }
    }

    /// The numbers begin anew, as those of a new SSRC do: what follows is extended to lie above all
    /// that came before, so that no two packets share a number.
    pub fn restart(&mut self) {
        if let Some(highest) = self.highest.take() {
            self.base = (highest >> 16) + 2;
        }
    }

    /// Learns which cycle numbers are in from one that is known in full and comes next. `false`: it
    /// lies so far back that [`Self::unwrap`] would mistake it.
    pub fn place(&mut self, extended: u64) -> bool {
        match self.highest {
            Some(highest) if extended <= highest => highest - extended < 1 << 15,
            Some(_) | None => {
                self.highest = Some(extended);
                true
            }
        }
    }

    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    const PLAIN: [u8; 16] = [
        0x80, 0xE0, 0x12, 0x34, 0, 0, 0, 9, 0xAA, 0xBB, 0xCC, 0xDD, 1, 2, 3, 4,
    ];

    #[test]
    fn reads_a_plain_header() {
        let header = Header::parse(&PLAIN).unwrap();
        assert!(header.marker);
        assert_eq!(
            (
                header.payload_type,
                header.sequence,
                header.timestamp,
                header.ssrc
            ),
            (96, 0x1234, 9, 0xAABB_CCDD)
        );
        assert_eq!(header.payload(&PLAIN), Some(&[1, 2, 3, 4][..]));
        assert_eq!(header.extensions(&PLAIN).count(), 0);
    }

    #[test]
    fn refuses_what_is_not_rtp() {
        fn check(packet: &[u8]) {
            assert_eq!(Header::parse(packet), None, "{packet:02x?}");
        }
        check(&[]);
        check(&PLAIN[..11]);
        check(&[0x40; 20]); // version 1
        check(&[0x8F; 20]); // 15 CSRCs do not fit
        let mut long_extension = [0x90; 20];
        long_extension[14..16].copy_from_slice(&[0xFF, 0xFF]);
        check(&long_extension);
    }

    #[test]
    fn padding_is_left_out_of_the_payload() {
        fn check(first: u8, payload: &[u8], expected: Option<&[u8]>) {
            let mut packet = PLAIN[..12].to_vec();
            packet[0] = first;
            packet.extend_from_slice(payload);
            assert_eq!(
                Header::parse(&packet).unwrap().payload(&packet),
                expected,
                "{payload:?}"
            );
        }
        check(0x80, &[7, 8, 2], Some(&[7, 8, 2]));
        check(0xA0, &[7, 8, 1], Some(&[7, 8]));
        check(0xA0, &[7, 0, 2], Some(&[7]));
        check(0xA0, &[0, 0, 3], Some(&[]));
        check(0xA0, &[0, 0, 4], None);
        check(0xA0, &[0, 0, 0], None);
        check(0xA0, &[], None);
    }

    #[test]
    fn extensions_of_both_forms_round_trip() {
        fn check(two_byte: bool, values: &[(u8, &[u8])], expected: &[(u8, &[u8])]) {
            let mut out = [0xFF; 200];
            let header = OutgoingHeader {
                padding: false,
                marker: false,
                payload_type: 111,
                sequence: 7,
                timestamp: 8,
                ssrc: 9,
            };
            let mut writer = HeaderWriter::new(&mut out, header).unwrap();
            for (id, value) in values {
                writer.extension(*id, value, two_byte);
            }
            let len = writer.finish().unwrap();
            assert_eq!(len % 4, 0);
            let packet = &out[..len];
            let read = Header::parse(packet).unwrap();
            assert_eq!(read.header_len(), len);
            assert_eq!(read.extensions(packet).collect::<Vec<_>>(), expected);
            assert_eq!(
                (read.payload_type, read.sequence, read.timestamp, read.ssrc),
                (111, 7, 8, 9)
            );
        }
        check(false, &[], &[]);
        check(false, &[(3, &[1, 2])], &[(3, &[1, 2])]);
        check(
            false,
            &[(3, &[1]), (14, &[5; 16])],
            &[(3, &[1]), (14, &[5; 16])],
        );
        // What the one-byte form cannot carry is left out.
        check(
            false,
            &[(15, &[1]), (1, &[]), (2, &[5; 17]), (4, &[9])],
            &[(4, &[9])],
        );
        check(
            true,
            &[(15, &[1]), (1, &[]), (2, &[5; 17])],
            &[(15, &[1]), (1, &[]), (2, &[5; 17])],
        );
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused() {
        let header = OutgoingHeader {
            padding: false,
            marker: false,
            payload_type: 0,
            sequence: 0,
            timestamp: 0,
            ssrc: 0,
        };
        assert!(HeaderWriter::new(&mut [0; 11], header).is_none());
        let mut out = [0; 18];
        let mut writer = HeaderWriter::new(&mut out, header).unwrap();
        writer.extension(1, &[1], false);
        assert_eq!(writer.finish(), None);
    }

    #[test]
    fn sequence_numbers_are_extended_over_wraps_and_reordering() {
        let mut unwrapper = SequenceUnwrapper::default();
        let extended: Vec<u64> = [65_534, 65_533, 65_535, 1, 0, 2]
            .iter()
            .map(|&s| unwrapper.unwrap(s))
            .collect();
        assert_eq!(
            extended,
            [131_070, 131_069, 131_071, 131_073, 131_072, 131_074]
        );
        assert_eq!(unwrapper.highest(), Some(131_074));
    }

    #[test]
    fn a_restart_lies_above_all_before() {
        let mut unwrapper = SequenceUnwrapper::default();
        unwrapper.restart();
        assert_eq!(unwrapper.unwrap(65_535), 0x1_FFFF);
        unwrapper.restart();
        assert_eq!(unwrapper.unwrap(5), 0x3_0005);
        assert_eq!(unwrapper.unwrap(65_535), 0x2_FFFF);
    }

    #[test]
    fn a_number_known_in_full_says_which_cycle_the_others_are_in() {
        let mut unwrapper = SequenceUnwrapper::default();
        assert!(unwrapper.place(0x7_FFFE));
        assert_eq!(unwrapper.unwrap(0xFFFE), 0x7_FFFE);
        assert_eq!(unwrapper.unwrap(1), 0x8_0001);
        // Far ahead, and just behind that; but not so far behind that it could be ahead.
        assert!(unwrapper.place(0x1F_0000) && unwrapper.place(0x1E_FFF0));
        assert_eq!(unwrapper.unwrap(0xFFF0), 0x1E_FFF0);
        assert!(unwrapper.place(0x1E_8001) && !unwrapper.place(0x1E_8000));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(header) = Header::parse(&packet) {
                let _ = header.payload(&packet);
                prop_assert!(header.extensions(&packet).map(|(_, v)| v.len()).sum::<usize>() <= packet.len());
            }
        }

        #[test]
        fn a_header_with_a_number_is_as_it_is_written_piece_by_piece(
            bits in any::<(bool, bool)>(),
            numbers in any::<(u8, u16, u32, u32)>(),
            id in 1..=14u8,
            number in any::<u16>(),
        ) {
            let header = OutgoingHeader {
                padding: bits.0,
                marker: bits.1,
                payload_type: numbers.0,
                sequence: numbers.1,
                timestamp: numbers.2,
                ssrc: numbers.3,
            };
            let (mut at_once, mut by_pieces) = ([1; 24], [1; 24]);
            let len = header.write_with_number(&mut at_once, id, number);
            let mut writer = HeaderWriter::new(&mut by_pieces, header).unwrap();
            writer.extension(id, &number.to_be_bytes(), false);
            prop_assert_eq!(len, writer.finish());
            prop_assert_eq!(at_once, by_pieces);
            for short in 0..len.unwrap() {
                prop_assert_eq!(header.write_with_number(&mut at_once[..short], id, number), None);
            }
        }

        #[test]
        fn unwrapping_inverts_wrapping(start in any::<u16>(), steps in prop::collection::vec(-3000i64..3000, 1..200)) {
            let mut unwrapper = SequenceUnwrapper::default();
            let mut at = unwrapper.unwrap(start) as i64;
            for step in steps {
                let next = (at + step).max(0);
                prop_assert_eq!(unwrapper.unwrap(next as u16) as i64, next);
                at = at.max(next);
            }
        }
    }
}
