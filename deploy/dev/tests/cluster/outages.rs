//! A part of the mesh is killed under a running call.

use std::time::Duration;

use livekit_protocol::leave_request::Action;
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Generator, Participant};
use tokio::time::{Instant, sleep_until};

use crate::figures;
use crate::http;
use crate::mesh::{Mesh, PATIENCE, Signaling, until};
use crate::people::*;

/// Packets of two seconds of speech.
const A_WHILE: u64 = 100;

/// A node that is killed is noticed within: three questions of Consul's that nobody answers.
const NOTICED: Duration = Duration::from_secs(12);

/// After Redis or Consul is back, everything works again within:
const FULL_FUNCTION: Duration = Duration::from_secs(5);

/// Six who speak to each other, over both signaling processes.
async fn call(mesh: &Mesh, generator: &Generator) -> Vec<Participant> {
    let mut people = Vec::new();
    for number in 0..6 {
        let signaling = &mesh.signaling[number % 2];
        let identity = format!("person-{number}");
        people.push(speak(generator, signaling, "standup", &identity).await);
    }
    let all = people.len() - 1;
    for person in &people {
        let hears = person.until("it hears all", PATIENCE, move |stats| {
            stats.tracks.iter().filter(|it| it.packets > 0).count() == all
        });
        hears.await.unwrap();
    }
    people
}

/// Nothing was lost, and nobody sent away.
async fn assert_untouched(name: &str, people: &[Participant]) {
    let mut tracks = Vec::new();
    for person in people {
        let stats = hears_on(person, A_WHILE).await;
        assert_unbroken(&stats);
        tracks.extend(stats.tracks);
    }
    figures::count(
        &format!("{name}_packets"),
        tracks.iter().map(|it| it.packets).sum(),
    );
    let lost = tracks.iter().map(|it| it.lost + it.missing).sum();
    figures::count(&format!("{name}_packets_lost"), lost);
    figures::spread(
        &format!("{name}_gap"),
        tracks.iter().map(|it| it.longest_pause),
    );
    assert_eq!(lost, 0);
}

/// How somebody is refused who wants in.
async fn refusal(signaling: &Signaling, room: &str) -> http::Answer {
    let connect = connect(signaling, room, "zoe");
    let answer = http::upgrade(signaling.clients, &connect.target()).await;
    answer.expect("it answers")
}

#[tokio::test]
async fn a_call_does_not_notice_that_redis_is_away() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let people = call(&mesh, &generator).await;
    let killed = Instant::now();
    mesh.redis.process.kill();
    mesh.until_all("pipemesh_redis_up", 0.0).await;
    sleep_until(killed + figures::outage()).await;
    mesh.redis.process.start_again();
    mesh.redis.until_up().await;
    let returned = Instant::now();
    for (number, signaling) in mesh.signaling.iter().enumerate() {
        join_in_time(signaling, &format!("another-{number}"), "zoe").await;
    }
    let took = returned.elapsed();
    figures::time("light_redis_outage", returned - killed);
    figures::time("light_redis_full_function", took);
    assert_untouched("light_redis", &people).await;
    assert!(took < FULL_FUNCTION, "{took:?}");
}

#[tokio::test]
async fn a_call_does_not_notice_that_consul_is_away() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let people = call(&mesh, &generator).await;
    let killed = Instant::now();
    mesh.consul.process.kill();
    mesh.until_all("pipemesh_consul_up", 0.0).await;
    sleep_until(killed + figures::outage()).await;
    mesh.consul.process.start_again();
    mesh.consul.until_up().await;
    let returned = Instant::now();
    mesh.consul.until_living(2).await;
    figures::time("light_consul_registered", returned.elapsed());
    mesh.until_all("pipemesh_consul_up", 1.0).await;
    for (number, signaling) in mesh.signaling.iter().enumerate() {
        join(signaling, &format!("another-{number}"), "zoe").await;
    }
    let took = returned.elapsed();
    figures::time("light_consul_outage", returned - killed);
    figures::time("light_consul_full_function", took);
    assert_untouched("light_consul", &people).await;
    assert!(took < FULL_FUNCTION, "{took:?}");
}

#[tokio::test]
async fn a_call_outlives_redis_and_what_redis_knew() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let ann = speak(&generator, &mesh.signaling[0], "standup", "ann").await;
    let ben = speak(&generator, &mesh.signaling[1], "standup", "ben").await;
    let (mut cleo, joined) = join(&mesh.signaling[1], "standup", "cleo").await;
    let (mut dan, _) = join(&mesh.signaling[0], "standup", "dan").await;
    for participant in [&ann, &ben] {
        hears_on(participant, A_WHILE).await;
    }

    mesh.redis.process.kill();
    mesh.until_all("pipemesh_redis_up", 0.0).await;
    for signaling in &mesh.signaling {
        let refused = refusal(signaling, "another").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.headers["retry-after"].parse::<u64>().is_ok());
        let ready = http::get(signaling.operator, "/readyz").await.unwrap();
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    // The room that is known takes people, who see each other where they are on one process.
    let (mut fay, joined_meanwhile) = join(&mesh.signaling[0], "standup", "fay").await;
    assert_eq!(room_of(&joined_meanwhile), room_of(&joined));
    assert_eq!(others_of(&joined_meanwhile), ["ann", "ben", "cleo", "dan"]);
    dan.leave().await.unwrap();
    dan.closed(PATIENCE).await.unwrap();
    sees(&mut fay, "dan gone", |info| {
        info.identity == "dan" && is_gone(info)
    })
    .await;
    ann.mute("voice", true);
    hears_on(&ann, A_WHILE).await;
    ann.mute("voice", false);
    hears_on(&ben, A_WHILE).await;
    ann.mute("voice", true);

    mesh.redis.process.start_again();
    mesh.until_all("pipemesh_redis_up", 1.0).await;
    let muted = |stats: &Stats| {
        stats
            .remote
            .iter()
            .any(|it| it.identity == "ann" && it.muted)
    };
    ben.until("ann is muted", PATIENCE, muted).await.unwrap();
    sees(&mut cleo, "dan gone", |info| {
        info.identity == "dan" && is_gone(info)
    })
    .await;
    // It is the room that it was, for those who come, too.
    let (_eve, again) = join(&mesh.signaling[1], "standup", "eve").await;
    assert_eq!(room_of(&again), room_of(&joined));
    assert_eq!(others_of(&again), ["ann", "ben", "cleo", "fay"]);
    sees(&mut cleo, "eve", |info| info.identity == "eve").await;
    let (_zoe, _) = join_in_time(&mesh.signaling[1], "another", "zoe").await;
    for participant in [&ann, &ben] {
        assert_unbroken(&participant.stats().await.unwrap());
    }
    cleo.ping(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn nodes_last_known_serve_while_consul_is_away() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let ann = speak(&generator, &mesh.signaling[0], "standup", "ann").await;
    let ben = speak(&generator, &mesh.signaling[1], "standup", "ben").await;
    mesh.consul.process.kill();
    mesh.until_all("pipemesh_consul_up", 0.0).await;
    for (number, signaling) in mesh.signaling.iter().enumerate() {
        let (_zoe, joined) = join(signaling, &format!("another-{number}"), "zoe").await;
        assert!(others_of(&joined).is_empty());
        let (_yan, joined) = join(signaling, "standup", &format!("yan-{number}")).await;
        assert!(others_of(&joined).starts_with(&["ann", "ben"]));
        let ready = http::get(signaling.operator, "/readyz").await.unwrap();
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    for participant in [&ann, &ben] {
        hears_on(participant, A_WHILE).await;
    }

    // It has forgotten everybody, and everybody tells it again.
    mesh.consul.process.start_again();
    mesh.consul.until_up().await;
    mesh.consul.until_living(2).await;
    mesh.until_all("pipemesh_consul_up", 1.0).await;
    mesh.until_all("pipemesh_signal_nodes_up", 2.0).await;
    for participant in [&ann, &ben] {
        hears_on(participant, A_WHILE).await;
        assert_unbroken(&participant.stats().await.unwrap());
    }
}

#[tokio::test]
async fn people_on_a_node_that_is_killed_go_to_another_one() {
    let mut mesh = Mesh::start().await;
    let (mut ann, joined) = join(&mesh.signaling[0], "standup", "ann").await;
    let (mut ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    let dead = node_of(&joined);
    mesh.node(&dead).kill();
    let killed = Instant::now();
    for client in [&mut ann, &mut ben] {
        assert_eq!(is_sent_away(client).await, Action::Reconnect);
    }
    for (signaling, identity) in mesh.signaling.iter().zip(["ann", "ben"]) {
        let (_client, joined) = join(signaling, "standup", identity).await;
        assert_ne!(node_of(&joined), dead);
    }
    mesh.consul.until_living(1).await;
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());

    // It comes back under its name, and is there for all.
    mesh.node(&dead).start_again();
    mesh.consul.until_living(2).await;
    mesh.until_all("pipemesh_signal_nodes_up", 2.0).await;
    let mut rooms = 0;
    until("it takes rooms", async || {
        rooms += 1;
        let (_zoe, joined) = join(&mesh.signaling[0], &format!("room-{rooms}"), "zoe").await;
        (node_of(&joined) == dead).then_some(())
    })
    .await;
}
