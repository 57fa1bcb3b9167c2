//! ICE, DTLS and keys of the shard's connections: from the first check to the moment packets can be
//! sealed, and to the end of consent.

use std::time::Instant;

use bytes::Bytes;
use pipemesh_node_core::drops::DropReason;
use pipemesh_node_media::udp::Destination;

use super::connection::{Dtls, Verified};
use super::counters::Counters;
use super::event::{ConnectionState, Event};
use super::{Shard, Timer};
use crate::session::dtls;
use crate::session::handshake::{HandshakeError, Output as HandshakeOutput};
use crate::session::ice::{self, Path};

impl Shard {
    pub(super) fn handle_check(&mut self, index: usize, path: Path, datagram: &[u8], now: Instant) {
        let is_taken = self.is_taken(path, index);
        let connection = &mut self.connections[index];
        let from = path.remote.ip();
        let is_new = !connection.ice.is_served(path);
        if is_new && !self.newcomers.may_add_path(&connection.begun, from, now) {
            return self.drops.count(DropReason::Limit);
        }
        match (connection.ice).handle_binding(datagram, path, is_taken, now) {
            Ok((verdict, reply)) => {
                if is_new && verdict == ice::Verdict::Accepted {
                    self.newcomers.add_path(&mut connection.begun, from, now);
                }
                let is_free = verdict == ice::Verdict::Accepted && !is_taken;
                if is_free && self.paths.find(path) != Some(index) {
                    self.paths.insert(path, index);
                }
                if let Some(reply) = reply {
                    let to = Some(destination(path));
                    self.wire.datagram(index, to, reply.bytes());
                }
            }
            Err(ice::DropReason::Malformed | ice::DropReason::NotARequest) => {
                self.drops.count(DropReason::Malformed);
            }
            Err(
                ice::DropReason::Fingerprint
                | ice::DropReason::WouldAmplify
                | ice::DropReason::NotAnAnswer,
            ) => {
                self.drops.count(DropReason::Unauthenticated);
            }
            Err(ice::DropReason::ForeignUfrag) => self.drops.count(DropReason::UnknownAddress),
        }
        self.handle_ice_events(index, now);
        self.schedule(index, now);
    }

    /// What says that it answers a check of this connection's.
    pub(super) fn handle_answer(
        &mut self,
        index: usize,
        path: Path,
        datagram: &[u8],
        now: Instant,
    ) {
        let Some(connection) = self.connections.get_mut(index) else {
            return self.drops.count(DropReason::UnknownAddress);
        };
        self.serving = Some(connection.session);
        match connection.ice.handle_answer(datagram, path) {
            Ok(Some(owed)) => (self.wire).datagram(index, Some(destination(path)), owed.bytes()),
            Ok(None) => {}
            Err(_) => return self.drops.count(DropReason::Unauthenticated),
        }
        self.handle_ice_events(index, now);
        self.schedule(index, now);
    }

    /// Whether the address is another connection's: who claims it has to prove it before it is his. Were it
    /// enough that the other has not proved it yet, anybody could take the addresses of those who join.
    fn is_taken(&mut self, path: Path, index: usize) -> bool {
        self.paths.find(path).is_some_and(|owner| owner != index)
    }

    pub(super) fn handle_ice_events(&mut self, index: usize, now: Instant) {
        let (mut lost_path, mut has_moved) = (false, false);
        while let Some(event) = self.connections[index].ice.poll_event() {
            match event {
                ice::Event::PathAdded(path) => {
                    if !self.is_taken(path, index) {
                        self.paths.insert(path, index);
                    }
                    self.stream_proved(path);
                }
                ice::Event::PathProven(path) => self.take_over(path, index, now),
                ice::Event::PathRemoved(path) => {
                    lost_path = true;
                    self.paths.remove(path, index);
                    let link = self.wire.link(index);
                    link.destination = link.destination.filter(|to| *to != destination(path));
                    if self.paths.find(path).is_none() {
                        self.wire.streams.finish(path.socket);
                    }
                }
                ice::Event::PathSelected(path) => {
                    let link = self.wire.link(index);
                    link.destination = Some(destination(path));
                    if let Some(shaping) = &mut link.shaping {
                        shaping.bandwidth.path_changed(now);
                        has_moved = true;
                    }
                }
                ice::Event::Connected => {
                    self.update_state(index, None);
                    // What ended below begins again.
                    self.activate(self.connections[index].session, now);
                }
                ice::Event::Interrupted => {
                    self.update_state(index, Some(ConnectionState::Interrupted));
                }
                ice::Event::Failed => {
                    self.wire.link(index).destination = None;
                    lost_path = true;
                    self.update_state(index, Some(ConnectionState::Failed));
                }
                ice::Event::UfragRetired(ufrag) => {
                    self.ufrags.remove(&ufrag);
                }
            }
        }
        self.send_checks(index);
        if has_moved {
            self.note_estimate(self.connections[index].session, now);
        }
        // Numbers stand still while nothing is sent. After 2^15 that a receiver does not see it takes the
        // next one for an old one (RFC 3711 section 3.3.1), and is deaf for ever.
        let session = self.connections[index].session;
        if lost_path
            && self.wire.link(index).destination.is_none()
            && self.sessions[session].downlink() == Some(index)
        {
            self.deactivate(session, now);
        }
    }

    /// The address is this connection's. A page that was reloaded comes from that of its former connection,
    /// which is sent nothing there any more.
    fn take_over(&mut self, path: Path, index: usize, now: Instant) {
        let former = self.paths.find(path).filter(|former| *former != index);
        self.paths.insert(path, index);
        if let Some(former) = former {
            self.connections[former].ice.close_path(path);
            self.handle_ice_events(former, now);
            self.schedule(former, now);
        }
    }

    /// The checks that are due; their answers name the connection by its index.
    fn send_checks(&mut self, index: usize) {
        let ice = &mut self.connections[index].ice;
        while let Some((path, check)) = ice.poll_transmit(index as u32, &mut self.rng) {
            let to = Some(destination(path));
            self.wire.datagram(index, to, check.bytes());
        }
    }

    pub(super) fn handle_dtls(&mut self, index: usize, path: Path, datagram: &[u8], now: Instant) {
        let connection = &mut self.connections[index];
        if let Dtls::Idle = connection.dtls {
            let from = path.remote.ip();
            if !(self.newcomers).allow_handshake(&mut connection.begun, from, now) {
                return self.drops.count(DropReason::Limit);
            }
            if self.handshakes.start(connection.key).is_err() {
                return self.drops.count(DropReason::QueueFull);
            }
            connection.dtls = Dtls::Handshaking;
            connection.ice.handshake_begins();
        }
        if let Dtls::Handshaking = connection.dtls {
            connection.ice.handle_handshake(path, datagram.len(), now);
            self.handle_ice_events(index, now);
            self.schedule(index, now);
        }
        self.feed_dtls(index, datagram, now);
    }

    fn feed_dtls(&mut self, index: usize, datagram: &[u8], now: Instant) {
        match &mut self.connections[index].dtls {
            Dtls::Idle | Dtls::Handshaking => {
                self.handshakes.handle_datagram(
                    self.connections[index].key,
                    Bytes::copy_from_slice(datagram),
                );
            }
            Dtls::Ready(dtls) => {
                if !dtls.handle_datagram(datagram, now) {
                    self.drops.count(DropReason::Unauthenticated);
                }
                self.handle_dtls_output(index, now);
            }
            Dtls::Over => self.drops.count(DropReason::NoKeys),
        }
    }

    pub(super) fn handle_handshake(&mut self, output: HandshakeOutput, now: Instant) {
        let key = match &output {
            HandshakeOutput::Transmit { connection, .. }
            | HandshakeOutput::Finished { connection, .. }
            | HandshakeOutput::Failed { connection, .. }
            | HandshakeOutput::Datagram { connection, .. } => *connection,
        };
        let Some(&index) = self.connection_index.get(&key) else {
            return self.drops.count(DropReason::Gone);
        };
        self.serving = Some(self.connections[index].session);
        match output {
            HandshakeOutput::Transmit { datagram, .. } => {
                self.send_handshake(index, &datagram, now);
            }
            HandshakeOutput::Finished {
                association,
                connected,
                ..
            } => {
                let connection = &mut self.connections[index];
                connection.ice.handshake_ends();
                connection.dtls = Dtls::Ready(association);
                if connection.hold(*connected).is_err() {
                    return self.end_connection(index, ConnectionState::Failed, now);
                }
                self.verify(index, now);
                self.handle_dtls_output(index, now);
            }
            HandshakeOutput::Failed { error, .. } => {
                let connection = &mut self.connections[index];
                let participant = &self.sessions[connection.session].participant;
                tracing::info!(%participant, %error, "the DTLS handshake failed");
                self.count_caught(error == HandshakeError::Dtls(dtls::Failure::Panicked));
                let connection = &mut self.connections[index];
                // The client may begin anew, e.g. after an ICE restart.
                connection.dtls = Dtls::Idle;
            }
            HandshakeOutput::Datagram { datagram, .. } => match self.connections[index].dtls {
                Dtls::Ready(_) => self.feed_dtls(index, &datagram, now),
                Dtls::Idle | Dtls::Handshaking | Dtls::Over => {
                    self.drops.count(DropReason::NoKeys);
                }
            },
        }
    }

    fn send_handshake(&mut self, index: usize, datagram: &[u8], now: Instant) {
        let ice = &mut self.connections[index].ice;
        if dtls::is_server_hello(datagram) {
            // Only who got the cookie can have returned it.
            ice.handshake_answered();
        }
        let path = ice.handshake_path(datagram.len());
        self.handle_ice_events(index, now);
        self.schedule(index, now);
        match path {
            Some(path) => self.wire.datagram(index, Some(destination(path)), datagram),
            // More than the client has paid for; it asks again.
            None => self.drops.count(DropReason::Limit),
        }
    }

    /// A bug of a library was caught before it got here.
    pub(super) fn count_caught(&self, caught: bool) {
        Counters::add(&self.counters.panics, u64::from(caught));
    }

    /// Compares certificate and announcement, once both are there.
    pub(super) fn verify(&mut self, index: usize, now: Instant) {
        match self.connections[index].verify() {
            Verified::Undecided => {}
            Verified::Matches(sealer) => {
                self.wire.link(index).sealer = Some(sealer);
                self.update_state(index, None);
                self.begin_reports(index, now);
                self.activate(self.connections[index].session, now);
                self.start_data(index, now);
            }
            Verified::Differs => {
                let participant = &self.sessions[self.connections[index].session].participant;
                tracing::warn!(%participant, "the certificate is not the one that was announced");
                self.end_connection(index, ConnectionState::Failed, now);
            }
        }
    }

    fn handle_dtls_output(&mut self, index: usize, now: Instant) {
        let verified = self.connections[index].opener.is_some();
        while let Dtls::Ready(dtls) = &mut self.connections[index].dtls {
            match dtls.poll_event() {
                None => break,
                Some(dtls::Event::ApplicationData(bytes)) if verified => {
                    self.handle_data(index, bytes.freeze(), now);
                }
                // The client repeats what was not acknowledged.
                Some(dtls::Event::ApplicationData(_)) => self.drops.count(DropReason::NoKeys),
                Some(dtls::Event::Connected(_)) => {}
                Some(dtls::Event::Closed) => {
                    self.end_connection(index, ConnectionState::Closed, now);
                }
                Some(dtls::Event::Failed(failure)) => {
                    self.count_caught(failure == dtls::Failure::Panicked);
                    self.end_connection(index, ConnectionState::Failed, now);
                }
            }
        }
        self.flush_dtls(index);
        self.schedule(index, now);
    }

    pub(super) fn flush_dtls(&mut self, index: usize) {
        if let Dtls::Ready(dtls) = &mut self.connections[index].dtls {
            while let Some(datagram) = dtls.poll_transmit() {
                self.wire.datagram(index, None, &datagram);
            }
        }
    }

    pub(super) fn handle_transport_timeout(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        self.serving = Some(connection.session);
        if !connection.alarm.fire(now) {
            return;
        }
        connection.ice.handle_timeout(now);
        if let Dtls::Ready(dtls) = &mut connection.dtls {
            dtls.handle_timeout(now);
        }
        self.handle_ice_events(index, now);
        self.handle_data_timeout(index, now);
        self.handle_dtls_output(index, now);
    }

    /// Sets a timer for the connection's own state machines, unless an earlier one is set.
    pub(super) fn schedule(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(at) = connection.poll_timeout() else {
            return;
        };
        let at = at.max(now);
        if connection.alarm.set(at) {
            self.timers.set(at, Timer::Transport(index, connection.key));
        }
    }

    /// Nothing more is sent or accepted on this connection; its session goes on.
    pub(super) fn end_connection(&mut self, index: usize, state: ConnectionState, now: Instant) {
        let connection = &mut self.connections[index];
        if let Dtls::Ready(dtls) = &mut connection.dtls {
            dtls.close(now);
        }
        self.flush_dtls(index);
        let connection = &mut self.connections[index];
        connection.dtls = Dtls::Over;
        connection.opener = None;
        connection.data = None;
        self.wire.link(index).sealer = None;
        let session = self.connections[index].session;
        if self.sessions[session].downlink() == Some(index) {
            self.deactivate(session, now);
        }
        self.update_state(index, Some(state));
    }

    /// Works out a connection's state and tells of a change. `change` overrules what ICE and DTLS
    /// together amount to.
    fn update_state(&mut self, index: usize, change: Option<ConnectionState>) {
        let secured = self.connections[index].opener.is_some();
        let has_path = self.wire.link(index).destination.is_some();
        let connection = &mut self.connections[index];
        let ended = matches!(connection.dtls, Dtls::Over);
        let state = match change {
            Some(state) => state,
            None if ended => return,
            None if secured && has_path => ConnectionState::Connected,
            None => return,
        };
        if connection.state == state {
            return;
        }
        connection.state = state;
        let role = connection.role;
        let session = &mut self.sessions[connection.session];
        session.tell(Event::ConnectionChanged { role, state });
    }
}

fn destination(path: Path) -> Destination {
    Destination {
        socket: path.socket,
        addr: path.remote,
    }
}
