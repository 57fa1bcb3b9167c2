//! Which frames of one encoding go on to one receiver: every frame that goes on can be decoded from
//! those that went before, and a picture is never cut short.
//!
//! Decided once per frame, by what it refers to, so that no codec's switching rules are needed: a layer
//! is taken up with the first frame that the receiver can decode, and at a key picture if there is none
//! for long. Does not know sequence numbers.

use crate::codec::frame::{Frame, LayerSet};
use crate::layer::Layer;

/// Frames that a decision is remembered of: 40 pictures of three spatial layers.
const REMEMBERED: u64 = 128;

/// A temporal layer of which no frame could be taken up for so long, in ticks of 90 kHz, is taken up at a
/// key picture. Less would ask for one although the encoder's pattern comes to a frame that refers to
/// lower layers only; more is a longer wait at half the frame rate.
const OVERDUE_AFTER: u32 = 2 * 90_000;
/// … and so many frames: where few come in a second, the pattern takes its time.
const OVERDUE_FRAMES: u8 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    LeaveOut {
        /// The frame's first packet that is left out.
        is_first: bool,
    },
}

#[derive(Debug)]
pub(super) struct Choice {
    /// What is wanted, within the encoding.
    wanted: Layer,
    /// The highest spatial layer that goes on. Changes between pictures only.
    spatial: u8,
    /// Spatial layers of which every base frame has gone on since the last key picture, so that they
    /// can be shown from here on.
    intact: LayerSet,
    /// What is to be shown cannot be decoded before the next key picture.
    is_broken: bool,
    blocked: Option<Blocked>,
    /// Timestamp of the newest picture, and whether it is a key picture.
    picture: Option<(u32, bool)>,
    newest: u64,
    /// One bit per frame, the lowest is that of the newest one.
    decided: u128,
    left_out: u128,
}

/// A temporal layer that is wanted, but its frames refer to others that were left out.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    temporal: u8,
    /// Timestamp of the first frame that could not be taken up.
    since: u32,
    frames: u8,
}

impl Choice {
    pub(super) fn new(wanted: Layer) -> Self {
        Self {
            wanted,
            spatial: wanted.spatial,
            intact: LayerSet::default(),
            is_broken: false,
            blocked: None,
            picture: None,
            newest: 0,
            decided: 0,
            left_out: 0,
        }
    }

    pub(super) fn set_wanted(&mut self, wanted: Layer) {
        if wanted.temporal != self.wanted.temporal {
            self.blocked = None;
        }
        self.wanted = wanted;
    }

    /// Begins with another source, at a key picture.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.wanted);
    }

    /// The layer that is being sent.
    pub(super) fn current(&self) -> Layer {
        Layer {
            spatial: self.spatial,
            temporal: self.wanted.temporal,
        }
    }

    pub(super) fn awaits_key_picture(&self) -> bool {
        self.is_broken || self.spatial != self.wanted.spatial
    }

    pub(super) fn decide(&mut self, frame: &Frame, timestamp: u32) -> Verdict {
        if self.picture.is_none() {
            self.newest = frame.number;
        } else if frame.number > self.newest {
            let step = frame.number - self.newest;
            let forget = |bits: u128| if step < REMEMBERED { bits << step } else { 0 };
            (self.decided, self.left_out) = (forget(self.decided), forget(self.left_out));
            self.newest = frame.number;
        }
        let age = self.newest - frame.number;
        if age >= REMEMBERED {
            return Verdict::Forward;
        }
        let bit = 1u128 << age;
        if self.decided & bit != 0 {
            return if self.left_out & bit == 0 {
                Verdict::Forward
            } else {
                Verdict::LeaveOut { is_first: false }
            };
        }
        self.decided |= bit;
        if age == 0 && self.picture.is_none_or(|(known, _)| known != timestamp) {
            self.begin_picture(frame, timestamp);
        }
        if self.goes_on(frame, timestamp, age) {
            if self.picture.is_some_and(|(_, is_key)| is_key) {
                self.intact.insert(frame.layer.spatial);
            }
            return Verdict::Forward;
        }
        self.left_out |= bit;
        Verdict::LeaveOut { is_first: true }
    }

    fn begin_picture(&mut self, frame: &Frame, timestamp: u32) {
        self.picture = Some((timestamp, frame.is_key()));
        if frame.is_key() {
            self.spatial = self.wanted.spatial;
            self.intact = LayerSet::default();
            self.is_broken = false;
            self.blocked = None;
        } else if self.spatial > self.wanted.spatial && self.intact.contains(self.wanted.spatial) {
            self.spatial = self.wanted.spatial;
        }
    }

    fn goes_on(&mut self, frame: &Frame, timestamp: u32, age: u64) -> bool {
        let Layer { spatial, temporal } = frame.layer;
        let shown = self.spatial.min(frame.top);
        let is_wanted = temporal <= self.wanted.temporal
            && spatial <= self.spatial
            && frame.serves.contains(shown);
        let missing = frame.references.iter().any(|distance| {
            let age = age + u64::from(distance);
            age < REMEMBERED && self.left_out & 1 << age != 0
        });
        if is_wanted && !missing {
            if self
                .blocked
                .is_some_and(|blocked| spatial == shown && temporal >= blocked.temporal)
            {
                self.blocked = None;
            }
            return true;
        }
        if temporal == 0 {
            self.intact.remove(spatial);
            self.is_broken |= is_wanted && spatial == shown;
        } else if is_wanted && spatial == shown {
            self.note_blocked(temporal, timestamp);
        }
        false
    }

    fn note_blocked(&mut self, temporal: u8, timestamp: u32) {
        let begun = Blocked {
            temporal,
            since: timestamp,
            frames: 0,
        };
        let blocked = self.blocked.get_or_insert(begun);
        // Above the lowest of them nothing can be expected to go on.
        if temporal < blocked.temporal {
            *blocked = begun;
        } else if temporal == blocked.temporal {
            blocked.frames = blocked.frames.saturating_add(1);
            let elapsed = timestamp.wrapping_sub(blocked.since);
            self.is_broken |= blocked.frames >= OVERDUE_FRAMES && elapsed >= OVERDUE_AFTER;
        }
    }
}

#[cfg(test)]
mod tests;
