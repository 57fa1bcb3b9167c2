//! Streams that Chromium encoded, cut to what is read of them: every limit is followed, and what goes on
//! can be decoded by what the frames say of each other.
//!
//! A line is a packet: timestamp, marker, dependency descriptor, and the beginning of the payload, the
//! last two in hexadecimal. Recorded are 960 x 544 pixels at 10 frames a second. In the files with
//! `narrow` in their names the bit rate was lowered step by step until one layer was left, and raised
//! again, after which VP9 goes on with two larger layers for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::codec::dependency::{self, Descriptor, Templates};
use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::{LayerWish, Media, Router, Source, SubscriptionKey};
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};

use crate::camera::{Received, Truth, check};
use crate::sim::{Person, Room};

const DEPENDENCY: u8 = 5;
const WIDTHS: [u32; 3] = [240, 480, 960];
/// What one packet costs is measured, so each has a weight.
const PAYLOAD_LEN: usize = 200;

struct Recording {
    name: &'static str,
    codec: Codec,
    packets: Vec<Packet>,
}

struct Packet {
    timestamp: u32,
    marker: bool,
    dependency: Vec<u8>,
    payload: Vec<u8>,
    said: Descriptor,
    truth: Truth,
}

fn recordings() -> [Recording; 4] {
    [
        recording(
            "vp9_l3t3_key",
            Codec::Vp9,
            include_str!("recorded/vp9_l3t3_key.txt"),
        ),
        recording(
            "av1_l3t3_key",
            Codec::Av1,
            include_str!("recorded/av1_l3t3_key.txt"),
        ),
        recording(
            "vp9_l3t3_key_narrow",
            Codec::Vp9,
            include_str!("recorded/vp9_l3t3_key_narrow.txt"),
        ),
        recording(
            "av1_l3t3_key_narrow",
            Codec::Av1,
            include_str!("recorded/av1_l3t3_key_narrow.txt"),
        ),
    ]
}

fn recording(name: &'static str, codec: Codec, text: &str) -> Recording {
    let mut templates: Option<Templates> = None;
    let mut pictures = BTreeMap::new();
    let mut packets: Vec<Packet> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [timestamp, marker, descriptor, payload] = fields[..] else {
            panic!("{name}: {line}");
        };
        let dependency = bytes(descriptor);
        let (said, brought) = dependency::read(&dependency, templates.as_ref()).unwrap();
        templates = brought.or(templates);
        let timestamp: u32 = timestamp.parse().unwrap();
        let count = pictures.len() as u32;
        let picture = *pictures.entry(timestamp).or_insert(count);
        let number = u32::from(said.number);
        let references: Vec<u32> = said
            .references
            .iter()
            .map(|it| number - u32::from(it))
            .collect();
        let before = packets.iter().filter(|it| it.said.number == said.number);
        let truth = Truth {
            frame: number,
            picture,
            spatial: said.layer.spatial,
            temporal: said.layer.temporal,
            key: references.is_empty(),
            packet: before.count() as u8,
            packets: 0,
            references,
        };
        packets.push(Packet {
            timestamp,
            marker: marker == "1",
            dependency,
            payload: bytes(payload),
            said,
            truth,
        });
    }
    let mut sizes = BTreeMap::new();
    packets
        .iter()
        .for_each(|it| *sizes.entry(it.truth.frame).or_insert(0) += 1);
    packets
        .iter_mut()
        .for_each(|it| it.truth.packets = sizes[&it.truth.frame]);
    Recording {
        name,
        codec,
        packets,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    pairs.map(byte).collect()
}

impl Packet {
    fn write(&self, sequence: u16, described: bool) -> Vec<u8> {
        let mut bytes = vec![0; 300];
        let header = OutgoingHeader {
            padding: false,
            marker: self.marker,
            payload_type: 98,
            sequence,
            timestamp: self.timestamp,
            ssrc: 1,
        };
        let mut writer = HeaderWriter::new(&mut bytes, header).unwrap();
        if described {
            writer.extension(DEPENDENCY, &self.dependency, true);
        }
        let len = writer.finish().unwrap();
        bytes.truncate(len);
        bytes.extend_from_slice(&self.payload);
        bytes.resize(len + PAYLOAD_LEN, 0);
        bytes
    }
}

/// A recording on its way to one viewer.
struct Playback<'a> {
    recording: &'a Recording,
    described: bool,
    router: Router<Room, Person>,
    source: Source,
    viewer: SubscriptionKey,
    start: Instant,
    now: Instant,
    received: Vec<Received>,
}

impl<'a> Playback<'a> {
    fn new(recording: &'a Recording, described: bool) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let mut router = Router::new(start);
        let spec = TrackSpec {
            room: 1,
            participant: 1,
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 1,
            sizes: vec![Size {
                width: 960,
                height: 544,
            }],
        };
        let track = router.publish(spec, start);
        let viewer = router
            .subscribe(track, LayerWish::default(), recording.codec, 0, start)
            .unwrap();
        Self {
            recording,
            described,
            router,
            source: Source { track, encoding: 0 },
            viewer,
            start,
            now: start,
            received: Vec::new(),
        }
    }

    fn limit(&mut self, spatial: u8, temporal: u8) {
        let limit = Limit::UpTo(Layer { spatial, temporal });
        self.router.set_limit(self.viewer, limit, self.now);
    }

    fn play(&mut self, places: std::ops::Range<usize>) {
        for place in places {
            let recorded = &self.recording.packets[place];
            let ticks = recorded.timestamp - self.recording.packets[0].timestamp;
            let at = self.start + Duration::from_micros(u64::from(ticks) * 100 / 9);
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now);
            let packet = recorded.write(place as u16, self.described);
            let header = Header::parse(&packet).unwrap();
            let media = Media {
                codec: self.recording.codec,
                header,
                packet: &packet,
                audio_level: None,
                dependency: header.extension(&packet, DEPENDENCY),
                repaired: false,
                in_place: false,
            };
            let _ = self
                .router
                .handle_media(self.source, media, self.now)
                .unwrap();
            let received = &mut self.received;
            let forward = self.router.forward(self.now, |burst| {
                while burst.next_subscriber().is_some() {
                    let forwards = burst.forwards();
                    received.extend(forwards.iter().map(|forward| {
                        Received {
                            sequence: forward.rewrite.sequence,
                            timestamp: forward.rewrite.timestamp,
                            marker: recorded.marker || forward.rewrite.ends_picture,
                            truth: Some(recorded.truth.clone()),
                            id: Some(
                                recorded
                                    .said
                                    .number
                                    .wrapping_add(forward.rewrite.shift.frame),
                            ),
                            len: packet.len(),
                        }
                    }));
                }
            });
            forward.unwrap();
        }
    }

    fn play_all(&mut self) {
        self.play(0..self.recording.packets.len());
    }

    fn check(&self) {
        check(&self.received, &BTreeSet::new(), true);
    }

    /// Each picture that came, with its highest spatial layer.
    fn shown(&self) -> BTreeMap<u32, u8> {
        let mut shown = BTreeMap::new();
        for truth in self.received.iter().filter_map(|it| it.truth.as_ref()) {
            let highest = shown.entry(truth.picture).or_insert(0);
            *highest = truth.spatial.max(*highest);
        }
        shown
    }
}

fn is_narrow(recording: &Recording) -> bool {
    recording.name.ends_with("narrow")
}

/// With dependency descriptors, and where the payload says as much without them.
fn ways(recording: &Recording) -> &'static [bool] {
    match recording.codec {
        Codec::Vp9 => &[true, false],
        _ => &[true],
    }
}

#[test]
fn every_limit_gets_what_it_can_decode_and_no_more() {
    for recording in recordings().iter().filter(|it| !is_narrow(it)) {
        assert!(recording.packets.len() >= 200);
        for described in ways(recording) {
            for (spatial, temporal) in [(0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
                let mut playback = Playback::new(recording, *described);
                playback.limit(spatial, temporal);
                playback.play_all();
                playback.check();
                let truths = recording.packets.iter().map(|it| &it.truth);
                let fitting = truths.filter(|it| it.temporal <= temporal);
                // Of the last picture the recording may have a part only.
                let last = recording.packets.last().unwrap().truth.picture;
                let all: BTreeMap<u32, u8> = fitting
                    .filter(|it| it.picture < last)
                    .map(|it| (it.picture, spatial))
                    .collect();
                let mut shown = playback.shown();
                shown.remove(&last);
                assert_eq!(shown, all, "{} {spatial} {temporal}", recording.name);
            }
        }
    }
}

#[test]
fn sizes_are_those_that_the_media_tells() {
    for recording in recordings().iter().filter(|it| !is_narrow(it)) {
        for described in ways(recording) {
            let mut playback = Playback::new(recording, *described);
            playback.play_all();
            let (_, ladder) = playback.router.ladder(playback.viewer).unwrap();
            let pixels: BTreeSet<u32> = ladder.steps().iter().map(|step| step.pixels).collect();
            let expected = WIDTHS.map(|width| width * (width * 544 / 960));
            assert_eq!(pixels, BTreeSet::from(expected), "{}", recording.name);
        }
    }
}

/// Layers end with a new mask of active decode targets, some pictures before the key frame that begins
/// without them.
#[test]
fn layers_that_end_leave_those_below() {
    for recording in recordings().iter().filter(|it| is_narrow(it)) {
        let truths = || recording.packets.iter().map(|it| &it.truth);
        let mut sent: BTreeMap<u32, u8> = BTreeMap::new();
        for truth in truths() {
            let highest = sent.entry(truth.picture).or_insert(0);
            *highest = truth.spatial.max(*highest);
        }
        let tops: BTreeSet<u8> = sent.values().copied().collect();
        assert_eq!(tops, BTreeSet::from([0, 1, 2]), "{}", recording.name);
        for described in ways(recording) {
            let mut playback = Playback::new(recording, *described);
            playback.play_all();
            playback.check();
            let shown = playback.shown();
            for (picture, spatial) in &shown {
                assert_eq!(spatial, &sent[picture], "{} {picture}", recording.name);
            }
            // Without descriptors it takes some pictures to see that a layer has ended.
            let frozen = sent.len() - shown.len();
            let most = if *described { 8 } else { 16 };
            assert!(frozen <= most, "{} {described}: {frozen}", recording.name);
        }
    }
}

#[test]
fn limits_that_change_on_the_way_leave_no_trace() {
    for recording in &recordings() {
        for described in ways(recording) {
            for step in [7, 23, 61] {
                let mut playback = Playback::new(recording, *described);
                let mut state = step as u32;
                let count = recording.packets.len();
                for from in (0..count).step_by(step) {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    playback.limit((state >> 16) as u8 % 3, (state >> 20) as u8 % 3);
                    playback.play(from..count.min(from + step));
                }
                playback.check();
            }
        }
    }
}
