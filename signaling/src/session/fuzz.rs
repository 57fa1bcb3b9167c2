//! A client that says whatever protobuf can hold, in whatever order, while its node and its room go on: the
//! bench checks that the node is asked nothing which the contract forbids.

use livekit_protocol::{JoinRequest, SignalRequest, TrackType, VideoLayer, VideoQuality};
use pipemesh_proto::node::session_event::Event;
use prost::Message as _;

use super::bench::{Bench, Setup, record};
use super::*;
use crate::fuzz::pieces;
use crate::livekit::join::Resume;

/// What the architecture promises of one participant.
const MAX_TRACKS: usize = 64;
const MAX_SUBSCRIPTIONS: usize = 250;

/// The first piece is the request to join; the others say who does what, and what is in it.
pub(crate) fn run(input: &[u8]) {
    let mut pieces = pieces(input);
    let Some((&how, request)) = pieces.next().and_then(<[u8]>::split_first) else {
        return;
    };
    let Ok(request) = JoinRequest::decode(request) else {
        return;
    };
    let mut run = Run::new(how, request);
    for piece in pieces.take(200) {
        let Some((&how, content)) = piece.split_first() else {
            continue;
        };
        run.step(how, content);
        if run.bench.ended.is_some() {
            return;
        }
        run.check();
    }
}

struct Run {
    bench: Bench,
    is_broken: bool,
    version: u32,
}

impl Run {
    fn new(how: u8, request: JoinRequest) -> Self {
        let settings = request.connection_settings.unwrap_or_default();
        let usual = Setup::default();
        let setup = Setup {
            layout: match how & 1 {
                0 => ConnectionLayout::Single,
                _ => ConnectionLayout::Dual,
            },
            protocol: request.client_info.unwrap_or_default().protocol,
            rights: Rights {
                publish: how & 2 == 0,
                subscribe: how & 4 == 0,
                ..usual.rights
            },
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
            add_tracks: request.add_track_requests,
            offer: request.publisher_offer,
            others: vec![("other", other(1, &["TR_other0", "TR_other1"]))],
            ..usual
        };
        let mut bench = Bench::opening(setup);
        bench.opened();
        bench.attach(None);
        Self {
            bench,
            is_broken: false,
            version: 1,
        }
    }

    fn step(&mut self, how: u8, content: &[u8]) {
        let value = content.first().copied().unwrap_or(0);
        match how & 15 {
            0..=7 => {
                let request = SignalRequest::decode(content).ok();
                if let Some(message) = request.and_then(|request| request.message) {
                    self.bench.says(message);
                }
            }
            8 | 9 => self.answer(value),
            10 if !self.is_broken => self.node_says(value),
            11 => self.others(value),
            12 => self.socket(value),
            13 => self.link(value),
            _ => {
                let millis = u64::from(value) * 100;
                self.bench.passes(Duration::from_millis(millis));
            }
        }
        self.bench.heard.clear();
    }

    /// The oldest request is refused for one of the reasons there are, or answered well.
    fn answer(&mut self, value: u8) {
        let Some(oldest) = self.bench.node.unanswered.first() else {
            return;
        };
        let answer = match (&oldest.request, value) {
            (Some(Request::Close(_)), _) => Event::Closed(contract::Closed::default()),
            (_, 1..13) => Event::Refused(contract::Refused {
                code: value.into(),
                message: String::new(),
            }),
            (Some(Request::Offer(offer)), _) => Event::AnswerCreated(contract::AnswerCreated {
                offer_id: offer.offer_id,
                mid_to_track: [("0".to_owned(), "TR_other1".to_owned())].into(),
                ..contract::AnswerCreated::default()
            }),
            _ => Event::Done(contract::Done {}),
        };
        self.bench.answer(answer);
    }

    fn node_says(&mut self, value: u8) {
        let own = format!("TR_{}", value >> 4);
        let other = format!("TR_other{}", value >> 4 & 1);
        let layers = u32::from(value >> 6);
        let event = match value & 7 {
            0 => return self.bench.started(&own),
            1 => Event::TrackEnded(contract::TrackEnded { track_id: own }),
            2 => Event::SubscriptionEnded(contract::SubscriptionEnded { track_id: other }),
            3 => Event::TrackDemandChanged(contract::TrackDemandChanged {
                track_id: own,
                codecs: vec![contract::CodecDemand {
                    mime_type: "video/VP8".to_owned(),
                    spatial_layers: layers,
                }],
            }),
            4 => Event::OfferCreated(contract::OfferCreated {
                offer_id: 1 + u32::from(value >> 3),
                mid_to_track: [("0".to_owned(), other)].into(),
                ..contract::OfferCreated::default()
            }),
            5 => Event::ConnectionChanged(contract::ConnectionChanged {
                connection: i32::from(value >> 3 & 1),
                state: i32::from(value >> 4) % 5,
            }),
            _ => Event::SectionsNeeded(contract::SectionsNeeded {
                audio: layers,
                video: layers,
            }),
        };
        self.bench.event(event);
    }

    fn others(&mut self, value: u8) {
        const TRACKS: [&str; 3] = ["TR_other0", "TR_other1", "TR_other2"];
        if value == 0 {
            return self.bench.leaves("other");
        }
        self.version += 1;
        let tracks = &TRACKS[..usize::from(value) % 4];
        let mut other = other(self.version, tracks);
        if value & 8 != 0 {
            other.session.push_str("-2");
            other.node = "node-b".to_owned();
        }
        self.bench.puts("other", &other);
    }

    fn socket(&mut self, value: u8) {
        let session = &self.bench.session;
        let is_open = session.is_open() && session.outbox.has_begun();
        let may_resume = is_open || matches!(session.phase, Phase::Moving | Phase::Rejoining);
        match value & 1 {
            0 => self.bench.detach(),
            _ => self.bench.attach(may_resume.then(Resume::default)),
        }
    }

    /// The stream to the node breaks, and comes back with what the node knows.
    fn link(&mut self, value: u8) {
        let bench = &mut self.bench;
        if self.is_broken {
            self.is_broken = false;
            let tracks = bench.node.tracks.iter();
            let tracks = tracks.map(|id| contract::PublishedTrack {
                announced: Some(contract::AddTrack {
                    track_id: id.clone(),
                    ..contract::AddTrack::default()
                }),
                ..contract::PublishedTrack::default()
            });
            let snapshot = contract::Snapshot {
                tracks: tracks.collect(),
                subscriptions: Vec::new(),
                ..contract::Snapshot::default()
            };
            bench.node.subscribed.clear();
            bench.node.origins.clear();
            bench.session.handle_snapshot(snapshot, bench.now);
            bench.drain();
        } else if value & 1 == 0 && bench.session.is_open() {
            self.is_broken = true;
            bench.session.handle_node_broken();
            bench.node.unanswered.clear();
            bench.drain();
        }
    }

    fn check(&self) {
        let node = &self.bench.node;
        assert!(node.tracks.len() <= MAX_TRACKS, "{}", node.tracks.len());
        assert!(node.subscribed.len() <= MAX_SUBSCRIPTIONS);
        let me = self.bench.me();
        assert_eq!(me.info.is_publisher, !me.info.tracks.is_empty());
    }
}

/// Somebody else's record, with a camera of three layers for each track.
#[expect(deprecated, reason = "where the layers of the first codec are")]
fn other(version: u32, tracks: &[&str]) -> MemberRecord {
    let mut record = record("other", version, tracks);
    let qualities = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
    for info in record.info.iter_mut().flat_map(|info| &mut info.tracks) {
        info.set_type(TrackType::Video);
        let layer = |(place, quality): (u32, VideoQuality)| VideoLayer {
            quality: quality.into(),
            width: 320 << place,
            height: 180 << place,
            ..VideoLayer::default()
        };
        info.layers = (0..).zip(qualities).map(layer).collect();
    }
    record
}
