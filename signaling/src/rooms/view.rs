//! One room as everybody in it sees it: a frozen state per change, made from the store's events.
//!
//! Whoever watches gets the latest state, not every event, so nobody can lag behind. Each state
//! remembers who changed lately, so that a change need not be searched for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use livekit_protocol::Room as RoomInfo;
use pipemesh_proto::ids::{NodeId, RoomId};
use pipemesh_service::Chain;
use pipemesh_topology::store::{Change, Room, RoomEvent, RoomSnapshot, Store, Unavailable};
use pipemesh_topology::{Identity, RoomName};
use prost::Message;
use tokio::sync::watch;

use super::record::Member;

/// Changes a state remembers. Who has missed more looks at everybody.
const RECENT: usize = 128;

/// Pause before a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// A room at one moment.
#[derive(Debug, Clone)]
pub(crate) struct RoomState {
    pub(crate) id: RoomId,
    pub(crate) home: NodeId,
    pub(crate) sequence: u64,
    /// Without what is counted.
    info: RoomInfo,
    /// With it: counted once per state, by whoever asks first.
    counted: OnceLock<Arc<RoomInfo>>,
    pub(crate) members: BTreeMap<Identity, Arc<Member>>,
    /// The last changes, oldest first, without gaps up to `sequence`.
    recent: VecDeque<(u64, Option<Identity>)>,
}

/// Who changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    Of(BTreeSet<Identity>),
    /// Too much to tell.
    Any,
}

impl RoomState {
    pub(crate) fn new(name: &RoomName, snapshot: RoomSnapshot) -> Self {
        let mut state = Self {
            id: snapshot.room.id.clone(),
            home: snapshot.room.home.clone(),
            sequence: snapshot.sequence,
            info: RoomInfo::default(),
            counted: OnceLock::new(),
            members: BTreeMap::new(),
            recent: VecDeque::new(),
        };
        state.set_room(&snapshot.room);
        for stored in &snapshot.members {
            match Member::decode(stored) {
                Some(member) => {
                    state
                        .members
                        .insert(member.identity.clone(), Arc::new(member));
                }
                None => tracing::warn!(room = %name, "a participant's record cannot be read"),
            }
        }
        state
    }

    fn set_room(&mut self, room: &Room) {
        self.home = room.home.clone();
        self.info = RoomInfo::decode(room.body.clone()).unwrap_or_default();
    }

    /// Applies the next event; `false` if it is not the next or ends the room.
    pub(crate) fn apply(&mut self, event: &RoomEvent) -> bool {
        if event.room != self.id || event.sequence != self.sequence + 1 {
            return false;
        }
        let changed = match &event.change {
            Change::Opened(_) | Change::Ended => return false,
            Change::RoomUpdated(room) => {
                self.set_room(room);
                None
            }
            Change::MemberPut(stored) => {
                let Some(member) = Member::decode(stored) else {
                    return false;
                };
                self.members
                    .insert(stored.identity.clone(), Arc::new(member));
                Some(stored.identity.clone())
            }
            Change::MemberRemoved(identity) => {
                self.members.remove(identity);
                Some(identity.clone())
            }
        };
        self.sequence = event.sequence;
        self.counted = OnceLock::new();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((event.sequence, changed));
        true
    }

    /// Who changed after `sequence`, the room itself aside.
    pub(crate) fn changes_since(&self, sequence: u64) -> Changes {
        let oldest = self
            .recent
            .front()
            .map_or(self.sequence + 1, |(oldest, _)| *oldest);
        if sequence + 1 < oldest {
            return Changes::Any;
        }
        let newer = self
            .recent
            .iter()
            .rev()
            .take_while(|(at, _)| *at > sequence);
        Changes::Of(newer.filter_map(|(_, who)| who.clone()).collect())
    }

    /// As clients are told.
    pub(crate) fn info(&self) -> Arc<RoomInfo> {
        Arc::clone(self.counted.get_or_init(|| Arc::new(self.count())))
    }

    fn count(&self) -> RoomInfo {
        let mut info = self.info.clone();
        for member in self.members.values() {
            info.active_recording |= member.is_recorder();
            if !member.is_visible() {
                continue;
            }
            info.num_participants += u32::from(!member.is_dependent());
            info.num_publishers += u32::from(member.info.is_publisher);
        }
        info
    }
}

/// Keeps `state` up to date until it is dropped.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    name: RoomName,
    state: watch::Sender<Option<Arc<RoomState>>>,
) {
    loop {
        match follow_until_lost(&*store, &name, &state).await {
            Ok(()) => {}
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(room = %name, error, "the room's events are not heard");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Returns when events were missed: everything has to be read again.
async fn follow_until_lost(
    store: &dyn Store,
    name: &RoomName,
    state: &watch::Sender<Option<Arc<RoomState>>>,
) -> Result<(), Unavailable> {
    let mut events = store.watch(name).await?;
    let snapshot = store.read_room(name).await?;
    let mut room = snapshot.map(|snapshot| RoomState::new(name, snapshot));
    loop {
        state.send_replace(room.clone().map(Arc::new));
        let Ok(Some(event)) = events.next().await else {
            return Ok(());
        };
        // What is there already is taken along: one new state for all of it.
        let mut event = Some(event);
        while let Some(next) = event {
            if !take(&mut room, &next) {
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

/// Applies an event to what is known; `false`: read everything again.
fn take(room: &mut Option<RoomState>, event: &RoomEvent) -> bool {
    match room {
        Some(room) if room.id == event.room && event.sequence <= room.sequence => true,
        Some(state) if state.id == event.room && event.change == Change::Ended => {
            *room = None;
            true
        }
        Some(room) => room.apply(event),
        None => false,
    }
}

#[cfg(test)]
mod tests;
