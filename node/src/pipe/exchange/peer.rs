//! What the other node says and sends, checked and put into what shards here hear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipemesh_node_core::forward::{EncodingSet, MAX_ENCODINGS};
use pipemesh_node_core::pipe::frame::{self, Datagram, MediaHead, Piece, Stream};
use pipemesh_node_core::router::Source;
use pipemesh_node_core::router::relay::{Alias, Interest, Stamp};
use pipemesh_proto::ids::{RoomId, TrackId};
use pipemesh_proto::pipe;
use pipemesh_proto::pipe::Role;
use pipemesh_proto::pipe::pipe_message::Message as Word;

use super::super::translate;
use super::{At, Exchange, Given, MAX_GIVEN, News};
use crate::shard::{Message, Publication, RecordHeader, Subscribe};
use crate::tracks::TrackEntry;

impl Exchange {
    /// `delay` is what a message takes from there.
    pub(crate) fn handle_word(&mut self, word: Word, delay: Duration, now: Instant) {
        match word {
            Word::Subscribe(subscribe) => self.give(&subscribe),
            Word::Interest(interest) => self.handle_interest(&interest),
            Word::Unsubscribe(ended) => self.end_given(ended.subscription),
            Word::Received(received) => {
                if let Some(given) = self.given_mut(received.subscription)
                    && let Some(at) = &given.at
                {
                    let (shard, track) = (at.shard, given.track.clone());
                    let message = Message::Received(at.alias, track);
                    self.neighbours.tell(shard, message);
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
            Word::SendOn(told) => {
                if let Some(taken) = self.taken.get(told.subscription) {
                    self.news.push_back(News::SentOn {
                        track: taken.track.clone(),
                        generation: taken.generation,
                    });
                }
            }
            Word::Unknown(unknown) => {
                self.tell_taker(unknown.subscription, |alias| Some(Message::Unknown(alias)));
            }
            // Said once, before all others.
            Word::Hello(_) => self.stats.malformed += 1,
            Word::Doubt(doubt) => self.doubt = Some(!doubt.over),
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
            Word::Microphones(told) => match translate::read_microphones(&told) {
                Some((room, told)) if self.follows.contains(&room) => {
                    self.tell_shards(|| Message::Microphones(room.clone(), Arc::clone(&told)));
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
        let Some(taken) = self.taken.get(subscription) else {
            return;
        };
        match message(taken.alias) {
            Some(message) => self.neighbours.tell(taken.shard, message),
            None => self.stats.malformed += 1,
        }
    }

    fn handle_state(&mut self, state: &pipe::TrackState) {
        let Some(taken) = self.taken.get_mut(state.subscription) else {
            return;
        };
        let Some((state, format)) = translate::read_state(state) else {
            self.stats.malformed += 1;
            // A track that nobody here can be sent.
            let message = Message::Ended(taken.alias);
            return self.neighbours.tell(taken.shard, message);
        };
        // A node that takes it from here is about to take it from elsewhere, and says so then. Until then its
        // packets have been here.
        if state.path.contains(&self.own) {
            taken.is_described = false;
            return;
        }
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
        let entry = self.find(&track, &publication);
        let is_own = publication.node == self.own;
        if entry.is_some() && self.change_role(subscription, &track, &publication) {
            return;
        }
        // Asked for again, it is asked for anew.
        self.end_given(subscription);
        // Nobody who asks takes the place of what is here under the same id.
        let is_another = entry.is_none() && self.tracks.get(&track).is_some();
        // Gateways take from origins alone: no track can go round. What is not published yet is asked for
        // again.
        if is_own && entry.is_none() || !is_own && (is_another || publication.role == Role::Gateway)
        {
            return self.say(unknown);
        }
        let given = Given {
            subscription,
            track: track.clone(),
            publication: publication.clone(),
            at: None,
            interest: None,
        };
        let alias = self.given.insert(given);
        self.given_by.insert(subscription, alias);
        match entry {
            // What is taken from elsewhere goes on for as long as somebody says that they want it.
            Some(entry) if is_own => {
                if publication.role != Role::Gateway {
                    self.news.push_back(News::Given {
                        subscription,
                        track,
                        role: publication.role,
                    });
                }
                self.ask_shard(subscription, &entry);
            }
            _ => self.news.push_back(News::Asked {
                subscription,
                track,
                publication,
            }),
        }
    }

    /// What is given already is asked for in another role: it goes on, and so does what it takes to give it.
    /// `false`: it is not given.
    fn change_role(
        &mut self,
        subscription: u32,
        track: &TrackId,
        publication: &Publication,
    ) -> bool {
        let is_own = publication.node == self.own;
        // Gateways take from origins alone.
        if !is_own && publication.role == Role::Gateway {
            return false;
        }
        let given = self.given_mut(subscription);
        let given = given.filter(|it| it.at.is_some() && it.track == *track);
        let Some(given) = given.filter(|it| it.publication.is_same(publication)) else {
            return false;
        };
        given.publication = publication.clone();
        let (track, role) = (track.clone(), publication.role);
        self.news.push_back(match (is_own, role) {
            // Of a region's gateway nobody else has to hear.
            (true, Role::Gateway) => News::Released {
                subscription,
                track,
            },
            (true, _) => News::Given {
                subscription,
                track,
                role,
            },
            (false, _) => News::Asked {
                subscription,
                track,
                publication: publication.clone(),
            },
        });
        true
    }

    /// A track that the other node has asked for is here.
    pub(crate) fn serve(&mut self, subscription: u32) {
        let Some(given) = self.given(subscription).filter(|it| it.at.is_none()) else {
            return;
        };
        match self.find(&given.track, &given.publication) {
            Some(entry) => self.ask_shard(subscription, &entry),
            None => self.refuse(subscription),
        }
    }

    /// A track that the other node has asked for cannot be had: it was asked for long enough.
    pub(crate) fn refuse(&mut self, subscription: u32) {
        if self.given_by.contains_key(&subscription) {
            self.end_given(subscription);
            self.say(Word::Ended(pipe::Ended { subscription }));
        }
    }

    /// A track that the other node has asked for cannot be had now: it asks again.
    pub(crate) fn defer(&mut self, subscription: u32) {
        if self.given_by.contains_key(&subscription) {
            self.end_given(subscription);
            self.say(Word::Unknown(pipe::Unknown { subscription }));
        }
    }

    /// There is no room for the other node among those who take a track from here.
    pub(crate) fn send_on(&mut self, subscription: u32) {
        if self.given_by.contains_key(&subscription) {
            self.say(Word::SendOn(pipe::SendOn { subscription }));
        }
    }

    fn find(&self, track: &TrackId, publication: &Publication) -> Option<TrackEntry> {
        let entry = self.tracks.get(track)?;
        (entry.session == publication.session && entry.room == publication.room).then_some(entry)
    }

    fn ask_shard(&mut self, subscription: u32, entry: &TrackEntry) {
        let Some(&number) = self.given_by.get(&subscription) else {
            return;
        };
        let Some(given) = self.given.get_mut(number) else {
            return;
        };
        let (shard, alias) = (entry.origin.shard, Alias(number.into()));
        given.at = Some(At {
            shard,
            alias,
            format: entry.format,
            state: None,
            suspended: EncodingSet::default(),
            highest: [0; MAX_ENCODINGS],
        });
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
        let interest = translate::read_interest(told);
        let Some(given) = self.given_mut(told.subscription) else {
            return;
        };
        let before = given.interest.replace(interest);
        let demand = |interest: Interest| (interest.priority, interest.wanted);
        let is_reweighed = before.is_some_and(|before| demand(before) != demand(interest));
        if let Some(at) = &given.at
            && let Some(track) = at.key()
        {
            let (shard, alias) = (at.shard, at.alias);
            let message = Message::Interest {
                track,
                alias,
                interest,
            };
            self.neighbours.tell(shard, message);
        }
        if is_reweighed && !self.reweighed.contains(&told.subscription) {
            self.reweighed.push(told.subscription);
        }
    }

    pub(super) fn end_given(&mut self, subscription: u32) {
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

    pub(super) fn forget_given(&mut self, subscription: u32) -> Option<Given> {
        let alias = self.given_by.remove(&subscription)?;
        let given = self.given.remove(alias)?;
        self.closed.push(subscription);
        if given.publication.node != self.own || given.publication.role != Role::Gateway {
            let track = given.track.clone();
            self.news.push_back(News::Released {
                subscription,
                track,
            });
        }
        Some(given)
    }

    /// A datagram of the other node's. A probe is the connection's business.
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
        if self.taken.get(head.stream.subscription).is_none() {
            self.stats.unknown += 1;
            return;
        }
        if let Some((head, packet)) = self.pieces.join(head, piece, part) {
            self.pass(&head, &packet);
        }
    }

    /// Gives a packet to the shard that takes it.
    fn pass(&mut self, head: &MediaHead, packet: &[u8]) {
        let taken = self.taken.get_mut(head.stream.subscription);
        let Some(taken) = taken.filter(|taken| taken.is_described) else {
            self.stats.unknown += 1;
            return;
        };
        self.last_sent = Some(head.sent);
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

    fn given(&self, subscription: u32) -> Option<&Given> {
        self.given.get(*self.given_by.get(&subscription)?)
    }

    pub(super) fn given_mut(&mut self, subscription: u32) -> Option<&mut Given> {
        self.given.get_mut(*self.given_by.get(&subscription)?)
    }

    pub(super) fn given_source(&self, stream: Stream) -> Option<(&At, Source)> {
        let at = self.given(stream.subscription)?.at.as_ref()?;
        let source = Source {
            track: at.key()?,
            encoding: stream.encoding,
        };
        Some((at, source))
    }
}

fn read_subscribe(subscribe: &pipe::Subscribe) -> Option<(TrackId, Publication)> {
    let publication = Publication {
        node: subscribe.origin_node_id.parse().ok()?,
        session: subscribe.origin_session_id.parse().ok()?,
        room: subscribe.room_id.parse().ok()?,
        role: match subscribe.role() {
            Role::Leaf | Role::Unspecified => Role::Leaf,
            role => role,
        },
    };
    Some((subscribe.track_id.parse().ok()?, publication))
}

/// The number closest to `known` of which `low` are the lower 32 bits.
pub(super) fn nearest(low: u32, known: u64) -> u64 {
    let step = low.wrapping_sub(known as u32).cast_signed();
    match known.checked_add_signed(step.into()) {
        Some(number) => number,
        // Before the first of all.
        None => low.into(),
    }
}
