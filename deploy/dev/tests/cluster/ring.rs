//! One ring over several signaling processes.

use crate::mesh::{Mesh, Signaling, until};
use crate::people::*;

/// Everything that a process says of the ring is of the same ring.
async fn says(signaling: &Signaling, ring: &serde_json::Value) {
    let digest = u64::from_str_radix(ring["digest"].as_str().unwrap(), 16).unwrap();
    let low = u32::try_from(digest & u64::from(u32::MAX)).unwrap();
    let members = ring["members"].as_array().unwrap().len();
    for (metric, value) in [
        ("pipemesh_ring_digest ", f64::from(low)),
        ("pipemesh_ring_epoch ", ring["epoch"].as_f64().unwrap()),
        ("pipemesh_ring_members ", members as f64),
        ("pipemesh_ring_unreadable ", 0.0),
        ("pipemesh_ring_frozen{reason=\"vanished\"} ", 0.0),
    ] {
        let said = signaling.metric(metric).await;
        assert_eq!(said, Some(value), "{metric}");
    }
}

#[tokio::test]
async fn all_processes_go_by_one_ring() {
    let mut mesh = Mesh::start().await;
    let both = mesh.until_one_ring(&["node-a", "node-b"]).await;
    for signaling in &mesh.signaling {
        says(signaling, &both).await;
    }
    // A room that is opened here is at home where the other process would have opened it.
    let mut nodes = Vec::new();
    for signaling in &mesh.signaling {
        let mut of_rooms = Vec::new();
        for room in ["one", "two", "three"] {
            let (mut client, joined) = join(signaling, room, "ann").await;
            of_rooms.push(node_of(&joined));
            client.leave().await.unwrap();
            until("the room has ended", async || {
                let ended = signaling.process.said("room ended");
                (ended.len() >= of_rooms.len()).then_some(())
            })
            .await;
        }
        nodes.push(of_rooms);
    }
    assert_eq!(nodes[0], nodes[1]);

    mesh.node("node-a").kill();
    let one = mesh.until_one_ring(&["node-b"]).await;
    assert_ne!(one["digest"], both["digest"]);
    mesh.node("node-a").start_again();
    let again = mesh.until_one_ring(&["node-a", "node-b"]).await;
    assert_eq!(again["digest"], both["digest"]);
    assert!(again["epoch"].as_u64() > one["epoch"].as_u64());
    for signaling in &mesh.signaling {
        says(signaling, &again).await;
        let removed = signaling.metric("pipemesh_ring_changes_total{change=\"removed\"} ");
        assert_eq!(removed.await, Some(1.0));
    }
}

#[tokio::test]
async fn the_ring_outlives_redis_and_who_keeps_it() {
    let mut mesh = Mesh::start().await;
    let before = mesh.until_one_ring(&["node-a", "node-b"]).await;
    mesh.redis.process.kill();
    mesh.until_all("pipemesh_redis_up", 0.0).await;
    mesh.redis.process.start_again();
    mesh.until_all("pipemesh_redis_up", 1.0).await;
    until("somebody has put it back", async || {
        let mut restored = 0.0;
        for signaling in &mesh.signaling {
            restored += signaling.metric("pipemesh_ring_restored_total").await?;
        }
        (restored > 0.0).then_some(())
    })
    .await;
    let after = mesh.until_one_ring(&["node-a", "node-b"]).await;
    assert_eq!(after["digest"], before["digest"]);
    assert_eq!(after["epoch"], before["epoch"]);

    // Whoever stops in order lets the other one have it, at once.
    let mut keeper = None;
    for (i, signaling) in mesh.signaling.iter().enumerate() {
        if signaling.ring().await.unwrap()["keeper"] == true {
            keeper = Some(i);
        }
    }
    let keeper = mesh.signaling.remove(keeper.expect("one of them keeps it"));
    keeper.process.terminate();
    until("the other one keeps it", async || {
        let ring = mesh.signaling[0].ring().await?;
        (ring["keeper"] == true).then_some(())
    })
    .await;
    let after = mesh.until_one_ring(&["node-a", "node-b"]).await;
    assert_eq!(after["digest"], before["digest"]);
}
