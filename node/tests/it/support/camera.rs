//! A simulcast camera without a lens: VP8 frames whose payloads say which encoding and frame they are
//! of. The descriptor is written and read here byte by byte, not by the code under test.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// From the lowest up.
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];

/// X, with the fields I, L and T behind it: a 15-bit picture id, the base layer's picture, and the
/// temporal layer (RFC 7741 section 4.2).
const EXTENDED: u8 = 0x80;
const STARTS_FRAME: u8 = 0x10;
const FIELDS: u8 = 0xE0;
const DESCRIPTOR_LEN: usize = 6;
/// The first bytes of a key frame (RFC 6386 section 9.1): tag, start code, 320 x 240.
const KEY_FRAME: [u8; 10] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0];
const DELTA_FRAME: [u8; 3] = [0x11, 0, 0];
/// Encoding, frame, and whether it is a key frame, at the end of every payload.
const MARK_LEN: usize = 6;

/// One encoding of a camera.
#[derive(Debug)]
pub(crate) struct Encoding {
    number: u8,
    index: u64,
    frame: u32,
    picture: u16,
    base_picture: u8,
    clock: u32,
    /// Bytes in every packet beyond the least.
    fill: usize,
    random: StdRng,
}

/// A packet of an encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// 48 bits of rollover counter and sequence number.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

impl Encoding {
    /// Every number begins somewhere, soon to wrap around.
    pub(crate) fn new(number: u8, random: &mut StdRng) -> Self {
        Self {
            number,
            index: random.random_range(60_000..1 << 16),
            frame: 0,
            picture: random.random_range(0x7F00..0x8000),
            base_picture: random.random(),
            clock: random.random(),
            fill: 0,
            random: rand::SeedableRng::from_rng(random),
        }
    }

    /// From now on every packet has so many bytes more.
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.fill = bytes;
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// As many packets as these are lost before anybody sees them.
    pub(crate) fn skip(&mut self, packets: u64) {
        self.index += packets;
    }

    /// Goes on under another SSRC, whose rollover counter begins at 0 (RFC 3711 section 3.3.1).
    pub(crate) fn restart_rollover(&mut self) {
        self.index &= 0xFFFF;
    }

    /// The packets of the next frame, which is of this moment of the recording.
    pub(crate) fn frame(&mut self, at: Duration, is_key: bool) -> Vec<Packet> {
        let ticks = (at.as_micros() * 9 / 100) as u32;
        let packets = match is_key {
            true => self.random.random_range(2..5),
            false => self.random.random_range(1..3),
        };
        let timestamp = self.clock.wrapping_add(ticks);
        let made = (0..packets).map(|part| Packet {
            index: self.index + part,
            timestamp,
            marker: part + 1 == packets,
            payload: self.payload(part == 0, is_key),
        });
        let made = made.collect();
        self.index += packets;
        self.frame += 1;
        self.picture = (self.picture + 1) & 0x7FFF;
        self.base_picture = self.base_picture.wrapping_add(1);
        made
    }

    fn payload(&self, starts_frame: bool, is_key: bool) -> Vec<u8> {
        let [high, low] = self.picture.to_be_bytes();
        let starts = if starts_frame { STARTS_FRAME } else { 0 };
        let mut payload = vec![
            EXTENDED | starts,
            FIELDS,
            0x80 | high,
            low,
            self.base_picture,
            0,
        ];
        match (starts_frame, is_key) {
            (true, true) => payload.extend(KEY_FRAME),
            (true, false) => payload.extend(DELTA_FRAME),
            (false, _) => {}
        }
        payload.resize(40 + 20 * usize::from(self.number) + self.fill, 0xAA);
        payload.push(self.number);
        payload.extend(self.frame.to_be_bytes());
        payload.push(is_key.into());
        payload
    }
}

/// What a payload says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) encoding: u8,
    pub(crate) frame: u32,
    pub(crate) is_key: bool,
    pub(crate) starts_frame: bool,
    pub(crate) picture: u16,
    pub(crate) base_picture: u8,
}

impl Mark {
    pub(crate) fn read(payload: &[u8]) -> Self {
        let (descriptor, rest) = payload.split_at(DESCRIPTOR_LEN);
        let &[first, FIELDS, high, low, base_picture, 0] = descriptor else {
            panic!("not the descriptor that was sent: {descriptor:02x?}");
        };
        let &[encoding, a, b, c, d, is_key] = &rest[rest.len() - MARK_LEN..] else {
            unreachable!("the slice is as long as the pattern");
        };
        Self {
            encoding,
            frame: u32::from_be_bytes([a, b, c, d]),
            is_key: is_key == 1,
            starts_frame: first & STARTS_FRAME != 0,
            picture: u16::from_be_bytes([high & 0x7F, low]),
            base_picture,
        }
    }

    pub(crate) fn starts_key_frame(&self) -> bool {
        self.starts_frame && self.is_key
    }
}
