//! A virtual room: publishers that encode, receivers that check what no receiver may ever see, and a
//! clock that jumps. Everything random comes from one seed, which is printed when a test fails.

#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::{Codec, vp8};
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::{
    Gathered, LayerWish, Media, Output, Packet, Router, Source, SubscriptionKey, TrackKey,
};
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};

pub type Room = u32;
pub type Person = u32;

/// Splitmix64: a few lines of randomness that never change under us.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Runs `test` with a seed and prints it if the test fails. `SEED` repeats one.
pub fn with_seeds(count: u64, test: impl Fn(u64)) {
    struct Printer(u64);
    impl Drop for Printer {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SEED={}", self.0);
            }
        }
    }
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=count).collect(),
    };
    for seed in seeds {
        let _printer = Printer(seed);
        test(seed);
    }
}

/// A camera with simulcast: per encoding its own numbers, timestamps and picture ids.
#[derive(Debug)]
pub struct Camera {
    pub key: TrackKey,
    /// Three temporal layers in each encoding.
    pub temporal: bool,
    encodings: Vec<Encoder>,
}

#[derive(Debug)]
struct Encoder {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    key_frame_due: bool,
    pub sending: bool,
    packets_per_frame: u64,
    /// Counts frames.
    frame: u32,
    /// Since the last key frame.
    place: usize,
    /// Newest frame of the base layer, and newest one that is not of the highest.
    base: u32,
    lower: u32,
}

impl Camera {
    pub fn spec(room: Room, participant: Person) -> TrackSpec<Room, Person> {
        let size = |width, height| Size { width, height };
        TrackSpec {
            room,
            participant,
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 3,
            sizes: vec![size(320, 180), size(640, 360), size(1280, 720)],
        }
    }

    pub fn new(key: TrackKey, rng: &mut Rng) -> Self {
        let encodings = (0..3)
            .map(|index| Encoder {
                sequence: rng.next() as u16,
                timestamp: rng.next() as u32,
                picture: rng.next() as u16 & 0x7FFF,
                tl0: rng.next() as u8,
                key_frame_due: true,
                sending: true,
                packets_per_frame: 1 + 2 * index,
                frame: 0,
                place: 0,
                base: 0,
                lower: 0,
            })
            .collect();
        Self {
            key,
            temporal: false,
            encodings,
        }
    }

    pub fn request_key_frame(&mut self, encoding: u8) {
        self.encodings[usize::from(encoding)].key_frame_due = true;
    }

    pub fn set_sending(&mut self, encoding: u8, sending: bool) {
        self.encodings[usize::from(encoding)].sending = sending;
        self.encodings[usize::from(encoding)].key_frame_due = true;
    }

    /// What an encoder does that is told so: those it starts begin with a key frame.
    pub fn send_only(&mut self, encodings: u8) {
        for (index, encoder) in self.encodings.iter_mut().enumerate() {
            let sending = index < usize::from(encodings);
            encoder.key_frame_due |= sending && !encoder.sending;
            encoder.sending = sending;
        }
    }

    /// One frame of every encoding that is being sent: (encoding, packet).
    pub fn frame(&mut self, elapsed: Duration) -> Vec<(u8, Vec<u8>)> {
        let mut packets = Vec::new();
        for (index, encoder) in self.encodings.iter_mut().enumerate() {
            encoder.timestamp = encoder
                .timestamp
                .wrapping_add((elapsed.as_millis() * 90) as u32);
            if !encoder.sending {
                continue;
            }
            encoder.picture = (encoder.picture + 1) & 0x7FFF;
            let key = std::mem::take(&mut encoder.key_frame_due);
            let (layer, needs) = encoder.next_frame(key, self.temporal);
            let count = encoder.packets_per_frame + if key { 4 } else { 0 };
            for packet in 0..count {
                encoder.sequence = encoder.sequence.wrapping_add(1);
                let mut bytes = vec![0; 12 + 7 + 40];
                let header = OutgoingHeader {
                    padding: false,
                    marker: packet + 1 == count,
                    payload_type: 96,
                    sequence: encoder.sequence,
                    timestamp: encoder.timestamp,
                    ssrc: index as u32,
                };
                HeaderWriter::new(&mut bytes, header)
                    .unwrap()
                    .finish()
                    .unwrap();
                let first = if packet == 0 { 0x90 } else { 0x80 };
                let [high, low] = (0x8000 | encoder.picture).to_be_bytes();
                let inter = u8::from(!key);
                let truth = if let Some(layer) = layer {
                    let descriptor = [first, 0xE0, high, low, encoder.tl0, layer, inter];
                    bytes[12..19].copy_from_slice(&descriptor);
                    19
                } else {
                    bytes[12..18].copy_from_slice(&[first, 0xC0, high, low, encoder.tl0, inter]);
                    18
                };
                bytes[truth..truth + 4].copy_from_slice(&encoder.frame.to_be_bytes());
                bytes[truth + 4..truth + 8].copy_from_slice(&needs.to_be_bytes());
                packets.push((index as u8, bytes));
            }
        }
        packets
    }
}

impl Encoder {
    /// The layer byte of the descriptor, and which frame it needs; itself if it is a key frame.
    fn next_frame(&mut self, key: bool, temporal: bool) -> (Option<u8>, u32) {
        const PATTERN: [u8; 4] = [0, 2, 1, 2];
        const NEEDS_BASE_ONLY: u8 = 0x20;
        self.frame += 1;
        self.place = if key { 0 } else { self.place + 1 };
        let layer = if temporal {
            PATTERN[self.place % PATTERN.len()]
        } else {
            0
        };
        let needs = match layer {
            0 if key => self.frame,
            0 | 1 => self.base,
            _ => self.lower,
        };
        let sync = if layer > 0 && needs == self.base {
            NEEDS_BASE_ONLY
        } else {
            0
        };
        if layer == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
            self.base = self.frame;
        }
        if layer < 2 {
            self.lower = self.frame;
        }
        (temporal.then_some(layer << 6 | sync), needs)
    }
}

/// What a receiver gets, as it would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub starts_frame: bool,
    pub starts_key_frame: bool,
    pub picture: Option<u16>,
    pub tl0: Option<u8>,
    pub temporal: Option<u8>,
    /// The encoding it came from, its frame there and the one that needs; a receiver does not see this.
    pub encoding: u8,
    pub frame: u32,
    pub needs: u32,
}

/// A room run by one router.
pub struct Sim {
    pub now: Instant,
    pub router: Router<Room, Person>,
    pub rng: Rng,
    /// What each subscription got, in order.
    pub received: BTreeMap<SubscriptionKey, Vec<Received>>,
    pub key_frame_requests: BTreeMap<Source, u64>,
    /// Packets that were asked for.
    pub packet_requests: usize,
    /// Percent of the publisher's packets that never arrive.
    pub loss: u64,
    pub lost: BTreeMap<Source, Vec<Vec<u8>>>,
    /// How many encodings the publisher was told to send, and when.
    pub demands: Vec<(Instant, u8)>,
    /// Whether the publisher does so.
    pub obeys_demand: bool,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            router: Router::new(now),
            rng: Rng(seed),
            received: BTreeMap::new(),
            key_frame_requests: BTreeMap::new(),
            packet_requests: 0,
            loss: 0,
            lost: BTreeMap::new(),
            demands: Vec::new(),
            obeys_demand: false,
        }
    }

    pub fn camera(&mut self, room: Room, participant: Person) -> Camera {
        let key = self
            .router
            .publish(Camera::spec(room, participant), self.now);
        Camera::new(key, &mut self.rng)
    }

    pub fn current_encoding(&self, watcher: SubscriptionKey) -> Option<u8> {
        let layer = self.router.current_layer(watcher)?;
        Some(layer.spatial)
    }

    pub fn subscribe(&mut self, camera: &Camera, wish: LayerWish) -> SubscriptionKey {
        let first = self.rng.below(1 << 15);
        let key = self
            .router
            .subscribe(camera.key, wish, Codec::Vp8, first, self.now)
            .unwrap();
        self.received.insert(key, Vec::new());
        key
    }

    /// Lets the camera send frames at 25 a second, timers running in between.
    pub fn run(&mut self, camera: &mut Camera, frames: u32) {
        const FRAME: Duration = Duration::from_millis(40);
        for _ in 0..frames {
            let next = self.now + FRAME;
            self.advance(next, camera);
            for (encoding, packet) in camera.frame(FRAME) {
                let source = Source {
                    track: camera.key,
                    encoding,
                };
                if self.rng.chance(self.loss) {
                    self.lost.entry(source).or_default().push(packet);
                } else {
                    self.deliver(source, &packet, false);
                    // A receive batch ends anywhere.
                    if self.rng.chance(20) {
                        self.forward();
                    }
                }
            }
            self.forward();
            self.poll(camera);
        }
    }

    pub fn deliver(&mut self, source: Source, packet: &[u8], repaired: bool) {
        let media = media(packet, repaired);
        let taken = self.router.handle_media(source, media, self.now);
        if taken == Ok(Gathered::Full) {
            self.forward();
        }
    }

    /// What has gathered reaches the subscribers.
    pub fn forward(&mut self) {
        forward(&mut self.router, self.now, &mut self.received);
    }

    fn advance(&mut self, until: Instant, camera: &mut Camera) {
        while let Some(at) = self.router.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now);
            self.poll(camera);
        }
        self.now = until;
    }

    fn poll(&mut self, camera: &mut Camera) {
        while let Some(output) = self.router.poll_output() {
            match output {
                Output::RequestKeyFrame(source) => {
                    *self.key_frame_requests.entry(source).or_default() += 1;
                    if source.track == camera.key {
                        camera.request_key_frame(source.encoding);
                    }
                }
                Output::RequestPackets(source) => {
                    let mut sequences = Vec::new();
                    self.router.take_lost(source, &mut sequences);
                    self.packet_requests += sequences.len();
                    let lost = self.lost.remove(&source).unwrap_or_default();
                    let (asked, rest) = lost.into_iter().partition(|packet| {
                        sequences.contains(&Header::parse(packet).unwrap().sequence)
                    });
                    self.lost.insert(source, rest);
                    let asked: Vec<Vec<u8>> = asked;
                    for packet in asked {
                        self.deliver(source, &packet, true);
                    }
                    self.forward();
                }
                Output::DemandChanged(track, encodings) => {
                    self.demands.push((self.now, encodings));
                    if self.obeys_demand && track == camera.key {
                        camera.send_only(encodings);
                    }
                }
                Output::SpeakersChanged(..)
                | Output::InterestChanged(..)
                | Output::LiveChanged(..)
                | Output::RatesMeasured(..) => {}
            }
        }
    }
}

/// A packet as it arrived.
pub fn media(packet: &[u8], repaired: bool) -> Media<'_> {
    Media {
        codec: Codec::Vp8,
        header: Header::parse(packet).unwrap(),
        packet,
        audio_level: None,
        dependency: None,
        repaired,
        in_place: false,
    }
}

/// What a router has gathered reaches its subscribers.
pub fn forward(
    router: &mut Router<Room, Person>,
    now: Instant,
    received: &mut BTreeMap<SubscriptionKey, Vec<Received>>,
) {
    let forwarded = router.forward(now, |burst| {
        let packets: Vec<_> = burst.packets().collect();
        let encoding = burst.source().encoding;
        while let Some(key) = burst.next_subscriber() {
            let forwards = burst.forwards();
            let seen = forwards
                .iter()
                .map(|forward| seen(forward.rewrite, &packets[forward.packet], encoding));
            received.entry(key).or_default().extend(seen);
        }
    });
    assert_eq!(forwarded, Ok(()), "what gathers is forwarded");
}

fn seen(rewrite: Rewrite, packet: &Packet<'_>, encoding: u8) -> Received {
    let mut payload = packet.header.payload(packet.bytes).unwrap().to_vec();
    if let Some(ids) = packet.ids {
        ids.apply(rewrite.shift, &mut payload);
    }
    let descriptor = vp8::Descriptor::parse(&payload).unwrap();
    let truth = usize::from(descriptor.ids.len) + 1;
    let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    Received {
        sequence: rewrite.sequence,
        timestamp: rewrite.timestamp,
        marker: packet.header.marker,
        starts_frame: descriptor.starts_frame,
        starts_key_frame: descriptor.starts_key_frame,
        picture: descriptor.ids.picture(),
        tl0: descriptor.ids.tl0(),
        temporal: descriptor.temporal,
        encoding,
        frame: word(truth),
        needs: word(truth + 4),
    }
}

/// What a receiver may never see, whatever happens. `lossless`: nothing was lost on the way to us.
pub fn check_stream(received: &[Received], lossless: bool) {
    let Some(first) = received.first() else {
        return;
    };
    assert!(
        first.starts_key_frame,
        "the first packet begins a key frame"
    );
    assert!(
        first.sequence < 1 << 15,
        "the first number leaves the rollover counter clear"
    );
    let mut used = std::collections::BTreeSet::new();
    let frames: std::collections::BTreeSet<(u8, u32)> = received
        .iter()
        .map(|packet| (packet.encoding, packet.frame))
        .collect();
    let mut highest = first.clone();
    for (index, packet) in received.iter().enumerate() {
        assert!(
            used.insert(packet.sequence),
            "number {} is used twice",
            packet.sequence
        );
        if index == 0 {
            continue;
        }
        if packet.sequence < highest.sequence {
            assert!(!lossless, "packet {} is out of order", packet.sequence);
            continue;
        }
        if lossless {
            assert_eq!(packet.sequence, highest.sequence + 1, "a hole");
        }
        let step = packet.timestamp.wrapping_sub(highest.timestamp) as i32;
        assert!(step >= 0, "a timestamp goes back by {step}");
        if packet.encoding != highest.encoding {
            assert!(packet.starts_key_frame, "a switch without a key frame");
            assert!(step > 0, "a switch within a timestamp");
        }
        if packet.starts_frame && lossless {
            assert!(step > 0, "two frames of one timestamp");
            let expected = highest.picture.map(|picture| (picture + 1) & 0x7FFF);
            assert_eq!(packet.picture, expected, "picture ids");
            let is_base = packet.temporal.is_none_or(|layer| layer == 0);
            let step = u8::from(is_base);
            let expected = highest.tl0.map(|tl0| tl0.wrapping_add(step));
            assert_eq!(packet.tl0, expected, "base layer ids");
            let needs = (packet.encoding, packet.needs);
            let is_there = needs.1 == packet.frame || frames.contains(&needs);
            assert!(is_there, "{packet:?} cannot be decoded");
        }
        highest = packet.clone();
    }
}
