//! The sessions of a node: opening one, finding it again, and which shard it is on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{ParticipantId, RoomId, SessionId};
use pipemesh_proto::node::{self as contract, CloseReason, Code, ConnectionLayout, Open};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::mailbox;
use crate::metrics::RequestMetrics;
use crate::pipe::Pipes;
use crate::session::driver::{Attachment, Driver, INBOX, Input};
use crate::session::fence::Fence;
use crate::session::ice::Credentials;
use crate::session::sctp;
use crate::session::sdp::LocalTransport;
use crate::session::{Identity, Refusal, Session};
use crate::shard::{Command, Counters, EVENT_QUEUE, Inspected, SessionKey, ShardHandle};
use crate::spread::{ShardLoad, Spread};
use crate::status::Status;
use crate::tracks::Tracks;

/// Longest identity, in bytes; LiveKit's limit.
const MAX_IDENTITY: usize = 256;
/// A longer grace than this leaves people in rooms that nobody manages.
const MAX_GRACE: Duration = Duration::from_secs(600);

/// A shard and what clients are told of it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) shard: ShardHandle,
    pub(crate) candidates: Vec<SocketAddr>,
    /// The node's, the same for all shards.
    pub(crate) tcp_candidates: Arc<[SocketAddr]>,
}

pub(crate) struct Sessions {
    places: Vec<Place>,
    fingerprint: [u8; 32],
    status: Arc<Status>,
    tracks: Arc<Tracks>,
    metrics: RequestMetrics,
    pipes: Option<Pipes>,
    default_grace: Duration,
    limit: usize,
    tasks: TaskTracker,
    // Held for one look-up or change, never across an await; joins are its only writers.
    known: Mutex<Known>,
}

struct Known {
    sessions: HashMap<SessionId, Entry>,
    rooms: HashMap<RoomId, Room>,
    last_key: u64,
    spread: Spread,
    /// Sessions on each shard.
    on_shard: Vec<usize>,
}

#[derive(Clone)]
struct Entry {
    inbox: mailbox::Sender<Input>,
    key: SessionKey,
    room: RoomId,
    shard: usize,
}

struct Room {
    /// The shard of its first session.
    home: usize,
    /// Its sessions on each shard.
    on_shard: Vec<usize>,
}

impl Room {
    fn sessions(&self) -> usize {
        self.on_shard.iter().sum()
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    pub(crate) fn new(
        places: Vec<Place>,
        fingerprint: [u8; 32],
        status: Arc<Status>,
        metrics: RequestMetrics,
        tracks: Arc<Tracks>,
        pipes: Option<Pipes>,
        default_grace: Duration,
        limit: u32,
        shard_sessions: Option<u32>,
    ) -> Self {
        let known = Known {
            sessions: HashMap::new(),
            rooms: HashMap::new(),
            last_key: 0,
            spread: Spread::new(places.len(), shard_sessions.map(|most| most as usize)),
            on_shard: vec![0; places.len()],
        };
        Self {
            places,
            fingerprint,
            status,
            tracks,
            metrics,
            pipes,
            default_grace,
            limit: limit as usize,
            tasks: TaskTracker::new(),
            known: Mutex::new(known),
        }
    }

    /// Begins a session that `attachment` holds.
    pub(crate) fn open(
        self: &Arc<Self>,
        request_id: u64,
        open: Open,
        attachment: Attachment,
    ) -> Result<(), Refusal> {
        let received = Instant::now();
        if self.status.is_draining() {
            return Err(Refusal::new(Code::NodeDraining, "the node is draining"));
        }
        let (session, room, participant) = checked(&open)?;
        let grace = match open.grace_ms {
            0 => self.default_grace,
            millis => Duration::from_millis(millis.into()).min(MAX_GRACE),
        };
        let fence = Fence::new(open.claim);
        let (inbox, inputs) = mailbox::channel(INBOX);
        let own = inbox.clone();
        let (key, shard) = self.reserve(&session, &room, inbox)?;
        let reservation = Reservation {
            sessions: Arc::clone(self),
            session: session.clone(),
        };
        let place = &self.places[shard];
        let transport = |credentials: Credentials| LocalTransport {
            credentials,
            fingerprint: self.fingerprint,
            candidates: place.candidates.clone(),
            tcp_candidates: Arc::clone(&place.tcp_candidates),
            max_message_size: sctp::MAX_MESSAGE as u32,
        };
        let identity = Identity {
            session,
            key,
            room,
            participant,
            open,
            opened: contract::Opened {
                node_id: self.status.id.to_string(),
                region: self.status.region.to_string(),
                boot_id: self.status.boot_id,
            },
            shard: shard as u8,
            has_pipes: self.pipes.is_some(),
        };
        let (events, shard_events) = mailbox::channel(EVENT_QUEUE);
        let tracks = Arc::clone(&self.tracks);
        let mut state = Session::new(identity, transport, tracks, events, StdRng::from_os_rng());
        state.opened(request_id, received);
        self.metrics.count("open", "OK", received.elapsed());
        let driver = Box::new(Driver {
            session: state,
            shard: place.shard.clone(),
            shard_number: shard as u32,
            inbox: inputs,
            shard_events,
            attachment: Some(attachment),
            fence,
            grace,
            abandoned_at: None,
            metrics: self.metrics.clone(),
            pipes: self.pipes.clone(),
            own,
        });
        self.tasks.spawn(driver.run(reservation));
        Ok(())
    }

    /// Finds a session for another stream.
    pub(crate) fn find(&self, session_id: &str) -> Result<mailbox::Sender<Input>, Refusal> {
        let session: SessionId = parse("session_id", session_id)?;
        let entry = self.lock().sessions.get(&session).cloned();
        let missing = || {
            Refusal::new(
                Code::SessionNotFound,
                format!("there is no session {session}"),
            )
        };
        entry.map(|entry| entry.inbox).ok_or_else(missing)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Ends every session and waits until they have ended.
    pub(crate) async fn close_all(&self, reason: CloseReason) {
        let inboxes: Vec<_> = self
            .lock()
            .sessions
            .values()
            .map(|entry| entry.inbox.clone())
            .collect();
        for inbox in inboxes {
            // One that ended meanwhile needs no telling.
            let _ = inbox.send_anyway(Input::Close(reason));
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn rooms(&self) -> Vec<contract::RoomSummary> {
        let tracks = self.tracks.count_by_room();
        let known = self.lock();
        let mut rooms: Vec<_> = known
            .rooms
            .iter()
            .map(|(id, room)| contract::RoomSummary {
                room_id: id.to_string(),
                sessions: room.sessions() as u32,
                tracks: tracks.get(id).copied().unwrap_or_default(),
            })
            .collect();
        rooms.sort_by(|a, b| a.room_id.cmp(&b.room_id));
        rooms
    }

    /// Everything about the sessions of one room, but for those that do not answer.
    pub(crate) async fn inspect(
        &self,
        room_id: &str,
    ) -> Result<Vec<contract::SessionSummary>, Refusal> {
        let room: RoomId = parse("room_id", room_id)?;
        let entries: Vec<Entry> = {
            let known = self.lock();
            let entries = known.sessions.values();
            entries
                .filter(|entry| entry.room == room)
                .cloned()
                .collect()
        };
        let mut inspected: Vec<Inspected> = Vec::new();
        for (shard, place) in self.places.iter().enumerate() {
            let here = entries.iter().filter(|entry| entry.shard == shard);
            let sessions: Vec<SessionKey> = here.map(|entry| entry.key).collect();
            if sessions.is_empty() {
                continue;
            }
            let (reply, inspection) = oneshot::channel();
            let inspect = Command::Inspect { sessions, reply };
            place.shard.send(inspect).await;
            inspected.extend(inspection.await.unwrap_or_default());
        }
        let mut summaries = Vec::with_capacity(entries.len());
        for entry in entries {
            let (reply, summary) = oneshot::channel();
            if entry.inbox.try_send(Input::Summarize(reply)).is_err() {
                continue;
            }
            let Ok(mut summary) = summary.await else {
                continue;
            };
            for subscription in &mut summary.subscriptions {
                let sent = inspected.iter().find(|inspected| {
                    inspected.session == entry.key
                        && inspected.track.as_str() == subscription.track_id
                });
                subscription.spatial = sent.and_then(|sent| sent.spatial).map(u32::from);
            }
            summaries.push(summary);
        }
        summaries.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        Ok(summaries)
    }

    /// Takes the id and chooses the shard.
    fn reserve(
        &self,
        session: &SessionId,
        room: &RoomId,
        inbox: mailbox::Sender<Input>,
    ) -> Result<(SessionKey, usize), Refusal> {
        let mut known = self.lock();
        let known = &mut *known;
        if known.sessions.contains_key(session) {
            let message = format!("session {session} is open already");
            return Err(Refusal::new(Code::SessionExists, message));
        }
        if known.sessions.len() >= self.limit {
            let message = format!("the node has {} sessions, its limit", self.limit);
            return Err(Refusal::new(Code::NodeFull, message));
        }
        let there = known.rooms.get(room);
        let home = there.map(|room| room.home);
        let loads: Vec<ShardLoad> = self
            .places
            .iter()
            .enumerate()
            .map(|(shard, place)| ShardLoad {
                busy_permille: Counters::get(&place.shard.counters().busy_permille),
                sessions: known.on_shard[shard],
                of_room: there.map_or(0, |room| room.on_shard[shard]),
            })
            .collect();
        let shard = known.spread.choose(&loads, home);
        known.on_shard[shard] += 1;
        let room_here = known.rooms.entry(room.clone()).or_insert_with(|| Room {
            home: shard,
            on_shard: vec![0; self.places.len()],
        });
        room_here.on_shard[shard] += 1;
        known.last_key += 1;
        let key = SessionKey(known.last_key);
        let entry = Entry {
            inbox,
            key,
            room: room.clone(),
            shard,
        };
        known.sessions.insert(session.clone(), entry);
        self.status.session_begins();
        Ok((key, shard))
    }

    fn forget(&self, session: &SessionId) {
        let mut known = self.lock();
        let Some(entry) = known.sessions.remove(session) else {
            return;
        };
        self.status.session_ends();
        known.on_shard[entry.shard] -= 1;
        if let Some(room) = known.rooms.get_mut(&entry.room) {
            room.on_shard[entry.shard] -= 1;
            if room.sessions() == 0 {
                known.rooms.remove(&entry.room);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No operation leaves the maps half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a session's place back when its task ends, however it ends.
pub(crate) struct Reservation {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.sessions.forget(&self.session);
    }
}

/// The names that a session begins with, once everything else it says has been found valid, too.
fn checked(open: &Open) -> Result<(SessionId, RoomId, ParticipantId), Refusal> {
    let session = parse("session_id", &open.session_id)?;
    let room = parse("room_id", &open.room_id)?;
    let participant = parse("participant_id", &open.participant_id)?;
    if open.identity.is_empty() || open.identity.len() > MAX_IDENTITY {
        let message = format!("identity is not 1 to {MAX_IDENTITY} bytes long");
        return Err(Refusal::new(Code::InvalidArgument, message));
    }
    if open.layout() == ConnectionLayout::Unspecified {
        return Err(Refusal::new(
            Code::InvalidArgument,
            "layout is neither single nor dual",
        ));
    }
    Ok((session, room, participant))
}

fn parse<T>(field: &str, text: &str) -> Result<T, Refusal>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|error| Refusal::new(Code::InvalidArgument, format!("{field} {text:?} {error}")))
}
