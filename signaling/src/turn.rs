//! Relay servers a client may use, with credentials that expire.
//!
//! coturn's REST scheme (`use-auth-secret`): the user name is the Unix time of expiry and who it is
//! for, the password an HMAC-SHA1 of it under the secret both sides know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use livekit_protocol::IceServer;
use pipemesh_service::Secret;

/// What is offered when nothing is configured: clients expect at least one server, and behind the
/// node's public address none is needed.
const PUBLIC_STUN: &[&str] = &["stun:stun.l.google.com:19302"];

#[derive(Debug, Clone)]
pub struct Turn {
    pub urls: Vec<String>,
    pub secret: Secret,
    /// How long credentials are good for; a call that lasts longer gets new ones when it resumes.
    pub lifetime: Duration,
}

/// The servers of a client.
pub(crate) fn ice_servers(
    turn: Option<&Turn>,
    stun: &[String],
    identity: &str,
    now: SystemTime,
) -> Vec<IceServer> {
    let mut servers = Vec::new();
    if let Some(turn) = turn {
        let (username, credential) = credentials(turn, identity, now);
        servers.push(IceServer {
            urls: turn.urls.clone(),
            username,
            credential,
        });
    }
    let stun: Vec<String> = match stun {
        [] if turn.is_none() => PUBLIC_STUN.iter().map(|url| (*url).to_owned()).collect(),
        stun => stun.to_vec(),
    };
    if !stun.is_empty() {
        servers.push(IceServer {
            urls: stun,
            ..Default::default()
        });
    }
    servers
}

fn credentials(turn: &Turn, identity: &str, now: SystemTime) -> (String, String) {
    let expires = (now + turn.lifetime)
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let username = format!("{}:{identity}", expires.as_secs());
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        turn.secret.expose().as_bytes(),
    );
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> Turn {
        Turn {
            urls: vec!["turn:turn.example.org:3478?transport=udp".to_owned()],
            secret: Secret::new("north-wind-and-sun-42", 16).unwrap(),
            lifetime: Duration::from_secs(600),
        }
    }

    /// The expected value was computed with OpenSSL:
    /// `printf 1700000600:alice | openssl dgst -sha1 -hmac north-wind-and-sun-42 -binary | base64`.
    #[test]
    fn credentials_are_what_coturn_computes() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let servers = ice_servers(Some(&turn()), &[], "alice", now);
        assert_eq!(servers.len(), 1);
        assert_eq!(servers[0].username, "1700000600:alice");
        assert_eq!(servers[0].credential, "5c6fGfkKslp+0xgXYjIlTO03SEM=");
    }

    #[test]
    fn there_is_always_a_server() {
        let none = ice_servers(None, &[], "alice", UNIX_EPOCH);
        assert_eq!(none[0].urls, PUBLIC_STUN);
        let own = ["stun:stun.example.org".to_owned()];
        assert_eq!(ice_servers(None, &own, "alice", UNIX_EPOCH)[0].urls, own);
        assert_eq!(
            ice_servers(Some(&turn()), &own, "alice", UNIX_EPOCH).len(),
            2
        );
    }
}
