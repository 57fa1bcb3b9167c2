//! The sessions of a node: opening one, finding it again, and which shard it is on.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, ParticipantId, RoomId, SessionId, TrackId};
use pipemesh_proto::node::{
    self as contract, CloseReason, Code, ConnectionLayout, Open, PipeState, RelayRole,
};
use pipemesh_proto::pipe::Role;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::mailbox;
use crate::metrics::RequestMetrics;
use crate::pipe::{LinkStats, Pipes};
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

    /// Everything about the sessions of one room, or one of them, but for those that do not answer.
    pub(crate) async fn inspect(
        &self,
        request: &contract::InspectRoomRequest,
    ) -> Result<Vec<contract::SessionSummary>, Refusal> {
        let room: RoomId = parse("room_id", &request.room_id)?;
        let session = match request.session_id.as_str() {
            "" => None,
            session => Some(parse::<SessionId>("session_id", session)?),
        };
        let mut entries = match session {
            Some(session) => self
                .lock()
                .sessions
                .get(&session)
                .cloned()
                .into_iter()
                .collect(),
            None => self.of_room(&room),
        };
        entries.retain(|entry| entry.room == room);
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
                if let Some(sent) = sent {
                    describe(subscription, sent);
                }
            }
            summaries.push(summary);
        }
        summaries.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        Ok(summaries)
    }

    /// The node's pipes, and how tracks of a room come here.
    pub(crate) async fn inspect_pipes(
        &self,
        request: &contract::InspectPipesRequest,
    ) -> Result<contract::InspectPipesResponse, Refusal> {
        let room = match request.room_id.as_str() {
            "" => None,
            room => Some(parse::<RoomId>("room_id", room)?),
        };
        let links = self.pipes.as_ref().map(Pipes::links).unwrap_or_default();
        let tracks = match &room {
            Some(room) => self.ways(room, request.count_watchers).await,
            None => Vec::new(),
        };
        Ok(contract::InspectPipesResponse {
            node_id: self.status.id.to_string(),
            region: self.status.region.to_string(),
            pipes: links.iter().map(|(node, link)| pipe(node, link)).collect(),
            tracks,
        })
    }

    /// From where each track of a room comes. Asks no shard.
    async fn ways(&self, room: &RoomId, counts_watchers: bool) -> Vec<contract::TrackSummary> {
        let relayed = match &self.pipes {
            Some(pipes) => pipes.relayed(room).await,
            None => Vec::new(),
        };
        let watchers = match counts_watchers {
            true => self.watchers(room).await,
            false => BTreeMap::new(),
        };
        let mut ways = BTreeMap::new();
        for (track, session) in self.tracks.of_room(room) {
            let way = contract::TrackSummary {
                session_id: session.to_string(),
                origin_node_id: self.status.id.to_string(),
                role: RelayRole::Origin.into(),
                ..contract::TrackSummary::default()
            };
            ways.insert(track, way);
        }
        for relayed in relayed {
            let publication = &relayed.publication;
            let role = match publication.role {
                Role::Gateway => RelayRole::Gateway,
                Role::Branch => RelayRole::Branch,
                Role::Leaf | Role::Unspecified => RelayRole::Leaf,
                Role::Twig => RelayRole::Twig,
            };
            let way = contract::TrackSummary {
                session_id: publication.session.to_string(),
                origin_node_id: publication.node.to_string(),
                from_node_id: relayed.from.to_string(),
                role: role.into(),
                ..contract::TrackSummary::default()
            };
            // What is taken is known to the sessions here like a track of theirs.
            ways.insert(relayed.track, way);
        }
        let ways = ways.into_iter().map(|(track, way)| contract::TrackSummary {
            track_id: track.to_string(),
            watchers: watchers.get(&track).copied().unwrap_or(0),
            ..way
        });
        ways.collect()
    }

    /// How many sessions of a room are subscribed to each track.
    async fn watchers(&self, room: &RoomId) -> BTreeMap<TrackId, u32> {
        let mut asked = Vec::new();
        for entry in self.of_room(room) {
            let (reply, subscribed) = oneshot::channel();
            if (entry.inbox.try_send(Input::ListSubscriptions(reply))).is_ok() {
                asked.push(subscribed);
            }
        }
        let mut watchers: BTreeMap<TrackId, u32> = BTreeMap::new();
        for subscribed in asked {
            // One that ends now watches nothing.
            for track in subscribed.await.unwrap_or_default() {
                *watchers.entry(track).or_default() += 1;
            }
        }
        watchers
    }

    fn of_room(&self, room: &RoomId) -> Vec<Entry> {
        let known = self.lock();
        let entries = known.sessions.values();
        let entries = entries.filter(|entry| entry.room == *room);
        entries.cloned().collect()
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

/// Adds what a shard knows of a subscription.
fn describe(subscription: &mut contract::SubscriptionSummary, inspected: &Inspected) {
    subscription.unheard = inspected.is_unheard;
    let Some(sent) = inspected.sent else {
        return;
    };
    subscription.spatial = Some(sent.layer.spatial.into());
    subscription.temporal = (sent.layer.temporal < u8::MAX).then_some(sent.layer.temporal.into());
    (subscription.width, subscription.height) = (sent.size.width, sent.size.height);
    subscription.bits_per_second = sent.rate.as_bps();
}

fn pipe(node: &NodeId, link: &LinkStats) -> contract::PipeSummary {
    let state = match (link.is_connected, link.is_heard) {
        (true, true) => PipeState::Up,
        (true, false) => PipeState::Silent,
        (false, _) => PipeState::Down,
    };
    contract::PipeSummary {
        node_id: node.to_string(),
        state: state.into(),
        rtt_us: link.round_trip.as_micros().try_into().unwrap_or(u64::MAX),
        loss: link.loss,
        sent_bits_per_second: link.rates.sent,
        received_bits_per_second: link.rates.received,
        tracks_taken: link.taken as u32,
        tracks_given: link.given as u32,
        connections: link.connections,
        latency_us: link.latency.map_or(0, |latency| {
            latency.as_micros().try_into().unwrap_or(u64::MAX)
        }),
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
