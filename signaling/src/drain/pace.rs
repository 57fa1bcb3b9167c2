//! When the next room of a node that drains moves, and which. Pure: time comes in as an argument.
//!
//! All signaling processes together move so many participants a second. Each takes the part of the rate
//! that it has of the node's participants, without asking the others: the parts add up to the whole. A
//! room moves as a whole, since everybody in it is on one node, and is paid for afterwards: whoever moves
//! a large one waits longer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipemesh_topology::RoomName;

use crate::rooms::Stay;

/// Pause before a room is tried again that could not be moved: no node can take it, or the store is away.
const RETRY: Duration = Duration::from_secs(1);

/// Rooms that move from one node.
#[derive(Debug)]
pub(super) struct Pace {
    /// Participants a second, of all processes.
    rate: f64,
    /// What was moved is paid for by then.
    free_at: Instant,
    /// Rooms that could not be moved, and when to try again.
    refused: BTreeMap<RoomName, Instant>,
}

impl Pace {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self {
            rate: rate.into(),
            free_at: now,
            refused: BTreeMap::new(),
        }
    }

    /// The room that moves now, of those in which this process serves somebody. First the one whose people
    /// are mostly this process's: others have their own.
    pub(super) fn poll<'a>(&mut self, stays: &'a [Stay], now: Instant) -> Option<&'a Stay> {
        if now < self.free_at {
            return None;
        }
        self.refused.retain(|_, again_at| *again_at > now);
        let share = |stay: &Stay| f64::from(stay.served) / f64::from(stay.members.max(1));
        stays
            .iter()
            .filter(|stay| !self.refused.contains_key(&stay.room))
            .max_by(|a, b| {
                let shares = share(a).total_cmp(&share(b));
                shares.then_with(|| b.room.cmp(&a.room))
            })
    }

    /// When [`Self::poll`] may have an answer.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.free_at
    }

    /// A room was moved. `served`: participants on the node whom this process serves; `all`: all of them,
    /// as the node said lately.
    pub(super) fn handle_moved(&mut self, members: u32, served: u32, all: u32, now: Instant) {
        let part = f64::from(served) / f64::from(all.max(served).max(1));
        let rate = self.rate * part;
        if rate > 0.0 {
            let cost = Duration::from_secs_f64(f64::from(members) / rate);
            self.free_at = self.free_at.max(now) + cost;
        }
    }

    /// It could not be.
    pub(super) fn handle_refused(&mut self, room: &RoomName, now: Instant) {
        self.refused.insert(room.clone(), now + RETRY);
    }
}

#[cfg(test)]
mod tests;
