//! Joins in both dialects.

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{JoinRequest, SessionDescription};
use livekit_token::AccessToken;
use pipemesh_loadtest_client::signal::{SignalClient, TokenIn};
use pipemesh_loadtest_client::url::Dialect;
use pipemesh_proto::node::ConnectionLayout;
use pipemesh_proto::node::session_request::Request as Asked;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

#[tokio::test]
async fn an_offer_in_the_join_is_answered_right_after_it() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let request = JoinRequest {
        publisher_offer: Some(SessionDescription {
            r#type: "offer".to_owned(),
            sdp: "v=0".to_owned(),
            id: 7,
            ..Default::default()
        }),
        add_track_requests: vec![add_track("cam")],
        ..Default::default()
    };
    let (mut client, join) = fixture
        .join_with(&token("standup", "alice"), single(request))
        .await;
    let me = join.participant.unwrap();
    assert!(me.sid.starts_with("PA_"));
    assert!(join.room.unwrap().sid.starts_with("RM_"));
    assert_eq!(me.attributes["pipemesh.node"], "node-a");
    assert_eq!(me.attributes["pipemesh.region"], "eu");
    assert!(!join.ice_servers.is_empty());
    let answer = client
        .wait_for("answer", PATIENCE, |message| match message {
            Response::Answer(answer) => Some(answer.clone()),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!((answer.id, answer.sdp.as_str()), (7, "answer to v=0"));
    let session = node
        .session("alice", "a session", |session| session.asked.len() >= 2)
        .await;
    assert_eq!(session.open.layout(), ConnectionLayout::Single);
    assert!(matches!(
        session.asked[..],
        [Asked::AddTrack(_), Asked::Offer(_), ..]
    ));
    let token = client
        .wait_for("refresh_token", PATIENCE, |message| match message {
            Response::RefreshToken(token) => Some(token.clone()),
            _ => None,
        })
        .await
        .unwrap();
    // It lets its holder in again.
    fixture
        .join_with(&token, single(JoinRequest::default()))
        .await;
}

#[tokio::test]
async fn a_join_request_may_be_wrapped_either_way_and_come_to_either_path() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    // An offer of 18 kB must fit, compressed or not.
    let offer = SessionDescription {
        sdp: (0..2000).map(|i| format!("a={i:06}\n")).collect(),
        ..Default::default()
    };
    for (identity, wrapping) in [("gzip", Compression::Gzip), ("none", Compression::None)] {
        let request = JoinRequest {
            publisher_offer: Some(offer.clone()),
            ..Default::default()
        };
        let dialect = Dialect::Single {
            request: Box::new(browser(request)),
            wrapping,
        };
        fixture
            .join_with(&token("standup", identity), dialect)
            .await;
        node.session(identity, "the offer", |session| {
            session
                .asked
                .iter()
                .any(|asked| matches!(asked, Asked::Offer(_)))
        })
        .await;
    }
    // The Go SDK sends it to the older path.
    let single = fixture.connect(&token("standup", "go"), single(JoinRequest::default()));
    let request = single.target().replace("/rtc/v1?", "/rtc?");
    let (_, query) = request.split_once('?').unwrap();
    let query = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let query = query.filter(|(name, _)| *name != "access_token");
    let decoded = query.map(|(name, value)| (name, value.replace("%3D", "=")));
    fixture
        .join_with(&token("standup", "go"), Dialect::dual(decoded))
        .await;
    let session = node.session("go", "a session", |_| true).await;
    assert_eq!(session.open.layout(), ConnectionLayout::Single);
}

#[tokio::test]
async fn the_older_path_leads_to_two_connections() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let mut connect = fixture.connect(&token("standup", "alice"), dual());
    connect.token_in = TokenIn::Header;
    let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
    let join = client.joined(PATIENCE).await.unwrap();
    assert!(join.subscriber_primary && join.fast_publish);
    let session = node.session("alice", "a session", |_| true).await;
    assert_eq!(session.open.layout(), ConnectionLayout::Dual);
    client.ping(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_a_token_grants_reaches_the_node() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let token = token_with("standup", "alice", |grants| {
        grants.can_publish = Some(false);
        grants.can_publish_data = Some(false);
        grants.hidden = true;
    });
    let (_alice, join) = fixture
        .join_with(&token, single(JoinRequest::default()))
        .await;
    assert!(!join.fast_publish);
    let session = node.session("alice", "a session", |_| true).await;
    let data = session.open.data.unwrap();
    assert!(!data.send && data.receive);
    assert!(session.open.anonymous, "nobody learns whom data is from");
    let (_bob, join) = fixture.join("standup", "bob").await;
    assert!(join.other_participants.is_empty(), "alice is hidden");
    let session = node.session("bob", "a session", |_| true).await;
    assert!(!session.open.anonymous);
    assert_eq!(join.room.unwrap().num_participants, 1);
}

#[tokio::test]
async fn a_token_can_describe_the_room_it_opens() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let limited = |identity: &str| {
        AccessToken::with_api_key(KEY, SECRET)
            .with_identity(identity)
            .with_grants(livekit_token::VideoGrants {
                room_join: true,
                room: "duo".to_owned(),
                ..Default::default()
            })
            .with_room_config(livekit_protocol::RoomConfiguration {
                max_participants: 2,
                departure_timeout: 33,
                metadata: "for two".to_owned(),
                ..Default::default()
            })
            .to_jwt()
            .unwrap()
    };
    let plain = || single(JoinRequest::default());
    let (_alice, join) = fixture.join_with(&limited("alice"), plain()).await;
    let room = join.room.unwrap();
    assert_eq!((room.max_participants, room.departure_timeout), (2, 33));
    assert_eq!(room.metadata, "for two");
    let (_bob, _) = fixture.join_with(&limited("bob"), plain()).await;
    let connect = fixture.connect(&limited("carol"), plain());
    let (status, body) = fixture.refusal(&connect).await;
    assert_eq!(
        (status, body.as_str()),
        (429, "room has exceeded its max participants")
    );
    // Browsers see no more of a refused upgrade than that, so they ask for the reason.
    let ask = async |identity: &str| {
        let target = format!("/rtc/validate?access_token={}", limited(identity));
        fixture.http("GET", &target, &[]).await
    };
    let reason = ask("carol").await;
    assert_eq!((reason.status, reason.body), (status, body));
    assert_eq!(ask("bob").await.status, 200);
    // Who is in may come again.
    fixture.join_with(&limited("bob"), plain()).await;
}

#[tokio::test]
async fn metadata_of_a_join_needs_permission() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let request = || JoinRequest {
        metadata: "mine".to_owned(),
        participant_attributes: [
            ("seat".to_owned(), "12".to_owned()),
            ("pipemesh.node".to_owned(), "elsewhere".to_owned()),
        ]
        .into(),
        ..Default::default()
    };
    let (_alice, join) = fixture
        .join_with(&token("standup", "alice"), single(request()))
        .await;
    let me = join.participant.unwrap();
    assert_eq!(
        (me.metadata.as_str(), me.attributes["seat"].as_str()),
        ("mine", "12")
    );
    assert_eq!(me.attributes["pipemesh.node"], "node-a");
    let token = token_with("standup", "bob", |grants| {
        grants.can_update_own_metadata = None
    });
    let (status, _) = fixture
        .refusal(&fixture.connect(&token, single(request())))
        .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn joins_are_counted() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (_client, _) = fixture.join("standup", "alice").await;
    assert_eq!(
        fixture.metric("pipemesh_joins_total", &[("result", "ok")]),
        1.0
    );
    assert_eq!(
        fixture.metric("pipemesh_placements_total", &[("result", "ring")]),
        1.0
    );
    fixture
        .until_metric("pipemesh_signal_connections", &[], |open| open == 1.0)
        .await;
    let joins = [("direction", "out"), ("type", "join")];
    assert_eq!(
        fixture.metric("pipemesh_signal_messages_total", &joins),
        1.0
    );
}
