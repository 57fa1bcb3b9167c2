//! H.264 with start codes (Annex B) as packets (RFC 6184, packetization mode 1): units that fit alone,
//! others in fragments.
//!
//! A decoder that is to begin at a key frame needs the parameter sets in front of it, so they are sent
//! before every one, also where the file has them at its beginning only.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::bits::Bits;
use super::{Cut, RecordingError, pieces, room, wrong};
use crate::sdp::Format;

const IDR: u8 = 5;
const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;
const DELIMITER: u8 = 9;
const END_OF_SEQUENCE: u8 = 10;
const END_OF_STREAM: u8 = 11;
const FILLER: u8 = 12;
const FRAGMENT_A: u8 = 28;

/// Sets that a stream may have; more are no stream.
const MAX_SETS: usize = 64;

pub(super) fn read(bytes: &[u8], fps: u32) -> Result<Cut, RecordingError> {
    let mut reader = Reader {
        bytes,
        fps,
        cut: Cut::new(Format::H264, (0, 0)),
        pictures: 0,
        sets: BTreeMap::new(),
        unit: Unit::default(),
    };
    for unit in units(bytes) {
        reader.take(unit)?;
    }
    reader.flush()?;
    let Reader { mut cut, .. } = reader;
    cut.end = Some(Duration::from_secs(1) * reader.pictures / fps);
    Ok(cut)
}

struct Reader<'a> {
    bytes: &'a [u8],
    fps: u32,
    cut: Cut,
    pictures: u32,
    /// By kind and id, those of sequences first: one set replaces another of its id only (H.264 section
    /// 7.4.1.2.1).
    sets: BTreeMap<(u8, u32), Range<usize>>,
    unit: Unit,
}

/// An access unit: one picture and what belongs to it.
#[derive(Default)]
struct Unit {
    parts: Vec<Range<usize>>,
    has_picture: bool,
    is_key: bool,
}

impl Reader<'_> {
    fn take(&mut self, part: Range<usize>) -> Result<(), RecordingError> {
        let kind = self.bytes[part.start] & 0x1F;
        let begins = match kind {
            // H.264 section 7.4.1.2.3: these stand in front of a picture.
            6..=9 | 14..=18 => true,
            // The first macroblock has the number zero.
            1..=5 => self
                .bytes
                .get(part.start + 1)
                .is_some_and(|it| it & 0x80 != 0),
            10..=13 | 19..=21 => false,
            _ => {
                return Err(wrong(format!(
                    "at byte {} is a unit of kind {kind}, which H.264 does not have",
                    part.start
                )));
            }
        };
        if begins && self.unit.has_picture {
            self.flush()?;
        }
        match kind {
            DELIMITER | END_OF_SEQUENCE | END_OF_STREAM | FILLER => return Ok(()),
            1..=5 => {
                self.refuse_backwards(&part)?;
                self.unit.has_picture = true;
                self.unit.is_key |= kind == IDR;
            }
            SEQUENCE_PARAMETERS | PICTURE_PARAMETERS => {
                let unit = &self.bytes[part.clone()];
                if kind == SEQUENCE_PARAMETERS
                    && let Some(size) = size(unit)
                {
                    self.cut.size = size;
                }
                let set = (kind, id(unit).unwrap_or_default());
                if self.sets.contains_key(&set) || self.sets.len() < MAX_SETS {
                    self.sets.insert(set, part.clone());
                }
            }
            _ => {}
        }
        self.unit.parts.push(part);
        Ok(())
    }

    /// Slices that are predicted from later pictures are decoded in another order than they are shown,
    /// which real-time media does not have.
    fn refuse_backwards(&self, slice: &Range<usize>) -> Result<(), RecordingError> {
        let kind = self.bytes[slice.start] & 0x1F;
        let mut bits = Bits::new(&self.bytes[slice.start + 1..slice.end]);
        let kind_of_slice = bits.golomb().and_then(|_first| bits.golomb());
        if matches!(kind, 1 | 2 | IDR) && matches!(kind_of_slice, Some(1 | 6)) {
            return Err(wrong(format!(
                "picture {} has B slices: encode it without B frames",
                self.pictures + 1
            )));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecordingError> {
        let unit = std::mem::take(&mut self.unit);
        if !unit.has_picture {
            return Ok(());
        }
        let at = Duration::from_secs(1) * self.pictures / self.fps;
        self.cut.begin(at, unit.is_key, false)?;
        self.pictures += 1;
        if unit.is_key {
            if self.sets.is_empty() {
                return Err(wrong(format!(
                    "there are no parameter sets before picture {}, a key frame",
                    self.pictures
                )));
            }
            for set in self.sets.clone().into_values() {
                self.packets(set);
            }
        }
        for part in unit.parts {
            // Before a key frame all sets were sent, its own among them.
            let kind = self.bytes[part.start] & 0x1F;
            if !(unit.is_key && matches!(kind, SEQUENCE_PARAMETERS | PICTURE_PARAMETERS)) {
                self.packets(part);
            }
        }
        Ok(())
    }

    fn packets(&mut self, part: Range<usize>) {
        if part.len() <= room(0) {
            return self.cut.packet(&[], part);
        }
        // RFC 6184 section 5.8: the unit's own header is told by those of its fragments.
        let header = self.bytes[part.start];
        let indicator = header & 0xE0 | FRAGMENT_A;
        for (piece, is_first, is_last) in pieces(part.start + 1..part.end, room(2)) {
            let ends = u8::from(is_first) << 7 | u8::from(is_last) << 6;
            self.cut.packet(&[indicator, ends | header & 0x1F], piece);
        }
    }
}

/// Units between start codes, without the zeros around them; empty ones are none.
fn units(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let begin = at + find_start(bytes.get(at..)?)? + 3;
            let next = find_start(&bytes[begin..]).map_or(bytes.len(), |next| begin + next);
            at = next;
            let trailing = bytes[begin..next].iter().rev();
            let end = next - trailing.take_while(|it| **it == 0).count();
            if begin < end {
                return Some(begin..end);
            }
        }
    })
}

fn find_start(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|it| it == [0, 0, 1])
}

/// Of a parameter set (H.264 sections 7.3.2.1.1 and 7.3.2.2).
fn id(unit: &[u8]) -> Option<u32> {
    /// What stands before the id, and the id.
    const HEAD: usize = 16;
    let unescaped = unescaped(unit.get(1..)?.get(..HEAD).unwrap_or(&unit[1..]));
    let mut bits = Bits::new(&unescaped);
    if unit[0] & 0x1F == SEQUENCE_PARAMETERS {
        bits.take(24)?;
    }
    bits.golomb()
}

/// Pixels, of sequence parameters (H.264 section 7.3.2.1.1) without scaling matrices.
fn size(unit: &[u8]) -> Option<(u16, u16)> {
    let unescaped = unescaped(unit.get(1..)?);
    let mut bits = Bits::new(&unescaped);
    let profile = bits.take(8)?;
    bits.take(16)?;
    let _id = bits.golomb()?;
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128) {
        chroma = bits.golomb()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        let _depths = (bits.golomb()?, bits.golomb()?);
        bits.take(1)?;
        if bits.flag()? {
            return None;
        }
    }
    let _frame_numbers = bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.take(1)?;
            let _offsets = (bits.golomb()?, bits.golomb()?);
            for _ in 0..bits.golomb()?.min(255) {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    let _references = bits.golomb()?;
    bits.take(1)?;
    let (width, height) = (
        bits.golomb()?.checked_add(1)?,
        bits.golomb()?.checked_add(1)?,
    );
    let fields = if bits.flag()? { 1 } else { 2 };
    if fields == 2 {
        bits.take(1)?;
    }
    bits.take(1)?;
    let mut crop = [0; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = bits.golomb()?;
        }
    }
    let (across, down) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let cropped = |whole: u32, units: u32, sides: [u32; 2]| {
        let taken = sides[0].checked_add(sides[1])?.checked_mul(units)?;
        u16::try_from(whole.checked_mul(16)?.checked_sub(taken)?).ok()
    };
    Some((
        cropped(width, across, [crop[0], crop[1]])?,
        cropped(
            height.checked_mul(fields)?,
            down * fields,
            [crop[2], crop[3]],
        )?,
    ))
}

/// Without the bytes that keep start codes out (H.264 section 7.3.1).
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for byte in bytes {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}
