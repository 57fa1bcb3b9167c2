//! One m-section of a peer's description, typed. Attributes that mean nothing to us are passed over.

use super::codecs::{CodecLines, OfferedCodec};
use super::direction::Direction;
use super::error::SdpError;
use super::extensions::Mapping;
use super::simulcast::SimulcastLines;
use super::text::Line;
use super::track::MediaKind;
use super::transport::TransportLines;

/// RFC 8866 gives mids no length. This one fits its header extension with room to spare.
const MAX_MID_BYTES: usize = 64;

/// Header extensions that are looked at.
pub(super) const MAX_MAPPINGS: usize = 64;

/// RFC 8841 section 6.1.
const DEFAULT_MAX_MESSAGE_SIZE: u32 = 65_536;
const DEFAULT_SCTP_PORT: u16 = 5000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Audio,
    Video,
    /// SCTP, for data channels.
    Application,
    /// To be answered with port zero.
    Unserved,
}

#[derive(Debug)]
pub(super) struct RemoteSection<'a> {
    pub(super) index: usize,
    pub(super) media: Media,
    pub(super) mid: &'a str,
    /// The m-line, to be repeated in an answer.
    pub(super) name: &'a str,
    pub(super) protocol: &'a str,
    pub(super) payload_types: &'a str,
    /// Rejected, or ended for good: port zero, and not because of `a=bundle-only`.
    pub(super) stopped: bool,
    pub(super) direction: Direction,
    pub(super) transport: TransportLines<'a>,
    pub(super) rtcp_mux: bool,
    pub(super) reduced_size: bool,
    pub(super) allow_mixed: bool,
    pub(super) codecs: Vec<OfferedCodec<'a>>,
    pub(super) mappings: Vec<Mapping>,
    pub(super) simulcast: SimulcastLines<'a>,
    /// The client's id of the track.
    pub(super) track: Option<&'a str>,
    pub(super) ssrc: Option<u32>,
    pub(super) repair_ssrc: Option<u32>,
    pub(super) sctp_port: u16,
    pub(super) max_message_size: u32,
}

impl RemoteSection<'_> {
    /// Of an RTP section.
    pub(super) fn kind(&self) -> Option<MediaKind> {
        match self.media {
            Media::Audio => Some(MediaKind::Audio),
            Media::Video => Some(MediaKind::Video),
            Media::Application | Media::Unserved => None,
        }
    }

    pub(super) fn refuse(&self, expected: &'static str) -> SdpError {
        SdpError::Section {
            index: self.index,
            mid: self.mid.to_owned(),
            expected,
        }
    }
}

/// Takes a section's lines one by one.
#[derive(Debug)]
pub(super) struct SectionLines<'a> {
    section: RemoteSection<'a>,
    port: u16,
    bundle_only: bool,
    codecs: CodecLines<'a>,
}

impl<'a> SectionLines<'a> {
    /// Begins with an m-line: `<media> <port>[/<ports>] <protocol> <formats>`. `direction` and
    /// `mappings` are those of the session.
    pub(super) fn begin(
        index: usize,
        line: Line<'a>,
        direction: Direction,
        mappings: &[Mapping],
    ) -> Result<Self, SdpError> {
        let mut words = line.value.splitn(4, ' ');
        let fields = (words.next(), words.next(), words.next(), words.next());
        let (Some(name), Some(port), Some(protocol), Some(payload_types)) = fields else {
            return Err(SdpError::Line {
                line: line.number,
                expected: "m=<media> <port> <protocol> <formats>",
            });
        };
        let Some(port) = port.split('/').next().and_then(|port| port.parse().ok()) else {
            return Err(SdpError::Line {
                line: line.number,
                expected: "a port from 0 to 65535",
            });
        };
        let media = match (name, protocol) {
            ("audio", _) if protocol.ends_with("RTP/SAVPF") => Media::Audio,
            ("video", _) if protocol.ends_with("RTP/SAVPF") => Media::Video,
            ("application", "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP")
                if payload_types == "webrtc-datachannel" =>
            {
                Media::Application
            }
            _ => Media::Unserved,
        };
        let section = RemoteSection {
            index,
            media,
            mid: "",
            name,
            protocol,
            payload_types,
            stopped: false,
            direction,
            transport: TransportLines::default(),
            rtcp_mux: false,
            reduced_size: false,
            allow_mixed: false,
            codecs: Vec::new(),
            mappings: mappings.to_vec(),
            simulcast: SimulcastLines::default(),
            track: None,
            ssrc: None,
            repair_ssrc: None,
            sctp_port: DEFAULT_SCTP_PORT,
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
        };
        Ok(Self {
            section,
            port,
            bundle_only: false,
            codecs: CodecLines::default(),
        })
    }

    pub(super) fn attribute(&mut self, name: &str, value: &'a str) {
        let section = &mut self.section;
        match name {
            // The ones there are most of come first.
            "rtcp-fb" => self.codecs.feedback(value),
            "rtpmap" => self.codecs.rtpmap(value),
            "fmtp" => self.codecs.fmtp(value),
            "extmap" if section.mappings.len() < MAX_MAPPINGS => {
                section.mappings.extend(Mapping::parse(value))
            }
            "mid" => section.mid = value,
            "msid" => section.track = Some(track_of_msid(value)),
            "ssrc" => self.ssrc(value),
            "ssrc-group" => self.ssrc_group(value),
            "rid" => section.simulcast.rid(value),
            "simulcast" => section.simulcast.simulcast(value),
            "rtcp-mux" | "rtcp-mux-only" => section.rtcp_mux = true,
            "rtcp-rsize" => section.reduced_size = true,
            "extmap-allow-mixed" => section.allow_mixed = true,
            "bundle-only" => self.bundle_only = true,
            "sctp-port" => section.sctp_port = value.parse().unwrap_or(DEFAULT_SCTP_PORT),
            "max-message-size" => section.max_message_size = max_message_size(value),
            _ => {
                if !section.transport.attribute(name, value)
                    && let Some(direction) = Direction::parse(name)
                {
                    section.direction = direction;
                }
            }
        }
    }

    /// `<ssrc> <attribute>[:<value>]`. The first is the media's unless a group says otherwise.
    fn ssrc(&mut self, value: &'a str) {
        let Some((ssrc, attribute)) = value.split_once(' ') else {
            return;
        };
        if self.section.ssrc.is_none() {
            self.section.ssrc = ssrc.parse().ok();
        }
        if let Some(msid) = attribute.strip_prefix("msid:") {
            self.section.track.get_or_insert(track_of_msid(msid));
        }
    }

    /// `FID <media> <retransmissions>` (RFC 5576 section 4.2).
    fn ssrc_group(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        let is_first = words.next() == Some("FID") && self.section.repair_ssrc.is_none();
        let mut ssrc = || words.next().and_then(|ssrc| ssrc.parse().ok());
        if is_first && let (Some(ssrc), Some(repair_ssrc)) = (ssrc(), ssrc()) {
            self.section.ssrc = Some(ssrc);
            self.section.repair_ssrc = Some(repair_ssrc);
        }
    }

    pub(super) fn finish(mut self) -> Result<RemoteSection<'a>, SdpError> {
        let section = &mut self.section;
        section.stopped = self.port == 0 && !self.bundle_only;
        section.codecs = self.codecs.resolve(section.payload_types, section.name);
        let mid = section.mid;
        if mid.is_empty()
            || mid.len() > MAX_MID_BYTES
            || !mid.bytes().all(|byte| byte.is_ascii_graphic())
        {
            section.mid = "";
            if !section.stopped {
                return Err(section.refuse("a=mid of 1 to 64 visible characters"));
            }
        }
        Ok(self.section)
    }
}

/// `<stream> <track>`; some clients write the track alone.
fn track_of_msid(value: &str) -> &str {
    value
        .split_once(' ')
        .map_or(value, |(_, track)| track.trim())
}

/// 0 means that there is no limit.
fn max_message_size(value: &str) -> u32 {
    match value.parse::<u64>() {
        Ok(0) => u32::MAX,
        Ok(size) => u32::try_from(size).unwrap_or(u32::MAX),
        Err(_) => DEFAULT_MAX_MESSAGE_SIZE,
    }
}
