//! From what a client announced of its layers to the encodings that were negotiated.

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::track::Size;
use pipemesh_proto::node::{AddTrack, LayerInfo, MediaKind, TrackSource};

use crate::shard::PublishSpec;

/// One entry per negotiated encoding, from the lowest up: those announced with the same rid, else those
/// announced in the same place. Without simulcast there is one encoding: the layers of a codec that can
/// put several into it, or one as large as the largest.
pub(super) fn of_track(announced: &[LayerInfo], rids: &[String], codec: Codec) -> Vec<LayerInfo> {
    let inside = |(index, layer): (usize, &LayerInfo)| LayerInfo {
        spatial: index as u32,
        rid: String::new(),
        ..layer.clone()
    };
    if rids.is_empty() && announced.len() > 1 && codec.is_scalable() {
        return announced.iter().enumerate().map(inside).collect();
    }
    if rids.is_empty() {
        return vec![inside((0, &largest(announced)))];
    }
    let encodings = rids.iter().enumerate().map(|(index, rid)| {
        let named = announced.iter().find(|layer| layer.rid == *rid);
        let layer = named
            .or_else(|| announced.get(index))
            .cloned()
            .unwrap_or_default();
        LayerInfo {
            spatial: index as u32,
            rid: rid.clone(),
            ..layer
        }
    });
    encodings.collect()
}

fn largest(layers: &[LayerInfo]) -> LayerInfo {
    let pixels = |layer: &&LayerInfo| u64::from(layer.width) * u64::from(layer.height);
    layers
        .iter()
        .max_by_key(pixels)
        .cloned()
        .unwrap_or_default()
}

/// Names what SDP and packets made known of encodings; layers of one encoding have it in common.
pub(super) fn name_ssrcs(layers: &mut [LayerInfo], encodings: &[(Option<u32>, Option<u32>)]) {
    for (index, layer) in layers.iter_mut().enumerate() {
        let known = match encodings {
            [only] => Some(only),
            several => several.get(index),
        };
        if let Some((ssrc, repair_ssrc)) = known {
            layer.ssrc = ssrc.unwrap_or(0);
            layer.repair_ssrc = repair_ssrc.unwrap_or(0);
        }
    }
}

/// `layers` are those of [`of_track`] for these `rids`.
pub(super) fn publish_spec(
    announced: &AddTrack,
    layers: &[LayerInfo],
    rids: &[String],
    nack: bool,
) -> PublishSpec {
    PublishSpec {
        is_video: announced.kind() == MediaKind::Video,
        speaks: announced.source() == TrackSource::Microphone,
        nack,
        muted: announced.muted,
        encodings: u8::try_from(rids.len().max(1)).unwrap_or(u8::MAX),
        sizes: layers
            .iter()
            .map(|l| Size {
                width: l.width,
                height: l.height,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rid: &str, width: u32) -> LayerInfo {
        LayerInfo {
            rid: rid.into(),
            width,
            height: width / 2,
            ..LayerInfo::default()
        }
    }

    #[test]
    fn encodings_take_the_sizes_announced_for_them() {
        let check = |announced: &[LayerInfo], rids: &[&str], expected: &[(&str, u32)]| {
            let rids: Vec<String> = rids.iter().map(ToString::to_string).collect();
            let encodings = of_track(announced, &rids, Codec::Vp8);
            let found: Vec<(&str, u32)> = encodings
                .iter()
                .map(|layer| (layer.rid.as_str(), layer.width))
                .collect();
            assert_eq!(found, expected);
            let places: Vec<u32> = encodings.iter().map(|layer| layer.spatial).collect();
            assert_eq!(places, (0..expected.len() as u32).collect::<Vec<_>>());
        };
        check(&[], &[], &[("", 0)]);
        check(&[layer("q", 320), layer("f", 1280)], &[], &[("", 1280)]);
        check(&[layer("q", u32::MAX)], &[], &[("", u32::MAX)]);
        check(
            &[layer("f", 1280), layer("q", 320)],
            &["q", "f"],
            &[("q", 320), ("f", 1280)],
        );
        check(
            &[layer("", 320), layer("", 640)],
            &["q", "h", "f"],
            &[("q", 320), ("h", 640), ("f", 0)],
        );
    }

    #[test]
    fn layers_inside_one_encoding_share_its_ssrc() {
        let announced = [layer("q", 320), layer("f", 1280)];
        let mut layers = of_track(&announced, &[], Codec::Vp9);
        let widths: Vec<(u32, u32)> = layers.iter().map(|l| (l.spatial, l.width)).collect();
        assert_eq!(widths, [(0, 320), (1, 1280)]);
        name_ssrcs(&mut layers, &[(Some(7), Some(8))]);
        assert!(layers.iter().all(|l| (l.ssrc, l.repair_ssrc) == (7, 8)));
        let spec = publish_spec(&AddTrack::default(), &layers, &[], true);
        let sizes: Vec<u32> = spec.sizes.iter().map(|size| size.width).collect();
        assert_eq!((spec.encodings, sizes), (1, vec![320, 1280]));

        let mut layers = of_track(&announced, &["q".into(), "f".into()], Codec::Vp9);
        name_ssrcs(&mut layers, &[(Some(7), None), (None, None)]);
        assert_eq!(layers.iter().map(|l| l.ssrc).collect::<Vec<_>>(), [7, 0]);
    }
}
