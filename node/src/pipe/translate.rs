//! What shards say to each other, as nodes say it, and back: the one place where the messages of pipes are
//! made and read.
//!
//! What comes from another node is checked here: beyond, types cannot be wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_node_core::forward::{EncodingSet, MAX_ENCODINGS};
use pipemesh_node_core::layer::{Layer, LayerRates, MeasuredLayer};
use pipemesh_node_core::loudest::Told;
use pipemesh_node_core::quality::Quality;
use pipemesh_node_core::router::TrackKey;
use pipemesh_node_core::router::relay::{Interest, RelayedReport};
use pipemesh_node_core::rtcp::SenderInfo;
use pipemesh_node_core::track::{Size, TrackSpec};
use pipemesh_proto::ids::{NodeId, RoomId, TrackId};
use pipemesh_proto::pipe;

use super::exchange::LONGEST_PATH;
use crate::session::plan::{Extensions, PayloadType};
use crate::session::sdp::{Format, codec_of_mime_type, mime_type};
use crate::shard::{Judgement, SessionKey, Speaker, TrackState};

/// A sender report that is older says nothing of use. They come every few seconds.
const OLDEST: Duration = Duration::from_secs(600);
/// Payload types of one track: a codec or two, and what goes on in its RED.
const MAX_PAYLOAD_TYPES: usize = 16;
/// Beyond it a track weighs no more than this.
const MAX_PRIORITY: u32 = 7;

pub(super) fn interest(subscription: u32, interest: Interest) -> pipe::Interest {
    pipe::Interest {
        subscription,
        encodings: interest.encodings.bits().into(),
        known: interest.known.bits().into(),
        wanted: interest.wanted.into(),
        fresh: interest.fresh.bits().into(),
        priority: interest.priority.into(),
    }
}

pub(super) fn read_interest(interest: &pipe::Interest) -> Interest {
    Interest {
        encodings: EncodingSet::of_bits(interest.encodings as u8),
        known: EncodingSet::of_bits(interest.known as u8),
        wanted: interest.wanted.min(MAX_ENCODINGS as u32) as u8,
        fresh: EncodingSet::of_bits(interest.fresh as u8),
        priority: interest.priority.min(MAX_PRIORITY) as u8,
    }
}

pub(super) fn state(subscription: u32, state: &TrackState, format: Format) -> pipe::TrackState {
    let spec = &state.spec;
    let size = |size: &Size| pipe::Size {
        width: size.width,
        height: size.height,
    };
    let payload_type = |known: &PayloadType| pipe::PayloadType {
        number: known.number.into(),
        mime_type: mime_type(known.codec).to_owned(),
    };
    pipe::TrackState {
        subscription,
        mime_type: format.mime_type().to_owned(),
        fmtp: format.fmtp().into_owned(),
        muted: spec.muted,
        encodings: spec.encodings.into(),
        sizes: spec.sizes.iter().map(size).collect(),
        live: state.live.bits().into(),
        extensions: Some(extensions(state.extensions)),
        payload_types: state.codecs.iter().map(payload_type).collect(),
        microphone: spec.speaks,
        participant_id: state
            .participant
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        path: state.path.iter().map(NodeId::to_string).collect(),
    }
}

/// `None`: it cannot be a track, or is one of a kind that this version does not know.
pub(super) fn read_state(state: &pipe::TrackState) -> Option<(TrackState, Format)> {
    let format = Format::parse(&state.mime_type, &state.fmtp)?;
    let encodings = u8::try_from(state.encodings).ok()?;
    if !(1..=MAX_ENCODINGS as u8).contains(&encodings) || state.path.len() > LONGEST_PATH {
        return None;
    }
    let path = state.path.iter().map(|node| node.parse());
    let path: Vec<NodeId> = path.collect::<Result<_, _>>().ok()?;
    let sizes = state.sizes.iter().take(MAX_ENCODINGS).map(|size| Size {
        width: size.width,
        height: size.height,
    });
    let payload_types = state.payload_types.iter().take(MAX_PAYLOAD_TYPES);
    let codecs = payload_types.filter_map(|known| {
        Some(PayloadType {
            codec: codec_of_mime_type(&known.mime_type)?,
            number: u8::try_from(known.number).ok()?,
            repair: None,
        })
    });
    let spec = TrackSpec {
        // Those of whoever takes it.
        room: 0,
        participant: SessionKey(0),
        is_video: format.codec().is_video(),
        speaks: state.microphone && !format.codec().is_video(),
        nack: true,
        muted: state.muted,
        encodings,
        sizes: sizes.collect(),
    };
    // A version before this does not say.
    let participant = &state.participant_id;
    let state = TrackState {
        key: TrackKey::ELSEWHERE,
        spec,
        live: EncodingSet::of_bits(state.live as u8),
        extensions: read_extensions(&state.extensions.unwrap_or_default()),
        codecs: codecs.collect(),
        participant: participant.parse().ok(),
        path: path.into(),
    };
    Some((state, format))
}

fn extensions(known: Extensions) -> pipe::Extensions {
    let id = |id: Option<u8>| id.map_or(0, u32::from);
    pipe::Extensions {
        mid: id(known.mid),
        rid: id(known.rid),
        repaired_rid: id(known.repaired_rid),
        audio_level: id(known.audio_level),
        transport_sequence: id(known.transport_sequence),
        absolute_send_time: id(known.absolute_send_time),
        absolute_capture_time: id(known.absolute_capture_time),
        dependency_descriptor: id(known.dependency_descriptor),
    }
}

fn read_extensions(told: &pipe::Extensions) -> Extensions {
    let id = |id: u32| u8::try_from(id).ok().filter(|id| *id > 0);
    Extensions {
        mid: id(told.mid),
        rid: id(told.rid),
        repaired_rid: id(told.repaired_rid),
        audio_level: id(told.audio_level),
        transport_sequence: id(told.transport_sequence),
        absolute_send_time: id(told.absolute_send_time),
        absolute_capture_time: id(told.absolute_capture_time),
        dependency_descriptor: id(told.dependency_descriptor),
    }
}

pub(super) fn report(
    subscription: u32,
    report: &RelayedReport,
    now: Instant,
) -> pipe::SenderReport {
    let age = now.saturating_duration_since(report.received);
    pipe::SenderReport {
        subscription,
        encoding: report.encoding.into(),
        restarts: report.restarts.into(),
        ntp: report.info.ntp,
        rtp: report.info.rtp,
        packets: report.info.packets,
        octets: report.info.octets,
        clock_rate: report.rate,
        age_us: age.as_micros().min(u128::from(u64::MAX)) as u64,
    }
}

/// `None`: it makes no sense. `delay` is what a message takes from there.
pub(super) fn read_report(
    report: &pipe::SenderReport,
    delay: Duration,
    now: Instant,
) -> Option<RelayedReport> {
    let encoding = u8::try_from(report.encoding).ok()?;
    if usize::from(encoding) >= MAX_ENCODINGS || report.clock_rate == 0 {
        return None;
    }
    let age = Duration::from_micros(report.age_us).saturating_add(delay);
    if age > OLDEST {
        return None;
    }
    Some(RelayedReport {
        encoding,
        restarts: report.restarts as u8,
        info: SenderInfo {
            ntp: report.ntp,
            rtp: report.rtp,
            packets: report.packets,
            octets: report.octets,
        },
        rate: report.clock_rate,
        received: now.checked_sub(age)?,
    })
}

pub(super) fn rates(subscription: u32, rates: &LayerRates) -> pipe::LayerRates {
    let layers = rates.measured().map(|measured| pipe::LayerRate {
        spatial: measured.layer.spatial.into(),
        temporal: measured.layer.temporal.into(),
        bits_per_second: measured.bits,
        frames_in_16_seconds: measured.frames,
    });
    pipe::LayerRates {
        subscription,
        layers: layers.collect(),
        nested: rates.is_nested(),
    }
}

pub(super) fn read_rates(rates: &pipe::LayerRates) -> LayerRates {
    let layers = rates.layers.iter().filter_map(|rate| {
        Some(MeasuredLayer {
            layer: Layer {
                spatial: u8::try_from(rate.spatial).ok()?,
                temporal: u8::try_from(rate.temporal).ok()?,
            },
            bits: rate.bits_per_second,
            frames: rate.frames_in_16_seconds,
        })
    });
    LayerRates::of_measured(layers, rates.nested)
}

pub(super) fn speakers(room: &RoomId, speakers: &[Speaker]) -> pipe::Speakers {
    let speaker = |speaker: &Speaker| pipe::Speaker {
        participant_id: speaker.participant.to_string(),
        level: speaker.level,
        active: speaker.active,
    };
    pipe::Speakers {
        room_id: room.to_string(),
        speakers: speakers.iter().map(speaker).collect(),
    }
}

pub(super) fn read_speakers(told: &pipe::Speakers) -> Option<(RoomId, Arc<[Speaker]>)> {
    let speaker = |speaker: &pipe::Speaker| {
        Some(Speaker {
            participant: speaker.participant_id.parse().ok()?,
            level: speaker.level.clamp(0.0, 1.0),
            active: speaker.active,
        })
    };
    let speakers = told.speakers.iter().map(speaker);
    Some((told.room_id.parse().ok()?, speakers.collect::<Option<_>>()?))
}

pub(super) fn microphones(room: &RoomId, told: &[Told<TrackId>]) -> pipe::Microphones {
    let microphone = |told: &Told<TrackId>| pipe::Microphone {
        track_id: told.microphone.to_string(),
        loudness: told.loudness.into(),
    };
    pipe::Microphones {
        room_id: room.to_string(),
        microphones: told.iter().map(microphone).collect(),
    }
}

pub(super) fn read_microphones(told: &pipe::Microphones) -> Option<(RoomId, Arc<[Told<TrackId>]>)> {
    let microphone = |told: &pipe::Microphone| {
        Some(Told {
            microphone: told.track_id.parse().ok()?,
            loudness: u8::try_from(told.loudness).ok()?,
        })
    };
    let microphones = told.microphones.iter().map(microphone);
    Some((
        told.room_id.parse().ok()?,
        microphones.collect::<Option<_>>()?,
    ))
}

pub(super) fn quality(room: &RoomId, judged: &[Judgement]) -> pipe::Quality {
    let judgement = |(participant, quality, score): &Judgement| pipe::ParticipantQuality {
        participant_id: participant.to_string(),
        quality: match quality {
            Quality::Lost => 1,
            Quality::Poor => 2,
            Quality::Good => 3,
            Quality::Excellent => 4,
        },
        score: *score,
    };
    pipe::Quality {
        room_id: room.to_string(),
        participants: judged.iter().map(judgement).collect(),
    }
}

pub(super) fn read_quality(told: &pipe::Quality) -> Option<(RoomId, Arc<[Judgement]>)> {
    let judgement = |told: &pipe::ParticipantQuality| {
        let quality = match told.quality {
            1 => Quality::Lost,
            2 => Quality::Poor,
            3 => Quality::Good,
            4 => Quality::Excellent,
            _ => return None,
        };
        let participant = told.participant_id.parse().ok()?;
        Some((participant, quality, told.score.clamp(1.0, 4.5)))
    };
    let judged = told.participants.iter().map(judgement);
    Some((told.room_id.parse().ok()?, judged.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipemesh_node_core::codec::Codec;

    #[test]
    fn a_track_is_described_as_it_is() {
        let format = Format::parse("video/VP9", "profile-id=2").unwrap();
        let known = TrackState {
            key: TrackKey::ELSEWHERE,
            spec: TrackSpec {
                room: 0,
                participant: SessionKey(0),
                is_video: true,
                speaks: false,
                nack: true,
                muted: true,
                encodings: 3,
                sizes: vec![
                    Size {
                        width: 320,
                        height: 180,
                    },
                    Size::default(),
                ],
            },
            live: EncodingSet::of_bits(0b101),
            extensions: Extensions {
                audio_level: Some(3),
                dependency_descriptor: Some(255),
                ..Extensions::default()
            },
            codecs: vec![PayloadType {
                codec: Codec::Vp9,
                number: 98,
                repair: None,
            }],
            participant: Some("PA_ann".parse().unwrap()),
            path: ["a", "b"].map(|node| node.parse().unwrap()).into(),
        };
        let told = state(7, &known, format);
        assert_eq!(told.subscription, 7);
        assert_eq!(read_state(&told), Some((known, format)));
    }

    #[test]
    fn a_track_of_a_version_that_does_not_say_whose_is_nobodys() {
        let told = pipe::TrackState {
            mime_type: "audio/opus".to_owned(),
            encodings: 1,
            ..pipe::TrackState::default()
        };
        let (state, _) = read_state(&told).unwrap();
        assert_eq!(state.participant, None);
    }

    #[test]
    fn what_is_used_is_told_as_it_is() {
        let known = Interest {
            encodings: EncodingSet::of_bits(0b110),
            known: EncodingSet::of_bits(0b111),
            wanted: 3,
            fresh: EncodingSet::of_bits(0b010),
            priority: 1,
        };
        let told = interest(9, known);
        assert_eq!(read_interest(&told), known);
        let heavy = pipe::Interest {
            priority: 300,
            ..told
        };
        assert_eq!(read_interest(&heavy).priority, 7);
    }

    #[test]
    fn microphones_are_told_as_loud_as_they_are() {
        let room: RoomId = "RM_room".parse().unwrap();
        let known: Arc<[Told<TrackId>]> = Arc::new([
            Told {
                microphone: "TR_ann".parse().unwrap(),
                loudness: 127,
            },
            Told {
                microphone: "TR_ben".parse().unwrap(),
                loudness: 0,
            },
        ]);
        let told = microphones(&room, &known);
        assert_eq!(read_microphones(&told), Some((room, known)));
        let check = |change: fn(&mut pipe::Microphones)| {
            let mut told = told.clone();
            change(&mut told);
            assert_eq!(read_microphones(&told), None, "{told:?}");
        };
        check(|told| told.room_id.clear());
        check(|told| told.microphones[0].track_id = "ann".to_owned());
        check(|told| told.microphones[1].loudness = 256);
    }

    #[test]
    fn what_cannot_be_a_track_is_refused() {
        let good = pipe::TrackState {
            mime_type: "audio/opus".to_owned(),
            encodings: 1,
            ..pipe::TrackState::default()
        };
        assert!(read_state(&good).is_some());
        let check = |change: fn(&mut pipe::TrackState)| {
            let mut state = good.clone();
            change(&mut state);
            assert_eq!(read_state(&state), None, "{state:?}");
        };
        check(|state| state.encodings = 0);
        check(|state| state.encodings = 5);
        check(|state| state.encodings = 257);
        check(|state| state.mime_type = "video/H266".to_owned());
        check(|state| state.path = vec!["no id".to_owned()]);
        check(|state| state.path = vec!["a".to_owned(); LONGEST_PATH + 1]);
    }

    #[test]
    fn a_report_is_as_old_there_as_it_is() {
        let now = Instant::now();
        let ago = Duration::from_millis(300);
        let known = RelayedReport {
            encoding: 2,
            restarts: 9,
            info: SenderInfo {
                ntp: 1 << 40,
                rtp: 5,
                packets: 6,
                octets: 7,
            },
            rate: 90_000,
            received: now.checked_sub(ago).unwrap(),
        };
        let told = report(1, &known, now);
        // It took 50 ms: by then the report is older, but by no other moment.
        let delay = Duration::from_millis(50);
        assert_eq!(read_report(&told, delay, now + delay), Some(known));
        let check = |change: fn(&mut pipe::SenderReport)| {
            let mut report = told;
            change(&mut report);
            assert_eq!(read_report(&report, delay, now), None, "{report:?}");
        };
        check(|report| report.encoding = 4);
        check(|report| report.clock_rate = 0);
        check(|report| report.age_us = u64::MAX);
    }

    #[test]
    fn rates_are_those_that_were_measured() {
        let layer = |spatial, temporal, bits| MeasuredLayer {
            layer: Layer { spatial, temporal },
            bits,
            frames: 240,
        };
        let known = LayerRates::of_measured([layer(0, 0, 100), layer(2, 1, 300)], true);
        assert_eq!(read_rates(&rates(1, &known)), known);
        assert_eq!(known.measured().count(), 2);
    }
}
