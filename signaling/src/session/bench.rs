//! The session under test and the world around it.
//!
//! The node checks every request against the contract; a violation fails the test. Records that the
//! session writes come back through the room, as they do from the store.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg_attr(
    not(test),
    allow(dead_code, reason = "fuzzers need less of it than tests")
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, IceServer, ParticipantUpdate, Room, SessionDescription, TrackType,
    client_info,
};
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::{ConnectionRole, SessionEvent, SessionRequest};
use pipemesh_topology::store;
use prost::Message as _;

use super::*;
use crate::livekit::join::Resume;
use crate::rooms::record::Member;

pub(super) const ME: &str = "me";

/// The room as the store would have it.
pub(super) struct World {
    pub(super) state: RoomState,
    versions: u64,
}

impl World {
    fn new(home: &str) -> Self {
        let snapshot = store::RoomSnapshot {
            room: stored_room(home),
            sequence: 1,
            members: Vec::new(),
        };
        let state = RoomState::new(&"standup".parse().unwrap(), snapshot);
        Self { state, versions: 0 }
    }

    pub(super) fn apply(&mut self, change: store::Change) {
        let event = store::RoomEvent {
            room: self.state.id.clone(),
            sequence: self.state.sequence + 1,
            change,
        };
        assert!(self.state.apply(&event, |_| false), "{event:?}");
    }

    pub(super) fn put(&mut self, identity: &str, record: &MemberRecord) {
        self.versions += 1;
        self.apply(store::Change::MemberPut(store::Member {
            identity: identity.parse().unwrap(),
            version: self.versions,
            body: record.encode_to_vec().into(),
        }));
    }

    pub(super) fn remove(&mut self, identity: &str) {
        self.apply(store::Change::MemberRemoved(identity.parse().unwrap()));
    }

    pub(super) fn member(&self, identity: &str) -> Option<&Member> {
        let identity: Identity = identity.parse().unwrap();
        self.state.members.get(&identity).map(|member| &**member)
    }
}

pub(super) fn stored_room(home: &str) -> store::Room {
    let info = Room {
        sid: "RM_1".to_owned(),
        name: "standup".to_owned(),
        ..Default::default()
    };
    store::Room {
        id: "RM_1".parse().unwrap(),
        homes: home.parse().unwrap(),
        version: 1,
        body: info.encode_to_vec().into(),
    }
}

/// Somebody's record: `PA_<identity>`, on node-a, publishing these tracks.
pub(super) fn record(identity: &str, version: u32, tracks: &[&str]) -> MemberRecord {
    let track = |sid: &&str| livekit_protocol::TrackInfo {
        sid: (*sid).to_owned(),
        r#type: TrackType::Video.into(),
        ..Default::default()
    };
    MemberRecord {
        info: Some(ParticipantInfo {
            sid: format!("PA_{identity}"),
            identity: identity.to_owned(),
            version,
            state: State::Active.into(),
            tracks: tracks.iter().map(track).collect(),
            is_publisher: !tracks.is_empty(),
            ..Default::default()
        }),
        session: format!("s-{identity}"),
        node: "node-a".to_owned(),
        presence: Presence::Here.into(),
        permission: None,
        process: String::new(),
        joined: false,
        holding: 1,
    }
}

/// A node that checks what it is asked.
#[derive(Default)]
pub(super) struct Node {
    id: String,
    layout: ConnectionLayout,
    last_id: u64,
    opened: bool,
    closed: bool,
    pub(super) tracks: BTreeSet<String>,
    pub(super) subscribed: BTreeMap<String, contract::LayerWish>,
    /// Where tracks of other nodes are published, of those that are subscribed to.
    pub(super) origins: BTreeMap<String, contract::Origin>,
    last_offer: u32,
    /// Requests that are not answered yet.
    pub(super) unanswered: Vec<SessionRequest>,
    /// Everything it was asked, by name.
    pub(super) asked: Vec<String>,
    /// … but where to listen to the room, each time.
    hears: Vec<String>,
}

impl Node {
    fn check(&mut self, request: &SessionRequest, world: &World) {
        assert!(request.request_id > self.last_id, "numbers grow");
        assert!(!self.closed, "nothing is asked after a close: {request:?}");
        self.last_id = request.request_id;
        let request_kind = request.request.as_ref().unwrap();
        assert_eq!(
            matches!(request_kind, Request::Open(_)),
            !self.opened,
            "opened once, first"
        );
        let name = match request_kind {
            Request::Open(open) => {
                self.opened = true;
                self.layout = open.layout();
                "open".to_owned()
            }
            Request::Attach(_) => panic!("the driver attaches"),
            Request::Offer(_) => "offer".to_owned(),
            Request::Answer(answer) => {
                assert_eq!(self.layout, ConnectionLayout::Dual);
                assert!(
                    (1..=self.last_offer).contains(&answer.offer_id),
                    "there was such an offer"
                );
                "answer".to_owned()
            }
            Request::Trickle(trickle) => {
                let subscriber = trickle.connection() == ConnectionRole::Subscriber;
                assert!(!subscriber || self.layout == ConnectionLayout::Dual);
                "trickle".to_owned()
            }
            Request::AddTrack(add) => {
                assert!(add.track_id.parse::<TrackId>().is_ok());
                assert!(!add.client_track_id.is_empty());
                assert_ne!(add.kind(), contract::MediaKind::Unspecified);
                assert!(self.tracks.insert(add.track_id.clone()), "announced once");
                format!("add {}", add.track_id)
            }
            Request::RemoveTrack(remove) => {
                assert!(self.tracks.remove(&remove.track_id), "it is there");
                format!("remove {}", remove.track_id)
            }
            Request::MuteTrack(mute) => {
                assert!(self.tracks.contains(&mute.track_id), "it is there");
                format!("mute {} {}", mute.track_id, mute.muted)
            }
            Request::Subscribe(subscribe) => {
                let publisher = world.state.members.values().find(|member| {
                    member
                        .info
                        .tracks
                        .iter()
                        .any(|track| track.sid == subscribe.track_id)
                });
                let publisher = publisher.expect("somebody publishes it");
                let is_elsewhere = publisher.node.as_str() != self.id;
                let origin = is_elsewhere.then(|| contract::Origin {
                    node_id: publisher.node.to_string(),
                    session_id: publisher.session.to_string(),
                });
                assert_eq!(subscribe.origin, origin, "{}", subscribe.track_id);
                assert!(
                    subscribe.msid_stream.starts_with("PA_"),
                    "clients look at it"
                );
                assert_eq!(subscribe.msid_track, subscribe.track_id);
                let wish = subscribe.wish.unwrap();
                let id = &subscribe.track_id;
                let before = self.subscribed.insert(id.clone(), wish);
                assert_ne!(before, Some(wish), "asked for what is not there");
                if before.is_some() {
                    assert_eq!(self.origins.get(id), origin.as_ref(), "ended before");
                } else if let Some(origin) = origin {
                    self.origins.insert(id.clone(), origin);
                }
                format!("subscribe {}", subscribe.track_id)
            }
            Request::Unsubscribe(unsubscribe) => {
                let was = self.forget(&unsubscribe.track_id);
                assert!(was, "subscribed to {}", unsubscribe.track_id);
                format!("unsubscribe {}", unsubscribe.track_id)
            }
            Request::RestartIce(restart) => {
                assert_eq!(self.layout, ConnectionLayout::Dual);
                assert_eq!(restart.connection(), ConnectionRole::Subscriber);
                "restart_ice".to_owned()
            }
            Request::HearNodes(hear) => {
                let nodes: BTreeSet<&String> = hear.node_ids.iter().collect();
                assert_eq!(nodes.len(), hear.node_ids.len(), "each once");
                return self.hears.push(hear.node_ids.join(" "));
            }
            Request::Close(_) => {
                self.closed = true;
                "close".to_owned()
            }
            Request::SendData(data) => format!("send {} {}", data.packet.len(), data.reliable),
            Request::Configure(configure) => {
                let data = configure.data.expect("it is about data");
                assert!(data.receive, "everybody hears");
                format!("configure {}", data.send)
            }
        };
        self.asked.push(name);
    }

    /// It has this, whoever asked for it.
    pub(super) fn has(&mut self, snapshot: &contract::Snapshot) {
        let announced = snapshot.tracks.iter();
        let announced = announced.filter_map(|track| track.announced.clone());
        self.tracks = announced.map(|announced| announced.track_id).collect();
        let subscriptions = snapshot.subscriptions.iter();
        self.subscribed = subscriptions
            .map(|subscription| (subscription.track_id.clone(), subscription.wish.unwrap()))
            .collect();
        let subscriptions = snapshot.subscriptions.iter();
        self.origins = subscriptions
            .filter_map(|it| Some((it.track_id.clone(), it.origin.clone()?)))
            .collect();
    }

    /// Whether it was subscribed to.
    fn forget(&mut self, track: &str) -> bool {
        self.origins.remove(track);
        self.subscribed.remove(track).is_some()
    }

    /// Whether it has been asked for this track and not heard so yet.
    fn has_to_answer(&self, track: &str) -> bool {
        self.unanswered.iter().any(|request| {
            matches!(&request.request, Some(Request::Subscribe(it)) if it.track_id == track)
        })
    }

    /// It made an offer that nobody heard of.
    pub(super) fn last_offer_is(&mut self, id: u32) {
        self.last_offer = id;
    }

    /// What the node itself says changes what it may be asked.
    fn note(&mut self, event: &Event) {
        match event {
            Event::OfferCreated(offer) => self.last_offer = offer.offer_id,
            Event::TrackEnded(ended) => {
                self.tracks.remove(&ended.track_id);
            }
            // Else it is said of the subscription before.
            Event::SubscriptionEnded(ended) if !self.has_to_answer(&ended.track_id) => {
                self.forget(&ended.track_id);
            }
            _ => {}
        }
    }
}

pub(super) struct Bench {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) world: World,
    pub(super) node: Node,
    /// What the client was told and the test has not looked at.
    pub(super) heard: Vec<Message>,
    pub(super) socket_closed: bool,
    pub(super) attached: bool,
    pub(super) ended: Option<End>,
    pub(super) tokens: usize,
    /// Whether records come back through the room.
    pub(super) store_works: bool,
}

#[derive(Clone)]
pub(super) struct Setup {
    /// On which they are, where the room is at home.
    pub(super) node: &'static str,
    pub(super) layout: ConnectionLayout,
    pub(super) protocol: i32,
    pub(super) rights: Rights,
    pub(super) auto_subscribe: bool,
    pub(super) adaptive_stream: bool,
    pub(super) add_tracks: Vec<AddTrackRequest>,
    pub(super) offer: Option<SessionDescription>,
    pub(super) former_tracks: BTreeMap<String, TrackId>,
    /// Who is in the room already.
    pub(super) others: Vec<(&'static str, MemberRecord)>,
    /// Who of them has left again.
    pub(super) departed: Vec<&'static str>,
    /// Between those who follow a room to another node.
    pub(super) move_interval: Duration,
    /// How many tracks have been numbered, by all processes that held the session: no id comes twice.
    pub(super) numbered: Arc<AtomicU64>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            node: "node-a",
            layout: ConnectionLayout::Single,
            protocol: 17,
            rights: Rights {
                publish: true,
                subscribe: true,
                publish_data: true,
                update_own_metadata: true,
                ..Default::default()
            },
            auto_subscribe: true,
            adaptive_stream: false,
            add_tracks: Vec::new(),
            offer: None,
            former_tracks: BTreeMap::new(),
            others: Vec::new(),
            departed: Vec::new(),
            move_interval: Duration::ZERO,
            numbered: Arc::default(),
        }
    }
}

impl Bench {
    /// A session that was asked for; the node has not answered.
    pub(super) fn opening(setup: Setup) -> Self {
        let mut world = World::new(setup.node);
        for (identity, record) in &setup.others {
            world.put(identity, record);
        }
        let mut mine = record(ME, 0, &[]);
        mine.node = setup.node.to_owned();
        mine.set_presence(Presence::Joining);
        let info = mine.info.as_mut().unwrap();
        info.set_state(State::Joining);
        info.permission = Some(setup.rights.to_permission());
        world.put(ME, &mine);
        let now = Instant::now();
        let spec = Self::spec(setup, mine, world.state.sequence);
        let mut bench = Self::of(Session::new(spec, now), now, world);
        bench.room_changed();
        bench
    }

    /// A session that another process has held until now.
    pub(super) fn taken_over(
        setup: Setup,
        mut mine: MemberRecord,
        snapshot: Option<contract::Snapshot>,
    ) -> Self {
        let mut world = World::new(setup.node);
        for (identity, record) in &setup.others {
            world.put(identity, record);
        }
        for identity in &setup.departed {
            world.remove(identity);
        }
        mine.process = "p-2".to_owned();
        mine.holding = 2;
        world.put(ME, &mine);
        let now = Instant::now();
        let mut node = Node {
            id: setup.node.to_owned(),
            layout: setup.layout,
            opened: true,
            ..Node::default()
        };
        if let Some(snapshot) = &snapshot {
            node.has(snapshot);
        }
        let session = Self::takes_over(&world, setup, mine, snapshot, now);
        let mut bench = Self::of(session, now, world);
        bench.node = node;
        bench.drain();
        bench
    }

    /// Another process takes the session over, in the middle of anything.
    pub(super) fn is_taken_over(&mut self, setup: Setup, snapshot: contract::Snapshot) {
        let mut mine = self.me().held_by("p-2", self.me().holding + 1);
        mine.set_presence(Presence::Here);
        self.world.put(ME, &mine);
        self.session = Self::takes_over(&self.world, setup, mine, Some(snapshot), self.now);
        self.attached = false;
        self.node.unanswered.clear();
        self.node.last_id = 0;
        self.drain();
    }

    fn takes_over(
        world: &World,
        setup: Setup,
        mine: MemberRecord,
        snapshot: Option<contract::Snapshot>,
        now: Instant,
    ) -> Session {
        let spec = Self::spec(setup, mine, world.state.sequence);
        let room = Arc::new(world.state.clone());
        Session::take_over(spec, &room, snapshot, now)
    }

    fn spec(setup: Setup, mine: MemberRecord, claimed_at: u64) -> Spec {
        let client = ClientInfo {
            sdk: client_info::Sdk::Js.into(),
            version: "2.23.0".to_owned(),
            protocol: setup.protocol,
            ..Default::default()
        };
        Spec {
            room_id: "RM_1".parse().unwrap(),
            identity: ME.parse().unwrap(),
            id: "PA_me".parse().unwrap(),
            session: "s-me".parse().unwrap(),
            node: setup.node.parse().unwrap(),
            region: "eu".parse().unwrap(),
            layout: setup.layout,
            client: Client::new(client, ""),
            rights: setup.rights,
            auto_subscribe: setup.auto_subscribe,
            adaptive_stream: setup.adaptive_stream,
            never_pause: false,
            loudest_microphones: 0,
            record: mine,
            claimed_at,
            claim: 1,
            former_tracks: setup.former_tracks,
            add_tracks: setup.add_tracks,
            offer: setup.offer,
            resume_grace: Duration::from_secs(15),
            move_interval: setup.move_interval,
            track_ids: Box::new(move || {
                let number = 1 + setup.numbered.fetch_add(1, Ordering::Relaxed);
                format!("TR_{number}").parse().unwrap()
            }),
            unix_ms: 1_700_000_000_000,
        }
    }

    fn of(session: Session, now: Instant, world: World) -> Self {
        let node = Node {
            id: session.node.to_string(),
            ..Node::default()
        };
        Self {
            session,
            now,
            world,
            node,
            heard: Vec::new(),
            socket_closed: false,
            attached: false,
            ended: None,
            tokens: 0,
            store_works: true,
        }
    }

    /// A session whose client has its socket and was told everything.
    pub(super) fn joined(setup: Setup) -> Self {
        let mut bench = Self::opening(setup);
        bench.opened();
        bench.attach(None);
        bench.heard.clear();
        bench.node.asked.clear();
        bench
    }

    /// A joined session with media.
    pub(super) fn connected(setup: Setup) -> Self {
        let mut bench = Self::joined(setup);
        let connection = match bench.session.layout {
            ConnectionLayout::Dual => ConnectionRole::Subscriber,
            _ => ConnectionRole::Publisher,
        };
        bench.connection(connection, contract::ConnectionState::Connected);
        bench.heard.clear();
        bench
    }

    pub(super) fn opened(&mut self) {
        let opened = contract::Opened {
            node_id: "node-a".to_owned(),
            region: "eu".to_owned(),
            boot_id: 1,
        };
        self.answer(Event::Opened(opened));
    }

    pub(super) fn attach(&mut self, resume: Option<Resume>) {
        let ice_servers = vec![IceServer {
            urls: vec!["stun:stun.example.org".to_owned()],
            ..Default::default()
        }];
        self.attached = true;
        self.socket_closed = false;
        self.session.handle_attach(
            Attach {
                resume,
                ice_servers,
            },
            self.now,
        );
        self.drain();
    }

    pub(super) fn detach(&mut self) {
        self.attached = false;
        self.session.handle_detach(self.now);
        self.drain();
    }

    /// The client says something.
    pub(super) fn says(&mut self, message: FromClient) {
        self.session.handle_client(message, self.now);
        self.drain();
    }

    /// The node says something of its own accord.
    pub(super) fn event(&mut self, event: Event) {
        self.node.note(&event);
        let event = SessionEvent {
            request_id: 0,
            event: Some(event),
        };
        self.session.handle_node(event, self.now);
        self.drain();
    }

    /// The node answers the oldest request.
    pub(super) fn answer(&mut self, event: Event) {
        let request = self.node.unanswered.remove(0);
        if let (Event::Refused(_), Some(refused)) = (&event, &request.request) {
            match refused {
                Request::AddTrack(add) => {
                    self.node.tracks.remove(&add.track_id);
                }
                Request::Subscribe(it) if !self.node.has_to_answer(&it.track_id) => {
                    self.node.forget(&it.track_id);
                }
                _ => {}
            }
        }
        let event = SessionEvent {
            request_id: request.request_id,
            event: Some(event),
        };
        self.session.handle_node(event, self.now);
        self.drain();
    }

    /// The node carries out everything it was asked.
    pub(super) fn all_done(&mut self) {
        while !self.node.unanswered.is_empty() {
            self.answer(Event::Done(contract::Done {}));
        }
    }

    pub(super) fn connection(&mut self, role: ConnectionRole, state: contract::ConnectionState) {
        self.event(Event::ConnectionChanged(contract::ConnectionChanged {
            connection: role.into(),
            state: state.into(),
        }));
    }

    pub(super) fn started(&mut self, track: &str) {
        self.event(Event::TrackStarted(contract::TrackStarted {
            track_id: track.to_owned(),
            mid: "0".to_owned(),
            mime_type: "video/VP8".to_owned(),
            layers: Vec::new(),
        }));
    }

    /// Somebody else's record changes.
    pub(super) fn puts(&mut self, identity: &str, record: &MemberRecord) {
        self.world.put(identity, record);
        self.room_changed();
    }

    pub(super) fn leaves(&mut self, identity: &str) {
        self.world.remove(identity);
        self.room_changed();
    }

    pub(super) fn room_changed(&mut self) {
        let room = Arc::new(self.world.state.clone());
        self.session.handle_room(Some(&room), self.now);
        self.drain();
    }

    /// Lets time pass, stopping whenever the session wants to be woken.
    pub(super) fn passes(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.session.poll_timeout(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
            let again = self.session.poll_timeout(self.now);
            assert!(
                again.is_none_or(|again| again > self.now),
                "what is due is done"
            );
        }
        self.now = end;
        self.session.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(self.ended.is_none(), "nothing follows the end: {output:?}");
            match output {
                Output::Node(request) => {
                    self.node.check(&request, &self.world);
                    // Nothing follows from the answer.
                    if !matches!(request.request, Some(Request::HearNodes(_))) {
                        self.node.unanswered.push(*request);
                    }
                }
                Output::Client(message) => {
                    assert!(self.attached, "there is a socket for {message:?}");
                    self.heard.push(*message);
                }
                Output::CloseSocket(_) => self.socket_closed = true,
                Output::Record(record) => {
                    if self.store_works {
                        self.world.put(ME, &record);
                        let room = Arc::new(self.world.state.clone());
                        self.session.handle_room(Some(&room), self.now);
                    }
                }
                Output::RefreshToken(_) => self.tokens += 1,
                Output::Ended(end) => self.ended = Some(end),
            }
        }
    }

    pub(super) fn me(&self) -> &Member {
        self.world.member(ME).expect("it is in the room")
    }

    /// The messages since the last look, by name.
    pub(super) fn heard_names(&mut self) -> Vec<&'static str> {
        let names = self
            .heard
            .iter()
            .map(crate::livekit::message::response_name);
        let names = names.collect();
        self.heard.clear();
        names
    }

    pub(super) fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.node.asked)
    }

    /// Where the node was told to listen to the room, since the last look.
    pub(super) fn hears(&mut self) -> Vec<String> {
        std::mem::take(&mut self.node.hears)
    }

    /// The updates since the last look: identity, sid and whether it is there.
    pub(super) fn updates(&mut self) -> Vec<Vec<(String, bool)>> {
        let updates = self.heard.drain(..).filter_map(|message| match message {
            Message::Update(update) => Some(shown(&update)),
            _ => None,
        });
        updates.collect()
    }
}

pub(super) fn shown(update: &ParticipantUpdate) -> Vec<(String, bool)> {
    let there = |info: &ParticipantInfo| info.state() != State::Disconnected;
    update
        .participants
        .iter()
        .map(|info| (info.sid.clone(), there(info)))
        .collect()
}

pub(super) fn add_track(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.to_owned(),
        r#type: TrackType::Video.into(),
        source: livekit_protocol::TrackSource::Camera.into(),
        ..Default::default()
    }
}

pub(super) fn offer(id: u32) -> SessionDescription {
    SessionDescription {
        r#type: "offer".to_owned(),
        sdp: format!("offer {id}"),
        id,
        ..Default::default()
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
