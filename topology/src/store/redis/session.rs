//! The connections to Redis while they last: one for commands, one for events.
//!
//! They are two because a server cuts off a connection with subscriptions that reads too slowly,
//! and a large room must not count against that. They live and end together, so that what is
//! written, read and heard is one server's. Every wait has a limit; when one is reached, or a
//! connection breaks, the session is over and says why. Connecting again is `link`'s affair.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult, Script, Value, from_redis_value,
};
use tokio::sync::{Notify, RwLock, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::events::{Position, Standing, Topics};
use super::failure::Failure;
use super::inbox::Inboxes;
use super::keys::{Keys, RoomKeys};
use super::memory::Memory;
use super::scripts::RoomScript;
use super::{LIMIT, Stats, scripts};
use crate::store::{Letters, Watch, next_life};

/// How often what was heard is compared with what the server counts, and idle connections are tried.
const CHECK: Duration = Duration::from_secs(5);

/// Rooms that one step of the comparison asks for: some hundred microseconds of the server.
const CHECKED_AT_ONCE: usize = 500;

/// Commands on their way; further ones wait their turn, within their limit.
const IN_FLIGHT: usize = 1024;

pub(super) struct Session {
    commands: MultiplexedConnection,
    events: MultiplexedConnection,
    topics: Arc<Topics>,
    inboxes: Arc<Inboxes>,
    /// Rung when the ring is said to have changed.
    ring: Arc<Notify>,
    /// Held across waits on purpose: whoever subscribes shares it, and whoever unsubscribes has it
    /// alone, so that no channel is unsubscribed that somebody has just subscribed to again.
    subscribing: RwLock<()>,
    /// Takes the first reason why the session is over; more change nothing.
    broken: mpsc::Sender<Failure>,
    catch_up: RoomScript,
    ask_memory: Script,
    memory_key: String,
    /// Held for a look or a change.
    memory: Arc<Mutex<Memory>>,
    stats: Arc<Stats>,
}

/// Why a session is over, once it is.
pub(super) struct Broken(mpsc::Receiver<Failure>);

impl Session {
    pub(super) async fn connect(
        client: &Client,
        keys: &Keys,
        memory: &Arc<Mutex<Memory>>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, Broken), Failure> {
        let (broken, reasons) = mpsc::channel(1);
        let topics = Arc::new(Topics::new(Arc::clone(stats)));
        let inboxes = Arc::new(Inboxes::new());
        let ring = Arc::new(Notify::new());
        let connect = async {
            let commands = open(client, on_commands(broken.clone()));
            let on_ring = (keys.ring_channel(), Arc::clone(&ring));
            let on_events = on_events(
                Arc::clone(&topics),
                Arc::clone(&inboxes),
                on_ring,
                broken.clone(),
            );
            let events = open(client, on_events);
            let (mut commands, mut events) = tokio::try_join!(commands, events)?;
            probe(&mut commands, &mut events, keys).await?;
            Ok((commands, events))
        };
        let connections: RedisResult<_> = timeout(LIMIT, connect)
            .await
            .map_err(|_| Failure::TimedOut)?;
        let (commands, events) = connections?;
        let session = Self {
            commands,
            events,
            topics,
            inboxes,
            ring,
            subscribing: RwLock::new(()),
            broken,
            catch_up: scripts::catch_up(),
            ask_memory: scripts::memory(),
            memory_key: keys.memory(),
            memory: Arc::clone(memory),
            stats: Arc::clone(stats),
        };
        Ok((session, Broken(reasons)))
    }

    /// A connection for commands, to be used in [`Session::run`].
    pub(super) fn commands(&self) -> MultiplexedConnection {
        self.commands.clone()
    }

    /// Does something on a connection of this session, within the limit.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Failure> {
        let outcome = timeout(LIMIT, work).await;
        let outcome = outcome.map_or(Err(Failure::TimedOut), |done| done.map_err(Failure::from));
        if let Err(failure) = &outcome {
            match failure {
                Failure::TimedOut => self.stats.timed_out.fetch_add(1, Ordering::Relaxed),
                _ => self.stats.failed.fetch_add(1, Ordering::Relaxed),
            };
            if failure.breaks() {
                let _ = self.broken.try_send(failure.clone());
            }
        }
        outcome
    }

    /// Finds out whether the server has forgotten everything, and tells watchers; whether nobody may open a
    /// room that this process does not know.
    pub(super) async fn remember(&self) -> Result<bool, Failure> {
        let mut call = self.ask_memory.prepare_invoke();
        call.key(&self.memory_key)
            .arg(format!("{:016x}", rand::random::<u64>()));
        let mut commands = self.commands();
        let name: String = self.run(call.invoke_async(&mut commands)).await?;
        let now = Instant::now();
        let (is_lost, holds_back) = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            (memory.handle_name(name, now), memory.holds_back(now))
        };
        if is_lost {
            tracing::warn!("Redis has forgotten everything");
            self.stats.forgotten.fetch_add(1, Ordering::Relaxed);
            self.topics.lag();
        }
        Ok(holds_back)
    }

    /// Watches a room; returns once the server has confirmed that it tells of it.
    pub(super) async fn watch(&self, keys: &RoomKeys) -> Result<Watch, Failure> {
        let watch = self.topics.watch(keys).ok_or(Failure::Disconnected)?;
        let (mut events, mut commands) = (self.events.clone(), self.commands());
        let subscribe = async {
            let _shared = self.subscribing.read().await;
            events.subscribe(&keys.channel).await?;
            ask_positions(&mut commands, &[keys]).await
        };
        for answer in self.run(subscribe).await? {
            self.topics.begin(&keys.channel, position(answer)?);
        }
        Ok(watch)
    }

    /// Listens to what is said on a channel; returns once the server has confirmed that it tells of it.
    pub(super) async fn listen(&self, channel: &str) -> Result<Letters, Failure> {
        let letters = self.inboxes.open(channel).ok_or(Failure::Disconnected)?;
        let mut events = self.events.clone();
        self.run(events.subscribe(channel)).await?;
        Ok(letters)
    }

    /// Returns once the server has confirmed that it tells of the ring.
    pub(super) async fn listen_to_ring(&self, channel: &str) -> Result<(), Failure> {
        let mut events = self.events.clone();
        self.run(events.subscribe(channel)).await
    }

    /// For one who waits; what was said while he did not is not lost.
    pub(super) async fn ring_changed(&self) {
        self.ring.notified().await;
    }

    /// Keeps watchers from being behind, until the session is over; every watch then ends.
    pub(super) async fn hold(&self, broken: &mut Broken) -> Failure {
        let checks = async {
            let mut failed = false;
            loop {
                sleep(CHECK).await;
                // What ends the session is told by that.
                let error = self.check().await.err().filter(|error| !error.breaks());
                if let (Some(error), false) = (&error, failed) {
                    tracing::warn!(%error, "rooms cannot be compared with Redis");
                }
                failed = error.is_some();
            }
        };
        let failure = tokio::select! {
            failure = broken.0.recv() => failure.expect("the session holds the sender"),
            () = checks => unreachable!("checks go on for ever"),
        };
        self.topics.close();
        self.inboxes.close();
        failure
    }

    /// Compares what was heard with what the server counts. A room of which that cannot be read is left
    /// out, and told of in the end.
    async fn check(&self) -> Result<(), Failure> {
        let unsubscribed = self.unsubscribe_unwatched().await;
        let standings = self.topics.standings();
        let asked = self.positions(&standings).await;
        // The server answers in order: what was published before this has been heard after it.
        let (mut commands, mut events) = (self.commands(), self.events.clone());
        let ping = redis::cmd("PING");
        self.run(ping.exec_async(&mut events)).await?;
        self.run(ping.exec_async(&mut commands)).await?;
        let (positions, unreadable) = asked?;
        self.raise(&positions).await?;
        for (before, server) in positions {
            self.topics.compare(before, server);
        }
        unsubscribed?;
        unreadable.map_or(Ok(()), Err)
    }

    /// Sees that the counts of rooms go on behind what was heard of them, which the server may have lost.
    pub(super) async fn catch_up(&self, standings: &[Standing]) -> Result<(), Failure> {
        let (positions, unreadable) = self.positions(standings).await?;
        self.raise(&positions).await?;
        unreadable.map_or(Ok(()), Err)
    }

    async fn raise(&self, positions: &[(&Standing, Position)]) -> Result<(), Failure> {
        let mut raised = 0_u64;
        for (standing, server) in positions {
            let Some((room, seen)) = standing.lost_by(server) else {
                continue;
            };
            let after = next_life(seen);
            let mut call = self.catch_up.on(&standing.keys);
            call.arg(room.as_str()).arg(seen).arg(after).arg(after + 1);
            let mut commands = self.commands();
            let _: Value = self.run(call.invoke_async(&mut commands)).await?;
            raised += 1;
        }
        if raised > 0 {
            self.stats.behind.fetch_add(raised, Ordering::Relaxed);
            tracing::warn!(rooms = raised, "Redis has lost the last changes of rooms");
        }
        Ok(())
    }

    /// Where rooms stand on the server, and why one of them is left out, if any is.
    async fn positions<'a>(
        &self,
        standings: &'a [Standing],
    ) -> Result<(Vec<(&'a Standing, Position)>, Option<Failure>), Failure> {
        let mut commands = self.commands();
        let mut positions = Vec::with_capacity(standings.len());
        let mut unreadable = None;
        for some in standings.chunks(CHECKED_AT_ONCE) {
            let keys: Vec<&RoomKeys> = some.iter().map(|standing| &standing.keys).collect();
            let answers = self.run(ask_positions(&mut commands, &keys)).await?;
            for (standing, answer) in some.iter().zip(answers) {
                match position(answer) {
                    Ok(server) => positions.push((standing, server)),
                    Err(failure) => unreadable = Some(failure),
                }
            }
        }
        Ok((positions, unreadable))
    }

    /// Where the rooms stand that are watched, or stood when the session was over.
    pub(super) fn standings(&self) -> Vec<Standing> {
        self.topics.standings()
    }

    async fn unsubscribe_unwatched(&self) -> Result<(), Failure> {
        let _alone = self.subscribing.write().await;
        let channels = self.topics.forget_unwatched();
        let mut events = self.events.clone();
        for some in channels.chunks(CHECKED_AT_ONCE) {
            self.run(events.unsubscribe(some)).await?;
        }
        Ok(())
    }
}

/// Asks where rooms stand on the server; an answer may be an error.
async fn ask_positions(
    commands: &mut MultiplexedConnection,
    rooms: &[&RoomKeys],
) -> RedisResult<Vec<Value>> {
    let mut ask = redis::pipe();
    ask.ignore_errors();
    for keys in rooms {
        ask.cmd("HMGET").arg(&keys.room).arg(&["id", "sequence"]);
    }
    ask.query_async(commands).await
}

fn position(answer: Value) -> Result<Position, Failure> {
    let answer: Result<(Option<String>, Option<u64>), _> = from_redis_value(answer);
    let wrong = |error: String| Failure::Answer(format!("where a room stands: {error}"));
    match answer.map_err(|error| wrong(error.to_string()))? {
        (Some(room), Some(sequence)) => Ok(Position::At {
            room: room.parse().map_err(|error| wrong(format!("{error}")))?,
            sequence,
        }),
        _ => Ok(Position::NoRoom),
    }
}

type OnPush = Box<dyn Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync>;

async fn open(client: &Client, on_push: OnPush) -> RedisResult<MultiplexedConnection> {
    // Limits are kept in one place, around everything that is done.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_concurrency_limit(IN_FLIGHT)
        .set_push_sender(on_push);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn on_commands(broken: mpsc::Sender<Failure>) -> OnPush {
    Box::new(move |push| {
        if push.kind == PushKind::Disconnection {
            let _ = broken.try_send(Failure::Disconnected);
        }
        Ok(())
    })
}

/// Called by the connection's task as it reads: what it hears goes into the watchers' queues, which
/// are bounded, and into no other.
fn on_events(
    topics: Arc<Topics>,
    inboxes: Arc<Inboxes>,
    (ring_channel, ring): (String, Arc<Notify>),
    broken: mpsc::Sender<Failure>,
) -> OnPush {
    Box::new(move |push| {
        match (push.kind, &push.data[..]) {
            (PushKind::Message, [Value::BulkString(channel), ..])
                if channel == ring_channel.as_bytes() =>
            {
                ring.notify_one();
            }
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) => {
                let is_letter = inboxes.take(channel, message);
                if !is_letter {
                    topics.hear(channel, message);
                }
            }
            (PushKind::Disconnection, _) => {
                topics.close();
                inboxes.close();
                let _ = broken.try_send(Failure::Disconnected);
            }
            _ => {}
        }
        Ok(())
    })
}

/// Finds out whether this server and this user will do, before anything depends on it.
async fn probe(
    commands: &mut MultiplexedConnection,
    events: &mut MultiplexedConnection,
    keys: &Keys,
) -> RedisResult<()> {
    let channel = keys.probe_channel();
    events.subscribe(&channel).await?;
    events.unsubscribe(&channel).await?;
    redis::cmd("PING").exec_async(events).await?;
    let probe = scripts::probe();
    let mut call = probe.prepare_invoke();
    call.key(keys.probe_key()).arg(&channel);
    call.invoke_async(commands).await
}
