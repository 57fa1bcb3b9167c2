//! Follows one room: what the store says of it, and what to believe when the store loses it.
//!
//! `Belief` is pure, in virtual time. A store that comes back without the room has lost it: rooms end
//! with an event, and not under those who are in them. Then everybody stays as last known until they
//! are written again, each by the process that holds their session, or until that took too long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use pipemesh_service::Chain;
use pipemesh_topology::RoomName;
use pipemesh_topology::store::{Change, RoomEvent, RoomSnapshot, Store, Unavailable};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::view::RoomState;

/// Pause before a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// Time for the other processes to reach the store again and to write whom they serve. Longer: those
/// whose process is gone are seen longer. Shorter: somebody who is there is told to be gone.
const KEEP: Duration = Duration::from_secs(10);

/// What is believed of a room.
#[derive(Debug)]
struct Belief {
    name: RoomName,
    state: Option<RoomState>,
    /// When those are given up whom the store has lost.
    keep_until: Option<Instant>,
}

impl Belief {
    fn new(name: RoomName) -> Self {
        Self {
            name,
            state: None,
            keep_until: None,
        }
    }

    fn state(&self) -> Option<Arc<RoomState>> {
        self.state.clone().map(Arc::new)
    }

    /// The room was read.
    fn handle_snapshot(&mut self, snapshot: Option<RoomSnapshot>, now: Instant) {
        let before = self.state.take();
        self.state = match (before, snapshot) {
            (None, None) => None,
            (None, Some(snapshot)) => Some(RoomState::new(&self.name, snapshot)),
            // Nobody's: there is nothing to lose.
            (Some(empty), None) if empty.members.is_empty() => None,
            (Some(mut lost), None) => {
                lost.lose();
                Some(lost)
            }
            (Some(before), Some(snapshot)) => {
                let mut state = RoomState::new(&self.name, snapshot);
                state.succeed(&before);
                Some(state)
            }
        };
        self.keep(now);
    }

    /// Something happened; `false`: the room has to be read again.
    fn handle_event(&mut self, event: &RoomEvent, now: Instant) -> bool {
        let Some(state) = &mut self.state else {
            return false;
        };
        if state.id != event.room {
            return false;
        }
        if event.sequence <= state.sequence {
            return true;
        }
        if event.change != Change::Ended {
            return state.apply(event);
        }
        state.sequence = event.sequence;
        if state.lacks_any() {
            // It was empty because they were not in it again yet.
            state.lose();
            self.keep(now);
        } else {
            self.state = None;
        }
        true
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.keep_until
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.keep_until.is_none_or(|until| now < until) {
            return;
        }
        self.keep_until = None;
        if let Some(state) = &mut self.state {
            state.give_up_missing();
        }
        // If there is such a room, it is read when somebody comes.
        self.state.take_if(|state| state.members.is_empty());
    }

    fn keep(&mut self, now: Instant) {
        let lacks_any = self.state.as_ref().is_some_and(RoomState::lacks_any);
        self.keep_until = lacks_any.then(|| now + KEEP);
    }
}

/// Keeps `state` up to date until it is dropped.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    name: RoomName,
    state: watch::Sender<Option<Arc<RoomState>>>,
) {
    let mut belief = Belief::new(name);
    let mut is_heard = true;
    loop {
        if let Err(error) = follow_until_missed(&*store, &mut belief, &state, &mut is_heard).await {
            if std::mem::replace(&mut is_heard, false) {
                let error = Chain(&error).to_string();
                tracing::warn!(room = %belief.name, error, "the room's events are not heard");
            }
            sleep(RETRY).await;
        }
    }
}

/// Returns when events were missed: everything has to be read again.
async fn follow_until_missed(
    store: &dyn Store,
    belief: &mut Belief,
    state: &watch::Sender<Option<Arc<RoomState>>>,
    is_heard: &mut bool,
) -> Result<(), Unavailable> {
    let mut events = store.watch(&belief.name).await?;
    let snapshot = store.read_room(&belief.name).await?;
    if !std::mem::replace(is_heard, true) {
        tracing::info!(room = %belief.name, "the room's events are heard again");
    }
    belief.handle_snapshot(snapshot, Instant::now());
    loop {
        state.send_replace(belief.state());
        let timeout = async {
            match belief.poll_timeout() {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            next = events.next() => next,
            () = timeout => {
                belief.handle_timeout(Instant::now());
                continue;
            }
        };
        let Ok(Some(event)) = next else {
            return Ok(());
        };
        // What is there already is taken along: one new state for all of it.
        let mut event = Some(event);
        while let Some(next) = event {
            if !belief.handle_event(&next, Instant::now()) {
                return Ok(());
            }
            event = match events.next().now_or_never() {
                Some(Ok(Some(next))) => Some(next),
                Some(_) => return Ok(()),
                None => None,
            };
        }
    }
}

#[cfg(test)]
mod tests;
