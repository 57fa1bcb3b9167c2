//! Redis and Consul lose what they knew.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pipemesh_topology::ring::{Frozen, Record};
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::node::eventually;
use crate::process::{Nodes, Process, all_see, members};
use crate::server::Server;

/// What Redis holds of the ring, as an operator sees it.
async fn stored(server: &Server) -> Vec<(String, String)> {
    let mut operator = server.operator().await;
    let read = redis::cmd("HGETALL").arg("pipemesh:v1:ring").to_owned();
    let stored: std::collections::BTreeMap<String, String> =
        read.query_async(&mut operator).await.unwrap();
    stored.into_iter().collect()
}

async fn set(server: &Server, fields: &[(String, String)]) {
    let mut operator = server.operator().await;
    let mut set = redis::cmd("HSET").arg("pipemesh:v1:ring").to_owned();
    for (name, value) in fields {
        set.arg(name).arg(value);
    }
    set.exec_async(&mut operator).await.unwrap();
}

/// Waits until Redis holds this ring, number and all.
async fn is_back(server: &Server, record: &Record) {
    let digest = format!("{:016x}", record.digest);
    eventually("Redis has the ring back", async || {
        let stored = stored(server).await;
        let is = |name: &str, value: &str| stored.contains(&(name.to_owned(), value.to_owned()));
        is("digest", &digest) && is("epoch", &record.epoch.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_ring_that_redis_loses_is_put_back() {
    let mut agent = Agent::start().await;
    let mut server = Server::start().await;
    let mut nodes = Nodes::of(&agent, &["a", "b"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    all_see(&[&one, &other], &["a", "b"]).await;
    let known = one.known();

    let mut operator = server.operator().await;
    let flush = redis::cmd("FLUSHALL");
    flush.exec_async(&mut operator).await.unwrap();
    let lost = Instant::now();
    is_back(&server, &known).await;
    assert!(lost.elapsed() < Duration::from_secs(8));

    server.kill();
    server.start_again().await;
    is_back(&server, &known).await;
    // It goes on from where it was.
    nodes.join("c").await;
    all_see(&[&one, &other], &["a", "b", "c"]).await;
    assert!(one.known().epoch > known.epoch);

    // Nobody keeps it, and nobody has to.
    let known = one.known();
    agent.kill();
    flush
        .exec_async(&mut server.operator().await)
        .await
        .unwrap();
    is_back(&server, &known).await;
    let restored = |it: &Process| it.ring.stats().restored.load(Ordering::Relaxed);
    assert_eq!(restored(&one) + restored(&other), 3, "once for each loss");
    assert_eq!(one.known().order(), known.order());
}

#[tokio::test]
async fn changes_that_redis_loses_are_put_back() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let mut nodes = Nodes::of(&agent, &["a"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    all_see(&[&one, &other], &["a"]).await;
    let before = stored(&server).await;
    nodes.join("b").await;
    all_see(&[&one, &other], &["a", "b"]).await;
    let known = one.known();
    // As a replica that takes over without the last change.
    set(&server, &before).await;
    is_back(&server, &known).await;
    assert_eq!(other.known().order(), known.order());
    assert_eq!(one.known().order(), known.order());
}

#[tokio::test]
async fn a_change_that_nobody_was_told_of_is_read() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let process = Process::start(&agent, &server).await;
    process.keeps().await;
    let record = Record::new(1000, 5, members(&["x"])).unwrap();
    // It is written under another name, and moved to where it is looked for.
    let elsewhere = Server::start().await;
    let ring = elsewhere.store().await.ring();
    assert!(ring.restore(&record).await.unwrap());
    set(&server, &stored(&elsewhere).await).await;
    let written = Instant::now();
    process.sees(&["x"]).await;
    assert!(written.elapsed() < Duration::from_secs(8));
    // Whoever kept it has been superseded, and begins anew behind that.
    eventually("it keeps the ring again", async || {
        process.keeping.borrow().term > Some(1000)
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_not_believed_and_written_anew() {
    let (agent, server) = (Agent::start().await, Server::start().await);
    let _nodes = Nodes::of(&agent, &["a"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    all_see(&[&one, &other], &["a"]).await;
    let good = one.known();
    for (field, value) in [("members", "[]"), ("digest", "x"), ("algorithm", "y")] {
        set(&server, &[(field.to_owned(), value.to_owned())]).await;
        eventually("it is written anew", async || {
            let stored = stored(&server).await;
            !stored.contains(&(field.to_owned(), value.to_owned()))
        })
        .await;
    }
    let digest = all_see(&[&one, &other], &["a"]).await;
    assert_eq!(digest, good.digest);
    eventually("all is well", async || {
        [&one, &other]
            .iter()
            .all(|it| !*it.ring.unreadable().borrow())
            && one.known().epoch == other.known().epoch
            && one.known().epoch > good.epoch
    })
    .await;
}

#[tokio::test]
async fn a_consul_that_has_lost_its_data_changes_nothing_and_rules_again() {
    let mut agent = Agent::start().await;
    let server = Server::start().await;
    // Its own numbers are high by now.
    for i in 0..200 {
        let (status, _) = agent.call("PUT", &format!("kv/x/{i}"), "x".into()).await;
        assert_eq!(status, 200);
    }
    let mut nodes = Nodes::of(&agent, &["a", "b", "c"]).await;
    let one = Process::start(&agent, &server).await;
    let other = Process::start(&agent, &server).await;
    let all = [&one, &other];
    all_see(&all, &["a", "b", "c"]).await;
    let known = one.known();

    agent.kill();
    eventually("nobody keeps the ring", async || {
        all.iter().all(|it| !it.is_keeper())
    })
    .await;
    assert_eq!(one.known().order(), known.order());
    agent.start_again().await;
    eventually("somebody keeps the ring", async || {
        all.iter().any(|it| it.is_keeper())
    })
    .await;
    // Nodes register again, and were never off the ring.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(one.known().order(), known.order());
    assert_eq!(other.known().order(), known.order());
    nodes.join("d").await;
    all_see(&all, &["a", "b", "c", "d"]).await;
    assert!(one.known().term > known.term);
    assert!(
        all.iter()
            .all(|it| it.keeping.borrow().frozen != Some(Frozen::Silence))
    );
}
