//! Who watches what on one connection, and whether they were told everything.
//!
//! Performs no I/O. A published event can be lost, with its connection or without, so for each name
//! it is kept up to which event it was heard of: a gap is noticed with the next event, and silence
//! by comparing with what the server counts. Watchers are then told that they lag, and read again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipemesh_proto::ids::RoomId;
use tokio::sync::broadcast;

use super::Stats;
use super::keys::RoomKeys;
use super::message;
use crate::store::{Change, Heard, Lagged, RoomEvent, WATCH_CAPACITY, Watch};

/// How much has happened under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    NoRoom,
    At { room: RoomId, sequence: u64 },
}

/// What an event is after what was heard.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Next,
    Known,
    Gap,
}

impl Position {
    fn after(event: &RoomEvent) -> Self {
        match event.change {
            Change::Ended => Self::NoRoom,
            _ => Self::At {
                room: event.room.clone(),
                sequence: event.sequence,
            },
        }
    }

    fn order(&self, event: &RoomEvent) -> Order {
        match self {
            Self::NoRoom if matches!(event.change, Change::Opened(_)) => Order::Next,
            Self::At { room, sequence } if *room == event.room => {
                if event.sequence <= *sequence {
                    Order::Known
                } else if event.sequence == *sequence + 1 {
                    Order::Next
                } else {
                    Order::Gap
                }
            }
            Self::NoRoom | Self::At { .. } => Order::Gap,
        }
    }
}

#[derive(Debug)]
struct Topic {
    keys: RoomKeys,
    watchers: broadcast::Sender<Heard>,
    /// Up to where watchers know everything or were told to read. `None` until the server confirmed
    /// the subscription and was asked where the room stands.
    position: Option<Position>,
}

/// A name and where it stood, to be compared with the server.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) keys: RoomKeys,
    position: Position,
}

impl Standing {
    /// The room and how many of its changes were heard of, if the server knows of fewer: a room's count
    /// only grows, so the server has lost some.
    pub(super) fn lost_by(&self, server: &Position) -> Option<(&RoomId, u64)> {
        match (&self.position, server) {
            (
                Position::At { room, sequence },
                Position::At {
                    room: same,
                    sequence: left,
                },
            ) if room == same && left < sequence => Some((room, *sequence)),
            _ => None,
        }
    }
}

/// By channel. One lock: each operation is a few map accesses, and nothing waits inside.
#[derive(Debug)]
pub(super) struct Topics {
    state: Mutex<State>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
enum State {
    Open(HashMap<String, Topic>),
    /// The connection is gone: nobody may begin to watch on it. Where everything stood then.
    Closed(Vec<Standing>),
}

impl State {
    fn open(&mut self) -> Option<&mut HashMap<String, Topic>> {
        match self {
            Self::Open(topics) => Some(topics),
            Self::Closed(_) => None,
        }
    }
}

impl Topics {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            state: Mutex::new(State::Open(HashMap::new())),
            stats,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside leaves no half-made change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to pass on what is heard; the channel is still to be subscribed to. `None` when the
    /// connection is gone.
    pub(super) fn watch(&self, keys: &RoomKeys) -> Option<Watch> {
        let mut state = self.lock();
        let topic = state
            .open()?
            .entry(keys.channel.clone())
            .or_insert_with(|| Topic {
                keys: keys.clone(),
                watchers: broadcast::Sender::new(WATCH_CAPACITY),
                position: None,
            });
        Some(Watch::new(topic.watchers.subscribe()))
    }

    /// Where a room stood after the subscription and before its watcher reads.
    pub(super) fn begin(&self, channel: &str, position: Position) {
        if let Some(topic) = self.lock().open().and_then(|open| open.get_mut(channel)) {
            topic.position.get_or_insert(position);
        }
    }

    /// Takes what was published.
    pub(super) fn hear(&self, channel: &[u8], message: &[u8]) {
        let mut state = self.lock();
        let topic = std::str::from_utf8(channel)
            .ok()
            .and_then(|channel| state.open()?.get_mut(channel));
        let Some(topic) = topic else { return };
        match message::decode(message) {
            Ok(event) => topic.hear(event, &self.stats),
            // The position stays: the next event shows a gap, or the comparison does.
            Err(error) => {
                if self.stats.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
                    let channel = &topic.keys.channel;
                    tracing::warn!(%error, channel, "an event cannot be read; more are only counted");
                }
                topic.lag();
            }
        }
    }

    /// Channels that nobody watches any more are forgotten, and are to be unsubscribed.
    pub(super) fn forget_unwatched(&self) -> Vec<String> {
        let mut state = self.lock();
        let Some(open) = state.open() else {
            return Vec::new();
        };
        open.extract_if(|_, topic| topic.watchers.receiver_count() == 0)
            .map(|(channel, _)| channel)
            .collect()
    }

    /// Where everything stands that is watched, or stood when the connection was gone.
    pub(super) fn standings(&self) -> Vec<Standing> {
        match &*self.lock() {
            State::Open(topics) => standings(topics),
            State::Closed(standings) => standings.clone(),
        }
    }

    /// Takes where a name stands on the server, asked after `before` was and answered after
    /// everything that was published until then was heard.
    pub(super) fn compare(&self, before: &Standing, server: Position) {
        let mut state = self.lock();
        let topic = state
            .open()
            .and_then(|open| open.get_mut(&before.keys.channel));
        let Some(topic) = topic else { return };
        // What was heard of in between may be newer than the answer. It shows gaps by itself, and
        // is compared the next time.
        let quiet = topic.position.as_ref() == Some(&before.position);
        if quiet && before.position != server {
            self.stats.missed.fetch_add(1, Ordering::Relaxed);
            topic.position = Some(server);
            topic.lag();
        }
    }

    /// Everything is to be read again.
    pub(super) fn lag(&self) {
        if let State::Open(topics) = &*self.lock() {
            topics.values().for_each(Topic::lag);
        }
    }

    /// Ends every watch: its watcher is told that it lags, and to watch again.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if let State::Open(topics) = &*state {
            topics.values().for_each(Topic::lag);
            *state = State::Closed(standings(topics));
        }
    }
}

fn standings(topics: &HashMap<String, Topic>) -> Vec<Standing> {
    let standings = topics.values().filter_map(|topic| {
        Some(Standing {
            keys: topic.keys.clone(),
            position: topic.position.clone()?,
        })
    });
    standings.collect()
}

impl Topic {
    fn hear(&mut self, event: RoomEvent, stats: &Stats) {
        let order = match &self.position {
            Some(position) => position.order(&event),
            None => Order::Next,
        };
        if order == Order::Gap {
            stats.gaps.fetch_add(1, Ordering::Relaxed);
            self.lag();
        }
        if order != Order::Known {
            self.position = Some(Position::after(&event));
        }
        // Fails when nobody watches any more.
        let _ = self.watchers.send(Ok(Arc::new(event)));
    }

    fn lag(&self) {
        // Fails when nobody watches any more.
        let _ = self.watchers.send(Err(Lagged));
    }
}

#[cfg(test)]
mod tests;
