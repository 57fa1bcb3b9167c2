//! Where each packet of one shard's rooms goes next: tracks, subscriptions, and the timers of both.
//!
//! Performs no I/O, reads no clock, draws no randomness. [`Router::handle_media`] takes packets in, and
//! [`Router::forward`] shows all that have gathered to their subscribers, out of the cache, so that no
//! payload is copied per subscriber and nothing is allocated. After any other call drain
//! [`Router::poll_output`] until `None`, and call [`Router::handle_timeout`] no later than
//! [`Router::poll_timeout`].

mod burst;
mod feedback;
pub mod relay;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::cache::PacketMeta;
use crate::codec::Codec;
use crate::drops::DropReason;
use crate::forward::continuity::Rewrite;
use crate::forward::{EncodingSet, Forwarder};
use crate::layer::{Layer, LayerRates, Limit};
use crate::nack::Arrival;
use crate::rtp::Header;
use crate::speaker::{self, SpeakerChange, Speakers};
use crate::track::{Size, Track, TrackSpec};
pub(crate) use burst::Pending;
pub use burst::{Burst, Forward, Gathered, MAX_BURST, Packet};

/// How often a video track is looked over: what each of its layers costs, and whether one has stopped.
const SURVEY_INTERVAL: Duration = Duration::from_millis(500);

/// A published track on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackKey {
    index: u32,
    generation: u32,
}

/// A subscription on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    index: u32,
    generation: u32,
}

impl TrackKey {
    /// A small number that no other live track of the router has.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl SubscriptionKey {
    /// A small number that no other live subscription of the router has.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

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
}

/// A packet to be sent again, described as it was the first time.
#[derive(Debug)]
pub struct Repair<'a> {
    pub packet: &'a [u8],
    pub rewrite: Rewrite,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Output<R, P> {
    /// Ask the publisher of this encoding for a key frame.
    RequestKeyFrame(Source),
    /// Ask the publisher for lost packets; ascending.
    RequestPackets(Source, Vec<u16>),
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

#[derive(Debug, Clone, Copy)]
enum Timer<R> {
    KeyFrame(Source),
    Losses(Source),
    Survey(TrackKey),
    Demand(TrackKey),
    Speakers(R),
}

#[derive(Debug)]
struct Room<P> {
    speakers: Speakers<P>,
    tracks: u32,
    /// A timer for the end of the window is set.
    watched: bool,
}

#[derive(Debug)]
struct Subscription {
    generation: u32,
    track: TrackKey,
    wish: LayerWish,
    limit: Limit,
    forwarder: Forwarder,
}

#[derive(Debug)]
struct Published<R, P> {
    generation: u32,
    track: Track<R, P>,
}

/// See the module. `R` and `P` name rooms and participants.
#[derive(Debug)]
pub struct Router<R, P> {
    tracks: Slab<Published<R, P>>,
    subscriptions: Slab<Subscription>,
    rooms: BTreeMap<R, Room<P>>,
    generation: u32,
    timers: crate::wheel::TimerWheel<Timer<R>>,
    fired: Vec<Timer<R>>,
    outputs: VecDeque<Output<R, P>>,
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
            tracks: Slab::new(),
            subscriptions: Slab::new(),
            rooms: BTreeMap::new(),
            generation: 0,
            timers: crate::wheel::TimerWheel::new(now),
            fired: Vec::new(),
            outputs: VecDeque::new(),
            gathered: Vec::new(),
            forwards: Vec::with_capacity(MAX_BURST),
            origin: now,
        }
    }

    // Tracks.

    pub fn publish(&mut self, spec: TrackSpec<R, P>, now: Instant) -> TrackKey {
        self.generation += 1;
        let room = self.rooms.entry(spec.room).or_insert_with(|| Room {
            speakers: Speakers::default(),
            tracks: 0,
            watched: false,
        });
        room.tracks += 1;
        let is_video = spec.is_video;
        let published = Published {
            generation: self.generation,
            track: Track::new(spec, now),
        };
        let key = TrackKey {
            index: self.tracks.insert(published) as u32,
            generation: self.generation,
        };
        if is_video {
            self.timers.set(now + SURVEY_INTERVAL, Timer::Survey(key));
        }
        self.watch_demand(key);
        key
    }

    /// Ends a track and its subscriptions; answers the latter, each with the first number that it never
    /// used.
    pub fn unpublish(&mut self, key: TrackKey) -> Vec<(SubscriptionKey, u64)> {
        if self.track(key).is_none() {
            return Vec::new();
        }
        let track = self.tracks.remove(key.index as usize).track;
        let ended = track.subscriptions.iter().map(|&key| {
            let subscription = self.subscriptions.remove(key.index());
            (key, subscription.forwarder.next_sequence())
        });
        let ended = ended.collect();
        let (name, participant) = (track.spec.room, track.spec.participant);
        if let Some(room) = self.rooms.get_mut(&name) {
            room.tracks -= 1;
            if track.spec.speaks && room.speakers.remove(participant) {
                let change = SpeakerChange {
                    participant,
                    level: 0.0,
                    active: false,
                };
                self.outputs
                    .push_back(Output::SpeakersChanged(name, vec![change]));
            }
            if room.tracks == 0 {
                self.rooms.remove(&name);
            }
        }
        ended
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
            self.subscriptions[subscription.index()]
                .forwarder
                .interrupt();
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
        for subscription in track.subscriptions.clone() {
            let forwarder = &mut self.subscriptions[subscription.index()].forwarder;
            if forwarder.current() == Some(source.encoding) {
                forwarder.interrupt();
            }
        }
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

    // Subscriptions.

    /// `codec` is what the receiver gets; `first_sequence`: see
    /// [`Continuity::new`](crate::forward::continuity::Continuity::new). `None`: there is no such track.
    pub fn subscribe(
        &mut self,
        key: TrackKey,
        wish: LayerWish,
        codec: Codec,
        first_sequence: u64,
        now: Instant,
    ) -> Option<SubscriptionKey> {
        self.generation += 1;
        let generation = self.generation;
        let published = self
            .tracks
            .get_mut(key.index as usize)
            .filter(|p| p.generation == key.generation)?;
        let track = &mut published.track;
        let limit = Limit::NONE;
        let resolved = track.resolve(wish, limit);
        let mut forwarder = Forwarder::new(resolved, first_sequence, codec.clock_rate());
        forwarder.select(track.live);
        let index = self.subscriptions.insert(Subscription {
            generation,
            track: key,
            wish,
            limit,
            forwarder,
        });
        let subscription = SubscriptionKey {
            index: index as u32,
            generation,
        };
        track.subscriptions.push(subscription);
        self.update_interest(key, now);
        self.update_demand(key, now);
        Some(subscription)
    }

    /// What the subscriber wants to see.
    pub fn set_wish(&mut self, key: SubscriptionKey, wish: LayerWish, now: Instant) {
        self.change(key, now, |subscription| subscription.wish = wish);
    }

    /// What bandwidth allows, whatever is wanted; [`Limit::NONE`] at first.
    pub fn set_limit(&mut self, key: SubscriptionKey, limit: Limit, now: Instant) {
        self.change(key, now, |subscription| subscription.limit = limit);
    }

    fn change(
        &mut self,
        key: SubscriptionKey,
        now: Instant,
        change: impl FnOnce(&mut Subscription),
    ) {
        let Some(subscription) = self
            .subscriptions
            .get_mut(key.index())
            .filter(|s| s.generation == key.generation)
        else {
            return;
        };
        change(subscription);
        let track = subscription.track;
        let Some(published) = self.tracks.get(track.index as usize) else {
            return;
        };
        if subscription.resolve(&published.track) {
            self.update_interest(track, now);
        }
        self.update_demand(track, now);
    }

    /// Answers the first number that was never used.
    pub fn unsubscribe(&mut self, key: SubscriptionKey, now: Instant) -> Option<u64> {
        let track_key = self.subscription(key)?.track;
        let next = self
            .subscriptions
            .remove(key.index())
            .forwarder
            .next_sequence();
        if let Some(track) = self.track_mut(track_key) {
            track.subscriptions.retain(|other| *other != key);
        }
        self.update_interest(track_key, now);
        self.update_demand(track_key, now);
        Some(next)
    }

    /// The layer up to which the subscription is being sent.
    pub fn current_layer(&self, key: SubscriptionKey) -> Option<Layer> {
        let subscription = self.subscription(key)?;
        let encoding = subscription.forwarder.current()?;
        let track = self.track(subscription.track)?;
        Some(track.place(encoding, subscription.forwarder.layer()))
    }

    /// The layer up to which the subscriber can use the track, were there no limit. `None` while it
    /// wants nothing of it.
    pub fn wanted_layer(&self, key: SubscriptionKey) -> Option<Layer> {
        let subscription = self.subscription(key)?;
        let track = self.track(subscription.track)?;
        (!subscription.wish.paused).then(|| track.wanted(subscription.wish))
    }

    /// What it takes to forward each layer of a track.
    pub fn layer_rates(&self, key: TrackKey) -> Option<LayerRates> {
        self.track(key).map(Track::rates)
    }

    // Packets.

    /// Takes a packet in; it goes on with the next [`Self::forward`].
    pub fn handle_media(
        &mut self,
        source: Source,
        media: Media<'_>,
        now: Instant,
    ) -> Result<Gathered, DropReason> {
        let published = self.tracks.get_mut(source.track.index as usize);
        let published = published
            .filter(|p| p.generation == source.track.generation)
            .ok_or(DropReason::UnknownSource)?;
        let track = &mut published.track;
        let encoding = track
            .encodings
            .get_mut(usize::from(source.encoding))
            .ok_or(DropReason::UnknownSource)?;
        let payload = media
            .header
            .payload(media.packet)
            .ok_or(DropReason::Malformed)?;
        let sequence = encoding.sequences.unwrap(media.header.sequence);
        let clock_rate = media.codec.clock_rate();

        if encoding.cache.packet(sequence).is_some() {
            return Err(DropReason::Replayed);
        }
        if !media.repaired {
            let arrival = arrival_ticks(now.saturating_duration_since(self.origin), clock_rate);
            encoding
                .stats
                .handle_packet(sequence, media.header.timestamp, arrival);
        }
        if media.repaired {
            encoding.losses.handle_repair(sequence, now);
        }
        let before = encoding.structure.revision();
        let info =
            encoding
                .structure
                .inspect(media.codec, payload, media.header.marker, media.dependency);
        let is_restructured = encoding.structure.revision() != before;
        let is_key_frame = media.codec.is_video() && info.starts_key_frame;
        let missed = encoding.losses.handle_packet(sequence, now);
        if is_key_frame {
            encoding.key_frames.satisfy();
            encoding.losses.forget_before(sequence);
        }
        match missed {
            Arrival::Gap if track.spec.nack => {
                if let Some(deadline) = encoding.losses.next_deadline()
                    && encoding.losses_alarm.set(deadline)
                {
                    self.timers.set(deadline, Timer::Losses(source));
                }
            }
            Arrival::Outage if track.spec.is_video && !is_key_frame => {
                want_key_frame(encoding, source, now, &mut self.timers, &mut self.outputs);
            }
            Arrival::Gap | Arrival::Outage | Arrival::Next | Arrival::Late => {}
        }
        let meta = PacketMeta {
            spatial: info.frame.map_or(0, |frame| frame.layer.spatial),
            ends_frame: info.frame.is_some_and(|frame| frame.ends),
        };
        encoding.cache.store(sequence, media.packet, meta, now);
        encoding.last_packet = Some(now);
        let layer = info.frame.map_or(Layer::default(), |frame| frame.layer);
        let ends_frame = info.frame.map_or(media.header.marker, |frame| frame.ends);
        encoding
            .meter
            .count(layer, media.packet.len(), ends_frame, now);
        if track.spec.muted {
            return Err(DropReason::Muted);
        }
        if let Some(level) = media.audio_level.filter(|_| track.spec.speaks)
            && let Some(room) = self.rooms.get_mut(&track.spec.room)
        {
            room.speakers.handle_level(track.spec.participant, level);
            if !room.watched {
                room.watched = true;
                self.timers
                    .set(now + speaker::WINDOW, Timer::Speakers(track.spec.room));
            }
        }
        if !track.live.contains(source.encoding) && track.upstream.is_none() {
            track.live.insert(source.encoding);
            track.tell_live(source.track, &mut self.outputs);
            select_all(track, &mut self.subscriptions);
            update_interest(
                track,
                source.track,
                &self.subscriptions,
                now,
                &mut self.timers,
                &mut self.outputs,
            );
        }

        let encoding = &mut track.encodings[usize::from(source.encoding)];
        if encoding.pending.is_empty() {
            self.gathered.push(source);
        }
        encoding.pending.push(Pending {
            sequence,
            header: media.header,
            codec: media.codec,
            payload_len: payload.len() as u16,
            info,
        });
        encoding.pending_bytes += media.packet.len();
        let is_full = burst::is_full(
            encoding.pending.len(),
            encoding.pending_bytes,
            &encoding.cache,
        );
        if is_restructured {
            self.reconsider(source.track, now);
        }
        Ok(if is_full {
            Gathered::Full
        } else {
            Gathered::Open
        })
    }

    // Rooms.

    /// Who speaks at present, loudest first.
    pub fn active_speakers(&self, room: R) -> Vec<SpeakerChange<P>> {
        self.rooms
            .get(&room)
            .map(|room| room.speakers.active())
            .unwrap_or_default()
    }

    // Time.

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.advance(now, &mut fired);
        for timer in fired.drain(..) {
            match timer {
                Timer::KeyFrame(source) => self.retry_key_frame(source, now),
                Timer::Losses(source) => self.request_packets(source, now),
                Timer::Survey(key) => self.survey(key, now),
                Timer::Demand(key) => self.release(key, now),
                Timer::Speakers(room) => self.end_speaker_window(room, now),
            }
        }
        self.fired = fired;
    }

    pub fn poll_output(&mut self) -> Option<Output<R, P>> {
        self.outputs.pop_front()
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
        let encodings = self
            .tracks
            .iter()
            .flat_map(|(_, published)| &published.track.encodings);
        encodings.map(|encoding| encoding.cache.memory()).sum()
    }

    fn retry_key_frame(&mut self, source: Source, now: Instant) {
        let Some(track) = self.track(source.track) else {
            return;
        };
        let awaited = track.subscriptions.iter().any(|key| {
            let forwarder = &self.subscriptions[key.index()].forwarder;
            forwarder.awaits_key_frame_of() == Some(source.encoding)
                || forwarder.current() == Some(source.encoding)
        });
        let awaited = awaited || track.is_relayed(source.encoding);
        let Some(encoding) = self.encoding_mut(source) else {
            return;
        };
        if !encoding.key_frames_alarm.fire(now) {
            return;
        }
        if !awaited {
            encoding.key_frames.withdraw();
        }
        let due = encoding.key_frames.due(now);
        let deadline = encoding.key_frames.deadline();
        let deadline = deadline.filter(|deadline| encoding.key_frames_alarm.set(*deadline));
        if due {
            self.outputs.push_back(Output::RequestKeyFrame(source));
        }
        if let Some(deadline) = deadline {
            self.timers.set(deadline, Timer::KeyFrame(source));
        }
    }

    fn request_packets(&mut self, source: Source, now: Instant) {
        let Some(encoding) = self.encoding_mut(source) else {
            return;
        };
        if !encoding.losses_alarm.fire(now) {
            return;
        }
        let mut lost = Vec::new();
        encoding.losses.due(now, &mut lost);
        let deadline = encoding.losses.next_deadline();
        let deadline = deadline.filter(|deadline| encoding.losses_alarm.set(*deadline));
        if !lost.is_empty() {
            self.outputs.push_back(Output::RequestPackets(source, lost));
        }
        if let Some(deadline) = deadline {
            self.timers.set(deadline, Timer::Losses(source));
        }
    }

    fn survey(&mut self, key: TrackKey, now: Instant) {
        let Some(published) = self
            .tracks
            .get_mut(key.index as usize)
            .filter(|p| p.generation == key.generation)
        else {
            return;
        };
        self.timers.set(now + SURVEY_INTERVAL, Timer::Survey(key));
        let track = &mut published.track;
        track
            .encodings
            .iter_mut()
            .for_each(|encoding| encoding.meter.measure(now));
        track.tell_rates(key, &mut self.outputs);
        // Of a track from elsewhere the origin tells what is being sent.
        let is_own = track.upstream.is_none() && track.encodings.len() > 1;
        let mut changed = is_own && track.update_live(now);
        if changed {
            track.tell_live(key, &mut self.outputs);
            select_all(track, &mut self.subscriptions);
        }
        // Which layer has the frame rate that is wanted shows only now.
        for subscription in &track.subscriptions {
            let subscription = &mut self.subscriptions[subscription.index()];
            if subscription.wish.frames_per_second > 0 {
                changed |= subscription.resolve(track);
            }
        }
        if changed {
            self.update_interest(key, now);
        }
    }

    /// What is wished of a track can be understood better than before.
    fn reconsider(&mut self, key: TrackKey, now: Instant) {
        let track = self.tracks.get(key.index as usize);
        if track.is_some_and(|track| resolve_all(&track.track, &mut self.subscriptions)) {
            self.update_interest(key, now);
        }
        self.update_demand(key, now);
    }

    /// How many encodings of a track, from the lowest up, anybody can use.
    fn wanted(&self, key: TrackKey) -> u8 {
        let Some(track) = self.track(key) else {
            return 0;
        };
        let wishes = track
            .subscriptions
            .iter()
            .map(|key| self.subscriptions[key.index()].wish);
        let here = wishes
            .filter(|wish| !wish.paused)
            .map(|wish| track.wanted(wish).spatial + 1)
            .max()
            .unwrap_or(0);
        here.max(track.wanted_elsewhere())
    }

    /// Counts anew what anybody can use of a track.
    fn update_demand(&mut self, key: TrackKey, now: Instant) {
        let wanted = self.wanted(key);
        let Some(track) = self.track_mut(key).filter(|track| track.spec.is_video) else {
            return;
        };
        if track.upstream.is_some() {
            return self.update_wanted(key, wanted);
        }
        let before = track.demand.deadline();
        if track.demand.set(wanted, now) {
            self.outputs.push_back(Output::DemandChanged(key, wanted));
        } else if track.demand.deadline() != before {
            self.watch_demand(key);
        }
    }

    fn watch_demand(&mut self, key: TrackKey) {
        let Some(track) = self.track_mut(key).filter(|track| track.spec.is_video) else {
            return;
        };
        if let Some(at) = track.demand.deadline()
            && track.demand_alarm.set(at)
        {
            self.timers.set(at, Timer::Demand(key));
        }
    }

    fn release(&mut self, key: TrackKey, now: Instant) {
        let Some(track) = self.track_mut(key) else {
            return;
        };
        if !track.demand_alarm.fire(now) {
            return;
        }
        if track.upstream.is_none() && track.demand.due(now) {
            let told = track.demand.told();
            self.outputs.push_back(Output::DemandChanged(key, told));
        }
        self.watch_demand(key);
    }

    fn end_speaker_window(&mut self, name: R, now: Instant) {
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        let mut changes = Vec::new();
        room.speakers.end_window(&mut changes);
        room.watched = !room.speakers.is_empty();
        if room.watched {
            self.timers
                .set(now + speaker::WINDOW, Timer::Speakers(name));
        }
        if !changes.is_empty() {
            self.outputs
                .push_back(Output::SpeakersChanged(name, changes));
        }
    }

    /// Somebody needs a key frame, here or elsewhere.
    pub fn want_key_frame(&mut self, source: Source, now: Instant) {
        let published = self.tracks.get_mut(source.track.index as usize);
        let Some(published) = published.filter(|p| p.generation == source.track.generation) else {
            return;
        };
        if !published.track.spec.is_video {
            return;
        }
        if let Some(encoding) = published
            .track
            .encodings
            .get_mut(usize::from(source.encoding))
        {
            want_key_frame(encoding, source, now, &mut self.timers, &mut self.outputs);
        }
    }

    fn update_interest(&mut self, key: TrackKey, now: Instant) {
        if let Some(published) = self
            .tracks
            .get_mut(key.index as usize)
            .filter(|p| p.generation == key.generation)
        {
            let track = &mut published.track;
            update_interest(
                track,
                key,
                &self.subscriptions,
                now,
                &mut self.timers,
                &mut self.outputs,
            );
        }
    }

    fn track(&self, key: TrackKey) -> Option<&Track<R, P>> {
        let published = self.tracks.get(key.index as usize)?;
        (published.generation == key.generation).then_some(&published.track)
    }

    fn track_mut(&mut self, key: TrackKey) -> Option<&mut Track<R, P>> {
        let published = self.tracks.get_mut(key.index as usize)?;
        (published.generation == key.generation).then_some(&mut published.track)
    }

    fn encoding_mut(&mut self, source: Source) -> Option<&mut crate::track::Encoding> {
        self.track_mut(source.track)?
            .encodings
            .get_mut(usize::from(source.encoding))
    }

    fn subscription(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.subscriptions
            .get(key.index())
            .filter(|s| s.generation == key.generation)
    }
}

impl Subscription {
    /// Works out anew what is to be sent. `true` if that has changed.
    fn resolve<R, P>(&mut self, track: &Track<R, P>) -> bool {
        let resolved = track.resolve(self.wish, self.limit);
        let changed = resolved != self.forwarder.wish();
        if changed {
            self.forwarder.set_wish(resolved, track.live);
        }
        changed
    }
}

/// Works out anew what everybody is to be sent. `true` if that has changed for anybody.
fn resolve_all<R, P>(track: &Track<R, P>, subscriptions: &mut Slab<Subscription>) -> bool {
    let mut changed = false;
    for key in &track.subscriptions {
        changed |= subscriptions[key.index()].resolve(track);
    }
    changed
}

fn select_all<R, P>(track: &mut Track<R, P>, subscriptions: &mut Slab<Subscription>) {
    for key in &track.subscriptions {
        subscriptions[key.index()].forwarder.select(track.live);
    }
}

/// Lists anew who has to be shown which encoding, and asks for the key frames that are waited for.
fn update_interest<R: Ord + Copy, P: Ord + Copy>(
    track: &mut Track<R, P>,
    key: TrackKey,
    subscriptions: &Slab<Subscription>,
    now: Instant,
    timers: &mut crate::wheel::TimerWheel<Timer<R>>,
    outputs: &mut VecDeque<Output<R, P>>,
) {
    let mut awaited = EncodingSet::default();
    track
        .encodings
        .iter_mut()
        .for_each(|encoding| encoding.interested.clear());
    for &subscription in &track.subscriptions {
        let forwarder = &subscriptions[subscription.index()].forwarder;
        forwarder
            .awaits_key_frame_of()
            .into_iter()
            .for_each(|encoding| awaited.insert(encoding));
        let interest = forwarder.interest();
        for (index, encoding) in track.encodings.iter_mut().enumerate() {
            if interest.contains(index as u8) {
                encoding.interested.push(subscription);
            }
        }
    }
    if track.interest_changed() {
        outputs.push_back(Output::InterestChanged(key));
    }
    if !track.spec.is_video || track.spec.muted {
        return;
    }
    for (index, encoding) in track.encodings.iter_mut().enumerate() {
        if awaited.contains(index as u8) {
            want_key_frame(
                encoding,
                Source {
                    track: key,
                    encoding: index as u8,
                },
                now,
                timers,
                outputs,
            );
        }
    }
}

fn want_key_frame<R: Copy, P>(
    encoding: &mut crate::track::Encoding,
    source: Source,
    now: Instant,
    timers: &mut crate::wheel::TimerWheel<Timer<R>>,
    outputs: &mut VecDeque<Output<R, P>>,
) {
    if encoding.key_frames.want(now) {
        outputs.push_back(Output::RequestKeyFrame(source));
    }
    if let Some(at) = encoding.key_frames.deadline()
        && encoding.key_frames_alarm.set(at)
    {
        timers.set(at, Timer::KeyFrame(source));
    }
}

/// A duration in timestamp units, modulo 2^32.
fn arrival_ticks(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_micros() as u64)
        .wrapping_mul(u64::from(clock_rate))
        .wrapping_div(1_000_000) as u32
}

#[cfg(test)]
mod tests;
