use super::*;
use pipemesh_node_core::router::LayerWish;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    ClientAnswer, ClientOffer, Configure, ConnectionRole, LayerInfo, MediaKind as Kind, MuteTrack,
    RemoveTrack, RestartIce, SendData, Subscribe, TrackSource, Trickle, Unsubscribe,
};
use rand::SeedableRng;

use super::sdp::Format;

/// A browser's offer that publishes a simulcast camera and a microphone.
const PUBLISHES: &str =
    include_str!("../../tests/golden/sdp/chromium_publisher/2_simulcast.offer.sdp");
/// A LiveKit client's first offer: three receiving sections of each kind and data.
const FIRST: &str = include_str!("../../tests/golden/sdp/chromium_sdk/first.offer.sdp");

/// A session with the clock stopped, and what it said.
pub(super) struct Bench {
    pub(super) session: Session,
    now: Instant,
    said: Vec<SessionEvent>,
    commands: Vec<Command>,
    /// Tracks of other nodes that were asked for (`true`), or given back.
    elsewhere: Vec<(TrackId, bool)>,
    /// Where it listens to its room.
    heard: Vec<String>,
}

impl Bench {
    pub(super) fn new(name: &str, layout: ConnectionLayout, tracks: &Arc<Tracks>) -> Self {
        let open = Open {
            session_id: name.into(),
            room_id: "RM_room".into(),
            participant_id: format!("PA_{name}"),
            identity: name.into(),
            layout: layout.into(),
            ..Open::default()
        };
        let identity = Identity {
            session: name.parse().unwrap(),
            key: SessionKey(1),
            room: "RM_room".parse().unwrap(),
            participant: open.participant_id.parse().unwrap(),
            open,
            opened: contract::Opened {
                node_id: "node-a".into(),
                ..Default::default()
            },
            shard: 0,
            has_pipes: true,
        };
        let transport = |credentials| LocalTransport {
            credentials,
            fingerprint: [7; 32],
            candidates: vec!["127.0.0.1:7882".parse().unwrap()],
            tcp_candidates: ["127.0.0.1:7881".parse().unwrap()].into(),
            max_message_size: 262_144,
        };
        let (events, _) = mailbox::channel(1);
        let rng = StdRng::seed_from_u64(1);
        let session = Session::new(identity, transport, Arc::clone(tracks), events, rng);
        let mut bench = Self {
            session,
            now: Instant::now(),
            said: Vec::new(),
            commands: Vec::new(),
            elsewhere: Vec::new(),
            heard: Vec::new(),
        };
        bench.session.opened(1, bench.now);
        bench.collect();
        bench
    }

    fn ask(&mut self, request: Request) -> Told {
        let id = 100 + self.said.len() as u64;
        self.session.handle_request(id, request, self.now);
        self.collect();
        let answers: Vec<&SessionEvent> = self.said.iter().filter(|e| e.request_id == id).collect();
        assert_eq!(
            answers.len(),
            1,
            "each request is answered once: {answers:?}"
        );
        answers[0].event.clone().unwrap()
    }

    fn refused(&mut self, request: Request) -> (Code, String) {
        match self.ask(request) {
            Told::Refused(refused) => (refused.code(), refused.message),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Lets time pass to the next deadline.
    fn wait(&mut self) {
        if let Some(at) = self.session.poll_timeout() {
            self.now = at;
            self.session.handle_timeout(at);
            self.collect();
        }
    }

    fn event(&mut self, event: Event) {
        self.session.handle_shard_event(event, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        for effect in self.session.take_effects() {
            match effect {
                Effect::Tell(event) => self.said.push(event),
                Effect::Shard(command) => self.commands.push(command),
                Effect::Want(track, _) => self.elsewhere.push((track, true)),
                Effect::Unwant(track) => self.elsewhere.push((track, false)),
                Effect::Hear(nodes) => self.heard = nodes.iter().map(NodeId::to_string).collect(),
                Effect::End => {}
            }
        }
    }

    fn last<T>(&self, pick: impl Fn(&Told) -> Option<T>) -> Option<T> {
        self.said
            .iter()
            .rev()
            .filter_map(|event| event.event.as_ref())
            .find_map(pick)
    }

    fn offer(&self) -> Option<OfferCreated> {
        self.last(|told| match told {
            Told::OfferCreated(offer) => Some(offer.clone()),
            _ => None,
        })
    }
}

fn client_tracks(sdp: &str) -> Vec<(Kind, String)> {
    let mut kind = Kind::Unspecified;
    let mut tracks = Vec::new();
    for line in sdp.lines() {
        match line {
            _ if line.starts_with("m=audio") => kind = Kind::Audio,
            _ if line.starts_with("m=video") => kind = Kind::Video,
            _ => {}
        }
        if let Some(msid) = line.strip_prefix("a=msid:") {
            tracks.push((kind, msid.split(' ').next_back().unwrap().to_owned()));
        }
    }
    tracks
}

/// Announces the tracks of [`PUBLISHES`] as `TR_{name}_{number}`.
fn announce(bench: &mut Bench, name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for (number, (kind, client_track_id)) in client_tracks(PUBLISHES).into_iter().enumerate() {
        let track_id = format!("TR_{name}_{number}");
        let layer = |rid: &str, width| LayerInfo {
            rid: rid.into(),
            width,
            ..LayerInfo::default()
        };
        let track = AddTrack {
            track_id: track_id.clone(),
            client_track_id,
            kind: kind.into(),
            source: TrackSource::Microphone.into(),
            layers: vec![layer("q", 320), layer("h", 640), layer("f", 1280)],
            ..AddTrack::default()
        };
        assert!(matches!(bench.ask(Request::AddTrack(track)), Told::Done(_)));
        ids.push(track_id);
    }
    ids
}

fn offer(sdp: &str) -> Request {
    Request::Offer(ClientOffer {
        sdp: sdp.into(),
        offer_id: 7,
    })
}

fn subscribe(track_id: &str) -> Request {
    Request::Subscribe(Subscribe {
        track_id: track_id.into(),
        msid_stream: "PA_x|camera".into(),
        msid_track: track_id.into(),
        ..Subscribe::default()
    })
}

fn started(bench: &Bench) -> Vec<(String, String, usize)> {
    let started = bench.said.iter().filter_map(|event| match &event.event {
        Some(Told::TrackStarted(track)) => Some((
            track.track_id.clone(),
            track.mime_type.clone(),
            track.layers.len(),
        )),
        _ => None,
    });
    started.collect()
}

#[test]
fn tracks_start_whichever_comes_first() {
    for announced_first in [true, false] {
        let tracks = Arc::default();
        let mut bench = Bench::new("ada", ConnectionLayout::Dual, &tracks);
        let ids = if announced_first {
            let ids = announce(&mut bench, "ada");
            assert!(
                matches!(bench.ask(offer(PUBLISHES)), Told::AnswerCreated(a) if a.offer_id == 7)
            );
            ids
        } else {
            assert!(matches!(
                bench.ask(offer(PUBLISHES)),
                Told::AnswerCreated(_)
            ));
            assert_eq!(started(&bench), []);
            announce(&mut bench, "ada")
        };
        let mut found = started(&bench);
        found.sort();
        assert_eq!(found.len(), ids.len(), "{found:?}");
        assert!(
            found
                .iter()
                .any(|(_, mime, layers)| mime == "video/VP8" && *layers == 3),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|(_, mime, layers)| mime.starts_with("audio/") && *layers == 1)
        );
        // The shard knows a track before the plan that carries it.
        let published = bench
            .commands
            .iter()
            .position(|c| matches!(c, Command::Publish { .. }))
            .unwrap();
        let applied = bench
            .commands
            .iter()
            .rposition(|c| matches!(c, Command::Apply { .. }))
            .unwrap();
        assert!(published < applied);
        let Command::Apply { plan, .. } = &bench.commands[applied] else {
            unreachable!()
        };
        assert_eq!(plan.receive.len(), ids.len());
    }
}

#[test]
fn a_subscriber_is_offered_what_it_asked_for_in_one_offer() {
    let tracks = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));

    let mut ben = Bench::new("ben", ConnectionLayout::Dual, &tracks);
    for id in &ids {
        assert!(matches!(ben.ask(subscribe(id)), Told::Done(_)));
    }
    assert_eq!(
        ben.offer(),
        None,
        "the first offer waits for what comes with it"
    );
    ben.wait();
    let first = ben.offer().unwrap();
    assert_eq!(first.mid_to_track.len(), ids.len());
    // More while the client has not answered: the next offer follows the answer.
    ben.ask(Request::Unsubscribe(Unsubscribe {
        track_id: ids[0].clone(),
    }));
    ben.wait();
    assert_eq!(ben.offer().unwrap().offer_id, first.offer_id);
    assert!(matches!(
        ben.ask(Request::Answer(ClientAnswer { sdp: "v=0".into(), offer_id: first.offer_id })),
        Told::Refused(refused) if refused.code() == Code::SdpUnacceptable
    ));
}

#[test]
fn one_connection_asks_the_client_for_sections() {
    let tracks = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));

    let mut ben = Bench::new("ben", ConnectionLayout::Single, &tracks);
    ben.ask(subscribe(&ids[0]));
    let Told::AnswerCreated(answer) = ben.ask(offer(FIRST)) else {
        panic!()
    };
    assert_eq!(answer.mid_to_track.values().collect::<Vec<_>>(), [&ids[0]]);
    // There are free sections left: only an offer is missing.
    ben.ask(subscribe(&ids[1]));
    let needed = ben.last(|told| match told {
        Told::SectionsNeeded(needed) => Some((needed.audio, needed.video)),
        _ => None,
    });
    assert_eq!(needed, Some((0, 0)));
    let Told::AnswerCreated(answer) = ben.ask(offer(FIRST)) else {
        panic!()
    };
    assert_eq!(answer.mid_to_track.len(), 2);
    // A client learns of an end by an exchange, too.
    let asked = ben.said.len();
    ben.ask(Request::Unsubscribe(Unsubscribe {
        track_id: ids[0].clone(),
    }));
    let asks = |event: &SessionEvent| matches!(event.event, Some(Told::SectionsNeeded(_)));
    assert!(ben.said[asked..].iter().any(asks));
    let Told::AnswerCreated(answer) = ben.ask(offer(FIRST)) else {
        panic!()
    };
    assert_eq!(answer.mid_to_track.len(), 1);
}

#[test]
fn a_tracks_end_ends_its_subscriptions() {
    let tracks = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let mut ben = Bench::new("ben", ConnectionLayout::Dual, &tracks);
    ben.ask(subscribe(&ids[0]));

    let removed = ada.ask(Request::RemoveTrack(RemoveTrack {
        track_id: ids[0].clone(),
    }));
    assert!(matches!(removed, Told::Done(_)));
    let gone = ids[0].parse().unwrap();
    assert!(
        ada.commands
            .iter()
            .any(|c| matches!(c, Command::Unpublish { track, .. } if *track == gone))
    );
    // The shard tells the subscriber.
    ben.event(subscription_ended(gone, 1));
    assert!(matches!(
        ben.said.last().unwrap().event,
        Some(Told::SubscriptionEnded(_))
    ));
    ben.wait();
    assert_eq!(ben.offer().unwrap().mid_to_track.len(), 0);
    assert_eq!(ben.refused(subscribe(&ids[0])).0, Code::TrackNotFound);
}

#[test]
fn requests_that_cannot_be_carried_out_are_refused_by_name() {
    let tracks: Arc<Tracks> = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Single, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let mut check = |request: Request, code: Code, message: &str| {
        let (found, said) = ada.refused(request);
        assert_eq!((found, said.as_str()), (code, message));
    };
    let track = |track_id: &str, client: &str, kind: Kind| {
        Request::AddTrack(AddTrack {
            track_id: track_id.into(),
            client_track_id: client.into(),
            kind: kind.into(),
            ..AddTrack::default()
        })
    };
    check(
        track("x", "c", Kind::Audio),
        Code::InvalidArgument,
        "track_id \"x\" does not start with \"TR_\"",
    );
    check(
        track("TR_x", "", Kind::Audio),
        Code::InvalidArgument,
        "client_track_id is empty",
    );
    check(
        track("TR_x", "c", Kind::Unspecified),
        Code::InvalidArgument,
        "kind is neither audio nor video",
    );
    check(
        track(&ids[0], "c", Kind::Audio),
        Code::TrackExists,
        "the connection already has this track",
    );
    check(
        subscribe(&ids[0]),
        Code::InvalidArgument,
        "a session cannot subscribe to its own track",
    );
    check(
        subscribe("TR_none"),
        Code::TrackNotFound,
        "there is no track TR_none",
    );
    check(
        Request::MuteTrack(MuteTrack {
            track_id: "TR_none".into(),
            muted: true,
        }),
        Code::TrackNotFound,
        "there is no track TR_none",
    );
    check(
        Request::Trickle(Trickle {
            candidate: "nonsense".into(),
            ..Trickle::default()
        }),
        Code::InvalidArgument,
        "candidate does not begin with \"candidate:\"",
    );
    check(
        Request::RestartIce(RestartIce {
            connection: ConnectionRole::Publisher.into(),
        }),
        Code::ConnectionState,
        "the client restarts this connection by its own offer",
    );
    check(
        Request::Answer(ClientAnswer::default()),
        Code::ConnectionState,
        "the session has one connection, on which the client makes the offers",
    );
    let large = SendData {
        packet: vec![0; 300_000],
        reliable: true,
    };
    check(
        Request::SendData(large),
        Code::Limit,
        "the packet has 300000 bytes, at most 262144 are sent",
    );
    let (code, message) = ada.refused(offer("v=0\r\nm=video 9 X 96\r\n"));
    assert_eq!(code, Code::SdpUnacceptable);
    assert!(message.starts_with("m-section 0"), "{message}");
}

#[test]
fn a_stream_that_takes_over_gets_all_there_is() {
    let tracks = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let mut ben = Bench::new("ben", ConnectionLayout::Dual, &tracks);
    let _ = announce(&mut ben, "ben");
    ben.ask(offer(PUBLISHES));
    ben.ask(subscribe(&ids[0]));
    ben.ask(Request::Configure(Configure {
        data: Some(contract::DataRights {
            send: true,
            receive: false,
        }),
    }));
    ben.wait();
    ben.event(Event::ConnectionChanged {
        role: Role::Publisher,
        state: ConnectionState::Connected,
    });
    let participant: ParticipantId = "PA_ada".parse().unwrap();
    let speaker = crate::shard::Speaker {
        participant,
        level: 0.5,
        active: true,
    };
    ben.event(Event::SpeakersChanged(vec![speaker]));
    let pauses = |name: &str| Event::SubscriptionPaused {
        track: name.parse().unwrap(),
        paused: true,
    };
    ben.event(pauses(&ids[0]));
    ben.event(pauses("TR_other"));
    let track: TrackId = "TR_ben_0".parse().unwrap();
    ben.event(Event::EncodingsKnown {
        track,
        encodings: vec![(Some(11), None)],
    });
    let track: TrackId = "TR_ben_1".parse().unwrap();
    ben.event(Event::DemandChanged {
        track,
        encodings: 2,
    });

    ben.session.attach(500);
    ben.collect();
    let snapshot = ben.last(|told| match told {
        Told::Snapshot(snapshot) => Some(snapshot.clone()),
        _ => None,
    });
    let snapshot = snapshot.unwrap();
    assert_eq!(
        snapshot
            .open
            .unwrap()
            .data
            .map(|data| (data.send, data.receive)),
        Some((true, false))
    );
    assert_eq!(snapshot.outstanding_offer, ben.offer());
    assert_eq!(snapshot.subscriptions.len(), 1);
    assert_eq!(snapshot.paused_tracks, ids[..1]);
    assert_eq!(snapshot.speakers.len(), 1);
    assert_eq!(snapshot.opened.unwrap().node_id, "node-a");
    let states: Vec<_> = snapshot
        .connections
        .iter()
        .map(|c| (c.connection(), c.state()))
        .collect();
    assert_eq!(
        states,
        [
            (
                ConnectionRole::Publisher,
                contract::ConnectionState::Connected
            ),
            (ConnectionRole::Subscriber, contract::ConnectionState::New)
        ]
    );
    let first = &snapshot.tracks[0];
    assert_eq!(first.announced.as_ref().unwrap().track_id, "TR_ben_0");
    assert_eq!(first.started.as_ref().unwrap().layers[0].ssrc, 11);
    assert_eq!(first.demand, None, "all of it is wanted");
    let told = ben.last(|told| match told {
        Told::TrackDemandChanged(demand) => Some(demand.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.track_id, "TR_ben_1");
    assert_eq!(told.codecs[0].spatial_layers, 2);
    assert_eq!(told.codecs[0].mime_type, "video/VP8");
    assert_eq!(snapshot.tracks[1].demand, Some(told));
}

#[test]
fn a_wish_reaches_the_shard_and_asking_again_negotiates_nothing() {
    let tracks = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let mut ben = Bench::new("ben", ConnectionLayout::Dual, &tracks);
    ben.ask(subscribe(&ids[0]));
    ben.wait();
    let Request::Subscribe(mut again) = subscribe(&ids[0]) else {
        unreachable!()
    };
    again.wish = Some(contract::LayerWish {
        width: 640,
        height: 360,
        ..Default::default()
    });
    ben.ask(Request::Subscribe(again));
    let Some(Command::Subscribe { wish, .. }) = ben.commands.last() else {
        panic!()
    };
    let view = pipemesh_node_core::track::Size {
        width: 640,
        height: 360,
    };
    assert_eq!(
        *wish,
        LayerWish {
            view,
            ..LayerWish::default()
        }
    );
    assert_eq!(ben.session.poll_timeout(), None);
}

#[test]
fn closing_forgets_the_tracks() {
    let tracks: Arc<Tracks> = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let track: TrackId = ids[0].parse().unwrap();
    assert!(tracks.get(&track).is_some());
    let close = contract::Close {
        reason: CloseReason::Left.into(),
    };
    let closed = ada.ask(Request::Close(close));
    assert!(matches!(closed, Told::Closed(closed) if closed.reason() == CloseReason::Left));
    assert!(tracks.get(&track).is_none());
    assert!(matches!(ada.commands.last(), Some(Command::Close(_))));
}

#[test]
fn a_track_that_another_session_has_published_since_is_not_forgotten() {
    let tracks: Arc<Tracks> = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let ids = announce(&mut ada, "ada");
    ada.ask(offer(PUBLISHES));
    let track: TrackId = ids[0].parse().unwrap();
    let entry = tracks.get(&track).unwrap();
    let anew = TrackEntry {
        session: "SE_anew".parse().unwrap(),
        ..entry
    };
    tracks.insert(track.clone(), anew.clone());
    let close = contract::Close {
        reason: CloseReason::Left.into(),
    };
    ada.ask(Request::Close(close));
    assert_eq!(tracks.get(&track), Some(anew));
}

/// Wants a track that another node's session publishes.
fn subscribe_elsewhere(priority: u32) -> Request {
    Request::Subscribe(contract::Subscribe {
        track_id: "TR_far".into(),
        origin: Some(contract::Origin {
            node_id: "node-b".into(),
            session_id: "s1".into(),
        }),
        wish: Some(contract::LayerWish {
            priority,
            ..Default::default()
        }),
        msid_stream: "PA_far|TR_far".into(),
        msid_track: "TR_far".into(),
    })
}

fn publisher() -> SessionId {
    "s1".parse().unwrap()
}

fn subscription_ended(track: TrackId, generation: u64) -> Event {
    Event::SubscriptionEnded { track, generation }
}

fn far_track(tracks: &Tracks) -> TrackId {
    let track: TrackId = "TR_far".parse().unwrap();
    let entry = TrackEntry {
        room: "RM_room".parse().unwrap(),
        session: "s1".parse().unwrap(),
        format: Format::Vp8,
        origin: Origin {
            shard: 2,
            generation: 9,
        },
    };
    tracks.insert(track.clone(), entry);
    track
}

#[test]
fn a_track_of_another_node_is_negotiated_once_it_is_described() {
    let tracks: Arc<Tracks> = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    ada.wait();
    ada.commands.clear();
    assert!(matches!(ada.ask(subscribe_elsewhere(1)), Told::Done(_)));
    // Asked again, with another wish: nothing is known yet.
    assert!(matches!(ada.ask(subscribe_elsewhere(5)), Told::Done(_)));
    let track: TrackId = "TR_far".parse().unwrap();
    assert_eq!(ada.elsewhere, [(track.clone(), true)]);
    assert!(ada.commands.is_empty() && ada.session.poll_timeout().is_none());
    let snapshot = ada.session.snapshot();
    assert_eq!(snapshot.subscriptions.len(), 1, "it is subscribed to");

    far_track(&tracks);
    ada.session
        .handle_track_known(&track, &publisher(), ada.now);
    ada.collect();
    let wish = ada.commands.iter().find_map(|command| match command {
        Command::Subscribe { origin, wish, .. } => Some((*origin, wish.priority)),
        _ => None,
    });
    let origin = Origin {
        shard: 2,
        generation: 9,
    };
    assert_eq!(wish, Some((Some(origin), 5)));
    assert!(ada.session.poll_timeout().is_some(), "an offer follows");
    // Known once is enough.
    let before = ada.commands.len();
    ada.session
        .handle_track_known(&track, &publisher(), ada.now);
    ada.collect();
    assert_eq!(ada.commands.len(), before);
    // From now on a wish reaches the shard at once.
    ada.ask(subscribe_elsewhere(7));
    assert_eq!(ada.commands.len(), before + 1);

    let unsubscribe = contract::Unsubscribe {
        track_id: "TR_far".into(),
    };
    ada.ask(Request::Unsubscribe(unsubscribe));
    assert_eq!(ada.elsewhere.last(), Some(&(track, false)));
}

#[test]
fn a_track_of_another_node_that_is_not_to_be_had_ends_its_subscription() {
    let tracks: Arc<Tracks> = Arc::default();
    let ended = |ada: &Bench| {
        ada.last(|told| match told {
            Told::SubscriptionEnded(ended) => Some(ended.track_id.clone()),
            _ => None,
        })
    };
    for is_known in [false, true] {
        let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
        ada.ask(subscribe_elsewhere(1));
        let track = far_track(&tracks);
        if is_known {
            ada.session
                .handle_track_known(&track, &publisher(), ada.now);
        }
        ada.session.handle_track_gone(&track, &publisher(), ada.now);
        ada.collect();
        assert_eq!(ended(&ada).as_deref(), Some("TR_far"));
        assert_eq!(ada.session.snapshot().subscriptions.len(), 0);
        assert_eq!(
            ada.elsewhere,
            [(track.clone(), true)],
            "nothing is given back"
        );
        // Said twice, it is over once.
        ada.said.clear();
        ada.session.handle_track_gone(&track, &publisher(), ada.now);
        ada.event(subscription_ended(track, 9));
        assert_eq!(ended(&ada), None);
    }
    // The shard may be the first to say so.
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    ada.ask(subscribe_elsewhere(1));
    let track = far_track(&tracks);
    ada.session
        .handle_track_known(&track, &publisher(), ada.now);
    // … but not of one that was there before.
    ada.event(subscription_ended(track.clone(), 8));
    let other = "s0".parse().unwrap();
    ada.session.handle_track_gone(&track, &other, ada.now);
    ada.collect();
    assert_eq!(ended(&ada), None);
    ada.event(subscription_ended(track.clone(), 9));
    assert_eq!(ended(&ada).as_deref(), Some("TR_far"));
    assert_eq!(ada.elsewhere, [(track.clone(), true), (track, false)]);
}

#[test]
fn what_says_where_a_track_is_has_to_make_sense() {
    let tracks: Arc<Tracks> = Arc::default();
    let mut ada = Bench::new("ada", ConnectionLayout::Dual, &tracks);
    let asked = |node_id: &str, session_id: &str| {
        let Request::Subscribe(mut subscribe) = subscribe_elsewhere(1) else {
            unreachable!("that is what it is");
        };
        subscribe.origin = Some(contract::Origin {
            node_id: node_id.into(),
            session_id: session_id.into(),
        });
        Request::Subscribe(subscribe)
    };
    let (code, message) = ada.refused(asked("node b", "s1"));
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("origin.node_id"), "{message}");
    let (code, message) = ada.refused(asked("node-b", ""));
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("origin.session_id"), "{message}");
    // Here, as if nothing had been said.
    let (code, _) = ada.refused(asked("node-a", ""));
    assert_eq!(code, Code::TrackNotFound);
    assert!(ada.elsewhere.is_empty());
}

#[test]
fn a_session_listens_to_its_room_on_other_nodes() {
    let mut ada = Bench::new("ada", ConnectionLayout::Single, &Arc::default());
    let hear = |nodes: &[&str]| {
        let node_ids = nodes.iter().map(ToString::to_string).collect();
        Request::HearNodes(contract::HearNodes { node_ids })
    };
    // Its own node is none of them.
    let answer = ada.ask(hear(&["node-c", "node-a", "node-b", "node-b"]));
    assert!(matches!(answer, Told::Done(_)));
    assert_eq!(ada.heard, ["node-b", "node-c"]);
    let (code, message) = ada.refused(hear(&["node-b", "node b"]));
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("node b"), "{message}");
    let (code, _) = ada.refused(hear(&["node-b"; 1025]));
    assert_eq!(code, Code::Limit);
    assert_eq!(ada.heard, ["node-b", "node-c"]);
    ada.ask(hear(&[]));
    assert!(ada.heard.is_empty());
}
