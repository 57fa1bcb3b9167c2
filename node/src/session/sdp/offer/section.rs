//! A section of our own offers.

use pipemesh_proto::ids::TrackId;

use crate::session::sdp::format::Format;
use crate::session::sdp::track::MediaKind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) mid: String,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Data,
    /// `formats` is what was listed last.
    Media {
        kind: MediaKind,
        formats: Vec<Format>,
        carriage: Carriage,
    },
}

/// What the client is sent on a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carriage {
    /// The client knows that it is inactive.
    Free,
    Carries(TrackId),
    /// Its track is gone, but the client has not agreed to that yet. Until it has, it would take
    /// another track here for the old one (RFC 8829 section 5.10).
    Draining,
    /// Rejected by the client. May become a section of any kind under a new mid (RFC 8829 section
    /// 5.2.2).
    Stopped,
}

impl Section {
    fn carriage(&self) -> Option<&Carriage> {
        match &self.content {
            Content::Media { carriage, .. } => Some(carriage),
            Content::Data => None,
        }
    }

    pub(super) fn kind(&self) -> Option<MediaKind> {
        match &self.content {
            Content::Media { kind, .. } => Some(*kind),
            Content::Data => None,
        }
    }

    pub(super) fn track(&self) -> Option<&TrackId> {
        self.carriage()?.track()
    }

    pub(super) fn is_free_for(&self, kind: MediaKind) -> bool {
        self.carriage() == Some(&Carriage::Free) && self.kind() == Some(kind)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.carriage() == Some(&Carriage::Draining)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.carriage() == Some(&Carriage::Stopped)
    }

    /// Its track is gone.
    pub(super) fn drain(&mut self) {
        if let Content::Media { carriage, .. } = &mut self.content
            && *carriage != Carriage::Stopped
        {
            *carriage = Carriage::Draining;
        }
    }

    /// `drained`: it was draining already when the answered offer was made.
    pub(super) fn agree(&mut self, stopped: bool, drained: bool) {
        let Content::Media { carriage, .. } = &mut self.content else {
            return;
        };
        if stopped {
            *carriage = Carriage::Stopped;
        } else if drained {
            *carriage = Carriage::Free;
        }
    }
}

impl Carriage {
    pub(super) fn track(&self) -> Option<&TrackId> {
        match self {
            Self::Carries(track) => Some(track),
            Self::Free | Self::Draining | Self::Stopped => None,
        }
    }
}
