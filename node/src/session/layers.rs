//! From what a client announced of its layers to the encodings that were negotiated.

use pipemesh_node_core::track::Size;
use pipemesh_proto::node::{AddTrack, LayerInfo, MediaKind, TrackSource};

use crate::shard::PublishSpec;

/// One entry per negotiated encoding, from the lowest up: those announced with the same rid, else those
/// announced in the same place. Without simulcast there is one encoding, as large as the largest layer.
pub(super) fn of_encodings(announced: &[LayerInfo], rids: &[String]) -> Vec<LayerInfo> {
    if rids.is_empty() {
        let largest = announced
            .iter()
            .max_by_key(|layer| u64::from(layer.width) * u64::from(layer.height));
        let layer = largest.cloned().unwrap_or_default();
        return vec![LayerInfo {
            spatial: 0,
            rid: String::new(),
            ..layer
        }];
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

pub(super) fn publish_spec(announced: &AddTrack, layers: &[LayerInfo], nack: bool) -> PublishSpec {
    PublishSpec {
        is_video: announced.kind() == MediaKind::Video,
        speaks: announced.source() == TrackSource::Microphone,
        nack,
        muted: announced.muted,
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
            let encodings = of_encodings(announced, &rids);
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
}
