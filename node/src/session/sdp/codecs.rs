//! The codecs of an m-section: what was offered, and what is chosen from it.

use pipemesh_node_core::codec::Codec;

use super::format::{self, Format};
use super::text::split_once;
use crate::session::plan::{Feedback, PayloadType};

/// Numbers on an m-line that are looked at; there are 128 payload types.
const MAX_LISTED: usize = 256;

/// A payload type of a description that we serve, with that of its retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfferedCodec<'a> {
    pub(super) number: u8,
    pub(super) repair: Option<u8>,
    pub(super) format: Format,
    pub(super) fmtp: &'a str,
    pub(super) feedback: Feedback,
}

impl OfferedCodec<'_> {
    pub(super) fn is_redundancy(&self) -> bool {
        self.format.codec() == Codec::Red
    }

    pub(super) fn payload_type(&self) -> PayloadType {
        PayloadType {
            codec: self.format.codec(),
            number: self.number,
            repair: self.repair,
        }
    }
}

/// Collects `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`, in whichever order they come: Firefox sorts its
/// lines, so that parameters precede what they belong to.
#[derive(Debug)]
pub(super) struct CodecLines<'a> {
    entries: Vec<Entry<'a>>,
    /// By payload type: one more than the place among `entries`; 0 if there is none.
    places: [u8; 128],
    /// `a=rtcp-fb:*`
    for_all: Feedback,
}

#[derive(Debug)]
struct Entry<'a> {
    number: u8,
    encoding: &'a str,
    fmtp: &'a str,
    feedback: Feedback,
}

impl Default for CodecLines<'_> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: [0; 128],
            for_all: Feedback::default(),
        }
    }
}

impl<'a> CodecLines<'a> {
    pub(super) fn rtpmap(&mut self, value: &'a str) {
        if let Some((entry, encoding)) = self.entry(value) {
            entry.encoding = encoding;
        }
    }

    pub(super) fn fmtp(&mut self, value: &'a str) {
        if let Some((entry, fmtp)) = self.entry(value) {
            entry.fmtp = fmtp;
        }
    }

    pub(super) fn feedback(&mut self, value: &'a str) {
        let feedback = match value.strip_prefix("* ") {
            Some(name) => Some((&mut self.for_all, name)),
            None => self
                .entry(value)
                .map(|(entry, name)| (&mut entry.feedback, name)),
        };
        let Some((feedback, name)) = feedback else {
            return;
        };
        match name.trim_ascii_end() {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.picture_loss = true,
            "ccm fir" => feedback.full_intra_request = true,
            "transport-cc" => feedback.transport_wide = true,
            "goog-remb" => feedback.estimated_maximum_bitrate = true,
            _ => {}
        }
    }

    /// The entry of the payload type that `value` begins with, and what follows it.
    fn entry(&mut self, value: &'a str) -> Option<(&mut Entry<'a>, &'a str)> {
        let (number, rest) = split_once(value, b' ')?;
        let number: u8 = number.parse().ok()?;
        let place = self.places.get_mut(usize::from(number))?;
        if *place == 0 {
            self.entries.push(Entry {
                number,
                encoding: "",
                fmtp: "",
                feedback: Feedback::default(),
            });
            *place = self.entries.len() as u8;
        }
        let entry = &mut self.entries[usize::from(*place) - 1];
        Some((entry, rest.trim_ascii()))
    }

    /// The served ones among the payload types of the m-line, in its order, which is the peer's
    /// preference.
    pub(super) fn resolve(&self, formats: &str, media: &str) -> Vec<OfferedCodec<'a>> {
        let listed: Vec<&Entry<'a>> = formats
            .split(' ')
            .take(MAX_LISTED)
            .filter_map(|number| self.find(number.parse().ok()?))
            .collect();
        let mut codecs: Vec<OfferedCodec<'a>> = Vec::new();
        for entry in &listed {
            if codecs.iter().any(|codec| codec.number == entry.number) {
                continue;
            }
            let Some(format) = entry.format(media) else {
                continue;
            };
            codecs.push(OfferedCodec {
                number: entry.number,
                repair: None,
                format,
                fmtp: entry.fmtp,
                feedback: entry.feedback.union(self.for_all),
            });
        }
        for entry in listed.iter().filter(|entry| entry.is_repair()) {
            let repaired = entry.repaired();
            if let Some(codec) = codecs
                .iter_mut()
                .find(|codec| Some(codec.number) == repaired)
            {
                codec.repair.get_or_insert(entry.number);
            }
        }
        // Redundancy is of use only where it protects the Opus that we serve.
        let opus = codecs
            .iter()
            .find(|codec| codec.format.codec() == Codec::Opus)
            .map(|codec| codec.number);
        codecs.retain(|codec| !codec.is_redundancy() || codec.protects(opus));
        codecs
    }

    fn find(&self, number: u8) -> Option<&Entry<'a>> {
        let place = *self.places.get(usize::from(number))?;
        self.entries.get(usize::from(place).checked_sub(1)?)
    }
}

impl Entry<'_> {
    fn format(&self, media: &str) -> Option<Format> {
        let codecs: &[Codec] = match media {
            "audio" => &[Codec::Opus, Codec::Red],
            "video" => &[Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1],
            _ => &[],
        };
        let codec = *codecs
            .iter()
            .find(|&&codec| format::encoding(codec).eq_ignore_ascii_case(self.encoding))?;
        Format::of(codec, self.fmtp)
    }

    fn is_repair(&self) -> bool {
        let (name, _) = split_once(self.encoding, b'/').unwrap_or((self.encoding, ""));
        name.eq_ignore_ascii_case("rtx")
    }

    fn repaired(&self) -> Option<u8> {
        format::parameters(self.fmtp)
            .find(|(key, _)| *key == "apt")
            .and_then(|(_, number)| number.parse().ok())
    }
}

impl OfferedCodec<'_> {
    fn protects(&self, opus: Option<u8>) -> bool {
        let primary = self
            .fmtp
            .split('/')
            .next()
            .and_then(|number| number.parse().ok());
        opus.is_some() && primary == opus
    }
}

/// The codec for what a client publishes: the first of `preferred` that is offered, else the
/// peer's first.
pub(super) fn choose<'o, 'a>(
    offered: &'o [OfferedCodec<'a>],
    preferred: &[Codec],
) -> Option<&'o OfferedCodec<'a>> {
    let first = offered.iter().map(|codec| codec.format.codec());
    let wanted = preferred
        .iter()
        .copied()
        .chain(first)
        .filter(|&codec| codec != Codec::Red);
    wanted.into_iter().find_map(|codec| best_of(offered, codec))
}

/// Of several formats of a codec the one that most receivers decode; the peer's order decides
/// between equals.
pub(super) fn best_of<'o, 'a>(
    offered: &'o [OfferedCodec<'a>],
    codec: Codec,
) -> Option<&'o OfferedCodec<'a>> {
    let rank = |format| match format {
        Format::Opus { .. } | Format::Red { .. } | Format::Vp8 => 0,
        Format::Vp9 { profile } | Format::Av1 { profile } => profile,
        Format::H264 {
            profile,
            packetization,
            ..
        } => packetization as u8 * 16 + profile as u8,
    };
    offered
        .iter()
        .filter(|offered| offered.format.codec() == codec)
        .min_by_key(|offered| rank(offered.format))
}

/// The best format of each codec, in the peer's order: for a section whose use is not known yet.
pub(super) fn best_of_each<'o, 'a>(offered: &'o [OfferedCodec<'a>]) -> Vec<&'o OfferedCodec<'a>> {
    let best = |codec: &OfferedCodec<'a>| best_of(offered, codec.format.codec()) == Some(codec);
    offered.iter().filter(|codec| best(codec)).collect()
}

/// What a track of this format is sent with, first what is used first; empty if the peer cannot
/// decode it. `redundant`: redundant audio may be sent as it is.
pub(super) fn for_track<'o, 'a>(
    offered: &'o [OfferedCodec<'a>],
    format: Format,
    redundant: bool,
) -> Vec<&'o OfferedCodec<'a>> {
    let main = offered
        .iter()
        .filter(|codec| !codec.is_redundancy())
        .filter_map(|codec| Some((format.fit(codec.format)?, codec)))
        .min_by_key(|(fit, _)| *fit)
        .map(|(_, codec)| codec);
    let redundancy = offered
        .iter()
        .find(|codec| redundant && format.codec() == Codec::Red && codec.is_redundancy());
    match main {
        Some(main) => redundancy.into_iter().chain([main]).collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payload types with those of their retransmissions.
    fn resolve(media: &str, m_line: &str, lines: &[&str]) -> Vec<(u8, Option<u8>)> {
        let codecs = collect(lines).resolve(m_line, media);
        codecs
            .iter()
            .map(|codec| (codec.number, codec.repair))
            .collect()
    }

    fn collect<'a>(lines: &[&'a str]) -> CodecLines<'a> {
        let mut codecs = CodecLines::default();
        for line in lines {
            match line.split_once(':') {
                Some(("rtpmap", value)) => codecs.rtpmap(value),
                Some(("fmtp", value)) => codecs.fmtp(value),
                Some(("rtcp-fb", value)) => codecs.feedback(value),
                _ => unreachable!(),
            }
        }
        codecs
    }

    #[test]
    fn served_codecs_are_found() {
        let vp8 = [
            "rtpmap:96 vp8/90000",
            "rtpmap:97 RTX/90000",
            "fmtp:97 apt=96",
        ];
        assert_eq!(resolve("video", "96 97", &vp8), [(96, Some(97))]);
        assert_eq!(resolve("video", "97 96", &vp8), [(96, Some(97))]);
        assert_eq!(
            resolve("video", "96", &vp8),
            [(96, None)],
            "not on the m-line"
        );
        assert_eq!(resolve("video", "96 96 97", &vp8), [(96, Some(97))]);
        assert_eq!(resolve("audio", "96 97", &vp8), []);
        let sorted = [
            "fmtp:97 apt=96",
            "rtpmap:97 rtx/90000",
            "rtpmap:96 VP8/90000",
        ];
        assert_eq!(resolve("video", "96 97", &sorted), [(96, Some(97))]);
        let strange = [
            "rtpmap:96 VP8/8000",
            "rtpmap:98 H265/90000",
            "rtpmap:200 VP8/90000",
            "rtpmap:x VP8/90000",
        ];
        assert_eq!(resolve("video", "96 98 200 x", &strange), []);
        assert_eq!(
            resolve("audio", "0 111", &["rtpmap:111 OPUS/48000/2"]),
            [(111, None)]
        );
    }

    #[test]
    fn redundancy_protects_opus_or_nothing() {
        let opus = "rtpmap:111 opus/48000/2";
        let red = "rtpmap:63 red/48000/2";
        let resolve = |lines: &[&str]| resolve("audio", "63 111", lines).len();
        assert_eq!(resolve(&[opus, red, "fmtp:63 111/111"]), 2);
        assert_eq!(resolve(&[opus, red, "fmtp:63 9/9"]), 1);
        assert_eq!(resolve(&[opus, red]), 1);
        assert_eq!(resolve(&[red, "fmtp:63 111/111"]), 0);
    }

    #[test]
    fn feedback_may_be_for_all() {
        let lines = [
            "rtpmap:96 VP8/90000",
            "rtcp-fb:96 nack",
            "rtcp-fb:* nack pli",
            "rtcp-fb:* ccm tmmbr",
        ];
        let codecs = collect(&lines);
        let codecs = codecs.resolve("96", "video");
        let names: Vec<_> = codecs[0].feedback.names().collect();
        assert_eq!(names, ["nack", "nack pli"]);
    }

    #[test]
    fn the_most_widely_decoded_format_is_chosen() {
        let lines = [
            "rtpmap:100 VP9/90000",
            "fmtp:100 profile-id=2",
            "rtpmap:98 VP9/90000",
            "rtpmap:102 H264/90000",
            "fmtp:102 packetization-mode=1;profile-level-id=64001f",
            "rtpmap:114 H264/90000",
            "fmtp:114 packetization-mode=0;profile-level-id=42e01f",
            "rtpmap:104 H264/90000",
            "fmtp:104 packetization-mode=1;profile-level-id=42001f",
            "rtpmap:108 H264/90000",
            "fmtp:108 packetization-mode=1;profile-level-id=42e01f",
        ];
        let codecs = collect(&lines);
        let codecs = codecs.resolve("100 98 102 114 104 108", "video");
        let number = |codec: Option<&OfferedCodec<'_>>| codec.map(|codec| codec.number);
        assert_eq!(number(choose(&codecs, &[Codec::H264])), Some(108));
        assert_eq!(
            number(choose(&codecs, &[Codec::Vp8, Codec::H264])),
            Some(108)
        );
        assert_eq!(number(choose(&codecs, &[])), Some(98));
        let each: Vec<u8> = best_of_each(&codecs)
            .iter()
            .map(|codec| codec.number)
            .collect();
        assert_eq!(each, [98, 108]);
    }
}
