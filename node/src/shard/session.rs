//! A participant's session as its shard sees it: what it publishes, what it wants, whom to tell.

use std::collections::BTreeMap;

use bytes::Bytes;
use pipemesh_node_core::allocate::Held;
use pipemesh_node_core::data::Sender;
use pipemesh_node_core::quality::Quality;
use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use pipemesh_proto::ids::{ParticipantId, TrackId};

use super::allocation::Allocated;
use super::command::{DataRights, Origin, Role, SessionKey};
use super::event::Event;
use crate::mailbox;
use crate::session::sctp::ChannelId;

/// Names a room on its shard, for good.
pub(crate) type RoomKey = u64;

pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) room: RoomKey,
    pub(crate) participant: ParticipantId,
    pub(crate) identity: String,
    /// Data packets do not say whom they are from.
    pub(crate) anonymous: bool,
    /// Tracks may pause for want of bandwidth.
    pub(crate) may_pause: bool,
    pub(crate) rights: DataRights,
    /// Indices of the connections, by role.
    connections: [Option<usize>; 2],
    pub(crate) published: Vec<TrackId>,
    pub(crate) wanted: BTreeMap<TrackId, Wanted>,
    /// Channels towards the client.
    pub(crate) reliable: Option<ChannelId>,
    pub(crate) lossy: Option<ChannelId>,
    pub(crate) quality: Option<(Quality, f32)>,
    pub(crate) link: LinkReports,
    pub(crate) allocated: Allocated,
    events: mailbox::Sender<Event>,
    /// The control task does not keep up: the session is to be closed.
    pub(crate) is_stuck: bool,
}

/// A track the session asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) origin: Origin,
    pub(crate) wish: LayerWish,
    /// None until a connection carries it.
    pub(crate) subscription: Option<SubscriptionKey>,
    /// What bandwidth allowed it last.
    pub(crate) held: Held,
}

/// What reports of both directions said since quality was last judged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkReports {
    /// Worst share of loss reported, in 1/256.
    pub(crate) worst_loss: u8,
    pub(crate) round_trip: Option<std::time::Duration>,
    pub(crate) worst_jitter: std::time::Duration,
    pub(crate) any: bool,
}

impl Session {
    pub(crate) fn new(
        key: SessionKey,
        room: RoomKey,
        participant: ParticipantId,
        identity: String,
        anonymous: bool,
        may_pause: bool,
        rights: DataRights,
        events: mailbox::Sender<Event>,
    ) -> Self {
        Self {
            key,
            room,
            participant,
            identity,
            anonymous,
            may_pause,
            rights,
            connections: [None; 2],
            published: Vec::new(),
            wanted: BTreeMap::new(),
            reliable: None,
            lossy: None,
            quality: None,
            link: LinkReports::default(),
            allocated: Allocated::default(),
            events,
            is_stuck: false,
        }
    }

    /// What its data packets are stamped with.
    pub(crate) fn stamp(&self) -> Sender<'_> {
        if self.anonymous {
            return Sender {
                id: "",
                identity: "",
            };
        }
        Sender {
            id: self.participant.as_str(),
            identity: &self.identity,
        }
    }

    pub(crate) fn connection(&self, role: Role) -> Option<usize> {
        self.connections[role as usize]
    }

    pub(crate) fn set_connection(&mut self, role: Role, index: usize) {
        self.connections[role as usize] = Some(index);
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = usize> + use<> {
        self.connections.into_iter().flatten()
    }

    /// The connection that media and data take to the client.
    pub(crate) fn downlink(&self) -> Option<usize> {
        self.connection(Role::Subscriber)
            .or_else(|| self.connection(Role::Publisher))
    }

    /// Tells the control task. Events are changes of state, none may be lost: a task that does not
    /// keep up loses its session.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.is_stuck = true;
        }
    }
}

/// A data packet on its way to several clients: made once.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) bytes: Bytes,
    pub(crate) reliable: bool,
}
