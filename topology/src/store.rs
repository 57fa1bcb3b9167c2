//! Rooms and who is in them, shared by all signaling processes.
//!
//! What is stored about a room or a member is opaque. Every operation is one atomic step that names
//! what it expects to find, so that two processes cannot overwrite each other and each operation
//! can be one script on a server. A room counts its changes: an event carries the room's id and its
//! place in that count, so a watcher notices a gap.

pub mod memory;
pub mod redis;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, RoomId};
use tokio::sync::broadcast;

use crate::homes::Homes;
use crate::names::{Identity, RoomName};

/// A room without its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub id: RoomId,
    /// The nodes on which everybody in the room is.
    pub homes: Homes,
    /// Grows with every change of this record, members aside.
    pub version: u64,
    pub body: Bytes,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub identity: Identity,
    /// Grows with every change of this record, also from one holder of the identity to the next.
    pub version: u64,
    pub body: Bytes,
}

/// A room and its members at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSnapshot {
    pub room: Room,
    /// Changes so far.
    pub sequence: u64,
    /// Sorted by identity.
    pub members: Vec<Member>,
}

/// What a room begins with.
#[derive(Debug, Clone)]
pub struct NewRoom {
    pub id: RoomId,
    pub homes: Homes,
    pub body: Bytes,
    /// Its counts, of changes and versions alike, go on behind this: 0, or [`next_life`] of a room that
    /// the store has lost and that is brought back by who is in it.
    pub after: u64,
}

/// Changes that a room may see before it is brought back; what the store counts stays exact for some
/// ten thousand lives of this length.
const LIFE_BITS: u32 = 32;

/// How often a room with this many changes was brought back.
#[must_use]
pub fn life(sequence: u64) -> u64 {
    sequence >> LIFE_BITS
}

/// Behind all that anybody can have seen of a room with this many changes.
#[must_use]
pub fn next_life(sequence: u64) -> u64 {
    (life(sequence) + 1) << LIFE_BITS
}

/// The room that is open under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub room: Room,
    pub sequence: u64,
    /// Whether it did not exist before.
    pub created: bool,
}

/// What to change of a room; `None` stays.
#[derive(Debug, Clone, Default)]
pub struct RoomUpdate {
    pub homes: Option<Homes>,
    pub body: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateRoom {
    Done {
        version: u64,
        sequence: u64,
    },
    /// Somebody else changed it, or the room has ended.
    Conflict(Option<Room>),
}

/// A member to be written.
#[derive(Debug, Clone)]
pub struct PutMember {
    pub identity: Identity,
    /// The version to be replaced; `None`: nobody has the identity.
    pub expected: Option<u64>,
    pub body: Bytes,
    /// For somebody new: how many the room may hold, with them.
    pub capacity: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    Done {
        version: u64,
        sequence: u64,
    },
    /// The member as it is, if it is.
    Conflict(Option<Member>),
    /// The room holds as many as it may.
    Full,
    /// The room has ended.
    NoRoom,
}

/// What becomes of a room that its last member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    End,
    /// Somebody ends it later with [`Store::end_room`].
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveOutcome {
    Done { sequence: u64, empty: bool },
    Conflict,
    NoRoom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOutcome {
    Done,
    /// Something happened in the room since, or somebody is in it.
    Conflict,
    NoRoom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEvent {
    pub room: RoomId,
    /// The event before had one less; the first of a room has 1, or one more than it was brought back
    /// behind.
    pub sequence: u64,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Opened(Room),
    RoomUpdated(Room),
    MemberPut(Member),
    MemberRemoved(Identity),
    Ended,
}

/// What the store holds of a signaling process. One that lives says something new again and again; that it
/// has not for some time is judged by whoever looks, by a clock of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// What it said last.
    Held(String),
    /// Somebody found it gone: what it has left in rooms is being removed.
    Ended,
}

impl Lease {
    /// How it is stored.
    const ENDED: &str = "ended";

    fn as_str(&self) -> &str {
        match self {
            Self::Held(said) => said,
            Self::Ended => Self::ENDED,
        }
    }
}

impl From<String> for Lease {
    fn from(stored: String) -> Self {
        if stored == Self::ENDED {
            Self::Ended
        } else {
            Self::Held(stored)
        }
    }
}

/// A lease that was renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// What the store held of the process before.
    pub before: Option<Lease>,
    /// The leases of all processes.
    pub leases: BTreeMap<ProcessId, Lease>,
}

/// Some rooms, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomPage {
    pub names: Vec<RoomName>,
    /// `None`: that was all.
    pub next: Option<u64>,
}

/// The store did not do what it was asked, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot be reached")]
pub struct Unavailable {
    #[source]
    cause: Box<dyn Error + Send + Sync>,
    /// It may have done it all the same.
    pub may_be_done: bool,
}

impl Unavailable {
    /// It was not done.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: cause.into(),
            may_be_done: false,
        }
    }

    /// There was no answer.
    pub fn unheard(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: cause.into(),
            may_be_done: true,
        }
    }
}

/// Only `signaling/rooms.rs` calls these, and `signaling/orders.rs` what processes say to each other.
#[async_trait]
pub trait Store: Send + Sync {
    /// The room of that name; opens it if there is none.
    async fn open_room(&self, name: &RoomName, new: NewRoom) -> Result<Opened, Unavailable>;

    async fn read_room(&self, name: &RoomName) -> Result<Option<RoomSnapshot>, Unavailable>;

    /// Changes the room `id` if its version is `expected`.
    async fn update_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        expected: u64,
        update: RoomUpdate,
    ) -> Result<UpdateRoom, Unavailable>;

    /// Writes a member of the room `id`.
    async fn put_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        member: PutMember,
    ) -> Result<PutOutcome, Unavailable>;

    /// Removes a member of the room `id` if its version is `expected`.
    async fn remove_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        identity: &Identity,
        expected: u64,
        when_empty: WhenEmpty,
    ) -> Result<RemoveOutcome, Unavailable>;

    /// Ends the room `id` if nobody is in it and nothing happened since `sequence`.
    async fn end_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        sequence: u64,
    ) -> Result<EndOutcome, Unavailable>;

    /// Some of the rooms that are open, from the beginning or from [`RoomPage::next`] on. One that is open
    /// all the while is among them, some of them twice.
    async fn list_rooms(&self, from: Option<u64>) -> Result<RoomPage, Unavailable>;

    /// Says that the process lives; each time something else.
    async fn renew_lease(&self, process: &ProcessId, said: &str) -> Result<Renewed, Unavailable>;

    /// Changes the lease of a process if it is `expected`; `None`: there is none. Answers whether it was.
    async fn change_lease(
        &self,
        process: &ProcessId,
        expected: Option<&Lease>,
        lease: Option<&Lease>,
    ) -> Result<bool, Unavailable>;

    /// Says something to a process. `false`: nobody listens there. Whether it was heard is for the process
    /// to answer: what is said can be lost.
    async fn tell(&self, process: &ProcessId, said: Bytes) -> Result<bool, Unavailable>;

    /// What is said to a process from now on.
    async fn listen(&self, process: &ProcessId) -> Result<Letters, Unavailable>;

    /// Events of the rooms of that name from now on. To know a room: watch, then read, then apply
    /// what has a higher sequence than what was read. A watch that ends is followed by another one.
    async fn watch(&self, name: &RoomName) -> Result<Watch, Unavailable>;
}

/// Letters that may wait for a process. Full: the oldest are lost, and said again by whoever waits for an
/// answer.
pub const LETTERS_CAPACITY: usize = 1024;

/// What is said to a process.
#[derive(Debug)]
pub struct Letters {
    said: broadcast::Receiver<Bytes>,
}

impl Letters {
    #[must_use]
    pub fn new(said: broadcast::Receiver<Bytes>) -> Self {
        Self { said }
    }

    /// The next letter; `None` when there will be no more: listen again.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.said.recv().await {
                Ok(letter) => return Some(letter),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
    }
}

/// Events a watcher may be behind. Full: the watcher is told that it [`Lagged`] and reads again.
pub const WATCH_CAPACITY: usize = 256;

/// Events of one room name.
#[derive(Debug)]
pub struct Watch {
    events: broadcast::Receiver<Heard>,
}

/// What a store tells a watcher: an event, or that it cannot know what happened.
pub type Heard = Result<Arc<RoomEvent>, Lagged>;

/// Events were lost: read the room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events were lost")]
pub struct Lagged;

impl Watch {
    #[must_use]
    pub fn new(events: broadcast::Receiver<Heard>) -> Self {
        Self { events }
    }

    /// The next event; `None` when there will be no more: watch again.
    ///
    /// # Errors
    /// When events were lost, once per gap.
    pub async fn next(&mut self) -> Result<Option<Arc<RoomEvent>>, Lagged> {
        match self.events.recv().await {
            Ok(heard) => heard.map(Some),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(Lagged),
        }
    }
}
