//! The dependency descriptor (AV1 RTP payload format 1.0, appendix A): which frame and layer a packet
//! belongs to, what the frame refers to, and for which decode targets it is needed, for any codec.
//!
//! Chains are passed over: that no reference is missing is found out by the references themselves.

#![warn(clippy::indexing_slicing)]

use super::bits::Bits;
use super::frame::{LayerSet, References};
use crate::layer::{Layer, MAX_SPATIAL};
use crate::track::Size;

/// Length of the fields that every packet has.
const MANDATORY_LEN: usize = 3;
const MAX_TEMPLATES: usize = 64;
/// Their number has five bits.
const MAX_TARGETS: usize = 32;

/// What a packet says of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub starts_frame: bool,
    pub ends_frame: bool,
    pub number: u16,
    pub layer: Layer,
    pub references: References,
    pub serves: LayerSet,
    /// Decode targets that are being sent, where that has changed.
    pub active_targets: Option<u32>,
}

/// What holds until the next key frame with a structure. In place, and not in memory of its own: any
/// packet may bring one along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// Id of the first one.
    offset: u8,
    templates: List<Template, MAX_TEMPLATES>,
    /// The layer of each decode target.
    targets: List<Layer, MAX_TARGETS>,
    pub spatial_layers: u8,
    /// Pixels of each spatial layer; none if the structure does not say.
    pub sizes: Option<[Size; MAX_SPATIAL]>,
}

/// So many values at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List<T, const N: usize> {
    values: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    fn new() -> Self {
        Self {
            values: [T::default(); N],
            len: 0,
        }
    }

    /// `None`: there is no room.
    fn push(&mut self, value: T) -> Option<()> {
        *self.values.get_mut(self.len)? = value;
        self.len += 1;
        Some(())
    }

    fn as_slice(&self) -> &[T] {
        self.values.get(..self.len).unwrap_or_default()
    }
}

/// What frames have in common that name it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Template {
    layer: Layer,
    serves: LayerSet,
    references: References,
}

/// Where the optional parts of a descriptor are.
struct Flags {
    structure: bool,
    active_targets: bool,
    custom_targets: bool,
    custom_references: bool,
}

/// Reads a descriptor with the templates it refers to: those it brings along, which are answered as
/// well, else the ones that are `known`. `None`: it is malformed, or its templates have not arrived.
pub fn read(value: &[u8], known: Option<&Templates>) -> Option<(Descriptor, Option<Templates>)> {
    let (&[first, high, low], _) = value.split_first_chunk::<MANDATORY_LEN>()?;
    let mut bits = Bits::new(value);
    bits.read(MANDATORY_LEN * 8)?;
    let flags = Flags::read(&mut bits, value.len())?;
    let brought = if flags.structure {
        Some(Templates::read(&mut bits)?)
    } else {
        None
    };
    let templates = brought.as_ref().or(known)?;
    let active_targets = if flags.active_targets {
        Some(bits.read(templates.targets.len)?)
    } else {
        flags.structure.then_some(u32::MAX)
    };
    let template = templates.get(first & 0x3F)?;
    let serves = if flags.custom_targets {
        templates.serves(&mut bits, template.layer)?
    } else {
        template.serves
    };
    let references = if flags.custom_references {
        read_references(&mut bits)?
    } else {
        template.references
    };
    let descriptor = Descriptor {
        starts_frame: first & 0x80 != 0,
        ends_frame: first & 0x40 != 0,
        number: u16::from_be_bytes([high, low]),
        layer: template.layer,
        references,
        serves,
        active_targets,
    };
    Some((descriptor, brought))
}

/// Adds to the frame number in a copy of a descriptor.
pub fn shift_number(value: &mut [u8], by: u16) {
    if let Some([_, high, low]) = value.first_chunk_mut::<MANDATORY_LEN>() {
        let number = u16::from_be_bytes([*high, *low]).wrapping_add(by);
        [*high, *low] = number.to_be_bytes();
    }
}

impl Flags {
    fn read(bits: &mut Bits<'_>, len: usize) -> Option<Self> {
        let extended = len > MANDATORY_LEN;
        let mut flag = || if extended { bits.flag() } else { Some(false) };
        let flags = Self {
            structure: flag()?,
            active_targets: flag()?,
            custom_targets: flag()?,
            custom_references: flag()?,
        };
        // Of chains, which come last.
        flag()?;
        Some(flags)
    }
}

/// What a frame is to a decode target; all but one mean that it is needed.
const NOT_PRESENT: u32 = 0;

impl Templates {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let offset = bits.read(6)? as u8;
        let targets = bits.read(5)? as usize + 1;
        let layers = read_layers(bits)?;
        let layers = layers.as_slice();
        let mut needed = List::<u32, MAX_TEMPLATES>::new();
        for _ in layers {
            let mut by = 0u32;
            for target in 0..targets {
                by |= u32::from(bits.read(2)? != NOT_PRESENT) << target;
            }
            needed.push(by)?;
        }
        let needed = needed.as_slice();
        let targets = layers_of_targets(targets, layers, needed)?;
        let mut templates = List::new();
        for (layer, needed) in layers.iter().zip(needed) {
            let mut references = References::default();
            while bits.flag()? {
                references.push(u64::from(bits.read(4)?) + 1);
            }
            templates.push(Template {
                layer: *layer,
                serves: spatial_layers(*layer, targets.as_slice(), *needed),
                references,
            })?;
        }
        pass_over_chains(bits, targets.len, templates.len)?;
        let spatial_layers = layers.last()?.spatial + 1;
        let sizes = if bits.flag()? {
            let mut sizes = [Size::default(); MAX_SPATIAL];
            for spatial in 0..usize::from(spatial_layers) {
                let size = Size {
                    width: bits.read(16)? + 1,
                    height: bits.read(16)? + 1,
                };
                if let Some(place) = sizes.get_mut(spatial) {
                    *place = size;
                }
            }
            Some(sizes)
        } else {
            None
        };
        Some(Self {
            offset,
            templates,
            targets,
            spatial_layers,
            sizes,
        })
    }

    fn get(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.offset) & 0x3F;
        self.templates.as_slice().get(usize::from(index))
    }

    /// The highest spatial layer among decode targets that are being sent.
    pub(crate) fn top(&self, active: u32) -> u8 {
        // The first target has the lowest bit.
        let sent = self.targets.as_slice().iter().enumerate();
        let sent = sent.filter(|(index, _)| active & 1 << index != 0);
        let top = sent.map(|(_, layer)| layer.spatial).max();
        top.unwrap_or(self.spatial_layers.saturating_sub(1))
    }

    /// Spatial layers that need a frame which says itself which targets do.
    fn serves(&self, bits: &mut Bits<'_>, layer: Layer) -> Option<LayerSet> {
        let mut needed = 0;
        for target in 0..self.targets.len {
            needed |= u32::from(bits.read(2)? != NOT_PRESENT) << target;
        }
        Some(spatial_layers(layer, self.targets.as_slice(), needed))
    }
}

fn read_layers(bits: &mut Bits<'_>) -> Option<List<Layer, MAX_TEMPLATES>> {
    let mut layers = List::new();
    let mut layer = Layer::default();
    loop {
        layers.push(layer)?;
        match bits.read(2)? {
            0 => {}
            1 => layer.temporal += 1,
            2 => {
                layer = Layer {
                    spatial: layer.spatial + 1,
                    temporal: 0,
                }
            }
            _ => return Some(layers),
        }
    }
}

/// A decode target is of the highest layers among the frames it needs.
fn layers_of_targets(
    count: usize,
    layers: &[Layer],
    needed: &[u32],
) -> Option<List<Layer, MAX_TARGETS>> {
    let highest = |target: usize, part: fn(&Layer) -> u8| {
        let frames = layers.iter().zip(needed);
        let own = frames.filter(|(_, needed)| *needed & 1 << target != 0);
        own.map(|(layer, _)| part(layer)).max().unwrap_or(0)
    };
    let mut targets = List::new();
    for target in 0..count {
        targets.push(Layer {
            spatial: highest(target, |layer| layer.spatial),
            temporal: highest(target, |layer| layer.temporal),
        })?;
    }
    Some(targets)
}

/// Spatial layers with a target that needs the frame; always the frame's own.
fn spatial_layers(own: Layer, targets: &[Layer], needed: u32) -> LayerSet {
    let mut set = LayerSet::only(own.spatial);
    for (target, layer) in targets.iter().enumerate() {
        if needed & 1 << target != 0 {
            set.insert(layer.spatial);
        }
    }
    set
}

fn pass_over_chains(bits: &mut Bits<'_>, targets: usize, templates: usize) -> Option<()> {
    let chains = bits.non_symmetric(targets as u32 + 1)?;
    if chains == 0 {
        return Some(());
    }
    for _ in 0..targets {
        bits.non_symmetric(chains)?;
    }
    for _ in 0..templates * chains as usize {
        bits.read(4)?;
    }
    Some(())
}

fn read_references(bits: &mut Bits<'_>) -> Option<References> {
    let mut references = References::default();
    loop {
        let nibbles = bits.read(2)? as usize;
        if nibbles == 0 {
            return Some(references);
        }
        references.push(u64::from(bits.read(nibbles * 4)?) + 1);
    }
}

#[cfg(test)]
mod tests;
