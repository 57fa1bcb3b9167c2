//! A shard without a thread, sockets or clients, for tests in virtual time: it has its turn when it is told to,
//! packets of publishers are handed to it, and what subscribers are sent is overheard before it is sealed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::router::{
    Gathered, LayerWish, Media, Output, Router, Source, SubscriptionKey,
};
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::track::Size;
use pipemesh_proto::ids::{ParticipantId, RoomId, TrackId};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::command::{Command, DataRights, OpenSession, Origin, PublishSpec, SessionKey};
use super::event::{Event, QUEUE};
use super::neighbours::Neighbours;
use super::remote::pass_on;
pub(crate) use super::wire::Overheard;
use super::{COMMANDS_PER_TURN, Shard};
use crate::config::Limits;
use crate::mailbox;
use crate::session::handshake::Handshakes;
use crate::session::plan::PayloadType;

const OPUS: PayloadType = PayloadType {
    codec: Codec::Opus,
    number: 111,
    repair: None,
};
const VP8: PayloadType = PayloadType {
    codec: Codec::Vp8,
    number: 96,
    repair: None,
};

/// See the module.
pub(crate) struct Alone {
    shard: Shard,
    sessions: BTreeMap<SessionKey, mailbox::Receiver<Event>>,
    subscriptions: BTreeMap<SubscriptionKey, (SessionKey, TrackId)>,
    commands: std::collections::VecDeque<Command>,
    /// Encodings of which publishers were asked for a key frame.
    asked: Vec<(TrackId, u8)>,
}

impl Alone {
    pub(crate) fn new(neighbours: Neighbours, seed: u64, now: Instant) -> Self {
        let mut shard = Shard::new(
            Vec::new(),
            neighbours,
            Handshakes::none(),
            Limits::NONE,
            Arc::default(),
            StdRng::seed_from_u64(seed),
            now,
        );
        shard.wire.overheard = Some(Vec::new());
        Self {
            shard,
            sessions: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            commands: std::collections::VecDeque::new(),
            asked: Vec::new(),
        }
    }

    /// Carried out in the next turn.
    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// Opens a session without connections.
    pub(crate) fn open(&mut self, key: SessionKey, room: RoomId, participant: ParticipantId) {
        let (events, told) = mailbox::channel(QUEUE);
        self.sessions.insert(key, told);
        self.command(Command::Open(OpenSession {
            key,
            room,
            identity: participant.to_string(),
            participant,
            anonymous: false,
            may_pause: true,
            rights: DataRights::default(),
            connections: Vec::new(),
            loudest_microphones: 0,
            events,
        }));
    }

    pub(crate) fn close(&mut self, key: SessionKey) {
        self.command(Command::Close(key));
        self.sessions.remove(&key);
    }

    /// Video in so many encodings; none: audio.
    pub(crate) fn publish(
        &mut self,
        session: SessionKey,
        track: TrackId,
        generation: u64,
        encodings: Option<u8>,
    ) {
        let spec = PublishSpec {
            is_video: encodings.is_some(),
            speaks: encodings.is_none(),
            nack: encodings.is_some(),
            muted: false,
            encodings: encodings.unwrap_or(1),
            sizes: vec![Size::default(); usize::from(encodings.unwrap_or(1))],
        };
        self.command(Command::Publish {
            session,
            track,
            generation,
            spec,
        });
    }

    pub(crate) fn subscribe(
        &mut self,
        session: SessionKey,
        track: TrackId,
        origin: Option<Origin>,
        wish: LayerWish,
    ) {
        self.command(Command::Subscribe {
            session,
            track,
            origin,
            wish,
        });
    }

    /// What is due at present, in the order of the loop.
    pub(crate) fn turn(&mut self, now: Instant) {
        let shard = &mut self.shard;
        shard.router.wake(now);
        shard.timers.wake(now);
        shard.receive_messages(now);
        if !shard.neighbours.is_congested() {
            for _ in 0..COMMANDS_PER_TURN {
                let Some(command) = self.commands.pop_front() else {
                    break;
                };
                shard.guarded(|shard| shard.handle_command(command, now));
            }
        }
        self.negotiate();
        self.activate(now);
        let shard = &mut self.shard;
        shard.receive_relayed(now);
        shard.neighbours.flush();
        shard.guarded(|shard| shard.forward(now));
        shard.guarded(|shard| shard.handle_timeouts(now));
        while let Some(output) = self.shard.router.poll_output() {
            if let Output::RequestKeyFrame(source) = output {
                self.note_asked(source);
            }
            self.shard.guarded(|shard| shard.handle_output(output));
        }
        self.shard.neighbours.flush();
        let shard = &self.shard;
        self.subscriptions.retain(|key, (session, track)| {
            let index = shard.session_index.get(session);
            let session = index.and_then(|index| shard.sessions.get(*index));
            let wanted = session.and_then(|session| session.wanted.get(track));
            wanted.is_some_and(|wanted| wanted.subscription == Some(*key))
        });
    }

    fn note_asked(&mut self, source: Source) {
        let mut tracks = self.shard.tracks.iter();
        let is_it = |(_, published): &(&TrackId, &super::Published)| {
            published.key == source.track && published.session.is_some()
        };
        if let Some((track, _)) = tracks.find(is_it) {
            self.asked.push((track.clone(), source.encoding));
        }
    }

    /// What a negotiation would say of the payload types of tracks that are published here.
    fn negotiate(&mut self) {
        let tracks = self.shard.tracks.iter_mut();
        let fresh = tracks.filter(|(_, it)| it.session.is_some() && it.codecs.is_empty());
        let fresh: Vec<TrackId> = fresh.map(|(track, _)| track.clone()).collect();
        for track in fresh {
            let Some(published) = self.shard.tracks.get_mut(&track) else {
                continue;
            };
            let spec = self.shard.router.spec(published.key);
            let is_video = spec.is_some_and(|spec| spec.is_video);
            published.codecs = vec![if is_video { VP8 } else { OPUS }];
            self.shard.tell_state(&track);
        }
    }

    /// Begins subscriptions, as a connection does that can carry them.
    fn activate(&mut self, now: Instant) {
        let shard = &mut self.shard;
        let mut begun = Vec::new();
        for (_, session) in shard.sessions.iter_mut() {
            for (track, wanted) in &mut session.wanted {
                let published = shard.tracks.get(track);
                let published = published.filter(|it| it.generation == wanted.origin.generation);
                let Some(published) = published.filter(|_| wanted.subscription.is_none()) else {
                    continue;
                };
                let spec = shard.router.spec(published.key);
                let codec = match spec.is_some_and(|spec| spec.is_video) {
                    true => Codec::Vp8,
                    false => Codec::Opus,
                };
                let router: &mut Router<_, _> = &mut shard.router;
                let key = router.subscribe(published.key, wanted.wish, codec, 0, now);
                wanted.subscription = key;
                if let Some(key) = key {
                    let of = (session.key, track.clone());
                    self.subscriptions.insert(key, of);
                    begun.push(track.clone());
                }
            }
        }
        for track in begun {
            let Some(published) = shard.tracks.get_mut(&track) else {
                continue;
            };
            let is_known = std::mem::replace(&mut published.is_received, true);
            if !is_known && published.session.is_none() {
                shard.tell_received(&track);
            }
        }
    }

    /// A packet of a publisher's, and how loud it is if it says so; what it is not taken for.
    pub(crate) fn send(
        &mut self,
        track: &TrackId,
        encoding: u8,
        packet: &[u8],
        audio_level: Option<u8>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let published = self.shard.tracks.get(track);
        let published = published.filter(|published| published.session.is_some());
        let key = published.ok_or(DropReason::UnknownSource)?.key;
        let header = Header::parse(packet).ok_or(DropReason::Malformed)?;
        let codec = match header.payload_type == VP8.number {
            true => Codec::Vp8,
            false => Codec::Opus,
        };
        let source = Source {
            track: key,
            encoding,
        };
        let media = Media {
            codec,
            header,
            packet,
            audio_level,
            dependency: None,
            repaired: false,
            in_place: false,
        };
        let gathered = self.shard.router.handle_media(source, media, now)?;
        let Shard {
            router, neighbours, ..
        } = &mut self.shard;
        router.pass_on(
            source,
            header.sequence,
            pass_on(neighbours, encoding, packet, false),
        );
        if gathered == Gathered::Full {
            self.shard.forward(now);
        }
        Ok(())
    }

    /// The encoding goes on under another SSRC.
    pub(crate) fn restart(&mut self, track: &TrackId, encoding: u8, now: Instant) {
        if let Some(track) = self.shard.tracks.get(track).map(|published| published.key) {
            self.shard.guarded(|shard| shard.forward(now));
            self.shard.router.restart(Source { track, encoding }, now);
        }
    }

    /// What subscribers were sent since it was last asked.
    pub(crate) fn overheard(&mut self) -> Vec<(SessionKey, TrackId, Overheard)> {
        let overheard = self.shard.wire.overheard.as_mut().map(std::mem::take);
        let overheard = overheard.unwrap_or_default().into_iter();
        let known = overheard.filter_map(|packet| {
            let (session, track) = self.subscriptions.get(&packet.to)?.clone();
            Some((session, track, packet))
        });
        known.collect()
    }

    /// A subscriber cannot go on without a key frame.
    pub(crate) fn want_key_frame(&mut self, session: SessionKey, track: &TrackId, now: Instant) {
        if let Some(key) = self.subscription(session, track) {
            self.shard.router.handle_key_frame_request(key, now);
        }
    }

    /// A subscriber misses the packet of this number; `true`: it is sent again.
    pub(crate) fn want_packet(
        &mut self,
        session: SessionKey,
        track: &TrackId,
        sequence: u16,
        round_trip: Duration,
        now: Instant,
    ) -> bool {
        let key = self.subscription(session, track);
        let router = &mut self.shard.router;
        key.is_some_and(|key| router.handle_loss(key, sequence, round_trip, now).is_ok())
    }

    fn subscription(&self, session: SessionKey, track: &TrackId) -> Option<SubscriptionKey> {
        let index = *self.shard.session_index.get(&session)?;
        self.shard
            .sessions
            .get(index)?
            .wanted
            .get(track)?
            .subscription
    }

    /// The encoding that a subscriber is sent.
    pub(crate) fn layer(&self, session: SessionKey, track: &TrackId) -> Option<u8> {
        let key = self.subscription(session, track)?;
        Some(self.shard.router.current_layer(key)?.spatial)
    }

    /// What sessions are told, and which publishers are asked for key frames.
    pub(crate) fn poll_event(&mut self) -> Option<(SessionKey, Event)> {
        let mut sessions = self.sessions.iter_mut();
        sessions.find_map(|(key, told)| Some((*key, told.try_recv()?)))
    }

    pub(crate) fn poll_asked(&mut self) -> Option<(TrackId, u8)> {
        self.asked.pop()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [
            self.shard.router.poll_timeout(),
            self.shard.timers.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether there is something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        let neighbours = &self.shard.neighbours;
        neighbours.has_arrivals() || neighbours.is_waiting() || !self.commands.is_empty()
    }

    /// Bugs that were met.
    pub(crate) fn panics(&self) -> u64 {
        self.shard.counters.panics.load(Ordering::Relaxed)
    }

    /// What is left, when nobody is: nothing.
    pub(crate) fn left(&self) -> Vec<String> {
        let shard = &self.shard;
        let (tracks, subscriptions, rooms) = shard.router.len();
        let counts = [
            ("tracks of the router", tracks),
            ("subscriptions of the router", subscriptions),
            ("rooms of the router", rooms),
            ("tracks", shard.tracks.len()),
            ("tracks of others", shard.remote.len()),
            ("tracks of others by key", shard.remote.indexed()),
            ("rooms", shard.rooms.len()),
            ("rooms that others follow", shard.followers.len()),
            ("sessions", shard.sessions.len()),
        ];
        let left = counts.into_iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}"))
            .collect()
    }
}
