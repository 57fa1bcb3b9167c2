//! What control decided, carried out. Sessions and their connections begin and end here; what becomes of
//! their tracks is told in `publications` and `subscriptions`.

use std::time::Instant;

use pipemesh_node_core::ingress::Ingress;
use pipemesh_node_core::router::relay::Port;
use rand::Rng;

use super::Shard;
use super::command::{Command, Inspected, OpenSession, Role, SessionKey};
use super::connection::{Connection, Dtls};
use super::session::{Parcel, Session};
use super::wire::Link;
use crate::session::handshake::ConnectionKey;
use crate::session::plan::ConnectionPlan;

impl Shard {
    pub(super) fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Open(open) => self.open_session(open, now),
            Command::Close(key) => {
                self.with_session(key, |shard, index| shard.close_session(index, now))
            }
            Command::Take(caller) => self.take_stream(*caller, now),
            Command::Apply {
                session,
                role,
                plan,
            } => {
                self.with_session(session, |shard, index| shard.apply(index, role, *plan, now));
            }
            Command::RestartIce {
                session,
                role,
                credentials,
            } => {
                self.with_session(session, |shard, index| {
                    if let Some(connection) = shard.sessions[index].connection(role) {
                        shard.ufrags.insert(credentials.ufrag.clone(), connection);
                        shard.connections[connection].ice.restart(credentials);
                    }
                });
            }
            Command::Publish {
                session,
                track,
                generation,
                spec,
            } => {
                self.with_session(session, |shard, index| {
                    shard.publish(index, track, generation, spec, now)
                });
            }
            Command::Unpublish { session, track } => self.with_session(session, |shard, index| {
                if shard.sessions[index].published.contains(&track) {
                    shard.unpublish(&track);
                    shard.land_awaited(&track);
                }
            }),
            Command::SetMuted {
                session,
                track,
                muted,
            } => {
                self.with_session(session, |shard, index| {
                    shard.set_muted(index, &track, muted, now)
                });
            }
            Command::Subscribe {
                session,
                track,
                origin,
                wish,
            } => {
                self.with_session(session, |shard, index| {
                    shard.subscribe(index, track, origin, wish, now)
                });
            }
            Command::Unsubscribe { session, track } => {
                self.with_session(session, |shard, index| {
                    shard.unsubscribe(index, &track, now)
                });
            }
            Command::SetDataRights { session, rights } => {
                self.with_session(session, |shard, index| {
                    shard.sessions[index].rights = rights
                });
            }
            Command::SendData {
                session,
                packet,
                reliable,
            } => {
                self.with_session(session, |shard, index| {
                    let bytes = packet.into();
                    shard.send_parcel(index, &Parcel { bytes, reliable }, now);
                });
            }
            Command::Meet(number, door, met) => {
                self.neighbours.meet(number, door);
                // The director may have gone.
                let _ = met.send(());
            }
            Command::Part(number) => {
                self.neighbours.part(number);
                self.router.end_port(Port(number), now);
                self.followers.forget(number);
                self.forget_speakers(number);
            }
            Command::Land(landing) => self.land(landing),
            Command::Leave { track, generation } => self.leave(&track, generation),
            Command::Inspect { sessions, reply } => {
                // What other shards had decided before somebody asked is seen, too.
                self.receive_messages(now);
                // The asker may have gone.
                let _ = reply.send(self.inspect(&sessions));
            }
            Command::Stop => {}
        }
    }

    fn with_session(&mut self, key: SessionKey, act: impl FnOnce(&mut Self, usize)) {
        // A session that ended of itself: control learns of it by an event.
        let Some(&index) = self.session_index.get(&key) else {
            return;
        };
        self.serving = Some(index);
        act(self, index);
    }

    fn open_session(&mut self, open: OpenSession, now: Instant) {
        let room = self.open_room(&open.room);
        self.limit_microphones(room, open.loudest_microphones, now);
        let session = Session::new(
            open.key,
            room,
            open.participant,
            open.identity,
            open.anonymous,
            open.may_pause,
            open.rights,
            open.events,
        );
        let index = self.sessions.insert(session);
        self.session_index.insert(open.key, index);
        if let Some(room) = self.rooms.get_mut(&room) {
            room.members.push(index);
        }
        for (role, credentials) in open.connections {
            let key = ConnectionKey(self.next_key());
            let ufrag = credentials.ufrag.clone();
            let ssrc = self.rng.random();
            let allowance = self.limits.allowance();
            let ingress = Ingress::new(allowance, now);
            let connection = Connection::new(key, index, role, credentials, ssrc, ingress, now);
            let connection = self.connections.insert(connection);
            *self.wire.link(connection) = Link::default();
            self.connection_index.insert(key, connection);
            self.ufrags.insert(ufrag, connection);
            self.sessions[index].set_connection(role, connection);
        }
        self.begin_quality(index, now);
        self.greet(index);
    }

    pub(super) fn close_session(&mut self, index: usize, now: Instant) {
        for track in std::mem::take(&mut self.sessions[index].published) {
            self.unpublish(&track);
            self.land_awaited(&track);
        }
        for track in self.sessions[index]
            .wanted
            .keys()
            .cloned()
            .collect::<Vec<_>>()
        {
            self.unsubscribe(index, &track, now);
        }
        // Who spoke is silent now: others are told while the session still has a name.
        self.handle_router_output();
        let connections: Vec<usize> = self.sessions[index].connections().collect();
        for connection in connections {
            self.remove_connection(connection, now);
        }
        let session = self.sessions.remove(index);
        self.session_index.remove(&session.key);
        self.leave_room(session.room, index);
    }

    pub(super) fn close_all(&mut self, now: Instant) {
        for index in self
            .sessions
            .iter()
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
        {
            self.close_session(index, now);
        }
    }

    fn remove_connection(&mut self, index: usize, now: Instant) {
        self.close_data(index, now);
        if let Dtls::Ready(dtls) = &mut self.connections[index].dtls {
            dtls.close(now);
        }
        self.flush_dtls(index);
        self.finish_streams(index);
        let connection = self.connections.remove(index);
        if matches!(connection.dtls, Dtls::Handshaking) {
            self.handshakes.cancel(connection.key);
        }
        self.connection_index.remove(&connection.key);
        self.paths.remove_all_of(index);
        self.ufrags.retain(|_, owner| *owner != index);
        let link = self.wire.link(index);
        link.destination = None;
        link.sealer = None;
        link.shaping = None;
    }

    /// Takes over what was negotiated for a connection.
    fn apply(&mut self, index: usize, role: Role, plan: ConnectionPlan, now: Instant) {
        let Some(connection) = self.sessions[index].connection(role) else {
            return;
        };
        let former = std::mem::replace(&mut self.connections[connection].send, plan.send);
        let state = &mut self.connections[connection];
        let remote = &plan.remote;
        state.ice.set_remote(&remote.ufrag, &remote.password, now);
        state.remote = Some(plan.remote);
        state.data_plan = plan.data.or(state.data_plan);
        let tracks = &self.tracks;
        let bound = state.inbound.apply(&plan.receive, |track| {
            // Of its own, not of whoever took its place.
            let own = tracks.get(track).filter(|it| it.session == Some(index));
            Some(own?.key)
        });
        state.begin_estimate(now);
        state.allow_sources();
        self.describe_published(index, &plan.receive);
        self.handle_bound(connection, &bound, now);
        self.end_vanished(index, connection, &former, now);
        self.handle_ice_events(connection, now);
        self.verify(connection, now);
        self.begin_shaping(connection, now);
        self.activate(index, now);
        self.start_data(connection, now);
        self.schedule(connection, now);
    }

    fn inspect(&self, sessions: &[SessionKey]) -> Vec<Inspected> {
        let known = sessions.iter().filter_map(|key| {
            let session = self.sessions.get(*self.session_index.get(key)?)?;
            Some(session.wanted.iter().map(|(track, wanted)| {
                Inspected {
                    session: *key,
                    track: track.clone(),
                    sent: wanted.subscription.and_then(|key| self.router.sent(key)),
                    is_unheard: wanted
                        .subscription
                        .is_some_and(|key| self.router.is_unheard(key)),
                }
            }))
        });
        known.flatten().collect()
    }
}
