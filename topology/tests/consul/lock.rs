//! The lock: one holder at a time, whoever dies.

use std::time::{Duration, Instant};

use pipemesh_topology::registry::consul::{Client, Lock};
use serde_json::Value;
use tokio::time::timeout;

use crate::agent::Agent;

const KEY: &str = "pipemesh/ring/lock";
/// Consul lets a session live up to twice its 10 s, and the lock stays closed for 1 s more.
const TAKEN_AFTER_DEATH: Duration = Duration::from_secs(26);

async fn held(lock: &Lock, within: Duration) -> u64 {
    timeout(within, lock.changed_from(None))
        .await
        .expect("the lock can be had");
    lock.fence().expect("it has just been taken")
}

#[tokio::test]
async fn one_of_two_holds_and_the_other_follows() {
    let agent = Agent::start().await;
    let first = Lock::contend(agent.client().await, KEY, "first");
    let fence = held(&first, Duration::from_secs(5)).await;
    let second = Lock::contend(agent.client().await, KEY, "second");
    let waited = timeout(Duration::from_secs(2), second.changed_from(None)).await;
    assert!(waited.is_err() && second.fence().is_none());
    let key = agent.get(&format!("kv/{KEY}")).await;
    assert_eq!(key[0]["LockIndex"], fence);

    first.release().await;
    let start = Instant::now();
    let next = held(&second, Duration::from_secs(5)).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(next > fence, "fences grow: {fence}, {next}");
    drop(second);
    let third = Lock::contend(agent.client().await, KEY, "third");
    assert!(held(&third, Duration::from_secs(5)).await > next);
}

/// Never both: sampled while the lock goes from hand to hand.
#[tokio::test]
async fn there_are_never_two() {
    let agent = Agent::start().await;
    let mut locks = Vec::new();
    for who in ["a", "b", "c"] {
        locks.push(Some(Lock::contend(agent.client().await, KEY, who)));
    }
    let mut fences = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(25);
    while locks.iter().any(Option::is_some) {
        assert!(Instant::now() < deadline, "{fences:?}");
        let holders: Vec<usize> = (0..locks.len())
            .filter(|i| {
                locks[*i]
                    .as_ref()
                    .is_some_and(|lock| lock.fence().is_some())
            })
            .collect();
        assert!(holders.len() <= 1, "{holders:?}");
        if let [holder] = holders[..] {
            let lock = locks[holder].take().unwrap();
            fences.push(lock.fence());
            lock.release().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fences.len(), 3);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

/// A process of its own that dies: nothing is released, nothing renewed.
#[tokio::test]
async fn a_dead_holder_is_followed() {
    let agent = Agent::start().await;
    let client = agent.client().await;
    let (fence, death) = tokio::task::spawn_blocking(|| hold_and_die(client))
        .await
        .unwrap();
    let second = Lock::contend(agent.client().await, KEY, "second");
    let next = held(&second, TAKEN_AFTER_DEATH).await;
    assert!(next > fence, "{fence}, {next}");
    assert!(
        death.elapsed() > Duration::from_secs(9),
        "{:?}",
        death.elapsed()
    );
}

fn hold_and_die(client: Client) -> (u64, Instant) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fence = runtime.block_on(async {
        let lock = Lock::contend(client, KEY, "first");
        let fence = held(&lock, Duration::from_secs(5)).await;
        std::mem::forget(lock);
        fence
    });
    runtime.shutdown_background();
    (fence, Instant::now())
}

#[tokio::test]
async fn a_holder_whose_agent_dies_stops_believing_in_time() {
    let mut agent = Agent::start().await;
    let lock = Lock::contend(agent.client().await, KEY, "first");
    let fence = held(&lock, Duration::from_secs(5)).await;
    agent.kill();
    let start = Instant::now();
    timeout(Duration::from_secs(15), lock.changed_from(Some(fence)))
        .await
        .expect("the loss is noticed");
    assert!(
        start.elapsed() <= Duration::from_millis(10_100),
        "{:?}",
        start.elapsed()
    );
    agent.start_again().await;
    held(&lock, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_holder_whose_agent_hangs_stops_believing_in_time() {
    let agent = Agent::start().await;
    let lock = Lock::contend(agent.client().await, KEY, "first");
    let fence = held(&lock, Duration::from_secs(5)).await;
    let stopped = agent.stop();
    let start = Instant::now();
    timeout(Duration::from_secs(15), lock.changed_from(Some(fence)))
        .await
        .expect("the loss is noticed");
    assert!(
        start.elapsed() <= Duration::from_millis(10_100),
        "{:?}",
        start.elapsed()
    );
    drop(stopped);
    held(&lock, TAKEN_AFTER_DEATH).await;
}

#[tokio::test]
async fn an_agent_that_lost_everything_costs_the_lock() {
    let mut agent = Agent::start().await;
    let lock = Lock::contend(agent.client().await, KEY, "first");
    let fence = held(&lock, Duration::from_secs(5)).await;
    agent.kill();
    agent.start_again().await;
    timeout(Duration::from_secs(10), lock.changed_from(Some(fence)))
        .await
        .expect("the loss is noticed at the next renewal");
    held(&lock, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_lock_that_an_operator_takes_is_lost() {
    let agent = Agent::start().await;
    let lock = Lock::contend(agent.client().await, KEY, "first");
    let fence = held(&lock, Duration::from_secs(5)).await;
    agent
        .call("DELETE", &format!("kv/{KEY}"), Value::Null)
        .await;
    timeout(Duration::from_secs(5), lock.changed_from(Some(fence)))
        .await
        .expect("the loss is noticed at the next renewal");
}
