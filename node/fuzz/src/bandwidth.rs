//! Transport-wide feedback of a subscriber, a message after every few packets it was sent.

use std::time::{Duration, Instant};

use pipemesh_node_core::bandwidth::feedback::{Feedback, Status};
use pipemesh_node_core::bandwidth::{Bandwidth, Limits, PacketKind};
use pipemesh_node_core::units::Bitrate;

pub fn run(input: &[u8]) {
    let limits = Limits::default();
    let mut now = Instant::now();
    let mut bandwidth = Bandwidth::new(limits, now);
    bandwidth.set_wish(Bitrate::from_kbps(3_000), Bitrate::from_kbps(6_000));
    for message in super::pieces(input) {
        for _ in 0..64 {
            bandwidth.packet_sent(1_200, PacketKind::Video, now);
            now += Duration::from_millis(2);
        }
        read(message);
        let _ = bandwidth.handle_feedback(message, now);
        if bandwidth.poll_timeout().is_some_and(|at| at <= now) {
            bandwidth.handle_timeout(now);
        }
        if let Some(padding) = bandwidth.poll_probe(now) {
            let most = limits.max.during(Duration::from_secs(1));
            assert!(padding <= most, "{padding:?}");
            bandwidth.packet_sent(300, PacketKind::Padding, now);
        }
        assert!((limits.min..=limits.max).contains(&bandwidth.target()));
    }
}

/// A message says no more than its bytes can hold.
fn read(message: &[u8]) {
    let Some(feedback) = Feedback::parse(message) else {
        return;
    };
    let (mut statuses, mut packets) = (0, 0u32);
    for status in feedback.statuses() {
        statuses += 1;
        packets += match status {
            Status::Missing { count, .. } => u32::from(count),
            Status::Received { .. } => 1,
        };
    }
    assert!(statuses <= message.len() * 7);
    assert!(packets <= u32::from(u16::MAX));
}
