//! Whatever another node says and sends, against an end of a pipe whose shard takes tracks and gives some.

use std::time::Duration;

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::relay::Stamp;
use pipemesh_node_core::track::TrackSpec;
use pipemesh_node_media::poll::Sleeper;
use pipemesh_node_media::ring::Producer;
use pipemesh_proto::pipe::{PipeMessage, Role};
use prost::Message as _;

use super::*;
use crate::fuzz::pieces;
use crate::session::plan::{Extensions, PayloadType};
use crate::shard::{FIRST_PIPE, Message, Origin, RecordHeader, SessionKey, Subscribe};
use crate::tracks::TrackEntry;

/// `TR_0` and so on, of which the first half is published here, and the other half on the other node.
const TRACKS: u8 = 8;
/// What a piece makes the shard hear at most, then or when the connection ends.
const MOST_HEARD: usize = 8;

/// Pieces of an input, each preceded by what it is: a message, a datagram, or what the shard does meanwhile.
pub fn run(input: &[u8]) {
    let mut end = End::new();
    end.exchange.connected();
    for piece in pieces(input) {
        end.pieces += 1;
        let Some((&kind, rest)) = piece.split_first() else {
            continue;
        };
        match kind % 8 {
            0..3 => {
                if let Ok(message) = PipeMessage::decode(rest)
                    && let Some(word) = message.message
                {
                    end.exchange.handle_word(word, Duration::ZERO, end.now);
                }
            }
            3..6 => drop(end.exchange.handle_datagram(rest)),
            6 => end.take(kind),
            _ => end.send(rest),
        }
        end.settle();
    }
    end.exchange.disconnected();
    assert_eq!(end.exchange.counts().1, 0, "what it took ends with it");
    end.settle();
}

struct End {
    shard: Neighbours,
    exchange: Exchange,
    now: Instant,
    takes: u64,
    pieces: usize,
    heard: usize,
    /// What the shard gives: where its packets go.
    given: BTreeSet<u64>,
    ring: Option<Producer>,
}

impl End {
    fn new() -> Self {
        let waker = Sleeper::new(|| {}).waker();
        let (mut shards, doors) = Neighbours::connect(std::slice::from_ref(&waker));
        let mut shard = shards.remove(0);
        let (neighbours, door) = doors.pipe(FIRST_PIPE, waker);
        shard.meet(FIRST_PIPE, door);
        let tracks: Arc<Tracks> = Arc::default();
        for number in 0..TRACKS / 2 {
            let entry = TrackEntry {
                room: "RM_x".parse().expect("it is an id"),
                session: "s".parse().expect("it is an id"),
                format: Format::Vp8,
                origin: Origin {
                    shard: 0,
                    generation: u64::from(number),
                },
            };
            tracks.insert(track(number), entry);
        }
        let now = Instant::now();
        let own = "here".parse().expect("it is an id");
        let mut exchange = Exchange::new(own, neighbours, tracks, now);
        exchange.follow("RM_x".parse().expect("it is an id"));
        Self {
            shard,
            exchange,
            now,
            takes: 0,
            pieces: 0,
            heard: 0,
            given: BTreeSet::new(),
            ring: None,
        }
    }

    /// The shard takes a track from the other node.
    fn take(&mut self, which: u8) {
        self.takes += 1;
        let publication = Publication {
            node: "there".parse().expect("it is an id"),
            session: "s".parse().expect("it is an id"),
            room: "RM_x".parse().expect("it is an id"),
            role: Role::Leaf,
        };
        let subscribe = Subscribe {
            track: track(TRACKS / 2 + which % (TRACKS / 2)),
            generation: self.takes,
            alias: Alias(self.takes),
            ring: self.shard.open_ring(FIRST_PIPE),
            publication: Some(Arc::new(publication)),
        };
        self.tell(Message::Subscribe(Box::new(subscribe)));
        let interest = Interest {
            encodings: EncodingSet::of_bits(0b111),
            known: EncodingSet::of_bits(0b111),
            wanted: 3,
            fresh: EncodingSet::default(),
            priority: 0,
        };
        self.tell(Message::Interest {
            track: TrackKey::ELSEWHERE,
            alias: Alias(self.takes),
            interest,
        });
    }

    /// The shard sends a packet of everything that it gives.
    fn send(&mut self, packet: &[u8]) {
        let Some(ring) = &mut self.ring else {
            return;
        };
        for alias in &self.given {
            let record = RecordHeader {
                alias: Alias(*alias),
                encoding: packet.first().map_or(0, |byte| byte % 4),
                stamp: Stamp {
                    number: u64::from(packet.len() as u32) << 20,
                    restarts: 0,
                    resumes: false,
                    key_frame: packet.len().is_multiple_of(2),
                },
                repaired: packet.len().is_multiple_of(3),
            };
            // A ring that is full is the shard's business.
            let _ = ring.push(&record.write(), packet);
        }
        ring.publish();
    }

    fn tell(&mut self, message: Message) {
        self.shard.tell(FIRST_PIPE, message);
        self.shard.flush();
        self.exchange.handle_messages(self.now);
    }

    /// Does what the shard, the director and the link do.
    fn settle(&mut self) {
        self.exchange.flush();
        while let Some((_, message)) = self.shard.poll_message() {
            self.heard += 1;
            match message {
                Message::Subscribe(subscribe) => self.describe(*subscribe),
                Message::Unsubscribe { alias, .. } => {
                    self.given.remove(&alias.0);
                }
                Message::Ended(alias) | Message::Unknown(alias) => {
                    let moved = alias.0.is_multiple_of(2);
                    self.tell(Message::Unsubscribe {
                        track: track(0),
                        alias,
                        moved,
                    });
                }
                _ => {}
            }
        }
        assert!(
            self.heard <= MOST_HEARD * (self.pieces + 1),
            "{}",
            self.heard
        );
        if let Some(mut ring) = self.shard.take_incoming(FIRST_PIPE) {
            let mut records = ring.records();
            for record in records.by_ref() {
                let (header, _) = RecordHeader::read(record).expect("it is one of ours");
                assert!(header.alias.0 <= self.takes, "it is taken");
            }
            let position = records.position();
            ring.release(position);
            self.shard.return_incoming(FIRST_PIPE, ring);
        }
        self.exchange.receive(self.now, |_, _, _, _| ());
        while self.exchange.poll_word().is_some() {}
        while self.exchange.poll_datagram().is_some() {}
        while self.exchange.poll_closed().is_some() {}
        while let Some(news) = self.exchange.poll_news() {
            match news {
                News::Asked { subscription, .. } if subscription.is_multiple_of(2) => {
                    self.exchange.serve(subscription);
                }
                News::Asked { subscription, .. } => self.exchange.refuse(subscription),
                _ => {}
            }
        }
    }

    fn describe(&mut self, subscribe: Subscribe) {
        if let Some(ring) = subscribe.ring {
            self.ring = Some(ring);
        }
        self.given.insert(subscribe.alias.0);
        let state = TrackState {
            key: TrackKey::ELSEWHERE,
            spec: TrackSpec {
                room: 0,
                participant: SessionKey(0),
                is_video: true,
                speaks: false,
                nack: true,
                muted: false,
                encodings: 3,
                sizes: Vec::new(),
            },
            live: EncodingSet::of_bits(0b111),
            extensions: Extensions::default(),
            codecs: vec![PayloadType {
                codec: Codec::Vp8,
                number: 96,
                repair: None,
            }],
            participant: None,
            path: Arc::default(),
        };
        self.tell(Message::State(subscribe.alias, Arc::new(state)));
    }
}

fn track(number: u8) -> TrackId {
    format!("TR_{number}").parse().expect("it is an id")
}
