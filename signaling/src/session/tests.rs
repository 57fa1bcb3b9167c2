//! Scenarios in virtual time: a session, a room, a node and a client without any I/O.

mod elsewhere;
mod joining;
mod moving;
mod orders;
mod publishing;
mod random;
mod resuming;
mod room;
mod subscribing;
mod takeover;

use super::bench;

/// What every scenario speaks of.
mod prelude {
    pub(super) use livekit_protocol::leave_request::Action;
    pub(super) use livekit_protocol::participant_info::State;
    pub(super) use livekit_protocol::signal_response::Message;
    pub(super) use livekit_protocol::{AddTrackRequest, DisconnectReason, SessionDescription};
    pub(super) use pipemesh_proto::node::ConnectionRole;
    pub(super) use pipemesh_topology::Identity;

    pub(super) use super::super::*;
    pub(super) use crate::livekit::join::Resume;
    pub(super) use crate::rooms::record::{MemberRecord, Presence};
}
