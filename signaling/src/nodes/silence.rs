//! When a node that reports no more is given up, and its sessions with it. Pure: moments in, what to do next
//! out.
//!
//! It is asked once before that, since it may only be slow. Nor does a report that does not come say much if
//! it is this process that is slow, and reads what comes too late: what any session's stream says is a sign
//! of life as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A node that is silent for this long counts as lost, unless it says how often it reports: then when so many
/// reports have not come.
pub(super) const REPORT_LIMIT: Duration = Duration::from_secs(2);
const REPORTS_MISSED: u32 = 3;

/// How often a node reports that does not say so.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Time for a node that has fallen silent to answer one question, before its sessions are given up. Longer:
/// people wait in vain. Shorter: a node that is only busy loses them.
const ASK_LIMIT: Duration = Duration::from_millis(400);

/// Time to reach a node.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The same as the time for one question, where the connection has to be made anew.
const ASK_ANEW_LIMIT: Duration = CONNECT_LIMIT.saturating_add(ASK_LIMIT);

/// When any stream of a node has last said something.
#[derive(Debug)]
pub(super) struct Signs {
    began: Instant,
    /// In milliseconds since then; 0: none has.
    last: AtomicU64,
}

impl Signs {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: AtomicU64::new(0),
        }
    }

    /// Called by every stream.
    pub(super) fn note(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        // Which of two that come at once stays does not matter, nor does it order anything else.
        self.last
            .store(u64::try_from(since).unwrap_or(0).max(1), Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Option<Instant> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.began + Duration::from_millis(since)),
        }
    }
}

/// Why no more reports come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// None came in time.
    Late,
    /// The node ended them, or the connection broke.
    Broken,
    /// Nobody takes a connection: its process is gone.
    Gone,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is asked at once, and has this long to answer.
    Ask(Duration),
    /// It cannot be reached. After a pause it is asked again, and has this long to answer.
    Retry(Duration),
    /// The same, and its sessions are given up.
    GiveUp(Duration),
}

/// How long a node has been silent.
#[derive(Debug)]
pub(super) struct Silence {
    /// When it was asked for reports.
    asked_at: Instant,
    /// Whether it has reported since then, and whether it had, asked before.
    is_heard: bool,
    was_heard: bool,
    /// Whether it was asked once more because the question met a connection that had broken.
    is_asked_anew: bool,
    every: Option<Duration>,
    /// What comes after that was said when a report should have been. What came before may be the last that it
    /// said before it fell silent.
    counts_from: Instant,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            asked_at: now,
            is_heard: false,
            was_heard: false,
            is_asked_anew: false,
            every: None,
            counts_from: now,
        }
    }

    /// It is asked for reports.
    pub(super) fn handle_asked(&mut self, now: Instant) {
        self.asked_at = now;
    }

    /// It reports, so often as it says, and answers how long the next report is waited for.
    pub(super) fn handle_report(&mut self, every: Option<Duration>, now: Instant) -> Duration {
        self.is_heard = true;
        self.is_asked_anew = false;
        self.every = every;
        self.counts_from = now + every.unwrap_or(REPORT_EVERY);
        self.limit()
    }

    /// It does not report any more. `sign`: when it last said something else.
    pub(super) fn handle_end(&mut self, why: Why, sign: Option<Instant>, now: Instant) -> Next {
        let heard = std::mem::take(&mut self.is_heard);
        let was_heard = std::mem::replace(&mut self.was_heard, heard);
        let took = now.saturating_duration_since(self.asked_at);
        if heard {
            let limit = match why {
                Why::Late => ASK_LIMIT,
                Why::Broken | Why::Gone => ASK_ANEW_LIMIT,
            };
            // Unless that has just been done.
            return match took > REPORT_LIMIT {
                true => Next::Ask(limit),
                false => Next::Retry(limit),
            };
        }
        if !was_heard {
            return Next::Retry(REPORT_LIMIT);
        }
        if why == Why::Late && sign.is_some_and(|sign| sign > self.counts_from) {
            // As good as a report.
            self.was_heard = true;
            self.counts_from = now;
            return Next::Ask(self.limit());
        }
        // That came too soon to be the node's answer.
        if why == Why::Broken && took < ASK_LIMIT && !self.is_asked_anew {
            (self.was_heard, self.is_asked_anew) = (true, true);
            return Next::Ask(ASK_ANEW_LIMIT);
        }
        Next::GiveUp(REPORT_LIMIT)
    }

    fn limit(&self) -> Duration {
        self.every
            .map_or(REPORT_LIMIT, |every| every * REPORTS_MISSED)
    }
}

#[cfg(test)]
mod tests;
