//! One pipe between the shards of this node and those of another: who takes what from whom.
//!
//! Towards the shards it is one more neighbour, with rings and a box; towards the other node it says the
//! same in other words ([`translate`]) and datagrams ([`frame`]). What shards here take
//! is kept while there is no connection, and asked for anew when there is one; what the other node takes
//! ends with the connection. Pure but for the neighbours' rings: words, datagrams and packets in and out.
//! Knows nothing of QUIC, nor why a track is taken from this very node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipemesh_node_core::forward::{EncodingSet, MAX_ENCODINGS};
use pipemesh_node_core::pipe::frame::{self, Datagram, Marks, MediaHead, Piece, Stream};
use pipemesh_node_core::pipe::schedule::Kind;
use pipemesh_node_core::router::relay::{Alias, Interest, Stamp};
use pipemesh_node_core::router::{Source, TrackKey};
use pipemesh_proto::ids::{NodeId, RoomId, TrackId};
use pipemesh_proto::pipe::pipe_message::Message as Word;
use pipemesh_proto::pipe::{self, Role};

use super::pieces::Pieces;
use super::translate;
use crate::session::sdp::Format;
use crate::shard::{Message, Neighbours, Publication, RecordHeader, Subscribe, TrackState};
use crate::tracks::{TrackEntry, Tracks};

/// Tracks that another node may take: a room of a thousand people, several times over.
const MAX_GIVEN: usize = 16_384;
/// Messages that wait for the other node before data packets are left out.
const MOST_DATA: usize = 4096;
/// Messages from shards per turn; then packets have theirs.
const MESSAGES_PER_TURN: usize = 256;

/// What the rest of the node has to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A track that is taken from there is described for the first time.
    Described {
        track: TrackId,
        generation: u64,
        format: Format,
    },
    /// A track is not taken from there any more.
    Gone { track: TrackId, generation: u64 },
    /// The other node asks for a track that is published neither here nor there: answer by
    /// [`Exchange::serve`] once it is taken here.
    Asked {
        subscription: u32,
        track: TrackId,
        publication: Publication,
    },
    /// It does not ask any more.
    Released { subscription: u32, track: TrackId },
    /// It is heard …
    Heard,
    /// … or has fallen silent, or cannot be reached.
    Silent,
}

/// What went over the pipe, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    /// Packets of tracks that are not taken (any more).
    pub(crate) unknown: u64,
    /// Packets for which a shard had no room.
    pub(crate) refused: u64,
    /// Datagrams and messages that make no sense.
    pub(crate) malformed: u64,
    /// Data packets for which the other node has no ear at present.
    pub(crate) data_dropped: u64,
}

/// A track that a shard here takes from the other node.
struct Taken {
    shard: u16,
    alias: Alias,
    track: TrackId,
    generation: u64,
    publication: Arc<Publication>,
    interest: Option<Interest>,
    is_described: bool,
    /// By encoding.
    streams: [Received; MAX_ENCODINGS],
}

/// What came of one encoding.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    /// The highest number, in full.
    highest: u64,
    restarts: u8,
}

/// A track of a shard here that the other node takes.
struct Given {
    track: TrackId,
    publication: Publication,
    /// Once a shard has been asked.
    at: Option<At>,
    interest: Option<Interest>,
}

struct At {
    shard: u16,
    alias: Alias,
    format: Format,
    /// As the shard has described it last.
    state: Option<Arc<TrackState>>,
    /// Encodings that the way there has no room for.
    suspended: EncodingSet,
    /// The highest number of each encoding that was sent, in full.
    highest: [u64; MAX_ENCODINGS],
}

/// See the module.
pub(crate) struct Exchange {
    own: NodeId,
    neighbours: Neighbours,
    tracks: Arc<Tracks>,
    taken: BTreeMap<u32, Taken>,
    taken_by: BTreeMap<(u16, u64), u32>,
    last_subscription: u32,
    given: BTreeMap<u32, Given>,
    given_by: BTreeMap<u64, u32>,
    last_alias: u64,
    /// Subscriptions of the other node that have ended, and of which the sender has to hear.
    closed: Vec<u32>,
    /// Rooms of which people here are to hear what is said there …
    follows: BTreeSet<RoomId>,
    /// … and the other way round.
    followed_by: BTreeSet<RoomId>,
    is_connected: bool,
    words: VecDeque<Word>,
    datagrams: VecDeque<Vec<u8>>,
    news: VecDeque<News>,
    pieces: Pieces,
    /// Times in datagrams are counted from here.
    origin: Instant,
    pub(crate) stats: Stats,
}

impl At {
    /// The shard's name for it.
    fn key(&self) -> Option<TrackKey> {
        Some(self.state.as_ref()?.key)
    }

    fn kind(&self, encoding: u8) -> Kind {
        match self.format.codec().is_video() {
            false => Kind::Audio,
            true => Kind::Video {
                layer: encoding,
                layers: self.state.as_ref().map_or(1, |state| state.spec.encodings),
            },
        }
    }

    /// What the other node is told of it.
    fn describe(&self, subscription: u32) -> Option<Word> {
        let state = self.state.as_ref()?;
        let mut told = translate::state(subscription, state, self.format);
        told.live &= !u32::from(self.suspended.bits());
        Some(Word::State(told))
    }
}

impl Exchange {
    pub(crate) fn new(
        own: NodeId,
        neighbours: Neighbours,
        tracks: Arc<Tracks>,
        origin: Instant,
    ) -> Self {
        Self {
            own,
            neighbours,
            tracks,
            taken: BTreeMap::new(),
            taken_by: BTreeMap::new(),
            last_subscription: 0,
            given: BTreeMap::new(),
            given_by: BTreeMap::new(),
            last_alias: 0,
            closed: Vec::new(),
            follows: BTreeSet::new(),
            followed_by: BTreeSet::new(),
            is_connected: false,
            words: VecDeque::new(),
            datagrams: VecDeque::new(),
            news: VecDeque::new(),
            pieces: Pieces::default(),
            origin,
            stats: Stats::default(),
        }
    }

    /// The other node can be reached, for the first time or again: it is asked for everything.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.words.clear();
        self.datagrams.clear();
        for (subscription, taken) in &mut self.taken {
            self.words.push_back(taken.subscribe(*subscription));
            if let Some(interest) = taken.interest {
                let interest = translate::interest(*subscription, interest);
                self.words.push_back(Word::Interest(interest));
            }
        }
        for room in &self.follows {
            let room_id = room.to_string();
            self.words.push_back(Word::Follow(pipe::Follow { room_id }));
        }
    }

    /// … or cannot any more. Whatever it took it has to ask for again.
    pub(crate) fn disconnected(&mut self) {
        self.is_connected = false;
        self.words.clear();
        self.datagrams.clear();
        self.pieces = Pieces::default();
        for subscription in self.given.keys().copied().collect::<Vec<_>>() {
            self.end_given(subscription);
        }
        self.end_rooms();
        self.neighbours.flush();
    }

    /// Whether anything is taken or given, or a room followed.
    pub(crate) fn is_used(&self) -> bool {
        let is_silent = self.follows.is_empty() && self.followed_by.is_empty();
        !self.taken.is_empty() || !self.given.is_empty() || !is_silent
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.taken.len(), self.given.len())
    }

    /// The next to be said to the other node.
    pub(crate) fn poll_word(&mut self) -> Option<Word> {
        self.words.pop_front()
    }

    /// The next datagram that is no packet.
    pub(crate) fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    pub(crate) fn report(&mut self, news: News) {
        self.news.push_back(news);
    }

    pub(crate) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Shows the shards what they were sent.
    pub(crate) fn flush(&mut self) {
        self.neighbours.flush();
    }

    /// Words that were not taken yet.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// Whether something waits for room in a shard's box.
    pub(crate) fn is_waiting(&self) -> bool {
        self.neighbours.is_waiting()
    }

    /// Whether a shard takes so little that nothing more is to be read that leads to more.
    pub(crate) fn is_congested(&self) -> bool {
        self.neighbours.is_congested()
    }

    /// Whether shards have sent anything that was not read yet.
    pub(crate) fn has_arrivals(&self) -> bool {
        self.neighbours.has_arrivals()
    }

    fn say(&mut self, word: Word) {
        if self.is_connected {
            self.words.push_back(word);
        }
    }
}

/// Rooms.
impl Exchange {
    /// People here are to hear what is said in a room there. Said again, they hear who speaks there.
    pub(crate) fn follow(&mut self, room: RoomId) {
        let room_id = room.to_string();
        self.follows.insert(room);
        self.say(Word::Follow(pipe::Follow { room_id }));
    }

    pub(crate) fn unfollow(&mut self, room: &RoomId) {
        if self.follows.remove(room) {
            let room_id = room.to_string();
            self.say(Word::Unfollow(pipe::Unfollow { room_id }));
            self.tell_shards(|| Message::RoomClosed(room.clone()));
        }
    }

    fn be_followed(&mut self, room: &str) {
        match room.parse::<RoomId>() {
            Ok(room) if self.followed_by.len() < MAX_GIVEN => {
                self.followed_by.insert(room.clone());
                self.tell_shards(|| Message::Follow(room.clone()));
            }
            _ => self.stats.malformed += 1,
        }
    }

    /// The other node is away: nobody there is heard, or hears.
    fn end_rooms(&mut self) {
        for room in std::mem::take(&mut self.followed_by) {
            self.tell_shards(|| Message::Unfollow(room.clone()));
        }
        for room in self.follows.clone() {
            self.tell_shards(|| Message::RoomClosed(room.clone()));
        }
    }

    fn tell_shards(&mut self, message: impl Fn() -> Message) {
        for shard in self.neighbours.shards() {
            self.neighbours.tell(shard, message());
        }
    }
}

/// What shards say.
impl Exchange {
    pub(crate) fn handle_messages(&mut self, now: Instant) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some((from, message)) = self.neighbours.poll_message() else {
                return;
            };
            self.handle_message(from, message, now);
        }
    }

    fn handle_message(&mut self, from: u16, message: Message, now: Instant) {
        match message {
            Message::Subscribe(subscribe) => self.take(from, *subscribe),
            Message::Interest {
                alias, interest, ..
            } => {
                let Some((subscription, taken)) = self.taken_by(from, alias) else {
                    return;
                };
                taken.interest = Some(interest);
                self.say(Word::Interest(translate::interest(subscription, interest)));
            }
            Message::Unsubscribe { alias, moved, .. } => self.end_taken(from, alias, moved),
            Message::KeyFrame(alias, source) => {
                let Some((subscription, _)) = self.taken_by(from, alias) else {
                    return;
                };
                let mut datagram = Vec::new();
                let encoding = source.encoding;
                let stream = Stream {
                    subscription,
                    encoding,
                };
                frame::write_key_frame_request(stream, &mut datagram);
                self.ask(datagram);
            }
            Message::Packets(alias, source, numbers) => {
                self.ask_for_packets(from, alias, source, &numbers);
            }
            Message::Received(alias, _) => {
                if let Some((subscription, _)) = self.taken_by(from, alias) {
                    self.say(Word::Received(pipe::Received { subscription }));
                }
            }
            Message::State(alias, state) => self.describe(alias, state),
            Message::Report(alias, report) => {
                if let Some(subscription) = self.given_as(alias) {
                    let report = translate::report(subscription, &report, now);
                    self.say(Word::Report(report));
                }
            }
            Message::Rates(alias, rates) => {
                if let Some(subscription) = self.given_as(alias) {
                    self.say(Word::Rates(translate::rates(subscription, &rates)));
                }
            }
            Message::Ended(alias) => {
                if let Some(subscription) = self.given_as(alias) {
                    self.forget_given(subscription);
                    self.say(Word::Ended(pipe::Ended { subscription }));
                }
            }
            Message::Unknown(alias) => {
                if let Some(subscription) = self.given_as(alias) {
                    self.forget_given(subscription);
                    self.say(Word::Unknown(pipe::Unknown { subscription }));
                }
            }
            Message::RoomHere(room, speakers) if !speakers.is_empty() => {
                self.say(Word::Speakers(translate::speakers(&room, &speakers)));
            }
            Message::Speakers(room, speakers) => {
                self.say(Word::Speakers(translate::speakers(&room, &speakers)));
            }
            Message::Quality(room, judged) => {
                self.say(Word::Quality(translate::quality(&room, &judged)));
            }
            Message::Data {
                room,
                packet,
                reliable,
            } => {
                // Like a client that takes data more slowly than it is sent.
                if self.words.len() < MOST_DATA {
                    self.say(Word::Data(pipe::Data {
                        room_id: room.to_string(),
                        packet: packet.to_vec(),
                        reliable,
                    }));
                } else {
                    self.stats.data_dropped += 1;
                }
            }
            // Shards say these to each other only, or hear them from here.
            Message::RoomHere(..)
            | Message::RoomOpened(_)
            | Message::RoomClosed(_)
            | Message::Follow(_)
            | Message::Unfollow(_) => {}
        }
    }

    /// A shard takes a track, or asks for it again.
    fn take(&mut self, shard: u16, subscribe: Subscribe) {
        let Subscribe {
            track,
            generation,
            alias,
            ring,
            publication,
        } = subscribe;
        if let Some(ring) = ring {
            self.neighbours.set_ring(shard, ring);
        }
        let Some(publication) = publication else {
            return;
        };
        let subscription = match self.taken_by.get(&(shard, alias.0)) {
            Some(subscription) => *subscription,
            None => {
                self.last_subscription = (self.last_subscription + 1) % Stream::SUBSCRIPTIONS;
                self.last_subscription
            }
        };
        // Asked for again, it is used as before.
        let before = self.taken.get(&subscription);
        let interest = before.and_then(|taken| taken.interest);
        let taken = Taken {
            shard,
            alias,
            track,
            generation,
            publication,
            interest,
            is_described: false,
            streams: Default::default(),
        };
        self.say(taken.subscribe(subscription));
        if let Some(interest) = interest {
            self.say(Word::Interest(translate::interest(subscription, interest)));
        }
        self.taken.insert(subscription, taken);
        self.taken_by.insert((shard, alias.0), subscription);
    }

    fn end_taken(&mut self, shard: u16, alias: Alias, moved: bool) {
        let Some(subscription) = self.taken_by.remove(&(shard, alias.0)) else {
            return;
        };
        let Some(taken) = self.taken.remove(&subscription) else {
            return;
        };
        let (track, generation) = (taken.track, taken.generation);
        if !moved {
            self.news.push_back(News::Gone { track, generation });
        }
        self.say(Word::Unsubscribe(pipe::Unsubscribe { subscription }));
    }

    fn ask_for_packets(&mut self, shard: u16, alias: Alias, source: Source, numbers: &[u64]) {
        let Some((subscription, taken)) = self.taken_by(shard, alias) else {
            return;
        };
        let Some(stream) = taken.streams.get(usize::from(source.encoding)) else {
            return;
        };
        let restarts = stream.restarts;
        let stream = Stream {
            subscription,
            encoding: source.encoding,
        };
        let numbers: Vec<u32> = numbers.iter().map(|number| *number as u32).collect();
        let mut numbers = numbers.as_slice();
        while !numbers.is_empty() {
            let mut datagram = Vec::new();
            let asked = frame::write_nack(stream, restarts, numbers, &mut datagram);
            numbers = &numbers[asked..];
            self.ask(datagram);
        }
    }

    fn ask(&mut self, datagram: Vec<u8>) {
        if self.is_connected {
            self.datagrams.push_back(datagram);
        }
    }

    fn taken_by(&mut self, shard: u16, alias: Alias) -> Option<(u32, &mut Taken)> {
        let subscription = *self.taken_by.get(&(shard, alias.0))?;
        Some((subscription, self.taken.get_mut(&subscription)?))
    }

    /// A shard describes a track that the other node takes.
    fn describe(&mut self, alias: Alias, state: Arc<TrackState>) {
        let Some(subscription) = self.given_as(alias) else {
            return;
        };
        let Some(given) = self.given.get_mut(&subscription) else {
            return;
        };
        let Some(at) = &mut given.at else {
            return;
        };
        let track = state.key;
        let is_new = at.key() != Some(track);
        at.state = Some(state);
        let told = at.describe(subscription);
        if is_new && let Some(interest) = given.interest {
            let message = Message::Interest {
                track,
                alias,
                interest,
            };
            self.neighbours.tell(at.shard, message);
        }
        if let Some(told) = told {
            self.say(told);
        }
    }

    /// The way to the other node has no room for a stream, or has again: its receivers go over to another one,
    /// and come back.
    pub(crate) fn suspend(&mut self, stream: Stream, is_suspended: bool) {
        let given = self.given.get_mut(&stream.subscription);
        let Some(at) = given.and_then(|given| given.at.as_mut()) else {
            return;
        };
        match is_suspended {
            true => at.suspended.insert(stream.encoding),
            false => at.suspended.remove(stream.encoding),
        }
        if let Some(told) = at.describe(stream.subscription) {
            self.say(told);
        }
    }

    /// Packets of a stream did not find room: it goes on with a key frame.
    pub(crate) fn want_key_frame(&mut self, stream: Stream) {
        if let Some((at, source)) = self.given_source(stream) {
            let (shard, message) = (at.shard, Message::KeyFrame(at.alias, source));
            self.neighbours.tell(shard, message);
        }
    }

    /// A subscription whose packets are not sent any more.
    pub(crate) fn poll_closed(&mut self) -> Option<u32> {
        self.closed.pop()
    }

    fn given_as(&self, alias: Alias) -> Option<u32> {
        self.given_by.get(&alias.0).copied()
    }

    /// Takes what has come out of the shards' rings, for `send`.
    pub(crate) fn receive(&mut self, now: Instant, mut send: impl FnMut(Kind, &MediaHead, &[u8])) {
        let sent = now.saturating_duration_since(self.origin).as_micros() as u32;
        for from in self.neighbours.shards() {
            let Some(mut ring) = self.neighbours.take_incoming(from) else {
                continue;
            };
            let mut records = ring.records();
            for record in records.by_ref() {
                let Some((record, packet)) = RecordHeader::read(record) else {
                    continue;
                };
                let subscription = self.given_by.get(&record.alias.0);
                let given = subscription.and_then(|number| self.given.get_mut(number));
                let (Some(given), Some(&subscription)) = (given, subscription) else {
                    continue;
                };
                let Some(at) = given.at.as_mut() else {
                    continue;
                };
                let kind = at.kind(record.encoding);
                let Some(highest) = at.highest.get_mut(usize::from(record.encoding)) else {
                    continue;
                };
                *highest = (*highest).max(record.stamp.number);
                let head = MediaHead {
                    stream: Stream {
                        subscription,
                        encoding: record.encoding,
                    },
                    number: record.stamp.number as u32,
                    restarts: record.stamp.restarts,
                    sent,
                    marks: Marks {
                        key_frame: record.stamp.key_frame,
                        frame_end: packet.get(1).is_some_and(|byte| byte & 0x80 != 0),
                        resumes: record.stamp.resumes,
                    },
                    is_repair: record.repaired,
                };
                self.stats.packets_out += 1;
                send(kind, &head, packet);
            }
            let position = records.position();
            ring.release(position);
            self.neighbours.return_incoming(from, ring);
        }
    }
}

/// What the other node says.
impl Exchange {
    /// `delay` is what a message takes from there.
    pub(crate) fn handle_word(&mut self, word: Word, delay: Duration, now: Instant) {
        match word {
            Word::Subscribe(subscribe) => self.give(&subscribe),
            Word::Interest(interest) => self.handle_interest(&interest),
            Word::Unsubscribe(ended) => self.end_given(ended.subscription),
            Word::Received(received) => {
                let given = self.given.get(&received.subscription);
                if let Some(given) = given
                    && let Some(at) = &given.at
                {
                    let message = Message::Received(at.alias, given.track.clone());
                    self.neighbours.tell(at.shard, message);
                }
            }
            Word::State(state) => self.handle_state(&state),
            Word::Report(report) => {
                let read = translate::read_report(&report, delay, now);
                self.tell_taker(report.subscription, |alias| {
                    Some(Message::Report(alias, read?))
                });
            }
            Word::Rates(rates) => {
                let read = Arc::new(translate::read_rates(&rates));
                self.tell_taker(rates.subscription, |alias| {
                    Some(Message::Rates(alias, read))
                });
            }
            Word::Ended(ended) => {
                self.tell_taker(ended.subscription, |alias| Some(Message::Ended(alias)));
            }
            Word::Unknown(unknown) => {
                self.tell_taker(unknown.subscription, |alias| Some(Message::Unknown(alias)));
            }
            // Said once, before all others.
            Word::Hello(_) => self.stats.malformed += 1,
            Word::Follow(follow) => self.be_followed(&follow.room_id),
            Word::Unfollow(unfollow) => {
                if let Ok(room) = unfollow.room_id.parse::<RoomId>()
                    && self.followed_by.remove(&room)
                {
                    self.tell_shards(|| Message::Unfollow(room.clone()));
                }
            }
            Word::Speakers(told) => match translate::read_speakers(&told) {
                Some((room, speakers)) if self.follows.contains(&room) => {
                    self.tell_shards(|| Message::Speakers(room.clone(), Arc::clone(&speakers)));
                }
                Some(_) => {}
                None => self.stats.malformed += 1,
            },
            Word::Quality(told) => match translate::read_quality(&told) {
                Some((room, judged)) if self.follows.contains(&room) => {
                    self.tell_shards(|| Message::Quality(room.clone(), Arc::clone(&judged)));
                }
                Some(_) => {}
                None => self.stats.malformed += 1,
            },
            Word::Data(data) => match data.room_id.parse::<RoomId>() {
                Ok(room) if self.follows.contains(&room) => {
                    let packet = Bytes::from(data.packet);
                    self.tell_shards(|| Message::Data {
                        room: room.clone(),
                        packet: packet.clone(),
                        reliable: data.reliable,
                    });
                }
                Ok(_) => {}
                Err(_) => self.stats.malformed += 1,
            },
        }
    }

    fn tell_taker(&mut self, subscription: u32, message: impl FnOnce(Alias) -> Option<Message>) {
        let Some(taken) = self.taken.get(&subscription) else {
            return;
        };
        match message(taken.alias) {
            Some(message) => self.neighbours.tell(taken.shard, message),
            None => self.stats.malformed += 1,
        }
    }

    fn handle_state(&mut self, state: &pipe::TrackState) {
        let Some(taken) = self.taken.get_mut(&state.subscription) else {
            return;
        };
        let Some((state, format)) = translate::read_state(state) else {
            self.stats.malformed += 1;
            // A track that nobody here can be sent.
            let message = Message::Ended(taken.alias);
            return self.neighbours.tell(taken.shard, message);
        };
        let message = Message::State(taken.alias, Arc::new(state));
        self.neighbours.tell(taken.shard, message);
        if !std::mem::replace(&mut taken.is_described, true) {
            self.news.push_back(News::Described {
                track: taken.track.clone(),
                generation: taken.generation,
                format,
            });
        }
    }

    /// The other node takes a track.
    fn give(&mut self, subscribe: &pipe::Subscribe) {
        let subscription = subscribe.subscription;
        let unknown = Word::Unknown(pipe::Unknown { subscription });
        let is_full = self.given.len() >= MAX_GIVEN || subscription >= Stream::SUBSCRIPTIONS;
        let Some((track, publication)) = read_subscribe(subscribe).filter(|_| !is_full) else {
            self.stats.malformed += 1;
            return self.say(unknown);
        };
        // Asked for again, it is asked for anew.
        self.end_given(subscription);
        let entry = self.find(&track, &publication);
        let is_own = publication.node == self.own;
        // Nobody who asks takes the place of what is here under the same id.
        let is_another = entry.is_none() && self.tracks.get(&track).is_some();
        // Gateways take from origins alone: no track can go round. What is not published yet is asked for
        // again.
        if is_own && entry.is_none() || !is_own && (is_another || publication.role == Role::Gateway)
        {
            return self.say(unknown);
        }
        let given = Given {
            track: track.clone(),
            publication: publication.clone(),
            at: None,
            interest: None,
        };
        self.given.insert(subscription, given);
        match entry {
            // What is taken from elsewhere goes on for as long as somebody says that they want it.
            Some(entry) if is_own => self.ask_shard(subscription, &entry),
            _ => self.news.push_back(News::Asked {
                subscription,
                track,
                publication,
            }),
        }
    }

    /// A track that the other node has asked for is here.
    pub(crate) fn serve(&mut self, subscription: u32) {
        let Some(given) = self.given.get(&subscription) else {
            return;
        };
        if given.at.is_some() {
            return;
        }
        match self.find(&given.track, &given.publication) {
            Some(entry) => self.ask_shard(subscription, &entry),
            None => self.refuse(subscription),
        }
    }

    /// A track that the other node has asked for cannot be had: it was asked for long enough.
    pub(crate) fn refuse(&mut self, subscription: u32) {
        if self.given.contains_key(&subscription) {
            self.end_given(subscription);
            self.say(Word::Ended(pipe::Ended { subscription }));
        }
    }

    fn find(&self, track: &TrackId, publication: &Publication) -> Option<TrackEntry> {
        let entry = self.tracks.get(track)?;
        (entry.session == publication.session && entry.room == publication.room).then_some(entry)
    }

    fn ask_shard(&mut self, subscription: u32, entry: &TrackEntry) {
        let Some(given) = self.given.get_mut(&subscription) else {
            return;
        };
        let shard = entry.origin.shard;
        self.last_alias += 1;
        let alias = Alias(self.last_alias);
        given.at = Some(At {
            shard,
            alias,
            format: entry.format,
            state: None,
            suspended: EncodingSet::default(),
            highest: [0; MAX_ENCODINGS],
        });
        self.given_by.insert(alias.0, subscription);
        let subscribe = Subscribe {
            track: given.track.clone(),
            generation: entry.origin.generation,
            alias,
            ring: self.neighbours.open_ring(shard),
            publication: None,
        };
        self.neighbours
            .tell(shard, Message::Subscribe(Box::new(subscribe)));
    }

    fn handle_interest(&mut self, told: &pipe::Interest) {
        let Some(given) = self.given.get_mut(&told.subscription) else {
            return;
        };
        let interest = translate::read_interest(told);
        given.interest = Some(interest);
        if let Some(at) = &given.at
            && let Some(track) = at.key()
        {
            let message = Message::Interest {
                track,
                alias: at.alias,
                interest,
            };
            self.neighbours.tell(at.shard, message);
        }
    }

    fn end_given(&mut self, subscription: u32) {
        let Some(given) = self.forget_given(subscription) else {
            return;
        };
        if let Some(at) = given.at {
            let message = Message::Unsubscribe {
                track: given.track,
                alias: at.alias,
                moved: false,
            };
            self.neighbours.tell(at.shard, message);
        }
    }

    fn forget_given(&mut self, subscription: u32) -> Option<Given> {
        let given = self.given.remove(&subscription)?;
        self.closed.push(subscription);
        if let Some(at) = &given.at {
            self.given_by.remove(&at.alias.0);
        }
        if given.publication.node != self.own {
            let track = given.track.clone();
            self.news.push_back(News::Released {
                subscription,
                track,
            });
        }
        Some(given)
    }

    /// A datagram of the other node's; answers a probe if it is one.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8]) -> Option<frame::Probe> {
        match frame::read(datagram) {
            Some(Datagram::Media(head, packet)) => self.pass(&head, packet),
            Some(Datagram::Piece(head, piece, part)) => self.handle_piece(&head, piece, part),
            Some(Datagram::Nack(nack)) => self.handle_nack(&nack),
            Some(Datagram::KeyFrameRequest(stream)) => self.want_key_frame(stream),
            Some(Datagram::Probe(probe)) => return Some(probe),
            Some(Datagram::Padding) => {}
            None => self.stats.malformed += 1,
        }
        None
    }

    fn handle_piece(&mut self, head: &MediaHead, piece: Piece, part: &[u8]) {
        // Kept for tracks that are taken only.
        if !self.taken.contains_key(&head.stream.subscription) {
            self.stats.unknown += 1;
            return;
        }
        if let Some((head, packet)) = self.pieces.join(head, piece, part) {
            self.pass(&head, &packet);
        }
    }

    /// Gives a packet to the shard that takes it.
    fn pass(&mut self, head: &MediaHead, packet: &[u8]) {
        let taken = self.taken.get_mut(&head.stream.subscription);
        let Some(taken) = taken.filter(|taken| taken.is_described) else {
            self.stats.unknown += 1;
            return;
        };
        let stream = &mut taken.streams[usize::from(head.stream.encoding)];
        let number = nearest(head.number, stream.highest);
        // One of before does not take the count back.
        if head.restarts.wrapping_sub(stream.restarts).cast_signed() >= 0 {
            stream.restarts = head.restarts;
        }
        stream.highest = stream.highest.max(number);
        let record = RecordHeader {
            alias: taken.alias,
            encoding: head.stream.encoding,
            stamp: Stamp {
                number,
                restarts: head.restarts,
                resumes: head.marks.resumes,
                key_frame: head.marks.key_frame,
            },
            repaired: head.is_repair,
        };
        if self.neighbours.push(taken.shard, &record.write(), packet) {
            self.stats.packets_in += 1;
        } else {
            self.stats.refused += 1;
        }
    }

    fn handle_nack(&mut self, nack: &frame::Nack<'_>) {
        let Some((at, source)) = self.given_source(nack.stream) else {
            return;
        };
        let highest = at.highest[usize::from(nack.stream.encoding)];
        let (shard, alias) = (at.shard, at.alias);
        let numbers = nack.numbers().map(|number| nearest(number, highest));
        let message = Message::Packets(alias, source, numbers.collect());
        self.neighbours.tell(shard, message);
    }

    fn given_source(&self, stream: Stream) -> Option<(&At, Source)> {
        let at = self.given.get(&stream.subscription)?.at.as_ref()?;
        let source = Source {
            track: at.key()?,
            encoding: stream.encoding,
        };
        Some((at, source))
    }
}

impl Taken {
    fn subscribe(&self, subscription: u32) -> Word {
        let publication = &self.publication;
        Word::Subscribe(pipe::Subscribe {
            subscription,
            track_id: self.track.to_string(),
            origin_node_id: publication.node.to_string(),
            origin_session_id: publication.session.to_string(),
            room_id: publication.room.to_string(),
            role: publication.role.into(),
        })
    }
}

fn read_subscribe(subscribe: &pipe::Subscribe) -> Option<(TrackId, Publication)> {
    let publication = Publication {
        node: subscribe.origin_node_id.parse().ok()?,
        session: subscribe.origin_session_id.parse().ok()?,
        room: subscribe.room_id.parse().ok()?,
        role: match subscribe.role() {
            Role::Gateway => Role::Gateway,
            Role::Leaf | Role::Unspecified => Role::Leaf,
        },
    };
    Some((subscribe.track_id.parse().ok()?, publication))
}

/// The number closest to `known` of which `low` are the lower 32 bits.
fn nearest(low: u32, known: u64) -> u64 {
    let step = low.wrapping_sub(known as u32).cast_signed();
    match known.checked_add_signed(step.into()) {
        Some(number) => number,
        // Before the first of all.
        None => low.into(),
    }
}

#[cfg(test)]
mod tests;
