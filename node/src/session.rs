//! One participant's session: what signaling asks becomes negotiation and commands to the shard, what
//! the shard reports becomes events.
//!
//! This half is pure: requests, shard events and time in, effects out. The task around it is
//! `driver`; the state machines of a connection (`ice`, `dtls`, `sctp`) run on the shard, `sdp` here.

pub(crate) mod driver;
pub mod dtls;
pub(crate) mod fence;
pub mod handshake;
pub mod ice;
mod layers;
pub mod plan;
mod requests;
pub mod sctp;
pub mod sdp;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, ParticipantId, RoomId, SessionId, TrackId};
use pipemesh_proto::node::session_event::Event as Told;
use pipemesh_proto::node::{
    self as contract, AddTrack, CloseReason, Closed, Code, ConnectionLayout, OfferCreated, Open,
    Refused, SessionEvent, TrackStarted,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mailbox;
use crate::pipe::Elsewhere;
use crate::shard::{Command, ConnectionState, DataRights, Event, Origin, Role, SessionKey};
use crate::tracks::{TrackEntry, Tracks};
use ice::Credentials;
use sdp::{Answerer, LocalTransport, MediaKind, Offerer, SectionsNeeded, StartedTrack};

/// Changes to what a client is sent gather this long before an offer tells of them. A joining client
/// is subscribed to a whole room within it; longer would delay the first picture.
const GATHER: Duration = Duration::from_millis(10);

/// What a request or an event led to, to be carried out in this order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful at a time, and carried out at once"
)]
pub(crate) enum Effect {
    Tell(SessionEvent),
    Shard(Command),
    /// A track of another node is wanted …
    Want(TrackId, Elsewhere),
    /// … or no more.
    Unwant(TrackId),
    /// On these nodes people of the room are.
    Hear(BTreeSet<NodeId>),
    /// The session is over; nothing follows.
    End,
}

/// What does not change over a session's life.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) session: SessionId,
    pub(crate) key: SessionKey,
    pub(crate) room: RoomId,
    pub(crate) participant: ParticipantId,
    pub(crate) open: Open,
    pub(crate) opened: contract::Opened,
    /// Where its connections are.
    pub(crate) shard: u8,
    /// The node has pipes to others.
    pub(crate) has_pipes: bool,
}

pub(crate) struct Session {
    identity: Identity,
    tracks: Arc<Tracks>,
    publisher: Answerer,
    subscriber: Option<Offerer>,
    published: BTreeMap<TrackId, Published>,
    /// In boxes: a map has room for eleven from the first on.
    subscriptions: BTreeMap<TrackId, Box<contract::Subscribe>>,
    /// Those of them that are of tracks of other nodes.
    elsewhere: BTreeMap<TrackId, Far>,
    /// Subscriptions that the bandwidth does not suffice for.
    paused: BTreeSet<TrackId>,
    connections: BTreeMap<Role, ConnectionState>,
    speakers: BTreeMap<ParticipantId, f32>,
    /// The client has not answered it yet.
    outstanding: Option<OfferCreated>,
    /// The client has been asked and has not offered yet.
    sections_needed: Option<SectionsNeeded>,
    offer_at: Option<Instant>,
    /// What random numbers come from; a generator that waits takes ten times as much.
    seed: [u8; 32],
    effects: Vec<Effect>,
}

/// A track of another node that is subscribed to.
#[derive(Debug, Clone)]
struct Far {
    /// Who publishes it.
    session: SessionId,
    /// Once it is described; see [`Origin`].
    generation: Option<u64>,
}

/// A track of this session's client.
#[derive(Debug, Clone)]
struct Published {
    announced: AddTrack,
    started: Option<(TrackStarted, Vec<contract::LayerInfo>)>,
    /// Encodings that are of use to anybody; `None` while all are.
    demand: Option<u8>,
}

impl Published {
    /// What the publisher was told to send; `None` while that is everything.
    fn demand(&self) -> Option<contract::TrackDemandChanged> {
        let (started, _) = self.started.as_ref()?;
        let codec = contract::CodecDemand {
            mime_type: started.mime_type.clone(),
            spatial_layers: self.demand?.into(),
        };
        Some(contract::TrackDemandChanged {
            track_id: started.track_id.clone(),
            codecs: vec![codec],
        })
    }
}

impl Session {
    /// Begins a session; the shard is told.
    pub(crate) fn new(
        identity: Identity,
        transport: impl Fn(Credentials) -> LocalTransport,
        tracks: Arc<Tracks>,
        events: mailbox::Sender<Event>,
        mut rng: StdRng,
    ) -> Self {
        let publisher = Credentials::generate(identity.shard, &mut rng);
        let mut connections = vec![(Role::Publisher, publisher.clone())];
        let answerer = Answerer::new(transport(publisher), &mut rng);
        let is_dual = identity.open.layout() == ConnectionLayout::Dual;
        let offerer = is_dual.then(|| {
            let subscriber = Credentials::generate(identity.shard, &mut rng);
            connections.push((Role::Subscriber, subscriber.clone()));
            Offerer::new(transport(subscriber), &mut rng)
        });
        let states = connections
            .iter()
            .map(|(role, _)| (*role, ConnectionState::New))
            .collect();
        let open = crate::shard::OpenSession {
            key: identity.key,
            room: identity.room.clone(),
            participant: identity.participant.clone(),
            identity: identity.open.identity.clone(),
            anonymous: identity.open.anonymous,
            may_pause: !identity.open.never_pause,
            loudest_microphones: identity.open.loudest_microphones,
            rights: data_rights(identity.open.data),
            connections,
            events,
        };
        Self {
            identity,
            tracks,
            publisher: answerer,
            subscriber: offerer,
            published: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            paused: BTreeSet::new(),
            connections: states,
            speakers: BTreeMap::new(),
            outstanding: None,
            sections_needed: None,
            offer_at: None,
            seed: rng.random(),
            effects: vec![Effect::Shard(Command::Open(open))],
        }
    }

    fn rng(&mut self) -> StdRng {
        let mut rng = StdRng::from_seed(self.seed);
        self.seed = rng.random();
        rng
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes what the last calls led to.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.offer_at
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.offer_at.is_some_and(|at| at <= now) {
            self.offer_at = None;
            self.offer();
        }
    }

    /// The session is open: what its first stream is answered.
    pub(crate) fn opened(&mut self, request_id: u64, now: Instant) {
        self.answer(request_id, Told::Opened(self.identity.opened.clone()));
        // The first offer, for data channels, takes along what is subscribed to at once.
        self.offer_at = self.subscriber.is_some().then_some(now + GATHER);
    }

    /// Another stream took the session over.
    pub(crate) fn attach(&mut self, request_id: u64) {
        self.answer(request_id, Told::Snapshot(self.snapshot()));
        if let Some(needed) = self.sections_needed {
            self.tell(Told::SectionsNeeded(snapshot::sections(needed)));
        }
    }

    /// Ends the session for everybody.
    pub(crate) fn close(&mut self, request_id: u64, reason: CloseReason, message: &str) {
        for track in std::mem::take(&mut self.published).into_keys() {
            self.tracks.remove(&track, &self.identity.session);
        }
        self.command(Command::Close(self.identity.key));
        let closed = Closed {
            reason: reason.into(),
            message: message.to_owned(),
        };
        self.answer(request_id, Told::Closed(closed));
        self.effects.push(Effect::End);
    }

    pub(crate) fn handle_shard_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::ConnectionChanged { role, state } => {
                self.connections.insert(role, state);
                self.tell(Told::ConnectionChanged(snapshot::connection(role, state)));
            }
            Event::EncodingsKnown { track, encodings } => {
                let Some(published) = self.published.get_mut(&track) else {
                    return;
                };
                let Some((_, layers)) = &mut published.started else {
                    return;
                };
                layers::name_ssrcs(layers, &encodings);
                let layers = layers.clone();
                let track_id = track.to_string();
                self.tell(Told::TrackLayers(contract::TrackLayers {
                    track_id,
                    layers,
                }));
            }
            Event::TrackSubscribed(track) => {
                let track_id = track.to_string();
                self.tell(Told::TrackSubscribed(contract::TrackSubscribed {
                    track_id,
                }));
            }
            Event::DemandChanged { track, encodings } => {
                let Some(published) = self.published.get_mut(&track) else {
                    return;
                };
                published.demand = Some(encodings);
                if let Some(demand) = published.demand() {
                    self.tell(Told::TrackDemandChanged(demand));
                }
            }
            Event::SubscriptionPaused { track, paused } => {
                if !self.subscriptions.contains_key(&track) {
                    return;
                }
                let track_id = track.to_string();
                let changed = match paused {
                    true => self.paused.insert(track),
                    false => self.paused.remove(&track),
                };
                if changed {
                    self.tell(Told::SubscriptionPaused(contract::SubscriptionPaused {
                        track_id,
                        paused,
                    }));
                }
            }
            Event::SubscriptionEnded { track, generation } => {
                let far = self.elsewhere.get(&track);
                if far.is_none_or(|far| far.generation == Some(generation)) {
                    self.end_subscription(&track, now);
                }
            }
            Event::SpeakersChanged(changes) => {
                for change in &changes {
                    if change.active {
                        self.speakers
                            .insert(change.participant.clone(), change.level);
                    } else {
                        self.speakers.remove(&change.participant);
                    }
                }
                let speakers = changes.iter().map(snapshot::speaker).collect();
                self.tell(Told::SpeakersChanged(contract::SpeakersChanged {
                    speakers,
                }));
            }
            Event::QualityChanged(changes) => {
                let participants = changes.iter().map(snapshot::quality).collect();
                self.tell(Told::QualityChanged(contract::QualityChanged {
                    participants,
                }));
            }
            Event::Fault => {
                self.close(
                    0,
                    CloseReason::Fault,
                    "a fault of the node; it has been logged",
                );
            }
        }
    }

    /// A track of another node is described: it can be negotiated.
    pub(crate) fn handle_track_known(
        &mut self,
        track: &TrackId,
        session: &SessionId,
        now: Instant,
    ) {
        let entry = self.tracks.get(track);
        let entry = entry.filter(|entry| entry.session == *session);
        let far = self.elsewhere.get_mut(track);
        let far = far.filter(|far| far.session == *session && far.generation.is_none());
        let (Some(entry), Some(far)) = (entry, far) else {
            return;
        };
        far.generation = Some(entry.origin.generation);
        let Some(asked) = self.subscriptions.get(track).cloned() else {
            return;
        };
        if let Err(refusal) = self.begin_subscription(track, &asked, now) {
            let (participant, refusal) = (&self.identity.participant, refusal.message);
            tracing::debug!(%participant, %track, refusal, "a track of another node cannot be sent");
            self.end_subscription(track, now);
        }
    }

    /// A track of another node is not to be had, or has ended.
    pub(crate) fn handle_track_gone(&mut self, track: &TrackId, session: &SessionId, now: Instant) {
        let far = self.elsewhere.get(track);
        if far.is_none_or(|far| far.session != *session) {
            return;
        }
        self.elsewhere.remove(track);
        let session = self.identity.key;
        self.command(Command::Unsubscribe {
            session,
            track: track.clone(),
        });
        self.end_subscription(track, now);
    }

    /// A subscription ends because its track did.
    fn end_subscription(&mut self, track: &TrackId, now: Instant) {
        self.paused.remove(track);
        if self.subscriptions.remove(track).is_none() {
            return;
        }
        self.unwant(track);
        self.remove_outgoing(track, now);
        let track_id = track.to_string();
        self.tell(Told::SubscriptionEnded(contract::SubscriptionEnded {
            track_id,
        }));
    }

    fn unwant(&mut self, track: &TrackId) {
        if self.elsewhere.remove(track).is_some() {
            self.effects.push(Effect::Unwant(track.clone()));
        }
    }

    /// Offers what has changed, if the client has answered the last offer.
    fn offer(&mut self) {
        let Some(offerer) = &mut self.subscriber else {
            return;
        };
        let Some(offer) = offerer.poll_offer() else {
            return;
        };
        let created = OfferCreated {
            sdp: offer.sdp,
            offer_id: offer.id,
            mid_to_track: offer.mid_to_track.into_iter().collect(),
        };
        self.outstanding = Some(created.clone());
        self.tell(Told::OfferCreated(created));
    }

    /// What the client is sent has changed: tell it by an offer, or ask it for one.
    fn negotiate(&mut self, now: Instant) {
        if self.subscriber.is_some() {
            self.offer_at.get_or_insert(now + GATHER);
            return;
        }
        if let Some(needed) = self.publisher.poll_sections_needed() {
            self.sections_needed = Some(needed);
            self.tell(Told::SectionsNeeded(snapshot::sections(needed)));
        }
    }

    /// Brings the shard up to what is agreed on for a connection.
    fn apply(&mut self, role: Role) {
        let plan = match (role, &self.subscriber) {
            (Role::Publisher, _) => self.publisher.plan(),
            (Role::Subscriber, Some(offerer)) => offerer.plan(),
            (Role::Subscriber, None) => None,
        };
        if let Some(plan) = plan {
            let session = self.identity.key;
            self.command(Command::Apply {
                session,
                role,
                plan: Box::new(plan),
            });
        }
    }

    /// The connection that carries what the client is sent.
    fn downlink(&self) -> Role {
        if self.subscriber.is_some() {
            Role::Subscriber
        } else {
            Role::Publisher
        }
    }

    fn remove_outgoing(&mut self, track: &TrackId, now: Instant) {
        match &mut self.subscriber {
            Some(offerer) => offerer.remove_outgoing(track),
            None => self.publisher.remove_outgoing(track),
        };
        self.apply(self.downlink());
        self.negotiate(now);
    }

    /// A track was negotiated: the shard takes its packets, others may subscribe.
    fn start_track(&mut self, started: StartedTrack) {
        let Some(published) = self.published.get_mut(&started.track) else {
            return;
        };
        let plan = self.publisher.plan();
        let sections = plan.iter().flat_map(|plan| &plan.receive);
        let nack = sections
            .filter(|section| section.track == started.track)
            .any(|section| section.feedback.nack);
        let codec = started.format.codec();
        let layers = layers::of_track(&published.announced.layers, &started.rids, codec);
        let spec = layers::publish_spec(&published.announced, &layers, &started.rids, nack);
        let told = TrackStarted {
            track_id: started.track.to_string(),
            mid: started.mid,
            mime_type: started.format.mime_type().to_owned(),
            layers: layers.clone(),
        };
        published.started = Some((told.clone(), layers));
        let generation = self.tracks.next_generation();
        let entry = TrackEntry {
            room: self.identity.room.clone(),
            session: self.identity.session.clone(),
            format: started.format,
            origin: Origin {
                shard: self.identity.shard.into(),
                generation,
            },
        };
        let session = self.identity.key;
        self.command(Command::Publish {
            session,
            track: started.track.clone(),
            generation,
            spec,
        });
        self.tracks.insert(started.track, entry);
        self.tell(Told::TrackStarted(told));
    }

    /// A track ended; `told` if signaling does not know.
    fn end_track(&mut self, track: &TrackId, told: bool) {
        let Some(published) = self.published.remove(track) else {
            return;
        };
        if published.started.is_none() {
            return;
        }
        self.tracks.remove(track, &self.identity.session);
        let session = self.identity.key;
        self.command(Command::Unpublish {
            session,
            track: track.clone(),
        });
        if told {
            let track_id = track.to_string();
            self.tell(Told::TrackEnded(contract::TrackEnded { track_id }));
        }
    }

    fn command(&mut self, command: Command) {
        self.effects.push(Effect::Shard(command));
    }

    fn tell(&mut self, event: Told) {
        self.answer(0, event);
    }

    fn answer(&mut self, request_id: u64, event: Told) {
        self.effects.push(Effect::Tell(SessionEvent {
            request_id,
            event: Some(event),
        }));
    }

    fn refuse(&mut self, request_id: u64, refusal: Refusal) {
        let refused = Refused {
            code: refusal.code.into(),
            message: refusal.message,
        };
        self.answer(request_id, Told::Refused(refused));
    }
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }
}

fn data_rights(rights: Option<contract::DataRights>) -> DataRights {
    let rights = rights.unwrap_or_default();
    DataRights {
        send: rights.send,
        receive: rights.receive,
    }
}

fn media_kind(kind: contract::MediaKind) -> Option<MediaKind> {
    match kind {
        contract::MediaKind::Audio => Some(MediaKind::Audio),
        contract::MediaKind::Video => Some(MediaKind::Video),
        contract::MediaKind::Unspecified => None,
    }
}

#[cfg(test)]
mod tests;
