//! Where a subscription ends, nothing more flows; where it begins, it does so once.
//!
//! Frames are sent one by one, and a second subscriber shows that a frame has passed the node: what the
//! first has not received by then is not on its way.

use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{AddTrack, Code, ConnectionLayout, LayerWish, TrackSource};

use crate::support::control::{self, Signaling, layers, participant, subscription};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::Sent;
use crate::support::subscriber::Subscriber;
use crate::support::{camera, random, recording};

const TRACK: &str = "TR_ann";

/// A publisher and two who receive the lowest encoding, from its first frame on.
struct Scene {
    node: TestNode,
    signaling: Signaling,
    ann: Publisher,
    bob: (Subscriber, Sent),
    eve: (Subscriber, Sent),
    frames: u32,
}

impl Scene {
    async fn begin(node: TestNode) -> Self {
        let mut random = random();
        let signaling = node.signaling().await;
        let ann = Publisher::join(&signaling, "room", "ann", &camera::RIDS, &mut random).await;
        let mut bob = Subscriber::join(&signaling, "room", "bob").await;
        let mut eve = Subscriber::join(&signaling, "room", "eve").await;
        let bob_gets = bob.subscribe(TRACK, layers(1)).await;
        let eve_gets = eve.subscribe(TRACK, layers(1)).await;
        let mut scene = Self {
            node,
            signaling,
            ann,
            bob: (bob, bob_gets),
            eve: (eve, eve_gets),
            frames: 0,
        };
        scene.signaling.settle("room").await;
        scene.frame(true).await;
        let (bob, stream) = &scene.bob;
        bob.frame(stream.ssrc, 0, 0).await;
        scene
    }

    /// Sends a frame, and waits until it has reached Eve.
    async fn frame(&mut self, is_key: bool) {
        self.ann.send_frames(is_key);
        let (eve, stream) = &self.eve;
        eve.frame(stream.ssrc, 0, self.frames).await;
        self.frames += 1;
    }

    /// Sends frames; answers how many of them Bob gets packets of.
    async fn bob_gets(&mut self, frames: u32) -> usize {
        self.signaling.settle("room").await;
        let before = self.frames;
        for number in 0..frames {
            self.frame(number == 0).await;
        }
        let (bob, stream) = &self.bob;
        let came = || {
            let recorded = bob.recorded(stream.ssrc);
            let new = recorded.iter().filter(|packet| packet.mark.frame >= before);
            new.filter(|packet| packet.mark.starts_frame).count()
        };
        if came() > 0 {
            // Eve may have the last one before him.
            bob.frame(stream.ssrc, 0, self.frames - 1).await;
        }
        came()
    }

    async fn end(self) {
        recording::check(&self.bob.0.recorded(self.bob.1.ssrc));
        recording::check(&self.eve.0.recorded(self.eve.1.ssrc));
        self.node.stop().await;
    }
}

#[tokio::test]
async fn unsubscribing_stops_at_once() {
    unsubscribing_stops_at_once_on(TestNode::start().await).await;
}

pub(crate) async fn unsubscribing_stops_at_once_on(node: TestNode) {
    let mut scene = Scene::begin(node).await;
    scene.bob.0.session.unsubscribe(TRACK).await;
    assert_eq!(scene.bob_gets(20).await, 0);
    scene.end().await;
}

#[tokio::test]
async fn pausing_stops_at_once_and_costs_a_key_frame() {
    pausing_stops_at_once_and_costs_a_key_frame_on(TestNode::start().await).await;
}

pub(crate) async fn pausing_stops_at_once_and_costs_a_key_frame_on(node: TestNode) {
    let mut scene = Scene::begin(node).await;
    let paused = LayerWish {
        paused: true,
        ..layers(1)
    };
    scene.bob.0.session.subscribe(TRACK, paused).await;
    assert_eq!(scene.bob_gets(20).await, 0);
    scene.bob.0.session.subscribe(TRACK, layers(1)).await;
    scene.signaling.settle("room").await;
    // Nothing before the next key frame.
    for _ in 0..5 {
        scene.frame(false).await;
    }
    assert_eq!(scene.bob_gets(5).await, 5);
    scene.end().await;
}

#[tokio::test]
async fn muting_stops_everybody_at_once() {
    muting_stops_everybody_at_once_on(TestNode::start().await).await;
}

pub(crate) async fn muting_stops_everybody_at_once_on(node: TestNode) {
    let mut scene = Scene::begin(node).await;
    scene.ann.session.mute(TRACK, true).await;
    scene.signaling.settle("room").await;
    let packets = |scene: &Scene| {
        let (bob, eve) = (&scene.bob, &scene.eve);
        (
            bob.0.recorded(bob.1.ssrc).len(),
            eve.0.recorded(eve.1.ssrc).len(),
        )
    };
    let before = packets(&scene);
    let first = scene.frames;
    let packets_sent: usize = (0..20).map(|_| scene.ann.send_frames(true)).sum();
    scene.frames += 20;
    // Every one of them has come; the last of the other encodings may have been muted before, too.
    let (dropped, muted) = ("pipemesh_packets_dropped_total", [("reason", "muted")]);
    let all = |n| n >= packets_sent as f64;
    scene.node.until_metric(dropped, &muted, all).await;
    scene.ann.session.mute(TRACK, false).await;
    scene.signaling.settle("room").await;
    scene.frame(true).await;
    let after = packets(&scene);
    assert!(after.1 > before.1);
    let eve = scene.eve.0.recorded(scene.eve.1.ssrc);
    let muted = eve
        .iter()
        .filter(|p| (first..first + 20).contains(&p.mark.frame));
    assert_eq!(muted.count(), 0);
    scene.end().await;
}

#[tokio::test]
async fn leaving_stops_at_once_and_ends_what_was_published() {
    leaving_stops_at_once_and_ends_what_was_published_on(TestNode::start().await).await;
}

pub(crate) async fn leaving_stops_at_once_and_ends_what_was_published_on(node: TestNode) {
    let mut scene = Scene::begin(node).await;
    scene.bob.0.session.close().await;
    assert_eq!(scene.bob_gets(10).await, 0);
    scene.ann.session.close().await;
    let ended = |event: &Event| match event {
        Event::SubscriptionEnded(ended) => Some(ended.track_id.clone()),
        _ => None,
    };
    let ended = scene.eve.0.session.event("the end", ended).await;
    assert_eq!(ended, TRACK);
    let again = Request::Subscribe(subscription(TRACK, layers(1)));
    let code = scene.eve.0.session.refused(again).await;
    assert_eq!(code, Code::TrackNotFound);
    scene.end().await;
}

#[tokio::test]
async fn nobody_receives_what_is_not_theirs() {
    let mut scene = Scene::begin(TestNode::start().await).await;
    let own = Request::Subscribe(subscription(TRACK, layers(1)));
    let code = scene.ann.session.refused(own.clone()).await;
    assert_eq!(code, Code::InvalidArgument, "one's own track");
    let stranger = participant("mallory", "elsewhere", ConnectionLayout::Dual);
    let mut stranger = scene.signaling.open(stranger).await;
    let code = stranger.refused(own).await;
    assert_eq!(code, Code::TrackNotFound, "a track of another room");
    let again = AddTrack {
        source: TrackSource::ScreenShare.into(),
        ..control::camera(TRACK, "screen")
    };
    let code = scene.ann.session.refused(Request::AddTrack(again)).await;
    assert_eq!(code, Code::TrackExists);
    scene.end().await;
}

/// Agents publish anew for every sentence, and people share their screen again and again.
#[tokio::test]
async fn a_client_may_change_its_ssrcs_as_often_as_it_likes() {
    a_client_may_change_its_ssrcs_as_often_as_it_likes_on(TestNode::start().await).await;
}

pub(crate) async fn a_client_may_change_its_ssrcs_as_often_as_it_likes_on(node: TestNode) {
    let mut random = random();
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let stream = bob.subscribe("TR_ann", layers(0)).await;
    signaling.settle("room").await;
    for frame in 0..150 {
        ann.send_frames(true);
        bob.frame(stream.ssrc, 0, frame).await;
        ann.change_ssrcs();
    }
    recording::check(&bob.recorded(stream.ssrc));
    node.stop().await;
}
