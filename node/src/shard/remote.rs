//! Tracks of other shards that sessions here want, and tracks of other nodes that land here. Those of
//! sessions here that others take are in `offered`, what lies in the rings between in `record`.
//!
//! A shard asks for what its forwarders use and for nothing else; here such a track is a published one
//! like any other, whose packets come out of a ring. What is asked of its publisher goes to the shard
//! it is published on, which decides together with what its own sessions ask for.
//!
//! A track of another node lands on one shard, which takes it from a pipe. To all others of this node, and
//! to nodes that take it from here, that shard is what the publisher's is on its node.

mod former;
mod offered;
pub(super) mod record;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::router::relay::{Alias, Port};
use pipemesh_node_core::router::{Gathered, Media, Source, TrackKey};
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::track::TrackSpec;
use pipemesh_proto::ids::TrackId;
use slab::Slab;

use super::command::{Landing, Origin};
use super::event::Event;
use super::message::{Message, Publication, Subscribe, TrackState};
use super::neighbours::FIRST_PIPE;
use super::publications::{Published, Publisher};
use super::rooms::Room;
use super::session::RoomKey;
use super::{Shard, Timer};
use former::Former;
use record::RecordHeader;
pub(super) use record::pass_on;

/// Packets of one ring per turn; then others have theirs.
const PACKETS_PER_TURN: usize = 512;
/// A track may be asked for before its shard has heard of it. Doubled each time.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Priority of what those who speak show: their layers are the last to go, and have twice the turns.
const SPEAKING: u8 = 1;
/// After so many times, two and a half seconds, it is taken for ended.
const ATTEMPTS: u32 = 7;

/// Tracks of other shards.
#[derive(Default)]
pub(super) struct RemoteTracks {
    tracks: Slab<RemoteTrack>,
    by_id: HashMap<TrackId, usize>,
    /// The router's keys of those that have been described.
    by_key: HashMap<TrackKey, usize>,
    /// Tracks of other nodes that are to be taken here once a session here no longer publishes one under
    /// their ids.
    awaited: HashMap<TrackId, Landing>,
    last: u32,
}

struct RemoteTrack {
    track: TrackId,
    room: RoomKey,
    origin: Origin,
    /// What it came from before, and still does.
    former: Option<Former>,
    /// Makes [`Alias`]es differ that have the same place.
    number: u32,
    /// Sessions here that want it; one more for as long as the node does.
    wanted_by: usize,
    /// Where it is published, if that is another node.
    publication: Option<Arc<Publication>>,
    attempts: u32,
    /// Once the origin has described it.
    known: Option<Known>,
}

/// The neighbours that a track comes from: one, or two while it goes over from one to the other.
type Ways = std::iter::Chain<std::iter::Once<u16>, std::option::IntoIter<u16>>;

impl RemoteTrack {
    fn ways(&self) -> Ways {
        let former = self.former.as_ref().map(|former| former.pipe);
        std::iter::once(self.origin.shard).chain(former)
    }
}

struct Known {
    key: TrackKey,
    state: Arc<TrackState>,
}

impl RemoteTracks {
    fn alias(&self, index: usize) -> Alias {
        Alias(index as u64 | u64::from(self.tracks[index].number) << 32)
    }

    /// The place of a track that an alias still names.
    fn named(&self, alias: Alias) -> Option<usize> {
        let index = alias.0 as u32 as usize;
        let track = self.tracks.get(index)?;
        (u64::from(track.number) == alias.0 >> 32).then_some(index)
    }

    /// The same, if it comes from this neighbour at present.
    fn named_by(&self, from: u16, alias: Alias) -> Option<usize> {
        let index = self.named(alias)?;
        (self.tracks[index].origin.shard == from).then_some(index)
    }

    /// The router's key of a track that an alias still names.
    fn key(&self, alias: Alias) -> Option<TrackKey> {
        let known = self.tracks[self.named(alias)?].known.as_ref()?;
        Some(known.key)
    }

    /// Whether a track of another node is taken here, for the whole node.
    fn is_landed(&self, track: &TrackId) -> bool {
        let index = self.by_id.get(track);
        index.is_some_and(|index| self.tracks[*index].origin.shard >= FIRST_PIPE)
    }

    /// A track as its origin describes it; none if it is published here.
    fn state(&self, track: &TrackId) -> Option<&TrackState> {
        let known = self.tracks[*self.by_id.get(track)?].known.as_ref()?;
        Some(&known.state)
    }

    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }

    /// What else is remembered of them.
    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.by_id.len() + self.by_key.len() + self.awaited.len()
    }

    /// Where an encoding comes from, what we call the track there, and what the origin calls the encoding.
    fn at_origin(&self, source: Source) -> Option<(Ways, Alias, Source)> {
        let index = *self.by_key.get(&source.track)?;
        let remote = &self.tracks[index];
        let track = remote.known.as_ref()?.state.key;
        Some((remote.ways(), self.alias(index), Source { track, ..source }))
    }
}

impl TrackState {
    /// How much it is missed in a room.
    fn priority(&self, room: &Room) -> u8 {
        let speaks = self.participant.as_ref().is_some_and(|it| room.speaks(it));
        if speaks { SPEAKING } else { 0 }
    }
}

impl Shard {
    /// The node wants a track of another node, and this shard is to take it.
    pub(super) fn land(&mut self, landing: Landing) {
        // Its publisher has moved, here or away. Which of both was later only signaling knows, and will say.
        let published = self.tracks.get(&landing.track);
        if published.is_some_and(|published| published.session.is_some()) {
            self.remote.awaited.insert(landing.track.clone(), landing);
            return;
        }
        let Landing {
            track,
            origin,
            publication,
        } = landing;
        let room = self.open_room(&publication.room);
        self.want(room, &track, origin, Some(publication));
        self.close_empty(room);
    }

    /// A session here does not publish a track any more.
    pub(super) fn land_awaited(&mut self, track: &TrackId) {
        if let Some(landing) = self.remote.awaited.remove(track) {
            self.land(landing);
        }
    }

    /// The node does not want it any more.
    pub(super) fn leave(&mut self, track: &TrackId, generation: u64) {
        let awaited = self.remote.awaited.get(track);
        if awaited.is_some_and(|landing| landing.origin.generation == generation) {
            self.remote.awaited.remove(track);
            return;
        }
        let index = self.remote.by_id.get(track).copied();
        let index = index.filter(|index| {
            let origin = self.remote.tracks[*index].origin;
            origin.generation == generation && origin.shard >= FIRST_PIPE
        });
        if let Some(index) = index {
            self.end_remote(index);
        }
    }

    /// One more session here wants a track of another shard.
    pub(super) fn want_remote(&mut self, room: RoomKey, track: &TrackId, origin: Origin) {
        self.want(room, track, origin, None);
    }

    fn want(
        &mut self,
        room: RoomKey,
        track: &TrackId,
        origin: Origin,
        publication: Option<Arc<Publication>>,
    ) {
        let known = self.remote.by_id.get(track).copied();
        if let Some(index) = known
            && self.remote.tracks[index].origin == origin
        {
            let remote = &mut self.remote.tracks[index];
            match publication {
                // In another role: whoever brings it has to know what to be for that.
                Some(_) => {
                    remote.publication = publication;
                    self.ask_for(index);
                }
                None => remote.wanted_by += 1,
            }
            return;
        }
        if let (Some(index), Some(publication)) = (known, &publication)
            && self.remote.tracks[index].origin.generation == origin.generation
        {
            return self.reroute(index, origin, Arc::clone(publication));
        }
        let published = known.map(|index| self.remote.tracks[index].origin.generation);
        let published = published.or(self.tracks.get(track).map(|it| it.generation));
        if published.is_some_and(|published| published > origin.generation) {
            // Who asks has not heard yet that it was published anew.
            return self.end_wanted(room, track, origin.generation);
        }
        // It is published anew; that the former one has ended has not got here yet.
        match known {
            Some(index) => self.end_remote(index),
            None => self.unpublish(track),
        }
        self.remote.last = self.remote.last.wrapping_add(1);
        if publication.is_some()
            && let Some(room) = self.rooms.get_mut(&room)
        {
            room.landed += 1;
        }
        let remote = RemoteTrack {
            track: track.clone(),
            room,
            origin,
            former: None,
            number: self.remote.last,
            wanted_by: 1,
            publication,
            attempts: 0,
            known: None,
        };
        let index = self.remote.tracks.insert(remote);
        self.remote.by_id.insert(track.clone(), index);
        self.ask_for(index);
    }

    /// A track of another node is to come through another pipe. Its packets are the same there, under the same
    /// numbers: those that come twice are dropped as copies.
    fn reroute(&mut self, index: usize, origin: Origin, publication: Arc<Publication>) {
        self.leave_former(index);
        let remote = &mut self.remote.tracks[index];
        remote.former = Some(Former::new(remote.origin.shard));
        remote.origin = origin;
        remote.publication = Some(publication);
        remote.attempts = 0;
        let known = remote.known.as_ref().map(|known| known.key);
        self.ask_for(index);
        if let Some(key) = known {
            self.tell_interest(key);
        }
    }

    /// A packet of a track has come that comes two ways. `true`: its encoding begins with it on the present one.
    fn join_ways(
        &mut self,
        index: usize,
        from: u16,
        source: Source,
        number: u64,
        now: Instant,
    ) -> bool {
        let remote = &mut self.remote.tracks[index];
        let Some(former) = &mut remote.former else {
            return false;
        };
        let mut begins = false;
        if from == remote.origin.shard {
            let highest = self.router.highest(source);
            begins = former.handle_present(source.encoding, number, highest, now);
        } else if from == former.pipe {
            former.handle_former(source.encoding, number);
        }
        let used = || self.router.interest(source.track).encodings;
        if former.is_over(used, now) {
            self.leave_former(index);
        }
        begins
    }

    /// Takes nothing any more from where a track came from before.
    fn leave_former(&mut self, index: usize) {
        let alias = self.remote.alias(index);
        let remote = &mut self.remote.tracks[index];
        if let Some(former) = remote.former.take() {
            let message = Message::Unsubscribe {
                track: remote.track.clone(),
                alias,
                moved: true,
            };
            self.neighbours.tell(former.pipe, message);
        }
    }

    fn ask_for(&mut self, index: usize) {
        let remote = &self.remote.tracks[index];
        let shard = remote.origin.shard;
        let subscribe = Subscribe {
            track: remote.track.clone(),
            generation: remote.origin.generation,
            alias: self.remote.alias(index),
            publication: remote.publication.clone(),
            ring: self.neighbours.open_ring(shard),
        };
        self.neighbours
            .tell(shard, Message::Subscribe(Box::new(subscribe)));
    }

    /// One session less wants it.
    pub(super) fn unwant_remote(&mut self, track: &TrackId, origin: Origin) {
        let Some(&index) = self.remote.by_id.get(track) else {
            return;
        };
        let remote = &mut self.remote.tracks[index];
        if remote.origin != origin {
            return;
        }
        remote.wanted_by -= 1;
        if remote.wanted_by == 0 {
            self.drop_remote(index);
        }
    }

    /// Forgets a track that nobody here is subscribed to.
    fn drop_remote(&mut self, index: usize) {
        self.leave_former(index);
        let alias = self.remote.alias(index);
        let remote = self.remote.tracks.remove(index);
        self.remote.by_id.remove(&remote.track);
        if let Some(known) = remote.known {
            self.remote.by_key.remove(&known.key);
            self.tracks.remove(&remote.track);
            self.set_publisher(known.key, None);
            self.tell_ended(known.key);
            self.remove_microphone(&remote.track, known.key);
            for (key, _) in self.router.unpublish(known.key) {
                self.note_ended(key);
            }
        }
        let message = Message::Unsubscribe {
            track: remote.track,
            alias,
            moved: false,
        };
        self.neighbours.tell(remote.origin.shard, message);
        if remote.publication.is_some() {
            if let Some(room) = self.rooms.get_mut(&remote.room) {
                room.landed -= 1;
            }
            self.close_empty(remote.room);
        }
    }

    /// The track is no more: tells those who wanted it.
    fn end_remote(&mut self, index: usize) {
        let remote = &self.remote.tracks[index];
        let (track, room, generation) =
            (remote.track.clone(), remote.room, remote.origin.generation);
        self.drop_remote(index);
        self.end_wanted(room, &track, generation);
    }

    /// Tells those who wanted a track that it has ended.
    pub(super) fn end_wanted(&mut self, room: RoomKey, track: &TrackId, generation: u64) {
        let members = self.rooms.get(&room).map(|room| &room.members);
        for &member in members.map_or(&[][..], |members| members) {
            let session = &mut self.sessions[member];
            let wanted = session.wanted.get(track);
            if wanted.is_some_and(|wanted| wanted.origin.generation == generation) {
                session.wanted.remove(track);
                session.tell(Event::SubscriptionEnded {
                    track: track.clone(),
                    generation,
                });
            }
        }
    }

    /// A track that was another shard's is published here.
    pub(super) fn end_former(&mut self, track: &TrackId) {
        if let Some(&index) = self.remote.by_id.get(track) {
            self.end_remote(index);
        }
    }

    pub(super) fn handle_state(
        &mut self,
        from: u16,
        alias: Alias,
        state: Arc<TrackState>,
        now: Instant,
    ) {
        let Some(index) = self.remote.named(alias) else {
            return;
        };
        let remote = &mut self.remote.tracks[index];
        if remote.origin.shard == from {
            remote.attempts = 0;
            if let Some(former) = &mut remote.former {
                former.is_described_elsewhere = true;
            }
        } else {
            // Who brought it before counts for as long as nobody else has described it.
            let counts = |former: &Former| former.pipe == from && !former.is_described_elsewhere;
            if !remote.former.as_ref().is_some_and(counts) {
                return;
            }
        }
        if let Some(known) = &mut remote.known {
            let key = known.key;
            self.router.set_muted(key, state.spec.muted, now);
            self.router.set_sizes(key, &state.spec.sizes);
            self.router.set_live(key, state.live, now);
            let (extensions, track) = (state.extensions, remote.track.clone());
            known.state = state;
            if let Some(publisher) = self.publisher_mut(key) {
                publisher.extensions = extensions;
            }
            return self.tell_state(&track);
        }
        let spec = TrackSpec {
            room: remote.room,
            // What a ring had no room for is in the origin's cache.
            nack: true,
            ..state.spec.clone()
        };
        let is_microphone = spec.speaks;
        let key = self.router.publish(spec, now);
        self.router.set_live(key, state.live, now);
        let published = Published {
            key,
            session: None,
            generation: remote.origin.generation,
            codecs: Vec::new(),
            is_received: false,
        };
        let publisher = Publisher {
            key,
            session: None,
            extensions: state.extensions,
        };
        let (track, room) = (remote.track.clone(), remote.room);
        if let Some(known) = self.rooms.get(&room) {
            self.router.set_priority(key, state.priority(known));
        }
        remote.known = Some(Known { key, state });
        self.remote.by_key.insert(key, index);
        self.tracks.insert(track.clone(), published);
        self.set_publisher(key, Some(publisher));
        if is_microphone {
            self.add_microphone(room, &track, key, false, now);
        }
        let members = self.rooms.get(&room).map(|room| room.members.clone());
        for member in members.unwrap_or_default() {
            if self.sessions[member].wanted.contains_key(&track) {
                self.serving = Some(member);
                self.activate(member, now);
            }
        }
    }

    /// Others speak in a room: where there is not room for everything, what they show is missed most.
    pub(super) fn weigh_remote(&mut self, room: RoomKey) {
        let Self {
            rooms,
            remote,
            router,
            ..
        } = self;
        let Some(known) = rooms.get(&room).filter(|room| room.has_speakers()) else {
            return;
        };
        for (_, remote) in remote.tracks.iter().filter(|(_, it)| it.room == room) {
            if let Some(track) = &remote.known {
                router.set_priority(track.key, track.state.priority(known));
            }
        }
    }

    pub(super) fn handle_unknown(&mut self, from: u16, alias: Alias, now: Instant) {
        let Some(index) = self.remote.named_by(from, alias) else {
            return;
        };
        let remote = &mut self.remote.tracks[index];
        remote.attempts += 1;
        if remote.attempts == ATTEMPTS {
            return self.fall_back(index);
        }
        let pause = ASK_AGAIN * (1 << remote.attempts.min(8));
        self.timers.set(now + pause, Timer::AskAgain(alias));
    }

    pub(super) fn ask_again(&mut self, alias: Alias) {
        // Unless it comes by now, or another way.
        if let Some(index) = self.remote.named(alias)
            && self.remote.tracks[index].attempts > 0
        {
            self.ask_for(index);
        }
    }

    pub(super) fn handle_ended(&mut self, from: u16, alias: Alias) {
        if let Some(index) = self.remote.named_by(from, alias) {
            return self.fall_back(index);
        }
        // It has ended where it came from before: there is nothing to go back to.
        if let Some(index) = self.remote.named(alias)
            && self.remote.tracks[index].ways().any(|way| way == from)
        {
            self.leave_former(index);
        }
    }

    /// Who was asked for a track has not got it. Who brought it before still does, if anybody.
    fn fall_back(&mut self, index: usize) {
        let alias = self.remote.alias(index);
        let remote = &mut self.remote.tracks[index];
        let Some(former) = remote.former.take() else {
            return self.end_remote(index);
        };
        remote.attempts = 0;
        let refused = std::mem::replace(&mut remote.origin.shard, former.pipe);
        let message = Message::Unsubscribe {
            track: remote.track.clone(),
            alias,
            moved: false,
        };
        let known = remote.known.as_ref().map(|known| known.key);
        self.neighbours.tell(refused, message);
        // It was told to who was to bring it meanwhile.
        if let Some(key) = known {
            self.tell_interest(key);
        }
    }

    /// Tells the origin that somebody receives its track.
    pub(super) fn tell_received(&mut self, track: &TrackId) {
        if let Some(&index) = self.remote.by_id.get(track) {
            let (shard, alias) = (
                self.remote.tracks[index].origin.shard,
                self.remote.alias(index),
            );
            self.neighbours
                .tell(shard, Message::Received(alias, track.clone()));
        }
    }

    /// Asks the origin for a key frame; `false`: the track is published here.
    pub(super) fn request_remote_key_frame(&mut self, source: Source) -> bool {
        let Some((ways, alias, source)) = self.remote.at_origin(source) else {
            return false;
        };
        for shard in ways {
            self.neighbours
                .tell(shard, Message::KeyFrame(alias, source));
        }
        true
    }

    /// The same for packets.
    pub(super) fn request_remote_packets(&mut self, source: Source, sequences: &[u16]) -> bool {
        let Some((ways, alias, at_origin)) = self.remote.at_origin(source) else {
            return false;
        };
        for shard in ways {
            let numbers = sequences
                .iter()
                .filter_map(|sequence| self.router.extend(source, *sequence));
            let message = Message::Packets(alias, at_origin, numbers.collect());
            self.neighbours.tell(shard, message);
        }
        true
    }

    pub(super) fn tell_interest(&mut self, key: TrackKey) {
        let Some(&index) = self.remote.by_key.get(&key) else {
            return;
        };
        let remote = &self.remote.tracks[index];
        let Some(known) = &remote.known else {
            return;
        };
        for shard in remote.ways() {
            let message = Message::Interest {
                track: known.state.key,
                alias: self.remote.alias(index),
                interest: self.router.interest(key),
            };
            self.neighbours.tell(shard, message);
        }
    }

    /// Takes what has come out of the rings of other shards.
    pub(super) fn receive_relayed(&mut self, now: Instant) {
        for from in self.neighbours.numbers() {
            let Some(mut ring) = self.neighbours.take_incoming(from) else {
                continue;
            };
            let mut records = ring.records();
            for record in records.by_ref().take(PACKETS_PER_TURN) {
                self.neighbours.stats.packets_in += 1;
                self.guarded(|shard| {
                    if let Err(reason) = shard.handle_relayed(from, record, now) {
                        shard.drops.count(reason);
                    }
                });
            }
            // After a panic, too: the packet that led to it is not met again.
            let position = records.position();
            ring.release(position);
            self.neighbours.return_incoming(from, ring);
        }
    }

    fn handle_relayed(&mut self, from: u16, record: &[u8], now: Instant) -> Result<(), DropReason> {
        let (record, packet) = RecordHeader::read(record).ok_or(DropReason::Malformed)?;
        // The track has ended, or nobody wants it any more.
        let index = self.remote.named(record.alias).ok_or(DropReason::Gone)?;
        let remote = &self.remote.tracks[index];
        let mut stamp = record.stamp;
        let known = remote.known.as_ref();
        let Known { key, state } = known.ok_or(DropReason::Gone)?;
        let source = Source {
            track: *key,
            encoding: record.encoding,
        };
        let header = Header::parse(packet).ok_or(DropReason::Malformed)?;
        let codec = state
            .codecs
            .iter()
            .find(|known| known.number == header.payload_type)
            .ok_or(DropReason::UnknownPayloadType)?
            .codec;
        let described = state.extensions.dependency_descriptor;
        // A repair says nothing of how far its way has got.
        if remote.former.is_some() && !record.repaired {
            let is_silent = self.router.is_silent(source, now);
            let begins = self.join_ways(index, from, source, stamp.number, now);
            // What it does not begin with, the way before has brought or is about to.
            stamp.resumes &= !begins || is_silent;
        }
        if self.router.breaks_off(source, stamp) {
            // What came before goes on before numbers begin anew.
            self.forward(now);
        }
        if !self.router.accept(source, stamp, now) {
            return Err(DropReason::Gone);
        }
        let media = Media {
            codec,
            header,
            packet,
            audio_level: None,
            dependency: described.and_then(|id| header.extension(packet, id)),
            repaired: record.repaired,
            in_place: false,
        };
        match self.router.handle_media(source, media, now) {
            Ok(gathered) => {
                let Self {
                    router, neighbours, ..
                } = self;
                let elsewhere = pass_on(neighbours, source.encoding, packet, media.repaired);
                router.pass_on(source, header.sequence, elsewhere);
                if gathered == Gathered::Full {
                    self.forward(now);
                }
                Ok(())
            }
            // What was muted or came twice was counted where it arrived.
            Err(DropReason::Muted | DropReason::Replayed) => Ok(()),
            Err(reason) => Err(reason),
        }
    }
}

/// What came from other shards in words.
impl Shard {
    pub(super) fn receive_messages(&mut self, now: Instant) {
        /// Then packets have their turn.
        const MESSAGES_PER_TURN: usize = 256;
        for _ in 0..MESSAGES_PER_TURN {
            let Some((from, message)) = self.neighbours.poll_message() else {
                break;
            };
            self.guarded(|shard| shard.handle_shard_message(from, message, now));
        }
    }

    pub(super) fn handle_shard_message(&mut self, from: u16, message: Message, now: Instant) {
        match message {
            Message::Subscribe(subscribe) => self.handle_subscribe(from, *subscribe, now),
            Message::Interest {
                track,
                alias,
                interest,
            } => {
                self.handle_interest(Port(from), track, alias, interest, now);
            }
            Message::Unsubscribe { track, alias, .. } => {
                self.handle_unsubscribe(from, &track, alias, now);
            }
            Message::KeyFrame(_, source) => {
                let port = Port(from);
                self.router
                    .handle_relayed_key_frame_request(source, port, now);
            }
            Message::Packets(_, source, numbers) => self.repair_remote(from, source, &numbers),
            Message::Received(_, track) => self.handle_received(track),
            Message::State(alias, state) => self.handle_state(from, alias, state, now),
            Message::Report(alias, report) => {
                if let Some(track) = self.remote.key(alias) {
                    let encoding = report.encoding;
                    self.router.handle_relayed_report(track, &report, now);
                    self.tell_report(Source { track, encoding });
                }
            }
            Message::Rates(alias, rates) => {
                if let Some(key) = self.remote.key(alias) {
                    self.router.set_rates(key, &rates);
                    self.tell_rates(key);
                }
            }
            Message::Ended(alias) => self.handle_ended(from, alias),
            Message::Unknown(alias) => self.handle_unknown(from, alias, now),
            Message::Follow(room) => self.handle_follow(from, room, now),
            Message::Unfollow(room) => self.handle_unfollow(from, &room),
            Message::RoomOpened(room) => self.handle_room_opened(from, &room, now),
            Message::RoomHere(room, speakers) => self.handle_room_here(from, &room, speakers, now),
            Message::RoomClosed(room) => self.handle_room_closed(from, &room),
            Message::Speakers(room, changes) => self.handle_speakers(from, &room, &changes),
            Message::Quality(room, judged) => self.handle_quality(&room, &judged),
            Message::Microphones(room, told) => self.handle_microphones(from, &room, &told, now),
            Message::Data {
                room,
                packet,
                reliable,
            } => self.handle_data_elsewhere(&room, packet, reliable, now),
        }
    }
}

#[cfg(test)]
mod tests;
