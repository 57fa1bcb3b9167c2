//! Clients of one identity that join at the same time.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{DisconnectReason, JoinRequest, LeaveRequest, Ping, leave_request};
use pipemesh_loadtest_client::signal::{ConnectError, ReceiveError, SignalClient};

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

const ROUNDS: usize = 30;
const AT_ONCE: usize = 6;

/// Whoever joined last stays, as it would one after the other; nobody else notices anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joins_of_one_identity_at_once_leave_one_that_can_resume() {
    let nodes = [
        FakeNode::start("node-a", "eu", 1),
        FakeNode::start("node-b", "eu", 1),
    ];
    let mut config = config();
    config.resume_grace = Duration::from_millis(200);
    let fixture = Fixture::with(config, &[&nodes[0], &nodes[1]]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let room = "standup".parse().unwrap();
    let home = async || {
        let room = fixture.store.read_room(&room).await.unwrap();
        room.expect("bob is there").room.homes
    };
    let before = home().await;
    for _ in 0..ROUNDS {
        let joins = (0..AT_ONCE).map(|_| async {
            let connect =
                fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
            match SignalClient::connect(&connect, PATIENCE).await {
                Ok(mut client) => match client.next(PATIENCE).await.unwrap() {
                    Response::Join(_) => Some(client),
                    Response::Leave(leave) => {
                        says_replaced(&leave);
                        None
                    }
                    other => panic!("{other:?}"),
                },
                Err(ConnectError::Refused { status, body }) => {
                    assert_eq!(status, 409, "{body}");
                    None
                }
                Err(error) => panic!("{error:?}"),
            }
        });
        let clients = join_all(joins).await.into_iter().flatten();
        let mut running: FuturesUnordered<_> = clients.map(until_replaced).collect();
        assert!(!running.is_empty(), "somebody was last");
        while running.len() > 1 {
            let ended = tokio::time::timeout(PATIENCE, running.next()).await;
            ended.expect("all but one are replaced");
        }
        drop(running);
        let mut survivor = fixture.resume("standup", "alice", "").await;
        survivor.resumed(PATIENCE).await.unwrap();
        survivor.ping(PATIENCE).await.unwrap();
    }
    let bobs_alone = async {
        while fixture
            .store
            .read_room(&room)
            .await
            .unwrap()
            .unwrap()
            .members
            .len()
            > 1
        {
            tokio::task::yield_now().await;
        }
    };
    let alone = tokio::time::timeout(PATIENCE, bobs_alone).await;
    assert!(alone.is_ok(), "somebody without a socket stays");
    fixture
        .until_metric("pipemesh_signal_sessions", &[], |sessions| sessions == 1.0)
        .await;
    assert_eq!(home().await, before, "the room was moved");
    bob.ping(PATIENCE).await.unwrap();
    while let Ok(message) = bob.next(Duration::ZERO).await {
        assert!(!matches!(message, Response::Leave(_)), "{message:?}");
    }
}

/// Somebody who has much to say is told all the same that another took their place: what they say
/// finds nobody any more, and must not end their socket before that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_replaced_while_talking_is_told() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::with(config(), &[&node]).await;
    let (mut alice, _) = fixture.join("standup", "alice").await;
    for _ in 0..ROUNDS {
        let (told, (next, _)) =
            tokio::join!(talk_until_told(alice), fixture.join("standup", "alice"));
        says_replaced(&told);
        alice = next;
    }
}

/// Sends without a pause.
async fn talk_until_told(mut client: SignalClient) -> LeaveRequest {
    loop {
        // What ends the socket is seen below, after what was said before it.
        let _ = client.send(Request::PingReq(Ping::default())).await;
        match client.next(Duration::from_micros(50)).await {
            Ok(Response::Leave(leave)) => return leave,
            Ok(_) | Err(ReceiveError::Timeout { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Returns when the client was told that somebody else has its identity.
async fn until_replaced(mut client: SignalClient) {
    let leave = client.wait_for("leave", Duration::from_secs(60), |message| match message {
        Response::Leave(leave) => Some(leave.clone()),
        _ => None,
    });
    says_replaced(&leave.await.unwrap());
}

fn says_replaced(leave: &LeaveRequest) {
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.action(), leave_request::Action::Disconnect);
}
