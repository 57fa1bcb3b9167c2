//! Which channels of processes are listened to on one connection.
//!
//! Performs no I/O. What is said to a process can be lost, with its connection or without: whoever
//! says it waits for an answer, and says it again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::store::{LETTERS_CAPACITY, Letters};

/// By channel; `None`: the connection is gone. Held for a map access.
#[derive(Debug)]
pub(super) struct Inboxes(Mutex<Option<HashMap<String, broadcast::Sender<Bytes>>>>);

impl Inboxes {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Begins to take what is said; the channel is still to be subscribed to. `None` when the connection
    /// is gone.
    pub(super) fn open(&self, channel: &str) -> Option<Letters> {
        let mut inboxes = self.lock();
        let inbox = inboxes.as_mut()?.entry(channel.to_owned());
        let inbox = inbox.or_insert_with(|| broadcast::Sender::new(LETTERS_CAPACITY));
        Some(Letters::new(inbox.subscribe()))
    }

    /// Takes what was said, if the channel is one of these.
    pub(super) fn take(&self, channel: &[u8], said: &[u8]) -> bool {
        let inboxes = self.lock();
        let channel = std::str::from_utf8(channel).ok();
        let inbox = channel.and_then(|channel| inboxes.as_ref()?.get(channel));
        let Some(inbox) = inbox else { return false };
        // Fails when nobody listens any more.
        let _ = inbox.send(Bytes::copy_from_slice(said));
        true
    }

    /// Whoever listens is to listen again.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<String, broadcast::Sender<Bytes>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
