use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pipemesh_proto::ids::NodeId;
use pipemesh_topology::Snapshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use super::*;

type Answer = fn(&'static str, &NodeRecord) -> Result<(), RegistryError>;

/// What the registry was asked for; what it answers is set.
struct Registers {
    calls: Mutex<Vec<(&'static str, NodeState)>>,
    answer: Mutex<Answer>,
}

impl Registers {
    fn note(&self, call: &'static str, node: &NodeRecord) -> Result<(), RegistryError> {
        self.calls.lock().unwrap().push((call, node.state));
        (self.answer.lock().unwrap())(call, node)
    }
}

#[async_trait]
impl Registry for Registers {
    async fn register(&self, node: NodeRecord) -> Result<(), RegistryError> {
        self.note("register", &node)
    }

    async fn update(&self, node: NodeRecord) -> Result<(), RegistryError> {
        self.note("update", &node)
    }

    async fn deregister(&self, _: &NodeId, _: u64) -> Result<(), RegistryError> {
        Ok(())
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        watch::channel(Arc::default()).1
    }
}

struct Scene {
    registry: Arc<Registers>,
    reports: watch::Sender<NodeReport>,
    alive: Arc<AtomicBool>,
    is_registered: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Ended>>,
}

impl Scene {
    fn start() -> Self {
        let registry = Arc::new(Registers {
            calls: Mutex::default(),
            answer: Mutex::new(|_, _| Ok(())),
        });
        let record = NodeRecord {
            id: "a".parse().unwrap(),
            region: "eu".parse().unwrap(),
            grpc_address: "127.0.0.1:7901".to_owned(),
            boot_id: 1,
            weight: 1,
            pipe: None,
            state: NodeState::Serving,
        };
        let (reports, heard) = watch::channel(NodeReport::default());
        let alive = Arc::new(AtomicBool::new(true));
        let stop = CancellationToken::new();
        let asked = Arc::clone(&alive);
        let (registered, is_registered) = watch::channel(false);
        let task = tokio::spawn(keep(
            Arc::clone(&registry) as Arc<dyn Registry>,
            record,
            heard,
            move || asked.load(Ordering::Relaxed),
            registered,
            stop.clone(),
        ));
        Self {
            registry,
            reports,
            alive,
            is_registered,
            stop,
            task,
        }
    }

    fn answer(&self, answer: Answer) {
        *self.registry.answer.lock().unwrap() = answer;
    }

    /// What is asked for in the next `time`.
    async fn calls(&self, time: Duration) -> Vec<(&'static str, NodeState)> {
        self.registry.calls.lock().unwrap().clear();
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::task::yield_now().await;
            advance(Duration::from_millis(50)).await;
            tokio::task::yield_now().await;
        }
        self.registry.calls.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_sent_although_nothing_differs() {
    let scene = Scene::start();
    let calls = scene.calls(HEARTBEAT * 3 + HEARTBEAT / 2).await;
    let serving = NodeState::Serving;
    let mut expected = vec![("register", serving)];
    expected.extend([("update", serving); 3]);
    assert_eq!(calls, expected);
    scene.stop.cancel();
    assert!(scene.task.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_does_not_wait_for_the_heartbeat() {
    let scene = Scene::start();
    scene.calls(HEARTBEAT / 3).await;
    let drains = NodeReport {
        state: ContractState::Draining.into(),
        ..NodeReport::default()
    };
    scene.reports.send_replace(drains);
    let calls = scene.calls(HEARTBEAT / 3).await;
    assert_eq!(calls, [("update", NodeState::Draining)]);
}

#[tokio::test(start_paused = true)]
async fn a_wedged_node_falls_silent() {
    let scene = Scene::start();
    scene.calls(HEARTBEAT / 2).await;
    scene.alive.store(false, Ordering::Relaxed);
    assert_eq!(scene.calls(HEARTBEAT * 4).await, []);
    scene.alive.store(true, Ordering::Relaxed);
    assert!(!scene.calls(HEARTBEAT * 2).await.is_empty());
    scene.alive.store(false, Ordering::Relaxed);
    scene.stop.cancel();
    assert!(scene.task.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_node_registers_again() {
    let scene = Scene::start();
    scene.calls(HEARTBEAT / 2).await;
    scene.answer(|call, node| match call {
        "update" => Err(RegistryError::NotRegistered(node.id.clone())),
        _ => Ok(()),
    });
    let calls: Vec<&str> = scene
        .calls(HEARTBEAT)
        .await
        .iter()
        .map(|call| call.0)
        .collect();
    assert_eq!(calls, ["update", "register"]);
    // Nor does a registry that forgets at once keep anybody busy.
    scene.answer(|_, node| Err(RegistryError::NotRegistered(node.id.clone())));
    assert!(scene.calls(HEARTBEAT * 2).await.len() < 8);
    assert!(!*scene.is_registered.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_registered_is_so_while_the_registry_is_away() {
    let scene = Scene::start();
    scene.answer(|_, _| Err(RegistryError::Unavailable("away".into())));
    scene.calls(HEARTBEAT).await;
    assert!(!*scene.is_registered.borrow());
    scene.answer(|_, _| Ok(()));
    scene.calls(RETRY_AT_MOST).await;
    assert!(*scene.is_registered.borrow());
    scene.answer(|_, _| Err(RegistryError::Unavailable("away".into())));
    scene.calls(HEARTBEAT * 4).await;
    assert!(*scene.is_registered.borrow());
    scene.stop.cancel();
    scene.task.await.unwrap().unwrap();
    assert!(!*scene.is_registered.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_tried_for_ever() {
    let scene = Scene::start();
    scene.answer(|_, _| Err(RegistryError::Unavailable("away".into())));
    scene.calls(Duration::from_secs(60)).await;
    let calls = scene.calls(RETRY_AT_MOST + RETRY_AFTER).await;
    assert!((1..=2).contains(&calls.len()), "{calls:?}");
    scene.answer(|_, _| Ok(()));
    assert!(!scene.calls(RETRY_AT_MOST + RETRY_AFTER).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_over_ends() {
    let scene = Scene::start();
    scene.answer(|_, node| Err(RegistryError::TakenOver(node.id.clone())));
    scene.calls(HEARTBEAT * 2).await;
    assert!(matches!(scene.task.await.unwrap(), Err(Ended::TakenOver)));
}
