//! One connection's ICE agent (RFC 8445 section 2.5): answers the client's connectivity checks, learns
//! from them which addresses are the client's, and chooses the one to send to.
//!
//! A lite agent takes the client's word for where it is, and who has its password could have its media
//! sent to anybody. So an address is served when an authenticated check came from it, and sent to when it
//! has proved that this arrives: by the handshake's cookie, which went there and came back, or by
//! answering a check of ours. Until then it gets no more bytes than came from it.
//!
//! Pure: datagrams, time and randomness in, datagrams and events out. It knows no sockets; what a
//! [`Path`] leads to is the caller's business. Only what is authenticated changes anything.

mod credentials;
mod probation;
mod proof;
mod stun;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use credentials::Credentials;
use credentials::{Generation, Remote};
use pipemesh_node_media::tcp::FIRST_STREAM;
use probation::Probation;
use proof::Handshake;
pub use stun::Message;
use stun::{ErrorCode, ParseError, Request};

/// Browsers check the path they use every 2.5 s (Chromium) or 5 s (Firefox), so one lost check
/// does not interrupt. Lower values flap, higher ones let a frozen picture go unexplained.
const INTERRUPTED_AFTER: Duration = Duration::from_secs(10);

/// RFC 7675 section 5.1: without consent for 30 s nothing may be sent.
const CONSENT_EXPIRES_AFTER: Duration = Duration::from_secs(30);

/// Addresses remembered per connection. A phone with two networks, IPv4, IPv6 and TCP needs six;
/// more only lets a client fill the shard's address table.
const MAX_PATHS: usize = 8;

/// A way to the client: one of our sockets, or a TCP connection, and the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    pub socket: u32,
    pub remote: SocketAddr,
}

impl Path {
    /// TCP has proved that the client is there.
    fn is_stream(self) -> bool {
        self.socket >= FIRST_STREAM
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Whatever comes from this path belongs to the connection, unless the address is another one's.
    PathAdded(Path),
    /// The client is there. Follows `PathAdded` for the same path.
    PathProven(Path),
    /// The path is not the connection's any more, and not to be sent to. If it was selected and
    /// another one is, that follows.
    PathRemoved(Path),
    /// Send here. Follows `PathProven` for the same path.
    PathSelected(Path),
    /// The client has checked a path that it was proved to be at, for the first time or for the first
    /// since an interruption or a failure.
    Connected,
    /// No check of a proven path for 10 s, whereupon the selected one stays selected; or none is left.
    Interrupted,
    /// No check for 30 s: every path is gone, nothing may be sent.
    Failed,
    /// Checks that name this `ufrag` are no longer the connection's.
    UfragRetired(String),
}

/// What a datagram that got an answer turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The path is served from here on.
    Accepted,
    /// Answered with an error: 400, 401, 420 or 487.
    Refused,
}

/// Why a datagram was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    Malformed,
    /// A STUN message, but no Binding request.
    NotARequest,
    /// An answer to nothing that was asked, or not the client's.
    NotAnAnswer,
    Fingerprint,
    /// Not for this connection.
    ForeignUfrag,
    /// The answer would be longer than the request.
    WouldAmplify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Connected,
    Interrupted,
    Failed,
}

#[derive(Debug)]
struct KnownPath {
    path: Path,
    last_check: Instant,
    /// None once it has been proved that what is sent there arrives.
    probation: Option<Box<Probation>>,
}

/// What the client last nominated.
#[derive(Debug, Clone, Copy)]
struct Nomination {
    path: Path,
    generation: u64,
    /// Set if the client numbers its nominations (renomination).
    value: Option<u32>,
}

pub struct IceAgent {
    current: Generation,
    /// Accepted beside `current` until the client nominates a path with the new credentials, so
    /// that a restart interrupts nothing.
    former: Option<Box<Generation>>,
    /// In order of arrival, at most [`MAX_PATHS`].
    paths: Vec<KnownPath>,
    /// Of those that are proven.
    selected: Option<Path>,
    /// What is to be selected as soon as it is proven. Without one it is the latest path that was checked.
    nomination: Option<Nomination>,
    /// None once it is over: it proves nothing more.
    handshake: Option<Box<Handshake>>,
    last_check: Option<Instant>,
    state: State,
    events: VecDeque<Event>,
}

impl IceAgent {
    pub fn new(local: Credentials) -> Self {
        Self {
            current: Generation::new(local, 0),
            former: None,
            paths: Vec::new(),
            selected: None,
            nomination: None,
            handshake: Some(Box::default()),
            last_check: None,
            state: State::New,
            events: VecDeque::new(),
        }
    }

    /// The `ufrag` that a Binding request is addressed to: how a shard finds the agent to ask.
    /// Nothing about the datagram is verified.
    pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
        stun::receiver_of(datagram)
    }

    pub fn local_credentials(&self) -> &Credentials {
        &self.current.local
    }

    /// Tells the client's credentials. From here on only checks that name its `ufrag` are accepted, and
    /// its paths can be checked. Telling the same ones twice changes nothing.
    pub fn set_remote(&mut self, ufrag: &str, password: &str, now: Instant) {
        let known = self.current.remote.as_ref();
        if known.is_none_or(|known| *known.ufrag != *ufrag) {
            self.current.remote = Some(Remote::new(ufrag, password));
            for index in 0..self.paths.len() {
                if self.wants_proof(index) {
                    self.ask(index, now);
                }
            }
        }
    }

    /// Restarts ICE (RFC 8445 section 9): new credentials, whose client is not known yet. Paths
    /// stay served and the selected one stays selected.
    pub fn restart(&mut self, local: Credentials) {
        let number = self.current.number + 1;
        let fresh = Generation::new(local, number);
        let previous = std::mem::replace(&mut self.current, fresh);
        // Credentials that no check was made with are not what the connection lives on.
        let retired = if previous.used {
            let former = self.former.replace(Box::new(previous));
            former.map(|former| *former)
        } else {
            Some(previous)
        };
        self.retire(retired);
    }

    /// Answers a check that came in over `path`, now or once the path is proven; `is_taken`: the
    /// address is another connection's so far. Drain [`Self::poll_event`] and
    /// [`Self::poll_transmit`] afterwards.
    pub fn handle_binding(
        &mut self,
        datagram: &[u8],
        path: Path,
        is_taken: bool,
        now: Instant,
    ) -> Result<(Verdict, Option<Message>), DropReason> {
        let request = Request::parse(datagram).map_err(drop_reason)?;
        let refuse = |code, key| {
            let reply = Message::error(&request, code, key).ok_or(DropReason::WouldAmplify)?;
            Ok((Verdict::Refused, Some(reply)))
        };

        let Some((receiver, sender)) = request.username.and_then(stun::split_username) else {
            return refuse(ErrorCode::BadRequest, None);
        };
        let generation = if self.current.is_addressed_by(receiver) {
            &mut self.current
        } else {
            let former = self.former.as_deref_mut();
            let former = former.filter(|former| former.is_addressed_by(receiver));
            former.ok_or(DropReason::ForeignUfrag)?
        };
        if !request.claims_integrity() {
            return refuse(ErrorCode::BadRequest, None);
        }
        let key = &generation.key();
        if !generation.expects(sender) || !request.is_signed_by(key) {
            return refuse(ErrorCode::Unauthenticated, None);
        }
        if let Some(kind) = request.unknown {
            return refuse(ErrorCode::UnknownAttribute(kind), Some(key));
        }
        if request.controlled {
            // A lite agent is always the controlled one (RFC 8445 section 6.1.1).
            return refuse(ErrorCode::RoleConflict, Some(key));
        }
        let reply = Message::success(&request, path.remote, key).ok_or(DropReason::WouldAmplify)?;

        generation.used = true;
        let generation = generation.number;
        let index = self.accept(path, now);
        if request.use_candidate || request.nomination.is_some() {
            self.nominate(path, generation, request.nomination);
        }
        let reply = self.answer(index, generation, &request, reply, is_taken, now);
        if self.paths[index].probation.is_none() {
            self.settle();
            self.note_alive();
        }
        Ok((Verdict::Accepted, reply))
    }

    pub fn is_served(&self, path: Path) -> bool {
        self.paths.iter().any(|known| known.path == path)
    }

    /// Whether what is sent there arrives at the client.
    pub fn is_proven(&self, path: Path) -> bool {
        self.paths
            .iter()
            .any(|known| known.path == path && known.probation.is_none())
    }

    /// Where to send. None before a path is proven and after a failure.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // It is empty nearly always.
            self.events = VecDeque::new();
        }
        event
    }

    /// The path does not exist any more: a TCP connection was closed. Without another one the client
    /// is interrupted, and has until its consent expires to come back.
    pub fn close_path(&mut self, path: Path) {
        let Some(index) = self.paths.iter().position(|known| known.path == path) else {
            return;
        };
        self.remove_path(index);
        self.settle();
        self.note_lost();
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.paths.iter().map(|known| known.last_check).min();
        // Of a client without a path, when it was last heard.
        let last = self.last_check.filter(|_| self.state == State::Interrupted);
        let expiry = oldest.or(last).map(|last| last + CONSENT_EXPIRES_AFTER);
        let interruption = (self.state == State::Connected)
            .then(|| self.last_proven_check())
            .flatten()
            .map(|last| last + INTERRUPTED_AFTER);
        let asked = self.paths.iter().filter_map(|known| {
            let probation = known.probation.as_ref()?;
            probation.deadline()
        });
        expiry.into_iter().chain(interruption).chain(asked).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let silence = |last| now.saturating_duration_since(last);
        if self.state == State::Connected
            && self
                .last_proven_check()
                .is_some_and(|last| silence(last) >= INTERRUPTED_AFTER)
        {
            self.state = State::Interrupted;
            self.events.push_back(Event::Interrupted);
        }
        // Consent belongs to a path: one that is not checked any more is not sent to, however
        // alive the others are.
        while let Some(index) = self
            .paths
            .iter()
            .position(|known| silence(known.last_check) >= CONSENT_EXPIRES_AFTER)
        {
            self.remove_path(index);
        }
        self.settle();
        self.note_lost();
        for index in 0..self.paths.len() {
            let probation = self.paths[index].probation.as_ref();
            if probation.is_some_and(|it| it.deadline().is_some_and(|at| at <= now)) {
                self.ask(index, now);
            }
        }
        let expired = self
            .last_check
            .is_some_and(|last| silence(last) >= CONSENT_EXPIRES_AFTER);
        if expired && self.paths.is_empty() && self.state != State::Failed {
            self.state = State::Failed;
            self.events.push_back(Event::Failed);
        }
    }

    /// Of a path that may be sent to: those of others do not show that what is sent arrives.
    fn last_proven_check(&self) -> Option<Instant> {
        let proven = self.paths.iter().filter(|known| known.probation.is_none());
        proven.map(|known| known.last_check).max()
    }

    /// Selects what was nominated, once it is proven; without a nomination, or if what was selected until
    /// then is gone, the proven path that was checked last.
    fn settle(&mut self) {
        let nominee = self.nomination.map(|nomination| nomination.path);
        if nominee.is_some_and(|path| !self.is_served(path)) {
            self.nomination = None;
        }
        if let Some(path) = nominee.filter(|path| self.is_proven(*path)) {
            return self.select(path);
        }
        let selected = self.selected.filter(|path| self.is_proven(*path));
        if self.nomination.is_some() && selected.is_some() {
            return;
        }
        let proven = self.paths.iter().filter(|known| known.probation.is_none());
        let latest = proven.max_by_key(|known| known.last_check);
        match latest.map(|known| known.path) {
            Some(path) => self.select(path),
            None => self.selected = None,
        }
    }

    /// There is no path left that may be sent to.
    fn note_lost(&mut self) {
        if self.state == State::Connected && self.selected.is_none() {
            self.state = State::Interrupted;
            self.events.push_back(Event::Interrupted);
        }
    }

    /// The client is heard from where it was proved to be. Told last: who hears it knows by then where to
    /// send.
    fn note_alive(&mut self) {
        if self.state != State::Connected && self.selected.is_some() {
            self.state = State::Connected;
            self.events.push_back(Event::Connected);
        }
    }

    /// Notes an authenticated check; answers its path's place.
    ///
    /// It also ends a failure. RFC 7675 forbids to send on after expiry because whoever answers
    /// may be somebody else by then; a check signed with our password is the client asking to be
    /// sent to. Clients that consider the connection failed stop checking, and restart.
    fn accept(&mut self, path: Path, now: Instant) -> usize {
        self.last_check = Some(now);
        if let Some(index) = self.paths.iter().position(|known| known.path == path) {
            self.paths[index].last_check = now;
            return index;
        }
        if self.paths.len() == MAX_PATHS {
            self.forget_stalest_path();
        }
        self.paths.reserve_exact(1);
        self.paths.push(KnownPath {
            path,
            last_check: now,
            probation: (!path.is_stream()).then(Box::default),
        });
        self.events.push_back(Event::PathAdded(path));
        if path.is_stream() {
            self.events.push_back(Event::PathProven(path));
        }
        self.paths.len() - 1
    }

    /// The newest nomination wins, unless the client numbers them: then the highest does.
    fn nominate(&mut self, path: Path, generation: u64, value: Option<u32>) {
        if let Some(holder) = self.nomination {
            let outranked = generation < holder.generation
                || (generation == holder.generation
                    && holder.value.is_some()
                    && value <= holder.value);
            if outranked {
                return;
            }
        }
        self.nomination = Some(Nomination {
            path,
            generation,
            value,
        });
        if generation == self.current.number {
            let former = self.former.take();
            self.retire(former.map(|former| *former));
        }
    }

    fn select(&mut self, path: Path) {
        if self.selected != Some(path) {
            self.selected = Some(path);
            self.events.push_back(Event::PathSelected(path));
        }
    }

    fn forget_stalest_path(&mut self) {
        let candidates = self.paths.iter().enumerate();
        let stalest = candidates
            .filter(|(_, known)| Some(known.path) != self.selected)
            .min_by_key(|(_, known)| known.last_check)
            .map(|(index, _)| index);
        if let Some(index) = stalest {
            self.remove_path(index);
        }
    }

    fn remove_path(&mut self, index: usize) {
        let removed = self.paths.remove(index);
        self.events.push_back(Event::PathRemoved(removed.path));
    }

    fn retire(&mut self, generation: Option<Generation>) {
        if let Some(generation) = generation {
            let ufrag = generation.local.ufrag;
            self.events.push_back(Event::UfragRetired(ufrag));
        }
    }
}

fn drop_reason(error: ParseError) -> DropReason {
    match error {
        ParseError::Malformed => DropReason::Malformed,
        ParseError::NotARequest => DropReason::NotARequest,
        ParseError::NotASuccess => DropReason::NotAnAnswer,
        ParseError::Fingerprint => DropReason::Fingerprint,
    }
}

#[cfg(test)]
mod tests;
