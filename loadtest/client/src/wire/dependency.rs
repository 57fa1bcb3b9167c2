//! Writes dependency descriptors (AV1 RTP payload format 1.0, appendix A), without chains: a template
//! names a frame's layer, and every frame says itself what it refers to and which layers need it.

/// Longest that [`write()`] makes of three spatial and three temporal layers.
pub(crate) const MAX_LEN: usize = 64;

/// The layers of a stream: its decode targets, lowest first, temporal ones within spatial ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a> {
    /// Pixels of each spatial layer.
    pub(crate) sizes: &'a [(u16, u16)],
    pub(crate) temporal: u8,
}

/// What a packet says of its frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    pub(crate) number: u16,
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// The packet tells receivers of the layers there are.
    pub(crate) structure: bool,
    /// Higher spatial layers need the frame, too.
    pub(crate) serves_above: bool,
    /// Distances to the frames that it needs.
    pub(crate) references: &'a [u8],
}

/// What a frame is to a decode target.
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;

/// Answers the length.
pub(crate) fn write(out: &mut [u8; MAX_LEN], targets: Targets<'_>, frame: &Frame<'_>) -> usize {
    out.fill(0);
    let mut bits = Bits { out, count: 0 };
    let template = u32::from(frame.spatial * targets.temporal + frame.temporal);
    bits.write(frame.begins.into(), 1);
    bits.write(frame.ends.into(), 1);
    bits.write(template, 6);
    bits.write(frame.number.into(), 16);
    bits.write(frame.structure.into(), 1);
    // No change of what is being sent; needed by, and references, follow; no chains.
    bits.write(0b0110, 4);
    if frame.structure {
        write_structure(targets, &mut bits);
    }
    let spatial_layers = 0..targets.sizes.len() as u8;
    for spatial in spatial_layers {
        let in_spatial =
            spatial == frame.spatial || (frame.serves_above && spatial > frame.spatial);
        for temporal in 0..targets.temporal {
            let needed = in_spatial && temporal >= frame.temporal;
            bits.write(if needed { SWITCH } else { NOT_PRESENT }, 2);
        }
    }
    for distance in frame.references {
        let nibbles: u32 = if *distance <= 16 { 1 } else { 2 };
        bits.write(nibbles, 2);
        bits.write(u32::from(*distance) - 1, 4 * nibbles);
    }
    bits.write(0, 2);
    bits.count.div_ceil(8)
}

fn write_structure(targets: Targets<'_>, bits: &mut Bits<'_>) {
    const SAME_SPATIAL: u32 = 1;
    const NEXT_SPATIAL: u32 = 2;
    const END: u32 = 3;
    let (spatial, temporal) = (targets.sizes.len() as u32, u32::from(targets.temporal));
    let count = spatial * temporal;
    // The first template's id is 0.
    bits.write(0, 6);
    bits.write(count - 1, 5);
    for layer in 1..=count {
        let next = match layer {
            layer if layer == count => END,
            layer if layer % temporal == 0 => NEXT_SPATIAL,
            _ => SAME_SPATIAL,
        };
        bits.write(next, 2);
    }
    for layer in 0..count {
        for target in 0..count {
            let needed =
                layer / temporal <= target / temporal && layer % temporal <= target % temporal;
            bits.write(if needed { SWITCH } else { NOT_PRESENT }, 2);
        }
    }
    // References of templates: none, as frames name theirs.
    (0..count).for_each(|_| bits.write(0, 1));
    // No chains, as a number below `count + 1` (AV1 specification section 4.10.7).
    bits.write(0, (count + 1).ilog2());
    bits.write(1, 1);
    for (width, height) in targets.sizes {
        bits.write(u32::from(*width) - 1, 16);
        bits.write(u32::from(*height) - 1, 16);
    }
}

struct Bits<'a> {
    /// Zeros.
    out: &'a mut [u8; MAX_LEN],
    count: usize,
}

impl Bits<'_> {
    fn write(&mut self, value: u32, bits: u32) {
        for bit in (0..bits).rev() {
            self.out[self.count / 8] |= ((value >> bit & 1) as u8) << (7 - self.count % 8);
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame<'_> = Frame {
        begins: true,
        ends: true,
        number: 0x1234,
        spatial: 1,
        temporal: 2,
        structure: false,
        serves_above: false,
        references: &[3, 17],
    };

    fn written(targets: Targets<'_>, frame: &Frame<'_>) -> Vec<u8> {
        let mut out = [0xAA; MAX_LEN];
        let len = write(&mut out, targets, frame);
        out[..len].to_vec()
    }

    #[test]
    fn a_frame_is_written_bit_by_bit() {
        let targets = Targets {
            sizes: &[(2, 2), (4, 4)],
            temporal: 3,
        };
        let bytes = written(targets, &FRAME);
        // Template 5 of frame 0x1234.
        assert_eq!(bytes[..3], [0b1100_0101, 0x12, 0x34]);
        let bits: String = bytes[3..]
            .iter()
            .map(|byte| format!("{byte:08b}"))
            .collect();
        // Flags; targets; distance 3 in one nibble, 17 in two; the end.
        let fields = [
            "0", "0110", "00", "00", "00", "00", "00", "10", "01", "0010", "10", "00010000", "00",
        ];
        let fields = fields.concat();
        assert_eq!(bits[..fields.len()], fields);
        assert!(bits[fields.len()..].chars().all(|bit| bit == '0'));
    }

    #[test]
    fn the_largest_structure_fits() {
        let targets = Targets {
            sizes: &[(320, 180), (640, 360), (1280, 720)],
            temporal: 3,
        };
        let frame = Frame {
            structure: true,
            references: &[200, 200],
            ..FRAME
        };
        let bytes = written(targets, &frame);
        assert!(bytes.len() > 16 && bytes.len() < MAX_LEN, "{}", bytes.len());
        // The sizes come last before the frame's own fields, so nothing in between is off by a bit.
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let size = |side: u16| format!("{:016b}", side - 1);
        let sizes = [320, 180, 640, 360, 1280, 720].map(size).concat();
        let at = 24 + 5 + 6 + 5 + 9 * 2 + 81 * 2 + 9 + 3 + 1;
        assert_eq!(bits[at..at + sizes.len()], sizes);
    }
}
