//! Reports in both directions: what a publisher is told of its packets, and a subscriber of its stream.

use std::time::Duration;

use pipemesh_node_core::rtcp::{Message, Messages, ReportBlock, SenderInfo};

use crate::support::camera::RIDS;
use crate::support::control::layers;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::random;
use crate::support::subscriber::Subscriber;
use crate::support::talker::Talker;
use crate::support::wire::{Received, RtcpPacket, nacks};

const TRACK: &str = "TR_ann";

fn blocks(packet: &RtcpPacket) -> Vec<ReportBlock> {
    let messages = Messages::new(&packet.compound);
    let blocks = messages.filter_map(|message| match message {
        Message::ReceiverReport { blocks, .. } => Some(blocks),
        _ => None,
    });
    blocks.flatten().collect()
}

#[tokio::test]
async fn a_publisher_is_told_what_arrived() {
    const LOST: i32 = 5;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut highest = [0; RIDS.len()];
    let mut lost = 0;
    for frame in 0..40 {
        ann.advance();
        for encoding in 0..RIDS.len() as u8 {
            for packet in ann.make_frame(encoding, frame == 0) {
                highest[usize::from(encoding)] = packet.index;
                // The middle encoding loses some.
                if encoding == 1 && frame % 4 == 2 && packet.marker && lost < LOST {
                    lost += 1;
                } else {
                    ann.send(encoding, packet);
                }
            }
        }
    }
    let report = SenderInfo {
        ntp: 0x1234_5678_9abc_def0,
        rtp: 0,
        packets: 0,
        octets: 0,
    };
    ann.wire.send_rtcp(|writer| {
        assert!(writer.sender_report(Publisher::ssrc(0), report, &[]));
    });
    for (encoding, highest) in highest.into_iter().enumerate() {
        let ssrc = Publisher::ssrc(encoding as u8);
        let expected = (highest as u16, if encoding == 1 { LOST } else { 0 });
        let look = |received: &Received| {
            let mut blocks = received.rtcp.iter().flat_map(blocks);
            let is_it = |block: &ReportBlock| {
                let echoed = encoding != 0 || block.last_report == report.compact_ntp();
                let said = (block.highest_sequence as u16, block.total_lost);
                block.ssrc == ssrc && said == expected && echoed
            };
            blocks.any(|block| is_it(&block)).then_some(())
        };
        let what = format!("a report on {ssrc:x} with {expected:?}");
        ann.wire.until(&what, look).await;
    }
    node.stop().await;
}

/// Audio comes again under the number it had. It was lost all the same, but for what only came late: of that
/// there are two.
#[tokio::test]
async fn a_publisher_is_told_of_audio_what_it_sent_again_and_not_what_came_late() {
    const LEVEL: u8 = 30;
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Talker::join(&signaling, "ann").await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    bob.subscribe(TRACK, layers(1)).await;
    signaling.settle("room").await;
    for (index, copies) in [(10, 1), (20, 2), (30, 1)] {
        while ann.index < index + 2 {
            ann.index += 1;
            if ann.index != index {
                ann.send(ann.index, LEVEL);
            }
        }
        let asked = |received: &Received| {
            let mut lost = received.rtcp.iter().flat_map(nacks).map(|(_, lost)| lost);
            lost.any(|lost| lost == [index as u16]).then_some(())
        };
        let what = format!("a request for {index}");
        ann.wire.until(&what, asked).await;
        for _ in 0..copies {
            ann.send(index, LEVEL);
        }
    }
    let reported = |received: &Received| {
        let mut blocks = received.rtcp.iter().flat_map(blocks);
        let is_it = |block: &ReportBlock| {
            let said = (block.highest_sequence as u16, block.total_lost);
            block.ssrc == Talker::SSRC && said == (ann.index as u16, 2)
        };
        blocks.any(|block| is_it(&block)).then_some(())
    };
    ann.wire.until("two of three reported lost", reported).await;
    node.stop().await;
}

#[tokio::test]
async fn a_subscriber_is_told_what_was_sent() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let mut bob = Subscriber::join(&signaling, "room", "bob").await;
    let stream = bob.subscribe(TRACK, layers(1)).await;
    for frame in 0..10 {
        ann.send_frames(frame == 0);
        bob.frame(stream.ssrc, 0, frame).await;
    }
    ann.advance();
    let last = ann.make_frame(0, false).remove(0);
    // The clock that the publisher shows is the one that the subscriber sees, moved along by the time
    // that has passed.
    let begun = SenderInfo {
        ntp: 0x1000 << 32,
        rtp: last.timestamp,
        packets: 100,
        octets: 10_000,
    };
    ann.wire.send_rtcp(|writer| {
        assert!(writer.sender_report(Publisher::ssrc(0), begun, &[]));
    });
    let reported = |received: &Received| {
        let messages = received.rtcp.iter();
        let mut messages = messages.flat_map(|packet| Messages::new(&packet.compound));
        messages.find_map(|message| match message {
            Message::SenderReport { ssrc, info, .. } => (ssrc == stream.ssrc).then_some(info),
            _ => None,
        })
    };
    let info = bob.wire.until("a sender report", reported).await;
    let sent = bob.recorded(stream.ssrc);
    assert_eq!(info.packets as usize, sent.len());
    let elapsed = Duration::from_secs_f64((info.ntp - begun.ntp) as f64 / (1u64 << 32) as f64);
    let ticks = info.rtp.wrapping_sub(begun.rtp);
    let error = f64::from(ticks) - elapsed.as_secs_f64() * 90_000.0;
    assert!(error.abs() < 90.0, "{ticks} ticks in {elapsed:?}");
    node.stop().await;
}
