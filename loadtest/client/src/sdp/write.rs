//! Writes our offers and answers.

use std::fmt::Write as _;

use super::{Direction, Extensions, Format, Media, Numbered};
use crate::transport::ice::Credentials;

/// What is the same in all sections.
pub(crate) struct Local<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) fingerprint: &'a str,
    /// An answer takes the active role; an offer leaves it to the server.
    pub(crate) is_answer: bool,
    /// Of this session's descriptions, counted up.
    pub(crate) version: u64,
}

/// One section.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) media: Media,
    pub(crate) mid: String,
    pub(crate) rejected: bool,
    pub(crate) direction: Direction,
    pub(crate) formats: Vec<Numbered>,
    pub(crate) transport_cc: bool,
    pub(crate) extensions: Extensions,
    /// Of what we send.
    pub(crate) track: Option<String>,
    /// From the lowest layer up; empty without simulcast.
    pub(crate) rids: Vec<String>,
    /// Named where there are no rids: media and its retransmissions.
    pub(crate) ssrcs: Option<(u32, Option<u32>)>,
}

impl Outline {
    /// A section of an offer of ours, with all formats that there are.
    pub(crate) fn offer(media: Media, mid: String, direction: Direction) -> Self {
        let formats = Format::all(media).iter();
        Self {
            media,
            mid,
            rejected: false,
            direction,
            formats: formats.map(|format| format.numbered()).collect(),
            transport_cc: true,
            extensions: Extensions::OURS,
            track: None,
            rids: Vec::new(),
            ssrcs: None,
        }
    }
}

pub(crate) fn write(local: &Local<'_>, sections: &[Outline]) -> String {
    let mut out = String::with_capacity(512 + 800 * sections.len());
    let mut line = |text: std::fmt::Arguments<'_>| {
        write!(out, "{text}\r\n").expect("writing to a String does not fail");
    };
    line(format_args!("v=0"));
    line(format_args!(
        "o=- 4611686018427387904 {} IN IP4 127.0.0.1",
        local.version
    ));
    line(format_args!("s=-"));
    line(format_args!("t=0 0"));
    let live = sections.iter().filter(|section| !section.rejected);
    let mids: Vec<&str> = live.map(|section| section.mid.as_str()).collect();
    line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    line(format_args!("a=extmap-allow-mixed"));
    line(format_args!("a=msid-semantic: WMS"));
    for section in sections {
        write_section(local, section, &mut line);
    }
    out
}

fn write_section(
    local: &Local<'_>,
    section: &Outline,
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let media = section.media.name();
    let port = if section.rejected { 0 } else { 9 };
    if section.media == Media::Application {
        line(format_args!(
            "m={media} {port} UDP/DTLS/SCTP webrtc-datachannel"
        ));
    } else {
        let numbers = section.formats.iter().fold(String::new(), |mut all, it| {
            for number in [Some(it.payload_type), it.repair].into_iter().flatten() {
                write!(all, " {number}").expect("writing to a String does not fail");
            }
            all
        });
        // A rejected section names one all the same (RFC 8866 section 5.14).
        let numbers = if numbers.is_empty() { " 0" } else { &numbers };
        line(format_args!("m={media} {port} UDP/TLS/RTP/SAVPF{numbers}"));
    }
    line(format_args!("c=IN IP4 0.0.0.0"));
    line(format_args!("a=mid:{}", section.mid));
    if section.rejected {
        return line(format_args!("a=inactive"));
    }
    line(format_args!("a=ice-ufrag:{}", local.credentials.ufrag));
    line(format_args!("a=ice-pwd:{}", local.credentials.password));
    line(format_args!("a=ice-options:trickle"));
    line(format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    let setup = if local.is_answer { "active" } else { "actpass" };
    line(format_args!("a=setup:{setup}"));
    if section.media == Media::Application {
        line(format_args!("a=sctp-port:5000"));
        return line(format_args!("a=max-message-size:262144"));
    }
    for (id, uri) in section.extensions.lines(section.media) {
        line(format_args!("a=extmap:{id} {uri}"));
    }
    line(format_args!("a={}", section.direction.name()));
    if let Some(track) = &section.track {
        line(format_args!("a=msid:- {track}"));
    }
    line(format_args!("a=rtcp-mux"));
    line(format_args!("a=rtcp-rsize"));
    for numbered in &section.formats {
        write_format(*numbered, section.transport_cc, line);
    }
    for rid in &section.rids {
        line(format_args!("a=rid:{rid} send"));
    }
    if !section.rids.is_empty() {
        line(format_args!("a=simulcast:send {}", section.rids.join(";")));
    }
    if let Some((ssrc, repair)) = section.ssrcs {
        if let Some(repair) = repair {
            line(format_args!("a=ssrc-group:FID {ssrc} {repair}"));
        }
        for ssrc in [Some(ssrc), repair].into_iter().flatten() {
            line(format_args!("a=ssrc:{ssrc} cname:loadtest"));
        }
    }
}

fn write_format(
    numbered: Numbered,
    transport_cc: bool,
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let Numbered {
        format,
        payload_type: number,
        repair,
    } = numbered;
    line(format_args!("a=rtpmap:{number} {}", format.name()));
    if transport_cc {
        line(format_args!("a=rtcp-fb:{number} transport-cc"));
    }
    let parameters = match format {
        Format::Opus => Some("minptime=10;useinbandfec=1"),
        Format::Vp9 => Some("profile-id=0"),
        Format::Av1 => Some("level-idx=5;profile=0;tier=0"),
        // Constrained baseline, which everybody has.
        Format::H264 => {
            Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        Format::Vp8 => None,
    };
    if let Some(parameters) = parameters {
        line(format_args!("a=fmtp:{number} {parameters}"));
    }
    if format.media() != Media::Video {
        return;
    }
    for feedback in ["ccm fir", "nack", "nack pli"] {
        line(format_args!("a=rtcp-fb:{number} {feedback}"));
    }
    if let Some(repair) = repair {
        line(format_args!("a=rtpmap:{repair} rtx/90000"));
        line(format_args!("a=fmtp:{repair} apt={number}"));
    }
}
