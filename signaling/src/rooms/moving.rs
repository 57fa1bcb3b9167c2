//! Which rooms are at home on a node, and how one gets another home.

use pipemesh_proto::ids::NodeId;
use pipemesh_topology::RoomName;
use pipemesh_topology::store::{RoomUpdate, Unavailable, UpdateRoom};

use super::{Rooms, lock};

/// A room at home on a node, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) room: RoomName,
    pub(crate) members: u32,
    /// Those of them whom this process serves.
    pub(crate) served: u32,
}

/// What became of a room that was to get another home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Done,
    /// It has ended, or another process was faster.
    NotThere,
}

impl Rooms {
    /// Rooms at home on the node in which this process serves somebody.
    pub(crate) fn at_home(&self, node: &NodeId) -> Vec<Stay> {
        let views = lock(&self.views);
        let views = views
            .iter()
            .filter_map(|(room, view)| Some((room, view.upgrade()?.followed.state()?)));
        let stays = views.filter(|(_, state)| state.home == *node);
        let stays = stays.map(|(room, state)| {
            let members = state.members.values();
            let served = members
                .filter(|member| member.process.as_ref() == Some(&self.process))
                .count();
            Stay {
                room: room.clone(),
                members: u32::try_from(state.members.len()).unwrap_or(u32::MAX),
                served: u32::try_from(served).unwrap_or(u32::MAX),
            }
        });
        stays.filter(|stay| stay.served > 0).collect()
    }

    /// Gives a room another home if it still has this one; whoever is in it follows.
    pub(crate) async fn relocate(
        &self,
        name: &RoomName,
        from: &NodeId,
        to: &NodeId,
    ) -> Result<Moved, Unavailable> {
        let Some(snapshot) = self.store.read_room(name).await? else {
            return Ok(Moved::NotThere);
        };
        let room = snapshot.room;
        if room.home != *from {
            return Ok(Moved::NotThere);
        }
        let update = RoomUpdate {
            home: Some(to.clone()),
            body: None,
        };
        let updated = self.store.update_room(name, &room.id, room.version, update);
        match updated.await? {
            UpdateRoom::Done { .. } => {
                tracing::info!(room = %name, %from, %to, "room moved");
                Ok(Moved::Done)
            }
            UpdateRoom::Conflict(_) => Ok(Moved::NotThere),
        }
    }
}
