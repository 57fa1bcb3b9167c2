//! What the operator can ask, and what is answered: JSON, described in docs/admin.md.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::{self as contract, NodeReport};
use pipemesh_service::Chain;
use pipemesh_topology::placement::{Load, NoNode, Placement, Refusal};
use pipemesh_topology::store::Unavailable;
use pipemesh_topology::{Homes, NodeState, RoomName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{refuse, ways};
use crate::context::Context;
use crate::join::PLACEMENT_ATTRIBUTE;
use crate::nodes::{Choice, Reached, Standing};
use crate::rooms::RoomState;
use crate::rooms::record::{Member, Presence};

pub(crate) fn routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/nodes", get(nodes))
        .route("/nodes/{node}/drain", post(drain))
        .route("/nodes/{node}/undrain", post(undrain))
        .route("/rooms", get(rooms))
        .route("/rooms/{room}", get(room))
        .route("/rooms/{room}/tree", get(ways::tree))
        .route("/pipes", get(ways::pipes))
        .route("/placements", get(placements))
        .with_state(context)
}

pub(super) type Shared = State<Arc<Context>>;

async fn nodes(State(context): Shared) -> Json<Value> {
    let standings = context.nodes.standings();
    let nodes: Vec<Value> = standings.iter().map(standing).collect();
    Json(json!({ "nodes": nodes }))
}

async fn drain(State(context): Shared, Path(node): Path<String>) -> Response {
    tell(&context, &node, true).await
}

async fn undrain(State(context): Shared, Path(node): Path<String>) -> Response {
    tell(&context, &node, false).await
}

/// Tells a node to drain, or to serve again.
async fn tell(context: &Context, node: &str, drain: bool) -> Response {
    let known = node.parse::<NodeId>().ok();
    let known = known.filter(|node| context.nodes.mesh().snapshot.node(node).is_some());
    let Some(node) = known else {
        return refuse(StatusCode::NOT_FOUND, "there is no such node");
    };
    tracing::info!(%node, drain, "the operator tells a node");
    let report = match context.nodes.drain(&node, drain).await {
        Ok(report) => report,
        Err(error) => {
            let error = Chain(&error).to_string();
            tracing::warn!(%node, error, "a node cannot be told");
            return refuse(StatusCode::BAD_GATEWAY, &error);
        }
    };
    let drains = report.state() == contract::NodeState::Draining;
    if drains && !drain {
        return refuse(StatusCode::CONFLICT, "the node's process ends");
    }
    Json(json!({ "id": node.to_string(), "state": reported_state(&report) })).into_response()
}

#[derive(Deserialize)]
struct Page {
    from: Option<u64>,
}

async fn rooms(State(context): Shared, Query(page): Query<Page>) -> Response {
    let (rooms, next) = match context.rooms.page(page.from).await {
        Ok(page) => page,
        Err(error) => return unavailable(&error),
    };
    let rooms: Vec<Value> = rooms
        .iter()
        .map(|(name, room)| summary(name, room))
        .collect();
    Json(json!({ "rooms": rooms, "next": next })).into_response()
}

async fn room(State(context): Shared, Path(name): Path<String>) -> Response {
    let Ok(name) = name.parse::<RoomName>() else {
        return refuse(StatusCode::NOT_FOUND, "there is no such room");
    };
    match context.rooms.read(&name).await {
        Ok(Some(room)) => {
            let mut answer = summary(&name, &room);
            let members = room.members.values().map(|it| member(it));
            answer["members"] = members.collect();
            Json(answer).into_response()
        }
        Ok(None) => refuse(StatusCode::NOT_FOUND, "there is no such room"),
        Err(error) => unavailable(&error),
    }
}

#[derive(Deserialize)]
struct Asked {
    room: Option<String>,
    region: Option<String>,
}

/// What was chosen lately; with a room, what would be chosen.
async fn placements(State(context): Shared, Query(asked): Query<Asked>) -> Response {
    let Some(room) = asked.room else {
        let choices = context.nodes.choices();
        let recent: Vec<Value> = choices.iter().map(choice).collect();
        return Json(json!({ "recent": recent })).into_response();
    };
    let Ok(room) = room.parse::<RoomName>() else {
        return refuse(StatusCode::BAD_REQUEST, "that is no room's name");
    };
    let region = match asked.region.as_deref().map(str::parse::<Region>) {
        None => context.region.clone(),
        Some(Ok(region)) => region,
        Some(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "that is no region"),
    };
    let homes = match context.rooms.homes(&room).await {
        Ok(homes) => homes,
        Err(error) => return unavailable(&error),
    };
    let (outcome, verdicts) =
        context
            .nodes
            .weigh(&room, &region, homes.as_ref(), context.rooms_span());
    let verdicts = verdicts.iter().map(|(node, verdict)| match verdict {
        Ok(load) => json!({ "id": node.to_string(), "load": load_of(load), "refused": null }),
        Err(refusal) => json!({
            "id": node.to_string(),
            "load": null,
            "refused": refusal_of(refusal),
            "why": refusal.to_string(),
        }),
    });
    let verdicts: Vec<Value> = verdicts.collect();
    Json(json!({
        "room": room.to_string(),
        "region": region.to_string(),
        "homes": homes.as_ref().map(names).unwrap_or_default(),
        "chosen": outcome_of(&outcome),
        "nodes": verdicts,
    }))
    .into_response()
}

pub(super) fn unavailable(error: &Unavailable) -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &Chain(error).to_string())
}

fn standing(standing: &Standing) -> Value {
    let Standing { record, reach } = standing;
    let (reach, report, assigned) = match reach {
        Reached::Trying => ("trying", None, None),
        Reached::Up(report, assigned) => ("up", Some(report), Some(*assigned)),
        Reached::Down => ("down", None, None),
    };
    json!({
        "id": record.id.to_string(),
        "region": record.region.to_string(),
        "address": record.grpc_address,
        "weight": record.weight,
        "registered": registered_state(record.state),
        "reach": reach,
        "report": report.map(|report| report_of(report)),
        "assigned": assigned,
    })
}

fn report_of(report: &NodeReport) -> Value {
    let load = report.load.unwrap_or_default();
    json!({
        "state": reported_state(report),
        "release": report.release,
        "load": load.ratio,
        "busy": load.busy_ratio,
        "sessions": load.sessions,
        "rooms": load.rooms,
        "tracks": load.tracks,
        "subscriptions": load.subscriptions,
        "egress_bits_per_second": load.egress_bits_per_second,
        "egress_packets_per_second": load.egress_packets_per_second,
    })
}

fn reported_state(report: &NodeReport) -> &'static str {
    match report.state() {
        contract::NodeState::Serving => "serving",
        contract::NodeState::Full => "full",
        contract::NodeState::Draining => "draining",
        contract::NodeState::Unspecified => "unknown",
    }
}

fn registered_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Serving => "serving",
        NodeState::Full => "full",
        NodeState::Draining => "draining",
    }
}

fn names(homes: &Homes) -> Vec<&str> {
    homes.iter().map(NodeId::as_str).collect()
}

fn summary(name: &RoomName, room: &RoomState) -> Value {
    let visible = room.members.values().filter(|member| member.is_visible());
    json!({
        "name": name.to_string(),
        "id": room.id.to_string(),
        "homes": names(&room.homes),
        "sequence": room.sequence,
        "participants": visible.count(),
    })
}

fn member(member: &Member) -> Value {
    let presence = match member.presence {
        Presence::Joining => "joining",
        Presence::Here => "here",
        Presence::Away => "away",
        Presence::Rejoining => "rejoining",
    };
    let tracks = member.info.tracks.iter().map(|track| track.sid.as_str());
    json!({
        "identity": member.identity.to_string(),
        "id": member.id.to_string(),
        "node": member.node.to_string(),
        "process": member.process.as_ref().map(ToString::to_string),
        "presence": presence,
        "tracks": tracks.collect::<Vec<&str>>(),
        "placed": placed(member),
    })
}

/// Why somebody is on their node, as the join that put them there has it; `null` if it does not say.
fn placed(member: &Member) -> Value {
    let why = member.info.attributes.get(PLACEMENT_ATTRIBUTE);
    let why = why.and_then(|why| why.split_once('/'));
    why.map_or(
        Value::Null,
        |(by, reason)| json!({ "by": by, "reason": reason }),
    )
}

fn choice(choice: &Choice) -> Value {
    let since_1970 = choice.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "at": since_1970.as_secs_f64(),
        "room": choice.room.to_string(),
        "region": choice.region.to_string(),
        "chosen": outcome_of(&choice.outcome),
    })
}

fn outcome_of(outcome: &Result<Placement, NoNode>) -> Value {
    match outcome {
        Ok(placement) => json!({
            "node": placement.node.to_string(),
            "reason": placement.reason.name(),
        }),
        Err(nobody) => json!({ "node": null, "reason": nobody.to_string() }),
    }
}

fn refusal_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Excluded => "excluded",
        Refusal::Unreachable => "unreachable",
        Refusal::Draining => "draining",
        Refusal::Full => "full",
        Refusal::Overloaded(_) => "overloaded",
        Refusal::Weightless => "weightless",
        Refusal::NotAllowed => "not_allowed",
    }
}

fn load_of(load: &Load) -> Value {
    json!({ "ratio": load.ratio, "participants": load.participants })
}
