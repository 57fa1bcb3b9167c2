//! A client is the one its description announced, or it is nobody.

use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};

use crate::support::control::{camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::{self, Local, Section};
use crate::support::subscriber::{self, Subscriber};
use crate::support::wire::{Received, Wire};
use crate::support::{random, recording};

const TRACK: &str = "TR_ann";

#[tokio::test]
async fn another_certificate_ends_the_connection() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let open = participant("ann", "room", ConnectionLayout::Single);
    let mut session = signaling.open(open).await;
    session.add_track(camera(TRACK, "camera")).await;
    let (wire, other) = (Wire::new().await, Wire::new().await);
    let announced = Local {
        fingerprint: other.local().fingerprint.clone(),
        ..wire.local().clone()
    };
    let offer = sdp::offer(&announced, &[Section::camera("camera", &[])]);
    let answer = session.offer(&offer).await;
    wire.connect(sdp::remote(&answer.sdp));
    let role = ConnectionRole::Publisher;
    session.connection(role, ConnectionState::Failed).await;
    let closed = |received: &Received| received.closed.then_some(());
    wire.until("the node says goodbye", closed).await;
    // The session is signaling's to end.
    session.close().await;
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_or_accepted_before_the_certificate_is_known() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &[], &mut random).await;
    let open = participant("bob", "room", ConnectionLayout::Dual);
    let mut session = signaling.open(open).await;
    session.subscribe(TRACK, layers(0)).await;
    let wire = Wire::new().await;
    let offer = session.next_offer().await;
    let stream = subscriber::sent(&offer, TRACK);
    // The handshake is faster than the answer.
    wire.connect(sdp::remote(&offer.sdp));
    wire.connected().await;
    for _ in 0..10 {
        ann.send_frames(true);
        wire.send_rtcp(|writer| {
            writer.picture_loss(1, stream.ssrc);
        });
    }
    let refused = ("pipemesh_packets_dropped_total", [("reason", "no_keys")]);
    node.until_metric(refused.0, &refused.1, |n| n >= 10.0)
        .await;
    {
        let received = wire.received();
        assert_eq!((received.rtp.len(), received.rtcp.len()), (0, 0));
        assert!(received.refused.is_empty(), "{:?}", received.refused);
    }

    let answer = sdp::answer(wire.local(), &offer.sdp);
    session.accept(offer.offer_id, answer).await;
    let mut bob = Subscriber { session, wire };
    bob.connected().await;
    let frame = 10;
    ann.send_frames(true);
    bob.frame(stream.ssrc, 0, frame).await;
    let recorded = bob.recorded(stream.ssrc);
    // Of what came before the last is shown, if that was a moment ago.
    assert!(recorded[0].mark.frame >= frame - 1, "{recorded:?}");
    recording::check(&recorded);
    node.stop().await;
}
