//! Rooms and who is in them: the only file that writes room state.
//!
//! A participant's record is written by the session that holds the `Claim` on it and by nobody
//! else; whoever takes an identity over replaces the record, and the session that held it learns of
//! that at its next write or from the room's events. Rooms end some time after the last member left.
//! Nothing here is for this process alone: others have sessions in the same rooms, and a store that
//! has lost a room is given it back by all of them together.

mod follow;
pub(crate) mod record;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use livekit_protocol::{Room as RoomInfo, RoomConfiguration};
use pipemesh_proto::ids::{NodeId, RoomId};
use pipemesh_service::Chain;
use pipemesh_topology::store::{
    EndOutcome, NewRoom, PutMember, PutOutcome, RemoveOutcome, RoomUpdate, Store, Unavailable,
    UpdateRoom, WhenEmpty, life, next_life,
};
use pipemesh_topology::{Identity, RoomName, store};
use prost::Message;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::livekit::track::publish_codecs;
use record::{Member, MemberRecord};
pub(crate) use view::{Changes, RoomState};

/// How long rooms outlive what happens in them; a token's `roomConfig` may say otherwise.
#[derive(Debug, Clone, Copy)]
pub struct RoomTimeouts {
    /// After the last member left.
    pub departure: Duration,
    /// Reported to clients as LiveKit does. A room is only opened by somebody who joins it.
    pub empty: Duration,
}

/// Pause before a store that cannot be reached is asked again to remove what nobody else would.
const REMOVE_RETRY: Duration = Duration::from_millis(500);

/// Attempts to write a record: one that failed may have been done all the same, and a room that the
/// store has lost is brought back first.
const WRITE_ATTEMPTS: u32 = 3;

/// How long a join waits for the room's events to show what it has just written.
const VIEW_LIMIT: Duration = Duration::from_secs(2);

/// The right to write a participant's record.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) room: RoomName,
    pub(crate) room_id: RoomId,
    pub(crate) identity: Identity,
    session: String,
    /// The version of the record as last written.
    version: u64,
    /// Where in the room's events the claim was made or last written: what is older does not know of
    /// it.
    pub(crate) sequence: u64,
}

impl Claim {
    /// Whether this is what the claim's session wrote.
    fn is_on(&self, stored: &store::Member) -> bool {
        stored.identity == self.identity
            && Member::decode(stored).is_some_and(|member| member.session.as_str() == self.session)
    }
}

/// A room that is open.
#[derive(Debug, Clone)]
pub(crate) struct OpenRoom {
    pub(crate) name: RoomName,
    pub(crate) id: RoomId,
    pub(crate) home: NodeId,
    pub(crate) capacity: Option<u32>,
    version: u64,
    sequence: u64,
    created: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Somebody else wrote the record in between: this is how it is.
    #[error("the identity was claimed by somebody else")]
    Conflict(Option<Box<Member>>),
    #[error("the room has as many participants as it may have")]
    Full,
    #[error("the room has ended")]
    Gone,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The claim is gone: replaced by another session, or removed.
    #[error("the participant's record is somebody else's")]
    Lost,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

pub(crate) struct Rooms {
    store: Arc<dyn Store>,
    timeouts: RoomTimeouts,
    /// Views that somebody holds. Locked for a map access, never while waiting; dead entries are
    /// removed when a new one is made.
    views: Mutex<HashMap<RoomName, Weak<RoomView>>>,
    /// Rooms that are about to end, and the task of each that ends it; replaced when a room empties
    /// again. Locked for a map access.
    ending: Arc<Mutex<HashMap<RoomId, AbortHandle>>>,
    endings: TaskTracker,
    stop: CancellationToken,
}

/// A room as this process follows it, shared by all who are in it.
#[derive(Debug)]
pub(crate) struct RoomView {
    state: watch::Receiver<Option<Arc<RoomState>>>,
    _follower: AbortOnDropHandle<()>,
}

impl RoomView {
    /// The room as last known; `None`: there is none.
    pub(crate) fn state(&self) -> watch::Receiver<Option<Arc<RoomState>>> {
        self.state.clone()
    }

    /// Waits until the view shows what was written.
    pub(crate) async fn shows(&self, room: &RoomId, sequence: u64) -> Option<Arc<RoomState>> {
        let mut state = self.state.clone();
        let shows = state.wait_for(|state| {
            let state = state.as_ref();
            state.is_some_and(|state| state.id == *room && state.sequence >= sequence)
        });
        let shows = tokio::time::timeout(VIEW_LIMIT, shows).await.ok()?;
        shows.ok()?.clone()
    }
}

impl Rooms {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        timeouts: RoomTimeouts,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            timeouts,
            views: Mutex::default(),
            ending: Arc::default(),
            endings: TaskTracker::new(),
            stop,
        }
    }

    /// Follows a room for as long as the view is held.
    pub(crate) fn view(&self, name: &RoomName) -> Arc<RoomView> {
        let mut views = lock(&self.views);
        if let Some(view) = views.get(name).and_then(Weak::upgrade) {
            return view;
        }
        views.retain(|_, view| view.strong_count() > 0);
        let (sender, state) = watch::channel(None);
        let follower = follow::follow(Arc::clone(&self.store), name.clone(), sender);
        let view = Arc::new(RoomView {
            state,
            _follower: AbortOnDropHandle::new(tokio::spawn(follower)),
        });
        views.insert(name.clone(), Arc::downgrade(&view));
        view
    }

    /// Whether a room of that name is open.
    pub(crate) async fn exists(&self, name: &RoomName) -> Result<bool, Unavailable> {
        Ok(self.store.read_room(name).await?.is_some())
    }

    /// Opens the room, at home on `home` if it is new.
    pub(crate) async fn open(
        &self,
        name: &RoomName,
        home: &NodeId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> Result<OpenRoom, Unavailable> {
        // One that this process knows and the store does not is not another one.
        let new = match self.known(name) {
            Some(known) => known.to_bring_back(),
            None => self.new_room(name, home, config, now),
        };
        let opened = self.store.open_room(name, new).await?;
        let info = RoomInfo::decode(opened.room.body.clone()).unwrap_or_default();
        Ok(OpenRoom {
            name: name.clone(),
            id: opened.room.id,
            home: opened.room.home,
            capacity: (info.max_participants > 0).then_some(info.max_participants),
            version: opened.room.version,
            sequence: opened.sequence,
            created: opened.created,
        })
    }

    /// Gives the room another home; whoever is in it follows. `false`: somebody else was faster.
    pub(crate) async fn move_home(
        &self,
        room: &mut OpenRoom,
        home: &NodeId,
    ) -> Result<bool, Unavailable> {
        let update = RoomUpdate {
            home: Some(home.clone()),
            body: None,
        };
        let (name, id) = (&room.name, &room.id);
        match self
            .store
            .update_room(name, id, room.version, update)
            .await?
        {
            UpdateRoom::Done { version, sequence } => {
                tracing::info!(room = %room.name, from = %room.home, to = %home, "room moved");
                room.home = home.clone();
                (room.version, room.sequence) = (version, sequence);
                Ok(true)
            }
            UpdateRoom::Conflict(_) => Ok(false),
        }
    }

    /// Takes an identity in a room. `replaces`: the record that is there.
    pub(crate) async fn claim(
        &self,
        room: &mut OpenRoom,
        identity: &Identity,
        replaces: Option<&Member>,
        record: &MemberRecord,
    ) -> Result<Claim, ClaimError> {
        let put = PutMember {
            identity: identity.clone(),
            expected: replaces.map(|member| member.version),
            body: record.encode_to_vec().into(),
            capacity: room.capacity,
        };
        match self.store.put_member(&room.name, &room.id, put).await? {
            PutOutcome::Done { version, sequence } => {
                room.sequence = sequence;
                Ok(Claim {
                    room: room.name.clone(),
                    room_id: room.id.clone(),
                    identity: identity.clone(),
                    session: record.session.clone(),
                    version,
                    sequence,
                })
            }
            PutOutcome::Conflict(member) => {
                let member = member.as_ref().and_then(Member::decode);
                Err(ClaimError::Conflict(member.map(Box::new)))
            }
            PutOutcome::Full => Err(ClaimError::Full),
            PutOutcome::NoRoom => Err(ClaimError::Gone),
        }
    }

    /// Replaces the record of the claim.
    pub(crate) async fn write(
        &self,
        claim: &mut Claim,
        record: &MemberRecord,
    ) -> Result<(), WriteError> {
        let body: Bytes = record.encode_to_vec().into();
        let mut expected = Some(claim.version);
        for _ in 0..WRITE_ATTEMPTS {
            let put = PutMember {
                identity: claim.identity.clone(),
                expected,
                body: body.clone(),
                capacity: None,
            };
            match self
                .store
                .put_member(&claim.room, &claim.room_id, put)
                .await?
            {
                PutOutcome::Done { version, sequence } => {
                    (claim.version, claim.sequence) = (version, sequence);
                    return Ok(());
                }
                PutOutcome::Conflict(Some(member)) if claim.is_on(&member) => {
                    expected = Some(member.version);
                }
                PutOutcome::Conflict(None) | PutOutcome::NoRoom
                    if self.is_brought_back(claim).await? =>
                {
                    expected = None;
                }
                PutOutcome::Conflict(_) | PutOutcome::Full | PutOutcome::NoRoom => break,
            }
        }
        Err(WriteError::Lost)
    }

    /// Whether the room is there again after the store had lost it, and the claim's record with it. The
    /// first to ask brings it back.
    async fn is_brought_back(&self, claim: &Claim) -> Result<bool, Unavailable> {
        let known = self.known(&claim.room);
        let Some(known) = known.filter(|known| known.id == claim.room_id) else {
            return Ok(false);
        };
        let mut room = known.to_bring_back();
        room.after = room.after.max(next_life(claim.sequence));
        let opened = self.store.open_room(&claim.room, room).await?;
        if opened.created {
            tracing::info!(room = %claim.room, "a room that the store has lost is brought back");
        }
        let is_later = life(opened.sequence) > life(claim.sequence);
        Ok(opened.room.id == claim.room_id && is_later)
    }

    /// A room as this process has it before its eyes.
    fn known(&self, name: &RoomName) -> Option<Arc<RoomState>> {
        let view = lock(&self.views).get(name)?.upgrade()?;
        view.state.borrow().clone()
    }

    /// Removes the record of the claim; a record that is somebody else's by now stays.
    pub(crate) async fn leave(&self, mut claim: Claim) -> Result<(), Unavailable> {
        for _ in 0..2 {
            let removed = self.remove(&claim, WhenEmpty::Keep).await?;
            match removed {
                RemoveOutcome::Done {
                    sequence,
                    empty: true,
                } => return self.end_later(claim.room, claim.room_id, sequence).await,
                RemoveOutcome::Done { empty: false, .. } | RemoveOutcome::NoRoom => return Ok(()),
                RemoveOutcome::Conflict => {}
            }
            // Perhaps it is ours all the same, in a version that we did not hear of.
            let Some(room) = self.store.read_room(&claim.room).await? else {
                return Ok(());
            };
            match room.members.iter().find(|member| claim.is_on(member)) {
                Some(member) => claim.version = member.version,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// [`Rooms::leave`], again and again while the store cannot be reached, until the process stops.
    pub(crate) async fn vacate(&self, claim: Claim) {
        let leave = async {
            let mut complained = false;
            while let Err(error) = self.leave(claim.clone()).await {
                if !std::mem::replace(&mut complained, true) {
                    let error = Chain(&error).to_string();
                    tracing::warn!(
                        error,
                        "the record of somebody who left cannot be removed yet"
                    );
                }
                tokio::time::sleep(REMOVE_RETRY).await;
            }
        };
        if self.stop.run_until_cancelled(leave).await.is_none() {
            tracing::warn!("the record of somebody who left stays");
        }
    }

    /// Whether anybody but this one is in the room.
    pub(crate) async fn has_others(
        &self,
        room: &OpenRoom,
        identity: &Identity,
    ) -> Result<bool, Unavailable> {
        let there = self.store.read_room(&room.name).await?;
        let members = there.map(|there| there.members).unwrap_or_default();
        Ok(members.iter().any(|member| member.identity != *identity))
    }

    /// Undoes [`Rooms::open`] and [`Rooms::claim`] for somebody who did not get in.
    pub(crate) async fn undo(&self, room: &OpenRoom, claim: Claim) -> Result<(), Unavailable> {
        if !room.created {
            return self.leave(claim).await;
        }
        self.remove(&claim, WhenEmpty::End).await?;
        Ok(())
    }

    async fn remove(&self, claim: &Claim, when: WhenEmpty) -> Result<RemoveOutcome, Unavailable> {
        let (name, id) = (&claim.room, &claim.room_id);
        self.store
            .remove_member(name, id, &claim.identity, claim.version, when)
            .await
    }

    /// Undoes [`Rooms::open`] for somebody who made no claim.
    pub(crate) async fn abandon(&self, room: &OpenRoom) -> Result<(), Unavailable> {
        if room.created {
            self.store
                .end_room(&room.name, &room.id, room.sequence)
                .await?;
        }
        Ok(())
    }

    /// Waits until every room that was about to end has, or the process stops.
    pub(crate) async fn stopped(&self) {
        self.endings.close();
        self.endings.wait().await;
    }

    async fn end_later(
        &self,
        name: RoomName,
        id: RoomId,
        sequence: u64,
    ) -> Result<(), Unavailable> {
        let Some(room) = self.store.read_room(&name).await? else {
            return Ok(());
        };
        let info = RoomInfo::decode(room.room.body).unwrap_or_default();
        let delay = Duration::from_secs(info.departure_timeout.into());
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        let (ending, ends) = (Arc::clone(&self.ending), id.clone());
        // Held until the task is known, so that the task does not look for itself in vain.
        let mut known = lock(&self.ending);
        let task = self.endings.spawn(async move {
            // A process that stops does not wait: nobody else would end the room.
            stop.run_until_cancelled(tokio::time::sleep(delay)).await;
            lock(&ending).remove(&id);
            end(&*store, &name, &id, sequence, &stop).await;
        });
        if let Some(earlier) = known.insert(ends, task.abort_handle()) {
            earlier.abort();
        }
        Ok(())
    }

    fn new_room(
        &self,
        name: &RoomName,
        home: &NodeId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> NewRoom {
        let id = RoomId::random();
        NewRoom {
            body: self
                .room_info(name, &id, config, now)
                .encode_to_vec()
                .into(),
            id,
            home: home.clone(),
            after: 0,
        }
    }

    fn room_info(
        &self,
        name: &RoomName,
        id: &RoomId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> RoomInfo {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let or = |given: u32, default: Duration| match given {
            0 => u32::try_from(default.as_secs()).unwrap_or(u32::MAX),
            given => given,
        };
        RoomInfo {
            sid: id.to_string(),
            name: name.to_string(),
            empty_timeout: or(config.empty_timeout, self.timeouts.empty),
            departure_timeout: or(config.departure_timeout, self.timeouts.departure),
            max_participants: config.max_participants,
            metadata: config.metadata.clone(),
            creation_time: i64::try_from(since_1970.as_secs()).unwrap_or(0),
            creation_time_ms: i64::try_from(since_1970.as_millis()).unwrap_or(0),
            enabled_codecs: publish_codecs(),
            ..Default::default()
        }
    }
}

/// Ends a room in which nothing happened since `sequence`, as soon as the store can be reached.
async fn end(
    store: &dyn Store,
    name: &RoomName,
    id: &RoomId,
    sequence: u64,
    stop: &CancellationToken,
) {
    let mut complained = false;
    loop {
        let error = match store.end_room(name, id, sequence).await {
            Ok(EndOutcome::Done) => return tracing::info!(room = %name, "room ended"),
            // Somebody came back; whoever leaves last ends it.
            Ok(EndOutcome::Conflict | EndOutcome::NoRoom) => return,
            Err(error) => Chain(&error).to_string(),
        };
        if !std::mem::replace(&mut complained, true) {
            tracing::warn!(room = %name, error, "an empty room cannot be ended yet");
        }
        let pause = tokio::time::sleep(REMOVE_RETRY);
        if stop.run_until_cancelled(pause).await.is_none() {
            return tracing::warn!(room = %name, "an empty room stays open");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
