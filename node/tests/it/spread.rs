//! A room that lies on several shards is a room like any other: what holds on one shard holds here, and
//! what is told to one is told to all.
//!
//! Sessions go to the shards in turn, so that whoever publishes and whoever receives are apart.

use std::collections::BTreeSet;

use pipemesh_proto::node::session_event::Event;

use crate::support::camera::RIDS;
use crate::support::control::layers;
use crate::support::node::TestNode;
use crate::support::publisher::{Publisher, track};
use crate::support::subscriber::Subscriber;
use crate::support::{random, recording, until};
use crate::{data, layers as layering, repair, speakers, subscriptions};

const SHARDS: usize = 3;
const PACKETS: &str = "pipemesh_shard_packets_total";
const FORWARDED: &str = "pipemesh_rtp_packets_sent_total";

#[tokio::test]
async fn a_thousand_switches_are_one_stream() {
    layering::a_thousand_switches_are_one_stream_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn late_joiners_begin_with_a_key_frame() {
    layering::late_joiners_begin_with_a_key_frame_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn a_track_that_is_wanted_again_begins_anew() {
    layering::a_track_that_is_wanted_again_begins_anew_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn what_the_publisher_lost_it_repairs() {
    repair::what_the_publisher_lost_it_repairs_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn what_a_subscriber_lost_is_sent_again() {
    repair::what_a_subscriber_lost_is_sent_again_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn key_frames_are_asked_for_in_moderation() {
    repair::key_frames_are_asked_for_in_moderation_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn unsubscribing_stops_at_once() {
    subscriptions::unsubscribing_stops_at_once_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn pausing_stops_at_once_and_costs_a_key_frame() {
    let node = TestNode::spread(SHARDS).await;
    subscriptions::pausing_stops_at_once_and_costs_a_key_frame_on(node).await;
}

#[tokio::test]
async fn muting_stops_everybody_at_once() {
    subscriptions::muting_stops_everybody_at_once_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn leaving_stops_at_once_and_ends_what_was_published() {
    let node = TestNode::spread(SHARDS).await;
    subscriptions::leaving_stops_at_once_and_ends_what_was_published_on(node).await;
}

#[tokio::test]
async fn a_client_may_change_its_ssrcs_as_often_as_it_likes() {
    let node = TestNode::spread(SHARDS).await;
    subscriptions::a_client_may_change_its_ssrcs_as_often_as_it_likes_on(node).await;
}

#[tokio::test]
async fn who_speaks_is_told_to_everybody_until_they_are_silent() {
    let node = TestNode::spread(SHARDS).await;
    speakers::who_speaks_is_told_to_everybody_until_they_are_silent_on(node).await;
}

#[tokio::test]
async fn packets_reach_the_others_with_their_true_sender() {
    data::packets_reach_the_others_with_their_true_sender_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn reliable_packets_arrive_in_order_and_whole() {
    data::reliable_packets_arrive_in_order_and_whole_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn rights_are_kept() {
    data::rights_are_kept_on(TestNode::spread(SHARDS).await).await;
}

#[tokio::test]
async fn everybody_sees_everybody_wherever_they_sit() {
    let mut random = random();
    let node = TestNode::spread(SHARDS).await;
    let signaling = node.signaling().await;
    let mut publishers = Vec::new();
    for name in ["ann", "bob", "eve"] {
        publishers.push(Publisher::join(&signaling, "room", name, &RIDS, &mut random).await);
    }
    let mut viewers = Vec::new();
    for number in 0..SHARDS {
        let name = format!("viewer{number}");
        let mut viewer = Subscriber::join(&signaling, "room", &name).await;
        let mut streams = Vec::new();
        for name in ["ann", "bob", "eve"] {
            streams.push(viewer.subscribe(&track(name), layers(3)).await);
        }
        viewers.push((viewer, streams));
    }
    signaling.settle("room").await;
    const FRAMES: u32 = 30;
    for frame in 0..FRAMES {
        for publisher in &mut publishers {
            publisher.send_frames(frame == 0);
        }
        for (viewer, streams) in &viewers {
            for stream in streams {
                viewer.frame(stream.ssrc, 2, frame).await;
            }
        }
    }
    for (viewer, streams) in &viewers {
        for stream in streams {
            recording::check(&viewer.recorded(stream.ssrc));
        }
    }
    let sessions = signaling.inspect("room").await;
    let shards: Vec<u32> = sessions.iter().map(|session| session.shard).collect();
    assert_eq!(sessions.len(), 6);
    for shard in 0..SHARDS as u32 {
        assert_eq!(shards.iter().filter(|on| **on == shard).count(), 2);
    }
    let subscriptions = sessions.iter().flat_map(|session| &session.subscriptions);
    let sent: Vec<_> = subscriptions.map(|sent| sent.spatial).collect();
    assert_eq!(sent, [Some(2); 9], "inspection sees all shards");
    // Each publisher hears once that it is received, whoever was the first.
    for (publisher, name) in publishers.iter_mut().zip(["ann", "bob", "eve"]) {
        let is_it = |event: &Event| match event {
            Event::TrackSubscribed(subscribed) => Some(subscribed.track_id.clone()),
            _ => None,
        };
        let received = publisher.session.event("a subscription", is_it).await;
        assert_eq!(received, track(name));
    }
    // Of each track and encoding one copy went to each other shard: the highest, after the first frame.
    node.until_metric("pipemesh_remote_tracks", &[], |n| n == 6.0)
        .await;
    drop((publishers, viewers));
    node.stop().await;
}

#[tokio::test]
async fn what_nobody_wants_crosses_nothing() {
    let mut random = random();
    let node = TestNode::spread(2).await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut far = Subscriber::join(&signaling, "room", "bob").await;
    let mut near = Subscriber::join(&signaling, "room", "eve").await;
    let seen = near.subscribe(&track("ann"), layers(1)).await;
    let stream = far.subscribe(&track("ann"), layers(1)).await;
    signaling.settle("room").await;
    let mut frames = 0;
    let mut film = async |near: &Subscriber, is_key: bool| {
        let sent = ann.send_frames(is_key);
        near.frame(seen.ssrc, 0, frames).await;
        frames += 1;
        sent
    };
    for number in 0..20 {
        film(&near, number == 0).await;
    }
    far.frame(stream.ssrc, 0, 19).await;
    let of_stream = far.recorded(stream.ssrc).len() as f64;
    let out = [("direction", "out")];
    // One encoding of three; a frame or two of the others, until the origin had said what there is.
    let crossed = node
        .until_metric(PACKETS, &out, |crossed| crossed >= of_stream)
        .await;
    assert!(crossed <= of_stream + 20.0, "{crossed} for {of_stream}");
    far.unsubscribe(&track("ann")).await;
    signaling.settle("room").await;
    node.until_metric("pipemesh_remote_tracks", &[], |n| n == 0.0)
        .await;
    // A shard publishes its counters together: what crossed, with what its own subscriber was sent.
    let crossed_so_far = async |near: &Subscriber| {
        let sent = near.recorded(seen.ssrc).len() as f64;
        let here = [("kind", "forwarded"), ("shard", "0")];
        node.until_metric(FORWARDED, &here, |forwarded| forwarded >= sent)
            .await;
        node.metric(PACKETS, &out)
    };
    let before = crossed_so_far(&near).await;
    for _ in 0..20 {
        film(&near, true).await;
    }
    assert_eq!(crossed_so_far(&near).await, before);
    far.session.close().await;
    near.session.close().await;
    ann.session.close().await;
    for gauge in [
        "pipemesh_rooms",
        "pipemesh_tracks",
        "pipemesh_subscriptions",
    ] {
        node.until_metric(gauge, &[], |n| n == 0.0).await;
    }
    node.stop().await;
}

/// Many on two shards ask at once: the publisher is asked once.
#[tokio::test]
async fn one_request_stands_for_all_shards() {
    const VIEWERS: usize = 12;
    let mut random = random();
    let node = TestNode::spread(2).await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut viewers = Vec::new();
    for number in 0..VIEWERS {
        let name = format!("viewer{number}");
        let mut viewer = Subscriber::join(&signaling, "room", &name).await;
        let stream = viewer.subscribe(&track("ann"), layers(0)).await;
        viewers.push((viewer, stream));
    }
    signaling.settle("room").await;
    ann.send_frames(true);
    for (viewer, stream) in &viewers {
        viewer.frame(stream.ssrc, 0, 0).await;
    }
    // The pause after what they asked for when they came.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let before = ann.key_frames_asked();
    for (viewer, stream) in &viewers {
        viewer.wire.send_rtcp(|writer| {
            assert!(writer.picture_loss(1, stream.ssrc));
        });
    }
    until("a request", || {
        (ann.key_frames_asked() > before).then_some(())
    })
    .await;
    ann.send_frames(true);
    for (viewer, stream) in &viewers {
        viewer.frame(stream.ssrc, 0, 1).await;
    }
    // A second one would have come with the first.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(ann.key_frames_asked(), before + 1);
    drop((ann, viewers));
    node.stop().await;
}

#[tokio::test]
async fn who_comes_late_hears_who_speaks_elsewhere() {
    let node = TestNode::spread(SHARDS).await;
    let signaling = node.signaling().await;
    speakers::late_joiners_hear_who_speaks(&signaling).await;
    node.stop().await;
}

/// A room that fits on a shard stays on it.
#[tokio::test]
async fn a_room_is_not_spread_without_need() {
    let node = TestNode::with(|config| config.media.shards = SHARDS).await;
    let signaling = node.signaling().await;
    let mut sessions = Vec::new();
    for room in ["one", "two", "three"] {
        for name in ["ann", "bob", "eve"] {
            sessions.push(Subscriber::join(&signaling, room, name).await);
        }
    }
    let mut used = BTreeSet::new();
    for room in ["one", "two", "three"] {
        let summaries = signaling.inspect(room).await;
        let shards: BTreeSet<u32> = summaries.iter().map(|session| session.shard).collect();
        assert_eq!(shards.len(), 1, "{room}");
        used.extend(shards);
    }
    assert_eq!(used.len(), SHARDS, "rooms are spread instead");
    drop(sessions);
    node.stop().await;
}
