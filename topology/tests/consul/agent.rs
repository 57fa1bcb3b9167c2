//! A real Consul agent on ports of its own, which a test can kill, stop and start again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipemesh_topology::registry::consul::config::{Address, Config, Secret, Tls, Token};
use pipemesh_topology::registry::consul::{Client, ConsulRegistry, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ports::free_ports;

/// A machine that does many things at once.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Agent {
    pub(crate) folder: TempDir,
    settings: Value,
    http: u16,
    child: Child,
    web: reqwest::Client,
    pub(crate) token: Option<&'static str>,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        Self::start_with(json!({}), None).await
    }

    /// `extra` goes into the agent's configuration, `token` with the test's own requests.
    pub(crate) async fn start_with(extra: Value, token: Option<&'static str>) -> Self {
        let [http, server, serf] = free_ports();
        let mut settings = json!({
            "bind_addr": "127.0.0.1",
            "disable_update_check": true,
            "log_level": "warn",
            "performance": { "raft_multiplier": 1 },
            "ports": {
                "http": http, "server": server, "serf_lan": serf,
                "serf_wan": -1, "dns": -1, "grpc": -1,
            },
        });
        merge(&mut settings, extra);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("agent.json"), settings.to_string()).unwrap();
        let child = spawn(&folder, &settings);
        let web = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut agent = Self {
            folder,
            settings,
            http,
            child,
            web,
            token,
        };
        agent.until_ready().await;
        agent
    }

    /// An agent on another machine, which has joined this one.
    pub(crate) async fn start_client(&self) -> Self {
        let join = format!("127.0.0.1:{}", self.settings["ports"]["serf_lan"]);
        let client = json!({
            "server": false,
            "node_name": "far",
            "data_dir": self.folder.path().join("far"),
            "retry_join": [join],
            "retry_interval": "1s",
        });
        Self::start_with(client, None).await
    }

    pub(crate) fn config(&self) -> Config {
        let url = format!("http://127.0.0.1:{}", self.http);
        Config {
            address: Address::Http(url.parse().unwrap()),
            token: self
                .token
                .map_or(Token::Anonymous, |token| Token::Given(Secret::new(token))),
            login: None,
            tls: Tls {
                verify: true,
                authority_file: None,
                authority_folder: None,
                identity: None,
                server_name: None,
            },
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::new(&self.config()).await.unwrap()
    }

    pub(crate) async fn registry(&self) -> ConsulRegistry {
        ConsulRegistry::new(self.client().await, Settings::default())
    }

    /// What the agent answers to the test itself.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/v1/{path}", self.http);
        let mut request = self.web.request(method.parse().unwrap(), url);
        if let Some(token) = self.token {
            request = request.header("X-Consul-Token", token);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (status, response.text().await.unwrap_or_default())
            }
            Err(error) => (0, error.to_string()),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, text) = self.call("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The statuses of a node's checks, by the last parts of their ids.
    pub(crate) async fn checks(&self, node: &str) -> Vec<(String, String)> {
        let services = self.get("health/service/pipemesh-node").await;
        let id = format!("pipemesh-node-{node}");
        let services = services.as_array().unwrap().iter();
        let service = services.filter(|service| service["Service"]["ID"] == id.as_str());
        let checks = service.flat_map(|service| service["Checks"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut checks: Vec<(String, String)> = checks
            .map(|check| {
                let name = text(&check["CheckID"]).replace(&id, "");
                (name, text(&check["Status"]))
            })
            .collect();
        checks.sort();
        checks
    }

    /// SIGKILL. Without a folder for data, all of it is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.settings);
        self.until_ready().await;
    }

    /// SIGSTOP, until the answer is dropped.
    pub(crate) fn stop(&self) -> Stopped {
        let pid = self.child.id();
        signal(pid, "STOP");
        let deadline = Instant::now() + PATIENCE;
        while !has_stopped(pid) {
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::yield_now();
        }
        Stopped(pid)
    }

    async fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, text) = self.call("GET", "status/leader", Value::Null).await;
            let own = self.call("GET", "catalog/nodes", Value::Null).await;
            let known = own.1.contains("127.0.0.1") || self.token.is_some();
            if status == 200 && text.contains(':') && known {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the agent ended with {status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "no leader: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Stopped(u32);

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Whether all threads have: until then one may answer.
fn has_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|thread| thread.unwrap().path()).all(|thread| {
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
        // The state follows the name, which may contain anything; one that has ended has neither.
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        state.is_none_or(|state| matches!(state, "T" | "Z" | "X"))
    })
}

/// Ends with the test, however that ends.
fn spawn(folder: &TempDir, settings: &Value) -> Child {
    let program = std::env::var_os("PIPEMESH_CONSUL").map_or("consul".into(), PathBuf::from);
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.path().join("log"))
        .unwrap();
    let mode: &[&str] = if settings.get("server").is_some() {
        &[]
    } else if settings.get("data_dir").is_some() {
        &["-server", "-bootstrap"]
    } else {
        &["-dev"]
    };
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .arg("agent")
        .args(mode)
        .arg("-config-file")
        .arg(folder.path().join("agent.json"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("setpriv of util-linux is there")
}

fn merge(settings: &mut Value, extra: Value) {
    match (settings, extra) {
        (Value::Object(settings), Value::Object(extra)) => {
            for (name, value) in extra {
                merge(settings.entry(name).or_insert(Value::Null), value);
            }
        }
        (settings, extra) => *settings = extra,
    }
}
