//! What the packets of one encoding say of its layers: which frame each packet belongs to, what that
//! frame refers to, how many layers there are and how large. State of the publisher, read once per
//! packet; does not know receivers.

mod history;

use crate::codec::dependency::{self, Templates};
use crate::codec::frame::Frame;
use crate::codec::ids::FrameIds;
use crate::codec::{Codec, av1, h264, vp8, vp9};
use crate::layer::MAX_SPATIAL;
use crate::track::Size;
use history::{FrameCounter, Vp8History, Vp9History};

/// What forwarding needs to know of a packet. One that cannot be read is forwarded like any that begins
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PacketInfo {
    /// A receiver that has seen nothing yet can start with this packet.
    pub(crate) starts_key_frame: bool,
    pub(crate) ids: Option<FrameIds>,
    /// `None`: the packet does not say.
    pub(crate) frame: Option<Frame>,
}

#[derive(Debug, Default)]
pub(crate) struct Structure {
    layers: Layers,
    vp8: Vp8History,
    vp9: Vp9History,
    /// Only of streams with dependency descriptors.
    dependency: Option<Box<Dependency>>,
}

/// The spatial layers that the media itself has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Layers {
    /// 0 while it says nothing.
    count: u8,
    /// The highest one that is being sent.
    top: u8,
    sizes: Option<[Size; MAX_SPATIAL]>,
    /// Layers are needed by those above on key pictures only.
    are_apart: bool,
    /// Counts changes of the number and sizes.
    revision: u32,
}

#[derive(Debug)]
struct Dependency {
    templates: Templates,
    active_targets: u32,
    frames: FrameCounter,
}

impl Structure {
    /// `dependency` is the packet's dependency descriptor. It is believed before what the codec says
    /// of layers, and needed by receivers that have it negotiated.
    pub(crate) fn inspect(
        &mut self,
        codec: Codec,
        payload: &[u8],
        marker: bool,
        dependency: Option<&[u8]>,
    ) -> PacketInfo {
        let mut info = match codec {
            // Every audio packet can be decoded by itself.
            Codec::Opus | Codec::Red => PacketInfo {
                starts_key_frame: true,
                ..PacketInfo::default()
            },
            Codec::Vp8 => {
                vp8::Descriptor::parse(payload).map_or_else(PacketInfo::default, |descriptor| {
                    PacketInfo {
                        starts_key_frame: descriptor.starts_key_frame,
                        ids: Some(descriptor.ids),
                        frame: self.vp8.frame(&descriptor, marker),
                    }
                })
            }
            Codec::Vp9 => {
                vp9::Descriptor::parse(payload).map_or_else(PacketInfo::default, |descriptor| {
                    PacketInfo {
                        starts_key_frame: descriptor.starts_key_frame(),
                        ids: Some(descriptor.ids),
                        frame: self.vp9_frame(&descriptor, marker, dependency.is_some()),
                    }
                })
            }
            Codec::H264 => PacketInfo {
                starts_key_frame: h264::starts_key_frame(payload),
                ..PacketInfo::default()
            },
            Codec::Av1 => PacketInfo {
                starts_key_frame: av1::starts_key_frame(payload),
                ..PacketInfo::default()
            },
        };
        if let Some(value) = dependency.filter(|_| codec.is_video() && !payload.is_empty()) {
            let described = self.described_frame(value);
            info.ids
                .get_or_insert_default()
                .set_frame(described.map(|(number, _)| number));
            // VP8's picture ids stay a matter of VP8.
            if codec != Codec::Vp8 {
                info.frame = described.map(|(_, frame)| frame);
            }
        }
        info
    }

    /// Spatial layers that the media itself has shown; 0 while it says nothing.
    pub(crate) fn spatial_layers(&self) -> u8 {
        self.layers.count
    }

    /// Pixels of each of them, if the media says so.
    pub(crate) fn sizes(&self) -> Option<&[Size]> {
        let count = usize::from(self.layers.count).min(MAX_SPATIAL);
        self.layers.sizes.as_ref()?.get(..count)
    }

    /// A spatial layer's pictures need those of the layers below.
    pub(crate) fn is_nested(&self) -> bool {
        !self.layers.are_apart
    }

    /// Another one whenever the number or sizes of layers, by which wishes are understood, change.
    pub(crate) fn revision(&self) -> u32 {
        self.layers.revision
    }

    fn described_frame(&mut self, value: &[u8]) -> Option<(u16, Frame)> {
        let known = self.dependency.as_deref();
        let (descriptor, brought) = dependency::read(value, known.map(|known| &known.templates))?;
        if let Some(templates) = brought {
            self.layers.set(templates.spatial_layers, templates.sizes);
            match &mut self.dependency {
                Some(known) => known.templates = templates,
                None => {
                    self.dependency = Some(Box::new(Dependency {
                        templates,
                        active_targets: u32::MAX,
                        frames: FrameCounter::default(),
                    }));
                }
            }
        }
        let state = self.dependency.as_deref_mut()?;
        if let Some(active) = descriptor.active_targets {
            state.active_targets = active;
            self.layers.top = state.templates.top(active);
        }
        let (number, is_new) = state.frames.extend(descriptor.number, 16);
        let frame = Frame {
            number,
            layer: descriptor.layer,
            ends: descriptor.ends_frame,
            references: descriptor.references,
            serves: descriptor.serves,
            top: self.layers.top.max(descriptor.layer.spatial),
            is_counted: false,
        };
        self.layers.note(&frame, is_new);
        Some((descriptor.number, frame))
    }

    fn vp9_frame(
        &mut self,
        descriptor: &vp9::Descriptor,
        marker: bool,
        is_described: bool,
    ) -> Option<Frame> {
        if is_described {
            return None;
        }
        if let Some(structure) = descriptor.structure {
            let sizes = structure.sizes.or(self.layers.sizes);
            self.layers.set(structure.spatial_layers, sizes);
            self.layers.top = structure.spatial_layers - 1;
        }
        let (mut frame, is_new) = self.vp9.frame(descriptor)?;
        if marker && let Some(top) = self.vp9.note_end(frame.layer.spatial, self.layers.top) {
            self.layers.top = top;
        }
        frame.top = self.layers.top.max(frame.layer.spatial);
        self.layers.note(&frame, is_new);
        Some(frame)
    }
}

impl Layers {
    fn set(&mut self, count: u8, sizes: Option<[Size; MAX_SPATIAL]>) {
        if (count, sizes) != (self.count, self.sizes) {
            (self.count, self.sizes) = (count, sizes);
            self.revision = self.revision.wrapping_add(1);
        }
    }

    fn note(&mut self, frame: &Frame, is_new: bool) {
        self.top = frame.top;
        if self.count <= self.top {
            self.set(self.top.saturating_add(1), self.sizes);
        }
        let below = frame.layer.spatial < self.top;
        if is_new && below && !frame.is_key() && frame.layer.temporal == 0 {
            self.are_apart = !frame.serves.contains(self.top);
        }
    }
}
