//! When a publisher is asked for a key frame: at once, then no more often than it can answer.

use std::time::{Duration, Instant};

/// Least time between two requests for one encoding. Encoders spend many times a normal frame on a key
/// frame; asking again while it is on its way doubles that for everybody. A request within the pause is
/// put off to its end, never forgotten.
const PAUSE: Duration = Duration::from_millis(500);
/// While no key frame comes the pause doubles up to here.
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// Requests for one encoding.
#[derive(Debug)]
pub struct KeyFrameRequests {
    wanted: bool,
    /// The last request has not been answered yet.
    unanswered: bool,
    pause: Duration,
    last: Option<Instant>,
}

impl Default for KeyFrameRequests {
    fn default() -> Self {
        Self {
            wanted: false,
            unanswered: false,
            pause: PAUSE,
            last: None,
        }
    }
}

impl KeyFrameRequests {
    /// Somebody needs a key frame. `true`: ask the publisher now; otherwise [`Self::deadline`] says when
    /// to come back.
    pub fn want(&mut self, now: Instant) -> bool {
        self.wanted = true;
        self.due(now)
    }

    /// Whether to ask (again) now.
    pub fn due(&mut self, now: Instant) -> bool {
        if !self.wanted
            || self
                .last
                .is_some_and(|last| now.saturating_duration_since(last) < self.pause)
        {
            return false;
        }
        if self.unanswered {
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
        self.unanswered = true;
        self.last = Some(now);
        true
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.wanted)
            .map(|last| last + self.pause)
    }

    /// A key frame is on its way that was not asked for.
    pub fn expect(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// A key frame began.
    pub fn satisfy(&mut self) {
        self.wanted = false;
        self.unanswered = false;
        self.pause = PAUSE;
    }

    /// Nobody needs one any more.
    pub fn withdraw(&mut self) {
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spaced_deferred_and_repeated() {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut requests = KeyFrameRequests::default();
        assert!(!requests.due(at(0)));
        assert!(requests.want(at(0)));
        assert!(!requests.want(at(1)));
        requests.satisfy();
        assert_eq!(requests.deadline(), None);
        // A second receiver shortly after: deferred, not dropped.
        assert!(!requests.want(at(100)));
        assert_eq!(requests.deadline(), Some(at(500)));
        assert!(!requests.due(at(499)));
        assert!(requests.due(at(500)));
        // No key frame comes: asked again at growing intervals.
        let asked: Vec<u64> = (501..12_000)
            .filter(|millis| requests.due(at(*millis)))
            .collect();
        assert_eq!(asked, [1000, 2000, 4000, 8000]);
        requests.withdraw();
        assert_eq!(requests.deadline(), None);
    }

    #[test]
    fn what_comes_unasked_is_waited_for_and_asked_for_if_it_does_not() {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut requests = KeyFrameRequests::default();
        requests.expect(at(0));
        assert!(!requests.want(at(1)));
        requests.satisfy();
        assert_eq!(requests.deadline(), None);
        requests.expect(at(1000));
        assert!(!requests.want(at(1001)));
        assert_eq!(requests.deadline(), Some(at(1500)));
        assert!(requests.due(at(1500)));
    }
}
