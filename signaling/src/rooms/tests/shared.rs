//! A store that two processes share, and that can be away or lose everything.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pipemesh_proto::ids::ProcessId;
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::store::{
    EndOutcome, Lease, NewRoom, Opened, PutMember, PutOutcome, RemoveOutcome, Renewed, RoomPage,
    RoomSnapshot, RoomUpdate, UpdateRoom, Watch, WhenEmpty,
};

use super::*;

#[derive(Debug, Default)]
pub(super) struct SharedStore {
    store: Mutex<Arc<MemoryStore>>,
    is_away: AtomicBool,
}

impl SharedStore {
    /// Whoever watches is told to watch again.
    pub(super) fn lose_everything(&self) {
        *lock(&self.store) = Arc::default();
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    fn reach(&self) -> Result<Arc<MemoryStore>, Unavailable> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Unavailable::refused("away"));
        }
        Ok(Arc::clone(&lock(&self.store)))
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn open_room(&self, name: &RoomName, new: NewRoom) -> Result<Opened, Unavailable> {
        self.reach()?.open_room(name, new).await
    }

    async fn read_room(&self, name: &RoomName) -> Result<Option<RoomSnapshot>, Unavailable> {
        self.reach()?.read_room(name).await
    }

    async fn update_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        expected: u64,
        update: RoomUpdate,
    ) -> Result<UpdateRoom, Unavailable> {
        self.reach()?.update_room(name, id, expected, update).await
    }

    async fn put_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        member: PutMember,
    ) -> Result<PutOutcome, Unavailable> {
        self.reach()?.put_member(name, id, member).await
    }

    async fn remove_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        identity: &Identity,
        expected: u64,
        when: WhenEmpty,
    ) -> Result<RemoveOutcome, Unavailable> {
        let store = self.reach()?;
        store
            .remove_member(name, id, identity, expected, when)
            .await
    }

    async fn end_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        sequence: u64,
    ) -> Result<EndOutcome, Unavailable> {
        self.reach()?.end_room(name, id, sequence).await
    }

    async fn list_rooms(&self, from: Option<u64>) -> Result<RoomPage, Unavailable> {
        self.reach()?.list_rooms(from).await
    }

    async fn renew_lease(&self, process: &ProcessId, said: &str) -> Result<Renewed, Unavailable> {
        self.reach()?.renew_lease(process, said).await
    }

    async fn change_lease(
        &self,
        process: &ProcessId,
        expected: Option<&Lease>,
        lease: Option<&Lease>,
    ) -> Result<bool, Unavailable> {
        self.reach()?.change_lease(process, expected, lease).await
    }

    async fn watch(&self, name: &RoomName) -> Result<Watch, Unavailable> {
        self.reach()?.watch(name).await
    }
}
