//! Our own descriptions: the lines that offers and answers have in common.

use super::direction::Direction;
use super::extensions::{self, Mapping};
use super::format;
use super::text::Writer;
use crate::session::plan::{Feedback, PayloadType};

/// Identity of a connection's own descriptions (RFC 8866 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    session: u64,
    version: u64,
}

impl Origin {
    /// The number has to fit a signed integer (RFC 8829 section 5.2.1).
    pub(super) fn new(random: u64) -> Self {
        Self {
            session: random >> 1,
            version: 0,
        }
    }

    /// Every description has a version of its own.
    pub(super) fn advance(&mut self) {
        self.version += 1;
    }
}

/// What stands before the first section.
pub(super) fn write_session<'a>(
    origin: Origin,
    bundle: impl IntoIterator<Item = &'a str>,
    allow_mixed: bool,
    out: &mut Writer,
) {
    out.line(format_args!(
        "v=0\r\no=- {} {} IN IP4 127.0.0.1",
        origin.session, origin.version
    ));
    out.block("s=-\r\nt=0 0\r\na=group:BUNDLE");
    for mid in bundle {
        out.text(format_args!(" {mid}"));
    }
    out.block("\r\n");
    if allow_mixed {
        out.block("a=extmap-allow-mixed\r\n");
    }
    out.block("a=msid-semantic:WMS *\r\na=ice-lite\r\n");
}

/// First words of an m-line, and what every section says of itself. `transport`: lines of the
/// transport.
#[derive(Debug, Clone, Copy)]
pub(super) struct SectionHead<'w> {
    pub(super) media: &'w str,
    pub(super) protocol: &'w str,
    pub(super) mid: &'w str,
    pub(super) transport: [&'w str; 2],
}

impl SectionHead<'_> {
    fn write(&self, formats: impl FnOnce(&mut Writer), out: &mut Writer) {
        out.text(format_args!("m={} 9 {}", self.media, self.protocol));
        formats(out);
        out.line(format_args!("\r\nc=IN IP4 0.0.0.0\r\na=mid:{}", self.mid));
        for lines in self.transport {
            out.block(lines);
        }
    }

    /// A section for data channels (RFC 8841).
    pub(super) fn write_data(&self, max_message_size: u32, out: &mut Writer) {
        self.write(|out| out.block(" webrtc-datachannel"), out);
        out.line(format_args!(
            "a=sctp-port:5000\r\na=max-message-size:{max_message_size}"
        ));
    }

    pub(super) fn write_media(&self, section: &MediaLines<'_>, out: &mut Writer) {
        let payload_types = |out: &mut Writer| {
            for PayloadType { number, repair, .. } in
                section.codecs.iter().map(|codec| codec.payload_type)
            {
                out.text(format_args!(" {number}"));
                if let Some(repair) = repair {
                    out.text(format_args!(" {repair}"));
                }
            }
        };
        self.write(payload_types, out);
        out.line(format_args!("a={}", section.direction.name()));
        if section.allow_mixed {
            out.block("a=extmap-allow-mixed\r\n");
        }
        extensions::write(section.mappings, out);
        out.block("a=rtcp-mux\r\n");
        if section.reduced_size {
            out.block("a=rtcp-rsize\r\n");
        }
        for codec in &section.codecs {
            codec.write(out);
        }
    }
}

#[derive(Debug)]
pub(super) struct MediaLines<'w> {
    pub(super) direction: Direction,
    pub(super) allow_mixed: bool,
    pub(super) reduced_size: bool,
    pub(super) mappings: &'w [Mapping],
    pub(super) codecs: Vec<CodecText>,
}

#[derive(Debug)]
pub(super) struct CodecText {
    pub(super) payload_type: PayloadType,
    pub(super) feedback: Feedback,
    pub(super) fmtp: String,
}

impl CodecText {
    fn write(&self, out: &mut Writer) {
        let PayloadType {
            codec,
            number,
            repair,
        } = self.payload_type;
        out.line(format_args!(
            "a=rtpmap:{number} {}",
            format::encoding(codec)
        ));
        for name in self.feedback.names() {
            out.line(format_args!("a=rtcp-fb:{number} {name}"));
        }
        if !self.fmtp.is_empty() {
            out.line(format_args!("a=fmtp:{number} {}", self.fmtp));
        }
        if let Some(repair) = repair {
            out.line(format_args!(
                "a=rtpmap:{repair} rtx/90000\r\na=fmtp:{repair} apt={number}"
            ));
        }
    }
}

/// A section with port zero, which is how one is refused or ended (RFC 3264 section 6).
pub(super) fn write_stopped(
    media: &str,
    protocol: &str,
    formats: &str,
    mid: &str,
    out: &mut Writer,
) {
    out.line(format_args!(
        "m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0"
    ));
    if !mid.is_empty() {
        out.line(format_args!("a=mid:{mid}"));
    }
    out.block("a=inactive\r\n");
}
