//! What the core does for a packet allocates nothing, also where packets get lost all the time, on both
//! sides, and where every packet describes its layers anew.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::alloc::System;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::{LayerWish, Media, Output, Router, Source, SubscriptionKey};
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};
use pipemesh_node_media::alloc::{Counting, allocations};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

const FRAME: Duration = Duration::from_millis(33);
const ROUND_TRIP: Duration = Duration::from_millis(40);
const PACKETS_PER_FRAME: u16 = 8;
const LOSS: f64 = 0.05;
const SUBSCRIBERS: usize = 4;
/// Until everything has grown to what it needs: caches hold a second, lists as many losses as there are
/// at the worst moment.
const WARM_UP: u32 = 6_000;
const FRAMES: u32 = 6_000;

#[derive(Debug, Clone)]
struct Packet {
    bytes: Vec<u8>,
    dependency: Option<Vec<u8>>,
}

/// A camera, a router, and viewers, with a lossy network on both sides.
struct Scene {
    router: Router<u8, u8>,
    source: Source,
    codec: Codec,
    now: Instant,
    random: StdRng,
    frame: u32,
    sequence: u16,
    is_key_wanted: bool,
    sent: VecDeque<(u16, Packet)>,
    /// Retransmissions on their way to the router.
    repairs: VecDeque<(Instant, u16)>,
    /// What viewers are about to ask for.
    nacks: Vec<(Instant, SubscriptionKey, u16)>,
    lost: Vec<u16>,
    /// Allocations in calls of the router.
    allocated: u64,
    asked: u64,
    repaired: u64,
    forwarded: u64,
    resent: u64,
}

impl Scene {
    fn new(codec: Codec) -> Self {
        let now = Instant::now();
        let mut router = Router::new(now);
        let spec = TrackSpec {
            room: 1,
            participant: 1,
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 1,
            sizes: vec![Size::default()],
        };
        let track = router.publish(spec, now);
        for _ in 0..SUBSCRIBERS {
            let subscribed = router.subscribe(track, LayerWish::default(), codec, 1, now);
            subscribed.unwrap();
        }
        Self {
            router,
            source: Source { track, encoding: 0 },
            codec,
            now,
            random: StdRng::seed_from_u64(5),
            frame: 0,
            sequence: 60_000,
            is_key_wanted: true,
            sent: VecDeque::new(),
            repairs: VecDeque::new(),
            nacks: Vec::with_capacity(10_000),
            lost: Vec::new(),
            allocated: 0,
            asked: 0,
            repaired: 0,
            forwarded: 0,
            resent: 0,
        }
    }

    fn run(&mut self, frames: u32) {
        for _ in 0..frames {
            let next = self.now + FRAME;
            self.advance(next);
            let is_key = std::mem::take(&mut self.is_key_wanted);
            for place in 0..PACKETS_PER_FRAME {
                let packet = self.packet(place, is_key);
                if !self.random.random_bool(LOSS) {
                    self.deliver(&packet, false);
                }
                self.sent.push_back((self.sequence, packet));
                self.sequence = self.sequence.wrapping_add(1);
            }
            while self.sent.len() > 1_000 {
                self.sent.pop_front();
            }
            self.forward();
            self.frame += 1;
        }
    }

    fn packet(&self, place: u16, is_key: bool) -> Packet {
        let is_last = place + 1 == PACKETS_PER_FRAME;
        let header = OutgoingHeader {
            padding: false,
            marker: is_last,
            payload_type: 96,
            sequence: self.sequence,
            timestamp: self.frame.wrapping_mul(2_970),
            ssrc: 7,
        };
        let mut bytes = vec![0; 1_000];
        let len = HeaderWriter::new(&mut bytes, header).unwrap().finish();
        let starts = place == 0;
        let payload = match self.codec {
            Codec::Vp8 => {
                let [high, low] = (self.frame as u16 | 0x8000).to_be_bytes();
                let first = 0x80 | u8::from(starts) << 4;
                [first, 0x80, high, low, u8::from(!is_key)]
            }
            _ => [
                u8::from(!starts) << 7 | u8::from(starts && is_key) << 3,
                0,
                0,
                0,
                0,
            ],
        };
        let at = len.unwrap();
        bytes[at..at + payload.len()].copy_from_slice(&payload);
        let dependency =
            (self.codec == Codec::Av1).then(|| self.descriptor(starts, is_last, is_key));
        Packet { bytes, dependency }
    }

    /// Two temporal layers, described whole with every packet.
    fn descriptor(&self, starts: bool, ends: bool, is_key: bool) -> Vec<u8> {
        let template = match (is_key, self.frame % 2) {
            (true, _) => 0,
            (false, 0) => 1,
            (false, _) => 2,
        };
        let text = format!(
            "{}{}{template:06b}{:016b} 10000 000000 00001 00 01 11 1010 1010 0001 0 1 0001 0 1 0000 0 0 0",
            u8::from(starts),
            u8::from(ends),
            self.frame as u16,
        );
        let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
        let byte = |bits: &[u8]| {
            let value = bits.iter().fold(0, |byte, bit| byte << 1 | bit & 1);
            value << (8 - bits.len())
        };
        bits.chunks(8).map(byte).collect()
    }

    /// Time passes: timers fire, and what was asked for arrives.
    fn advance(&mut self, until: Instant) {
        loop {
            let timer = self.router.poll_timeout();
            let repair = self.repairs.front().map(|(at, _)| *at);
            let next = timer.into_iter().chain(repair).min();
            let Some(at) = next.filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            while let Some((_, sequence)) = self.repairs.pop_front_if(|(at, _)| *at <= self.now) {
                let packet = self.sent.iter().find(|(number, _)| *number == sequence);
                if let Some((_, packet)) = packet.cloned() {
                    self.deliver(&packet, true);
                    self.repaired += 1;
                }
            }
            let (router, now) = (&mut self.router, self.now);
            counted(&mut self.allocated, || router.handle_timeout(now));
            self.forward();
            self.poll();
        }
        self.now = until;
        let due = self.nacks.extract_if(.., |(at, ..)| *at <= until);
        for (_, key, sequence) in due {
            let router = &mut self.router;
            let is_resent = counted(&mut self.allocated, || {
                router.handle_loss(key, sequence, ROUND_TRIP, until).is_ok()
            });
            self.resent += u64::from(is_resent);
        }
    }

    fn deliver(&mut self, packet: &Packet, repaired: bool) {
        let media = Media {
            codec: self.codec,
            header: Header::parse(&packet.bytes).unwrap(),
            packet: &packet.bytes,
            audio_level: None,
            dependency: packet.dependency.as_deref(),
            repaired,
            in_place: false,
        };
        let (router, source, now) = (&mut self.router, self.source, self.now);
        // A duplicate is refused.
        let _ = counted(&mut self.allocated, || {
            router.handle_media(source, media, now)
        });
    }

    fn forward(&mut self) {
        let Self {
            router,
            nacks,
            random,
            now,
            forwarded,
            ..
        } = self;
        let outcome = counted(&mut self.allocated, || {
            router.forward(*now, |burst| {
                while let Some(key) = burst.next_subscriber() {
                    let forwards = burst.forwards();
                    *forwarded += forwards.len() as u64;
                    for forward in forwards {
                        if random.random_bool(LOSS) {
                            let sequence = forward.rewrite.sequence as u16;
                            nacks.push((*now + ROUND_TRIP, key, sequence));
                        }
                    }
                }
            })
        });
        assert_eq!(outcome, Ok(()));
    }

    fn poll(&mut self) {
        loop {
            let router = &mut self.router;
            let Some(output) = counted(&mut self.allocated, || router.poll_output()) else {
                return;
            };
            match output {
                Output::RequestKeyFrame(_) => self.is_key_wanted = true,
                Output::RequestPackets(source) => {
                    let (router, lost) = (&mut self.router, &mut self.lost);
                    counted(&mut self.allocated, || router.take_lost(source, lost));
                    self.asked += self.lost.len() as u64;
                    for sequence in &self.lost {
                        if !self.random.random_bool(LOSS) {
                            self.repairs.push_back((self.now + ROUND_TRIP, *sequence));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn counted<T>(allocated: &mut u64, act: impl FnOnce() -> T) -> T {
    let before = allocations();
    let answer = act();
    *allocated += allocations() - before;
    answer
}

#[test]
fn nothing_is_allocated_for_packets_where_five_in_a_hundred_are_lost() {
    for codec in [Codec::Vp8, Codec::Av1] {
        let mut scene = Scene::new(codec);
        scene.run(WARM_UP);
        (scene.allocated, scene.asked, scene.repaired) = (0, 0, 0);
        (scene.forwarded, scene.resent) = (0, 0);
        scene.run(FRAMES);
        let packets = f64::from(FRAMES) * f64::from(PACKETS_PER_FRAME);
        assert!(scene.asked as f64 > packets * LOSS * 0.9, "{}", scene.asked);
        assert!(scene.repaired as f64 > packets * LOSS * 0.8);
        let copies = packets * SUBSCRIBERS as f64;
        let (forwarded, resent) = (scene.forwarded as f64, scene.resent as f64);
        assert!(forwarded > copies * 0.9, "{forwarded} of {copies}");
        assert!(resent > forwarded * LOSS * 0.8, "{resent} of {forwarded}");
        assert_eq!(scene.allocated, 0, "{codec:?}");
    }
}
