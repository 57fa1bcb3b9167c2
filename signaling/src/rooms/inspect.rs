//! Rooms as an operator looks at them: what the store has, not what this process follows.

use pipemesh_proto::ids::NodeId;
use pipemesh_topology::RoomName;
use pipemesh_topology::store::Unavailable;

use super::{RoomState, Rooms};

impl Rooms {
    /// Some of the rooms that are open, and where to go on.
    pub(crate) async fn page(
        &self,
        from: Option<u64>,
    ) -> Result<(Vec<(RoomName, RoomState)>, Option<u64>), Unavailable> {
        let page = self.store.list_rooms(from).await?;
        let mut rooms = Vec::new();
        for name in page.names {
            if let Some(room) = self.read(&name).await? {
                rooms.push((name, room));
            }
        }
        Ok((rooms, page.next))
    }

    pub(crate) async fn read(&self, name: &RoomName) -> Result<Option<RoomState>, Unavailable> {
        let snapshot = self.store.read_room(name).await?;
        Ok(snapshot.map(|snapshot| RoomState::new(name, snapshot)))
    }

    /// Where a room is at home: as the store says, or as this process knows while that is away.
    pub(crate) async fn home(&self, name: &RoomName) -> Result<Option<NodeId>, Unavailable> {
        match (self.read(name).await, self.known(name)) {
            (Ok(room), _) => Ok(room.map(|room| room.home)),
            (Err(_), Some(known)) => Ok(Some(known.home.clone())),
            (Err(error), None) => Err(error),
        }
    }
}
