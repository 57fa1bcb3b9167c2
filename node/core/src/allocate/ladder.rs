//! The steps of a track that a subscriber may be sent, from the lowest up, each with what it takes and
//! shows. Does not know who climbs it.

use crate::layer::{Layer, LayerRates, MAX_SPATIAL};
use crate::track::Size;
use crate::units::Bitrate;

/// Most steps of one track: four encodings of four temporal layers.
pub const MAX_STEPS: usize = 16;

/// One step of a ladder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    pub layer: Layer,
    /// With everything it builds on. Zero if not known.
    pub rate: Bitrate,
    /// Of a frame. Zero if not known.
    pub pixels: u32,
}

/// The steps of a track that a subscriber may be sent, from the lowest up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ladder {
    steps: [Step; MAX_STEPS],
    len: u8,
}

impl Ladder {
    /// The layers up to `top` that are being sent; before anything is measured, one step for each
    /// spatial layer. `sizes` are those of spatial layers, as far as they are known.
    pub(crate) fn of_layers(top: Layer, rates: &LayerRates, sizes: &[Size]) -> Self {
        let mut ladder = Self::default();
        let pixels = |spatial: u8| {
            let size = sizes.get(usize::from(spatial)).copied().unwrap_or_default();
            size.width.saturating_mul(size.height)
        };
        let is_wanted =
            |layer: Layer| layer.spatial <= top.spatial && layer.temporal <= top.temporal;
        for (layer, bits) in rates.layers().filter(|(layer, _)| is_wanted(*layer)) {
            ladder.push(Step {
                layer,
                rate: Bitrate::from_bps(bits),
                pixels: pixels(layer.spatial),
            });
        }
        if rates.layers().next().is_none() {
            for spatial in 0..=top.spatial.min(MAX_SPATIAL as u8 - 1) {
                ladder.push(Step {
                    layer: Layer {
                        spatial,
                        temporal: 0,
                    },
                    rate: Bitrate::ZERO,
                    pixels: pixels(spatial),
                });
            }
        }
        ladder
    }

    /// The one step of a track that is sent as it is.
    pub(crate) fn of_whole(rate: Bitrate) -> Self {
        let mut ladder = Self::default();
        ladder.push(Step {
            rate,
            ..Step::default()
        });
        ladder
    }

    /// Appends a step; one that is not above the last, or one too many, is left out.
    pub fn push(&mut self, step: Step) {
        let above = self.top().is_none_or(|top| top.layer < step.layer);
        if let Some(space) = self.steps.get_mut(usize::from(self.len)).filter(|_| above) {
            *space = step;
            self.len += 1;
        }
    }

    pub fn steps(&self) -> &[Step] {
        self.steps.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn top(&self) -> Option<&Step> {
        self.steps().last()
    }

    /// The highest step that is not above a layer.
    pub(super) fn position(&self, layer: Layer) -> Option<usize> {
        self.steps().iter().rposition(|step| step.layer <= layer)
    }
}
