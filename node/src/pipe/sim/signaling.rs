//! What sessions and signaling do, as far as pipes notice: people are placed by the ring, sessions ask for the
//! tracks of others and are told what becomes of them, and who was on a node that died comes back elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pipemesh_proto::ids::{NodeId, SessionId, TrackId};
use pipemesh_topology::placement::{self, Load, Request};
use pipemesh_topology::ring::{Member as RingMember, Members, Ring};
use pipemesh_topology::{NodeState, RoomName};
use rand::Rng;

use super::media::{Encoder, FRAME, LAYERS, LOUD_FRAME};
use super::node::Told;
use super::people::{Camera, Got, Seat, State, Want, hosts};
use super::world::{Event, World};
use crate::pipe::relays::Elsewhere;
use crate::session::sdp::Format;
use crate::shard::{Command, Event as ShardEvent, Origin, SessionKey};
use crate::tracks::TrackEntry;

/// From a change of a room to a session that hears of it.
const TOLD_WITHIN: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(150));
/// Signaling misses a node.
const MOURNED_AFTER: Duration = Duration::from_secs(2);
/// The client connects anew.
const SEATED_AFTER: (Duration, Duration) =
    (Duration::from_millis(300), Duration::from_millis(1_500));
/// The registry misses a node.
const EXPIRES_AFTER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));
/// The level of somebody who speaks, in -dBov.
const SPEECH: u8 = 20;
/// Nobody can be placed at present.
const PLACE_AGAIN: Duration = Duration::from_millis(500);

/// What a session is told of its room.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    /// Somebody's tracks are there: on this node, by this session.
    Published {
        publisher: usize,
        node: usize,
        session: SessionId,
        tracks: [TrackId; 2],
    },
    /// … or are not any more.
    Left(usize),
    /// On these nodes somebody of the room is.
    Hosts(BTreeSet<usize>),
}

impl World {
    // People come and go.

    /// Somebody joins, or comes back after their node has died.
    pub(super) fn join(&mut self, member: usize, pause: Duration) {
        self.members[member].is_here = true;
        self.after(pause, Event::Seat(member));
    }

    pub(super) fn seat(&mut self, index: usize) {
        let member = &self.members[index];
        if !member.is_here || member.seat.is_some() {
            return;
        }
        let Some(node) = self.place(index) else {
            return self.after(PLACE_AGAIN, Event::Seat(index));
        };
        self.last_key += 1;
        let key = SessionKey(self.last_key);
        let session: SessionId = format!("s{}", self.last_key).parse().expect("it is an id");
        let shard = (self.last_key % u64::from(self.places[node].shards)) as u8;
        let (id, room) = (
            self.members[index].id.clone(),
            self.members[index].room.clone(),
        );
        let now = self.now;
        let Some(living) = self.nodes[node].as_mut() else {
            return self.after(PLACE_AGAIN, Event::Seat(index));
        };
        living.shard(shard).open(key, room.clone(), id);
        self.touched.insert(node);
        self.members[index].seat = Some(Seat {
            node,
            key,
            session,
            shard,
            camera: None,
            wants: BTreeMap::new(),
        });
        self.coverage.sessions += 1;
        self.tell(|it| format!("{} is on {}", it.members[index].id, it.name(node)));
        self.checks.disturb(now);
        if self.members[index].publishes {
            self.publish(index);
        }
        self.tell_hosts(&room);
        // What was there before.
        for publisher in 0..self.members.len() {
            if publisher != index && self.members[publisher].room == room {
                self.announce_to(publisher, index);
            }
        }
    }

    /// The node that the ring and everybody's load lead to.
    fn place(&mut self, index: usize) -> Option<usize> {
        let living = self.living();
        let indices = living
            .iter()
            .map(|node| (self.places[*node].id.clone(), *node));
        let indices: BTreeMap<NodeId, usize> = indices.collect();
        let snapshot = self.snapshot();
        let members = snapshot.nodes().iter().map(RingMember::from);
        let ring = Ring::new(&Members::new(members)).ok()?;
        let seated = |node: usize| {
            let seats = self
                .members
                .iter()
                .filter_map(|member| member.seat.as_ref());
            seats.filter(|seat| seat.node == node).count() as u32
        };
        let load = |node: &NodeId| {
            let participants = seated(*indices.get(node)?);
            Some(Load {
                state: snapshot.node(node)?.state,
                ratio: f64::from(participants) / 100.0,
                participants,
            })
        };
        let member = &self.members[index];
        let region = format!("r{}", member.region).parse().ok()?;
        let room: RoomName = member.room.as_str().parse().ok()?;
        let request = Request {
            room: &room,
            region: &region,
            others: &[],
            allowed: None,
            homes: None,
            spans: true,
            excluded: &BTreeSet::new(),
        };
        let placement = placement::place(&snapshot, &ring, &load, &request).ok()?;
        indices.get(&placement.node).copied()
    }

    pub(super) fn leave(&mut self, index: usize) {
        self.members[index].is_here = false;
        let Some(seat) = self.members[index].seat.take() else {
            return;
        };
        let now = self.now;
        self.checks.disturb(now);
        self.tell(|it| format!("{} leaves", it.members[index].id));
        let room = self.members[index].room.clone();
        if let Some(node) = self.nodes[seat.node].as_mut() {
            if let Some(camera) = &seat.camera {
                for track in camera.tracks() {
                    node.tracks.remove(track, &seat.session);
                }
            }
            node.shard(seat.shard).close(seat.key);
            node.decide(now, |decisions| decisions.forget(&seat.session));
            self.touched.insert(seat.node);
        }
        for other in 0..self.members.len() {
            if other != index && self.members[other].room == room {
                self.notify_later(other, Notice::Left(index));
            }
        }
        self.tell_hosts(&room);
    }

    /// A node dies without a word.
    pub(super) fn kill(&mut self, node: usize) {
        let Some(dead) = self.nodes[node].take() else {
            return;
        };
        self.tell(|it| format!("{} dies", it.name(node)));
        self.checks.disturb(self.now);
        let boot_id = dead.identity.boot_id;
        let expires = self.within(EXPIRES_AFTER.0, EXPIRES_AFTER.1);
        self.after(expires, Event::Expire(node, boot_id));
        for member in &mut self.members {
            if member.seat.as_ref().is_some_and(|seat| seat.node == node) {
                member.seat = None;
            }
        }
        self.after(MOURNED_AFTER, Event::Mourn(node));
    }

    /// Whoever was on a node that died comes back.
    pub(super) fn mourn(&mut self, node: usize) {
        self.tell(|it| format!("signaling misses {}", it.name(node)));
        for index in 0..self.members.len() {
            let member = &self.members[index];
            if member.is_here && member.seat.is_none() {
                let pause = self.within(SEATED_AFTER.0, SEATED_AFTER.1);
                self.after(pause, Event::Seat(index));
            }
        }
    }

    // Publishing.

    pub(super) fn publish(&mut self, index: usize) {
        let member = &self.members[index];
        let (id, room) = (member.id.clone(), member.room.clone());
        let Some(seat) = member.seat.as_ref().filter(|seat| seat.camera.is_none()) else {
            return;
        };
        let (node, shard, key) = (seat.node, seat.shard, seat.key);
        let session = seat.session.clone();
        let track =
            |kind: &str| -> TrackId { format!("TR_{kind}_{id}").parse().expect("it is an id") };
        let (audio_track, video_track) = (track("a"), track("v"));
        let Some(living) = self.nodes[node].as_mut() else {
            return;
        };
        for (track, encodings, format) in [
            (&audio_track, None, Format::Opus { stereo: false }),
            (&video_track, Some(LAYERS), Format::Vp8),
        ] {
            let generation = living.tracks.next_generation();
            living
                .shard(shard)
                .publish(key, track.clone(), generation, encodings);
            let entry = TrackEntry {
                room: room.clone(),
                session: session.clone(),
                format,
                origin: Origin {
                    shard: shard.into(),
                    generation,
                },
            };
            living.tracks.insert(track.clone(), entry);
        }
        self.touched.insert(node);
        let camera = Camera {
            audio: self.encoder(node, &audio_track),
            video: (0..LAYERS)
                .map(|_| self.encoder(node, &video_track))
                .collect(),
            audio_track,
            video_track,
            demand: LAYERS,
            audio_sent: VecDeque::new(),
            video_sent_at: None,
        };
        if let Some(seat) = &mut self.members[index].seat {
            seat.camera = Some(camera);
        }
        let is_muted = self.members[index].is_muted;
        if is_muted {
            self.mute(index, true);
        }
        self.checks.disturb(self.now);
        let phase = self.within(Duration::ZERO, FRAME);
        self.after(phase, Event::Frame(index));
        for other in 0..self.members.len() {
            if other != index && self.members[other].room == room {
                self.announce_to(index, other);
            }
        }
    }

    fn encoder(&mut self, node: usize, track: &TrackId) -> Encoder {
        self.last_ssrc += 1;
        self.checks.publish(self.last_ssrc, node, track);
        Encoder::new(self.last_ssrc, &mut self.rng)
    }

    /// An encoder begins anew.
    pub(super) fn restart_encoder(&mut self, index: usize, layer: usize) {
        let member = &self.members[index];
        let Some((seat, camera)) = member.seat.as_ref().zip(member.camera()) else {
            return;
        };
        let (node, shard) = (seat.node, seat.shard);
        let track = camera.video_track.clone();
        let encoder = self.encoder(node, &track);
        let now = self.now;
        if let Some(living) = self.nodes[node].as_mut() {
            living.shard(shard).restart(&track, layer as u8, now);
            self.touched.insert(node);
        }
        if let Some(camera) = self.members[index].camera_mut() {
            camera.video[layer] = encoder;
        }
        self.checks.disturb(now);
    }

    pub(super) fn mute(&mut self, index: usize, muted: bool) {
        self.members[index].is_muted = muted;
        let Some(seat) = &self.members[index].seat else {
            return;
        };
        let Some(camera) = &seat.camera else {
            return;
        };
        let (node, shard, session) = (seat.node, seat.shard, seat.key);
        let track = camera.video_track.clone();
        if let Some(living) = self.nodes[node].as_mut() {
            living.shard(shard).command(Command::SetMuted {
                session,
                track,
                muted,
            });
            self.touched.insert(node);
        }
        self.checks.disturb(self.now);
    }

    /// The next frame of all layers that are wanted, and a packet of audio.
    pub(super) fn send_frame(&mut self, index: usize) {
        let now = self.now;
        let extra = self.extra();
        let member = &mut self.members[index];
        let (is_muted, is_loud) = (member.is_muted, member.is_loud);
        let Some(seat) = &mut member.seat else {
            return;
        };
        let Some(camera) = &mut seat.camera else {
            return;
        };
        let Some(living) = self.nodes[seat.node].as_mut() else {
            return;
        };
        let shard = living.shard(seat.shard);
        let packet = camera.audio.audio();
        // Before the shard has heard of the track nobody gets it.
        let level = member.speaks.then_some(SPEECH);
        if shard
            .send(&camera.audio_track, 0, &packet, level, now)
            .is_ok()
        {
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            camera.note_audio(number, now);
        }
        if !is_muted {
            let wanted = usize::from(camera.demand).min(camera.video.len());
            for (layer, encoder) in (0..).zip(&mut camera.video[..wanted]) {
                for packet in encoder.video(layer, is_loud, extra) {
                    // What it is dropped for is counted there.
                    let _ = shard.send(&camera.video_track, layer, &packet, None, now);
                }
                camera.video_sent_at = Some(now);
            }
        }
        self.touched.insert(seat.node);
        let pause = if is_loud { LOUD_FRAME } else { FRAME };
        self.after(pause, Event::Frame(index));
    }

    /// Now and then a packet is as long as they get.
    fn extra(&mut self) -> usize {
        match self.rng.random_bool(0.1) {
            true => 600,
            false => 0,
        }
    }

    // What sessions hear of their room.

    fn announce_to(&mut self, publisher: usize, to: usize) {
        let member = &self.members[publisher];
        let Some((seat, camera)) = member.seat.as_ref().zip(member.camera()) else {
            return;
        };
        let notice = Notice::Published {
            publisher,
            node: seat.node,
            session: seat.session.clone(),
            tracks: [camera.audio_track.clone(), camera.video_track.clone()],
        };
        self.notify_later(to, notice);
    }

    fn tell_hosts(&mut self, room: &pipemesh_proto::ids::RoomId) {
        let nodes = hosts(&self.members, room);
        for member in 0..self.members.len() {
            if self.members[member].room == *room {
                self.notify_later(member, Notice::Hosts(nodes.clone()));
            }
        }
    }

    fn notify_later(&mut self, to: usize, notice: Notice) {
        let at = self.now + self.within(TOLD_WITHIN.0, TOLD_WITHIN.1);
        let at = self.members[to].told_at.map_or(at, |last| last.max(at));
        self.members[to].told_at = Some(at);
        let pause = at - self.now;
        self.after(pause, Event::Tell(to, notice));
    }

    pub(super) fn notify(&mut self, index: usize, notice: Notice) {
        let now = self.now;
        let member = &self.members[index];
        let (room, watches) = (member.room.clone(), member.watches);
        let Some(seat) = &self.members[index].seat else {
            return;
        };
        let node = seat.node;
        self.touched.insert(node);
        match notice {
            Notice::Hosts(nodes) => {
                let session = seat.session.clone();
                let others = nodes.iter().filter(|other| **other != node);
                let others = others.map(|other| self.places[*other].id.clone()).collect();
                if let Some(living) = self.nodes[node].as_mut() {
                    living.decide(now, |decisions| decisions.hear(session, room, others));
                }
            }
            Notice::Left(publisher) => {
                let wants = seat
                    .wants
                    .iter()
                    .filter(|(_, want)| want.publisher == publisher);
                for track in wants.map(|(track, _)| track.clone()).collect::<Vec<_>>() {
                    self.unsubscribe(index, &track);
                }
            }
            Notice::Published {
                publisher,
                node: origin,
                session,
                tracks,
            } if watches => {
                for (track, is_video) in tracks.into_iter().zip([false, true]) {
                    let seat = self.members[index].seat.as_ref();
                    let known = seat.and_then(|seat| seat.wants.get(&track));
                    if known.is_some_and(|want| want.of == session && want.state != State::Over) {
                        continue;
                    }
                    self.unsubscribe(index, &track);
                    let want = Want {
                        publisher,
                        node: origin,
                        of: session.clone(),
                        is_video,
                        state: State::Asked,
                        got: Got::default(),
                    };
                    self.subscribe(index, track, want);
                }
            }
            Notice::Published { .. } => {}
        }
    }

    fn subscribe(&mut self, index: usize, track: TrackId, mut want: Want) {
        let now = self.now;
        let wish = self.members[index].wish(want.is_video);
        let room = self.members[index].room.clone();
        let origin = self.places[want.node].id.clone();
        let Some(seat) = &mut self.members[index].seat else {
            return;
        };
        let Some(living) = self.nodes[seat.node].as_mut() else {
            return;
        };
        if want.node == seat.node {
            let entry = living.tracks.get(&track);
            let entry = entry.filter(|entry| entry.session == want.of);
            want.state = match entry {
                Some(entry) => {
                    let shard = living.shard(seat.shard);
                    shard.subscribe(seat.key, track.clone(), Some(entry.origin), wish);
                    State::Has(entry.origin.generation)
                }
                None => State::Over,
            };
        } else {
            let elsewhere = Elsewhere {
                node: origin,
                session: want.of.clone(),
                room,
            };
            let (session, shard, track) = (seat.session.clone(), seat.shard, track.clone());
            living.decide(now, |decisions| {
                decisions.want(session, shard, track, elsewhere)
            });
        }
        seat.wants.insert(track, want);
    }

    pub(super) fn unsubscribe(&mut self, index: usize, track: &TrackId) {
        let now = self.now;
        let Some(seat) = &mut self.members[index].seat else {
            return;
        };
        let Some(want) = seat.wants.remove(track) else {
            return;
        };
        let Some(living) = self.nodes[seat.node].as_mut() else {
            return;
        };
        let (session, of_session) = (seat.key, seat.session.clone());
        living.shard(seat.shard).command(Command::Unsubscribe {
            session,
            track: track.clone(),
        });
        if want.node != seat.node && want.state != State::Over {
            living.decide(now, |decisions| decisions.unwant(of_session, track));
        }
    }

    /// Somebody changes what they want to see of others.
    pub(super) fn wish(&mut self, index: usize, layers: u8) {
        self.members[index].layers = layers;
        let wish = self.members[index].wish(true);
        let Some(seat) = &self.members[index].seat else {
            return;
        };
        let Some(living) = self.nodes[seat.node].as_mut() else {
            return;
        };
        for (track, want) in &seat.wants {
            if want.is_video && matches!(want.state, State::Has(_)) {
                let origin = living.tracks.get(track).map(|entry| entry.origin);
                living
                    .shard(seat.shard)
                    .subscribe(seat.key, track.clone(), origin, wish);
            }
        }
        self.touched.insert(seat.node);
        self.checks.disturb(self.now);
    }

    // What nodes say.

    pub(super) fn tell_session(&mut self, node: usize, told: Told) {
        let (Told::Known(session, track, of) | Told::Gone(session, track, of)) = &told;
        let is_it = |member: &super::people::Member| {
            member
                .seat
                .as_ref()
                .is_some_and(|seat| seat.session == *session)
        };
        let Some(index) = self.members.iter().position(is_it) else {
            return;
        };
        let [voice, picture] = [false, true].map(|is_video| self.members[index].wish(is_video));
        let Some(seat) = &mut self.members[index].seat else {
            return;
        };
        let Some(want) = seat.wants.get_mut(track).filter(|want| want.of == *of) else {
            return;
        };
        let Some(living) = self.nodes[node].as_mut() else {
            return;
        };
        self.touched.insert(node);
        match told {
            Told::Known(_, ref track, ref of) if want.state == State::Asked => {
                let entry = living.tracks.get(track);
                let Some(entry) = entry.filter(|entry| entry.session == *of) else {
                    return;
                };
                want.state = State::Has(entry.origin.generation);
                let shard = living.shard(seat.shard);
                let origin = Some(entry.origin);
                let wish = if want.is_video { picture } else { voice };
                shard.subscribe(seat.key, track.clone(), origin, wish);
            }
            Told::Known(..) => {}
            Told::Gone(_, track, _) => {
                want.state = State::Over;
                let session = seat.key;
                let shard = living.shard(seat.shard);
                shard.command(Command::Unsubscribe {
                    session,
                    track: track.clone(),
                });
                self.tell(|it| format!("{} is told that {track} has ended", it.members[index].id));
            }
        }
    }

    /// What a node's shards have sent to subscribers, and told sessions.
    pub(super) fn hear_shards(&mut self, node: usize) {
        let shards = self.nodes[node]
            .as_ref()
            .map_or(0, |node| node.shards.len());
        for shard in 0..shards {
            loop {
                let Some(living) = self.nodes[node].as_mut() else {
                    return;
                };
                let alone = &mut living.shards[shard];
                let heard = alone.overheard();
                let asked: Vec<(TrackId, u8)> = std::iter::from_fn(|| alone.poll_asked()).collect();
                let events: Vec<(SessionKey, ShardEvent)> =
                    std::iter::from_fn(|| alone.poll_event()).collect();
                let panics = alone.panics();
                if heard.is_empty() && asked.is_empty() && events.is_empty() {
                    if panics > 0 {
                        self.fail(format!("a shard of {} met a bug", self.name(node)));
                    }
                    break;
                }
                for (session, track, packet) in heard {
                    self.receive(session, &track, &packet);
                }
                for (track, layer) in asked {
                    self.ask_publisher(&track, layer);
                }
                for (session, event) in events {
                    self.handle_shard_event(node, session, event);
                }
            }
        }
    }

    fn ask_publisher(&mut self, track: &TrackId, layer: u8) {
        self.coverage.key_frames += 1;
        for member in &mut self.members {
            if let Some(camera) = member.camera_mut()
                && camera.video_track == *track
                && let Some(encoder) = camera.video.get_mut(usize::from(layer))
            {
                encoder.want_key_frame();
            }
        }
    }

    fn seated(&self, session: SessionKey) -> Option<usize> {
        let is_it = |member: &super::people::Member| {
            member.seat.as_ref().is_some_and(|seat| seat.key == session)
        };
        self.members.iter().position(is_it)
    }

    fn handle_shard_event(&mut self, node: usize, session: SessionKey, event: ShardEvent) {
        let now = self.now;
        let Some(index) = self.seated(session) else {
            return;
        };
        match event {
            ShardEvent::DemandChanged { track, encodings } => {
                if let Some(camera) = self.members[index].camera_mut()
                    && camera.video_track == track
                {
                    let before = usize::from(camera.demand);
                    camera.demand = encodings;
                    // What begins, begins with a key frame.
                    let begins = camera.video.iter_mut().skip(before);
                    begins.for_each(Encoder::want_key_frame);
                    self.checks.demand(now);
                }
            }
            ShardEvent::SubscriptionEnded { track, generation } => {
                let Some(seat) = &mut self.members[index].seat else {
                    return;
                };
                let Some(want) = seat.wants.get_mut(&track) else {
                    return;
                };
                if want.state != State::Has(generation) {
                    return;
                }
                want.state = State::Over;
                let (is_far, of) = (want.node != seat.node, seat.session.clone());
                if let Some(living) = self.nodes[node].as_mut()
                    && is_far
                {
                    living.decide(now, |decisions| decisions.unwant(of, &track));
                    self.touched.insert(node);
                }
                self.tell(|it| {
                    format!(
                        "{}'s shard says that {track} has ended",
                        it.members[index].id
                    )
                });
            }
            ShardEvent::Fault => self.fail(format!("{} met a bug", self.name(node))),
            _ => {}
        }
    }

    fn receive(
        &mut self,
        session: SessionKey,
        track: &TrackId,
        packet: &crate::shard::alone::Overheard,
    ) {
        let now = self.now;
        let Some(index) = self.seated(session) else {
            return;
        };
        let Some(seat) = &mut self.members[index].seat else {
            return;
        };
        let Some(want) = seat.wants.get_mut(track) else {
            return;
        };
        self.coverage.deliveries += 1;
        let (header, rewrite) = (&packet.header, &packet.rewrite);
        let source = (header.ssrc, header.sequence);
        let marker = header.marker || rewrite.ends_picture;
        let wrong = want
            .got
            .note(source, rewrite.sequence, rewrite.is_filler, marker, now);
        if let Some(wrong) = wrong {
            let id = &self.members[index].id;
            self.fail(format!(
                "duplicate: {id} got {track} {wrong:?}: SSRC {} number {}, as {}",
                source.0, source.1, rewrite.sequence
            ));
        }
    }

    /// Receivers ask for what they miss.
    pub(super) fn complain(&mut self) {
        let now = self.now;
        for member in &mut self.members {
            let layers = member.layers;
            let Some(seat) = &mut member.seat else {
                continue;
            };
            let Some(living) = self.nodes[seat.node].as_mut() else {
                continue;
            };
            let wants = seat.wants.iter_mut();
            for (track, want) in wants.filter(|(_, want)| matches!(want.state, State::Has(_))) {
                let is_seen = want.is_video && layers > 0;
                let shard = &mut living.shards[usize::from(seat.shard)];
                want.got.complain(shard, seat.key, track, is_seen, now);
            }
            living.shard(seat.shard);
            self.touched.insert(seat.node);
        }
    }

    pub(super) fn set_state(&mut self, node: usize, state: NodeState) {
        if let Some(record) = self.records.get_mut(&node) {
            record.state = state;
            self.publish_nodes();
        }
    }
}
