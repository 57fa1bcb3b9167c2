//! Follows one room: what the store says of it, and what to believe when the store loses it.
//!
//! `Belief` is pure, in virtual time. A store that comes back without the room has lost it: rooms end
//! with an event, and not under those who are in them. Then everybody stays as last known until they
//! are written again, each by the process that holds their session, or until that took too long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use pipemesh_proto::ids::{RoomId, SessionId};
use pipemesh_service::Chain;
use pipemesh_topology::store::{Change, RoomEvent, RoomSnapshot, Store, Unavailable};
use pipemesh_topology::{Identity, RoomName};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::claim::ClaimError;
use super::record::Member;
use super::served::Served;
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
    /// Of the last room that there was.
    revision: u64,
    /// When those are given up whom the store has lost.
    keep_until: Option<Instant>,
}

impl Belief {
    fn new(name: RoomName) -> Self {
        Self {
            name,
            state: None,
            revision: 0,
            keep_until: None,
        }
    }

    fn state(&self) -> Option<Arc<RoomState>> {
        self.state.clone().map(Arc::new)
    }

    /// Differs after every change.
    fn revision(&self) -> Option<(RoomId, u64)> {
        let state = self.state.as_ref()?;
        Some((state.id.clone(), state.revision))
    }

    fn room(&mut self, id: &RoomId) -> Option<&mut RoomState> {
        self.state.as_mut().filter(|state| state.id == *id)
    }

    /// The room, if somebody is seen in it with this session, held by this claim.
    fn room_of(
        &mut self,
        id: &RoomId,
        identity: &Identity,
        holder: (&str, u64),
    ) -> Option<&mut RoomState> {
        let state = self.room(id)?;
        let member = state.members.get(identity)?;
        member.is_held_by(holder).then_some(state)
    }

    /// The room was read. `keeps`: sessions whose record may have been removed by mistake.
    fn handle_snapshot(
        &mut self,
        snapshot: Option<RoomSnapshot>,
        keeps: impl Fn(&SessionId) -> bool,
        now: Instant,
    ) {
        let before = self.state.take();
        if let Some(before) = &before {
            self.revision = before.revision;
        }
        self.state = match (before, snapshot) {
            (None, None) => None,
            (None, Some(snapshot)) => {
                let mut state = RoomState::new(&self.name, snapshot);
                state.revision = self.revision + 1;
                Some(state)
            }
            // Nobody's: there is nothing to lose.
            (Some(empty), None) if empty.members.is_empty() => None,
            (Some(mut lost), None) => {
                lost.lose();
                Some(lost)
            }
            (Some(before), Some(snapshot)) => {
                let mut state = RoomState::new(&self.name, snapshot);
                state.succeed(&before, keeps);
                Some(state)
            }
        };
        self.keep(now);
    }

    /// Something happened; `false`: the room has to be read again.
    fn handle_event(
        &mut self,
        event: &RoomEvent,
        keeps: impl Fn(&SessionId) -> bool,
        now: Instant,
    ) -> bool {
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
            let is_next = state.apply(event, keeps);
            self.keep(now);
            return is_next;
        }
        state.sequence = event.sequence;
        if state.lacks_any() || state.wants_any() {
            // It was empty because they were not in it yet, or again.
            state.lose();
            self.keep(now);
        } else {
            self.forget_room();
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
        let is_empty = |state: &RoomState| state.members.is_empty();
        if self.state.as_ref().is_some_and(is_empty) {
            // If there is such a room, it is read when somebody comes.
            self.forget_room();
        }
    }

    fn forget_room(&mut self) {
        if let Some(state) = self.state.take() {
            self.revision = state.revision;
        }
    }

    fn keep(&mut self, now: Instant) {
        let lacks_any = self.state.as_ref().is_some_and(RoomState::lacks_any);
        // A store that loses them again and again must not keep them for ever.
        let until = self.keep_until.unwrap_or(now + KEEP);
        self.keep_until = lacks_any.then_some(until);
    }
}

/// A room that is followed, and whoever watches it.
#[derive(Debug)]
pub(super) struct Followed {
    /// Held for map accesses only.
    belief: Mutex<Belief>,
    state: watch::Sender<Option<Arc<RoomState>>>,
    served: Arc<Served>,
}

impl Followed {
    pub(super) fn new(name: &RoomName, served: Arc<Served>) -> Self {
        Self {
            belief: Mutex::new(Belief::new(name.clone())),
            state: watch::Sender::new(None),
            served,
        }
    }

    fn keeps(&self, session: &SessionId) -> bool {
        self.served.keeps(session.as_str())
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<RoomState>>> {
        self.state.subscribe()
    }

    pub(super) fn state(&self) -> Option<Arc<RoomState>> {
        self.state.borrow().clone()
    }

    /// Takes an identity in place of `replaces`, as the store would if it could be reached.
    pub(super) fn claim(
        &self,
        room: &RoomId,
        replaces: Option<&Member>,
        member: Member,
        capacity: Option<u32>,
    ) -> Result<(), ClaimError> {
        self.change(|belief| {
            let state = belief.room(room).ok_or(ClaimError::Gone)?;
            let there = state.members.get(&member.identity);
            let holder = |member: &Member| (member.session.clone(), member.holding);
            if there.map(|there| holder(there)) != replaces.map(holder) {
                let there = there.map(|there| Box::new(Member::clone(there)));
                return Err(ClaimError::Conflict(there));
            }
            let is_full = |capacity| state.members.len() >= capacity as usize;
            if there.is_none() && capacity.is_some_and(is_full) {
                return Err(ClaimError::Full);
            }
            let identity = member.identity.clone();
            state.remember(&identity, Some(Arc::new(member)));
            Ok(())
        })
    }

    /// Somebody is so, says the session that they are seen with; `None`: gone.
    pub(super) fn remember(
        &self,
        room: &RoomId,
        identity: &Identity,
        holder: (&str, u64),
        member: Option<Member>,
    ) {
        self.change(|belief| {
            if let Some(state) = belief.room_of(room, identity, holder) {
                state.remember(identity, member.map(Arc::new));
            }
        });
    }

    /// Somebody is not as the session said.
    pub(super) fn forget(&self, room: &RoomId, identity: &Identity, holder: (&str, u64)) {
        self.change(|belief| {
            if let Some(state) = belief.room_of(room, identity, holder) {
                state.forget(identity);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Belief) -> T) -> T {
        let mut belief = self.belief();
        let before = belief.revision();
        let outcome = change(&mut belief);
        if belief.revision() != before {
            self.state.send_replace(belief.state());
        }
        outcome
    }

    fn belief(&self) -> MutexGuard<'_, Belief> {
        // A panic inside leaves a belief that the next snapshot mends.
        self.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what is believed up to date until it is dropped.
pub(super) async fn follow(store: Arc<dyn Store>, name: RoomName, followed: Arc<Followed>) {
    let mut is_heard = true;
    loop {
        if let Err(error) = follow_until_missed(&*store, &name, &followed, &mut is_heard).await {
            if std::mem::replace(&mut is_heard, false) {
                let error = Chain(&error).to_string();
                tracing::warn!(room = %name, error, "the room's events are not heard");
            }
            // Those who lost it together do not come back together.
            sleep(RETRY.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }
}

/// Returns when events were missed: everything has to be read again.
async fn follow_until_missed(
    store: &dyn Store,
    name: &RoomName,
    followed: &Followed,
    is_heard: &mut bool,
) -> Result<(), Unavailable> {
    let mut events = store.watch(name).await?;
    let snapshot = store.read_room(name).await?;
    if !std::mem::replace(is_heard, true) {
        tracing::info!(room = %name, "the room's events are heard again");
    }
    let keeps = |session: &SessionId| followed.keeps(session);
    followed.change(|belief| belief.handle_snapshot(snapshot, keeps, Instant::now()));
    loop {
        let deadline = followed.belief().poll_timeout();
        let timeout = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let first = tokio::select! {
            next = events.next() => next,
            () = timeout => {
                followed.change(|belief| belief.handle_timeout(Instant::now()));
                continue;
            }
        };
        // What is there already is taken along: one new state for all of it.
        let goes_on = followed.change(|belief| {
            let mut next = Some(first);
            while let Some(event) = next {
                let Ok(Some(event)) = event else { return false };
                if !belief.handle_event(&event, keeps, Instant::now()) {
                    return false;
                }
                next = events.next().now_or_never();
            }
            true
        });
        if !goes_on {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
