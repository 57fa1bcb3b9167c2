//! Sockets: the first, which is told everything, and later ones, which are told it again.

use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, IceServer, JoinResponse, ReconnectResponse};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{self as contract, ConnectionLayout, ConnectionRole};

use super::link::Asked;
use super::spec::Attach;
use super::takeover::SYNC_LIMIT;
use super::{GRACE_BEFORE_MEDIA, PING_INTERVAL, PING_TIMEOUT, Phase, Session, Socket};
use crate::livekit::join::Resume;
use crate::livekit::{message, track};
use crate::rooms::record::Presence;

impl Session {
    /// A socket of the client is there. One that was there before is the caller's to close.
    pub(crate) fn handle_attach(&mut self, attach: Attach, now: Instant) {
        match self.phase {
            Phase::Open => {}
            Phase::Opening | Phase::Ended => return,
            Phase::Moving | Phase::Rejoining => {
                // It was told to join anew and may not have heard it.
                self.outbox.attach_again();
                self.say_leave(DisconnectReason::StateMismatch, Action::Reconnect);
                return;
            }
            Phase::Elsewhere => {
                // Its next attempt finds out where, or takes the session back.
                self.outbox.attach_again();
                self.say_leave(DisconnectReason::Migration, Action::Resume);
                return self.handle_taken_over();
            }
        }
        self.socket = Socket::Attached;
        match attach.resume {
            None => self.begin(attach.ice_servers, now),
            Some(resume) => self.resume(resume, attach.ice_servers, now),
        }
    }

    /// The client's socket is gone.
    pub(crate) fn handle_detach(&mut self, now: Instant) {
        self.outbox.detach();
        self.deadlines.sync = None;
        if self.phase == Phase::Moving {
            return self.handle_gone(now);
        }
        if self.phase != Phase::Open {
            return;
        }
        let grace = if self.connected {
            self.resume_grace
        } else {
            GRACE_BEFORE_MEDIA
        };
        self.socket = Socket::Awaited(Some(now + grace.min(self.resume_grace)));
        self.set_presence(Presence::Away);
    }

    /// The client's first socket: it is told everything.
    fn begin(&mut self, ice_servers: Vec<IceServer>, now: Instant) {
        let Some(room) = self.room.clone() else {
            return;
        };
        let (info, others) = self.updates.begin(&room, &self.identity, now);
        let join = JoinResponse {
            room: Some(info),
            participant: self.record.info.clone(),
            other_participants: others,
            server_version: message::COMPATIBLE_VERSION.to_owned(),
            server_region: self.region.to_string(),
            server_info: Some(message::server_info(
                self.region.as_str(),
                self.node.as_str(),
            )),
            ice_servers,
            subscriber_primary: self.subscriber_primary,
            ping_interval: i32::try_from(PING_INTERVAL.as_secs()).unwrap_or(5),
            ping_timeout: i32::try_from(PING_TIMEOUT.as_secs()).unwrap_or(15),
            enabled_publish_codecs: track::publish_codecs(),
            // False delays data in dual mode until the first send, and freezes Firefox.
            fast_publish: self.rights.publish,
            ..Default::default()
        };
        self.outbox.attach(Message::Join(join));
        self.say_negotiation();
        self.settle_subscriptions();
        self.refresh_token(now);
        self.follow_home(now);
    }

    /// The client comes back with another socket.
    fn resume(&mut self, resume: Resume, ice_servers: Vec<IceServer>, now: Instant) {
        let Some(room) = self.room.clone() else {
            return;
        };
        self.outbox.attach_again();
        self.set_presence(Presence::Here);
        if std::mem::take(&mut self.simulated.close_before_resume) {
            return self.close_socket("simulated");
        }
        if self.client.supports_reconnect_response() {
            let reconnect = ReconnectResponse {
                ice_servers,
                server_info: Some(message::server_info(
                    self.region.as_str(),
                    self.node.as_str(),
                )),
                // The connection that carries data is the same as before: nothing was lost on it.
                last_message_seq: 0,
                ..Default::default()
            };
            self.outbox.say(Message::Reconnect(reconnect));
        }
        let myself = self.info().clone();
        for message in self.updates.again(&room, &self.identity, &myself, now) {
            self.outbox.say(message);
        }
        self.settle_subscriptions();
        if self.subscriptions.are_held() {
            self.deadlines.sync = Some(now + SYNC_LIMIT);
        }
        if let Some(state) = &resume.sync_state {
            self.handle_sync_state(state, now);
        }
        if self.phase != Phase::Open {
            return;
        }
        self.say_active_speakers();
        self.say_demands();
        self.subscriptions.say_paused(&mut self.outbox);
        if self.layout == ConnectionLayout::Dual {
            let restart = contract::RestartIce {
                connection: ConnectionRole::Subscriber.into(),
            };
            self.link
                .ask(Asked::RestartIce, Request::RestartIce(restart));
        } else {
            self.say_negotiation();
        }
        self.refresh_token(now);
        if std::mem::take(&mut self.simulated.close_after_resume) {
            self.close_socket("simulated");
        }
    }

    fn settle_subscriptions(&mut self) {
        self.subscriptions
            .settle_all(&mut self.link, &mut self.outbox);
    }
}
