//! A redis-server of the test's own, on a free port, with a folder of its own; ends with it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipemesh_topology::store::redis::{DEFAULT_PREFIX, RedisConfig, RedisStore};
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;
use crate::ports::free_ports;

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--port {port}"]).await
    }

    /// `{port}` and `{folder}` stand for what is chosen.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    pub(crate) async fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        // Somebody else may take the port between the look and the start: another one then.
        let mut server = Self {
            port: 0,
            folder,
            arguments: Vec::new(),
            child: None,
        };
        for _ in 0..10 {
            [server.port] = free_ports();
            let (port, path) = (server.port.to_string(), server.folder.path());
            let fill = |argument: &str| {
                let argument = argument.replace("{port}", &port);
                argument.replace("{folder}", path.to_str().unwrap())
            };
            server.arguments = arguments
                .iter()
                .flat_map(|argument| argument.split(' '))
                .map(fill)
                .collect();
            server.spawn();
            if server.answers().await {
                return server;
            }
        }
        let log = std::fs::read_to_string(server.log()).unwrap_or_default();
        panic!("redis-server does not start:\n{log}");
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.log")
    }

    fn spawn(&mut self) {
        let child = Command::new("redis-server")
            .args(&self.arguments)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .arg("--logfile")
            .arg(self.log())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("redis-server: {error}; `deploy/scripts/install test` installs it")
        });
        self.child = Some(child);
    }

    /// Whether it takes connections; not if it has ended instead.
    async fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            let address = (Ipv4Addr::LOCALHOST, self.port);
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not take connections");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A store that has connected.
    pub(crate) async fn store(&self) -> RedisStore {
        let store = store(&self.url(), None);
        is_up(&store, true).await;
        store
    }

    /// A connection beside all stores.
    pub(crate) async fn operator(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Ends it without a chance to do anything more.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again where it was; it has forgotten everything.
    pub(crate) async fn start_again(&mut self) {
        self.spawn();
        assert!(self.answers().await, "it starts on the same port");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn store(url: &str, authority: Option<&Path>) -> RedisStore {
    let config = RedisConfig::new(url, authority, DEFAULT_PREFIX).unwrap();
    let (store, keep) = RedisStore::start(config, CancellationToken::new());
    tokio::spawn(keep);
    store
}

/// Waits until the store has noticed.
pub(crate) async fn is_up(store: &RedisStore, expected: bool) {
    let mut up = store.up();
    let noticed = timeout(PATIENCE, up.wait_for(|up| *up == expected)).await;
    noticed.expect("noticed in time").unwrap();
}
