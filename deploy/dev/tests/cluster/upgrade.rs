//! A mesh of the commit before becomes one of this commit, process by process, under a running call.

use std::time::Duration;

use futures_util::future::join_all;
use livekit_protocol::UpdateParticipantMetadata;
use livekit_protocol::signal_request::Message as Request;
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Generator, Participant};
use serde_json::json;

use crate::figures;
use crate::mesh::{Mesh, PATIENCE, Signaling};
use crate::moving::{Back, GAP_OF_DRAIN, Person};
use crate::people::*;
use crate::process::{Build, no_previous};
use crate::server_api::call;

/// Who is told to join anew because their signaling process ends is back within, on a machine that does much
/// else: tens of milliseconds where it does not.
const GAP_OF_SIGNALING: Duration = Duration::from_secs(2);

const ROOM: &str = "standup";
const NODES: [&str; 2] = ["node-a", "node-b"];
const PEOPLE: [&str; 4] = ["ann", "ben", "cleo", "dan"];

/// Four people talk, two over each signaling process, and go on doing so.
struct Call {
    mesh: Mesh,
    generator: Generator,
    people: Vec<Person>,
    /// Who watched and who did something, in each look at the mesh.
    guests: u32,
}

impl Call {
    async fn start() -> Self {
        let mesh = Mesh::start_of(Build::Previous).await;
        let generator = Generator::start(1).unwrap();
        let mut people = Vec::new();
        for (number, identity) in PEOPLE.into_iter().enumerate() {
            let url = url(&mesh.signaling[number % 2]);
            people.push(Person::join(&generator, url, ROOM.to_owned(), identity).await);
        }
        let call = Self {
            mesh,
            generator,
            people,
            guests: 0,
        };
        call.everybody_is_heard().await;
        call
    }

    async fn everybody_is_heard(&self) {
        join_all(
            self.people
                .iter()
                .map(|it| hears_everybody(&it.participant)),
        )
        .await;
    }

    /// It is one mesh, whoever is of which build: one ring, and what is done on one process is seen on
    /// every other one.
    async fn is_one(&mut self) {
        self.mesh.until_one_ring(&NODES).await;
        for from in 0..self.mesh.signaling.len() {
            for to in 0..self.mesh.signaling.len() {
                if from != to {
                    self.guests += 1;
                    let signaling = &self.mesh.signaling;
                    crosses(&signaling[from], &signaling[to], self.guests).await;
                }
            }
        }
        for muted in [true, false] {
            for person in &self.people {
                person.participant.mute("voice", muted);
            }
            for person in &self.people {
                let all = move |stats: &Stats| {
                    let others = stats.remote.iter().filter(|it| it.muted == muted);
                    others.count() == PEOPLE.len() - 1
                };
                let seen = person
                    .participant
                    .until("all are muted, or none", PATIENCE, all);
                seen.await.unwrap();
            }
        }
        self.everybody_is_heard().await;
    }

    /// Beside each process of signaling that is there comes a new one, and the old one is told to end.
    async fn upgrade_signaling(&mut self) {
        for _ in 0..self.mesh.signaling.len() {
            let redis = self.mesh.redis.address;
            self.mesh.add_signaling_of(Build::This, redis).await;
            self.is_one().await;
            let mut old = self.mesh.signaling.remove(0);
            let new = url(self.mesh.signaling.last().expect("one was added"));
            let everybody = std::mem::take(&mut self.people);
            let was_there = |person: &Person| person.url == url(&old);
            let (mut told, others): (Vec<_>, Vec<_>) = everybody.into_iter().partition(was_there);
            for person in &mut told {
                person.url.clone_from(&new);
            }
            let mut before = Vec::new();
            for person in &others {
                before.push(person.participant.stats().await.unwrap());
            }
            old.process.terminate();
            let back = self.come_back(told, GAP_OF_SIGNALING).await;
            assert_eq!(back, PEOPLE.len() / 2);
            old.process.until_ended().await;
            for (person, before) in others.iter().zip(&before) {
                let after = person.participant.stats().await.unwrap();
                assert_goes_on(before, &after);
            }
            self.people.extend(others);
            self.is_one().await;
        }
    }

    /// Each node drains and ends, and begins again under its name; first the one that everybody is on.
    async fn upgrade_nodes(&mut self) {
        for _ in NODES {
            self.guests += 1;
            let guest = format!("guest-{}", self.guests);
            let (mut guest, joined) = join(&self.mesh.signaling[0], ROOM, &guest).await;
            guest.leave().await.unwrap();
            let id = node_of(&joined);
            self.mesh.node(&id).terminate();
            let everybody = std::mem::take(&mut self.people);
            let back = self.come_back(everybody, GAP_OF_DRAIN).await;
            assert_eq!(back, PEOPLE.len());
            self.mesh.node(&id).until_ended().await;
            self.mesh.consul.until_living(1).await;
            self.mesh.node(&id).start_again_as(Build::This);
            self.mesh.consul.until_living(2).await;
            self.mesh.until_ready().await;
            self.is_one().await;
        }
    }

    /// Waits until those who are told to join anew are back, and answers how many they were.
    async fn come_back(&mut self, told: Vec<Person>, within: Duration) -> usize {
        let generator = &self.generator;
        let back = join_all(told.into_iter().map(|it| it.comes_back(generator))).await;
        let (people, back): (Vec<Person>, Vec<Back>) = back.into_iter().unzip();
        let gap = figures::spread("upgrade_gap", back.iter().map(|it| it.back - it.told));
        assert!(gap < within, "{gap:?}");
        self.people.extend(people);
        back.len()
    }
}

fn url(signaling: &Signaling) -> String {
    format!("http://{}/", signaling.clients)
}

/// Waits until somebody has heard half a second of everybody else. Who joins anew begins another stream of
/// the same track: of the former one nothing more is heard.
async fn hears_everybody(participant: &Participant) {
    let of = |stats: &Stats, identity: &str| -> u64 {
        stats.tracks_of(identity).map(|track| track.packets).sum()
    };
    let before = participant.stats().await.unwrap();
    let heard = move |stats: &Stats| {
        let mut others = PEOPLE.iter().filter(|it| **it != stats.identity);
        others.all(|other| of(stats, other) >= of(&before, other) + 25)
    };
    let outcome = participant
        .until("it hears everybody", PATIENCE, heard)
        .await;
    outcome.unwrap();
}

/// Somebody comes, changes, is changed by the server API over there, and leaves; each of it is seen.
async fn crosses(from: &Signaling, to: &Signaling, number: u32) {
    let (watcher, guest) = (format!("watcher-{number}"), format!("guest-{number}"));
    let (mut watcher, joined) = join(to, ROOM, &watcher).await;
    let there: Vec<&str> = others_of(&joined);
    assert!(PEOPLE.iter().all(|it| there.contains(it)), "{there:?}");
    let (mut client, joined) = join(from, ROOM, &guest).await;
    let there = others_of(&joined);
    assert!(PEOPLE.iter().all(|it| there.contains(it)), "{there:?}");
    sees(&mut watcher, "a guest", |info| info.identity == guest).await;

    let update = UpdateParticipantMetadata {
        metadata: "back soon".to_owned(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        ..Default::default()
    };
    client.send(Request::UpdateMetadata(update)).await.unwrap();
    let seen = sees(&mut watcher, "a raised hand", |info| {
        info.identity == guest && info.attributes.contains_key("hand")
    });
    assert_eq!(seen.await.metadata, "back soon");

    let update = json!({ "room": ROOM, "identity": guest, "metadata": "by the desk" });
    let answer = call(to, "UpdateParticipant", update).await;
    assert_eq!(answer["metadata"], "by the desk", "{answer}");
    sees(&mut watcher, "what the desk did", |info| {
        info.identity == guest && info.metadata == "by the desk"
    })
    .await;

    client.leave().await.unwrap();
    sees(&mut watcher, "the guest gone", |info| {
        info.identity == guest && is_gone(info)
    })
    .await;
    watcher.leave().await.unwrap();
}

/// Whether it can be done here. `test`: who asks.
fn is_skipped(test: &str) -> bool {
    let reason = no_previous();
    if let Some(reason) = &reason {
        eprintln!("SKIPPED: upgrade::{test}: {reason}");
    }
    reason.is_some()
}

#[tokio::test]
async fn a_call_outlives_an_upgrade_of_signaling_and_then_of_nodes() {
    if is_skipped("a_call_outlives_an_upgrade_of_signaling_and_then_of_nodes") {
        return;
    }
    let mut call = Call::start().await;
    call.upgrade_signaling().await;
    call.upgrade_nodes().await;
}

#[tokio::test]
async fn a_call_outlives_an_upgrade_of_nodes_and_then_of_signaling() {
    if is_skipped("a_call_outlives_an_upgrade_of_nodes_and_then_of_signaling") {
        return;
    }
    let mut call = Call::start().await;
    call.upgrade_nodes().await;
    call.upgrade_signaling().await;
}

/// Two regions, and in each of them somebody who hears the other over a pipe, whose ends are of this build and
/// of the one before in every way there is.
#[tokio::test]
async fn a_call_over_pipes_outlives_an_upgrade_of_all_nodes() {
    if is_skipped("a_call_over_pipes_outlives_an_upgrade_of_all_nodes") {
        return;
    }
    let nodes = [
        ("node-a", "eu"),
        ("node-b", "eu"),
        ("node-c", "us"),
        ("node-d", "us"),
    ];
    let mut mesh = Mesh::start_in(Build::Previous, &nodes, &["eu", "us"], &[], &[]).await;
    mesh.until_one_ring(&nodes.map(|(id, _)| id)).await;
    let generator = Generator::start(1).unwrap();
    let mut people = Vec::new();
    for (signaling, identity) in mesh.signaling.iter().zip(["ann", "ben"]) {
        let person = Person::join(&generator, url(signaling), ROOM.to_owned(), identity).await;
        people.push(person);
    }
    hear_each_other(&people).await;
    for (id, region) in nodes {
        let mut others = Vec::new();
        let mut told = Vec::new();
        for person in std::mem::take(&mut people) {
            let node = node_of_person(&mesh, &person).await;
            assert!(
                nodes.contains(&(node.as_str(), region_of(&person))),
                "{node}"
            );
            match node == id {
                true => told.push(person),
                false => others.push(person),
            }
        }
        let connects = connects(&others).await;
        mesh.node(id).terminate();
        let back = join_all(told.into_iter().map(|it| it.comes_back(&generator))).await;
        mesh.node(id).until_ended().await;
        mesh.consul.until_living(nodes.len() - 1).await;
        mesh.node(id).start_again_as(Build::This);
        mesh.consul.until_living(nodes.len()).await;
        mesh.until_ready().await;
        assert_eq!(connects, self::connects(&others).await, "{id} in {region}");
        people.extend(others);
        people.extend(back.into_iter().map(|(person, _)| person));
        hear_each_other(&people).await;
    }
}

fn region_of(person: &Person) -> &'static str {
    match person.participant.identity.as_str() {
        "ann" => "eu",
        _ => "us",
    }
}

async fn node_of_person(mesh: &Mesh, person: &Person) -> String {
    let who = json!({ "room": ROOM, "identity": person.participant.identity });
    let told = call(&mesh.signaling[0], "GetParticipant", who).await;
    let node = told["attributes"]["pipemesh.node"].as_str();
    node.unwrap().to_owned()
}

/// How often each of them has had to join.
async fn connects(people: &[Person]) -> Vec<u64> {
    let mut all = Vec::new();
    for person in people {
        all.push(person.participant.stats().await.unwrap().connects);
    }
    all
}

async fn hear_each_other(people: &[Person]) {
    let all = people.iter().map(|person| async move {
        let packets = |stats: &Stats| -> u64 { stats.tracks.iter().map(|it| it.packets).sum() };
        let before = packets(&person.participant.stats().await.unwrap());
        let heard = move |stats: &Stats| packets(stats) >= before + 25;
        let outcome = person.participant.until("it hears on", PATIENCE, heard);
        outcome.await.unwrap();
    });
    join_all(all).await;
}
