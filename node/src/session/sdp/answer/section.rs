//! A section of the last exchange: what the client may send on it, and what it is sent.

use pipemesh_proto::ids::TrackId;

use crate::session::plan::{Extensions, Feedback, PayloadType, ReceiveEncoding, ReceiveSection};
use crate::session::sdp::format::Format;
use crate::session::sdp::section::RemoteSection;
use crate::session::sdp::simulcast;
use crate::session::sdp::track::{MediaKind, Publication, StartedTrack};

use super::reply::Reply;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) mid: String,
    pub(super) kind: MediaKind,
    /// What the client calls the track it sends, or sent.
    pub(super) client_track: String,
    /// What the client may send here; boxed, since most sections of most clients only receive.
    pub(super) reception: Option<Box<Reception>>,
    pub(super) carriage: Carriage,
    /// What the client decodes here; empty if it does not receive.
    pub(super) decoded: Vec<Format>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reception {
    pub(super) binding: Binding,
    /// Of the first codec.
    pub(super) format: Format,
    pub(super) codecs: Vec<PayloadType>,
    /// In the order of the offer.
    pub(super) rids: Vec<String>,
    pub(super) ssrc: Option<u32>,
    pub(super) repair_ssrc: Option<u32>,
    pub(super) extensions: Extensions,
    pub(super) feedback: Feedback,
}

/// Which announced track the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// None yet.
    Open,
    Bound(TrackId),
    /// One that is not wanted any more.
    Withdrawn,
}

/// What the client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carriage {
    Free,
    Carries(TrackId),
    /// Its track is gone, but the client has not been told. It must be, by an exchange in which the
    /// section is inactive, before the section can carry another track: otherwise the client takes
    /// the new track for the old one (RFC 8829 section 5.10).
    Draining,
}

impl Section {
    pub(super) fn new(reply: &Reply<'_, '_>) -> Self {
        let offered = reply.offered;
        Self {
            mid: offered.mid.to_owned(),
            kind: reply.kind(),
            client_track: offered.client_track().to_owned(),
            reception: reply.reception().map(Box::new),
            carriage: reply.wish.carriage.clone(),
            decoded: offered.decoded(),
        }
    }

    /// The track that is published here.
    pub(super) fn track(&self) -> Option<&TrackId> {
        self.reception.as_ref()?.binding.track()
    }

    pub(super) fn format(&self) -> Option<Format> {
        Some(self.reception.as_ref()?.format)
    }

    pub(super) fn withdraw(&mut self, track: &TrackId) {
        if let Some(reception) = &mut self.reception
            && reception.binding.track() == Some(track)
        {
            reception.binding = Binding::Withdrawn;
        }
    }

    pub(super) fn started(&self, publication: &Publication) -> Option<StartedTrack> {
        let reception = self.reception.as_ref()?;
        Some(StartedTrack {
            track: publication.track.clone(),
            mid: self.mid.clone(),
            format: reception.format,
            rids: simulcast::lowest_first(reception.rids.clone(), &publication.rids),
        })
    }

    pub(super) fn plan(&self, publication: &Publication) -> Option<ReceiveSection> {
        let reception = self.reception.as_ref()?;
        let rids = simulcast::lowest_first(reception.rids.clone(), &publication.rids);
        let mut encodings: Vec<ReceiveEncoding> = rids
            .into_iter()
            .map(|rid| ReceiveEncoding {
                rid: Some(rid),
                ..ReceiveEncoding::default()
            })
            .collect();
        // With rids nothing says which of the offered SSRCs belongs to which.
        if encodings.is_empty() {
            let Reception {
                ssrc, repair_ssrc, ..
            } = **reception;
            encodings.push(ReceiveEncoding {
                rid: None,
                ssrc,
                repair_ssrc,
            });
        }
        Some(ReceiveSection {
            mid: self.mid.clone(),
            track: publication.track.clone(),
            codecs: reception.codecs.clone(),
            extensions: reception.extensions,
            encodings,
            feedback: reception.feedback,
        })
    }
}

impl Binding {
    pub(super) fn track(&self) -> Option<&TrackId> {
        match self {
            Self::Bound(track) => Some(track),
            Self::Open | Self::Withdrawn => None,
        }
    }
}

impl Carriage {
    pub(super) fn track(&self) -> Option<&TrackId> {
        match self {
            Self::Carries(track) => Some(track),
            Self::Free | Self::Draining => None,
        }
    }
}

impl RemoteSection<'_> {
    /// What the client calls the track it sends: by its msid, else by the section.
    pub(super) fn client_track(&self) -> &str {
        self.track.unwrap_or(self.mid)
    }

    /// Whether the client sends a track of this kind.
    pub(super) fn sends(&self, kind: MediaKind) -> bool {
        let accepted = !self.stopped && !self.codecs.is_empty();
        accepted && self.direction.send && self.kind() == Some(kind)
    }

    /// Whether the client takes a track of this kind.
    pub(super) fn receives(&self, kind: MediaKind) -> bool {
        !self.stopped && self.direction.receive && self.kind() == Some(kind)
    }

    fn decoded(&self) -> Vec<Format> {
        let formats = self.codecs.iter().map(|codec| codec.format);
        formats.filter(|_| self.direction.receive).collect()
    }
}
