//! The store that several signaling processes share. Schema and messages: `docs/redis.md`.
//!
//! Each operation is one script: here is what it is given and what its answer means. What happened
//! is published by the same script; `redis/events.rs` sees that watchers are not left behind.
//! Nothing is tried twice: whoever asked knows best what to do about [`Unavailable`].

mod config;
mod events;
mod failure;
mod inbox;
mod keys;
mod link;
mod memory;
mod message;
mod reply;
mod ring;
mod scripts;
mod session;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, RoomId};
use redis::{ScriptInvocation, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::{DEFAULT_PREFIX, InvalidConfig, RedisConfig};
pub use failure::Failure;
pub(crate) use ring::Ears;
pub use ring::{PutRing, RedisRing, Stored, UnreadableRing};

use super::{
    EndOutcome, Lease, Letters, NewRoom, Opened, PutMember, PutOutcome, RemoveOutcome, Renewed,
    RoomPage, RoomSnapshot, RoomUpdate, Store, Unavailable, UpdateRoom, Watch, WhenEmpty,
};
use crate::names::{Identity, RoomName};
use keys::Keys;
use link::Link;
use reply::Reply;
use scripts::Scripts;

/// How long anything may take. A join waits for a few calls one after the other, and its client
/// for some ten seconds.
const LIMIT: Duration = Duration::from_secs(2);

/// Keys that one step of a list looks at: some hundred microseconds of the server.
const LISTED_AT_ONCE: usize = 500;

/// What has gone wrong since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sessions that broke.
    pub disconnects: AtomicU64,
    /// Calls while there was no session.
    pub refused: AtomicU64,
    /// Calls, and what is asked for oneself, without an answer in time.
    pub timed_out: AtomicU64,
    /// The same with an error for an answer.
    pub failed: AtomicU64,
    /// Events that did not follow on the one before.
    pub gaps: AtomicU64,
    /// Rooms of which an event was missed that nothing followed on.
    pub missed: AtomicU64,
    /// Events that could not be read.
    pub unreadable: AtomicU64,
    /// Rooms whose last changes the server had lost.
    pub behind: AtomicU64,
    /// Times that the server had forgotten everything.
    pub forgotten: AtomicU64,
}

pub struct RedisStore {
    link: Link,
    keys: Keys,
    scripts: Scripts,
    stats: Arc<Stats>,
}

impl RedisStore {
    /// The store, and what connects it and keeps it so until `stop`. A store that cannot be reached yet
    /// may be later.
    pub fn start(
        config: RedisConfig,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let stats = Arc::new(Stats::default());
        let keys = Keys::new(&config.prefix, config.database());
        let (link, keeper) = link::link(config, keys.clone(), Arc::clone(&stats));
        let store = Self {
            link,
            keys,
            scripts: Scripts::new(),
            stats,
        };
        (store, keeper.run(stop))
    }

    /// Whether Redis can be reached, as last known.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.link.up()
    }

    /// Where the ring is kept, beside the rooms.
    #[must_use]
    pub fn ring(&self) -> RedisRing {
        RedisRing::new(self.link.clone(), &self.keys)
    }

    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    async fn call(&self, call: &ScriptInvocation<'_>) -> Result<Reply, Failure> {
        let session = self.link.session()?;
        let mut commands = session.commands();
        let value: Value = session.run(call.invoke_async(&mut commands)).await?;
        Reply::new(value)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn open_room(&self, name: &RoomName, new: NewRoom) -> Result<Opened, Unavailable> {
        // Who brings a room back knows it. For anybody else it is looked whether those come first.
        let is_new = new.after == 0;
        let held_back = is_new && self.link.session()?.remember().await?;
        let mut call = self.scripts.open_room.on(&self.keys.room(name));
        call.arg(new.id.as_str())
            .arg(new.homes.to_string())
            .arg(&new.body[..])
            .arg(new.after)
            .arg(new.after + 1)
            .arg(u8::from(held_back));
        let mut reply = self.call(&call).await?;
        if reply.is_empty() {
            return Err(Failure::Forgetful.into());
        }
        Ok(Opened {
            room: reply.room()?,
            sequence: reply.take()?,
            created: reply.take()?,
        })
    }

    async fn read_room(&self, name: &RoomName) -> Result<Option<RoomSnapshot>, Unavailable> {
        let call = self.scripts.read_room.on(&self.keys.room(name));
        let mut reply = self.call(&call).await?;
        if reply.is_empty() {
            return Ok(None);
        }
        Ok(Some(RoomSnapshot {
            room: reply.room()?,
            sequence: reply.take()?,
            members: reply.members()?,
        }))
    }

    async fn update_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        expected: u64,
        update: RoomUpdate,
    ) -> Result<UpdateRoom, Unavailable> {
        let homes = update.homes.map(|homes| homes.to_string());
        let homes = homes.as_ref().map(String::as_bytes);
        let mut call = self.scripts.update_room.on(&self.keys.room(name));
        call.arg(id.as_str()).arg(expected);
        for part in [homes, update.body.as_deref()] {
            call.arg(usize::from(part.is_some()))
                .arg(part.unwrap_or_default());
        }
        let mut reply = self.call(&call).await?;
        match reply.outcome()?.as_str() {
            "done" => Ok(UpdateRoom::Done {
                version: reply.take()?,
                sequence: reply.take()?,
            }),
            "conflict" => Ok(UpdateRoom::Conflict(Some(reply.room()?))),
            "no_room" => Ok(UpdateRoom::Conflict(None)),
            other => Err(unknown(other)),
        }
    }

    async fn put_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        put: PutMember,
    ) -> Result<PutOutcome, Unavailable> {
        let number = |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
        let mut call = self.scripts.put_member.on(&self.keys.room(name));
        call.arg(id.as_str())
            .arg(put.identity.as_str())
            .arg(number(put.expected))
            .arg(number(put.capacity.map(u64::from)))
            .arg(&put.body[..]);
        let mut reply = self.call(&call).await?;
        match reply.outcome()?.as_str() {
            "done" => Ok(PutOutcome::Done {
                version: reply.take()?,
                sequence: reply.take()?,
            }),
            "conflict" if reply.is_empty() => Ok(PutOutcome::Conflict(None)),
            "conflict" => Ok(PutOutcome::Conflict(Some(reply.member(put.identity)?))),
            "full" => Ok(PutOutcome::Full),
            "no_room" => Ok(PutOutcome::NoRoom),
            other => Err(unknown(other)),
        }
    }

    async fn remove_member(
        &self,
        name: &RoomName,
        id: &RoomId,
        identity: &Identity,
        expected: u64,
        when_empty: WhenEmpty,
    ) -> Result<RemoveOutcome, Unavailable> {
        let when_empty = match when_empty {
            WhenEmpty::End => "end",
            WhenEmpty::Keep => "keep",
        };
        let mut call = self.scripts.remove_member.on(&self.keys.room(name));
        call.arg(id.as_str())
            .arg(identity.as_str())
            .arg(expected)
            .arg(when_empty);
        let mut reply = self.call(&call).await?;
        match reply.outcome()?.as_str() {
            "done" => Ok(RemoveOutcome::Done {
                sequence: reply.take()?,
                empty: reply.take()?,
            }),
            "conflict" => Ok(RemoveOutcome::Conflict),
            "no_room" => Ok(RemoveOutcome::NoRoom),
            other => Err(unknown(other)),
        }
    }

    async fn end_room(
        &self,
        name: &RoomName,
        id: &RoomId,
        sequence: u64,
    ) -> Result<EndOutcome, Unavailable> {
        let mut call = self.scripts.end_room.on(&self.keys.room(name));
        call.arg(id.as_str()).arg(sequence);
        let mut reply = self.call(&call).await?;
        match reply.outcome()?.as_str() {
            "done" => Ok(EndOutcome::Done),
            "conflict" => Ok(EndOutcome::Conflict),
            "no_room" => Ok(EndOutcome::NoRoom),
            other => Err(unknown(other)),
        }
    }

    async fn list_rooms(&self, from: Option<u64>) -> Result<RoomPage, Unavailable> {
        let session = self.link.session()?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(from.unwrap_or(0))
            .arg("MATCH")
            .arg(self.keys.room_pattern())
            .arg("COUNT")
            .arg(LISTED_AT_ONCE);
        let mut commands = session.commands();
        let (next, keys): (u64, Vec<Vec<u8>>) =
            session.run(scan.query_async(&mut commands)).await?;
        let names = keys.iter().filter_map(|key| {
            let key = std::str::from_utf8(key).ok()?;
            self.keys.room_name(key)
        });
        Ok(RoomPage {
            names: names.collect(),
            next: (next != 0).then_some(next),
        })
    }

    async fn renew_lease(&self, process: &ProcessId, said: &str) -> Result<Renewed, Unavailable> {
        self.link.session()?.remember().await?;
        let mut call = self.scripts.renew_lease.on(&self.keys.leases(), process);
        let mut reply = self.call(call.arg(said)).await?;
        let before: String = reply.take()?;
        let leases: Vec<(String, String)> = reply.take()?;
        // Nobody of ours writes an id that cannot be read.
        let leases = leases
            .into_iter()
            .filter_map(|(process, lease)| Some((process.parse().ok()?, lease.into())));
        Ok(Renewed {
            before: (!before.is_empty()).then(|| before.into()),
            leases: leases.collect(),
        })
    }

    async fn change_lease(
        &self,
        process: &ProcessId,
        expected: Option<&Lease>,
        lease: Option<&Lease>,
    ) -> Result<bool, Unavailable> {
        let text = |lease: Option<&Lease>| lease.map_or("", Lease::as_str).to_owned();
        let mut call = self.scripts.change_lease.on(&self.keys.leases(), process);
        call.arg(text(expected)).arg(text(lease));
        Ok(self.call(&call).await?.take()?)
    }

    async fn tell(&self, process: &ProcessId, said: Bytes) -> Result<bool, Unavailable> {
        let session = self.link.session()?;
        let mut commands = session.commands();
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(self.keys.process_channel(process))
            .arg(&said[..]);
        let heard: u64 = session.run(publish.query_async(&mut commands)).await?;
        Ok(heard > 0)
    }

    async fn listen(&self, process: &ProcessId) -> Result<Letters, Unavailable> {
        let session = self.link.session()?;
        Ok(session.listen(&self.keys.process_channel(process)).await?)
    }

    async fn watch(&self, name: &RoomName) -> Result<Watch, Unavailable> {
        let session = self.link.session()?;
        Ok(session.watch(&self.keys.room(name)).await?)
    }
}

fn unknown(outcome: &str) -> Unavailable {
    Failure::Answer(format!("an outcome named {outcome:?}")).into()
}
