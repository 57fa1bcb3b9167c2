//! A camera that puts spatial and temporal layers into one stream, VP9-like or AV1-like: which frames a
//! picture has, what each refers to, how large it is.
//!
//! What its packets say of that is `descriptor`'s.

pub(super) mod descriptor;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Layer;
use super::source::VideoSizes;
use super::stamp::Inner;

/// Layers of either kind that are encoded at most.
pub(crate) const MAX_LAYERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalableCodec {
    Vp9,
    Av1,
}

/// One stream with layers in it, as browsers send it for `scalabilityMode`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalable {
    pub codec: ScalableCodec,
    /// Spatial ones from the lowest up, three at most, each with what it takes beside those below. All
    /// come at the frame rate of the first.
    pub layers: Vec<Layer>,
    /// 1 to 3.
    pub temporal_layers: u8,
    /// Spatial layers refer to those below on key pictures only (modes with `_KEY`).
    pub key_only: bool,
}

impl Scalable {
    /// `L3T3`, or `L3T3_KEY`, of a 720p camera.
    #[must_use]
    pub fn l3t3(codec: ScalableCodec, key_only: bool) -> Self {
        Self {
            codec,
            layers: vec![
                Layer::new("", (320, 180), 30, 150),
                Layer::new("", (640, 360), 30, 350),
                Layer::new("", (1280, 720), 30, 900),
            ],
            temporal_layers: 3,
            key_only,
        }
    }
}

/// What is the same for all frames of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) codec: ScalableCodec,
    sizes: [(u16, u16); MAX_LAYERS],
    spatial: u8,
    temporal: u8,
    key_only: bool,
}

impl Mode {
    fn new(camera: &Scalable) -> Self {
        let mut sizes = [(1, 1); MAX_LAYERS];
        for (size, layer) in sizes.iter_mut().zip(&camera.layers) {
            *size = (layer.width as u16, layer.height as u16);
        }
        Self {
            codec: camera.codec,
            sizes,
            spatial: camera.layers.len().clamp(1, MAX_LAYERS) as u8,
            temporal: camera.temporal_layers.clamp(1, MAX_LAYERS as u8),
            key_only: camera.key_only,
        }
    }

    pub(crate) fn sizes(&self) -> &[(u16, u16)] {
        &self.sizes[..usize::from(self.spatial)]
    }

    fn temporal_of(&self, place: u32) -> u8 {
        let pattern: &[u8] = match self.temporal {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        };
        pattern[place as usize % pattern.len()]
    }
}

/// A frame of one spatial layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) number: u32,
    pub(crate) spatial: u8,
    pub(crate) inner: Inner,
}

#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) mode: Mode,
    sizes: Vec<VideoSizes>,
    /// Frames so far, of all layers.
    frames: u32,
    /// In the temporal pattern.
    place: u32,
    /// The newest frame of each layer, by spatial and temporal, since the last key picture.
    newest: [[Option<u32>; MAX_LAYERS]; MAX_LAYERS],
}

impl Encoder {
    pub(crate) fn new(camera: &Scalable, mut seed: impl FnMut() -> u64) -> Self {
        let layers = camera.layers.iter().take(MAX_LAYERS);
        let sizes =
            layers.map(|layer| VideoSizes::new(layer, false, StdRng::seed_from_u64(seed())));
        Self {
            mode: Mode::new(camera),
            sizes: sizes.collect(),
            frames: 0,
            place: 0,
            newest: Default::default(),
        }
    }

    /// The frames of the next picture and their lengths, the lowest spatial layer first.
    pub(crate) fn picture(&mut self, is_key: bool) -> impl Iterator<Item = (Frame, usize)> {
        if is_key {
            self.place = 0;
            self.newest = Default::default();
        }
        let temporal = self.mode.temporal_of(self.place);
        self.place += 1;
        (0..self.sizes.len()).map(move |spatial| {
            let number = self.frames;
            self.frames = self.frames.wrapping_add(1);
            let own = &mut self.newest[spatial];
            // The newest of those below it in time; the lowest has only itself.
            let needed = &own[..usize::from(temporal.max(1))];
            let before = needed.iter().flatten().max();
            let mut references = [0; 2];
            if let Some(before) = before {
                references[0] = number.wrapping_sub(*before) as u8;
            }
            if spatial > 0 && (is_key || !self.mode.key_only) {
                references[1] = 1;
            }
            own[usize::from(temporal)] = Some(number);
            let frame = Frame {
                number,
                spatial: spatial as u8,
                inner: Inner {
                    temporal,
                    references,
                },
            };
            (frame, self.sizes[spatial].next(is_key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, temporal layer and references of each frame.
    fn pictures(camera: &Scalable, count: usize) -> Vec<Vec<(u32, u8, [u8; 2])>> {
        let mut encoder = Encoder::new(camera, || 1);
        let picture = |place: usize| {
            let frames = encoder.picture(place.is_multiple_of(5));
            let frames = frames.map(|(it, _)| (it.number, it.inner.temporal, it.inner.references));
            frames.collect()
        };
        (0..count).map(picture).collect()
    }

    #[test]
    fn frames_refer_to_lower_layers_only() {
        let mut camera = Scalable::l3t3(ScalableCodec::Vp9, false);
        camera.layers.truncate(2);
        assert_eq!(
            pictures(&camera, 6),
            [
                [(0, 0, [0, 0]), (1, 0, [0, 1])],
                [(2, 2, [2, 0]), (3, 2, [2, 1])],
                [(4, 1, [4, 0]), (5, 1, [4, 1])],
                [(6, 2, [2, 0]), (7, 2, [2, 1])],
                [(8, 0, [8, 0]), (9, 0, [8, 1])],
                [(10, 0, [0, 0]), (11, 0, [0, 1])],
            ]
        );
        camera.key_only = true;
        camera.temporal_layers = 1;
        assert_eq!(
            pictures(&camera, 3),
            [
                [(0, 0, [0, 0]), (1, 0, [0, 1])],
                [(2, 0, [2, 0]), (3, 0, [2, 0])],
                [(4, 0, [2, 0]), (5, 0, [2, 0])],
            ]
        );
    }
}
