//! Orders and answers as they are sent. Fields that are not known are skipped; an order that is not
//! known is answered so.

use livekit_protocol::{
    MuteRoomTrackRequest, ParticipantInfo, TrackInfo, UpdateParticipantRequest,
    UpdateSubscriptionsRequest,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Letter {
    /// The same each time that the letter is sent, and in the answer.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// The process that waits for the answer.
    #[prost(string, tag = "2")]
    pub(super) from: String,
    #[prost(oneof = "Body", tags = "3, 4")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for as long as a letter is read or written"
)]
pub(super) enum Body {
    #[prost(message, tag = "3")]
    Order(Order),
    #[prost(message, tag = "4")]
    Answer(Answer),
}

/// Something to be done to people in a room.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Order {
    #[prost(string, tag = "1")]
    pub(crate) room: String,
    #[prost(string, tag = "2")]
    pub(crate) room_id: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) identities: Vec<String>,
    #[prost(oneof = "What", tags = "4, 5, 6, 7, 8")]
    pub(crate) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum What {
    /// They are sent away.
    #[prost(message, tag = "4")]
    Leave(Leave),
    #[prost(message, tag = "5")]
    Mute(MuteRoomTrackRequest),
    #[prost(message, tag = "6")]
    Update(UpdateParticipantRequest),
    #[prost(message, tag = "7")]
    Subscriptions(UpdateSubscriptionsRequest),
    #[prost(message, tag = "8")]
    Data(Data),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Leave {
    /// Because the room is deleted, not because of them.
    #[prost(bool, tag = "1")]
    pub(crate) room_deleted: bool,
}

/// A packet for their clients.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Data {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) packet: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub(crate) reliable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(enumeration = "Outcome", tag = "1")]
    pub(crate) outcome: i32,
    /// Why not.
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    /// How they are now.
    #[prost(message, optional, tag = "3")]
    pub(crate) info: Option<ParticipantInfo>,
    #[prost(message, optional, tag = "4")]
    pub(crate) track: Option<TrackInfo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Outcome {
    /// By a version that answers something else.
    Unknown = 0,
    Done = 1,
    /// Nobody of that identity is served here.
    NobodyHere = 2,
    NoTrack = 3,
    /// It does not fit.
    Invalid = 4,
    /// They are about to join anew.
    Absent = 5,
    /// The process does not know how.
    Unimplemented = 6,
}

impl Answer {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self {
            outcome: outcome.into(),
            ..Default::default()
        }
    }

    pub(crate) fn invalid(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::of(Outcome::Invalid)
        }
    }
}
