//! What the demo mesh can be told: addresses and sizes. There are no secrets in it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipemesh_node::addresses::Advertised;
use pipemesh_service::config::{Program, Setting, Values, parse};

pub(crate) const PROGRAM: Program = Program {
    name: "pipemesh-dev",
    about: "The whole mesh in one process: signaling and nodes, open to everybody on this machine.",
    version: env!("CARGO_PKG_VERSION"),
    settings: &[SETTINGS],
};

const SETTINGS: &[Setting] = &[
    Setting::with_default(
        "http.listen",
        "Loopback address for browsers and SDKs. Port 0 lets the system choose.",
        "127.0.0.1:7880",
    ),
    Setting::with_default(
        "operator.listen",
        "Where /metrics, /healthz, /readyz and /version are served.",
        "127.0.0.1:7889",
    ),
    Setting::optional(
        "admin.listen",
        "Loopback address of the admin API and of the page `/mesh` that shows the mesh. If not set, there is \
         none.",
        "127.0.0.1:7890",
    ),
    Setting::with_default("mesh.nodes", "Number of nodes, 1 to 16.", "2"),
    Setting::with_default(
        "media.bind",
        "Loopback addresses that media arrives at, separated by commas.",
        "127.0.0.1",
    ),
    Setting::with_default(
        "media.port",
        "UDP port of the first node's first shard; all others follow. 0 lets the system choose.",
        "7900",
    ),
    Setting::optional(
        "media.tcp_port",
        "TCP port of the first node for clients that UDP does not reach; each further node takes the next. \
         The number of media.port if not set, `off` for none.",
        "7900",
    ),
    Setting::with_default("media.shards", "Media threads of each node, 1 to 64.", "1"),
    Setting::optional(
        "media.advertise",
        "Addresses clients are told instead of the bound ones: `external` or `external/internal`.",
        "127.0.0.2/127.0.0.1",
    ),
    Setting::with_default(
        "session.resume_grace",
        "How long a participant stays whose connection to signaling is lost, at least 1s.",
        "15s",
    ),
];

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) http: SocketAddr,
    pub(crate) operator: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) nodes: u16,
    pub(crate) media_bind: Vec<IpAddr>,
    pub(crate) media_port: u16,
    pub(crate) tcp_port: Option<u16>,
    pub(crate) shards: u16,
    pub(crate) advertise: Vec<Advertised>,
    pub(crate) resume_grace: Duration,
}

impl Config {
    pub(crate) fn read(values: &mut Values<'_>) -> Option<Self> {
        let http = values.required("http.listen", loopback);
        let operator = values.required("operator.listen", loopback);
        let admin = values.optional("admin.listen", loopback);
        let nodes = values.required("mesh.nodes", parse::whole(1..=16));
        let media_bind = values.required("media.bind", parse::list(parse::ip_addr));
        let media_port = values.required("media.port", any_port);
        let tcp_port = values.optional("media.tcp_port", parse::or_off(any_port));
        let shards = values.required("media.shards", parse::whole(1..=64));
        let advertise = values.optional(
            "media.advertise",
            parse::list(parse::from_str::<Advertised>),
        );
        let resume_grace = values.required("session.resume_grace", at_least_a_second);
        if let Some(bind) = &media_bind
            && let Some(open) = bind.iter().find(|ip| !ip.is_loopback())
        {
            let what =
                format!("has {open}, which other machines can reach; a demo lets everybody in");
            values.problem("media.bind", what);
        }
        if let (Some(first), Some(nodes), Some(shards)) = (media_port, nodes, shards)
            && let Err(what) = ports_fit(first, nodes, shards)
        {
            values.problem("media.port", what);
        }
        if let (Some(Some(Some(first))), Some(nodes)) = (tcp_port, nodes)
            && let Err(what) = ports_fit(first, nodes, 1)
        {
            values.problem("media.tcp_port", what);
        }
        Some(Self {
            http: http?,
            operator: operator?,
            admin: admin?,
            nodes: nodes?,
            media_bind: media_bind?,
            media_port: media_port?,
            tcp_port: tcp_port?.unwrap_or(media_port),
            shards: shards?,
            advertise: advertise?.unwrap_or_default(),
            resume_grace: resume_grace?,
        })
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = parse::socket_addr(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("can be reached from other machines; a demo lets everybody in".to_owned())
    }
}

fn any_port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "is not a port number (0-65535)".to_owned())
}

/// Each shard of each node takes the next port.
fn ports_fit(first: u16, nodes: u16, shards: u16) -> Result<(), String> {
    let last = u32::from(first) + u32::from(nodes) * u32::from(shards) - 1;
    if first == 0 || last <= u32::from(u16::MAX) {
        Ok(())
    } else {
        Err(format!(
            "is too high: {nodes} nodes of {shards} shards would end at port {last}"
        ))
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    match parse::duration(text)? {
        duration if duration >= Duration::from_secs(1) => Ok(duration),
        _ => Err("is less than 1 s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_needs_a_port() {
        assert!(ports_fit(65_535, 1, 1).is_ok());
        assert!(ports_fit(0, 16, 64).is_ok());
        assert!(ports_fit(65_472, 1, 64).is_ok());
        let problem = ports_fit(65_535, 2, 1).unwrap_err();
        assert_eq!(
            problem,
            "is too high: 2 nodes of 1 shards would end at port 65536"
        );
        assert!(ports_fit(65_000, 16, 64).is_err());
    }

    #[test]
    fn the_reference_is_up_to_date() {
        let page = pipemesh_service::config::markdown(&PROGRAM);
        expect_test::expect_file!["../../../docs/config/dev.md"].assert_eq(&page);
    }
}
