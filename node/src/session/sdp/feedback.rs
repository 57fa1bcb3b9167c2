//! RTCP feedback (RFC 4585, RFC 5104): which of it is agreed on.

use super::track::MediaKind;
use crate::session::plan::Feedback;

/// What a sender of video is told by its receivers.
const VIDEO: Feedback = Feedback {
    nack: true,
    picture_loss: true,
    full_intra_request: true,
    transport_wide: true,
    // For receivers that have nothing better.
    estimated_maximum_bitrate: true,
};

/// What a section is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) kind: MediaKind,
    /// The client sends.
    pub(super) receive: bool,
    /// Transport-wide feedback is possible: the codecs have it, and its header extension is agreed.
    pub(super) transport_wide: bool,
    /// What the client sends says when: the header extension is agreed.
    pub(super) timed: bool,
    /// What the client sends again is the packet it was, or comes on a retransmission stream: see
    /// `extensions::accept`.
    pub(super) repeatable: bool,
}

/// What is agreed on of what the client offers for a codec.
pub(super) fn accept(offered: Feedback, terms: Terms) -> Feedback {
    let Terms {
        receive,
        transport_wide,
        timed,
        repeatable,
        ..
    } = terms;
    match terms.kind {
        MediaKind::Video => {
            // Without transport-wide feedback a sender cannot estimate, so it is told; by us only if we
            // can estimate.
            offered.intersection(Feedback {
                nack: repeatable || !receive,
                transport_wide,
                estimated_maximum_bitrate: !transport_wide && (timed || !receive),
                ..VIDEO
            })
        }
        MediaKind::Audio => Feedback {
            // libwebrtc asks for audio and sends it again, but never offers either.
            nack: true,
            ..Feedback::default()
        },
    }
}

/// What the node takes on what it sends.
pub(super) fn offered(kind: MediaKind) -> Feedback {
    match kind {
        MediaKind::Video => VIDEO,
        MediaKind::Audio => Feedback {
            nack: true,
            transport_wide: true,
            ..Feedback::default()
        },
    }
}

/// What is agreed on of what the node offers, by what the client answers for a codec.
pub(super) fn agree(kind: MediaKind, answered: Feedback) -> Feedback {
    let agreed = offered(kind).intersection(answered);
    Feedback {
        // libwebrtc asks for audio if that was offered, and does not say so.
        nack: agreed.nack || kind == MediaKind::Audio,
        ..agreed
    }
}

impl Feedback {
    pub(super) fn union(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    fn zip(self, other: Self, combine: impl Fn(bool, bool) -> bool) -> Self {
        Self {
            nack: combine(self.nack, other.nack),
            picture_loss: combine(self.picture_loss, other.picture_loss),
            full_intra_request: combine(self.full_intra_request, other.full_intra_request),
            transport_wide: combine(self.transport_wide, other.transport_wide),
            estimated_maximum_bitrate: combine(
                self.estimated_maximum_bitrate,
                other.estimated_maximum_bitrate,
            ),
        }
    }

    /// The values of `a=rtcp-fb`.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.transport_wide, "transport-cc"),
            (self.estimated_maximum_bitrate, "goog-remb"),
            (self.full_intra_request, "ccm fir"),
            (self.nack, "nack"),
            (self.picture_loss, "nack pli"),
        ]
        .into_iter()
        .filter_map(|(agreed, name)| agreed.then_some(name))
    }
}
