//! The media formats that are served: a codec with the parameters a decoder has to agree with.

use std::borrow::Cow;

use pipemesh_node_core::codec::Codec;

use super::text::split_once;

/// What a receiver has to be able to decode. Travels between nodes as MIME type and `fmtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    Opus {
        stereo: bool,
    },
    Red {
        stereo: bool,
    },
    Vp8,
    Vp9 {
        profile: u8,
    },
    H264 {
        profile: H264Profile,
        level: u8,
        packetization: Packetization,
    },
    Av1 {
        profile: u8,
    },
}

/// From the one that most decoders know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
}

/// `packetization-mode` (RFC 6184 section 6.2). Interleaved, the third, is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packetization {
    NonInterleaved,
    SingleNalUnit,
}

impl Format {
    /// `None` for what is not served.
    pub fn parse(mime_type: &str, fmtp: &str) -> Option<Self> {
        Self::of(codec_of_mime_type(mime_type)?, fmtp)
    }

    /// The same for a codec that is known.
    pub(super) fn of(codec: Codec, fmtp: &str) -> Option<Self> {
        let format = match codec {
            Codec::Opus => Self::Opus {
                stereo: is_stereo(fmtp),
            },
            Codec::Red => Self::Red {
                stereo: is_stereo(fmtp),
            },
            Codec::Vp8 => Self::Vp8,
            Codec::Vp9 => Self::Vp9 {
                profile: number(fmtp, "profile-id")?,
            },
            Codec::H264 => h264(fmtp)?,
            Codec::Av1 => Self::Av1 {
                profile: number(fmtp, "profile")?,
            },
        };
        Some(format)
    }

    pub fn codec(self) -> Codec {
        match self {
            Self::Opus { .. } => Codec::Opus,
            Self::Red { .. } => Codec::Red,
            Self::Vp8 => Codec::Vp8,
            Self::Vp9 { .. } => Codec::Vp9,
            Self::H264 { .. } => Codec::H264,
            Self::Av1 { .. } => Codec::Av1,
        }
    }

    pub fn is_stereo(self) -> bool {
        matches!(
            self,
            Self::Opus { stereo: true } | Self::Red { stereo: true }
        )
    }

    pub fn mime_type(self) -> &'static str {
        mime_type(self.codec())
    }

    /// The parameters as a sender states them; read again by [`Format::parse`].
    pub fn fmtp(self) -> Cow<'static, str> {
        match self {
            Self::Opus { stereo: false } => "minptime=10;useinbandfec=1".into(),
            Self::Opus { stereo: true } => "minptime=10;useinbandfec=1;sprop-stereo=1".into(),
            Self::Red { stereo: true } => "sprop-stereo=1".into(),
            Self::Red { stereo: false } | Self::Vp8 => "".into(),
            Self::Vp9 { profile } => format!("profile-id={profile}").into(),
            Self::H264 {
                profile,
                level,
                packetization,
            } => {
                let mode = match packetization {
                    Packetization::SingleNalUnit => 0,
                    Packetization::NonInterleaved => 1,
                };
                let profile = profile.idc_and_constraints();
                format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}{level:02x}")
                    .into()
            }
            Self::Av1 { profile } => format!("level-idx=5;profile={profile};tier=0").into(),
        }
    }

    /// How well a receiver of `receiver` is served with this format, 0 being best; `None` if it
    /// cannot decode it. Levels do not count: what browsers state bears no relation to what they
    /// decode. Redundant audio can be reduced to Opus on the way.
    pub(super) fn fit(self, receiver: Self) -> Option<u8> {
        match (self, receiver) {
            (Self::Opus { .. }, Self::Opus { .. })
            | (Self::Red { .. }, Self::Red { .. } | Self::Opus { .. })
            | (Self::Vp8, Self::Vp8) => Some(0),
            (Self::Vp9 { profile }, Self::Vp9 { profile: decoded })
            | (Self::Av1 { profile }, Self::Av1 { profile: decoded }) => {
                (profile == decoded).then_some(0)
            }
            (
                Self::H264 {
                    profile,
                    packetization,
                    ..
                },
                Self::H264 {
                    profile: decoded,
                    packetization: unpacked,
                    ..
                },
            ) => {
                // Single NAL units are valid in the non-interleaved mode as well, not the reverse.
                let packing = match (packetization, unpacked) {
                    (Packetization::NonInterleaved, Packetization::SingleNalUnit) => return None,
                    (Packetization::SingleNalUnit, Packetization::NonInterleaved) => 1,
                    _ => 0,
                };
                Some(profile.fit(decoded)? * 2 + packing)
            }
            _ => None,
        }
    }
}

impl H264Profile {
    /// RFC 6184 table 5.
    fn parse(idc: u8, constraints: u8) -> Option<Self> {
        match (idc, constraints) {
            (0x42, c) if c & 0x4f == 0x40 => Some(Self::ConstrainedBaseline),
            (0x4d, c) if c & 0x8f == 0x80 => Some(Self::ConstrainedBaseline),
            (0x58, c) if c & 0xcf == 0xc0 => Some(Self::ConstrainedBaseline),
            (0x42, c) if c & 0x4f == 0x00 => Some(Self::Baseline),
            (0x58, c) if c & 0xcf == 0x80 => Some(Self::Baseline),
            (0x4d, c) if c & 0xaf == 0x00 => Some(Self::Main),
            (0x64, 0x0c) => Some(Self::ConstrainedHigh),
            (0x64, 0x00) => Some(Self::High),
            _ => None,
        }
    }

    fn idc_and_constraints(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "42e0",
            Self::Baseline => "4200",
            Self::Main => "4d00",
            Self::ConstrainedHigh => "640c",
            Self::High => "6400",
        }
    }

    /// Like [`Format::fit`]. Baseline's own tools are used by no encoder in WebRTC, so whoever
    /// decodes constrained baseline decodes it too.
    fn fit(self, decoded: Self) -> Option<u8> {
        let subset = match self {
            Self::ConstrainedBaseline | Self::Baseline => true,
            Self::Main | Self::ConstrainedHigh => decoded == Self::High,
            Self::High => false,
        };
        match (self == decoded, subset) {
            (true, _) => Some(0),
            (false, true) => Some(1 + decoded as u8),
            (false, false) => None,
        }
    }
}

pub fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::Red => "audio/red",
        Codec::Vp8 => "video/VP8",
        Codec::Vp9 => "video/VP9",
        Codec::H264 => "video/H264",
        Codec::Av1 => "video/AV1",
    }
}

/// As in `a=rtpmap`.
pub(super) fn encoding(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Red => "red/48000/2",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::H264 => "H264/90000",
        Codec::Av1 => "AV1/90000",
    }
}

/// `None` for what is not served.
pub fn codec_of_mime_type(text: &str) -> Option<Codec> {
    [
        Codec::Opus,
        Codec::Red,
        Codec::Vp8,
        Codec::Vp9,
        Codec::H264,
        Codec::Av1,
    ]
    .into_iter()
    .find(|&codec| mime_type(codec).eq_ignore_ascii_case(text))
}

/// Keys and values of an `fmtp`.
pub(super) fn parameters(fmtp: &str) -> impl Iterator<Item = (&str, &str)> {
    fmtp.split(';')
        .filter_map(|parameter| split_once(parameter.trim_ascii(), b'='))
}

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    parameters(fmtp)
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// 0 if absent, which is the default of both parameters this is used for.
fn number(fmtp: &str, name: &str) -> Option<u8> {
    parameter(fmtp, name).map_or(Some(0), |value| value.parse().ok())
}

fn is_stereo(fmtp: &str) -> bool {
    parameters(fmtp).any(|(key, value)| matches!(key, "stereo" | "sprop-stereo") && value == "1")
}

fn h264(fmtp: &str) -> Option<Format> {
    let packetization = match parameter(fmtp, "packetization-mode").unwrap_or("0") {
        "0" => Packetization::SingleNalUnit,
        "1" => Packetization::NonInterleaved,
        _ => return None,
    };
    // The default of every WebRTC endpoint; RFC 6184's own (level 1) would fit no camera.
    let [_, idc, constraints, level] = match parameter(fmtp, "profile-level-id") {
        Some(text) if text.len() == 6 => u32::from_str_radix(text, 16).ok()?.to_be_bytes(),
        Some(_) => return None,
        None => [0, 0x42, 0xe0, 0x1f],
    };
    Some(Format::H264 {
        profile: H264Profile::parse(idc, constraints)?,
        level,
        packetization,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CB: H264Profile = H264Profile::ConstrainedBaseline;
    const PACKED: Packetization = Packetization::NonInterleaved;

    #[test]
    fn formats_are_read() {
        fn check(mime_type: &str, fmtp: &str, expected: Option<Format>) {
            assert_eq!(
                Format::parse(mime_type, fmtp),
                expected,
                "{mime_type} {fmtp}"
            );
        }
        let h264 = |profile, level, packetization| {
            Some(Format::H264 {
                profile,
                level,
                packetization,
            })
        };
        check(
            "audio/OPUS",
            "minptime=10;useinbandfec=1",
            Some(Format::Opus { stereo: false }),
        );
        check(
            "audio/opus",
            "minptime=10; stereo=1",
            Some(Format::Opus { stereo: true }),
        );
        check(
            "audio/opus",
            "sprop-stereo=1",
            Some(Format::Opus { stereo: true }),
        );
        check("video/vp8", "max-fs=12288;max-fr=60", Some(Format::Vp8));
        check("video/VP9", "", Some(Format::Vp9 { profile: 0 }));
        check(
            "video/VP9",
            "profile-id=2",
            Some(Format::Vp9 { profile: 2 }),
        );
        check("video/VP9", "profile-id=x", None);
        check(
            "video/AV1",
            "level-idx=5;profile=1;tier=0",
            Some(Format::Av1 { profile: 1 }),
        );
        check("video/H264", "", h264(CB, 31, Packetization::SingleNalUnit));
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=42e01f",
            h264(CB, 31, PACKED),
        );
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=42C02A",
            h264(CB, 42, PACKED),
        );
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=42001f",
            h264(H264Profile::Baseline, 31, PACKED),
        );
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=4d0032",
            h264(H264Profile::Main, 50, PACKED),
        );
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=640c34",
            h264(H264Profile::ConstrainedHigh, 52, PACKED),
        );
        check(
            "video/H264",
            "packetization-mode=1;profile-level-id=f4001f",
            None,
        );
        check(
            "video/H264",
            "packetization-mode=2;profile-level-id=42e01f",
            None,
        );
        check("video/H264", "profile-level-id=42e0", None);
        check("video/H264", "profile-level-id=+2e01f", None);
        check("video/H265", "", None);
        check("video", "", None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for format in [
            Format::Opus { stereo: true },
            Format::Opus { stereo: false },
            Format::Red { stereo: true },
            Format::Vp8,
            Format::Vp9 { profile: 2 },
            Format::Av1 { profile: 1 },
            Format::H264 {
                profile: CB,
                level: 31,
                packetization: PACKED,
            },
            Format::H264 {
                profile: H264Profile::High,
                level: 52,
                packetization: Packetization::SingleNalUnit,
            },
        ] {
            assert_eq!(
                Format::parse(format.mime_type(), &format.fmtp()),
                Some(format)
            );
        }
    }

    #[test]
    fn receivers_are_ranked() {
        fn check(track: &str, receivers: &[&str], expected: Option<usize>) {
            let h264 = |fmtp| Format::parse("video/H264", fmtp).unwrap();
            let best = (0..receivers.len())
                .filter_map(|index| Some((h264(track).fit(h264(receivers[index]))?, index)))
                .min()
                .map(|(_, index)| index);
            assert_eq!(best, expected, "{track} to {receivers:?}");
        }
        let constrained = "packetization-mode=1;profile-level-id=42e01f";
        let constrained_single = "packetization-mode=0;profile-level-id=42e01f";
        let baseline = "packetization-mode=1;profile-level-id=42001f";
        let main = "packetization-mode=1;profile-level-id=4d001f";
        let high = "packetization-mode=1;profile-level-id=64001f";
        check(
            constrained,
            &[baseline, constrained_single, constrained],
            Some(2),
        );
        check(constrained, &[constrained_single], None);
        check(
            constrained_single,
            &[constrained, constrained_single],
            Some(1),
        );
        check(constrained_single, &[constrained], Some(0));
        check(baseline, &[high, main, constrained], Some(2));
        check(main, &[constrained, high], Some(1));
        check(high, &[constrained, main], None);
    }
}
