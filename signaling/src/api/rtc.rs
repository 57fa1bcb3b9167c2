//! `/rtc` and `/rtc/v1`: the WebSocket upgrade, and `/validate` below them, which tells an SDK why an
//! upgrade failed.
//!
//! Everything that can be refused is refused before the upgrade, as an HTTP status with a reason:
//! SDKs show it to people and decide by it whether to try again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pipemesh_service::Chain;
use pipemesh_service::limit::Refused;
use pipemesh_topology::geo::Clues;
use tokio::sync::mpsc;

use crate::auth::{AuthError, Denial, Grants};
use crate::context::Context;
use crate::join::{self, JoinError};
use crate::livekit::client::Client;
use crate::livekit::join::{InvalidJoin, Join, Resume};
use crate::livekit::message;
use crate::livekit::query::Query;
use crate::metrics::JoinResult;
use crate::rooms::RoomState;
use crate::server::{Peer, Place};
use crate::session::driver::{Attaching, Input};
use crate::session::socket::{self, MAX_MESSAGE, READ_BUFFER};
use crate::session::{Attach, Farewell};
use crate::sessions::Handle;
use crate::source::client_address;

/// When a client may ask again after being told that there is no room for it.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Tells a session's sockets apart.
static SOCKETS: AtomicU64 = AtomicU64::new(1);

/// Which of the two paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/rtc`, also with a join request.
    V0,
    V1,
}

/// Why nobody is let in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The client's address has joined too often.
    Limited(Refused),
    Auth(AuthError),
    Request(InvalidJoin),
    Join(JoinError),
}

/// A client whose token and question are in order.
pub(crate) struct Asked {
    grants: Grants,
    join: Join,
    clues: Clues,
}

pub(crate) async fn upgrade(
    path: Path,
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    peer: Extension<Peer>,
    place: Option<Extension<Place>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return (StatusCode::NOT_FOUND, "this is a WebSocket").into_response();
    };
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    let begin = Instant::now();
    // Before anything that costs more.
    let client = client_address(peer.0.0, &headers, &context.proxies);
    if let Err(refused) = context.joins.allow(client, begin) {
        return refuse(&context, Refusal::Limited(refused));
    }
    let asked = match asked(&context, path, &headers, query.as_deref(), peer.0.0) {
        Ok(asked) => asked,
        Err(refusal) => return refuse(&context, refusal),
    };
    if let Some(resume) = asked.join.resume.clone() {
        return resume_session(context, asked, resume, place, upgrade).await;
    }
    let (client, grants) = (asked.join.client.clone(), asked.grants.clone());
    let joining = join::join(Arc::clone(&context), asked.grants, asked.join, asked.clues);
    let handle = match outlive(&context, joining).await {
        Ok(handle) => handle,
        Err(refusal) => return refusal,
    };
    context.metrics.join(JoinResult::Joined);
    context.metrics.joined_within(begin.elapsed());
    // The process waits for sockets to be told that it stops.
    let held = (place, context.tasks.token());
    upgrade.on_upgrade(async move |socket| {
        let _held = held;
        serve(context, handle, grants, client, None, socket).await;
    })
}

/// What a join comes to, which goes on if the client gives up: half of one must not stay.
async fn outlive<T: Send + 'static>(
    context: &Context,
    joining: impl Future<Output = Result<T, JoinError>> + Send + 'static,
) -> Result<T, Response> {
    match context.tasks.spawn(joining).await {
        Ok(Ok(joined)) => Ok(joined),
        Ok(Err(error)) => Err(refuse(context, Refusal::Join(error))),
        Err(fault) => {
            tracing::error!(%fault, "a join ended by a fault");
            context.metrics.panics.inc();
            Err(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

/// The same questions as an upgrade, without letting anybody in.
pub(crate) async fn validate(
    path: Path,
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    peer: Extension<Peer>,
) -> Response {
    let client = client_address(peer.0.0, &headers, &context.proxies);
    if let Err(refused) = context.joins.check(client, Instant::now()) {
        return refuse(&context, Refusal::Limited(refused));
    }
    let asked = match asked(&context, path, &headers, query.as_deref(), peer.0.0) {
        Ok(asked) => asked,
        Err(refusal) => return refuse(&context, refusal),
    };
    if let Err(error) = join::is_open(&context, &asked.clues) {
        return refuse(&context, Refusal::Join(error));
    }
    match context.rooms.read(&asked.grants.room).await {
        Ok(None) if !context.auto_create => {
            return refuse(&context, Refusal::Join(JoinError::NoRoom));
        }
        Ok(Some(room)) if is_full(&room, &asked.grants) => {
            return refuse(&context, Refusal::Join(JoinError::RoomFull));
        }
        Err(error) if !context.auto_create => {
            return refuse(&context, Refusal::Join(error.into()));
        }
        Ok(_) | Err(_) => {}
    }
    "success".into_response()
}

/// Whoever is in may come again.
fn is_full(room: &RoomState, grants: &Grants) -> bool {
    let limit = room.info().max_participants;
    let is_in = room.members.contains_key(&grants.identity);
    limit > 0 && !is_in && room.members.len() >= limit as usize
}

fn asked(
    context: &Context,
    path: Path,
    headers: &HeaderMap,
    query: Option<&str>,
    peer: SocketAddr,
) -> Result<Asked, Refusal> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let query = Query::parse(query.unwrap_or_default());
    let grants = context
        .keys
        .grants(text(header::AUTHORIZATION), query.get("access_token"))
        .map_err(Refusal::Auth)?;
    let user_agent = text(header::USER_AGENT).unwrap_or_default();
    let join = Join::parse(&query, path == Path::V1, user_agent).map_err(Refusal::Request)?;
    let clues = context.clues(Some(&grants), &query, headers, peer);
    Ok(Asked {
        grants,
        join,
        clues,
    })
}

pub(crate) fn refuse(context: &Context, refusal: Refusal) -> Response {
    let mut retry_after = None;
    let (status, text) = match &refusal {
        Refusal::Limited(refused) => {
            context.metrics.join(JoinResult::Limited);
            let seconds = refused.retry_after.as_secs() + 1;
            retry_after = Some(HeaderValue::from(seconds));
            (
                StatusCode::TOO_MANY_REQUESTS,
                "too many joins from this address, try again later".to_owned(),
            )
        }
        Refusal::Auth(error) => {
            context.metrics.auth_failure(error.reason());
            let status = match error.denial() {
                Denial::Unauthorized => StatusCode::UNAUTHORIZED,
                Denial::Forbidden => StatusCode::FORBIDDEN,
                Denial::Invalid => StatusCode::BAD_REQUEST,
            };
            (status, error.to_string())
        }
        Refusal::Request(InvalidJoin::TooLarge) => {
            context.metrics.join(JoinResult::Refused);
            (
                StatusCode::PAYLOAD_TOO_LARGE,
                InvalidJoin::TooLarge.to_string(),
            )
        }
        Refusal::Request(error) => {
            context.metrics.join(JoinResult::Refused);
            (StatusCode::BAD_REQUEST, error.to_string())
        }
        Refusal::Join(error) => {
            let (status, result) = judge(error);
            context.metrics.join(result);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                retry_after = Some(RETRY_AFTER);
                match error {
                    // Which says itself, once, that it cannot be reached.
                    JoinError::Store(_) => {
                        tracing::debug!(error = %Chain(error), "nobody can join")
                    }
                    _ => tracing::warn!(error = %Chain(error), "nobody can join"),
                }
            }
            // There are nodes where they may be, and these may have room in a moment.
            if matches!(error, JoinError::NoAllowedNode(_)) {
                retry_after = Some(RETRY_AFTER);
            }
            (status, error.to_string())
        }
    };
    let mut response = (status, text).into_response();
    if let Some(retry_after) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after);
    }
    response
}

fn judge(error: &JoinError) -> (StatusCode, JoinResult) {
    match error {
        // With this sentence an SDK does not take it for a missing path.
        JoinError::NoRoom => (StatusCode::NOT_FOUND, JoinResult::Refused),
        JoinError::MayNotUpdateMetadata => (StatusCode::FORBIDDEN, JoinResult::Refused),
        JoinError::Limits(_) => (StatusCode::BAD_REQUEST, JoinResult::Refused),
        // No SDK tries again after this: it would take the identity back.
        JoinError::Superseded => (StatusCode::CONFLICT, JoinResult::Refused),
        JoinError::NotAllowed(_)
        | JoinError::NoAllowedNode(_)
        | JoinError::HomeNotAllowed { .. } => (
            StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
            JoinResult::NotAllowed,
        ),
        JoinError::RoomFull => (StatusCode::TOO_MANY_REQUESTS, JoinResult::RoomFull),
        JoinError::NoNode(_) | JoinError::HomeRefuses | JoinError::Unreachable => {
            (StatusCode::SERVICE_UNAVAILABLE, JoinResult::NoNode)
        }
        JoinError::Contended | JoinError::Store(_) | JoinError::Stopping => (
            StatusCode::SERVICE_UNAVAILABLE,
            JoinResult::StoreUnavailable,
        ),
    }
}

async fn resume_session(
    context: Arc<Context>,
    asked: Asked,
    resume: Resume,
    place: Option<Extension<Place>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (grants, client) = (asked.grants.clone(), asked.join.client.clone());
    let sid = &resume.participant_sid;
    let found = match context.sessions.find(&grants.room, &grants.identity, sid) {
        Some(handle) => Some((handle, JoinResult::Resumed)),
        None => {
            let (grants, sid) = (asked.grants, sid.clone());
            let taking = join::take_over(Arc::clone(&context), grants, asked.join, sid);
            match outlive(&context, taking).await {
                Ok(handle) => handle.map(|handle| (handle, JoinResult::TakenOver)),
                Err(refusal) => return refusal,
            }
        }
    };
    let held = (place, context.tasks.token());
    upgrade.on_upgrade(async move |socket| {
        let _held = held;
        match found {
            Some((handle, result)) => {
                context.metrics.join(result);
                serve(context, handle, grants, client, Some(resume), socket).await;
            }
            None => turn_away(context, client, Farewell::Rejoin, socket).await,
        }
    })
}

/// Connects a socket with its session and runs it.
async fn serve(
    context: Arc<Context>,
    handle: Handle,
    grants: Grants,
    client: Client,
    resume: Option<Resume>,
    websocket: WebSocket,
) {
    let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
    let (mine, pump) = socket::socket(number);
    let attaching = Attaching {
        attach: Attach {
            resume,
            ice_servers: context.ice_servers(grants.identity.as_str()),
        },
        socket: mine,
    };
    if handle
        .inputs
        .send(Input::Attach(Box::new(attaching)))
        .await
        .is_err()
    {
        // The session ended in this moment.
        let farewell = handle.farewell.get().copied();
        let farewell = farewell.unwrap_or(Farewell::Rejoin);
        return turn_away(context, client, farewell, websocket).await;
    }
    pump.run(websocket, handle.inputs, Arc::clone(&context.metrics))
        .await;
}

/// Tells a client that nobody knows its session.
async fn turn_away(
    context: Arc<Context>,
    client: Client,
    farewell: Farewell,
    websocket: WebSocket,
) {
    context.metrics.join(JoinResult::Unknown);
    let (mine, pump) = socket::socket(0);
    mine.say(Box::new(message::farewell(&client, farewell)));
    drop(mine);
    // Nobody hears what the client says.
    let (nobody, _nobody) = mpsc::channel(1);
    pump.run(websocket, nobody, Arc::clone(&context.metrics))
        .await;
}
