//! The node's configuration: what can be set, and the type that the rest of the node sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pipemesh_node_core::ingress::Allowance;
use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_service::config::{Program, Setting, Values, consul, parse};
use pipemesh_service::secret::Secret;
use pipemesh_topology::PipeAddress;
use pipemesh_topology::registry::consul::{self as registry, ServiceName, Settings};

use crate::addresses::Advertised;

/// The standalone binary.
pub const PROGRAM: Program = Program {
    name: "pipemesh-node",
    about: "A media node: peer connections, tracks, subscriptions.",
    version: env!("CARGO_PKG_VERSION"),
    settings: &[SETTINGS, consul::SETTINGS],
};

const SETTINGS: &[Setting] = &[
    Setting::optional(
        "mesh.node_id",
        "Name of this node, stable over restarts. The host's name if not set.",
        "fra-1",
    ),
    Setting::required("mesh.region", "Where the node runs.", "eu-central"),
    Setting::optional(
        "media.bind",
        "Addresses of this machine that media arrives at, separated by commas. If not set, every one \
         that is neither loopback nor link-local.",
        "10.0.0.5, 2001:db8::5",
    ),
    Setting::with_default(
        "media.port",
        "UDP port of the first shard; each further shard takes the next one.",
        "7882",
    ),
    Setting::with_default(
        "media.tcp_port",
        "TCP port for clients whose network lets no UDP through, one for all shards; `off` for none. 443 \
         passes most firewalls.",
        "7881",
    ),
    Setting::optional(
        "media.shards",
        "Media threads, 1 to 64. One less than there are cores if not set.",
        "3",
    ),
    Setting::optional(
        "media.shard_sessions",
        "Sessions of one shard, 1 to 100000, beyond which rooms grow over to others. If not set, only \
         the shard's load decides.",
        "500",
    ),
    Setting::optional(
        "media.advertise",
        "Addresses that clients are told, separated by commas: `external` or `external/internal`, where \
         internal is one that media is bound to. If not set, the bound addresses themselves.",
        "203.0.113.9/10.0.0.5",
    ),
    Setting::required(
        "control.listen",
        "Where signaling reaches the node. Anything but loopback needs a secret or certificates.",
        "10.0.0.5:7901",
    ),
    Setting::optional(
        "control.advertise",
        "Where other processes find control.listen, as host:port. control.listen itself if not set.",
        "node-1.internal:7901",
    ),
    Setting::optional(
        "control.secret",
        "Secret of the cluster, the same for all its processes.",
        "32 random bytes or more",
    )
    .secret(),
    Setting::optional(
        "control.certificates",
        "PEM file with the node's certificate for the control channel, the issuers behind it.",
        "/etc/pipemesh/control.pem",
    ),
    Setting::optional(
        "control.key",
        "PEM file with the private key of control.certificates.",
        "/etc/pipemesh/control.key",
    ),
    Setting::optional(
        "control.client_authorities",
        "PEM file with the authorities that sign the callers' certificates.",
        "/etc/pipemesh/authorities.pem",
    ),
    Setting::optional(
        "pipe.listen",
        "UDP address that other nodes reach this one's pipes at; `off` for none. If not set, the address and \
         port of control.listen, or none without Consul. It is guarded by what guards the control channel.",
        "10.0.0.5:7901",
    ),
    Setting::optional(
        "pipe.advertise",
        "Where other nodes find pipe.listen, as host:port, the best of several first, separated by commas. If \
         not set, control.advertise where pipe.listen is not set either, else pipe.listen itself.",
        "node-1.internal:7901",
    ),
    Setting::with_default(
        "operator.listen",
        "Where /metrics, /healthz, /readyz and /version are served.",
        "127.0.0.1:7903",
    ),
    Setting::with_default(
        "session.grace",
        "How long a session outlives the stream of its signaling process, 1s to 10m.",
        "15s",
    ),
    Setting::with_default(
        "session.limit",
        "Sessions this node takes, 1 to 100000.",
        "5000",
    ),
    Setting::with_default(
        "limits.handshakes_per_address",
        "DTLS handshakes that one address may begin a second on a shard; as often it may become a new way \
         to a client, and call at media.tcp_port. Twenty times as many at once after a pause. A /64 \
         counts as one address of IPv6. 0 is no limit.",
        "100",
    ),
    Setting::with_default(
        "limits.publish_kilobits",
        "Kilobits that one connection of a client may send a second. Beyond it video is dropped first. 0 \
         is no limit.",
        "50000",
    ),
    Setting::with_default(
        "limits.publish_packets",
        "Packets of media and reports that one connection of a client may send a second. 0 is no limit.",
        "10000",
    ),
    Setting::with_default(
        "drain.deadline",
        "How long a drain waits for sessions to end before it ends them, up to 24h.",
        "3h",
    ),
];

/// A node, configured.
#[derive(Debug, Clone)]
pub struct Config {
    pub id: NodeId,
    pub region: Region,
    pub media: Media,
    pub control: Control,
    /// None: tracks stay on this node.
    pub pipe: Option<Pipe>,
    pub session_grace: Duration,
    pub session_limit: u32,
    pub limits: Limits,
}

impl Config {
    /// One shard on the loopback interface, open to everybody on this machine, without limits. The
    /// system chooses its ports.
    pub fn loopback(id: NodeId, region: Region) -> Self {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            id,
            region,
            media: Media {
                bind: vec![localhost],
                port: 0,
                tcp_port: Some(0),
                shards: 1,
                shard_sessions: None,
                advertise: Vec::new(),
            },
            control: Control {
                listen: SocketAddr::new(localhost, 0),
                advertise: None,
                secret: None,
                tls: None,
            },
            pipe: Some(Pipe {
                listen: SocketAddr::new(localhost, 0),
                advertise: Vec::new(),
            }),
            session_grace: Duration::from_secs(15),
            session_limit: 5000,
            limits: Limits::NONE,
        }
    }
}

/// What clients may cost. 0 of anything is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A second.
    pub handshakes_per_address: u32,
    /// A second, of one connection.
    pub publish_kilobits: u32,
    /// A second, of one connection.
    pub publish_packets: u32,
}

impl Limits {
    pub const NONE: Self = Self {
        handshakes_per_address: 0,
        publish_kilobits: 0,
        publish_packets: 0,
    };

    pub(crate) fn allowance(self) -> Allowance {
        Allowance {
            bits_per_second: u64::from(self.publish_kilobits) * 1000,
            packets_per_second: self.publish_packets,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Media {
    /// Empty: every address of the machine that clients may reach.
    pub bind: Vec<IpAddr>,
    /// 0 lets the system choose, for tests.
    pub port: u16,
    /// The same; none takes no TCP.
    pub tcp_port: Option<u16>,
    pub shards: usize,
    /// Sessions that saturate a shard; none: only its load does.
    pub shard_sessions: Option<u32>,
    /// Empty: the bound addresses.
    pub advertise: Vec<Advertised>,
}

#[derive(Debug, Clone)]
pub struct Control {
    pub listen: SocketAddr,
    /// `host:port`; none means `listen`.
    pub advertise: Option<String>,
    pub secret: Option<Secret>,
    pub tls: Option<ControlTls>,
}

/// Where other nodes reach this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// UDP.
    pub listen: SocketAddr,
    /// `host:port` each; empty: `listen`.
    pub advertise: Vec<String>,
}

/// Files of the control channel's certificates. The caller's is asked for: mutual TLS.
#[derive(Debug, Clone)]
pub struct ControlTls {
    pub certificates: PathBuf,
    pub key: PathBuf,
    pub client_authorities: PathBuf,
}

/// A standalone node's process.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    pub node: Config,
    /// Where the node registers; none: signaling is told of it.
    pub consul: Option<Consul>,
    pub operator_listen: SocketAddr,
    pub drain_deadline: Duration,
}

/// The Consul that a node registers in.
#[derive(Debug, Clone)]
pub struct Consul {
    pub client: registry::Config,
    pub settings: Settings,
}

/// Shards if nobody says: a core is left for control.
pub fn default_shards() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

impl ProcessConfig {
    /// Reads everything, so that all problems are found in one run.
    pub fn read(values: &mut Values<'_>) -> Option<Self> {
        let id = values.optional("mesh.node_id", parse::from_str::<NodeId>);
        let region = values.required("mesh.region", parse::from_str::<Region>);
        let bind = values.optional("media.bind", parse::list(parse::ip_addr));
        let port = values.required("media.port", parse::port);
        let tcp_port = values.required("media.tcp_port", parse::or_off(parse::port));
        let shards = values.optional("media.shards", parse::whole(1..=MAX_SHARDS));
        let shard_sessions = values.optional("media.shard_sessions", parse::whole(1..=100_000));
        let advertise = values.optional(
            "media.advertise",
            parse::list(parse::from_str::<Advertised>),
        );
        let listen = values.required("control.listen", parse::socket_addr);
        let control_advertise = values.optional("control.advertise", parse::text);
        let secret = values.optional("control.secret", parse::secret);
        let certificates = values.optional("control.certificates", parse::path);
        let key = values.optional("control.key", parse::path);
        let authorities = values.optional("control.client_authorities", parse::path);
        let pipe_listen = values.optional("pipe.listen", parse::or_off(parse::socket_addr));
        let pipe_advertise = values.optional("pipe.advertise", parse::list(parse::text));
        let operator_listen = values.required("operator.listen", parse::socket_addr);
        let grace = values.required(
            "session.grace",
            between(Duration::from_secs(1), Duration::from_secs(600)),
        );
        let session_limit = values.required("session.limit", parse::whole(1..=100_000));
        let handshakes =
            values.required("limits.handshakes_per_address", parse::whole(0..=1_000_000));
        let kilobits = values.required("limits.publish_kilobits", parse::whole(0..=10_000_000));
        let packets = values.required("limits.publish_packets", parse::whole(0..=10_000_000));
        let drain_deadline = values.required(
            "drain.deadline",
            between(Duration::ZERO, Duration::from_secs(86_400)),
        );

        let service = values.optional(consul::SERVICE, parse::from_str::<ServiceName>);
        let client = consul::read(values, |variables| {
            registry::Config::from_variables(variables).map_err(registry::config::Problems::named)
        });

        let id = match id {
            Some(None) => host_name(values),
            given => given.flatten(),
        };
        if let Some(id) = &id {
            values.log_field("node_id", id.as_str());
        }
        if let Some(region) = &region {
            values.log_field("region", region.as_str());
        }
        if let (Some(Some(bind)), Some(Some(advertise))) = (&bind, &advertise) {
            for advertised in advertise {
                if advertised
                    .internal
                    .is_some_and(|internal| !bind.contains(&internal))
                {
                    let what =
                        format!("has {advertised}, whose internal part is not in media.bind");
                    values.problem("media.advertise", what);
                }
            }
        }
        let tls = match (certificates, key, authorities) {
            (Some(Some(certificates)), Some(Some(key)), Some(Some(client_authorities))) => {
                Some(Some(ControlTls {
                    certificates,
                    key,
                    client_authorities,
                }))
            }
            (Some(None), Some(None), Some(None)) => Some(None),
            (Some(_), Some(_), Some(_)) => {
                values.problem(
                    "control.certificates",
                    "needs control.key and control.client_authorities beside it, or none of the three",
                );
                None
            }
            _ => None,
        };
        if let (Some(listen), Some(secret), Some(tls)) = (&listen, &secret, &tls)
            && !listen.ip().is_loopback()
            && secret.is_none()
            && tls.is_none()
        {
            values.problem(
                "control.listen",
                "is reachable from other machines: that needs control.secret or control.certificates",
            );
        }
        if let (Some(Some(_)), Some(None), Some(listen)) = (&client, &control_advertise, &listen)
            && listen.ip().is_unspecified()
        {
            values.problem(
                "control.advertise",
                "is missing: Consul has to tell others one address, and control.listen is all of them",
            );
        }
        let pipe = pipe(
            values,
            pipe_listen,
            pipe_advertise,
            listen,
            control_advertise.as_ref(),
            matches!(client, Some(Some(_))),
            matches!((&secret, &tls), (Some(None), Some(None))),
        );
        let settings = Settings {
            service: service?.unwrap_or_default(),
            control_tls: tls.as_ref().is_some_and(Option::is_some),
        };
        Some(Self {
            consul: client?.map(|client| Consul { client, settings }),
            node: Config {
                id: id?,
                region: region?,
                media: Media {
                    bind: bind?.unwrap_or_default(),
                    port: port?,
                    tcp_port: tcp_port?,
                    shards: shards?.unwrap_or_else(default_shards),
                    shard_sessions: shard_sessions?,
                    advertise: advertise?.unwrap_or_default(),
                },
                control: Control {
                    listen: listen?,
                    advertise: control_advertise?,
                    secret: secret?,
                    tls: tls?,
                },
                pipe: pipe?,
                session_grace: grace?,
                session_limit: session_limit?,
                limits: Limits {
                    handshakes_per_address: handshakes?,
                    publish_kilobits: kilobits?,
                    publish_packets: packets?,
                },
            },
            operator_listen: operator_listen?,
            drain_deadline: drain_deadline?,
        })
    }
}

/// Where pipes are, if anywhere.
fn pipe(
    values: &mut Values<'_>,
    listen: Option<Option<Option<SocketAddr>>>,
    advertise: Option<Option<Vec<String>>>,
    control: Option<SocketAddr>,
    control_advertise: Option<&Option<String>>,
    is_registered: bool,
    is_open: bool,
) -> Option<Option<Pipe>> {
    let is_given = matches!(listen, Some(Some(_)));
    let listen = match listen? {
        Some(given) => given,
        None => is_registered.then_some(control?),
    };
    let mut advertise = advertise?.unwrap_or_default();
    let Some(listen) = listen else {
        return Some(None);
    };
    if is_open && !listen.ip().is_loopback() {
        values.problem(
            "pipe.listen",
            "is reachable from other machines: that needs control.secret or control.certificates",
        );
    }
    if advertise.is_empty() && !is_given {
        advertise.extend(control_advertise.cloned().flatten());
    }
    if advertise.is_empty() && listen.ip().is_unspecified() {
        values.problem(
            "pipe.advertise",
            "is missing: other nodes have to be told an address, and pipe.listen is all of them",
        );
    }
    let advertised = match advertise.as_slice() {
        [] => vec![listen.to_string()],
        given => given.to_vec(),
    };
    // Port 0 is for tests, which know what they do.
    if listen.port() > 0
        && let Err(error) = PipeAddress::new(advertised, [0; 32])
    {
        values.problem("pipe.advertise", error.to_string());
    }
    Some(Some(Pipe { listen, advertise }))
}

/// Ports are taken in a row, one each.
const MAX_SHARDS: usize = 64;

fn between(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let duration = parse::duration(text)?;
        if (least..=most).contains(&duration) {
            Ok(duration)
        } else {
            Err(format!("is not between {least:?} and {most:?}"))
        }
    }
}

fn host_name(values: &mut Values<'_>) -> Option<NodeId> {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().replace('.', "-");
    match name.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            values.problem(
                "mesh.node_id",
                format!("is not set, and the host's name {name:?} {error}"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        let page = pipemesh_service::config::markdown(&PROGRAM);
        expect_test::expect_file!["../../docs/config/node.md"].assert_eq(&page);
    }
}
