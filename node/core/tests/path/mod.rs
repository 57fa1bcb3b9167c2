//! A subscriber behind a narrow path, in virtual time: cameras that send, what a shard does with
//! bandwidth and allocation, a link with a queue, and a client that gives feedback.

#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

pub mod link;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sim::Rng;
use link::{Arrival, Link, Packet};
use pipemesh_node_core::allocate::{
    Allocation, Budget, Choice, Damping, Demand, Held, Ladder, Layer, Media, Step,
};
use pipemesh_node_core::bandwidth::{Bandwidth, Limits, PacketKind};
use pipemesh_node_core::rate::RateMeter;
use pipemesh_node_core::rtcp::{ArrivalLog, MAX_FEEDBACK_LEN};
use pipemesh_node_core::track::Size;
use pipemesh_node_core::units::{Bitrate, DataSize};

pub const TICK: Duration = Duration::from_millis(1);
const FRAME: u64 = 33;
const AUDIO: u64 = 20;
const AUDIO_SIZE: u16 = 130;
const FULL_SIZE: u64 = 1_200;
const PADDING_SIZE: u16 = 290;
const ALLOCATE: u64 = 200;

/// One publisher's camera with three encodings, and microphone.
pub struct Camera {
    /// Of each encoding, in bit/s.
    pub rates: [u64; 3],
    meters: [RateMeter; 3],
    held: Held,
    key_frame: bool,
    next_frame: u64,
    next_audio: u64,
    /// Shown right now.
    pub choice: Choice,
    /// The receiver wants it.
    pub visible: bool,
    pub priority: u8,
    pub video: Stream,
    pub audio: Stream,
}

/// What arrived of one stream.
#[derive(Debug, Default, Clone)]
pub struct Stream {
    pub sent: u64,
    pub arrived: u64,
    /// Arrival of the last packet, and the longest time without one while it was being sent.
    last: Option<Instant>,
    pub longest_gap: Duration,
    pub worst_delay: Duration,
}

impl Stream {
    fn arrive(&mut self, now: Instant, delay: Duration) {
        self.arrived += 1;
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.last = Some(now);
        self.worst_delay = self.worst_delay.max(delay);
    }
}

impl Camera {
    pub fn new(rates: [u64; 3]) -> Self {
        Self {
            rates,
            meters: [(); 3].map(|()| RateMeter::new(Duration::from_secs(1))),
            held: Held::New,
            key_frame: true,
            next_frame: 0,
            next_audio: 0,
            choice: Choice::Nothing,
            visible: true,
            priority: 0,
            video: Stream::default(),
            audio: Stream::default(),
        }
    }

    /// Like Chromium's.
    pub fn standard() -> Self {
        Self::new([150_000, 500_000, 1_700_000])
    }

    fn demands(&self, now: Instant) -> [Demand; 2] {
        let mut ladder = Ladder::default();
        for (spatial, meter) in self.meters.iter().enumerate() {
            ladder.push(Step {
                layer: Layer {
                    spatial: spatial as u8,
                    temporal: 0,
                },
                rate: meter.rate(now),
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
        };
        let ladder = if self.visible {
            ladder
        } else {
            Ladder::default()
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
}

/// One subscriber and all on its way.
pub struct Viewer {
    pub start: Instant,
    pub now: Instant,
    pub bandwidth: Bandwidth,
    pub cameras: Vec<Camera>,
    pub forward: Link,
    pub back: Link,
    allocation: Allocation,
    damping: Damping,
    /// What the pacer holds back.
    held_back: VecDeque<(Instant, usize, u16)>,
    arrivals: ArrivalLog,
    feedback_due: u64,
    allocate_due: u64,
    /// Feedback on its way back.
    reports: VecDeque<Vec<u8>>,
    pub feedback_loss: u64,
    pub padding: DataSize,
    pub media: DataSize,
    pub switches: u32,
    pub worst_queue: Duration,
    pub pacer_queue: Duration,
    rng: Rng,
    outbox: Vec<Packet>,
    /// Milliseconds between two feedback messages.
    pub feedback_interval: u64,
    /// None at all comes.
    pub mute_feedback: bool,
    /// Milliseconds in which a camera was paused for want of bandwidth.
    pub paused: u64,
    pub log: bool,
    /// Which flow of a shared link it is.
    pub flow: u8,
}

impl Viewer {
    pub fn new(seed: u64, cameras: Vec<Camera>, forward: Link) -> Self {
        Self::at(Instant::now(), seed, cameras, forward)
    }

    pub fn at(before: Instant, seed: u64, cameras: Vec<Camera>, forward: Link) -> Self {
        // Tracks were there before the subscriber: their rates are known.
        let now = before + Duration::from_millis(1_000);
        let mut cameras = cameras;
        for camera in &mut cameras {
            for (meter, rate) in camera.meters.iter_mut().zip(camera.rates) {
                for step in 0..100 {
                    let at = before + Duration::from_millis(10 * step);
                    meter.add(DataSize::from_bytes(rate / 800), at);
                }
            }
        }
        Self {
            start: now,
            now,
            bandwidth: Bandwidth::new(Limits::default(), now),
            cameras,
            forward,
            back: Link::new(Bitrate::from_kbps(100_000)).with_delay(20),
            allocation: Allocation::default(),
            damping: Damping::default(),
            held_back: VecDeque::new(),
            arrivals: ArrivalLog::new(now),
            feedback_due: 57,
            allocate_due: 0,
            reports: VecDeque::new(),
            feedback_loss: 0,
            padding: DataSize::ZERO,
            media: DataSize::ZERO,
            switches: 0,
            worst_queue: Duration::ZERO,
            pacer_queue: Duration::ZERO,
            rng: Rng(seed),
            outbox: Vec::new(),
            feedback_interval: 100,
            mute_feedback: false,
            paused: 0,
            log: std::env::var("LOG").is_ok(),
            flow: 0,
        }
    }

    pub fn millis(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Forgets what was worst so far.
    pub fn forget(&mut self) {
        self.worst_queue = Duration::ZERO;
        self.forward.dropped_audio = 0;
        self.pacer_queue = Duration::ZERO;
        self.switches = 0;
        self.paused = 0;
        self.padding = DataSize::ZERO;
        self.media = DataSize::ZERO;
        for camera in &mut self.cameras {
            for stream in [&mut camera.video, &mut camera.audio] {
                *stream = Stream {
                    last: stream.last,
                    ..Stream::default()
                };
            }
        }
    }

    pub fn step(&mut self) {
        self.send();
        for packet in self.outbox.drain(..) {
            self.forward.send(packet, self.now, &mut self.rng);
        }
        let arrivals = self.forward.tick(self.now, &mut self.rng);
        self.receive(arrivals);
    }

    /// All that the sender does in a millisecond.
    fn send(&mut self) {
        let millis = self.millis();
        self.publish(millis);
        self.release();
        if self
            .bandwidth
            .poll_timeout()
            .is_some_and(|at| at <= self.now)
        {
            self.bandwidth.handle_timeout(self.now);
        }
        while let Some(due) = self.bandwidth.poll_probe(self.now) {
            for _ in 0..due.as_bytes().div_ceil(PADDING_SIZE.into()) {
                self.transmit(None, PADDING_SIZE, PacketKind::Padding, self.now);
            }
        }
        if millis >= self.allocate_due {
            self.allocate_due = millis + ALLOCATE;
            self.allocate();
        }
    }

    /// What the receiver does with what arrived, and what comes back.
    fn receive(&mut self, arrivals: Vec<Arrival>) {
        let millis = self.millis();
        for arrival in arrivals {
            let packet = arrival.packet;
            self.arrivals.handle_arrival(packet.sequence, self.now);
            self.worst_queue = self.worst_queue.max(arrival.queued);
            let delay = self.now - packet.created;
            if let Some((camera, is_audio)) = packet.stream {
                let camera = &mut self.cameras[camera];
                let stream = if is_audio {
                    &mut camera.audio
                } else {
                    &mut camera.video
                };
                stream.arrive(self.now, delay);
            }
        }
        if millis >= self.feedback_due {
            self.feedback_due = millis + self.feedback_interval;
            self.report();
        }
        let reports = self.back.tick(self.now, &mut self.rng);
        for arrival in reports {
            let report = self
                .reports
                .get(usize::from(arrival.packet.sequence))
                .cloned();
            if let Some(report) = report {
                self.bandwidth.handle_feedback(&report, self.now).unwrap();
            }
        }
        if self.log && millis.is_multiple_of(200) {
            let encodings: Vec<_> = self.cameras.iter().map(Camera::encoding).collect();
            eprintln!(
                "{:6.1} s target {:5} k next {:5} k used {:5} k link {:5} k queue {:4} ms {encodings:?} padding {:?} {}",
                millis as f64 / 1000.0,
                self.bandwidth.target().as_bps() / 1000,
                self.allocation.next.as_bps() / 1000,
                self.allocation.used.as_bps() / 1000,
                self.forward.capacity.as_bps() / 1000,
                self.forward.delay_of_queue().as_millis(),
                self.padding,
                self.held_back.len(),
            );
        }
        let paused = |camera: &&Camera| camera.choice == Choice::Paused;
        self.paused += self.cameras.iter().filter(paused).count() as u64;
        self.now += TICK;
    }

    fn publish(&mut self, millis: u64) {
        for index in 0..self.cameras.len() {
            let camera = &mut self.cameras[index];
            if millis >= camera.next_audio {
                camera.next_audio = millis + AUDIO;
                self.transmit(Some((index, true)), AUDIO_SIZE, PacketKind::Audio, self.now);
            }
            let camera = &mut self.cameras[index];
            if millis < camera.next_frame {
                continue;
            }
            // Cameras are not in step.
            camera.next_frame = millis + FRAME + self.rng.below(2);
            let variation = 60 + self.rng.below(81);
            let shown = camera.encoding();
            let mut packets = 0;
            for (spatial, rate) in camera.rates.into_iter().enumerate() {
                let mut size = rate / 8 * FRAME / 1000 * variation / 100;
                let is_shown = shown == Some(spatial as u8);
                if is_shown && std::mem::take(&mut camera.key_frame) {
                    size *= 4;
                }
                camera.meters[spatial].add(DataSize::from_bytes(size), self.now);
                if is_shown {
                    packets = size.div_ceil(FULL_SIZE).max(1);
                    let size = (size / packets) as u16 + 40;
                    for _ in 0..packets {
                        self.held_back.push_back((self.now, index, size));
                    }
                }
            }
            self.cameras[index].video.sent += packets;
        }
    }

    fn release(&mut self) {
        while let Some(&(created, camera, size)) = self.held_back.front() {
            if !self.bandwidth.admits(PacketKind::Video, self.now) {
                assert!(self.bandwidth.admits_at(PacketKind::Video) > self.now);
                break;
            }
            self.held_back.pop_front();
            self.pacer_queue = self.pacer_queue.max(self.now - created);
            self.transmit(Some((camera, false)), size, PacketKind::Video, created);
        }
    }

    fn transmit(
        &mut self,
        stream: Option<(usize, bool)>,
        size: u16,
        kind: PacketKind,
        created: Instant,
    ) {
        let sequence = self.bandwidth.packet_sent(size, kind, self.now);
        let bytes = DataSize::from_bytes(size.into());
        match stream {
            None => self.padding += bytes,
            Some((camera, is_audio)) => {
                self.media += bytes;
                if is_audio {
                    self.cameras[camera].audio.sent += 1;
                }
            }
        }
        let packet = Packet {
            sequence,
            size,
            stream,
            created,
            flow: self.flow,
        };
        self.outbox.push(packet);
    }

    fn report(&mut self) {
        let mut out = [0; MAX_FEEDBACK_LEN];
        let len = self.arrivals.feedback(&mut out);
        if len == 0 || self.mute_feedback || self.rng.chance(self.feedback_loss) {
            return;
        }
        self.reports.push_back(out[..len].to_vec());
        let packet = Packet {
            sequence: (self.reports.len() - 1) as u16,
            size: len as u16 + 60,
            stream: None,
            created: self.now,
            flow: 0,
        };
        self.back.send(packet, self.now, &mut self.rng);
    }

    fn allocate(&mut self) {
        let demands: Vec<Demand> = self
            .cameras
            .iter()
            .flat_map(|camera| camera.demands(self.now))
            .collect();
        self.allocation.decide(
            &demands,
            Budget {
                all: self.bandwidth.target(),
                lowest: self.bandwidth.estimate(),
            },
            &mut self.damping,
            self.now,
        );
        self.bandwidth
            .set_wish(self.allocation.next, self.allocation.wanted);
        for (index, (camera, choices)) in self
            .cameras
            .iter_mut()
            .zip(self.allocation.choices.chunks(2))
            .enumerate()
        {
            let choice = choices[1];
            if choice != camera.choice {
                // What waits of the old layer is of no use any more.
                self.held_back.retain(|&(_, camera, _)| camera != index);
                camera.key_frame = true;
                camera.video.last = None;
                self.switches += 1;
            }
            camera.choice = choice;
            camera.held = choice.held();
        }
    }

    pub fn encodings(&self) -> Vec<Option<u8>> {
        self.cameras.iter().map(Camera::encoding).collect()
    }

    pub fn is_full(&self) -> bool {
        self.cameras.iter().all(|c| c.encoding() == Some(2))
    }

    pub fn audio_lost(&self) -> u64 {
        self.forward.dropped_audio
    }

    pub fn used(&self) -> Bitrate {
        self.allocation.used
    }
}

/// Lets several subscribers use one link.
pub fn share(viewers: &mut [Viewer], link: &mut Link, rng: &mut Rng, time: Duration) {
    for _ in 0..time.as_millis() {
        let mut now = None;
        for (flow, viewer) in viewers.iter_mut().enumerate() {
            viewer.flow = flow as u8;
            viewer.send();
            now = Some(viewer.now);
            for packet in viewer.outbox.drain(..) {
                link.send(packet, viewer.now, rng);
            }
        }
        let arrivals = link.tick(now.unwrap(), rng);
        for (flow, viewer) in viewers.iter_mut().enumerate() {
            let own = arrivals
                .iter()
                .filter(|a| usize::from(a.packet.flow) == flow);
            viewer.receive(own.copied().collect());
        }
    }
}
