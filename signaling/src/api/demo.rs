//! A token without asking who somebody is. Only in demo mode, which only listens on this machine.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pipemesh_topology::{Identity, RoomName};
use serde_json::json;

use crate::context::Context;
use crate::livekit::query::Query;

/// `GET /demo/token?room=…&identity=…&name=…` → `{"url": …, "token": …}`.
pub(crate) fn token(
    context: &Context,
    scheme: Scheme,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Response {
    if !context.demo {
        return (StatusCode::NOT_FOUND, "not found").into_response();
    }
    let query = Query::parse(query.unwrap_or_default());
    let invalid = |what: &str| (StatusCode::BAD_REQUEST, what.to_owned()).into_response();
    let Some(room) = query
        .get("room")
        .filter(|room| room.parse::<RoomName>().is_ok())
    else {
        return invalid("room is missing or too long");
    };
    let identity = query
        .get("identity")
        .filter(|who| who.parse::<Identity>().is_ok());
    let Some(identity) = identity else {
        return invalid("identity is missing or too long");
    };
    let name = query.get("name").unwrap_or(identity);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(host) = host.filter(|host| is_local(host)) else {
        // A page elsewhere that made its own name point to this machine.
        return (StatusCode::FORBIDDEN, "only for this machine").into_response();
    };
    let Some(token) = context.keys.demo_token(room, identity, name) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let url = format!(
        "{}://{host}",
        if scheme == Scheme::Https { "wss" } else { "ws" }
    );
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(json!({ "token": token, "url": url }))).into_response()
}

/// Whether the listener speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let check = |host: &str, expected| assert_eq!(is_local(host), expected, "{host}");
        check("localhost:7880", true);
        check("LOCALHOST", true);
        check("127.0.0.1:7880", true);
        check("127.3.2.1", true);
        check("[::1]:7880", true);
        check("evil.example:7880", false);
        check("localhost.evil.example", false);
        check("192.0.2.1:80", false);
    }
}
