//! Redis goes on, and has lost something.

use crate::mesh::Mesh;
use crate::people::*;

/// Asked on a process that has nobody in the room, which would open another one.
#[tokio::test]
async fn a_newcomer_after_a_flush_finds_the_room_that_it_was() {
    let mesh = Mesh::start().await;
    let (mut ann, joined) = join(&mesh.signaling[0], "standup", "ann").await;
    mesh.redis.told("FLUSHALL").await;
    let (_ben, again) = join_in_time(&mesh.signaling[1], "standup", "ben").await;
    assert_eq!(room_of(&again), room_of(&joined));
    assert_eq!(others_of(&again), ["ann"]);
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    stays(&mut ann).await;
}

/// As when a replica takes over that had not heard of the last changes.
#[tokio::test]
async fn nobody_is_sent_away_because_redis_has_lost_the_last_changes() {
    let mut mesh = Mesh::start().await;
    let (mut ann, joined) = join(&mesh.signaling[0], "standup", "ann").await;
    mesh.redis.told("SAVE").await;
    let (mut ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    let (mut cleo, _) = join(&mesh.signaling[0], "standup", "cleo").await;
    for client in [&mut ann, &mut ben] {
        sees(client, "cleo", |info| info.identity == "cleo").await;
    }
    mesh.redis.process.kill();
    mesh.until_all("pipemesh_redis_up", 0.0).await;
    mesh.redis.process.start_again();
    mesh.until_all("pipemesh_redis_up", 1.0).await;
    for (signaling, who) in mesh.signaling.iter().zip(["dan", "eve"]) {
        let (_client, again) = join(signaling, "standup", who).await;
        assert_eq!(room_of(&again), room_of(&joined));
        assert!(others_of(&again).starts_with(&["ann", "ben", "cleo"]));
    }
    for client in [&mut ann, &mut ben, &mut cleo] {
        stays(client).await;
    }
}
