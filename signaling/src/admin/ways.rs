//! Where media goes: all pipes, and one room's tracks from node to node.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pipemesh_proto::ids::NodeId;
use pipemesh_proto::node::InspectPipesRequest;
use pipemesh_topology::RoomName;
use serde::Deserialize;

use super::refuse;
use super::routes::{Shared, unavailable};
use crate::rooms::RoomState;
use crate::ways::{self, Survey, dot};

/// What Graphviz reads, as IANA has registered it.
const GRAPHVIZ: &str = "text/vnd.graphviz";

/// A gateway that nobody of the room is on is known from its leaves, and may name another one while tracks
/// change their way.
const ROUNDS: usize = 3;

pub(super) async fn pipes(State(context): Shared) -> Json<serde_json::Value> {
    let nodes = &context.nodes;
    let mesh = nodes.mesh();
    let all = mesh.snapshot.nodes().iter().map(|node| node.id.clone());
    let mut survey = Survey::of(nodes);
    let request = InspectPipesRequest::default();
    survey.ask(nodes, all.collect(), &request).await;
    Json(ways::pipes::to_json(&survey))
}

#[derive(Deserialize)]
pub(super) struct Asked {
    format: Option<String>,
    track: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Dot,
}

pub(super) async fn tree(
    State(context): Shared,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let Some(format) = format(asked.format.as_deref(), &headers) else {
        return refuse(StatusCode::BAD_REQUEST, "format is json or dot");
    };
    let Ok(name) = name.parse::<RoomName>() else {
        return refuse(StatusCode::NOT_FOUND, "there is no such room");
    };
    let room = match context.rooms.read(&name).await {
        Ok(Some(room)) => room,
        Ok(None) => return refuse(StatusCode::NOT_FOUND, "there is no such room"),
        Err(error) => return unavailable(&error),
    };
    let mut published = ways::tree::published(&room);
    if let Some(track) = &asked.track {
        published.retain(|published| published.track == *track);
        if published.is_empty() {
            return refuse(StatusCode::NOT_FOUND, "there is no such track in the room");
        }
    }
    let request = InspectPipesRequest {
        room_id: room.id.to_string(),
        count_watchers: true,
    };
    let mut survey = Survey::of(&context.nodes);
    let mut whom = hosts(&room);
    for _ in 0..ROUNDS {
        survey.ask(&context.nodes, whom, &request).await;
        whom = survey.sources();
    }
    let trees = published
        .into_iter()
        .map(|it| ways::tree::grow(&survey, it));
    let trees: Vec<_> = trees.collect();
    match format {
        Format::Dot => {
            let text = dot::draw(name.as_str(), &survey, &trees);
            ([(header::CONTENT_TYPE, GRAPHVIZ)], text).into_response()
        }
        Format::Json => {
            let mut told = ways::tree::to_json(&survey, &trees);
            told["room"] = name.as_str().into();
            told["id"] = room.id.as_str().into();
            Json(told).into_response()
        }
    }
}

/// Nodes that a room is at home on, or somebody of it is.
fn hosts(room: &RoomState) -> BTreeSet<NodeId> {
    let members = room.members.values().map(|member| &member.node);
    room.homes.iter().chain(members).cloned().collect()
}

/// `None`: one that there is not.
fn format(asked: Option<&str>, headers: &HeaderMap) -> Option<Format> {
    match asked {
        Some("json") => Some(Format::Json),
        Some("dot") => Some(Format::Dot),
        Some(_) => None,
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
            let wants = accepted.is_some_and(|accepted| accepted.contains(GRAPHVIZ));
            Some(if wants { Format::Dot } else { Format::Json })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_query_says_else_what_is_accepted() {
        let check = |asked, accepted: Option<&str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(accepted) = accepted {
                headers.insert(header::ACCEPT, accepted.parse().unwrap());
            }
            assert_eq!(format(asked, &headers), expected, "{asked:?} {accepted:?}");
        };
        check(None, None, Some(Format::Json));
        check(None, Some("*/*"), Some(Format::Json));
        check(None, Some("text/vnd.graphviz, */*"), Some(Format::Dot));
        check(Some("dot"), Some("application/json"), Some(Format::Dot));
        check(Some("json"), Some(GRAPHVIZ), Some(Format::Json));
        check(Some("svg"), None, None);
    }
}
