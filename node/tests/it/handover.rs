//! Streams of signaling come and go; what the session carries does not notice.

use std::time::Duration;

use pipemesh_proto::node::{
    CloseReason, Code, ConnectionLayout, ConnectionRole, ConnectionState, ListRoomsRequest, Open,
};

use crate::support::control::{attach, camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::subscriber::Subscriber;
use crate::support::{camera as film, random, recording, within};

const SINGLE: ConnectionLayout = ConnectionLayout::Single;

#[tokio::test]
async fn media_outlives_the_streams_of_signaling() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &film::RIDS, &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    ann.send_frames(true);
    let stream = bob.subscribe("TR_ann", layers(1)).await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, 1).await;

    // The process that held both sessions is gone.
    drop((ann.session, bob.session, signaling));
    let signaling = node.signaling().await;
    let (session, snapshot) = signaling.attach("S_room_ann").await;
    ann.session = session;
    let expected = participant("ann", "room", SINGLE);
    assert_eq!(snapshot.open, Some(expected));
    let states = snapshot.connections.iter();
    let states = states.map(|connection| (connection.connection(), connection.state()));
    let connected = (ConnectionRole::Publisher, ConnectionState::Connected);
    assert_eq!(states.collect::<Vec<_>>(), [connected]);
    let [track] = &snapshot.tracks[..] else {
        panic!("{:?}", snapshot.tracks);
    };
    assert_eq!(track.announced, Some(camera("TR_ann", "camera")));
    let started = track.started.as_ref().expect("it is negotiated");
    assert_eq!((started.mid.as_str(), started.layers.len()), ("0", 3));
    let ssrcs = started.layers.iter().map(|layer| layer.ssrc);
    let expected: Vec<u32> = (0..3).map(Publisher::ssrc).collect();
    assert_eq!(ssrcs.collect::<Vec<_>>(), expected);

    let (session, snapshot) = signaling.attach("S_room_bob").await;
    bob.session = session;
    let subscribed = snapshot.subscriptions.iter().map(|s| s.track_id.as_str());
    assert_eq!(subscribed.collect::<Vec<_>>(), ["TR_ann"]);
    assert_eq!(snapshot.outstanding_offer, None);

    // The stream goes on where it was, and obeys those who came.
    ann.send_frames(false);
    bob.frame(stream.ssrc, 0, 2).await;
    bob.session.subscribe("TR_ann", layers(2)).await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 1, 3).await;
    assert_eq!(recording::check(&bob.recorded(stream.ssrc)), 1);
    node.stop().await;
}

#[tokio::test]
async fn whoever_attaches_last_holds_the_session() {
    let node = TestNode::start().await;
    let (first, second) = (node.signaling().await, node.signaling().await);
    let mut former = first.open(participant("ann", "room", SINGLE)).await;
    former.add_track(camera("TR_cam", "cam")).await;
    let (mut session, snapshot) = second.attach("S_room_ann").await;
    assert_eq!(snapshot.tracks.len(), 1);
    let closed = former.closed().await;
    assert_eq!(closed.reason(), CloseReason::TakenOver);
    assert_eq!(former.last_words().await, [], "the former stream ends");
    session.add_track(camera("TR_screen", "screen")).await;
    session.close().await;
    node.stop().await;
}

/// It was frozen, and its stream broke meanwhile.
#[tokio::test]
async fn who_lost_the_session_to_a_later_claim_does_not_get_it_back() {
    let node = TestNode::start().await;
    let (first, second) = (node.signaling().await, node.signaling().await);
    let open = Open {
        claim: 5,
        ..participant("ann", "room", SINGLE)
    };
    drop(first.open(open).await);
    let (mut session, _) = second.attach_by(7, "S_room_ann").await;
    let refused = first.refused(attach(5, "S_room_ann")).await;
    assert_eq!(refused.code(), Code::TakenOver);
    session.add_track(camera("TR_cam", "cam")).await;
    // Of a version that knows of no claims, and of whom has it since then.
    let (_, snapshot) = first.attach("S_room_ann").await;
    assert_eq!(snapshot.tracks.len(), 1);
    let refused = first.refused(attach(6, "S_room_ann")).await;
    assert_eq!(refused.code(), Code::TakenOver);
    let (mut session, _) = second.attach_by(7, "S_room_ann").await;
    session.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_session_that_nobody_comes_back_for_ends() {
    let node = TestNode::with(|config| config.session_grace = Duration::from_millis(200)).await;
    let mut signaling = node.signaling().await;
    let mut random = random();
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    // A session may ask for more than the node's default.
    let mut patient = participant("bob", "room", SINGLE);
    patient.grace_ms = 600_000;
    drop(signaling.open(patient).await);
    ann.session = signaling.open(participant("eve", "other", SINGLE)).await;
    let closed = |received: &crate::support::wire::Received| received.closed.then_some(());
    ann.wire.until("the client is told", closed).await;

    let only_bob = async {
        loop {
            let rooms = signaling.client.list_rooms(ListRoomsRequest {}).await;
            let rooms = rooms.unwrap().into_inner().rooms;
            if rooms
                .iter()
                .any(|r| r.room_id == "RM_room" && r.sessions == 1)
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the session is forgotten", only_bob).await;
    let refused = signaling.refused(attach(0, "S_room_ann")).await;
    assert_eq!(refused.code(), Code::SessionNotFound);
    let (mut bob, _) = signaling.attach("S_room_bob").await;
    bob.close().await;
    node.stop().await;
}
