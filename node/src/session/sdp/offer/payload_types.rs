//! The payload types of our own offers. In a bundle one number means one format for as long as the
//! connection lives (RFC 8843 section 9.1.1), so every format has its own.

use pipemesh_node_core::codec::Codec;

use crate::session::plan::PayloadType;
use crate::session::sdp::format::{Format, H264Profile, Packetization};

/// Numbers that browsers use for the same things, which makes their logs readable.
const USUAL: [(Format, u8, Option<u8>); 6] = [
    (Format::Opus { stereo: false }, 111, None),
    (Format::Red { stereo: false }, 63, None),
    (Format::Vp8, 96, Some(97)),
    (Format::Vp9 { profile: 0 }, 98, Some(99)),
    (COMMON_H264, 102, Some(103)),
    (Format::Av1 { profile: 0 }, 45, Some(46)),
];

const COMMON_H264: Format = Format::H264 {
    profile: H264Profile::ConstrainedBaseline,
    level: 31,
    packetization: Packetization::NonInterleaved,
};

/// One format of each video codec, the most widely decoded first.
pub(super) const VIDEO: [Format; 4] = [
    Format::Vp8,
    COMMON_H264,
    Format::Vp9 { profile: 0 },
    Format::Av1 { profile: 0 },
];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PayloadTypes {
    assigned: Vec<(Format, PayloadType)>,
}

impl PayloadTypes {
    pub(super) fn get(&self, format: Format) -> Option<PayloadType> {
        self.assigned
            .iter()
            .find(|(assigned, _)| *assigned == format)
            .map(|(_, payload_type)| *payload_type)
    }

    /// The format's number, a new one if it has none; `None` when all are taken.
    pub(super) fn assign(&mut self, format: Format) -> Option<PayloadType> {
        if let Some(assigned) = self.get(format) {
            return Some(assigned);
        }
        let codec = format.codec();
        let usual = USUAL.iter().find(|(usual, ..)| *usual == format);
        let payload_type = match usual {
            Some(&(_, number, repair)) => PayloadType {
                codec,
                number,
                repair,
            },
            None => {
                let number = self.free(None)?;
                let repair = if codec.is_video() {
                    Some(self.free(Some(number))?)
                } else {
                    None
                };
                PayloadType {
                    codec,
                    number,
                    repair,
                }
            }
        };
        self.assigned.push((format, payload_type));
        Some(payload_type)
    }

    /// The dynamic numbers, then those below the ones that look like RTCP (RFC 5761 section 4).
    fn free(&self, except: Option<u8>) -> Option<u8> {
        let usual = |number| {
            USUAL
                .iter()
                .any(|&(_, usual, repair)| usual == number || repair == Some(number))
        };
        let taken = |number| {
            self.assigned
                .iter()
                .any(|(_, assigned)| assigned.number == number || assigned.repair == Some(number))
        };
        (96..=127)
            .chain(35..=63)
            .find(|&number| Some(number) != except && !usual(number) && !taken(number))
    }
}

/// What a section lists for a track, first what is used first.
pub(super) fn formats_of(track: Format, redundant: bool) -> Vec<Format> {
    match track {
        Format::Red { stereo } if redundant => vec![track, Format::Opus { stereo }],
        Format::Red { stereo } => vec![Format::Opus { stereo }],
        other => vec![other],
    }
}

impl PayloadTypes {
    /// The parameters in `a=fmtp`. Those of RED name the payload type that it protects.
    pub(super) fn fmtp(&self, format: Format) -> String {
        let protected = match format {
            Format::Red { stereo } => self.get(Format::Opus { stereo }),
            _ => None,
        };
        match protected {
            Some(PayloadType {
                number,
                codec: Codec::Opus,
                ..
            }) => format!("{number}/{number}"),
            _ => format.fmtp().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_keeps_its_number_and_shares_it_with_none() {
        let mut types = PayloadTypes::default();
        let vp8 = types.assign(Format::Vp8).unwrap();
        assert_eq!((vp8.number, vp8.repair), (96, Some(97)));
        assert_eq!(types.assign(Format::Vp8), Some(vp8));

        let mut numbers = vec![96, 97];
        for profile in 1..=13 {
            let av1 = types.assign(Format::Av1 { profile }).unwrap();
            numbers.extend([Some(av1.number), av1.repair].into_iter().flatten());
        }
        for format in VIDEO
            .into_iter()
            .skip(1)
            .chain([Format::Opus { stereo: false }])
        {
            let usual = types.assign(format).unwrap();
            numbers.extend([Some(usual.number), usual.repair].into_iter().flatten());
        }
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(
            numbers
                .iter()
                .all(|number| matches!(number, 35..=63 | 96..=127))
        );
    }

    #[test]
    fn numbers_run_out() {
        let mut types = PayloadTypes::default();
        let assigned = (1..=255)
            .map_while(|profile| types.assign(Format::Av1 { profile }))
            .count();
        assert_eq!(assigned, 25, "61 numbers in pairs, without the usual ones");
        assert!(
            types.assign(Format::Vp8).is_some(),
            "the usual ones are kept free"
        );
    }
}
