//! The record in Redis: who may write it, and which of two stands.

use pipemesh_topology::ring::Record;
use pipemesh_topology::store::redis::{PutRing, RedisRing, Stored};

use crate::process::members;
use crate::server::Server;

/// Writes the ring of these nodes.
async fn put(ring: &RedisRing, term: u64, seen: u64, nodes: &[&str]) -> PutRing {
    let record = Record::new(term, seen, members(nodes)).unwrap();
    let put = ring.put(term, seen, &record.members, record.digest);
    put.await.unwrap()
}

/// What is stored, if it is a ring.
async fn read(ring: &RedisRing) -> Option<Record> {
    match ring.read(&Record::none()).await.unwrap() {
        Stored::Ring(record) => Some(*record),
        Stored::Nothing => None,
        other => panic!("{other:?}"),
    }
}

async fn flush(server: &Server) {
    let mut operator = server.operator().await;
    let flush = redis::cmd("FLUSHALL");
    flush.exec_async(&mut operator).await.unwrap();
}

const DONE: fn(u64) -> PutRing = |epoch| PutRing::Done { epoch };

#[tokio::test]
async fn the_last_who_drew_a_term_writes_and_nobody_before() {
    let server = Server::start().await;
    let ring = server.store().await.ring();
    assert!(read(&ring).await.is_none());
    let first = ring.draw_term(0).await.unwrap();
    assert_eq!(put(&ring, first, 0, &["a"]).await, DONE(1));
    let second = ring.draw_term(first).await.unwrap();
    assert!(second > first);
    // The second has not written yet, and the first cannot any more.
    assert_eq!(put(&ring, first, 1, &["b"]).await, PutRing::Superseded);
    assert_eq!(put(&ring, second, 1, &["a", "b"]).await, DONE(2));
    for _ in 0..3 {
        assert_eq!(put(&ring, first, 9, &["b"]).await, PutRing::Superseded);
    }
    let stored = read(&ring).await.unwrap();
    assert_eq!((stored.term, stored.epoch), (second, 2));
    assert_eq!(stored.members, members(&["a", "b"]));
    let same = ring.read(&stored).await.unwrap();
    assert!(matches!(same, Stored::Same), "{same:?}");
    // What the writer has seen counts, and so does what is stored.
    assert_eq!(put(&ring, second, 40, &["a"]).await, DONE(41));
    assert_eq!(put(&ring, second, 2, &["b"]).await, DONE(42));
}

#[tokio::test]
async fn a_term_is_above_all_that_its_keeper_has_seen() {
    let server = Server::start().await;
    let ring = server.store().await.ring();
    assert_eq!(ring.draw_term(0).await.unwrap(), 1);
    assert_eq!(ring.draw_term(0).await.unwrap(), 2);
    flush(&server).await;
    assert_eq!(ring.draw_term(7).await.unwrap(), 8);
    assert_eq!(put(&ring, 7, 0, &["a"]).await, PutRing::Superseded);
    // A keeper of a term that was drawn before the loss goes on, until another one draws.
    flush(&server).await;
    assert_eq!(put(&ring, 8, 5, &["a"]).await, DONE(6));
    assert_eq!(ring.draw_term(0).await.unwrap(), 9);
    assert_eq!(put(&ring, 8, 6, &["b"]).await, PutRing::Superseded);
}

#[tokio::test]
async fn what_is_put_back_never_replaces_what_is_later() {
    let server = Server::start().await;
    let ring = server.store().await.ring();
    let of = |term, epoch, nodes: &[&str]| Record::new(term, epoch, members(nodes)).unwrap();
    assert!(ring.restore(&of(3, 7, &["a"])).await.unwrap());
    assert!(!ring.restore(&of(3, 7, &["a"])).await.unwrap(), "it stands");
    assert!(!ring.restore(&of(2, 9, &["b"])).await.unwrap());
    assert!(!ring.restore(&of(3, 6, &["b"])).await.unwrap());
    assert_eq!(read(&ring).await.unwrap().members, members(&["a"]));
    assert!(ring.restore(&of(3, 8, &["b"])).await.unwrap());
    // Numbers are compared, not texts.
    assert!(ring.restore(&of(10, 1, &["c"])).await.unwrap());
    assert!(!ring.restore(&of(9, 100, &["d"])).await.unwrap());
    // Of two with one number everybody chooses the same.
    let (one, other) = (of(10, 2, &["a"]), of(10, 2, &["b"]));
    let (later, earlier) = match one.digest > other.digest {
        true => (one, other),
        false => (other, one),
    };
    for first in [&later, &earlier] {
        flush(&server).await;
        assert!(ring.restore(first).await.unwrap());
        let replaced = ring.restore(&later).await.unwrap();
        assert_eq!(replaced, first.digest != later.digest);
        assert!(!ring.restore(&earlier).await.unwrap());
        assert_eq!(read(&ring).await.unwrap().members, later.members);
    }
    // Its term is fenced as if it had been drawn, and what was drawn since stays so.
    assert_eq!(put(&ring, 9, 2, &["a"]).await, PutRing::Superseded);
    let drawn = ring.draw_term(0).await.unwrap();
    assert_eq!(drawn, 11);
    assert!(ring.restore(&of(10, 3, &["c"])).await.unwrap());
    assert_eq!(put(&ring, 10, 3, &["a"]).await, PutRing::Superseded);
    assert_eq!(put(&ring, drawn, 3, &["a"]).await, DONE(4));
}
