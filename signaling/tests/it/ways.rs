//! Who asks which way media takes: participants about what they receive, operators about rooms and pipes.

use pipemesh_proto::node::{InspectPipesResponse, PipeState, PipeSummary, RelayRole, TrackSummary};
use pipemesh_signaling::Config;
use serde_json::{Value, json};

use crate::fake_node::FakeNode;
use crate::fixture::*;

/// Alice publishes on a node in `eu`, bob watches from one in `us`; the processes they speak with are two.
struct Call {
    nodes: [FakeNode; 2],
    here: Fixture,
    there: Fixture,
    track: String,
    _people: [pipemesh_loadtest_client::signal::SignalClient; 2],
}

impl Call {
    async fn start() -> Self {
        let nodes = [
            FakeNode::start("node-a", "eu", 1),
            FakeNode::start("node-b", "us", 1),
        ];
        let here = Fixture::start(&[&nodes[0], &nodes[1]]).await;
        let config = Config {
            region: "us".parse().unwrap(),
            ..config()
        };
        let there = Fixture::sharing(config, here.registry.clone(), here.store.clone()).await;
        let (mut alice, _) = here.join("standup", "alice").await;
        let track = publish(&mut alice, &nodes[0], "alice", "cam").await;
        let (bob, _) = there.join("standup", "bob").await;
        let subscribed = |bob: &crate::fake_node::Session| bob.subscribed.contains_key(&track);
        nodes[1].session("bob", "a subscription", subscribed).await;
        Self {
            nodes,
            here,
            there,
            track,
            _people: [alice, bob],
        }
    }

    /// The nodes say how they are connected.
    fn tell(&self) {
        let pipe = |other: &str| PipeSummary {
            node_id: other.to_owned(),
            state: PipeState::Up.into(),
            rtt_us: 80_500,
            latency_us: 41_000,
            loss: 0.25,
            sent_bits_per_second: 1_000_000,
            received_bits_per_second: 2_000,
            tracks_taken: 0,
            tracks_given: 1,
            connections: 1,
        };
        let track = |from: &str, role: RelayRole, watchers| TrackSummary {
            track_id: self.track.clone(),
            origin_node_id: "node-a".to_owned(),
            session_id: String::new(),
            from_node_id: from.to_owned(),
            role: role.into(),
            watchers,
        };
        let says = |node: &str, region: &str, other, track| InspectPipesResponse {
            node_id: node.to_owned(),
            region: region.to_owned(),
            pipes: vec![pipe(other)],
            tracks: vec![track],
        };
        let origin = track("", RelayRole::Origin, 0);
        self.nodes[0].set_pipes(says("node-a", "eu", "node-b", origin));
        let taken = track("node-a", RelayRole::Gateway, 1);
        self.nodes[1].set_pipes(says("node-b", "us", "node-a", taken));
    }
}

async fn paths(fixture: &Fixture, room: &str, token: &str) -> (u16, Value) {
    let authorization = format!("Authorization: Bearer {token}");
    let target = format!("/rooms/{room}/paths");
    let answer = fixture.http("GET", &target, &[&authorization]).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[tokio::test]
async fn a_participant_is_told_the_way_of_what_they_receive() {
    let call = Call::start().await;
    let expected = |path: Value, unknown: Value| {
        json!({
            "room": "standup",
            "identity": "bob",
            "node": "node-b",
            "tracks": [{
                "track": call.track,
                "name": "",
                "publisher": "alice",
                "kind": "video",
                "source": "camera",
                "codec": "video/VP8",
                "muted": false,
                "paused": false,
                "unheard": false,
                "layer": {
                    "spatial": 1,
                    "temporal": null,
                    "rid": null,
                    "width": 640,
                    "height": 360,
                    "bits_per_second": 500_000,
                },
                "path": path,
                "unknown": unknown,
            }],
        })
    };
    // Nodes of a version before this: what is received is known all the same.
    let (status, told) = paths(&call.there, "standup", &token("standup", "bob")).await;
    let why = "node node-b does not say: its version does not say which way tracks take";
    assert_eq!((status, told), (200, expected(Value::Null, json!(why))));

    call.tell();
    let path = json!([
        { "node": "node-a", "region": "eu", "role": "origin" },
        {
            "node": "node-b",
            "region": "us",
            "role": "gateway",
            "pipe": "up",
            "rtt_ms": 80.5,
            "one_way_ms": 41.0,
            "loss": 0.25,
        },
    ]);
    // The process that does not serve him knows as much.
    for process in [&call.there, &call.here] {
        let told = paths(process, "standup", &token("standup", "bob")).await;
        assert_eq!(told, (200, expected(path.clone(), Value::Null)));
    }
    // Alice receives nothing.
    let (status, told) = paths(&call.here, "standup", &token("standup", "alice")).await;
    assert_eq!((status, &told["tracks"]), (200, &json!([])));
}

#[tokio::test]
async fn who_may_not_ask_is_told_why() {
    let mut call = Call::start().await;
    let check = async |room: &str, token: &str, status: u16, error: &str| {
        let (answered, told) = paths(&call.here, room, token).await;
        assert_eq!((answered, told["error"].as_str()), (status, Some(error)));
    };
    let bob = token("standup", "bob");
    check(
        "standup",
        "no.token.atall",
        401,
        "invalid authorization token",
    )
    .await;
    let other = "permissions denied: the token is for another room";
    check("elsewhere", &bob, 403, other).await;
    let no_join = token_with("standup", "bob", |grants| grants.room_join = false);
    let error = "permissions denied: the token does not grant roomJoin";
    check("standup", &no_join, 403, error).await;
    let nobody = token("standup", "carol");
    check("standup", &nobody, 404, "you are not in the room").await;
    let nowhere = token("empty", "bob");
    check("empty", &nowhere, 404, "there is no such room").await;
    let answer = call.here.http("GET", "/rooms/standup/paths", &[]).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let answer = call.here.http("POST", "/rooms/standup/paths", &[]).await;
    assert_eq!(answer.status, 405, "{}", answer.body);

    call.nodes[1].kill();
    let (status, told) = paths(&call.here, "standup", &bob).await;
    // He is told to join anew, which signaling may do first.
    assert!([404, 502].contains(&status), "{status} {told}");
}

#[tokio::test]
async fn an_operator_sees_pipes_and_the_tree_of_a_room() {
    let call = Call::start().await;
    call.tell();
    let admin = async |target: &str, headers: &[&str]| call.here.admin(target, headers).await;
    let answer = admin("/pipes", &[]).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let expected = json!({
        "pipes": [{
            "nodes": ["node-a", "node-b"],
            "regions": ["eu", "us"],
            "state": "up",
            "rtt_ms": 80.5,
            "connections": 1,
            "there": { "one_way_ms": 41.0, "loss": 0.25, "bits_per_second": 1_000_000, "tracks": 1 },
            "back": { "one_way_ms": 41.0, "loss": 0.25, "bits_per_second": 1_000_000, "tracks": 1 },
        }],
        "mute": [],
    });
    assert_eq!(told, expected);

    let answer = admin("/rooms/standup/tree", &[]).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let [track] = told["tracks"].as_array().unwrap().as_slice() else {
        panic!("{told}");
    };
    assert_eq!(track["track"], json!(call.track));
    assert_eq!(track["publisher"], "alice");
    assert_eq!(track["watchers"], 1);
    assert_eq!(track["tree"]["node"], "node-a");
    assert_eq!(track["tree"]["branches"][0]["node"], "node-b");
    assert_eq!(track["tree"]["branches"][0]["role"], "gateway");
    assert_eq!(track["tree"]["branches"][0]["watchers"], 1);

    let graphviz = ["Accept: text/vnd.graphviz"];
    let one_track = format!("/rooms/standup/tree?format=dot&track={}", call.track);
    for (target, headers) in [
        ("/rooms/standup/tree?format=dot", &[][..]),
        ("/rooms/standup/tree", &graphviz),
        (&one_track, &[]),
    ] {
        let answer = admin(target, headers).await;
        assert_eq!(answer.headers["content-type"], "text/vnd.graphviz");
        let arrow = "\"node node-a\" -> \"node node-b\"";
        assert!(answer.body.contains(arrow), "{target}: {}", answer.body);
    }
    let refused = async |target: &str, status: u16, error: &str| {
        let answer = admin(target, &[]).await;
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.status, told["error"].as_str()),
            (status, Some(error))
        );
    };
    refused("/rooms/none/tree", 404, "there is no such room").await;
    refused(
        "/rooms/standup/tree?format=svg",
        400,
        "format is json or dot",
    )
    .await;
    let missing = "there is no such track in the room";
    refused("/rooms/standup/tree?track=TR_none", 404, missing).await;
}

#[tokio::test]
async fn a_node_that_says_nothing_is_listed() {
    let mut call = Call::start().await;
    call.tell();
    call.nodes[0].kill();
    let answer = call.there.admin("/pipes", &[]).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["mute"][0]["node"], "node-a");
    assert_eq!(told["mute"][0]["region"], "eu");
    assert!(told["mute"][0]["why"].is_string(), "{told}");
    // The other end knows of the pipe.
    assert_eq!(told["pipes"][0]["there"]["loss"], Value::Null);
    assert_eq!(told["pipes"][0]["there"]["one_way_ms"], 41.0);
    assert_eq!(told["pipes"][0]["there"]["bits_per_second"], 2_000);
}
