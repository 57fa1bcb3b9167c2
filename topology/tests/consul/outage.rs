//! Consul dies, hangs, and comes back with or without its data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_topology::registry::RegistryError;
use pipemesh_topology::{NodeRecord, NodeState, Registry};
use serde_json::json;

use crate::agent::Agent;
use crate::node::{Endpoint, Follower, eventually, keep};

const SERVING: NodeState = NodeState::Serving;
const BOTH: [(&str, NodeState); 2] = [("a", NodeState::Draining), ("b", SERVING)];

#[tokio::test]
async fn an_agent_that_lost_everything_gets_it_back() {
    let mut agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let (endpoint, other) = (Endpoint::start(), Endpoint::start());
    let drains = NodeRecord {
        state: NodeState::Draining,
        ..endpoint.record("a")
    };
    registry.register(endpoint.record("a")).await.unwrap();
    registry.register(other.record("b")).await.unwrap();
    let _keepers = (keep(&registry, drains), keep(&registry, other.record("b")));
    follower.see(&BOTH).await;
    let freshness = registry.freshness();
    assert!(!freshness.borrow().stale);
    let errors = freshness.borrow().errors;

    agent.kill();
    eventually("the list is known to be old", async || {
        freshness.borrow().stale
    })
    .await;
    assert!(freshness.borrow().errors > errors);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(follower.sees(&BOTH), "nobody has left");
    follower.nodes.mark_unchanged();

    agent.start_again().await;
    let back = Instant::now();
    eventually("both are registered again", async || {
        let (a, b) = (agent.checks("a").await, agent.checks("b").await);
        a.len() == 4 && b.len() == 3
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    eventually("the list is good again", async || !freshness.borrow().stale).await;
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "{:?}",
        back.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        !follower.nodes.has_changed().unwrap(),
        "nobody saw anything of it"
    );
    assert!(follower.sees(&BOTH));
}

#[tokio::test]
async fn who_does_not_come_back_is_missed_after_a_while() {
    let mut agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let (endpoint, other) = (Endpoint::start(), Endpoint::start());
    registry.register(endpoint.record("a")).await.unwrap();
    registry.register(other.record("b")).await.unwrap();
    let _keeper = keep(&registry, other.record("b"));
    follower.see(&[("a", SERVING), ("b", SERVING)]).await;
    let freshness = registry.freshness();
    agent.kill();
    eventually("the list is known to be old", async || {
        freshness.borrow().stale
    })
    .await;
    agent.start_again().await;
    let took = follower.see(&[("b", SERVING)]).await;
    assert!(took > Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn an_agent_that_kept_its_data_needs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let data =
        json!({ "data_dir": folder.path(), "node_id": "6fa1ec8f-4f5e-4a4c-a2a8-0f8f2b0b7f42" });
    let mut agent = Agent::start_with(data, None).await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    registry.register(endpoint.record("a")).await.unwrap();
    let _keeper = keep(&registry, endpoint.record("a"));
    follower.see(&[("a", SERVING)]).await;
    let freshness = registry.freshness();
    agent.kill();
    // Longer than a heartbeat may be late: the agent comes back with a dead node in its data.
    tokio::time::sleep(Duration::from_secs(12)).await;
    follower.nodes.mark_unchanged();
    agent.start_again().await;
    eventually("the list is good again", async || !freshness.borrow().stale).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        !follower.nodes.has_changed().unwrap(),
        "nobody saw anything of it"
    );
    assert!(follower.sees(&[("a", SERVING)]));
    registry.update(endpoint.record("a")).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_freezes_the_list() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let node = endpoint.record("a");
    registry.register(node.clone()).await.unwrap();
    follower.see(&[("a", SERVING)]).await;
    let stopped = agent.stop();
    let start = Instant::now();
    let hung = registry.update(node.clone()).await;
    assert!(
        matches!(hung, Err(RegistryError::Unavailable(_))),
        "{hung:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(follower.sees(&[("a", SERVING)]));
    drop(stopped);
    eventually("the agent takes heartbeats again", async || {
        registry.update(node.clone()).await.is_ok()
    })
    .await;
    let full = NodeRecord {
        state: NodeState::Full,
        ..node
    };
    registry.update(full).await.unwrap();
    follower.see(&[("a", NodeState::Full)]).await;
}
