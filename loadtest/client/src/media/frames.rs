//! Which frames of a video stream a decoder could show, and when it would have frozen.
//!
//! A frame is complete when all its packets are there. It can be decoded if it is a key frame or follows
//! the last decoded one of its layer; of a stream with layers in it, if all that it refers to was decoded,
//! and a picture is shown when its last frame is. Nothing here looks at payloads but their stamps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::stamp::{Inner, Stamp};

/// Frames that wait for packets or for a frame before them.
const MAX_PARTIAL: usize = 128;

/// A frame that has not become decodable by then needs a key frame. Retransmissions have had
/// several round trips.
const HOPELESS_AFTER: Duration = Duration::from_millis(600);
/// Between two requests for one.
const REQUEST_EVERY: Duration = Duration::from_millis(500);

/// W3C webrtc-stats, `freezeCount`: a gap of more than three average ones, and at least 150 ms more.
const FREEZE_SLACK: Duration = Duration::from_millis(150);
const AVERAGED_GAPS: u32 = 30;
/// A gap that a person takes for an outage.
pub(super) const MEDIA_GAP: Duration = Duration::from_millis(500);
/// Gaps that wait to be told one by one.
pub(super) const MAX_RECENT_GAPS: usize = 8;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCounts {
    pub decoded: u64,
    pub key_frames: u64,
    /// Never became decodable.
    pub dropped: u64,
    pub freezes: u64,
    pub frozen: Duration,
    /// Gaps of more than 500 ms.
    pub gaps: u64,
    pub longest_gap: Duration,
}

#[derive(Debug)]
struct Partial {
    layer: u8,
    frame: u32,
    is_key_frame: bool,
    packets: u16,
    seen: u16,
    inner: Option<Inner>,
    /// The last frame of its picture.
    ends_picture: bool,
    since: Instant,
}

/// Which of a stream's frames were decoded: the newest, and one bit for it and each before it.
#[derive(Debug, Clone, Copy, Default)]
struct Decoded {
    newest: u32,
    bits: u64,
}

impl Decoded {
    fn age(&self, frame: u32) -> i32 {
        self.newest.wrapping_sub(frame).cast_signed()
    }

    /// `None`: it is too old to be remembered.
    fn contains(&self, frame: u32) -> Option<bool> {
        let age = self.age(frame);
        if age < 0 {
            return Some(false);
        }
        let bit = 1u64.checked_shl(age.cast_unsigned())?;
        Some(self.bits & bit != 0)
    }

    fn insert(&mut self, frame: u32) {
        let age = self.age(frame);
        if self.bits == 0 || age < 0 {
            let step = age.unsigned_abs();
            self.bits = self.bits.checked_shl(step).unwrap_or(0) | 1;
            self.newest = frame;
        } else {
            self.bits |= 1u64.checked_shl(age.cast_unsigned()).unwrap_or(0);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Frames {
    partial: VecDeque<Partial>,
    /// The last that was decoded: layer and frame.
    decoded: Option<(u8, u32)>,
    /// Of a stream with layers in it.
    inside: Decoded,
    /// The highest layer of the last picture that was shown.
    layer: Option<u8>,
    shown: Option<Instant>,
    average_gap: Duration,
    /// When each ended, and how long it was.
    recent_gaps: Vec<(Instant, Duration)>,
    /// Gaps in the average.
    averaged: u32,
    requested: Option<Instant>,
    /// Since when nothing could be decoded, before the first key frame.
    waiting: Option<Instant>,
    counts: FrameCounts,
}

impl Frames {
    pub(crate) fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// The layer of the last picture that was shown.
    pub(crate) fn layer(&self) -> Option<u8> {
        self.layer
    }

    /// Whether a frame of a stream with layers in it has come, or at least begun to.
    pub(crate) fn knows(&self, frame: u32) -> bool {
        let is_decoded = self.inside.contains(frame).unwrap_or(true);
        is_decoded || self.partial.iter().any(|it| it.frame == frame)
    }

    /// A packet that is no duplicate. `marker`: the last one of a picture.
    pub(crate) fn handle_packet(&mut self, stamp: &Stamp, marker: bool, now: Instant) {
        self.waiting.get_or_insert(now);
        let stale = match stamp.inner {
            Some(_) => self.inside.contains(stamp.frame).unwrap_or(true),
            None => self.decoded.is_some_and(|(layer, frame)| {
                layer == stamp.layer && frame.wrapping_sub(stamp.frame).cast_signed() >= 0
            }),
        };
        if stale {
            return;
        }
        let same = |it: &&mut Partial| it.layer == stamp.layer && it.frame == stamp.frame;
        match self.partial.iter_mut().find(same) {
            Some(partial) => {
                partial.seen = partial.seen.saturating_add(1);
                partial.ends_picture |= marker;
            }
            None => {
                if self.partial.len() == MAX_PARTIAL {
                    self.partial.pop_front();
                    self.counts.dropped += 1;
                }
                self.partial.push_back(Partial {
                    layer: stamp.layer,
                    frame: stamp.frame,
                    is_key_frame: stamp.is_key_frame,
                    packets: stamp.packets,
                    seen: 1,
                    inner: stamp.inner,
                    ends_picture: marker,
                    since: now,
                });
            }
        }
        while let Some(place) = self.partial.iter().position(|it| self.is_decodable(it)) {
            let frame = self.partial.remove(place).expect("it was found there");
            self.decode(&frame, now);
        }
    }

    fn is_decodable(&self, partial: &Partial) -> bool {
        let is_ready = match partial.inner {
            Some(Inner { references, .. }) => {
                let mut needed = references.into_iter().filter(|distance| *distance > 0);
                let is_there = |distance: u8| {
                    let frame = partial.frame.wrapping_sub(u32::from(distance));
                    self.inside.contains(frame) == Some(true)
                };
                needed.all(is_there)
            }
            None => {
                let before = (partial.layer, partial.frame.wrapping_sub(1));
                partial.is_key_frame || self.decoded == Some(before)
            }
        };
        partial.seen >= partial.packets && is_ready
    }

    fn decode(&mut self, frame: &Partial, now: Instant) {
        let is_newest = match frame.inner {
            Some(_) => {
                let is_newest = self.inside.bits == 0 || self.inside.age(frame.frame) < 0;
                self.inside.insert(frame.frame);
                is_newest
            }
            None => true,
        };
        self.decoded = Some((frame.layer, frame.frame));
        if frame.inner.is_none() || frame.ends_picture {
            if is_newest {
                self.layer = Some(frame.layer);
            }
            self.counts.decoded += 1;
            self.counts.key_frames += u64::from(frame.is_key_frame);
            self.show(now);
        }
        // What a decoder that went on to this frame will not show any more.
        let before = self.partial.len();
        self.partial.retain(|it| {
            let older = it.frame.wrapping_sub(frame.frame).cast_signed() <= 0;
            match frame.inner {
                Some(_) => !(older && frame.is_key_frame),
                None if it.layer == frame.layer => !older,
                None => !frame.is_key_frame,
            }
        });
        self.counts.dropped += (before - self.partial.len()) as u64;
    }

    /// A frame without a stamp, that could be decoded.
    pub(super) fn show_plain(&mut self, is_key_frame: bool, now: Instant) {
        self.counts.decoded += 1;
        self.counts.key_frames += u64::from(is_key_frame);
        self.show(now);
    }

    /// Frames without stamps, that could not.
    pub(super) fn drop_plain(&mut self, count: usize) {
        self.counts.dropped += count as u64;
    }

    fn show(&mut self, now: Instant) {
        let Some(before) = self.shown.replace(now) else {
            return;
        };
        let gap = now.saturating_duration_since(before);
        let limit = (self.average_gap * 3).max(self.average_gap + FREEZE_SLACK);
        if self.averaged > 0 && gap > limit {
            self.counts.freezes += 1;
            self.counts.frozen += gap;
        }
        if gap > MEDIA_GAP {
            self.counts.gaps += 1;
            if self.recent_gaps.len() < MAX_RECENT_GAPS {
                self.recent_gaps.push((now, gap));
            }
        }
        self.counts.longest_gap = self.counts.longest_gap.max(gap);
        self.averaged = (self.averaged + 1).min(AVERAGED_GAPS);
        let weight = self.averaged;
        self.average_gap = (self.average_gap * (weight - 1) + gap) / weight;
    }

    /// None: nothing was shown since the beginning or a pause.
    pub(super) fn last_shown(&self) -> Option<Instant> {
        self.shown
    }

    /// Of more than 500 ms, since they were last taken.
    pub(super) fn take_gaps(&mut self) -> Vec<(Instant, Duration)> {
        std::mem::take(&mut self.recent_gaps)
    }

    /// The same track came over another connection before, and stood still since.
    pub(super) fn follow(&mut self, former: Self) {
        self.shown = former.shown;
        self.average_gap = former.average_gap;
        self.averaged = former.averaged;
        self.recent_gaps = former.recent_gaps;
    }

    /// Media was paused on purpose: the gap is no freeze, and what follows begins anew.
    pub(crate) fn pause(&mut self) {
        self.shown = None;
        self.waiting = None;
        self.partial.clear();
    }

    /// Whether to ask for a key frame. `given_up`: a packet is lost for good.
    pub(crate) fn wants_key_frame(&mut self, given_up: bool, now: Instant) -> bool {
        let old = |since: Instant| now.saturating_duration_since(since) >= HOPELESS_AFTER;
        let blocked = self.partial.front().is_some_and(|it| old(it.since));
        let never = self.decoded.is_none() && self.waiting.is_some_and(old);
        let hopeless = blocked || never || (given_up && !self.partial.is_empty());
        let recently = |at: Instant| now.saturating_duration_since(at) < REQUEST_EVERY;
        if !hopeless || self.requested.is_some_and(recently) {
            return false;
        }
        self.requested = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::TrackStamp;
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(33);

    /// All packets of a frame, three each.
    fn packets(layer: u8, frame: u32, is_key_frame: bool) -> impl Iterator<Item = Stamp> {
        (0..3).map(move |packet| Stamp {
            track: TrackStamp::default(),
            layer,
            is_key_frame,
            frame,
            begun: 0,
            packet,
            packets: 3,
            sent: 0,
            inner: None,
        })
    }

    struct Player {
        frames: Frames,
        now: Instant,
    }

    impl Player {
        fn new() -> Self {
            Self {
                frames: Frames::default(),
                now: Instant::now(),
            }
        }

        fn play(&mut self, layer: u8, numbers: std::ops::Range<u32>) {
            for frame in numbers {
                self.now += INTERVAL;
                let is_key_frame = frame.is_multiple_of(100);
                packets(layer, frame, is_key_frame)
                    .for_each(|it| self.frames.handle_packet(&it, it.packet == 2, self.now));
            }
        }
    }

    #[test]
    fn nothing_is_decoded_before_a_key_frame() {
        let mut player = Player::new();
        player.play(0, 90..100);
        assert_eq!(player.frames.counts().decoded, 0);
        assert!(!player.frames.wants_key_frame(false, player.now));
        let later = player.now + HOPELESS_AFTER;
        assert!(player.frames.wants_key_frame(false, later));
        assert!(
            !player
                .frames
                .wants_key_frame(false, later + Duration::from_millis(1))
        );
        player.play(0, 100..110);
        let counts = player.frames.counts();
        assert_eq!(
            (counts.decoded, counts.key_frames, counts.dropped),
            (10, 1, 10)
        );
    }

    #[test]
    fn a_late_packet_lets_all_behind_it_be_decoded() {
        let mut player = Player::new();
        player.play(0, 0..30);
        let late = packets(0, 30, false).next().unwrap();
        packets(0, 30, false)
            .skip(1)
            .for_each(|it| player.frames.handle_packet(&it, it.packet == 2, player.now));
        player.play(0, 31..35);
        assert_eq!(player.frames.counts().decoded, 30);
        player.now += Duration::from_millis(200);
        player.frames.handle_packet(&late, false, player.now);
        let counts = player.frames.counts();
        assert_eq!((counts.decoded, counts.freezes, counts.dropped), (35, 1, 0));
        assert!(counts.frozen >= Duration::from_millis(300));
        // What is older than what was decoded changes nothing.
        player.frames.handle_packet(&late, false, player.now);
        assert_eq!(player.frames.counts().decoded, 35);
    }

    #[test]
    fn a_switch_takes_a_key_frame_and_a_pause_is_no_freeze() {
        let mut player = Player::new();
        player.play(0, 0..30);
        player.play(2, 200..230);
        assert_eq!(player.frames.layer(), Some(2));
        assert_eq!(player.frames.counts().decoded, 60);
        player.frames.pause();
        player.now += Duration::from_secs(9);
        player.play(0, 300..310);
        let counts = player.frames.counts();
        assert_eq!((counts.decoded, counts.freezes, counts.gaps), (70, 0, 0));
        player.now += Duration::from_secs(1);
        player.play(0, 310..311);
        assert_eq!(player.frames.counts().gaps, 1);
    }

    /// Number, layer, references of a frame of one packet.
    fn inside(frame: u32, layer: u8, references: [u8; 2]) -> Stamp {
        Stamp {
            is_key_frame: frame < 3,
            inner: Some(Inner {
                temporal: 0,
                references,
            }),
            packets: 1,
            packet: 0,
            ..packets(layer, frame, false).next().unwrap()
        }
    }

    #[test]
    fn a_picture_is_as_large_as_its_last_frame_and_needs_what_it_refers_to() {
        let mut frames = Frames::default();
        let mut now = Instant::now();
        let mut receive = |frames: &mut Frames, stamps: &[Stamp], is_whole: bool| {
            now += INTERVAL;
            for (place, stamp) in stamps.iter().enumerate() {
                frames.handle_packet(stamp, is_whole && place + 1 == stamps.len(), now);
            }
            (frames.layer(), frames.counts().decoded)
        };
        let key = [
            inside(0, 0, [0, 0]),
            inside(1, 1, [0, 1]),
            inside(2, 2, [0, 1]),
        ];
        assert_eq!(receive(&mut frames, &key, true), (Some(2), 1));
        let whole = [
            inside(3, 0, [3, 0]),
            inside(4, 1, [3, 1]),
            inside(5, 2, [3, 1]),
        ];
        assert_eq!(receive(&mut frames, &whole, true), (Some(2), 2));
        // The highest layer is left out.
        let lower = [inside(6, 0, [3, 0]), inside(7, 1, [3, 1])];
        assert_eq!(receive(&mut frames, &lower, true), (Some(1), 3));
        // A frame that was left out is missed by who needs it, and by nobody else.
        let missing = [
            inside(9, 0, [3, 0]),
            inside(10, 1, [3, 1]),
            inside(11, 2, [3, 1]),
        ];
        assert_eq!(receive(&mut frames, &missing, true), (Some(1), 3));
        assert!(frames.knows(9) && !frames.knows(8));
        // It comes late, and what waited is decoded.
        let late = [inside(8, 2, [3, 1])];
        assert_eq!(receive(&mut frames, &late, false), (Some(2), 4));
    }
}
