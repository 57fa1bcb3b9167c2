//! When a node is called, which of two connections to it stays, and whether it is still heard. Pure.

use std::time::{Duration, Instant};

use super::exchange::News;

/// Between two calls of a node that does not answer, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whom the other node is to call is given this long to do so.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether the other node still says anything, if only that it lives.
const LISTEN_EVERY: Duration = Duration::from_millis(250);
/// A node that says nothing for so long is taken for dead by those who can get their tracks elsewhere. QUIC
/// gives it up later. Shorter: a machine that is busy for a moment has its tracks taken from it.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// When a node is called.
#[derive(Debug)]
pub(super) struct Calls {
    /// Of two nodes, the one with the smaller id calls.
    is_first: bool,
    is_kept: bool,
    at: Instant,
    pause: Duration,
}

/// A connection, as far as it matters which of two stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// This node began it.
    pub(super) dialled: bool,
    pub(super) boot_id: u64,
}

impl Calls {
    pub(super) fn new(is_first: bool, now: Instant) -> Self {
        Self {
            is_first,
            is_kept: false,
            at: now,
            pause: FIRST_PAUSE,
        }
    }

    /// The node is to be connected, used or not.
    pub(super) fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// When to call, if there is neither a connection nor a call. `is_used`: somebody waits for it.
    pub(super) fn poll_timeout(&self, is_used: bool) -> Option<Instant> {
        (self.is_kept || is_used).then_some(self.at)
    }

    /// A call has failed; answers the pause before the next. `share`: of the longest, so that not all call at
    /// the same moment.
    pub(super) fn handle_failure(&mut self, share: f64, now: Instant) -> Duration {
        let pause = self.pause.mul_f64(share);
        self.at = now + pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }

    pub(super) fn handle_meeting(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// The connection is lost. Whose turn it is to call does so at once.
    pub(super) fn handle_loss(&mut self, now: Instant) {
        let patience = match self.is_first {
            true => Duration::ZERO,
            false => PATIENCE,
        };
        self.at = now + patience;
    }

    /// Whether a connection that lives stays when another one comes. Two may meet when both sides call: the
    /// one that the smaller id began stays. Of two that the same side began the later one does: the earlier is
    /// dead to who began it.
    pub(super) fn stays(&self, known: Met, later: Met) -> bool {
        let is_same_side = known.dialled == later.dialled;
        let is_preferred = later.dialled == self.is_first;
        !is_same_side && !is_preferred && known.boot_id == later.boot_id
    }
}

/// Whether the other node is still heard.
#[derive(Debug)]
pub(super) struct Ear {
    /// Datagrams of the connection, and when the last of them came.
    heard: (u64, Instant),
    listen_at: Instant,
    is_heard: Option<bool>,
}

impl Ear {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: (0, now),
            listen_at: now,
            is_heard: None,
        }
    }

    /// There is a connection.
    pub(super) fn handle_meeting(&mut self, now: Instant) -> Option<News> {
        self.heard = (0, now);
        self.listen_at = now + LISTEN_EVERY;
        self.note(true)
    }

    /// The other node cannot be reached.
    pub(super) fn handle_silence(&mut self) -> Option<News> {
        self.note(false)
    }

    /// While there is a connection.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.listen_at
    }

    /// `datagrams`: that the connection has received in all.
    pub(super) fn handle_timeout(&mut self, datagrams: u64, now: Instant) -> Option<News> {
        if now < self.listen_at {
            return None;
        }
        self.listen_at = now + LISTEN_EVERY;
        if datagrams != self.heard.0 {
            self.heard = (datagrams, now);
        }
        self.note(now - self.heard.1 < SUSPECT_AFTER)
    }

    /// Whether it said anything of late.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard == Some(true)
    }

    /// Answers what is news.
    fn note(&mut self, is_heard: bool) -> Option<News> {
        (self.is_heard.replace(is_heard) != Some(is_heard)).then_some(match is_heard {
            true => News::Heard,
            false => News::Silent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_does_not_answer_is_called_ever_more_rarely() {
        let now = Instant::now();
        let mut calls = Calls::new(false, now);
        assert_eq!(calls.poll_timeout(false), None);
        assert_eq!(calls.poll_timeout(true), Some(now));
        let pauses: Vec<u128> = (0..8)
            .map(|_| calls.handle_failure(1.0, now).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        calls.handle_meeting();
        calls.handle_loss(now);
        calls.keep(true);
        assert_eq!(calls.poll_timeout(false), Some(now + PATIENCE));
        assert_eq!(calls.handle_failure(0.5, now), FIRST_PAUSE / 2);
    }

    #[test]
    fn both_ends_keep_the_same_of_two_connections() {
        let now = Instant::now();
        let (first, second) = (Calls::new(true, now), Calls::new(false, now));
        let met = |dialled, boot_id| Met { dialled, boot_id };
        // The one that the first began, in whichever order they came.
        for (known, later, stays) in [(true, false, true), (false, true, false)] {
            assert_eq!(first.stays(met(known, 1), met(later, 1)), stays);
            assert_eq!(second.stays(met(!known, 1), met(!later, 1)), stays);
        }
        // A node that began anew knows nothing of the former.
        assert!(!first.stays(met(true, 1), met(false, 2)));
        assert!(!first.stays(met(true, 1), met(true, 1)));
    }

    #[test]
    fn who_says_nothing_for_a_second_is_silent() {
        let now = Instant::now();
        let mut ear = Ear::new(now);
        assert_eq!(ear.handle_meeting(now), Some(News::Heard));
        assert_eq!(ear.handle_timeout(5, now + SECOND / 2), None);
        assert_eq!(ear.handle_timeout(6, now + SECOND), None);
        let silent = now + 2 * SECOND;
        assert_eq!(ear.handle_timeout(6, silent), Some(News::Silent));
        assert_eq!(ear.handle_timeout(6, silent), None, "it is not time yet");
        assert_eq!(ear.handle_timeout(6, silent + SECOND), None, "no news");
        assert_eq!(
            ear.handle_timeout(7, silent + 2 * SECOND),
            Some(News::Heard)
        );
        assert_eq!(ear.handle_silence(), Some(News::Silent));
        assert_eq!(ear.handle_silence(), None);
    }
}
