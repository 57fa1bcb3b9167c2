//! What becomes of a record: written, seen, changed, taken over, removed.

use std::sync::Arc;
use std::time::Duration;

use pipemesh_topology::registry::RegistryError;
use pipemesh_topology::{NodeRecord, NodeState, PipeAddress, Registry};
use serde_json::Value;

use crate::agent::Agent;
use crate::node::{Endpoint, Follower, eventually, keep, record};

const SERVING: NodeState = NodeState::Serving;
/// From a change to everybody's knowing.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_node_is_seen_as_it_describes_itself() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let pipe = |key| {
        let addresses = ["10.0.0.5:7902", "[2001:db8::1]:7902"].map(str::to_owned);
        PipeAddress::new(addresses, [key; 32]).ok()
    };
    let node = NodeRecord {
        weight: 3,
        boot_id: u64::MAX,
        pipe: pipe(1),
        ..endpoint.record("a")
    };
    registry.register(node.clone()).await.unwrap();
    assert!(
        follower.sees(&[]),
        "nobody is believed before the agent has asked"
    );
    follower.see(&[("a", SERVING)]).await;
    assert_eq!(follower.nodes.borrow().nodes(), std::slice::from_ref(&node));

    let service = agent.get("agent/service/pipemesh-node-a").await;
    assert_eq!(service["Service"], "pipemesh-node");
    assert_eq!(service["Port"], endpoint.address.port());
    assert_eq!(service["Meta"]["region"], "eu-west");
    assert_eq!(service["Meta"]["boot_id"], u64::MAX.to_string());
    let checks = agent.checks("a").await;
    assert_eq!(checks.len(), 3, "{checks:?}");

    let heavier = NodeRecord {
        weight: 5,
        ..node.clone()
    };
    let with_another_key = NodeRecord {
        pipe: pipe(2),
        ..heavier.clone()
    };
    for changed in [heavier, with_another_key] {
        // A wake may have been just now.
        tokio::time::sleep(Duration::from_millis(250)).await;
        registry.update(changed.clone()).await.unwrap();
        let seen = follower
            .nodes
            .wait_for(|nodes| nodes.nodes() == [changed.clone()]);
        tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn states_are_seen_within_300_ms_and_can_be_undone() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let (endpoint, other) = (Endpoint::start(), Endpoint::start());
    let node = endpoint.record("a");
    registry.register(node.clone()).await.unwrap();
    registry.register(other.record("b")).await.unwrap();
    follower.see(&[("a", SERVING), ("b", SERVING)]).await;
    for state in [
        NodeState::Draining,
        SERVING,
        NodeState::Full,
        NodeState::Draining,
        NodeState::Full,
        SERVING,
    ] {
        // A wake may have been just now.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let node = NodeRecord {
            state,
            ..node.clone()
        };
        registry.update(node).await.unwrap();
        let took = follower.see(&[("a", state), ("b", SERVING)]).await;
        assert!(took < SOON, "{state:?} was seen after {took:?}");
    }
    // A change of something else does not undo what it stands beside.
    let drains = NodeRecord {
        state: NodeState::Draining,
        ..node
    };
    registry.update(drains.clone()).await.unwrap();
    follower
        .see(&[("a", NodeState::Draining), ("b", SERVING)])
        .await;
    let drains = NodeRecord {
        weight: 9,
        ..drains
    };
    registry.update(drains.clone()).await.unwrap();
    let heavy = |nodes: &Arc<pipemesh_topology::Snapshot>| nodes.nodes().contains(&drains);
    let seen = follower.nodes.wait_for(heavy);
    tokio::time::timeout(SOON, seen).await.unwrap().unwrap();

    registry.deregister(&"a".parse().unwrap(), 1).await.unwrap();
    let took = follower.see(&[("b", SERVING)]).await;
    assert!(took < SOON, "seen after {took:?}");
    let again = registry.deregister(&"a".parse().unwrap(), 1).await;
    assert!(
        matches!(again, Err(RegistryError::NotRegistered(_))),
        "{again:?}"
    );
}

#[tokio::test]
async fn an_operator_can_drain_a_node_in_consul() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    registry.register(endpoint.record("a")).await.unwrap();
    let _keeper = keep(&registry, endpoint.record("a"));
    follower.see(&[("a", SERVING)]).await;
    let path = "agent/service/maintenance/pipemesh-node-a?enable";
    agent
        .call("PUT", &format!("{path}=true"), Value::Null)
        .await;
    follower.see(&[("a", NodeState::Draining)]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        follower.sees(&[("a", NodeState::Draining)]),
        "heartbeats do not undo it"
    );
    agent
        .call("PUT", &format!("{path}=false"), Value::Null)
        .await;
    follower.see(&[("a", SERVING)]).await;
}

#[tokio::test]
async fn a_node_that_falls_silent_is_gone() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let (mut endpoint, other) = (Endpoint::start(), Endpoint::start());
    let (node, beside) = (endpoint.record("a"), other.record("b"));
    registry.register(node.clone()).await.unwrap();
    registry.register(beside.clone()).await.unwrap();
    let _keepers = (keep(&registry, node.clone()), keep(&registry, beside));
    follower.see(&[("a", SERVING), ("b", SERVING)]).await;
    endpoint.fall_silent();
    let took = follower.see(&[("b", SERVING)]).await;
    assert!(took < Duration::from_secs(12), "{took:?}");
    // The heartbeat goes on: it is the probe that says so.
    registry.update(node).await.unwrap();
    let checks = agent.checks("a").await;
    assert!(
        checks.contains(&(":grpc:1".into(), "critical".into())),
        "{checks:?}"
    );
    assert!(
        checks.contains(&(":ttl:1".into(), "passing".into())),
        "{checks:?}"
    );
}

#[tokio::test]
async fn a_node_without_a_heartbeat_is_gone() {
    let agent = Agent::start().await;
    let registry = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let node = endpoint.record("a");
    registry.register(node.clone()).await.unwrap();
    follower.see(&[("a", SERVING)]).await;
    let took = follower.see(&[]).await;
    assert!(took < Duration::from_secs(13), "{took:?}");
    registry.update(node).await.unwrap();
    follower.see(&[("a", SERVING)]).await;
}

#[tokio::test]
async fn a_second_process_takes_a_node_over() {
    let agent = Agent::start().await;
    let old = Arc::new(agent.registry().await);
    let new = Arc::new(agent.registry().await);
    let mut follower = Follower::of(&new);
    let (endpoint, other) = (Endpoint::start(), Endpoint::start());
    let first = endpoint.record("a");
    // Smaller: the order of boot ids says nothing.
    let second = NodeRecord {
        boot_id: 0,
        ..other.record("a")
    };
    old.register(first.clone()).await.unwrap();
    follower.see(&[("a", SERVING)]).await;
    new.register(second.clone()).await.unwrap();
    let told = old.update(first.clone()).await;
    assert!(matches!(told, Err(RegistryError::TakenOver(_))), "{told:?}");
    let told = old.register(first.clone()).await;
    assert!(matches!(told, Err(RegistryError::TakenOver(_))), "{told:?}");
    let told = old.deregister(&first.id, first.boot_id).await;
    assert!(matches!(told, Err(RegistryError::TakenOver(_))), "{told:?}");
    let seen = follower
        .nodes
        .wait_for(|nodes| nodes.nodes() == [second.clone()]);
    tokio::time::timeout(Duration::from_secs(10), seen)
        .await
        .expect("the new one is seen")
        .unwrap();
    new.update(second).await.unwrap();
}

/// Two machines, each with an agent: the records stand beside each other in the catalog.
#[tokio::test]
async fn a_node_is_taken_over_through_another_agent() {
    let agent = Agent::start().await;
    let far = agent.start_client().await;
    let old = Arc::new(agent.registry().await);
    let new = Arc::new(far.registry().await);
    let mut follower = Follower::of(&old);
    let (endpoint, other) = (Endpoint::start(), Endpoint::start());
    let first = endpoint.record("a");
    let second = NodeRecord {
        boot_id: 0,
        ..other.record("a")
    };
    old.register(first.clone()).await.unwrap();
    follower.see(&[("a", SERVING)]).await;
    new.register(second.clone()).await.unwrap();
    let seen = follower
        .nodes
        .wait_for(|nodes| nodes.nodes() == [second.clone()]);
    tokio::time::timeout(Duration::from_secs(15), seen)
        .await
        .expect("the new one is seen")
        .unwrap();
    let told = old.update(first.clone()).await;
    assert!(matches!(told, Err(RegistryError::TakenOver(_))), "{told:?}");
    new.update(second).await.unwrap();
}

#[tokio::test]
async fn what_is_not_registered_is_said_to_be_so() {
    let agent = Agent::start().await;
    let registry = agent.registry().await;
    let node = record("a", "127.0.0.1:1");
    let unknown = registry.update(node.clone()).await;
    assert!(matches!(unknown, Err(RegistryError::NotRegistered(_))));
    registry.register(node.clone()).await.unwrap();
    let path = "agent/service/deregister/pipemesh-node-a";
    agent.call("PUT", path, Value::Null).await;
    let forgotten = registry.update(node.clone()).await;
    assert!(
        matches!(forgotten, Err(RegistryError::NotRegistered(_))),
        "{forgotten:?}"
    );
    registry.register(node.clone()).await.unwrap();
    registry.update(node).await.unwrap();
    eventually("both checks are back", async || {
        agent.checks("a").await.len() == 3
    })
    .await;
    let no_port = registry.register(record("b", "10.0.0.1")).await;
    assert!(matches!(no_port, Err(RegistryError::Unavailable(_))));
}
