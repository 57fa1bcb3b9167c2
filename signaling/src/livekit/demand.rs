//! What of a track anybody can use, as its publisher is told. Nothing on the wire says whether a client
//! wants to hear of it (LiveKit's `dynacast`); those that do not ignore it.

use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, TrackInfo, VideoQuality,
};
use pipemesh_proto::node::CodecDemand;

/// `info` has the layers that the node knows, from the lowest up.
#[expect(
    deprecated,
    reason = "older SDKs read the field that a newer one replaced"
)]
pub(crate) fn quality_update(info: &TrackInfo, demand: &[CodecDemand]) -> SubscribedQualityUpdate {
    let mut codecs: Vec<SubscribedCodec> = demand
        .iter()
        .map(|wanted| SubscribedCodec {
            codec: short_name(&wanted.mime_type),
            qualities: qualities(up_to(info, wanted.spatial_layers)),
        })
        .collect();
    // What the node does not receive nobody can watch: a second codec need not be sent.
    for codec in &info.codecs {
        let name = short_name(&codec.mime_type);
        if !name.is_empty() && !codecs.iter().any(|known| known.codec == name) {
            codecs.push(SubscribedCodec {
                codec: name,
                qualities: qualities(None),
            });
        }
    }
    SubscribedQualityUpdate {
        track_sid: info.sid.clone(),
        subscribed_qualities: codecs
            .first()
            .map(|codec| codec.qualities.clone())
            .unwrap_or_default(),
        subscribed_codecs: codecs,
    }
}

/// The quality of the highest of so many layers. All of them: the highest there is, for clients that
/// have more layers than they announced.
#[expect(deprecated, reason = "where the layers of the first codec are")]
fn up_to(info: &TrackInfo, layers: u32) -> Option<VideoQuality> {
    let highest = usize::try_from(layers.checked_sub(1)?).ok()?;
    let is_last = highest + 1 >= info.layers.len();
    let named = info.layers.get(highest).map(|layer| layer.quality());
    Some(named.filter(|_| !is_last).unwrap_or(VideoQuality::High))
}

fn qualities(highest: Option<VideoQuality>) -> Vec<SubscribedQuality> {
    let all = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
    let each = all.map(|quality| SubscribedQuality {
        quality: quality.into(),
        enabled: highest.is_some_and(|highest| i32::from(quality) <= i32::from(highest)),
    });
    each.to_vec()
}

/// As SDKs name codecs: `vp8`.
fn short_name(mime_type: &str) -> String {
    let name = mime_type.rsplit('/').next().unwrap_or(mime_type);
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{SimulcastCodecInfo, VideoLayer};

    use super::*;

    #[expect(deprecated, reason = "where the layers of the first codec are")]
    fn track(layers: &[VideoQuality]) -> TrackInfo {
        let layer = |quality: &VideoQuality| VideoLayer {
            quality: i32::from(*quality),
            ..Default::default()
        };
        TrackInfo {
            sid: "TR_1".to_owned(),
            layers: layers.iter().map(layer).collect(),
            ..Default::default()
        }
    }

    fn enabled(codec: &SubscribedCodec) -> Vec<bool> {
        codec.qualities.iter().map(|one| one.enabled).collect()
    }

    fn vp8(spatial_layers: u32) -> CodecDemand {
        CodecDemand {
            mime_type: "video/VP8".to_owned(),
            spatial_layers,
        }
    }

    #[test]
    fn qualities_up_to_the_highest_wanted_layer_are_enabled() {
        use VideoQuality::{High, Low, Medium};
        let check = |layers: &[VideoQuality], wanted: u32, expected: [bool; 3]| {
            let update = quality_update(&track(layers), &[vp8(wanted)]);
            assert_eq!(update.subscribed_codecs[0].codec, "vp8");
            assert_eq!(enabled(&update.subscribed_codecs[0]), expected);
        };
        let three = [Low, Medium, High];
        check(&three, 0, [false; 3]);
        check(&three, 1, [true, false, false]);
        check(&three, 2, [true, true, false]);
        check(&three, 3, [true; 3]);
        // SDKs take the one encoding of a small or plain track for the lowest quality, or the highest.
        check(&[High], 1, [true; 3]);
        check(&[], 1, [true; 3]);
        check(&[Low, Medium], 1, [true, false, false]);
        check(&[Low, Medium], 2, [true; 3]);
    }

    #[test]
    fn old_clients_find_the_first_codec_where_they_look() {
        #![expect(deprecated, reason = "the field that is tested")]
        let update = quality_update(&track(&[]), &[vp8(0)]);
        assert_eq!(update.track_sid, "TR_1");
        assert_eq!(
            update.subscribed_qualities,
            update.subscribed_codecs[0].qualities
        );
    }

    #[test]
    fn a_codec_the_node_does_not_receive_is_not_wanted() {
        let mut info = track(&[]);
        info.codecs = ["video/VP9", "video/VP8"]
            .map(|mime_type| SimulcastCodecInfo {
                mime_type: mime_type.to_owned(),
                ..Default::default()
            })
            .to_vec();
        let vp9 = CodecDemand {
            mime_type: "video/VP9".to_owned(),
            spatial_layers: 3,
        };
        let update = quality_update(&info, &[vp9]);
        let codecs = update.subscribed_codecs.iter();
        let codecs: Vec<_> = codecs.map(|c| (c.codec.as_str(), enabled(c))).collect();
        assert_eq!(codecs, [("vp9", vec![true; 3]), ("vp8", vec![false; 3])]);
    }
}
