//! One connection's ICE-lite agent (RFC 8445 section 2.5): answers the client's connectivity
//! checks, learns from them which addresses are the client's, and chooses the one to send to.
//!
//! Pure: datagrams and time in, answers and events out. It sends no checks of its own and knows no
//! sockets; what a [`Path`] leads to is the caller's business. Only an authenticated check changes
//! anything.

mod credentials;
mod stun;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use credentials::Credentials;
use credentials::Generation;
pub use stun::Reply;
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Whatever comes from this path belongs to the connection.
    PathAdded(Path),
    /// The path is not the connection's any more, and not to be sent to. If it was selected and
    /// another one is, that follows.
    PathRemoved(Path),
    /// Send here. Follows `PathAdded` for the same path.
    PathSelected(Path),
    /// The first check, or the first after an interruption or a failure.
    Connected,
    /// No check for 10 s, whereupon the path stays selected; or the only path was closed.
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

#[derive(Debug, Clone, Copy)]
struct KnownPath {
    path: Path,
    last_check: Instant,
}

/// What the client last nominated.
#[derive(Debug, Clone, Copy)]
struct Nomination {
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
    selected: Option<Path>,
    /// None while `selected` is only the latest path that was checked.
    nomination: Option<Nomination>,
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

    /// Tells the client's `ufrag`. From here on only checks that name it are accepted. Telling the
    /// same one twice changes nothing.
    pub fn set_remote_ufrag(&mut self, ufrag: &str) {
        if self.current.remote_ufrag.as_deref() != Some(ufrag) {
            self.current.remote_ufrag = Some(ufrag.to_owned());
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

    /// Answers a check that came in over `path`. Drain [`Self::poll_event`] afterwards.
    pub fn handle_binding(
        &mut self,
        datagram: &[u8],
        path: Path,
        now: Instant,
    ) -> Result<(Verdict, Reply), DropReason> {
        let request = Request::parse(datagram).map_err(|error| match error {
            ParseError::Malformed => DropReason::Malformed,
            ParseError::NotARequest => DropReason::NotARequest,
            ParseError::Fingerprint => DropReason::Fingerprint,
        })?;
        let refuse = |code, key| {
            let reply = Reply::error(&request, code, key).ok_or(DropReason::WouldAmplify)?;
            Ok((Verdict::Refused, reply))
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
        let reply = Reply::success(&request, path.remote, key).ok_or(DropReason::WouldAmplify)?;

        generation.used = true;
        let generation = generation.number;
        self.accept(path, now);
        if request.use_candidate || request.nomination.is_some() {
            self.nominate(path, generation, request.nomination);
        } else if self.nomination.is_none() {
            self.select(path);
        }
        // Last: who hears that the connection works knows by then where to send.
        if self.state != State::Connected {
            self.state = State::Connected;
            self.events.push_back(Event::Connected);
        }
        Ok((Verdict::Accepted, reply))
    }

    pub fn is_served(&self, path: Path) -> bool {
        self.paths.iter().any(|known| known.path == path)
    }

    /// Where to send. None before the first check and after a failure.
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
        self.replace_selected();
        if self.paths.is_empty() && self.state == State::Connected {
            self.state = State::Interrupted;
            self.events.push_back(Event::Interrupted);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.paths.iter().map(|known| known.last_check).min();
        // Of a client without a path, when it was last heard.
        let last = self.last_check.filter(|_| self.state == State::Interrupted);
        let expiry = oldest.or(last).map(|last| last + CONSENT_EXPIRES_AFTER);
        let interruption = (self.state == State::Connected)
            .then_some(self.last_check)
            .flatten()
            .map(|last| last + INTERRUPTED_AFTER);
        expiry.into_iter().chain(interruption).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let silence = |last| now.saturating_duration_since(last);
        if self.state == State::Connected
            && self
                .last_check
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
        self.replace_selected();
        let expired = self
            .last_check
            .is_some_and(|last| silence(last) >= CONSENT_EXPIRES_AFTER);
        if expired && self.paths.is_empty() && self.state != State::Failed {
            self.state = State::Failed;
            self.events.push_back(Event::Failed);
        }
    }

    /// Selects the path that was checked last if the selected one is gone.
    fn replace_selected(&mut self) {
        if self.selected.is_none_or(|path| self.is_served(path)) {
            return;
        }
        self.selected = None;
        self.nomination = None;
        let latest = self.paths.iter().max_by_key(|known| known.last_check);
        if let Some(path) = latest.map(|known| known.path) {
            self.select(path);
        }
    }

    /// Notes an authenticated check.
    ///
    /// It also ends a failure. RFC 7675 forbids to send on after expiry because whoever answers
    /// may be somebody else by then; a check signed with our password is the client asking to be
    /// sent to. Clients that consider the connection failed stop checking, and restart.
    fn accept(&mut self, path: Path, now: Instant) {
        self.last_check = Some(now);
        match self.paths.iter_mut().find(|known| known.path == path) {
            Some(known) => known.last_check = now,
            None => {
                if self.paths.len() == MAX_PATHS {
                    self.forget_stalest_path();
                }
                self.paths.reserve_exact(1);
                self.paths.push(KnownPath {
                    path,
                    last_check: now,
                });
                self.events.push_back(Event::PathAdded(path));
            }
        }
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
        self.nomination = Some(Nomination { generation, value });
        self.select(path);
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

#[cfg(test)]
mod tests;
