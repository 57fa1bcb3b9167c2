//! The text of an offer.

use crate::session::plan::Feedback;
use crate::session::sdp::direction::Direction;
use crate::session::sdp::extensions::{self, Mapping};
use crate::session::sdp::feedback;
use crate::session::sdp::format::Format;
use crate::session::sdp::local::{self, CodecText, MediaLines, SectionHead};
use crate::session::sdp::text::Writer;
use crate::session::sdp::track::MediaKind;
use crate::session::sdp::transport::Setup;

use super::Offerer;
use super::section::{Content, Section};

const RTP: &str = "UDP/TLS/RTP/SAVPF";
const SCTP: &str = "UDP/DTLS/SCTP";

impl Offerer {
    pub(super) fn write(&self) -> String {
        let mut out = Writer::with_capacity(512 + 1024 * self.sections.len());
        let live = self.sections.iter().filter(|section| !section.is_stopped());
        let bundle = live.map(|section| section.mid.as_str());
        local::write_session(self.origin, bundle, true, &mut out);
        let shared = self.local.section_lines(Setup::Either);
        let candidates = self.local.candidate_lines();
        for (index, section) in self.sections.iter().enumerate() {
            let transport = [shared.as_str(), if index == 0 { &candidates } else { "" }];
            self.write_section(section, transport, &mut out);
        }
        out.finish()
    }

    fn write_section(&self, section: &Section, transport: [&str; 2], out: &mut Writer) {
        let mid = section.mid.as_str();
        let Content::Media {
            kind,
            formats,
            carriage,
        } = &section.content
        else {
            let head = SectionHead {
                media: "application",
                protocol: SCTP,
                mid,
                transport,
            };
            return head.write_data(self.local.max_message_size, out);
        };
        let media = match kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        if section.is_stopped() {
            return local::write_stopped(media, RTP, "0", mid, out);
        }
        let subscription = carriage
            .track()
            .and_then(|track| self.subscriptions.get(track));
        let mappings: Vec<Mapping> = extensions::offer(*kind == MediaKind::Video).collect();
        let lines = MediaLines {
            direction: Direction {
                send: subscription.is_some(),
                receive: false,
            },
            allow_mixed: false,
            reduced_size: true,
            mappings: &mappings,
            codecs: self.codec_lines(*kind, formats),
        };
        SectionHead {
            media,
            protocol: RTP,
            mid,
            transport,
        }
        .write_media(&lines, out);
        if let Some(subscription) = subscription {
            let repaired = lines
                .codecs
                .iter()
                .any(|codec| codec.payload_type.repair.is_some());
            subscription.write(repaired, out);
        }
    }

    fn codec_lines(&self, kind: MediaKind, formats: &[Format]) -> Vec<CodecText> {
        let is_red = |format: &Format| matches!(format, Format::Red { .. });
        let line = |format: &Format| {
            let payload_type = self.payload_types.get(*format)?;
            let feedback = if is_red(format) {
                Feedback::default()
            } else {
                feedback::offered(kind)
            };
            Some(CodecText {
                payload_type,
                feedback,
                fmtp: self.payload_types.fmtp(*format),
            })
        };
        formats.iter().filter_map(line).collect()
    }
}
