//! The receiver of a camera: asks for what is missing, and shows a frame once all of it and all before it is
//! there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::camera::Piece;

const REORDERING: Duration = Duration::from_millis(5);
const ASK_AGAIN: Duration = Duration::from_millis(55);
const GIVE_UP: Duration = Duration::from_secs(1);
/// A frame that cannot be shown for so long needs a key frame.
const HOPELESS: Duration = Duration::from_millis(600);
const REQUEST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Partial {
    packets: u64,
    seen: u64,
    is_key_frame: bool,
    since: Instant,
}

#[derive(Debug, Default)]
pub struct Screen {
    highest: Option<u64>,
    /// Missing since when, and when to ask.
    missing: BTreeMap<u64, (Instant, Instant)>,
    partial: BTreeMap<(u8, u64), Partial>,
    decoded: Option<(u8, u64)>,
    shown: Option<Instant>,
    longest: Duration,
    requested: Option<Instant>,
    pub frames: u64,
    pub recovered: u64,
}

impl Screen {
    pub fn arrive(&mut self, piece: Piece, now: Instant) {
        let Some(highest) = self.highest else {
            self.highest = Some(piece.number);
            return self.assemble(piece, now);
        };
        if piece.number <= highest {
            if self.missing.remove(&piece.number).is_none() {
                return;
            }
            self.recovered += 1;
        }
        for number in highest + 1..piece.number {
            self.missing.insert(number, (now, now + REORDERING));
        }
        self.highest = Some(highest.max(piece.number));
        self.assemble(piece, now);
    }

    fn assemble(&mut self, piece: Piece, now: Instant) {
        if self
            .decoded
            .is_some_and(|(encoding, frame)| encoding == piece.encoding && piece.frame <= frame)
        {
            return;
        }
        let key = (piece.encoding, piece.frame);
        let partial = self.partial.entry(key).or_insert(Partial {
            packets: piece.packets,
            seen: 0,
            is_key_frame: piece.is_key_frame,
            since: now,
        });
        partial.seen += 1;
        while let Some((&key, _)) = self
            .partial
            .iter()
            .find(|(key, frame)| self.is_decodable(**key, frame))
        {
            self.decoded = Some(key);
            // What a decoder that went on to this frame will not show any more.
            self.partial
                .retain(|other, _| other.0 == key.0 && other.1 > key.1);
            self.longest = self.longest_gap(now);
            self.shown = Some(now);
            self.frames += 1;
        }
    }

    fn is_decodable(&self, (encoding, frame): (u8, u64), partial: &Partial) -> bool {
        let follows = self.decoded == Some((encoding, frame - 1));
        partial.seen >= partial.packets && (partial.is_key_frame || follows)
    }

    /// The longest time without a new frame, that which goes on at present included.
    pub fn longest_gap(&self, now: Instant) -> Duration {
        self.shown
            .map_or(self.longest, |shown| self.longest.max(now - shown))
    }

    /// Nothing is to be shown for the time being.
    pub fn pause(&mut self) {
        self.shown = None;
        self.partial.clear();
    }

    pub fn forget(&mut self) {
        self.longest = Duration::ZERO;
        (self.frames, self.recovered) = (0, 0);
    }

    /// What to ask for.
    pub fn ask(&mut self, now: Instant) -> Vec<u64> {
        let mut wanted = Vec::new();
        self.missing.retain(|number, (since, due)| {
            if *due <= now {
                wanted.push(*number);
                *due = now + ASK_AGAIN;
            }
            now - *since < GIVE_UP
        });
        wanted
    }

    pub fn wants_key_frame(&mut self, now: Instant) -> bool {
        let old = self.partial.values().any(|it| now - it.since >= HOPELESS);
        let wants = old && self.requested.is_none_or(|at| now - at >= REQUEST_PAUSE);
        if wants {
            self.requested = Some(now);
        }
        wants
    }
}
