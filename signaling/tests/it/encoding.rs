//! Frames: both encodings, and what is neither.

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{JoinRequest, UpdateParticipantMetadata};
use pipemesh_loadtest_client::signal::{Encoding, SignalClient};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

#[tokio::test]
async fn a_client_is_answered_in_the_encoding_it_speaks() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let mut connect = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    connect.encoding = Encoding::Text;
    let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
    client.joined(PATIENCE).await.unwrap();
    client.ping(PATIENCE).await.unwrap();
    assert_eq!(client.received_encoding(), Encoding::Text);
    publish(&mut client, &node, "alice", "cam").await;

    let (mut binary, _) = fixture.join("standup", "bob").await;
    binary.ping(PATIENCE).await.unwrap();
    assert_eq!(binary.received_encoding(), Encoding::Binary);
}

#[tokio::test]
async fn what_cannot_be_read_closes_that_socket_and_no_other() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    let cases = [
        ("binary", Frame::binary(vec![0xff; 10]), 1007),
        ("text", Frame::text("{ \"leave\": "), 1007),
        ("long", Frame::binary(vec![0; (2 << 20) + 1]), 1009),
    ];
    for (who, frame, code) in cases {
        let (mut client, join) = fixture.join("standup", who).await;
        client.send_frame(frame).await.unwrap();
        let (closed, reason) = client.closed(PATIENCE).await.unwrap();
        assert_eq!(closed, Some(code), "{who}");
        assert!(!reason.is_empty());
        // The session lives on.
        let sid = join.participant.unwrap().sid;
        let mut again = fixture.resume("standup", who, &sid).await;
        again.resumed(PATIENCE).await.unwrap();
    }
    bob.ping(PATIENCE).await.unwrap();
    let malformed = [("reason", "malformed")];
    assert_eq!(
        fixture.metric("pipemesh_signal_sockets_closed_total", &malformed),
        3.0
    );
}

#[tokio::test]
async fn what_is_not_known_is_ignored() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut client, _) = fixture.join("standup", "alice").await;
    // Field 99, a message of two bytes.
    client
        .send_frame(Frame::binary(vec![0x9a, 0x06, 0x02, 0x08, 0x01]))
        .await
        .unwrap();
    client.send_frame(Frame::binary(Vec::new())).await.unwrap();
    client
        .send_frame(Frame::text(r#"{ "fromTheFuture": { "a": 1 } }"#))
        .await
        .unwrap();
    client
        .send_frame(Frame::Ping(vec![1].into()))
        .await
        .unwrap();
    client.ping(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_socket() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (mut slow, _) = fixture.join("standup", "slow").await;
    let (mut bob, _) = fixture.join("standup", "bob").await;
    // Each is answered with itself, so what is not read piles up.
    let update = |i: usize| UpdateParticipantMetadata {
        metadata: format!("{i}{}", "x".repeat(400 << 10)),
        ..Default::default()
    };
    let flood = async {
        for i in 0.. {
            if slow.send(Request::UpdateMetadata(update(i))).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, flood)
        .await
        .expect("it is closed");
    let slow = [("reason", "too_slow")];
    fixture
        .until_metric("pipemesh_signal_sockets_closed_total", &slow, |n| n == 1.0)
        .await;
    bob.ping(PATIENCE).await.unwrap();
}
