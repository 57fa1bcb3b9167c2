//! People are moved from a node that drains, and find another one when theirs dies or falls silent.

use std::time::Duration;

use futures_util::future::join_all;
use livekit_protocol::leave_request::Action;
use pipemesh_loadtest_client::stats::{Left, Stats};
use pipemesh_loadtest_client::{Audio, Generator, Join, Layout, Media, Participant};
use tokio::time::Instant;

use crate::figures;
use crate::mesh::{DRAIN_RATE, Mesh, PATIENCE};
use crate::people::*;

/// Media is back, for all but the slowest twentieth: after a node was killed,
const BACK_AFTER_DEATH: Duration = Duration::from_secs(2);
/// … after it fell silent, which has to be noticed first,
const BACK_AFTER_SILENCE: Duration = Duration::from_secs(4);
/// … and after somebody was told to leave one that drains.
pub(crate) const GAP_OF_DRAIN: Duration = Duration::from_secs(1);

/// Who speaks, and comes back as soon as he is told to, as SDKs do.
pub(crate) struct Person {
    pub(crate) url: String,
    room: String,
    pub(crate) participant: Participant,
    voice: String,
}

/// When somebody was told, and when he heard somebody again.
pub(crate) struct Back {
    pub(crate) told: Instant,
    pub(crate) back: Instant,
}

impl Person {
    pub(crate) async fn join(
        generator: &Generator,
        url: String,
        room: String,
        identity: &str,
    ) -> Self {
        let join = Join::new(url.clone(), token(&room, identity), Layout::Single);
        let participant = generator.join(join).await.unwrap();
        let voice = Media::Audio(Audio::default());
        let voice = participant.publish("voice", voice, PATIENCE).await.unwrap();
        Self {
            url,
            room,
            participant,
            voice,
        }
    }

    /// Waits until he is told to come back, and does.
    pub(crate) async fn comes_back(self, generator: &Generator) -> (Self, Back) {
        let told = self
            .participant
            .until("it is told", PATIENCE, |stats| stats.left.is_some());
        let left = told.await.unwrap().left;
        let told = Instant::now();
        // Who is not known there, or not with this build, joins anew.
        if left == Some(Left::Resume) && self.participant.reconnect_to(&self.url).await.is_ok() {
            hears_on(&self.participant, 1).await;
            let back = Instant::now();
            return (self, Back { told, back });
        }
        self.joins_anew(generator, told).await
    }

    async fn joins_anew(self, generator: &Generator, told: Instant) -> (Self, Back) {
        let Self {
            url,
            room,
            participant,
            voice,
        } = self;
        let (identity, sid) = (participant.identity.clone(), participant.sid.clone());
        drop(participant);
        let again = Self::join(generator, url, room, &identity).await;
        assert_eq!(again.participant.sid, sid);
        assert_eq!(again.voice, voice);
        let hears = again
            .participant
            .until("it hears somebody", PATIENCE, |stats| {
                stats.tracks.iter().any(|track| track.packets > 0)
            });
        hears.await.unwrap();
        let back = Instant::now();
        (again, Back { told, back })
    }

    /// Hears so many others, and goes on.
    async fn hears(&self, others: usize) {
        let all = move |stats: &Stats| {
            let heard = heard(stats).into_values();
            heard.filter(|packets| *packets > 0).count() == others
        };
        let outcome = self.participant.until("it hears all", PATIENCE, all);
        outcome.await.unwrap();
        hears_on(&self.participant, 25).await;
    }
}

/// Rooms of four on one node, each over both signaling processes.
async fn crowd(mesh: &Mesh, generator: &Generator, rooms: usize, elsewhere: &str) -> Vec<Person> {
    assert_eq!(mesh.signaling[0].tell(elsewhere, "drain").await, 200);
    for signaling in &mesh.signaling {
        signaling.until_registered(elsewhere, "draining").await;
    }
    let mut people = Vec::new();
    for number in 0..rooms * 4 {
        let signaling = &mesh.signaling[number % 2];
        let url = format!("http://{}/", signaling.clients);
        let (room, identity) = (format!("room-{}", number / 4), format!("person-{number}"));
        people.push(Person::join(generator, url, room, &identity).await);
    }
    assert_eq!(mesh.signaling[1].tell(elsewhere, "undrain").await, 200);
    for signaling in &mesh.signaling {
        signaling.until_registered(elsewhere, "serving").await;
    }
    join_all(people.iter().map(|person| person.hears(3))).await;
    people
}

/// Waits until everybody is back, and hears everybody else.
async fn come_back(people: Vec<Person>, generator: &Generator) -> Vec<Back> {
    let back = people.into_iter().map(|it| it.comes_back(generator));
    let (people, back): (Vec<Person>, Vec<Back>) = join_all(back).await.into_iter().unzip();
    join_all(people.iter().map(|person| person.hears(3))).await;
    back
}

/// Tells how long that took, and answers what nineteen of twenty stay within.
fn came_back(name: &str, back: &[Back], since: Instant) -> Duration {
    figures::count(&format!("{name}_people"), back.len() as u64);
    let told = back.iter().map(|it| it.told - since);
    figures::spread(&format!("{name}_told"), told);
    let joined = back.iter().map(|it| it.back - it.told);
    figures::spread(&format!("{name}_join"), joined);
    let back = back.iter().map(|it| it.back - since);
    figures::spread(&format!("{name}_back"), back)
}

#[tokio::test]
async fn nobody_is_left_behind_on_a_node_that_drains_and_it_ends() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let people = crowd(&mesh, &generator, 5, "node-b").await;
    let all = u32::try_from(people.len()).unwrap();
    figures::count("light_drain_people", all.into());
    mesh.node("node-a").terminate();
    let back = come_back(people, &generator).await;
    let gap = figures::spread("light_drain_gap", back.iter().map(|it| it.back - it.told));
    assert!(gap < GAP_OF_DRAIN, "{gap:?}");
    // At the rate that was set; what moves first is not waited for, in neither process.
    let told: Vec<Instant> = back.iter().map(|it| it.told).collect();
    let took = *told.iter().max().unwrap() - *told.iter().min().unwrap();
    let least = Duration::from_secs_f64(f64::from(all - 2 * 4) / f64::from(DRAIN_RATE));
    assert!(took > least / 2, "{took:?}");
    mesh.node("node-a").until_ended().await;
    mesh.consul.until_living(1).await;
}

#[tokio::test]
async fn everybody_is_back_soon_after_a_node_is_killed() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let people = crowd(&mesh, &generator, 3, "node-b").await;
    mesh.node("node-a").kill();
    let killed = Instant::now();
    let back = come_back(people, &generator).await;
    let back = came_back("light_node_kill", &back, killed);
    assert!(back < BACK_AFTER_DEATH, "{back:?}");
}

#[tokio::test]
async fn everybody_is_back_soon_after_a_node_falls_silent() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let people = crowd(&mesh, &generator, 3, "node-b").await;
    mesh.node("node-a").freeze();
    let frozen = Instant::now();
    let back = come_back(people, &generator).await;
    let back = came_back("light_node_silence", &back, frozen);
    assert!(back < BACK_AFTER_SILENCE, "{back:?}");
}

#[tokio::test]
async fn a_node_in_maintenance_is_emptied_and_serves_afterwards() {
    let mesh = Mesh::start().await;
    let (mut ann, joined) = join(&mesh.signaling[0], "standup", "ann").await;
    let node = node_of(&joined);
    mesh.consul.maintain(&node, true).await;
    assert_eq!(is_sent_away(&mut ann).await, Action::Reconnect);
    let (_ann, again) = join(&mesh.signaling[1], "standup", "ann").await;
    assert_ne!(node_of(&again), node);
    assert_eq!(room_of(&again), room_of(&joined));
    let target = format!("/placements?room=another&region={}", "eu");
    let would = mesh.signaling[0].tells(&target).await.unwrap();
    let nodes = would["nodes"].as_array().unwrap();
    let refused = nodes.iter().find(|it| it["id"] == *node).unwrap();
    assert_eq!(refused["refused"], "draining", "{would}");
    assert_eq!(would["chosen"]["node"], *node_of(&again), "{would}");

    mesh.consul.maintain(&node, false).await;
    for signaling in &mesh.signaling {
        signaling.until_registered(&node, "serving").await;
    }
}

#[tokio::test]
async fn the_operator_sees_what_is_where() {
    let mesh = Mesh::start().await;
    let (_ann, joined) = join(&mesh.signaling[0], "standup", "ann").await;
    let (_ben, _) = join(&mesh.signaling[1], "standup", "ben").await;
    for signaling in &mesh.signaling {
        let rooms = signaling.tells("/rooms").await.unwrap();
        assert_eq!(rooms["rooms"][0]["name"], "standup", "{rooms}");
        assert_eq!(rooms["rooms"][0]["participants"], 2, "{rooms}");
        let room = signaling.tells("/rooms/standup").await.unwrap();
        assert_eq!(room["id"], *room_of(&joined), "{room}");
        assert_eq!(room["homes"][0], *node_of(&joined), "{room}");
        let members = room["members"].as_array().unwrap();
        let processes: Vec<_> = members.iter().map(|it| &it["process"]).collect();
        assert!(
            processes[0].is_string() && processes[0] != processes[1],
            "{room}"
        );
        let would = signaling.tells("/placements?room=standup").await.unwrap();
        assert_eq!(would["chosen"]["reason"], "sticky", "{would}");
        let recent = signaling.tells("/placements").await.unwrap();
        assert_eq!(recent["recent"][0]["room"], "standup", "{recent}");
        assert_eq!(signaling.tell("node-z", "drain").await, 404);
        let nothing = signaling.tells("/rooms/another").await.unwrap();
        assert!(nothing["error"].is_string(), "{nothing}");
    }
}
