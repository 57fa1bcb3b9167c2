//! One publisher's camera with its encodings, and its microphone; and what becomes of both on their way to one
//! subscriber: switches at key frames, numbers without holes, retransmissions.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::FRAME;
use super::screen::Screen;
use crate::sim::Rng;
use pipemesh_node_core::allocate::{Choice, Demand, Held, Ladder, Layer, Media, Step};
use pipemesh_node_core::rate::RateMeter;
use pipemesh_node_core::track::Size;
use pipemesh_node_core::units::{Bitrate, DataSize};

const FULL_SIZE: u64 = 1_200;
/// A key frame takes so many times what other frames take.
const KEY_FRAME: u64 = 6;
/// From a request to the encoder, in milliseconds.
const REQUEST: u64 = 20;
/// Between two requests.
const REQUEST_PAUSE: u64 = 500;
/// Packets that can be sent again.
const KEPT: usize = 512;

/// A packet of video as the subscriber is sent it.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    pub number: u64,
    pub encoding: u8,
    pub frame: u64,
    pub packet: u64,
    pub packets: u64,
    pub is_key_frame: bool,
    pub size: u16,
}

/// One encoder.
struct Encoder {
    meter: RateMeter,
    frame: u64,
    /// When the next frame is to be a key frame, in milliseconds.
    key_frame_at: Option<u64>,
    requested: Option<u64>,
}

pub struct Camera {
    /// Of each encoding, in bit/s.
    pub rates: Vec<u64>,
    encoders: Vec<Encoder>,
    held: Held,
    pub next_frame: u64,
    pub next_audio: u64,
    pub choice: Choice,
    /// The encoding that is being sent, and the one that is to follow.
    current: Option<u8>,
    target: Option<u8>,
    /// The receiver wants it.
    pub visible: bool,
    pub priority: u32,
    next_number: u64,
    sent: VecDeque<Piece>,
    /// What lies below is not sent again.
    kept_from: u64,
    pub screen: Screen,
    pub audio: Stream,
}

/// What arrived of a microphone.
#[derive(Debug, Default, Clone)]
pub struct Stream {
    pub sent: u64,
    pub arrived: u64,
    last: Option<Instant>,
    longest: Duration,
}

impl Stream {
    pub fn arrive(&mut self, now: Instant) {
        self.arrived += 1;
        self.longest = self.longest_gap(now);
        self.last = Some(now);
    }

    /// The longest time without a packet, that which goes on at present included.
    pub fn longest_gap(&self, now: Instant) -> Duration {
        self.last
            .map_or(self.longest, |last| self.longest.max(now - last))
    }

    pub fn forget(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }
}

/// Since an hour before anybody asked.
fn micros(at: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = ORIGIN.get_or_init(|| at - Duration::from_secs(3_600));
    at.saturating_duration_since(*origin).as_micros() as u64
}

impl Camera {
    pub fn new(rates: &[u64]) -> Self {
        let encoder = || Encoder {
            meter: RateMeter::new(Duration::from_secs(1)),
            frame: 0,
            key_frame_at: None,
            requested: None,
        };
        Self {
            rates: rates.to_vec(),
            encoders: rates.iter().map(|_| encoder()).collect(),
            held: Held::New,
            next_frame: 0,
            next_audio: 0,
            choice: Choice::Nothing,
            current: None,
            target: None,
            visible: true,
            priority: 0,
            next_number: 0,
            sent: VecDeque::new(),
            kept_from: 0,
            screen: Screen::default(),
            audio: Stream::default(),
        }
    }

    /// Like Chromium's.
    pub fn standard() -> Self {
        Self::new(&[150_000, 500_000, 1_700_000])
    }

    /// It was there before: its rates are known.
    pub fn warm_up(&mut self, before: Instant) {
        for (encoder, rate) in self.encoders.iter_mut().zip(&self.rates) {
            for step in 0..100 {
                let at = before + Duration::from_millis(10 * step);
                encoder
                    .meter
                    .add(DataSize::from_bytes(rate / 800), micros(at));
            }
        }
    }

    pub fn demands(&self, now: Instant) -> [Demand; 2] {
        let mut ladder = Ladder::default();
        let shown = if self.visible { self.encoders.len() } else { 0 };
        for (spatial, encoder) in self.encoders.iter().take(shown).enumerate() {
            ladder.push(Step {
                layer: Layer {
                    spatial: spatial as u8,
                    temporal: 0,
                },
                rate: encoder.meter.rate(micros(now)),
                pixels: (320 * 180) << (2 * spatial),
            });
        }
        let mut audio = Ladder::default();
        audio.push(Step {
            rate: Bitrate::from_kbps(52),
            ..Step::default()
        });
        let demand = |media, ladder, held| Demand {
            media,
            priority: self.priority,
            view: Size::default(),
            ladder,
            held,
            sent: self.sent_layer(),
        };
        [
            demand(Media::Audio, audio, Held::New),
            demand(Media::Video, ladder, self.held),
        ]
    }

    pub fn encoding(&self) -> Option<u8> {
        match self.choice {
            Choice::At(layer) => Some(layer.spatial),
            Choice::Nothing | Choice::Paused => None,
        }
    }

    fn sent_layer(&self) -> Option<Layer> {
        let spatial = self.current?;
        Some(Layer {
            spatial,
            temporal: 0,
        })
    }

    /// Answers whether it is another choice than before, and whether it is less than is being sent.
    pub fn choose(&mut self, choice: Choice, now: u64) -> (bool, bool) {
        let changed = choice != self.choice;
        let less = match choice {
            Choice::At(layer) => self.sent_layer().is_some_and(|sent| layer < sent),
            Choice::Nothing | Choice::Paused => self.current.is_some(),
        };
        self.choice = choice;
        self.held = choice.held();
        match self.encoding() {
            None => {
                (self.current, self.target) = (None, None);
                self.screen.pause();
            }
            Some(wanted) => {
                self.target = (self.current != Some(wanted)).then_some(wanted);
                self.request(now);
            }
        }
        (changed, less)
    }

    /// What goes out at present is not worth its bandwidth: nothing more of it, and nothing of it again.
    pub fn abandon(&mut self) {
        if self.target.is_some() || self.current.is_none() {
            self.current = None;
            self.kept_from = self.next_number;
        }
    }

    /// Numbers from here on have not gone out: the stream goes on with a key frame.
    pub fn rewind(&mut self, next: u64, now: u64) {
        self.next_number = next;
        self.kept_from = self.kept_from.min(next);
        self.target = self.target.or(self.current);
        self.current = None;
        self.request(now);
    }

    pub fn request_key_frame(&mut self, now: u64) {
        if let Some(current) = self.current.or(self.target) {
            self.ask(current, now);
        }
    }

    fn request(&mut self, now: u64) {
        if let Some(target) = self.target {
            self.ask(target, now);
        }
    }

    fn ask(&mut self, encoding: u8, now: u64) {
        let encoder = &mut self.encoders[usize::from(encoding)];
        let at = encoder
            .requested
            .map_or(now, |at| now.max(at + REQUEST_PAUSE));
        encoder.requested = Some(at);
        encoder.key_frame_at.get_or_insert(at + REQUEST);
    }

    /// The frames of a moment: what goes to the subscriber.
    pub fn frame(&mut self, millis: u64, now: Instant, rng: &mut Rng) -> Vec<Piece> {
        self.next_frame = millis + FRAME + rng.below(2);
        let mut pieces = Vec::new();
        for spatial in 0..self.rates.len() {
            let encoder = &mut self.encoders[spatial];
            let is_key_frame = encoder.key_frame_at.is_some_and(|at| at <= millis);
            let variation = 60 + rng.below(81);
            let mut size = self.rates[spatial] / 8 * FRAME / 1000 * variation / 100;
            if is_key_frame {
                encoder.key_frame_at = None;
                size *= KEY_FRAME;
            }
            encoder.meter.add(DataSize::from_bytes(size), micros(now));
            encoder.frame += 1;
            let encoding = spatial as u8;
            if is_key_frame && self.target == Some(encoding) {
                (self.current, self.target) = (Some(encoding), None);
            }
            if self.current != Some(encoding) {
                continue;
            }
            let packets = size.div_ceil(FULL_SIZE).max(1);
            for packet in 0..packets {
                pieces.push(Piece {
                    number: self.next_number,
                    encoding,
                    frame: encoder.frame,
                    packet,
                    packets,
                    is_key_frame,
                    size: (size / packets) as u16 + 40,
                });
                self.next_number += 1;
            }
        }
        pieces
    }

    pub fn note_sent(&mut self, piece: Piece) {
        if self.sent.len() == KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(piece);
    }

    /// What the receiver misses, if it is worth sending again.
    pub fn lost(&self, number: u64) -> Option<Piece> {
        let kept = self.sent.iter().rev().filter(|_| number >= self.kept_from);
        kept.copied().find(|piece| piece.number == number)
    }
}
