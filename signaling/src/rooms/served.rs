//! Whom this process serves, and when the store's word on them does not count.

use std::collections::HashMap;
use std::sync::Mutex;

use pipemesh_topology::store::Lease;
use tokio::time::Instant;

use super::lease::Own;
use super::lock;

#[derive(Debug, Default)]
pub(super) struct Served {
    /// Claims on each session, from before one is made until it is left. Held for a map access.
    sessions: Mutex<HashMap<String, u32>>,
    own: Mutex<Own>,
}

impl Served {
    pub(super) fn begin(&self, session: &str) {
        lock(&self.own).serve(Instant::now());
        *lock(&self.sessions).entry(session.to_owned()).or_default() += 1;
    }

    pub(super) fn end(&self, session: &str) {
        let mut sessions = lock(&self.sessions);
        let Some(claims) = sessions.get_mut(session) else {
            return;
        };
        *claims -= 1;
        if *claims == 0 {
            sessions.remove(session);
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
