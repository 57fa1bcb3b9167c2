//! A virtual camera that encodes spatial and temporal layers into one stream, and receivers that know
//! what each frame really refers to, because every packet says so behind its descriptor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::ids::FrameIds;
use pipemesh_node_core::codec::{Codec, dependency, vp9};
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::{
    Gathered, LayerWish, Media, Output, Router, Source, SubscriptionKey, TrackKey,
};
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};

use crate::descriptor::{self, Frame, Mode};
use crate::sim::{Person, Rng, Room};

const DEPENDENCY: u8 = 5;

/// How the stream names its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// VP9's own descriptor, references named.
    Vp9Flexible,
    /// … and not named.
    Vp9,
    /// VP9 with dependency descriptors.
    Vp9Described,
    Av1,
}

impl Naming {
    pub(crate) const ALL: [Self; 4] = [Self::Vp9Flexible, Self::Vp9, Self::Vp9Described, Self::Av1];

    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::Vp9Flexible | Self::Vp9 | Self::Vp9Described => Codec::Vp9,
            Self::Av1 => Codec::Av1,
        }
    }

    fn is_described(self) -> bool {
        matches!(self, Self::Vp9Described | Self::Av1)
    }
}

/// What a packet really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) frame: u32,
    pub(crate) picture: u32,
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    pub(crate) key: bool,
    pub(crate) packet: u8,
    pub(crate) packets: u8,
    pub(crate) references: Vec<u32>,
}

impl Truth {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.frame.to_be_bytes());
        out.extend_from_slice(&self.picture.to_be_bytes());
        let fixed = [
            self.spatial,
            self.temporal,
            u8::from(self.key),
            self.packet,
            self.packets,
            self.references.len() as u8,
        ];
        out.extend_from_slice(&fixed);
        for reference in &self.references {
            out.extend_from_slice(&reference.to_be_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let count = usize::from(bytes[13]);
        Self {
            frame: word(0),
            picture: word(4),
            spatial: bytes[8],
            temporal: bytes[9],
            key: bytes[10] != 0,
            packet: bytes[11],
            packets: bytes[12],
            references: (0..count).map(|index| word(14 + index * 4)).collect(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) key: TrackKey,
    pub(crate) naming: Naming,
    pub(crate) mode: Mode,
    /// Spatial layers that are being encoded, and how many receivers were told of.
    pub(crate) active: u8,
    told: u8,
    sequence: u16,
    timestamp: u32,
    first_id: u16,
    tl0: u8,
    pictures: u32,
    frames: u32,
    /// Place in the temporal pattern.
    place: usize,
    key_frame_due: bool,
    last: BTreeMap<(u8, u8), u32>,
}

impl Camera {
    pub(crate) fn request_key_frame(&mut self) {
        self.key_frame_due = true;
    }

    /// The packets of one picture.
    pub(crate) fn picture(&mut self, elapsed: Duration) -> Vec<Vec<u8>> {
        self.timestamp = self
            .timestamp
            .wrapping_add((elapsed.as_millis() * 90) as u32);
        let key = std::mem::take(&mut self.key_frame_due);
        if key {
            self.place = 0;
            self.last.clear();
        }
        let temporal = self.mode.temporal_of(self.place);
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        // A layer that comes back begins with the one below.
        self.last.retain(|(spatial, _), _| *spatial < self.active);
        let mut packets = Vec::new();
        for spatial in 0..self.active {
            let frame = self.frame(spatial, temporal, key);
            self.packets(&frame, &mut packets);
            self.frames += 1;
        }
        self.told = self.active;
        self.place += 1;
        self.pictures += 1;
        packets
    }

    fn frame(&mut self, spatial: u8, temporal: u8, key: bool) -> Frame {
        let before = (0..=temporal.saturating_sub(1)).filter_map(|t| self.last.get(&(spatial, t)));
        let mut references: Vec<u32> = before.max().copied().into_iter().collect();
        let own = self.last.get(&(spatial, temporal));
        if let Some(own) = own.filter(|_| self.mode.chained && temporal > 0) {
            references.push(*own);
        }
        let is_predicted = !references.is_empty();
        let needs_lower = spatial > 0 && (key || !self.mode.key_only);
        if needs_lower {
            references.push(self.frames - 1);
        }
        self.last.insert((spatial, temporal), self.frames);
        Frame {
            number: self.frames,
            picture: self.pictures,
            spatial,
            temporal,
            key,
            is_predicted,
            needs_lower,
            references,
        }
    }

    fn packets(&mut self, frame: &Frame, packets: &mut Vec<Vec<u8>>) {
        let count = 1 + frame.spatial + u8::from(frame.key);
        for packet in 0..count {
            self.sequence = self.sequence.wrapping_add(1);
            let (begins, ends) = (packet == 0, packet + 1 == count);
            let mut bytes = vec![0; 200];
            let header = OutgoingHeader {
                padding: false,
                marker: ends && frame.spatial + 1 == self.active,
                payload_type: 98,
                sequence: self.sequence,
                timestamp: self.timestamp,
                ssrc: 1,
            };
            let mut writer = HeaderWriter::new(&mut bytes, header).unwrap();
            if self.naming.is_described() {
                // A structure says that all are sent.
                let differs = match frame.key {
                    true => self.active < self.mode.spatial,
                    false => self.active != self.told,
                };
                let active = differs.then_some(self.active);
                let place = (begins, ends);
                let value = descriptor::write(&self.mode, frame, self.first_id, place, active);
                writer.extension(DEPENDENCY, &value, true);
            }
            let len = writer.finish().unwrap();
            bytes.truncate(len);
            if self.naming == Naming::Av1 {
                let continues = if begins { 0 } else { 0x80 };
                let sequence_header = if begins && frame.key && frame.spatial == 0 {
                    8
                } else {
                    0
                };
                bytes.push(0x10 | continues | sequence_header);
            } else {
                self.vp9_descriptor(frame, begins, ends, &mut bytes);
            }
            let truth = Truth {
                frame: frame.number,
                picture: frame.picture,
                spatial: frame.spatial,
                temporal: frame.temporal,
                key: frame.key,
                packet,
                packets: count,
                references: frame.references.clone(),
            };
            truth.write(&mut bytes);
            packets.push(bytes);
        }
    }

    fn vp9_descriptor(&self, frame: &Frame, begins: bool, ends: bool, out: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flexible = self.naming != Naming::Vp9;
        let structure = begins && frame.key && frame.spatial == 0;
        let apart = self.mode.key_only && !frame.key;
        out.push(
            0xA0 | flag(frame.is_predicted, 0x40)
                | flag(flexible, 0x10)
                | flag(begins, 0x08)
                | flag(ends, 0x04)
                | flag(structure, 0x02)
                | flag(apart || frame.spatial + 1 == self.active, 0x01),
        );
        let id = self.first_id.wrapping_add(frame.picture as u16) | 0x8000;
        out.extend_from_slice(&id.to_be_bytes());
        // In the usual pattern nothing above needs what came before.
        let switches_up = flag(!self.mode.chained, 0x10);
        let indices = frame.temporal << 5 | frame.spatial << 1 | u8::from(frame.needs_lower);
        out.push(indices | switches_up);
        if !flexible {
            out.push(self.tl0);
        } else if frame.is_predicted {
            let earlier = frame.references.len() - usize::from(frame.needs_lower);
            for (place, reference) in frame.references[..earlier].iter().enumerate() {
                let pictures = (frame.number - reference) / u32::from(self.active);
                out.push((pictures as u8) << 1 | u8::from(place + 1 < earlier));
            }
        }
        if structure {
            out.push((self.active - 1) << 5 | 0x10);
            for spatial in 0..self.active {
                let Size { width, height } = self.mode.size(spatial);
                out.extend_from_slice(&(width as u16).to_be_bytes());
                out.extend_from_slice(&(height as u16).to_be_bytes());
            }
        }
    }
}

/// A packet as a receiver gets it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// `None`: padding.
    pub(crate) truth: Option<Truth>,
    /// Picture id, or frame number of the dependency descriptor.
    pub(crate) id: Option<u16>,
    pub(crate) len: usize,
}

pub(crate) struct Sim {
    pub(crate) now: Instant,
    pub(crate) router: Router<Room, Person>,
    pub(crate) rng: Rng,
    pub(crate) received: BTreeMap<SubscriptionKey, Vec<Received>>,
    pub(crate) key_frame_requests: u64,
    /// Percent of the publisher's packets that come late, and that never come.
    pub(crate) late: u64,
    pub(crate) loss: u64,
    missing: Vec<(Instant, Vec<u8>)>,
    pub(crate) lost: BTreeSet<u32>,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        Self {
            now,
            router: Router::new(now),
            rng: Rng(seed),
            received: BTreeMap::new(),
            key_frame_requests: 0,
            late: 0,
            loss: 0,
            missing: Vec::new(),
            lost: BTreeSet::new(),
        }
    }

    pub(crate) fn camera(&mut self, naming: Naming, mode: Mode) -> Camera {
        self.announced_camera(naming, mode, vec![Size::default()])
    }

    /// `sizes`: what was said of its layers before any media.
    pub(crate) fn announced_camera(
        &mut self,
        naming: Naming,
        mode: Mode,
        sizes: Vec<Size>,
    ) -> Camera {
        let key = self.router.publish(
            TrackSpec {
                room: 1,
                participant: 1,
                is_video: true,
                speaks: false,
                nack: true,
                muted: false,
                encodings: 1,
                sizes,
            },
            self.now,
        );
        Camera {
            key,
            naming,
            mode,
            active: mode.spatial,
            told: mode.spatial,
            sequence: self.rng.next() as u16,
            timestamp: self.rng.next() as u32,
            first_id: self.rng.next() as u16,
            tl0: 0,
            pictures: 0,
            frames: 0,
            place: 0,
            key_frame_due: true,
            last: BTreeMap::new(),
        }
    }

    pub(crate) fn subscribe(&mut self, camera: &Camera, wish: LayerWish) -> SubscriptionKey {
        let first = self.rng.below(1 << 15);
        let key = self
            .router
            .subscribe(camera.key, wish, camera.naming.codec(), first, self.now)
            .unwrap();
        self.received.insert(key, Vec::new());
        key
    }

    /// Pictures at 30 a second, timers running in between.
    pub(crate) fn run(&mut self, camera: &mut Camera, pictures: u32) {
        const INTERVAL: Duration = Duration::from_millis(33);
        for _ in 0..pictures {
            let until = self.now + INTERVAL;
            while let Some(at) = self.router.poll_timeout().filter(|at| *at <= until) {
                self.now = self.now.max(at);
                self.router.handle_timeout(self.now);
                self.poll(camera);
            }
            self.now = until;
            let due = std::mem::take(&mut self.missing);
            let (due, later) = due.into_iter().partition(|(at, _)| *at <= until);
            self.missing = later;
            let due: Vec<_> = due;
            due.iter()
                .for_each(|(_, packet)| self.deliver(camera, packet));
            for packet in camera.picture(INTERVAL) {
                if self.rng.chance(self.loss) {
                    let header = Header::parse(&packet).unwrap();
                    let truth = truth(camera.naming, header.payload(&packet).unwrap());
                    self.lost.insert(truth.frame);
                } else if self.rng.chance(self.late) {
                    let delay = Duration::from_millis(1 + self.rng.below(150));
                    self.missing.push((self.now + delay, packet));
                } else {
                    self.deliver(camera, &packet);
                }
            }
            self.forward(camera.naming);
            self.poll(camera);
            if camera.pictures.is_multiple_of(4) {
                self.repair(camera);
            }
        }
    }

    /// Receivers ask for what they miss.
    fn repair(&mut self, camera: &Camera) {
        const ROUND_TRIP: Duration = Duration::from_millis(40);
        for (key, received) in &mut self.received {
            const RECENT: usize = 400;
            let recent = &received[received.len().saturating_sub(RECENT)..];
            let there: BTreeSet<u64> = recent.iter().map(|packet| packet.sequence).collect();
            let (Some(&lowest), Some(&highest)) = (there.first(), there.last()) else {
                continue;
            };
            let first = lowest.max(highest.saturating_sub(200));
            for number in (first..highest).filter(|number| !there.contains(number)) {
                let repair = self
                    .router
                    .handle_loss(*key, number as u16, ROUND_TRIP, self.now);
                let Ok(repair) = repair else {
                    continue;
                };
                let header = Header::parse(repair.packet).unwrap();
                let ids = camera
                    .naming
                    .codec()
                    .frame_ids(header.payload(repair.packet).unwrap());
                let ids = ids.as_ref();
                let seen = seen(camera.naming, repair.rewrite, ids, &header, repair.packet);
                assert_eq!(seen.sequence, number);
                received.push(seen);
            }
        }
    }

    fn poll(&mut self, camera: &mut Camera) {
        while let Some(output) = self.router.poll_output() {
            match output {
                Output::RequestKeyFrame(_) => {
                    self.key_frame_requests += 1;
                    camera.request_key_frame();
                }
                Output::RequestPackets(_)
                | Output::SpeakersChanged(..)
                | Output::DemandChanged(..)
                | Output::InterestChanged(..)
                | Output::LiveChanged(..)
                | Output::RatesMeasured(..) => {}
            }
        }
    }

    fn deliver(&mut self, camera: &Camera, packet: &[u8]) {
        let header = Header::parse(packet).unwrap();
        let media = Media {
            codec: camera.naming.codec(),
            header,
            packet,
            audio_level: None,
            dependency: header.extension(packet, DEPENDENCY),
            repaired: false,
            in_place: false,
        };
        let source = Source {
            track: camera.key,
            encoding: 0,
        };
        if self.router.handle_media(source, media, self.now) == Ok(Gathered::Full)
            || self.rng.chance(20)
        {
            self.forward(camera.naming);
        }
    }

    fn forward(&mut self, naming: Naming) {
        let received = &mut self.received;
        let forwarded = self.router.forward(self.now, |burst| {
            let packets: Vec<_> = burst.packets().collect();
            while let Some(key) = burst.next_subscriber() {
                let forwards = burst.forwards();
                let seen = forwards.iter().map(|forward| {
                    let packet = &packets[forward.packet];
                    seen(
                        naming,
                        forward.rewrite,
                        packet.ids,
                        &packet.header,
                        packet.bytes,
                    )
                });
                received.entry(key).or_default().extend(seen);
            }
        });
        assert_eq!(forwarded, Ok(()));
    }
}

fn truth(naming: Naming, payload: &[u8]) -> Truth {
    let descriptor = match naming {
        Naming::Av1 => 1,
        // Behind the ids come references and the structure.
        Naming::Vp9Flexible | Naming::Vp9 | Naming::Vp9Described => {
            let flags = payload[0];
            let descriptor = vp9::Descriptor::parse(payload).unwrap();
            let ids = usize::from(descriptor.ids.len);
            let references = descriptor
                .references
                .into_iter()
                .flatten()
                .flatten()
                .count();
            let structure = match flags & 0x02 {
                0 => 0,
                _ => 1 + 4 * (usize::from(payload[ids + references] >> 5) + 1),
            };
            ids + references + structure
        }
    };
    Truth::read(&payload[descriptor..])
}

fn seen(
    naming: Naming,
    rewrite: Rewrite,
    ids: Option<&FrameIds>,
    header: &Header,
    packet: &[u8],
) -> Received {
    if rewrite.is_filler {
        return Received {
            sequence: rewrite.sequence,
            timestamp: rewrite.timestamp,
            marker: false,
            truth: None,
            id: None,
            len: 0,
        };
    }
    let mut payload = header.payload(packet).unwrap().to_vec();
    if let Some(ids) = ids {
        ids.apply(rewrite.shift, &mut payload);
    }
    let mut number = header.extension(packet, DEPENDENCY).map(<[u8]>::to_vec);
    if let Some(value) = &mut number {
        dependency::shift_number(value, rewrite.shift.frame);
    }
    let id = match (&number, naming) {
        (Some(value), _) => Some(u16::from_be_bytes([value[1], value[2]])),
        (None, Naming::Av1) => None,
        (None, _) => vp9::Descriptor::parse(&payload).unwrap().ids.picture(),
    };
    Received {
        sequence: rewrite.sequence,
        timestamp: rewrite.timestamp,
        marker: header.marker || rewrite.ends_picture,
        truth: Some(truth(naming, &payload)),
        id,
        len: packet.len(),
    }
}

/// What no receiver may ever see. `lost`: frames that did not reach the router whole.
pub(crate) fn check(received: &[Received], lost: &BTreeSet<u32>, in_order: bool) {
    let mut numbers = BTreeSet::new();
    for packet in received {
        assert!(numbers.insert(packet.sequence), "{} twice", packet.sequence);
    }
    let mut packets: Vec<(&Received, &Truth)> = received
        .iter()
        .filter_map(|packet| Some((packet, packet.truth.as_ref()?)))
        .collect();
    let Some((_, first)) = packets.first() else {
        return;
    };
    assert!(first.key && first.spatial == 0 && first.packet == 0);
    if in_order {
        let steps = received.windows(2);
        steps.for_each(|pair| assert_eq!(pair[1].sequence, pair[0].sequence + 1));
    }
    if lost.is_empty() {
        let (first, last) = (numbers.first().unwrap(), numbers.last().unwrap());
        assert_eq!(last - first + 1, numbers.len() as u64, "a hole");
    }
    packets.sort_by_key(|(packet, _)| packet.sequence);
    let mut arrived: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (_, truth) in &packets {
        arrived.entry(truth.frame).or_default().push(truth.packet);
    }
    for pair in packets.windows(2) {
        let ((before, old), (after, new)) = (pair[0], pair[1]);
        let step = after.timestamp.wrapping_sub(before.timestamp) as i32;
        assert!(new.frame >= old.frame, "frames in coding order");
        assert_eq!(step > 0, new.picture != old.picture, "{old:?} {new:?}");
        assert!(step >= 0);
        if new.picture != old.picture && !lost.contains(&old.frame) {
            assert!(before.marker, "{old:?} ends its picture");
        }
        if new.picture == old.picture {
            assert!(!before.marker, "{old:?} does not end its picture");
        }
        if let (Some(before), Some(after)) = (before.id, after.id) {
            assert!(
                (after.wrapping_sub(before) << 1) as i16 >= 0,
                "ids never go back"
            );
        }
    }
    for (_, truth) in &packets {
        if !lost.contains(&truth.frame) {
            let whole: Vec<u8> = (0..truth.packets).collect();
            assert_eq!(arrived[&truth.frame], whole, "{truth:?} is cut short");
        }
        for reference in &truth.references {
            let there = arrived.contains_key(reference) || lost.contains(reference);
            assert!(there, "{truth:?} needs {reference}");
        }
    }
}
