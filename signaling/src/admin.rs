//! The operator's interface to the mesh, on an address of its own: what is where and why, and draining; and a
//! page that shows it.
//!
//! Owns who may ask. Whoever does shows a token; without one only this machine is answered, and no web
//! page that somebody on it looks at but our own. The page itself says nothing of the mesh: everybody gets it.

mod page;
mod routes;
mod ways;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use pipemesh_service::config::{Setting, Values, parse};
use pipemesh_service::{Endpoint, Secret};

pub(crate) use routes::routes;

pub const SETTINGS: &[Setting] = &[
    Setting::optional(
        "admin.listen",
        "Address of the admin API: nodes, rooms, ring, placements, draining, and of the page `/mesh` that shows them. \
         If not set, there is none.",
        "127.0.0.1:7890",
    ),
    Setting::optional(
        "admin.token",
        "What callers of the admin API show as `Authorization: Bearer …`, at least 32 bytes. Without it only \
         a loopback address can be listened on.",
        "",
    )
    .secret(),
];

#[derive(Debug)]
pub struct Config {
    listen: SocketAddr,
    token: Option<Secret>,
}

impl Config {
    /// Reads [`SETTINGS`]; problems stay in `values`. Inside: `None` if there is to be no API.
    pub fn read(values: &mut Values<'_>) -> Option<Option<Self>> {
        let listen = values.optional("admin.listen", parse::socket_addr);
        let token = values.optional("admin.token", parse::secret);
        match (listen?, token?) {
            (None, None) => Some(None),
            (None, Some(_)) => {
                values.problem("admin.token", "has no effect without admin.listen");
                None
            }
            (Some(listen), None) if !listen.ip().is_loopback() => {
                let what = "is missing, but admin.listen can be reached from other machines";
                values.problem("admin.token", what);
                None
            }
            (Some(listen), token) => Some(Some(Self { listen, token })),
        }
    }

    /// Without a token, for a program that lets nobody but this machine in.
    #[must_use]
    pub fn open(listen: SocketAddr) -> Self {
        Self {
            listen,
            token: None,
        }
    }
}

/// The API, bound.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(config: Config, routes: Router) -> io::Result<Endpoint> {
    let gate = Arc::new(Gate {
        token: config.token,
    });
    let nowhere = || async { refuse(StatusCode::NOT_FOUND, "there is nothing here") };
    let guarded = routes
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(gate, check));
    Endpoint::bind(config.listen, guarded.merge(page::routes())).await
}

struct Gate {
    token: Option<Secret>,
}

impl Gate {
    /// What is answered to whom it does not let in.
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        match &self.token {
            Some(token) if shows(headers, token) => None,
            Some(_) => {
                let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
                let what = "the token is missing or wrong";
                Some((scheme, refuse(StatusCode::UNAUTHORIZED, what)).into_response())
            }
            // A page in a browser on this machine reaches what listens here, under our address (then it
            // says where it is from) or under a name of its own that leads here.
            None if is_from_elsewhere(headers) || !asks_this_machine(headers) => {
                let what = "without admin.token other pages and other names are not answered";
                Some(refuse(StatusCode::FORBIDDEN, what))
            }
            None => None,
        }
    }
}

async fn check(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.refusal(request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// How long it takes says nothing of the token but its length.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let token = token.expose().as_bytes();
    shown.is_some_and(|shown| {
        aws_lc_rs::constant_time::verify_slices_are_equal(shown, token).is_ok()
    })
}

/// Whether a page asks that is not ours: ours comes from the address that is asked.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    headers.contains_key(header::ORIGIN)
        && text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host)
}

fn asks_this_machine(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(host) = host else {
        return false;
    };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn refuse(status: StatusCode, what: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": what }))).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn headers(given: &[(header::HeaderName, &str)]) -> HeaderMap {
        let given = given.iter();
        given
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn who_shows_the_token_is_answered() {
        let token = "9b1e6f2c7d4a8053b9e1c6f2d7a48350";
        let gate = Gate {
            token: Some(Secret::new(token, 32).unwrap()),
        };
        let check = |shown: &str, expected: bool| {
            let refusal = gate.refusal(&headers(&[(header::AUTHORIZATION, shown)]));
            assert_eq!(refusal.is_none(), expected, "{shown}");
        };
        check(&format!("Bearer {token}"), true);
        check(&format!("Bearer {token}0"), false);
        check(&format!("Bearer {}", &token[1..]), false);
        check("Bearer ", false);
        check(token, false);
        let refusal = gate.refusal(&headers(&[])).unwrap();
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn without_a_token_no_page_is_answered_but_ours() {
        let gate = Gate { token: None };
        let check = |given: &[(header::HeaderName, &str)], expected: bool| {
            let refusal = gate.refusal(&headers(given));
            assert_eq!(refusal.is_none(), expected, "{given:?}");
        };
        check(&[(header::HOST, "127.0.0.1:7890")], true);
        check(&[(header::HOST, "[::1]:7890")], true);
        check(&[(header::HOST, "[::1]")], true);
        check(&[(header::HOST, "localhost:7890")], true);
        check(&[(header::HOST, "localhost")], true);
        check(&[(header::HOST, "rebound.example:7890")], false);
        check(&[(header::HOST, "192.0.2.1:7890")], false);
        check(&[], false);
        let page = |origin| [(header::HOST, "127.0.0.1:7890"), (header::ORIGIN, origin)];
        check(&page("http://127.0.0.1:7890"), true);
        check(&page("http://127.0.0.1:8000"), false);
        check(&page("https://127.0.0.1:7890"), false);
        check(&page("http://localhost:7890"), false);
        check(&page("http://127.0.0.1:78900"), false);
        check(&page("null"), false);
        check(&page(""), false);
        // A name that leads here is not ours, whoever says it.
        let rebound = "rebound.example:7890";
        let own = (header::ORIGIN, "http://rebound.example:7890");
        check(&[(header::HOST, rebound), own], false);
        check(&[(header::ORIGIN, "http://")], false);
    }

    #[tokio::test]
    async fn the_page_is_for_everybody_and_what_it_asks_is_not() {
        let config = Config {
            token: Some(Secret::new("9b1e6f2c7d4a8053b9e1c6f2d7a48350", 32).unwrap()),
            ..Config::open("127.0.0.1:0".parse().unwrap())
        };
        let routes = Router::new().route("/nodes", axum::routing::get(|| async { "nodes" }));
        let endpoint = bind(config, routes).await.unwrap();
        let address = endpoint.address();
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(endpoint.serve(stop.clone()));
        let head = async |target: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).to_lowercase();
            answer.split_once("\r\n\r\n").unwrap().0.to_owned()
        };
        let page = head("/mesh").await;
        assert!(page.starts_with("http/1.0 200"), "{page}");
        // Unless the web client was not built.
        if page.contains("content-security-policy") {
            assert!(page.contains("default-src 'none'"), "{page}");
            assert!(page.contains("connect-src 'self'"), "{page}");
        }
        let root = head("/").await;
        assert!(root.contains("location: /mesh"), "{root}");
        for target in ["/nodes", "/nothing"] {
            let answer = head(target).await;
            assert!(answer.starts_with("http/1.0 401"), "{target}: {answer}");
        }
        for target in ["/assets/nothing.js", "/assets/..%2Findex.html"] {
            let answer = head(target).await;
            assert!(answer.starts_with("http/1.0 404"), "{target}: {answer}");
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
