//! Whom this process serves, and when the store's word on them does not count.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use pipemesh_topology::store::Lease;
use tokio::time::Instant;

use super::lease::Own;
use super::lock;

#[derive(Debug, Default)]
pub(super) struct Served {
    /// By which claims each session is held, from before one is made until it is left. Held for a map access.
    sessions: Mutex<HashMap<String, BTreeSet<u64>>>,
    own: Mutex<Own>,
}

impl Served {
    pub(super) fn begin(&self, session: &str, holding: u64) {
        lock(&self.own).serve(Instant::now());
        let mut sessions = lock(&self.sessions);
        let holdings = sessions.entry(session.to_owned()).or_default();
        holdings.insert(holding);
    }

    pub(super) fn end(&self, session: &str, holding: u64) {
        let mut sessions = lock(&self.sessions);
        if let Some(holdings) = sessions.get_mut(session) {
            holdings.remove(&holding);
            if holdings.is_empty() {
                sessions.remove(session);
            }
        }
    }

    pub(super) fn serves(&self, session: &str) -> bool {
        lock(&self.sessions).contains_key(session)
    }

    /// Whether somebody stays whose record is gone: their session is here, and another process may have
    /// removed the record because it took this one to be gone.
    pub(super) fn keeps(&self, session: &str) -> bool {
        lock(&self.own).may_have_ended(Instant::now()) && self.serves(session)
    }

    /// What this process is to say next of itself.
    pub(super) fn says(&self) -> String {
        lock(&self.own).next()
    }

    /// It was said. Whether somebody took this process to be gone meanwhile.
    pub(super) fn handle_renewed(&self, before: Option<&Lease>, asked: Instant) -> bool {
        lock(&self.own).handle_renewed(before, asked)
    }
}
