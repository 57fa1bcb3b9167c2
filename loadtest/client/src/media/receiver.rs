//! One incoming track: its stream and the retransmissions of it, what came, what it was worth.

use std::time::{Duration, Instant};

use super::clock;
use super::frames::{FrameCounts, Frames, MAX_RECENT_GAPS, MEDIA_GAP};
use super::packet;
use super::plain::{Plain, starts_key_frame};
use super::sequence::{Counts, Place, Repair, Sequence, Via};
use super::stamp::{Stamp, TrackStamp, Unstamped};
use crate::sdp::Format;
use crate::stats::{Integrity, LayerChange};
use crate::wire::rtcp::Block;
use crate::wire::rtp::Header;

const VIDEO_CLOCK: f64 = 90_000.0;
const AUDIO_CLOCK: f64 = 48_000.0;

/// Changes of the received layer that are remembered.
const MAX_CHANGES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) format: Format,
    pub(crate) ssrc: u32,
    pub(crate) repair_ssrc: Option<u32>,
    pub(crate) payload_type: u8,
    pub(crate) repair_payload_type: Option<u8>,
    pub(crate) nack: bool,
}

impl Setup {
    pub(crate) fn is_video(&self) -> bool {
        self.format != Format::Opus
    }

    fn repair(&self) -> Repair {
        match (self.is_video(), self.repair_ssrc) {
            _ if !self.nack => Repair::None,
            (false, _) => Repair::InPlace,
            (true, Some(_)) => Repair::Aside,
            (true, None) => Repair::None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) setup: Setup,
    /// What its stamps must say. None: nothing is known of the track.
    expected: Option<TrackStamp>,
    early: Option<Early>,
    sequence: Sequence,
    frames: Frames,
    bears: Bears,
    pub(crate) integrity: Integrity,
    pub(crate) bytes: u64,
    pub(crate) first_packet: Option<Instant>,
    pub(crate) first_frame: Option<Instant>,
    last_packet: Option<Instant>,
    pub(crate) longest_pause: Duration,
    pub(crate) layers: Vec<LayerChange>,
    pub(crate) key_frame_requests: u64,
    /// The newest packet's stamp and RTP timestamp.
    newest: Option<(Stamp, u32)>,
    /// The newest packet may not follow the one before: media was paused.
    resumed: bool,
    jitter: f64,
    transit: Option<f64>,
    /// The last sender report: the middle of its time, and when it came.
    report: Option<(u32, Instant)>,
    /// At the last report of ours.
    reported: (u64, u64),
    given_up: bool,
    /// Every packet is looked into.
    pub(crate) verified: bool,
    /// The last of `layers`, also if there were too many to be remembered.
    current: Option<u8>,
    recent: Recent,
}

/// What came before signaling spoke of its track: media and words take different ways, and either may be
/// the faster one.
#[derive(Debug)]
struct Early {
    track: TrackStamp,
    since: Instant,
    packets: u64,
}

/// Whoever is not told of a track for this long after its media came is not going to be.
const EARLY: Duration = Duration::from_secs(2);

/// Whether the stream's payloads bear stamps: all of them, or none.
#[derive(Debug)]
enum Bears {
    /// So many looked like a damaged stamp. A recording may hold those bytes by chance, a few at most.
    Unknown(u64),
    Stamps,
    None(Plain),
}

/// By chance nobody has so many.
const DAMAGED: u64 = 3;

/// Since somebody last looked: some of the latencies, each as likely as any other, and all gaps.
#[derive(Debug, Default)]
struct Recent {
    latencies: Vec<Duration>,
    /// Packets that had one.
    seen: u32,
    /// When each ended, and how long it was.
    gaps: Vec<(Instant, Duration)>,
}

/// Latencies told of a track at a time: more say little more, and cost every watcher.
const MAX_LATENCIES: usize = 8;

impl Recent {
    /// Reservoir sampling; the lot is drawn by a hash of the count.
    fn note_latency(&mut self, latency: Duration) {
        self.seen += 1;
        if self.latencies.len() < MAX_LATENCIES {
            self.latencies.push(latency);
            return;
        }
        let lot = self.seen.wrapping_mul(0x9E37_79B9) >> 7;
        let place = (lot % self.seen) as usize;
        if let Some(kept) = self.latencies.get_mut(place) {
            *kept = latency;
        }
    }
}

impl Receiver {
    pub(crate) fn new(setup: Setup, expected: Option<TrackStamp>) -> Self {
        Self {
            setup,
            expected,
            early: None,
            sequence: Sequence::new(setup.repair()),
            frames: Frames::default(),
            bears: Bears::Unknown(0),
            integrity: Integrity::default(),
            bytes: 0,
            first_packet: None,
            first_frame: None,
            last_packet: None,
            longest_pause: Duration::ZERO,
            layers: Vec::new(),
            key_frame_requests: 0,
            newest: None,
            resumed: true,
            jitter: 0.0,
            transit: None,
            report: None,
            reported: (0, 0),
            given_up: false,
            verified: true,
            current: None,
            recent: Recent::default(),
        }
    }

    /// How long nothing came that could be heard or shown; none if that is as it should be.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let last = match self.setup.is_video() && self.verified {
            true => self.frames.last_shown(),
            false => self.last_packet.filter(|_| !self.resumed),
        };
        last.map(|last| now.saturating_duration_since(last))
    }

    /// Latencies and gaps since the last call.
    pub(crate) fn take_recent(&mut self) -> (Vec<Duration>, Vec<(Instant, Duration)>) {
        let Recent {
            latencies,
            mut gaps,
            ..
        } = std::mem::take(&mut self.recent);
        gaps.extend(self.frames.take_gaps());
        (latencies, gaps)
    }

    /// The same track came over another connection before: it stood still since, unless that was as it
    /// should be.
    pub(crate) fn follow(&mut self, former: Self) {
        self.frames.follow(former.frames);
        self.recent = former.recent;
        self.last_packet = former.last_packet.filter(|_| !former.resumed);
        self.resumed = former.resumed;
    }

    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    pub(crate) fn counts(&self) -> Counts {
        self.sequence.counts()
    }

    pub(crate) fn missing(&self) -> usize {
        self.sequence.missing()
    }

    pub(crate) fn frames(&self) -> FrameCounts {
        self.frames.counts()
    }

    pub(crate) fn layer(&self) -> Option<u8> {
        self.current
    }

    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter / self.clock_rate())
    }

    fn clock_rate(&self) -> f64 {
        if self.setup.is_video() {
            VIDEO_CLOCK
        } else {
            AUDIO_CLOCK
        }
    }

    /// Notes that a packet of the media stream came; its place decides whether it is looked at.
    pub(crate) fn handle_media(&mut self, header: &Header, len: usize, now: Instant) -> Place {
        self.bytes += len as u64;
        self.first_packet.get_or_insert(now);
        if let Some(last) = self.last_packet.replace(now) {
            let pause = now - last;
            self.longest_pause = self.longest_pause.max(pause);
            // Of video that is looked into, frames tell.
            let tells =
                (!self.setup.is_video() || !self.verified) && !self.resumed && pause > MEDIA_GAP;
            if tells && self.recent.gaps.len() < MAX_RECENT_GAPS {
                self.recent.gaps.push((now, pause));
            }
            self.resumed &= self.verified;
        }
        let place = self.sequence.handle(header.sequence, Via::Media, now);
        if let Place::Newest { .. } = place {
            self.note_transit(header, now);
        }
        place
    }

    fn note_transit(&mut self, header: &Header, now: Instant) {
        let arrival = clock::nanos(now) as f64 / 1e9 * self.clock_rate();
        // Timestamps wrap, and so does their difference to the clock.
        let transit = f64::from(
            (arrival as u64 as u32)
                .wrapping_sub(header.timestamp)
                .cast_signed(),
        );
        if let Some(before) = self.transit.replace(transit) {
            // RFC 3550 section 6.4.1; a jump is a stream that began anew.
            let change = (transit - before).abs();
            if change < self.clock_rate() {
                self.jitter += (change - self.jitter) / 16.0;
            }
        }
    }

    /// The place of a packet that was sent again, by its original number. None: it is padding.
    pub(crate) fn handle_retransmission<'a>(
        &mut self,
        payload: &'a [u8],
        now: Instant,
    ) -> Option<(Place, &'a [u8])> {
        self.bytes += payload.len() as u64;
        let (original, payload) = payload.split_first_chunk::<2>()?;
        let original = u16::from_be_bytes(*original);
        Some((
            self.sequence.handle(original, Via::Retransmission, now),
            payload,
        ))
    }

    /// Looks into an opened payload. `verified`: into every one, so that frames can be put together.
    /// Answers the one-way latency, if it is a stamped one.
    pub(crate) fn handle_payload(
        &mut self,
        payload: &[u8],
        header: &Header,
        place: Place,
        verified: bool,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        if payload.is_empty() || place == Place::Duplicate {
            return None;
        }
        let read = packet::read(self.setup.format, payload);
        self.note_bearing(&read);
        if let Bears::None(_) = self.bears {
            // Somebody's stamp among media that bears none.
            self.integrity.foreign += u64::from(read.is_ok());
            self.integrity.unstamped += u64::from(read.is_err());
            self.handle_plain(payload, header, place, verified, now);
            return None;
        }
        let stamp = match read {
            Ok(stamp) => stamp,
            Err(Unstamped::Foreign) => {
                self.integrity.unstamped += 1;
                return None;
            }
            Err(Unstamped::Damaged) => {
                let is_certain = matches!(self.bears, Bears::Stamps);
                self.integrity.damaged += u64::from(is_certain);
                return None;
            }
        };
        match self.expected {
            Some(expected) if expected != stamp.track => self.integrity.foreign += 1,
            Some(_) => {}
            None => self.note_early(stamp.track, now),
        }
        if let Place::Newest { step } = place
            && verified
        {
            self.check_succession(&stamp, header.timestamp, step);
            self.newest = Some((stamp, header.timestamp));
        }
        if !self.setup.is_video() {
            self.first_frame.get_or_insert(now);
        } else if verified {
            self.frames.handle_packet(&stamp, header.marker, now);
            if let Some(layer) = self.frames.layer() {
                self.first_frame.get_or_insert(now);
                self.note_layer(layer, began, now);
            }
        } else if header.marker || stamp.inner.is_none() {
            self.note_layer(stamp.layer, began, now);
        }
        let age = clock::age(stamp.sent, now)?;
        self.recent.note_latency(age);
        Some(age)
    }

    /// Signaling has spoken of the track.
    pub(crate) fn expect(&mut self, track: TrackStamp) {
        self.expected = Some(track);
        if let Some(early) = self.early.take()
            && early.track != track
        {
            self.integrity.foreign += early.packets;
        }
    }

    fn note_early(&mut self, track: TrackStamp, now: Instant) {
        let early = self.early.get_or_insert(Early {
            track,
            since: now,
            packets: 0,
        });
        if early.track != track {
            self.integrity.foreign += 1;
        } else if now.saturating_duration_since(early.since) < EARLY {
            early.packets += 1;
        } else {
            self.integrity.unannounced += 1 + std::mem::take(&mut early.packets);
        }
    }

    fn note_bearing(&mut self, read: &Result<Stamp, Unstamped>) {
        match (&mut self.bears, read) {
            (Bears::Unknown(_), Err(Unstamped::Foreign)) => {
                self.bears = Bears::None(Plain::default());
            }
            (Bears::Unknown(damaged), Err(Unstamped::Damaged)) if *damaged + 1 < DAMAGED => {
                *damaged += 1;
            }
            (Bears::Unknown(damaged), Err(Unstamped::Damaged) | Ok(_)) => {
                self.integrity.damaged += *damaged;
                self.bears = Bears::Stamps;
            }
            // Servers may send frames of their own before those of the publisher.
            (Bears::None(_), Ok(stamp)) if self.expected.is_none_or(|it| it == stamp.track) => {
                self.bears = Bears::Stamps;
            }
            (Bears::None(_) | Bears::Stamps, _) => {}
        }
    }

    /// Media without stamps: what is known of it is when it came.
    fn handle_plain(
        &mut self,
        payload: &[u8],
        header: &Header,
        place: Place,
        verified: bool,
        now: Instant,
    ) {
        self.resumed &= !matches!(place, Place::Newest { .. });
        if !self.setup.is_video() {
            self.first_frame.get_or_insert(now);
        } else if let Bears::None(plain) = &mut self.bears
            && verified
        {
            let is_key = starts_key_frame(self.setup.format, payload);
            let (sequence, frames) = (&self.sequence, &mut self.frames);
            if plain.handle((is_key, header.marker), place, sequence, frames, now) {
                self.first_frame.get_or_insert(now);
            }
        }
    }

    fn note_layer(&mut self, layer: u8, began: Instant, now: Instant) {
        let known = self.current.replace(layer);
        if known != Some(layer) && self.layers.len() < MAX_CHANGES {
            let at = now.saturating_duration_since(began);
            self.layers.push(LayerChange { at, layer });
        }
    }

    /// A server forwards a stream whole, renumbered: what is lost shows as a gap, and layers change
    /// at key frames only.
    fn check_succession(&mut self, stamp: &Stamp, timestamp: u32, step: u64) {
        let resumed = std::mem::take(&mut self.resumed);
        let Some((before, time_before)) = self.newest else {
            return;
        };
        // Its publisher joined anew: where the stream before ended, nobody can tell.
        if step != 1 || before.begun != stamp.begun {
            return;
        }
        if stamp.inner.is_some() {
            return self.check_inside(stamp, &before, time_before == timestamp, resumed);
        }
        let begins_key_frame = stamp.is_key_frame && stamp.packet == 0;
        if before.layer != stamp.layer {
            self.integrity.torn_switches += u64::from(!begins_key_frame);
            return;
        }
        let same_frame = before.frame == stamp.frame;
        if same_frame != (time_before == timestamp) {
            self.integrity.mixed_frames += 1;
        }
        let next = before.packet.wrapping_add(1);
        let whole = next == before.packets;
        let follows = match same_frame {
            true => next == stamp.packet,
            false => whole && stamp.packet == 0 && before.frame.wrapping_add(1) == stamp.frame,
        };
        self.integrity.hidden_losses += u64::from(!follows && !resumed && !begins_key_frame);
    }

    /// Of a stream with layers in it whole frames may be left out, but none that another one needs that
    /// is forwarded.
    fn check_inside(&mut self, stamp: &Stamp, before: &Stamp, same_time: bool, resumed: bool) {
        let same_frame = before.frame == stamp.frame;
        self.integrity.mixed_frames += u64::from(same_frame && !same_time);
        let next = before.packet.wrapping_add(1);
        let follows = match same_frame {
            true => next == stamp.packet,
            false => next == before.packets && stamp.packet == 0,
        };
        self.integrity.hidden_losses += u64::from(!follows && !resumed);
        let references = stamp.inner.map_or([0; 2], |inner| inner.references);
        let needed = references.into_iter().filter(|distance| *distance > 0);
        let mut needed = needed.map(|distance| stamp.frame.wrapping_sub(u32::from(distance)));
        let torn = stamp.packet == 0 && needed.any(|frame| !self.frames.knows(frame));
        let is_whole = self.sequence.missing() == 0 && self.sequence.counts().lost == 0;
        self.integrity.torn_switches += u64::from(torn && is_whole && !resumed);
    }

    pub(crate) fn handle_sender_report(&mut self, ntp: u64, now: Instant) {
        self.report = Some((clock::middle(ntp), now));
    }

    /// Media pauses or goes on because somebody wished so.
    pub(crate) fn handle_pause(&mut self) {
        self.resumed = true;
        self.transit = None;
        self.frames.pause();
        if let Bears::None(plain) = &mut self.bears {
            plain.pause();
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sequence.poll_timeout()
    }

    /// What to ask for again.
    pub(crate) fn handle_timeout(&mut self, round_trip: Duration, now: Instant) -> Vec<u16> {
        let (wanted, given_up) = self.sequence.handle_timeout(round_trip, now);
        self.given_up |= given_up;
        wanted
    }

    /// Whether to ask for a key frame. `verified`: payloads are looked at, so it is known which
    /// frames can be decoded; else only what is lost is.
    pub(crate) fn wants_key_frame(&mut self, verified: bool, now: Instant) -> bool {
        let given_up = std::mem::take(&mut self.given_up);
        let wants = self.setup.is_video()
            && match &mut self.bears {
                _ if !verified => given_up,
                Bears::None(plain) => plain.wants_key_frame(&self.sequence, &mut self.frames, now),
                Bears::Unknown(_) | Bears::Stamps => self.frames.wants_key_frame(given_up, now),
            };
        self.key_frame_requests += u64::from(wants);
        wants
    }

    /// What a receiver report says of it.
    pub(crate) fn report(&mut self, now: Instant) -> Option<Block> {
        self.first_packet?;
        let (expected, received) = (self.sequence.expected(), self.sequence.counts().received);
        let (expected_before, received_before) =
            std::mem::replace(&mut self.reported, (expected, received));
        let expected_since = expected.saturating_sub(expected_before);
        let lost_since = expected_since.saturating_sub(received.saturating_sub(received_before));
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        let since = |(_, at): (u32, Instant)| now.saturating_duration_since(at).as_secs_f64();
        Some(Block {
            ssrc: self.setup.ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: expected.saturating_sub(received).min(0x7F_FFFF) as i32,
            highest: self.sequence.highest(),
            jitter: self.jitter as u32,
            last_report: self.report.map_or(0, |(middle, _)| middle),
            delay: self
                .report
                .map_or(0, |report| (since(report) * 65_536.0) as u32),
        })
    }
}

#[cfg(test)]
mod tests;
