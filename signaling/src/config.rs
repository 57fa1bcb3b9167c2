//! What can be configured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pipemesh_proto::auth::ClusterKey;
use pipemesh_proto::ids::Region;
use pipemesh_service::Secret;
use pipemesh_service::config::{Setting, Values, parse};
use pipemesh_service::tls::{Files, Tls};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::auth::{ApiKey, Keys};
use crate::geo::Geo;
use crate::nodes::Control;
use crate::rooms::RoomTimeouts;
use crate::rooms::body::MAX_LOUDEST_MICROPHONES;
use crate::source::Network;
use crate::turn::Turn;
use crate::webhook::Webhooks;

/// LiveKit's own bound of a credential's lifetime.
const MAX_TURN_LIFETIME: Duration = Duration::from_secs(86_400);

/// SDKs need a few seconds to come back; less makes every lost connection a new join.
const MIN_RESUME_GRACE: Duration = Duration::from_secs(5);

/// The key of the demo, known to everybody.
const DEMO_KEY: (&str, &str) = ("devkey", "secret");

/// What signaling can be told.
pub const SETTINGS: &[Setting] = &[
    Setting::required(
        "mesh.region",
        "Region of this process; participants are placed there if nothing else tells where they are.",
        "eu-west",
    ),
    Setting::with_default(
        "http.listen",
        "Addresses for clients: WebSocket, HTTP and the web client.",
        "127.0.0.1:7880",
    ),
    Setting::optional(
        "http.tls_certificate",
        "PEM file with the certificate for clients; read again when it changes.",
        "/etc/pipemesh/tls.crt",
    ),
    Setting::optional(
        "http.tls_key",
        "PEM file with its key.",
        "/etc/pipemesh/tls.key",
    ),
    Setting::optional(
        "auth.api_keys",
        "Keys that access tokens are signed with, as name:secret, separated by commas or lines.",
        "",
    )
    .secret(),
    Setting::switch(
        "auth.demo",
        "Accept the key devkey with the secret «secret» and give tokens to anybody. Only on \
         loopback addresses.",
    ),
    Setting::with_default(
        "http.max_connections",
        "Connections of clients at a time.",
        "20000",
    ),
    Setting::with_default(
        "http.trusted_proxies",
        "Proxies whose X-Forwarded-For is believed, as addresses or ranges, separated by commas. They \
         have to append the address they were asked from.",
        "127.0.0.0/8, ::1",
    ),
    Setting::with_default(
        "limits.joins_per_address",
        "Joins that one address may do a second, and twenty times as many at once after a pause; more \
         get 429 with Retry-After. A /64 counts as one address of IPv6. 0 is no limit.",
        "50",
    ),
    Setting::with_default(
        "session.resume_grace",
        "How long a participant stays whose connection to signaling is lost, or whose signaling process is.",
        "15s",
    ),
    Setting::with_default(
        "room.auto_create",
        "Whether joining opens a room that does not exist.",
        "true",
    ),
    Setting::with_default(
        "room.spans_nodes",
        "Whether a room has a home in each region in which somebody is, and one more where those are full, as \
         long as every node has pipes to the others (pipe.listen). If not, a room is on one node.",
        "true",
    ),
    Setting::with_default(
        "room.loudest_microphones",
        "Of a room's microphones so many are heard, the loudest at each moment, wherever they are; what is \
         shared with a screen is always heard. 0: all. A room's configuration may say otherwise by its tag \
         `pipemesh.loudest_microphones`.",
        "0",
    ),
    Setting::with_default(
        "room.departure_timeout",
        "How long a room stays open after the last participant left.",
        "20s",
    ),
    Setting::with_default(
        "room.empty_timeout",
        "How long a room stays open that nobody joined.",
        "5m",
    ),
    Setting::with_default(
        "drain.rate",
        "Participants that all signaling processes together move from a node that drains, a second. A room \
         moves as a whole, its people one after the other; after a large one there is a pause.",
        "50",
    ),
    Setting::optional(
        "webhook.urls",
        "Addresses that are told what happens in rooms, separated by commas. They may hold a secret.",
        "",
    )
    .secret(),
    Setting::optional(
        "webhook.api_key",
        "Name of the key among auth.api_keys that signs what webhooks are told; the first if not set.",
        "APIexample",
    ),
    Setting::optional(
        "turn.urls",
        "Relay servers offered to clients.",
        "turn:turn.example.org:3478?transport=udp,turns:turn.example.org:443?transport=tcp",
    ),
    Setting::optional("turn.secret", "coturn's static-auth-secret.", "").secret(),
    Setting::with_default(
        "turn.lifetime",
        "How long credentials for relay servers are good for.",
        "4h",
    ),
    Setting::optional(
        "turn.stun_urls",
        "STUN servers offered to clients; a public one if there are no relay servers either.",
        "stun:stun.example.org:3478",
    ),
    Setting::optional(
        "control.secret",
        "The cluster's secret, shared with nodes. Without it or TLS only nodes on this machine are \
         talked to.",
        "",
    )
    .secret(),
    Setting::optional(
        "control.tls_authority",
        "PEM file with the authority that signed the nodes' certificates.",
        "/etc/pipemesh/ca.crt",
    ),
    Setting::optional(
        "control.tls_certificate",
        "PEM file with the certificate shown to nodes.",
        "/etc/pipemesh/signaling.crt",
    ),
    Setting::optional(
        "control.tls_key",
        "PEM file with its key.",
        "/etc/pipemesh/signaling.key",
    ),
    Setting::optional(
        "control.tls_name",
        "Name in the nodes' certificates; their host names if not set.",
        "node.pipemesh.internal",
    ),
];

/// Everything signaling needs to know.
#[derive(Debug)]
pub struct Config {
    pub region: Region,
    pub geo: Geo,
    pub listen: Vec<SocketAddr>,
    pub tls: Option<Tls>,
    pub keys: Keys,
    pub demo: bool,
    pub max_connections: usize,
    pub trusted_proxies: Vec<Network>,
    /// A second; 0 is no limit.
    pub joins_per_address: u32,
    pub resume_grace: Duration,
    pub auto_create: bool,
    /// A room may be on several nodes.
    pub rooms_span: bool,
    /// Microphones that are heard in a room; 0: all.
    pub loudest_microphones: u32,
    pub rooms: RoomTimeouts,
    pub webhooks: Option<Webhooks>,
    /// Participants moved from a node that drains, a second.
    pub drain_rate: u32,
    pub turn: Option<Turn>,
    pub stun: Vec<String>,
    pub control: Control,
}

impl Config {
    /// Reads [`SETTINGS`] and [`GEO_SETTINGS`](crate::GEO_SETTINGS); problems stay in `values`.
    pub fn read(values: &mut Values<'_>) -> Option<Self> {
        let region = values.required("mesh.region", parse::from_str::<Region>);
        let geo = Geo::read(values);
        let listen = values.required("http.listen", parse::socket_addrs);
        let tls = tls(values);
        let demo = values.required("auth.demo", parse::boolean);
        let keys = values.optional("auth.api_keys", api_keys);
        let keys = match (keys, demo) {
            (Some(Some(keys)), _) => Some(keys),
            (Some(None), Some(true)) => demo_keys(),
            (Some(None), _) => {
                let what = "is missing; tokens cannot be checked without a key; demo mode has one of its own";
                values.problem("auth.api_keys", what);
                None
            }
            (None, _) => None,
        };
        if demo == Some(true)
            && let Some(open) = listen
                .iter()
                .flatten()
                .find(|address| !address.ip().is_loopback())
        {
            let what = format!("is on, but {open} can be reached from other machines");
            values.problem("auth.demo", what);
        }
        let max_connections = values.required("http.max_connections", parse::whole(1..=1_000_000));
        let trusted_proxies = values.required(
            "http.trusted_proxies",
            parse::list(parse::from_str::<Network>),
        );
        let joins_per_address =
            values.required("limits.joins_per_address", parse::whole(0..=1_000_000));
        let resume_grace = values.required("session.resume_grace", at_least(MIN_RESUME_GRACE));
        let auto_create = values.required("room.auto_create", parse::boolean);
        let rooms_span = values.required("room.spans_nodes", parse::boolean);
        let loudest_microphones = values.required(
            "room.loudest_microphones",
            parse::whole(0..=MAX_LOUDEST_MICROPHONES),
        );
        let departure = values.required("room.departure_timeout", parse::duration);
        let empty = values.required("room.empty_timeout", parse::duration);
        let webhooks = webhooks(values, keys.as_ref());
        let drain_rate = values.required("drain.rate", parse::whole(1..=100_000));
        let turn = turn(values);
        let stun = values.optional("turn.stun_urls", parse::list(stun_url));
        let control = control(values);
        Some(Self {
            region: region?,
            geo: geo?,
            listen: listen?,
            tls: tls?,
            keys: keys?,
            demo: demo?,
            max_connections: max_connections?,
            trusted_proxies: trusted_proxies?,
            joins_per_address: joins_per_address?,
            resume_grace: resume_grace?,
            auto_create: auto_create?,
            rooms_span: rooms_span?,
            loudest_microphones: loudest_microphones?,
            rooms: RoomTimeouts {
                departure: departure?,
                empty: empty?,
            },
            webhooks: webhooks?,
            drain_rate: drain_rate?,
            turn: turn?,
            stun: stun?.unwrap_or_default(),
            control: control?,
        })
    }

    /// What a demo on one machine needs: known keys, tokens for the asking, loopback only.
    ///
    /// # Panics
    /// When an address can be reached from other machines.
    #[must_use]
    pub fn demo(region: Region, listen: Vec<SocketAddr>) -> Self {
        assert!(
            listen.iter().all(|address| address.ip().is_loopback()),
            "a demo lets everybody in"
        );
        Self {
            region,
            geo: Geo::default(),
            listen,
            tls: None,
            keys: demo_keys().expect("the demo's key is one"),
            demo: true,
            max_connections: 20_000,
            trusted_proxies: Vec::new(),
            // Everybody is on this machine.
            joins_per_address: 0,
            resume_grace: Duration::from_secs(15),
            auto_create: true,
            rooms_span: true,
            loudest_microphones: 0,
            rooms: RoomTimeouts {
                departure: Duration::from_secs(20),
                empty: Duration::from_secs(300),
            },
            webhooks: None,
            drain_rate: 50,
            turn: None,
            stun: Vec::new(),
            control: Control::default(),
        }
    }
}

fn demo_keys() -> Option<Keys> {
    let (name, secret) = DEMO_KEY;
    let secret = Secret::new(secret, secret.len()).ok()?;
    let name = name.to_owned();
    Some(Keys::new(vec![ApiKey { name, secret }]))
}

fn api_keys(text: &str) -> Result<Keys, String> {
    let mut keys: Vec<ApiKey> = Vec::new();
    let entries = text
        .split([',', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    for (i, entry) in (1..).zip(entries) {
        let Some((name, secret)) = entry.split_once(':') else {
            return Err(format!("has an entry ({i}) that is not name:secret"));
        };
        let (name, secret) = (name.trim().to_owned(), secret.trim());
        if name.is_empty() || keys.iter().any(|key| key.name == name) {
            return Err(format!("has an entry ({i}) without a name of its own"));
        }
        let secret = Secret::new(secret, 32)
            .map_err(|weak| format!("has the key {name:?}, whose secret {weak}"))?;
        keys.push(ApiKey { name, secret });
    }
    if keys.is_empty() {
        return Err("has no key".to_owned());
    }
    Ok(Keys::new(keys))
}

fn at_least(least: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match parse::duration(text)? {
        duration if duration >= least => Ok(duration),
        _ => Err(format!("is less than {} s", least.as_secs())),
    }
}

fn turn_url(text: &str) -> Result<String, String> {
    url(text, &["turn:", "turns:"])
}

fn stun_url(text: &str) -> Result<String, String> {
    url(text, &["stun:", "stuns:"])
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    if schemes
        .iter()
        .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
    {
        Ok(text.to_owned())
    } else {
        Err(format!("does not begin with {}", schemes.join(" or ")))
    }
}

fn webhooks(values: &mut Values<'_>, keys: Option<&Keys>) -> Option<Option<Webhooks>> {
    let urls = values.optional("webhook.urls", webhook_urls);
    let name = values.optional("webhook.api_key", parse::text);
    let (urls, name) = (urls?, name?);
    // Why there is none is said already.
    let Some(key) = keys?.named(name.as_deref()) else {
        values.problem(
            "webhook.api_key",
            "is not the name of a key in auth.api_keys",
        );
        return None;
    };
    let key = key.clone();
    Some(urls.map(|urls| Webhooks { urls, key }))
}

/// Not repeated in what is said of them: they may hold a secret.
fn webhook_urls(text: &str) -> Result<Vec<reqwest::Url>, String> {
    let urls = text
        .split([',', '\n'])
        .map(str::trim)
        .filter(|url| !url.is_empty());
    let urls: Vec<reqwest::Url> = (1..)
        .zip(urls)
        .map(|(i, url)| {
            let url = reqwest::Url::parse(url).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
            url.ok_or_else(|| format!("has an entry ({i}) that is no http:// or https:// address"))
        })
        .collect::<Result<_, _>>()?;
    if urls.is_empty() {
        return Err("has no address".to_owned());
    }
    Ok(urls)
}

fn turn(values: &mut Values<'_>) -> Option<Option<Turn>> {
    let urls = values.optional("turn.urls", parse::list(turn_url));
    let secret = values.optional("turn.secret", parse::secret);
    let lifetime = values.required("turn.lifetime", |text| match parse::duration(text)? {
        lifetime if (1..=MAX_TURN_LIFETIME.as_secs()).contains(&lifetime.as_secs()) => Ok(lifetime),
        _ => Err("is not between 1s and 24h".to_owned()),
    });
    match (urls?, secret?, lifetime?) {
        (Some(urls), Some(secret), lifetime) => Some(Some(Turn {
            urls,
            secret,
            lifetime,
        })),
        (None, None, _) => Some(None),
        (Some(_), None, _) => {
            values.problem("turn.secret", "is missing, but there are relay servers");
            None
        }
        (None, Some(_), _) => {
            values.problem(
                "turn.urls",
                "is missing, but there is a secret for relay servers",
            );
            None
        }
    }
}

fn tls(values: &mut Values<'_>) -> Option<Option<Tls>> {
    let certificates = values.optional("http.tls_certificate", parse::path);
    let key = values.optional("http.tls_key", parse::path);
    match (certificates?, key?) {
        (None, None) => Some(None),
        (Some(certificates), Some(key)) => {
            let files = Files {
                certificates,
                key,
                client_authorities: None,
            };
            let tls = Tls::load(files, &["http/1.1"], SystemTime::now());
            values.check("http.tls_certificate", tls).map(Some)
        }
        (Some(_), None) => {
            values.problem("http.tls_key", "is missing, but there is a certificate");
            None
        }
        (None, Some(_)) => {
            values.problem("http.tls_certificate", "is missing, but there is a key");
            None
        }
    }
}

fn control(values: &mut Values<'_>) -> Option<Control> {
    let secret = values.optional("control.secret", parse::secret);
    let authority = values.optional("control.tls_authority", parse::path);
    let certificate = values.optional("control.tls_certificate", parse::path);
    let key = values.optional("control.tls_key", parse::path);
    let name = values.optional("control.tls_name", parse::text);
    let (secret, name) = (secret?, name?);
    let files = (authority?, certificate?, key?);
    let tls = match files {
        (None, None, None) => None,
        (Some(authority), Some(certificate), Some(key)) => {
            let authority = read(values, "control.tls_authority", &authority);
            let certificate = read(values, "control.tls_certificate", &certificate);
            let key = read(values, "control.tls_key", &key);
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(authority?))
                .identity(Identity::from_pem(certificate?, key?));
            Some(match name {
                Some(name) => tls.domain_name(name),
                None => tls,
            })
        }
        _ => {
            let what =
                "needs all three: control.tls_authority, control.tls_certificate, control.tls_key";
            values.problem("control.tls_certificate", what);
            return None;
        }
    };
    let key = secret.map(|secret| ClusterKey::new(secret.expose().as_bytes()));
    let key = match key.transpose() {
        Ok(key) => key,
        Err(short) => {
            values.problem("control.secret", short);
            return None;
        }
    };
    Some(Control { tls, key })
}

fn read(values: &mut Values<'_>, key: &'static str, path: &PathBuf) -> Option<Vec<u8>> {
    values.check(key, std::fs::read(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pairs_with_strong_secrets() {
        let long = "9b1e6f2c7d4a8053b9e1c6f2d7a48350";
        assert!(api_keys(&format!("a:{long}")).is_ok());
        assert!(api_keys(&format!("a: {long},\n b : {long}\n")).is_ok());
        let check = |text: String, expected: &str| {
            assert_eq!(api_keys(&text).err().as_deref(), Some(expected), "{text}");
        };
        check(
            "devkey:secret".to_owned(),
            "has the key \"devkey\", whose secret is 6 bytes, needs at least 32",
        );
        check(
            "key1: secret1".to_owned(),
            "has the key \"key1\", whose secret is 7 bytes, needs at least 32",
        );
        check(long.to_owned(), "has an entry (1) that is not name:secret");
        check(
            format!("a:{long},a:{long}"),
            "has an entry (2) without a name of its own",
        );
        check(" , ".to_owned(), "has no key");
        let example = api_keys("a:secretsecretsecretsecretsecretsecret").unwrap_err();
        assert!(
            example.contains("an example that everybody knows"),
            "{example}"
        );
    }

    #[test]
    fn webhooks_are_told_over_http() {
        let urls = webhook_urls("https://hooks.example/a?key=1,\n http://127.0.0.1:8080 ").unwrap();
        assert_eq!(urls.len(), 2);
        let error = webhook_urls("https://hooks.example, ftp://x:secret@y").unwrap_err();
        assert_eq!(
            error,
            "has an entry (2) that is no http:// or https:// address"
        );
        assert!(webhook_urls(" ,").is_err());
    }

    #[test]
    fn urls_have_the_right_scheme() {
        assert!(turn_url("turns:a.example:443?transport=tcp").is_ok());
        assert!(turn_url("stun:a.example").is_err());
        assert!(turn_url("turn:").is_err());
        assert!(stun_url("stun:a.example").is_ok());
    }

    #[test]
    fn the_demo_has_a_key_that_nothing_else_accepts() {
        let config = Config::demo("eu".parse().unwrap(), vec!["127.0.0.1:0".parse().unwrap()]);
        assert!(config.keys.demo_token("room", "alice", "Alice").is_some());
    }
}
