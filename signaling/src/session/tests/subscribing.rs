//! What a client receives.

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::{
    ParticipantPermission, ParticipantTracks, SubscriptionPermission, TrackPermission,
    UpdateSubscription, UpdateTrackSettings, VideoQuality,
};
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;

use super::bench::*;
use super::prelude::*;

fn choose(tracks: &[&str], subscribe: bool) -> FromClient {
    FromClient::Subscription(UpdateSubscription {
        track_sids: tracks.iter().map(|track| (*track).to_owned()).collect(),
        subscribe,
        participant_tracks: Vec::new(),
    })
}

fn permitting(record: MemberRecord, identity: &str) -> MemberRecord {
    MemberRecord {
        permission: Some(SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![TrackPermission {
                participant_identity: identity.to_owned(),
                all_tracks: true,
                ..Default::default()
            }],
        }),
        ..record
    }
}

fn with_bob(setup: Setup) -> Bench {
    Bench::connected(Setup {
        others: vec![("bob", record("bob", 1, &["TR_bob"]))],
        ..setup
    })
}

#[test]
fn everything_is_subscribed_to_unless_the_client_says_otherwise() {
    let mut bench = Bench::connected(Setup::default());
    bench.puts("bob", &record("bob", 1, &["TR_a", "TR_b"]));
    assert_eq!(bench.asked(), ["subscribe TR_a", "subscribe TR_b"]);
    bench.says(choose(&["TR_a"], false));
    assert_eq!(bench.asked(), ["unsubscribe TR_a"]);
    bench.puts("bob", &record("bob", 2, &["TR_a", "TR_b", "TR_c"]));
    assert_eq!(bench.asked(), ["subscribe TR_c"]);
    bench.says(choose(&["TR_a"], true));
    assert_eq!(bench.asked(), ["subscribe TR_a"]);
    bench.leaves("bob");
    let mut ended = bench.asked();
    ended.sort();
    assert_eq!(
        ended,
        ["unsubscribe TR_a", "unsubscribe TR_b", "unsubscribe TR_c"]
    );
}

#[test]
fn nothing_is_subscribed_to_unless_the_client_asks() {
    let mut bench = Bench::connected(Setup {
        auto_subscribe: false,
        ..Setup::default()
    });
    // Before it is there, too.
    bench.says(choose(&["TR_b"], true));
    bench.puts("bob", &record("bob", 1, &["TR_a", "TR_b"]));
    assert_eq!(bench.asked(), ["subscribe TR_b"]);
    bench.says(FromClient::Subscription(UpdateSubscription {
        subscribe: true,
        participant_tracks: vec![ParticipantTracks {
            participant_sid: "PA_bob".to_owned(),
            track_sids: vec!["TR_a".to_owned()],
        }],
        ..Default::default()
    }));
    assert_eq!(bench.asked(), ["subscribe TR_a"]);
}

#[test]
fn a_token_that_forbids_it_subscribes_to_nothing() {
    let mut bench = with_bob(Setup {
        rights: Rights {
            subscribe: false,
            ..Setup::default().rights
        },
        ..Setup::default()
    });
    bench.says(choose(&["TR_bob"], true));
    assert!(bench.asked().is_empty());
}

#[test]
fn who_hides_or_comes_back_later_is_not_subscribed_to() {
    let check = |change: fn(&mut MemberRecord), expected: &[&str]| {
        let mut bench = Bench::connected(Setup::default());
        let mut bob = record("bob", 1, &["TR_bob"]);
        change(&mut bob);
        bench.puts("bob", &bob);
        assert_eq!(bench.asked(), expected);
    };
    check(|_| {}, &["subscribe TR_bob"]);
    check(
        |bob| bob.set_presence(Presence::Away),
        &["subscribe TR_bob"],
    );
    check(|bob| bob.set_presence(Presence::Joining), &[]);
    check(|bob| bob.set_presence(Presence::Rejoining), &[]);
    check(
        |bob| {
            bob.info.as_mut().unwrap().permission = Some(ParticipantPermission {
                hidden: true,
                ..Default::default()
            });
        },
        &[],
    );
}

#[test]
fn a_publisher_decides_who_receives() {
    let mut bench = with_bob(Setup::default());
    bench.puts("bob", &permitting(record("bob", 1, &["TR_bob"]), "carol"));
    assert_eq!(bench.asked(), ["unsubscribe TR_bob"]);
    let [Message::SubscriptionPermissionUpdate(update)] = &bench.heard[..] else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(
        (update.participant_sid.as_str(), update.track_sid.as_str()),
        ("PA_bob", "TR_bob")
    );
    assert!(!update.allowed);
    bench.heard.clear();

    bench.says(choose(&["TR_bob"], true));
    assert!(bench.asked().is_empty(), "asking does not help");
    assert_eq!(
        bench.heard_names(),
        ["subscription_permission_update"],
        "but is answered"
    );

    bench.puts("bob", &permitting(record("bob", 1, &["TR_bob"]), ME));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    let [Message::SubscriptionPermissionUpdate(update)] = &bench.heard[..] else {
        panic!("{:?}", bench.heard);
    };
    assert!(update.allowed);
}

#[test]
fn a_recorder_needs_no_permission() {
    let mut bench = Bench::connected(Setup {
        rights: Rights {
            recorder: true,
            ..Setup::default().rights
        },
        ..Setup::default()
    });
    bench.puts("bob", &permitting(record("bob", 1, &["TR_bob"]), "carol"));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
}

#[test]
fn a_permission_that_is_too_large_permits_nothing() {
    let mut bench = Bench::connected(Setup::default());
    let entry = TrackPermission {
        participant_identity: "bob".to_owned(),
        all_tracks: true,
        ..Default::default()
    };
    bench.says(FromClient::SubscriptionPermission(SubscriptionPermission {
        all_participants: false,
        track_permissions: vec![entry; 10_001],
    }));
    let (bob, id) = ("bob".parse().unwrap(), "PA_bob".parse().unwrap());
    assert!(!bench.me().permits("TR_1", &bob, &id));
    assert_eq!(bench.heard_names(), ["request_response"]);
}

#[test]
fn the_clients_own_permission_is_for_others_to_see() {
    let mut bench = Bench::connected(Setup::default());
    let carol: Identity = "carol".parse().unwrap();
    let id = "PA_carol".parse().unwrap();
    let permission = |all_participants| SubscriptionPermission {
        all_participants,
        track_permissions: Vec::new(),
    };
    let version = bench.me().version;
    bench.says(FromClient::SubscriptionPermission(permission(true)));
    assert_eq!(bench.me().version, version, "that is how it is anyway");
    bench.says(FromClient::SubscriptionPermission(permission(false)));
    assert!(!bench.me().permits("TR_1", &carol, &id));
    bench.says(FromClient::SubscriptionPermission(permission(true)));
    assert!(bench.me().permits("TR_1", &carol, &id));
}

#[test]
fn what_a_client_shows_is_what_it_gets() {
    let mut bench = with_bob(Setup {
        adaptive_stream: true,
        ..Setup::default()
    });
    assert_eq!(
        bench.node.subscribed["TR_bob"].spatial_layers, 1,
        "until it says what it shows"
    );
    let setting = |disabled, width, quality: VideoQuality| {
        FromClient::TrackSetting(UpdateTrackSettings {
            track_sids: vec!["TR_bob".to_owned()],
            disabled,
            width,
            height: width / 2,
            quality: quality.into(),
            ..Default::default()
        })
    };
    bench.says(setting(false, 640, VideoQuality::Low));
    assert_eq!(bench.node.subscribed["TR_bob"].width, 640);
    bench.says(setting(false, 0, VideoQuality::Medium));
    assert_eq!(bench.node.subscribed["TR_bob"].spatial_layers, 2);
    bench.says(setting(true, 0, VideoQuality::Medium));
    assert!(bench.node.subscribed["TR_bob"].paused);
    bench.asked();
    bench.says(setting(true, 0, VideoQuality::Medium));
    assert!(bench.asked().is_empty(), "nothing new is not asked for");
}

#[test]
fn a_track_that_is_published_again_is_subscribed_to_again() {
    let mut bench = with_bob(Setup::default());
    bench.all_done();
    bench.event(Event::SubscriptionEnded(contract::SubscriptionEnded {
        track_id: "TR_bob".to_owned(),
    }));
    assert!(bench.asked().is_empty(), "it ended");
    // The same id in another session: between the two the watch may have shown nothing.
    let mut again = record("bob", 2, &["TR_bob"]);
    again.session = "s-bob-2".to_owned();
    bench.puts("bob", &again);
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
}

#[test]
fn a_refused_subscription_is_asked_for_again_when_its_publisher_changes() {
    let mut bench = with_bob(Setup::default());
    bench.all_done();
    bench.says(choose(&["TR_bob"], false));
    bench.says(choose(&["TR_bob"], true));
    bench.answer(Event::Done(contract::Done {}));
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::Limit.into(),
        message: "too many".to_owned(),
    }));
    assert_eq!(bench.heard_names(), ["subscription_response"]);
    bench.asked();
    bench.puts("bob", &record("bob", 2, &["TR_bob"]));
    assert_eq!(bench.asked(), ["subscribe TR_bob"]);
    bench.answer(Event::Refused(contract::Refused {
        code: contract::Code::TrackNotFound.into(),
        message: String::new(),
    }));
    assert!(
        !bench.heard_names().contains(&"subscription_response"),
        "it is about to go"
    );
}

#[test]
fn more_sections_are_asked_of_the_client_until_it_offers() {
    let mut bench = with_bob(Setup::default());
    let needed = |audio, video| Event::SectionsNeeded(contract::SectionsNeeded { audio, video });
    bench.event(needed(1, 2));
    bench.event(needed(0, 0));
    let requirements: Vec<(u32, u32)> = bench
        .heard
        .drain(..)
        .filter_map(|message| match message {
            Message::MediaSectionsRequirement(needed) => {
                Some((needed.num_audios, needed.num_videos))
            }
            _ => None,
        })
        .collect();
    assert_eq!(requirements, [(1, 2), (0, 0)]);
}

#[test]
fn speakers_and_quality_are_told_of_people_the_client_knows() {
    let mut bench = with_bob(Setup::default());
    let speaker = |id: &str| contract::Speaker {
        participant_id: id.to_owned(),
        level: 0.5,
        active: true,
    };
    bench.event(Event::SpeakersChanged(contract::SpeakersChanged {
        speakers: vec![speaker("PA_bob"), speaker("PA_hidden"), speaker("PA_me")],
    }));
    let [Message::SpeakersChanged(changed)] = &bench.heard[..] else {
        panic!("{:?}", bench.heard);
    };
    let told: Vec<&str> = changed
        .speakers
        .iter()
        .map(|one| one.sid.as_str())
        .collect();
    assert_eq!(told, ["PA_bob", "PA_me"]);
    bench.heard.clear();

    let quality = |id: &str, quality: contract::ConnectionQuality| contract::ParticipantQuality {
        participant_id: id.to_owned(),
        quality: quality.into(),
        score: 4.5,
    };
    use contract::ConnectionQuality::{Excellent, Lost, Unspecified};
    bench.event(Event::QualityChanged(contract::QualityChanged {
        participants: vec![
            quality("PA_bob", Excellent),
            quality("PA_hidden", Lost),
            quality("PA_me", Unspecified),
        ],
    }));
    let [Message::ConnectionQuality(changed)] = &bench.heard[..] else {
        panic!("{:?}", bench.heard);
    };
    assert_eq!(changed.updates.len(), 1);
    assert_eq!(
        changed.updates[0].quality(),
        livekit_protocol::ConnectionQuality::Excellent
    );
}

fn paused(track: &str, paused: bool) -> Event {
    Event::SubscriptionPaused(contract::SubscriptionPaused {
        track_id: track.to_owned(),
        paused,
    })
}

/// What the client was told of streams: participant, track, whether it is paused.
fn stream_states(bench: &mut Bench) -> Vec<(String, String, bool)> {
    let updates = bench.heard.drain(..).filter_map(|message| match message {
        Message::StreamStateUpdate(update) => Some(update.stream_states),
        _ => None,
    });
    updates
        .flatten()
        .map(|one| {
            let paused = one.state() == livekit_protocol::StreamState::Paused;
            (one.participant_sid, one.track_sid, paused)
        })
        .collect()
}

#[test]
fn a_client_is_told_what_its_bandwidth_pauses() {
    let told = |paused| vec![("PA_bob".to_owned(), "TR_bob".to_owned(), paused)];
    let mut bench = with_bob(Setup::default());
    bench.event(paused("TR_bob", true));
    assert_eq!(stream_states(&mut bench), told(true));
    bench.event(paused("TR_bob", true));
    assert_eq!(stream_states(&mut bench), [], "said once");
    // Who comes back hears it again.
    bench.detach();
    bench.attach(Some(Resume {
        participant_sid: "PA_me".to_owned(),
        sync_state: None,
    }));
    assert_eq!(stream_states(&mut bench), told(true));
    bench.event(paused("TR_bob", false));
    assert_eq!(stream_states(&mut bench), told(false));
    bench.event(paused("TR_nobody", true));
    assert_eq!(stream_states(&mut bench), []);

    // What is no longer subscribed to is not paused either.
    bench.event(paused("TR_bob", true));
    bench.says(choose(&["TR_bob"], false));
    bench.says(choose(&["TR_bob"], true));
    bench.heard.clear();
    bench.event(paused("TR_bob", true));
    assert_eq!(stream_states(&mut bench), told(true));
}
