//! What a session asks of its node: numbered, answered in order, or not at all while the stream to
//! the node is broken.

use std::collections::VecDeque;

use pipemesh_proto::ids::TrackId;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{Close, CloseReason, SessionRequest};

/// Unanswered requests at which the session takes nothing more from its client until answers come.
const BUSY: usize = 128;

/// What an answer is the answer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Open,
    AddTrack(TrackId),
    Subscribe(TrackId),
    Offer,
    Answer,
    RestartIce,
    /// Whatever the answer is, nothing follows from it.
    Other,
}

#[derive(Debug)]
pub(super) struct Link {
    /// Whether the stream stands. While it does not, nothing is asked: once it stands again, what
    /// the node has is compared with what it should have.
    up: bool,
    last_id: u64,
    asked: VecDeque<(u64, Asked)>,
    out: VecDeque<SessionRequest>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            up: true,
            last_id: 0,
            asked: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, asked: Asked, request: Request) {
        if !self.up {
            return;
        }
        self.last_id += 1;
        self.asked.push_back((self.last_id, asked));
        self.out.push_back(SessionRequest {
            request_id: self.last_id,
            request: Some(request),
        });
    }

    /// Ends the session on the node; nothing is asked after that.
    pub(super) fn close(&mut self, reason: CloseReason) {
        let close = Close {
            reason: reason.into(),
        };
        self.ask(Asked::Other, Request::Close(close));
        self.up = false;
    }

    /// What the answer with this number is about.
    pub(super) fn answered(&mut self, id: u64) -> Option<Asked> {
        let place = self.asked.iter().position(|(other, _)| *other == id)?;
        // Answers come in order; one that was left out will not come any more.
        self.asked
            .drain(..=place)
            .next_back()
            .map(|(_, asked)| asked)
    }

    /// Whether an answer to this is still to come.
    pub(super) fn awaits(&self, asked: &Asked) -> bool {
        self.asked.iter().any(|(_, other)| other == asked)
    }

    /// The stream broke: whatever is unanswered stays so.
    pub(super) fn break_off(&mut self) {
        self.up = false;
        self.asked.clear();
        self.out.clear();
    }

    pub(super) fn restore(&mut self) {
        self.up = true;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.asked.len() >= BUSY
    }

    pub(super) fn poll(&mut self) -> Option<SessionRequest> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use pipemesh_proto::node::Unsubscribe;

    use super::*;

    fn ask(link: &mut Link, asked: Asked) -> Option<u64> {
        link.ask(asked, Request::Unsubscribe(Unsubscribe::default()));
        link.poll().map(|request| request.request_id)
    }

    #[test]
    fn answers_find_their_requests() {
        let mut link = Link::new();
        let first = ask(&mut link, Asked::Offer).unwrap();
        let second = ask(&mut link, Asked::Answer).unwrap();
        let third = ask(&mut link, Asked::RestartIce).unwrap();
        assert_eq!(link.answered(first), Some(Asked::Offer));
        assert_eq!(
            link.answered(third),
            Some(Asked::RestartIce),
            "one was left out"
        );
        assert_eq!(link.answered(second), None);
        assert_eq!(link.answered(99), None);
    }

    #[test]
    fn nothing_is_asked_of_a_broken_stream() {
        let mut link = Link::new();
        let before = ask(&mut link, Asked::Offer).unwrap();
        link.break_off();
        assert_eq!(ask(&mut link, Asked::Offer), None);
        link.restore();
        assert_eq!(link.answered(before), None);
        assert!(
            ask(&mut link, Asked::Offer).unwrap() > before,
            "numbers are not used twice"
        );
    }
}
