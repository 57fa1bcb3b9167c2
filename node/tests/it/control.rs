//! The control channel: streams that hurry, dawdle and end, and what the node says of itself.

use std::collections::BTreeSet;

use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    CloseReason, Code, ConnectionLayout, DrainRequest, InspectRoomRequest, ListRoomsRequest,
    NodeReport, NodeState, RemoveTrack, SessionRequest, Trickle, UndrainRequest, WatchRequest,
};
use rand::Rng;
use tonic::Streaming;

use crate::support::control::{self, Signaling, camera, participant};
use crate::support::node::TestNode;
use crate::support::{random, within};

const SINGLE: ConnectionLayout = ConnectionLayout::Single;

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut session = signaling.open(participant("ann", "room", SINGLE)).await;
    let mut announced = BTreeSet::new();
    let mut expected = Vec::new();
    for _ in 0..1000 {
        let track = format!("TR_{}", random.random_range(0..8));
        let (id, outcome) = match random.random_range(0..3) {
            0 => {
                let outcome = match announced.insert(track.clone()) {
                    true => None,
                    false => Some(Code::TrackExists),
                };
                let add = camera(&track, &track);
                (session.send(Request::AddTrack(add)).await, outcome)
            }
            1 => {
                let outcome = match announced.remove(&track) {
                    true => None,
                    false => Some(Code::TrackNotFound),
                };
                let remove = RemoveTrack { track_id: track };
                (session.send(Request::RemoveTrack(remove)).await, outcome)
            }
            _ => (session.send_unknown().await, Some(Code::Unimplemented)),
        };
        expected.push((id, outcome));
    }
    for (id, outcome) in expected {
        let answer = session.next().await.expect("every request is answered");
        let answered = match answer.event {
            Some(Event::Done(_)) => None,
            Some(Event::Refused(refused)) => Some(refused.code()),
            other => panic!("{other:?} for a request"),
        };
        assert_eq!((answer.request_id, answered), (id, outcome));
    }
    // What has no number cannot be carried out, and is no reason to end the session.
    let nameless = SessionRequest {
        request_id: 0,
        request: Some(Request::RemoveTrack(RemoveTrack::default())),
    };
    session.send_raw(nameless).await;
    let refusal = |event: &Event| match event {
        Event::Refused(refused) => Some(refused.code()),
        _ => None,
    };
    let code = session.event("a refusal", refusal).await;
    assert_eq!(code, Code::InvalidArgument);
    session.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_given_up_and_hurts_nobody() {
    const REQUESTS: usize = 8000;
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut other = signaling.open(participant("bob", "room", SINGLE)).await;
    // As little as HTTP/2 allows: what the node has to keep shows soon.
    let endpoint = control::endpoint(node.control_address()).initial_stream_window_size(65_535);
    let slow = Signaling::with(endpoint, None).await;
    let mut session = slow.open(participant("ann", "room", SINGLE)).await;
    for number in 0..REQUESTS {
        let candidate = "not a candidate".to_owned();
        let connection = 0;
        let refused = Trickle {
            connection,
            candidate,
        };
        session.send(Request::Trickle(refused)).await;
        if number % 1000 == 0 {
            let track = format!("TR_{number}");
            other.add_track(camera(&track, &track)).await;
        }
    }
    let given_up = async {
        while attached(&signaling, "room", "PA_ann").await {
            tokio::task::yield_now().await;
        }
    };
    within("the stream is given up", given_up).await;
    // What was on its way still arrives; then the stream ends.
    let read = session.last_words().await.len();
    assert!((1..REQUESTS).contains(&read), "{read} of {REQUESTS}");
    let (mut session, snapshot) = signaling.attach("S_room_ann").await;
    assert_eq!(snapshot.open.unwrap().participant_id, "PA_ann");
    session.close().await;
    node.stop().await;
}

async fn attached(signaling: &Signaling, room: &str, participant: &str) -> bool {
    let room_id = room_id(room);
    let request = InspectRoomRequest {
        room_id,
        ..InspectRoomRequest::default()
    };
    let inspected = signaling.client.clone().inspect_room(request).await;
    let sessions = inspected.unwrap().into_inner().sessions;
    let session = sessions.iter().find(|s| s.participant_id == participant);
    session.expect("the session lives").attached
}

fn room_id(room: &str) -> String {
    format!("RM_{room}")
}

#[tokio::test]
async fn a_draining_node_takes_nobody_new() {
    let node = TestNode::start().await;
    let mut signaling = node.signaling().await;
    let mut session = signaling.open(participant("ann", "room", SINGLE)).await;
    let mut reports = watch(&mut signaling).await;
    for _ in 0..2 {
        // Twice is as good as once.
        let drained = signaling.client.drain(DrainRequest {}).await.unwrap();
        assert_eq!(drained.into_inner().state(), NodeState::Draining);
    }
    report(&mut reports, |report| report.state() == NodeState::Draining).await;
    let newcomer = || Request::Open(participant("bob", "room", SINGLE));
    let refused = signaling.refused(newcomer()).await;
    assert_eq!(refused.code(), Code::NodeDraining);
    session.add_track(camera("TR_cam", "cam")).await;

    let undrained = signaling.client.undrain(UndrainRequest {}).await.unwrap();
    assert_eq!(undrained.into_inner().state(), NodeState::Serving);
    let (mut newcomer, answer) = signaling.begin(newcomer()).await.unwrap();
    assert!(matches!(answer, Event::Opened(_)), "{answer:?}");
    newcomer.close().await;
    session.close().await;
    node.stop().await;
}

#[tokio::test]
async fn the_node_tells_who_is_there() {
    let node = TestNode::start().await;
    let mut signaling = node.signaling().await;
    let mut reports = watch(&mut signaling).await;
    let first = report(&mut reports, |_| true).await;
    assert_eq!(
        (first.node_id.as_str(), first.region.as_str()),
        ("node-a", "eu")
    );
    assert_eq!(first.state(), NodeState::Serving);
    let mut ann = signaling.open(participant("ann", "red", SINGLE)).await;
    let mut bob = signaling.open(participant("bob", "red", SINGLE)).await;
    let mut eve = signaling.open(participant("eve", "blue", SINGLE)).await;
    let load = |report: &NodeReport| report.load.map(|load| (load.sessions, load.rooms));
    report(&mut reports, |report| load(report) == Some((3, 2))).await;

    let rooms = signaling.client.list_rooms(ListRoomsRequest {}).await;
    let rooms = rooms.unwrap().into_inner().rooms;
    let rooms = rooms
        .iter()
        .map(|room| (room.room_id.as_str(), room.sessions));
    assert_eq!(rooms.collect::<Vec<_>>(), [("RM_blue", 1), ("RM_red", 2)]);
    let room_id = room_id("red");
    let red = signaling.client.inspect_room(InspectRoomRequest {
        room_id,
        ..InspectRoomRequest::default()
    });
    let sessions = red.await.unwrap().into_inner().sessions;
    let people = sessions.iter().map(|s| (s.identity.as_str(), s.attached));
    assert_eq!(people.collect::<Vec<_>>(), [("ann", true), ("bob", true)]);

    for session in [&mut ann, &mut bob, &mut eve] {
        session.close().await;
    }
    report(&mut reports, |report| load(report) == Some((0, 0))).await;
    let rooms = signaling.client.list_rooms(ListRoomsRequest {}).await;
    assert_eq!(rooms.unwrap().into_inner().rooms, []);
    node.stop().await;
}

#[tokio::test]
async fn an_orderly_stop_says_goodbye() {
    let node = TestNode::start().await;
    let mut signaling = node.signaling().await;
    let mut session = signaling.open(participant("ann", "room", SINGLE)).await;
    let mut reports = watch(&mut signaling).await;
    let goodbye = async {
        let closed = session.closed().await;
        assert_eq!(closed.reason(), CloseReason::NodeStopping);
        assert_eq!(session.last_words().await, []);
        while let Some(_report) = within("a report", reports.message()).await.unwrap() {}
    };
    let address = node.control_address();
    tokio::join!(node.stop(), goodbye);
    let connected = control::endpoint(address).connect().await;
    assert!(connected.is_err(), "nobody listens any more");
}

async fn watch(signaling: &mut Signaling) -> Streaming<NodeReport> {
    let reports = signaling.client.watch(WatchRequest {});
    within("reports begin", reports).await.unwrap().into_inner()
}

async fn report(
    reports: &mut Streaming<NodeReport>,
    is_it: impl Fn(&NodeReport) -> bool,
) -> NodeReport {
    let found = async {
        loop {
            let report = reports.message().await.unwrap();
            let report = report.expect("reports go on");
            if is_it(&report) {
                return report;
            }
        }
    };
    within("such a report", found).await
}
