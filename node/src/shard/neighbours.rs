//! The other shards of the node, and its pipes to other nodes, as one of them sees them: a ring of packets
//! and a box of messages in each direction, and who has to be woken. A pipe sees the shards in the same
//! way; shards and pipes have numbers, those of pipes begin above those of all shards.
//!
//! Packets are lost when a ring is full, and counted: media never waits. Of messages nothing is lost that
//! something depends on: what does not fit into the box of a shard that is busy waits here, and while much
//! waits control has to. No more can wait than there are tracks, rooms and people to speak of. Knows nothing
//! of what either means.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use pipemesh_node_media::poll::Waker;
use pipemesh_node_media::ring::{self, Consumer, Producer};

use super::message::Message;

/// Bytes of packets on their way from one shard to another: 800 full ones, which is what arrives in
/// 4 ms at 2 Gbit/s. A shard that stands still for longer is too late for media anyway. A ring exists only
/// between shards that share a track.
const RING: usize = 1 << 20;
/// So many bytes are shown to the reader before the turn is over, so that it works meanwhile.
const EARLY: usize = 64 << 10;
/// Messages from all others together that wait for a shard.
const BOX: usize = 1024;
/// While more than this wait for one neighbour, nothing new is taken on that leads to more.
const CONGESTED: usize = 1024;

/// Pipes have numbers from here on: a node has 64 shards at most.
pub(crate) const FIRST_PIPE: u16 = 64;

/// See the module.
pub(crate) struct Neighbours {
    number: u16,
    shards: u16,
    /// By number; none in its own place, and where there is no such pipe.
    others: Vec<Option<Neighbour>>,
    inbox: Receiver<(u16, Message)>,
    /// Bytes of each ring that it makes.
    ring: usize,
    pub(crate) stats: Stats,
}

/// Where all shards of the node are reached, for who comes later.
#[derive(Clone)]
pub(crate) struct Doors(Vec<Door>);

/// Where one shard or pipe is reached.
#[derive(Clone)]
pub(crate) struct Door {
    mail: Sender<(u16, Message)>,
    waker: Waker,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// What went between this shard and all others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    pub(crate) packets_out: u64,
    pub(crate) packets_in: u64,
    /// Packets for which there was no room.
    pub(crate) refused: u64,
    pub(crate) messages_out: u64,
    /// Messages that would have had to wait, and will be said again.
    pub(crate) messages_dropped: u64,
}

struct Neighbour {
    door: Door,
    /// What did not fit.
    waiting: VecDeque<Message>,
    outgoing: Option<Producer>,
    incoming: Option<Consumer>,
    /// Something was put into its box and it has not been woken.
    is_dirty: bool,
}

impl Neighbours {
    /// Makes every shard the neighbour of every other. `wakers` are theirs, by number.
    pub(crate) fn connect(wakers: &[Waker]) -> (Vec<Self>, Doors) {
        let mut inboxes = Vec::with_capacity(wakers.len());
        let doors = wakers.iter().map(|waker| {
            let (mail, inbox) = crossbeam_channel::bounded(BOX);
            inboxes.push(inbox);
            let waker = waker.clone();
            Door { mail, waker }
        });
        let doors = Doors(doors.collect());
        let shards = (0..).zip(inboxes);
        let shards = shards.map(|(number, inbox)| Self::new(number, &doors, inbox));
        (shards.collect(), doors)
    }

    fn new(number: u16, doors: &Doors, inbox: Receiver<(u16, Message)>) -> Self {
        let others = (0..).zip(&doors.0);
        let others = others.map(|(other, door)| {
            let is_other = other != number;
            is_other.then(|| Neighbour::new(door.clone()))
        });
        Self {
            number,
            shards: doors.0.len() as u16,
            others: others.collect(),
            inbox,
            ring: RING,
            stats: Stats::default(),
        }
    }

    /// With rings of so many bytes: simulations have thousands of them.
    #[cfg(test)]
    pub(crate) fn with_rings(self, bytes: usize) -> Self {
        Self {
            ring: bytes,
            ..self
        }
    }

    /// A pipe has come: from now on it is one more neighbour.
    pub(crate) fn meet(&mut self, number: u16, door: Door) {
        let place = usize::from(number);
        if place >= self.others.len() {
            self.others.resize_with(place + 1, || None);
        }
        self.others[place] = Some(Neighbour::new(door));
    }

    /// A pipe is gone.
    pub(crate) fn part(&mut self, number: u16) {
        if let Some(place) = self.others.get_mut(usize::from(number)) {
            *place = None;
        }
    }

    /// Its own.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// All other shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.number;
        (0..self.shards).filter(move |number| *number != own)
    }

    /// All who may have sent something.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.others.len() as u16
    }

    // Messages.

    /// Tells another shard something, after all that it was told before. While others wait, what is said
    /// again anyway is left out, however often clients make us say it, and of what changes the last word is
    /// told alone.
    pub(crate) fn tell(&mut self, to: u16, message: Message) {
        let Some(neighbour) = neighbour(&mut self.others, to) else {
            return;
        };
        if message.is_repeated() && !neighbour.waiting.is_empty() {
            self.stats.messages_dropped += 1;
            return;
        }
        let before = neighbour.waiting.iter_mut().rev();
        let mut before = before.take_while(|other| !other.divides(&message));
        if before.any(|other| other.absorb(&message)) {
            return;
        }
        self.stats.messages_out += 1;
        neighbour.waiting.push_back(message);
        neighbour.post(self.number);
    }

    /// Whether so much waits for a neighbour that it must not be made more.
    pub(crate) fn is_congested(&self) -> bool {
        let mut others = self.others.iter().flatten();
        others.any(|neighbour| neighbour.waiting.len() > CONGESTED)
    }

    /// Whether something waits for room in a neighbour's box.
    pub(crate) fn is_waiting(&self) -> bool {
        let mut others = self.others.iter().flatten();
        others.any(|neighbour| !neighbour.waiting.is_empty())
    }

    /// The next message, with whom it is from.
    pub(crate) fn poll_message(&mut self) -> Option<(u16, Message)> {
        self.inbox.try_recv().ok()
    }

    /// Whether anything has come that was not read yet.
    pub(crate) fn has_arrivals(&self) -> bool {
        let mut others = self.others.iter().flatten();
        !self.inbox.is_empty()
            || others.any(|other| other.incoming.as_ref().is_some_and(|ring| !ring.is_empty()))
    }

    // Packets.

    /// The writing end of a ring from another shard to this one; `None`: it has it.
    pub(crate) fn open_ring(&mut self, from: u16) -> Option<Producer> {
        let neighbour = neighbour(&mut self.others, from)?;
        if neighbour.incoming.is_some() {
            return None;
        }
        let (producer, consumer) = ring::ring(self.ring);
        neighbour.incoming = Some(consumer);
        Some(producer)
    }

    /// Another shard has made a ring to itself.
    pub(crate) fn set_ring(&mut self, to: u16, producer: Producer) {
        if let Some(neighbour) = neighbour(&mut self.others, to) {
            neighbour.outgoing = Some(producer);
        }
    }

    /// Puts a packet on its way; `false`: there is no room.
    pub(crate) fn push(&mut self, to: u16, header: &[u8], packet: &[u8]) -> bool {
        let neighbour = neighbour(&mut self.others, to);
        let pushed = neighbour.and_then(|neighbour| {
            let outgoing = neighbour.outgoing.as_mut()?;
            outgoing.push(header, packet).ok()?;
            Some((outgoing, &neighbour.door.waker))
        });
        let Some((outgoing, waker)) = pushed else {
            self.stats.refused += 1;
            return false;
        };
        self.stats.packets_out += 1;
        if outgoing.unpublished() >= EARLY {
            outgoing.publish();
            waker.wake();
        }
        true
    }

    /// The ring from another shard, to be read and given back.
    pub(crate) fn take_incoming(&mut self, from: u16) -> Option<Consumer> {
        neighbour(&mut self.others, from)?.incoming.take()
    }

    pub(crate) fn return_incoming(&mut self, from: u16, consumer: Consumer) {
        if let Some(neighbour) = neighbour(&mut self.others, from) {
            neighbour.incoming = Some(consumer);
        }
    }

    /// Bytes that wait in the fullest ring to this shard.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let others = self.others.iter().flatten();
        let rings = others.filter_map(|neighbour| neighbour.incoming.as_ref());
        rings.map(Consumer::len).max().unwrap_or_default()
    }

    /// Shows the others what they were sent, and wakes those that sleep.
    pub(crate) fn flush(&mut self) {
        for neighbour in self.others.iter_mut().flatten() {
            if !neighbour.waiting.is_empty() {
                neighbour.post(self.number);
            }
            let published = neighbour.outgoing.as_mut().is_some_and(Producer::publish);
            if published | std::mem::take(&mut neighbour.is_dirty) {
                neighbour.door.waker.wake();
            }
        }
    }
}

impl Neighbour {
    fn new(door: Door) -> Self {
        Self {
            door,
            waiting: VecDeque::new(),
            outgoing: None,
            incoming: None,
            is_dirty: false,
        }
    }

    /// Puts into the box what fits.
    fn post(&mut self, from: u16) {
        while let Some(message) = self.waiting.pop_front() {
            match self.door.mail.try_send((from, message)) {
                Ok(()) => self.is_dirty = true,
                Err(TrySendError::Full((_, message))) => {
                    self.waiting.push_front(message);
                    return;
                }
                // The node is about to end.
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
    }
}

impl Doors {
    /// Makes the shards a pipe's neighbours; the door is for them.
    pub(crate) fn pipe(&self, number: u16, waker: Waker) -> (Neighbours, Door) {
        let (mail, inbox) = crossbeam_channel::bounded(BOX);
        (Neighbours::new(number, self, inbox), Door { mail, waker })
    }
}

fn neighbour(others: &mut [Option<Neighbour>], number: u16) -> Option<&mut Neighbour> {
    others.get_mut(usize::from(number))?.as_mut()
}

/// Some shards of the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    /// Pipes are none.
    pub(crate) fn insert(&mut self, shard: u16) {
        if shard < FIRST_PIPE {
            self.0 |= 1 << shard;
        }
    }

    pub(crate) fn remove(&mut self, shard: u16) {
        if shard < FIRST_PIPE {
            self.0 &= !(1 << shard);
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        (0..FIRST_PIPE).filter(move |shard| self.0 & 1 << shard != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use pipemesh_node_core::forward::EncodingSet;
    use pipemesh_node_core::quality::Quality;
    use pipemesh_node_core::router::relay::{Alias, Interest};
    use pipemesh_node_core::router::{Router, TrackKey};
    use pipemesh_node_core::track::TrackSpec;
    use pipemesh_node_media::poll::Poller;
    use pipemesh_proto::ids::RoomId;

    use super::super::command::SessionKey;
    use super::super::event::Speaker;
    use super::super::message::TrackState;
    use super::super::session::RoomKey;
    use super::*;
    use crate::session::plan::Extensions;

    fn three() -> (Vec<Poller>, Vec<Neighbours>) {
        let pollers: Vec<Poller> = (0..3).map(|_| Poller::new().unwrap()).collect();
        let wakers: Vec<Waker> = pollers.iter().map(Poller::waker).collect();
        (pollers, Neighbours::connect(&wakers).0)
    }

    fn message(number: usize) -> Message {
        let room: RoomId = format!("RM_{number}").parse().unwrap();
        Message::RoomOpened(room)
    }

    fn number(message: &Message) -> usize {
        match message {
            Message::RoomOpened(room) => room.as_str()[3..].parse().unwrap(),
            _ => unreachable!("only these are sent"),
        }
    }

    #[test]
    fn messages_to_a_shard_that_is_busy_wait_and_keep_their_order() {
        let (_pollers, mut shards) = three();
        let all = BOX + CONGESTED + 10;
        for number in 0..all {
            assert_eq!(shards[0].is_congested(), number > BOX + CONGESTED);
            shards[0].tell(2, message(number));
        }
        assert!(shards[0].is_waiting() && shards[0].is_congested());
        let mut arrived = Vec::new();
        while arrived.len() < all {
            let before = arrived.len();
            while let Some((from, message)) = shards[2].poll_message() {
                assert_eq!(from, 0);
                arrived.push(number(&message));
            }
            assert!(arrived.len() > before);
            shards[0].flush();
        }
        assert_eq!(arrived, (0..all).collect::<Vec<_>>());
        assert!(!shards[0].is_waiting() && !shards[2].has_arrivals());
        // What is said again anyway does not wait.
        for number in 0..=BOX {
            shards[0].tell(2, message(number));
        }
        let before = shards[0].stats.messages_out;
        for _ in 0..10 {
            shards[0].tell(2, Message::Rates(Alias(0), Arc::default()));
        }
        assert_eq!(shards[0].stats.messages_out, before);
        assert_eq!(shards[0].stats.messages_dropped, 10);
        while shards[2].poll_message().is_some() {}
        shards[0].flush();
        shards[0].tell(2, Message::Rates(Alias(0), Arc::default()));
        assert_eq!(shards[0].stats.messages_out, before + 1);
        // A shard that has ended is not waited for.
        let gone = shards.remove(2);
        drop(gone);
        shards[0].tell(2, message(0));
        assert!(!shards[0].is_waiting());
    }

    #[test]
    fn what_waits_for_a_shard_that_stands_still_has_an_end() {
        let (_pollers, mut shards) = three();
        for number in 0..BOX {
            shards[0].tell(2, message(number));
        }
        const TRACKS: u64 = 100;
        const ROUNDS: u8 = 201;
        let room: RoomId = "RM_x".parse().unwrap();
        for round in 0..ROUNDS {
            for alias in 0..TRACKS {
                shards[0].tell(2, interest(alias, round));
                shards[0].tell(2, state(alias, round % 2 == 1));
            }
            for participant in ["PA_a", "PA_b"] {
                shards[0].tell(2, speaks(&room, participant, round % 2 == 1));
                shards[0].tell(2, judged(&room, participant, f32::from(round)));
            }
        }
        let waiting = shards[0].others[2].as_ref().unwrap().waiting.len();
        assert_eq!(waiting as u64, 2 * TRACKS + 2);

        // The last word about everything arrives, once.
        let (mut interests, mut states, mut people) = (0, 0, 0);
        while shards[0].is_waiting() || shards[2].has_arrivals() {
            shards[0].flush();
            while let Some((_, message)) = shards[2].poll_message() {
                match message {
                    Message::Interest { interest, .. } => {
                        assert_eq!(interest.wanted, ROUNDS - 1);
                        interests += 1;
                    }
                    Message::State(_, state) => {
                        assert!(!state.spec.muted);
                        states += 1;
                    }
                    Message::Speakers(_, speakers) => {
                        assert!(speakers.iter().all(|speaker| !speaker.active));
                        people += speakers.len();
                    }
                    Message::Quality(_, judged) => {
                        let last = f32::from(ROUNDS - 1);
                        assert!(judged.iter().all(|(_, _, score)| *score == last));
                        people += judged.len();
                    }
                    _ => {}
                }
            }
        }
        assert_eq!((interests, states, people), (TRACKS, TRACKS, 4));
    }

    #[test]
    fn what_is_said_of_a_room_stays_on_its_side_of_the_rooms_end() {
        let (_pollers, mut shards) = three();
        for number in 0..BOX {
            shards[0].tell(2, message(number));
        }
        let room: RoomId = "RM_x".parse().unwrap();
        shards[0].tell(2, speaks(&room, "PA_a", true));
        shards[0].tell(2, Message::RoomClosed(room.clone()));
        shards[0].tell(2, speaks(&room, "PA_a", true));
        let waiting = &shards[0].others[2].as_ref().unwrap().waiting;
        let kinds = waiting.iter().map(std::mem::discriminant);
        let kinds: Vec<_> = kinds.collect();
        assert!(kinds.len() == 3 && kinds[0] == kinds[2] && kinds[0] != kinds[1]);
    }

    fn interest(alias: u64, wanted: u8) -> Message {
        Message::Interest {
            track: key(),
            alias: Alias(alias),
            interest: Interest {
                wanted,
                ..Interest::default()
            },
        }
    }

    fn state(alias: u64, muted: bool) -> Message {
        let state = TrackState {
            key: key(),
            spec: TrackSpec { muted, ..spec() },
            live: EncodingSet::default(),
            extensions: Extensions::default(),
            codecs: Vec::new(),
            participant: None,
            path: Arc::default(),
        };
        Message::State(Alias(alias), Arc::new(state))
    }

    fn speaks(room: &RoomId, participant: &str, active: bool) -> Message {
        let speaker = Speaker {
            participant: participant.parse().unwrap(),
            level: 0.5,
            active,
        };
        Message::Speakers(room.clone(), Arc::new([speaker]))
    }

    fn judged(room: &RoomId, participant: &str, score: f32) -> Message {
        let judgement = (participant.parse().unwrap(), Quality::Good, score);
        Message::Quality(room.clone(), Arc::new([judgement]))
    }

    fn key() -> TrackKey {
        let now = Instant::now();
        Router::new(now).publish(spec(), now)
    }

    fn spec() -> TrackSpec<RoomKey, SessionKey> {
        TrackSpec {
            room: 1,
            participant: SessionKey(1),
            is_video: true,
            speaks: false,
            nack: true,
            muted: false,
            encodings: 1,
            sizes: Vec::new(),
        }
    }

    #[test]
    fn packets_arrive_with_the_flush_and_are_refused_when_there_is_no_room() {
        let (mut pollers, mut shards) = three();
        assert!(!shards[0].push(1, b"head", b"there is no ring yet"));
        let producer = shards[1].open_ring(0).unwrap();
        assert!(shards[1].open_ring(0).is_none());
        shards[0].set_ring(1, producer);
        assert!(shards[0].push(1, b"head", b"packet"));
        assert!(!shards[1].has_arrivals());
        shards[0].flush();
        assert!(shards[1].has_arrivals() && !shards[2].has_arrivals());
        // It was woken: the wait ends at once.
        let forever = std::time::Duration::from_secs(60);
        assert!(pollers[1].wait(Some(forever)).unwrap().is_empty());
        let mut taken = 0;
        let mut pushed = 1;
        while shards[0].push(1, &[0; 24], &[0; 1200]) {
            pushed += 1;
        }
        assert_eq!(shards[0].stats.refused, 2, "the first and the last");
        assert!(pushed > 800, "{pushed}");
        shards[0].flush();
        assert!(shards[1].waiting_bytes() > RING - 2000);
        let mut consumer = shards[1].take_incoming(0).unwrap();
        let mut records = consumer.records();
        taken += records.by_ref().count();
        let position = records.position();
        consumer.release(position);
        shards[1].return_incoming(0, consumer);
        assert_eq!(taken, pushed);
        assert!(shards[0].push(1, &[0; 24], &[0; 1200]));
    }
}
