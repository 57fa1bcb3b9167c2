//! One published track: when its frames are due, what they are cut into, which stream sends them.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::packet::{Codec, MAX_PAYLOAD, MIN_VIDEO, Payload};
use super::playing::Playing;
use super::scalable::Encoder;
use super::sender::{Sender, Terms, Uplink};
use super::source::{AUDIO_FRAME, VideoSizes, Voice};
use super::stamp::{Stamp, TrackStamp};
use super::{Layer, Media, Recorded, Video, clock};
use crate::wire::rtcp::{self, Block, Sent};

const VIDEO_CLOCK: u32 = 90_000;
const AUDIO_CLOCK: u32 = 48_000;

/// As [`MAX_PAYLOAD`], with room for a dependency descriptor that tells of all layers.
const MAX_SCALABLE_PAYLOAD: usize = MAX_PAYLOAD - 48;

/// Servers know a track once something of it came. A browser sends of a muted one as well, silence and
/// black; we do in the beginning, so many times.
const INTRODUCTION: u8 = 25;

#[derive(Debug)]
pub(crate) struct Publication {
    stamp: TrackStamp,
    terms: Option<Terms>,
    muted: bool,
    /// So often it sends all the same.
    introduces: u8,
    /// So many of its layers, from the lowest up, does anybody want.
    wanted: usize,
    /// Which of its layers are not sent, because the publisher wants it so.
    left_out: Vec<bool>,
    /// Timestamps of all encodings count from here.
    began: Instant,
    timestamp_base: u32,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Audio(Box<Speech>),
    Video {
        encodings: Vec<Encoding>,
        key_frame_every: Option<Duration>,
    },
    Scalable(Box<Layered>),
    Recorded(Box<Playing>),
}

/// One stream with layers in it.
#[derive(Debug)]
struct Layered {
    encoder: Encoder,
    sender: Sender,
    picture_id: u16,
    interval: Duration,
    next: Instant,
    wants_key_picture: bool,
}

#[derive(Debug)]
struct Speech {
    voice: Voice,
    sender: Sender,
    frame: u32,
    next: Instant,
}

#[derive(Debug)]
struct Encoding {
    layer: Layer,
    sizes: VideoSizes,
    sender: Sender,
    picture_id: u16,
    frame: u32,
    next: Instant,
    wants_key_frame: bool,
    last_key_frame: Instant,
}

impl Publication {
    pub(crate) fn new(media: &Media, stamp: TrackStamp, mut rng: StdRng, now: Instant) -> Self {
        let sender = |rid: &str, rng: &mut StdRng| {
            Sender::new(rid, rng.random(), rng.random(), rng.random())
        };
        let source = match media {
            Media::Audio(audio) => Source::Audio(Box::new(Speech {
                sender: sender("", &mut rng),
                voice: Voice::new(audio.clone(), StdRng::seed_from_u64(rng.random()), now),
                frame: 0,
                next: now,
            })),
            Media::Video(Video {
                layers,
                key_frame_every,
                steady,
            }) => {
                let simulcast = layers.len() > 1;
                let encoding = |layer: &Layer| Encoding {
                    sender: sender(if simulcast { &layer.rid } else { "" }, &mut rng),
                    sizes: VideoSizes::new(layer, *steady, StdRng::seed_from_u64(rng.random())),
                    picture_id: rng.random_range(0..0x8000),
                    layer: layer.clone(),
                    frame: 0,
                    next: now,
                    wants_key_frame: true,
                    last_key_frame: now,
                };
                Source::Video {
                    encodings: layers.iter().map(encoding).collect(),
                    key_frame_every: *key_frame_every,
                }
            }
            Media::Scalable(camera) => Source::Scalable(Box::new(Layered {
                sender: sender("", &mut rng),
                picture_id: rng.random_range(0..0x8000),
                encoder: Encoder::new(camera, || rng.random()),
                interval: frame_interval(camera.layers.first()),
                next: now,
                wants_key_picture: true,
            })),
            Media::Recorded(Recorded { recording, loops }) => {
                let sender = sender("", &mut rng);
                let picture_id = rng.random();
                let playing = Playing::new(recording, *loops, sender, picture_id, now);
                Source::Recorded(Box::new(playing))
            }
        };
        Self {
            stamp,
            terms: None,
            muted: false,
            introduces: 0,
            wanted: usize::MAX,
            left_out: Vec::new(),
            began: now,
            timestamp_base: rng.random(),
            source,
        }
    }

    /// Published again over another connection: other streams, whose frames go on where they were.
    pub(crate) fn begin_anew(&mut self, mut rng: StdRng) {
        self.terms = None;
        self.introduces = if self.muted { INTRODUCTION } else { 0 };
        self.wanted = usize::MAX;
        self.timestamp_base = rng.random();
        for sender in self.senders() {
            sender.begin_anew(rng.random(), rng.random(), rng.random());
        }
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.muted
    }

    fn is_silent(&self) -> bool {
        self.muted && self.introduces == 0
    }

    /// The SSRCs of what has one encoding: media and retransmissions.
    pub(crate) fn ssrcs(&self) -> (u32, Option<u32>) {
        match &self.source {
            Source::Audio(speech) => (speech.sender.ssrc, None),
            Source::Video { encodings, .. } => {
                let sender = &encodings[0].sender;
                (sender.ssrc, Some(sender.repair_ssrc))
            }
            Source::Scalable(camera) => (camera.sender.ssrc, Some(camera.sender.repair_ssrc)),
            Source::Recorded(playing) => {
                let sender = &playing.sender;
                let repair = playing.recording.is_video().then_some(sender.repair_ssrc);
                (sender.ssrc, repair)
            }
        }
    }

    pub(crate) fn set_muted(&mut self, muted: bool, now: Instant) {
        self.muted = muted;
        self.introduces = 0;
        self.resume(now);
    }

    /// Layers above are not sent; one stream with layers in it as long as any of them is wanted.
    pub(crate) fn set_wanted(&mut self, layers: usize, now: Instant) {
        let before = std::mem::replace(&mut self.wanted, layers);
        match &mut self.source {
            Source::Video { encodings, .. } => {
                encodings
                    .iter_mut()
                    .take(layers)
                    .skip(before)
                    .for_each(|it| it.resume(now));
            }
            Source::Audio(_) | Source::Scalable(_) | Source::Recorded(_) => {
                if before == 0 {
                    self.resume(now);
                }
            }
        }
    }

    /// Only layers of these names are sent; what has none is not concerned.
    pub(crate) fn set_layers(&mut self, rids: &[String], now: Instant) {
        let Source::Video { encodings, .. } = &mut self.source else {
            return;
        };
        let left_out = encodings.iter().map(|it| !rids.contains(&it.layer.rid));
        let left_out: Vec<bool> = left_out.collect();
        let before = std::mem::take(&mut self.left_out).into_iter();
        let before = before.chain(std::iter::repeat(false));
        for ((encoding, before), now_out) in encodings.iter_mut().zip(before).zip(&left_out) {
            if before && !now_out {
                encoding.resume(now);
            }
        }
        self.left_out = left_out;
    }

    #[cfg(test)]
    pub(crate) fn left_out(&self) -> &[bool] {
        &self.left_out
    }

    /// Packets sent so far, of each encoding from the lowest up.
    pub(crate) fn packets(&self) -> Vec<u32> {
        match &self.source {
            Source::Audio(speech) => vec![speech.sender.packets()],
            Source::Video { encodings, .. } => {
                encodings.iter().map(|it| it.sender.packets()).collect()
            }
            Source::Scalable(camera) => vec![camera.sender.packets()],
            Source::Recorded(playing) => vec![playing.sender.packets()],
        }
    }

    /// What was negotiated; None: nothing may be sent.
    pub(crate) fn set_terms(&mut self, terms: Option<Terms>, now: Instant) {
        let begins = self.terms.is_none() && terms.is_some();
        self.terms = terms;
        if begins {
            self.resume(now);
        }
    }

    /// Frames that were due while nothing could be sent are not made up for.
    fn resume(&mut self, now: Instant) {
        match &mut self.source {
            Source::Audio(speech) => speech.next = now,
            Source::Video { encodings, .. } => {
                encodings.iter_mut().for_each(|it| it.resume(now));
            }
            Source::Scalable(camera) => {
                camera.next = now;
                camera.wants_key_picture = true;
            }
            Source::Recorded(playing) => playing.resume(now),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.terms.is_none() || self.is_silent() || self.wanted == 0 {
            return None;
        }
        match &self.source {
            Source::Audio(speech) => Some(speech.next),
            Source::Video { encodings, .. } => {
                let sent = encodings.iter().take(self.wanted);
                let sent = sent.enumerate().filter(|(place, _)| self.sends(*place));
                sent.map(|(_, it)| it.next).min()
            }
            Source::Scalable(camera) => Some(camera.next),
            Source::Recorded(playing) => playing.poll_timeout(),
        }
    }

    fn sends(&self, layer: usize) -> bool {
        self.left_out.get(layer) != Some(&true)
    }

    /// Sends what is due. The schedule is absolute: what is late is sent late and counted, never
    /// skipped.
    pub(crate) fn handle_timeout(&mut self, uplink: &mut Uplink<'_>, now: Instant) {
        let Some(terms) = self
            .terms
            .as_ref()
            .filter(|_| !self.is_silent() && self.wanted > 0)
        else {
            return;
        };
        if !uplink.transport.is_secured() {
            return self.resume_later(now);
        }
        self.introduces = self.introduces.saturating_sub(1);
        let ticks = |at: Instant, rate: u32| {
            let since = at.saturating_duration_since(self.began);
            let ticks = since.as_micros() * u128::from(rate) / 1_000_000;
            self.timestamp_base.wrapping_add(ticks as u32)
        };
        match &mut self.source {
            Source::Audio(speech) => {
                while speech.next <= now {
                    let timestamp = ticks(speech.next, AUDIO_CLOCK);
                    speech.send_frame(self.stamp, terms, timestamp, uplink, now);
                }
            }
            Source::Video {
                encodings,
                key_frame_every,
            } => {
                for (layer, encoding) in (0..).zip(encodings).take(self.wanted) {
                    if self.left_out.get(usize::from(layer)) == Some(&true) {
                        continue;
                    }
                    while encoding.next <= now {
                        let timestamp = ticks(encoding.next, VIDEO_CLOCK);
                        let track = (self.stamp, layer);
                        encoding.send_frame(track, terms, timestamp, *key_frame_every, uplink, now);
                    }
                }
            }
            Source::Scalable(camera) => {
                while camera.next <= now {
                    let timestamp = ticks(camera.next, VIDEO_CLOCK);
                    camera.send_picture(self.stamp, terms, timestamp, uplink, now);
                }
            }
            Source::Recorded(playing) => {
                let clock = match playing.recording.is_video() {
                    true => VIDEO_CLOCK,
                    false => AUDIO_CLOCK,
                };
                while let Some(due) = playing.poll_timeout().filter(|due| *due <= now) {
                    playing.send_frame(terms, ticks(due, clock), uplink, now);
                }
            }
        }
    }

    /// The connection is not up yet.
    fn resume_later(&mut self, now: Instant) {
        self.resume(now + AUDIO_FRAME);
    }

    fn senders(&mut self) -> impl Iterator<Item = &mut Sender> {
        let (only, several) = match &mut self.source {
            Source::Audio(speech) => (Some(&mut speech.sender), None),
            Source::Video { encodings, .. } => (None, Some(encodings)),
            Source::Scalable(camera) => (Some(&mut camera.sender), None),
            Source::Recorded(playing) => (Some(&mut playing.sender), None),
        };
        let several = several
            .into_iter()
            .flatten()
            .map(|encoding| &mut encoding.sender);
        only.into_iter().chain(several)
    }

    pub(crate) fn handle_report(&mut self, block: &Block, now: Instant) {
        let about = |it: &&mut Sender| it.ssrc == block.ssrc || it.repair_ssrc == block.ssrc;
        if let Some(sender) = self.senders().find(about) {
            sender.handle_report(block, now);
        }
    }

    pub(crate) fn handle_nack(
        &mut self,
        media: u32,
        lost: &rtcp::Lost<'_>,
        uplink: &mut Uplink<'_>,
    ) {
        let Some(terms) = self.terms.clone() else {
            return;
        };
        if let Some(sender) = self.senders().find(|it| it.ssrc == media) {
            sender.repair(&terms, lost.iter(), uplink);
        }
    }

    /// True if the request is for one of our encodings: its next frame is a key frame.
    pub(crate) fn handle_key_frame_request(&mut self, media: u32) -> bool {
        let wants = match &mut self.source {
            Source::Audio(_) => None,
            Source::Video { encodings, .. } => {
                let asked = encodings.iter_mut().find(|it| it.sender.ssrc == media);
                asked.map(|encoding| &mut encoding.wants_key_frame)
            }
            Source::Scalable(camera) => {
                (camera.sender.ssrc == media).then_some(&mut camera.wants_key_picture)
            }
            Source::Recorded(playing) => {
                let is_asked = playing.recording.is_video() && playing.sender.ssrc == media;
                if is_asked {
                    playing.want_key_frame();
                }
                return is_asked;
            }
        };
        wants.is_some_and(|wants| {
            *wants = true;
            true
        })
    }

    pub(crate) fn reports(&mut self, now: Instant) -> Vec<Sent> {
        let rate = match &self.source {
            Source::Audio(_) => AUDIO_CLOCK,
            Source::Recorded(playing) if !playing.recording.is_video() => AUDIO_CLOCK,
            Source::Video { .. } | Source::Scalable(_) | Source::Recorded(_) => VIDEO_CLOCK,
        };
        self.senders()
            .filter_map(|sender| sender.report(rate, now))
            .collect()
    }

    /// The worst of what the server reported: round trip and share lost.
    pub(crate) fn reported(&mut self) -> (Option<Duration>, f64) {
        let mut senders = self.senders().collect::<Vec<_>>();
        let lost = senders
            .iter_mut()
            .map(|it| it.fraction_lost())
            .max()
            .unwrap_or(0);
        let round_trip = senders.iter().filter_map(|it| it.round_trip()).max();
        (round_trip, f64::from(lost) / 256.0)
    }
}

impl Speech {
    fn send_frame(
        &mut self,
        track: TrackStamp,
        terms: &Terms,
        timestamp: u32,
        uplink: &mut Uplink<'_>,
        now: Instant,
    ) {
        note_frame(uplink, self.next, AUDIO_FRAME, now);
        let voiced = self.voice.next(self.next);
        let payload = Payload {
            codec: Codec::Opus,
            stamp: stamp(track, 0, false, self.frame, (0, 1), now),
            len: voiced.len,
        };
        let level = Some(voiced.level);
        self.sender
            .send(terms, timestamp, false, level, payload, uplink, now);
        self.frame = self.frame.wrapping_add(1);
        self.next += voiced.pause;
    }
}

impl Encoding {
    fn resume(&mut self, now: Instant) {
        self.next = now;
        self.wants_key_frame = true;
    }

    fn send_frame(
        &mut self,
        (track, layer): (TrackStamp, u8),
        terms: &Terms,
        timestamp: u32,
        key_frame_every: Option<Duration>,
        uplink: &mut Uplink<'_>,
        now: Instant,
    ) {
        let interval = frame_interval(Some(&self.layer));
        note_frame(uplink, self.next, interval, now);
        let since = now.saturating_duration_since(self.last_key_frame);
        let due = key_frame_every.is_some_and(|every| since >= every);
        let is_key_frame = std::mem::take(&mut self.wants_key_frame) || due;
        if is_key_frame {
            self.last_key_frame = now;
        }
        let size = self.sizes.next(is_key_frame);
        let codec = Codec::Vp8 {
            width: self.layer.width as u16,
            height: self.layer.height as u16,
            picture_id: self.picture_id,
        };
        for (place, len) in packets(size, MAX_PAYLOAD) {
            let payload = Payload {
                codec,
                stamp: stamp(track, layer, is_key_frame, self.frame, place, now),
                len,
            };
            let marker = place.0 + 1 == place.1;
            self.sender
                .send(terms, timestamp, marker, None, payload, uplink, now);
        }
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.frame = self.frame.wrapping_add(1);
        self.next += interval;
    }
}

impl Layered {
    fn send_picture(
        &mut self,
        track: TrackStamp,
        terms: &Terms,
        timestamp: u32,
        uplink: &mut Uplink<'_>,
        now: Instant,
    ) {
        note_frame(uplink, self.next, self.interval, now);
        let is_key = std::mem::take(&mut self.wants_key_picture);
        let codec = Codec::Scalable {
            mode: self.encoder.mode,
            picture_id: self.picture_id,
        };
        let top = self.encoder.mode.sizes().len() as u8 - 1;
        for (frame, size) in self.encoder.picture(is_key) {
            for (place, len) in packets(size, MAX_SCALABLE_PAYLOAD) {
                let stamp = Stamp {
                    inner: Some(frame.inner),
                    ..stamp(track, frame.spatial, is_key, frame.number, place, now)
                };
                let payload = Payload { codec, stamp, len };
                let marker = frame.spatial == top && place.0 + 1 == place.1;
                self.sender
                    .send(terms, timestamp, marker, None, payload, uplink, now);
            }
        }
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.next += self.interval;
    }
}

fn frame_interval(layer: Option<&Layer>) -> Duration {
    Duration::from_secs(1) / layer.map_or(1, |layer| layer.fps.max(1))
}

/// The packets of a frame of so many bytes: place, number and length. They are equal but for one byte,
/// the longer ones last, as libwebrtc's.
fn packets(size: usize, max: usize) -> impl Iterator<Item = ((u16, u16), usize)> {
    let count = size.div_ceil(max);
    let (len, longer) = (size / count, size % count);
    (0..count).map(move |packet| {
        let len = len + usize::from(packet >= count - longer);
        ((packet as u16, count as u16), len.max(MIN_VIDEO))
    })
}

pub(super) fn note_frame(uplink: &mut Uplink<'_>, due: Instant, interval: Duration, now: Instant) {
    uplink.counts.frames += 1;
    let late = now.saturating_duration_since(due) > interval / 2;
    uplink.counts.late += u64::from(late);
}

fn stamp(
    track: TrackStamp,
    layer: u8,
    is_key_frame: bool,
    frame: u32,
    (packet, packets): (u16, u16),
    now: Instant,
) -> Stamp {
    Stamp {
        track,
        layer,
        is_key_frame,
        frame,
        begun: 0,
        packet,
        packets,
        sent: clock::nanos(now),
        inner: None,
    }
}
