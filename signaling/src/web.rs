//! What browsers show, as files in the binary: the client for everybody, and the operator's page, which the
//! admin API alone serves.
//!
//! In a debug build they are read from disk at each request, so that a change is seen at once. A
//! checkout in which the client was not built still builds; it answers with how to build it. Beside most
//! files lies a compressed one, which the client's build makes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::context::Context;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "This is Pipemesh's signaling. Its web client is not part of this build; to \
    have it, run `make web` (or `npm ci && npm run build` in signaling/web) and build again.\n";

/// What a page may do: run and show what comes from here, use no plugin and be framed by nobody. What it may
/// connect to is said by [`policy`].
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The operator's page speaks with nobody but whom it comes from, and shows nobody's media.
const OPERATORS_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self'; style-src 'self'; \
    script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The operator's page. What only it needs is called after it.
const OPERATORS_PAGE: &str = "mesh.html";
const OPERATORS_ASSETS: &str = "assets/mesh-";

/// Files that a bundler names after their content never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// For clients.
pub(crate) async fn file(State(context): State<Arc<Context>>, request: Request) -> Response {
    let policy = policy(request.headers(), context.geo.urls.values());
    match request.uri().path().trim_start_matches('/') {
        "" => answer(&request, "index.html", policy),
        path if !is_for_clients(path) => nowhere(),
        path => answer(&request, path, policy),
    }
}

/// Neither the operator's page nor what is called after it, by any spelling that finds the same file.
fn is_for_clients(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    !path.contains('\\')
        && path.split('/').all(is_plain)
        && !path.starts_with(OPERATORS_PAGE)
        && !path.starts_with(OPERATORS_ASSETS)
}

/// For operators: their page, and what it is made of.
pub(crate) async fn operators_file(request: Request) -> Response {
    let policy = OPERATORS_POLICY.to_owned();
    match request.uri().path().trim_start_matches('/') {
        "mesh" => answer(&request, OPERATORS_PAGE, policy),
        path => answer(&request, path, policy),
    }
}

fn answer(request: &Request, path: &str, policy: String) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read {
        return (StatusCode::METHOD_NOT_ALLOWED, "method not allowed").into_response();
    }
    let headers = request.headers();
    match Files::get(path) {
        Some(file) => {
            let packed = accepts_gzip(headers).then(|| Files::get(&format!("{path}.gz")));
            serve(&file, packed.flatten(), path, headers, policy)
        }
        // The first is also what SDKs ask for to see whether the server is there.
        None if path == "index.html" || path == OPERATORS_PAGE => NOT_BUILT.into_response(),
        None => nowhere(),
    }
}

fn nowhere() -> Response {
    (StatusCode::NOT_FOUND, "not found").into_response()
}

/// [`POLICY`], and connections to where the page comes from and to other regions' signaling.
fn policy<'a>(headers: &HeaderMap, regions: impl Iterator<Item = &'a String>) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| is_authority(host));
    let own = host.map(|host| format!(" ws://{host} wss://{host}"));
    let mut policy = format!("{POLICY}; connect-src 'self'{}", own.unwrap_or_default());
    for url in regions {
        let Some((scheme, rest)) = url.split_once("://") else {
            continue;
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if is_authority(authority) {
            // WebSockets, and what is asked before them. The one's scheme is not the other's.
            let (web, socket) = match scheme {
                "wss" | "https" => ("https", "wss"),
                _ => ("http", "ws"),
            };
            policy.push_str(&format!(" {web}://{authority} {socket}://{authority}"));
        }
    }
    policy
}

/// Whether it says nothing else in a policy than a host and a port.
fn is_authority(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip")
            && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

fn serve(
    file: &EmbeddedFile,
    packed: Option<EmbeddedFile>,
    path: &str,
    headers: &HeaderMap,
    policy: String,
) -> Response {
    let is_packed = packed.is_some();
    let file = packed.as_ref().unwrap_or(file);
    let tag = tag(file.metadata.sha256_hash(), path, &policy);
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
    headers.insert(header::VARY, text("accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, text("gzip"));
    }
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    headers.insert(header::REFERRER_POLICY, text("no-referrer"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// A page's differs with its policy, too: browsers take no new policy with a page that has not changed.
fn tag(hash: [u8; 32], path: &str, policy: &str) -> String {
    let mut tag: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if path.ends_with(".html") {
        let mut hasher = DefaultHasher::new();
        policy.hash(&mut hasher);
        tag.push_str(&format!("-{:016x}", hasher.finish()));
    }
    format!("\"{tag}\"")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_connects_to_here_and_to_other_regions() {
        let check = |host: &str, regions: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let regions: Vec<String> = regions.iter().map(|it| (*it).to_owned()).collect();
            let policy = policy(&headers, regions.iter());
            let (_, connect) = policy.split_once("connect-src ").unwrap();
            assert_eq!(connect, expected);
        };
        check(
            "here.example:7880",
            &[],
            "'self' ws://here.example:7880 wss://here.example:7880",
        );
        check(
            "h",
            &["wss://eu.example.org/base", "ws://127.0.0.1:7880"],
            "'self' ws://h wss://h https://eu.example.org wss://eu.example.org \
             http://127.0.0.1:7880 ws://127.0.0.1:7880",
        );
        // It ends no directive and begins none.
        check("h; script-src *", &["wss://a;b"], "'self'");
    }

    #[test]
    fn clients_are_served_nothing_of_the_operators_page() {
        for path in [
            "mesh.html",
            "mesh.html.gz",
            "assets/mesh-Cx1_.js",
            "assets/mesh-Cx1_.js.gz",
            "assets\\mesh-Cx1_.js",
            "assets//mesh-Cx1_.js",
            "./mesh.html",
            "assets/../mesh.html",
        ] {
            assert!(!is_for_clients(path), "{path}");
        }
        // Each file that is part of this build is of the page that speaks of it.
        let page = |name: &str| {
            let page = Files::get(name).map(|page| page.data.into_owned());
            String::from_utf8(page.unwrap_or_default()).unwrap()
        };
        let (clients, operators) = (page("index.html"), page(OPERATORS_PAGE));
        for file in Files::iter() {
            let name = file.trim_end_matches(".gz");
            if clients.contains(name) || name == "index.html" {
                assert!(is_for_clients(&file), "{file}");
            } else if operators.contains(name) || name.contains("mesh") {
                assert!(!is_for_clients(&file), "{file}");
            }
        }
    }

    #[test]
    fn a_page_with_another_policy_is_another_answer() {
        let hash = [7; 32];
        let [one, other] = ["connect-src 'self'", "connect-src 'none'"];
        assert_eq!(tag(hash, "index.html", one), tag(hash, "index.html", one));
        assert_ne!(tag(hash, "index.html", one), tag(hash, "index.html", other));
        assert_eq!(
            tag(hash, "assets/a.js", one),
            tag(hash, "assets/a.js", other)
        );
    }

    #[test]
    fn who_cannot_unpack_gets_files_as_they_are() {
        let check = |accepted: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        };
        check("gzip, deflate, br", true);
        check("br;q=1.0, GZIP;q=0.8", true);
        check("gzip;q=0", false);
        check("identity", false);
        check("x-gzip", false);
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
