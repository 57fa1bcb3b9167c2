//! Frames of a stream that bears no stamps: media of files, and of others than us.
//!
//! All that is known of it is what the headers say. A frame ends with the marker, it is complete if nothing
//! before it is missing, and it can be decoded if nothing was lost since a key frame.

use std::time::{Duration, Instant};

use super::frames::Frames;
use super::sequence::{Place, Sequence};
use crate::sdp::Format;

/// Before the first key frame, and between two requests for one.
const PATIENCE: Duration = Duration::from_millis(600);

#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Number of the packet that began the last key frame.
    key_frame: Option<u64>,
    /// Frames that have ended and wait for packets; whether each is a key frame.
    ended: Vec<bool>,
    /// The frame that comes just now is one.
    is_key: bool,
    /// Since when one is waited for.
    waiting: Option<Instant>,
}

/// More wait for nothing that would still come.
const MAX_WAITING: usize = 128;

impl Plain {
    /// A packet that is no duplicate. Answers whether a frame can be shown now.
    pub(super) fn handle(
        &mut self,
        (is_key, marker): (bool, bool),
        place: Place,
        sequence: &Sequence,
        frames: &mut Frames,
        now: Instant,
    ) -> bool {
        let is_newest = matches!(place, Place::Newest { .. });
        if is_newest && is_key {
            frames.drop_plain(std::mem::take(&mut self.ended).len());
            self.key_frame = Some(sequence.newest());
            self.waiting = None;
        }
        self.is_key |= is_newest && is_key;
        if marker {
            let of_key = match is_newest {
                true => std::mem::take(&mut self.is_key),
                false => is_key,
            };
            match self.key_frame {
                Some(_) if self.ended.len() < MAX_WAITING => self.ended.push(of_key),
                _ => frames.drop_plain(1),
            }
        }
        match self.key_frame {
            None => {
                self.waiting.get_or_insert(now);
                false
            }
            Some(since) if sequence.lost_since(since) => {
                self.give_up(frames, now);
                false
            }
            Some(since) if sequence.missing_since(since) => false,
            Some(_) => {
                let ended = std::mem::take(&mut self.ended);
                for is_key in &ended {
                    frames.show_plain(*is_key, now);
                }
                !ended.is_empty()
            }
        }
    }

    /// Nothing can be decoded until a key frame comes.
    fn give_up(&mut self, frames: &mut Frames, now: Instant) {
        frames.drop_plain(std::mem::take(&mut self.ended).len());
        self.key_frame = None;
        // At once: it has been asked for again long enough.
        self.waiting = now.checked_sub(PATIENCE).or(Some(now));
    }

    /// Media was paused on purpose, and begins anew.
    pub(super) fn pause(&mut self) {
        self.ended.clear();
        self.key_frame = None;
        self.waiting = None;
    }

    pub(super) fn wants_key_frame(
        &mut self,
        sequence: &Sequence,
        frames: &mut Frames,
        now: Instant,
    ) -> bool {
        if self
            .key_frame
            .is_some_and(|since| sequence.lost_since(since))
        {
            self.give_up(frames, now);
        }
        let wants = self
            .waiting
            .is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        if wants {
            self.waiting = Some(now);
        }
        wants
    }
}

/// Whether a packet begins a key frame, as its payload's head says.
pub(super) fn starts_key_frame(format: Format, payload: &[u8]) -> bool {
    const PARAMETERS: u8 = 7;
    const AGGREGATION: u8 = 24;
    let Some(&first) = payload.first() else {
        return false;
    };
    match format {
        Format::Opus => false,
        Format::Vp8 => vp8_frame(payload).is_some_and(|tag| tag & 1 == 0),
        Format::Vp9 => first & 0x48 == 0x08,
        Format::Av1 => first & 0x88 == 0x08,
        Format::H264 => match first & 0x1F {
            AGGREGATION => payload.get(3).is_some_and(|unit| unit & 0x1F == PARAMETERS),
            kind => kind == PARAMETERS,
        },
    }
}

/// The first byte of a frame, if the packet begins one.
fn vp8_frame(payload: &[u8]) -> Option<u8> {
    let first = *payload.first()?;
    if first & 0x17 != 0x10 {
        return None;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let extensions = *payload.get(1)?;
        at = 2;
        if extensions & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extensions & 0x40 != 0);
        at += usize::from(extensions & 0x30 != 0);
    }
    payload.get(at).copied()
}
