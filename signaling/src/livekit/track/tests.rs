#![expect(
    deprecated,
    reason = "older SDKs read the fields that newer ones replaced"
)]

use livekit_protocol::SimulcastCodec;

use super::*;

fn layer(quality: VideoQuality, width: u32) -> VideoLayer {
    VideoLayer {
        quality: quality.into(),
        width,
        height: width / 2,
        bitrate: width * 1000,
        ..Default::default()
    }
}

fn video(codecs: &[&str], layers: Vec<VideoLayer>) -> AddTrackRequest {
    AddTrackRequest {
        cid: "cid-1".to_owned(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        width: 1280,
        height: 720,
        layers,
        simulcast_codecs: (0..)
            .zip(codecs)
            .map(|(i, codec)| SimulcastCodec {
                codec: (*codec).to_owned(),
                cid: if i == 0 {
                    "cid-1".to_owned()
                } else {
                    String::new()
                },
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn announced(request: &AddTrackRequest) -> Announcement {
    announce(request, &"TR_1".parse().unwrap(), &Client::default()).unwrap()
}

#[test]
fn layers_are_ordered_from_the_lowest_whatever_the_client_did() {
    let layers = vec![
        layer(VideoQuality::High, 1280),
        layer(VideoQuality::Low, 320),
        layer(VideoQuality::Medium, 640),
    ];
    let track = announced(&video(&["vp8"], layers));
    let widths: Vec<u32> = track.ask.layers.iter().map(|layer| layer.width).collect();
    assert_eq!(widths, [320, 640, 1280]);
    assert_eq!(track.ask.layers[2].spatial, 2);
    assert!(track.info.simulcast);
    assert_eq!(track.info.stream, "camera");
}

#[test]
fn codecs_are_named_as_we_have_them() {
    let check = |codecs: &[&str], expected: &[&str]| {
        let track = announced(&video(codecs, vec![]));
        let named: Vec<&str> = track
            .info
            .codecs
            .iter()
            .map(|codec| codec.mime_type.as_str())
            .collect();
        assert_eq!(named, expected, "{codecs:?}");
        let asked = track.ask.codecs.first().map_or("", String::as_str);
        assert_eq!(
            asked, expected[0],
            "only the first is for this track's section"
        );
    };
    check(&["vp9", "vp8"], &["video/VP9", "video/VP8"]);
    check(&["H264"], &["video/H264"]);
    check(&["video/av1"], &["video/AV1"]);
    check(&["h265"], &["video/VP8"]);
    check(&["h265", "vp8"], &["video/VP8"]);
    check(&["opus"], &["video/VP8"]);
    check(&[], &[""]);
    let svc = announced(&video(
        &["vp9"],
        vec![layer(VideoQuality::Low, 1), layer(VideoQuality::High, 2)],
    ));
    assert!(!svc.info.simulcast);
}

#[test]
fn a_track_keeps_the_clients_id_of_it() {
    for codecs in [&["vp8"][..], &[]] {
        let track = announced(&video(codecs, vec![]));
        assert_eq!(client_track_id(&track.info), Some("cid-1"));
        assert_eq!(track.ask.client_track_id, "cid-1");
    }
}

#[test]
fn audio_says_what_it_wants() {
    let audio = |stereo, disable_dtx, disable_red, features: &[AudioTrackFeature]| {
        announced(&AddTrackRequest {
            cid: "a".to_owned(),
            r#type: TrackType::Audio.into(),
            source: TrackSource::Microphone.into(),
            stereo,
            disable_dtx,
            disable_red,
            audio_features: features.iter().map(|feature| i32::from(*feature)).collect(),
            ..Default::default()
        })
    };
    let check = |track: Announcement, stereo, dtx, red| {
        assert_eq!(
            (track.ask.stereo, track.ask.dtx, track.ask.red),
            (stereo, dtx, red)
        );
        assert_eq!((track.info.stereo, track.info.disable_dtx), (stereo, !dtx));
    };
    check(audio(false, false, false, &[]), false, true, true);
    check(audio(true, true, true, &[]), true, false, false);
    use AudioTrackFeature::{TfNoDtx, TfStereo};
    let both = audio(true, false, false, &[TfStereo, TfNoDtx]);
    assert_eq!(both.info.audio_features.len(), 2, "each once");
    check(both, true, false, true);
}

#[test]
fn data_is_no_track() {
    for kind in [i32::from(TrackType::Data), 99] {
        let request = AddTrackRequest {
            r#type: kind,
            ..Default::default()
        };
        let id = "TR_1".parse().unwrap();
        assert_eq!(
            announce(&request, &id, &Client::default()).err(),
            Some(UnsupportedKind)
        );
    }
}

#[test]
fn what_the_node_learns_replaces_what_was_declared() {
    let layers = vec![
        layer(VideoQuality::Low, 320),
        layer(VideoQuality::Medium, 640),
    ];
    let mut track = announced(&video(&["vp8", "h264"], layers)).info;
    let seen = |spatial, rid: &str, ssrc| node::LayerInfo {
        spatial,
        rid: rid.to_owned(),
        ssrc,
        repair_ssrc: ssrc + 1,
        ..Default::default()
    };
    let started = node::TrackStarted {
        track_id: "TR_1".to_owned(),
        mid: "3".to_owned(),
        mime_type: "video/VP8".to_owned(),
        layers: vec![seen(1, "h", 20), seen(0, "q", 10)],
    };
    start(&mut track, &started);
    assert_eq!(
        (track.mid.as_str(), track.mime_type.as_str()),
        ("3", "video/VP8")
    );
    let layers = &track.codecs[0].layers;
    let got: Vec<_> = layers
        .iter()
        .map(|layer| {
            (
                layer.rid.as_str(),
                layer.quality,
                layer.width,
                layer.ssrc,
                layer.repair_ssrc,
            )
        })
        .collect();
    let (low, medium) = (VideoQuality::Low.into(), VideoQuality::Medium.into());
    assert_eq!(got, [("q", low, 320, 10, 11), ("h", medium, 640, 20, 21)]);

    let before = track.clone();
    set_layers(&mut track, &[]);
    assert_eq!(track, before);
}

#[test]
fn a_quality_is_a_number_of_layers() {
    let check = |layers: &[VideoQuality], quality, expected| {
        let layers = layers.iter().map(|quality| layer(*quality, 1)).collect();
        let track = announced(&video(&["vp8"], layers)).info;
        assert_eq!(layers_up_to(&track, quality), expected);
    };
    use VideoQuality::{High, Low, Medium};
    check(&[Low, Medium, High], Low, 1);
    check(&[Low, Medium, High], Medium, 2);
    check(&[Low, High], Medium, 1);
    // The best there is, whatever was announced.
    check(&[Low, Medium, High], High, 0);
    check(&[High], High, 0);
    check(&[High], Low, 1);
    check(&[High], Medium, 2);
    check(&[], Medium, 2);
}
