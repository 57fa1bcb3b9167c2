//! Reads the server's descriptions.

use std::net::{IpAddr, SocketAddr};

use super::{Direction, Extensions, Format, Media, Numbered};
use crate::transport::RemoteEnd;
use crate::transport::ice::Credentials;
use crate::user::Protocol;

#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) sections: Vec<Section>,
    end: End,
}

/// The transport's lines, wherever they stand: everything is bundled.
#[derive(Debug, Clone, Default)]
struct End {
    ufrag: String,
    password: String,
    fingerprint: String,
    candidates: Vec<(Protocol, SocketAddr)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) media: Media,
    pub(crate) mid: String,
    /// Port zero: not used, or no longer.
    pub(crate) rejected: bool,
    /// From the server's side.
    pub(crate) direction: Direction,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) extensions: Extensions,
    /// Of `a=msid`.
    pub(crate) track: Option<String>,
    pub(crate) ssrcs: Vec<u32>,
    /// Media and its retransmissions.
    pub(crate) repair: Option<(u32, u32)>,
    pub(crate) rids: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Codec {
    pub(crate) payload_type: u8,
    /// In lower case, as `vp8/90000`.
    pub(crate) name: String,
    pub(crate) fmtp: String,
    pub(crate) nack: bool,
    pub(crate) transport_cc: bool,
}

impl Description {
    pub(crate) fn parse(text: &str) -> Self {
        let mut description = Self {
            sections: Vec::new(),
            end: End::default(),
        };
        // Until a section says otherwise, the session's lines count for all.
        let mut direction = Direction {
            send: true,
            receive: true,
        };
        for line in text.lines() {
            if let Some(section) = line.strip_prefix("m=") {
                description
                    .sections
                    .extend(Section::begin(section, direction));
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else {
                continue;
            };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            if let Some(named) = named_direction(name) {
                match description.sections.last_mut() {
                    Some(section) => section.direction = named,
                    None => direction = named,
                }
            } else if !description.end.take(name, value)
                && let Some(section) = description.sections.last_mut()
            {
                section.take(name, value);
            }
        }
        description
    }

    /// None if the description says too little to connect.
    pub(crate) fn remote_end(&self, protocol: Protocol) -> Option<RemoteEnd> {
        let End {
            ufrag,
            password,
            fingerprint,
            candidates,
        } = self.end.clone();
        let is_data = |section: &Section| section.media == Media::Application && !section.rejected;
        let complete = !ufrag.is_empty() && !fingerprint.is_empty();
        complete.then(|| RemoteEnd {
            credentials: Credentials { ufrag, password },
            fingerprint,
            candidates: candidates
                .into_iter()
                .filter(|(it, _)| *it == protocol)
                .map(|(_, candidate)| candidate)
                .collect(),
            data: self.sections.iter().any(is_data),
        })
    }
}

fn named_direction(name: &str) -> Option<Direction> {
    let (send, receive) = match name {
        "sendrecv" => (true, true),
        "sendonly" => (true, false),
        "recvonly" => (false, true),
        "inactive" => (false, false),
        _ => return None,
    };
    Some(Direction { send, receive })
}

impl End {
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "ice-ufrag" => value.clone_into(&mut self.ufrag),
            "ice-pwd" => value.clone_into(&mut self.password),
            "fingerprint" => {
                if let Some(hash) = value.strip_prefix("sha-256 ") {
                    hash.clone_into(&mut self.fingerprint);
                }
            }
            "candidate" => self.candidates.extend(read_candidate(value)),
            _ => return false,
        }
        true
    }
}

/// A UDP candidate (RFC 8839 section 5.1), or a TCP one to connect to (RFC 6544 section 4.5); of names
/// nothing is known.
pub(crate) fn read_candidate(value: &str) -> Option<(Protocol, SocketAddr)> {
    let value = value.strip_prefix("candidate:").unwrap_or(value);
    let mut words = value.split_ascii_whitespace().skip(2);
    let protocol = match words.next()? {
        udp if udp.eq_ignore_ascii_case("udp") => Protocol::Udp,
        tcp if tcp.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
        _ => return None,
    };
    let ip: IpAddr = words.nth(1)?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    let is_passive = words.any(|word| word == "passive");
    let usable = protocol == Protocol::Udp || is_passive;
    usable.then(|| (protocol, SocketAddr::new(ip, port)))
}

impl Section {
    fn begin(line: &str, direction: Direction) -> Option<Self> {
        let mut words = line.split(' ');
        let media = match words.next()? {
            "audio" => Media::Audio,
            "video" => Media::Video,
            "application" => Media::Application,
            _ => return None,
        };
        let rejected = words.next()? == "0";
        let payload_types = words.skip(1).filter_map(|number| number.parse().ok());
        Some(Self {
            media,
            mid: String::new(),
            rejected,
            direction,
            codecs: payload_types
                .map(|payload_type| Codec {
                    payload_type,
                    ..Codec::default()
                })
                .collect(),
            extensions: Extensions::default(),
            track: None,
            ssrcs: Vec::new(),
            repair: None,
            rids: Vec::new(),
        })
    }

    /// What we can make something of, in the section's order.
    pub(crate) fn formats(&self) -> impl Iterator<Item = (Numbered, &Codec)> {
        self.codecs.iter().filter_map(|codec| {
            let mut ours = Format::all(self.media).iter();
            let format = ours.find(|it| it.name().eq_ignore_ascii_case(&codec.name))?;
            // Of H.264's modes we have the one with fragments (RFC 6184 section 6.3).
            if *format == Format::H264 && !codec.fmtp.contains("packetization-mode=1") {
                return None;
            }
            let numbered = Numbered {
                format: *format,
                payload_type: codec.payload_type,
                repair: self.repair_of(codec),
            };
            Some((numbered, codec))
        })
    }

    fn repair_of(&self, codec: &Codec) -> Option<u8> {
        let repairs = |it: &&Codec| {
            let apt = it
                .fmtp
                .split(';')
                .find_map(|field| field.trim().strip_prefix("apt="));
            it.name.starts_with("rtx/") && apt == Some(&codec.payload_type.to_string())
        };
        let repair = self.codecs.iter().find(repairs);
        repair.map(|it| it.payload_type)
    }

    fn take(&mut self, name: &str, value: &str) {
        let first = value.split(' ').next().unwrap_or_default();
        let rest = value.get(first.len()..).unwrap_or_default().trim();
        let number = first.parse::<u8>().ok();
        let codec = self
            .codecs
            .iter_mut()
            .find(|codec| Some(codec.payload_type) == number);
        match (name, codec) {
            ("mid", _) => value.clone_into(&mut self.mid),
            ("rtpmap", Some(codec)) => codec.name = rest.to_ascii_lowercase(),
            ("fmtp", Some(codec)) => rest.clone_into(&mut codec.fmtp),
            ("rtcp-fb", Some(codec)) => {
                codec.nack |= rest == "nack";
                codec.transport_cc |= rest == "transport-cc";
            }
            ("extmap", _) => {
                let id = first.split('/').next().and_then(|id| id.parse().ok());
                self.extensions.set(rest, id.unwrap_or(0));
            }
            ("msid", _) => self.track = rest.split(' ').next().map(str::to_owned),
            ("ssrc", _) => {
                let ssrc = first.parse().ok().filter(|ssrc| !self.ssrcs.contains(ssrc));
                self.ssrcs.extend(ssrc);
            }
            ("ssrc-group", _) if first == "FID" => {
                let mut ssrcs = rest.split(' ').map(str::parse);
                if let (Some(Ok(media)), Some(Ok(repair))) = (ssrcs.next(), ssrcs.next()) {
                    self.repair = Some((media, repair));
                }
            }
            ("rid", _) => self.rids.push(first.to_owned()),
            _ => {}
        }
    }
}
