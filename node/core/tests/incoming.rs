//! A publisher that can only be told what its way can take (REMB): an encoder that follows what it is told,
//! behind a path that is narrow, widens, and loses.

#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod path;
mod sim;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use path::TICK;
use path::link::{Content, Link, Packet};
use pipemesh_node_core::bandwidth::Limits;
use pipemesh_node_core::bandwidth::incoming::IncomingBandwidth;
use pipemesh_node_core::units::{Bitrate, DataSize};
use sim::{Rng, with_seeds};

const SECOND: Duration = Duration::from_secs(1);
const FRAME: u64 = 33;
const AUDIO: u64 = 20;
const AUDIO_SIZE: u16 = 130;
const LARGEST: u64 = 1_200;
/// The node looks so often what there is to tell.
const REPORT: u64 = 50;

fn kbps(rate: u64) -> Bitrate {
    Bitrate::from_kbps(rate)
}

/// A publisher and its way to the node.
struct Uplink {
    start: Instant,
    now: Instant,
    link: Link,
    incoming: IncomingBandwidth,
    rng: Rng,
    /// What the encoder would send.
    wanted: Bitrate,
    /// … and was told, or begins with.
    told: Bitrate,
    tellings: u32,
    /// On their way back.
    back: VecDeque<(Instant, Bitrate)>,
    /// The send times of what is under way, by number.
    sent: VecDeque<Instant>,
    first: u64,
    arrived: u64,
    /// The number behind the highest that arrived.
    reached: u64,
    /// Both when loss was last reported.
    reported: (u64, u64),
    delivered: DataSize,
    worst_queue: Duration,
    /// By its clock everything happens so much later.
    clock: Duration,
}

impl Uplink {
    fn new(seed: u64, capacity: Bitrate, wanted: Bitrate) -> Self {
        let now = Instant::now();
        let mut rng = Rng(seed);
        Self {
            start: now,
            now,
            link: Link::new(capacity),
            incoming: IncomingBandwidth::new(Limits::default(), now),
            wanted,
            told: kbps(300),
            tellings: 0,
            back: VecDeque::new(),
            sent: VecDeque::new(),
            first: 0,
            arrived: 0,
            reached: 0,
            reported: (0, 0),
            delivered: DataSize::ZERO,
            worst_queue: Duration::ZERO,
            clock: Duration::from_millis(rng.below(64_000)),
            rng,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// What arrived from now on, and how long it waited at worst.
    fn watch(&mut self, time: Duration) -> (Bitrate, Duration) {
        (self.delivered, self.worst_queue) = (DataSize::ZERO, Duration::ZERO);
        self.run(time);
        (self.delivered.over(time).unwrap(), self.worst_queue)
    }

    fn step(&mut self) {
        let millis = (self.now - self.start).as_millis() as u64;
        while let Some(&(at, rate)) = self.back.front()
            && at <= self.now
        {
            self.told = rate;
            self.back.pop_front();
        }
        if millis.is_multiple_of(AUDIO) {
            self.send(AUDIO_SIZE.into());
        }
        if millis.is_multiple_of(FRAME) {
            // Encoders stay a little below, and no two frames are alike.
            let rate = self
                .told
                .min(self.wanted)
                .saturating_sub(kbps(52))
                .scale(0.93);
            let size = rate.during(Duration::from_millis(FRAME)).as_bytes();
            let size = size * (70 + self.rng.below(60)) / 100;
            let parts = size.div_ceil(LARGEST).max(1);
            (0..parts).for_each(|_| self.send(size / parts));
        }
        for arrival in self.link.tick(self.now, &mut self.rng) {
            self.worst_queue = self.worst_queue.max(arrival.queued);
            self.delivered += DataSize::from_bytes(arrival.packet.size.into());
            self.arrived += 1;
            let sequence = arrival.packet.sequence.unwrap();
            let age = (self.next() as u16).wrapping_sub(sequence);
            self.reached = self.reached.max(self.next() - u64::from(age) + 1);
            let sent = self.sent[self.sent.len() - usize::from(age)];
            let stamp = stamp(sent - self.start + self.clock);
            self.incoming
                .handle_packet(stamp, arrival.packet.size, self.now);
        }
        if millis.is_multiple_of(REPORT)
            && let Some(rate) = self.incoming.poll_report(self.now)
        {
            self.tellings += 1;
            if std::env::var("LOG").is_ok() {
                eprintln!(
                    "{:6.2} s told {:5} k, link {:5} k, queue {:4} ms",
                    millis as f64 / 1000.0,
                    rate.as_bps() / 1000,
                    self.link.capacity.as_bps() / 1000,
                    self.link.delay_of_queue().as_millis(),
                );
            }
            self.back.push_back((self.now + self.link.delay, rate));
        }
        if millis.is_multiple_of(1_000) {
            self.report_loss();
        }
        self.now += TICK;
    }

    fn next(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    fn send(&mut self, size: u64) {
        let packet = Packet {
            sequence: Some(self.next() as u16),
            size: size as u16,
            content: Content::Padding,
            flow: 0,
        };
        self.sent.push_back(self.now);
        if self.sent.len() > 10_000 {
            self.sent.pop_front();
            self.first += 1;
        }
        self.link.send(packet, self.now, &mut self.rng);
    }

    /// As a receiver report has it.
    fn report_loss(&mut self) {
        let now = (self.reached, self.arrived);
        let (reached, arrived) = std::mem::replace(&mut self.reported, now);
        let expected = self.reached - reached;
        let lost = expected.saturating_sub(self.arrived - arrived);
        if expected > 0 {
            let share = lost as f32 / expected as f32;
            self.incoming.handle_loss(share, self.now);
        }
    }
}

/// Seconds, 6.18 fixed point.
fn stamp(at: Duration) -> [u8; 3] {
    let units = (at.as_micros() << 18) / 1_000_000;
    let [.., high, middle, low] = (units as u32).to_be_bytes();
    [high, middle, low]
}

#[test]
fn a_wide_way_is_filled_within_five_seconds() {
    with_seeds(8, |seed| {
        let mut uplink = Uplink::new(seed, kbps(20_000), kbps(2_500));
        uplink.run(5 * SECOND);
        let (rate, queue) = uplink.watch(60 * SECOND);
        assert!(rate > kbps(2_200), "{rate:?}");
        assert!(queue < Duration::from_millis(20), "{queue:?}");
        assert!(uplink.told > kbps(2_500), "{:?}", uplink.told);
    });
}

#[test]
fn a_narrow_way_is_used_without_a_queue() {
    with_seeds(8, |seed| {
        for capacity in [400, 1_000, 3_000] {
            let mut uplink = Uplink::new(seed, kbps(capacity), kbps(5_000));
            uplink.run(15 * SECOND);
            let (rate, queue) = uplink.watch(60 * SECOND);
            assert!(rate > kbps(capacity * 7 / 10), "{rate:?} of {capacity}");
            assert!(
                queue < Duration::from_millis(350),
                "{queue:?} at {capacity}"
            );
            assert_eq!(uplink.link.dropped_audio, 0);
        }
    });
}

#[test]
fn a_way_that_narrows_is_followed_within_two_seconds_and_one_that_widens_within_ten() {
    with_seeds(8, |seed| {
        let mut uplink = Uplink::new(seed, kbps(3_000), kbps(2_500));
        uplink.run(20 * SECOND);
        uplink.link.capacity = kbps(600);
        uplink.run(2 * SECOND);
        assert!(uplink.told < kbps(700), "{:?}", uplink.told);
        uplink.run(3 * SECOND);
        let (rate, queue) = uplink.watch(10 * SECOND);
        assert!(rate > kbps(380), "{rate:?}");
        assert!(queue < Duration::from_millis(350), "{queue:?}");
        uplink.link.capacity = kbps(3_000);
        uplink.run(10 * SECOND);
        assert!(uplink.told > kbps(1_000), "{:?}", uplink.told);
        uplink.run(20 * SECOND);
        let (rate, _) = uplink.watch(10 * SECOND);
        assert!(rate > kbps(2_000), "{rate:?}");
    });
}

#[test]
fn jitter_and_a_little_loss_are_no_limit() {
    with_seeds(8, |seed| {
        let mut uplink = Uplink::new(seed, kbps(20_000), kbps(2_500));
        uplink.link.jitter = Duration::from_millis(15);
        uplink.link.loss = 3;
        uplink.run(10 * SECOND);
        let (rate, _) = uplink.watch(60 * SECOND);
        assert!(rate > kbps(2_000), "{rate:?}");
    });
}

/// A policer drops what is too much and delays nothing.
#[test]
fn what_is_lost_without_a_queue_is_seen() {
    with_seeds(8, |seed| {
        let mut uplink = Uplink::new(seed, kbps(20_000), kbps(2_500));
        uplink.run(10 * SECOND);
        uplink.link.loss = 40;
        uplink.run(5 * SECOND);
        assert!(uplink.told < kbps(2_000), "{:?}", uplink.told);
    });
}

#[test]
fn who_was_silent_for_long_goes_on_where_it_was() {
    with_seeds(8, |seed| {
        let mut uplink = Uplink::new(seed, kbps(20_000), kbps(2_500));
        uplink.run(10 * SECOND);
        let told = uplink.told;
        uplink.now += 100 * SECOND + Duration::from_millis(seed % 1_000);
        uplink.run(2 * SECOND);
        assert!(uplink.told > told.scale(0.8), "{told:?}, {:?}", uplink.told);
        let tellings = uplink.tellings;
        uplink.run(10 * SECOND);
        let tellings = uplink.tellings - tellings;
        assert!((35..=60).contains(&tellings), "told {tellings} times");
    });
}
