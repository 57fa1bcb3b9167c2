//! The answer to one RTP section: what is accepted of it, and its text.

use pipemesh_node_core::codec::Codec;
use pipemesh_proto::ids::TrackId;

use crate::session::plan::Feedback;
use crate::session::sdp::codecs::{self, OfferedCodec};
use crate::session::sdp::direction::Direction;
use crate::session::sdp::extensions::{self, Mapping};
use crate::session::sdp::feedback::{self, Terms};
use crate::session::sdp::format::{self, Format};
use crate::session::sdp::local::{CodecText, MediaLines, SectionHead};
use crate::session::sdp::outgoing::{Sending, Subscription, payload_types};
use crate::session::sdp::section::{Media, RemoteSection};
use crate::session::sdp::simulcast::Simulcast;
use crate::session::sdp::text::Writer;
use crate::session::sdp::track::{MediaKind, Publication};

use super::section::{Binding, Carriage, Reception};

/// What is wanted of a section.
#[derive(Debug, Clone)]
pub(super) struct Wish<'w> {
    pub(super) binding: &'w Binding,
    /// What the client sends on it, once announced.
    pub(super) publication: Option<&'w Publication>,
    /// What it was started with: a client must not change codecs under its subscribers.
    pub(super) started: Option<Format>,
    pub(super) carriage: &'w Carriage,
    /// What the client is sent on it.
    pub(super) subscription: Option<&'w Subscription>,
    /// Parameters of Opus where no publication has any. In a bundle one payload type has one set
    /// of parameters as far as possible; libwebrtc counts differing ones as a collision.
    pub(super) opus: String,
}

/// An accepted section.
#[derive(Debug)]
pub(super) struct Reply<'o, 'a> {
    pub(super) offered: &'o RemoteSection<'a>,
    pub(super) wish: &'o Wish<'o>,
    /// Ours.
    direction: Direction,
    received: Vec<&'o OfferedCodec<'a>>,
    sent: Vec<&'o OfferedCodec<'a>>,
    /// The two together, or everything where neither is used.
    listed: Vec<&'o OfferedCodec<'a>>,
    mappings: Vec<Mapping>,
    simulcast: Simulcast<'a>,
    /// Transport-wide feedback is possible.
    transport_wide: bool,
    /// What the client sends says when.
    timed: bool,
    /// What the client sends is marked anew each time it is sent.
    marked: bool,
}

impl<'o, 'a> Reply<'o, 'a> {
    /// `None` rejects the section.
    pub(super) fn new(offered: &'o RemoteSection<'a>, wish: &'o Wish<'o>) -> Option<Self> {
        if offered.stopped || offered.kind().is_none() || offered.codecs.is_empty() {
            return None;
        }
        let received = match wish.publication {
            _ if !offered.direction.send => Vec::new(),
            Some(publication) => for_publication(&offered.codecs, publication, wish.started),
            // The announcement that is still to come must find its codec accepted.
            None => codecs::best_of_each(&offered.codecs),
        };
        let sent = wish.subscription.map_or(Vec::new(), |subscription| {
            let outgoing = &subscription.outgoing;
            codecs::for_track(&offered.codecs, outgoing.format, outgoing.red)
        });
        let direction = Direction {
            send: !sent.is_empty(),
            receive: !received.is_empty(),
        };
        let mut listed = received.clone();
        listed.extend(sent.iter().filter(|codec| !received.contains(codec)));
        if listed.is_empty() {
            listed = codecs::best_of_each(&offered.codecs);
        }
        let mut media = listed.iter().filter(|codec| !codec.is_redundancy());
        let transport_wide = media.all(|codec| codec.feedback.transport_wide);
        let is_video = offered.media == Media::Video;
        let mappings = extensions::accept(&offered.mappings, is_video, transport_wide);
        let agreed = extensions::received(&mappings, transport_wide);
        let marked = extensions::marks(&mappings);
        let transport_wide = transport_wide && agreed.transport_sequence.is_some();
        let numbers: Vec<u8> = received.iter().map(|codec| codec.number).collect();
        let simulcast = match agreed.rid {
            Some(_) if direction.receive => offered.simulcast.accept(&numbers),
            _ => Simulcast::default(),
        };
        Some(Self {
            offered,
            wish,
            direction,
            received,
            sent,
            listed,
            mappings,
            simulcast,
            transport_wide,
            timed: agreed.absolute_send_time.is_some(),
            marked,
        })
    }

    pub(super) fn kind(&self) -> MediaKind {
        if self.offered.media == Media::Video {
            MediaKind::Video
        } else {
            MediaKind::Audio
        }
    }

    /// What the client may send, unless it sends nothing.
    pub(super) fn reception(&self) -> Option<Reception> {
        let first = *self.received.first()?;
        let stereo = self
            .wish
            .publication
            .is_some_and(|publication| publication.stereo);
        let format = match first.format {
            Format::Opus { .. } => Format::Opus { stereo },
            Format::Red { .. } => Format::Red { stereo },
            video => video,
        };
        Some(Reception {
            binding: self.wish.binding.clone(),
            format,
            codecs: payload_types(&self.received),
            rids: self.simulcast.rids().map(str::to_owned).collect(),
            ssrc: self.offered.ssrc,
            repair_ssrc: self.offered.repair_ssrc,
            extensions: extensions::received(&self.mappings, self.transport_wide),
            feedback: self.agreed_feedback(&self.received),
        })
    }

    /// What the client is sent, unless it is sent nothing.
    pub(super) fn sending(&self) -> Option<(TrackId, Sending)> {
        if self.sent.is_empty() {
            return None;
        }
        let ours = feedback::offered(self.kind());
        let sending = Sending {
            mid: self.offered.mid.to_owned(),
            codecs: payload_types(&self.sent),
            extensions: extensions::sent(&self.mappings, self.transport_wide),
            feedback: self.agreed_feedback(&self.sent).intersection(ours),
        };
        Some((self.wish.carriage.track()?.clone(), sending))
    }

    /// Of redundant audio that of what is protected; RED itself has none.
    fn agreed_feedback(&self, codecs: &[&OfferedCodec<'_>]) -> Feedback {
        let media = codecs.iter().find(|codec| !codec.is_redundancy());
        media.map_or(Feedback::default(), |codec| self.feedback(codec))
    }

    fn feedback(&self, codec: &OfferedCodec<'_>) -> Feedback {
        let terms = Terms {
            kind: self.kind(),
            receive: self.direction.receive,
            transport_wide: self.transport_wide,
            timed: self.timed,
            repeatable: codec.repair.is_some() || !self.marked,
        };
        feedback::accept(codec.feedback, terms)
    }

    /// `transport`: lines of the transport.
    pub(super) fn write(&self, transport: [&str; 2], out: &mut Writer) {
        let RemoteSection {
            name: media,
            protocol,
            mid,
            ..
        } = *self.offered;
        let text = |codec: &&OfferedCodec<'_>| CodecText {
            payload_type: codec.payload_type(),
            feedback: if codec.is_redundancy() {
                Feedback::default()
            } else {
                self.feedback(codec)
            },
            fmtp: fmtp(codec, self.wish),
        };
        let lines = MediaLines {
            direction: self.direction,
            allow_mixed: self.offered.allow_mixed,
            reduced_size: self.offered.reduced_size,
            mappings: &self.mappings,
            codecs: self.listed.iter().map(text).collect(),
        };
        SectionHead {
            media,
            protocol,
            mid,
            transport,
        }
        .write_media(&lines, out);
        self.simulcast.write(out);
        if let Some(subscription) = self.wish.subscription.filter(|_| self.direction.send) {
            subscription.write(self.sent.iter().any(|codec| codec.repair.is_some()), out);
        }
    }
}

/// First the one that is to be used.
fn for_publication<'o, 'a>(
    offered: &'o [OfferedCodec<'a>],
    publication: &Publication,
    started: Option<Format>,
) -> Vec<&'o OfferedCodec<'a>> {
    let same = started.and_then(|format| {
        offered
            .iter()
            .find(|codec| codec.format == format && !codec.is_redundancy())
    });
    let same_codec =
        || codecs::best_of(offered, started?.codec()).filter(|codec| !codec.is_redundancy());
    let chosen = same
        .or_else(same_codec)
        .or_else(|| codecs::choose(offered, &publication.codecs));
    let redundant = started.map_or(publication.red, |format| format.codec() == Codec::Red);
    let is_opus = chosen.is_some_and(|codec| codec.format.codec() == Codec::Opus);
    let red = offered
        .iter()
        .find(|codec| redundant && is_opus && codec.is_redundancy());
    red.into_iter().chain(chosen).collect()
}

/// Parameters in an answer say what the answerer wants to receive.
fn fmtp(codec: &OfferedCodec<'_>, wish: &Wish<'_>) -> String {
    match codec.format {
        Format::Opus { .. } => {
            let mut fmtp = wish
                .publication
                .map_or_else(|| wish.opus.clone(), opus_fmtp);
            if wish
                .subscription
                .is_some_and(|subscription| subscription.outgoing.format.is_stereo())
            {
                fmtp.push_str(";sprop-stereo=1");
            }
            fmtp
        }
        Format::Red { .. } => codec.fmtp.to_owned(),
        _ => video_fmtp(codec),
    }
}

/// What is asked of a publisher (RFC 7587 section 6.1). Stereo without a ceiling would be held to
/// the rate of speech; what the client itself was told limits it further.
pub(super) fn opus_fmtp(publication: &Publication) -> String {
    let stereo = if publication.stereo {
        ";stereo=1;maxaveragebitrate=510000"
    } else {
        ""
    };
    let dtx = if publication.dtx { ";usedtx=1" } else { "" };
    format!("minptime=10;useinbandfec=1{stereo}{dtx}")
}

/// The configuration, which has to be the offer's (RFC 6184 section 8.2.2), and what libwebrtc
/// takes as a hint to its own encoder. The other parameters are limits of the client as a receiver.
fn video_fmtp(codec: &OfferedCodec<'_>) -> String {
    let configuration: &[&str] = match codec.format {
        Format::Vp9 { .. } => &["profile-id"],
        Format::H264 { .. } => &[
            "level-asymmetry-allowed",
            "packetization-mode",
            "profile-level-id",
        ],
        Format::Av1 { .. } => &["profile", "level-idx", "tier"],
        Format::Opus { .. } | Format::Red { .. } | Format::Vp8 => &[],
    };
    let kept = |key: &str| configuration.contains(&key) || key.starts_with("x-google-");
    let mut fmtp = String::new();
    for (key, value) in format::parameters(codec.fmtp).filter(|(key, _)| kept(key)) {
        let separator = if fmtp.is_empty() { "" } else { ";" };
        fmtp.extend([separator, key, "=", value]);
    }
    fmtp
}
