//! Rooms and who is in them: with what is below, the only file that writes room state.
//!
//! A participant's record is written by the session that holds the `Claim` on it and by nobody
//! else; whoever takes an identity over replaces the record, and the session that held it learns of
//! that at its next write or from the room's events. Rooms end some time after the last member left.
//! Nothing here is for this process alone: others have sessions in the same rooms, a store that has
//! lost a room is given it back by all of them together, and what a process that is gone has left is
//! removed by any other.

pub(crate) mod admin;
pub(crate) mod body;
mod claim;
mod follow;
mod inspect;
mod lease;
mod moving;
mod news;
pub(crate) mod record;
mod served;
mod sweep;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livekit_protocol::{Room as RoomInfo, RoomConfiguration, RoomEndReason, WebhookEvent};
use pipemesh_proto::ids::{NodeId, ProcessId, RoomId};
use pipemesh_service::Chain;
use pipemesh_topology::store::{
    EndOutcome, NewRoom, Opened, RoomUpdate, Store, Unavailable, UpdateRoom,
};
use pipemesh_topology::{Homes, Identity, RoomName};
use prost::Message;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::livekit::track::publish_codecs;
use crate::webhook::Hooks;
use body::RoomBody;
pub(crate) use claim::{Claim, ClaimError, WriteError};
use follow::Followed;
pub(crate) use moving::{Moved, Stay};
use record::Member;
use served::Served;
pub(crate) use view::{Changes, RoomState};

/// How long rooms outlive what happens in them; a token's `roomConfig` may say otherwise.
#[derive(Debug, Clone, Copy)]
pub struct RoomTimeouts {
    /// After the last member left.
    pub departure: Duration,
    /// After it was opened for people who did not come.
    pub empty: Duration,
}

/// Pause before a store that cannot be reached is asked again to remove what nobody else would.
const REMOVE_RETRY: Duration = Duration::from_millis(500);

/// Of a room that was opened just now.
const FIRST_SEQUENCE: u64 = 1;

/// How long a join waits for the room's events to show what it has just written.
const VIEW_LIMIT: Duration = Duration::from_secs(2);

/// A room that is open.
#[derive(Debug, Clone)]
pub(crate) struct OpenRoom {
    pub(crate) name: RoomName,
    pub(crate) id: RoomId,
    pub(crate) homes: Homes,
    pub(crate) capacity: Option<u32>,
    version: u64,
    sequence: u64,
    created: bool,
}

impl OpenRoom {
    fn new(name: &RoomName, opened: Opened, info: &RoomInfo) -> Self {
        Self {
            name: name.clone(),
            id: opened.room.id,
            homes: opened.room.homes,
            capacity: (info.max_participants > 0).then_some(info.max_participants),
            version: opened.room.version,
            sequence: opened.sequence,
            created: opened.created,
        }
    }

    /// Where in the room's events this is how it is.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
}

pub(crate) struct Rooms {
    /// This process, as records name it.
    process: ProcessId,
    served: Arc<Served>,
    store: Arc<dyn Store>,
    timeouts: RoomTimeouts,
    /// Microphones that are heard in a room whose configuration does not say; 0: all.
    loudest_microphones: u32,
    /// Views that somebody holds. Locked for a map access, never while waiting; dead entries are
    /// removed when a new one is made.
    views: Mutex<HashMap<RoomName, Weak<RoomView>>>,
    /// Rooms that are about to end, and the task of each that ends it; replaced when a room empties
    /// again. Locked for a map access.
    ending: Arc<Mutex<HashMap<RoomId, AbortHandle>>>,
    endings: TaskTracker,
    stop: CancellationToken,
    hooks: Hooks,
}

/// A room as this process follows it, shared by all who are in it.
#[derive(Debug)]
pub(crate) struct RoomView {
    followed: Arc<Followed>,
    _follower: AbortOnDropHandle<()>,
}

impl RoomView {
    /// The room as last known; `None`: there is none.
    pub(crate) fn state(&self) -> watch::Receiver<Option<Arc<RoomState>>> {
        self.followed.watch()
    }

    /// Waits until the view shows what was written.
    pub(crate) async fn shows(&self, room: &RoomId, sequence: u64) -> Option<Arc<RoomState>> {
        let mut state = self.state();
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
            process: ProcessId::random(),
            served: Arc::default(),
            store,
            timeouts,
            loudest_microphones: 0,
            views: Mutex::default(),
            ending: Arc::default(),
            endings: TaskTracker::new(),
            stop,
            hooks: Hooks::none(),
        }
    }

    /// Rooms whose configuration does not say have so many microphones heard.
    pub(crate) fn with_loudest_microphones(self, loudest_microphones: u32) -> Self {
        Self {
            loudest_microphones,
            ..self
        }
    }

    /// What happens is told to these.
    pub(crate) fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    pub(crate) fn process(&self) -> &ProcessId {
        &self.process
    }

    /// By which processes speak with each other.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Follows a room for as long as the view is held.
    pub(crate) fn view(&self, name: &RoomName) -> Arc<RoomView> {
        let mut views = lock(&self.views);
        if let Some(view) = views.get(name).and_then(Weak::upgrade) {
            return view;
        }
        views.retain(|_, view| view.strong_count() > 0);
        let followed = Arc::new(Followed::new(name, Arc::clone(&self.served)));
        let follower = follow::follow(Arc::clone(&self.store), name.clone(), Arc::clone(&followed));
        let view = Arc::new(RoomView {
            followed,
            _follower: AbortOnDropHandle::new(tokio::spawn(follower)),
        });
        views.insert(name.clone(), Arc::downgrade(&view));
        view
    }

    /// Whether a room of that name is open.
    pub(crate) async fn exists(&self, name: &RoomName) -> Result<bool, Unavailable> {
        match (self.store.read_room(name).await, self.known(name)) {
            (Ok(room), _) => Ok(room.is_some()),
            (Err(_), Some(_)) => Ok(true),
            (Err(error), None) => Err(error),
        }
    }

    /// Opens the room, at home on `home` if it is new. One that this process knows needs no store.
    pub(crate) async fn open(
        &self,
        name: &RoomName,
        home: &NodeId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> Result<OpenRoom, Unavailable> {
        let known = self.known(name);
        let new = match &known {
            // The store may have lost it, and nobody wants two of them.
            Some(known) => known.to_bring_back(),
            None => self.new_room(name, home, config, now),
        };
        let (id, was_known) = (new.id.clone(), known.is_some());
        let opened = match (self.store.open_room(name, new).await, known) {
            (Ok(opened), _) => opened,
            (Err(_), Some(known)) => Opened {
                room: known.as_stored(),
                sequence: known.sequence,
                created: false,
            },
            (Err(error), None) => {
                if error.may_be_done {
                    // Nobody else would know of it.
                    self.end_unless_used(name.clone(), id, FIRST_SEQUENCE);
                }
                return Err(error);
            }
        };
        let info = RoomInfo::decode(opened.room.body.clone()).unwrap_or_default();
        // One that is brought back has begun before.
        if opened.created && !was_known {
            self.hooks.say(WebhookEvent {
                event: "room_started".to_owned(),
                room: Some(info.clone()),
                ..Default::default()
            });
        }
        Ok(OpenRoom::new(name, opened, &info))
    }

    /// The room, and somebody in it, as the store has them, or as they are known here while it is away.
    pub(crate) async fn find(
        &self,
        name: &RoomName,
        identity: &Identity,
    ) -> Result<Option<(OpenRoom, Member)>, Unavailable> {
        let (room, sequence, member) = match (self.store.read_room(name).await, self.known(name)) {
            (Ok(None), _) => return Ok(None),
            (Ok(Some(there)), _) => {
                let mut members = there.members.iter();
                let member = members.find(|member| member.identity == *identity);
                (there.room, there.sequence, member.and_then(Member::decode))
            }
            (Err(_), Some(known)) => {
                let member = known.members.get(identity);
                let member = member.map(|member| Member::clone(member));
                (known.as_stored(), known.sequence, member)
            }
            (Err(error), None) => return Err(error),
        };
        let info = RoomInfo::decode(room.body.clone()).unwrap_or_default();
        let opened = Opened {
            room,
            sequence,
            created: false,
        };
        Ok(member.map(|member| (OpenRoom::new(name, opened, &info), member)))
    }

    /// Gives the room other homes; whoever is in it follows. `false`: somebody else was faster.
    pub(crate) async fn settle(
        &self,
        room: &mut OpenRoom,
        homes: Homes,
    ) -> Result<bool, Unavailable> {
        let update = RoomUpdate {
            homes: Some(homes.clone()),
            body: None,
        };
        let (name, id) = (&room.name, &room.id);
        match self
            .store
            .update_room(name, id, room.version, update)
            .await?
        {
            UpdateRoom::Done { version, sequence } => {
                tracing::info!(room = %room.name, from = %room.homes, to = %homes, "room moved");
                room.homes = homes;
                (room.version, room.sequence) = (version, sequence);
                Ok(true)
            }
            UpdateRoom::Conflict(_) => Ok(false),
        }
    }

    /// A room as this process has it before its eyes.
    fn known(&self, name: &RoomName) -> Option<Arc<RoomState>> {
        self.viewed(name)?.followed.state()
    }

    fn viewed(&self, name: &RoomName) -> Option<Arc<RoomView>> {
        lock(&self.views).get(name)?.upgrade()
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

    /// Undoes [`Rooms::open`] for somebody who made no claim.
    pub(crate) async fn abandon(&self, room: &OpenRoom) {
        if !room.created {
            return;
        }
        let (name, id) = (room.name.clone(), room.id.clone());
        let ends = self.ends(&name, &id);
        match self.store.end_room(&name, &id, room.sequence).await {
            Ok(EndOutcome::Done) => ends.tell(RoomEndReason::RoomEndOpenFailed),
            Ok(EndOutcome::NoRoom) => {}
            Ok(EndOutcome::Conflict) | Err(_) => self.end_unless_used(name, id, room.sequence),
        }
    }

    /// Ends a room that was opened in vain, however long that takes.
    fn end_unless_used(&self, name: RoomName, id: RoomId, sequence: u64) {
        let (ends, stop) = (self.ends(&name, &id), self.stop.clone());
        self.endings.spawn(async move {
            end(&ends, sequence, REMOVE_RETRY, &stop).await;
        });
    }

    /// Waits until every room that was about to end has, or the process stops.
    pub(crate) async fn stopped(&self) {
        self.endings.close();
        self.endings.wait().await;
    }

    /// Ends a room that is empty since `sequence` if it still is after its departure timeout.
    async fn end_later(&self, name: RoomName, id: RoomId, sequence: u64) {
        let delay = match self.store.read_room(&name).await {
            Ok(Some(room)) => {
                let info = RoomInfo::decode(room.room.body).unwrap_or_default();
                Duration::from_secs(info.departure_timeout.into())
            }
            Ok(None) => return,
            Err(_) => self.timeouts.departure,
        };
        let (room, stop) = (self.ends(&name, &id), self.stop.clone());
        let (ending, ends) = (Arc::clone(&self.ending), id.clone());
        // Held until the task is known, so that the task does not look for itself in vain.
        let mut known = lock(&self.ending);
        let task = self.endings.spawn(async move {
            // A process that stops does not wait: nobody else would end the room.
            stop.run_until_cancelled(tokio::time::sleep(delay)).await;
            lock(&ending).remove(&id);
            end(&room, sequence, delay, &stop).await;
        });
        if let Some(earlier) = known.insert(ends, task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Somebody's record has become another one.
    fn tell_changed(
        &self,
        name: &RoomName,
        id: &RoomId,
        before: Option<&Member>,
        after: Option<&Member>,
    ) {
        if !self.hooks.are_set() {
            return;
        }
        let news = news::of(before, after);
        if news.is_empty() {
            return;
        }
        let known = self.known(name).filter(|known| known.id == *id);
        let room = known.map_or_else(|| bare(name, id), |known| RoomInfo::clone(&known.info()));
        for event in news {
            let room = Some(room.clone());
            self.hooks.say(WebhookEvent { room, ..event });
        }
    }

    fn ends(&self, name: &RoomName, id: &RoomId) -> Ends {
        Ends {
            store: Arc::clone(&self.store),
            hooks: self.hooks.clone(),
            name: name.clone(),
            id: id.clone(),
        }
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
            body: self.room_body(name, &id, config, now).encode(),
            id,
            homes: home.clone().into(),
            after: 0,
        }
    }

    fn room_body(
        &self,
        name: &RoomName,
        id: &RoomId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> RoomBody {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let or = |given: u32, default: Duration| match given {
            0 => u32::try_from(default.as_secs()).unwrap_or(u32::MAX),
            given => given,
        };
        let info = RoomInfo {
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
        };
        // Whoever asks is told what is wrong with it before.
        let asked = body::loudest_microphones(config).ok().flatten();
        RoomBody {
            info,
            loudest_microphones: asked.unwrap_or(self.loudest_microphones),
        }
    }
}

/// A room that is to end.
struct Ends {
    store: Arc<dyn Store>,
    hooks: Hooks,
    name: RoomName,
    id: RoomId,
}

impl Ends {
    /// It has ended.
    fn tell(&self, why: RoomEndReason) {
        self.tell_as(None, why);
    }

    fn tell_as(&self, info: Option<RoomInfo>, why: RoomEndReason) {
        self.hooks.say(WebhookEvent {
            event: "room_finished".to_owned(),
            room: Some(info.unwrap_or_else(|| bare(&self.name, &self.id))),
            room_end_reason: why.into(),
            ..Default::default()
        });
    }

    /// Ends the room if nothing has happened in it since `sequence`.
    async fn end(&self, sequence: u64, why: RoomEndReason) -> Result<EndOutcome, Unavailable> {
        // It cannot be read afterwards.
        let info = match self.hooks.are_set() {
            true => self.store.read_room(&self.name).await?,
            false => None,
        };
        let info = info.filter(|room| room.room.id == self.id);
        let info = info.and_then(|room| RoomInfo::decode(room.room.body).ok());
        let outcome = self.store.end_room(&self.name, &self.id, sequence).await?;
        if outcome == EndOutcome::Done {
            tracing::info!(room = %self.name, "room ended");
            self.tell_as(info, why);
        }
        Ok(outcome)
    }

    /// The sequence of a room that is empty and has changed; `None`: there is nothing more to do.
    async fn end_once(&self, sequence: u64) -> Result<Option<u64>, Unavailable> {
        match self
            .end(sequence, RoomEndReason::RoomEndIdleTimeout)
            .await?
        {
            EndOutcome::Done | EndOutcome::NoRoom => Ok(None),
            EndOutcome::Conflict => {
                let room = self.store.read_room(&self.name).await?;
                // Whoever is in it ends it.
                let empty = room.filter(|room| room.room.id == self.id && room.members.is_empty());
                Ok(empty.map(|room| room.sequence))
            }
        }
    }
}

/// What is known of a room that cannot be read.
fn bare(name: &RoomName, id: &RoomId) -> RoomInfo {
    RoomInfo {
        sid: id.to_string(),
        name: name.to_string(),
        ..Default::default()
    }
}

/// Ends a room in which nothing happened since `sequence`, as soon as the store can be reached. If
/// something did and nobody is in it, another `delay` begins: whoever came and left may have been served by
/// a process that is gone.
async fn end(room: &Ends, mut sequence: u64, delay: Duration, stop: &CancellationToken) {
    let name = &room.name;
    let mut complained = false;
    loop {
        let pause = match room.end_once(sequence).await {
            Ok(None) => return,
            Ok(Some(later)) => {
                sequence = later;
                delay.max(REMOVE_RETRY)
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    let error = Chain(&error).to_string();
                    tracing::warn!(room = %name, error, "an empty room cannot be ended yet");
                }
                if stop.is_cancelled() {
                    return tracing::warn!(room = %name, "an empty room stays open");
                }
                REMOVE_RETRY
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
