//! Where each packet of one shard's rooms goes next: tracks, subscriptions, and the timers of both.
//!
//! Performs no I/O, reads no clock, draws no randomness. [`Router::handle_media`] takes packets in, and
//! [`Router::forward`] shows all that have gathered to their subscribers, out of the cache, so that no
//! payload is copied per subscriber and nothing is allocated. After any other call drain
//! [`Router::poll_output`] until `None`, and call [`Router::handle_timeout`] no later than
//! [`Router::poll_timeout`].

mod agenda;
mod burst;
mod feedback;
mod intake;
mod recent;
pub mod relay;
mod requests;
mod rooms;
mod slots;
mod subscriptions;
mod waiting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::forward::continuity::Rewrite;
use crate::rtp::Header;
use crate::speaker::SpeakerChange;
use crate::track::{Encoding, Size, Track, TrackSpec};
use agenda::{Agenda, Timer};
pub(crate) use burst::Pending;
pub use burst::{Burst, Forward, Gathered, LeftBehind, MAX_BURST, Packet};
pub(crate) use recent::Recent;
use rooms::Room;
use slots::Slots;
pub use slots::{SubscriptionKey, TrackKey};
pub use subscriptions::Sent;
use subscriptions::{Subscription, select_all};

/// How often a video track is looked over: what each of its layers costs, and whether one has stopped.
const SURVEY_INTERVAL: Duration = Duration::from_millis(500);

/// One encoding of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub track: TrackKey,
    pub encoding: u8,
}

/// What a subscriber can use of a track. Zero means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerWish {
    pub paused: bool,
    /// Pixels of the view.
    pub view: Size,
    pub frames_per_second: u32,
    /// Larger is served first when bandwidth is short.
    pub priority: u32,
    /// Number of encodings or spatial layers, from the lowest up.
    pub spatial_layers: u8,
}

/// A packet as it arrived, decrypted.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a> {
    pub codec: Codec,
    pub header: Header,
    pub packet: &'a [u8],
    /// RFC 6464, in -dBov.
    pub audio_level: Option<u8>,
    /// The dependency descriptor, if the packet has one.
    pub dependency: Option<&'a [u8]>,
    /// It came as a retransmission.
    pub repaired: bool,
    /// It came on the stream it belongs to, whose publisher has no other one to send again on.
    pub in_place: bool,
}

/// A packet to be sent again, described as it was the first time.
#[derive(Debug)]
pub struct Repair<'a> {
    pub codec: Codec,
    pub packet: &'a [u8],
    pub rewrite: Rewrite,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Output<R, P> {
    /// Ask the publisher of this encoding for a key frame.
    RequestKeyFrame(Source),
    /// Ask the publisher for lost packets: [`Router::take_lost`].
    RequestPackets(Source),
    /// So many encodings of a video track, from the lowest up, are of use to anybody. Until it is said
    /// all of them are.
    DemandChanged(TrackKey, u8),
    SpeakersChanged(R, Vec<SpeakerChange<P>>),
    /// Other encodings of a track that is published elsewhere are used than before.
    InterestChanged(TrackKey),
    /// Other encodings of a track that is taken elsewhere are being sent than before.
    LiveChanged(TrackKey),
    /// It has been measured what the layers of a track that is taken elsewhere take.
    RatesMeasured(TrackKey),
}

/// See the module. `R` and `P` name rooms and participants.
#[derive(Debug)]
pub struct Router<R, P> {
    tracks: Slots<Track<R, P>>,
    subscriptions: Slots<Subscription>,
    rooms: BTreeMap<R, Room<P>>,
    agenda: Agenda<R, P>,
    fired: Vec<Timer<R>>,
    /// Encodings of which packets wait to be forwarded, in the order of their first ones.
    gathered: Vec<Source>,
    /// Empty but while a subscriber is shown a burst.
    forwards: Vec<Forward>,
    /// Arrival times are counted from here.
    origin: Instant,
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    pub fn new(now: Instant) -> Self {
        Self {
            tracks: Slots::new(),
            subscriptions: Slots::new(),
            rooms: BTreeMap::new(),
            agenda: Agenda::new(now),
            fired: Vec::new(),
            gathered: Vec::new(),
            forwards: Vec::with_capacity(MAX_BURST),
            origin: now,
        }
    }

    // Tracks.

    pub fn publish(&mut self, spec: TrackSpec<R, P>, now: Instant) -> TrackKey {
        self.enter_room(spec.room);
        let is_video = spec.is_video;
        let key = TrackKey(self.tracks.insert(Track::new(spec, now)));
        if is_video {
            self.agenda.set(now + SURVEY_INTERVAL, Timer::Survey(key));
        }
        self.watch_demand(key);
        key
    }

    /// Ends a track and its subscriptions; answers the latter, each with the first number that it never
    /// used.
    pub fn unpublish(&mut self, key: TrackKey) -> Vec<(SubscriptionKey, u64)> {
        let Some(track) = self.tracks.remove(key.0) else {
            return Vec::new();
        };
        let counts = track.spec.speaks && track.upstream.is_none();
        self.leave_room(&track.spec, counts);
        let ended = track.subscriptions.iter().filter_map(|&key| {
            let subscription = self.subscriptions.remove(key.0)?;
            Some((key, subscription.forwarder.next_sequence()))
        });
        ended.collect()
    }

    /// Stops or resumes a track for everybody, with the next packet.
    pub fn set_muted(&mut self, key: TrackKey, muted: bool, now: Instant) {
        let Some(track) = self.track_mut(key) else {
            return;
        };
        if track.spec.muted == muted {
            return;
        }
        track.spec.muted = muted;
        let subscriptions = track.subscriptions.clone();
        for subscription in subscriptions {
            self.subscriptions[subscription.0].forwarder.interrupt();
        }
        self.update_interest(key, now);
    }

    /// An encoding goes on under a new SSRC: its numbers and timestamps begin anew. What has gathered
    /// under the old one should have been forwarded.
    pub fn restart(&mut self, source: Source, now: Instant) {
        let Some(track) = self.track_mut(source.track) else {
            return;
        };
        let index = usize::from(source.encoding);
        let (Some(encoding), Some(clock)) =
            (track.encodings.get_mut(index), track.clocks.get_mut(index))
        else {
            return;
        };
        encoding.restart();
        *clock = None;
        self.break_off(source, now);
        self.update_interest(source.track, now);
    }

    /// Says how large the encodings are, once it is known.
    pub fn set_sizes(&mut self, key: TrackKey, sizes: &[Size]) {
        if let Some(track) = self.track_mut(key) {
            track
                .spec
                .sizes
                .iter_mut()
                .zip(sizes)
                .for_each(|(own, size)| *own = *size);
        }
    }

    // Time.

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.timers.next_deadline()
    }

    /// Tells the time after a sleep, before anything is handled.
    pub fn wake(&mut self, now: Instant) {
        self.agenda.timers.wake(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.fired.is_empty() {
            self.agenda.timers.advance(now, &mut self.fired);
            self.fired.reverse();
        }
        // Taken one by one: should handling one panic, the others are still there for the next call.
        while let Some(timer) = self.fired.pop() {
            match timer {
                Timer::KeyFrame(source) => self.retry_key_frame(source, now),
                Timer::Losses(source) => self.request_packets(source, now),
                Timer::Survey(key) => self.survey(key, now),
                Timer::Demand(key) => self.release(key, now),
                Timer::Speakers(room) => self.end_speaker_window(room, now),
            }
        }
    }

    pub fn poll_output(&mut self) -> Option<Output<R, P>> {
        self.agenda.outputs.pop_front()
    }

    /// Tracks, subscriptions and rooms: all zero when everybody has left.
    pub fn len(&self) -> (usize, usize, usize) {
        (
            self.tracks.len(),
            self.subscriptions.len(),
            self.rooms.len(),
        )
    }

    /// Bytes the packet caches take.
    pub fn cache_memory(&self) -> usize {
        let encodings = self.tracks.values().flat_map(|track| &track.encodings);
        encodings.map(|encoding| encoding.cache.memory()).sum()
    }

    /// Looks a video track over.
    fn survey(&mut self, key: TrackKey, now: Instant) {
        let Some(track) = self.tracks.get_mut(key.0) else {
            return;
        };
        self.agenda.set(now + SURVEY_INTERVAL, Timer::Survey(key));
        track.encodings.iter_mut().for_each(|encoding| {
            encoding.meter.measure(now);
            encoding.recent.expire(now);
        });
        track.tell_rates(key, &mut self.agenda);
        // Of a track from elsewhere the origin tells what is being sent.
        let is_own = track.upstream.is_none() && track.encodings.len() > 1;
        let mut changed = is_own && track.update_live(now);
        if changed {
            track.tell_live(key, &mut self.agenda);
            select_all(track, &mut self.subscriptions);
        }
        if track.take_back_live(now) {
            changed = true;
            select_all(track, &mut self.subscriptions);
        }
        // Which layer has the frame rate that is wanted shows only now.
        for subscription in &track.subscriptions {
            let subscription = &mut self.subscriptions[subscription.0];
            if subscription.wish.frames_per_second > 0 {
                changed |= subscription.resolve(track);
            }
        }
        if changed {
            self.update_interest(key, now);
        }
    }

    fn track(&self, key: TrackKey) -> Option<&Track<R, P>> {
        self.tracks.get(key.0)
    }

    fn track_mut(&mut self, key: TrackKey) -> Option<&mut Track<R, P>> {
        self.tracks.get_mut(key.0)
    }

    fn encoding_mut(&mut self, source: Source) -> Option<&mut Encoding> {
        self.track_mut(source.track)?
            .encodings
            .get_mut(usize::from(source.encoding))
    }
}

#[cfg(test)]
mod tests;
