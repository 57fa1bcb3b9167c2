//! A node as Consul sees it: a control endpoint that answers health checks, and a record.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pipemesh_topology::registry::consul::ConsulRegistry;
use pipemesh_topology::registry::{HEARTBEAT, RegistryError};
use pipemesh_topology::{NodeRecord, NodeState, Registry, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Answers `grpc.health.v1` until it is told to fall silent or is dropped.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    orders: Option<mpsc::Sender<()>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (orders, silence) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let serve = async move {
            // Without a service's name, health is that of the whole server.
            let (_, health) = tonic_health::server::health_reporter();
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder()
                .add_service(health)
                .serve_with_incoming(incoming);
            // Blocks the only thread that serves: connections stand, and nobody answers.
            let wedge = async move {
                ended.await.unwrap();
                while silence.recv().is_ok() {}
            };
            tokio::select! {
                served = server => served.unwrap(),
                () = wedge => {}
            }
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(serve);
        });
        Self {
            address,
            orders: Some(orders),
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub(crate) fn fall_silent(&mut self) {
        self.end.take().unwrap().send(()).unwrap();
    }

    pub(crate) fn record(&self, id: &str) -> NodeRecord {
        record(id, &self.address.to_string())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(end) = self.end.take() {
            end.send(()).unwrap();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn record(id: &str, address: &str) -> NodeRecord {
    NodeRecord {
        id: id.parse().unwrap(),
        region: "eu-west".parse().unwrap(),
        grpc_address: address.to_owned(),
        boot_id: 1,
        weight: 1,
        pipe: None,
        state: NodeState::Serving,
    }
}

/// Follows the registry while it is held.
pub(crate) struct Follower {
    pub(crate) nodes: watch::Receiver<Arc<Snapshot>>,
    _task: AbortOnDropHandle<()>,
}

impl Follower {
    pub(crate) fn of(registry: &Arc<ConsulRegistry>) -> Self {
        let nodes = registry.watch();
        let registry = Arc::clone(registry);
        let follow = async move { registry.follow(CancellationToken::new()).await };
        Self {
            nodes,
            _task: AbortOnDropHandle::new(tokio::spawn(follow)),
        }
    }

    /// Waits for nodes in these states; answers how long it took.
    pub(crate) async fn see(&mut self, expected: &[(&str, NodeState)]) -> Duration {
        let start = Instant::now();
        let seen = self
            .nodes
            .wait_for(|snapshot| states(snapshot) == owned(expected));
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            panic!("expected {expected:?}, is {:?}", self.nodes.borrow());
        }
        start.elapsed()
    }

    pub(crate) fn sees(&self, expected: &[(&str, NodeState)]) -> bool {
        states(&self.nodes.borrow()) == owned(expected)
    }
}

fn states(snapshot: &Snapshot) -> Vec<(String, NodeState)> {
    let nodes = snapshot.nodes().iter();
    nodes
        .map(|node| (node.id.to_string(), node.state))
        .collect()
}

fn owned(expected: &[(&str, NodeState)]) -> Vec<(String, NodeState)> {
    let expected = expected.iter();
    expected
        .map(|(id, state)| ((*id).to_owned(), *state))
        .collect()
}

/// Keeps a record as a node does: heartbeats, and registers again when it is told to.
pub(crate) fn keep(registry: &Arc<ConsulRegistry>, record: NodeRecord) -> AbortOnDropHandle<()> {
    let registry = Arc::clone(registry);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut registered = true;
        loop {
            let outcome = if registered {
                registry.update(record.clone()).await
            } else {
                registry.register(record.clone()).await
            };
            let pause = match outcome {
                Ok(()) => {
                    registered = true;
                    HEARTBEAT
                }
                Err(RegistryError::NotRegistered(_)) => {
                    registered = false;
                    Duration::ZERO
                }
                Err(RegistryError::TakenOver(_)) => return,
                Err(RegistryError::Unavailable(_)) => Duration::from_millis(500),
            };
            tokio::time::sleep(pause).await;
        }
    }))
}

/// Waits for what no channel tells.
pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
