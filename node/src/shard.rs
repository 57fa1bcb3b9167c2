//! One shard: a thread with its sockets and every session placed on it. Nothing here is shared.
//!
//! This file is the loop and the sorting of what arrives. What is done with it is told by noun:
//! `control` what control decided, `publications` and `subscriptions` what sessions send and are sent,
//! `transport` ICE, DTLS and keys, `media` RTP and RTCP that arrive, `reports` RTCP that is sent, `data`
//! data channels, `streams` TCP connections, `shaping` the bandwidth towards subscribers and `allocation`
//! who gets it, `wire` all that leaves, `remote` tracks that cross shards, `rooms` what the members of a
//! room share wherever they sit.

mod allocation;
#[cfg(test)]
pub(crate) mod alone;
mod command;
mod connection;
mod control;
mod counters;
mod data;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod inbound;
mod media;
mod message;
mod microphones;
mod neighbours;
mod newcomers;
mod paths;
mod publications;
mod remote;
mod reports;
mod rooms;
mod session;
mod shaping;
mod streams;
mod subscriptions;
mod transport;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use pipemesh_node_core::drops::{DropReason, Drops};
use pipemesh_node_core::router::relay::Alias;
use pipemesh_node_core::router::{Output, Router};
use pipemesh_node_core::rtcp;
use pipemesh_node_core::wheel::TimerWheel;
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::prefetch::prefetch;
use pipemesh_node_media::tcp::{FIRST_STREAM, FrameBatch};
use pipemesh_node_media::udp::{ReceiveBatch, UdpSocket};
use pipemesh_proto::ids::{RoomId, TrackId};
use rand::rngs::StdRng;
use slab::Slab;
use tokio::sync::mpsc;

pub(crate) use command::{
    Command, DataRights, Inspected, Landing, OpenSession, Origin, PublishSpec, Role, SessionKey,
};
pub(crate) use counters::{Counters, Reasons};
pub(crate) use event::{ConnectionState, Event, Judgement, QUEUE as EVENT_QUEUE, Speaker};
pub(crate) use handle::{HANDSHAKE_OUTPUTS, Prepared, ShardHandle};
pub(crate) use message::{Message, Publication, Subscribe, TrackState};
pub(crate) use neighbours::{Doors, FIRST_PIPE, Neighbours};
pub(crate) use remote::record::RecordHeader;

use crate::config::Limits;
use crate::session::handshake::{ConnectionKey, Handshakes, Output as HandshakeOutput};
use crate::session::ice::{IceAgent, Path};
use connection::Connection;
use counters::Busy;
use newcomers::Newcomers;
use paths::Paths;
use publications::{Published, Publisher};
use remote::RemoteTracks;
use rooms::{Followers, Room};
use session::{RoomKey, Session};
use streams::Taken;
use wire::Wire;

/// Receive calls per socket and turn: 256 messages, then timers and sending have their turn. More would
/// let a flood delay them.
const RECEIVE_ROUNDS: usize = 8;
/// Commands per turn, so that a mass join does not delay packets.
const COMMANDS_PER_TURN: usize = 16;
/// Handshake outputs per turn.
const HANDSHAKES_PER_TURN: usize = 32;
/// How often counters are published.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// A shard that takes no messages at present is tried again this soon.
const POST_AGAIN: Duration = Duration::from_millis(1);
/// Longest wait, so that the beat shows a live thread.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// What a timer is for. Keys, not indices: what they name may be gone.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// ICE, DTLS or SCTP.
    Transport(usize, ConnectionKey),
    Feedback(usize, ConnectionKey),
    Reports(usize, ConnectionKey),
    /// What is estimated of a connection's bandwidth.
    Estimate(usize, ConnectionKey),
    /// Something waits for a connection's bandwidth.
    Drain(usize, ConnectionKey),
    /// A session's bandwidth is given away.
    Allocate(usize, SessionKey),
    Quality(usize, SessionKey),
    RoomQuality(RoomKey),
    /// A window in which the loudest are measured ends.
    Microphones(RoomKey),
    AskAgain(Alias),
    /// A TCP connection has had its time to prove itself.
    Stream(u32, u64),
}

/// Everything of one shard but its receive buffers.
struct Shard {
    router: Router<RoomKey, SessionKey>,
    wire: Wire,
    sessions: Slab<Session>,
    session_index: HashMap<SessionKey, usize>,
    connections: Slab<Connection>,
    connection_index: HashMap<ConnectionKey, usize>,
    /// Authenticated addresses.
    paths: Paths,
    ufrags: HashMap<String, usize>,
    /// TCP connections by their socket number.
    streams: HashMap<u32, Taken>,
    /// Those the poller does not know yet.
    fresh_streams: Vec<u32>,
    rooms: BTreeMap<RoomKey, Room>,
    room_keys: HashMap<RoomId, RoomKey>,
    followers: Followers,
    tracks: HashMap<TrackId, Published>,
    /// By track index.
    publishers: Vec<Option<Publisher>>,
    /// Subscription → (session, track), by subscription index.
    subscribers: Vec<Option<(usize, TrackId)>>,
    neighbours: Neighbours,
    remote: RemoteTracks,
    timers: TimerWheel<Timer>,
    fired: Vec<Timer>,
    handshakes: Handshakes,
    newcomers: Newcomers,
    limits: Limits,
    rng: StdRng,
    scratch: reports::Scratch,
    drops: Drops,
    /// Messages of data channels.
    data_drops: Drops,
    /// What clients' RTCP asks for, or says, in vain.
    rtcp_drops: Drops,
    /// For keys of rooms and connections.
    last_key: u64,
    /// The session whose input is being handled: whom a panic ends.
    serving: Option<usize>,
    /// Connections whose data channels have something to send.
    data_dirty: Vec<usize>,
    allocator: allocation::Allocator,
    counters: Arc<Counters>,
}

/// What a shard is started with.
pub(crate) struct Start {
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) poller: Poller,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) neighbours: Neighbours,
    pub(crate) handshakes: Handshakes,
    pub(crate) handshake_outputs: Receiver<HandshakeOutput>,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rng: StdRng,
    /// Beats are counted from here.
    pub(crate) origin: Instant,
}

/// Runs a shard until it is told to stop. Takes the thread over.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let Start {
        sockets,
        mut poller,
        mut commands,
        neighbours,
        handshakes,
        handshake_outputs,
        ..
    } = start;
    for (number, socket) in sockets.iter().enumerate() {
        poller.register(socket, Token(number as u32))?;
    }
    let mut readable = vec![true; sockets.len()];
    // Sockets whose buffers are full.
    let mut watched = vec![false; sockets.len()];
    let mut now = Instant::now();
    let mut shard = Shard::new(
        sockets,
        neighbours,
        handshakes,
        start.limits,
        start.counters,
        start.rng,
        now,
    );
    let mut batch = ReceiveBatch::new();
    let mut frames = FrameBatch::new();
    let mut readable_streams = Vec::new();
    let mut count_at = now;
    let mut busy = Busy::new(now);

    loop {
        shard.router.wake(now);
        shard.timers.wake(now);
        // 1. What other shards have to say, and what control has decided; the latter has to wait while
        // they take nothing.
        shard.receive_messages(now);
        let is_congested = shard.neighbours.is_congested();
        for _ in 0..if is_congested { 0 } else { COMMANDS_PER_TURN } {
            match commands.try_recv() {
                Ok(Command::Stop) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    shard.guarded(|shard| shard.close_all(now));
                    let _ = shard.wire.flush();
                    return Ok(());
                }
                Ok(command) => shard.guarded(|shard| shard.handle_command(command, now)),
                Err(mpsc::error::TryRecvError::Empty) => break,
            }
        }

        // 2. What the handshake pool has done.
        for output in handshake_outputs.try_iter().take(HANDSHAKES_PER_TURN) {
            shard.guarded(|shard| shard.handle_handshake(output, now));
        }

        // 3. What has arrived, all of it before anything is forwarded: bursts are the throughput.
        for (socket, readable) in readable
            .iter_mut()
            .enumerate()
            .filter(|(_, readable)| **readable)
        {
            for _ in 0..RECEIVE_ROUNDS {
                let received = shard.wire.sockets()[socket].receive(&mut batch)?;
                now = Instant::now();
                let path = |remote| Path {
                    socket: socket as u32,
                    remote,
                };
                let mut datagrams = batch.datagrams().peekable();
                while let Some((remote, datagram)) = datagrams.next() {
                    if let Some((next, _)) = datagrams.peek() {
                        shard.fetch_connection(path(*next));
                    }
                    shard.guarded(|shard| shard.handle_datagram(path(remote), datagram, now));
                }
                if received < ReceiveBatch::CAPACITY {
                    *readable = false;
                    break;
                }
            }
        }
        for socket in readable_streams.drain(..) {
            shard.receive_stream(socket, &mut frames);
        }

        // … and at other shards, for sessions of this one. What is for others goes first: they work on
        // it meanwhile.
        shard.receive_relayed(now);
        shard.neighbours.flush();
        shard.guarded(|shard| shard.forward(now));

        // 4. What is due.
        now = Instant::now();
        shard.guarded(|shard| shard.handle_timeouts(now));

        // 5. What the packets and timers above have led to.
        shard.guarded(|shard| shard.handle_router_output());
        shard.guarded(|shard| shard.send_data(now));

        // 6. Send.
        shard.neighbours.flush();
        let report = shard.wire.flush();
        for socket in report.gso_lost.iter() {
            let address = shard.wire.sockets()[usize::from(socket)].local_addr();
            tracing::warn!(%address, "the device does not segment; sending every datagram alone");
        }
        for (socket, watched) in watched.iter_mut().enumerate() {
            let blocked = report.blocked.contains(socket as u8);
            if std::mem::replace(watched, blocked) != blocked {
                let token = Token(socket as u32);
                poller.watch_writable(&shard.wire.sockets()[socket], token, blocked)?;
            }
        }
        shard.settle_streams(&poller, now);

        if now >= count_at {
            shard.close_stuck(now);
            count_at = now + COUNT_EVERY;
            busy.update(now);
            let received = *batch.stats();
            shard.publish_counters(&received, &busy, now.duration_since(start.origin));
        }

        // 7. Wait; after all state has changed, so that the deadline is right.
        let more = readable.contains(&true)
            || !commands.is_empty() && !is_congested
            || !handshake_outputs.is_empty()
            || shard.neighbours.has_arrivals();
        let timeout = if more {
            Duration::ZERO
        } else if shard.neighbours.is_waiting() {
            shard.until_next_timeout(now).min(POST_AGAIN)
        } else {
            shard.until_next_timeout(now)
        };
        for ready in poller.wait(Some(timeout))? {
            match ready.token.0 {
                stream @ FIRST_STREAM.. => {
                    if ready.writable {
                        shard.wire.streams.writable(stream);
                    }
                    if ready.readable {
                        readable_streams.push(stream);
                    }
                }
                socket => readable[socket as usize] |= ready.readable,
            }
        }
        now = Instant::now();
    }
}

impl Shard {
    fn new(
        sockets: Vec<UdpSocket>,
        neighbours: Neighbours,
        handshakes: Handshakes,
        limits: Limits,
        counters: Arc<Counters>,
        rng: StdRng,
        now: Instant,
    ) -> Self {
        Self {
            router: Router::new(now),
            wire: Wire::new(sockets),
            sessions: Slab::new(),
            session_index: HashMap::new(),
            connections: Slab::new(),
            connection_index: HashMap::new(),
            paths: Paths::default(),
            ufrags: HashMap::new(),
            streams: HashMap::new(),
            fresh_streams: Vec::new(),
            rooms: BTreeMap::new(),
            room_keys: HashMap::new(),
            followers: Followers::default(),
            tracks: HashMap::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            neighbours,
            remote: RemoteTracks::default(),
            timers: TimerWheel::new(now),
            fired: Vec::new(),
            handshakes,
            newcomers: Newcomers::new(limits.handshakes_per_address),
            limits,
            rng,
            scratch: reports::Scratch::default(),
            drops: Drops::default(),
            data_drops: Drops::default(),
            rtcp_drops: Drops::default(),
            last_key: 0,
            serving: None,
            data_dirty: Vec::new(),
            allocator: allocation::Allocator::default(),
            counters,
        }
    }

    /// Sorts a datagram by its first byte (RFC 7983).
    fn handle_datagram(&mut self, path: Path, datagram: &mut [u8], now: Instant) {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(path, datagram, now),
            Some(20..=63) => match self.connection_at(path) {
                Some(index) => self.handle_dtls(index, path, datagram, now),
                None => self.drops.count(DropReason::UnknownAddress),
            },
            Some(128..=191) => match self.connection_at(path) {
                Some(index) if rtcp::is_rtcp(datagram) => self.handle_rtcp(index, datagram, now),
                Some(index) => self.handle_rtp(index, datagram, now),
                None => self.drops.count(DropReason::UnknownAddress),
            },
            _ => self.drops.count(DropReason::Malformed),
        }
    }

    /// A datagram comes next over this path: what it will touch is asked for while another is handled.
    fn fetch_connection(&mut self, path: Path) {
        if let Some(index) = self.paths.expect(path)
            && let Some(connection) = self.connections.get(index)
        {
            prefetch(connection);
            self.wire.fetch_link(index);
        }
    }

    fn connection_at(&mut self, path: Path) -> Option<usize> {
        let index = self.paths.find(path)?;
        self.serving = Some(self.connections[index].session);
        Some(index)
    }

    fn handle_stun(&mut self, path: Path, datagram: &[u8], now: Instant) {
        if let Some(asker) = IceAgent::asker(datagram) {
            return self.handle_answer(asker as usize, path, datagram, now);
        }
        let index = IceAgent::local_ufrag(datagram).and_then(|ufrag| self.ufrags.get(ufrag));
        match index.copied().filter(|index| self.may_check(path, *index)) {
            Some(index) => {
                self.serving = Some(self.connections[index].session);
                self.handle_check(index, path, datagram, now);
            }
            None => self.drops.count(DropReason::UnknownAddress),
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        self.router.handle_timeout(now);
        if self.fired.is_empty() {
            self.timers.advance(now, &mut self.fired);
            self.fired.reverse();
        }
        // Taken one by one: if handling one fails, the others are still there in the next turn.
        while let Some(timer) = self.fired.pop() {
            if !self.is_current(timer) {
                continue;
            }
            match timer {
                Timer::Transport(index, _) => self.handle_transport_timeout(index, now),
                Timer::Feedback(index, _) => self.send_feedback(index, now),
                Timer::Reports(index, _) => self.send_reports(index, now),
                Timer::Estimate(index, _) => self.handle_estimate_timeout(index, now),
                Timer::Drain(index, _) => self.drain(index, now),
                Timer::Allocate(index, _) => self.handle_allocate_timeout(index, now),
                Timer::Quality(index, _) => self.judge_quality(index, now),
                Timer::RoomQuality(room) => self.tell_quality(room),
                Timer::Microphones(room) => self.measure_microphones(room, now),
                Timer::AskAgain(alias) => self.ask_again(alias),
                Timer::Stream(socket, key) => self.handle_stream_timeout(socket, key),
            }
        }
        // Who begins now begins at once.
        self.forward(now);
    }

    fn handle_router_output(&mut self) {
        while let Some(output) = self.router.poll_output() {
            self.handle_output(output);
        }
    }

    fn handle_output(&mut self, output: Output<RoomKey, SessionKey>) {
        match output {
            Output::RequestKeyFrame(source) => self.request_key_frame(source),
            Output::RequestPackets(source) => self.request_packets(source),
            Output::DemandChanged(track, encodings) => self.tell_demand(track, encodings),
            Output::SpeakersChanged(room, changes) => self.tell_speakers(room, &changes),
            Output::InterestChanged(track) => self.tell_interest(track),
            Output::LiveChanged(track) => self.tell_live(track),
            Output::RatesMeasured(track) => self.tell_rates(track),
        }
    }

    fn until_next_timeout(&self, now: Instant) -> Duration {
        let deadlines = [self.router.poll_timeout(), self.timers.next_deadline()];
        let next = deadlines.into_iter().flatten().min();
        next.map_or(LONGEST_WAIT, |at| {
            at.saturating_duration_since(now).min(LONGEST_WAIT)
        })
    }

    /// Whether what a timer was set for is still there; some look themselves.
    fn is_current(&self, timer: Timer) -> bool {
        match timer {
            Timer::Transport(index, key)
            | Timer::Feedback(index, key)
            | Timer::Reports(index, key)
            | Timer::Estimate(index, key)
            | Timer::Drain(index, key) => self.is_connection(index, key),
            Timer::Allocate(index, key) | Timer::Quality(index, key) => self.is_session(index, key),
            Timer::RoomQuality(_)
            | Timer::Microphones(_)
            | Timer::AskAgain(_)
            | Timer::Stream(..) => true,
        }
    }

    fn is_connection(&self, index: usize, key: ConnectionKey) -> bool {
        self.connections
            .get(index)
            .is_some_and(|connection| connection.key == key)
    }

    fn is_session(&self, index: usize, key: SessionKey) -> bool {
        self.sessions
            .get(index)
            .is_some_and(|session| session.key == key)
    }

    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    /// Runs one step. If it panics, a bug was met while serving one session: that session ends, the
    /// others do not notice.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        self.serving = None;
        if std::panic::catch_unwind(AssertUnwindSafe(|| step(self))).is_ok() {
            return;
        }
        Counters::add(&self.counters.panics, 1);
        let Some(index) = self
            .serving
            .take()
            .filter(|index| self.sessions.contains(*index))
        else {
            return;
        };
        let session = &mut self.sessions[index];
        tracing::error!(participant = %session.participant, "closing the session after a panic");
        session.tell(Event::Fault);
        let closed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.close_session(index, Instant::now());
        }));
        if closed.is_err() {
            Counters::add(&self.counters.panics, 1);
            self.sessions.try_remove(index);
        }
    }

    /// Closes sessions whose control task does not take its events.
    fn close_stuck(&mut self, now: Instant) {
        let stuck = self.sessions.iter().filter(|(_, s)| s.is_stuck);
        let stuck: Vec<usize> = stuck.map(|(index, _)| index).collect();
        for index in stuck {
            let participant = &self.sessions[index].participant;
            tracing::warn!(%participant, "closing a session whose events nobody takes");
            self.guarded(|shard| shard.close_session(index, now));
        }
    }
}
