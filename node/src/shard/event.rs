//! What a shard tells a session's control task.

use std::sync::Arc;

use pipemesh_node_core::quality::Quality;
use pipemesh_proto::ids::{ParticipantId, TrackId};

use super::command::Role;

/// Events that wait for one session's task. Each is a change of state that signaling has to hear, so a
/// full queue means that the task is stuck: the session ends.
pub(crate) const QUEUE: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    ConnectionChanged {
        role: Role,
        state: ConnectionState,
    },
    /// The SSRCs of a published track's encodings, as far as known, from the lowest up.
    EncodingsKnown {
        track: TrackId,
        encodings: Vec<(Option<u32>, Option<u32>)>,
    },
    /// A published track is received by somebody for the first time.
    TrackSubscribed(TrackId),
    /// Of a published track so many encodings are of use to anybody, from the lowest up.
    DemandChanged {
        track: TrackId,
        encodings: u8,
    },
    /// The bandwidth does not suffice for a subscribed track, or does again.
    SubscriptionPaused {
        track: TrackId,
        paused: bool,
    },
    /// A subscribed track is no more. Under its id another one may have been subscribed to since: see
    /// [`Origin`](super::command::Origin).
    SubscriptionEnded {
        track: TrackId,
        generation: u64,
    },
    SpeakersChanged(Vec<Speaker>),
    QualityChanged(Arc<[Judgement]>),
    /// The session was closed because serving it failed; nothing follows.
    Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    New,
    Connected,
    Interrupted,
    Failed,
    Closed,
}

/// How good a participant's connection is: in words, and as a mean opinion score.
pub(crate) type Judgement = (ParticipantId, Quality, f32);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Speaker {
    pub(crate) participant: ParticipantId,
    pub(crate) level: f32,
    pub(crate) active: bool,
}
