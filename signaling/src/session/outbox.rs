//! What a session says to its client: kept until the first socket comes, dropped while there is
//! none later. A client that resumes is told everything that matters anew.

use std::collections::VecDeque;

use livekit_protocol::signal_response::Message;

/// Messages kept for a client whose socket has not come yet. Only answers to what its join asked
/// for are; more means the node says what it should not.
const HELD: usize = 256;

#[derive(Debug)]
pub(super) struct Outbox {
    state: State,
    out: VecDeque<Message>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeFirst,
    Attached,
    Detached,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            state: State::BeforeFirst,
            out: VecDeque::new(),
        }
    }

    pub(super) fn say(&mut self, message: Message) {
        match self.state {
            State::Attached => self.out.push_back(message),
            State::BeforeFirst if self.out.len() < HELD => self.out.push_back(message),
            State::BeforeFirst | State::Detached => {}
        }
    }

    /// A socket came; `first` goes before what was kept.
    pub(super) fn attach(&mut self, first: Message) {
        self.out.push_front(first);
        self.state = State::Attached;
    }

    /// A socket came back.
    pub(super) fn attach_again(&mut self) {
        self.out.clear();
        self.state = State::Attached;
    }

    pub(super) fn detach(&mut self) {
        self.out.clear();
        self.state = State::Detached;
    }

    pub(super) fn is_attached(&self) -> bool {
        self.state == State::Attached
    }

    /// Whether there was a socket once.
    pub(super) fn has_begun(&self) -> bool {
        self.state != State::BeforeFirst
    }

    pub(super) fn poll(&mut self) -> Option<Message> {
        match self.state {
            State::Attached => self.out.pop_front(),
            State::BeforeFirst | State::Detached => None,
        }
    }
}
