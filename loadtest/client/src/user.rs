//! One simulated participant behind its sockets: what it negotiates, publishes, receives and says.
//!
//! Pure: datagrams, signaling messages, wishes and time in; datagrams, signaling messages and
//! received data out. Knows no sockets, no tasks and no clock of its own.

mod change;
mod data;
mod negotiation;
mod publish;
mod rejoin;
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
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{JoinResponse, LeaveRequest, SimulateScenario};
#[cfg(any(test, feature = "fuzzing"))]
use pipemesh_node_media::srtp::MasterKeys;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use self::change::Description;
use self::data::numbers::{Arrivals, Sending};
pub use self::data::{Message, Outgoing as DataMessage};
use self::negotiation::Negotiation;
use self::publish::Published;
pub(super) use self::rejoin::Notice;
pub use self::remote::{LayerWish, Person, Place, RemoteTrack};
use super::connection::{Connection, ReceiveMode};
use super::media::Media;
use super::media::receiver::Receiver;
use super::outbox::Outbox;
use super::stats::{Data as DataStats, Forgotten, JoinTimes, Track, latencies};
use super::transport::data::{Opener, Reliability};
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
    Unpublish {
        name: String,
    },
    Mute {
        name: String,
        muted: bool,
    },
    /// Of a track that is published, only these are sent.
    Layers {
        name: String,
        rids: Vec<String>,
    },
    /// Under a number by which the answer is found.
    Describe(u32, Description),
    KeyFrame {
        sid: String,
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
    /// For the server to act as if.
    Simulate(Scenario),
    Leave,
}

pub(super) struct User {
    setup: Setup,
    rng: StdRng,
    began: Instant,
    certificate: Arc<Identity>,
    room: String,
    identity: String,
    sid: String,
    /// Of publishing, then of subscribing; one for both in the single layout.
    connections: Vec<Connection>,
    negotiation: Negotiation,
    published: Vec<Published>,
    remote: BTreeMap<String, RemoteTrack>,
    /// What was wished of tracks that nobody publishes since the participant joined anew.
    absent: BTreeMap<String, (u64, RemoteTrack)>,
    /// Tracks that were missed so far: each of those above has its number.
    misses: u64,
    /// Of tracks that were received before, and have not come again.
    lost: BTreeMap<String, Receiver>,
    place: Place,
    /// By identity.
    others: BTreeMap<String, Arc<Person>>,
    finished: Vec<Track>,
    forgotten: Forgotten,
    outbox: Outbox,
    signals: VecDeque<Request>,
    messages: VecDeque<Message>,
    data: DataStats,
    numbering: Sending,
    numbered: Arrivals,
    /// What the server said to requests, by their numbers; none where it agreed.
    answers: BTreeMap<u32, Option<String>>,
    /// As others see it.
    me: Person,
    /// When signaling told what is read just now; none if it tells how things stand.
    told_at: Option<Instant>,
    times: JoinTimes,
    /// Of connections that are connected and secured, by place.
    secured: Vec<bool>,
    failures: u64,
    failure: Option<String>,
    reconnects: u64,
    rejoins: u64,
    /// It has not heard from the server since.
    rejoining: bool,
    /// ICE has, and no check was answered yet.
    restarting: bool,
    /// Somebody is to be told when media and data flow.
    awaited: bool,
    notices: VecDeque<Notice>,
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
        let connections = connections(&setup, identity, &mut rng, began, now);
        Self {
            setup,
            rng,
            began,
            certificate: Arc::clone(identity),
            room: String::new(),
            identity: String::new(),
            sid: String::new(),
            secured: vec![false; connections.len()],
            connections,
            negotiation: Negotiation::new(identity.fingerprint()),
            published: Vec::new(),
            remote: BTreeMap::new(),
            absent: BTreeMap::new(),
            misses: 0,
            lost: BTreeMap::new(),
            place: Place::default(),
            others: BTreeMap::new(),
            finished: Vec::new(),
            forgotten: Forgotten::default(),
            outbox: Outbox::default(),
            signals: VecDeque::new(),
            messages: VecDeque::new(),
            data: DataStats {
                sent: 0,
                refused: 0,
                received: 0,
                bytes: 0,
                expected: 0,
                missing: 0,
                latency: latencies(),
            },
            numbering: Sending::default(),
            numbered: Arrivals::default(),
            answers: BTreeMap::new(),
            me: Person::default(),
            told_at: None,
            times: JoinTimes::default(),
            failures: 0,
            failure: None,
            reconnects: 0,
            rejoins: 0,
            rejoining: false,
            restarting: false,
            awaited: true,
            notices: VecDeque::new(),
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

    /// Answers whether there is more to it than a packet that was counted. If there is not, nothing but
    /// [`Self::next_loss`] can have become due sooner.
    pub(super) fn handle_datagram(
        &mut self,
        socket: usize,
        datagram: &mut [u8],
        now: Instant,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(socket) else {
            return false;
        };
        let is_more = connection.handle_datagram(datagram, &mut self.outbox, now);
        if is_more {
            self.settle(now);
        }
        is_more
    }

    pub(super) fn next_loss(&self, socket: usize) -> Option<Instant> {
        self.connections.get(socket)?.next_loss()
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
            Response::Update(update) => {
                self.told_at = Some(now);
                self.handle_update(update.participants);
                self.told_at = None;
            }
            Response::RequestResponse(response) => self.handle_answered(&response),
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
            Wish::Unpublish { name } => self.unpublish(&name),
            Wish::Layers { name, rids } => self.set_layers(&name, &rids, now),
            Wish::Describe(number, description) => self.describe(number, description),
            Wish::KeyFrame { sid } => self.request_key_frame(&sid),
            Wish::Mute { name, muted } => self.mute(&name, muted, now),
            Wish::Subscribe { sid, wanted } => self.subscribe(&sid, wanted),
            Wish::Layer { sid, wish } => self.wish_layer(&sid, wish),
            Wish::Send(message) => self.send(message, now),
            Wish::Resume => self.resume(),
            Wish::Simulate(scenario) => {
                let scenario = Some(scenario);
                let simulate = SimulateScenario { scenario };
                self.signals.push_back(Request::Simulate(simulate));
            }
            Wish::Leave => {
                self.signals
                    .push_back(Request::Leave(LeaveRequest::default()));
                self.close(now);
            }
        }
        // Nobody is there to hear it. What is wished is remembered, and said when somebody is.
        if self.rejoining {
            self.signals.clear();
        }
        self.settle(now);
    }

    fn handle_join(&mut self, join: JoinResponse, now: Instant) {
        let again = std::mem::take(&mut self.rejoining);
        let since = self.since_began(now);
        self.times.signal.get_or_insert(since);
        self.room = join.room.unwrap_or_default().name;
        let me = join.participant.unwrap_or_default();
        self.place = Place::of(&me);
        self.me = Person::of(&me);
        (self.identity, self.sid) = (me.identity, me.sid);
        if again {
            self.forget_others(&join.other_participants);
        }
        self.handle_update(join.other_participants);
        self.negotiation.begin(self.setup.layout, self.setup.data);
        if again {
            self.publish_again();
        }
        self.offer();
        if again {
            self.wish_all_again();
        }
    }

    fn resume(&mut self) {
        self.reconnects += 1;
        self.left = None;
        (self.awaited, self.restarting) = (true, true);
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
        self.note_flow();
    }

    fn is_connected(&self) -> bool {
        self.secured.iter().all(|secured| *secured)
    }

    /// It is what was asked for.
    fn is_data_open(&self) -> bool {
        let open = |connection: &Connection| {
            [Reliability::Reliable, Reliability::Lossy]
                .into_iter()
                .all(|how| connection.transport.is_data_open(how))
        };
        !self.setup.data || self.connections.iter().all(open)
    }

    fn handle_event(&mut self, place: usize, event: transport::Event, now: Instant) {
        let since = self.since_began(now);
        match event {
            transport::Event::Connected => {
                self.connects += 1;
                self.restarting &= place > 0;
                if !self.secured[place] && self.rejoins == 0 {
                    self.times.ice = self.times.ice.max(Some(since));
                }
            }
            transport::Event::Secured(_) => {
                self.secured[place] = true;
                self.connections[place].begin_reports(now);
                if self.rejoins == 0 {
                    self.times.dtls = self.times.dtls.max(Some(since));
                }
            }
            transport::Event::Data(received) => self.handle_data(&received, now),
            transport::Event::Failed(why) => {
                self.failures += 1;
                self.failure = Some(why.to_owned());
                self.notices.push_back(Notice::Broken(why));
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

/// Of publishing, then of subscribing.
fn connections(
    setup: &Setup,
    certificate: &Arc<Identity>,
    rng: &mut StdRng,
    began: Instant,
    now: Instant,
) -> Vec<Connection> {
    let openers: &[Opener] = match setup.layout {
        Layout::Single => &[Opener::Client],
        Layout::Dual => &[Opener::Client, Opener::Server],
    };
    let mut connections = Vec::new();
    for (socket, opener) in openers.iter().enumerate() {
        let seed = StdRng::seed_from_u64(rng.random());
        let transport = Transport::new(Arc::clone(certificate), *opener, seed, now);
        connections.push(Connection::new(transport, socket, setup.mode, rng, began));
    }
    connections
}
