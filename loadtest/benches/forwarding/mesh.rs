//! A node and a signaling process, as in production but for the number of media threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);

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
        Self::start_measured(true, None)
    }

    /// Signaling is, which keeps rooms in this Redis, or in its memory.
    pub(crate) fn start_rooms(redis: Option<String>) -> anyhow::Result<Self> {
        Self::start_measured(false, redis)
    }

    fn start_measured(node_is: bool, redis: Option<String>) -> anyhow::Result<Self> {
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
            node: Process::start(&binary("pipemesh-node")?, &node, node_is)?,
            signaling: Process::start(&binary("pipemesh-signaling")?, &signaling, !node_is)?,
            url: format!("http://{http}"),
            operator,
        };
        let deadline = Instant::now() + PATIENCE;
        while get(signaling_operator, "/readyz").is_none_or(|answer| !answer.contains(" 200 ")) {
            if Instant::now() > deadline {
                bail!("the mesh is not ready after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(mesh)
    }

    pub(crate) fn counters(&self) -> anyhow::Result<Counters> {
        let metrics = get(self.operator, "/metrics").context("the node's metrics")?;
        let sum = |name: &str, label: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            let values = lines.filter(|line| line.contains(label));
            values
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
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

fn arguments(settings: &[(&str, String)]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|(name, value)| [format!("--{name}"), value.clone()])
        .collect()
}

fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release")).join(name);
    anyhow::ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

fn free_tcp() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
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
