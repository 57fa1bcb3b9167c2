//! Consul that denies what is not allowed: with enough rights, without any, with a wrong token.

use std::sync::Arc;

use pipemesh_topology::registry::RegistryError;
use pipemesh_topology::registry::consul::config::{Config, Secret, Token};
use pipemesh_topology::registry::consul::{Client, ConsulRegistry, Lock, Settings};
use pipemesh_topology::{NodeState, Registry};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::node::{Endpoint, Follower, eventually};

const MASTER: &str = "5d0c8b1e-5f0a-4f0f-9f6e-6e4b8f1c2d3e";

/// As docs/consul.md has it.
const POLICY: &str = r#"
service "pipemesh-node" { policy = "write" }
node_prefix "" { policy = "read" }
key_prefix "pipemesh/" { policy = "write" }
session_prefix "" { policy = "write" }
"#;

async fn agent() -> Agent {
    let acl = json!({
        "acl": {
            "enabled": true,
            "default_policy": "deny",
            "down_policy": "deny",
            "tokens": { "master": MASTER, "agent": MASTER },
        },
    });
    let agent = Agent::start_with(acl, Some(MASTER)).await;
    eventually("the token system works", async || {
        agent.call("GET", "acl/tokens", Value::Null).await.0 == 200
    })
    .await;
    agent
}

async fn token(agent: &Agent, rules: &str) -> String {
    let policy = json!({ "Name": "pipemesh", "Rules": rules });
    let (status, text) = agent.call("PUT", "acl/policy", policy).await;
    assert_eq!(status, 200, "{text}");
    let token = json!({ "Policies": [{ "Name": "pipemesh" }] });
    let (status, text) = agent.call("PUT", "acl/token", token).await;
    assert_eq!(status, 200, "{text}");
    let token: Value = serde_json::from_str(&text).unwrap();
    token["SecretID"].as_str().unwrap().to_owned()
}

async fn client(agent: &Agent, token: Token) -> Client {
    let config = Config {
        token,
        ..agent.config()
    };
    Client::new(&config).await.unwrap()
}

async fn registry(agent: &Agent, token: Token) -> Arc<ConsulRegistry> {
    let client = client(agent, token).await;
    Arc::new(ConsulRegistry::new(client, Settings::default()))
}

#[tokio::test]
async fn the_documented_policy_is_enough() {
    let documented = include_str!("../../../docs/consul.md");
    assert!(
        documented.contains(POLICY.trim()),
        "docs/consul.md has another policy"
    );
    let agent = agent().await;
    let token = token(&agent, POLICY).await;
    let registry = registry(&agent, Token::Given(Secret::new(&token))).await;
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let node = endpoint.record("a");
    registry.register(node.clone()).await.unwrap();
    follower.see(&[("a", NodeState::Serving)]).await;
    let drains = pipemesh_topology::NodeRecord {
        state: NodeState::Draining,
        ..node.clone()
    };
    registry.update(drains).await.unwrap();
    follower.see(&[("a", NodeState::Draining)]).await;
    let client = client(&agent, Token::Given(Secret::new(&token))).await;
    let lock = Lock::contend(client, "pipemesh/ring/lock", "test");
    lock.changed_from(None).await;
    lock.release().await;
    registry.deregister(&node.id, node.boot_id).await.unwrap();
}

#[tokio::test]
async fn who_may_see_nothing_keeps_what_he_knows() {
    let agent = agent().await;
    let file = agent.folder.path().join("token");
    std::fs::write(&file, format!("{MASTER}\n")).unwrap();
    let registry = registry(&agent, Token::File(file.clone())).await;
    let mut follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let node = endpoint.record("a");
    registry.register(node.clone()).await.unwrap();
    follower.see(&[("a", NodeState::Serving)]).await;
    let freshness = registry.freshness();
    assert!(!freshness.borrow().stale);

    // A token without rights in the file's place: reads are answered with nothing, writes denied.
    let blind = token(&agent, r#"key "nothing" { policy = "read" }"#).await;
    std::fs::write(&file, blind).unwrap();
    let denied = registry.update(node.clone()).await.unwrap_err();
    assert!(
        matches!(denied, RegistryError::Unavailable(_)),
        "{denied:?}"
    );
    let cause = std::error::Error::source(&denied).unwrap().to_string();
    assert!(cause.contains("denies"), "{cause}");
    eventually("the list is known to be old", async || {
        freshness.borrow().stale
    })
    .await;
    assert_eq!(freshness.borrow().errors, 0, "an empty answer is no error");
    assert!(follower.sees(&[("a", NodeState::Serving)]));

    // One that nobody knows: 403.
    std::fs::write(&file, "11111111-2222-3333-4444-555555555555").unwrap();
    eventually("the wrong token is noticed", async || {
        freshness.borrow().errors > 0
    })
    .await;
    assert!(follower.sees(&[("a", NodeState::Serving)]));

    std::fs::write(&file, MASTER).unwrap();
    registry.update(node).await.unwrap();
    eventually("the list is good again", async || !freshness.borrow().stale).await;
    assert!(follower.sees(&[("a", NodeState::Serving)]));
}

#[tokio::test]
async fn without_a_token_nothing_is_seen() {
    let agent = agent().await;
    let registry = registry(&agent, Token::Anonymous).await;
    let follower = Follower::of(&registry);
    let endpoint = Endpoint::start();
    let denied = registry.register(endpoint.record("a")).await;
    assert!(
        matches!(denied, Err(RegistryError::Unavailable(_))),
        "{denied:?}"
    );
    assert!(registry.freshness().borrow().stale);
    assert!(follower.sees(&[]));
}
