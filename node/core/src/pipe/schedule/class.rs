//! Classes of packets: which go first, and how long they are worth anything.

use std::time::{Duration, Instant};

/// What an alias carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio,
    /// Spatial layer `layer`, counted from 0, of a track that has so many.
    Video {
        layer: u8,
        layers: u8,
    },
}

impl Kind {
    pub fn class(self) -> Class {
        match self {
            Self::Audio => Class::Audio,
            Self::Video { layer: 0, .. } => Class::Base,
            Self::Video { layer, layers } if layer.saturating_add(1) >= layers => Class::High,
            Self::Video { .. } => Class::Mid,
        }
    }

    /// The class of what is sent again.
    pub fn resend_class(self) -> Class {
        match self.class() {
            Class::Mid | Class::High => Class::LayerResend,
            _ => Class::BaseResend,
        }
    }
}

/// In the order in which they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Control,
    Audio,
    /// The lowest layer of video, without which there is no picture.
    Base,
    /// Audio and base layers, sent again.
    BaseResend,
    Mid,
    /// The topmost of several layers.
    High,
    /// Layers above the base, sent again.
    LayerResend,
    Padding,
}

impl Class {
    pub const COUNT: usize = 8;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Control,
        Self::Audio,
        Self::Base,
        Self::BaseResend,
        Self::Mid,
        Self::High,
        Self::LayerResend,
        Self::Padding,
    ];
    /// Those that aliases have.
    pub(super) const MEDIA: [Self; 6] = [
        Self::Audio,
        Self::Base,
        Self::BaseResend,
        Self::Mid,
        Self::High,
        Self::LayerResend,
    ];

    /// The value of the metric label `class`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Audio => "audio",
            Self::Base => "base",
            Self::BaseResend => "base_resend",
            Self::Mid => "mid",
            Self::High => "high",
            Self::LayerResend => "layer_resend",
            Self::Padding => "padding",
        }
    }

    /// How long a packet may wait.
    fn deadline(self) -> Duration {
        Duration::from_millis(match self {
            // Whoever sent it has sent it again by then.
            Self::Control => 1_000,
            Self::Base => 250,
            Self::Mid => 200,
            // Longer than nothing leaves for while a queue of a tenth of a second drains.
            Self::Audio => 150,
            Self::High | Self::BaseResend | Self::LayerResend => 150,
            Self::Padding => 0,
        })
    }

    pub(super) fn expired(self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) > self.deadline()
    }

    /// A frame whose beginning has left may take twice the time: without its end, that was for nothing.
    pub(super) fn expired_in_frame(self, at: Instant, within_frame: bool, now: Instant) -> bool {
        let times = if within_frame { 2 } else { 1 };
        now.saturating_duration_since(at) > self.deadline() * times
    }

    /// A layer that could be suspended waits for so long that it does not get through. A drained queue stops
    /// everything for a moment; the lower layer is not to go for that.
    pub(super) fn is_late(self, at: Instant, now: Instant) -> bool {
        let waited = now.saturating_duration_since(at);
        match self {
            Self::Mid => waited > Duration::from_millis(120),
            Self::High => waited > Duration::from_millis(80),
            _ => false,
        }
    }

    pub(super) fn is_resend(self) -> bool {
        matches!(self, Self::BaseResend | Self::LayerResend)
    }

    /// What follows a packet of it is of no use without it.
    pub(super) fn breaks_frames(self) -> bool {
        matches!(self, Self::Base | Self::Mid | Self::High)
    }
}
