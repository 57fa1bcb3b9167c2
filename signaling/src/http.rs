//! Which path leads where, and what every answer carries.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::api::demo::{self, Scheme};
use crate::api::paths;
use crate::api::regions;
use crate::api::rtc::{self, Path};
use crate::api::twirp;
use crate::context::Context;
use crate::server::Peer;
use crate::web;

/// The whole interface to clients.
pub(crate) fn router(context: Arc<Context>, scheme: Scheme) -> Router {
    let token =
        async move |State(context): State<Arc<Context>>, headers: HeaderMap, query: RawQuery| {
            demo::token(&context, scheme, &headers, query.0.as_deref())
        };
    let regions = async move |State(context): State<Arc<Context>>,
                              headers: HeaderMap,
                              query: RawQuery,
                              peer: Extension<Peer>| {
        regions::list(scheme, &context, &headers, query.0.as_deref(), peer.0)
    };
    Router::new()
        .route(
            "/rtc",
            get(|a, b, c, d, e, f| rtc::upgrade(Path::V0, a, b, c, d, e, f)),
        )
        .route(
            "/rtc/validate",
            get(|a, b, c, d| rtc::validate(Path::V0, a, b, c, d)),
        )
        .route(
            "/rtc/v1",
            get(|a, b, c, d, e, f| rtc::upgrade(Path::V1, a, b, c, d, e, f)),
        )
        .route(
            "/rtc/v1/validate",
            get(|a, b, c, d| rtc::validate(Path::V1, a, b, c, d)),
        )
        .route(
            "/twirp/{service}/{method}",
            post(twirp::call).layer(DefaultBodyLimit::max(twirp::MAX_BODY)),
        )
        .route("/rooms/{room}/paths", get(paths::list))
        .route("/demo/token", get(token))
        .route("/rtt", get(regions::probe))
        .route("/settings/regions", get(regions))
        .fallback(web::file)
        .layer(middleware::from_fn(cross_origin))
        .with_state(context)
}

/// Pages of any origin may ask: the token is what protects, and it is not a cookie. On errors, too,
/// or a browser tells an SDK «failed to fetch» instead of what is wrong, and it does not fall back
/// to another path.
async fn cross_origin(request: Request, next: Next) -> Response {
    let is_token = request.uri().path() == "/demo/token";
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    // A token for the asking is for this page only.
    if is_token {
        return response;
    }
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, *"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, POST"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("86400"),
        );
    }
    response
}
