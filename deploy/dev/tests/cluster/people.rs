//! Participants of two kinds: with media, and with signaling alone, to hear what is said.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ClientInfo, ConnectionSettings, JoinRequest, JoinResponse, ParticipantInfo, client_info,
    leave_request, participant_info,
};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::signal::{Connect, ConnectError, SignalClient};
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::url::Dialect;
use pipemesh_loadtest_client::{Audio, Generator, Join, Layout, Media, Participant};

use crate::mesh::{PATIENCE, Signaling, until};

/// The key of the demo.
pub(crate) const KEY: &str = "devkey";
pub(crate) const SECRET: &str = "secret";

pub(crate) fn token(room: &str, identity: &str) -> String {
    let grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let token = AccessToken::with_api_key(KEY, SECRET).with_identity(identity);
    token.with_grants(grants).to_jwt().unwrap()
}

/// Joins with media, and speaks.
pub(crate) async fn speak(
    generator: &Generator,
    signaling: &Signaling,
    room: &str,
    identity: &str,
) -> Participant {
    speak_as(generator, signaling, room, identity, Layout::Single).await
}

pub(crate) async fn speak_as(
    generator: &Generator,
    signaling: &Signaling,
    room: &str,
    identity: &str,
    layout: Layout,
) -> Participant {
    let url = format!("http://{}/", signaling.clients);
    let join = Join::new(url, token(room, identity), layout);
    let participant = generator.join(join).await.unwrap();
    participant.connected(PATIENCE).await.unwrap();
    let voice = Media::Audio(Audio::default());
    participant.publish("voice", voice, PATIENCE).await.unwrap();
    participant
}

/// Packets of each track, by its id. One whose publisher has moved begins another stream, and of the former one
/// nothing more is heard.
pub(crate) fn heard(stats: &Stats) -> BTreeMap<String, u64> {
    let mut packets = BTreeMap::new();
    for track in &stats.tracks {
        *packets.entry(track.sid.clone()).or_default() += track.packets;
    }
    packets
}

/// Waits until somebody has heard so many packets more of everybody he hears.
pub(crate) async fn hears_on(participant: &Participant, packets: u64) -> Stats {
    let before = heard(&participant.stats().await.unwrap());
    let hears = move |stats: &Stats| {
        let now = heard(stats);
        let of = |sid| before.get(sid).copied().unwrap_or_default();
        !now.is_empty() && now.iter().all(|(sid, heard)| *heard >= of(sid) + packets)
    };
    let outcome = participant.until("it hears on", PATIENCE, hears).await;
    outcome.unwrap()
}

/// Whoever was there all the time: nothing was lost, and nobody sent him away.
pub(crate) fn assert_unbroken(stats: &Stats) {
    assert_eq!((stats.left, stats.reconnects, stats.failures), (None, 0, 0));
    assert_eq!(stats.connects, 1, "{stats:#?}");
    for track in &stats.tracks {
        assert_eq!(track.lost, 0, "{track:#?}");
    }
}

/// The same of whoever has come back before.
pub(crate) fn assert_goes_on(before: &Stats, after: &Stats) {
    let of = |stats: &Stats| (stats.left, stats.reconnects, stats.failures, stats.connects);
    assert_eq!(of(after), of(before), "{after:#?}");
    for track in &after.tracks {
        assert_eq!(track.lost, 0, "{track:#?}");
    }
}

pub(crate) fn connect(signaling: &Signaling, room: &str, identity: &str) -> Connect {
    connect_as(signaling, room, identity, None)
}

/// `sid`: whose session goes on.
fn connect_as(signaling: &Signaling, room: &str, identity: &str, sid: Option<&str>) -> Connect {
    let request = JoinRequest {
        reconnect: sid.is_some(),
        participant_sid: sid.unwrap_or_default().to_owned(),
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
        ..Default::default()
    };
    let address = signaling.clients.to_string();
    Connect::new(address, token(room, identity), Dialect::single(request))
}

/// Joins without media.
pub(crate) async fn join(
    signaling: &Signaling,
    room: &str,
    identity: &str,
) -> (SignalClient, JoinResponse) {
    let connect = connect(signaling, room, identity);
    let mut client = SignalClient::connect(&connect, PATIENCE).await.unwrap();
    let joined = client.joined(PATIENCE).await.unwrap();
    (client, joined)
}

/// Comes back as who they were.
pub(crate) async fn resume(
    signaling: &Signaling,
    room: &str,
    identity: &str,
    sid: &str,
) -> SignalClient {
    let connect = connect_as(signaling, room, identity, Some(sid));
    SignalClient::connect(&connect, PATIENCE).await.unwrap()
}

/// [`join`], again and again while the room is not opened yet.
pub(crate) async fn join_in_time(
    signaling: &Signaling,
    room: &str,
    identity: &str,
) -> (SignalClient, JoinResponse) {
    let connect = connect(signaling, room, identity);
    let mut client = until("they are let in", async || {
        match SignalClient::connect(&connect, PATIENCE).await {
            Ok(client) => Some(client),
            Err(ConnectError::Refused { status: 503, .. }) => None,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;
    let joined = client.joined(PATIENCE).await.unwrap();
    (client, joined)
}

/// Waits until an update says something of somebody.
pub(crate) async fn sees(
    client: &mut SignalClient,
    what: &'static str,
    is: impl Fn(&ParticipantInfo) -> bool,
) -> ParticipantInfo {
    let said = client.wait_for(what, PATIENCE, |message| match message {
        Response::Update(update) => update.participants.iter().find(|info| is(info)).cloned(),
        _ => None,
    });
    said.await.unwrap()
}

/// Whoever is there is there still, and was not sent away.
pub(crate) async fn stays(client: &mut SignalClient) {
    client.ping(PATIENCE).await.unwrap();
    while let Ok(message) = client.next(Duration::ZERO).await {
        assert!(!matches!(message, Response::Leave(_)), "{message:?}");
    }
}

/// Waits until the client is sent away, and answers what it is to do.
pub(crate) async fn is_sent_away(client: &mut SignalClient) -> leave_request::Action {
    let said = client.wait_for("a leave", PATIENCE, |message| match message {
        Response::Leave(leave) => Some(leave.action()),
        _ => None,
    });
    said.await.unwrap()
}

/// Whether it says of anybody that they left.
pub(crate) fn tells_of_leaving(message: &Response) -> bool {
    match message {
        Response::Update(update) => update.participants.iter().any(is_gone),
        _ => false,
    }
}

pub(crate) fn is_gone(info: &ParticipantInfo) -> bool {
    info.state() == participant_info::State::Disconnected
}

/// The node that somebody is on.
pub(crate) fn node_of(joined: &JoinResponse) -> String {
    let participant = joined.participant.as_ref().unwrap();
    participant.attributes["pipemesh.node"].clone()
}

pub(crate) fn room_of(joined: &JoinResponse) -> &str {
    &joined.room.as_ref().unwrap().sid
}

pub(crate) fn others_of(joined: &JoinResponse) -> Vec<&str> {
    let others = joined.other_participants.iter();
    others.map(|info| info.identity.as_str()).collect()
}
