//! One participant's session: a state machine without I/O, clock or randomness of its own.
//!
//! A client's message, a node's event, the room's state or a moment goes in; what to say to the
//! client, ask of the node and write to the store comes out. The session outlives its client's
//! sockets: while none is attached it goes on, for a while. After any input, drain
//! [`Session::poll_output`] until `None`, and call [`Session::handle_timeout`] no later than
//! [`Session::poll_timeout`].

mod attach;
#[cfg(any(test, feature = "fuzzing"))]
mod bench;
pub(crate) mod client;
pub(crate) mod driver;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hearing;
mod link;
mod node;
mod orders;
mod outbox;
mod publications;
pub(crate) mod socket;
mod spec;
mod subscriptions;
mod takeover;
mod updates;

use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, ParticipantInfo};
use pipemesh_proto::ids::{NodeId, ParticipantId, Region, RoomId, TrackId};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{self as contract, CloseReason, ConnectionLayout, DataRights};
use pipemesh_topology::Identity;

use crate::auth::Rights;
use crate::livekit::client::Client;
use crate::livekit::message;
use crate::rooms::record::{MemberRecord, Presence};
use crate::rooms::{Changes, RoomState};
use hearing::Hearing;
use link::{Asked, Link};
use outbox::Outbox;
use publications::Publications;
pub(crate) use spec::{Attach, End, Farewell, Fate, Output, SocketClose, Spec};
use subscriptions::{Receiver, Subscriptions};
use updates::Updates;

/// What clients are told: how often they ping, and after how long without an answer they give up.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that was let in has to come with its socket within this.
const FIRST_SOCKET: Duration = Duration::from_secs(10);

/// A client whose media never connected and whose socket is gone gets only this to come back.
const GRACE_BEFORE_MEDIA: Duration = Duration::from_secs(5);

/// How long a client may be in a room without media. LiveKit's value.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// How long a client whose media broke may try to restore it before it is removed.
const MEDIA_GRACE: Duration = Duration::from_secs(15);

/// How long somebody who was told to join anew stays visible to others.
const REJOIN_GRACE: Duration = Duration::from_secs(5);

/// How long somebody who was told to move may take to go. SDKs wait up to half a second before they do.
const MOVE_LIMIT: Duration = Duration::from_secs(3);

/// Time between two fresh tokens.
const TOKEN_INTERVAL: Duration = Duration::from_secs(300);

/// RFC 6455 section 7.4.1: normal closure.
const NORMAL: u16 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The node has not answered yet.
    Opening,
    Open,
    /// The client was told to join another node. It is served until it goes: SDKs take their time, and what
    /// is said and shown meanwhile is not lost.
    Moving,
    /// The client was told to join anew; until then others see it stay.
    Rejoining,
    /// The node says that somebody else holds the session: a process that goes on with it, or a join of the
    /// same participant. The participant's record will say which.
    Elsewhere,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Attached,
    /// None yet, or not any more. Without one by then the session ends.
    Awaited(Option<Instant>),
}

/// Moments at which something happens by itself.
#[derive(Debug, Default)]
struct Deadlines {
    /// Media has to have connected.
    connect: Option<Instant>,
    /// Media has to be back.
    media: Option<Instant>,
    rejoin: Option<Instant>,
    /// It is this participant's turn to follow the room to another node.
    follow: Option<Instant>,
    token: Option<Instant>,
    /// The end of a simulated speaker's speech.
    speech: Option<Instant>,
    /// A client that was taken over has to have said what it receives.
    sync: Option<Instant>,
}

/// Sockets to be broken, to test clients.
#[derive(Debug, Default)]
struct Simulated {
    close_after_resume: bool,
    close_before_resume: bool,
}

pub(crate) struct Session {
    room_id: RoomId,
    identity: Identity,
    id: ParticipantId,
    node: NodeId,
    region: Region,
    layout: ConnectionLayout,
    client: Client,
    rights: Rights,
    /// In dual mode the connection on which the node offers is what "connected" means to a client. As it
    /// was told when it came in, whatever it may do since.
    subscriber_primary: bool,
    resume_grace: Duration,
    move_interval: Duration,
    track_ids: Box<dyn FnMut() -> TrackId + Send>,
    /// A moment and its Unix time in milliseconds.
    clock: (Instant, i64),

    phase: Phase,
    socket: Socket,
    deadlines: Deadlines,
    link: Link,
    outbox: Outbox,
    publications: Publications,
    subscriptions: Subscriptions,
    hearing: Hearing,
    updates: Updates,
    negotiation: node::Negotiation,
    simulated: Simulated,
    /// Media connected at least once.
    connected: bool,
    record: MemberRecord,
    record_changed: bool,
    room: Option<Arc<RoomState>>,
    claimed_at: u64,
    /// What goes out behind messages and requests.
    tail: Vec<Output>,
}

impl Session {
    /// Asks the node to open the session and for everything the join brought along.
    pub(crate) fn new(mut spec: Spec, now: Instant) -> Self {
        let open = contract::Open {
            session_id: spec.session.to_string(),
            room_id: spec.room_id.to_string(),
            participant_id: spec.id.to_string(),
            identity: spec.identity.to_string(),
            layout: spec.layout.into(),
            data: Some(DataRights {
                send: spec.rights.publish_data,
                receive: true,
            }),
            grace_ms: 0,
            region: spec.region.to_string(),
            without_red: !spec.client.receives_red(),
            anonymous: spec.rights.hidden,
            never_pause: spec.never_pause,
            loudest_microphones: spec.loudest_microphones,
            claim: spec.claim,
        };
        let (add_tracks, offer) = (std::mem::take(&mut spec.add_tracks), spec.offer.take());
        let mut session = Self::idle(spec, now);
        session.link.ask(Asked::Open, Request::Open(open));
        for request in &add_tracks {
            session.handle_add_track(request);
        }
        if let Some(offer) = offer {
            session.handle_offer(offer);
        }
        session
    }

    /// Asks nothing of the node yet.
    fn idle(spec: Spec, now: Instant) -> Self {
        let receiver = Receiver {
            identity: spec.identity.clone(),
            id: spec.id.clone(),
            node: spec.node.clone(),
            may_subscribe: spec.rights.subscribe,
            exempt: spec.rights.recorder,
            auto: spec.auto_subscribe,
            adaptive: spec.adaptive_stream,
        };
        let subscriber_primary = spec.layout == ConnectionLayout::Dual
            && spec.rights.subscribe
            && spec.client.supports_subscriber_primary();
        Self {
            subscriber_primary,
            room_id: spec.room_id,
            identity: spec.identity,
            id: spec.id,
            node: spec.node,
            region: spec.region,
            layout: spec.layout,
            client: spec.client,
            rights: spec.rights,
            resume_grace: spec.resume_grace,
            move_interval: spec.move_interval,
            track_ids: spec.track_ids,
            clock: (now, spec.unix_ms),
            phase: Phase::Opening,
            socket: Socket::Awaited(None),
            deadlines: Deadlines::default(),
            link: Link::new(),
            outbox: Outbox::new(),
            publications: Publications::new(spec.former_tracks),
            subscriptions: Subscriptions::new(receiver),
            hearing: Hearing::default(),
            updates: Updates::default(),
            negotiation: node::Negotiation::default(),
            simulated: Simulated::default(),
            connected: false,
            record: spec.record,
            record_changed: false,
            room: None,
            claimed_at: spec.claimed_at,
            tail: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &ParticipantId {
        &self.id
    }

    /// Whether the session takes nothing more from its client until the node has answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.link.is_busy()
    }

    /// Whether the node has answered and the session can take a socket.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the node serves the client, as far as is known.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Moving)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// What a socket is told that comes after the end.
    pub(crate) fn farewell(&self, farewell: Farewell) -> Message {
        message::farewell(&self.client, farewell)
    }

    /// The room as it is now; `None`: it has ended.
    pub(crate) fn handle_room(&mut self, room: Option<&Arc<RoomState>>, now: Instant) {
        if self.phase == Phase::Ended {
            return;
        }
        let room = match room {
            Some(room) if room.id == self.room_id && room.sequence < self.claimed_at => return,
            Some(room) if room.id == self.room_id => Arc::clone(room),
            Some(_) => return self.displace(),
            None => return self.expel(DisconnectReason::RoomDeleted, CloseReason::RoomEnded),
        };
        match room.members.get(&self.identity) {
            None => return self.expel(DisconnectReason::ParticipantRemoved, CloseReason::Removed),
            Some(member) if member.session.as_str() != self.record.session => {
                return self.expel(DisconnectReason::DuplicateIdentity, CloseReason::Replaced);
            }
            Some(member) if member.holding != self.record.holding => {
                return self.handle_taken_over();
            }
            // The store has lost it.
            Some(_) => self.record_changed |= room.lacks(&self.identity),
        }
        let seen = self.room.as_ref().map(|seen| seen.revision);
        let changed = match seen.map_or(Changes::Any, |seen| room.changes_since(seen)) {
            Changes::Of(changed) => changed,
            Changes::Any => {
                let known = self.updates.known().chain(room.members.keys());
                known.cloned().collect()
            }
        };
        for identity in changed
            .iter()
            .filter(|identity| **identity != self.identity)
        {
            let member = room.members.get(identity).map(|member| &**member);
            self.subscriptions
                .handle_member(identity, member, &mut self.link, &mut self.outbox);
            if self.outbox.is_attached() {
                self.updates.mark(identity);
            }
        }
        if self.outbox.is_attached()
            && let Some(message) = self.updates.handle_room(&room.info(), now)
        {
            self.outbox.say(message);
        }
        self.room = Some(room);
        self.tell(now);
        self.follow_home(now);
        if let Some(room) = &self.room {
            self.hearing
                .handle_nodes(room.nodes(), &self.node, &mut self.link);
        }
    }

    /// Everybody goes where the room goes; one after the other, where those who have gone and those who
    /// have not still hear each other.
    fn follow_home(&mut self, now: Instant) {
        let Some(room) = &self.room else {
            return;
        };
        if room.homes.contains(&self.node) {
            self.deadlines.follow = None;
            return;
        }
        if self.phase != Phase::Open || !self.outbox.has_begun() {
            return;
        }
        let at = *self.deadlines.follow.get_or_insert_with(|| {
            let before = room.members.range::<Identity, _>(..&self.identity);
            let before = before.filter(|(_, member)| member.node == self.node);
            let rank = u32::try_from(before.count()).unwrap_or(u32::MAX);
            now + self.move_interval.saturating_mul(rank)
        });
        if at <= now {
            self.say_leave(DisconnectReason::Migration, Action::Reconnect);
            self.phase = Phase::Moving;
            // From now on it has so long, whether it is there or not.
            if self.socket != Socket::Attached {
                self.socket = Socket::Awaited(None);
            }
            // Whoever joins under the same identity takes its place, and is who it was.
            self.set_presence(Presence::Away);
            self.deadlines = Deadlines {
                rejoin: Some(now + MOVE_LIMIT),
                ..Default::default()
            };
        }
    }

    /// A client that was told to move has gone.
    fn handle_gone(&mut self, now: Instant) {
        self.link.close(CloseReason::Moved);
        self.await_successor(Phase::Rejoining, now);
        self.set_presence(Presence::Rejoining);
    }

    /// This process ends: the client resumes with another one, or with this one when it is back. On the
    /// node the session lives on, and so does its media.
    pub(crate) fn handle_stop(&mut self) {
        match self.phase {
            // Its client has not come yet, and joins elsewhere.
            Phase::Open if !self.outbox.has_begun() => {
                self.end(Some(CloseReason::Left), Fate::Remove);
            }
            Phase::Open => {
                self.say_leave(DisconnectReason::ServerShutdown, Action::Resume);
                self.link.break_off();
                self.set_presence(Presence::Away);
                self.phase = Phase::Ended;
                self.tail.push(Output::Ended(End {
                    close: None,
                    record: Fate::Keep,
                }));
            }
            Phase::Opening => self.end(Some(CloseReason::Left), Fate::Remove),
            // It has been told to join anew, and is who it was when it does.
            Phase::Moving => {
                self.link.break_off();
                self.end(None, Fate::Keep);
            }
            Phase::Rejoining | Phase::Elsewhere => self.end(None, Fate::Remove),
            Phase::Ended => {}
        }
    }

    /// Another process goes on with the session, and the client is there.
    pub(crate) fn handle_taken_over(&mut self) {
        self.end(None, Fate::TakenOver);
    }

    /// The participant's record is somebody else's.
    pub(crate) fn handle_superseded(&mut self) {
        self.expel(DisconnectReason::DuplicateIdentity, CloseReason::Replaced);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.phase == Phase::Ended {
            return;
        }
        if past(self.deadlines.rejoin) {
            return match self.phase {
                Phase::Moving => self.handle_gone(now),
                _ => self.end(None, Fate::Remove),
            };
        }
        if past(self.deadlines.follow) {
            self.follow_home(now);
        }
        if let Socket::Awaited(until) = self.socket
            && past(until)
        {
            return self.end(Some(CloseReason::Left), Fate::Remove);
        }
        if past(self.deadlines.connect) && !self.connected {
            return self.give_up(DisconnectReason::JoinFailure);
        }
        if past(self.deadlines.media) {
            return self.give_up(DisconnectReason::ConnectionTimeout);
        }
        if past(self.deadlines.token) {
            self.refresh_token(now);
        }
        if past(self.deadlines.speech) {
            self.deadlines.speech = None;
            self.say_speech(false);
        }
        if past(self.deadlines.sync) {
            self.synced();
        }
        self.tell(now);
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let deadlines = &self.deadlines;
        if self.phase == Phase::Ended {
            return None;
        }
        let socket = match self.socket {
            Socket::Awaited(until) => until,
            Socket::Attached => None,
        };
        let attached = self.outbox.is_attached() && self.is_served();
        let due = attached.then(|| self.updates.due(now)).flatten();
        let token = attached.then_some(deadlines.token).flatten();
        let connect = deadlines.connect.filter(|_| !self.connected);
        [
            socket,
            due,
            token,
            connect,
            deadlines.media,
            deadlines.rejoin,
            deadlines.follow,
            deadlines.speech,
            deadlines.sync,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if let Some(request) = self.link.poll() {
            return Some(Output::Node(Box::new(request)));
        }
        if let Some(message) = self.outbox.poll() {
            return Some(Output::Client(Box::new(message)));
        }
        if std::mem::take(&mut self.record_changed) {
            return Some(Output::Record(Box::new(self.record.clone())));
        }
        if self.tail.is_empty() {
            None
        } else {
            Some(self.tail.remove(0))
        }
    }

    /// Says what is due.
    fn tell(&mut self, now: Instant) {
        let (Some(room), true, true) = (&self.room, self.is_served(), self.outbox.is_attached())
        else {
            return;
        };
        if let Some(myself) = &self.record.info {
            for message in self.updates.poll(room, myself, now) {
                self.outbox.say(message);
            }
        }
    }

    fn refresh_token(&mut self, now: Instant) {
        self.deadlines.token = Some(now + TOKEN_INTERVAL);
        self.tail
            .push(Output::RefreshToken(Box::new(self.info().clone())));
    }

    /// The client has to join anew; others see it stay for a while.
    fn rejoin(&mut self, reason: DisconnectReason, close: Option<CloseReason>, now: Instant) {
        // Who is about to move knows it already.
        if self.phase != Phase::Moving {
            self.say_leave(reason, Action::Reconnect);
        }
        match close {
            Some(reason) => self.link.close(reason),
            None => self.link.break_off(),
        }
        self.await_successor(Phase::Rejoining, now);
        self.set_presence(Presence::Rejoining);
    }

    /// The next session of this participant takes the record over, or it is removed.
    fn await_successor(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.deadlines = Deadlines {
            rejoin: Some(now + REJOIN_GRACE),
            ..Default::default()
        };
        self.socket = Socket::Awaited(None);
    }

    /// The client is sent away for good; its record is gone or somebody else's.
    fn expel(&mut self, reason: DisconnectReason, close: CloseReason) {
        // Who was told to join anew and did is not sent away: that is the new session.
        let told = reason == DisconnectReason::DuplicateIdentity && self.phase == Phase::Moving;
        let open = self.is_served() || self.phase == Phase::Opening;
        if open && !told {
            self.say_leave(reason, Action::Disconnect);
        }
        self.end(open.then_some(close), Fate::Lost);
    }

    /// Another room took this one's name, as happens when the store loses it: the client goes there.
    fn displace(&mut self) {
        let open = self.is_served() || self.phase == Phase::Opening;
        if open && self.phase != Phase::Moving {
            self.say_leave(DisconnectReason::StateMismatch, Action::Reconnect);
        }
        self.end(open.then_some(CloseReason::RoomEnded), Fate::Lost);
    }

    /// The client is sent away for good, by this session's own decision.
    fn give_up(&mut self, reason: DisconnectReason) {
        self.say_leave(reason, Action::Disconnect);
        self.end(Some(CloseReason::Removed), Fate::Remove);
    }

    fn end(&mut self, close: Option<CloseReason>, record: Fate) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.record_changed &= record == Fate::Keep;
        if self.outbox.is_attached() {
            self.close_socket("the session has ended");
        }
        self.tail.push(Output::Ended(End { close, record }));
    }

    fn close_socket(&mut self, reason: &'static str) {
        self.tail.push(Output::CloseSocket(SocketClose {
            code: NORMAL,
            reason,
        }));
    }

    fn say_leave(&mut self, reason: DisconnectReason, action: Action) {
        self.outbox
            .say(message::leave(&self.client, reason, action));
    }

    fn info(&self) -> &ParticipantInfo {
        self.record
            .info
            .as_ref()
            .expect("a record is claimed with it")
    }

    /// Changes what others are told.
    fn change_info(&mut self, change: impl FnOnce(&mut ParticipantInfo)) {
        if self.phase == Phase::Ended {
            return;
        }
        let info = self
            .record
            .info
            .as_mut()
            .expect("a record is claimed with it");
        change(info);
        info.version += 1;
        self.record_changed = true;
    }

    fn set_presence(&mut self, presence: Presence) {
        if self.record.presence() != presence {
            let shown = presence == Presence::Rejoining;
            self.record.set_presence(presence);
            self.record_changed = true;
            if shown {
                // Others see the tracks go.
                self.change_info(|info| info.is_publisher = false);
            }
        }
    }

    fn publish_tracks(&mut self) {
        let tracks = self.publications.started();
        self.change_info(|info| {
            info.is_publisher = !tracks.is_empty();
            info.tracks = tracks;
        });
    }

    fn set_state(&mut self, state: State) {
        if self.info().state < i32::from(state) {
            self.record.joined |= state == State::Active;
            self.change_info(|info| info.set_state(state));
        }
    }

    fn unix_ms(&self, now: Instant) -> i64 {
        let (then, unix_ms) = self.clock;
        let passed = now.saturating_duration_since(then).as_millis();
        unix_ms.saturating_add(i64::try_from(passed).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
