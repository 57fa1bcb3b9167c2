//! The binary: its configuration, its start and its stop.

use std::net::SocketAddr;
use std::process::Stdio;

use expect_test::expect_file;
use livekit_protocol::JoinRequest;
use pipemesh_loadtest_client::signal::{Connect, SignalClient};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipemesh-signaling"));
    command.env_clear().kill_on_drop(true);
    for (name, value) in settings {
        // Consul's variables have names of their own.
        let prefix = if name.starts_with("CONSUL_") {
            ""
        } else {
            "PIPEMESH_SIGNALING_"
        };
        command.env(format!("{prefix}{name}"), value);
    }
    command
}

/// What `check-config` says, and the exit code.
async fn checked(settings: &[(&str, &str)]) -> (i32, String) {
    let output = command(settings)
        .arg("check-config")
        .output()
        .await
        .unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

const NODES: (&str, &str) = ("MESH_NODES", "node-a/eu/127.0.0.1:7901");
const REGION: (&str, &str) = ("MESH_REGION", "eu");
const DEMO: (&str, &str) = ("AUTH_DEMO", "true");

#[tokio::test]
async fn every_problem_is_reported_at_once() {
    let mut said = String::new();
    let mut note = |what: &str, (code, text): (i32, String)| {
        said += &format!("# {what}: {code}\n{text}\n");
    };
    note("nothing", checked(&[]).await);
    note("a demo", checked(&[NODES, REGION, DEMO]).await);
    let open = [
        NODES,
        REGION,
        DEMO,
        ("HTTP_LISTEN", "127.0.0.1:7880,0.0.0.0:7880"),
    ];
    note("a demo for everybody", checked(&open).await);
    let open = [NODES, REGION, DEMO, ("ADMIN_LISTEN", "0.0.0.0:7890")];
    note("an admin API for everybody", checked(&open).await);
    let livekits = [NODES, REGION, ("AUTH_API_KEYS", "devkey:secret")];
    note("LiveKit's example key", checked(&livekits).await);
    let far = [
        ("MESH_NODES", "node-a/eu/10.0.0.5:7901"),
        REGION,
        ("AUTH_API_KEYS", "a:9b1e6f2c7d4a8053b9e1c6f2d7a48350"),
    ];
    note("a node elsewhere, without a secret", checked(&far).await);
    let wrong = [
        ("MESH_NODES", "node-a"),
        ("MESH_REGION", "eu west"),
        ("AUTH_API_KEYS", "a:9b1e6f2c7d4a8053b9e1c6f2d7a48350"),
        ("SESSION_RESUME_GRACE", "2s"),
        ("HTTP_TLS_KEY", "/nowhere/tls.key"),
        ("TURN_URLS", "stun:a"),
        ("TURN_LIFETIME", "48h"),
        ("TURN_SECRET", "b7f01c93a6e25d48"),
        ("CONTROL_TLS_KEY", "/nowhere/tls.key"),
        ("ROOM_AUTO_CREATE", "perhaps"),
        ("GEO_PLACES", "eu/53.3/-6.3,us/95/0"),
        ("GEO_URLS", "eu=https://eu.example.org"),
        ("GEO_HEADER", "where is it"),
    ];
    note("much", checked(&wrong).await);
    let consul = ("CONSUL_HTTP_ADDR", "127.0.0.1:8500");
    let redis = ("REDIS_URL", "redis://127.0.0.1/1");
    note("shared", checked(&[REGION, DEMO, consul, redis]).await);
    note("nodes twice", checked(&[REGION, DEMO, NODES, consul]).await);
    let wrong = [
        REGION,
        DEMO,
        ("CONSUL_HTTP_ADDR", "consul"),
        ("CONSUL_CLIENT_KEY", "/nowhere/consul.key"),
        ("CONSUL_HTTP_SSL", "perhaps"),
        ("REDIS_URL", "http://user:password@127.0.0.1"),
    ];
    note("neither Consul nor Redis", checked(&wrong).await);
    let idle = [
        REGION,
        DEMO,
        NODES,
        ("CONSUL_HTTP_TOKEN", "a-token"),
        ("REDIS_AUTHORITY", "/nowhere/redis.pem"),
        ("GEO_AREAS", "DE=eu"),
    ];
    note("without effect", checked(&idle).await);
    expect_file!["../golden/configuration.txt"].assert_eq(&said);
}

#[tokio::test]
async fn it_starts_serves_and_stops_in_order() {
    let node = FakeNode::start("node-a", "eu", 1);
    let nodes = format!("node-a/eu/{}", node.record.grpc_address);
    let settings = [
        ("MESH_NODES", nodes.as_str()),
        REGION,
        DEMO,
        ("HTTP_LISTEN", "127.0.0.1:0"),
        ("OPERATOR_LISTEN", "127.0.0.1:0"),
    ];
    let mut command = command(&settings);
    command
        .env("PIPEMESH_LOG_FORMAT", "json")
        .env("PIPEMESH_LOG", "trace")
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap());
    let (sender, mut lines_seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = lines.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = sender.send(line);
        }
    });
    let mut log = String::new();
    let mut address = async |what: &str| -> SocketAddr {
        let found = async {
            loop {
                let line = lines_seen.recv().await.expect("it runs");
                log += &(line.clone() + "\n");
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                if json["msg"] == what {
                    return json["address"].as_str().unwrap().parse().unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("it says so")
    };
    let clients = address("listening for clients").await;
    let operator = address("listening for the operator").await;
    let ready = async {
        while http(operator, "GET", "/readyz", &[]).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let target = "/demo/token?room=standup&identity=alice&name=Alice";
    let answer = http(clients, "GET", target, &[]).await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let token = json["token"].as_str().unwrap().to_owned();
    let connect = Connect::new(clients.to_string(), &token, single(JoinRequest::default()));
    let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
    client.joined(PATIENCE).await.unwrap();
    let metrics = http(operator, "GET", "/metrics", &[]).await.body;
    assert!(
        metrics.contains("pipemesh_joins_total{result=\"ok\"} 1"),
        "{metrics}"
    );

    let pid = i32::try_from(process.id().unwrap()).unwrap();
    let killed = std::process::Command::new("kill")
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    let closed = client.closed(PATIENCE).await;
    assert!(closed.is_ok(), "{closed:?}");
    let status = tokio::time::timeout(PATIENCE, process.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    while let Some(line) = lines_seen.recv().await {
        log += &(line + "\n");
    }
    // Not even at trace: neither tokens nor what is asked for with them.
    assert!(log.contains("joined"));
    assert!(!log.contains(&token), "a token is logged");
    assert!(!log.contains("access_token"), "a query is logged");
}
