//! When and how a participant comes back whose connection is lost, as livekit-client does: by resuming
//! its session, or by joining anew; a limited number of times, after pauses that grow.
//!
//! Pure: what is lost, what became of attempts and time in; attempts and events out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::stats::Left;

/// Before each attempt, in milliseconds; the last again and again. What is drawn by lot adds to it or
/// takes from it, see [`ComeBack::pause`].
const PAUSES: [u64; 6] = [0, 300, 1_200, 2_700, 4_800, 7_000];
/// Before the first attempt, at most: else all participants of a node that died would come at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Who was there for so long has come back; before, a server lets in and drops at once, and is not to be
/// asked ever faster for it.
const STAYS: Duration = Duration::from_secs(5);

/// Attempts that livekit-client makes.
pub const TRIES: u32 = 10;

/// How to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With another signaling connection: the session goes on, and media with it.
    Resume,
    /// From the beginning, under the same identity.
    Rejoin,
}

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The signaling connection.
    Signal(String),
    /// A peer connection.
    Media(String),
    /// The server ends the session, or what is left of it.
    Told(Left, DisconnectReason),
    /// The participant was told to, so that it comes back in this way.
    Asked(Way),
}

/// What became of an attempt that failed before media was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody is there, or not ready to let anybody in.
    Unreachable,
    /// The session is not known.
    Unknown,
    /// Nobody is let in with this token, or under this identity.
    Forbidden,
}

/// For who watches the participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It tries to come back.
    Lost {
        loss: Loss,
        at: Instant,
    },
    Back(Return),
    /// It does not, or not any more.
    Over {
        loss: Loss,
        at: Instant,
        /// Attempts that failed in a row, and how the last was made.
        tries: u32,
        way: Way,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    pub loss: Loss,
    pub way: Way,
    pub at: Instant,
    pub took: Duration,
    /// That failed before.
    pub failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not been there yet: whoever made it join sees that by himself.
    Joining,
    Here,
    Waiting {
        until: Instant,
    },
    /// The server is asked, or media is waited for.
    Trying {
        until: Option<Instant>,
    },
    Over,
}

pub(super) struct ComeBack {
    rng: StdRng,
    limit: u32,
    /// For media to flow.
    patience: Duration,
    state: State,
    way: Way,
    /// That failed in a row.
    tries: u32,
    /// Those of them that did before this outage: what they led to did not last.
    earlier: u32,
    /// None: it has not been away.
    back_since: Option<Instant>,
    loss: Loss,
    since: Option<Instant>,
    events: VecDeque<Event>,
}

impl Loss {
    /// In one word.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Signal(_) => "signal".to_owned(),
            Self::Media(_) => "media".to_owned(),
            Self::Told(_, reason) => reason.as_str_name().to_ascii_lowercase(),
            Self::Asked(_) => "simulated".to_owned(),
        }
    }

    /// The server wants the participant to be elsewhere.
    #[must_use]
    pub fn is_move(&self) -> bool {
        matches!(self, Self::Told(_, DisconnectReason::Migration))
    }

    /// How to come back from it, to begin with.
    #[must_use]
    pub fn way(&self) -> Way {
        match self {
            // Media may come back when ICE has restarted.
            Self::Signal(_) | Self::Media(_) | Self::Told(Left::Resume | Left::Over, _) => {
                Way::Resume
            }
            Self::Told(Left::Rejoin, _) => Way::Rejoin,
            Self::Asked(way) => *way,
        }
    }
}

impl ComeBack {
    /// `limit`: attempts in a row, 0 to stay away.
    pub(super) fn new(limit: u32, patience: Duration, seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            limit,
            patience,
            state: State::Joining,
            way: Way::Resume,
            tries: 0,
            earlier: 0,
            back_since: None,
            loss: Loss::Asked(Way::Resume),
            since: None,
            events: VecDeque::new(),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is said meanwhile waits until the session goes on.
    pub(super) fn holds(&self) -> bool {
        match self.state {
            State::Joining | State::Here | State::Over => false,
            State::Waiting { .. } => true,
            State::Trying { .. } => self.way == Way::Resume,
        }
    }

    /// Who stays away does not care whether the server is there.
    pub(super) fn may_come_back(&self) -> bool {
        self.limit > 0 && self.state != State::Over
    }

    pub(super) fn handle_loss(&mut self, loss: Loss, now: Instant) {
        let told = matches!(loss, Loss::Told(..) | Loss::Asked(_));
        match self.state {
            State::Over => {}
            // The join fails.
            State::Joining => {
                if let Loss::Told(Left::Over, _) = loss {
                    self.state = State::Over;
                }
            }
            State::Here => {
                self.way = loss.way();
                self.loss = loss;
                if self.limit == 0 || matches!(self.loss, Loss::Told(Left::Over, _)) {
                    self.tries = 0;
                    return self.give_up(now);
                }
                self.since = Some(now);
                let loss = self.loss.clone();
                self.events.push_back(Event::Lost { loss, at: now });
                let stayed = self
                    .back_since
                    .take()
                    .is_none_or(|since| now >= since + STAYS);
                // Whoever is told to lose it makes nobody's server work in vain.
                if stayed || matches!(self.loss, Loss::Asked(_)) {
                    (self.tries, self.earlier) = (0, 0);
                    return self.wait(now);
                }
                self.earlier = self.tries + 1;
                self.fail(now);
            }
            State::Waiting { .. } | State::Trying { .. }
                if matches!(loss, Loss::Told(Left::Over, _)) =>
            {
                self.loss = loss;
                self.give_up(now);
            }
            State::Waiting { .. } => {
                if told {
                    self.way = loss.way();
                }
            }
            State::Trying { .. } => {
                self.way = match loss {
                    // The session may be there all the same.
                    Loss::Signal(_) => self.way,
                    Loss::Media(_) => Way::Rejoin,
                    Loss::Told(..) | Loss::Asked(_) => loss.way(),
                };
                self.fail(now);
            }
        }
    }

    /// The server has let us in: media has to follow.
    pub(super) fn handle_admitted(&mut self, now: Instant) {
        if let State::Trying { until } = &mut self.state {
            *until = Some(now + self.patience);
        }
    }

    pub(super) fn handle_refusal(&mut self, refusal: &Refusal, now: Instant) {
        match refusal {
            Refusal::Unreachable => self.fail(now),
            Refusal::Unknown => {
                self.way = Way::Rejoin;
                self.fail(now);
            }
            Refusal::Forbidden => {
                self.tries += 1;
                self.give_up(now);
            }
        }
    }

    pub(super) fn handle_flowing(&mut self, now: Instant) {
        match self.state {
            State::Joining => self.state = State::Here,
            State::Trying { until: Some(_) } => {
                self.state = State::Here;
                let since = self.since.take().unwrap_or(now);
                self.events.push_back(Event::Back(Return {
                    loss: self.loss.clone(),
                    way: self.way,
                    at: now,
                    took: now.saturating_duration_since(since),
                    failed: self.tries - self.earlier,
                }));
                self.back_since = Some(now);
            }
            State::Here | State::Waiting { .. } | State::Trying { .. } | State::Over => {}
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Trying { until } => until,
            State::Joining | State::Here | State::Over => None,
        }
    }

    /// What to attempt, if anything is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Way> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Trying { until: None };
                Some(self.way)
            }
            State::Trying { until: Some(until) } if until <= now => {
                self.way = Way::Rejoin;
                self.fail(now);
                None
            }
            State::Joining
            | State::Here
            | State::Waiting { .. }
            | State::Trying { .. }
            | State::Over => None,
        }
    }

    fn fail(&mut self, now: Instant) {
        self.tries += 1;
        if self.tries >= self.limit {
            self.give_up(now);
        } else {
            self.wait(now);
        }
    }

    fn wait(&mut self, now: Instant) {
        let until = now + self.pause();
        self.state = State::Waiting { until };
    }

    fn give_up(&mut self, now: Instant) {
        self.state = State::Over;
        self.events.push_back(Event::Over {
            loss: self.loss.clone(),
            at: now,
            tries: self.tries,
            way: self.way,
        });
    }

    /// Up to half a second first, then half as much to half as much again.
    fn pause(&mut self) -> Duration {
        if self.tries == 0 {
            return FIRST_PAUSE.mul_f64(self.rng.random_range(0.0..=1.0));
        }
        let place = (self.tries as usize).min(PAUSES.len() - 1);
        Duration::from_millis(PAUSES[place]).mul_f64(self.rng.random_range(0.5..=1.5))
    }
}

#[cfg(test)]
mod tests;
