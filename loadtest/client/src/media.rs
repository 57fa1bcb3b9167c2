//! What a simulated participant publishes, and what it makes of what it receives.
//!
//! Synthetic media is stamped: every payload says who sent it, which layer, frame and packet it is, and
//! when it left, so that a receiver sees loss, latency and mix-ups instead of inferring them. Media of
//! files is sent as it is, and a receiver knows of it what headers say.

pub(super) mod clock;
pub(super) mod frames;
pub(super) mod packet;
mod plain;
mod playing;
pub(super) mod publication;
pub(super) mod receiver;
pub(super) mod recording;
pub(super) mod scalable;
pub(super) mod sender;
pub(super) mod sequence;
pub(super) mod source;
pub(super) mod stamp;

use std::sync::Arc;
use std::time::Duration;

pub use self::recording::{Recording, RecordingError};
pub use self::scalable::{Scalable, ScalableCodec};
use crate::sdp::Format;

/// A track to publish.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    Audio(Audio),
    Video(Video),
    Scalable(Scalable),
    Recorded(Recorded),
}

/// What a file holds, as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub recording: Arc<Recording>,
    /// Begins anew when it is over; else it falls silent.
    pub loops: bool,
}

impl Media {
    /// One, if there are none in it.
    pub(super) fn layers(&self) -> usize {
        match self {
            Self::Audio(_) | Self::Recorded(_) => 1,
            Self::Video(video) => video.layers.len(),
            Self::Scalable(camera) => camera.layers.len(),
        }
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Audio(_) => Format::Opus,
            Self::Video(_) => Format::Vp8,
            Self::Scalable(Scalable { codec, .. }) => match codec {
                ScalableCodec::Vp9 => Format::Vp9,
                ScalableCodec::Av1 => Format::Av1,
            },
            Self::Recorded(recorded) => recorded.recording.format(),
        }
    }
}

/// Opus-like: 20 ms a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    pub kbps: u32,
    /// In silence a packet comes every 400 ms instead of every 20 ms.
    pub dtx: bool,
    /// Share of the time that is speech, 0 to 1.
    pub speech: f64,
}

impl Default for Audio {
    fn default() -> Self {
        Self {
            kbps: 32,
            dtx: false,
            speech: 1.0,
        }
    }
}

/// VP8-like.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// From the lowest up. One is sent without simulcast.
    pub layers: Vec<Layer>,
    /// None: only when asked for one, as browsers do.
    pub key_frame_every: Option<Duration>,
    /// Every frame is of the mean size, key frames too: for measuring what a packet costs.
    pub steady: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub rid: String,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub kbps: u32,
}

impl Layer {
    #[must_use]
    pub fn new(rid: &str, (width, height): (u32, u32), fps: u32, kbps: u32) -> Self {
        Self {
            rid: rid.to_owned(),
            width,
            height,
            fps,
            kbps,
        }
    }
}

impl Video {
    /// What a browser sends of a 720p camera.
    #[must_use]
    pub fn simulcast() -> Self {
        Self {
            layers: vec![
                Layer::new("q", (320, 180), 15, 150),
                Layer::new("h", (640, 360), 30, 500),
                Layer::new("f", (1280, 720), 30, 1_700),
            ],
            key_frame_every: None,
            steady: false,
        }
    }

    /// One encoding.
    #[must_use]
    pub fn single(size: (u32, u32), fps: u32, kbps: u32) -> Self {
        Self {
            layers: vec![Layer::new("", size, fps, kbps)],
            key_frame_every: None,
            steady: false,
        }
    }
}
