//! The codecs whose packets are forwarded, and what forwarding has to know of each.

pub mod av1;
pub mod h264;
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

    /// What forwarding needs to know of a payload. An unreadable payload is forwarded like any packet
    /// that begins nothing.
    pub(crate) fn inspect(self, payload: &[u8]) -> PayloadInfo {
        match self {
            // Every audio packet can be decoded by itself.
            Self::Opus | Self::Red => PayloadInfo {
                starts_key_frame: true,
                vp8: None,
            },
            Self::Vp8 => {
                let vp8 = vp8::Descriptor::parse(payload);
                PayloadInfo {
                    starts_key_frame: vp8.is_some_and(|d| d.starts_key_frame),
                    vp8,
                }
            }
            Self::Vp9 => PayloadInfo {
                starts_key_frame: vp9::starts_key_frame(payload),
                vp8: None,
            },
            Self::H264 => PayloadInfo {
                starts_key_frame: h264::starts_key_frame(payload),
                vp8: None,
            },
            Self::Av1 => PayloadInfo {
                starts_key_frame: av1::starts_key_frame(payload),
                vp8: None,
            },
        }
    }
}

/// See [`Codec::inspect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadInfo {
    /// A receiver that has seen nothing yet can start with this packet.
    pub(crate) starts_key_frame: bool,
    pub(crate) vp8: Option<vp8::Descriptor>,
}
