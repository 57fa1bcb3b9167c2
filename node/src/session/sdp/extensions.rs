//! RTP header extensions (RFC 8285): which are agreed on, and under which ids.

use super::direction::Direction;
use super::text::Writer;
use crate::session::plan::Extensions;

/// The ones that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    Mid,
    Rid,
    RepairedRid,
    AudioLevel,
    TransportSequence,
    AbsoluteSendTime,
    AbsoluteCaptureTime,
    DependencyDescriptor,
}

const ALL: [(Extension, &str); 8] = [
    (Extension::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (
        Extension::Rid,
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    ),
    (
        Extension::RepairedRid,
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ),
    (
        Extension::AudioLevel,
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ),
    (
        Extension::TransportSequence,
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ),
    (
        Extension::AbsoluteSendTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    ),
    (
        Extension::AbsoluteCaptureTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    ),
    (
        Extension::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
];

/// What the node's own offers map. Ids below 15 fit the one-byte form.
const OFFERED: [(u8, Extension); 4] = [
    (1, Extension::AbsoluteCaptureTime),
    (2, Extension::DependencyDescriptor),
    (3, Extension::TransportSequence),
    (4, Extension::AbsoluteSendTime),
];

/// An `a=extmap` line, with the direction in which its writer uses the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    id: u8,
    extension: Extension,
    direction: Direction,
}

impl Mapping {
    /// `None` for an extension we do not know, and for ids that cannot be sent: 0, the reserved 15
    /// of the one-byte form, and what an offer holds above 255 to be renumbered (RFC 8285 section 7).
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (id, rest) = value.split_once(' ')?;
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Direction::parse(direction)?),
            None => (id, Direction::BOTH),
        };
        let id = id.parse().ok().filter(|id| !matches!(id, 0 | 15))?;
        let uri = rest.split(' ').next()?;
        let (extension, _) = *ALL.iter().find(|(_, known)| *known == uri)?;
        Some(Self {
            id,
            extension,
            direction,
        })
    }

    /// The same from the other side.
    fn reversed(&self) -> Self {
        Self {
            direction: self.direction.reversed(),
            ..*self
        }
    }

    fn write(self, out: &mut Writer) {
        let (_, uri) = ALL[self.extension as usize];
        match self.direction {
            Direction::BOTH => out.line(format_args!("a=extmap:{} {uri}", self.id)),
            direction => out.line(format_args!(
                "a=extmap:{}/{} {uri}",
                self.id,
                direction.name()
            )),
        }
    }
}

/// Answers the peer's mappings with ours.
///
/// Everything that may ever be of use is accepted, whatever the section is used for at present:
/// libwebrtc does not offer an extension again, on any section of the kind, once an answer has left it
/// out. Absolute send times are the second choice; they are taken where `transport_wide` feedback does
/// not come with the sequence numbers.
///
/// Neither is taken on audio. Asked for a packet of audio, libwebrtc sends it again under the same SRTP index,
/// but with a new transport-wide number or send time in the header: a second packet under one nonce of
/// AES-GCM, from which whoever sees both can compute the key that authenticates (RFC 7714 section 8.4).
pub(super) fn accept(offered: &[Mapping], video: bool, transport_wide: bool) -> Vec<Mapping> {
    let sequence = |mapping: &Mapping| mapping.extension == Extension::TransportSequence;
    let by_sequence = transport_wide && offered.iter().any(sequence);
    let wanted = |mapping: &&Mapping| match mapping.extension {
        Extension::AbsoluteSendTime => video && !by_sequence,
        Extension::TransportSequence => video,
        _ => true,
    };
    let mut accepted: Vec<Mapping> = Vec::new();
    for mapping in offered.iter().filter(wanted) {
        let clash =
            |other: &Mapping| other.id == mapping.id || other.extension == mapping.extension;
        if !accepted.iter().any(clash) {
            accepted.push(mapping.reversed());
        }
    }
    accepted
}

/// Whether received packets carry what differs from one sending to the next, whatever feedback is given; the
/// mappings are ours.
pub(super) fn marks(agreed: &[Mapping]) -> bool {
    let all = received(agreed, true);
    all.transport_sequence.is_some() || all.absolute_send_time.is_some()
}

/// What the node offers on a section it wants to send on.
pub(super) fn offer(video: bool) -> impl Iterator<Item = Mapping> {
    let direction = Direction::BOTH;
    OFFERED
        .into_iter()
        .filter(move |(_, extension)| match extension {
            Extension::DependencyDescriptor => video,
            _ => true,
        })
        .map(move |(id, extension)| Mapping {
            id,
            extension,
            direction,
        })
}

/// What the peer's answer leaves of it, from our side.
pub(super) fn agree(answered: &[Mapping]) -> Vec<Mapping> {
    let offered = |mapping: &&Mapping| OFFERED.contains(&(mapping.id, mapping.extension));
    answered
        .iter()
        .filter(offered)
        .map(Mapping::reversed)
        .collect()
}

pub(super) fn write(mappings: &[Mapping], out: &mut Writer) {
    for mapping in mappings {
        mapping.write(out);
    }
}

/// Ids of what is read from received packets; the mappings are ours. Numbers are of use only where
/// `transport_wide` feedback is given.
pub(super) fn received(agreed: &[Mapping], transport_wide: bool) -> Extensions {
    let all = ids(agreed.iter().filter(|mapping| mapping.direction.receive));
    Extensions {
        transport_sequence: all.transport_sequence.filter(|_| transport_wide),
        ..all
    }
}

/// Ids of what is written on sent packets; the mappings are ours. An SSRC that the description
/// names needs no mid. Receivers that give `transport_wide` feedback are sent numbers, others times.
pub(super) fn sent(agreed: &[Mapping], transport_wide: bool) -> Extensions {
    let all = ids(agreed.iter().filter(|mapping| mapping.direction.send));
    let transport_sequence = all.transport_sequence.filter(|_| transport_wide);
    let numbered = transport_sequence.is_some();
    Extensions {
        absolute_capture_time: all.absolute_capture_time,
        dependency_descriptor: all.dependency_descriptor,
        transport_sequence,
        absolute_send_time: all.absolute_send_time.filter(|_| !numbered),
        ..Extensions::default()
    }
}

fn ids<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Extensions {
    let mut ids = Extensions::default();
    for mapping in mappings {
        let id = match mapping.extension {
            Extension::Mid => &mut ids.mid,
            Extension::Rid => &mut ids.rid,
            Extension::RepairedRid => &mut ids.repaired_rid,
            Extension::AudioLevel => &mut ids.audio_level,
            Extension::TransportSequence => &mut ids.transport_sequence,
            Extension::AbsoluteSendTime => &mut ids.absolute_send_time,
            Extension::AbsoluteCaptureTime => &mut ids.absolute_capture_time,
            Extension::DependencyDescriptor => &mut ids.dependency_descriptor,
        };
        *id = Some(mapping.id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        fn check(value: &str, expected: Option<(u8, Extension, &str)>) {
            let mapping = Mapping::parse(value);
            let mapping = mapping.map(|m| (m.id, m.extension, m.direction.name()));
            assert_eq!(mapping, expected, "{value}");
        }
        let mid = "urn:ietf:params:rtp-hdrext:sdes:mid";
        let level = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
        check(&format!("4 {mid}"), Some((4, Extension::Mid, "sendrecv")));
        check(
            &format!("4/sendonly {mid}"),
            Some((4, Extension::Mid, "sendonly")),
        );
        check(
            &format!("1 {level} vad=on"),
            Some((1, Extension::AudioLevel, "sendrecv")),
        );
        check(
            &format!("255 {mid}"),
            Some((255, Extension::Mid, "sendrecv")),
        );
        check(&format!("15 {mid}"), None);
        check(&format!("0 {mid}"), None);
        check(&format!("4096 {mid}"), None);
        check(&format!("4/both {mid}"), None);
        check("4 urn:3gpp:video-orientation", None);
        check("4", None);
    }

    #[test]
    fn every_extension_is_in_its_place() {
        for (place, (extension, _)) in ALL.iter().enumerate() {
            assert_eq!(*extension as usize, place);
        }
    }

    #[test]
    fn an_id_or_extension_is_accepted_once() {
        let offered: Vec<Mapping> = ["4", "5", "4"]
            .iter()
            .zip([ALL[0].1, ALL[0].1, ALL[1].1])
            .filter_map(|(id, uri)| Mapping::parse(&format!("{id} {uri}")))
            .collect();
        assert_eq!(accept(&offered, true, true), offered[..1]);
    }
}
