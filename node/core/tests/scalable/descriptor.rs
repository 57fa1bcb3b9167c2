//! Dependency descriptors as an encoder writes them: one template per layer, everything else said
//! frame by frame.

use pipemesh_node_core::track::Size;

/// The layers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// Spatial layers use each other on key pictures only.
    pub(crate) key_only: bool,
    /// A layer has two thirds of the lines of the one above, not half of them (modes with an `h`).
    pub(crate) close: bool,
    /// Every frame needs the one before of its own temporal layer, so that none is a way into it.
    pub(crate) chained: bool,
}

impl Mode {
    /// As in `L3T3`, or `L3T3_KEY`.
    pub(crate) const fn new(spatial: u8, temporal: u8, key_only: bool) -> Self {
        Self {
            spatial,
            temporal,
            key_only,
            close: false,
            chained: false,
        }
    }

    pub(crate) fn temporal_of(&self, place: usize) -> u8 {
        let pattern: &[u8] = match self.temporal {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        };
        pattern[place % pattern.len()]
    }

    pub(crate) fn size(&self, spatial: u8) -> Size {
        let below = u32::from(self.spatial - 1 - spatial);
        let (part, whole) = if self.close { (2u32, 3u32) } else { (1, 2) };
        let scaled = |side: u32| side * part.pow(below) / whole.pow(below);
        Size {
            width: scaled(1280),
            height: scaled(720),
        }
    }
}

/// A frame of one layer. Numbers count all frames.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) number: u32,
    pub(crate) picture: u32,
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    pub(crate) key: bool,
    /// Refers to an earlier picture.
    pub(crate) is_predicted: bool,
    /// Refers to the layer below.
    pub(crate) needs_lower: bool,
    pub(crate) references: Vec<u32>,
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn write(&mut self, value: u32, bits: usize) {
        for bit in (0..bits).rev() {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (7 - self.count % 8);
            self.count += 1;
        }
    }

    fn non_symmetric(&mut self, value: u32, limit: u32) {
        let width = 32 - limit.leading_zeros() as usize;
        let short = (1 << width) - limit;
        if value < short {
            self.write(value, width - 1);
        } else {
            self.write(value + short, width);
        }
    }
}

/// `active`: the spatial layers that are being sent, where it has to be said.
pub(crate) fn write(
    mode: &Mode,
    frame: &Frame,
    first_number: u16,
    (begins, ends): (bool, bool),
    active: Option<u8>,
) -> Vec<u8> {
    const OFFSET: u32 = 60;
    let mut bits = Bits::default();
    let template = u32::from(frame.spatial * mode.temporal + frame.temporal);
    bits.write(begins.into(), 1);
    bits.write(ends.into(), 1);
    bits.write((OFFSET + template) % 64, 6);
    bits.write(first_number.wrapping_add(frame.number as u16).into(), 16);
    let structure = begins && frame.key && frame.spatial == 0;
    bits.write(structure.into(), 1);
    bits.write(active.is_some().into(), 1);
    bits.write(1, 1); // targets
    bits.write(1, 1); // references
    bits.write(0, 1);
    if structure {
        bits.write(OFFSET, 6);
        write_structure(mode, &mut bits);
    }
    if let Some(active) = active {
        // The last target comes first.
        for spatial in (0..mode.spatial).rev() {
            (0..mode.temporal).for_each(|_| bits.write((spatial < active).into(), 1));
        }
    }
    let alone = mode.key_only && !frame.key;
    for spatial in 0..mode.spatial {
        for temporal in 0..mode.temporal {
            let in_spatial = if alone {
                frame.spatial == spatial
            } else {
                frame.spatial <= spatial
            };
            let needed = in_spatial && frame.temporal <= temporal;
            bits.write(if needed { 2 } else { 0 }, 2);
        }
    }
    for reference in &frame.references {
        let distance = frame.number - reference - 1;
        let nibbles = if distance < 16 { 1 } else { 2 };
        bits.write(nibbles, 2);
        bits.write(distance, nibbles as usize * 4);
    }
    bits.write(0, 2);
    bits.bytes
}

fn write_structure(mode: &Mode, bits: &mut Bits) {
    let targets = u32::from(mode.spatial * mode.temporal);
    bits.write(targets - 1, 5);
    for spatial in 0..mode.spatial {
        for temporal in 0..mode.temporal {
            let next = match (temporal + 1 < mode.temporal, spatial + 1 < mode.spatial) {
                (true, _) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            bits.write(next, 2);
        }
    }
    for template in 0..targets {
        let (spatial, temporal) = (
            template / u32::from(mode.temporal),
            template % u32::from(mode.temporal),
        );
        for target in 0..targets {
            let needed = spatial <= target / u32::from(mode.temporal)
                && temporal <= target % u32::from(mode.temporal);
            bits.write(if needed { 2 } else { 0 }, 2);
        }
    }
    (0..targets).for_each(|_| bits.write(0, 1));
    // A chain per spatial layer.
    let chains = u32::from(mode.spatial);
    bits.non_symmetric(chains, targets + 1);
    for target in 0..targets {
        bits.non_symmetric(target / u32::from(mode.temporal), chains);
    }
    (0..targets * chains).for_each(|_| bits.write(0, 4));
    bits.write(1, 1);
    for spatial in 0..mode.spatial {
        let Size { width, height } = mode.size(spatial);
        bits.write(width - 1, 16);
        bits.write(height - 1, 16);
    }
}
