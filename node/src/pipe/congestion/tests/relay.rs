//! Publishers whose tracks go over a connection, through the schedule; and what the other end makes of it: it
//! asks again for what it misses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pipemesh_node_core::pipe::schedule::{Class, Event, Kind, Packet, Reason, Schedule};
use quinn_proto::{Dir, StreamId};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::world::{Pair, World};
use crate::pipe::transport::{SEND_BUFFER, media_size};

/// How often the sender wakes.
const TICK: Duration = Duration::from_millis(1);
const FRAME: Duration = Duration::from_millis(33);
const AUDIO_FRAME: Duration = Duration::from_millis(20);
const AUDIO_LEN: usize = 120;
const VIDEO_LEN: usize = 1_100;
/// A key frame, in other frames of its track.
const KEY_FRAME: usize = 4;
/// From the request to the key frame.
const ENCODER: Duration = Duration::from_millis(60);
const CONTROL_EVERY: Duration = Duration::from_millis(50);
const CONTROL_LEN: usize = 200;
const PADDING: u32 = u32::MAX;
/// Of a packet, in its payload: microseconds, its track, its number there.
const HEADER: usize = 16;
/// What is missing is asked for again after so long, and so many times.
const ASK_EVERY: Duration = Duration::from_millis(115);
const ASK: u8 = 3;
/// … the first time after so long: it may have been overtaken.
const REORDERED: Duration = Duration::from_millis(10);
/// Packets of a track that can be sent again.
const CACHE: usize = 512;

/// One layer of a track, or an audio track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    kind: Kind,
    /// Bits per second.
    rate: usize,
    /// It begins so long after the others.
    after: Duration,
}

impl Track {
    /// Without other layers.
    pub(super) fn single(rate: usize) -> Self {
        let kind = Kind::Video {
            layer: 0,
            layers: 1,
        };
        Self {
            kind,
            rate,
            after: Duration::ZERO,
        }
    }

    /// All of one publisher: 5 Mbit/s.
    pub(super) fn simulcast(after: Duration) -> [Self; 4] {
        let layer = |layer, rate| Self {
            kind: Kind::Video { layer, layers: 3 },
            rate,
            after,
        };
        let audio = Self {
            kind: Kind::Audio,
            rate: 48_000,
            after,
        };
        [
            audio,
            layer(0, 250_000),
            layer(1, 1_000_000),
            layer(2, 3_700_000),
        ]
    }
}

#[derive(Debug)]
struct Source {
    track: Track,
    next: Instant,
    offered: usize,
    /// That left: only they are numbered.
    left: u32,
    cache: VecDeque<(u32, Packet, Bytes)>,
    key_frame_at: Option<Instant>,
    suspended: bool,
    received: BTreeSet<u32>,
    /// Asked for when, and how many times.
    missing: BTreeMap<u32, (Instant, u8)>,
}

/// What waits in the schedule.
#[derive(Debug)]
pub(super) struct Outgoing {
    packet: Packet,
    bytes: Bytes,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) padding: u64,
}

pub(super) struct Relay {
    pub(super) schedule: Schedule<Outgoing>,
    pair: Pair,
    origin: Instant,
    sources: Vec<Source>,
    control: StreamId,
    control_next: Instant,
    unread: BytesMut,
    received: Received,
    latencies: BTreeMap<Class, Vec<Duration>>,
    packet: usize,
    rng: StdRng,
}

impl Relay {
    pub(super) fn new(world: &mut World, pair: Pair, tracks: Vec<Track>, seed: u64) -> Self {
        let now = world.now;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut schedule = Schedule::new(now);
        let mut sources = Vec::new();
        for (alias, track) in tracks.into_iter().enumerate() {
            schedule.open(alias as u32, track.kind, 0, now).unwrap();
            sources.push(Source {
                track,
                // They do not all encode at the same moment.
                next: now + track.after + TICK * rng.random_range(0..33),
                offered: 0,
                left: 0,
                cache: VecDeque::new(),
                key_frame_at: Some(now),
                suspended: false,
                received: BTreeSet::new(),
                missing: BTreeMap::new(),
            });
        }
        let connection = world.connection(pair.sender);
        let control = connection.streams().open(Dir::Bi).unwrap();
        let packet = media_size(connection.datagrams().max_size().unwrap());
        Self {
            schedule,
            pair,
            origin: now,
            sources,
            control,
            control_next: now,
            unread: BytesMut::new(),
            received: Received::default(),
            latencies: BTreeMap::new(),
            packet,
            rng,
        }
    }

    pub(super) fn run(&mut self, world: &mut World, time: Duration) {
        let end = world.now + time;
        while world.now < end {
            self.tick(world);
            world.run_until(world.now + TICK);
        }
        self.read(world);
    }

    pub(super) fn run_both(relays: &mut [Self; 2], world: &mut World, time: Duration) {
        let end = world.now + time;
        while world.now < end {
            for relay in relays.iter_mut() {
                relay.tick(world);
            }
            world.run_until(world.now + TICK);
        }
        for relay in relays {
            relay.read(world);
        }
    }

    pub(super) fn received(&self) -> Received {
        self.received
    }

    /// Lets everything arrive, with nothing new.
    pub(super) fn settle(&mut self, world: &mut World) {
        let time = Duration::from_millis(700);
        for source in &mut self.sources {
            source.next += time;
        }
        self.run(world, time);
    }

    /// Packets that were offered, and have not arrived; after [`Self::settle`].
    pub(super) fn lost(&self, class: Class) -> usize {
        let sources = self.sources.iter().filter(|source| source.class() == class);
        sources
            .map(|source| source.offered - source.received.len())
            .sum()
    }

    pub(super) fn suspended(&self, class: Class) -> usize {
        let sources = self.sources.iter();
        sources
            .filter(|source| source.suspended && source.class() == class)
            .count()
    }

    pub(super) fn control_p99(&self) -> Duration {
        percentile(self.latencies.get(&Class::Control), 99)
    }

    /// For whoever reads a test's output.
    pub(super) fn summary(&self, world: &World) -> String {
        let mut text = String::new();
        for (class, latencies) in &self.latencies {
            let [p50, p99, max] = [50, 99, 100].map(|p| percentile(Some(latencies), p));
            text += &format!("{} {p50:.0?}/{p99:.0?}/{max:.0?} ", class.label());
        }
        let stats = self.schedule.stats();
        for class in Class::ALL {
            for reason in Reason::ALL {
                let dropped = stats.dropped(class, reason).packets;
                if dropped > 0 {
                    text += &format!("{} {} {dropped} ", class.label(), reason.label());
                }
            }
        }
        let published = world.published(self.pair.sender);
        let [high, mid] = [Class::High, Class::Mid].map(|class| self.suspended(class));
        text += &format!(
            "suspended {high}+{mid} padding {} overflowed {} rate {:?} window {} queue {:.1?}",
            self.received.padding,
            world.links[0].overflowed,
            published.rate(),
            published.window(),
            published.queue(),
        );
        text
    }

    fn tick(&mut self, world: &mut World) {
        let now = world.now;
        self.produce(now);
        self.answer(world, now);
        self.write_control(world, now);
        let published = world.published(self.pair.sender);
        if let Some(rate) = published.rate() {
            self.schedule.set_path(rate, published.queue());
        }
        if self.schedule.poll_timeout().is_some_and(|at| at <= now) {
            self.schedule.handle_timeout(now);
        }
        self.send(world, now);
        while let Some(event) = self.schedule.poll_event() {
            let (Event::Suspended(alias) | Event::Resumed(alias) | Event::KeyFrameNeeded(alias)) =
                event;
            let source = &mut self.sources[alias as usize];
            match event {
                Event::Suspended(_) => source.suspended = true,
                Event::Resumed(_) => source.suspended = false,
                Event::KeyFrameNeeded(_) => source.key_frame_at = Some(now + ENCODER),
            }
        }
        self.read(world);
    }

    fn produce(&mut self, now: Instant) {
        for (alias, source) in self.sources.iter_mut().enumerate() {
            while source.next <= now {
                let (frames, largest, every, share) = match source.track.kind {
                    Kind::Audio => (1, AUDIO_LEN, AUDIO_FRAME, 100),
                    Kind::Video { .. } => {
                        (KEY_FRAME, VIDEO_LEN, FRAME, self.rng.random_range(70..=130))
                    }
                };
                source.next += every;
                let key_frame = source.key_frame_at.is_some_and(|at| at <= now);
                let bytes =
                    source.track.rate * every.as_micros() as usize / 8_000_000 * share / 100;
                let mut left = if key_frame { bytes * frames } else { bytes };
                if key_frame {
                    source.key_frame_at = None;
                }
                while left > 0 {
                    let len = left.min(largest.min(self.packet)).max(HEADER);
                    left = left.saturating_sub(len);
                    let mut bytes = BytesMut::with_capacity(len);
                    bytes.put_u64((now - self.origin).as_micros() as u64);
                    bytes.put_u32(alias as u32);
                    bytes.resize(len, 0);
                    source.offered += 1;
                    let packet = Packet {
                        alias: alias as u32,
                        len,
                        key_frame,
                        frame_end: left == 0,
                        resend: false,
                    };
                    let bytes = bytes.freeze();
                    self.schedule.push(packet, Outgoing { packet, bytes }, now);
                }
            }
        }
    }

    /// What the other end asks for again.
    fn answer(&mut self, world: &mut World, now: Instant) {
        for (_, mut asked) in world.host(self.pair.sender).datagrams.drain(..) {
            let (alias, number) = (asked.get_u32(), asked.get_u32());
            let cache = &self.sources[alias as usize].cache;
            let kept = cache.iter().find(|(kept, ..)| *kept == number);
            if let Some((_, packet, bytes)) = kept.cloned() {
                let packet = Packet {
                    resend: true,
                    ..packet
                };
                self.schedule.push(packet, Outgoing { packet, bytes }, now);
            }
        }
    }

    fn write_control(&mut self, world: &mut World, now: Instant) {
        while self.control_next <= now {
            self.control_next += CONTROL_EVERY;
            let mut message = BytesMut::new();
            message.put_u64((now - self.origin).as_micros() as u64);
            message.resize(CONTROL_LEN, 0);
            let connection = world.connection(self.pair.sender);
            let written = connection
                .send_stream(self.control)
                .write(&message)
                .unwrap();
            assert_eq!(written, CONTROL_LEN);
        }
    }

    fn send(&mut self, world: &mut World, now: Instant) {
        let connection = world.connection(self.pair.sender);
        loop {
            let held = SEND_BUFFER - connection.datagrams().send_buffer_space();
            let space = self.schedule.transport_share().saturating_sub(held);
            let payload = match self.schedule.pop(now, space) {
                Some(outgoing) if outgoing.packet.resend => outgoing.bytes,
                Some(Outgoing { packet, bytes }) => {
                    let source = &mut self.sources[packet.alias as usize];
                    let mut numbered = BytesMut::from(bytes);
                    numbered[12..HEADER].copy_from_slice(&source.left.to_be_bytes());
                    let bytes = numbered.freeze();
                    if source.cache.len() == CACHE {
                        source.cache.pop_front();
                    }
                    source.cache.push_back((source.left, packet, bytes.clone()));
                    source.left += 1;
                    bytes
                }
                None => {
                    let Some(len) = self.schedule.poll_padding(now, space) else {
                        break;
                    };
                    let mut padding = BytesMut::zeroed(len);
                    padding[8..12].copy_from_slice(&PADDING.to_be_bytes());
                    padding.freeze()
                }
            };
            connection.datagrams().send(payload, false).unwrap();
        }
        world.drive(self.pair.sender);
    }

    fn read(&mut self, world: &mut World) {
        let host = world.host(self.pair.receiver);
        for (at, mut datagram) in host.datagrams.drain(..) {
            let len = datagram.len() as u64;
            let sent = Duration::from_micros(datagram.get_u64());
            let alias = datagram.get_u32();
            let number = datagram.get_u32();
            if alias == PADDING {
                self.received.padding += 1;
                continue;
            }
            let source = &mut self.sources[alias as usize];
            let next = source.received.last().map_or(0, |last| last + 1);
            let gap = (next..number).map(|missing| (missing, (at + REORDERED, 0)));
            source.missing.extend(gap);
            source.missing.remove(&number);
            if !source.received.insert(number) {
                continue;
            }
            self.received.bytes += len;
            let latencies = self.latencies.entry(source.class());
            let latency = (at - self.origin).saturating_sub(sent);
            latencies.or_default().push(latency);
        }
        for (at, bytes) in host.stream.drain(..) {
            self.unread.extend_from_slice(&bytes);
            while self.unread.len() >= CONTROL_LEN {
                let mut message = self.unread.split_to(CONTROL_LEN);
                let sent = Duration::from_micros(message.get_u64());
                let latency = (at - self.origin).saturating_sub(sent);
                self.latencies
                    .entry(Class::Control)
                    .or_default()
                    .push(latency);
            }
        }
        self.ask(world);
    }

    fn ask(&mut self, world: &mut World) {
        let now = world.now;
        let connection = world.connection(self.pair.receiver);
        for (alias, source) in self.sources.iter_mut().enumerate() {
            for (number, (at, times)) in &mut source.missing {
                if *at <= now && *times < ASK {
                    (*at, *times) = (now + ASK_EVERY, *times + 1);
                    let mut asks = BytesMut::new();
                    asks.put_u32(alias as u32);
                    asks.put_u32(*number);
                    connection.datagrams().send(asks.freeze(), false).unwrap();
                }
            }
            source.missing.retain(|_, (_, times)| *times < ASK);
        }
        world.drive(self.pair.receiver);
    }
}

impl Source {
    fn class(&self) -> Class {
        self.track.kind.class()
    }
}

fn percentile(of: Option<&Vec<Duration>>, percent: usize) -> Duration {
    let mut sorted = of.cloned().unwrap_or_default();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}
