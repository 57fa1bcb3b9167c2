//! What shards here say and send, put into what the other node hears.

use std::sync::Arc;
use std::time::Instant;

use pipemesh_node_core::pipe::frame::{self, Marks, MediaHead, Stream};
use pipemesh_node_core::pipe::schedule::Kind;
use pipemesh_node_core::router::Source;
use pipemesh_node_core::router::relay::Alias;
use pipemesh_proto::pipe;
use pipemesh_proto::pipe::pipe_message::Message as Word;

use super::super::translate;
use super::{Demand, Exchange, Given, News, Taken};
use crate::shard::{Message, RecordHeader, Subscribe, TrackState};

/// Messages from shards per turn; then packets have theirs.
const MESSAGES_PER_TURN: usize = 256;
/// Messages that wait for the other node before data packets are left out.
const MOST_DATA: usize = 4096;

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
                if let Some(given) = self.given_as(alias) {
                    let report = translate::report(given.subscription, &report, now);
                    self.say(Word::Report(report));
                }
            }
            Message::Rates(alias, rates) => {
                if let Some(given) = self.given_as(alias) {
                    let rates = translate::rates(given.subscription, &rates);
                    self.say(Word::Rates(rates));
                }
            }
            Message::Ended(alias) => {
                if let Some(Given { subscription, .. }) = self.given_as(alias) {
                    let subscription = *subscription;
                    self.forget_given(subscription);
                    self.say(Word::Ended(pipe::Ended { subscription }));
                }
            }
            Message::Unknown(alias) => {
                if let Some(Given { subscription, .. }) = self.given_as(alias) {
                    let subscription = *subscription;
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
            Message::Microphones(room, told) => {
                self.say(Word::Microphones(translate::microphones(&room, &told)));
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
        let taken = Taken {
            shard,
            alias,
            track,
            generation,
            publication,
            interest: None,
            is_described: false,
            streams: Default::default(),
        };
        let subscription = match self.taken_by(shard, alias) {
            // In another role, it goes on.
            Some((subscription, before)) if before.is_described && before.is_same(&taken) => {
                before.publication = taken.publication;
                subscription
            }
            Some((subscription, before)) => {
                // Asked for again, it is used as before.
                let interest = before.interest;
                *before = Taken { interest, ..taken };
                subscription
            }
            None => {
                let subscription = self.taken.insert(taken);
                self.taken_by.insert((shard, alias.0), subscription);
                subscription
            }
        };
        if self.is_connected
            && let Some(taken) = self.taken.get(subscription)
        {
            self.words.extend(taken.request(subscription));
        }
    }

    fn end_taken(&mut self, shard: u16, alias: Alias, moved: bool) {
        let Some(subscription) = self.taken_by.remove(&(shard, alias.0)) else {
            return;
        };
        let Some(taken) = self.taken.remove(subscription) else {
            return;
        };
        let (track, generation) = (taken.track, taken.generation);
        self.news.push_back(match moved {
            false => News::Gone { track, generation },
            true => News::Moved { track, generation },
        });
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
        Some((subscription, self.taken.get_mut(subscription)?))
    }

    /// A shard describes a track that the other node takes.
    fn describe(&mut self, alias: Alias, state: Arc<TrackState>) {
        let own = self.own.clone();
        let Some(given) = self.given_as(alias) else {
            return;
        };
        let (subscription, interest) = (given.subscription, given.interest);
        let Some(at) = &mut given.at else {
            return;
        };
        let track = state.key;
        let is_new = at.key() != Some(track);
        at.state = Some(state);
        let (shard, told) = (at.shard, at.describe(subscription, &own));
        if is_new && let Some(interest) = interest {
            let message = Message::Interest {
                track,
                alias,
                interest,
            };
            self.neighbours.tell(shard, message);
        }
        if let Some(told) = told {
            self.say(told);
        }
    }

    /// The way to the other node has no room for a stream, or has again: its receivers go over to another one,
    /// and come back.
    pub(crate) fn suspend(&mut self, stream: Stream, is_suspended: bool) {
        let own = self.own.clone();
        let given = self.given_mut(stream.subscription);
        let Some(at) = given.and_then(|given| given.at.as_mut()) else {
            return;
        };
        match is_suspended {
            true => at.suspended.insert(stream.encoding),
            false => at.suspended.remove(stream.encoding),
        }
        if let Some(told) = at.describe(stream.subscription, &own) {
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

    /// What a shard gives under this name.
    fn given_as(&mut self, alias: Alias) -> Option<&mut Given> {
        self.given.get_mut(u32::try_from(alias.0).ok()?)
    }

    /// What is missed of a subscription, if that is another than before.
    pub(crate) fn poll_demand(&mut self) -> Option<Demand> {
        while let Some(subscription) = self.reweighed.pop() {
            if let Some(given) = self.given_mut(subscription) {
                return Some(Demand {
                    subscription,
                    priority: given.priority(),
                    wanted: given.interest.map_or(0, |interest| interest.wanted),
                });
            }
        }
        None
    }

    /// Takes what has come out of the shards' rings, for `send`, with the priority of each.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Kind, u8, &MediaHead, &[u8]),
    ) {
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
                let Some(given) = self.given_as(record.alias) else {
                    continue;
                };
                let subscription = given.subscription;
                let priority = given.priority();
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
                send(kind, priority, &head, packet);
            }
            let position = records.position();
            ring.release(position);
            self.neighbours.return_incoming(from, ring);
        }
    }
}
