//! What shards tell each other, and pipes. Plain values, none of which waits for an answer.

use std::sync::Arc;

use bytes::Bytes;
use pipemesh_node_core::forward::EncodingSet;
use pipemesh_node_core::layer::LayerRates;
use pipemesh_node_core::loudest::Told;
use pipemesh_node_core::router::relay::{Alias, Interest, RelayedReport};
use pipemesh_node_core::router::{Source, TrackKey};
use pipemesh_node_core::track::TrackSpec;
use pipemesh_node_media::ring::Producer;
use pipemesh_proto::ids::{NodeId, ParticipantId, RoomId, SessionId, TrackId};
use pipemesh_proto::pipe::Role;

use super::command::SessionKey;
use super::event::{Judgement, Speaker};
use super::session::RoomKey;
use crate::session::plan::{Extensions, PayloadType};

#[derive(Debug)]
pub(crate) enum Message {
    // From who takes a track to its origin.
    /// Describe the track from now on, and note who takes it.
    Subscribe(Box<Subscribe>),
    /// What is used now.
    Interest {
        track: TrackKey,
        alias: Alias,
        interest: Interest,
    },
    Unsubscribe {
        track: TrackId,
        alias: Alias,
        /// It comes another way from now on.
        moved: bool,
    },
    KeyFrame(Alias, Source),
    /// Extended numbers of packets that did not arrive.
    Packets(Alias, Source, Vec<u64>),
    /// Somebody receives the track.
    Received(Alias, TrackId),

    // From a track's origin to who takes it.
    /// All there is to know of the track, after every change.
    State(Alias, Arc<TrackState>),
    Report(Alias, RelayedReport),
    /// What it takes to forward its layers, twice a second.
    Rates(Alias, Arc<LayerRates>),
    /// The track is no more.
    Ended(Alias),
    /// There is no such track, or not yet.
    Unknown(Alias),

    // From a pipe to all shards.
    /// Say what is said in the room here; who speaks is said at once.
    Follow(RoomId),
    Unfollow(RoomId),

    // To all shards.
    /// The sender hosts a room; who else does answers.
    RoomOpened(RoomId),

    // Among the shards that host a room, and to pipes that follow it and from them.
    /// The sender hosts the room, too; these speak there.
    RoomHere(RoomId, Vec<Speaker>),
    RoomClosed(RoomId),
    Speakers(RoomId, Arc<[Speaker]>),
    Quality(RoomId, Arc<[Judgement]>),
    /// Changes among the sender's loudest microphones.
    Microphones(RoomId, Arc<[Told<TrackId>]>),
    /// A data packet with its true sender on it.
    Data {
        room: RoomId,
        packet: Bytes,
        reliable: bool,
    },
}

impl Message {
    /// The next of its kind says the same, or it is asked again: nothing depends on this one.
    pub(crate) fn is_repeated(&self) -> bool {
        matches!(
            self,
            Self::KeyFrame(..) | Self::Packets(..) | Self::Report(..) | Self::Rates(..)
        )
    }

    /// Takes over what a later message says, if it is of the same kind and about the same. An alias names
    /// a track for good, so it does not matter what is said in between.
    pub(crate) fn absorb(&mut self, next: &Self) -> bool {
        match (self, next) {
            (
                Self::Interest {
                    alias, interest, ..
                },
                Self::Interest {
                    alias: same,
                    interest: newer,
                    ..
                },
            ) if alias == same => *interest = *newer,
            (Self::State(alias, state), Self::State(same, newer)) if alias == same => {
                *state = Arc::clone(newer);
            }
            (Self::Speakers(room, speakers), Self::Speakers(same, newer)) if room == same => {
                *speakers = merged(speakers, newer, |speaker| &speaker.participant);
            }
            (Self::Microphones(room, told), Self::Microphones(same, newer)) if room == same => {
                *told = merged(told, newer, |told| &told.microphone);
            }
            (Self::Quality(room, judged), Self::Quality(same, newer)) if room == same => {
                *judged = merged(judged, newer, |(participant, ..)| participant);
            }
            _ => return false,
        }
        true
    }

    /// Whether a room is not the same before and after this, so that what is said of it may not be moved
    /// across.
    pub(crate) fn divides(&self, later: &Self) -> bool {
        let (Self::Speakers(about, _) | Self::Quality(about, _) | Self::Microphones(about, _)) =
            later
        else {
            return false;
        };
        match self {
            Self::RoomOpened(room)
            | Self::RoomHere(room, _)
            | Self::RoomClosed(room)
            | Self::Follow(room)
            | Self::Unfollow(room) => room == about,
            _ => false,
        }
    }
}

/// The last word about each participant, or each of their tracks.
fn merged<T: Clone, I: PartialEq>(
    earlier: &[T],
    later: &[T],
    about: impl Fn(&T) -> &I,
) -> Arc<[T]> {
    let is_told_anew = |one: &&T| {
        let mut anew = later.iter().map(&about);
        anew.any(|other| other == about(*one))
    };
    let kept = earlier.iter().filter(|one| !is_told_anew(one));
    kept.chain(later).cloned().collect()
}

#[derive(Debug)]
pub(crate) struct Subscribe {
    pub(crate) track: TrackId,
    pub(crate) generation: u64,
    pub(crate) alias: Alias,
    /// Where to put packets, if it is the first track from there.
    pub(crate) ring: Option<Producer>,
    /// Where it is published, if that is another node.
    pub(crate) publication: Option<Arc<Publication>>,
}

/// A track of another node, as a pipe has to ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) room: RoomId,
    /// How this node sees itself.
    pub(crate) role: Role,
}

impl Publication {
    /// Whether both are the same, be it in other roles.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.node == other.node && self.session == other.session && self.room == other.room
    }
}

/// A track as its origin describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrackState {
    /// The origin's.
    pub(crate) key: TrackKey,
    /// Its room is the origin's, too.
    pub(crate) spec: TrackSpec<RoomKey, SessionKey>,
    pub(crate) live: EncodingSet,
    /// Of the section it comes in, to read what goes on with its packets.
    pub(crate) extensions: Extensions,
    /// What the payload types of its packets mean.
    pub(crate) codecs: Vec<PayloadType>,
    /// Whose it is, where that is known.
    pub(crate) participant: Option<ParticipantId>,
    /// The nodes that it has come over, its origin first; none if that is this one.
    pub(crate) path: Arc<[NodeId]>,
}
