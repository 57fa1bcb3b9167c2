//! Rooms as the server API sees them: whoever asks is in none of them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use livekit_protocol::{Room as RoomInfo, RoomConfiguration, RoomEndReason};
use pipemesh_proto::ids::{NodeId, ProcessId, RoomId};
use pipemesh_topology::RoomName;
use pipemesh_topology::store::{
    EndOutcome, RemoveOutcome, RoomUpdate, Unavailable, UpdateRoom, WhenEmpty,
};
use prost::Message;

use super::body::RoomBody;
use super::record::Member;
use super::{RoomState, Rooms, end};

/// Attempts to change what others change at the same time.
const CHANGE_ATTEMPTS: u32 = 8;

impl Rooms {
    /// The room as it is in the whole cluster; as last known while the store is away.
    pub(crate) async fn read(&self, name: &RoomName) -> Result<Option<RoomState>, Unavailable> {
        match (self.store.read_room(name).await, self.known(name)) {
            (Ok(room), _) => Ok(room.map(|room| RoomState::new(name, room))),
            (Err(_), Some(known)) => Ok(Some(RoomState::clone(&known))),
            (Err(error), None) => Err(error),
        }
    }

    /// Every room that is open.
    pub(crate) async fn list(&self) -> Result<Vec<RoomName>, Unavailable> {
        let (mut names, mut from) = (Vec::new(), None);
        loop {
            let page = self.store.list_rooms(from).await?;
            names.extend(page.names);
            from = page.next;
            if from.is_none() {
                // Some are listed twice.
                names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                names.dedup();
                return Ok(names);
            }
        }
    }

    /// Opens a room for people who come later; one that is open becomes as `config` says, where it says
    /// something.
    pub(crate) async fn create(
        &self,
        name: &RoomName,
        home: &NodeId,
        config: &RoomConfiguration,
        now: SystemTime,
    ) -> Result<RoomInfo, Unavailable> {
        loop {
            let opened = self.open(name, home, config, now).await?;
            if opened.created {
                self.end_if_nobody_comes(name.clone(), opened.id.clone(), opened.sequence);
            }
            let change = |info: &mut RoomInfo| {
                let set = |now: &mut u32, asked: u32| {
                    if asked > 0 {
                        *now = asked;
                    }
                };
                set(&mut info.empty_timeout, config.empty_timeout);
                set(&mut info.departure_timeout, config.departure_timeout);
                set(&mut info.max_participants, config.max_participants);
                if !config.metadata.is_empty() {
                    info.metadata.clone_from(&config.metadata);
                }
            };
            // Otherwise it has ended in between.
            if let Some(info) = self.change_info(name, change).await? {
                return Ok(info);
            }
        }
    }

    /// Changes what is said of a room, and answers it; `None`: there is none.
    pub(crate) async fn change_info(
        &self,
        name: &RoomName,
        change: impl Fn(&mut RoomInfo),
    ) -> Result<Option<RoomInfo>, Unavailable> {
        for _ in 0..CHANGE_ATTEMPTS {
            let Some(room) = self.store.read_room(name).await? else {
                return Ok(None);
            };
            let RoomBody {
                info: before,
                loudest_microphones,
            } = RoomBody::decode(&room.room.body);
            let mut info = before.clone();
            change(&mut info);
            let (id, version) = (room.room.id.clone(), room.room.version);
            let counted = RoomState::new(name, room).info();
            let counted = RoomInfo {
                num_participants: counted.num_participants,
                num_publishers: counted.num_publishers,
                active_recording: counted.active_recording,
                ..info.clone()
            };
            if info == before {
                return Ok(Some(counted));
            }
            let body = RoomBody {
                info,
                loudest_microphones,
            };
            let update = RoomUpdate {
                homes: None,
                body: Some(body.encode()),
            };
            match self.store.update_room(name, &id, version, update).await? {
                UpdateRoom::Done { .. } => return Ok(Some(counted)),
                UpdateRoom::Conflict(_) => {}
            }
        }
        Err(Unavailable::refused("others change the room all the time"))
    }

    /// Removes the record of somebody whose process does not do it.
    pub(crate) async fn remove_left(
        &self,
        name: &RoomName,
        id: &RoomId,
        member: &Member,
    ) -> Result<(), Unavailable> {
        let (who, version) = (&member.identity, member.version);
        let removed = self
            .store
            .remove_member(name, id, who, version, WhenEmpty::Keep)
            .await?;
        if let RemoveOutcome::Done { sequence, empty } = removed {
            self.tell_changed(name, id, Some(member), None);
            if empty {
                self.end_later(name.clone(), id.clone(), sequence).await;
            }
        }
        Ok(())
    }

    /// Ends a room whose people were sent away. `false`: some are still in it.
    pub(crate) async fn end_now(&self, name: &RoomName, id: &RoomId) -> Result<bool, Unavailable> {
        let room = self.store.read_room(name).await?;
        let Some(room) = room.filter(|room| room.room.id == *id) else {
            return Ok(true);
        };
        if !room.members.is_empty() {
            return Ok(false);
        }
        let deleted = RoomEndReason::RoomEndApiDelete;
        let ended = self.ends(name, id).end(room.sequence, deleted).await?;
        Ok(ended != EndOutcome::Conflict)
    }

    /// Ends a room that was opened for people who do not come. When the process stops before, the room
    /// stays: another process will find it empty.
    fn end_if_nobody_comes(&self, name: RoomName, id: RoomId, sequence: u64) {
        let (room, stop) = (self.ends(&name, &id), self.stop.clone());
        self.endings.spawn(async move {
            let timeout = match room.store.read_room(&name).await {
                Ok(Some(room)) => {
                    RoomInfo::decode(room.room.body)
                        .unwrap_or_default()
                        .empty_timeout
                }
                Ok(None) => return,
                Err(_) => 0,
            };
            let timeout = Duration::from_secs(timeout.into());
            let waited = tokio::time::sleep(timeout);
            if stop.run_until_cancelled(waited).await.is_some() {
                end(&room, sequence, timeout, &stop).await;
            }
        });
    }
}

/// Whom the server API speaks of: everybody who is in.
pub(crate) fn participants(room: &RoomState) -> impl Iterator<Item = &Member> {
    let members = room.members.values().map(|member| &**member);
    members.filter(|member| member.is_there())
}

/// Who serves people of a room, and whom each; `None`: a version that takes no orders.
pub(crate) type Served<'a> = BTreeMap<Option<ProcessId>, Vec<&'a Member>>;

pub(crate) fn by_process<'a>(members: impl Iterator<Item = &'a Member>) -> Served<'a> {
    let mut served = Served::new();
    for member in members {
        let process = member.process.clone();
        served.entry(process).or_default().push(member);
    }
    served
}
