//! Which microphones of a room are heard where only so many are: the loudest of the whole room, however many
//! routers share it.
//!
//! Each router measures its own microphones and tells the others of the loudest of them, no more than are heard
//! in all: whoever is among the loudest of the room is among those. Each then chooses for its own receivers.
//! Who begins to speak is heard within two windows, and goes on for two seconds at least, so that nobody is cut
//! off within a word. Among equals those stay who are heard. Knows neither packets nor receivers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Levels are looked at in windows of this length. Shorter, and a door that slams is a voice; longer, and the
/// first syllable is missed.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Who has begun to speak is heard for so long, however loud others are.
const STAY: Duration = Duration::from_secs(2);
/// As loud as this is speech: -35 dBov, as for active speakers.
const SPEECH: u8 = LOUDEST - 35;
/// What the level of silence leaves: levels are 0 (loudest) to 127, in -dBov (RFC 6464).
const LOUDEST: u8 = 127;
/// Loudness follows a louder window by three quarters: two windows of speech are enough, one that is a click is
/// not …
const RISE: (u32, u32) = (3, 4);
/// … and falls by a decibel a window, so that a pause between words is none.
const FALL: u32 = SCALE;
/// Changes of less than this are not told, and make nobody louder than another.
const STEP: u8 = 6;
/// Loudness is kept in parts of a decibel.
const SCALE: u32 = 16;
/// What is assumed of a packet that does not say its level: louder than a quiet room, and no speech. Its sender
/// is heard while there is room.
const UNSAID: u8 = LOUDEST - 40;

/// What the packets of one microphone said of late: an addition for each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Level {
    packets: u32,
    sum: u32,
}

impl Level {
    /// `level` is that of a packet, if it says it.
    #[inline]
    pub(crate) fn add(&mut self, level: Option<u8>) {
        let loudness = level.map_or(UNSAID, |level| LOUDEST.saturating_sub(level));
        self.packets += 1;
        self.sum += u32::from(loudness);
    }

    /// The mean; `None`: there was no packet.
    pub fn loudness(self) -> Option<u8> {
        let mean = self.sum.checked_div(self.packets)?;
        Some(mean.min(LOUDEST.into()) as u8)
    }
}

/// A change among a router's loudest microphones, for the others. `loudness` 0: it is not among them any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<K> {
    pub microphone: K,
    pub loudness: u8,
}

/// The microphones of one room, as one router sees them.
#[derive(Debug)]
pub struct Loudest<K> {
    most: usize,
    microphones: BTreeMap<K, Microphone>,
    /// Those of this router that have ended, and of which others have not been told that.
    ended: Vec<K>,
}

#[derive(Debug, Default)]
struct Microphone {
    /// Published or taken here; others are known from what is told of them.
    is_here: bool,
    /// Published here: its smoothed loudness, in parts of a decibel, and what others were told.
    own: Option<Own>,
    /// Who told of it.
    from: Option<u16>,
    /// What it is ranked by.
    loudness: u8,
    heard: Option<Heard>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Own {
    smoothed: u32,
    told: u8,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    /// Since when, or since when they speak.
    since: Instant,
    /// They have spoken since.
    has_spoken: bool,
}

impl Heard {
    fn is_settled(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= STAY
    }
}

impl<K: Ord + Clone> Loudest<K> {
    /// At most so many are heard.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            microphones: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    pub fn most(&self) -> usize {
        self.most
    }

    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// A microphone is published here …
    pub fn publish(&mut self, microphone: K) {
        let known = self.microphones.entry(microphone).or_default();
        known.is_here = true;
        known.own.get_or_insert_default();
        known.from = None;
    }

    /// … or taken from where it is published.
    pub fn take(&mut self, microphone: K) {
        let known = self.microphones.entry(microphone).or_default();
        known.is_here = true;
        known.own = None;
    }

    /// It is no more, or not taken any more; what others tell of it may follow, or not.
    pub fn end(&mut self, microphone: &K) {
        let Some(known) = self.microphones.get_mut(microphone) else {
            return;
        };
        known.is_here = false;
        if let Some(own) = known.own.take() {
            known.loudness = 0;
            if own.told > 0 {
                self.ended.push(microphone.clone());
            }
        }
        if known.from.is_none() {
            self.microphones.remove(microphone);
        }
    }

    /// Another router tells of one of its own.
    pub fn handle_told(&mut self, from: u16, told: &Told<K>) {
        if told.loudness == 0 {
            let known = self.microphones.get_mut(&told.microphone);
            // What somebody else told later stays.
            if let Some(known) = known.filter(|known| known.from == Some(from)) {
                known.hush();
                if !known.is_here {
                    self.microphones.remove(&told.microphone);
                }
            }
            return;
        }
        let known = self.microphones.entry(told.microphone.clone());
        let known = known.or_default();
        // One that is published here was there before.
        if known.own.is_none() {
            known.from = Some(from);
            known.loudness = told.loudness.min(LOUDEST);
        }
    }

    /// Another router is gone, or has nobody in the room any more.
    pub fn forget(&mut self, from: u16) {
        self.microphones.retain(|_, known| {
            if known.from == Some(from) {
                known.hush();
            }
            known.is_here || known.from.is_some()
        });
    }

    /// Microphones of the room, as far as they are known here.
    pub fn len(&self) -> usize {
        self.microphones.len()
    }

    pub fn is_empty(&self) -> bool {
        self.microphones.is_empty()
    }

    /// How loud one that is published here was in the last [`WINDOW`]; `None`: it sent nothing.
    pub fn handle_window(&mut self, microphone: &K, loudness: Option<u8>) {
        let known = self.microphones.get_mut(microphone);
        let Some(known) = known else { return };
        let Some(own) = &mut known.own else { return };
        own.handle_window(loudness);
        known.loudness = own.ranked(known.loudness);
    }

    /// It was silenced, which is no pause between words.
    pub fn handle_mute(&mut self, microphone: &K) {
        if let Some(known) = self.microphones.get_mut(microphone)
            && let Some(own) = &mut known.own
        {
            own.smoothed = 0;
            known.loudness = 0;
        }
    }

    /// Chooses anew who is heard. `true`: others than before.
    pub fn choose(&mut self, now: Instant) -> bool {
        let mut changed = false;
        if self.microphones.len() <= self.most {
            for known in self.microphones.values_mut() {
                changed |= known.heard.is_none();
                known.hear(now);
            }
            return changed;
        }
        let mut ranked: Vec<_> = self.microphones.iter_mut().collect();
        // Stable: among equals the first by name.
        ranked.sort_by_key(|(_, known)| std::cmp::Reverse(known.rank(now)));
        for (place, (_, known)) in ranked.into_iter().enumerate() {
            let was_heard = known.heard.is_some();
            if place < self.most {
                known.hear(now);
            } else {
                known.heard = None;
            }
            changed |= was_heard != known.heard.is_some();
        }
        changed
    }

    pub fn is_heard(&self, microphone: &K) -> bool {
        let known = self.microphones.get(microphone);
        // Of one that is not limited nothing is known.
        known.is_none_or(|known| known.heard.is_some())
    }

    /// What has changed among the loudest microphones of this router.
    pub fn news(&mut self) -> Vec<Told<K>> {
        let most = self.most;
        let ended = std::mem::take(&mut self.ended).into_iter();
        let mut news: Vec<_> = ended
            .map(|microphone| Told {
                microphone,
                loudness: 0,
            })
            .collect();
        for (place, (microphone, known)) in self.own_loudest().into_iter().enumerate() {
            let loudness = if place < most { known.loudness } else { 0 };
            let Some(own) = &mut known.own else { continue };
            if own.told != loudness {
                own.told = loudness;
                news.push(Told {
                    microphone: microphone.clone(),
                    loudness,
                });
            }
        }
        news
    }

    /// All that was told, for who comes later.
    pub fn told(&self) -> Vec<Told<K>> {
        let told = self.microphones.iter().filter_map(|(microphone, known)| {
            let loudness = known.own?.told;
            (loudness > 0).then(|| Told {
                microphone: microphone.clone(),
                loudness,
            })
        });
        told.collect()
    }

    fn own_loudest(&mut self) -> Vec<(&K, &mut Microphone)> {
        let own = self.microphones.iter_mut();
        let mut own: Vec<_> = own.filter(|(_, known)| known.own.is_some()).collect();
        own.sort_by_key(|(_, known)| {
            let told = known.own.is_some_and(|own| own.told > 0);
            std::cmp::Reverse((known.loudness, known.heard.is_some(), told))
        });
        own
    }
}

impl Own {
    fn handle_window(&mut self, loudness: Option<u8>) {
        let heard = u32::from(loudness.unwrap_or(0)) * SCALE;
        self.smoothed = if heard > self.smoothed {
            self.smoothed + (heard - self.smoothed) * RISE.0 / RISE.1
        } else {
            self.smoothed.saturating_sub(FALL).max(heard)
        };
    }

    /// What it is ranked by from now on, if it was ranked by `before`.
    fn ranked(self, before: u8) -> u8 {
        let loudness = (self.smoothed / SCALE) as u8;
        let begins = loudness >= SPEECH && before < SPEECH;
        // Silence is one thing, however it is reached.
        let is_silent = loudness == 0;
        match loudness.abs_diff(before) >= STEP || begins || is_silent {
            true => loudness,
            false => before,
        }
    }
}

impl Microphone {
    /// Who is louder comes first, but for those who have their two seconds.
    fn rank(&self, now: Instant) -> (u8, u8, bool) {
        let is_new = self.heard.filter(|heard| !heard.is_settled(now));
        let class = match is_new {
            Some(heard) if heard.has_spoken => 3,
            _ if self.loudness >= SPEECH => 2,
            // Noise gives way to speech at once, but not to other noise.
            Some(_) => 1,
            None => 0,
        };
        // Of those who all stay anyway the order does not matter.
        (class, self.loudness, self.heard.is_some())
    }

    fn hear(&mut self, now: Instant) {
        let speaks = self.loudness >= SPEECH;
        let heard = self.heard.get_or_insert(Heard {
            since: now,
            has_spoken: false,
        });
        if speaks && !heard.has_spoken {
            *heard = Heard {
                since: now,
                has_spoken: true,
            };
        } else if !speaks && heard.is_settled(now) {
            // Who speaks up again begins anew.
            heard.has_spoken = false;
        }
    }

    /// Nobody tells of it any more.
    fn hush(&mut self) {
        self.from = None;
        self.loudness = 0;
    }
}

#[cfg(test)]
mod tests;
