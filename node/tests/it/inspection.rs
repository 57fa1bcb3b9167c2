//! What a node says when somebody looks: which way tracks take, how pipes are, what a session is sent.

use pipemesh_proto::node::{
    InspectPipesRequest, InspectPipesResponse, InspectRoomRequest, PipeState, RelayRole,
};
use tonic::Code;

use crate::pipes::{Mesh, watch};
use crate::support::camera::RIDS;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::{random, within};

/// From whom the room's only track is taken, as what, and how many watch.
fn way(inspected: &InspectPipesResponse) -> (&str, RelayRole, u32) {
    let [track] = inspected.tracks.as_slice() else {
        panic!("{inspected:?}");
    };
    assert_eq!(track.track_id, "TR_ann");
    assert_eq!(track.origin_node_id, "node-a");
    assert_eq!(track.session_id, "S_room_ann");
    (&track.from_node_id, track.role(), track.watchers)
}

#[tokio::test]
async fn nodes_say_which_way_a_track_takes() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us", "us"], |_| ()).await;
    let here = mesh.signaling(0).await;
    let _ann = Publisher::join(&here, "room", "ann", &[], &mut random).await;
    let mut watching = Vec::new();
    for (node, name) in [(1, "bob"), (2, "cyd"), (2, "dan")] {
        let there = mesh.signaling(node).await;
        watching.push(watch(&there, name, 0).await);
    }
    let mut all = Vec::new();
    for node in 0..3 {
        all.push(mesh.signaling(node).await.inspect_pipes("room").await);
    }
    assert_eq!(way(&all[0]), ("", RelayRole::Origin, 0));
    let regions: Vec<_> = all.iter().map(|it| it.region.as_str()).collect();
    assert_eq!(regions, ["eu", "us", "us"]);
    // Which of the two is the gateway the track's id says.
    let gateway = (1..3)
        .find(|node| way(&all[*node]).1 == RelayRole::Gateway)
        .unwrap();
    let leaf = 3 - gateway;
    let watchers = |node: usize| node as u32;
    let from_origin = ("node-a", RelayRole::Gateway, watchers(gateway));
    assert_eq!(way(&all[gateway]), from_origin);
    let id = all[gateway].node_id.as_str();
    assert_eq!(way(&all[leaf]), (id, RelayRole::Leaf, watchers(leaf)));

    // How a pipe is its link tells a moment later.
    let up = async {
        loop {
            let told = here.inspect_pipes("room").await;
            let mut pipes = told.pipes.iter().filter(|pipe| pipe.node_id == id);
            if pipes.any(|it| it.state() == PipeState::Up && it.rtt_us > 0 && it.tracks_given == 1)
            {
                return;
            }
        }
    };
    within("the pipe to be told of", up).await;
    // Who watches makes no difference where nobody asks for it.
    let request = InspectPipesRequest {
        room_id: "RM_room".to_owned(),
        count_watchers: false,
    };
    let mut client = mesh.signaling(leaf).await.client;
    let uncounted = client.inspect_pipes(request).await.unwrap().into_inner();
    assert_eq!(way(&uncounted), (id, RelayRole::Leaf, 0));

    // What has ended goes no way.
    for (mut watcher, _) in watching {
        watcher.session.close().await;
    }
    let nobody = mesh.signaling(leaf).await.inspect_pipes("room").await;
    assert_eq!(nobody.tracks, []);
    mesh.stop().await;
}

#[tokio::test]
async fn of_a_session_it_is_said_what_it_is_sent() {
    let mut random = random();
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let (here, there) = (mesh.signaling(0).await, mesh.signaling(1).await);
    let mut ann = Publisher::join(&here, "room", "ann", &RIDS, &mut random).await;
    let (bob, stream) = watch(&there, "bob", 2).await;
    let (_cyd, _) = watch(&there, "cyd", 1).await;
    there.settle("room").await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 1, 0).await;
    let request = |session: &str| InspectRoomRequest {
        room_id: "RM_room".to_owned(),
        session_id: session.to_owned(),
    };
    let mut client = there.client.clone();
    let mut ask = async |session: &str| {
        let inspected = client.inspect_room(request(session)).await;
        inspected.map(|inspected| inspected.into_inner().sessions)
    };
    let sessions = ask("S_room_bob").await.unwrap();
    let [session] = sessions.as_slice() else {
        panic!("{sessions:?}");
    };
    assert_eq!(session.identity, "bob");
    let [subscription] = session.subscriptions.as_slice() else {
        panic!("{session:?}");
    };
    assert_eq!(subscription.spatial, Some(1));
    assert!(!subscription.paused && !subscription.unheard);
    assert_eq!(ask("S_room_ann").await.unwrap(), [], "she is elsewhere");
    assert_eq!(ask("").await.unwrap().len(), 2);
    let refused = ask("not an id").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("session_id"), "{refused}");
    mesh.stop().await;
}

#[tokio::test]
async fn a_node_alone_has_no_pipes_and_says_what_is_wrong_with_a_question() {
    let node = TestNode::start().await;
    let mut client = node.signaling().await.client;
    let nothing = client.inspect_pipes(InspectPipesRequest::default()).await;
    let nothing = nothing.unwrap().into_inner();
    assert_eq!(nothing.node_id, "node-a");
    assert!(nothing.pipes.is_empty() && nothing.tracks.is_empty());
    let request = InspectPipesRequest {
        room_id: "no room".to_owned(),
        count_watchers: false,
    };
    let refused = client.inspect_pipes(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("room_id"), "{refused}");
    node.stop().await;
}
