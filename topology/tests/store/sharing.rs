//! Several processes with one Redis.

use std::sync::Arc;

use pipemesh_topology::store::{
    Change, PutMember, PutOutcome, RemoveOutcome, Store, Watch, WhenEmpty,
};

use crate::contract::{identity, name, new_room, put, version};
use crate::next;
use crate::server::Server;

#[tokio::test]
async fn each_hears_what_all_do_in_one_order() {
    const EACH: u64 = 200;
    let server = Server::start().await;
    let stores = [server.store().await, server.store().await].map(Arc::new);
    let room = name("room");
    let mut watches = Vec::new();
    for store in &stores {
        watches.push(store.watch(&room).await.unwrap());
    }
    let opened = stores[0].open_room(&room, new_room("RM_1")).await.unwrap();
    let id = opened.room.id;

    // Heard while it happens: more than a watcher may be behind.
    let hear = |mut watch: Watch| async move {
        let mut heard = Vec::new();
        for _ in 0..=2 * EACH {
            heard.push(next(&mut watch).await);
        }
        heard
    };
    let heard: Vec<_> = watches
        .into_iter()
        .map(|watch| tokio::spawn(hear(watch)))
        .collect();
    let writers = stores.iter().enumerate().map(|(i, store)| {
        let (store, room, id) = (Arc::clone(store), room.clone(), id.clone());
        tokio::spawn(async move {
            let mut v = None;
            for _ in 0..EACH {
                v = Some(version(&*store, &room, &id, put(&format!("{i}"), v)).await);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut all = Vec::new();
    for heard in heard {
        let heard = heard.await.unwrap();
        let sequences: Vec<u64> = heard.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=2 * EACH + 1).collect::<Vec<_>>());
        all.push(heard);
    }
    assert_eq!(all[0], all[1]);
}

#[tokio::test]
async fn a_watch_hears_what_is_done_as_soon_as_it_is_there() {
    let server = Server::start().await;
    let (watcher, writer) = (server.store().await, server.store().await);
    for i in 0..300 {
        let room = name(&format!("room-{i}"));
        let mut watch = watcher.watch(&room).await.unwrap();
        let opened = writer.open_room(&room, new_room("RM_1")).await.unwrap();
        assert_eq!(next(&mut watch).await.change, Change::Opened(opened.room));
    }
}

#[tokio::test]
async fn of_many_who_want_the_same_one_gets_it() {
    let server = Server::start().await;
    let stores = [server.store().await, server.store().await].map(Arc::new);
    let room = name("room");
    let open = (0..20).map(|i| {
        let (store, room) = (Arc::clone(&stores[i % 2]), room.clone());
        tokio::spawn(async move {
            let opened = store.open_room(&room, new_room(&format!("RM_{i}"))).await;
            opened.unwrap()
        })
    });
    let mut opened = Vec::new();
    for task in open.collect::<Vec<_>>() {
        opened.push(task.await.unwrap());
    }
    assert_eq!(opened.iter().filter(|opened| opened.created).count(), 1);
    let id = opened[0].room.id.clone();
    assert!(opened.iter().all(|opened| opened.room.id == id));

    // Places in a bounded room, and one identity.
    let come = |i: usize, who: String, capacity: u32| {
        let (store, room, id) = (Arc::clone(&stores[i % 2]), room.clone(), id.clone());
        let put = PutMember {
            capacity: Some(capacity),
            ..put(&who, None)
        };
        tokio::spawn(async move { store.put_member(&room, &id, put).await.unwrap() })
    };
    let many: Vec<_> = (0..20).map(|i| come(i, format!("{i}"), 5)).collect();
    let mut outcomes = Vec::new();
    for task in many {
        outcomes.push(task.await.unwrap());
    }
    let came = |outcome: &&PutOutcome| matches!(outcome, PutOutcome::Done { .. });
    assert_eq!(outcomes.iter().filter(came).count(), 5);
    let full = |outcome: &&PutOutcome| **outcome == PutOutcome::Full;
    assert_eq!(outcomes.iter().filter(full).count(), 15);
    let same: Vec<_> = (0..20).map(|i| come(i, "same".to_owned(), 100)).collect();
    let mut outcomes = Vec::new();
    for task in same {
        outcomes.push(task.await.unwrap());
    }
    assert_eq!(outcomes.iter().filter(came).count(), 1);

    // Whoever leaves last ends the room, once.
    let members = stores[0].read_room(&room).await.unwrap().unwrap().members;
    assert_eq!(members.len(), 6);
    let leave = members.into_iter().enumerate().map(|(i, member)| {
        let (store, room, id) = (Arc::clone(&stores[i % 2]), room.clone(), id.clone());
        tokio::spawn(async move {
            let (who, v) = (member.identity, member.version);
            store
                .remove_member(&room, &id, &who, v, WhenEmpty::End)
                .await
        })
    });
    let mut last = 0;
    for task in leave.collect::<Vec<_>>() {
        let RemoveOutcome::Done { empty, .. } = task.await.unwrap().unwrap() else {
            panic!("each leaves once")
        };
        last += u32::from(empty);
    }
    assert_eq!(last, 1);
    assert_eq!(stores[1].read_room(&room).await.unwrap(), None);
}

#[tokio::test]
async fn databases_of_one_server_do_not_hear_each_other() {
    let server = Server::start().await;
    let zero = server.store().await;
    let one = crate::server::store(&format!("{}/1", server.url()), None);
    crate::server::is_up(&one, true).await;
    let room = name("room");
    let mut watch = one.watch(&room).await.unwrap();
    zero.open_room(&room, new_room("RM_0")).await.unwrap();
    assert_eq!(one.read_room(&room).await.unwrap(), None);
    one.open_room(&room, new_room("RM_1")).await.unwrap();
    assert_eq!(next(&mut watch).await.room.as_str(), "RM_1");
}

#[tokio::test]
async fn what_a_later_version_adds_disturbs_nobody() {
    let server = Server::start().await;
    let store = server.store().await;
    let room = name("room");
    let opened = store.open_room(&room, new_room("RM_1")).await.unwrap();
    let mut watch = store.watch(&room).await.unwrap();
    let mut operator = server.operator().await;
    // As the next version would: more fields, stored and published.
    let later = r#"
        redis.call('HSET', KEYS[1], 'created_by', 'x')
        redis.call('HSET', KEYS[2], 'a', '7 body')
        redis.call('HSET', KEYS[1], 'sequence', 2, 'member_version', 7)
        redis.call('PUBLISH', ARGV[1], '{"change":"member_put","identity":"a","version":7,' ..
            '"room":"RM_1","sequence":2,"seen":{"by":["x"]}}\nbody')
    "#;
    redis::cmd("EVAL")
        .arg(later)
        .arg(2)
        .arg("pipemesh:v1:{room}:room")
        .arg("pipemesh:v1:{room}:members")
        .arg("pipemesh:v1:0:{room}:events")
        .exec_async(&mut operator)
        .await
        .unwrap();
    let read = store.read_room(&room).await.unwrap().unwrap();
    let event = next(&mut watch).await;
    assert_eq!(event.change, Change::MemberPut(read.members[0].clone()));
    assert_eq!((event.sequence, read.members[0].version), (2, 7));
    let id = &opened.room.id;
    let v = version(&store, &room, id, put("a", Some(7))).await;
    assert_eq!((v, next(&mut watch).await.sequence), (8, 3));
    let who = identity("a");
    let left = store.remove_member(&room, id, &who, v, WhenEmpty::End);
    left.await.unwrap();
    assert_eq!(store.read_room(&room).await.unwrap(), None);
}
