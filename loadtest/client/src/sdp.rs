//! Session descriptions (RFC 8866, RFC 8829) as far as a simulated participant reads and writes
//! them: Opus, video with retransmission, simulcast by rid, data channels.
//!
//! The server decides what is possible; what a description has beyond that is passed over.

mod read;
mod write;

pub(super) use read::{Description, Section, read_candidate};
pub(super) use write::{Local, Outline, write};

/// What media is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Opus,
    Vp8,
    Vp9,
    H264,
    Av1,
}

impl Format {
    /// What can be received, in the order of offers.
    fn all(media: Media) -> &'static [Self] {
        match media {
            Media::Audio => &[Self::Opus],
            Media::Video => &[Self::Vp8, Self::Vp9, Self::H264, Self::Av1],
            Media::Application => &[],
        }
    }

    pub(super) fn media(self) -> Media {
        match self {
            Self::Opus => Media::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => Media::Video,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus/48000/2",
            Self::Vp8 => "VP8/90000",
            Self::Vp9 => "VP9/90000",
            Self::H264 => "H264/90000",
            Self::Av1 => "AV1/90000",
        }
    }

    /// Under the payload types of our own offers.
    pub(super) fn numbered(self) -> Numbered {
        let payload_type = match self {
            Self::Opus => 111,
            Self::Vp8 => 96,
            Self::Vp9 => 98,
            Self::H264 => 108,
            Self::Av1 => 45,
        };
        let repair = (self.media() == Media::Video).then_some(payload_type + 1);
        Numbered {
            format: self,
            payload_type,
            repair,
        }
    }
}

/// A format of a section, with its payload types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) format: Format,
    pub(super) payload_type: u8,
    pub(super) repair: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Media {
    Audio,
    Video,
    Application,
}

impl Media {
    fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
        }
    }
}

/// Which way media flows, from the writer's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) send: bool,
    pub(super) receive: bool,
}

impl Direction {
    fn name(self) -> &'static str {
        match (self.send, self.receive) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }
}

/// Ids of header extensions; 0 stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) audio_level: u8,
    pub(super) transport_cc: u8,
    pub(super) mid: u8,
    pub(super) rid: u8,
    pub(super) repaired_rid: u8,
    pub(super) dependency: u8,
}

impl Extensions {
    /// Those of our own offers.
    pub(super) const OURS: Self = Self {
        audio_level: 1,
        transport_cc: 3,
        mid: 4,
        rid: 10,
        repaired_rid: 11,
        dependency: 12,
    };

    fn lines(self, media: Media) -> impl Iterator<Item = (u8, &'static str)> {
        let video = media == Media::Video;
        let all = [
            (self.audio_level, AUDIO_LEVEL, !video),
            (self.transport_cc, TRANSPORT_CC, true),
            (self.mid, MID, true),
            (self.rid, RID, video),
            (self.repaired_rid, REPAIRED_RID, video),
            (self.dependency, DEPENDENCY, video),
        ];
        let fitting = all.into_iter().filter(|(id, _, fits)| *id > 0 && *fits);
        fitting.map(|(id, uri, _)| (id, uri))
    }

    fn set(&mut self, uri: &str, id: u8) {
        match uri {
            AUDIO_LEVEL => self.audio_level = id,
            TRANSPORT_CC => self.transport_cc = id,
            MID => self.mid = id,
            RID => self.rid = id,
            REPAIRED_RID => self.repaired_rid = id,
            DEPENDENCY => self.dependency = id,
            _ => {}
        }
    }
}

const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const DEPENDENCY: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

#[cfg(test)]
mod tests;
