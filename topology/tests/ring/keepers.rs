//! One process keeps the ring, whoever dies.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::node::eventually;
use crate::process::{Nodes, Process, all_see};
use crate::server::Server;

/// The one that keeps the ring, and the others.
async fn keeper_of(mut processes: Vec<Process>) -> (Process, Vec<Process>) {
    eventually("one keeps the ring", async || {
        processes.iter().any(Process::is_keeper)
    })
    .await;
    let keeper = processes.iter().position(Process::is_keeper).unwrap();
    (processes.remove(keeper), processes)
}

#[tokio::test]
async fn who_joins_and_leaves_does_so_in_all_processes() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let mut nodes = Nodes::of(&agent, &["a", "b"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    let all = [&one, &other];
    let first = all_see(&all, &["a", "b"]).await;
    assert!(one.is_keeper() != other.is_keeper(), "one of them keeps it");
    nodes.join("c").await;
    let second = all_see(&all, &["a", "b", "c"]).await;
    assert_ne!(first, second);
    nodes.leave("a").await;
    all_see(&all, &["b", "c"]).await;
    let left = Instant::now();
    nodes.leave("b").await;
    all_see(&all, &["c"]).await;
    assert!(left.elapsed() < Duration::from_secs(3), "at once");

    // Who comes later goes by the same ring, and its epoch.
    let late = Process::start(&agent, &server).await;
    let epoch = late.sees(&["c"]).await.epoch;
    assert_eq!(epoch, one.known().epoch);
}

#[tokio::test]
async fn a_keeper_that_stops_is_followed_at_once() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let mut nodes = Nodes::of(&agent, &["a"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    let (keeper, mut others) = keeper_of(vec![one, other]).await;
    let next = others.remove(0);
    next.sees(&["a"]).await;
    let term = keeper.keeps().await;
    let stopped = Instant::now();
    keeper.stop().await;
    assert!(next.keeps().await > term);
    assert!(stopped.elapsed() < Duration::from_secs(5));
    nodes.join("b").await;
    let record = next.sees(&["a", "b"]).await;
    assert!(record.term > term);
}

#[tokio::test]
async fn a_keeper_that_is_killed_is_followed() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let mut nodes = Nodes::of(&agent, &["a"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    let third = Process::start(&agent, &server).await;
    let (keeper, others) = keeper_of(vec![one, other, third]).await;
    let others = [&others[0], &others[1]];
    all_see(&others, &["a"]).await;
    let term = keeper.keeps().await;
    let killed = Instant::now();
    keeper.kill();
    nodes.join("b").await;
    all_see(&others, &["a", "b"]).await;
    assert!(others[0].known().term > term);
    // Twice the session's 10 s, one more for the lock, five for who comes; and a busy machine.
    assert!(killed.elapsed() < Duration::from_secs(35));
}

/// Each holds a lock of its own, so both take themselves for the only keeper. What one writes bars the
/// other, who begins anew; the ring is the same in both, and never one that it was before.
#[tokio::test]
async fn two_who_keep_the_ring_at_once() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let mut nodes = Nodes::of(&agent, &["a", "b"]).await;
    let one = Process::start_with(&agent, &server, "pipemesh/one").await;
    let other = Process::start_with(&agent, &server, "pipemesh/other").await;
    let all = [&one, &other];
    all_see(&all, &["a", "b"]).await;
    one.keeps().await;
    other.keeps().await;
    let first = one.known().term;
    nodes.join("c").await;
    all_see(&all, &["a", "b", "c"]).await;
    nodes.leave("a").await;
    all_see(&all, &["b", "c"]).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(one.known().order(), other.known().order());
    let last = one.known().term;
    assert!(last > first, "they did fight: {first}, {last}");
}
