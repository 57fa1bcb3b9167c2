//! A node and a signaling process, as in production but for the number of media threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::Process;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measured {
    Node,
    Signaling,
}

pub(crate) struct Mesh {
    /// Ends first: it has nothing to say about a node that is gone.
    pub(crate) signaling: Process,
    pub(crate) node: Process,
    pub(crate) url: String,
    operator: SocketAddr,
}

impl Mesh {
    /// The node is what is measured.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_measured(Some(Measured::Node), None)
    }

    /// Signaling is, which keeps rooms in this Redis, or in its memory.
    pub(crate) fn start_rooms(redis: Option<String>) -> anyhow::Result<Self> {
        Self::start_measured(Some(Measured::Signaling), redis)
    }

    /// Neither is: it is there for somebody else.
    pub(crate) fn start_beside() -> anyhow::Result<Self> {
        Self::start_measured(None, None)
    }

    fn start_measured(what: Option<Measured>, redis: Option<String>) -> anyhow::Result<Self> {
        let (control, operator) = (free_tcp()?, free_tcp()?);
        let (http, signaling_operator) = (free_tcp()?, free_tcp()?);
        let media = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let node = arguments(&[
            ("mesh-region", "bench".to_owned()),
            ("mesh-node-id", "node-a".to_owned()),
            ("media-bind", "127.0.0.1".to_owned()),
            ("media-port", media.to_string()),
            ("media-shards", "1".to_owned()),
            ("control-listen", control.to_string()),
            ("operator-listen", operator.to_string()),
        ]);
        let mut signaling = arguments(&[
            ("mesh-region", "bench".to_owned()),
            ("mesh-nodes", format!("node-a/bench/{control}")),
            ("http-listen", http.to_string()),
            ("operator-listen", signaling_operator.to_string()),
            // Everybody is on this machine.
            ("limits-joins-per-address", "0".to_owned()),
        ]);
        if let Some(url) = redis {
            // A secret, which no argument may hold.
            let file = binary("pipemesh-signaling")?.with_file_name("bench-redis-url");
            std::fs::write(&file, url)?;
            let file = file.display().to_string();
            signaling.extend(arguments(&[("redis-url-file", file)]));
        }
        signaling.push("--auth-demo".to_owned());
        let mesh = Self {
            node: Process::start(
                &binary("pipemesh-node")?,
                &node,
                what == Some(Measured::Node),
            )?,
            signaling: Process::start(
                &binary("pipemesh-signaling")?,
                &signaling,
                what == Some(Measured::Signaling),
            )?,
            url: format!("http://{http}"),
            operator,
        };
        until("the mesh is ready", || is_ready(signaling_operator))?;
        Ok(mesh)
    }

    pub(crate) fn counters(&self) -> anyhow::Result<Counters> {
        let metrics = get(self.operator, "/metrics").context("the node's metrics")?;
        let sum = |name, label| sum(&metrics, name, label);
        Ok(Counters {
            forwarded: sum("pipemesh_rtp_packets_sent_total", "forwarded"),
            messages: sum("pipemesh_udp_send_calls_total", "message"),
            allocations: sum("pipemesh_shard_allocations_total", ""),
        })
    }
}

/// What the node says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) forwarded: f64,
    pub(crate) messages: f64,
    pub(crate) allocations: f64,
}

pub(crate) fn arguments(settings: &[(&str, String)]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|(name, value)| [format!("--{name}"), value.clone()])
        .collect()
}

/// One of our programs, of `target/release` or where `PIPEMESH_BENCH_PROGRAMS` says: two builds of a node
/// are compared by runs in turns.
pub(crate) fn binary(name: &str) -> anyhow::Result<PathBuf> {
    const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release");
    let folder = std::env::var_os("PIPEMESH_BENCH_PROGRAMS").unwrap_or_else(|| OURS.into());
    let path = PathBuf::from(folder).join(name);
    anyhow::ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

pub(crate) fn free_tcp() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Whether a process says so.
pub(crate) fn is_ready(operator: SocketAddr) -> bool {
    get(operator, "/readyz").is_some_and(|answer| answer.contains(" 200 "))
}

/// Waits for what is looked for again and again.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            bail!("in vain, for {PATIENCE:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The sum of a metric's series that have this label.
pub(crate) fn metric(operator: SocketAddr, name: &str, label: &str) -> anyhow::Result<f64> {
    let metrics = get(operator, "/metrics").context("metrics")?;
    Ok(sum(&metrics, name, label))
}

fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let values = lines.filter(|line| line.contains(label));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
