//! What hostile or meagre feedback does. How the whole behaves on a path is in `tests/bandwidth.rs`.

use proptest::prelude::*;

use super::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn kbps(rate: u64) -> Bitrate {
    Bitrate::from_kbps(rate)
}

/// Every session that watches has one: what it takes before much has been sent.
#[test]
fn it_is_small() {
    let rest = size_of::<Bandwidth>() + History::RESTING_SIZE + DelayTrend::RESTING_SIZE;
    assert!(rest <= 3 << 10, "{rest} bytes");
}

#[test]
fn numbers_count_on_over_the_wrap() {
    let now = start();
    let mut bandwidth = Bandwidth::new(Limits::default(), now);
    for number in 0..70_000u32 {
        let kind =
            [PacketKind::Audio, PacketKind::Repair, PacketKind::Padding][number as usize % 3];
        assert_eq!(bandwidth.packet_sent(100, kind, now), number as u16);
    }
}

#[test]
fn video_waits_for_the_budget_and_audio_for_nothing() {
    let now = start();
    let mut bandwidth = Bandwidth::new(Limits::default(), now);
    let mut burst = 0;
    while bandwidth.admits(PacketKind::Video, now) {
        bandwidth.packet_sent(1_000, PacketKind::Video, now);
        burst += 1;
    }
    // 40 ms at two and a half times the estimate.
    assert_eq!(burst, 13);
    assert!(bandwidth.admits(PacketKind::Audio, now));
    bandwidth.packet_sent(500, PacketKind::Audio, now);
    assert!(
        bandwidth.admits(PacketKind::Repair, now),
        "they may go into debt"
    );
    let at = now + Duration::from_millis(4);
    assert!(!bandwidth.admits(PacketKind::Video, at - Duration::from_millis(2)));
    assert!(bandwidth.admits(PacketKind::Video, at));
    // Silence saves up no more than one burst.
    let later = now + Duration::from_secs(60);
    let again = std::iter::from_fn(|| {
        bandwidth
            .admits(PacketKind::Video, later)
            .then(|| bandwidth.unnumbered_sent(1_000, PacketKind::Video))
    });
    // … and the packet that just was admitted.
    assert_eq!(again.count(), 14);
}

/// Sends at a rate for a time, doing all that is due, and reports every second.
fn send_for(
    bandwidth: &mut Bandwidth,
    now: &mut Instant,
    rate: Bitrate,
    seconds: u64,
    mut report: impl FnMut(&mut Bandwidth, Instant),
) -> DataSize {
    let mut padding = DataSize::ZERO;
    for milli in 0..seconds * 1_000 {
        *now += Duration::from_millis(1);
        let due = rate.during(Duration::from_millis(10)).as_bytes();
        if milli % 10 == 0 {
            bandwidth.unnumbered_sent(due as u16, PacketKind::Video);
        }
        if bandwidth.poll_timeout().is_some_and(|at| at <= *now) {
            bandwidth.handle_timeout(*now);
        }
        while let Some(due) = bandwidth.poll_probe(*now) {
            bandwidth.unnumbered_sent(due.as_bytes() as u16, PacketKind::Padding);
            padding += due;
        }
        if milli % 1_000 == 999 {
            report(bandwidth, *now);
        }
    }
    padding
}

#[test]
fn receiver_reports_alone_lead_up_and_down() {
    let mut now = start();
    let mut bandwidth = Bandwidth::new(Limits::default(), now);
    bandwidth.set_wish(kbps(3_000), kbps(3_000));
    let round_trip = Some(Duration::from_millis(50));
    let fine = |bandwidth: &mut Bandwidth, now| {
        bandwidth.handle_receiver_report(0.0, round_trip, now);
    };
    let padding = send_for(&mut bandwidth, &mut now, kbps(900), 30, fine);
    assert!(padding > DataSize::ZERO);
    assert!(bandwidth.target() > kbps(2_900), "{:?}", bandwidth.target());
    let lossy = |bandwidth: &mut Bandwidth, now| {
        bandwidth.handle_receiver_report(0.3, round_trip, now);
    };
    send_for(&mut bandwidth, &mut now, kbps(900), 5, lossy);
    assert!(bandwidth.target() < kbps(1_500), "{:?}", bandwidth.target());
    // A queue shows in the round trips only.
    send_for(&mut bandwidth, &mut now, kbps(900), 10, fine);
    let before = bandwidth.target();
    let slow = |bandwidth: &mut Bandwidth, now| {
        bandwidth.handle_receiver_report(0.0, Some(Duration::from_millis(600)), now);
    };
    send_for(&mut bandwidth, &mut now, kbps(900), 3, slow);
    assert!(bandwidth.target() < before, "{:?}", bandwidth.target());
}

#[test]
fn a_receivers_own_estimate_is_followed() {
    let mut now = start();
    let mut bandwidth = Bandwidth::new(Limits::default(), now);
    bandwidth.set_wish(kbps(3_000), kbps(3_000));
    bandwidth.handle_remb(kbps(400), now);
    assert_eq!(bandwidth.target(), kbps(400));
    // It sees more arrive, and says so.
    let mut rate = kbps(400);
    let padding = send_for(&mut bandwidth, &mut now, kbps(300), 20, |bandwidth, now| {
        rate = rate.scale(1.2).min(kbps(2_000));
        bandwidth.handle_remb(rate, now);
    });
    assert!(padding > DataSize::ZERO);
    assert_eq!(bandwidth.target(), kbps(2_000));
    // Where it stays, less and less is probed.
    let padding = send_for(&mut bandwidth, &mut now, kbps(300), 60, |bandwidth, now| {
        bandwidth.handle_remb(kbps(2_000), now);
    });
    assert!(
        padding < kbps(2_000).during(Duration::from_secs(25)),
        "{padding:?}"
    );
    // Nothing else is awaited, even if what is sent has numbers.
    bandwidth.packet_sent(100, PacketKind::Video, now);
    now += Duration::from_secs(10);
    bandwidth.handle_timeout(now);
    assert_eq!(bandwidth.target(), kbps(2_000));
    bandwidth.handle_remb(Bitrate::ZERO, now);
    assert_eq!(bandwidth.target(), Limits::default().min);
    bandwidth.handle_remb(Bitrate::MAX, now);
    assert_eq!(bandwidth.target(), Limits::default().max);
}

#[derive(Debug, Clone)]
enum Op {
    Send(u16),
    Wait(u64),
    /// Bytes as they come.
    Raw(Vec<u8>),
    /// A message whose beginning makes sense: how far behind, statuses, reference, the rest.
    Shaped(u16, u16, u32, Vec<u8>),
    Remb(u64),
    Report(f32, u64),
    Wish(u64, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    prop_oneof![
        8 => (0u16..1_500).prop_map(Op::Send),
        6 => (0u64..3_000).prop_map(Op::Wait),
        1 => bytes(0..60).prop_map(Op::Raw),
        6 => (0u16..200, 0u16..100, any::<u32>(), bytes(2..80))
            .prop_map(|(back, count, time, rest)| Op::Shaped(back, count, time, rest)),
        1 => any::<u64>().prop_map(Op::Remb),
        1 => (any::<f32>(), 0u64..100_000).prop_map(|(loss, millis)| Op::Report(loss, millis)),
        1 => any::<(u64, u64)>().prop_map(|(next, wanted)| Op::Wish(next, wanted)),
    ]
}

proptest! {
    /// Whatever a client says, nothing panics, the target stays within its limits, and no probe asks for
    /// more than its due.
    #[test]
    fn hostile_feedback_hurts_nobody(ops in prop::collection::vec(op(), 1..300)) {
        let mut now = start();
        let limits = Limits::default();
        let mut bandwidth = Bandwidth::new(limits, now);
        let mut sent = 0u16;
        for op in ops {
            match op {
                Op::Send(size) => {
                    prop_assert_eq!(bandwidth.packet_sent(size, PacketKind::Video, now), sent);
                    sent = sent.wrapping_add(1);
                }
                Op::Wait(millis) => now += Duration::from_millis(millis),
                Op::Raw(content) => {
                    let _ = bandwidth.handle_feedback(&content, now);
                }
                Op::Shaped(back, count, reference, rest) => {
                    let mut content = sent.wrapping_sub(back).to_be_bytes().to_vec();
                    content.extend(count.to_be_bytes());
                    content.extend(reference.to_be_bytes());
                    content.extend(rest);
                    let _ = bandwidth.handle_feedback(&content, now);
                }
                Op::Remb(rate) => bandwidth.handle_remb(Bitrate::from_bps(rate), now),
                Op::Report(loss, millis) => {
                    let round_trip = Duration::from_millis(millis);
                    bandwidth.handle_receiver_report(loss, Some(round_trip), now);
                }
                Op::Wish(next, wanted) => {
                    bandwidth.set_wish(Bitrate::from_bps(next), Bitrate::from_bps(wanted));
                }
            }
            prop_assert!((limits.min..=limits.max).contains(&bandwidth.target()));
            if bandwidth.poll_timeout().is_some_and(|at| at <= now) {
                bandwidth.handle_timeout(now);
            }
            if let Some(padding) = bandwidth.poll_probe(now) {
                let most = limits.max.scale(3.0).during(Duration::from_secs(3));
                prop_assert!(padding <= most, "{:?}", padding);
                bandwidth.packet_sent(300, PacketKind::Padding, now);
                sent = sent.wrapping_add(1);
            }
        }
    }
}
