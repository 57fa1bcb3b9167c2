//! What a session begins with, what goes in and what comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{AddTrackRequest, IceServer, ParticipantInfo, SessionDescription};
use pipemesh_proto::ids::{NodeId, ParticipantId, Region, RoomId, SessionId, TrackId};
use pipemesh_proto::node::{CloseReason, ConnectionLayout, SessionRequest};
use pipemesh_topology::Identity;

use crate::auth::Rights;
use crate::livekit::client::Client;
use crate::livekit::join::Resume;
use crate::rooms::record::MemberRecord;

/// Everything a session begins with.
pub(crate) struct Spec {
    pub(crate) room_id: RoomId,
    pub(crate) identity: Identity,
    pub(crate) id: ParticipantId,
    pub(crate) session: SessionId,
    pub(crate) node: NodeId,
    pub(crate) region: Region,
    pub(crate) layout: ConnectionLayout,
    pub(crate) client: Client,
    pub(crate) rights: Rights,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,
    pub(crate) never_pause: bool,
    /// Of the room's microphones so many are heard; 0: all.
    pub(crate) loudest_microphones: u32,
    /// As claimed in the store.
    pub(crate) record: MemberRecord,
    /// Where in the room's events the claim is.
    pub(crate) claimed_at: u64,
    /// The claim's number.
    pub(crate) claim: u64,
    /// Ids that tracks had before the client joined anew, by its own ids of them.
    pub(crate) former_tracks: BTreeMap<String, TrackId>,
    pub(crate) add_tracks: Vec<AddTrackRequest>,
    pub(crate) offer: Option<SessionDescription>,
    /// How long the session outlives its socket.
    pub(crate) resume_grace: Duration,
    /// When the room moves to another node, so much time passes between those who follow it.
    pub(crate) move_interval: Duration,
    pub(crate) track_ids: Box<dyn FnMut() -> TrackId + Send>,
    /// Unix time of the moment the session is made, in milliseconds.
    pub(crate) unix_ms: i64,
}

/// A client's socket comes.
pub(crate) struct Attach {
    /// Not its first.
    pub(crate) resume: Option<Resume>,
    pub(crate) ice_servers: Vec<IceServer>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Client(Box<Message>),
    /// After what was said.
    CloseSocket(SocketClose),
    Node(Box<SessionRequest>),
    /// Replaces the participant's record.
    Record(Box<MemberRecord>),
    /// Give the client a fresh token with the name, metadata and attributes of this record.
    RefreshToken(Box<ParticipantInfo>),
    /// The last output.
    Ended(End),
}

/// Why a socket is closed, as a WebSocket close code and a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketClose {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Close the node's session, for this reason; `None`: it is closed or somebody else's.
    pub(crate) close: Option<CloseReason>,
    pub(crate) record: Fate,
}

/// What a socket is told that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Join anew.
    Rejoin,
    /// Resume: another process goes on with the session.
    Resume,
    /// Somebody else has the identity: joining anew would take it from them.
    Replaced,
}

impl End {
    pub(crate) fn farewell(&self) -> Farewell {
        match (self.close, self.record) {
            (Some(CloseReason::Replaced), _) => Farewell::Replaced,
            (_, Fate::Keep | Fate::TakenOver) => Farewell::Resume,
            _ => Farewell::Rejoin,
        }
    }
}

/// What becomes of a participant's record when the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They left.
    Remove,
    /// It is removed or somebody else's already, as far as is known.
    Lost,
    /// They are about to go on with another process.
    Keep,
    /// They go on with another process, whose it is.
    TakenOver,
}
