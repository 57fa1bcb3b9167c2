//! The browser client, as files in the binary.
//!
//! In a debug build they are read from disk at each request, so that a change is seen at once. A
//! checkout in which the client was not built still builds; it answers with how to build it.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "This is Pipemesh's signaling. Its web client is not part of this build; to \
    have it, run `make web` (or `npm ci && npm run build` in signaling/web) and build again.\n";

/// What a page may do: run and show what comes from here, connect to anywhere (the server may be
/// another one), use no plugin and be framed by nobody.
const POLICY: &str = "default-src 'self'; connect-src * ws: wss:; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; style-src 'self'; script-src 'self'; worker-src 'self' blob:; \
    object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Files that a bundler names after their content never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

pub(crate) async fn file(request: Request) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read {
        return (StatusCode::METHOD_NOT_ALLOWED, "method not allowed").into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    match (Files::get(path), path) {
        (Some(file), path) => serve(&file, path, request.headers()),
        // Also what SDKs ask for to see whether the server is there.
        (None, "index.html") => NOT_BUILT.into_response(),
        (None, _) => (StatusCode::NOT_FOUND, "not found").into_response(),
    }
}

fn serve(file: &EmbeddedFile, path: &str, headers: &HeaderMap) -> Response {
    let tag: String = file
        .metadata
        .sha256_hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{}\"", &tag[..32]);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == tag.as_str());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.clone().into_owned().into_response()
    };
    let cache = if path.starts_with("assets/") {
        FOR_EVER
    } else {
        ASK_AGAIN
    };
    let headers = response.headers_mut();
    let text = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, text(content_type(path)));
    headers.insert(header::CACHE_CONTROL, text(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, text(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    headers.insert(header::REFERRER_POLICY, text("no-referrer"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
