//! Processes that are gone, or are taken to be.

use super::scene::*;
use super::*;

/// Until somebody is found gone: silence, grace, and the next look.
const FOUND: Duration = Duration::from_secs(5 + 15 + 5);

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_served_by_a_process_that_is_gone_is_removed() {
    let scene = Scene::new();
    let (one, two) = (scene.living(), scene.living());
    let ann = one.enter(&scene, "ann").await;
    let _ben = two.enter(&scene, "ben").await;
    let _cleo = two.enter(&scene, "cleo").await;
    one.sees(&["ann", "ben", "cleo"]).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(scene.stored().await, ["ann", "ben", "cleo"]);
    drop(two);
    pass(GRACE).await;
    assert_eq!(scene.stored().await.len(), 3, "they have time");
    pass(FOUND - GRACE).await;
    one.sees(&["ann"]).await;
    assert_eq!(scene.stored().await, ["ann"]);
    one.rooms.leave(ann).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_room_ends_whose_people_were_all_served_by_processes_that_are_gone() {
    let scene = Scene::new();
    let (one, two) = (scene.living(), scene.living());
    let another = Scene {
        name: "another".parse().unwrap(),
        store: Arc::clone(&scene.store),
    };
    // Nobody else knows of this room.
    let three = another.living();
    let _zoe = three.enter(&another, "zoe").await;
    let _ben = two.enter(&scene, "ben").await;
    drop((two, three));
    pass(FOUND + Duration::from_secs(20)).await;
    for scene in [&scene, &another] {
        assert_eq!(scene.store.read_room(&scene.name).await.unwrap(), None);
    }
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_with_another_process_is_lost_to_nobody() {
    let scene = Scene::new();
    let (one, two) = (scene.living(), scene.living());
    let _ann = one.enter(&scene, "ann").await;
    let _ben = two.enter(&scene, "ben").await;
    one.sees(&["ann", "ben"]).await;
    drop(two);
    pass(GRACE).await;
    let mut room = one.open(&scene.name).await.unwrap();
    let before = one.view.state().borrow().clone().unwrap();
    let ben: Identity = "ben".parse().unwrap();
    let replaces = &before.members[&ben];
    let again = MemberRecord {
        session: "s-again".to_owned(),
        ..one.record("ben")
    };
    let claim = one.rooms.claim(&mut room, &ben, Some(replaces), &again);
    claim.await.unwrap();
    pass(FOUND * 2).await;
    assert_eq!(scene.stored().await, ["ann", "ben"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_removed_because_the_store_was_away() {
    let scene = Scene::new();
    let (one, two) = (scene.living(), scene.living());
    let _ann = one.enter(&scene, "ann").await;
    let _ben = two.enter(&scene, "ben").await;
    for _ in 0..3 {
        scene.store.set_away(true);
        pass(Duration::from_secs(3600)).await;
        scene.store.set_away(false);
        pass(FOUND).await;
    }
    assert_eq!(scene.stored().await, ["ann", "ben"]);
    one.sees(&["ann", "ben"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_by_mistake_is_written_again() {
    let scene = Scene::new();
    let (one, mut two) = (scene.living(), scene.living());
    let _ann = one.enter(&scene, "ann").await;
    let mut ben = two.enter(&scene, "ben").await;
    one.sees(&["ann", "ben"]).await;
    two.falls_silent();
    pass(FOUND).await;
    assert_eq!(scene.stored().await, ["ann"]);
    // Those on it see no difference, and it writes him again.
    let state = two.view.state().borrow().clone().unwrap();
    assert!(state.lacks(&ben.identity), "{state:?}");
    two.goes_on();
    two.write(&mut ben).await.unwrap();
    for process in [&one, &two] {
        process.sees(&["ann", "ben"]).await;
    }
    pass(FOUND * 2).await;
    assert_eq!(scene.stored().await, ["ann", "ben"]);
    // Who leaves is not kept.
    two.rooms.leave(ben).await.unwrap();
    for process in [&one, &two] {
        process.sees(&["ann"]).await;
    }
}

/// It was frozen for long, and its people went on elsewhere.
#[tokio::test(start_paused = true)]
async fn what_was_taken_over_from_a_process_is_not_written_when_it_wakes() {
    let scene = Scene::new();
    let (one, mut two) = (scene.living(), scene.living());
    let mut ben = two.enter(&scene, "ben").await;
    two.falls_silent();
    let (mut room, there) = one.find(&scene, "ben").await;
    let taken = there.held_by(one.rooms.process().as_str(), 2);
    let claim = one
        .rooms
        .claim(&mut room, &ben.identity, Some(&there), &taken);
    let taken = claim.await.unwrap();
    pass(FOUND).await;
    let before = one.find(&scene, "ben").await.1;
    two.goes_on();
    let written = two.write(&mut ben).await;
    assert!(matches!(written, Err(WriteError::TakenOver)), "{written:?}");
    two.rooms.leave(ben).await.unwrap();
    pass(FOUND).await;
    assert_eq!(one.find(&scene, "ben").await.1, before);
    one.rooms.leave(taken).await.unwrap();
    assert_eq!(scene.stored().await, [""; 0]);
}

/// As when the store has gone back to what it was some changes ago.
#[tokio::test(start_paused = true)]
async fn who_is_said_to_be_here_and_is_not_is_removed() {
    let scene = Scene::new();
    let one = scene.living();
    let _ann = one.enter(&scene, "ann").await;
    let ben = one.enter(&scene, "ben").await;
    let (room, name) = (ben.room_id.clone(), &scene.name);
    one.rooms.leave(ben).await.unwrap();
    // And somebody whose process nobody has heard of.
    let strange = MemberRecord {
        process: "strange".to_owned(),
        ..one.record("zoe")
    };
    for (who, record) in [("ben", one.record("ben")), ("zoe", strange)] {
        let put = pipemesh_topology::store::PutMember {
            identity: who.parse().unwrap(),
            expected: None,
            body: record.encode_to_vec().into(),
            capacity: None,
        };
        scene.store.put_member(name, &room, put).await.unwrap();
    }
    // It looks soon after the store was away.
    scene.store.set_away(true);
    pass(Duration::from_secs(3)).await;
    scene.store.set_away(false);
    pass(Duration::from_secs(15)).await;
    assert_eq!(scene.stored().await, ["ann", "zoe"]);
    pass(FOUND).await;
    assert_eq!(scene.stored().await, ["ann"]);
}
