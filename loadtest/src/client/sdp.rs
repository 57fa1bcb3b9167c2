//! Session descriptions (RFC 8866, RFC 8829) as far as a simulated participant reads and writes
//! them: Opus, VP8 with retransmission, simulcast by rid, data channels.
//!
//! The server decides what is possible; what a description has beyond that is passed over.

mod read;
mod write;

pub(super) use read::{Description, Section, read_candidate};
pub(super) use write::{Local, Outline, write};

/// Payload types of our own offers.
pub(super) const OPUS: u8 = 111;
pub(super) const VP8: u8 = 96;
pub(super) const VP8_RTX: u8 = 97;

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
}

impl Extensions {
    /// Those of our own offers.
    pub(super) const OURS: Self = Self {
        audio_level: 1,
        transport_cc: 3,
        mid: 4,
        rid: 10,
        repaired_rid: 11,
    };

    fn lines(self, media: Media) -> impl Iterator<Item = (u8, &'static str)> {
        let video = media == Media::Video;
        let all = [
            (self.audio_level, AUDIO_LEVEL, !video),
            (self.transport_cc, TRANSPORT_CC, true),
            (self.mid, MID, true),
            (self.rid, RID, video),
            (self.repaired_rid, REPAIRED_RID, video),
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

#[cfg(test)]
mod tests;
