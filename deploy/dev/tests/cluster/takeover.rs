//! A client loses its signaling process and resumes with another: nobody notices, and media never stops.

use std::time::Duration;

use futures_util::future::join_all;
use livekit_protocol::leave_request::Action;
use pipemesh_loadtest_client::stats::{Left, Stats};
use pipemesh_loadtest_client::{Generator, Layout, Participant};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::figures;
use crate::mesh::{GRACE, Mesh, PATIENCE, Signaling, until};
use crate::people::*;
use crate::process::Process;
use crate::server_api::call;
use crate::way::Way;

const ROOM: &str = "standup";

/// A process is taken to be gone when it has been silent for that long, and its people for the grace.
const SILENCE: Duration = Duration::from_secs(5);

/// Four who speak, two on each process, of both layouts.
struct Call {
    mesh: Mesh,
    _generator: Generator,
    people: Vec<Participant>,
}

impl Call {
    async fn start() -> Self {
        Self::start_in(Mesh::start().await).await
    }

    async fn start_in(mesh: Mesh) -> Self {
        let generator = Generator::start(1).unwrap();
        let mut people = Vec::new();
        for (number, identity) in ["ann", "ben", "cleo", "dan"].into_iter().enumerate() {
            let layout = [Layout::Single, Layout::Dual][number / 2];
            people.push(
                speak_as(
                    &generator,
                    &mesh.signaling[number % 2],
                    ROOM,
                    identity,
                    layout,
                )
                .await,
            );
        }
        for person in &people {
            let all = |stats: &Stats| {
                stats.tracks.len() == 3 && stats.tracks.iter().all(|track| track.packets > 0)
            };
            let heard = person.until("it hears everybody", PATIENCE, all);
            heard.await.unwrap();
        }
        Self {
            mesh,
            _generator: generator,
            people,
        }
    }

    /// Those of the second process.
    fn moved(&self) -> impl Iterator<Item = &Participant> {
        self.people.iter().skip(1).step_by(2)
    }

    /// They resume with the first process.
    async fn resume(&self) {
        let url = url(&self.mesh.signaling[0]);
        let resumed = self.moved().map(|person| person.reconnect_to(&url));
        for outcome in join_all(resumed).await {
            outcome.unwrap();
        }
    }

    /// Everybody hears everybody as if nothing had happened.
    async fn nobody_noticed(&self) {
        for (number, person) in self.people.iter().enumerate() {
            let stats = hears_on(person, 25).await;
            if number % 2 == 0 {
                assert_eq!((stats.left, stats.reconnects, stats.failures), (None, 0, 0));
                assert_eq!(stats.connects, [1, 2][number / 2], "{stats:#?}");
            }
            assert_eq!(stats.tracks.len(), 3);
            for track in &stats.tracks {
                assert_eq!(track.lost, 0, "{track:#?}");
            }
        }
    }

    /// What is said and done reaches everybody by way of the first process.
    async fn all_works(&self) {
        for (of, muted) in [(1, true), (1, false), (0, true), (0, false)] {
            self.people[of].mute("voice", muted);
            let identity = self.people[of].identity.clone();
            for person in self
                .people
                .iter()
                .filter(|person| person.identity != identity)
            {
                let identity = identity.clone();
                let seen = person.until("it sees the mute", PATIENCE, move |stats| {
                    let mut remote = stats.remote.iter();
                    remote.any(|it| it.identity == identity && it.muted == muted)
                });
                seen.await.unwrap();
            }
        }
        let update = json!({ "room": ROOM, "identity": "ben", "metadata": "by the desk" });
        let answer = call(&self.mesh.signaling[0], "UpdateParticipant", update).await;
        assert_eq!(answer["metadata"], "by the desk", "{answer}");
        self.nobody_noticed().await;
    }
}

fn url(signaling: &Signaling) -> String {
    format!("http://{}/", signaling.clients)
}

#[tokio::test]
async fn nobody_notices_that_a_signaling_process_is_killed() {
    let mut call = Call::start().await;
    let (mut watcher, joined) = join(&call.mesh.signaling[0], ROOM, "watcher").await;
    let before = others_of(&joined).len();
    call.mesh.signaling[1].process.kill();
    let killed = Instant::now();
    call.resume().await;
    figures::time("light_signaling_kill_resumed", killed.elapsed());
    call.all_works().await;
    // Nor is anybody taken to be gone later, with the process that is.
    sleep(SILENCE + GRACE).await;
    call.nobody_noticed().await;
    watcher.ping(PATIENCE).await.unwrap();
    while let Ok(message) = watcher.next(Duration::ZERO).await {
        assert!(!tells_of_leaving(&message), "{message:?}");
    }
    let (_guest, joined) = join(&call.mesh.signaling[0], ROOM, "guest").await;
    assert_eq!(others_of(&joined).len(), before + 1);
}

#[tokio::test]
async fn nobody_notices_that_a_signaling_process_ends() {
    let mut call = Call::start().await;
    call.mesh.signaling[1].process.terminate();
    for person in call.moved() {
        let told = person.until("it is told", PATIENCE, |stats| stats.left.is_some());
        assert_eq!(told.await.unwrap().left, Some(Left::Resume));
    }
    call.resume().await;
    call.mesh.signaling[1].process.until_ended().await;
    call.all_works().await;
}

/// As when a balancer sends it elsewhere after its network changed.
#[tokio::test]
async fn a_client_can_resume_with_another_process_while_its_own_lives() {
    let call = Call::start().await;
    call.resume().await;
    call.all_works().await;
    // And back: the process that had let go takes over again.
    let url = url(&call.mesh.signaling[1]);
    call.people[1].reconnect_to(&url).await.unwrap();
    hears_on(&call.people[1], 25).await;
    for signaling in &call.mesh.signaling {
        assert!(
            signaling
                .process
                .said("a session ended by a fault")
                .is_empty()
        );
    }
}

/// Redis is told when it is back, before those whom the dead process has served are taken to be gone.
#[tokio::test]
async fn a_session_goes_on_elsewhere_while_redis_is_away() {
    let mut call = Call::start().await;
    call.mesh.redis.told("SAVE").await;
    call.mesh.redis.process.kill();
    call.mesh.until_all("pipemesh_redis_up", 0.0).await;
    call.mesh.signaling[1].process.kill();
    call.resume().await;
    call.nobody_noticed().await;
    call.mesh.redis.process.start_again();
    sleep(SILENCE + GRACE + SILENCE).await;
    call.nobody_noticed().await;
    let (_guest, joined) = join_in_time(&call.mesh.signaling[0], ROOM, "guest").await;
    assert_eq!(others_of(&joined), ["ann", "ben", "cleo", "dan"]);
}

#[tokio::test]
async fn a_signaling_process_that_was_frozen_takes_nobody_back() {
    wakes_too_late(false).await;
}

/// From Redis it cannot hear that its people went on elsewhere, either.
#[tokio::test]
async fn a_signaling_process_that_was_frozen_and_is_cut_off_from_redis_takes_nobody_back() {
    wakes_too_late(true).await;
}

async fn wakes_too_late(is_cut_off: bool) {
    let mut mesh = Mesh::start().await;
    let way = Way::to(mesh.redis.address).await;
    mesh.add_signaling(([127, 0, 0, 1], way.port).into()).await;
    drop(mesh.signaling.swap_remove(1));
    let call = Call::start_in(mesh).await;
    let [living, frozen] = &call.mesh.signaling[..] else {
        unreachable!("there are two");
    };
    let (mut watcher, joined) = join(living, ROOM, "watcher").await;
    let before = others_of(&joined).len();
    frozen.process.freeze();
    if is_cut_off {
        way.cut();
    }
    let broken = || {
        let said = |node: &Process| node.said("the session's stream broke; the session goes on");
        call.mesh
            .nodes
            .iter()
            .map(|it| said(it).len())
            .sum::<usize>()
    };
    until("the node gives its streams up", async || {
        (broken() >= call.moved().count()).then_some(())
    })
    .await;
    call.resume().await;
    call.nobody_noticed().await;
    let mut resumed = Vec::new();
    for person in &call.people {
        resumed.push(person.stats().await.unwrap());
    }

    frozen.process.thaw();
    until("it lets go of all of them", async || {
        let ended = frozen.process.said("session ended");
        let ended = ended.iter().filter(|line| line["ended"] == "TakenOver");
        (ended.count() == call.moved().count()).then_some(())
    })
    .await;
    sleep(SILENCE + GRACE).await;
    watcher.ping(PATIENCE).await.unwrap();
    way.mend();
    sleep(SILENCE + GRACE).await;
    call.all_works().await;
    for (person, before) in call.people.iter().zip(&resumed) {
        let after = person.stats().await.unwrap();
        let of = |stats: &Stats| (stats.left, stats.reconnects, stats.failures);
        assert_eq!(of(&after), of(before), "{after:#?}");
    }
    watcher.ping(PATIENCE).await.unwrap();
    while let Ok(message) = watcher.next(Duration::ZERO).await {
        assert!(!tells_of_leaving(&message), "{message:?}");
    }
    let (_guest, joined) = join(frozen, ROOM, "guest").await;
    assert_eq!(others_of(&joined).len(), before + 1);
}

#[tokio::test]
async fn who_loses_signaling_and_node_at_once_joins_anew_and_stays() {
    let mut mesh = Mesh::start().await;
    let generator = Generator::start(1).unwrap();
    let mut people = Vec::new();
    for identity in ["ben", "cleo"] {
        people.push(speak(&generator, &mesh.signaling[1], ROOM, identity).await);
    }
    let (_ann, joined) = join(&mesh.signaling[0], ROOM, "ann").await;
    mesh.signaling[1].process.kill();
    let node = node_of(&joined);
    mesh.node(&node).kill();
    // One after the other: the first takes the room to another node.
    let mut here = Vec::new();
    for person in &people {
        let (identity, sid) = (person.identity.as_str(), person.sid.as_str());
        let mut client = resume(&mesh.signaling[0], ROOM, identity, sid).await;
        assert_eq!(is_sent_away(&mut client).await, Action::Reconnect);
        let (client, again) = join(&mesh.signaling[0], ROOM, identity).await;
        assert_eq!(again.participant.as_ref().unwrap().sid, sid);
        assert_ne!(node_of(&again), node);
        here.push(client);
    }
}
