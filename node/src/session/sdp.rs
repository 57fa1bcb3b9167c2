//! Negotiates the peer connections of a session: offers and answers (RFC 8829) in, the plan for the
//! shard out.
//!
//! The only place that knows SDP. Payload types, SSRCs and extension ids of a client connection
//! begin here and go on in the plan. Knows no sockets and no time; randomness is handed in.

mod answer;
mod codecs;
mod description;
mod direction;
mod error;
mod extensions;
mod feedback;
mod format;
#[cfg(test)]
mod golden;
mod local;
mod offer;
mod outgoing;
#[cfg(test)]
mod robust;
mod section;
mod simulcast;
#[cfg(test)]
mod testing;
mod text;
mod track;
mod transport;

pub use answer::{Answer, Answerer};
pub use error::{SdpError, TrackError};
pub use format::{Format, H264Profile, Packetization, codec_of_mime_type, mime_type};
pub use offer::{Offer, Offerer};
pub use track::{
    Exchange, InvalidMsid, MediaKind, Msid, Outgoing, Publication, SectionsNeeded, StartedTrack,
};
pub use transport::LocalTransport;
