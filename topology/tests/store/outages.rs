//! What becomes of calls and watches when a server dies, hangs, forgets, or loses what it should tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipemesh_topology::RoomName;
use pipemesh_topology::store::redis::RedisStore;
use pipemesh_topology::store::{
    Change, EndOutcome, Lagged, NewRoom, RemoveOutcome, Store, Unavailable, Watch, WhenEmpty, life,
    next_life,
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{identity, name, new_room, opened, put, version};
use crate::server::{Server, is_up, store};
use crate::{PATIENCE, next};

/// What any call may take, with what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(3);

/// What a call may take that is refused at once.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Long enough for a busy machine, and too short for a comparison.
const SOON: Duration = Duration::from_secs(3);

/// Two of the store's comparisons with the server.
const CHECKS: Duration = Duration::from_secs(10);

/// All that went wrong, from the store's error down.
pub(crate) fn chain(error: &Unavailable) -> String {
    let mut chain = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        chain = format!("{chain}: {error}");
        cause = error.source();
    }
    chain
}

/// A call that has to fail, and within what time.
async fn fails_within(store: &RedisStore, limit: Duration, reason: &str) {
    let began = Instant::now();
    let error = store.read_room(&name("room")).await.unwrap_err();
    let took = began.elapsed();
    assert!(took < limit, "{took:?}");
    assert!(chain(&error).contains(reason), "{}", chain(&error));
}

/// The watch has to say that events were lost, and to end if its connection is gone.
async fn lags(watch: &mut Watch, limit: Duration) {
    let told = timeout(limit, watch.next()).await;
    assert_eq!(told.expect("told in time"), Err(Lagged));
}

async fn ends(watch: &mut Watch) {
    lags(watch, PATIENCE).await;
    assert_eq!(watch.next().await, Ok(None));
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_without_data() {
    let mut server = Server::start().await;
    let store = Arc::new(server.store().await);
    let room = name("room");
    let id = opened(&*store, &room).await;
    let mut watch = store.watch(&room).await.unwrap();

    // In mid-use: somebody always asks for something.
    let stop = Arc::new(AtomicBool::new(false));
    let users: Vec<_> = (0..8)
        .map(|_| tokio::spawn(use_until(Arc::clone(&store), Arc::clone(&stop))))
        .collect();
    sleep(Duration::from_millis(200)).await;
    server.kill();
    is_up(&store, false).await;
    ends(&mut watch).await;
    for _ in 0..20 {
        fails_within(&store, AT_ONCE, "there is no connection to Redis").await;
    }
    let error = store.watch(&room).await.unwrap_err();
    assert!(chain(&error).contains("no connection"), "{}", chain(&error));

    server.start_again().await;
    let began = Instant::now();
    is_up(&store, true).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "it is tried often"
    );
    stop.store(true, Ordering::Relaxed);
    for user in users {
        let (done, failed) = user.await.unwrap();
        assert!(done > 0 && failed > 0, "{done} done, {failed} failed");
    }
    assert_eq!(
        store.read_room(&room).await.unwrap(),
        None,
        "it has forgotten"
    );
    let written = store.put_member(&room, &id, put("a", None)).await.unwrap();
    assert_eq!(written, pipemesh_topology::store::PutOutcome::NoRoom);
    let mut watch = store.watch(&room).await.unwrap();
    let brought_back = store.open_room(&room, lost_room("RM_1")).await.unwrap();
    assert!(brought_back.created);
    assert_eq!(next(&mut watch).await.sequence, next_life(1) + 1);
    opens_once_others_had_time(&store, &name("new")).await;
}

/// Somebody knows it from before.
fn lost_room(id: &str) -> NewRoom {
    NewRoom {
        after: next_life(1),
        ..new_room(id)
    }
}

/// A newcomer waits for those who bring their rooms back.
async fn opens_once_others_had_time(store: &RedisStore, room: &RoomName) {
    let began = Instant::now();
    let error = store.open_room(room, new_room("RM_new")).await;
    let error = chain(&error.unwrap_err());
    assert!(error.contains("brought back first"), "{error}");
    while store.open_room(room, new_room("RM_new")).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "not for ever");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Reads again and again; every call has to end within the limit. How many succeeded and failed.
async fn use_until(store: Arc<RedisStore>, stop: Arc<AtomicBool>) -> (u32, u32) {
    let (mut done, mut failed) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match store.read_room(&name("another")).await {
            Ok(_) => done += 1,
            Err(_) => failed += 1,
        }
        let took = began.elapsed();
        assert!(took < LIMIT, "{took:?}");
        sleep(Duration::from_millis(1)).await;
    }
    (done, failed)
}

#[tokio::test]
async fn a_server_that_hangs() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    let id = opened(&store, &room).await;
    let mut watch = store.watch(&room).await.unwrap();

    server.signal(Signal::STOP);
    let began = Instant::now();
    let calls = (0..50).map(|_| fails_within(&store, LIMIT, "no answer within 2 s"));
    futures_util::future::join_all(calls).await;
    assert!(
        began.elapsed() > Duration::from_millis(1900),
        "the limit is 2 s"
    );
    is_up(&store, false).await;
    fails_within(&store, AT_ONCE, "no answer within 2 s").await;
    ends(&mut watch).await;
    // Attempts to connect hang too; nobody waits for them.
    sleep(Duration::from_millis(2500)).await;
    fails_within(&store, AT_ONCE, "no answer within 2 s").await;

    server.signal(Signal::CONT);
    is_up(&store, true).await;
    let mut watch = store.watch(&room).await.unwrap();
    version(&store, &room, &id, put("a", None)).await;
    assert_eq!(next(&mut watch).await.sequence, 2, "it remembers");
}

#[tokio::test]
async fn a_server_that_hangs_while_nobody_asks_is_noticed() {
    let server = Server::start().await;
    let store = server.store().await;
    server.signal(Signal::STOP);
    is_up(&store, false).await;
    server.signal(Signal::CONT);
    is_up(&store, true).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet() {
    let mut server = Server::start().await;
    server.kill();
    let store = store(&server.url(), None);
    is_up(&store, false).await;
    let began = Instant::now();
    loop {
        let error = store.read_room(&name("room")).await.unwrap_err();
        if chain(&error).contains("Connection refused") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{}", chain(&error));
        sleep(Duration::from_millis(5)).await;
    }
    server.start_again().await;
    is_up(&store, true).await;
    opened(&store, &name("room")).await;
}

#[tokio::test]
async fn a_server_that_forgets() {
    let server = Server::start().await;
    let store = server.store().await;
    let (quiet, busy) = (name("quiet"), name("busy"));
    opened(&store, &quiet).await;
    opened(&store, &busy).await;
    let mut quiet_watch = store.watch(&quiet).await.unwrap();
    let mut busy_watch = store.watch(&busy).await.unwrap();

    let mut operator = server.operator().await;
    redis::cmd("FLUSHALL")
        .exec_async(&mut operator)
        .await
        .unwrap();
    // Of one the next event tells, of the other the comparison.
    let again = lost_room("RM_2");
    store.open_room(&busy, again.clone()).await.unwrap();
    lags(&mut busy_watch, SOON).await;
    assert_eq!(next(&mut busy_watch).await.sequence, again.after + 1);
    lags(&mut quiet_watch, CHECKS).await;
    assert_eq!(store.read_room(&quiet).await.unwrap(), None);
    // The same watch goes on.
    store.open_room(&quiet, again.clone()).await.unwrap();
    assert_eq!(next(&mut quiet_watch).await.sequence, again.after + 1);
    assert!(*store.up().borrow());
}

/// One process has people in a room, another one does not know of it and is asked for it.
#[tokio::test]
async fn a_room_that_is_forgotten_is_not_opened_by_who_does_not_know_it() {
    let server = Server::start().await;
    let (knows, does_not) = (server.store().await, server.store().await);
    let room = name("room");
    let mut watch = knows.watch(&room).await.unwrap();
    opened(&knows, &room).await;
    next(&mut watch).await;
    let process = "process".parse().unwrap();
    knows.renew_lease(&process, "1").await.unwrap();
    let mut operator = server.operator().await;
    let flush = redis::cmd("FLUSHALL").to_owned();
    flush.exec_async(&mut operator).await.unwrap();

    let refused = does_not.open_room(&room, new_room("RM_2")).await;
    let refused = refused.unwrap_err();
    assert!(
        chain(&refused).contains("brought back first"),
        "{}",
        chain(&refused)
    );
    assert!(!refused.may_be_done);
    // It notices with the next renewal, and its people bring the room back.
    knows.renew_lease(&process, "2").await.unwrap();
    lags(&mut watch, SOON).await;
    assert_eq!(knows.read_room(&room).await.unwrap(), None);
    knows.open_room(&room, lost_room("RM_1")).await.unwrap();
    let opened = does_not.open_room(&room, new_room("RM_2")).await.unwrap();
    assert_eq!(opened.room.id.as_str(), "RM_1");
    opens_once_others_had_time(&does_not, &name("new")).await;
    // Who begins now knows of nothing that was lost.
    let begins = server.store().await;
    begins
        .open_room(&name("another"), new_room("RM_3"))
        .await
        .unwrap();
    assert_eq!(knows.stats().forgotten.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_cuts_off_who_listens() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    let id = opened(&store, &room).await;
    let mut watch = store.watch(&room).await.unwrap();
    let mut operator = server.operator().await;
    let killed: u32 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .query_async(&mut operator)
        .await
        .unwrap();
    assert_eq!(killed, 1, "one connection listens");
    ends(&mut watch).await;
    is_up(&store, true).await;
    let mut watch = store.watch(&room).await.unwrap();
    version(&store, &room, &id, put("a", None)).await;
    assert_eq!(next(&mut watch).await.sequence, 2);
    assert_eq!(store.stats().disconnects.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_forgets_the_scripts() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    let id = opened(&store, &room).await;
    let mut operator = server.operator().await;
    for _ in 0..3 {
        redis::cmd("SCRIPT")
            .arg("FLUSH")
            .exec_async(&mut operator)
            .await
            .unwrap();
        store.read_room(&room).await.unwrap();
    }
    version(&store, &room, &id, put("a", None)).await;
}

#[tokio::test]
async fn a_server_that_becomes_a_replica() {
    let server = Server::start().await;
    let other = Server::start().await;
    let store = server.store().await;
    let mut operator = server.operator().await;
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(other.port)
        .exec_async(&mut operator)
        .await
        .unwrap();
    let error = store.open_room(&name("room"), new_room("RM_1")).await;
    let error = chain(&error.unwrap_err());
    assert!(error.to_lowercase().contains("read only"), "{error}");
    is_up(&store, false).await;
    redis::cmd("REPLICAOF")
        .arg(&["NO", "ONE"])
        .exec_async(&mut operator)
        .await
        .unwrap();
    is_up(&store, true).await;
    opened(&store, &name("room")).await;
}

/// As when a replica takes over that had not heard of the last changes.
#[tokio::test]
async fn a_server_that_has_lost_the_last_changes() {
    let mut server = Server::start().await;
    let store = server.store().await;
    let (room, untouched) = (name("room"), name("another"));
    let id = opened(&store, &room).await;
    opened(&store, &untouched).await;
    let mut watch = store.watch(&room).await.unwrap();
    let _watch = store.watch(&untouched).await.unwrap();
    let kept = version(&store, &room, &id, put("a", None)).await;
    let mut operator = server.operator().await;
    redis::cmd("SAVE").exec_async(&mut operator).await.unwrap();
    version(&store, &room, &id, put("a", Some(kept))).await;
    let lost = version(&store, &room, &id, put("b", None)).await;
    for _ in 0..3 {
        next(&mut watch).await;
    }
    server.kill();
    is_up(&store, false).await;
    server.start_again().await;
    is_up(&store, true).await;

    let mut watch = store.watch(&room).await.unwrap();
    let read = store.read_room(&room).await.unwrap().unwrap();
    assert_eq!(read.room.id, id);
    assert_eq!(life(read.sequence), 1, "it counts as brought back");
    assert!(read.room.version > next_life(0));
    let members: Vec<_> = read.members.iter().map(|it| it.identity.as_str()).collect();
    assert_eq!(members, ["a"]);
    assert_eq!(read.members[0].version, kept);
    let again = version(&store, &room, &id, put("b", None)).await;
    assert!(again > lost, "no version is given twice");
    assert_eq!(next(&mut watch).await.sequence, read.sequence + 1);
    let read = store.read_room(&untouched).await.unwrap().unwrap();
    assert_eq!(read.sequence, 1, "nothing of it was lost");
    assert_eq!(store.stats().behind.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_whose_memory_is_full() {
    let server = Server::start().await;
    let store = server.store().await;
    let (left, emptied, new) = (name("left"), name("emptied"), name("new"));
    let leaver = opened(&store, &left).await;
    let v = version(&store, &left, &leaver, put("a", None)).await;
    let empty = opened(&store, &emptied).await;
    let mut watch = store.watch(&left).await.unwrap();
    let mut operator = server.operator().await;
    let mut limit = async |bytes: u64| {
        let set = redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(bytes)
            .to_owned();
        set.exec_async(&mut operator).await.unwrap();
    };
    limit(1).await;
    let refused = store.open_room(&new, new_room("RM_2")).await;
    let refused = chain(&refused.unwrap_err());
    assert!(
        refused.contains("OOM") || refused.contains("maxmemory"),
        "{refused}"
    );
    assert_eq!(store.read_room(&new).await.unwrap(), None);
    let refused = store.put_member(&left, &leaver, put("b", None)).await;
    assert!(refused.is_err(), "{refused:?}");
    // What makes room is done.
    let gone = store
        .remove_member(&left, &leaver, &identity("a"), v, WhenEmpty::End)
        .await;
    assert!(
        matches!(gone, Ok(RemoveOutcome::Done { empty: true, .. })),
        "{gone:?}"
    );
    let ended = store.end_room(&emptied, &empty, 1).await;
    assert!(matches!(ended, Ok(EndOutcome::Done)), "{ended:?}");
    for room in [&left, &emptied] {
        assert_eq!(store.read_room(room).await.unwrap(), None);
    }
    for sequence in [3, 4] {
        assert_eq!(next(&mut watch).await.sequence, sequence);
    }
    assert!(*store.up().borrow(), "it goes on");
    limit(0).await;
    opened(&store, &new).await;
}

#[tokio::test]
async fn a_room_that_cannot_be_read_hides_no_other() {
    let server = Server::start().await;
    let store = server.store().await;
    let rooms = ["one", "two", "three"].map(name);
    let mut watches = Vec::new();
    for room in &rooms {
        opened(&store, room).await;
        watches.push(store.watch(room).await.unwrap());
    }
    let mut operator = server.operator().await;
    let mut spoil = redis::pipe();
    spoil.cmd("SET").arg("pipemesh:v1:{one}:room").arg("x");
    spoil
        .cmd("HSET")
        .arg("pipemesh:v1:{two}:room")
        .arg(&["sequence", "x"]);
    spoil.exec_async(&mut operator).await.unwrap();
    change_silently(&server, "pipemesh:v1:{three}:room").await;
    lags(&mut watches[2], CHECKS).await;
    assert!(*store.up().borrow());
}

/// Counts a change of a room and tells nobody.
async fn change_silently(server: &Server, key: &str) {
    let mut operator = server.operator().await;
    redis::cmd("HINCRBY")
        .arg(key)
        .arg("sequence")
        .arg(1)
        .exec_async(&mut operator)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_event_that_is_lost() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    let id = opened(&store, &room).await;
    let mut watch = store.watch(&room).await.unwrap();
    let mut untouched = store.watch(&name("another")).await.unwrap();

    // Something follows: that shows the gap.
    change_silently(&server, "pipemesh:v1:{room}:room").await;
    version(&store, &room, &id, put("a", None)).await;
    lags(&mut watch, SOON).await;
    assert_eq!(next(&mut watch).await.sequence, 3);

    // Nothing follows.
    change_silently(&server, "pipemesh:v1:{room}:room").await;
    lags(&mut watch, CHECKS).await;
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(count(&store.stats().gaps), 1);
    assert_eq!(count(&store.stats().missed), 1);

    // Told once, and nobody else was.
    let told = timeout(CHECKS, async {
        tokio::select! {
            told = watch.next() => told,
            told = untouched.next() => told,
        }
    });
    told.await.expect_err("there is nothing more to tell");
}

#[tokio::test]
async fn an_event_lost_between_watching_and_reading() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    opened(&store, &room).await;
    let mut watch = store.watch(&room).await.unwrap();
    let read = store.read_room(&room).await.unwrap().unwrap();
    assert_eq!(read.sequence, 1);
    // The very first that would be heard.
    change_silently(&server, "pipemesh:v1:{room}:room").await;
    lags(&mut watch, CHECKS).await;
    let read = store.read_room(&room).await.unwrap().unwrap();
    assert_eq!(read.sequence, 2);
}

#[tokio::test]
async fn what_nobody_watches_is_not_listened_to() {
    let server = Server::start().await;
    let store = server.store().await;
    let names: Vec<RoomName> = (0..1200).map(|i| name(&format!("room-{i}"))).collect();
    let mut watches = Vec::new();
    for room in &names {
        watches.push(store.watch(room).await.unwrap());
    }
    let mut operator = server.operator().await;
    let mut channels = async || {
        let channels = redis::cmd("PUBSUB").arg("CHANNELS").to_owned();
        let channels: Vec<String> = channels.query_async(&mut operator).await.unwrap();
        channels.len()
    };
    assert_eq!(channels().await, 1200);
    watches.truncate(1);
    // Somebody comes back all the time, just when it is unsubscribed.
    let began = Instant::now();
    while channels().await > 2 {
        assert!(began.elapsed() < CHECKS, "unsubscribed in time");
        let mut again = store.watch(&names[7]).await.unwrap();
        let opened = store.open_room(&names[7], new_room("RM_7")).await.unwrap();
        assert_eq!(
            next(&mut again).await.change,
            Change::Opened(opened.room.clone())
        );
        let ended = store.end_room(&names[7], &opened.room.id, 1).await;
        ended.unwrap();
        assert_eq!(next(&mut again).await.change, Change::Ended);
    }
    opened(&store, &names[0]).await;
    assert_eq!(next(&mut watches[0]).await.sequence, 1);
}
