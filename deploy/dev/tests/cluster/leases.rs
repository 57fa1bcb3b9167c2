//! A signaling process is killed, and those whom it served come back or do not; or it only seems so.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::mesh::{GRACE, Mesh, until};
use crate::people::*;
use crate::way::Way;

/// A process is taken to be gone when it has been silent for that long, and its people for the grace.
const SILENCE: Duration = Duration::from_secs(5);

/// For who looks next, and for a machine that does many things at once.
const MORE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn who_does_not_come_back_is_gone_and_their_room_ends() {
    let mut mesh = Mesh::start().await;
    let (mut ann, _) = join(&mesh.signaling[0], "standup", "ann").await;
    let (_ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    let (_zoe, alone) = join(&mesh.signaling[1], "another", "zoe").await;
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    mesh.signaling[1].process.kill();
    let killed = Instant::now();
    sees(&mut ann, "ben gone", |info| {
        info.identity == "ben" && is_gone(info)
    })
    .await;
    let took = killed.elapsed();
    assert!(took > GRACE && took < SILENCE + GRACE + MORE, "{took:?}");
    until("the room has ended", async || {
        let ended = mesh.signaling[0].process.said("room ended");
        ended
            .iter()
            .find(|line| line["room"] == "another")
            .map(drop)
    })
    .await;
    let (_eve, joined) = join(&mesh.signaling[0], "another", "eve").await;
    assert_ne!(room_of(&joined), room_of(&alone));
    let (_cleo, joined) = join(&mesh.signaling[0], "standup", "cleo").await;
    assert_eq!(others_of(&joined), ["ann"]);
}

#[tokio::test]
async fn who_goes_on_with_another_process_stays() {
    let mut mesh = Mesh::start().await;
    let (mut ann, _) = join(&mesh.signaling[0], "standup", "ann").await;
    let (_ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    mesh.signaling[1].process.kill();
    let (mut ben, again) = join(&mesh.signaling[0], "standup", "ben").await;
    assert_eq!(others_of(&again), ["ann"]);
    sleep(SILENCE + GRACE + MORE).await;
    ben.ping(Duration::from_secs(5)).await.unwrap();
    let (_cleo, joined) = join(&mesh.signaling[0], "standup", "cleo").await;
    assert_eq!(others_of(&joined), ["ann", "ben"]);
}

/// The others take it to be gone, since only Redis tells them of it.
#[tokio::test]
async fn who_is_served_by_a_process_that_is_cut_off_from_redis_is_back_with_it() {
    let mut mesh = Mesh::start().await;
    let way = Way::to(mesh.redis.address).await;
    let port = way.port;
    mesh.add_signaling(([127, 0, 0, 1], port).into()).await;
    let (mut ann, _) = join(&mesh.signaling[0], "standup", "ann").await;
    let (mut ben, _) = join(&mesh.signaling[2], "standup", "ben").await;
    sees(&mut ann, "ben", |info| info.identity == "ben").await;
    way.cut();
    sees(&mut ann, "ben gone", |info| {
        info.identity == "ben" && is_gone(info)
    })
    .await;
    way.mend();
    sees(&mut ann, "ben again", |info| {
        info.identity == "ben" && !is_gone(info)
    })
    .await;
    stays(&mut ben).await;
    let (_cleo, joined) = join(&mesh.signaling[1], "standup", "cleo").await;
    assert_eq!(others_of(&joined), ["ann", "ben"]);
}
