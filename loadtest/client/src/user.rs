//! One simulated participant behind its sockets: what it negotiates, publishes, receives and says.
//!
//! Pure: datagrams, signaling messages, wishes and time in; datagrams, signaling messages and
//! received data out. Knows no sockets, no tasks and no clock of its own.

mod data;
mod negotiation;
mod publish;
mod remote;
mod snapshot;

use std::collections::{BTreeMap, VecDeque};
#[cfg(any(test, feature = "fuzzing"))]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{JoinResponse, LeaveRequest};
#[cfg(any(test, feature = "fuzzing"))]
use pipemesh_node_media::srtp::MasterKeys;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use self::data::{Message, Outgoing as DataMessage};
use self::negotiation::Negotiation;
use self::publish::Published;
pub use self::remote::{LayerWish, Person, Place, RemoteTrack};
use super::connection::{Connection, ReceiveMode};
use super::media::Media;
use super::outbox::Outbox;
use super::stats::{Data as DataStats, JoinTimes, Track, latencies};
use super::transport::data::Opener;
use super::transport::dtls::Identity;
use super::transport::{self, Transport};

/// Tracks that ended and are still reported.
const MAX_FINISHED: usize = 256;

/// How the participant talks to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One connection for everything, `/rtc/v1`.
    Single,
    /// One to publish, one to subscribe, `/rtc`.
    Dual,
}

/// What carries media.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Udp,
    /// As behind a firewall that blocks UDP: connects to the server's passive candidates (RFC 6544).
    Tcp,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) layout: Layout,
    pub(super) protocol: Protocol,
    pub(super) data: bool,
    pub(super) dynacast: bool,
    pub(super) mode: ReceiveMode,
    /// Of addresses it can reach.
    pub(super) ipv4: bool,
    pub(super) seed: u64,
}

/// What the participant is told to do.
#[derive(Debug)]
pub(super) enum Wish {
    Publish {
        name: String,
        media: Media,
    },
    Mute {
        name: String,
        muted: bool,
    },
    Subscribe {
        sid: String,
        wanted: bool,
    },
    Layer {
        sid: String,
        wish: LayerWish,
    },
    Send(DataMessage),
    /// The signaling connection was replaced: restart ICE.
    Resume,
    Leave,
}

pub(super) struct User {
    setup: Setup,
    rng: StdRng,
    began: Instant,
    room: String,
    identity: String,
    /// Of publishing, then of subscribing; one for both in the single layout.
    connections: Vec<Connection>,
    negotiation: Negotiation,
    published: Vec<Published>,
    remote: BTreeMap<String, RemoteTrack>,
    place: Place,
    /// By identity.
    others: BTreeMap<String, Person>,
    finished: Vec<Track>,
    outbox: Outbox,
    signals: VecDeque<Request>,
    messages: VecDeque<Message>,
    data: DataStats,
    times: JoinTimes,
    /// Of connections that are connected and secured, by place.
    secured: Vec<bool>,
    failures: u64,
    failure: Option<String>,
    reconnects: u64,
    /// How often ICE found a way, restarts included.
    connects: u64,
    left: Option<Action>,
}

impl User {
    pub(super) fn new(
        setup: Setup,
        identity: &Arc<Identity>,
        began: Instant,
        now: Instant,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let openers: &[Opener] = match setup.layout {
            Layout::Single => &[Opener::Client],
            Layout::Dual => &[Opener::Client, Opener::Server],
        };
        let mut connections = Vec::new();
        for (socket, opener) in openers.iter().enumerate() {
            let seed = StdRng::seed_from_u64(rng.random());
            let transport = Transport::new(Arc::clone(identity), *opener, seed, now);
            connections.push(Connection::new(
                transport, socket, setup.mode, &mut rng, began,
            ));
        }
        Self {
            setup,
            rng,
            began,
            room: String::new(),
            identity: String::new(),
            secured: vec![false; connections.len()],
            connections,
            negotiation: Negotiation::new(identity.fingerprint()),
            published: Vec::new(),
            remote: BTreeMap::new(),
            place: Place::default(),
            others: BTreeMap::new(),
            finished: Vec::new(),
            outbox: Outbox::default(),
            signals: VecDeque::new(),
            messages: VecDeque::new(),
            data: DataStats {
                sent: 0,
                refused: 0,
                received: 0,
                bytes: 0,
                latency: latencies(),
            },
            times: JoinTimes::default(),
            failures: 0,
            failure: None,
            reconnects: 0,
            connects: 0,
            left: None,
        }
    }

    /// Sockets it needs: one for each connection, since servers tell connections apart by address.
    pub(super) fn sockets(layout: Layout) -> usize {
        match layout {
            Layout::Single => 1,
            Layout::Dual => 2,
        }
    }

    /// As after a handshake with `peer` that led to these keys.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn secure(
        &mut self,
        socket: usize,
        keys: &MasterKeys,
        peer: SocketAddr,
        now: Instant,
    ) {
        self.connections[socket].transport.secure(keys, peer, now);
    }

    pub(super) fn handle_datagram(&mut self, socket: usize, datagram: &mut [u8], now: Instant) {
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.handle_datagram(datagram, &mut self.outbox, now);
            self.settle(now);
        }
    }

    /// A TCP connection is over: if there is to be another, it begins with a check.
    pub(super) fn handle_way_lost(&mut self, socket: usize, now: Instant) {
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.transport.handle_way_lost(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.connections
            .iter()
            .filter_map(Connection::poll_timeout)
            .min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for connection in &mut self.connections {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(&mut self.outbox, now);
            }
        }
        self.settle(now);
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// What to say to the server.
    pub(super) fn poll_signal(&mut self) -> Option<Request> {
        self.signals.pop_front()
    }

    pub(super) fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    pub(super) fn handle_signal(&mut self, message: Response, now: Instant) {
        match message {
            Response::Join(join) => self.handle_join(join, now),
            Response::Answer(answer) => self.handle_answer(&answer, now),
            Response::Offer(offer) => self.handle_offer(&offer, now),
            Response::Trickle(trickle) => self.handle_trickle(&trickle, now),
            Response::Update(update) => self.handle_update(update.participants),
            Response::TrackPublished(published) => self.handle_published(published, now),
            Response::SubscribedQualityUpdate(update) => self.handle_demand(&update, now),
            Response::StreamStateUpdate(update) => self.handle_stream_states(&update),
            Response::MediaSectionsRequirement(needed) => {
                let (audio, video) = (needed.num_audios, needed.num_videos);
                self.negotiation.add_receiving(audio, video);
                self.offer();
            }
            Response::Leave(leave) => self.left = Some(leave.action()),
            _ => {}
        }
        self.settle(now);
    }

    /// The signaling connection broke. Media goes on until the participant resumes or leaves.
    pub(super) fn handle_signal_lost(&mut self, why: String) {
        if self.left.is_none() {
            self.failures += 1;
            self.failure = Some(why);
        }
    }

    pub(super) fn handle_wish(&mut self, wish: Wish, now: Instant) {
        match wish {
            Wish::Publish { name, media } => self.publish(&name, media),
            Wish::Mute { name, muted } => self.mute(&name, muted, now),
            Wish::Subscribe { sid, wanted } => self.subscribe(&sid, wanted),
            Wish::Layer { sid, wish } => self.wish_layer(&sid, wish),
            Wish::Send(message) => self.send(message, now),
            Wish::Resume => self.resume(),
            Wish::Leave => {
                self.signals
                    .push_back(Request::Leave(LeaveRequest::default()));
                for connection in &mut self.connections {
                    connection.transport.close(now);
                    connection.flush(&mut self.outbox);
                }
            }
        }
        self.settle(now);
    }

    fn handle_join(&mut self, join: JoinResponse, now: Instant) {
        self.times.signal = Some(self.since_began(now));
        self.room = join.room.unwrap_or_default().name;
        let me = join.participant.unwrap_or_default();
        self.place = Place::of(&me);
        self.identity = me.identity;
        self.handle_update(join.other_participants);
        self.negotiation.begin(self.setup.layout, self.setup.data);
        self.offer();
    }

    fn resume(&mut self) {
        self.reconnects += 1;
        self.left = None;
        self.signals
            .push_back(Request::SyncState(self.sync_state()));
        self.connections[0].transport.restart_ice();
        self.negotiation.forget_outstanding();
        self.offer();
    }

    fn since_began(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Takes what the connections have to tell.
    fn settle(&mut self, now: Instant) {
        for place in 0..self.connections.len() {
            while let Some(event) = self.connections[place].transport.poll_event() {
                self.handle_event(place, event, now);
            }
            self.connections[place].flush(&mut self.outbox);
        }
    }

    fn handle_event(&mut self, place: usize, event: transport::Event, now: Instant) {
        let since = self.since_began(now);
        match event {
            transport::Event::Connected => {
                self.connects += 1;
                if !self.secured[place] {
                    self.times.ice = self.times.ice.max(Some(since));
                }
            }
            transport::Event::Secured(_) => {
                self.secured[place] = true;
                self.times.dtls = self.times.dtls.max(Some(since));
            }
            transport::Event::Data(received) => self.handle_data(&received, now),
            transport::Event::Failed(why) => {
                self.failures += 1;
                self.failure = Some(why.to_owned());
            }
        }
    }

    /// The connection that media comes over.
    fn downlink(&mut self) -> &mut Connection {
        self.connections
            .last_mut()
            .expect("there is one connection at least")
    }
}
