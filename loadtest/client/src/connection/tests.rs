//! A sender and a receiver, a bad network between them, in virtual time.

use std::sync::Arc;

use pipemesh_node_media::srtp::{MasterKey, MasterKeys, Profile as Cipher};
use rand::SeedableRng;

use super::*;
use crate::impairment::{Bandwidth, Impairment, Profile};
use crate::media::recording::samples;
use crate::media::sender::Terms;
use crate::media::{Audio, Media, Recorded, Recording, Scalable, ScalableCodec, Video};
use crate::sdp::Extensions;
use crate::transport::dtls::Identity;

const MS: Duration = Duration::from_millis(1);
const CAMERA: &str = "camera";

struct Pair {
    now: Instant,
    sender: Connection,
    receiver: Connection,
    there: Impairment<Vec<u8>>,
    back: Impairment<Vec<u8>>,
    outbox: Outbox,
}

fn connection(keys: &MasterKeys, seed: u64, now: Instant) -> Connection {
    let identity = Arc::new(Identity::generate(&[Cipher::AeadAes128Gcm]).unwrap());
    let mut rng = StdRng::seed_from_u64(seed);
    let peer = "192.0.2.1:7".parse().unwrap();
    let transport = Transport::keyed(identity, StdRng::seed_from_u64(seed), keys, peer, now);
    Connection::new(transport, 0, ReceiveMode::Full, &mut rng, now)
}

fn key(byte: u8) -> MasterKey {
    MasterKey::new(Cipher::AeadAes128Gcm, &[byte; 16], &[byte; 12]).unwrap()
}

fn stamp() -> TrackStamp {
    TrackStamp::of("room", "ann", CAMERA)
}

impl Pair {
    fn new(media: &Media, there: Profile, back: Profile, seed: u64) -> Self {
        println!("seed {seed}");
        let now = Instant::now();
        let (ann, ben) = (
            MasterKeys {
                local: key(1),
                remote: key(2),
            },
            MasterKeys {
                local: key(2),
                remote: key(1),
            },
        );
        let mut sender = connection(&ann, seed, now);
        let rng = StdRng::seed_from_u64(seed);
        let mut publication = Publication::new(media, stamp(), rng, now);
        let numbered = media.format().numbered();
        let terms = Terms {
            payload_type: numbered.payload_type,
            repair_payload_type: numbered.repair,
            extensions: Extensions::OURS,
            mid: "0".to_owned(),
        };
        publication.set_terms(Some(terms), now);
        let (ssrc, repair_ssrc) = publication.ssrcs();
        let client_id = CAMERA.to_owned();
        sender.outgoing.push(Outgoing {
            client_id,
            publication,
        });
        let setup = Setup {
            format: numbered.format,
            ssrc,
            repair_ssrc,
            payload_type: numbered.payload_type,
            repair_payload_type: numbered.repair,
            nack: numbered.repair.is_some(),
        };
        let mut receiver = connection(&ben, seed + 1, now);
        receiver.set_extensions(Extensions::OURS.mid, Extensions::OURS.transport_cc);
        let section = ("0".to_owned(), "TR_camera".to_owned(), setup);
        receiver.set_incoming(vec![section], |_| Some(stamp()));
        Self {
            now,
            sender,
            receiver,
            there: Impairment::new(there, seed + 2),
            back: Impairment::new(back, seed + 3),
            outbox: Outbox::default(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let now = self.now;
            let outbox = &mut self.outbox;
            self.sender.handle_timeout(outbox, now);
            while let Some(mut datagram) = self.back.pop(now) {
                self.sender.handle_datagram(&mut datagram, outbox, now);
            }
            outbox.drain(|_, _, datagram| self.there.push(datagram.to_vec(), datagram.len(), now));
            while let Some(mut datagram) = self.there.pop(now) {
                self.receiver.handle_datagram(&mut datagram, outbox, now);
            }
            self.receiver.handle_timeout(outbox, now);
            outbox.drain(|_, _, datagram| self.back.push(datagram.to_vec(), datagram.len(), now));
            let timers = [
                self.sender.poll_timeout(),
                self.receiver.poll_timeout(),
                self.there.poll_timeout(),
                self.back.poll_timeout(),
            ];
            let next = timers.into_iter().flatten().min().unwrap();
            if next >= end {
                self.now = end;
                return;
            }
            // What is due now and is not served would be due for ever.
            self.now = next.max(now + Duration::from_micros(1));
        }
    }

    fn receiver(&self) -> &Receiver {
        &self.receiver.incoming[0].receiver
    }
}

fn camera() -> Media {
    Media::Video(Video::single((1280, 720), 30, 1_500))
}

fn lossy(loss: f64) -> Profile {
    Profile {
        loss,
        delay: MS * 20,
        ..Profile::default()
    }
}

#[test]
fn what_is_lost_is_asked_for_and_comes() {
    for seed in 0..5 {
        let mut pair = Pair::new(&camera(), lossy(0.05), lossy(0.05), seed);
        pair.run(Duration::from_secs(20));
        let (counts, sent) = (pair.receiver().counts(), pair.sender.measured.sent);
        let lost = pair.there.counts().lost;
        println!("{counts:?} {sent:?}, {lost} lost");
        assert!(
            counts.recovered > 100 && counts.lost == 0,
            "seed {seed}: {counts:?}"
        );
        assert_eq!((counts.duplicates, counts.reordered), (0, 0), "seed {seed}");
        let frames = pair.receiver().frames();
        assert!(
            frames.decoded + 15 > sent.frames,
            "seed {seed}: {frames:?} of {sent:?}"
        );
        assert_eq!(pair.receiver().integrity, Integrity::default());
        // What the feedback says is what happened.
        let measured = &pair.sender.measured;
        let told = measured.acknowledged + measured.reported_lost;
        assert!(
            told > sent.packets * 8 / 10,
            "seed {seed}: {told} of {}",
            sent.packets
        );
        let share = measured.reported_lost as f64 / told as f64;
        assert!((0.02..0.08).contains(&share), "seed {seed}: {share}");
        let (round_trip, _) = pair.sender.outgoing[0].publication.reported();
        let round_trip = round_trip.unwrap();
        assert!(
            (MS * 39..MS * 42).contains(&round_trip),
            "seed {seed}: {round_trip:?}"
        );
    }
}

#[test]
fn scalable_pictures_are_put_together_from_their_layers() {
    for codec in [ScalableCodec::Vp9, ScalableCodec::Av1] {
        for key_only in [false, true] {
            let camera = Media::Scalable(Scalable::l3t3(codec, key_only));
            let mut pair = Pair::new(&camera, lossy(0.03), lossy(0.0), 5);
            pair.run(Duration::from_secs(20));
            let (frames, counts) = (pair.receiver().frames(), pair.receiver().counts());
            assert!(counts.recovered > 50 && counts.lost == 0, "{counts:?}");
            let sent = pair.sender.measured.sent;
            assert!(frames.decoded + 15 > sent.frames, "{frames:?} of {sent:?}");
            assert_eq!(pair.receiver().layer(), Some(2));
            assert_eq!(pair.receiver().integrity, Integrity::default());
            let kbps = sent.bytes as f64 * 8.0 / 20.0 / 1_000.0;
            assert!((1_400.0..1_700.0).contains(&kbps), "{kbps} kbit/s");
        }
    }
}

#[test]
fn overtaking_and_doubling_harm_nothing() {
    let profile = Profile {
        delay: MS * 20,
        reorder: 0.05,
        reorder_by: MS * 30,
        duplicate: 0.05,
        ..Profile::default()
    };
    let mut pair = Pair::new(&camera(), profile, Profile::default(), 3);
    pair.run(Duration::from_secs(20));
    let counts = pair.receiver().counts();
    assert_eq!(counts.lost, 0, "{counts:?}");
    assert!(counts.reordered > 0, "{counts:?}");
    // SRTP refuses what was seen before anybody else looks.
    assert!(pair.receiver.transport.refused > 0 && counts.duplicates <= counts.asked);
    assert_eq!(pair.receiver().integrity, Integrity::default());
}

#[test]
fn an_outage_is_a_freeze_that_a_key_frame_ends() {
    for seed in 0..5 {
        let mut pair = Pair::new(&camera(), lossy(0.0), lossy(0.0), seed);
        pair.run(Duration::from_secs(5));
        let until = pair.now + Duration::from_secs(3);
        pair.there.cut(until);
        pair.back.cut(until);
        pair.run(Duration::from_secs(10));
        let (frames, counts) = (pair.receiver().frames(), pair.receiver().counts());
        assert_eq!(
            (frames.freezes, frames.gaps),
            (1, 1),
            "seed {seed}: {frames:?}"
        );
        let outage = MS * 3_000..MS * 4_500;
        assert!(
            outage.contains(&frames.longest_gap),
            "seed {seed}: {frames:?}"
        );
        assert!(
            frames.key_frames >= 2 && counts.lost > 0,
            "seed {seed}: {frames:?} {counts:?}"
        );
        assert!(pair.sender.measured.key_frame_requests > 0, "seed {seed}");
        assert_eq!(pair.receiver().integrity.errors(), 0, "seed {seed}");
    }
}

#[test]
fn a_narrow_path_delays_and_drops() {
    let narrow = Profile {
        bandwidth: Some(Bandwidth {
            kbps: 1_000,
            queue: MS * 200,
        }),
        ..Profile::default()
    };
    let mut pair = Pair::new(&camera(), narrow, Profile::default(), 1);
    pair.run(Duration::from_secs(10));
    let latency = pair.receiver.measured.video_latency.value_at_quantile(0.5);
    // What was dropped and came again is later than the queue is long.
    assert!((150_000..400_000).contains(&latency), "{latency} us");
    assert!(pair.there.counts().dropped > 100);
    let bytes = pair.receiver().bytes as f64 * 8.0 / 10.0 / 1_000.0;
    assert!((850.0..1_010.0).contains(&bytes), "{bytes} kbit/s");
}

fn recorded(bytes: Vec<u8>, loops: bool) -> Media {
    let recording = Arc::new(Recording::read(bytes.into(), 25).unwrap());
    Media::Recorded(Recorded { recording, loops })
}

/// What a receiver knows of media that bears no stamps is no error, and no latency.
fn assert_plain(pair: &Pair) {
    let integrity = pair.receiver().integrity;
    assert_eq!(integrity.errors(), 0, "{integrity:?}");
    assert!(integrity.unstamped > 0, "{integrity:?}");
    assert_eq!(pair.receiver.measured.video_latency.len(), 0);
    assert_eq!(pair.receiver.measured.audio_latency.len(), 0);
    assert_eq!(pair.receiver().layer(), None);
}

#[test]
fn a_recording_is_played_over_and_over_and_mended() {
    for (name, bytes) in samples::all() {
        let is_video = name != "opus";
        let loss = if is_video { 0.03 } else { 0.0 };
        let mut pair = Pair::new(&recorded(bytes, true), lossy(loss), lossy(0.0), 7);
        pair.run(Duration::from_secs(20));
        let (frames, counts) = (pair.receiver().frames(), pair.receiver().counts());
        let sent = pair.sender.measured.sent;
        println!("{name}: {frames:?} {counts:?} {sent:?}");
        assert_plain(&pair);
        let per_second = if is_video { 25 } else { 50 };
        let range = 20 * per_second - 5..=20 * per_second + 1;
        assert!(range.contains(&sent.frames), "{name}: {sent:?}");
        // Neither times nor numbers jump where it begins anew.
        let jitter = pair.receiver().jitter();
        assert!(jitter < MS * 2, "{name}: {jitter:?}");
        assert_eq!(counts.lost, 0, "{name}: {counts:?}");
        if is_video {
            assert!(counts.recovered > 20, "{name}: {counts:?}");
            assert!(frames.decoded + 15 > sent.frames, "{name}: {frames:?}");
            assert_eq!(frames.freezes, 0, "{name}: {frames:?}");
            // Those that still wait for something when a key frame comes are passed over.
            assert!(frames.dropped < 15, "{name}: {frames:?}");
        }
    }
}

#[test]
fn a_recording_ends_unless_it_is_to_begin_anew() {
    for (name, bytes) in samples::all() {
        let count = if name == "opus" { 4 } else { 12 };
        let mut pair = Pair::new(&recorded(bytes, false), lossy(0.0), lossy(0.0), 7);
        pair.run(Duration::from_secs(5));
        let sent = pair.sender.measured.sent.frames;
        assert_eq!(sent, count, "{name}");
        assert_eq!(pair.sender.outgoing[0].publication.poll_timeout(), None);
        // Whoever comes late is not sent what is over.
        pair.sender.outgoing[0]
            .publication
            .set_muted(false, pair.now);
        pair.run(Duration::from_secs(1));
        let sent = pair.sender.measured.sent.frames;
        assert_eq!(sent, count, "{name}");
    }
}

#[test]
fn a_recording_is_seen_again_from_its_next_key_frame_on() {
    for (name, bytes) in samples::all() {
        if name == "opus" {
            continue;
        }
        let mut pair = Pair::new(&recorded(bytes, true), lossy(0.0), lossy(0.0), 1);
        pair.run(Duration::from_secs(2));
        let until = pair.now + Duration::from_secs(3);
        pair.there.cut(until);
        // What is asked for again comes to nobody.
        pair.back.cut(until + Duration::from_secs(2));
        pair.run(Duration::from_secs(10));
        let (frames, counts) = (pair.receiver().frames(), pair.receiver().counts());
        assert_plain(&pair);
        assert!(counts.lost > 0, "{name}: {counts:?}");
        assert_eq!((frames.freezes, frames.gaps), (1, 1), "{name}: {frames:?}");
        assert!(
            (MS * 3_000..MS * 4_500).contains(&frames.longest_gap),
            "{name}: {frames:?}"
        );
        let shown = frames.decoded as f64 / 25.0;
        assert!(shown > 12.0 - 4.5, "{name}: {frames:?}");
    }
}

#[test]
fn a_key_frame_that_is_asked_for_comes_at_once() {
    let long: Vec<Vec<u8>> = (0..250)
        .map(|place| match place {
            0 => vec![0x10, 0, 0, 0x9D, 1, 0x2A, 64, 1, 180, 0, 1, 2, 3],
            _ => vec![0x11, 0, 0, 1, 2, 3],
        })
        .collect();
    let file = samples::ivf(b"VP80", &long);
    let mut pair = Pair::new(&recorded(file, true), lossy(0.0), lossy(0.0), 1);
    pair.run(Duration::from_secs(1));
    let before = pair.receiver().frames().key_frames;
    let ssrc = pair.receiver().setup.ssrc;
    let publication = &mut pair.sender.outgoing[0].publication;
    assert!(!publication.handle_key_frame_request(ssrc + 1));
    assert!(publication.handle_key_frame_request(ssrc));
    pair.run(MS * 100);
    assert_eq!((before, pair.receiver().frames().key_frames), (1, 2));
    pair.sender.outgoing[0]
        .publication
        .set_muted(true, pair.now);
    pair.run(Duration::from_secs(1));
    pair.sender.outgoing[0]
        .publication
        .set_muted(false, pair.now);
    pair.run(MS * 100);
    assert_eq!(pair.receiver().frames().key_frames, 3);
}

#[test]
fn audio_is_not_asked_for_and_its_loss_is_seen() {
    let mut pair = Pair::new(&Media::Audio(Audio::default()), lossy(0.1), lossy(0.0), 9);
    pair.run(Duration::from_secs(60));
    let counts = pair.receiver().counts();
    assert_eq!((counts.asked, counts.recovered), (0, 0));
    let share = counts.lost as f64 / (counts.lost + counts.received) as f64;
    assert!((0.08..0.12).contains(&share), "{share}");
    assert_eq!(pair.receiver().integrity.errors(), 0);
}

#[test]
fn what_is_not_as_announced_is_an_error() {
    let mut pair = Pair::new(&camera(), lossy(0.0), lossy(0.0), 1);
    let bens = TrackStamp::of("room", "ben", CAMERA);
    pair.receiver.incoming[0].receiver.expect(bens);
    pair.run(Duration::from_secs(1));
    let integrity = pair.receiver().integrity;
    assert!(
        integrity.foreign > 50 && integrity.errors() == integrity.foreign,
        "{integrity:?}"
    );
}
