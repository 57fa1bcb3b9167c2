//! TCP connections on their shard: taken in with their first check, read, closed. A connection is one
//! path of one peer connection, for as long as it lasts; all that is said over it is said as over UDP.

use std::io;
use std::time::{Duration, Instant};

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::tcp::{Change, End, FIRST_STREAM, FrameBatch};

use super::{Shard, Timer};
use crate::door::{Caller, Place, Turned};
use crate::session::handshake::ConnectionKey;
use crate::session::ice::{IceAgent, Path};

/// From the first check, which names the connection, to one that proves to be its client's: a client
/// that has the wrong role at first asks twice.
const PROVE_WITHIN: Duration = Duration::from_secs(5);

/// What the shard knows of a stream.
pub(super) struct Taken {
    key: u64,
    /// Whose it is: checks for others are not accepted on it.
    connection: usize,
    connection_key: ConnectionKey,
    /// Its place among the unproven; none once it has proved to be the client's.
    place: Option<Place>,
}

impl Shard {
    pub(super) fn take_stream(&mut self, caller: Caller, now: Instant) {
        let Caller {
            stream,
            check,
            place,
        } = caller;
        let index = IceAgent::local_ufrag(&check).and_then(|ufrag| self.ufrags.get(ufrag).copied());
        let Some(connection) = index else {
            return place.turn_away(Turned::UnknownUfrag);
        };
        let remote = stream.remote();
        let socket = self.wire.streams.insert(stream);
        let key = self.next_key();
        let taken = Taken {
            key,
            connection,
            connection_key: self.connections[connection].key,
            place: Some(place),
        };
        self.streams.insert(socket, taken);
        self.fresh_streams.push(socket);
        self.timers
            .set(now + PROVE_WITHIN, Timer::Stream(socket, key));
        self.handle_stun(Path { socket, remote }, &check, now);
    }

    /// Reads once, and handles what has come.
    pub(super) fn receive_stream(&mut self, socket: u32, batch: &mut FrameBatch) {
        let Some(stream) = self.wire.streams.get(socket) else {
            return;
        };
        let path = Path {
            socket,
            remote: stream.remote(),
        };
        self.wire.streams.receive(socket, batch);
        let now = Instant::now();
        for datagram in batch.datagrams() {
            self.guarded(|shard| shard.handle_datagram(path, datagram, now));
        }
    }

    /// Whether a check for a connection may come this way.
    pub(super) fn may_check(&self, path: Path, connection: usize) -> bool {
        path.socket < FIRST_STREAM
            || self
                .streams
                .get(&path.socket)
                .is_some_and(|taken| taken.connection_key == self.connections[connection].key)
    }

    /// A check on this path was the client's.
    pub(super) fn stream_proved(&mut self, path: Path) {
        let taken = self.streams.get_mut(&path.socket);
        if let Some(place) = taken.and_then(|taken| taken.place.take()) {
            place.give_back();
        }
    }

    pub(super) fn handle_stream_timeout(&mut self, socket: u32, key: u64) {
        let taken = self.streams.get_mut(&socket);
        let Some(taken) = taken.filter(|taken| taken.key == key) else {
            return;
        };
        if let Some(place) = taken.place.take() {
            place.turn_away(Turned::Unproven);
            self.wire.streams.finish(socket);
        }
    }

    /// Ends the streams of a connection that is removed, behind what it has said last.
    pub(super) fn finish_streams(&mut self, connection: usize) {
        for (socket, _) in self
            .streams
            .iter()
            .filter(|(_, t)| t.connection == connection)
        {
            self.wire.streams.finish(*socket);
        }
    }

    /// Tells the poller of streams that came or are blocked, and forgets those that have ended.
    pub(super) fn settle_streams(&mut self, poller: &Poller, now: Instant) {
        while let Some(socket) = self.fresh_streams.pop() {
            let told = self.wire.streams.get(socket);
            let told = told.map(|stream| poller.register(stream, Token(socket)));
            self.keep_if(told, socket, now);
        }
        while let Some((socket, change)) = self.wire.streams.poll_change() {
            let is_blocked = match change {
                Change::Blocked => true,
                Change::Unblocked => false,
                Change::Ended(end) => {
                    self.guarded(|shard| shard.drop_stream(socket, end, now));
                    continue;
                }
            };
            let told = self.wire.streams.get(socket);
            let told = told.map(|stream| poller.watch_writable(stream, Token(socket), is_blocked));
            self.keep_if(told, socket, now);
        }
    }

    /// A stream that the poller cannot watch would hang.
    fn keep_if(&mut self, told: Option<io::Result<()>>, socket: u32, now: Instant) {
        if let Some(Err(error)) = told {
            tracing::warn!(%error, "a TCP connection cannot be watched");
            self.guarded(|shard| shard.drop_stream(socket, End::Broken, now));
        }
    }

    fn drop_stream(&mut self, socket: u32, end: End, now: Instant) {
        let stream = self.wire.streams.remove(socket);
        let (Some(stream), Some(taken)) = (stream, self.streams.remove(&socket)) else {
            return;
        };
        if end == End::Malformed {
            self.drops.count(DropReason::Malformed);
        }
        if let Some(place) = taken.place {
            place.turn_away(match end {
                End::Malformed => Turned::Malformed,
                End::Closed | End::Broken | End::Finished => Turned::Closed,
            });
        }
        if !self.is_connection(taken.connection, taken.connection_key) {
            return;
        }
        let index = taken.connection;
        self.serving = Some(self.connections[index].session);
        let path = Path {
            socket,
            remote: stream.remote(),
        };
        self.connections[index].ice.close_path(path);
        self.handle_ice_events(index, now);
        self.schedule(index, now);
    }
}
