//! Audio levels → active speakers of a room. Knows nothing of video, and not who listens.

use std::collections::BTreeMap;
use std::time::Duration;

/// Speech is judged in windows of this length; shorter ones flicker between words, longer ones lag
/// behind the conversation.
pub const WINDOW: Duration = Duration::from_millis(400);
/// Louder than this is speech, in -dBov (RFC 6464). Room noise lies at 50 to 70, speech at 15 to 35.
const SPEECH_LEVEL: u8 = 35;
/// Share of a window's packets that must be speech to become active, and to stay so, in percent. Two
/// values, so that a pause between words does not end a turn.
const BECOME_ACTIVE: u32 = 40;
const STAY_ACTIVE: u32 = 15;
/// Windows without speech after which a speaker is no longer active.
const QUIET_WINDOWS: u8 = 2;
/// Levels are reported in steps of 1/8, so that every breath is not a message.
const STEPS: f32 = 8.0;

/// A change among the active speakers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeakerChange<P> {
    pub participant: P,
    /// 0 to 1, linear in sound pressure; 1 is the loudest.
    pub level: f32,
    pub active: bool,
}

/// Who speaks in one room.
#[derive(Debug, Clone)]
pub struct Speakers<P> {
    participants: BTreeMap<P, Loudness>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Loudness {
    packets: u32,
    speech: u32,
    /// Sum of the linear levels of the speech packets.
    sum: f32,
    active: bool,
    quiet_windows: u8,
    /// Smoothed level, and the one that was reported.
    level: f32,
    reported: f32,
}

impl<P> Default for Speakers<P> {
    fn default() -> Self {
        Self {
            participants: BTreeMap::new(),
        }
    }
}

impl<P: Ord + Copy> Speakers<P> {
    /// `level` is 0 (loudest) to 127 (silence), in -dBov.
    pub fn handle_level(&mut self, participant: P, level: u8) {
        let loudness = self.participants.entry(participant).or_default();
        loudness.packets += 1;
        if level <= SPEECH_LEVEL {
            loudness.speech += 1;
            loudness.sum += 10f32.powf(-f32::from(level) / 20.0);
        }
    }

    /// Ends a window and adds what changed. Call every [`WINDOW`].
    pub fn end_window(&mut self, changes: &mut Vec<SpeakerChange<P>>) {
        self.participants.retain(|&participant, loudness| {
            if loudness.end_window() {
                changes.push(SpeakerChange {
                    participant,
                    level: loudness.reported,
                    active: loudness.active,
                });
            }
            loudness.active || loudness.quiet_windows < QUIET_WINDOWS
        });
    }

    /// Forgets a participant; `true` if they were active.
    pub fn remove(&mut self, participant: P) -> bool {
        self.participants
            .remove(&participant)
            .is_some_and(|loudness| loudness.active)
    }

    /// The active speakers, loudest first.
    pub fn active(&self) -> Vec<SpeakerChange<P>> {
        let mut active: Vec<_> = self
            .participants
            .iter()
            .filter(|(_, loudness)| loudness.active)
            .map(|(&participant, l)| SpeakerChange {
                participant,
                level: l.reported,
                active: true,
            })
            .collect();
        active.sort_by(|a, b| b.level.total_cmp(&a.level));
        active
    }

    /// Whether anybody has to be watched for the end of a window.
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }
}

impl Loudness {
    /// Whether something changed that others should know.
    fn end_window(&mut self) -> bool {
        let share = (self.speech * 100).checked_div(self.packets).unwrap_or(0);
        let speaks = share
            >= if self.active {
                STAY_ACTIVE
            } else {
                BECOME_ACTIVE
            };
        let level = if self.speech > 0 {
            self.sum / self.speech as f32
        } else {
            0.0
        };
        self.quiet_windows = if speaks {
            0
        } else {
            self.quiet_windows.saturating_add(1)
        };
        let was_active = self.active;
        self.active = speaks || self.active && self.quiet_windows < QUIET_WINDOWS;
        self.level = if was_active {
            (self.level + level) / 2.0
        } else {
            level
        };
        (self.packets, self.speech, self.sum) = (0, 0, 0.0);
        let reported = if self.active {
            (self.level * STEPS).ceil() / STEPS
        } else {
            0.0
        };
        let changed = self.active != was_active || self.active && reported != self.reported;
        self.reported = reported;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One window of 20 packets, the first `loud` of them at `level`.
    fn window(speakers: &mut Speakers<u8>, who: u8, loud: usize, level: u8) -> Vec<(u8, bool)> {
        for packet in 0..20 {
            speakers.handle_level(who, if packet < loud { level } else { 127 });
        }
        let mut changes = Vec::new();
        speakers.end_window(&mut changes);
        changes
            .iter()
            .map(|change| (change.participant, change.active))
            .collect()
    }

    #[test]
    fn speech_makes_active_and_silence_ends_it_after_a_pause() {
        let mut speakers = Speakers::default();
        assert_eq!(
            window(&mut speakers, 1, 7, 20),
            [],
            "35 % of a window is a cough"
        );
        assert_eq!(window(&mut speakers, 1, 8, 6), [(1, true)]);
        assert_eq!(window(&mut speakers, 1, 3, 6), [], "a pause between words");
        assert_eq!(window(&mut speakers, 1, 0, 20), [(1, true)], "quieter");
        assert_eq!(window(&mut speakers, 1, 0, 20), [(1, false)]);
        assert_eq!(window(&mut speakers, 1, 0, 20), []);
        speakers.end_window(&mut Vec::new());
        assert!(speakers.is_empty(), "no packets, nobody to watch");
    }

    #[test]
    fn noise_is_not_speech() {
        let mut speakers = Speakers::default();
        assert_eq!(window(&mut speakers, 1, 20, SPEECH_LEVEL + 1), []);
    }

    #[test]
    fn the_louder_one_comes_first() {
        let mut speakers = Speakers::default();
        let mut changes = Vec::new();
        for _ in 0..20 {
            speakers.handle_level(1, 30);
            speakers.handle_level(2, 3);
        }
        speakers.end_window(&mut changes);
        let order: Vec<_> = speakers
            .active()
            .iter()
            .map(|s| (s.participant, s.level))
            .collect();
        assert_eq!(order, [(2, 0.75), (1, 0.125)]);
        assert!(speakers.remove(2));
        assert!(!speakers.remove(3));
    }
}
