//! What a subscriber can use of a track: its settings as the node's layer wish.

use livekit_protocol::{TrackInfo, TrackSource, TrackType, UpdateTrackSettings, VideoQuality};
use pipemesh_proto::node::LayerWish;

use super::track;

/// What screen shares get over cameras when nobody said otherwise: text must stay readable.
const SCREEN_PRIORITY: u32 = 2;
const USUAL_PRIORITY: u32 = 1;

/// The node serves larger numbers first, clients call the first 1.
const FIRST_PRIORITY: u32 = 1_000_000;

/// What a client said about a track it receives, or will.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) disabled: bool,
    width: u32,
    height: u32,
    frames_per_second: u32,
    priority: u32,
    quality: VideoQuality,
}

impl From<&UpdateTrackSettings> for Settings {
    fn from(update: &UpdateTrackSettings) -> Self {
        Self {
            disabled: update.disabled,
            width: update.width,
            height: update.height,
            frames_per_second: update.fps,
            priority: update.priority,
            quality: VideoQuality::try_from(update.quality).unwrap_or(VideoQuality::High),
        }
    }
}

/// `adaptive`: the client will say what it shows; until then it gets the least.
pub(crate) fn layer_wish(
    info: &TrackInfo,
    settings: Option<&Settings>,
    adaptive: bool,
) -> LayerWish {
    let is_screen = info.source == i32::from(TrackSource::ScreenShare);
    let usual = if is_screen {
        SCREEN_PRIORITY
    } else {
        USUAL_PRIORITY
    };
    let is_video = info.r#type == i32::from(TrackType::Video);
    let Some(settings) = settings else {
        return LayerWish {
            spatial_layers: u32::from(is_video && adaptive),
            priority: usual,
            ..Default::default()
        };
    };
    let priority = match settings.priority {
        0 => usual,
        rank => FIRST_PRIORITY.saturating_sub(rank),
    };
    let paused = settings.disabled || (is_video && settings.quality == VideoQuality::Off);
    if !is_video {
        return LayerWish {
            paused,
            priority,
            ..Default::default()
        };
    }
    let by_size = settings.width > 0 && settings.height > 0;
    LayerWish {
        paused,
        priority,
        frames_per_second: settings.frames_per_second,
        width: if by_size { settings.width } else { 0 },
        height: if by_size { settings.height } else { 0 },
        // The protocol: quality counts only for who gives no size.
        spatial_layers: if by_size || paused {
            0
        } else {
            track::layers_up_to(info, settings.quality)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(source: TrackSource) -> TrackInfo {
        TrackInfo {
            r#type: TrackType::Video.into(),
            source: source.into(),
            ..Default::default()
        }
    }

    fn wish(update: UpdateTrackSettings) -> LayerWish {
        let settings = Settings::from(&update);
        layer_wish(&video(TrackSource::Camera), Some(&settings), true)
    }

    #[test]
    fn who_says_nothing_gets_everything_unless_it_adapts() {
        let camera = video(TrackSource::Camera);
        assert_eq!(layer_wish(&camera, None, false).spatial_layers, 0);
        assert_eq!(layer_wish(&camera, None, true).spatial_layers, 1);
        let audio = TrackInfo::default();
        assert_eq!(layer_wish(&audio, None, true).spatial_layers, 0);
    }

    #[test]
    fn size_counts_before_quality() {
        let sized = wish(UpdateTrackSettings {
            width: 640,
            height: 360,
            fps: 15,
            quality: VideoQuality::Low.into(),
            ..Default::default()
        });
        assert_eq!(
            (sized.width, sized.height, sized.spatial_layers),
            (640, 360, 0)
        );
        assert_eq!(sized.frames_per_second, 15);
        let named = wish(UpdateTrackSettings {
            quality: VideoQuality::Medium.into(),
            ..Default::default()
        });
        assert_eq!((named.width, named.spatial_layers), (0, 2));
    }

    #[test]
    fn what_is_disabled_or_off_pauses() {
        let disabled = wish(UpdateTrackSettings {
            disabled: true,
            ..Default::default()
        });
        let off = wish(UpdateTrackSettings {
            quality: VideoQuality::Off.into(),
            ..Default::default()
        });
        assert!(disabled.paused && off.paused);
    }

    #[test]
    fn a_client_counts_from_the_front_and_a_node_from_the_back() {
        let rank = |priority| {
            wish(UpdateTrackSettings {
                priority,
                ..Default::default()
            })
            .priority
        };
        assert!(rank(1) > rank(2) && rank(2) > rank(0));
        let screen = layer_wish(&video(TrackSource::ScreenShare), None, false);
        assert!(screen.priority > rank(0) && screen.priority < rank(9));
    }
}
