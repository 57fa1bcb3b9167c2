//! As many tracks as participants have: no bound on SSRCs is below what was negotiated.

use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};

use crate::support::camera::RIDS;
use crate::support::control::{camera, layers, participant};
use crate::support::node::TestNode;
use crate::support::sdp::{self, Section, VP8, VP8_REPAIR, extension};
use crate::support::subscriber::Subscriber;
use crate::support::wire::{Outgoing, Received, Wire};

const CAMERAS: u32 = 12;
const DROPPED: &str = "pipemesh_packets_dropped_total";

/// The packet of a camera's encoding, or a probe on the SSRC of its retransmissions, with its names.
fn packet(camera: u32, encoding: usize, is_repair: bool, index: u64) -> Outgoing {
    let (rid_id, payload_type) = match is_repair {
        true => (extension::REPAIRED_RID, VP8_REPAIR),
        false => (extension::RID, VP8),
    };
    Outgoing {
        ssrc: 0x1000 * (1 + u32::from(is_repair)) + 0x10 * camera + encoding as u32,
        index,
        payload_type,
        timestamp: 3_000 * index as u32,
        extensions: vec![
            (extension::MID, camera.to_string().into_bytes()),
            (rid_id, RIDS[encoding].as_bytes().to_vec()),
        ],
        payload: if is_repair { vec![] } else { vec![0x10; 100] },
        padding: if is_repair { 200 } else { 0 },
        ..Outgoing::default()
    }
}

#[tokio::test]
async fn twelve_simulcast_cameras_are_heard_with_all_their_retransmissions() {
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let open = participant("ann", "room", ConnectionLayout::Single);
    let mut ann = signaling.open(open).await;
    let wire = Wire::new().await;
    let mut sections = Vec::new();
    for number in 0..CAMERAS {
        let name = format!("camera{number}");
        ann.add_track(camera(&format!("TR_{number}"), &name)).await;
        sections.push(Section::camera(&name, &RIDS));
    }
    let answer = ann.offer(&sdp::offer(wire.local(), &sections)).await;
    wire.connect(sdp::remote(&answer.sdp));
    let (role, connected) = (ConnectionRole::Publisher, ConnectionState::Connected);
    ann.connection(role, connected).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let last = bob.subscribe("TR_11", layers(0)).await;
    signaling.settle("room").await;

    // Names come with the first packets only, as those of browsers. Numbers are out of order, which only
    // a source that has a window of its own may have.
    for (index, is_named) in [(7, true), (9, false), (8, false)] {
        for (camera, encoding) in (0..CAMERAS).flat_map(|c| (0..RIDS.len()).map(move |e| (c, e))) {
            for is_repair in [false, true] {
                let mut packet = packet(camera, encoding, is_repair, index);
                if !is_named {
                    packet.extensions.clear();
                }
                wire.send(packet);
            }
        }
        wire.flush().await;
    }
    // What is counted last is counted after all of it.
    wire.send_raw(vec![0xFF]);
    node.until_metric(DROPPED, &[("reason", "malformed")], |n| n == 1.0)
        .await;
    assert_eq!(node.metric(DROPPED, &[]), 1.0);
    let of_last = |received: &Received| {
        let arrived = received.rtp.iter().filter(|p| p.ssrc == last.ssrc);
        (arrived.count() > 0).then_some(())
    };
    bob.wire.until("a packet of the last camera", of_last).await;
    node.stop().await;
}
