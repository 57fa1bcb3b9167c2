//! What control costs: every call of the contract to a real node in this process, over loopback gRPC,
//! each beside an echo of the same request and answer. Prints; judges nothing.
//!
//! `cargo bench -p pipemesh-node --bench control [-- rounds]`. On a shared machine only the ratio of
//! the medians says anything: both sides of it are taken in turns.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod beside;
mod echo;
#[path = "../support/report.rs"]
mod report;
mod stream;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;

use pipemesh_node::{Config, Node};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    AddTrack, Attach, ClientAnswer, ClientOffer, Close, CloseReason, Configure, ConnectionLayout,
    ConnectionRole, DataRights, DrainRequest, InspectRoomRequest, LayerInfo, LayerWish,
    ListRoomsRequest, MediaKind, MuteTrack, OfferCreated, Open, RemoveTrack, RestartIce, SendData,
    Subscribe, TrackSource, Trickle, UndrainRequest, Unsubscribe,
};
use pipemesh_topology::registry::memory::MemoryRegistry;

use beside::Beside;
use stream::{Client, Stream};

const ROUNDS: usize = 1_000;
/// Not counted: caches and connections warm up.
const WARM_UP: usize = 50;

/// A LiveKit client's first offer on a single connection.
const FIRST: &str = include_str!("../../tests/golden/sdp/chromium_sdk/first.offer.sdp");
/// A publisher's offers: microphone and camera; with a screen and music besides.
const CAMERA: &str =
    include_str!("../../tests/golden/sdp/chromium_publisher/2_simulcast.offer.sdp");
const FOUR_TRACKS: &str =
    include_str!("../../tests/golden/sdp/chromium_publisher/3_screen_and_music.offer.sdp");
/// A subscriber's answer to data, voice, music and a camera, and to a fourth track that it refuses.
const ANSWER: &str =
    include_str!("../../tests/golden/sdp/chromium_subscriber/2_four_tracks.answer.sdp");
const CANDIDATE: &str =
    "candidate:2206662843 1 udp 2122194687 127.0.0.1 39035 typ host generation 0 network-id 3";

const ROOM: &str = "RM_bench";

fn main() -> anyhow::Result<()> {
    // Cargo passes `--bench`.
    let rounds = std::env::args().find_map(|argument| argument.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    // As in the binary; signaling's end has a thread of its own, as it has a process of its own there.
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let registry = Arc::new(MemoryRegistry::new());
    let metrics = prometheus::Registry::new();
    let config = Config::loopback("node-a".parse()?, "eu".parse()?);
    let node = server.block_on(Node::start(config, registry, &metrics))?;
    let echo = echo::Echo::default();
    let echo_address = server.block_on(echo.clone().serve())?;

    let addresses = (node.control_address(), echo_address);
    let mut table = client.block_on(measure(addresses, echo, rounds))?;
    server.block_on(node.stop());
    table.sort();
    println!("control calls over loopback, {rounds} rounds, each call beside an echo of its bytes");
    println!("{table}");
    report::write("control", table.json())?;
    Ok(())
}

async fn measure(
    (node, echo): (SocketAddr, SocketAddr),
    replies: echo::Echo,
    rounds: usize,
) -> anyhow::Result<table::Table> {
    let node = stream::connect(node).await?;
    let echo = stream::connect(echo).await?;
    // Held until the end: its tracks live as long.
    let _publisher = publish(&node).await?;
    let mut beside = Beside::new(node, echo, replies).await?;
    for number in 0..WARM_UP + rounds {
        if number == WARM_UP {
            beside.forget();
        }
        dual(&mut beside, number).await?;
        single(&mut beside, number).await?;
        whole_node(&mut beside).await?;
    }
    Ok(beside.table())
}

/// Four tracks for the others to subscribe to.
async fn publish(node: &Client) -> anyhow::Result<Stream> {
    let open = Request::Open(open("publisher", ConnectionLayout::Dual));
    let (mut stream, _) = Stream::begin(node.clone(), open).await?;
    for (client_track, kind) in [
        ("pmic", MediaKind::Audio),
        ("pmusic", MediaKind::Audio),
        ("pcam", MediaKind::Video),
        ("pscreen", MediaKind::Video),
    ] {
        let track = add_track(&format!("TR_{client_track}"), client_track, kind);
        stream.ask(Request::AddTrack(track)).await?;
    }
    stream.ask(offer(FOUR_TRACKS)).await?;
    Ok(stream)
}

/// The life of a session with two connections, which publishes and subscribes.
async fn dual(beside: &mut Beside, number: usize) -> anyhow::Result<()> {
    let id = format!("dual_{number}");
    let camera = format!("TR_camera_{number}");
    let opened = Request::Open(open(&id, ConnectionLayout::Dual));
    let mut stream = beside.begin("open", opened).await?;

    let microphone = add_track(&format!("TR_mic_{number}"), "pmic", MediaKind::Audio);
    stream.ask(Request::AddTrack(microphone)).await?;
    let track = Request::AddTrack(add_track(&camera, "pcam", MediaKind::Video));
    beside.ask("add track", &mut stream, track).await?;
    beside
        .ask("offer, publisher's", &mut stream, offer(CAMERA))
        .await?;
    let trickle = Request::Trickle(Trickle {
        connection: ConnectionRole::Publisher.into(),
        candidate: CANDIDATE.to_owned(),
    });
    beside.ask("trickle", &mut stream, trickle).await?;

    for track in ["TR_pmic", "TR_pmusic"] {
        stream.ask(subscribe(track, LayerWish::default())).await?;
    }
    let wish = subscribe("TR_pcam", LayerWish::default());
    beside.ask("subscribe", &mut stream, wish).await?;
    // Under load the first offer may come before all three are in it.
    let mut offered = stream.next_offer().await?;
    while offered.mid_to_track.len() < 3 {
        stream.ask(answer(&offered)).await?;
        offered = stream.next_offer().await?;
    }
    beside
        .ask("answer, subscriber's", &mut stream, answer(&offered))
        .await?;
    let smaller = LayerWish {
        width: 320,
        height: 180,
        ..LayerWish::default()
    };
    let wish = subscribe("TR_pcam", smaller);
    beside.ask("layer wish", &mut stream, wish).await?;

    for (call, muted) in [("mute", true), ("unmute", false)] {
        let track_id = camera.clone();
        let mute = Request::MuteTrack(MuteTrack { track_id, muted });
        beside.ask(call, &mut stream, mute).await?;
    }
    let data = Request::SendData(SendData {
        packet: vec![7; 1_000],
        reliable: true,
    });
    beside.ask("data, 1000 bytes", &mut stream, data).await?;
    let data = Some(rights());
    let configure = Request::Configure(Configure { data });
    beside.ask("configure", &mut stream, configure).await?;

    // Signaling's process has changed; the stream before is ended by the node.
    let session_id = format!("S_{id}");
    let attach = Request::Attach(Attach {
        session_id,
        ..Attach::default()
    });
    let mut stream = beside.begin("attach", attach).await?;
    let restart = Request::RestartIce(RestartIce {
        connection: ConnectionRole::Subscriber.into(),
    });
    let offered = beside
        .ask_for_offer("restart ICE, until the offer", &mut stream, restart)
        .await?;
    stream.ask(answer(&offered)).await?;

    let track_id = "TR_pcam".to_owned();
    let unsubscribe = Request::Unsubscribe(Unsubscribe { track_id });
    beside.ask("unsubscribe", &mut stream, unsubscribe).await?;
    let remove = Request::RemoveTrack(RemoveTrack { track_id: camera });
    beside.ask("remove track", &mut stream, remove).await?;
    let reason = CloseReason::Left.into();
    let close = Request::Close(Close { reason });
    beside.ask("close", &mut stream, close).await
}

/// The beginning of a session with one connection: its first offer is the largest there is.
async fn single(beside: &mut Beside, number: usize) -> anyhow::Result<()> {
    let id = format!("single_{number}");
    let opened = Request::Open(open(&id, ConnectionLayout::Single));
    let (mut stream, _) = Stream::begin(beside.node.clone(), opened).await?;
    beside
        .ask("offer, first of one connection", &mut stream, offer(FIRST))
        .await?;
    let reason = CloseReason::Left.into();
    stream.ask(Request::Close(Close { reason })).await?;
    Ok(())
}

/// What an operator and a second signaling process ask.
async fn whole_node(beside: &mut Beside) -> anyhow::Result<()> {
    let (mut node, mut echo) = (beside.node.clone(), beside.echo.clone());
    let request = ListRoomsRequest {};
    let calls = (node.list_rooms(request), echo.list_rooms(request));
    beside
        .unary("list rooms", &request, calls, |replies, it| {
            replies.rooms = it;
        })
        .await?;

    let (mut node, mut echo) = (beside.node.clone(), beside.echo.clone());
    let room_id = ROOM.to_owned();
    let request = InspectRoomRequest {
        room_id,
        ..InspectRoomRequest::default()
    };
    let calls = (
        node.inspect_room(request.clone()),
        echo.inspect_room(request.clone()),
    );
    beside
        .unary("inspect room", &request, calls, |replies, it| {
            replies.room = it;
        })
        .await?;

    let (mut node, mut echo) = (beside.node.clone(), beside.echo.clone());
    let calls = (node.drain(DrainRequest {}), echo.drain(DrainRequest {}));
    beside
        .unary("drain", &DrainRequest {}, calls, |replies, it| {
            replies.report = it;
        })
        .await?;

    let (mut node, mut echo) = (beside.node.clone(), beside.echo.clone());
    let calls = (
        node.undrain(UndrainRequest {}),
        echo.undrain(UndrainRequest {}),
    );
    beside
        .unary("undrain", &UndrainRequest {}, calls, |replies, it| {
            replies.report = it;
        })
        .await
}

fn open(name: &str, layout: ConnectionLayout) -> Open {
    Open {
        session_id: format!("S_{name}"),
        room_id: ROOM.to_owned(),
        participant_id: format!("PA_{name}"),
        identity: name.to_owned(),
        layout: layout.into(),
        data: Some(rights()),
        region: "eu".to_owned(),
        ..Open::default()
    }
}

fn rights() -> DataRights {
    DataRights {
        send: true,
        receive: true,
    }
}

fn add_track(track: &str, client_track: &str, kind: MediaKind) -> AddTrack {
    let (source, layers) = match kind {
        MediaKind::Video => {
            let layer = |(spatial, rid, width, height)| LayerInfo {
                spatial,
                rid: String::from(rid),
                width,
                height,
                ..LayerInfo::default()
            };
            let layers = [(0, "q", 320, 180), (1, "h", 640, 360), (2, "f", 1280, 720)];
            (TrackSource::Camera, layers.map(layer).to_vec())
        }
        _ => (TrackSource::Microphone, Vec::new()),
    };
    AddTrack {
        track_id: track.to_owned(),
        client_track_id: client_track.to_owned(),
        kind: kind.into(),
        source: source.into(),
        layers,
        red: true,
        ..AddTrack::default()
    }
}

fn offer(sdp: &str) -> Request {
    Request::Offer(ClientOffer {
        sdp: sdp.to_owned(),
        offer_id: 1,
    })
}

/// As much of the recorded answer as there are sections in the offer.
fn answer(offer: &OfferCreated) -> Request {
    let sections = offer.sdp.matches("\nm=").count();
    let end = ANSWER.match_indices("m=").nth(sections);
    Request::Answer(ClientAnswer {
        sdp: ANSWER[..end.map_or(ANSWER.len(), |(end, _)| end)].to_owned(),
        offer_id: offer.offer_id,
    })
}

fn subscribe(track: &str, wish: LayerWish) -> Request {
    Request::Subscribe(Subscribe {
        track_id: track.to_owned(),
        wish: Some(wish),
        msid_stream: "PA_publisher".to_owned(),
        msid_track: track.to_owned(),
        ..Subscribe::default()
    })
}
