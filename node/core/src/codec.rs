//! The codecs whose packets are forwarded, and what forwarding has to know of each.

pub mod av1;
mod bits;
pub mod dependency;
pub mod frame;
pub mod h264;
pub mod ids;
pub mod red;
pub mod vp8;
pub mod vp9;

/// A media codec. Retransmission (RFC 4588) is not one of them: it is undone on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    Opus,
    /// Redundant Opus (RFC 2198).
    Red,
    Vp8,
    Vp9,
    H264,
    Av1,
}

impl Codec {
    /// How many there are.
    pub const COUNT: usize = Self::Av1 as usize + 1;

    /// Ticks of the RTP timestamp in a second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }

    pub fn is_video(self) -> bool {
        match self {
            Self::Opus | Self::Red => false,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => true,
        }
    }

    /// Browsers put spatial layers into one stream of it.
    pub fn is_scalable(self) -> bool {
        match self {
            Self::Vp9 | Self::Av1 => true,
            Self::Opus | Self::Red | Self::Vp8 | Self::H264 => false,
        }
    }

    /// The numbers that a payload counts its frames by.
    pub fn frame_ids(self, payload: &[u8]) -> Option<ids::FrameIds> {
        match self {
            Self::Vp8 => vp8::Descriptor::parse(payload).map(|descriptor| descriptor.ids),
            Self::Vp9 => vp9::Descriptor::parse(payload).map(|descriptor| descriptor.ids),
            Self::Opus | Self::Red | Self::H264 | Self::Av1 => None,
        }
    }
}
