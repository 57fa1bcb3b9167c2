//! What control tells a shard. Plain values; nothing here waits for an answer except inspection.

use std::sync::Arc;

use pipemesh_proto::ids::{ParticipantId, RoomId, TrackId};
use tokio::sync::oneshot;

use super::event::Event;
use super::message::Publication;
use super::neighbours::Door;
use crate::door::Caller;
use crate::mailbox;
use crate::session::ice::Credentials;
use crate::session::plan::ConnectionPlan;
use pipemesh_node_core::router::{LayerWish, Sent};
use pipemesh_node_core::track::Size;

/// Names a session on its node, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionKey(pub(crate) u64);

/// Where a track is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// … or pipe.
    pub(crate) shard: u16,
    /// Differs for every publication of this node: a track that ends may come back under its id.
    pub(crate) generation: u64,
}

/// One of a session's peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The client's own, also the only one of a session with one connection.
    Publisher,
    Subscriber,
}

#[derive(Debug)]
pub(crate) enum Command {
    Open(OpenSession),
    Close(SessionKey),
    /// Somebody called by TCP.
    Take(Box<Caller>),
    /// A connection was negotiated, for the first time or again.
    Apply {
        session: SessionKey,
        role: Role,
        plan: Box<ConnectionPlan>,
    },
    RestartIce {
        session: SessionKey,
        role: Role,
        credentials: Credentials,
    },
    /// A track is negotiated; precedes the plan that carries it.
    Publish {
        session: SessionKey,
        track: TrackId,
        /// See [`Origin`].
        generation: u64,
        spec: PublishSpec,
    },
    Unpublish {
        session: SessionKey,
        track: TrackId,
    },
    SetMuted {
        session: SessionKey,
        track: TrackId,
        muted: bool,
    },
    /// Asks for a track, or changes what is wanted of it. Takes effect once a plan carries it.
    Subscribe {
        session: SessionKey,
        track: TrackId,
        /// None: the track has just ended, and the session is about to hear it.
        origin: Option<Origin>,
        wish: LayerWish,
    },
    Unsubscribe {
        session: SessionKey,
        track: TrackId,
    },
    SetDataRights {
        session: SessionKey,
        rights: DataRights,
    },
    SendData {
        session: SessionKey,
        packet: Vec<u8>,
        reliable: bool,
    },
    /// A pipe to another node has come, under this number. It says nothing before every shard has answered.
    Meet(u16, Door, oneshot::Sender<()>),
    /// … or is gone.
    Part(u16),
    /// Takes a track of another node, for all sessions of this one and for other nodes.
    Land(Landing),
    /// Nobody wants it any more.
    Leave {
        track: TrackId,
        generation: u64,
    },
    /// Which encoding each subscription of these sessions is being sent.
    Inspect {
        sessions: Vec<SessionKey>,
        reply: oneshot::Sender<Vec<Inspected>>,
    },
    Stop,
}

/// A track of another node that a shard takes.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) track: TrackId,
    /// Its shard is the pipe to take it from.
    pub(crate) origin: Origin,
    pub(crate) publication: Arc<Publication>,
}

#[derive(Debug)]
pub(crate) struct OpenSession {
    pub(crate) key: SessionKey,
    pub(crate) room: RoomId,
    pub(crate) participant: ParticipantId,
    pub(crate) identity: String,
    /// Data packets do not say whom they are from.
    pub(crate) anonymous: bool,
    /// Tracks may pause for want of bandwidth.
    pub(crate) may_pause: bool,
    /// Of the room's microphones so many are heard, the loudest; 0: all.
    pub(crate) loudest_microphones: u32,
    pub(crate) rights: DataRights,
    pub(crate) connections: Vec<(Role, Credentials)>,
    pub(crate) events: mailbox::Sender<Event>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DataRights {
    pub(crate) send: bool,
    pub(crate) receive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishSpec {
    pub(crate) is_video: bool,
    /// Counts for active speakers.
    pub(crate) speaks: bool,
    pub(crate) nack: bool,
    pub(crate) muted: bool,
    pub(crate) encodings: u8,
    /// Pixels of each encoding, or of each spatial layer of the only one, from the lowest up; zero where
    /// unknown.
    pub(crate) sizes: Vec<Size>,
}

/// What a subscription is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) session: SessionKey,
    pub(crate) track: TrackId,
    /// `None`: nothing.
    pub(crate) sent: Option<Sent>,
    /// It is a microphone, and others are louder.
    pub(crate) is_unheard: bool,
}
