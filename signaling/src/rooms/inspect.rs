//! Rooms as an operator looks at them: what the store has, not what this process follows.

use pipemesh_topology::store::Unavailable;
use pipemesh_topology::{Homes, RoomName};

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

    /// Where a room is at home: as the store says, or as this process knows while that is away.
    pub(crate) async fn homes(&self, name: &RoomName) -> Result<Option<Homes>, Unavailable> {
        Ok(self.read(name).await?.map(|room| room.homes))
    }
}
