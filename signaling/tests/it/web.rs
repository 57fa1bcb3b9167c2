//! Files, the demo's tokens, TLS.

use std::sync::Arc;
use std::time::SystemTime;

use livekit_protocol::JoinRequest;
use pipemesh_loadtest_client::signal::SignalClient;
use pipemesh_service::tls::{Files, Tls};
use pipemesh_signaling::Config;
use tokio::net::TcpStream;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

#[tokio::test]
async fn the_demo_gives_tokens_to_this_machine_only() {
    let node = FakeNode::start("node-a", "eu", 1);
    let config = Config::demo("eu".parse().unwrap(), vec!["127.0.0.1:0".parse().unwrap()]);
    let fixture = Fixture::with(config, &[&node]).await;
    let answer = fixture
        .http(
            "GET",
            "/demo/token?room=standup&identity=alice&name=Alice%20A",
            &[],
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(
        !answer.headers.contains_key("access-control-allow-origin"),
        "not for other pages"
    );
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["url"], format!("ws://{}", fixture.address));
    let token = json["token"].as_str().unwrap();
    let (_client, join) = fixture
        .join_with(token, single(JoinRequest::default()))
        .await;
    assert_eq!(join.participant.unwrap().name, "Alice A");

    let missing = fixture.http("GET", "/demo/token?room=standup", &[]).await;
    assert_eq!(missing.status, 400);
    let target = "/demo/token?room=standup&identity=alice";
    let rebound = fixture.http("GET", target, &["Host: evil.example"]).await;
    assert_eq!(rebound.status, 403);
}

#[tokio::test]
async fn nobody_else_gives_tokens() {
    let fixture = Fixture::start(&[]).await;
    let answer = fixture
        .http("GET", "/demo/token?room=standup&identity=alice", &[])
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn the_root_is_there_whether_the_web_client_was_built_or_not() {
    let fixture = Fixture::start(&[]).await;
    let root = fixture.http("GET", "/", &[]).await;
    assert_eq!(root.status, 200);
    assert!(!root.body.is_empty());
    if root.body.starts_with("This is Pipemesh") {
        return;
    }
    assert_eq!(root.headers["content-type"], "text/html; charset=utf-8");
    assert!(root.headers["content-security-policy"].contains("default-src 'none'"));
    assert_eq!(root.headers["x-content-type-options"], "nosniff");
    let known = format!("If-None-Match: {}", root.headers["etag"]);
    assert_eq!(fixture.http("GET", "/", &[&known]).await.status, 304);
    let head = fixture.http("HEAD", "/", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let outside = fixture.http("GET", "/../Cargo.toml", &[]).await;
    assert_eq!(outside.status, 404);
}

#[tokio::test]
async fn clients_can_be_served_over_tls() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let files = Files {
        certificates: path("tls.crt", key.cert.pem()),
        key: path("tls.key", key.signing_key.serialize_pem()),
        client_authorities: None,
    };
    let node = FakeNode::start("node-a", "eu", 1);
    let mut config = Config::demo("eu".parse().unwrap(), vec!["127.0.0.1:0".parse().unwrap()]);
    config.tls = Some(Tls::load(files, &["http/1.1"], SystemTime::now()).unwrap());
    let fixture = Fixture::with(config, &[&node]).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let tls = || async {
        let tcp = TcpStream::connect(fixture.address).await.unwrap();
        connector
            .connect("localhost".try_into().unwrap(), tcp)
            .await
            .unwrap()
    };
    let token = livekit_token::AccessToken::with_api_key("devkey", "secret")
        .with_identity("alice")
        .with_grants(livekit_token::VideoGrants {
            room_join: true,
            room: "standup".to_owned(),
            ..Default::default()
        })
        .to_jwt()
        .unwrap();
    let connect = fixture.connect(&token, single(JoinRequest::default()));
    let client = SignalClient::connect_over(Box::new(tls().await), &connect, PATIENCE).await;
    let mut client = client.unwrap();
    client.joined(PATIENCE).await.unwrap();
    client.ping(PATIENCE).await.unwrap();
    // Plain HTTP to the same port is nobody's request.
    let plain = SignalClient::connect(&connect, PATIENCE).await;
    assert!(plain.is_err());
}
