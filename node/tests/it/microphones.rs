//! Rooms in which only the loudest microphones are heard, wherever they are.

use std::collections::BTreeMap;
use std::time::Duration;

use pipemesh_proto::node::{AddTrack, ConnectionLayout, Open, TrackSource};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::pipes::Mesh;
use crate::support::control::{Signaling, layers, microphone, participant};
use crate::support::node::TestNode;
use crate::support::subscriber::Subscriber;
use crate::support::talker::Talker;
use crate::support::wire::Wire;

/// In -dBov (RFC 6464).
const SPEECH: u8 = 20;
const NOISE: u8 = 65;
/// Microphones that are heard.
const HEARD: u32 = 3;
const PACKET: Duration = Duration::from_millis(20);
/// 300 ms of packets.
const SOON: u64 = 15;
/// Packets that are on their way when one microphone takes another's place.
const CHANGING: Duration = Duration::from_millis(300);

/// A second is 50 packets.
fn seconds(seconds: u64) -> u64 {
    seconds * 50
}

fn open(name: &str, layout: ConnectionLayout) -> Open {
    Open {
        loudest_microphones: HEARD,
        ..participant(name, "room", layout)
    }
}

async fn talker(signaling: &Signaling, name: &str) -> Talker {
    let track = microphone(&format!("TR_{name}"), "microphone");
    let open = open(name, ConnectionLayout::Single);
    Talker::join_as(signaling, open, track).await
}

/// People with open microphones, and who speaks.
struct Room {
    talkers: Vec<(String, Talker)>,
    speaking: Vec<usize>,
    clock: Interval,
}

impl Room {
    fn new(talkers: Vec<(String, Talker)>) -> Self {
        let mut clock = interval(PACKET);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            talkers,
            speaking: Vec::new(),
            clock,
        }
    }

    /// Everybody sends so many packets.
    async fn go_on(&mut self, packets: u64) {
        for _ in 0..packets {
            self.clock.tick().await;
            for (number, (_, talker)) in self.talkers.iter_mut().enumerate() {
                let level = match self.speaking.contains(&number) {
                    true => SPEECH,
                    false => NOISE,
                };
                talker.go_on(level);
            }
        }
    }
}

/// A subscriber of all of them, and the SSRC of each.
struct Listener {
    subscriber: Subscriber,
    names: BTreeMap<u32, String>,
}

impl Listener {
    async fn join(signaling: &Signaling, here: &str, room: &Room, at: &[&str]) -> Self {
        let open = open("bob", ConnectionLayout::Dual);
        let mut subscriber = Subscriber::join_as(Wire::new().await, signaling, open).await;
        let elsewhere: Vec<&str> = at.iter().copied().filter(|node| *node != here).collect();
        subscriber.session.hear(&elsewhere).await;
        let mut names = BTreeMap::new();
        for ((name, _), node) in room.talkers.iter().zip(at) {
            let track = format!("TR_{name}");
            let stream = if *node == here {
                subscriber.subscribe(&track, layers(0)).await
            } else {
                let session = format!("S_room_{name}");
                let origin = (*node, session.as_str());
                subscriber.subscribe_at(&track, origin, layers(0)).await
            };
            names.insert(stream.ssrc, name.clone());
        }
        Self { subscriber, names }
    }

    fn forget(&self) {
        self.subscriber.wire.received().forget();
    }

    /// Who was heard since it was last forgotten, and how many packets of each.
    fn heard(&self) -> BTreeMap<&str, usize> {
        let received = self.subscriber.wire.received();
        let mut heard = BTreeMap::new();
        for packet in &received.rtp {
            if let Some(name) = self.names.get(&packet.ssrc) {
                *heard.entry(name.as_str()).or_default() += 1;
            }
        }
        heard
    }

    /// The first packet of somebody that came.
    fn first_of(&self, name: &str) -> Option<u64> {
        let received = self.subscriber.wire.received();
        let mut packets = received.rtp.iter();
        let is_it = |ssrc: u32| self.names.get(&ssrc).is_some_and(|other| other == name);
        let first = packets.find(|packet| is_it(packet.ssrc))?;
        Some(Talker::index_of(&first.payload))
    }
}

/// Packets that a node has sent to another one, once nothing is on its way any more.
async fn sent(node: &TestNode) -> f64 {
    let mut last = -1.0;
    loop {
        let labels = &[("direction", "out")];
        let now = node.metric("pipemesh_pipe_packets_total", labels);
        if now == last {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test]
async fn the_loudest_are_heard_on_whichever_nodes_they_are() {
    let mesh = Mesh::start(&["eu", "us"], |_| ()).await;
    let signaling = [mesh.signaling(0).await, mesh.signaling(1).await];
    let ids = ["node-a", "node-b"];
    let (mut talkers, mut at) = (Vec::new(), Vec::new());
    for number in 0..12 {
        let name = format!("t{number:02}");
        let node = number % 2;
        talkers.push((name.clone(), talker(&signaling[node], &name).await));
        at.push(ids[node]);
    }
    for (number, (_, talker)) in talkers.iter_mut().enumerate() {
        talker.session.hear(&[ids[1 - number % 2]]).await;
    }
    let mut room = Room::new(talkers);
    let bob = Listener::join(&signaling[1], ids[1], &room, &at).await;
    room.go_on(seconds(3)).await;

    // Nobody speaks: some are heard, and always the same.
    bob.forget();
    room.go_on(seconds(1)).await;
    let heard = bob.heard();
    assert_eq!(heard.len(), HEARD as usize, "{heard:?}");

    // One after the other begins to speak, here and there.
    for number in [6, 7, 8] {
        tokio::time::sleep(CHANGING).await;
        bob.forget();
        room.speaking.push(number);
        let begin = room.talkers[number].1.index + 1;
        room.go_on(2 * SOON).await;
        let name = format!("t{number:02}");
        let first = bob.first_of(&name);
        let first = first.unwrap_or_else(|| panic!("{name} is not heard: {:?}", bob.heard()));
        let waited = first.saturating_sub(begin);
        assert!(waited < SOON, "{name} is heard after {waited} packets");
    }
    // Two of them are on the other node, and nothing else crosses.
    room.go_on(seconds(1)).await;
    let before = sent(&mesh.nodes[0]).await;
    bob.forget();
    room.go_on(seconds(2)).await;
    let heard = bob.heard();
    let names: Vec<&str> = heard.keys().copied().collect();
    assert_eq!(names, ["t06", "t07", "t08"], "{heard:?}");
    let crossed = sent(&mesh.nodes[0]).await - before;
    let expected = 2.0 * seconds(2) as f64;
    assert!(
        (expected - 5.0..=expected + 5.0).contains(&crossed),
        "{crossed} packets of two microphones"
    );
    // Who listens is told why the others are silent.
    let sessions = signaling[1].inspect("room").await;
    let session = sessions.iter().find(|it| it.identity == "bob").unwrap();
    let unheard = session.subscriptions.iter().filter(|it| it.unheard);
    assert_eq!(unheard.count(), 12 - HEARD as usize);
    let sent_now = session
        .subscriptions
        .iter()
        .filter(|it| it.spatial.is_some());
    assert_eq!(sent_now.count(), HEARD as usize);
    mesh.stop().await;
}

#[tokio::test]
async fn among_the_shards_of_a_node_too() {
    let node = TestNode::spread(2).await;
    let signaling = node.signaling().await;
    let mut talkers = Vec::new();
    for number in 0..6 {
        let name = format!("t{number:02}");
        talkers.push((name.clone(), talker(&signaling, &name).await));
    }
    let mut room = Room::new(talkers);
    let bob = Listener::join(&signaling, "node-a", &room, &["node-a"; 6]).await;
    room.speaking = vec![1, 2, 5];
    room.go_on(seconds(3)).await;
    bob.forget();
    room.go_on(seconds(1)).await;
    let heard = bob.heard();
    let names: Vec<&str> = heard.keys().copied().collect();
    assert_eq!(names, ["t01", "t02", "t05"], "{heard:?}");
    // Who leaves makes room.
    let (name, mut gone) = room.talkers.remove(1);
    gone.session.close().await;
    assert_eq!(name, "t01");
    room.speaking = vec![1, 4];
    room.go_on(seconds(1)).await;
    bob.forget();
    room.go_on(seconds(1)).await;
    let heard = bob.heard();
    assert_eq!(heard.len(), HEARD as usize, "{heard:?}");
    assert!(heard.contains_key("t02") && heard.contains_key("t05"));
    node.stop().await;
}

#[tokio::test]
async fn what_is_shared_with_a_screen_is_always_heard() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut talkers = Vec::new();
    for number in 0..5 {
        let name = format!("t{number:02}");
        talkers.push((name.clone(), talker(&signaling, &name).await));
    }
    let shared = AddTrack {
        source: TrackSource::ScreenShareAudio.into(),
        ..microphone("TR_screen", "microphone")
    };
    let open = open("screen", ConnectionLayout::Single);
    let screen = Talker::join_as(&signaling, open, shared).await;
    talkers.push(("screen".to_owned(), screen));
    let mut room = Room::new(talkers);
    let bob = Listener::join(&signaling, "node-a", &room, &["node-a"; 6]).await;
    room.speaking = vec![0, 1, 2];
    room.go_on(seconds(3)).await;
    bob.forget();
    room.go_on(seconds(1)).await;
    let heard = bob.heard();
    let names: Vec<&str> = heard.keys().copied().collect();
    assert_eq!(names, ["screen", "t00", "t01", "t02"], "{heard:?}");
    node.stop().await;
}
