//! A peer's description as a whole: read, and checked for what every exchange relies on.

use std::collections::BTreeSet;

use super::direction::Direction;
use super::error::SdpError;
use super::extensions::Mapping;
use super::section::{MAX_MAPPINGS, Media, RemoteSection, SectionLines};
use super::text::{self, Line};
use super::transport::{Setup, TransportLines};
use crate::session::plan::{DataPlan, RemoteTransport};

/// m-sections of one connection. Clients never use those of unpublished tracks again, so there are
/// more in a long session than there are ever tracks.
pub(super) const MAX_SECTIONS: usize = 512;

#[derive(Debug)]
pub(super) struct Description<'a> {
    pub(super) sections: Vec<RemoteSection<'a>>,
    /// `a=extmap-allow-mixed` of the session.
    pub(super) allow_mixed: bool,
    /// The mids that are bundled, the section whose transport all use first.
    bundle: Vec<&'a str>,
    /// Absent while no section lives.
    pub(super) transport: Option<RemoteTransport>,
}

/// Which of the two descriptions of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offer,
    Answer,
}

impl<'a> Description<'a> {
    pub(super) fn parse(text: &'a str, kind: Kind) -> Result<Self, SdpError> {
        let mut session = SessionLines::default();
        let mut sections = Vec::new();
        let mut current: Option<SectionLines<'a>> = None;
        for (index, line) in text::lines(text)?.enumerate() {
            let line = line?;
            if index == 0 && (line.kind, line.value) != (b'v', "0") {
                return Err(SdpError::Line {
                    line: line.number,
                    expected: "v=0",
                });
            }
            match (line.kind, &mut current) {
                (b'm', _) => {
                    sections.extend(current.take().map(SectionLines::finish).transpose()?);
                    if sections.len() == MAX_SECTIONS {
                        return Err(SdpError::Session {
                            expected: "at most 512 m-sections",
                        });
                    }
                    current = Some(session.begin(sections.len(), line)?);
                }
                (b'a', None) => session.attribute(line),
                (b'a', Some(section)) => {
                    let (name, value) = line.attribute();
                    section.attribute(name, value);
                }
                _ => {}
            }
        }
        sections.extend(current.map(SectionLines::finish).transpose()?);
        session.finish(sections, kind)
    }

    /// The first SCTP section; a connection has one association.
    pub(super) fn data(&self) -> Option<(&RemoteSection<'a>, DataPlan)> {
        let section = self
            .sections
            .iter()
            .find(|section| section.media == Media::Application && !section.stopped)?;
        let plan = DataPlan {
            remote_port: section.sctp_port,
            max_message_size: section.max_message_size,
        };
        Some((section, plan))
    }

    /// Mids in the order of the group.
    pub(super) fn bundle(&self) -> impl Iterator<Item = &'a str> {
        self.bundle.iter().copied()
    }
}

/// The section with the transport of all: the first one of the group that lives.
fn tagged<'s, 'a>(
    bundle: &[&str],
    sections: &'s [RemoteSection<'a>],
) -> Option<&'s RemoteSection<'a>> {
    bundle.iter().find_map(|mid| {
        sections
            .iter()
            .find(|section| !section.stopped && section.mid == *mid)
    })
}

/// What stands before the first m-line.
#[derive(Debug, Default)]
struct SessionLines<'a> {
    transport: TransportLines<'a>,
    bundle: Option<Vec<&'a str>>,
    direction: Option<Direction>,
    mappings: Vec<Mapping>,
    allow_mixed: bool,
    ice_lite: bool,
}

impl<'a> SessionLines<'a> {
    fn attribute(&mut self, line: Line<'a>) {
        let (name, value) = line.attribute();
        match name {
            "group" => {
                if let Some(mids) = value.strip_prefix("BUNDLE ") {
                    self.bundle.get_or_insert_with(|| distinct(mids));
                }
            }
            "extmap-allow-mixed" => self.allow_mixed = true,
            "extmap" if self.mappings.len() < MAX_MAPPINGS => {
                self.mappings.extend(Mapping::parse(value));
            }
            "ice-lite" => self.ice_lite = true,
            _ => {
                if !self.transport.attribute(name, value) {
                    self.direction = Direction::parse(name).or(self.direction);
                }
            }
        }
    }

    fn begin(&self, index: usize, line: Line<'a>) -> Result<SectionLines<'a>, SdpError> {
        SectionLines::begin(
            index,
            line,
            self.direction.unwrap_or(Direction::BOTH),
            &self.mappings,
        )
    }

    fn finish(
        self,
        sections: Vec<RemoteSection<'a>>,
        kind: Kind,
    ) -> Result<Description<'a>, SdpError> {
        if self.ice_lite {
            return Err(SdpError::Session {
                expected: "a full ICE agent: the node is ice-lite",
            });
        }
        let bundle = self.bundle.unwrap_or_default();
        let tag = tagged(&bundle, &sections);
        let mut mids = BTreeSet::new();
        let bundled: BTreeSet<&str> = bundle.iter().copied().collect();
        for section in &sections {
            if section.stopped {
                continue;
            }
            if !mids.insert(section.mid) {
                return Err(section.refuse("a mid that no other m-section has"));
            }
            if !bundled.contains(section.mid) {
                return Err(section.refuse("to be in the one a=group:BUNDLE"));
            }
            if section.kind().is_some() && !section.rtcp_mux && !tag.is_some_and(|tag| tag.rtcp_mux)
            {
                return Err(section.refuse("a=rtcp-mux"));
            }
        }
        let transport = tag
            .map(|tag| remote_transport(tag, &self.transport, kind))
            .transpose()?;
        Ok(Description {
            sections,
            allow_mixed: self.allow_mixed,
            bundle,
            transport,
        })
    }
}

fn distinct(mids: &str) -> Vec<&str> {
    let mut distinct = Vec::new();
    for mid in mids.split_ascii_whitespace().take(MAX_SECTIONS) {
        if !distinct.contains(&mid) {
            distinct.push(mid);
        }
    }
    distinct
}

fn remote_transport(
    tag: &RemoteSection<'_>,
    session: &TransportLines<'_>,
    kind: Kind,
) -> Result<RemoteTransport, SdpError> {
    let lines = tag.transport.or(session);
    let Some((ufrag, password)) = lines.credentials() else {
        return Err(
            tag.refuse("a=ice-ufrag of 4 to 256 and a=ice-pwd of 22 to 256 visible characters")
        );
    };
    let fingerprints = lines.fingerprints();
    if fingerprints.is_empty() {
        return Err(tag.refuse("a=fingerprint with sha-256, sha-384 or sha-512"));
    }
    let (setup, wanted) = match kind {
        Kind::Offer => (
            lines.setup(Setup::Client),
            "a=setup:actpass or a=setup:active: the node is the DTLS server",
        ),
        Kind::Answer => (
            lines.setup(Setup::Server),
            "a=setup:active: the node is the DTLS server",
        ),
    };
    match (kind, setup) {
        (_, Some(Setup::Client)) | (Kind::Offer, Some(Setup::Either)) => {}
        _ => return Err(tag.refuse(wanted)),
    }
    Ok(RemoteTransport {
        ufrag: ufrag.to_owned(),
        password: password.to_owned(),
        fingerprints,
    })
}
