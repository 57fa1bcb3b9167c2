//! Nodes and signaling processes, two of each if nothing else is said, with a Consul and a Redis of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::http;
use crate::ports::free_ports;
use crate::process::{Build, Process};

/// For every single wait: a machine that does many things at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How long a room stays when everybody has left.
pub(crate) const DEPARTURE: Duration = Duration::from_secs(1);

/// How long people have to go on with another signaling process when theirs is gone.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Participants that are moved from a node that drains, a second.
pub(crate) const DRAIN_RATE: u32 = 10;

/// Of a process's environment.
pub(crate) type Variable = (&'static str, String);

const REGION: &str = "eu";

pub(crate) struct Mesh {
    pub(crate) consul: Consul,
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<Process>,
    pub(crate) signaling: Vec<Signaling>,
}

impl Mesh {
    /// Ready for people.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With this environment of the signaling processes, beside what they need.
    pub(crate) async fn start_with(more: &[Variable]) -> Self {
        Self::start_as(2, &[], more).await
    }

    /// So many nodes, with this environment of theirs and of the signaling processes.
    pub(crate) async fn start_as(nodes: usize, of_nodes: &[Variable], more: &[Variable]) -> Self {
        let ids = ('a'..).take(nodes).map(|letter| format!("node-{letter}"));
        let ids: Vec<String> = ids.collect();
        let nodes: Vec<_> = ids.iter().map(|id| (id.as_str(), REGION)).collect();
        Self::start_in(Build::This, &nodes, &[REGION; 2], of_nodes, more).await
    }

    /// Of programs of this build, which has to know all that their environment says.
    pub(crate) async fn start_of(build: Build) -> Self {
        let nodes = ["node-a", "node-b"].map(|id| (id, REGION));
        Self::start_in(build, &nodes, &[REGION; 2], &[], &[]).await
    }

    /// Of these nodes and their regions, and a signaling process in each of these regions.
    pub(crate) async fn start_in(
        build: Build,
        nodes: &[(&str, &str)],
        regions: &[&str],
        of_nodes: &[Variable],
        more: &[Variable],
    ) -> Self {
        let (consul, redis) = (Consul::start(), Redis::start());
        consul.until_up().await;
        let nodes = nodes
            .iter()
            .map(|(id, region)| node(build, id, region, &consul, of_nodes));
        let nodes = nodes.collect();
        let processes: Vec<Process> = regions
            .iter()
            .map(|region| signaling(build, region, &consul, redis.address, more))
            .collect();
        let mut signaling = Vec::new();
        for process in processes {
            signaling.push(Signaling::of(process).await);
        }
        let mesh = Self {
            consul,
            redis,
            nodes,
            signaling,
        };
        mesh.until_ready().await;
        mesh
    }

    /// One more signaling process, which reaches Redis at this address.
    pub(crate) async fn add_signaling(&mut self, redis: SocketAddr) {
        self.add_signaling_of(Build::This, redis).await;
    }

    pub(crate) async fn add_signaling_of(&mut self, build: Build, redis: SocketAddr) {
        let process = signaling(build, REGION, &self.consul, redis, &[]);
        self.signaling.push(Signaling::of(process).await);
        self.until_ready().await;
    }

    pub(crate) async fn until_ready(&self) {
        self.until_all("pipemesh_signal_nodes_up", self.nodes.len() as f64)
            .await;
        for signaling in &self.signaling {
            until("it is ready", async || {
                let ready = http::get(signaling.operator, "/readyz").await?;
                (ready.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Waits until a metric of every signaling process is so.
    pub(crate) async fn until_all(&self, metric: &str, value: f64) {
        for signaling in &self.signaling {
            until(&format!("{metric} is {value}"), async || {
                let is = signaling.metric(metric).await?;
                (is == value).then_some(())
            })
            .await;
        }
    }

    /// Waits until all signaling processes go by one ring, and answers it as they know it.
    pub(crate) async fn until_one_ring(&self, nodes: &[&str]) -> serde_json::Value {
        until(&format!("all go by the ring of {nodes:?}"), async || {
            let mut rings = Vec::new();
            for signaling in &self.signaling {
                rings.push(signaling.ring().await?);
            }
            let members = |ring: &serde_json::Value| -> Vec<String> {
                let members = ring["members"].as_array().unwrap().iter();
                let ids = members.map(|member| member["id"].as_str().unwrap().to_owned());
                ids.collect()
            };
            let of_all = |name: &str| rings.iter().all(|ring| ring[name] == rings[0][name]);
            let same = of_all("digest") && of_all("epoch") && of_all("members");
            let keepers = rings.iter().filter(|ring| ring["keeper"] == true).count();
            (same && keepers <= 1 && members(&rings[0]) == nodes).then(|| rings[0].clone())
        })
        .await
    }

    /// The process of a node.
    pub(crate) fn node(&mut self, id: &str) -> &mut Process {
        let letter = id.strip_prefix("node-").and_then(|it| it.chars().next());
        let place = letter.and_then(|letter| ('a'..='z').position(|it| it == letter));
        let place = place.unwrap_or_else(|| panic!("{id} is no node's id"));
        &mut self.nodes[place]
    }
}

pub(crate) struct Signaling {
    pub(crate) process: Process,
    pub(crate) clients: SocketAddr,
    pub(crate) operator: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Signaling {
    async fn of(process: Process) -> Self {
        let clients = address(&process, "listening for clients").await;
        let operator = address(&process, "listening for the operator").await;
        let admin = address(&process, "listening for the admin API").await;
        Self {
            process,
            clients,
            operator,
            admin,
        }
    }

    pub(crate) async fn ring(&self) -> Option<serde_json::Value> {
        self.tells("/ring").await
    }

    /// What the admin API answers.
    pub(crate) async fn tells(&self, target: &str) -> Option<serde_json::Value> {
        let answer = http::get(self.admin, target).await?;
        serde_json::from_str(&answer.body).ok()
    }

    /// Tells a node something through the admin API, and answers the status.
    pub(crate) async fn tell(&self, node: &str, what: &str) -> u16 {
        let target = format!("/nodes/{node}/{what}");
        let answer = http::send("POST", self.admin, &target).await;
        answer.expect("it answers").status
    }

    /// Waits until it places nobody on a node, or does again.
    pub(crate) async fn until_registered(&self, node: &str, state: &str) {
        until(&format!("{node} is {state}"), async || {
            let nodes = self.tells("/nodes").await?;
            let nodes = nodes["nodes"].as_array()?;
            let node = nodes.iter().find(|it| it["id"] == node)?;
            let is = node["registered"] == state && node["report"]["state"] == state;
            is.then_some(())
        })
        .await;
    }

    /// Of all series of a metric.
    pub(crate) async fn sum(&self, name: &str) -> Option<f64> {
        let page = http::get(self.operator, "/metrics").await?.body;
        let series = page.lines().filter(|line| line.starts_with(name));
        let values = series.map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = http::get(self.operator, "/metrics").await?.body;
        let value = page.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    }
}

pub(crate) struct Consul {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Consul {
    /// It keeps nothing: killed, it has forgotten everybody.
    fn start() -> Self {
        let [http, server, serf] = free_ports();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.json");
        let settings = serde_json::json!({
            "bind_addr": "127.0.0.1",
            "disable_update_check": true,
            "log_level": "warn",
            "performance": { "raft_multiplier": 1 },
            "ports": {
                "http": http, "server": server, "serf_lan": serf,
                "serf_wan": -1, "dns": -1, "grpc": -1,
            },
        });
        std::fs::write(&file, settings.to_string()).unwrap();
        let program = std::env::var_os("PIPEMESH_CONSUL").unwrap_or_else(|| "consul".into());
        let arguments = ["agent", "-dev", "-config-file", file.to_str().unwrap()];
        let arguments = arguments.map(str::to_owned).into();
        Self {
            process: Process::start(program, arguments, Vec::new()),
            address: (Ipv4Addr::LOCALHOST, http).into(),
            _folder: folder,
        }
    }

    pub(crate) async fn until_up(&self) {
        until("Consul has a leader", async || {
            let leader = http::get(self.address, "/v1/status/leader").await?;
            leader.body.contains(':').then_some(())
        })
        .await;
    }

    /// How many nodes it lists as living.
    pub(crate) async fn living(&self) -> Option<usize> {
        let answer = http::get(self.address, "/v1/health/service/pipemesh-node?passing").await?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&answer.body).ok()?;
        Some(listed.len())
    }

    /// Puts a node into maintenance, or ends it.
    pub(crate) async fn maintain(&self, node: &str, enable: bool) {
        let answer = http::get(self.address, "/v1/agent/services").await.unwrap();
        let services: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let mut services = services.as_object().unwrap().keys();
        let service = services.find(|id| id.contains(node)).unwrap();
        let target = format!("/v1/agent/service/maintenance/{service}?enable={enable}");
        let answer = http::send("PUT", self.address, &target).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) async fn until_living(&self, nodes: usize) {
        until(&format!("Consul lists {nodes} nodes"), async || {
            (self.living().await? == nodes).then_some(())
        })
        .await;
    }
}

pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// It keeps nothing unless it is told to save: killed, it has forgotten every room.
    fn start() -> Self {
        let [port] = free_ports();
        let folder = tempfile::tempdir().unwrap();
        let arguments = format!("--port {port} --bind 127.0.0.1 --appendonly no --dir");
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.push(folder.path().to_str().unwrap().to_owned());
        arguments.extend(["--save".to_owned(), String::new()]);
        Self {
            process: Process::start("redis-server", arguments, Vec::new()),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            _folder: folder,
        }
    }

    pub(crate) async fn until_up(&self) {
        until("Redis answers", async || {
            TcpStream::connect(self.address).await.ok()
        })
        .await;
    }

    /// Does what it is told, and waits until it is done.
    pub(crate) async fn told(&self, command: &str) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let line = format!("{command}\r\n");
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+OK\r\n", "{command}");
    }
}

fn node(build: Build, id: &str, region: &str, consul: &Consul, more: &[Variable]) -> Process {
    let [media] = free_ports();
    let mut environment = vec![
        ("CONSUL_HTTP_ADDR", consul.address.to_string()),
        ("PIPEMESH_LOG_FORMAT", "json".to_owned()),
        ("PIPEMESH_NODE_MESH_NODE_ID", id.to_owned()),
        ("PIPEMESH_NODE_MESH_REGION", region.to_owned()),
        ("PIPEMESH_NODE_MEDIA_BIND", "127.0.0.1".to_owned()),
        ("PIPEMESH_NODE_MEDIA_PORT", media.to_string()),
        ("PIPEMESH_NODE_MEDIA_TCP_PORT", "off".to_owned()),
        ("PIPEMESH_NODE_MEDIA_SHARDS", "1".to_owned()),
        ("PIPEMESH_NODE_CONTROL_LISTEN", "127.0.0.1:0".to_owned()),
        ("PIPEMESH_NODE_OPERATOR_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    environment.extend_from_slice(more);
    Process::ours(build, "pipemesh-node", environment)
}

fn signaling(
    build: Build,
    region: &str,
    consul: &Consul,
    redis: SocketAddr,
    more: &[Variable],
) -> Process {
    let redis = format!("redis://{redis}");
    let departure = format!("{}s", DEPARTURE.as_secs());
    let grace = format!("{}s", GRACE.as_secs());
    let mut environment = vec![
        ("CONSUL_HTTP_ADDR", consul.address.to_string()),
        ("PIPEMESH_LOG_FORMAT", "json".to_owned()),
        ("PIPEMESH_SIGNALING_REDIS_URL", redis),
        ("PIPEMESH_SIGNALING_MESH_REGION", region.to_owned()),
        ("PIPEMESH_SIGNALING_AUTH_DEMO", "true".to_owned()),
        (
            "PIPEMESH_SIGNALING_LIMITS_JOINS_PER_ADDRESS",
            "0".to_owned(),
        ),
        ("PIPEMESH_SIGNALING_ROOM_DEPARTURE_TIMEOUT", departure),
        ("PIPEMESH_SIGNALING_SESSION_RESUME_GRACE", grace),
        ("PIPEMESH_SIGNALING_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        (
            "PIPEMESH_SIGNALING_OPERATOR_LISTEN",
            "127.0.0.1:0".to_owned(),
        ),
        ("PIPEMESH_SIGNALING_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("PIPEMESH_SIGNALING_DRAIN_RATE", DRAIN_RATE.to_string()),
    ];
    environment.extend_from_slice(more);
    Process::ours(build, "pipemesh-signaling", environment)
}

/// Where a process says that it listens.
pub(crate) async fn address(process: &Process, message: &str) -> SocketAddr {
    let line = process.says(message).await;
    line["address"].as_str().unwrap().parse().unwrap()
}

/// Waits for what is looked for again and again.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
