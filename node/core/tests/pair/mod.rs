//! A room over two routers: a camera at the one, and what lies between.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::forward::EncodingSet;
use pipemesh_node_core::layer::LayerRates;
use pipemesh_node_core::router::relay::{Alias, Interest, Port, RelayedReport, Stamp};
use pipemesh_node_core::router::{
    Gathered, LayerWish, Output, Router, Source, SubscriptionKey, TrackKey,
};

use crate::sim::{self, Camera, Person, Received, Rng, Room, forward, media};

pub const FRAME: Duration = Duration::from_millis(40);
pub const TAKER: Port = Port(1);
pub const ALIAS: Alias = Alias(77);

/// A packet between the routers.
pub struct Passed {
    pub encoding: u8,
    pub stamp: Stamp,
    pub repaired: bool,
    pub packet: Vec<u8>,
}

/// What the routers tell each other; nothing of it is lost.
pub enum ToTaker {
    Live(EncodingSet),
    Rates(LayerRates),
    Muted(bool),
    Report(RelayedReport),
}

pub enum ToOrigin {
    Interest(Interest),
    KeyFrame(u8),
    Packets(u8, Vec<u64>),
}

/// When what is on its way arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Everything after each frame, words first.
    Frames,
    /// Everything after each packet.
    Packets,
    /// Packets at once, words after each frame.
    SlowWords,
}

/// Two routers, a camera at the one, and what lies between.
pub struct Pair {
    pub now: Instant,
    pub rng: Rng,
    pub origin: Router<Room, Person>,
    pub taker: Router<Room, Person>,
    pub here: TrackKey,
    pub there: TrackKey,
    pub camera: Camera,
    pub pace: Pace,
    pub ring: VecDeque<Passed>,
    /// Packets the ring holds at most; they are taken out once a frame.
    pub room: usize,
    /// An encoding for which the way has no room.
    pub suspended: Option<u8>,
    /// An encoding whose packets are on their way for longer, and those that are.
    pub held: Option<(u8, Vec<Passed>)>,
    /// Percent of the packets that do not get through although there is room.
    pub loss: u64,
    pub to_taker: VecDeque<ToTaker>,
    pub to_origin: VecDeque<ToOrigin>,
    pub beside: BTreeMap<SubscriptionKey, Vec<Received>>,
    pub far: BTreeMap<SubscriptionKey, Vec<Received>>,
    /// Key frames the camera was asked for, by encoding.
    pub asked: BTreeMap<u8, u64>,
    /// Packets that went into the ring, by encoding.
    pub passed: BTreeMap<u8, u64>,
    pub dropped: u64,
    /// Percent of the packets that are left out at the origin.
    pub left_out: u64,
    /// Packets the taker asked for.
    pub missed: usize,
    /// What is asked for arrives before what is said.
    pub requests_overtake: bool,
    /// What the publisher was told to be of use.
    pub demands: Vec<u8>,
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        let now = sim::Sim::new(0).now;
        let mut rng = Rng(seed);
        let mut origin = Router::new(now);
        let mut taker = Router::new(now);
        let here = origin.publish(Camera::spec(1, 1), now);
        let there = taker.publish(Camera::spec(1, 1), now);
        assert!(origin.relay(here, TAKER, ALIAS, Interest::default(), now));
        taker.set_live(there, origin.live(here), now);
        let camera = Camera::new(here, &mut rng);
        Self {
            now,
            rng,
            origin,
            taker,
            here,
            there,
            camera,
            pace: Pace::Frames,
            ring: VecDeque::new(),
            room: usize::MAX,
            suspended: None,
            held: None,
            loss: 0,
            to_taker: VecDeque::new(),
            to_origin: VecDeque::new(),
            beside: BTreeMap::new(),
            far: BTreeMap::new(),
            asked: BTreeMap::new(),
            passed: BTreeMap::new(),
            dropped: 0,
            left_out: 0,
            missed: 0,
            requests_overtake: false,
            demands: Vec::new(),
        }
    }

    pub fn first(&mut self) -> u64 {
        self.rng.below(1 << 15)
    }

    pub fn subscribe_beside(&mut self, wish: LayerWish) -> SubscriptionKey {
        let first = self.first();
        let key = self
            .origin
            .subscribe(self.here, wish, Codec::Vp8, first, self.now);
        let key = key.unwrap();
        self.beside.insert(key, Vec::new());
        self.settle();
        key
    }

    pub fn subscribe_far(&mut self, wish: LayerWish) -> SubscriptionKey {
        let first = self.first();
        let key = self
            .taker
            .subscribe(self.there, wish, Codec::Vp8, first, self.now);
        let key = key.unwrap();
        self.far.insert(key, Vec::new());
        self.settle();
        key
    }

    pub fn far_encoding(&self, key: SubscriptionKey) -> Option<u8> {
        let layer = self.taker.current_layer(key)?;
        Some(layer.spatial)
    }

    pub fn unsubscribe_far(&mut self, key: SubscriptionKey) {
        self.taker.unsubscribe(key, self.now);
        self.settle();
    }

    pub fn set_muted(&mut self, muted: bool) {
        self.origin.set_muted(self.here, muted, self.now);
        self.to_taker.push_back(ToTaker::Muted(muted));
        self.settle();
    }

    /// The camera goes on under other SSRCs.
    pub fn restart(&mut self) {
        self.settle();
        self.camera = Camera::new(self.here, &mut self.rng);
        for encoding in 0..3 {
            let source = self.source(encoding);
            self.origin.restart(source, self.now);
        }
        self.settle();
    }

    /// The way has no room for an encoding, or has again; what was held arrives after the taker has heard it.
    pub fn suspend(&mut self, encoding: Option<u8>) {
        self.suspended = encoding;
        let mut live = self.origin.live(self.here);
        encoding.into_iter().for_each(|it| live.remove(it));
        self.to_taker.push_back(ToTaker::Live(live));
        self.settle();
        for passed in self.held.take().into_iter().flat_map(|(_, held)| held) {
            self.take(&passed);
        }
        self.settle();
    }

    pub fn source(&self, encoding: u8) -> Source {
        Source {
            track: self.here,
            encoding,
        }
    }

    /// Frames at 25 a second, timers running in between.
    pub fn run(&mut self, frames: u32) {
        for _ in 0..frames {
            let next = self.now + FRAME;
            loop {
                let timers = [self.origin.poll_timeout(), self.taker.poll_timeout()];
                let Some(at) = timers.into_iter().flatten().min().filter(|at| *at <= next) else {
                    break;
                };
                self.now = self.now.max(at);
                self.origin.handle_timeout(self.now);
                self.taker.handle_timeout(self.now);
                self.settle();
            }
            self.now = next;
            for (encoding, packet) in self.camera.frame(FRAME) {
                self.receive(encoding, &packet);
                match self.pace {
                    Pace::Frames => {}
                    Pace::Packets => self.settle(),
                    Pace::SlowWords => self.cross(),
                }
            }
            self.settle();
        }
    }

    /// A packet of the camera's arrives at the origin.
    pub fn receive(&mut self, encoding: u8, packet: &[u8]) {
        let source = self.source(encoding);
        let media = media(packet, false);
        if self.rng.chance(self.left_out) {
            if !self.origin.is_torn(source) {
                forward(&mut self.origin, self.now, &mut self.beside);
            }
            let sequence = media.header.sequence;
            return self.origin.leave_out(source, sequence, self.now);
        }
        let accepted = self.origin.handle_media(source, media, self.now);
        let Ok(gathered) = accepted else {
            return;
        };
        let (ring, rng, room) = (&mut self.ring, &mut self.rng, self.room);
        let (loss, passed, dropped) = (self.loss, &mut self.passed, &mut self.dropped);
        let is_suspended = self.suspended == Some(encoding);
        let mut held = self.held.as_mut().filter(|(held, _)| *held == encoding);
        self.origin
            .pass_on(source, media.header.sequence, |port, alias, stamp| {
                assert_eq!((port, alias), (TAKER, ALIAS));
                if is_suspended || ring.len() >= room || rng.chance(loss) {
                    *dropped += 1;
                    return false;
                }
                *passed.entry(encoding).or_default() += 1;
                let passing = Passed {
                    encoding,
                    stamp,
                    repaired: false,
                    packet: packet.to_vec(),
                };
                match &mut held {
                    Some((_, held)) => held.push(passing),
                    None => ring.push_back(passing),
                }
                true
            });
        if gathered == Gathered::Full {
            forward(&mut self.origin, self.now, &mut self.beside);
        }
    }

    /// Everything that is on its way arrives.
    pub fn settle(&mut self) {
        loop {
            forward(&mut self.origin, self.now, &mut self.beside);
            forward(&mut self.taker, self.now, &mut self.far);
            self.poll();
            let mut any = false;
            while let Some(message) = self.to_taker.pop_front() {
                any = true;
                match message {
                    ToTaker::Rates(rates) => self.taker.set_rates(self.there, &rates),
                    ToTaker::Live(live) => self.taker.set_live(self.there, live, self.now),
                    ToTaker::Muted(muted) => self.taker.set_muted(self.there, muted, self.now),
                    ToTaker::Report(report) => {
                        self.taker
                            .handle_relayed_report(self.there, &report, self.now);
                    }
                }
            }
            if self.requests_overtake {
                let is_word = |message: &ToOrigin| matches!(message, ToOrigin::Interest(_));
                self.to_origin.make_contiguous().sort_by_key(is_word);
            }
            while let Some(message) = self.to_origin.pop_front() {
                any = true;
                self.handle_at_origin(message);
            }
            any |= !self.ring.is_empty();
            self.cross();
            if !any {
                return;
            }
        }
    }

    /// The packets that are on their way arrive.
    pub fn cross(&mut self) {
        while let Some(passed) = self.ring.pop_front() {
            self.take(&passed);
        }
        forward(&mut self.taker, self.now, &mut self.far);
    }

    pub fn handle_at_origin(&mut self, message: ToOrigin) {
        match message {
            ToOrigin::Interest(interest) => {
                let now = self.now;
                assert!(self.origin.relay(self.here, TAKER, ALIAS, interest, now));
                let Self { origin, ring, .. } = self;
                let (passed, room) = (&mut self.passed, self.room);
                origin.catch_up(self.here, TAKER, |encoding, packet, port, alias, stamp| {
                    assert_eq!((port, alias), (TAKER, ALIAS));
                    let is_room = ring.len() < room;
                    if is_room {
                        *passed.entry(encoding).or_default() += 1;
                        ring.push_back(Passed {
                            encoding,
                            stamp,
                            repaired: false,
                            packet: packet.to_vec(),
                        });
                    }
                    is_room
                });
            }
            ToOrigin::KeyFrame(encoding) => {
                let source = self.source(encoding);
                let now = self.now;
                self.origin
                    .handle_relayed_key_frame_request(source, TAKER, now);
            }
            ToOrigin::Packets(encoding, numbers) => {
                for number in numbers {
                    let source = self.source(encoding);
                    if let Some((packet, stamp)) = self.origin.repair(source, number)
                        && !self.rng.chance(self.loss)
                    {
                        self.ring.push_back(Passed {
                            encoding,
                            stamp,
                            repaired: true,
                            packet: packet.to_vec(),
                        });
                    }
                }
            }
        }
    }

    pub fn take(&mut self, passed: &Passed) {
        let source = Source {
            track: self.there,
            encoding: passed.encoding,
        };
        if self.taker.breaks_off(source, passed.stamp) {
            forward(&mut self.taker, self.now, &mut self.far);
        }
        if !self.taker.accept(source, passed.stamp, self.now) {
            return;
        }
        let media = media(&passed.packet, passed.repaired);
        let gathered = self.taker.handle_media(source, media, self.now);
        if gathered == Ok(Gathered::Full) {
            forward(&mut self.taker, self.now, &mut self.far);
        }
    }

    pub fn poll(&mut self) {
        while let Some(output) = self.origin.poll_output() {
            match output {
                Output::RequestKeyFrame(source) => {
                    *self.asked.entry(source.encoding).or_default() += 1;
                    self.camera.request_key_frame(source.encoding);
                }
                Output::LiveChanged(key) => {
                    let live = self.origin.live(key);
                    self.to_taker.push_back(ToTaker::Live(live));
                }
                Output::RatesMeasured(key) => {
                    let rates = self.origin.layer_rates(key).unwrap();
                    self.to_taker.push_back(ToTaker::Rates(rates));
                }
                Output::DemandChanged(_, encodings) => self.demands.push(encodings),
                Output::RequestPackets(_)
                | Output::SpeakersChanged(..)
                | Output::InterestChanged(..) => {}
            }
        }
        while let Some(output) = self.taker.poll_output() {
            match output {
                Output::RequestKeyFrame(source) => {
                    self.to_origin
                        .push_back(ToOrigin::KeyFrame(source.encoding));
                }
                Output::RequestPackets(source) => {
                    let mut sequences = Vec::new();
                    self.taker.take_lost(source, &mut sequences);
                    self.missed += sequences.len();
                    let numbers = sequences
                        .iter()
                        .filter_map(|number| self.taker.extend(source, *number));
                    let numbers = numbers.collect();
                    self.to_origin
                        .push_back(ToOrigin::Packets(source.encoding, numbers));
                }
                Output::InterestChanged(key) => {
                    let interest = self.taker.interest(key);
                    self.to_origin.push_back(ToOrigin::Interest(interest));
                }
                Output::DemandChanged(..) => panic!("the publisher is the origin's"),
                Output::RatesMeasured(..) => panic!("they were measured at the origin"),
                Output::SpeakersChanged(..) | Output::LiveChanged(..) => {}
            }
        }
    }

    pub fn passed(&self) -> u64 {
        self.passed.values().sum()
    }
}
