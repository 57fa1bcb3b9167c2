//! A subscriber behind a narrow path, in virtual time: cameras that send, what a shard does with
//! bandwidth and allocation, a link with a queue, and a client that gives feedback.

#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

pub mod camera;
pub mod link;
mod screen;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sim::Rng;
pub use camera::Camera;
use camera::Piece;
use link::{Arrival, Content, Link, Packet};
use pipemesh_node_core::allocate::{Allocation, Budget, Choice, Damping, Demand};
use pipemesh_node_core::bandwidth::{Bandwidth, Limits, PacketKind};
use pipemesh_node_core::rtcp::{ArrivalLog, MAX_FEEDBACK_LEN};
use pipemesh_node_core::units::{Bitrate, DataSize};

pub const TICK: Duration = Duration::from_millis(1);
pub const FRAME: u64 = 33;
const AUDIO: u64 = 20;
const PADDING_SIZE: u16 = 290;
const ALLOCATE: u64 = 200;
/// What waits of the pacer is looked at so often.
const DRAIN: u64 = 5;
/// What has waited longer leaves if the path is clear.
const PATIENCE: Duration = Duration::from_millis(100);
/// Packets that wait at most.
const MAX_WAITING: usize = 256;

/// What the receiver sends.
#[derive(Debug, Clone)]
enum Report {
    Feedback(Vec<u8>),
    Lost(usize, Vec<u64>),
    KeyFrame(usize),
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
    /// The target that was given away last.
    allocated: Bitrate,
    /// What the pacer holds back.
    held_back: VecDeque<(Instant, usize, Piece)>,
    arrivals: ArrivalLog,
    feedback_due: u64,
    allocate_due: u64,
    /// On their way back.
    reports: VecDeque<Report>,
    pub feedback_loss: u64,
    pub padding: DataSize,
    pub media: DataSize,
    pub switches: u32,
    pub worst_queue: Duration,
    pub pacer_queue: Duration,
    /// What the pacer had no place for.
    pub overflows: u32,
    rng: Rng,
    outbox: Vec<Packet>,
    /// Milliseconds between two feedback messages.
    pub feedback_interval: u64,
    /// None at all comes.
    pub mute_feedback: bool,
    /// As with clients that number video alone.
    pub audio_is_unnumbered: bool,
    pub audio_size: u16,
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
        cameras.iter_mut().for_each(|camera| camera.warm_up(before));
        let mut rng = Rng(seed);
        Self {
            start: now,
            now,
            bandwidth: Bandwidth::new(Limits::default(), now),
            cameras,
            forward,
            back: Link::new(Bitrate::from_kbps(100_000)).with_delay(20),
            allocation: Allocation::default(),
            damping: Damping::default(),
            allocated: Bitrate::ZERO,
            held_back: VecDeque::new(),
            arrivals: ArrivalLog::new(now),
            feedback_due: 7 + rng.below(100),
            allocate_due: 0,
            reports: VecDeque::new(),
            feedback_loss: 0,
            padding: DataSize::ZERO,
            media: DataSize::ZERO,
            switches: 0,
            worst_queue: Duration::ZERO,
            pacer_queue: Duration::ZERO,
            overflows: 0,
            rng,
            outbox: Vec::new(),
            feedback_interval: 100,
            mute_feedback: false,
            audio_is_unnumbered: false,
            audio_size: 130,
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
        self.overflows = 0;
        self.switches = 0;
        self.paused = 0;
        self.padding = DataSize::ZERO;
        self.media = DataSize::ZERO;
        for camera in &mut self.cameras {
            camera.audio.forget();
            camera.screen.forget();
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
        if millis.is_multiple_of(DRAIN) {
            self.release();
        }
        if self
            .bandwidth
            .poll_timeout()
            .is_some_and(|at| at <= self.now)
        {
            self.bandwidth.handle_timeout(self.now);
        }
        while let Some(due) = self.bandwidth.poll_probe(self.now) {
            for _ in 0..due.as_bytes().div_ceil(PADDING_SIZE.into()) {
                self.transmit(Content::Padding, PADDING_SIZE, PacketKind::Padding);
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
            if let Some(sequence) = packet.sequence {
                self.arrivals.handle_arrival(sequence, self.now);
            }
            self.worst_queue = self.worst_queue.max(arrival.queued);
            match packet.content {
                Content::Padding | Content::Report(_) => {}
                Content::Audio(camera) => self.cameras[camera].audio.arrive(self.now),
                Content::Video(camera, piece) => {
                    self.cameras[camera].screen.arrive(piece, self.now)
                }
            }
        }
        for camera in 0..self.cameras.len() {
            let lost = self.cameras[camera].screen.ask(self.now);
            if !lost.is_empty() {
                self.tell(Report::Lost(camera, lost));
            }
            if self.cameras[camera].screen.wants_key_frame(self.now) {
                self.tell(Report::KeyFrame(camera));
            }
        }
        if millis >= self.feedback_due {
            self.feedback_due = millis + self.feedback_interval;
            self.report();
        }
        for arrival in self.back.tick(self.now, &mut self.rng) {
            if let Content::Report(number) = arrival.packet.content {
                let report = self.reports[number].clone();
                self.handle_report(report);
            }
        }
        self.show(millis);
        let paused = |camera: &&Camera| camera.choice == Choice::Paused;
        self.paused += self.cameras.iter().filter(paused).count() as u64;
        self.now += TICK;
    }

    fn handle_report(&mut self, report: Report) {
        /// An estimate that has moved by this share is acted on at once.
        const MOVED: f64 = 0.1;
        match report {
            Report::Feedback(content) => {
                self.bandwidth.handle_feedback(&content, self.now).unwrap();
                let moved = self
                    .allocated
                    .as_bps()
                    .abs_diff(self.bandwidth.target().as_bps());
                if moved as f64 > self.allocated.as_bps() as f64 * MOVED {
                    self.allocate();
                }
            }
            Report::Lost(camera, lost) => {
                for number in lost {
                    let piece = self.cameras[camera].lost(number);
                    if let Some(piece) = piece
                        && self.bandwidth.admits(PacketKind::Repair, self.now)
                    {
                        let content = Content::Video(camera, piece);
                        self.transmit(content, piece.size, PacketKind::Repair);
                    }
                }
            }
            Report::KeyFrame(camera) => {
                let millis = self.millis();
                self.cameras[camera].request_key_frame(millis);
            }
        }
    }

    fn show(&self, millis: u64) {
        if self.log && millis.is_multiple_of(50) {
            let encodings: Vec<_> = self.cameras.iter().map(Camera::encoding).collect();
            eprintln!(
                "{:6.2} s target {:5} k estimate {:5} k next {:5} k used {:5} k link {:5} k queue {:4} ms {encodings:?} padding {:?} waiting {} lost {} frames {:?}",
                millis as f64 / 1000.0,
                self.bandwidth.target().as_bps() / 1000,
                self.bandwidth.estimate().as_bps() / 1000,
                self.allocation.next.as_bps() / 1000,
                self.allocation.used.as_bps() / 1000,
                self.forward.capacity.as_bps() / 1000,
                self.forward.delay_of_queue().as_millis(),
                self.padding,
                self.held_back.len(),
                self.forward.dropped,
                self.cameras
                    .iter()
                    .map(|camera| camera.screen.frames)
                    .collect::<Vec<_>>(),
            );
        }
    }

    fn publish(&mut self, millis: u64) {
        for index in 0..self.cameras.len() {
            let camera = &mut self.cameras[index];
            if millis >= camera.next_audio {
                camera.next_audio = millis + AUDIO;
                camera.audio.sent += 1;
                self.transmit(Content::Audio(index), self.audio_size, PacketKind::Audio);
            }
            let camera = &mut self.cameras[index];
            if millis < camera.next_frame {
                continue;
            }
            // Cameras are not in step.
            for piece in camera.frame(millis, self.now, &mut self.rng) {
                let waits = !self.held_back.is_empty()
                    || !self.bandwidth.admits(PacketKind::Video, self.now);
                if !waits {
                    self.send_piece(index, piece);
                } else if self.held_back.len() < MAX_WAITING {
                    self.held_back.push_back((self.now, index, piece));
                } else {
                    self.overflows += 1;
                    self.withdraw(index);
                    break;
                }
            }
        }
    }

    fn release(&mut self) {
        while let Some(&(since, camera, piece)) = self.held_back.front() {
            let patient = self.now - since < PATIENCE || !self.bandwidth.is_clear();
            if !self.bandwidth.admits(PacketKind::Video, self.now) && patient {
                break;
            }
            self.held_back.pop_front();
            self.pacer_queue = self.pacer_queue.max(self.now - since);
            self.send_piece(camera, piece);
        }
    }

    fn send_piece(&mut self, camera: usize, piece: Piece) {
        self.cameras[camera].note_sent(piece);
        self.transmit(Content::Video(camera, piece), piece.size, PacketKind::Video);
    }

    /// Takes back what waits of a camera.
    fn withdraw(&mut self, index: usize) {
        let own = self
            .held_back
            .iter()
            .filter(|(_, camera, _)| *camera == index);
        let first = own.map(|(_, _, piece)| piece.number).next();
        self.held_back.retain(|(_, camera, _)| *camera != index);
        if let Some(first) = first {
            let millis = self.millis();
            self.cameras[index].rewind(first, millis);
        }
    }

    fn transmit(&mut self, content: Content, size: u16, kind: PacketKind) {
        let sequence = if kind == PacketKind::Audio && self.audio_is_unnumbered {
            self.bandwidth.unnumbered_sent(size, kind);
            None
        } else {
            Some(self.bandwidth.packet_sent(size, kind, self.now))
        };
        let bytes = DataSize::from_bytes(size.into());
        match kind {
            PacketKind::Padding => self.padding += bytes,
            PacketKind::Audio | PacketKind::Video | PacketKind::Repair => self.media += bytes,
        }
        let packet = Packet {
            sequence,
            size,
            content,
            flow: self.flow,
        };
        self.outbox.push(packet);
    }

    fn report(&mut self) {
        let mut out = [0; MAX_FEEDBACK_LEN];
        let len = self.arrivals.feedback(&mut out);
        if len > 0 && !self.mute_feedback && !self.rng.chance(self.feedback_loss) {
            self.tell(Report::Feedback(out[..len].to_vec()));
        }
    }

    fn tell(&mut self, report: Report) {
        self.reports.push_back(report);
        let packet = Packet {
            sequence: None,
            size: 100,
            content: Content::Report(self.reports.len() - 1),
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
        self.allocated = self.bandwidth.target();
        let budget = Budget {
            all: self.bandwidth.target(),
            lowest: match self.bandwidth.is_guess() {
                true => Bitrate::MAX,
                false => self.bandwidth.estimate(),
            },
        };
        self.allocation
            .decide(&demands, budget, &mut self.damping, self.now);
        let (next, wanted) = self.allocation.wish(self.bandwidth.estimate());
        self.bandwidth.set_wish(next, wanted);
        let millis = self.millis();
        for index in 0..self.cameras.len() {
            let choice = self.allocation.choices[2 * index + 1];
            let (changed, less) = self.cameras[index].choose(choice, millis);
            self.switches += u32::from(changed);
            if less && self.allocation.too_much {
                self.cameras[index].abandon();
                self.withdraw(index);
            } else if less && choice == Choice::Paused {
                self.withdraw(index);
            }
        }
    }

    pub fn encodings(&self) -> Vec<Option<u8>> {
        self.cameras.iter().map(Camera::encoding).collect()
    }

    pub fn is_full(&self) -> bool {
        self.cameras
            .iter()
            .all(|c| c.encoding().map(usize::from) == Some(c.rates.len() - 1))
    }

    pub fn audio_lost(&self) -> u64 {
        self.forward.dropped_audio
    }

    /// The longest time that any picture stood still.
    pub fn longest_freeze(&self) -> Duration {
        let gaps = self
            .cameras
            .iter()
            .map(|camera| camera.screen.longest_gap(self.now));
        gaps.max().unwrap_or_default()
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
