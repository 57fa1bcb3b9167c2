//! Which frames came last in each layer, for payload descriptors that name layers and leave references
//! to be concluded.

use crate::codec::frame::{Frame, LayerSet, References};
use crate::codec::{vp8, vp9};
use crate::layer::{Layer, MAX_SPATIAL, MAX_TEMPORAL};

/// Extends picture ids of 7 or 15 bits, and frame numbers of 16.
#[derive(Debug, Default)]
pub(super) struct FrameCounter {
    highest: Option<u64>,
}

impl FrameCounter {
    /// The picture's number, and whether none so high was seen before.
    pub(super) fn extend(&mut self, id: u16, bits: u32) -> (u64, bool) {
        let extended = match self.highest {
            None => 1 << 16 | u64::from(id),
            Some(highest) => {
                // Sign extension of the difference modulo 2^bits.
                let unused = 16 - bits;
                let step = (id.wrapping_sub(highest as u16) << unused) as i16 >> unused;
                highest.saturating_add_signed(i64::from(step))
            }
        };
        let is_newer = self.highest.is_none_or(|highest| extended > highest);
        if is_newer {
            self.highest = Some(extended);
        }
        (extended, is_newer)
    }
}

/// Temporal layers of VP8.
#[derive(Debug, Default)]
pub(super) struct Vp8History {
    pictures: FrameCounter,
    /// Newest frame of each temporal layer since the last key frame.
    last: [Option<u64>; MAX_TEMPORAL],
}

impl Vp8History {
    /// `None`: the descriptor names no layer.
    pub(super) fn frame(&mut self, descriptor: &vp8::Descriptor, marker: bool) -> Option<Frame> {
        let temporal = usize::from(descriptor.temporal?).min(MAX_TEMPORAL - 1);
        let ids = &descriptor.ids;
        let (number, is_new) = self.pictures.extend(ids.picture()?, ids.picture_bits());
        if is_new && descriptor.starts_key_frame {
            self.last = [None; MAX_TEMPORAL];
        }
        // The bitstream says more than the descriptor: a frame may need any of its layer's and lower
        // ones' buffers, which their newest frames have filled.
        let needed = if descriptor.needs_base_only {
            0
        } else {
            temporal
        };
        let mut references = References::default();
        let before = self.last.iter().take(needed + 1).flatten();
        before
            .filter(|last| **last < number)
            .for_each(|last| references.push(number - last));
        if is_new && let Some(last) = self.last.get_mut(temporal) {
            *last = Some(number);
        }
        Some(Frame {
            number,
            layer: Layer {
                spatial: 0,
                temporal: temporal as u8,
            },
            ends: marker,
            references,
            serves: LayerSet::from(0),
            top: 0,
            is_counted: true,
        })
    }
}

/// Layers of VP9 without dependency descriptors.
#[derive(Debug, Default)]
pub(super) struct Vp9History {
    pictures: FrameCounter,
    newest: Option<u64>,
    /// Newest frame of each layer that later ones may refer to, where they do not say which.
    last: [[Option<u64>; MAX_TEMPORAL]; MAX_SPATIAL],
    /// Pictures in a row whose highest layer was below the known top.
    lower: u8,
}

impl Vp9History {
    /// The frame, `top` left open, and whether this is its first packet. `None`: the stream has no
    /// layers or no picture ids.
    pub(super) fn frame(&mut self, descriptor: &vp9::Descriptor) -> Option<(Frame, bool)> {
        let indices = descriptor.indices?;
        let ids = &descriptor.ids;
        let (picture, _) = self.pictures.extend(ids.picture()?, ids.picture_bits());
        let spatial = usize::from(indices.layer.spatial).min(MAX_SPATIAL - 1);
        let temporal = usize::from(indices.layer.temporal).min(MAX_TEMPORAL - 1);
        let step = MAX_SPATIAL as u64;
        let number = picture * step + spatial as u64;
        let is_new = self.newest.is_none_or(|newest| number > newest);

        let mut references = References::default();
        if indices.needs_lower && spatial > 0 {
            references.push(1);
        }
        if descriptor.is_predicted {
            match descriptor.references {
                Some(named) => {
                    let distances = named.into_iter().flatten();
                    distances.for_each(|pictures| references.push(u64::from(pictures) * step));
                }
                None => {
                    let before = self.last.get(spatial).into_iter().flatten();
                    let before = before.take(temporal + 1).flatten();
                    before
                        .filter(|last| **last < number)
                        .for_each(|last| references.push(number - last));
                }
            }
        }
        let layer = Layer {
            spatial: spatial as u8,
            temporal: temporal as u8,
        };
        if is_new {
            self.newest = Some(number);
            self.remember(number, layer, descriptor, indices.switches_up);
        }
        let frame = Frame {
            number,
            layer,
            ends: descriptor.ends_frame,
            references,
            serves: if descriptor.is_for_itself {
                LayerSet::only(layer.spatial)
            } else {
                LayerSet::from(layer.spatial)
            },
            top: 0,
            is_counted: false,
        };
        Some((frame, is_new))
    }

    /// A picture ended with this layer; answers the top if it is another than was known. An encoder may
    /// skip a layer for a frame or two without having given it up.
    pub(super) fn note_end(&mut self, spatial: u8, top: u8) -> Option<u8> {
        const GIVEN_UP_AFTER: u8 = 4;
        if spatial >= top {
            self.lower = 0;
            return (spatial > top).then_some(spatial);
        }
        self.lower += 1;
        if self.lower < GIVEN_UP_AFTER {
            return None;
        }
        self.lower = 0;
        Some(spatial)
    }

    fn remember(
        &mut self,
        number: u64,
        layer: Layer,
        descriptor: &vp9::Descriptor,
        switches_up: bool,
    ) {
        let Some(last) = self.last.get_mut(usize::from(layer.spatial)) else {
            return;
        };
        let temporal = usize::from(layer.temporal);
        if !descriptor.is_predicted {
            *last = [None; MAX_TEMPORAL];
        } else if switches_up {
            last.iter_mut()
                .skip(temporal + 1)
                .for_each(|last| *last = None);
        }
        if let Some(last) = last.get_mut(temporal) {
            *last = Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_ids_are_extended_over_wraps_and_reordering() {
        let check = |bits: u32, ids: &[u16], steps: &[i64]| {
            let mut counter = FrameCounter::default();
            let (first, _) = counter.extend(ids[0], bits);
            let found: Vec<i64> = ids[1..]
                .iter()
                .map(|id| counter.extend(*id, bits).0 as i64 - first as i64)
                .collect();
            assert_eq!(found, steps);
        };
        check(15, &[0x7FFE, 0x7FFF, 1, 0, 2], &[1, 3, 2, 4]);
        check(7, &[126, 127, 1, 0, 126], &[1, 3, 2, 0]);
        check(15, &[5, 3, 0x7FFF, 6], &[-2, -6, 1]);
    }

    /// (temporal, y bit, key) of each picture; what each refers to.
    fn check(pictures: &[(u8, bool, bool)], expected: &[&[u8]]) {
        let mut history = Vp8History::default();
        for (index, ((temporal, sync, key), expected)) in pictures.iter().zip(expected).enumerate()
        {
            let byte = temporal << 6 | u8::from(*sync) << 5;
            let payload = [0x90, 0xE0, 0x80, index as u8, 0, byte, u8::from(!key)];
            let descriptor = vp8::Descriptor::parse(&payload).unwrap();
            let frame = history.frame(&descriptor, true).unwrap();
            assert_eq!(frame.layer.temporal, *temporal);
            let found: Vec<u8> = frame.references.iter().collect();
            assert_eq!(&found, expected, "picture {index}");
            assert_eq!(frame.is_key(), *key);
        }
    }

    #[test]
    fn a_frame_may_need_the_newest_of_its_own_and_lower_layers() {
        check(
            &[
                (0, false, true),
                (2, true, false),
                (1, true, false),
                (2, false, false),
                (0, false, false),
                (2, false, false),
                (1, false, false),
                (0, false, true),
                (1, false, false),
            ],
            &[
                &[],
                &[1],
                &[2],
                &[3, 1, 2],
                &[4],
                &[1, 3, 2],
                &[2, 4],
                &[],
                &[1],
            ],
        );
    }
}
