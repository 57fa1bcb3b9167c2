//! A store that processes share, and that can be away, lose everything, or lose an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, RoomId};
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::store::{
    EndOutcome, Lease, Letters, NewRoom, Opened, PutMember, PutOutcome, RemoveOutcome, Renewed,
    RoomPage, RoomSnapshot, RoomUpdate, Store, Unavailable, UpdateRoom, Watch, WhenEmpty,
};
use pipemesh_topology::{Identity, RoomName};

#[derive(Debug, Default)]
pub(crate) struct SharedStore {
    store: Mutex<Arc<MemoryStore>>,
    is_away: AtomicBool,
    /// The next answer to this is lost: it is done, and nobody hears of it.
    unheard: Mutex<Option<Operation>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "not every test binary that includes this loses each"
)]
pub(crate) enum Operation {
    Open,
    Put,
    Remove,
    End,
}

impl SharedStore {
    pub(crate) fn lose_answer(&self, to: Operation) {
        *self.unheard.lock().unwrap() = Some(to);
    }

    fn answer<T>(
        &self,
        operation: Operation,
        outcome: Result<T, Unavailable>,
    ) -> Result<T, Unavailable> {
        let mut unheard = self.unheard.lock().unwrap();
        if *unheard == Some(operation) {
            *unheard = None;
            return Err(Unavailable::unheard("the answer is lost"));
        }
        outcome
    }

    fn reach(&self) -> Result<Arc<MemoryStore>, Unavailable> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Unavailable::refused("away"));
        }
        Ok(Arc::clone(&self.store.lock().unwrap()))
    }
}

/// For processes that lose sight of it.
#[allow(
    dead_code,
    reason = "not every test binary that includes this does that"
)]
impl SharedStore {
    /// Whoever watches is told to watch again.
    pub(crate) fn lose_everything(&self) {
        *self.store.lock().unwrap() = Arc::default();
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn open_room(&self, name: &RoomName, new: NewRoom) -> Result<Opened, Unavailable> {
        let opened = self.reach()?.open_room(name, new).await;
        self.answer(Operation::Open, opened)
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
        let put = self.reach()?.put_member(name, id, member).await;
        self.answer(Operation::Put, put)
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
        let removed = store.remove_member(name, id, identity, expected, when);
        self.answer(Operation::Remove, removed.await)
    }

    async fn end_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        sequence: u64,
    ) -> Result<EndOutcome, Unavailable> {
        let ended = self.reach()?.end_room(name, id, sequence).await;
        self.answer(Operation::End, ended)
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

    async fn tell(&self, process: &ProcessId, said: Bytes) -> Result<bool, Unavailable> {
        self.reach()?.tell(process, said).await
    }

    async fn listen(&self, process: &ProcessId) -> Result<Letters, Unavailable> {
        self.reach()?.listen(process).await
    }

    async fn watch(&self, name: &RoomName) -> Result<Watch, Unavailable> {
        self.reach()?.watch(name).await
    }
}
