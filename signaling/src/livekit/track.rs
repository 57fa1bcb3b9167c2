//! A published track: the client's announcement, what others are told, what the node is asked.

use livekit_protocol::video_layer::Mode;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, BackupCodecPolicy, Codec, SimulcastCodecInfo, TrackInfo,
    TrackSource, TrackType, VideoLayer, VideoQuality,
};
use pipemesh_proto::ids::TrackId;
use pipemesh_proto::node;

use super::client::Client;

/// Codecs that may be published. Video first: Flutter's SDK 2.4.2 takes the first for a video
/// codec. VP8 before all others: SDKs look for a fallback from the front.
const PUBLISH_CODECS: [&str; 6] = [
    "video/VP8",
    "video/H264",
    "video/VP9",
    "video/AV1",
    "audio/opus",
    "audio/red",
];

/// What a client is given that asks for a video codec we do not have.
const FALLBACK_VIDEO_CODEC: &str = "video/VP8";

pub(crate) fn publish_codecs() -> Vec<Codec> {
    let codec = |mime: &str| Codec {
        mime: mime.to_owned(),
        fmtp_line: String::new(),
    };
    PUBLISH_CODECS.map(codec).to_vec()
}

/// Neither audio nor video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnsupportedKind;

/// A client's announcement, understood.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) info: TrackInfo,
    pub(crate) ask: node::AddTrack,
}

#[expect(
    deprecated,
    reason = "older SDKs read and write the fields that newer ones replaced"
)]
pub(crate) fn announce(
    request: &AddTrackRequest,
    id: &TrackId,
    client: &Client,
) -> Result<Announcement, UnsupportedKind> {
    let kind = match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => node::MediaKind::Audio,
        Ok(TrackType::Video) => node::MediaKind::Video,
        Ok(TrackType::Data) | Err(_) => return Err(UnsupportedKind),
    };
    let layers = sorted(&request.layers);
    let codecs = codecs(request, kind);
    let simulcast = codecs.first().is_some_and(|codec| {
        codec.video_layer_mode != i32::from(Mode::MultipleSpatialLayersPerStream)
            && codec.layers.len() > 1
    });
    let source = TrackSource::try_from(request.source).unwrap_or_default();
    let mut info = TrackInfo {
        sid: id.to_string(),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast,
        source: source.into(),
        layers,
        codecs,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: match request.stream.as_str() {
            "" => default_stream(source).to_owned(),
            stream => stream.to_owned(),
        },
        backup_codec_policy: match kind {
            node::MediaKind::Video => request.backup_codec_policy,
            _ => BackupCodecPolicy::Simulcast.into(),
        },
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..Default::default()
    };
    let mut features = request.audio_features.clone();
    if request.stereo {
        features.push(AudioTrackFeature::TfStereo.into());
    }
    if request.disable_dtx {
        features.push(AudioTrackFeature::TfNoDtx.into());
    }
    set_audio_features(&mut info, features);
    let is_audio = kind == node::MediaKind::Audio;
    let ask = node::AddTrack {
        track_id: id.to_string(),
        client_track_id: request.cid.clone(),
        kind: kind.into(),
        source: node_source(source).into(),
        codecs: asked_codec(&info).into_iter().collect(),
        layers: (0..).zip(&info.layers).map(layer_info).collect(),
        muted: request.muted,
        stereo: is_audio && info.stereo,
        dtx: is_audio && !info.disable_dtx,
        red: is_audio && !info.disable_red && client.receives_red(),
    };
    Ok(Announcement { info, ask })
}

/// The node negotiated the track.
#[expect(
    deprecated,
    reason = "older SDKs read the fields that newer ones replaced"
)]
pub(crate) fn start(info: &mut TrackInfo, started: &node::TrackStarted) {
    info.mid.clone_from(&started.mid);
    info.mime_type.clone_from(&started.mime_type);
    match info.codecs.first_mut() {
        Some(codec) => {
            codec.mid.clone_from(&started.mid);
            codec.mime_type.clone_from(&started.mime_type);
        }
        None => info.codecs.push(SimulcastCodecInfo {
            mid: started.mid.clone(),
            mime_type: started.mime_type.clone(),
            layers: info.layers.clone(),
            video_layer_mode: Mode::OneSpatialLayerPerStream.into(),
            ..Default::default()
        }),
    }
    set_layers(info, &started.layers);
}

/// What the node knows of the encodings. Nothing known changes nothing.
#[expect(
    deprecated,
    reason = "older SDKs read the fields that newer ones replaced"
)]
pub(crate) fn set_layers(info: &mut TrackInfo, layers: &[node::LayerInfo]) {
    if layers.is_empty() || info.r#type != i32::from(TrackType::Video) {
        return;
    }
    let declared = std::mem::take(&mut info.layers);
    let single = layers.len() == 1;
    let quality_of = |spatial: u32| {
        let declared = declared.get(spatial as usize).map(|layer| layer.quality);
        let by_place = match (single, spatial) {
            // For a single layer the protocol says HIGH.
            (true, _) | (_, 2..) => VideoQuality::High,
            (_, 1) => VideoQuality::Medium,
            (_, 0) => VideoQuality::Low,
        };
        declared.unwrap_or(by_place.into())
    };
    info.layers = layers
        .iter()
        .map(|layer| {
            let before = declared.get(layer.spatial as usize);
            let known =
                |now: u32, before: Option<u32>| if now > 0 { now } else { before.unwrap_or(0) };
            VideoLayer {
                quality: quality_of(layer.spatial),
                width: known(layer.width, before.map(|before| before.width)),
                height: known(layer.height, before.map(|before| before.height)),
                bitrate: known(layer.bitrate_bps, before.map(|before| before.bitrate)),
                ssrc: layer.ssrc,
                spatial_layer: i32::try_from(layer.spatial).unwrap_or(0),
                rid: layer.rid.clone(),
                repair_ssrc: layer.repair_ssrc,
            }
        })
        .collect();
    info.layers.sort_by_key(|layer| layer.spatial_layer);
    if let Some(codec) = info.codecs.first_mut() {
        codec.layers = info.layers.clone();
    }
}

/// Which layers those are that a viewer with this limit may get: the number of spatial layers, 0 for all
/// there are. A publisher may send more layers than it has announced.
#[expect(deprecated, reason = "where the layers of the first codec are")]
pub(crate) fn layers_up_to(info: &TrackInfo, quality: VideoQuality) -> u32 {
    let by_place = match quality {
        VideoQuality::High => return 0,
        VideoQuality::Medium => 2,
        VideoQuality::Low | VideoQuality::Off => 1,
    };
    // The one layer that is announced stands for the whole.
    if info.layers.len() <= 1 {
        return by_place;
    }
    let wanted = info
        .layers
        .iter()
        .filter(|layer| layer.quality <= i32::from(quality));
    u32::try_from(wanted.count()).unwrap_or(u32::MAX).max(1)
}

#[expect(
    deprecated,
    reason = "older SDKs read the fields that newer ones replaced"
)]
pub(crate) fn set_audio_features(info: &mut TrackInfo, mut features: Vec<i32>) {
    features.sort_unstable();
    features.dedup();
    info.stereo = features.contains(&AudioTrackFeature::TfStereo.into());
    info.disable_dtx = features.contains(&AudioTrackFeature::TfNoDtx.into());
    info.audio_features = features;
}

/// The id under which the client knows the track.
pub(crate) fn client_track_id(info: &TrackInfo) -> Option<&str> {
    let codec = info.codecs.first()?;
    (!codec.cid.is_empty()).then_some(codec.cid.as_str())
}

/// One entry per codec the client offers, without those it would fall back from.
fn codecs(request: &AddTrackRequest, kind: node::MediaKind) -> Vec<SimulcastCodecInfo> {
    let common = sorted(&request.layers);
    let mut codecs: Vec<SimulcastCodecInfo> = Vec::new();
    for codec in &request.simulcast_codecs {
        let Some(mime_type) = mime_type(&codec.codec, kind) else {
            continue;
        };
        if codecs.iter().any(|other| other.mime_type == mime_type) {
            continue;
        }
        let layers = match codec.layers.as_slice() {
            [] => common.clone(),
            layers => sorted(layers),
        };
        let asked = Mode::try_from(codec.video_layer_mode).unwrap_or_default();
        let mode = match (asked, mime_type) {
            (Mode::Unused, "video/VP9" | "video/AV1") => Mode::MultipleSpatialLayersPerStream,
            (Mode::Unused, _) => Mode::OneSpatialLayerPerStream,
            (asked, _) => asked,
        };
        codecs.push(SimulcastCodecInfo {
            mime_type: mime_type.to_owned(),
            cid: codec.cid.clone(),
            layers,
            video_layer_mode: match kind {
                node::MediaKind::Video => mode.into(),
                _ => Mode::Unused.into(),
            },
            ..Default::default()
        });
    }
    match codecs.first_mut() {
        // Clients name the track itself by the request's cid, in whatever codec.
        Some(first) if first.cid.is_empty() => first.cid.clone_from(&request.cid),
        Some(_) => {}
        None => codecs.push(SimulcastCodecInfo {
            cid: request.cid.clone(),
            layers: common,
            video_layer_mode: Mode::OneSpatialLayerPerStream.into(),
            ..Default::default()
        }),
    }
    codecs
}

/// The name of a codec as we write it, or of the one to fall back to; `None` if none was named.
fn mime_type(name: &str, kind: node::MediaKind) -> Option<&'static str> {
    if name.is_empty() {
        return None;
    }
    let (prefix, fallback) = match kind {
        node::MediaKind::Video => ("video/", FALLBACK_VIDEO_CODEC),
        _ => ("audio/", "audio/opus"),
    };
    let known = PUBLISH_CODECS.iter().find(|codec| {
        let short = codec.strip_prefix(prefix);
        codec.eq_ignore_ascii_case(name)
            || short.is_some_and(|short| short.eq_ignore_ascii_case(name))
    });
    let known = known.filter(|codec| codec.starts_with(prefix));
    Some(known.copied().unwrap_or(fallback))
}

/// The codec the node should negotiate; `None` leaves it to the order of the offer.
fn asked_codec(info: &TrackInfo) -> Option<String> {
    let codec = info.codecs.first()?;
    (!codec.mime_type.is_empty()).then(|| codec.mime_type.clone())
}

fn sorted(layers: &[VideoLayer]) -> Vec<VideoLayer> {
    let mut layers = layers.to_vec();
    layers.sort_by_key(|layer| layer.quality);
    layers
}

fn layer_info((spatial, layer): (u32, &VideoLayer)) -> node::LayerInfo {
    node::LayerInfo {
        spatial,
        rid: layer.rid.clone(),
        width: layer.width,
        height: layer.height,
        bitrate_bps: layer.bitrate,
        ssrc: 0,
        repair_ssrc: 0,
    }
}

fn node_source(source: TrackSource) -> node::TrackSource {
    match source {
        TrackSource::Unknown => node::TrackSource::Unspecified,
        TrackSource::Camera => node::TrackSource::Camera,
        TrackSource::Microphone => node::TrackSource::Microphone,
        TrackSource::ScreenShare => node::TrackSource::ScreenShare,
        TrackSource::ScreenShareAudio => node::TrackSource::ScreenShareAudio,
    }
}

/// Tracks that belong together are played in step.
fn default_stream(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests;
