//! When frames come and how large they are: models of an encoder and of a voice, seeded.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::packet::{MAX_PAYLOAD, MIN_AUDIO, MIN_VIDEO};
use super::{Audio, Layer};

/// A key frame is so many times as large as the mean frame.
const KEY_FRAME_FACTOR: f64 = 6.0;
/// Deviation of the logarithm of frame sizes.
const SPREAD: f64 = 0.25;
/// Share of what a key frame cost that each following frame saves.
const REPAY: f64 = 0.1;
/// No frame is smaller than this share of the mean.
const SMALLEST: f64 = 0.3;

/// Sizes of an encoder's frames, whose mean is its bit rate.
#[derive(Debug)]
pub(crate) struct VideoSizes {
    rng: StdRng,
    mean: f64,
    /// Bytes spent beyond the mean.
    debt: f64,
    steady: bool,
}

impl VideoSizes {
    pub(crate) fn new(layer: &Layer, steady: bool, rng: StdRng) -> Self {
        Self {
            rng,
            steady,
            mean: f64::from(layer.kbps) * 125.0 / f64::from(layer.fps.max(1)),
            debt: 0.0,
        }
    }

    pub(crate) fn next(&mut self, is_key_frame: bool) -> usize {
        if self.steady {
            return (self.mean as usize).clamp(MIN_VIDEO, 64 * MAX_PAYLOAD);
        }
        let spread = (SPREAD * normal(&mut self.rng)).exp();
        let factor = if is_key_frame { KEY_FRAME_FACTOR } else { 1.0 };
        let wanted = self.mean * factor * spread - self.debt * REPAY;
        let size = wanted.max(self.mean * SMALLEST);
        self.debt += size - self.mean;
        (size as usize).clamp(MIN_VIDEO, 64 * MAX_PAYLOAD)
    }
}

/// Irwin-Hall: close enough to a normal distribution.
fn normal(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

pub(crate) const AUDIO_FRAME: Duration = Duration::from_millis(20);
/// In silence with DTX (RFC 7587 section 3.1.3).
const DTX_FRAME: Duration = Duration::from_millis(400);

/// Levels of the extension (RFC 6464): the first bit says "voice", the rest is -dBov.
pub(crate) const SPEECH_LEVEL: u8 = 0x80 | 28;
pub(crate) const SILENCE_LEVEL: u8 = 127;

/// A voice that speaks in turns of a few seconds.
#[derive(Debug)]
pub(crate) struct Voice {
    rng: StdRng,
    audio: Audio,
    speaks: bool,
    turn_ends: Instant,
}

/// One frame of audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AudioFrame {
    pub(crate) len: usize,
    pub(crate) level: u8,
    /// Until the next.
    pub(crate) pause: Duration,
}

impl Voice {
    pub(crate) fn new(audio: Audio, mut rng: StdRng, now: Instant) -> Self {
        let speaks = rng.random_bool(audio.speech.clamp(0.0, 1.0));
        Self {
            rng,
            audio,
            speaks,
            turn_ends: now,
        }
    }

    pub(crate) fn next(&mut self, now: Instant) -> AudioFrame {
        if now >= self.turn_ends {
            self.speaks = self.rng.random_bool(self.audio.speech.clamp(0.0, 1.0));
            self.turn_ends = now + Duration::from_millis(self.rng.random_range(1_000..4_000));
        }
        let mean = f64::from(self.audio.kbps) * 125.0 * AUDIO_FRAME.as_secs_f64();
        let len = match self.speaks || !self.audio.dtx {
            true => (mean * self.rng.random_range(0.8..1.2)) as usize,
            false => 0,
        };
        AudioFrame {
            len: len.clamp(MIN_AUDIO, MAX_PAYLOAD),
            level: if self.speaks {
                SPEECH_LEVEL
            } else {
                SILENCE_LEVEL
            },
            pause: if self.speaks || !self.audio.dtx {
                AUDIO_FRAME
            } else {
                DTX_FRAME
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_bit_rate_is_kept_over_key_frames() {
        for seed in 0..5 {
            let layer = Layer::new("f", (1280, 720), 30, 1_700);
            let mut sizes = VideoSizes::new(&layer, false, StdRng::seed_from_u64(seed));
            let mut key_frames = 0;
            let mut bytes = 0;
            for frame in 0..900 {
                let size = sizes.next(frame % 150 == 0);
                bytes += size;
                if frame % 150 == 0 {
                    key_frames += size / 6;
                }
            }
            let kbps = bytes as f64 * 8.0 / 30.0 / 1_000.0;
            assert!((1_600.0..1_800.0).contains(&kbps), "seed {seed}: {kbps}");
            assert!(key_frames > 6 * 3_500, "seed {seed}: {key_frames}");
        }
    }

    #[test]
    fn silence_with_dtx_is_cheap() {
        let count = |dtx| {
            let audio = Audio {
                dtx,
                speech: 0.3,
                ..Audio::default()
            };
            let start = Instant::now();
            let mut voice = Voice::new(audio, StdRng::seed_from_u64(3), start);
            let (mut now, mut frames, mut speech) = (start, 0, 0);
            while now < start + Duration::from_secs(60) {
                let frame = voice.next(now);
                (now, frames) = (now + frame.pause, frames + 1);
                speech += usize::from(frame.level == SPEECH_LEVEL);
            }
            assert!(speech > 300, "{speech}");
            frames
        };
        assert_eq!(count(false), 3_000);
        assert!(count(true) < 1_800);
    }
}
