//! What a negotiation tells the shard: plain values, whole after every exchange, so that applying a
//! plan twice changes nothing and the shard never sees SDP.

use pipemesh_node_core::codec::Codec;
use pipemesh_proto::ids::TrackId;

/// One peer connection as agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPlan {
    pub remote: RemoteTransport,
    /// What the client sends.
    pub receive: Vec<ReceiveSection>,
    /// What the client gets.
    pub send: Vec<SendSection>,
    /// Present once the exchange has an SCTP section.
    pub data: Option<DataPlan>,
}

/// The client's side of the transport that all sections are bundled on (RFC 8843).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    pub ufrag: String,
    pub password: String,
    /// Any one of them has to match the client's certificate (RFC 8122 section 5).
    pub fingerprints: Vec<Fingerprint>,
}

/// A certificate's hash as SDP states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub algorithm: HashAlgorithm,
    pub digest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// An m-section on which the client publishes a track that signaling has announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSection {
    pub mid: String,
    pub track: TrackId,
    /// First the one the client is going to use.
    pub codecs: Vec<PayloadType>,
    pub extensions: Extensions,
    /// From the lowest up. One without a rid where there is no simulcast.
    pub encodings: Vec<ReceiveEncoding>,
    pub feedback: Feedback,
}

/// One encoding of a published track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiveEncoding {
    pub rid: Option<String>,
    /// Known in advance only where the offer has `a=ssrc` lines.
    pub ssrc: Option<u32>,
    pub repair_ssrc: Option<u32>,
}

/// An m-section that carries a subscribed track to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSection {
    pub mid: String,
    pub track: TrackId,
    pub ssrc: u32,
    pub repair_ssrc: Option<u32>,
    pub codecs: Vec<PayloadType>,
    pub extensions: Extensions,
    pub feedback: Feedback,
}

/// A codec's payload type in one section, and that of its retransmissions (RFC 4588).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadType {
    pub codec: Codec,
    pub number: u8,
    pub repair: Option<u8>,
}

/// Ids of the RTP header extensions (RFC 8285) agreed for a section, 1 to 255.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    pub mid: Option<u8>,
    pub rid: Option<u8>,
    pub repaired_rid: Option<u8>,
    pub audio_level: Option<u8>,
    pub transport_sequence: Option<u8>,
    pub absolute_send_time: Option<u8>,
    pub absolute_capture_time: Option<u8>,
    pub dependency_descriptor: Option<u8>,
}

/// RTCP feedback agreed for a section (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    pub nack: bool,
    pub picture_loss: bool,
    pub full_intra_request: bool,
    pub transport_wide: bool,
    pub estimated_maximum_bitrate: bool,
}

/// The SCTP association for data channels (RFC 8841).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlan {
    pub remote_port: u16,
    /// Largest message the client takes, in bytes.
    pub max_message_size: u32,
}
