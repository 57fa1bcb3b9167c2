//! What was lost on either side of the node is asked for and sent again; key frames are asked for in
//! moderation.

use std::time::{Duration, Instant};

use crate::support::call::Call;
use crate::support::camera::RIDS;
use crate::support::control::layers;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::subscriber::Subscriber;
use crate::support::wire::{Received, nacks};
use crate::support::{random, recording, sdp};

const TRACK: &str = "TR_ann";

#[tokio::test]
async fn what_the_publisher_lost_it_repairs() {
    what_the_publisher_lost_it_repairs_on(TestNode::start().await).await;
}

pub(crate) async fn what_the_publisher_lost_it_repairs_on(node: TestNode) {
    let mut random = random();
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let stream = bob.subscribe(TRACK, layers(2)).await;
    signaling.settle("room").await;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 1, 0).await;
    ann.advance();
    let mut packets = ann.make_frame(1, true).into_iter();
    let lost = packets.next().expect("a frame has packets");
    packets.for_each(|packet| ann.send(1, packet));
    // The gap stays one for the receiver, and the node asks for it.
    bob.frame(stream.ssrc, 1, 1).await;
    let asked = |received: &Received| {
        let mut lost = received.rtcp.iter().flat_map(nacks);
        lost.find(|(ssrc, _)| *ssrc == Publisher::ssrc(1))
    };
    let (_, sequences) = ann.wire.until("a request for the packet", asked).await;
    assert_eq!(sequences, [lost.index as u16]);
    ann.repair(1, 500, lost.clone());
    let repaired = |received: &Received| {
        let mut of_stream = received.rtp.iter().filter(|p| p.ssrc == stream.ssrc);
        let arrived = of_stream.any(|p| {
            let mark = crate::support::camera::Mark::read(&p.payload);
            mark.frame == 1 && mark.starts_frame
        });
        arrived.then_some(())
    };
    bob.wire.until("the repaired packet", repaired).await;
    recording::check(&bob.recorded(stream.ssrc));
    node.stop().await;
}

#[tokio::test]
async fn what_a_subscriber_lost_is_sent_again() {
    what_a_subscriber_lost_is_sent_again_on(TestNode::start().await).await;
}

pub(crate) async fn what_a_subscriber_lost_is_sent_again_on(node: TestNode) {
    let mut random = random();
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let stream = bob.subscribe(TRACK, layers(1)).await;
    signaling.settle("room").await;
    let repair_ssrc = stream.repair_ssrc.expect("the offer has retransmissions");
    // Packets of two encodings, so that a retransmission has to know whose it was.
    for frame in 0..10 {
        ann.send_frames(frame == 0 || frame == 5);
        bob.frame(stream.ssrc, u8::from(frame >= 5), frame).await;
        if frame == 4 {
            bob.session.subscribe(TRACK, layers(2)).await;
            signaling.settle("room").await;
        }
    }
    let received = bob.wire.received().rtp.clone();
    let originals: Vec<_> = received.iter().filter(|p| p.ssrc == stream.ssrc).collect();
    let numbers: Vec<u16> = originals.iter().map(|p| p.index as u16).collect();
    bob.wire.send_rtcp(|writer| {
        assert!(writer.nack(1, stream.ssrc, &numbers));
    });
    let all = |received: &Received| {
        let repaired = received.rtp.iter().filter(|p| p.ssrc == repair_ssrc);
        (repaired.count() == originals.len()).then_some(())
    };
    bob.wire.until("every packet again", all).await;
    let received = bob.wire.received().rtp.clone();
    let repaired: Vec<_> = received.iter().filter(|p| p.ssrc == repair_ssrc).collect();
    for (number, (again, original)) in repaired.iter().zip(&originals).enumerate() {
        assert_eq!(again.payload_type, sdp::VP8_REPAIR);
        assert_eq!(original.payload_type, sdp::VP8);
        assert_eq!(again.index, repaired[0].index + number as u64);
        let (sequence, payload) = again.payload.split_at(2);
        assert_eq!(sequence, (original.index as u16).to_be_bytes());
        assert_eq!(payload, original.payload);
        assert_eq!(again.timestamp, original.timestamp);
        assert_eq!(again.marker, original.marker);
    }
    node.stop().await;
}

#[tokio::test]
async fn what_everybody_lost_is_asked_for_once() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut viewers = Vec::new();
    for name in ["bob", "eve", "joe"] {
        let mut viewer = Subscriber::join(&signaling, "room", name).await;
        let stream = viewer.subscribe(TRACK, layers(1)).await;
        viewers.push((viewer, stream));
    }
    ann.send_frames(true);
    ann.advance();
    let begun = Instant::now();
    let mut packets = ann.make_frame(0, true).into_iter();
    let lost = packets.next().expect("a frame has packets");
    packets.for_each(|packet| ann.send(0, packet));
    for (viewer, stream) in &viewers {
        viewer.frame(stream.ssrc, 0, 1).await;
        // Everybody misses it, and something that the node has.
        let recorded = viewer.recorded(stream.ssrc);
        let here = recorded.first().expect("it has the first frame").index as u16;
        let missing = recorded.windows(2).find_map(|pair| {
            (pair[0].index + 1 != pair[1].index).then_some(pair[0].index as u16 + 1)
        });
        let missing = missing.expect("the gap is seen");
        viewer.wire.send_rtcp(|writer| {
            assert!(writer.nack(1, stream.ssrc, &[here, missing]));
        });
    }
    let asked = |received: &Received| received.rtcp.iter().flat_map(nacks).next();
    let first = ann.wire.until("a request for the packet", asked).await;
    assert_eq!(first, (Publisher::ssrc(0), vec![lost.index as u16]));
    ann.repair(0, 500, lost);
    for (viewer, stream) in &viewers {
        let whole = |received: &Received| {
            let mut of_stream = received.rtp.iter().filter(|p| p.ssrc == stream.ssrc);
            let arrived = of_stream.any(|p| {
                let mark = crate::support::camera::Mark::read(&p.payload);
                mark.frame == 1 && mark.starts_frame
            });
            arrived.then_some(())
        };
        viewer.wire.until("the repaired packet", whole).await;
        recording::check(&viewer.recorded(stream.ssrc));
    }
    let requests: Vec<_> = {
        let received = ann.wire.received();
        received.rtcp.iter().flat_map(nacks).collect()
    };
    // For nothing else, and no more than once in the time that an answer may take.
    assert!(
        requests.iter().all(|request| *request == first),
        "{requests:?}"
    );
    let most = 1 + begun.elapsed().as_millis() / 100;
    assert!(requests.len() as u128 <= most, "{requests:?}");
    node.stop().await;
}

#[tokio::test]
async fn who_was_unheard_for_long_is_heard_again() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let Call {
        mut ann,
        bob,
        stream,
        ..
    } = Call::begin(&signaling, "room", &mut random).await;
    for missed in [20_000, 40_000, 66_000, 150_000] {
        ann.skip(0, missed);
        let before = bob.wire.received().rtp.len();
        let deadline = Instant::now() + crate::support::PATIENCE;
        while bob.wire.received().rtp.len() == before {
            assert!(Instant::now() < deadline, "deaf after {missed} packets");
            ann.send_frames(true);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // Receivers count as the node does: a leap of half a cycle would make them deaf.
    let recorded = bob.recorded(stream.ssrc);
    for pair in recorded.windows(2) {
        let leap = pair[1].index - pair[0].index;
        assert!(leap < 1 << 15, "{pair:?}");
    }
    assert!(bob.wire.received().refused.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn key_frames_are_asked_for_in_moderation() {
    key_frames_are_asked_for_in_moderation_on(TestNode::start().await).await;
}

pub(crate) async fn key_frames_are_asked_for_in_moderation_on(node: TestNode) {
    /// What the node promises the publisher.
    const PAUSE: Duration = Duration::from_millis(500);
    const EVERY: Duration = Duration::from_millis(5);
    let mut random = random();
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let begun = Instant::now();
    ann.send_frames(true);
    let stream = bob.subscribe(TRACK, layers(0)).await;
    // One for the subscriber's sake; then it keeps asking, and is answered every time.
    let (mut answered, mut asked) = (0, 0);
    while answered < 4 {
        assert!(
            begun.elapsed() < crate::support::PATIENCE,
            "{answered} requests"
        );
        if ann.key_frames_asked() > answered {
            answered = ann.key_frames_asked();
            ann.send_frames(true);
        }
        bob.wire.send_rtcp(|writer| {
            assert!(writer.picture_loss(1, stream.ssrc));
        });
        asked += 1;
        tokio::time::sleep(EVERY).await;
    }
    let most = 1 + (begun.elapsed().as_millis() / PAUSE.as_millis()) as usize;
    assert!(
        ann.key_frames_asked() <= most,
        "{} in {:?}",
        ann.key_frames_asked(),
        begun.elapsed()
    );
    assert!(
        asked > ann.key_frames_asked(),
        "{asked} led to {}",
        ann.key_frames_asked()
    );
    node.stop().await;
}
