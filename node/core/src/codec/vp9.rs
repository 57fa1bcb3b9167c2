//! The VP9 payload descriptor (RFC 9628 section 4.2).

#![warn(clippy::indexing_slicing)]

use super::ids::FrameIds;
use crate::layer::{Layer, MAX_SPATIAL};
use crate::track::Size;

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS_FRAME: u8 = 0x08;
const ENDS_FRAME: u8 = 0x04;
const STRUCTURE: u8 = 0x02;
const NOT_FOR_UPPER: u8 = 0x01;

/// Pictures a frame refers to at most.
const MAX_REFERENCES: usize = 3;

/// What the descriptor in front of a VP9 payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    pub begins_frame: bool,
    pub ends_frame: bool,
    /// Predicted from earlier pictures.
    pub is_predicted: bool,
    /// `None`: the stream has no layers.
    pub indices: Option<Indices>,
    /// Distances in pictures, of the flexible mode; `None` in the other.
    pub references: Option<[Option<u8>; MAX_REFERENCES]>,
    /// Frames of higher spatial layers do not need this one.
    pub is_for_itself: bool,
    pub structure: Option<Structure>,
    pub ids: FrameIds,
}

/// The layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices {
    pub layer: Layer,
    /// Later pictures of higher temporal layers need no picture of those layers before this one.
    pub switches_up: bool,
    /// Needs the frame of the next lower spatial layer of its picture.
    pub needs_lower: bool,
}

/// Spatial layers of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    pub spatial_layers: u8,
    /// Pixels of each spatial layer; none if the structure does not say.
    pub sizes: Option<[Size; MAX_SPATIAL]>,
}

impl Descriptor {
    /// `None`: the payload is not VP9.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let flags = *payload.first()?;
        let is_flexible = flags & FLEXIBLE != 0;
        let is_predicted = flags & INTER_PREDICTED != 0;
        let mut ids = FrameIds::default();
        let mut at = 1;
        if flags & PICTURE_ID != 0 {
            at = ids.read_picture(payload, at)?;
        }
        let mut indices = None;
        if flags & LAYER_INDICES != 0 {
            indices = Some(Indices::read(*payload.get(usize::from(at))?));
            at += 1;
            if !is_flexible {
                at = ids.read_tl0(payload, at)?;
            }
        }
        ids.len = at;
        let mut rest = payload.get(usize::from(at)..)?;
        let mut references = is_flexible.then_some([None; MAX_REFERENCES]);
        if let Some(references) = references.as_mut().filter(|_| is_predicted) {
            for place in references {
                let (byte, after) = rest.split_first()?;
                (*place, rest) = (Some(byte >> 1), after);
                if byte & 1 == 0 {
                    break;
                }
            }
        }
        let structure = if flags & STRUCTURE != 0 {
            Some(Structure::read(rest)?)
        } else {
            None
        };
        Some(Self {
            begins_frame: flags & BEGINS_FRAME != 0,
            ends_frame: flags & ENDS_FRAME != 0,
            is_predicted,
            indices,
            references,
            is_for_itself: flags & NOT_FOR_UPPER != 0,
            structure,
            ids,
        })
    }

    /// Whether the packet begins a key frame: the first packet of the lowest spatial layer of a picture
    /// that is predicted from no other.
    pub fn starts_key_frame(&self) -> bool {
        let spatial = self.indices.map_or(0, |indices| indices.layer.spatial);
        self.begins_frame && !self.is_predicted && spatial == 0
    }
}

impl Indices {
    /// `T T T U S S S D`
    fn read(byte: u8) -> Self {
        Self {
            layer: Layer {
                spatial: byte >> 1 & 0x07,
                temporal: byte >> 5,
            },
            switches_up: byte & 0x10 != 0,
            needs_lower: byte & 0x01 != 0,
        }
    }
}

impl Structure {
    fn read(bytes: &[u8]) -> Option<Self> {
        const HAS_SIZES: u8 = 0x10;
        let (&first, mut rest) = bytes.split_first()?;
        let spatial_layers = (first >> 5) + 1;
        let mut sizes = None;
        if first & HAS_SIZES != 0 {
            let mut known = [Size::default(); MAX_SPATIAL];
            for spatial in 0..usize::from(spatial_layers) {
                let (&[w1, w2, h1, h2], after) = rest.split_first_chunk()?;
                rest = after;
                if let Some(place) = known.get_mut(spatial) {
                    *place = Size {
                        width: u16::from_be_bytes([w1, w2]).into(),
                        height: u16::from_be_bytes([h1, h2]).into(),
                    };
                }
            }
            sizes = Some(known);
        }
        // The pictures of a group, which come next, repeat what the packets say.
        Some(Self {
            spatial_layers,
            sizes,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_frame_begins_in_the_lowest_layer() {
        fn check(payload: &[u8], expected: bool) {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!(descriptor.starts_key_frame(), expected, "{payload:02x?}");
        }
        check(&[0x08], true);
        check(&[0x88, 0x81, 0x02], true);
        check(&[0xA8, 0x81, 0x02, 0x00, 0], true);
        check(&[0xA8, 0x01, 0x00, 0], true);
        check(&[0xA8, 0x81, 0x02, 0x02, 0], false); // spatial layer 1
        check(&[0xE8, 0x81, 0x02, 0x00, 0], false); // predicted
        check(&[0xA0, 0x81, 0x02, 0x00, 0], false); // continues a frame
    }

    #[test]
    fn layers_and_references_are_read() {
        let layer = |spatial, temporal| Layer { spatial, temporal };
        // Flexible: picture 0x102, T2 U S1 D, refers 1 and 4 back; ends its frame, not for upper layers.
        let descriptor = Descriptor::parse(&[0xF5, 0x81, 0x02, 0x53, 3, 8, 0xAA]).unwrap();
        let indices = Indices {
            layer: layer(1, 2),
            switches_up: true,
            needs_lower: true,
        };
        assert_eq!(descriptor.indices, Some(indices));
        assert_eq!(descriptor.references, Some([Some(1), Some(4), None]));
        assert!(descriptor.is_for_itself && descriptor.ends_frame && !descriptor.begins_frame);
        assert_eq!(
            (descriptor.ids.picture(), descriptor.ids.tl0()),
            (Some(0x102), None)
        );
        // Not flexible: TL0PICIDX.
        let descriptor = Descriptor::parse(&[0xE8, 0x05, 0x20, 77, 0xAA]).unwrap();
        assert_eq!(descriptor.indices.map(|i| i.layer), Some(layer(0, 1)));
        assert_eq!(descriptor.references, None);
        assert_eq!(
            (descriptor.ids.picture(), descriptor.ids.tl0()),
            (Some(5), Some(77))
        );
    }

    #[test]
    fn the_structure_names_the_sizes() {
        let mut payload = vec![0xBA, 0x80, 0x01, 0x00, 0x38];
        for (width, height) in [(320u16, 180u16), (640, 360)] {
            payload.extend_from_slice(&width.to_be_bytes());
            payload.extend_from_slice(&height.to_be_bytes());
        }
        payload.extend_from_slice(&[1, 0x14, 1, 0xAA]);
        let structure = Descriptor::parse(&payload).unwrap().structure.unwrap();
        assert_eq!(structure.spatial_layers, 2);
        let size = |width, height| Size { width, height };
        assert_eq!(
            structure.sizes.unwrap()[..2],
            [size(320, 180), size(640, 360)]
        );
        assert_eq!(Descriptor::parse(&payload[..12]), None, "cut short");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                prop_assert!(usize::from(descriptor.ids.len) <= payload.len());
            }
        }
    }
}
