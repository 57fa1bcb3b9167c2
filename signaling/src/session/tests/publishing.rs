//! Tracks, mute, metadata.

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::{
    AudioTrackFeature, MuteTrackRequest, SimulcastCodec, TrackSource, UpdateLocalAudioTrack,
    UpdateLocalVideoTrack, UpdateParticipantMetadata, VideoLayer,
};
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use super::bench::*;
use super::prelude::*;

fn published(bench: &Bench) -> Vec<&str> {
    bench
        .me()
        .info
        .tracks
        .iter()
        .map(|track| track.sid.as_str())
        .collect()
}

fn reasons(bench: &mut Bench) -> Vec<Reason> {
    let responses = bench.heard.drain(..).filter_map(|message| match message {
        Message::RequestResponse(response) => Some(response.reason()),
        _ => None,
    });
    responses.collect()
}

#[test]
fn a_track_is_answered_at_once_and_shown_when_it_starts() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    let Some(Message::TrackPublished(published_)) = bench.heard.first() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(published_.cid, "cam");
    assert_eq!(published_.track.as_ref().unwrap().sid, "TR_1");
    assert_eq!(bench.asked(), ["add TR_1"]);
    assert!(published(&bench).is_empty());

    bench.started("TR_1");
    assert_eq!(published(&bench), ["TR_1"]);
    assert!(bench.me().info.is_publisher);
    let version = bench.me().info.version;
    bench.event(Event::TrackLayers(contract::TrackLayers {
        track_id: "TR_1".to_owned(),
        layers: vec![contract::LayerInfo {
            ssrc: 7,
            ..Default::default()
        }],
    }));
    assert_eq!(bench.me().info.tracks[0].codecs[0].layers[0].ssrc, 7);
    assert!(bench.me().info.version > version);

    bench.event(Event::TrackEnded(contract::TrackEnded {
        track_id: "TR_1".to_owned(),
    }));
    assert!(published(&bench).is_empty() && !bench.me().info.is_publisher);
}

#[test]
fn sources_that_the_token_does_not_allow_are_refused() {
    let mut bench = Bench::connected(Setup {
        rights: Rights {
            publish_sources: [TrackSource::Microphone.into()].into(),
            ..Setup::default().rights
        },
        ..Setup::default()
    });
    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(reasons(&mut bench), [Reason::NotAllowed]);
    let mut microphone = add_track("mic");
    microphone.source = TrackSource::Microphone.into();
    microphone.r#type = livekit_protocol::TrackType::Audio.into();
    bench.says(FromClient::AddTrack(microphone));
    assert_eq!(bench.asked(), ["add TR_1"]);
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let mut bench = Bench::connected(Setup::default());
    let mut data = add_track("d");
    data.r#type = livekit_protocol::TrackType::Data.into();
    bench.says(FromClient::AddTrack(data));
    bench.says(FromClient::AddTrack(add_track("")));
    bench.says(FromClient::AddTrack(add_track(&"x".repeat(2000))));
    let mut unknown = add_track("second-codec");
    unknown.sid = "TR_9".to_owned();
    bench.says(FromClient::AddTrack(unknown));
    assert_eq!(
        reasons(&mut bench),
        [
            Reason::UnsupportedType,
            Reason::InvalidRequest,
            Reason::LimitExceeded,
            Reason::NotFound
        ]
    );
    for i in 0..70 {
        bench.says(FromClient::AddTrack(add_track(&format!("cam-{i}"))));
        bench.all_done();
    }
    assert_eq!(reasons(&mut bench), [Reason::LimitExceeded; 6]);
    assert_eq!(bench.node.tracks.len(), 64);
}

#[test]
fn a_further_codec_is_the_same_track() {
    let mut bench = Bench::connected(Setup::default());
    let codec = |codec: &str, cid: &str| SimulcastCodec {
        codec: codec.to_owned(),
        cid: cid.to_owned(),
        ..Default::default()
    };
    let mut first = add_track("cam");
    first.simulcast_codecs = vec![codec("vp9", "cam"), codec("vp8", "")];
    bench.says(FromClient::AddTrack(first));
    let mut second = add_track("cam-backup");
    second.sid = "TR_1".to_owned();
    second.simulcast_codecs = vec![codec("vp8", "cam-backup")];
    bench.says(FromClient::AddTrack(second));
    let Some(Message::TrackPublished(again)) = bench.heard.last() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(again.cid, "cam-backup");
    let track = again.track.as_ref().unwrap();
    assert_eq!(track.sid, "TR_1");
    let cids: Vec<&str> = track
        .codecs
        .iter()
        .map(|codec| codec.cid.as_str())
        .collect();
    assert_eq!(cids, ["cam", "cam-backup"]);
    assert_eq!(bench.asked(), ["add TR_1"], "the node is not asked twice");
}

#[test]
fn the_same_media_again_waits_for_its_former_track_to_end() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(
        bench.heard_names(),
        ["track_published", "track_published"],
        "a repetition"
    );
    bench.started("TR_1");
    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(reasons(&mut bench), [Reason::Queued]);
    assert_eq!(bench.asked(), ["add TR_1"]);
    bench.event(Event::TrackEnded(contract::TrackEnded {
        track_id: "TR_1".to_owned(),
    }));
    assert_eq!(bench.asked(), ["add TR_2"]);
    assert_eq!(bench.heard_names(), ["track_published"]);
}

#[test]
fn media_that_was_known_before_a_new_join_keeps_its_id() {
    let former = [("cam".to_owned(), "TR_old".parse().unwrap())];
    let mut bench = Bench::connected(Setup {
        former_tracks: former.into(),
        ..Setup::default()
    });
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.says(FromClient::AddTrack(add_track("screen")));
    assert_eq!(bench.asked(), ["add TR_old", "add TR_1"]);
}

#[test]
fn a_track_that_the_node_refuses_is_taken_back() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::Limit.into(),
        message: "too many tracks".to_owned(),
    }));
    assert_eq!(
        bench.heard_names(),
        ["track_published", "track_unpublished"]
    );
    bench.says(FromClient::AddTrack(add_track("cam")));
    assert_eq!(bench.heard_names(), ["track_published"]);
}

#[test]
fn what_a_client_says_of_a_track_has_to_fit() {
    let mut bench = Bench::connected(Setup::default());
    let mut refused = |change: fn(&mut AddTrackRequest)| {
        let mut request = add_track("cam");
        change(&mut request);
        bench.says(FromClient::AddTrack(request));
        assert_eq!(reasons(&mut bench), [Reason::LimitExceeded]);
        assert!(bench.asked().is_empty());
    };
    refused(|request| request.cid = "x".repeat(1025));
    refused(|request| request.name = "x".repeat(1025));
    refused(|request| request.stream = "x".repeat(1025));
    refused(|request| request.layers = vec![VideoLayer::default(); 9]);
    refused(|request| {
        request.layers = vec![VideoLayer {
            rid: "x".repeat(1025),
            ..Default::default()
        }];
    });
    refused(|request| {
        request.layers = vec![VideoLayer {
            width: 70_000,
            ..Default::default()
        }];
    });
    refused(|request| request.height = 1 << 31);
    refused(|request| request.simulcast_codecs = vec![SimulcastCodec::default(); 9]);
    refused(|request| {
        request.simulcast_codecs = vec![SimulcastCodec {
            cid: "x".repeat(1025),
            ..Default::default()
        }];
    });
    refused(|request| request.audio_features = vec![1; 33]);
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.says(FromClient::UpdateVideoTrack(UpdateLocalVideoTrack {
        track_sid: "TR_1".to_owned(),
        width: 70_000,
        height: 1,
    }));
    assert_eq!(reasons(&mut bench), [Reason::LimitExceeded]);
}

#[test]
fn a_refused_description_is_answered_with_what_is_wrong_with_it() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::Offer(offer(2)));
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::SdpUnacceptable.into(),
        message: "m-section 3 (mid \"3\"): expected a codec".to_owned(),
    }));
    let Some(Message::RequestResponse(response)) = bench.heard.first() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(response.reason(), Reason::InvalidRequest);
    assert_eq!(
        response.message,
        "offer: m-section 3 (mid \"3\"): expected a codec"
    );
    assert_eq!(bench.ended, None);
}

#[test]
fn mute_reaches_the_node_at_once_and_the_others() {
    let mut bench = Bench::connected(Setup::default());
    let mute = |sid: &str, muted| {
        FromClient::Mute(MuteTrackRequest {
            sid: sid.to_owned(),
            muted,
        })
    };
    bench.says(mute("TR_1", true));
    assert_eq!(reasons(&mut bench), [Reason::NotFound]);
    bench.says(FromClient::AddTrack(add_track("cam")));
    // Before it has started, too.
    bench.says(mute("TR_1", true));
    bench.started("TR_1");
    assert!(bench.me().info.tracks[0].muted);
    bench.says(mute("TR_1", false));
    assert!(!bench.me().info.tracks[0].muted);
    assert_eq!(
        bench.asked(),
        ["add TR_1", "mute TR_1 true", "mute TR_1 false"]
    );
}

#[test]
fn what_is_said_of_a_track_can_change() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.says(FromClient::UpdateVideoTrack(UpdateLocalVideoTrack {
        track_sid: "TR_1".to_owned(),
        width: 1920,
        height: 1080,
    }));
    assert_eq!(bench.me().info.tracks[0].width, 1920);
    let version = bench.me().info.version;
    bench.says(FromClient::UpdateAudioTrack(UpdateLocalAudioTrack {
        track_sid: "TR_1".to_owned(),
        features: vec![AudioTrackFeature::TfNoiseSuppression.into()],
    }));
    assert_eq!(bench.me().info.tracks[0].audio_features.len(), 1);
    assert_eq!(bench.me().info.version, version + 1);
    bench.heard.clear();
    bench.says(FromClient::UpdateVideoTrack(
        UpdateLocalVideoTrack::default(),
    ));
    assert_eq!(reasons(&mut bench), [Reason::NotFound]);
}

fn metadata(name: &str, metadata: &str, attributes: &[(&str, &str)]) -> FromClient {
    FromClient::UpdateMetadata(UpdateParticipantMetadata {
        name: name.to_owned(),
        metadata: metadata.to_owned(),
        attributes: attributes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        request_id: 5,
    })
}

#[test]
fn metadata_changes_for_everybody_the_client_included() {
    let mut bench = Bench::connected(Setup::default());
    bench.passes(seconds(1));
    let tokens = bench.tokens;
    bench.says(metadata(
        "Alice",
        "{}",
        &[("hand", "up"), ("pipemesh.node", "mine")],
    ));
    let info = &bench.me().info;
    assert_eq!(
        (info.name.as_str(), info.metadata.as_str()),
        ("Alice", "{}")
    );
    assert_eq!(info.attributes.get("hand").map(String::as_str), Some("up"));
    assert!(
        !info.attributes.contains_key("pipemesh.node"),
        "not theirs to set"
    );
    // SDKs wait until they see the change of themselves.
    let Some(Message::Update(update)) = bench.heard.first() else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(shown(update), [("PA_me".to_owned(), true)]);
    assert_eq!(reasons(&mut bench), [Reason::Ok]);
    assert_eq!(bench.tokens, tokens + 1, "the next join must not undo it");
    bench.says(metadata("", "", &[("hand", "")]));
    assert!(!bench.me().info.attributes.contains_key("hand"));
    assert_eq!(bench.me().info.name, "Alice");
}

#[test]
fn metadata_needs_permission_and_has_limits() {
    let mut bench = Bench::connected(Setup {
        rights: Rights {
            update_own_metadata: false,
            ..Setup::default().rights
        },
        ..Setup::default()
    });
    bench.says(metadata("Alice", "", &[]));
    assert_eq!(reasons(&mut bench), [Reason::NotAllowed]);

    let mut bench = Bench::connected(Setup::default());
    bench.says(metadata(&"x".repeat(257), "", &[]));
    bench.says(metadata("", &"x".repeat((512 << 10) + 1), &[]));
    bench.says(metadata("", "", &[("a", &"x".repeat(64 << 10))]));
    assert_eq!(reasons(&mut bench), [Reason::LimitExceeded; 3]);
    assert_eq!(bench.me().info.name, "");
}

#[test]
fn success_is_not_reported_to_clients_that_do_not_know_it() {
    let mut bench = Bench::connected(Setup {
        protocol: 14,
        ..Setup::default()
    });
    bench.says(metadata("Alice", "", &[]));
    assert!(reasons(&mut bench).is_empty());
}

#[test]
fn a_publisher_hears_that_somebody_receives_it() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.heard.clear();
    let subscribed = |track: &str| {
        Event::TrackSubscribed(contract::TrackSubscribed {
            track_id: track.to_owned(),
        })
    };
    bench.event(subscribed("TR_1"));
    bench.event(subscribed("TR_other"));
    assert_eq!(bench.heard_names(), ["track_subscribed"]);
}

pub(super) fn demand(track_id: &str, spatial_layers: u32) -> contract::TrackDemandChanged {
    contract::TrackDemandChanged {
        track_id: track_id.to_owned(),
        codecs: vec![contract::CodecDemand {
            mime_type: "video/VP8".to_owned(),
            spatial_layers,
        }],
    }
}

/// Which qualities of which track the client was told that somebody wants.
pub(super) fn wanted(bench: &mut Bench) -> Vec<(String, Vec<bool>)> {
    let updates = bench.heard.drain(..).filter_map(|message| match message {
        Message::SubscribedQualityUpdate(update) => {
            let qualities = &update.subscribed_codecs[0].qualities;
            let enabled = qualities.iter().map(|quality| quality.enabled).collect();
            Some((update.track_sid, enabled))
        }
        _ => None,
    });
    updates.collect()
}

#[test]
fn a_publisher_is_told_what_anybody_wants_of_its_tracks() {
    let mut bench = Bench::connected(Setup::default());
    bench.says(FromClient::AddTrack(add_track("cam")));
    bench.started("TR_1");
    bench.heard.clear();
    bench.event(Event::TrackDemandChanged(demand("TR_1", 0)));
    assert_eq!(
        wanted(&mut bench),
        [("TR_1".to_owned(), vec![false, false, false])]
    );
    bench.event(Event::TrackDemandChanged(demand("TR_1", 0)));
    assert_eq!(wanted(&mut bench), [], "said once");
    bench.event(Event::TrackDemandChanged(demand("TR_1", 1)));
    assert_eq!(
        wanted(&mut bench),
        [("TR_1".to_owned(), vec![true, true, true])]
    );
    bench.event(Event::TrackDemandChanged(demand("TR_9", 1)));
    assert_eq!(wanted(&mut bench), [], "no track of this client");
}
