//! A frame of one layer, as far as choosing among layers needs it, whichever codec it is of.

use crate::layer::{Layer, MAX_SPATIAL};

/// References that are looked at. Browsers' encoders use three, AV1 has seven.
const MAX_REFERENCES: usize = 7;

/// One frame of one layer of one encoding; what every packet of it says alike but for `ends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Counts the encoding's frames in coding order, lost ones included. Numbers may be left out.
    pub number: u64,
    pub layer: Layer,
    /// This packet is the frame's last.
    pub ends: bool,
    /// How far back the frames are that it cannot be decoded without.
    pub references: References,
    /// Spatial layers that cannot be shown without this frame.
    pub serves: LayerSet,
    /// The highest spatial layer that is being sent at present.
    pub top: u8,
    /// Nothing refers to a frame by its picture id, so the ids that receivers see only count.
    pub is_counted: bool,
}

impl Frame {
    /// A receiver that has nothing yet can begin with this frame's picture.
    pub(crate) fn is_key(&self) -> bool {
        self.layer.spatial == 0 && self.references.is_empty()
    }
}

/// Distances to other frames, in frame numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct References {
    distances: [u8; MAX_REFERENCES],
    count: u8,
}

impl References {
    /// One too far back to be remembered, or too many, is taken for there.
    pub(crate) fn push(&mut self, distance: u64) {
        if let Ok(distance) = u8::try_from(distance)
            && let Some(place) = self.distances.get_mut(usize::from(self.count))
        {
            *place = distance;
        }
        // Counted all the same: the frame is not a key frame.
        self.count = (self.count + 1).min(MAX_REFERENCES as u8);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.distances
            .iter()
            .take(usize::from(self.count))
            .copied()
            .filter(|distance| *distance > 0)
    }
}

/// Spatial layers, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerSet(u8);

impl LayerSet {
    /// `lowest` and all above.
    pub(crate) fn from(lowest: u8) -> Self {
        Self(u8::MAX << lowest.min(7))
    }

    pub(crate) fn only(spatial: u8) -> Self {
        Self(1 << spatial.min(7))
    }

    pub(crate) fn insert(&mut self, spatial: u8) {
        self.0 |= 1 << spatial.min(7);
    }

    pub(crate) fn remove(&mut self, spatial: u8) {
        self.0 &= !(1 << spatial.min(7));
    }

    pub(crate) fn contains(self, spatial: u8) -> bool {
        self.0 & 1 << spatial.min(7) != 0
    }
}

const _: () = assert!(MAX_SPATIAL <= 8);
