//! What arrives from strangers, fed to what reads it: for fuzzers (`make fuzz`), and for the test that
//! repeats every input worth keeping.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use livekit_protocol::SignalRequest;
use pipemesh_service::Secret;
use prost::Message;

use crate::auth::{ApiKey, Keys};
use crate::geo::Geo;
use crate::livekit::join::{Join, MAX_JOIN_REQUEST};
use crate::livekit::message::request_name;
use crate::livekit::query::Query;
use crate::livekit::track;
use crate::source::{Network, client_address};

/// A reader, and the folder of its inputs below `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("join", join),
    ("message", message),
    ("session", session),
    ("source", source),
    ("token", token),
];

const SECRET: &str = "9b1e6f2c7d4a8053b9e1c6f2d7a48350";

/// A message of a client's WebSocket, binary or text.
pub fn message(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else {
        return;
    };
    let request = match how & 1 {
        0 => SignalRequest::decode(bytes).ok(),
        _ => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| serde_json::from_str(text).ok()),
    };
    let Some(request): Option<SignalRequest> = request else {
        return;
    };
    if let Some(message) = &request.message {
        assert!(!request_name(message).is_empty());
    }
    let again = SignalRequest::decode(request.encode_to_vec().as_slice());
    assert!(again.is_ok(), "what was understood can be said again");
}

/// A client's messages, understood: what a session makes of them.
pub fn session(input: &[u8]) {
    crate::session::fuzz::run(input);
}

/// The query of a join: as it is, or a join request behind its encoding. A line of its own says what the
/// client's browser claims to be.
pub fn join(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else {
        return;
    };
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n' && how & 4 != 0);
    let bytes = lines.next().unwrap_or_default();
    let user_agent = String::from_utf8_lossy(lines.next().unwrap_or(b"Mozilla/5.0"));
    let query = match how & 1 {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        _ => format!("join_request={}", URL_SAFE_NO_PAD.encode(bytes)),
    };
    let query = Query::parse(&query);
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let clues = Geo::default().clues(None, &query, &HeaderMap::new(), peer, &[]);
    assert!(clues.allowed.is_none() && clues.measured.len() <= 16);
    if let Ok(join) = Join::parse(&query, how & 2 != 0, &user_agent) {
        assert!(join.metadata.len() <= MAX_JOIN_REQUEST);
        let client = &join.client;
        assert!(!client.supports_ok_response() || client.supports_request_response());
        let _ = (client.receives_red(), client.supports_reconnect_response());
        for track in &join.add_tracks {
            let id = "TR_1".parse().expect("it is an id");
            if let Ok(announced) = track::announce(track, &id, client) {
                assert_eq!(announced.ask.track_id, announced.info.sid);
            }
        }
    }
}

/// A token as it is, in a header or a query; or claims that somebody with the secret signed.
pub fn token(input: &[u8]) {
    let Some((&how, bytes)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let secret = Secret::new(SECRET, 32).expect("it is long enough");
    let keys = Keys::new(vec![ApiKey {
        name: "key".to_owned(),
        secret,
    }]);
    let signed = || {
        let claims: serde_json::Value = serde_json::from_str(&text).ok()?;
        // Makes the library install what signs.
        let _ = livekit_token::Claims::from_unverified("");
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).ok()
    };
    let grants = match how % 3 {
        0 => keys.grants(Some(&text), None),
        1 => keys.grants(None, Some(&text)),
        _ => match signed() {
            Some(token) => keys.grants(None, Some(&token)),
            None => return,
        },
    };
    match grants {
        Ok(grants) => assert!(
            how % 3 == 2,
            "nobody else has the secret: {:?}",
            grants.room
        ),
        // What is said of a token repeats nothing of it.
        Err(error) => assert!(text.len() < 40 || !error.to_string().contains(&*text)),
    }
}

/// What proxies say of where a request comes from.
pub fn source(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    let proxy: Network = "10.0.0.0/8".parse().expect("it is a range");
    let stranger = SocketAddr::from(([192, 0, 2, 1], 1));
    let believed = client_address(stranger, &headers, &[proxy]);
    assert_eq!(believed, IpAddr::from([192, 0, 2, 1]));
    let _ = client_address(([10, 0, 0, 1], 1).into(), &headers, &[proxy]);
}

/// Takes an input apart into pieces, each preceded by its length in two bytes.
pub(crate) fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
