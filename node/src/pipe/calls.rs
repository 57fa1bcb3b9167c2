//! When a node is called, which of two connections to it stays, when one is let go of, and whether the node is
//! still heard. Pure.

use std::time::{Duration, Instant};

use super::exchange::News;

/// Between two calls of a node that does not answer, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whom the other node is to call is given this long to do so.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether the other node still says anything, if only that it lives.
const LISTEN_EVERY: Duration = Duration::from_millis(250);
/// A node that says nothing for so long is taken for dead by those who can get their tracks elsewhere. Shorter:
/// a machine that is busy for a moment has its tracks taken from it.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// … and its connection is given up after so long, before QUIC does so without a word: where the other end
/// still hears this one, it learns of it at once.
const GIVE_UP_AFTER: Duration = Duration::from_millis(2_750);

/// A connection that is not kept and that neither end has needed for so long is let go of. Shorter: whoever
/// comes back waits for a call. Longer: a node has more connections than it speaks through.
pub(super) const LET_GO_AFTER: Duration = Duration::from_secs(300);
/// … and one to a node that the registry does not list after so long: it may be listed again in a moment, and if it
/// lives, it calls as soon as it is let go of.
const LEFT_FOR: Duration = Duration::from_secs(10);

/// … and one that keeps to shorter datagrams than its path carries after so long, to be made anew.
const RENEW_AFTER: Duration = Duration::from_secs(10);

/// When a node is called, and when it is not spoken to any more.
#[derive(Debug)]
pub(super) struct Calls {
    /// Of two nodes, the one with the smaller id calls.
    is_first: bool,
    is_kept: bool,
    /// When it was found not to be among the nodes any more.
    left_at: Option<Instant>,
    /// … and that was all.
    is_gone: bool,
    at: Instant,
    pause: Duration,
    let_go_after: Duration,
    /// `None`: somebody needs the pipe.
    unused_since: Option<Instant>,
}

/// A connection, as far as it matters which of two stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// This node began it.
    pub(super) dialled: bool,
    pub(super) boot_id: u64,
}

impl Calls {
    pub(super) fn new(is_first: bool, let_go_after: Duration, now: Instant) -> Self {
        Self {
            is_first,
            is_kept: false,
            left_at: None,
            is_gone: false,
            at: now,
            pause: FIRST_PAUSE,
            let_go_after,
            unused_since: Some(now),
        }
    }

    /// The node is to be connected, used or not.
    pub(super) fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// The node is not among the nodes any more, or is again.
    pub(super) fn list(&mut self, is_listed: bool, now: Instant) {
        if is_listed && self.left_at.is_some() {
            self.pause = FIRST_PAUSE;
            self.at = now;
        }
        self.left_at = match is_listed {
            true => None,
            false => self.left_at.or(Some(now)),
        };
    }

    /// Whether anything is taken or given, or a room followed. To be told before what follows is asked.
    pub(super) fn note_use(&mut self, is_used: bool, now: Instant) {
        self.unused_since = match is_used {
            true => None,
            false => self.unused_since.or(Some(now)),
        };
    }

    /// When to call, if there is neither a connection nor a call.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_wanted = self.is_kept || self.unused_since.is_none();
        (is_wanted && self.left_at.is_none()).then_some(self.at)
    }

    /// When a connection is to be let go of that this node has `dialled`. The other end may want something in
    /// the same moment: then it calls, and says it again. `is_bettered`: a new one would have longer datagrams.
    pub(super) fn let_go_at(
        &self,
        dialled: bool,
        is_bettered: impl FnOnce() -> bool,
    ) -> Option<Instant> {
        let unused_since = self.unused_since?;
        if let Some(left_at) = self.left_at {
            return Some(left_at.max(unused_since) + LEFT_FOR);
        }
        if is_bettered() {
            return Some(unused_since + RENEW_AFTER);
        }
        let lets_go = dialled && !self.is_kept;
        lets_go.then(|| unused_since + self.let_go_after)
    }

    /// Whether the node is none any more, there is no connection and nobody needs one: answered once.
    pub(super) fn poll_gone(&mut self, is_connected: bool) -> bool {
        let is_gone = self.left_at.is_some() && self.unused_since.is_some() && !is_connected;
        !std::mem::replace(&mut self.is_gone, is_gone) && is_gone
    }

    /// One end has let go of the connection. Whoever needs one calls, whose turn it ever was.
    pub(super) fn handle_rest(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.at = now;
    }

    /// A call has failed; answers the pause before the next. `share`: of the longest, so that not all call at
    /// the same moment.
    pub(super) fn handle_failure(&mut self, share: f64, now: Instant) -> Duration {
        let pause = self.pause.mul_f64(share);
        self.at = now + pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }

    pub(super) fn handle_meeting(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.unused_since = self.unused_since.map(|_| now);
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

/// Whether the other node is still heard, and hears this one.
#[derive(Debug)]
pub(super) struct Ear {
    /// Datagrams of the connection, and when the last of them came.
    heard: (u64, Instant),
    /// By how much it was looked too late since then: a machine that stands still for a moment has not read yet
    /// what has come.
    late: Duration,
    listen_at: Instant,
    /// Nothing has come from there of late …
    is_silent: bool,
    /// … and it has not been told so, or not been told that this is over.
    is_untold: bool,
    /// It says that nothing has come to it from here.
    is_doubted: bool,
    /// Both ways work; as it was reported last.
    is_heard: Option<bool>,
}

impl Ear {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: (0, now),
            late: Duration::ZERO,
            listen_at: now,
            is_silent: false,
            is_untold: false,
            is_doubted: false,
            is_heard: None,
        }
    }

    /// There is a connection.
    pub(super) fn handle_meeting(&mut self, now: Instant) -> Option<News> {
        self.heard = (0, now);
        self.late = Duration::ZERO;
        self.listen_at = now + LISTEN_EVERY;
        (self.is_silent, self.is_untold, self.is_doubted) = (false, false, false);
        self.note(true)
    }

    /// The other node cannot be reached.
    pub(super) fn handle_silence(&mut self) -> Option<News> {
        self.note(false)
    }

    /// The other node says that it does not hear this one, or does again.
    pub(super) fn handle_doubt(&mut self, is_doubted: bool) -> Option<News> {
        self.is_doubted = is_doubted;
        self.note(!is_doubted && !self.is_silent)
    }

    /// Whether the other node is to be told that it is not heard, or is again.
    pub(super) fn poll_doubt(&mut self) -> Option<bool> {
        std::mem::take(&mut self.is_untold).then_some(self.is_silent)
    }

    /// While there is a connection: whether it is to be given up.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        now >= self.heard.1 + GIVE_UP_AFTER + self.late
    }

    /// There is no connection, since nobody needs one.
    pub(super) fn handle_rest(&mut self) {
        self.is_heard = None;
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
        self.late += now - self.listen_at;
        self.listen_at = now + LISTEN_EVERY;
        if datagrams != self.heard.0 {
            self.heard = (datagrams, now);
            self.late = Duration::ZERO;
        }
        let is_silent = now >= self.heard.1 + SUSPECT_AFTER;
        self.is_untold ^= is_silent != self.is_silent;
        self.is_silent = is_silent;
        self.note(!is_silent && !self.is_doubted)
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
        let mut calls = Calls::new(false, LET_GO_AFTER, now);
        assert_eq!(calls.poll_timeout(), None);
        calls.note_use(true, now);
        assert_eq!(calls.poll_timeout(), Some(now));
        let pauses: Vec<u128> = (0..8)
            .map(|_| calls.handle_failure(1.0, now).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        calls.handle_meeting(now);
        calls.handle_loss(now);
        calls.note_use(false, now);
        assert_eq!(calls.poll_timeout(), None);
        calls.keep(true);
        assert_eq!(calls.poll_timeout(), Some(now + PATIENCE));
        assert_eq!(calls.handle_failure(0.5, now), FIRST_PAUSE / 2);
    }

    #[test]
    fn a_connection_that_nobody_needs_is_let_go_of_by_who_dialled() {
        let start = Instant::now();
        let at = |minutes: u32| start + 60 * SECOND * minutes;
        let mut calls = Calls::new(true, LET_GO_AFTER, start);
        calls.note_use(true, start);
        calls.handle_meeting(start);
        assert_eq!(calls.let_go_at(true, || false), None, "it is of use");
        calls.note_use(false, at(1));
        calls.note_use(false, at(4));
        assert_eq!(calls.let_go_at(true, || false), Some(at(6)));
        assert_eq!(
            calls.let_go_at(false, || false),
            None,
            "the other end does so"
        );
        // Of use for a moment, it is kept as long again.
        calls.note_use(true, at(5));
        calls.note_use(false, at(5));
        assert_eq!(calls.let_go_at(true, || false), Some(at(10)));
        calls.keep(true);
        assert_eq!(calls.let_go_at(true, || false), None);
        calls.keep(false);
        // The other node called: it is about to say why.
        calls.handle_meeting(at(9));
        assert_eq!(calls.let_go_at(true, || false), Some(at(14)));
        calls.handle_rest(at(14));
        assert_eq!(calls.poll_timeout(), None);
        calls.note_use(true, at(20));
        assert_eq!(calls.poll_timeout(), Some(at(14)), "at once");
    }

    /// It is made anew at once if it is kept.
    #[test]
    fn a_connection_is_renewed_while_nobody_needs_it() {
        let start = Instant::now();
        let mut calls = Calls::new(false, LET_GO_AFTER, start);
        calls.keep(true);
        calls.note_use(true, start);
        assert_eq!(calls.let_go_at(false, || true), None, "media goes on");
        let unused = start + 60 * SECOND;
        calls.note_use(false, unused);
        assert_eq!(calls.let_go_at(false, || false), None);
        let due = unused + RENEW_AFTER;
        assert_eq!(calls.let_go_at(false, || true), Some(due));
        calls.handle_rest(due);
        assert_eq!(calls.poll_timeout(), Some(due));
    }

    #[test]
    fn who_lets_go_of_a_connection_that_the_other_end_needs_is_called_at_once() {
        let now = Instant::now();
        // It is the other one's turn, which does not know that there is need.
        let mut calls = Calls::new(false, LET_GO_AFTER, now);
        calls.note_use(true, now);
        calls.handle_meeting(now);
        calls.handle_rest(now);
        assert_eq!(calls.poll_timeout(), Some(now));
    }

    #[test]
    fn who_is_no_node_any_more_is_let_go_of_once_nobody_needs_it_and_not_called() {
        let now = Instant::now();
        let mut calls = Calls::new(true, LET_GO_AFTER, now);
        calls.note_use(true, now);
        calls.keep(true);
        calls.list(false, now + SECOND);
        calls.list(false, now + 2 * SECOND);
        // The registry may be mistaken: what goes on goes on.
        assert_eq!(calls.let_go_at(false, || false), None);
        assert_eq!(calls.poll_timeout(), None);
        assert!(!calls.poll_gone(false), "something is wanted of it");
        let unused = now + 2 * SECOND;
        calls.note_use(false, unused);
        assert_eq!(calls.let_go_at(false, || false), Some(unused + LEFT_FOR));
        assert!(!calls.poll_gone(true));
        assert!(calls.poll_gone(false));
        assert!(!calls.poll_gone(false), "that was said");
        calls.list(true, now + 3 * SECOND);
        assert!(!calls.poll_gone(false));
        assert_eq!(calls.let_go_at(false, || false), None);
        assert_eq!(calls.poll_timeout(), Some(now + 3 * SECOND));
        // That it is a node, as before, changes nothing.
        calls.handle_failure(1.0, now + 4 * SECOND);
        calls.list(true, now + 4 * SECOND);
        assert_eq!(calls.poll_timeout(), Some(now + 4 * SECOND + FIRST_PAUSE));
    }

    #[test]
    fn both_ends_keep_the_same_of_two_connections() {
        let now = Instant::now();
        let calls = |is_first| Calls::new(is_first, LET_GO_AFTER, now);
        let (first, second) = (calls(true), calls(false));
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
        assert_eq!(ear.poll_doubt(), Some(true));
        assert_eq!(ear.poll_doubt(), None);
        assert_eq!(ear.handle_timeout(6, silent), None, "it is not time yet");
        assert_eq!(ear.handle_timeout(6, silent + SECOND), None, "no news");
        assert_eq!(
            ear.handle_timeout(7, silent + 2 * SECOND),
            Some(News::Heard)
        );
        assert_eq!(ear.poll_doubt(), Some(false));
        assert_eq!(ear.handle_silence(), Some(News::Silent));
        assert_eq!(ear.handle_silence(), None);
        // Nobody listens: that is no silence.
        ear.handle_meeting(silent + 3 * SECOND);
        ear.handle_rest();
        assert!(!ear.is_heard());
        assert_eq!(ear.handle_meeting(silent + 9 * SECOND), Some(News::Heard));
    }

    #[test]
    fn who_does_not_hear_is_as_good_as_silent() {
        let now = Instant::now();
        let mut ear = Ear::new(now);
        ear.handle_meeting(now);
        assert_eq!(ear.handle_doubt(true), Some(News::Silent));
        assert_eq!(ear.handle_timeout(5, now + SECOND), None);
        assert_eq!(ear.poll_doubt(), None, "it is heard");
        let silent = now + 2 * SECOND;
        assert_eq!(ear.handle_timeout(5, silent), None);
        assert_eq!(ear.handle_doubt(false), None, "now it is silent, too");
        assert_eq!(ear.handle_timeout(6, silent + SECOND), Some(News::Heard));
        assert!(!ear.is_lost(silent + 3 * SECOND));
        assert!(ear.is_lost(silent + 4 * SECOND));
        // What was doubted of the connection before says nothing of this one.
        ear.handle_doubt(true);
        assert_eq!(ear.handle_meeting(silent), Some(News::Heard));
    }
}
