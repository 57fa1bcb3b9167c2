//! The client's end of ICE against a server (RFC 8445): one local socket, always controlling. Checks the
//! server's candidates, nominates the first that answers in their order, keeps the server's consent (RFC
//! 7675), and answers what the server checks.
//!
//! Pure: datagrams, time and randomness in; datagrams and events out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use rand::Rng;
use rand::rngs::StdRng;

use crate::wire::stun::{self, Request, TRANSACTION_LEN};

/// First repetition of a check that is not answered; every further one takes twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_millis(1_600);

/// Pause between checks of a path that works, as Chromium's.
const KEEP_ALIVE: Duration = Duration::from_millis(2_500);
/// A keep-alive that is not answered is repeated after this.
const KEEP_ALIVE_RETRY: Duration = Duration::from_millis(500);

/// Without an answer for so long the connection is given up, as browsers do.
const FAILED_AFTER: Duration = Duration::from_secs(15);

/// Candidates that are checked. A server has an address per family and network card.
const MAX_CANDIDATES: usize = 16;
/// Checks whose answers may still come.
const MAX_OUTSTANDING: usize = 32;

const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Credentials {
    pub(crate) fn generate(rng: &mut impl Rng) -> Self {
        let mut chars = |len: usize| -> String {
            let pick = |_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())]);
            (0..len).map(pick).collect()
        };
        Self {
            ufrag: chars(8),
            password: chars(24),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A check was answered, for the first time since the start or the last restart.
    Connected,
    /// No check was answered for too long.
    Failed,
}

/// The server's end, as its description says.
struct Remote {
    ufrag: String,
    key: hmac::Key,
    candidates: Vec<SocketAddr>,
}

struct Check {
    transaction: [u8; TRANSACTION_LEN],
    to: SocketAddr,
    sent: Instant,
    nominates: bool,
    /// Of which restart: an answer to an older one nominates nothing.
    generation: u32,
}

pub(crate) struct IceAgent {
    rng: StdRng,
    tie_breaker: u64,
    local: Credentials,
    remote: Option<Remote>,
    generation: u32,
    outstanding: VecDeque<Check>,
    /// Where to send.
    selected: Option<SocketAddr>,
    /// A path of this generation was answered.
    connected: bool,
    nominated: bool,
    failed: bool,
    last_answer: Instant,
    next_check: Option<Instant>,
    retry: Duration,
    round_trip: Option<Duration>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl IceAgent {
    pub(crate) fn new(mut rng: StdRng, now: Instant) -> Self {
        Self {
            tie_breaker: rng.random(),
            local: Credentials::generate(&mut rng),
            rng,
            remote: None,
            generation: 0,
            outstanding: VecDeque::new(),
            selected: None,
            connected: false,
            nominated: false,
            failed: false,
            last_answer: now,
            next_check: None,
            retry: FIRST_RETRY,
            round_trip: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn local(&self) -> &Credentials {
        &self.local
    }

    /// Whether these are other credentials of the server's than those in use.
    pub(crate) fn is_restart(&self, remote: &Credentials) -> bool {
        let known = self.remote.as_ref();
        known.is_some_and(|known| known.ufrag != remote.ufrag)
    }

    pub(crate) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn select(&mut self, peer: SocketAddr) {
        self.selected = Some(peer);
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// New credentials of our own for the next description. The path in use stays in use until the
    /// server's new credentials are known and a check with them is answered.
    pub(crate) fn restart(&mut self) {
        self.local = Credentials::generate(&mut self.rng);
        self.remote = None;
        self.next_check = None;
    }

    /// What the server's description says. The same again changes nothing.
    pub(crate) fn set_remote(
        &mut self,
        remote: &Credentials,
        candidates: &[SocketAddr],
        now: Instant,
    ) {
        let known = self.remote.as_ref();
        if known.is_some_and(|known| known.ufrag == remote.ufrag) {
            return candidates
                .iter()
                .for_each(|it| self.add_candidate(*it, now));
        }
        self.remote = Some(Remote {
            ufrag: remote.ufrag.clone(),
            key: stun::key(&remote.password),
            candidates: candidates.iter().copied().take(MAX_CANDIDATES).collect(),
        });
        self.generation += 1;
        self.outstanding.clear();
        (self.connected, self.nominated, self.failed) = (false, false, false);
        self.last_answer = now;
        self.retry = FIRST_RETRY;
        self.next_check = Some(now);
    }

    pub(crate) fn add_candidate(&mut self, candidate: SocketAddr, now: Instant) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        if remote.candidates.len() < MAX_CANDIDATES && !remote.candidates.contains(&candidate) {
            remote.candidates.push(candidate);
            if !self.connected {
                self.next_check = Some(now);
            }
        }
    }

    /// The way to the server is gone: a check may open another one.
    pub(crate) fn handle_way_lost(&mut self, now: Instant) {
        if self.remote.is_some() && !self.failed {
            self.next_check = Some(now + KEEP_ALIVE_RETRY);
        }
    }

    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        let Some(remote) = &self.remote else {
            return;
        };
        let Some(response) = stun::read_response(datagram, &remote.key) else {
            return self.answer(datagram);
        };
        let asked = |check: &Check| check.transaction == response.transaction;
        let Some(place) = self.outstanding.iter().position(asked) else {
            return;
        };
        let check = self.outstanding.remove(place).expect("it was found there");
        // A server that does not know us yet refuses; the check is repeated in time.
        if response.outcome.is_err() || check.generation != self.generation {
            return;
        }
        self.last_answer = now;
        self.round_trip = Some(now.saturating_duration_since(check.sent));
        self.failed = false;
        if !self.connected {
            self.connected = true;
            self.selected = Some(check.to);
            self.events.push_back(Event::Connected);
        }
        if check.nominates {
            self.nominated = true;
            self.selected = Some(check.to);
        }
        self.retry = KEEP_ALIVE_RETRY;
        self.next_check = Some(if self.nominated {
            now + KEEP_ALIVE.mul_f64(self.rng.random_range(0.8..1.2))
        } else {
            now
        });
    }

    /// Answers a check of the server's: it wants to know where we are.
    fn answer(&mut self, datagram: &[u8]) {
        let first = self.remote.as_ref().and_then(|it| it.candidates.first());
        let Some(to) = self.selected.or(first.copied()) else {
            return;
        };
        let key = stun::key(&self.local.password);
        if let Some(transaction) = stun::read_request(datagram, &self.local.ufrag, &key)
            && self.transmits.len() < MAX_OUTSTANDING
        {
            let answer = stun::write_success(&transaction, to, &key);
            self.transmits.push_back((to, answer));
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let failure =
            (self.remote.is_some() && !self.failed).then(|| self.last_answer + FAILED_AFTER);
        self.next_check.into_iter().chain(failure).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next_check.is_some_and(|at| at <= now) {
            self.check(now);
        }
        let silent = now.saturating_duration_since(self.last_answer) >= FAILED_AFTER;
        if silent && self.remote.is_some() && !self.failed {
            self.failed = true;
            self.next_check = None;
            self.events.push_back(Event::Failed);
        }
    }

    fn check(&mut self, now: Instant) {
        let Some(remote) = &self.remote else {
            self.next_check = None;
            return;
        };
        // Before anything was answered all candidates are tried, afterwards the path in use.
        let targets = match self.selected.filter(|_| self.connected) {
            Some(selected) => vec![selected],
            None => remote.candidates.clone(),
        };
        for to in targets {
            let mut transaction = [0; TRANSACTION_LEN];
            self.rng.fill(&mut transaction);
            let request = Request {
                transaction,
                local_ufrag: &self.local.ufrag,
                remote_ufrag: &remote.ufrag,
                // Of a host candidate (RFC 8445 section 5.1.2.2).
                priority: 126 << 24 | 65_535 << 8 | 255,
                tie_breaker: self.tie_breaker,
                nominate: self.connected,
            };
            self.transmits.push_back((to, request.write(&remote.key)));
            if self.outstanding.len() == MAX_OUTSTANDING {
                self.outstanding.pop_front();
            }
            self.outstanding.push_back(Check {
                transaction,
                to,
                sent: now,
                nominates: self.connected,
                generation: self.generation,
            });
        }
        self.next_check = Some(now + self.retry);
        if !self.connected {
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        }
    }
}

#[cfg(test)]
mod tests;
