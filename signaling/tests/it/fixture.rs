//! Signaling with what it needs around it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, JoinResponse, ParticipantInfo,
    TrackSource, TrackType, client_info, participant_info,
};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::signal::{Connect, ConnectError, SignalClient};
use pipemesh_loadtest_client::url::Dialect;
use pipemesh_service::Secret;
use pipemesh_signaling::auth::{ApiKey, Keys};
use pipemesh_signaling::{Config, Signaling};
use pipemesh_topology::registry::memory::MemoryRegistry;
use pipemesh_topology::store::memory::MemoryStore;
use pipemesh_topology::{Registry, RoomName, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::fake_node::{FakeNode, PATIENCE};

pub(crate) const KEY: &str = "APItest";
pub(crate) const SECRET: &str = "5c1de0b4a7f93826e1c05b7d94f2a3688";

pub(crate) struct Fixture {
    pub(crate) signaling: Option<Signaling>,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: prometheus::Registry,
}

/// A room stays on one node.
pub(crate) fn undivided() -> Config {
    Config {
        rooms_span: false,
        ..config()
    }
}

pub(crate) fn config() -> Config {
    let secret = Secret::new(SECRET, 32).unwrap();
    let name = KEY.to_owned();
    Config {
        keys: Keys::new(vec![ApiKey { name, secret }]),
        demo: false,
        ..Config::demo("eu".parse().unwrap(), vec!["127.0.0.1:0".parse().unwrap()])
    }
}

impl Fixture {
    /// Signaling with these nodes.
    pub(crate) async fn start(nodes: &[&FakeNode]) -> Self {
        Self::with(config(), nodes).await
    }

    pub(crate) async fn with(config: Config, nodes: &[&FakeNode]) -> Self {
        let registry = Arc::new(MemoryRegistry::new());
        for node in nodes {
            registry.register(node.record.clone()).await.unwrap();
        }
        Self::sharing(config, registry, Arc::new(MemoryStore::new())).await
    }

    /// One of several processes.
    pub(crate) async fn sharing(
        config: Config,
        registry: Arc<MemoryRegistry>,
        store: Arc<dyn Store>,
    ) -> Self {
        let metrics = prometheus::Registry::new();
        let signaling = Signaling::start(config, registry.clone(), store.clone(), &metrics).await;
        let signaling = signaling.unwrap();
        Self {
            address: signaling.addresses()[0],
            signaling: Some(signaling),
            registry,
            store,
            metrics,
        }
    }

    pub(crate) fn connect(&self, token: &str, dialect: Dialect) -> Connect {
        Connect::new(self.address.to_string(), token, dialect)
    }

    /// Joins `room` over one connection.
    pub(crate) async fn join(&self, room: &str, identity: &str) -> (SignalClient, JoinResponse) {
        self.join_with(&token(room, identity), single(JoinRequest::default()))
            .await
    }

    pub(crate) async fn join_with(
        &self,
        token: &str,
        dialect: Dialect,
    ) -> (SignalClient, JoinResponse) {
        let connect = self.connect(token, dialect);
        let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
        let join = client.joined(PATIENCE).await.unwrap();
        (client, join)
    }

    /// Where a room is at home.
    pub(crate) async fn homes(&self, room: &RoomName) -> String {
        let room = self.store.read_room(room).await.unwrap();
        room.expect("it is open").room.homes.to_string()
    }

    /// Comes back with another socket.
    pub(crate) async fn resume(&self, room: &str, identity: &str, sid: &str) -> SignalClient {
        let request = JoinRequest {
            reconnect: true,
            participant_sid: sid.to_owned(),
            ..Default::default()
        };
        let connect = self.connect(&token(room, identity), single(request));
        SignalClient::connect(&connect, PATIENCE).await.unwrap()
    }

    /// The status and body with which a connection is refused.
    pub(crate) async fn refusal(&self, connect: &Connect) -> (u16, String) {
        match SignalClient::connect(connect, PATIENCE).await {
            Err(ConnectError::Refused { status, body }) => (status, body),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("connected"),
        }
    }

    pub(crate) async fn http(&self, method: &str, target: &str, headers: &[&str]) -> Http {
        http(self.address, method, target, headers).await
    }

    /// What the admin API answers, which is served for this alone.
    pub(crate) async fn admin(&self, target: &str, headers: &[&str]) -> Http {
        let (address, _server) = self.serve_admin().await;
        http(address, "GET", target, headers).await
    }

    async fn serve_admin(&self) -> (SocketAddr, AbortOnDropHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = self.signaling.as_ref().unwrap().admin_routes();
        let server = async move { axum::serve(listener, routes).await.unwrap() };
        (address, AbortOnDropHandle::new(tokio::spawn(server)))
    }

    /// Waits until the admin API says so of a node.
    pub(crate) async fn until_node(&self, node: &str, is: impl Fn(&serde_json::Value) -> bool) {
        let (address, _server) = self.serve_admin().await;
        let waits = async {
            loop {
                let answer = http(address, "GET", "/nodes", &[]).await;
                let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                let nodes = answer["nodes"].as_array().unwrap();
                if nodes.iter().any(|it| it["id"] == node && is(it)) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waits).await;
        waited.unwrap_or_else(|_| panic!("in vain for {node}"));
    }

    /// The value of a metric, 0 if it is not there.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|(name, value)| {
                let mut pairs = metric.get_label().iter();
                pairs.any(|pair| pair.name() == *name && pair.value() == *value)
            })
        };
        metrics
            .iter()
            .filter(wanted)
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// Waits until a metric is so.
    pub(crate) async fn until_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        is: impl Fn(f64) -> bool,
    ) {
        let so = async {
            while !is(self.metric(name, labels)) {
                tokio::task::yield_now().await;
            }
        };
        let value = || self.metric(name, labels);
        let waited = tokio::time::timeout(PATIENCE, so).await;
        assert!(waited.is_ok(), "{name} {labels:?} is {}", value());
    }
}

pub(crate) fn token(room: &str, identity: &str) -> String {
    token_with(room, identity, |_| {})
}

pub(crate) fn token_with(
    room: &str,
    identity: &str,
    change: impl FnOnce(&mut VideoGrants),
) -> String {
    let mut grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    change(&mut grants);
    AccessToken::with_api_key(KEY, SECRET)
        .with_identity(identity)
        .with_name(&identity.to_uppercase())
        .with_grants(grants)
        .to_jwt()
        .unwrap()
}

/// A browser's join request.
pub(crate) fn single(request: JoinRequest) -> Dialect {
    Dialect::single(browser(request))
}

pub(crate) fn browser(request: JoinRequest) -> JoinRequest {
    JoinRequest {
        client_info: Some(ClientInfo {
            sdk: client_info::Sdk::Js.into(),
            version: "2.23.0".to_owned(),
            protocol: 17,
            ..Default::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            ..Default::default()
        }),
        ..request
    }
}

pub(crate) fn dual() -> Dialect {
    Dialect::dual([("sdk", "android"), ("protocol", "13"), ("version", "2.0.0")])
}

pub(crate) fn add_track(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.to_owned(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        ..Default::default()
    }
}

/// Publishes a track; answers its id.
pub(crate) async fn publish(
    client: &mut SignalClient,
    node: &FakeNode,
    identity: &str,
    cid: &str,
) -> String {
    client
        .send(Request::AddTrack(add_track(cid)))
        .await
        .unwrap();
    let id = client
        .wait_for("track_published", PATIENCE, |message| match message {
            Response::TrackPublished(published) if published.cid == cid => {
                published.track.as_ref().map(|track| track.sid.clone())
            }
            _ => None,
        })
        .await
        .unwrap();
    node.starts(identity, &id).await;
    id
}

/// Waits until an update says something of somebody.
pub(crate) async fn sees(
    client: &mut SignalClient,
    what: &'static str,
    is: impl Fn(&ParticipantInfo) -> bool,
) -> ParticipantInfo {
    client
        .wait_for(what, PATIENCE, |message| match message {
            Response::Update(update) => update.participants.iter().find(|info| is(info)).cloned(),
            _ => None,
        })
        .await
        .unwrap()
}

pub(crate) fn is_gone(info: &ParticipantInfo) -> bool {
    info.state() == participant_info::State::Disconnected
}

/// An answer over plain HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
) -> Http {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let host = match headers.iter().any(|header| header.starts_with("Host:")) {
            true => String::new(),
            false => format!("Host: {address}\r\n"),
        };
        let close = match headers
            .iter()
            .any(|header| header.starts_with("Connection:"))
        {
            true => "",
            false => "Connection: close\r\n",
        };
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let request = format!("{method} {target} HTTP/1.1\r\n{host}{close}{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    });
    Http {
        status,
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// For what must not happen: long enough to notice, short enough to run.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(300);
