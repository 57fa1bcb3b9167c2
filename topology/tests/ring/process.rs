//! What signaling processes do about the ring, each on a runtime of its own so that one can be killed.

use std::sync::{Arc, Mutex};

use pipemesh_topology::registry::consul::{Client, ConsulRegistry, Settings};
use pipemesh_topology::ring::{Member, Members, Record};
use pipemesh_topology::ring_keeper::Keeping;
use pipemesh_topology::store::redis::{DEFAULT_PREFIX, RedisConfig, RedisStore};
use pipemesh_topology::{Registry, RingKeeper, SharedRing};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::PATIENCE;
use crate::agent::Agent;
use crate::node::{Endpoint, keep};
use crate::server::Server;

const LOCK: &str = "pipemesh/pipemesh-node/ring";

/// What is kept of every ring that a process went by.
type Order = (u64, u64, u64);

pub(crate) struct Process {
    pub(crate) ring: Arc<SharedRing>,
    pub(crate) keeping: watch::Receiver<Keeping>,
    seen: Arc<Mutex<Vec<Order>>>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
    runtime: Option<Runtime>,
}

impl Process {
    pub(crate) async fn start(agent: &Agent, server: &Server) -> Self {
        Self::start_with(agent, server, LOCK).await
    }

    /// With a lock of its own a process takes itself for the only one.
    pub(crate) async fn start_with(agent: &Agent, server: &Server, lock: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (consul, lock) = (agent.config(), lock.to_owned());
        let redis = RedisConfig::new(&server.url(), None, DEFAULT_PREFIX).unwrap();
        let stop = CancellationToken::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, sees) = (stop.clone(), Arc::clone(&seen));
        let start = runtime.spawn(async move {
            let client = Client::new(&consul).await.unwrap();
            let registry = ConsulRegistry::new(client.clone(), Settings::default());
            let registry = Arc::new(registry);
            let (followed, stop) = (Arc::clone(&registry), stopped.clone());
            tokio::spawn(async move { followed.follow(stop).await });
            let (store, connect) = RedisStore::start(redis, stopped.clone());
            tokio::spawn(connect);
            let ring = Arc::new(SharedRing::new(store.ring()));
            let mut standing = ring.standing();
            tokio::spawn(async move {
                while standing.changed().await.is_ok() {
                    let order = standing.borrow_and_update().order();
                    sees.lock().unwrap().push(order);
                }
            });
            let (followed, stop) = (Arc::clone(&ring), stopped.clone());
            tokio::spawn(async move { followed.follow(stop).await });
            let keeper = RingKeeper::new(client, lock, "test".to_owned(), registry, ring.clone());
            let keeping = keeper.keeping();
            (ring, keeping, tokio::spawn(keeper.run(stopped)))
        });
        let (ring, keeping, keeper) = start.await.unwrap();
        Self {
            ring,
            keeping,
            seen,
            stop,
            keeper,
            runtime: Some(runtime),
        }
    }

    /// Nothing is given back, nothing said.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Everything is given back.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.keeper).await.unwrap();
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let seen = self.seen.lock().unwrap();
        assert!(seen.is_sorted_by(|a, b| a < b), "it went back: {seen:?}");
    }

    /// Waits until the ring is of these nodes.
    pub(crate) async fn sees(&self, nodes: &[&str]) -> Arc<Record> {
        let expected = members(nodes);
        let mut standing = self.ring.standing();
        let seen = standing.wait_for(|record| record.members == expected);
        if let Ok(seen) = timeout(PATIENCE, seen).await {
            return Arc::clone(&seen.unwrap());
        }
        panic!("expected {nodes:?}, is {:?}", self.known().members);
    }

    pub(crate) fn known(&self) -> Arc<Record> {
        Arc::clone(&self.ring.standing().borrow())
    }

    /// Waits until this process is the keeper, and answers its term.
    pub(crate) async fn keeps(&self) -> u64 {
        let mut keeping = self.keeping.clone();
        let keeps = keeping.wait_for(|keeping| keeping.term.is_some());
        let keeps = timeout(PATIENCE, keeps).await.expect("it keeps the ring");
        keeps.unwrap().term.unwrap()
    }

    pub(crate) fn is_keeper(&self) -> bool {
        self.keeping.borrow().term.is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        } else if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ordinary nodes.
pub(crate) fn members(nodes: &[&str]) -> Members {
    Members::new(nodes.iter().map(|id| Member {
        id: id.parse().unwrap(),
        region: "eu-west".parse().unwrap(),
        weight: 1,
    }))
}

/// All of them go by the ring of these nodes, which is one and the same.
pub(crate) async fn all_see(processes: &[&Process], nodes: &[&str]) -> u64 {
    let expected = Record::new(0, 0, members(nodes)).unwrap().digest;
    for process in processes {
        assert_eq!(process.sees(nodes).await.digest, expected);
    }
    expected
}

/// Nodes, registered with an agent.
pub(crate) struct Nodes {
    registry: Arc<ConsulRegistry>,
    nodes: Vec<(String, Endpoint, AbortOnDropHandle<()>)>,
}

impl Nodes {
    pub(crate) async fn of(agent: &Agent, ids: &[&str]) -> Self {
        let mut nodes = Self {
            registry: Arc::new(agent.registry().await),
            nodes: Vec::new(),
        };
        for id in ids {
            nodes.join(id).await;
        }
        nodes
    }

    pub(crate) async fn join(&mut self, id: &str) {
        let endpoint = Endpoint::start();
        let record = endpoint.record(id);
        self.registry.register(record.clone()).await.unwrap();
        let keeper = keep(&self.registry, record);
        self.nodes.push((id.to_owned(), endpoint, keeper));
    }

    pub(crate) async fn leave(&mut self, id: &str) {
        let place = self.nodes.iter().position(|(it, ..)| it == id).unwrap();
        let (_, endpoint, keeper) = self.nodes.remove(place);
        drop(keeper);
        let boot_id = endpoint.record(id).boot_id;
        let id = id.parse().unwrap();
        self.registry.deregister(&id, boot_id).await.unwrap();
    }
}
