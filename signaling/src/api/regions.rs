//! Where else there is signaling, and how far that is.
//!
//! `/settings/regions` answers in LiveKit's format, best first for who asks. `/rtt` is what clients measure
//! round trips with.

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::demo::Scheme;
use crate::api::rtc::{Refusal, refuse};
use crate::context::Context;
use crate::livekit::query::Query;
use crate::server::Peer;

/// A region that has lost its last node is asked for no longer than this.
const CACHE: HeaderValue = HeaderValue::from_static("private, max-age=5");

/// `GET /rtt`: nothing, as fast as may be. A page may see how long it took.
pub(crate) async fn probe() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("timing-allow-origin"), "*"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// `GET /settings/regions` → `{"regions": [{"region": …, "url": …, "distance": …}]}`. Without a token it is
/// what everybody may see; with one, what its owner may use.
pub(crate) fn list(
    scheme: Scheme,
    context: &Context,
    headers: &HeaderMap,
    query: Option<&str>,
    peer: Peer,
) -> Response {
    let text = |name| {
        headers
            .get(name)
            .and_then(|it: &HeaderValue| it.to_str().ok())
    };
    let query = Query::parse(query.unwrap_or_default());
    let token = (text(header::AUTHORIZATION), query.get("access_token"));
    let grants = match token {
        (None, None) => None,
        (authorization, parameter) => match context.keys.grants(authorization, parameter) {
            Ok(grants) => Some(grants),
            Err(error) => return refuse(context, Refusal::Auth(error)),
        },
    };
    let clues = context.clues(grants.as_ref(), &query, headers, peer.0);
    let mesh = context.nodes.mesh();
    let route = match context.geo.route(&clues, &mesh.snapshot, &context.region) {
        Ok(route) => route,
        Err(error) => return refuse(context, Refusal::Join(error.into())),
    };
    let own_url = || {
        let scheme = if scheme == Scheme::Https { "wss" } else { "ws" };
        Some(format!("{scheme}://{}", text(header::HOST)?))
    };
    let world = context.geo.world(&mesh.snapshot, &context.region);
    let regions = std::iter::once(&route.region).chain(&route.others);
    let regions = regions.filter(|region| mesh.snapshot.has_region(region));
    let regions = regions.filter_map(|region| {
        // A demo is all regions at one address.
        let is_own = context.demo || *region == context.region;
        let url = context.geo.urls.get(region).cloned();
        let url = url.or_else(|| is_own.then(own_url).flatten())?;
        let metres = world.distance(&route.region, region).unwrap_or(0.0) * 1000.0;
        // 64 bits are text in LiveKit's JSON.
        let distance = format!("{metres:.0}");
        Some(json!({ "region": region.as_str(), "url": url, "distance": distance }))
    });
    let body = json!({ "regions": regions.collect::<Vec<_>>() }).to_string();
    let hash = digest(&SHA256, body.as_bytes());
    let tag: String = hash.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    let mut response = if text(header::IF_NONE_MATCH) == Some(tag.as_str()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
