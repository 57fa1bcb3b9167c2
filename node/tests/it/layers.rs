//! Layers as a peer sees them that knows nothing of layers: one stream, whatever happens behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use pipemesh_proto::node::{ConnectionLayout, LayerWish};
use rand::Rng;

use crate::support::camera::{Mark, RIDS};
use crate::support::control::{self, Session, Signaling, layers};
use crate::support::node::TestNode;
use crate::support::rtc::{Camera, Film, Peer, Received};
use crate::support::{random, recording, subscriber};

const ROOM: &str = "room";
const TRACK: &str = "TR_ann";

/// Every few frames of each encoding a key frame: a switch does not wait for one to be asked for, which
/// the node does twice a second at most.
const HASTY: Film = Film {
    every: Duration::from_millis(2),
    key_frames: Some(5),
};
/// Key frames only for those who ask.
const SPARING: Film = Film {
    every: Duration::from_millis(10),
    key_frames: None,
};

/// A peer that receives.
struct Viewer {
    session: Session,
    peer: Peer,
}

impl Viewer {
    async fn join(signaling: &Signaling, name: &str) -> Self {
        let open = control::participant(name, ROOM, ConnectionLayout::Dual);
        let mut session = signaling.open(open).await;
        let peer = Peer::new().await;
        peer.answer(&mut session).await;
        peer.connected().await;
        Self { session, peer }
    }

    /// Subscribes; answers the SSRC that the track comes under.
    async fn subscribe(&mut self, wish: LayerWish) -> u32 {
        self.session.subscribe(TRACK, wish).await;
        let offer = self.peer.answer(&mut self.session).await;
        subscriber::sent(&offer, TRACK).ssrc
    }

    /// Waits for the `n`th packet of a stream.
    async fn packets(&self, ssrc: u32, n: usize) {
        let look = |received: &Received| {
            let of_stream = received.rtp.iter().filter(|p| p.header.ssrc == ssrc);
            (of_stream.count() >= n).then_some(())
        };
        self.peer.until(&format!("{n} packets"), look).await;
    }

    /// The encoding of the newest packet.
    fn encoding(received: &Received) -> Option<u8> {
        let packet = received.rtp.last()?;
        Some(Mark::read(&packet.payload).encoding)
    }
}

#[tokio::test]
async fn a_thousand_switches_are_one_stream() {
    a_thousand_switches_are_one_stream_on(TestNode::start().await).await;
}

pub(crate) async fn a_thousand_switches_are_one_stream_on(node: TestNode) {
    const SWITCHES: usize = 1000;
    let mut random = random();
    let signaling = node.signaling().await;
    let camera = Camera::join(&signaling, ROOM, "ann", &mut random).await;
    let _filming = camera.film(HASTY, &mut random).await;
    let mut viewer = Viewer::join(&signaling, "bob").await;
    let ssrc = viewer.subscribe(layers(1)).await;
    viewer.packets(ssrc, 1).await;

    let (mut switches, mut current) = (0, 0);
    while switches < SWITCHES {
        let other = (current + random.random_range(1..RIDS.len() as u8)) % RIDS.len() as u8;
        let wish = layers(u32::from(other) + 1);
        viewer.session.subscribe(TRACK, wish).await;
        // Now and then the next wish comes while this one is on its way.
        if random.random_ratio(1, 4) {
            let seen = viewer.peer.received().rtp.len();
            viewer.packets(ssrc, seen + random.random_range(1..4)).await;
        } else {
            let switched =
                |received: &Received| (Viewer::encoding(received) == Some(other)).then_some(());
            viewer.peer.until("the switch", switched).await;
        }
        let encoding = Viewer::encoding(&viewer.peer.received()).unwrap();
        switches += usize::from(encoding != current);
        current = encoding;
    }
    let recorded = viewer.peer.recorded(ssrc);
    assert!(recording::check(&recorded) >= SWITCHES);
    drop(viewer);
    node.stop().await;
}

#[tokio::test]
async fn late_joiners_begin_with_a_key_frame() {
    late_joiners_begin_with_a_key_frame_on(TestNode::start().await).await;
}

pub(crate) async fn late_joiners_begin_with_a_key_frame_on(node: TestNode) {
    const VIEWERS: usize = 6;
    let mut random = random();
    let signaling = node.signaling().await;
    let camera = Camera::join(&signaling, ROOM, "ann", &mut random).await;
    let _filming = camera.film(SPARING, &mut random).await;
    let mut viewers = Vec::new();
    for number in 0..VIEWERS {
        let mut viewer = Viewer::join(&signaling, &format!("viewer{number}")).await;
        let wish = layers(random.random_range(1..=RIDS.len() as u32));
        let ssrc = viewer.subscribe(wish).await;
        viewer.packets(ssrc, 3).await;
        viewers.push((viewer, ssrc));
    }
    for (viewer, ssrc) in &viewers {
        // Those who came before are not disturbed by those who came later.
        let seen = viewer.peer.recorded(*ssrc).len();
        viewer.packets(*ssrc, seen + 3).await;
        recording::check(&viewer.peer.recorded(*ssrc));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_track_that_is_wanted_again_begins_anew() {
    a_track_that_is_wanted_again_begins_anew_on(TestNode::start().await).await;
}

pub(crate) async fn a_track_that_is_wanted_again_begins_anew_on(node: TestNode) {
    const TIMES: usize = 4;
    let mut random = random();
    let signaling = node.signaling().await;
    let camera = Camera::join(&signaling, ROOM, "ann", &mut random).await;
    let _filming = camera.film(SPARING, &mut random).await;
    let mut viewer = Viewer::join(&signaling, "bob").await;
    let mut streams = BTreeSet::new();
    for _ in 0..TIMES {
        let wish = layers(random.random_range(1..=RIDS.len() as u32));
        let ssrc = viewer.subscribe(wish).await;
        assert!(
            streams.insert(ssrc),
            "numbers of one SSRC do not begin twice"
        );
        viewer.packets(ssrc, 5).await;
        viewer.session.unsubscribe(TRACK).await;
        viewer.peer.answer(&mut viewer.session).await;
    }
    for ssrc in streams {
        recording::check(&viewer.peer.recorded(ssrc));
    }
    node.stop().await;
}
