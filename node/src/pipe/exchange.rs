//! One pipe between the shards of this node and those of another: who takes what from whom.
//!
//! Towards the shards it is one more neighbour, with rings and a box (`shards`); towards the other node it
//! says the same in other words ([`translate`]) and datagrams (`peer`). What shards here take is kept while there is no connection, and asked for anew when there is one; what the other node takes
//! ends with the connection. Pure but for the neighbours' rings: words, datagrams and packets in and out.
//! Knows nothing of QUIC, nor why a track is taken from this very node.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod numbered;
mod peer;
mod rooms;
mod shards;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use pipemesh_node_core::forward::{EncodingSet, MAX_ENCODINGS};
use pipemesh_node_core::pipe::schedule::Kind;
use pipemesh_node_core::router::TrackKey;
use pipemesh_node_core::router::relay::{Alias, Interest};
use pipemesh_proto::ids::{NodeId, RoomId, TrackId};
use pipemesh_proto::pipe;
use pipemesh_proto::pipe::Role;
use pipemesh_proto::pipe::pipe_message::Message as Word;
use pipemesh_topology::relay_path;

use self::numbered::Numbered;
use super::pieces::Pieces;
use super::translate;
use crate::session::sdp::Format;
use crate::shard::{Neighbours, Publication, TrackState};
use crate::tracks::Tracks;

/// Nodes that a track may have come over. While nodes change their paths they are more than there are once
/// all agree.
pub(super) const LONGEST_PATH: usize = relay_path::LONGEST_PATH + 1;
/// Tracks that another node may take: a room of a thousand people, several times over.
const MAX_GIVEN: usize = 16_384;

/// What the rest of the node has to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A track that is taken from there is described for the first time.
    Described {
        track: TrackId,
        generation: u64,
        format: Format,
    },
    /// A track is not taken from there any more, and …
    Gone { track: TrackId, generation: u64 },
    /// … comes from elsewhere.
    Moved { track: TrackId, generation: u64 },
    /// The other node asks for a track that is published neither here nor there: answer by
    /// [`Exchange::serve`] once it is taken here.
    Asked {
        subscription: u32,
        track: TrackId,
        publication: Publication,
    },
    /// It takes one that is published here, and not as a gateway.
    Given {
        subscription: u32,
        track: TrackId,
        role: Role,
    },
    /// A track that is taken from there is to be taken from elsewhere.
    SentOn { track: TrackId, generation: u64 },
    /// It does not ask any more, or take any more.
    Released { subscription: u32, track: TrackId },
    /// It is no node any more, and nobody needs the pipe to it.
    LetGo,
    /// It is heard …
    Heard,
    /// … or has fallen silent, or cannot be reached.
    Silent,
}

/// What the other node misses of a subscription where there is not room for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) subscription: u32,
    /// Larger is more.
    pub(crate) priority: u8,
    /// Encodings, from the lowest up, that anybody could use.
    pub(crate) wanted: u8,
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
    /// The other node's number of it.
    subscription: u32,
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
    /// By subscription.
    taken: Numbered<Taken>,
    taken_by: BTreeMap<(u16, u64), u32>,
    /// By alias …
    given: Numbered<Given>,
    /// … and the aliases by the other node's subscriptions.
    given_by: BTreeMap<u32, u32>,
    /// Subscriptions of the other node that have ended, and of which the sender has to hear.
    closed: Vec<u32>,
    /// Those of which it has to hear another demand.
    reweighed: Vec<u32>,
    /// Rooms of which people here are to hear what is said there …
    follows: BTreeSet<RoomId>,
    /// … and the other way round.
    followed_by: BTreeSet<RoomId>,
    is_connected: bool,
    words: VecDeque<Word>,
    datagrams: VecDeque<Vec<u8>>,
    news: VecDeque<News>,
    pieces: Pieces,
    /// The other node says that it does not hear this one, or does again.
    doubt: Option<bool>,
    /// The stamp of the last packet that came.
    last_sent: Option<u32>,
    /// Times in datagrams are counted from here.
    origin: Instant,
    pub(crate) stats: Stats,
}

impl Given {
    fn priority(&self) -> u8 {
        self.interest.map_or(0, |interest| interest.priority)
    }
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
    fn describe(&self, subscription: u32, own: &NodeId) -> Option<Word> {
        let state = self.state.as_ref()?;
        let mut told = translate::state(subscription, state, self.format);
        told.path.push(own.to_string());
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
            taken: Numbered::new(),
            taken_by: BTreeMap::new(),
            given: Numbered::new(),
            given_by: BTreeMap::new(),
            closed: Vec::new(),
            reweighed: Vec::new(),
            follows: BTreeSet::new(),
            followed_by: BTreeSet::new(),
            is_connected: false,
            words: VecDeque::new(),
            datagrams: VecDeque::new(),
            news: VecDeque::new(),
            pieces: Pieces::default(),
            doubt: None,
            last_sent: None,
            origin,
            stats: Stats::default(),
        }
    }

    /// The other node can be reached, for the first time or again: it is asked for everything.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.words.clear();
        self.datagrams.clear();
        for (subscription, taken) in self.taken.iter() {
            self.words.extend(taken.request(subscription));
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
        self.doubt = None;
        self.last_sent = None;
        for subscription in self.given_by.keys().copied().collect::<Vec<_>>() {
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

    /// Encodings of given tracks that the way there has no room for.
    #[cfg(test)]
    pub(crate) fn suspended(&self) -> BTreeMap<TrackId, u8> {
        let bits = self.given.iter().filter_map(|(_, given)| {
            let bits = given.at.as_ref()?.suspended.bits();
            (bits != 0).then(|| (given.track.clone(), bits))
        });
        bits.collect()
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

    /// Where the clock begins that packets are stamped by.
    pub(crate) fn clock(&self) -> Instant {
        self.origin
    }

    /// What the last packet was stamped with that has come since it was last asked: the other side's clock.
    pub(crate) fn take_last_sent(&mut self) -> Option<u32> {
        self.last_sent.take()
    }

    /// The other node is not heard, or is again.
    pub(crate) fn doubt(&mut self, is_doubted: bool) {
        self.say(Word::Doubt(pipe::Doubt { over: !is_doubted }));
    }

    /// Whether the other node does not hear this one, if it has said so since it was last asked.
    pub(crate) fn take_doubt(&mut self) -> Option<bool> {
        self.doubt.take()
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

impl Taken {
    /// Whether both are the same publication, be it in other roles.
    fn is_same(&self, other: &Self) -> bool {
        self.generation == other.generation && self.publication.is_same(&other.publication)
    }

    /// What the other node is asked for.
    fn request(&self, subscription: u32) -> impl Iterator<Item = Word> + use<> {
        let publication = &self.publication;
        let subscribe = Word::Subscribe(pipe::Subscribe {
            subscription,
            track_id: self.track.to_string(),
            origin_node_id: publication.node.to_string(),
            origin_session_id: publication.session.to_string(),
            room_id: publication.room.to_string(),
            role: publication.role.into(),
        });
        let interest = self.interest.map(|interest| {
            let interest = translate::interest(subscription, interest);
            Word::Interest(interest)
        });
        std::iter::once(subscribe).chain(interest)
    }
}

#[cfg(test)]
mod tests;
