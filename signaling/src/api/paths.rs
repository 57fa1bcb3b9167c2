//! `GET /rooms/{room}/paths`: over which nodes what a participant receives gets to them.
//!
//! Whoever asks shows the token that the participant joins with, and is told of nobody else. It works with any
//! signaling process: nodes are asked, not the process that serves the participant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use livekit_protocol::TrackInfo;
use pipemesh_proto::ids::NodeId;
use pipemesh_proto::node::{InspectPipesRequest, SubscriptionSummary};
use pipemesh_service::Chain;
use pipemesh_topology::RoomName;
use serde_json::{Value, json};

use crate::auth::{Denial, Grants};
use crate::context::Context;
use crate::livekit::query::Query;
use crate::rooms::RoomState;
use crate::rooms::record::{Member, Presence};
use crate::server::Peer;
use crate::source::client_address;
use crate::ways::path::{path, to_json};
use crate::ways::{Survey, kind_name, source_name};

/// When to ask again where there was no room for it.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Why somebody is not told.
struct Refusal {
    status: StatusCode,
    what: String,
}

impl Refusal {
    fn new(status: StatusCode, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { status, what }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.what }));
        let mut response = (self.status, body).into_response();
        let again = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if again.contains(&self.status) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

pub(crate) async fn list(
    State(context): State<Arc<Context>>,
    Path(room): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    peer: Extension<Peer>,
) -> Response {
    let client = client_address(peer.0.0, &headers, &context.proxies);
    if context.joins.check(client, Instant::now()).is_err() {
        let what = "too many joins from this address, try again later";
        return Refusal::new(StatusCode::TOO_MANY_REQUESTS, what).into_response();
    }
    match paths(&context, &room, &headers, query.as_deref()).await {
        Ok(paths) => {
            let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (no_store, Json(paths)).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn paths(
    context: &Context,
    room: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Value, Refusal> {
    let grants = grants(context, headers, query)?;
    if grants.room.as_str() != room {
        context.metrics.auth_failure("not_granted");
        let what = "permissions denied: the token is for another room";
        return Err(Refusal::new(StatusCode::FORBIDDEN, what));
    }
    let room = context.rooms.read(&grants.room).await;
    let room = room.map_err(|error| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Chain(&error).to_string())
    })?;
    let missing = |what: &str| Refusal::new(StatusCode::NOT_FOUND, what);
    let room = room.ok_or_else(|| missing("there is no such room"))?;
    let member = room.members.get(&grants.identity);
    // One who is told to join anew is on no node.
    let member = member.filter(|it| matches!(it.presence, Presence::Here | Presence::Away));
    let member = member.ok_or_else(|| missing("you are not in the room"))?;
    let Some(_place) = context.nodes.may_inspect() else {
        let what = "others are asking at present, try again later";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what));
    };
    look(context, &grants.room, &room, member).await
}

fn grants(context: &Context, headers: &HeaderMap, query: Option<&str>) -> Result<Grants, Refusal> {
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let query = Query::parse(query.unwrap_or_default());
    let granted = context
        .keys
        .grants(authorization, query.get("access_token"));
    granted.map_err(|error| {
        context.metrics.auth_failure(error.reason());
        let status = match error.denial() {
            Denial::Unauthorized => StatusCode::UNAUTHORIZED,
            Denial::Forbidden => StatusCode::FORBIDDEN,
            Denial::Invalid => StatusCode::BAD_REQUEST,
        };
        Refusal::new(status, error.to_string())
    })
}

/// Asks the participant's node, and then those that tracks come from.
async fn look(
    context: &Context,
    name: &RoomName,
    room: &RoomState,
    member: &Member,
) -> Result<Value, Refusal> {
    let (nodes, own) = (&context.nodes, &member.node);
    let with_tracks = InspectPipesRequest {
        room_id: room.id.to_string(),
        count_watchers: false,
    };
    let mut survey = Survey::of(nodes);
    let (session, ()) = tokio::join!(
        nodes.inspect_session(own, &room.id, &member.session),
        survey.ask(nodes, BTreeSet::from([own.clone()]), &with_tracks),
    );
    let session = session.map_err(|error| {
        let what = format!("node {own} cannot be asked: {}", Chain(&error));
        Refusal::new(StatusCode::BAD_GATEWAY, what)
    })?;
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "you are not in the room any more");
    let session = session.ok_or_else(gone)?;
    let received: Vec<Received<'_>> = (session.subscriptions.iter())
        .filter_map(|subscription| Received::find(room, subscription))
        .collect();
    let origins = received
        .iter()
        .map(|received| received.publisher.node.clone());
    let others = survey.sources().into_iter().chain(origins).collect();
    survey.ask(nodes, others, &with_tracks).await;
    // Of a branch, which says so, the gateway.
    survey.ask(nodes, survey.sources(), &with_tracks).await;
    let tracks: Vec<Value> = received
        .iter()
        .map(|received| received.to_json(&survey, own))
        .collect();
    Ok(json!({
        "room": name.as_str(),
        "identity": member.identity.as_str(),
        "node": own.as_str(),
        "tracks": tracks,
    }))
}

/// A track that the participant is subscribed to.
struct Received<'a> {
    publisher: &'a Member,
    info: &'a TrackInfo,
    subscription: &'a SubscriptionSummary,
}

impl<'a> Received<'a> {
    /// `None`: it has just ended.
    fn find(room: &'a RoomState, subscription: &'a SubscriptionSummary) -> Option<Self> {
        room.members.values().find_map(|publisher| {
            let mut tracks = publisher.info.tracks.iter();
            let info = tracks.find(|info| info.sid == subscription.track_id)?;
            Some(Self {
                publisher,
                info,
                subscription,
            })
        })
    }

    fn to_json(&self, survey: &Survey, own: &NodeId) -> Value {
        let Self {
            publisher,
            info,
            subscription,
        } = self;
        let way = path(survey, &info.sid, &publisher.node, own);
        json!({
            "track": info.sid,
            "name": info.name,
            "publisher": publisher.identity.as_str(),
            "kind": kind_name(info),
            "source": source_name(info),
            "codec": info.mime_type,
            "muted": info.muted,
            "paused": subscription.paused,
            "unheard": subscription.unheard,
            "layer": layer(info, subscription),
            "path": way.as_ref().ok().map(|hops| to_json(hops)),
            "unknown": way.err().map(|unclear| unclear.to_string()),
        })
    }
}

/// What is being sent; null while nothing is.
#[expect(deprecated, reason = "where the layers of the first codec are")]
fn layer(info: &TrackInfo, subscription: &SubscriptionSummary) -> Value {
    let Some(spatial) = subscription.spatial else {
        return Value::Null;
    };
    let announced = info
        .layers
        .iter()
        .find(|layer| u32::try_from(layer.spatial_layer) == Ok(spatial));
    let or = |known: u32, announced: Option<u32>| match known {
        0 => announced.filter(|announced| *announced > 0),
        known => Some(known),
    };
    let rid = announced.map(|layer| layer.rid.as_str());
    json!({
        "spatial": spatial,
        "temporal": subscription.temporal,
        "rid": rid.filter(|rid| !rid.is_empty()),
        "width": or(subscription.width, announced.map(|layer| layer.width)),
        "height": or(subscription.height, announced.map(|layer| layer.height)),
        "bits_per_second": Some(subscription.bits_per_second).filter(|bits| *bits > 0),
    })
}
