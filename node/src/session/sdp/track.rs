//! The tracks of a connection as the rest of the node names them.

use std::collections::BTreeMap;

use pipemesh_node_core::codec::Codec;
use pipemesh_proto::ids::TrackId;

use super::format::Format;
use crate::session::plan::ConnectionPlan;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Audio,
    Video,
}

impl MediaKind {
    pub fn of(codec: Codec) -> Self {
        if codec.is_video() {
            Self::Video
        } else {
            Self::Audio
        }
    }
}

/// A track that the client is going to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub track: TrackId,
    /// The client's own id of it: the track of `a=msid`, or the mid of a section that has none.
    pub client_track: String,
    pub kind: MediaKind,
    /// In order of preference. Empty: the order of the offer.
    pub codecs: Vec<Codec>,
    /// Of its simulcast encodings, lowest first. May be empty.
    pub rids: Vec<String>,
    pub stereo: bool,
    pub dtx: bool,
    pub red: bool,
}

/// A track that the client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub track: TrackId,
    /// As published.
    pub format: Format,
    pub msid: Msid,
    /// The client takes redundant audio.
    pub red: bool,
}

/// The values of `a=msid` (RFC 8830), whose meaning is the client's. The stream is the CNAME as
/// well, so that what belongs together is played in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msid {
    stream: String,
    track: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the parts of an msid have 1 to 256 visible characters")]
pub struct InvalidMsid;

impl Msid {
    pub fn new(stream: &str, track: &str) -> Result<Self, InvalidMsid> {
        let valid = |text: &str| {
            matches!(text.len(), 1..=256) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if valid(stream) && valid(track) {
            Ok(Self {
                stream: stream.to_owned(),
                track: track.to_owned(),
            })
        } else {
            Err(InvalidMsid)
        }
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    pub fn track(&self) -> &str {
        &self.track
    }
}

/// A published track was negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedTrack {
    pub track: TrackId,
    pub mid: String,
    pub format: Format,
    /// Lowest first; empty without simulcast.
    pub rids: Vec<String>,
}

/// Sections that a client, which makes every offer, has to offer for what it is to be sent. Both
/// may be 0: it has free ones, and only an offer is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SectionsNeeded {
    pub audio: usize,
    pub video: usize,
}

/// What an exchange of offer and answer has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub plan: ConnectionPlan,
    /// mid to msid track of what the client is sent.
    pub mid_to_track: BTreeMap<String, String>,
    pub started: Vec<StartedTrack>,
    pub ended: Vec<TrackId>,
    /// Tracks the client offers no codec for. They wait for an offer that has one.
    pub unsupported: Vec<TrackId>,
}
