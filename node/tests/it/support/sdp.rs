//! A client's descriptions, as short as a browser would understand them, and what is read of the node's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Payload types of [`offer`].
pub(crate) const VP8: u8 = 96;
pub(crate) const VP8_REPAIR: u8 = 97;
pub(crate) const OPUS: u8 = 111;
pub(crate) const RED: u8 = 63;

/// Ids of [`offer`]'s header extensions.
pub(crate) mod extension {
    pub(crate) const AUDIO_LEVEL: u8 = 1;
    pub(crate) const ABSOLUTE_SEND_TIME: u8 = 2;
    /// The node's offers have the same.
    pub(crate) const TRANSPORT_SEQUENCE: u8 = 3;
    pub(crate) const MID: u8 = 4;
    pub(crate) const RID: u8 = 10;
    pub(crate) const REPAIRED_RID: u8 = 11;
}

/// Our end of a transport.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) ufrag: String,
    pub(crate) password: String,
    /// As in `a=fingerprint`, without the algorithm.
    pub(crate) fingerprint: String,
    pub(crate) reports: Reports,
}

/// Reports on bandwidth that a client negotiates, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reports {
    None,
    /// What the receiver takes the way to carry (REMB).
    Estimates,
    /// Which packets arrived when, by transport-wide numbers.
    Arrivals,
}

impl Reports {
    /// The `a=rtcp-fb` of each.
    const NAMES: [(Self, &str); 2] = [
        (Self::Estimates, "goog-remb"),
        (Self::Arrivals, "transport-cc"),
    ];

    fn accepts(self, feedback: &str) -> bool {
        let known = Self::NAMES
            .iter()
            .find(|(_, name)| feedback.ends_with(name));
        known.is_none_or(|(reports, _)| *reports == self)
    }

    /// What an offer of video says of them.
    fn lines(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Estimates => {
                "a=rtcp-fb:96 goog-remb\r\n\
                 a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n"
            }
            Self::Arrivals => {
                "a=rtcp-fb:96 transport-cc\r\n\
                 a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n"
            }
        }
    }
}

/// The node's end of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) ufrag: String,
    pub(crate) password: String,
    /// Of UDP.
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) tcp_candidates: Vec<SocketAddr>,
}

/// An audio or video section of a client's offer; its mid is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Section {
    Camera {
        client_track: String,
        /// In the order of the offer; empty without simulcast.
        rids: Vec<String>,
    },
    Microphone {
        client_track: String,
        /// Redundant audio is preferred.
        red: bool,
    },
    Data,
}

impl Section {
    pub(crate) fn camera(client_track: &str, rids: &[&str]) -> Self {
        Self::Camera {
            client_track: client_track.to_owned(),
            rids: rids.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn microphone(client_track: &str) -> Self {
        Self::Microphone {
            client_track: client_track.to_owned(),
            red: false,
        }
    }

    pub(crate) fn redundant_microphone(client_track: &str) -> Self {
        Self::Microphone {
            client_track: client_track.to_owned(),
            red: true,
        }
    }

    /// What a section begins with.
    fn head(&self) -> &'static str {
        match self {
            Self::Camera { .. } => VIDEO,
            Self::Microphone { red: false, .. } => AUDIO,
            Self::Microphone { red: true, .. } => REDUNDANT_AUDIO,
            Self::Data => DATA,
        }
    }
}

/// A client's offer.
pub(crate) fn offer(local: &Local, sections: &[Section]) -> String {
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
        mids.join(" ")
    );
    for (mid, section) in sections.iter().enumerate() {
        sdp += section.head();
        write_transport(local, "actpass", &mut sdp);
        write!(sdp, "a=mid:{mid}\r\n").unwrap();
        if *section != Section::Data {
            sdp += "a=rtcp-mux\r\na=rtcp-rsize\r\n";
        }
        match section {
            Section::Camera { client_track, rids } => {
                write!(sdp, "a=sendonly\r\na=msid:- {client_track}\r\n").unwrap();
                sdp += local.reports.lines();
                for rid in rids {
                    write!(sdp, "a=rid:{rid} send\r\n").unwrap();
                }
                if !rids.is_empty() {
                    write!(sdp, "a=simulcast:send {}\r\n", rids.join(";")).unwrap();
                }
            }
            Section::Microphone { client_track, .. } => {
                write!(sdp, "a=sendonly\r\na=msid:- {client_track}\r\n").unwrap();
            }
            Section::Data => {}
        }
    }
    sdp
}

const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
    a=sctp-port:5000\r\na=max-message-size:262144\r\n";

const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";

const REDUNDANT_AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
    a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";

const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
    a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n";

/// Accepts all that the node offers but reports on bandwidth that the client does not negotiate: a node must
/// not wait for them.
pub(crate) fn answer(local: &Local, offer: &str) -> String {
    let mut sdp = String::new();
    for line in offer.lines() {
        let (name, _) = line.split_once(':').unwrap_or((line, ""));
        match name {
            // What is said of the node's end is not said of ours.
            "a=ice-lite"
            | "a=ice-ufrag"
            | "a=ice-pwd"
            | "a=fingerprint"
            | "a=candidate"
            | "a=end-of-candidates"
            | "a=msid"
            | "a=ssrc"
            | "a=ssrc-group" => {}
            "a=rtcp-fb" if !local.reports.accepts(line) => {}
            "a=sendonly" => sdp += "a=recvonly\r\n",
            "a=setup" => write_transport(local, "active", &mut sdp),
            _ => write!(sdp, "{line}\r\n").unwrap(),
        }
    }
    sdp
}

fn write_transport(local: &Local, setup: &str, sdp: &mut String) {
    let Local {
        ufrag,
        password,
        fingerprint,
        ..
    } = local;
    write!(
        sdp,
        "a=setup:{setup}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\n"
    )
    .unwrap();
}

/// The node's end, of an offer or answer of its.
pub(crate) fn remote(sdp: &str) -> Remote {
    let value = |name: &str| {
        let prefix = format!("a={name}:");
        let line = sdp.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {name} in {sdp}"))
            .to_owned()
    };
    let candidates = |protocol: &str| -> Vec<SocketAddr> {
        let candidate = |line: &str| {
            let mut words = line.strip_prefix("a=candidate:")?.split(' ').skip(2);
            let fits = words.next()? == protocol;
            let mut words = words.skip(1);
            let (ip, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            fits.then(|| SocketAddr::new(ip, port))
        };
        sdp.lines().filter_map(candidate).collect()
    };
    Remote {
        ufrag: value("ice-ufrag"),
        password: value("ice-pwd"),
        candidates: candidates("udp"),
        tcp_candidates: candidates("tcp"),
    }
}

/// A stream that the node sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) ssrc: u32,
    pub(crate) repair_ssrc: Option<u32>,
}

/// The streams of a description of the node's, by mid.
pub(crate) fn streams(sdp: &str) -> BTreeMap<String, Sent> {
    let mut streams = BTreeMap::new();
    for section in sdp.split("\r\nm=").skip(1) {
        let value = |prefix: &str| section.lines().find_map(|line| line.strip_prefix(prefix));
        let number = |text: &str| text.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
        let group = value("a=ssrc-group:FID ").and_then(|group| group.split_once(' '));
        let (ssrc, repair_ssrc) = match group {
            Some((ssrc, repair)) => (number(ssrc), number(repair)),
            None => (value("a=ssrc:").and_then(number), None),
        };
        if let (Some(mid), Some(ssrc)) = (value("a=mid:"), ssrc) {
            streams.insert(mid.to_owned(), Sent { ssrc, repair_ssrc });
        }
    }
    streams
}
