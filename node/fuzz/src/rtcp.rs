//! A compound RTCP packet, decrypted.

use pipemesh_node_core::rtcp::{self, Message, Messages};
use pipemesh_node_core::stats::{SenderClock, round_trip};

pub fn run(packet: &[u8]) {
    let _ = rtcp::is_rtcp(packet);
    // The shortest message has four bytes, and an intra request eight for every entry.
    let mut messages = 0;
    for message in Messages::new(packet) {
        messages += 1;
        match message {
            Message::SenderReport { info, blocks, .. } => {
                let clock = SenderClock {
                    ntp: info.ntp,
                    rtp: info.rtp,
                    rate: 90_000,
                };
                let _ = clock.translate(
                    info.packets,
                    &SenderClock {
                        ntp: !info.ntp,
                        ..clock
                    },
                );
                let mut counted = 0;
                for block in blocks {
                    let _ = round_trip(info.rtp, &block);
                    counted += 1;
                }
                assert!(counted <= 31);
            }
            Message::ReceiverReport { blocks, .. } => assert!(blocks.count() <= 31),
            Message::Nack { lost, .. } => assert!(lost.count() <= packet.len() / 4 * 17),
            Message::TransportFeedback { content } => assert!(content.len() <= packet.len()),
            Message::PictureLoss { .. }
            | Message::FullIntraRequest { .. }
            | Message::EstimatedMaximumBitrate { .. }
            | Message::Bye { .. } => {}
        }
    }
    assert!(messages <= packet.len() / 4);
}
