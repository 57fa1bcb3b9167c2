//! Who is not let in, and how they are told.

use expect_test::expect_file;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{JoinRequest, SessionDescription};
use livekit_token::Claims;
use pipemesh_loadtest_client::url::Dialect;
use pipemesh_proto::node::Code;

use crate::fake_node::FakeNode;
use crate::fixture::*;

/// Claims that no SDK would sign.
fn forged(secret: &str, change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims::from_unverified(&token("standup", "alice")).unwrap();
    change(&mut claims);
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[tokio::test]
async fn every_refusal_has_its_status_and_its_reason() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let plain = || single(JoinRequest::default());
    let good = token("standup", "alice");
    let mut said = String::new();
    let mut note = |what: &str, (status, body): (u16, String)| {
        said += &format!("{what}: {status} {body}\n");
    };
    let cases: Vec<(&str, String, Dialect)> = vec![
        ("no token", String::new(), plain()),
        ("no token, older path", String::new(), dual()),
        ("nonsense for a token", "nonsense".to_owned(), plain()),
        (
            "another key",
            forged(SECRET, |claims| claims.iss = "APIother".to_owned()),
            plain(),
        ),
        (
            "another secret",
            forged("0123456789abcdef0123456789abcdef", |_| {}),
            plain(),
        ),
        (
            "expired",
            forged(SECRET, |claims| claims.exp = 1_700_000_000),
            plain(),
        ),
        (
            "not valid yet",
            forged(SECRET, |claims| claims.nbf = claims.exp + 3600),
            plain(),
        ),
        (
            "no roomJoin",
            forged(SECRET, |claims| claims.video.room_join = false),
            plain(),
        ),
        (
            "no room",
            forged(SECRET, |claims| claims.video.room.clear()),
            plain(),
        ),
        (
            "no identity",
            forged(SECRET, |claims| claims.sub.clear()),
            plain(),
        ),
        (
            "a long identity",
            forged(SECRET, |claims| claims.sub = "x".repeat(257)),
            plain(),
        ),
        (
            "a long name",
            forged(SECRET, |claims| claims.name = "x".repeat(257)),
            plain(),
        ),
        (
            "too much inside",
            good.clone(),
            single(JoinRequest {
                publisher_offer: Some(SessionDescription {
                    sdp: "a".repeat((1 << 20) + 1),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        ),
        (
            "bad attributes",
            good.clone(),
            Dialect::dual([("attributes", "e30x")]),
        ),
        (
            "not base64",
            good.clone(),
            Dialect::dual([("join_request", "***")]),
        ),
        (
            "not a join request",
            good.clone(),
            Dialect::dual([("join_request", "_____w")]),
        ),
    ];
    for (what, token, dialect) in cases {
        note(
            what,
            fixture.refusal(&fixture.connect(&token, dialect)).await,
        );
    }
    let v1 = format!("/rtc/v1/validate?access_token={good}");
    let missing = fixture.http("GET", &v1, &[]).await;
    note("no join request", (missing.status, missing.body));
    node.refuse(Some(Code::NodeFull));
    note(
        "every node refuses",
        fixture.refusal(&fixture.connect(&good, plain())).await,
    );
    expect_file!["../golden/refusals.txt"].assert_eq(&said);
    assert_eq!(
        fixture.metric("pipemesh_auth_failures_total", &[("reason", "expired")]),
        1.0
    );
    assert_eq!(
        fixture.metric("pipemesh_joins_total", &[("result", "refused")]),
        6.0
    );
}

#[tokio::test]
async fn a_small_request_that_unpacks_to_a_lot_is_stopped() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let dialect = Dialect::Single {
        request: Box::new(JoinRequest {
            metadata: "a".repeat(30 << 20),
            ..Default::default()
        }),
        wrapping: Compression::Gzip,
    };
    let (status, _) = fixture
        .refusal(&fixture.connect(&token("standup", "alice"), dialect))
        .await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn browsers_may_read_every_answer() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let good = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    let check = |answer: &Http, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        let origin = answer.headers.get("access-control-allow-origin");
        assert_eq!(origin.map(String::as_str), Some("*"), "{answer:?}");
    };
    // A plain request to what is a WebSocket.
    check(&fixture.http("GET", &good.target(), &[]).await, 404);
    check(&fixture.http("GET", "/rtc", &[]).await, 404);
    check(&fixture.http("GET", "/rtc/v2/validate", &[]).await, 404);
    check(&fixture.http("GET", "/rtc/v1/validate", &[]).await, 401);
    check(
        &fixture
            .http("GET", "/rtc/validate?access_token=x", &[])
            .await,
        401,
    );
    check(&fixture.http("POST", "/rtc/validate", &[]).await, 405);
    check(&fixture.http("OPTIONS", "/rtc/v1/validate", &[]).await, 204);
    check(&fixture.http("HEAD", "/", &[]).await, 200);
    check(&fixture.http("GET", "/", &[]).await, 200);
    let valid = fixture.http("GET", &good.validate_target(), &[]).await;
    check(&valid, 200);
    assert_eq!(valid.body, "success");
    let older = fixture.connect(&token("standup", "alice"), dual());
    check(
        &fixture.http("GET", &older.validate_target(), &[]).await,
        200,
    );
    let upgrade = fixture.http(
        "GET",
        "/rtc/v1?access_token=x",
        &[
            "Connection: close, Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
    );
    check(&upgrade.await, 401);
}

#[tokio::test]
async fn a_room_that_nobody_opened_is_not_joined_if_so_configured() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.auto_create = false;
    let fixture = Fixture::with(config, &[&node]).await;
    let connect = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    // The sentence by which an SDK tells it from a missing path.
    let expected = (404, "requested room does not exist".to_owned());
    assert_eq!(fixture.refusal(&connect).await, expected);
    let valid = fixture.http("GET", &connect.validate_target(), &[]).await;
    assert_eq!((valid.status, valid.body), expected);
}

#[tokio::test]
async fn without_a_node_a_client_is_told_to_come_later() {
    let fixture = Fixture::start(&[]).await;
    let connect = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    let (status, body) = fixture.refusal(&connect).await;
    assert_eq!(
        (status, body.as_str()),
        (503, "no node can take the room: there is none")
    );
    let ready = fixture.signaling.as_ref().unwrap().readiness();
    assert_eq!(ready(), ["no node can be reached"]);
}

/// What a client sends to be let in, behind a proxy that says where it comes from.
async fn join_from(fixture: &Fixture, target: &str, client: &str) -> Http {
    let from = format!("X-Forwarded-For: 192.0.2.250, {client}");
    let headers = [
        "Connection: close, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &from,
    ];
    fixture.http("GET", target, &headers).await
}

#[tokio::test]
async fn an_address_that_joins_without_end_is_told_to_come_later() {
    /// Twenty seconds' worth of one a second.
    const BURST: usize = 20;
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.joins_per_address = 1;
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let fixture = Fixture::with(config, &[&node]).await;
    // Not even a good token is needed to use the address up.
    for _ in 0..BURST {
        let refused = join_from(&fixture, "/rtc/v1?access_token=x", "198.51.100.1").await;
        assert_eq!(refused.status, 401);
    }
    let connect = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    let limited = join_from(&fixture, &connect.target(), "198.51.100.1").await;
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.body.contains("from this address"), "{limited:?}");
    let seconds: u64 = limited.headers["retry-after"].parse().unwrap();
    assert!((1..=2).contains(&seconds), "{limited:?}");
    assert_eq!(limited.headers["access-control-allow-origin"], "*");
    // An SDK that asks why hears the same.
    let why = ["X-Forwarded-For: 198.51.100.1"];
    let why = fixture.http("GET", &connect.validate_target(), &why).await;
    assert_eq!((why.status, &why.body), (429, &limited.body));
    let counted = fixture.metric("pipemesh_joins_total", &[("result", "limited")]);
    assert_eq!(counted, 2.0);
    // Everybody else goes on.
    let other = ["X-Forwarded-For: 198.51.100.2"];
    let other = fixture
        .http("GET", &connect.validate_target(), &other)
        .await;
    assert_eq!(other.status, 200);
    let (_alice, _) = fixture.join("standup", "alice").await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once() {
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = config();
    config.max_connections = 2;
    let fixture = Fixture::with(config, &[&node]).await;
    let (_alice, _) = fixture.join("standup", "alice").await;
    let (bob, _) = fixture.join("standup", "bob").await;
    let connect = fixture.connect(&token("standup", "carol"), single(JoinRequest::default()));
    let refused = pipemesh_loadtest_client::signal::SignalClient::connect(&connect, A_MOMENT);
    assert!(refused.await.is_err());
    let refused = "pipemesh_signal_connections_refused_total";
    fixture
        .until_metric(refused, &[], |refused| refused == 1.0)
        .await;
    // WebSockets count for as long as they last.
    bob.close().await.unwrap();
    fixture
        .until_metric("pipemesh_signal_connections", &[], |open| open == 1.0)
        .await;
    let join = async {
        loop {
            let joined =
                pipemesh_loadtest_client::signal::SignalClient::connect(&connect, A_MOMENT);
            if joined.await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(crate::fake_node::PATIENCE, join)
        .await
        .unwrap();
}
