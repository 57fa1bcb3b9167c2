//! Two nodes in two regions that know each other through Consul, and a signaling process: rooms span them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use serde_json::json;

use crate::mesh::{arguments, binary, free_tcp, get, is_ready, metric, until};
use crate::process::Process;

/// The regions of the two nodes.
pub(crate) const HERE: &str = "here";
pub(crate) const THERE: &str = "there";

pub(crate) struct Span {
    /// Ends first: it has nothing to say about nodes that are gone.
    _signaling: Process,
    pub(crate) here: Node,
    pub(crate) there: Node,
    _consul: Consul,
    pub(crate) url: String,
}

pub(crate) struct Node {
    pub(crate) process: Process,
    operator: SocketAddr,
}

struct Consul {
    _process: Process,
    address: SocketAddr,
    settings: PathBuf,
}

impl Span {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let consul = Consul::start()?;
        let here = Node::start("node-a", HERE, &consul)?;
        let there = Node::start("node-b", THERE, &consul)?;
        let (http, operator) = (free_tcp()?, free_tcp()?);
        let mut signaling = arguments(&[
            ("mesh-region", HERE.to_owned()),
            ("consul-address", consul.address.to_string()),
            ("http-listen", http.to_string()),
            ("operator-listen", operator.to_string()),
            // Everybody is on this machine.
            ("limits-joins-per-address", "0".to_owned()),
            ("room-spans-nodes", "true".to_owned()),
        ]);
        signaling.push("--auth-demo".to_owned());
        let signaling = Process::start(&binary("pipemesh-signaling")?, &signaling, false)?;
        until("signaling is ready", || is_ready(operator))?;
        until("signaling knows both nodes", || {
            metric(operator, "pipemesh_signal_nodes_up", "").is_ok_and(|nodes| nodes == 2.0)
        })?;
        Ok(Self {
            _signaling: signaling,
            here,
            there,
            _consul: consul,
            url: format!("http://{http}"),
        })
    }
}

impl Node {
    fn start(id: &str, region: &str, consul: &Consul) -> anyhow::Result<Self> {
        let (control, operator) = (free_tcp()?, free_tcp()?);
        let media = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let node = arguments(&[
            ("mesh-region", region.to_owned()),
            ("mesh-node-id", id.to_owned()),
            ("media-bind", "127.0.0.1".to_owned()),
            ("media-port", media.to_string()),
            ("media-tcp-port", "off".to_owned()),
            ("media-shards", "1".to_owned()),
            ("control-listen", control.to_string()),
            ("operator-listen", operator.to_string()),
            ("consul-address", consul.address.to_string()),
        ]);
        let process = Process::start(&binary("pipemesh-node")?, &node, true)?;
        Ok(Self { process, operator })
    }

    /// Packets that have gone over its pipes, `out` or `in`. Looking costs the node something.
    pub(crate) fn piped(&self, direction: &str) -> anyhow::Result<f64> {
        let label = format!("direction=\"{direction}\"");
        metric(self.operator, "pipemesh_pipe_packets_total", &label)
    }
}

impl Consul {
    fn start() -> anyhow::Result<Self> {
        let (http, server, serf) = (free_tcp()?, free_tcp()?, free_tcp()?);
        let settings = json!({
            "bind_addr": "127.0.0.1",
            "disable_update_check": true,
            "log_level": "err",
            "performance": { "raft_multiplier": 1 },
            "ports": {
                "http": http.port(), "server": server.port(), "serf_lan": serf.port(),
                "serf_wan": -1, "dns": -1, "grpc": -1,
            },
        });
        let file = std::env::temp_dir().join(format!("pipemesh-bench-{}.json", http.port()));
        std::fs::write(&file, settings.to_string())?;
        let arguments = ["agent", "-dev", "-config-file", &file.display().to_string()];
        let arguments = arguments.map(str::to_owned);
        let process = Process::start(&"consul".into(), &arguments, false)?;
        until("Consul has a leader", || {
            let answer = get(http, "/v1/status/leader").unwrap_or_default();
            let body = answer.split("\r\n\r\n").nth(1);
            body.is_some_and(|leader| leader.contains(':'))
        })?;
        Ok(Self {
            _process: process,
            address: http,
            settings: file,
        })
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.settings);
    }
}
