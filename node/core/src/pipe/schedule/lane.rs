//! What waits of one alias, in the order in which it came.

use std::collections::VecDeque;
use std::time::Instant;

use super::class::Class;
use super::stats::{Reason, Stats};

/// A queue that keeps its memory.
#[derive(Debug)]
pub(super) struct Lane<T> {
    pub(super) entries: VecDeque<Entry<T>>,
    /// Bytes that it may still send in this turn.
    pub(super) deficit: i64,
    /// Among those that take turns.
    pub(super) listed: bool,
    /// The beginning of the frame at its head has left.
    pub(super) within_frame: bool,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) payload: T,
    pub(super) len: usize,
    pub(super) at: Instant,
    pub(super) begins_key_frame: bool,
    pub(super) frame_end: bool,
}

impl<T> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            deficit: 0,
            listed: false,
            within_frame: false,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.entries.pop_front()?;
        self.within_frame = !entry.frame_end;
        Some(entry)
    }

    /// Drops the head, and all that follows up to the next key frame. The bytes that wait no longer.
    pub(super) fn cut(&mut self, class: Class, reason: Reason, stats: &mut Stats) -> usize {
        let mut bytes = 0;
        while let Some(entry) = self.entries.pop_front() {
            stats.drop(class, reason, entry.len);
            bytes += entry.len;
            if self
                .entries
                .front()
                .is_some_and(|next| next.begins_key_frame)
            {
                break;
            }
        }
        self.within_frame = false;
        bytes
    }

    pub(super) fn clear(&mut self, class: Class, reason: Reason, stats: &mut Stats) -> usize {
        let mut bytes = 0;
        for entry in self.entries.drain(..) {
            stats.drop(class, reason, entry.len);
            bytes += entry.len;
        }
        self.within_frame = false;
        bytes
    }
}
