//! What is believed of the answers to blocking queries, and when the next query is due.
//!
//! Pure, in virtual time: answers and failures in, the list of nodes and the next query out. Consul's
//! silence, its errors and its empty answers never mean that everybody has left.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::NodeId;

use super::service::{Claim, Listing};
use crate::snapshot::{NodeRecord, Snapshot};

/// How long an agent may hold an answer back. Longer: an agent that hangs is noticed later. Shorter:
/// more queries that say nothing.
const WAIT: Duration = Duration::from_secs(20);

/// A mesh in which everything changes at once wakes us this often, no more.
const APART: Duration = Duration::from_millis(200);

const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Of who answers with errors.
const RETRY_AT_MOST: Duration = Duration::from_secs(30);
/// Of who does not answer: trying costs nobody anything, and membership is frozen meanwhile.
const CONNECT_AT_MOST: Duration = Duration::from_secs(2);

/// After Consul was away, or has begun anew, nodes have not registered again, or their heartbeats are
/// overdue: time for one that fails, and for a pause between attempts.
const ABSENCE: Duration = Duration::from_secs(15);

/// What to ask next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// 0: answered at once.
    pub(super) index: u64,
    pub(super) wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answers.
    Unreachable,
    /// Somebody does, with an error.
    Refused,
}

/// Why the list may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Failing,
    /// Nodes cannot be seen, or there are none.
    Empty,
}

#[derive(Debug)]
pub(super) struct Watch {
    index: u64,
    due: Instant,
    /// What fails, and how often in a row.
    failing: Option<(Failure, u32)>,
    trouble: Option<Trouble>,
    /// Until then nodes are kept that are not listed, or listed as dead.
    keep_until: Option<Instant>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    holders: BTreeMap<NodeId, Claim>,
    unreadable: BTreeSet<String>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            index: 0,
            due: now,
            failing: None,
            trouble: None,
            keep_until: None,
            nodes: BTreeMap::new(),
            holders: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// When the next query is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn query(&self, now: Instant) -> Query {
        let grace = self.keep_until.map(|until| until - now.min(until));
        // An answer is wanted when those are given up that did not come back.
        let wait = grace.unwrap_or(WAIT).clamp(APART, WAIT);
        Query {
            index: self.index,
            wait,
        }
    }

    pub(super) fn handle_answer(&mut self, index: u64, listing: Listing, now: Instant) {
        let begins_anew = index < self.index;
        let was_empty = self.trouble == Some(Trouble::Empty);
        let may_lack = begins_anew || self.failing.is_some() || was_empty;
        if may_lack && !listing.is_empty() && !self.nodes.is_empty() {
            // Who fails again and again must not keep the dead for ever: what runs already goes on. What
            // ran out long ago was of another outage.
            let runs = self.keep_until.filter(|until| now < *until + ABSENCE);
            self.keep_until = Some(runs.unwrap_or(now + ABSENCE));
        }
        // Going on with an index that is ahead of Consul's would mean to wait for what it has yet to do.
        self.index = if begins_anew { 0 } else { index };
        self.failing = None;
        self.due = now + APART;
        self.unreadable = listing.unreadable.clone();
        if listing.is_empty() {
            self.trouble = Some(Trouble::Empty);
            return;
        }
        self.trouble = None;
        if self.keep_until.is_some_and(|until| until <= now) {
            self.keep_until = None;
        }
        if self.keep_until.is_none() {
            self.nodes.clear();
            self.holders.clear();
        }
        self.nodes.extend(listing.living);
        self.holders.extend(listing.holders);
    }

    /// `spread`: 0 to 1, at random, so that those who failed together do not try again together.
    pub(super) fn handle_failure(&mut self, failure: Failure, spread: f64, now: Instant) {
        let longest = match failure {
            Failure::Unreachable => CONNECT_AT_MOST,
            Failure::Refused => RETRY_AT_MOST,
        };
        // Who comes back answers with errors for a moment: that is another beginning, not the next step.
        let before = match self.failing {
            Some((same, times)) if same == failure => times,
            Some(_) | None => 0,
        };
        let pause = RETRY_AFTER * 2_u32.pow(before.min(8));
        self.due = now + pause.min(longest).mul_f64(0.75 + spread / 2.0);
        self.failing = Some((failure, before.saturating_add(1)));
        self.trouble = Some(Trouble::Failing);
        // What is there by then is wanted at once, changed or not.
        self.index = 0;
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    pub(super) fn unreadable(&self) -> &BTreeSet<String> {
        &self.unreadable
    }

    pub(super) fn holders(&self) -> &BTreeMap<NodeId, Claim> {
        &self.holders
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.nodes.values().cloned())
    }
}
