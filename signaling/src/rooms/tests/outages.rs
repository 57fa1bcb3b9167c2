//! Two processes and a store that is away, or comes back empty.

use super::scene::*;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_room_that_the_store_has_lost_is_brought_back_by_all() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let mut ann = one.enter(&scene, "ann").await;
    let mut ben = two.enter(&scene, "ben").await;
    for process in [&one, &two] {
        process.sees(&["ann", "ben"]).await;
    }
    scene.store.lose_everything();
    // Whoever comes now finds the room that it was.
    let carol = two.enter(&scene, "carol").await;
    assert_eq!(carol.room_id, ann.room_id);
    one.write(&mut ann).await.unwrap();
    two.sees(&["ann", "ben", "carol"]).await;
    two.write(&mut ben).await.unwrap();
    assert_eq!(scene.stored().await, ["ann", "ben", "carol"]);
    for process in [&one, &two] {
        process.sees(&["ann", "ben", "carol"]).await;
    }
    // They hold what they wrote as before.
    one.write(&mut ann).await.unwrap();
    one.rooms.leave(ann).await.unwrap();
    two.sees(&["ben", "carol"]).await;
}

#[tokio::test(start_paused = true)]
async fn whose_process_did_not_come_back_is_gone() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let mut ann = one.enter(&scene, "ann").await;
    let _ben = two.enter(&scene, "ben").await;
    one.sees(&["ann", "ben"]).await;
    scene.store.lose_everything();
    one.write(&mut ann).await.unwrap();
    one.sees(&["ann"]).await;
    assert_eq!(scene.stored().await, ["ann"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_known_needs_no_store() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let ann = one.enter(&scene, "ann").await;
    two.sees(&["ann"]).await;
    scene.store.set_away(true);
    assert!(one.open(&"another".parse().unwrap()).await.is_err());
    let mut ben = one.enter(&scene, "ben").await;
    assert_eq!(ben.room_id, ann.room_id);
    // An identity is taken once, and bounds hold.
    let mut room = one.open(&scene.name).await.unwrap();
    let again = one.claim(&mut room, "ben", None).await;
    let Err(ClaimError::Conflict(Some(there))) = again else {
        panic!("{again:?}");
    };
    assert_eq!(there.session.as_str(), "s-ben");
    room.capacity = Some(2);
    let third = one.claim(&mut room, "carol", None).await;
    assert!(matches!(third, Err(ClaimError::Full)), "{third:?}");
    let failed = one.write(&mut ben).await;
    assert!(matches!(failed, Err(WriteError::Unavailable(_))));

    scene.store.set_away(false);
    one.write(&mut ben).await.unwrap();
    two.sees(&["ann", "ben"]).await;
    assert_eq!(scene.stored().await, ["ann", "ben"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_took_an_identity_from_memory_one_keeps_it() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let _ann = one.enter(&scene, "ann").await;
    let _ben = two.enter(&scene, "ben").await;
    for process in [&one, &two] {
        process.sees(&["ann", "ben"]).await;
    }
    scene.store.set_away(true);
    let mut first = one.enter(&scene, "carol").await;
    let mut room = two.open(&scene.name).await.unwrap();
    let (carol, other) = ("carol".parse().unwrap(), record(&two.rooms, "s-other"));
    let second = two.rooms.claim(&mut room, &carol, None, &other).await;
    let mut second = second.unwrap();
    scene.store.set_away(false);
    one.write(&mut first).await.unwrap();
    let lost = two.rooms.write(&mut second, &other).await;
    assert!(matches!(lost, Err(WriteError::Lost)), "{lost:?}");
    let mut state = two.view.state();
    let is_first = |state: &RoomState| {
        let carol = state.members.get(&carol);
        carol.is_some_and(|carol| carol.session.as_str() == "s-carol")
    };
    let seen = state.wait_for(|state| state.as_ref().is_some_and(|state| is_first(state)));
    let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
    assert!(seen.is_ok());
}

/// Whatever the store forgets.
#[tokio::test(start_paused = true)]
async fn numbers_of_claims_grow() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let mut ann = one.enter(&scene, "ann").await;
    let mut first = one.enter(&scene, "ben").await;
    let opened = first.number();
    assert!(opened > 0);
    one.write(&mut first).await.unwrap();
    assert_eq!(first.number(), opened, "it is the same claim");
    let take_over = async |process: &Process, holding| {
        let (mut room, there) = process.find(&scene, "ben").await;
        let record = there.held_by(process.rooms.process().as_str(), holding);
        let identity = &there.identity;
        let claim = process
            .rooms
            .claim(&mut room, identity, Some(&there), &record);
        (claim.await.unwrap(), record)
    };
    two.sees(&["ann", "ben"]).await;

    // From memory: not below the claim that it replaces, and above it when the store has taken it.
    scene.store.set_away(true);
    let (mut second, record) = take_over(&two, 2).await;
    assert!(second.number() >= opened);
    scene.store.set_away(false);
    two.rooms.write(&mut second, &record).await.unwrap();
    let in_store = second.number();
    assert!(in_store > opened);

    // Of a room that is brought back, above all that anybody has seen.
    scene.store.lose_everything();
    one.write(&mut ann).await.unwrap();
    two.rooms.write(&mut second, &record).await.unwrap();
    assert_eq!(second.number(), in_store, "it is the same claim");
    let (third, _) = take_over(&one, 3).await;
    assert!(third.number() > 1 << 32, "{third:?}");
}

/// A join that the store hears of later.
#[tokio::test(start_paused = true)]
async fn a_claim_that_nobody_was_told_of_has_the_lowest_number_until_then() {
    let scene = Scene::new();
    let one = scene.process();
    let _ann = one.enter(&scene, "ann").await;
    scene.store.set_away(true);
    let mut ben = one.enter(&scene, "ben").await;
    assert_eq!(ben.number(), 0);
    scene.store.set_away(false);
    one.write(&mut ben).await.unwrap();
    let number = ben.number();
    assert!(number > 0);
    one.write(&mut ben).await.unwrap();
    assert_eq!(ben.number(), number);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_store_is_away_is_gone_here_at_once_and_there_later() {
    let scene = Scene::new();
    let (one, two) = (scene.process(), scene.process());
    let ann = one.enter(&scene, "ann").await;
    let _ben = one.enter(&scene, "ben").await;
    two.sees(&["ann", "ben"]).await;
    scene.store.set_away(true);
    let leaving = Arc::clone(&one.rooms);
    let leaves = tokio::spawn(async move { leaving.vacate(ann).await });
    let mut state = one.view.state();
    let gone = state.wait_for(|state| state.as_ref().is_some_and(|it| it.members.len() == 1));
    tokio::time::timeout(Duration::from_secs(1), gone)
        .await
        .unwrap()
        .unwrap();
    two.sees(&["ann", "ben"]).await;
    scene.store.set_away(false);
    leaves.await.unwrap();
    two.sees(&["ben"]).await;
}
