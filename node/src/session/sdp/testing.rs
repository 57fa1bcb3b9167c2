//! What the tests share: a client that offers, one that answers, and the rules that every
//! description of ours has to keep.

use crate::session::ice::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rtc::sdp::SessionDescription;

use super::*;

pub(super) fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

pub(super) fn credentials(number: u32) -> Credentials {
    Credentials {
        ufrag: format!("node{number}"),
        password: format!("{number:024}"),
    }
}

pub(super) fn transport() -> LocalTransport {
    LocalTransport {
        credentials: credentials(0),
        fingerprint: [0x5a; 32],
        candidates: vec![
            "192.0.2.1:7000".parse().unwrap(),
            "[2001:db8::1]:7000".parse().unwrap(),
        ],
        tcp_candidates: ["192.0.2.1:7001".parse().unwrap()].into(),
        max_message_size: 262_144,
    }
}

pub(super) fn publication(name: &str, kind: MediaKind, codec: Option<&str>) -> Publication {
    Publication {
        track: format!("TR_{name}").parse().unwrap(),
        client_track: name.to_owned(),
        kind,
        codecs: codec.and_then(codec_of_mime_type).into_iter().collect(),
        rids: Vec::new(),
        stereo: false,
        dtx: false,
        red: false,
    }
}

pub(super) fn outgoing(name: &str, mime_type: &str, fmtp: &str) -> Outgoing {
    let track = format!("TR_{name}");
    Outgoing {
        msid: Msid::new("PA_bob", &track).unwrap(),
        track: track.parse().unwrap(),
        format: Format::parse(mime_type, fmtp).unwrap(),
        red: true,
    }
}

/// The answer to an offer that restarts nothing.
pub(super) fn answer(answerer: &mut Answerer, offer: &str) -> Answer {
    let answer = answerer
        .handle_offer(offer, || panic!("ICE is not restarted"))
        .unwrap();
    check_answer(offer, &answer.sdp);
    answer
}

/// m-sections of a description, without what precedes them.
pub(super) fn sections(sdp: &str) -> Vec<&str> {
    let starts: Vec<usize> = sdp
        .match_indices("\r\nm=")
        .map(|(index, _)| index + 2)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([sdp.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &sdp[*start..end])
        .collect()
}

pub(super) fn lines<'a>(section: &'a str, prefix: &str) -> Vec<&'a str> {
    section
        .lines()
        .filter_map(|line| line.strip_prefix(prefix))
        .collect()
}

pub(super) fn direction(section: &str) -> &'static str {
    let is = |name: &&str| {
        section
            .lines()
            .any(|line| line.strip_prefix("a=") == Some(name))
    };
    ["sendrecv", "sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(is)
        .unwrap_or("sendrecv")
}

pub(super) fn port(section: &str) -> &str {
    section.split(' ').nth(1).unwrap()
}

/// Rules for any answer to any offer (RFC 3264, RFC 8829 section 5.3, RFC 8843).
pub(super) fn check_answer(offer: &str, answer: &str) {
    let offer = offer.replace("\r\n", "\n").replace('\n', "\r\n");
    let parsed = SessionDescription::unmarshal(&mut Cursor::new(answer)).unwrap();
    assert_eq!(parsed.marshal(), answer, "is well-formed");
    let (offered, answered) = (sections(&offer), sections(answer));
    assert_eq!(offered.len(), answered.len());

    let bundle: BTreeSet<&str> = lines(answer, "a=group:BUNDLE")
        .first()
        .map_or("", |mids| mids)
        .split_whitespace()
        .collect();
    let mut live = BTreeSet::new();
    for (offered, answered) in offered.iter().zip(&answered) {
        assert_eq!(
            offered.split(' ').next(),
            answered.split(' ').next(),
            "the kind of media"
        );
        assert_eq!(
            lines(offered, "a=mid:").last(),
            lines(answered, "a=mid:").last()
        );
        if port(answered) == "0" {
            continue;
        }
        assert!(
            port(offered) != "0" || offered.contains("a=bundle-only"),
            "stays rejected"
        );
        live.extend(lines(answered, "a=mid:"));
        check_section(offered, answered);
    }
    assert_eq!(bundle, live, "what lives is bundled");
    let candidates = answered
        .iter()
        .filter(|section| section.contains("a=candidate:"))
        .count();
    assert_eq!(
        candidates,
        usize::from(!live.is_empty()),
        "candidates are given once"
    );
}

fn check_section(offered: &str, answered: &str) {
    for line in [
        "a=setup:passive",
        "a=ice-ufrag:node",
        "a=fingerprint:sha-256 5A:",
    ] {
        assert!(answered.contains(line), "{line} in {answered}");
    }
    if answered.starts_with("m=application") {
        return;
    }
    assert!(answered.contains("a=rtcp-mux\r\n"));
    let sends = |direction: &str| direction.starts_with("send");
    let receives = |direction: &str| matches!(direction, "sendrecv" | "recvonly");
    let (theirs, ours) = (direction(offered), direction(answered));
    assert!(!sends(ours) || receives(theirs), "{ours} answers {theirs}");
    assert!(!receives(ours) || sends(theirs), "{ours} answers {theirs}");
    assert_eq!(sends(ours), answered.contains("a=msid:"));
    assert_eq!(sends(ours), answered.contains("a=ssrc:"));

    fn numbers(section: &str) -> BTreeSet<&str> {
        section
            .lines()
            .next()
            .unwrap_or("")
            .split(' ')
            .skip(3)
            .collect()
    }
    assert!(
        numbers(answered).is_subset(&numbers(offered)),
        "only offered payload types"
    );
    let maps = |section: &str| -> BTreeSet<String> {
        let lines = lines(section, "a=rtpmap:").into_iter();
        lines.map(|line| line.trim().to_ascii_lowercase()).collect()
    };
    assert!(
        maps(answered).is_subset(&maps(offered)),
        "payload types keep their meaning"
    );
    let plain = |line: &str| {
        let mut words = line.split(' ');
        let id = words
            .next()
            .unwrap_or("")
            .split('/')
            .next()
            .unwrap_or("")
            .to_owned();
        (id, words.next().unwrap_or("").to_owned())
    };
    let extensions = |section| lines(section, "a=extmap:").into_iter().map(plain).collect();
    let (answered_extensions, offered_extensions): (BTreeSet<_>, BTreeSet<_>) =
        (extensions(answered), extensions(offered));
    assert!(
        answered_extensions.is_subset(&offered_extensions),
        "only offered extensions"
    );
}

/// A client that makes every offer, the way libwebrtc words them.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) sections: Vec<ClientSection>,
    pub(super) ufrag: u32,
}

#[derive(Debug, Clone)]
pub(super) struct ClientSection {
    pub(super) mid: String,
    pub(super) kind: MediaKind,
    pub(super) direction: &'static str,
    pub(super) track: Option<String>,
    /// What it was last told that it is sent, by the msid.
    pub(super) carries: Option<String>,
}

impl Client {
    pub(super) fn add(&mut self, kind: MediaKind, direction: &'static str, track: Option<&str>) {
        let mid = self.sections.len().to_string();
        let track = track.map(str::to_owned);
        self.sections.push(ClientSection {
            mid,
            kind,
            direction,
            track,
            carries: None,
        });
    }

    pub(super) fn offer(&self) -> String {
        let mids: Vec<&str> = self
            .sections
            .iter()
            .map(|section| section.mid.as_str())
            .collect();
        let mut text = format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {} data\r\n",
            mids.join(" ")
        );
        let transport = format!(
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:user{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\n\
             a=setup:actpass\r\n",
            self.ufrag,
            "p".repeat(24),
            ["0A"; 32].join(":")
        );
        for section in &self.sections {
            let codecs = match section.kind {
                MediaKind::Audio => AUDIO,
                MediaKind::Video => VIDEO,
            };
            let (m_line, rest) = codecs.split_once('\n').unwrap();
            text.push_str(&format!("{m_line}\r\n{transport}a=mid:{}\r\n", section.mid));
            text.push_str(&format!("a={}\r\na=rtcp-mux\r\n", section.direction));
            if let Some(track) = &section.track {
                text.push_str(&format!("a=msid:- {track}\r\n"));
            }
            text.push_str(&rest.replace('\n', "\r\n"));
        }
        text.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n");
        text.push_str(&format!("{transport}a=mid:data\r\na=sctp-port:5000\r\n"));
        text
    }

    /// Takes an answer the way a browser does: a section that changes from one track to another
    /// without having been inactive keeps the old one, unnoticed.
    pub(super) fn handle_answer(&mut self, answer: &str) {
        for (section, answered) in self.sections.iter_mut().zip(sections(answer)) {
            let track = lines(answered, "a=msid:PA_bob ")
                .first()
                .map(|track| (*track).to_owned());
            if track.is_some() && section.carries.is_some() {
                assert_eq!(
                    track, section.carries,
                    "mid {} changes hands unseen",
                    section.mid
                );
            }
            section.carries = track;
        }
    }

    /// mid to track, as the answers said.
    pub(super) fn carried(&self) -> BTreeMap<String, String> {
        let entry = |section: &ClientSection| Some((section.mid.clone(), section.carries.clone()?));
        self.sections.iter().filter_map(entry).collect()
    }
}

const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:0 PCMU/8000
";

const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 108 109 114 45 46
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 VP9/90000
a=rtcp-fb:98 transport-cc
a=rtcp-fb:98 nack
a=fmtp:98 profile-id=0
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtpmap:108 H264/90000
a=rtcp-fb:108 transport-cc
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:109 rtx/90000
a=fmtp:109 apt=108
a=rtpmap:114 H264/90000
a=rtcp-fb:114 transport-cc
a=fmtp:114 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
a=rtpmap:45 AV1/90000
a=rtcp-fb:45 transport-cc
a=rtpmap:46 rtx/90000
a=fmtp:46 apt=45
";

/// Answers an offer of ours as a browser that accepts everything would; `ufrag` tells ICE sessions
/// apart.
pub(super) fn accept(offer: &str, ufrag: u32) -> String {
    let kept = |line: &&str| {
        let dropped = ["a=ssrc", "a=msid:", "a=candidate", "a=end-of", "a=ice-lite"];
        !dropped.iter().any(|prefix| line.starts_with(prefix))
    };
    let answered = |line: &str| match line {
        "a=setup:actpass" => "a=setup:active\r\n".to_owned(),
        "a=sendonly" => "a=recvonly\r\n".to_owned(),
        _ if line.starts_with("a=ice-ufrag:") => format!("a=ice-ufrag:user{ufrag}\r\n"),
        _ => format!("{line}\r\n"),
    };
    offer.lines().filter(kept).map(answered).collect()
}

/// The same with the section of this mid rejected.
pub(super) fn reject(answer: &str, mid: &str) -> String {
    let mut text = answer.split("m=").next().unwrap().to_owned();
    text = text
        .replace(&format!(" {mid}\r\n"), "\r\n")
        .replace(&format!(" {mid} "), " ");
    for section in sections(answer) {
        let rejected = section.contains(&format!("a=mid:{mid}\r\n"));
        let port = if rejected { " 0 " } else { " 9 " };
        text.push_str(&section.replacen(" 9 ", port, 1));
    }
    text
}
