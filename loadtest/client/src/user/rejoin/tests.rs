//! What is said again, and what stays counted.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    JoinResponse, ParticipantInfo, ParticipantUpdate, SessionDescription, TrackInfo,
    TrackPublishedResponse, TrackType, UpdateSubscription, UpdateTrackSettings, VideoQuality,
};
use pipemesh_node_media::srtp::{MasterKey, MasterKeys, Profile};

use super::*;
use crate::connection::ReceiveMode;
use crate::media::{Audio, Media, Video};
use crate::transport::dtls::Identity;
use crate::user::{LayerWish, Layout, Protocol, Setup, Wish};
use crate::wire::rtp::{Fields, Header, write_header};

const SECOND: Duration = Duration::from_secs(1);

static IDENTITY: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate(&[Profile::AeadAes128Gcm]).unwrap()));

struct Bench {
    user: User,
    now: Instant,
}

fn track(sid: &str, is_video: bool) -> TrackInfo {
    let kind = match is_video {
        true => TrackType::Video,
        false => TrackType::Audio,
    };
    TrackInfo {
        sid: sid.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
}

fn ben(tracks: &[&str]) -> ParticipantInfo {
    ParticipantInfo {
        sid: "PA_ben".to_owned(),
        identity: "ben".to_owned(),
        tracks: tracks.iter().map(|sid| track(sid, true)).collect(),
        ..Default::default()
    }
}

impl Bench {
    /// Has joined a room in which ben publishes these.
    fn new(others: &[&str]) -> Self {
        let now = Instant::now();
        let setup = Setup {
            layout: Layout::Single,
            protocol: Protocol::Udp,
            data: false,
            dynacast: false,
            // Payload is not looked at.
            mode: ReceiveMode::Sampled(u32::MAX),
            ipv4: true,
            seed: 1,
        };
        let mut bench = Self {
            user: User::new(setup, &IDENTITY, now, now),
            now,
        };
        bench.joins(others);
        bench
    }

    fn joins(&mut self, others: &[&str]) {
        let join = JoinResponse {
            participant: Some(ParticipantInfo {
                sid: "PA_ann".to_owned(),
                identity: "ann".to_owned(),
                ..Default::default()
            }),
            other_participants: vec![ben(others)],
            ..Default::default()
        };
        self.hears(Response::Join(join));
    }

    fn rejoins(&mut self) {
        self.user.rejoin(self.now);
    }

    fn hears(&mut self, message: Response) {
        self.user.handle_signal(message, self.now);
    }

    fn wishes(&mut self, wish: Wish) {
        self.user.handle_wish(wish, self.now);
    }

    fn publishes(&mut self, name: &str, media: Media) {
        let name = name.to_owned();
        self.wishes(Wish::Publish { name, media });
    }

    fn subscribes(&mut self, sid: &str, wanted: bool) {
        let sid = sid.to_owned();
        self.wishes(Wish::Subscribe { sid, wanted });
    }

    fn layer(&mut self, sid: &str, wish: LayerWish) {
        let sid = sid.to_owned();
        self.wishes(Wish::Layer { sid, wish });
    }

    /// The server accepts a track.
    fn is_published(&mut self, name: &str, sid: &str) {
        self.hears(Response::TrackPublished(TrackPublishedResponse {
            cid: name.to_owned(),
            track: Some(track(sid, true)),
        }));
    }

    /// The server answers the last offer, and sends a track of this SSRC on the first section.
    fn is_sent(&mut self, sid: &str, ssrc: u32) {
        let sdp = format!(
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\n\
             a=rtpmap:111 opus/48000/2\r\na=msid:PA_ben {sid}\r\na=ssrc:{ssrc} cname:ben\r\n"
        );
        self.hears(Response::Answer(SessionDescription {
            r#type: "answer".to_owned(),
            sdp,
            ..Default::default()
        }));
    }

    /// So many packets of the track come, 20 ms apart.
    fn receives(&mut self, ssrc: u32, packets: u16) {
        for sequence in 0..packets {
            let fields = Fields {
                marker: false,
                payload_type: 111,
                sequence,
                timestamp: u32::from(sequence) * 960,
                ssrc,
            };
            let mut packet = [0; 60];
            write_header(&mut packet, fields, &[]);
            let header = Header::parse(&packet).unwrap();
            let incoming = self.user.connections[0].incoming_mut().next();
            incoming
                .expect("a track is sent")
                .receiver
                .handle_media(&header, 60, self.now);
            self.now += SECOND / 50;
        }
    }

    fn said(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.user.poll_signal()).collect()
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.user.poll_notice()).collect()
    }

    fn secured(&mut self) {
        let key = || MasterKey::new(Profile::AeadAes128Gcm, &[1; 16], &[1; 12]).unwrap();
        let keys = MasterKeys {
            local: key(),
            remote: key(),
        };
        let server = "192.0.2.1:7".parse().unwrap();
        self.user.secure(0, &keys, server, self.now);
        self.user.handle_timeout(self.now);
    }
}

/// Names that are announced, and whether they are muted.
fn announced(said: &[Request]) -> Vec<(&str, bool)> {
    let announced = said.iter().filter_map(|it| match it {
        Request::AddTrack(track) => Some((track.cid.as_str(), track.muted)),
        _ => None,
    });
    announced.collect()
}

#[test]
fn what_was_published_is_published_again_and_muted_if_it_was() {
    let mut bench = Bench::new(&[]);
    bench.publishes("camera", Media::Video(Video::simulcast()));
    bench.publishes("voice", Media::Audio(Audio::default()));
    bench.is_published("camera", "TR_camera");
    bench.is_published("voice", "TR_voice");
    let (name, muted) = ("voice".to_owned(), true);
    bench.wishes(Wish::Mute { name, muted });
    let ssrcs = bench.user.outgoing("voice").unwrap().ssrcs();
    bench.said();

    bench.rejoins();
    let published = bench.user.stats().published;
    assert!(
        published.iter().all(|it| it.sid.is_empty() && !it.active),
        "{published:?}"
    );
    bench.joins(&[]);
    let said = bench.said();
    assert_eq!(announced(&said), [("camera", false), ("voice", true)]);
    assert!(matches!(said[2..], [Request::Offer(_)]), "{said:?}");
    bench.is_published("camera", "TR_camera");
    bench.is_published("voice", "TR_voice");
    let voice = bench.user.outgoing("voice").unwrap();
    assert!(voice.is_muted());
    assert_ne!(voice.ssrcs(), ssrcs);
}

#[test]
fn what_changes_before_a_track_is_published_again_reaches_the_server() {
    let mut bench = Bench::new(&[]);
    bench.publishes("camera", Media::Video(Video::simulcast()));
    bench.publishes("voice", Media::Audio(Audio::default()));
    bench.is_published("camera", "TR_camera");
    bench.is_published("voice", "TR_voice");
    bench.rejoins();
    bench.joins(&[]);
    assert_eq!(
        announced(&bench.said()),
        [("camera", false), ("voice", false)]
    );
    let (name, muted) = ("voice".to_owned(), true);
    bench.wishes(Wish::Mute { name, muted });
    let (name, rids) = ("camera".to_owned(), vec!["q".to_owned()]);
    bench.wishes(Wish::Layers { name, rids });
    let mutes = |said: Vec<Request>| -> Vec<(String, bool)> {
        let mutes = said.into_iter().filter_map(|it| match it {
            Request::Mute(mute) => Some((mute.sid, mute.muted)),
            _ => None,
        });
        mutes.collect()
    };
    assert_eq!(mutes(bench.said()), []);
    bench.is_published("camera", "TR_camera");
    bench.is_published("voice", "TR_voice");
    assert_eq!(mutes(bench.said()), [("TR_voice".to_owned(), true)]);
    let camera = bench.user.outgoing("camera").unwrap();
    assert_eq!(camera.left_out(), [false, true, true]);
}

#[test]
fn of_tracks_that_went_away_the_oldest_are_forgotten() {
    let mut bench = Bench::new(&["TR_1"]);
    bench.subscribes("TR_1", true);
    bench.is_sent("TR_1", 77);
    bench.receives(77, 10);
    bench.rejoins();
    assert!(bench.user.lost.contains_key("TR_1"));
    bench.joins(&[]);
    let ben_has = |tracks: &[&str]| {
        Response::Update(ParticipantUpdate {
            participants: vec![ben(tracks)],
        })
    };
    let names: Vec<String> = (0..MAX_ABSENT).map(|it| format!("TR_x{it}")).collect();
    for name in &names {
        bench.hears(ben_has(&[name]));
        bench.hears(ben_has(&[]));
    }
    assert_eq!(bench.user.absent.len(), MAX_ABSENT);
    assert!(!bench.user.absent.contains_key("TR_1") && bench.user.lost.is_empty());
    // The one that went last is known when it comes back.
    let last = names.last().unwrap();
    assert!(bench.user.absent.contains_key(last), "{last}");
}

#[test]
fn what_came_of_tracks_that_are_not_listed_any_more_stays_counted() {
    let mut bench = Bench::new(&["TR_1"]);
    let packets = |stats: &crate::stats::Stats| {
        let listed: u64 = stats.tracks.iter().map(|it| it.packets).sum();
        listed + stats.forgotten.audio.packets + stats.forgotten.video.packets
    };
    let mut before = 0;
    for round in 0..300 {
        bench.is_sent("TR_1", 1_000 + round);
        bench.receives(1_000 + round, 3);
        let now = packets(&bench.user.stats());
        assert_eq!(now, before + 3, "round {round}");
        before = now;
        bench.rejoins();
        bench.joins(&["TR_1"]);
    }
    let stats = bench.user.stats();
    assert!(stats.forgotten.audio.packets > 0, "{:?}", stats.forgotten);
}

#[test]
fn what_was_wished_is_wished_again_when_it_is_there() {
    let mut bench = Bench::new(&["TR_1", "TR_2", "TR_3"]);
    bench.subscribes("TR_1", true);
    bench.layer("TR_1", LayerWish::Quality(0));
    bench.subscribes("TR_2", false);
    bench.layer("TR_3", LayerWish::Off);
    bench.said();

    bench.rejoins();
    bench.joins(&["TR_1", "TR_3"]);
    let subscribe = |sid: &str, subscribe| {
        Request::Subscription(UpdateSubscription {
            track_sids: vec![sid.to_owned()],
            subscribe,
            ..Default::default()
        })
    };
    let set = |sid: &str, quality: VideoQuality, disabled| {
        Request::TrackSetting(UpdateTrackSettings {
            track_sids: vec![sid.to_owned()],
            quality: quality.into(),
            disabled,
            ..Default::default()
        })
    };
    let said = bench.said();
    let expected = [
        subscribe("TR_1", true),
        set("TR_1", VideoQuality::Low, false),
        set("TR_3", VideoQuality::High, true),
    ];
    assert_eq!(said[1..], expected);
    // Ben has not published it again until now.
    bench.hears(Response::Update(ParticipantUpdate {
        participants: vec![ben(&["TR_1", "TR_2", "TR_3"])],
    }));
    assert_eq!(bench.said(), [subscribe("TR_2", false)]);
}

#[test]
fn what_is_wished_meanwhile_is_said_once_and_to_the_new_session() {
    let mut bench = Bench::new(&["TR_1"]);
    bench.said();
    bench.rejoins();
    bench.publishes("camera", Media::Video(Video::simulcast()));
    bench.subscribes("TR_1", true);
    assert_eq!(bench.said(), []);
    bench.joins(&["TR_1"]);
    let said = bench.said();
    assert_eq!(announced(&said), [("camera", false)]);
    let subscriptions = said
        .iter()
        .filter(|it| matches!(it, Request::Subscription(_)));
    assert_eq!(subscriptions.count(), 1, "{said:?}");
}

#[test]
fn what_came_before_stays_counted_and_the_outage_is_a_gap() {
    let mut bench = Bench::new(&["TR_1"]);
    bench.is_sent("TR_1", 77);
    bench.receives(77, 50);
    assert_eq!(bench.user.observe(bench.now).tracks[0].gaps, []);
    bench.rejoins();
    bench.now += SECOND;
    let stats = bench.user.observe(bench.now);
    let [track] = &stats.tracks[..] else {
        panic!("{:?}", stats.tracks);
    };
    assert!(track.ended && track.packets == 50, "{track:?}");
    assert!(track.silence >= Some(SECOND), "{track:?}");

    bench.joins(&["TR_1"]);
    bench.is_sent("TR_1", 88);
    bench.now += SECOND;
    let silence = bench.user.observe(bench.now).track("TR_1").unwrap().silence;
    assert!(silence >= Some(2 * SECOND), "{silence:?}");
    bench.receives(88, 10);
    let stats = bench.user.observe(bench.now);
    let [before, now] = &stats.tracks[..] else {
        panic!("{:?}", stats.tracks);
    };
    assert_eq!((before.packets, now.packets), (50, 10));
    let [gap] = now.gaps[..] else {
        panic!("{now:?}");
    };
    assert!((2 * SECOND..3 * SECOND).contains(&gap.lasted), "{gap:?}");
    assert!(now.silence < Some(SECOND), "{now:?}");
}

#[test]
fn who_unsubscribes_meanwhile_misses_nothing() {
    let mut bench = Bench::new(&["TR_1"]);
    bench.is_sent("TR_1", 77);
    bench.receives(77, 50);
    bench.rejoins();
    bench.subscribes("TR_1", false);
    bench.now += 60 * SECOND;
    assert_eq!(bench.user.observe(bench.now).tracks[0].silence, None);
    bench.joins(&["TR_1"]);
    bench.is_sent("TR_1", 88);
    bench.receives(88, 10);
    let stats = bench.user.observe(bench.now);
    assert_eq!(stats.track("TR_1").unwrap().gaps, []);
}

#[test]
fn it_is_told_once_that_all_flows() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.notices(), []);
    bench.secured();
    assert_eq!(bench.notices(), [Notice::Flowing]);
    bench.user.handle_timeout(bench.now);
    assert_eq!(bench.notices(), []);
    bench.rejoins();
    assert!(!bench.user.stats().connected);
    bench.joins(&[]);
    assert_eq!(bench.notices(), []);
    bench.secured();
    assert_eq!(bench.notices(), [Notice::Flowing]);
    assert_eq!(bench.user.stats().rejoins, 1);
}

#[test]
fn what_is_wished_of_somebody_who_joins_anew_is_remembered() {
    let mut bench = Bench::new(&["TR_1"]);
    bench.is_sent("TR_1", 77);
    bench.subscribes("TR_1", true);
    bench.receives(77, 50);
    bench.said();
    let ben_has = |tracks: &[&str]| {
        Response::Update(ParticipantUpdate {
            participants: vec![ben(tracks)],
        })
    };
    bench.hears(ben_has(&[]));
    assert_eq!(bench.user.stats().remote, []);
    // It is sent by another node, as another stream.
    bench.hears(ben_has(&["TR_1"]));
    let said = bench.said();
    assert!(
        matches!(&said[..], [Request::Subscription(it)] if it.subscribe),
        "{said:?}"
    );
    bench.now += SECOND;
    bench.is_sent("TR_1", 88);
    bench.receives(88, 10);
    let stats = bench.user.observe(bench.now);
    let [gap] = stats.track("TR_1").unwrap().gaps[..] else {
        panic!("{stats:?}");
    };
    assert!(gap.lasted >= SECOND, "{gap:?}");
    // And when we join anew as well.
    bench.rejoins();
    bench.joins(&["TR_1"]);
    let said = bench.said();
    let wanted = said
        .iter()
        .filter(|it| matches!(it, Request::Subscription(_)));
    assert_eq!(wanted.count(), 1, "{said:?}");
}
