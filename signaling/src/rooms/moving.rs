//! Which rooms are at home on a node, and how one gets another home in its place.

use pipemesh_proto::ids::NodeId;
use pipemesh_topology::store::{RoomUpdate, Unavailable, UpdateRoom};
use pipemesh_topology::{Homes, RoomName};

use super::record::Member;
use super::{Rooms, lock};

/// Times it is tried to take a home from a room that others change at the same time.
const MAX_CHANGES: usize = 5;

/// A room at home on a node, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) room: RoomName,
    /// On this node.
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
        let stays = views.filter(|(_, state)| state.homes.contains(node));
        let stays = stays.map(|(room, state)| {
            let (mut members, mut served) = (0, 0);
            for member in state.members.values().filter(|it| it.node == *node) {
                members += 1;
                served += u32::from(member.process.as_ref() == Some(&self.process));
            }
            Stay {
                room: room.clone(),
                members,
                served,
            }
        });
        stays.filter(|stay| stay.served > 0).collect()
    }

    /// Where a room is at home, as this process sees it.
    pub(crate) fn known_homes(&self, room: &RoomName) -> Option<Homes> {
        self.known(room).map(|room| room.homes.clone())
    }

    /// Gives a room another home for this one, if it still has it; whoever is there follows.
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
        if !room.homes.contains(from) {
            return Ok(Moved::NotThere);
        }
        let update = RoomUpdate {
            homes: Some(room.homes.moved(from, to)),
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

    /// Takes from a room a home where nobody in it is, unless it is the last one.
    pub(crate) async fn leave_home(
        &self,
        name: &RoomName,
        home: &NodeId,
    ) -> Result<Moved, Unavailable> {
        for _ in 0..MAX_CHANGES {
            let Some(snapshot) = self.store.read_room(name).await? else {
                break;
            };
            let room = snapshot.room;
            let mut members = snapshot.members.iter().filter_map(Member::decode);
            if members.any(|member| member.node == *home) {
                break;
            }
            let Some(homes) = room.homes.without(home) else {
                break;
            };
            let update = RoomUpdate {
                homes: Some(homes),
                body: None,
            };
            let updated = self.store.update_room(name, &room.id, room.version, update);
            if let UpdateRoom::Done { .. } = updated.await? {
                tracing::info!(room = %name, node = %home, "room left a node");
                return Ok(Moved::Done);
            }
        }
        Ok(Moved::NotThere)
    }
}
