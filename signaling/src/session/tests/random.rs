//! Whatever a client, a node and a room do in whatever order: nothing panics, the node is asked
//! nothing that the contract forbids, and nothing follows the end. The bench checks all of it.

use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{
    MuteTrackRequest, SimulateScenario, SubscriptionPermission, SyncState, TrackInfo,
    TrackPublishedResponse, TrickleRequest, UpdateParticipantMetadata, UpdateSubscription,
    UpdateTrackSettings,
};
use pipemesh_proto::node as contract;
use pipemesh_proto::node::session_event::Event;
use proptest::prelude::*;

use super::bench::*;
use super::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Client(Box<FromClient>),
    Attach {
        resume: bool,
    },
    Detach,
    /// The node answers the oldest request, well or not.
    Answer {
        refuse: Option<i32>,
    },
    Event(Box<Event>),
    /// Somebody publishes these tracks, in this session of theirs: the later ones are on another node.
    Other {
        who: u8,
        tracks: Vec<u8>,
        session: u8,
        presence: u8,
    },
    OtherLeaves(u8),
    Moves,
    Replaced,
    Broken,
    Restored,
    Lost,
    TakenOver,
    Passes(u64),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1..4u8).prop_map(|i| format!("TR_{i}")),
        4 => (0..3u8).prop_map(|i| format!("TR_other{i}")),
        1 => Just(String::new()),
        1 => any::<String>(),
    ]
}

fn cid() -> impl Strategy<Value = String> {
    prop_oneof![6 => (0..3u8).prop_map(|i| format!("cid-{i}")), 1 => any::<String>()]
}

fn description() -> impl Strategy<Value = SessionDescription> {
    (any::<String>(), 0..4u32).prop_map(|(sdp, id)| SessionDescription {
        sdp,
        id,
        ..Default::default()
    })
}

fn from_client() -> impl Strategy<Value = FromClient> {
    let tracks = || prop::collection::vec(text(), 0..3);
    prop_oneof![
        1 => description().prop_map(FromClient::Offer),
        1 => description().prop_map(FromClient::Answer),
        1 => (any::<String>(), -1..3i32, any::<bool>()).prop_map(|(candidate_init, target, end)| {
            FromClient::Trickle(TrickleRequest { candidate_init, target, r#final: end })
        }),
        3 => (cid(), -1..4i32, -1..6i32, text(), any::<bool>()).prop_map(
            |(cid, kind, source, sid, again)| {
                FromClient::AddTrack(AddTrackRequest {
                    cid,
                    r#type: kind,
                    source,
                    sid: if again { sid } else { String::new() },
                    ..Default::default()
                })
            }
        ),
        1 => (text(), any::<bool>()).prop_map(|(sid, muted)| {
            FromClient::Mute(MuteTrackRequest { sid, muted })
        }),
        2 => (tracks(), any::<bool>()).prop_map(|(track_sids, subscribe)| {
            FromClient::Subscription(UpdateSubscription {
                track_sids,
                subscribe,
                ..Default::default()
            })
        }),
        2 => (tracks(), any::<bool>(), 0..2000u32, -1..5i32).prop_map(
            |(track_sids, disabled, width, quality)| {
                FromClient::TrackSetting(UpdateTrackSettings {
                    track_sids,
                    disabled,
                    width,
                    height: width,
                    quality,
                    ..Default::default()
                })
            }
        ),
        1 => any::<bool>().prop_map(|all_participants| {
            FromClient::SubscriptionPermission(SubscriptionPermission {
                all_participants,
                ..Default::default()
            })
        }),
        1 => (any::<String>(), cid(), cid()).prop_map(|(metadata, name, value)| {
            FromClient::UpdateMetadata(UpdateParticipantMetadata {
                metadata,
                attributes: [(name, value)].into(),
                ..Default::default()
            })
        }),
        1 => (text(), tracks()).prop_map(|(sid, disabled)| {
            FromClient::SyncState(SyncState {
                publish_tracks: vec![TrackPublishedResponse {
                    cid: String::new(),
                    track: Some(TrackInfo { sid, ..Default::default() }),
                }],
                track_sids_disabled: disabled,
                ..Default::default()
            })
        }),
        1 => Just(FromClient::Ping(1)),
        1 => (0..5u8).prop_map(|which| {
            let scenario = match which {
                0 => Scenario::SpeakerUpdate(1),
                1 => Scenario::DisconnectSignalOnResume(true),
                2 => Scenario::DisconnectSignalOnResumeNoMessages(true),
                3 => Scenario::LeaveRequestFullReconnect(true),
                _ => Scenario::SubscriberBandwidth(1),
            };
            FromClient::Simulate(SimulateScenario { scenario: Some(scenario) })
        }),
    ]
}

fn from_node() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..4u8).prop_map(|i| Event::TrackStarted(contract::TrackStarted {
            track_id: format!("TR_{i}"),
            mime_type: "video/VP8".to_owned(),
            ..Default::default()
        })),
        2 => (1..4u8).prop_map(|i| Event::TrackEnded(contract::TrackEnded {
            track_id: format!("TR_{i}"),
        })),
        2 => (0..3u8).prop_map(|i| Event::SubscriptionEnded(contract::SubscriptionEnded {
            track_id: format!("TR_other{i}"),
        })),
        1 => (text(), any::<u32>()).prop_map(|(track_id, spatial_layers)| {
            let codec = contract::CodecDemand { mime_type: "video/VP8".to_owned(), spatial_layers };
            Event::TrackDemandChanged(contract::TrackDemandChanged {
                track_id,
                codecs: vec![codec],
            })
        }),
        1 => (1..4u32, text()).prop_map(|(offer_id, track)| {
            Event::OfferCreated(contract::OfferCreated {
                sdp: String::new(),
                offer_id,
                mid_to_track: [("0".to_owned(), track)].into(),
            })
        }),
        1 => (0..3u32).prop_map(|audio| {
            Event::SectionsNeeded(contract::SectionsNeeded { audio, video: 0 })
        }),
        1 => (0..2i32, 0..5i32).prop_map(|(connection, state)| {
            Event::ConnectionChanged(contract::ConnectionChanged { connection, state })
        }),
        1 => any::<String>().prop_map(|id| Event::SpeakersChanged(contract::SpeakersChanged {
            speakers: vec![contract::Speaker { participant_id: id, level: 1.0, active: true }],
        })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => from_client().prop_map(|message| Step::Client(Box::new(message))),
        2 => any::<bool>().prop_map(|resume| Step::Attach { resume }),
        1 => Just(Step::Detach),
        8 => prop::option::weighted(0.1, 1..13i32).prop_map(|refuse| Step::Answer { refuse }),
        6 => from_node().prop_map(|event| Step::Event(Box::new(event))),
        6 => (0..3u8, prop::collection::vec(0..3u8, 0..3), 0..4u8, 0..4u8).prop_map(
            |(who, tracks, session, presence)| Step::Other { who, tracks, session, presence }
        ),
        2 => (0..3u8).prop_map(Step::OtherLeaves),
        1 => Just(Step::Broken),
        2 => Just(Step::Restored),
        1 => prop_oneof![Just(Step::Moves), Just(Step::Replaced), Just(Step::Lost), Just(Step::TakenOver)],
        4 => (0..20_000u64).prop_map(Step::Passes),
    ]
}

/// A session in the middle of something.
struct Run {
    setup: Setup,
    bench: Bench,
    broken: bool,
    others: [bool; 3],
    version: u32,
}

impl Run {
    fn step(&mut self, step: Step) {
        let bench = &mut self.bench;
        match step {
            Step::Client(message) => bench.says(*message),
            Step::Attach { resume } => {
                let open = bench.session.is_open() && bench.session.outbox.has_begun();
                let rejoining = matches!(bench.session.phase, Phase::Moving | Phase::Rejoining);
                if open || rejoining || !resume {
                    bench.attach((open || rejoining).then(Resume::default));
                }
            }
            Step::Detach => bench.detach(),
            Step::Answer { refuse } => self.answer(refuse),
            Step::Event(event) if !self.broken => {
                // A node speaks of a session's own tracks only.
                bench.event(*event);
            }
            Step::Event(_) => {}
            Step::Other {
                who,
                tracks,
                session,
                presence,
            } => {
                self.others[usize::from(who)] = true;
                self.version += 1;
                let name = format!("other{who}");
                let mut tracks: Vec<String> = tracks
                    .into_iter()
                    .filter(|track| *track == who)
                    .map(|track| format!("TR_other{track}"))
                    .collect();
                tracks.dedup();
                let tracks: Vec<&str> = tracks.iter().map(String::as_str).collect();
                let mut other = record(&name, self.version, &tracks);
                other.session = format!("s-{name}-{session}");
                if session >= 2 {
                    other.node = "node-b".to_owned();
                }
                other.presence = presence.into();
                bench.puts(&name, &other);
            }
            Step::OtherLeaves(who) => {
                if std::mem::take(&mut self.others[usize::from(who)]) {
                    bench.leaves(&format!("other{who}"));
                }
            }
            Step::Moves => {
                let room = stored_room("node-b");
                bench
                    .world
                    .apply(pipemesh_topology::store::Change::RoomUpdated(room));
                bench.room_changed();
            }
            Step::Replaced => {
                let mut other = record(ME, 0, &[]);
                other.session = "s-other".to_owned();
                bench.store_works = false;
                bench.puts(ME, &other);
            }
            Step::Broken => {
                if bench.session.is_open() {
                    self.broken = true;
                    bench.session.handle_node_broken();
                    bench.node.unanswered.clear();
                    bench.drain();
                }
            }
            Step::Restored => self.restored(),
            Step::Lost => {
                bench.session.handle_node_lost(bench.now);
                bench.drain();
            }
            Step::TakenOver => self.is_taken_over(),
            Step::Passes(ms) => bench.passes(Duration::from_millis(ms)),
        }
    }

    fn answer(&mut self, refuse: Option<i32>) {
        let bench = &mut self.bench;
        let Some(oldest) = bench.node.unanswered.first() else {
            return;
        };
        let answer = match (&oldest.request, refuse) {
            (Some(Request::Open(_)), None) => Event::Opened(contract::Opened::default()),
            (Some(Request::Close(_)), _) => Event::Closed(contract::Closed::default()),
            (Some(Request::Offer(offer)), None) => Event::AnswerCreated(contract::AnswerCreated {
                sdp: String::new(),
                offer_id: offer.offer_id,
                mid_to_track: [("0".to_owned(), "TR_other1".to_owned())].into(),
            }),
            (_, None) => Event::Done(contract::Done {}),
            (_, Some(code)) => Event::Refused(contract::Refused {
                code,
                message: String::new(),
            }),
        };
        bench.answer(answer);
    }

    fn restored(&mut self) {
        if !std::mem::take(&mut self.broken) {
            return;
        }
        let snapshot = self.snapshot();
        self.bench.session.handle_snapshot(snapshot, self.bench.now);
        self.bench.drain();
    }

    fn is_taken_over(&mut self) {
        let there = matches!(self.bench.me().presence, Presence::Here | Presence::Away);
        if self.bench.session.is_open() && there {
            let snapshot = self.snapshot();
            self.broken = false;
            self.bench.is_taken_over(self.setup.clone(), snapshot);
        }
    }

    fn snapshot(&self) -> contract::Snapshot {
        let bench = &self.bench;
        let tracks = bench.node.tracks.iter().map(|id| contract::PublishedTrack {
            announced: Some(contract::AddTrack {
                track_id: id.clone(),
                ..Default::default()
            }),
            started: None,
            demand: None,
        });
        let subscriptions = bench
            .node
            .subscribed
            .iter()
            .map(|(id, wish)| contract::Subscribe {
                track_id: id.clone(),
                origin: bench.node.origins.get(id).cloned(),
                wish: Some(*wish),
                ..Default::default()
            });
        contract::Snapshot {
            tracks: tracks.collect(),
            subscriptions: subscriptions.collect(),
            ..Default::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_client_does_breaks_the_session_or_the_contract(
        dual in any::<bool>(),
        publish in prop::bool::weighted(0.9),
        subscribe in prop::bool::weighted(0.9),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let setup = Setup::default();
        let setup = Setup {
            layout: if dual { ConnectionLayout::Dual } else { ConnectionLayout::Single },
            rights: Rights { publish, subscribe, ..setup.rights.clone() },
            ..setup
        };
        let bench = Bench::opening(setup.clone());
        let mut run = Run { setup, bench, broken: false, others: [false; 3], version: 0 };
        run.answer(None);
        run.step(Step::Attach { resume: false });
        for step in steps {
            run.step(step);
            if run.bench.ended.is_some() {
                break;
            }
            prop_assert_eq!(run.bench.me().info.is_publisher, !run.bench.me().info.tracks.is_empty());
        }
    }
}
