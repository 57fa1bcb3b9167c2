//! One room over two routers: whoever receives a track far from where it is published sees what those
//! beside it see, whatever is lost in between.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod pair;
mod sim;

use pair::{Pace, Pair, TAKER, ToTaker};
use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::relay::RelayedReport;
use pipemesh_node_core::router::{LayerWish, Router};
use pipemesh_node_core::rtcp::SenderInfo;
use sim::{Person, Received, Room, check_stream, with_seeds};

fn up_to(encodings: u8) -> LayerWish {
    LayerWish {
        spatial_layers: encodings,
        ..LayerWish::default()
    }
}

#[test]
fn both_sides_see_the_same() {
    with_seeds(10, |seed| {
        let mut pair = Pair::new(seed);
        let near = pair.subscribe_beside(up_to(3));
        let far = pair.subscribe_far(up_to(3));
        pair.run(100);
        let (near, far) = (&pair.beside[&near], &pair.far[&far]);
        check_stream(near, true);
        check_stream(far, true);
        // Numbers begin elsewhere; what they number is the same.
        let shown = |received: &[Received]| -> Vec<_> {
            let packets = received.iter().filter(|packet| packet.encoding == 2);
            packets.map(|p| (p.starts_frame, p.marker)).collect()
        };
        let (near, far) = (shown(near), shown(far));
        assert!(far.len() > 400 && near.ends_with(&far), "{}", far.len());
    });
}

#[test]
fn what_is_left_out_at_the_origin_is_missed_nowhere() {
    with_seeds(10, |seed| {
        let mut pair = Pair::new(seed);
        let near = pair.subscribe_beside(up_to(3));
        let far = pair.subscribe_far(up_to(3));
        pair.run(25);
        pair.left_out = 2;
        pair.run(300);
        for received in [&pair.beside[&near], &pair.far[&far]] {
            assert!(received.len() > 300, "{}", received.len());
            let mut pairs = received.windows(2);
            assert!(pairs.all(|pair| pair[1].sequence == pair[0].sequence + 1));
        }
        assert_eq!(pair.missed, 0);
    });
}

#[test]
fn only_what_is_used_is_passed_on_and_nothing_when_nobody_is_left() {
    let mut pair = Pair::new(1);
    let near = pair.subscribe_beside(up_to(3));
    pair.run(50);
    assert_eq!(pair.passed(), 0);
    let far = pair.subscribe_far(up_to(1));
    pair.run(50);
    let lowest = pair.passed[&0];
    assert!(lowest >= 40, "{:?}", pair.passed);
    assert_eq!(pair.passed.len(), 1, "{:?}", pair.passed);
    pair.taker.set_wish(far, up_to(3), pair.now);
    pair.run(50);
    assert_eq!(pair.far_encoding(far), Some(2));
    let before = pair.passed.clone();
    pair.run(50);
    assert_eq!(
        pair.passed[&0], before[&0],
        "the lowest is not used any more"
    );
    assert!(pair.passed[&2] > before[&2] + 200);
    assert_eq!(pair.passed.get(&1), None);
    pair.unsubscribe_far(far);
    let before = pair.passed();
    pair.run(50);
    assert_eq!(pair.passed(), before);
    pair.origin.end_relay(pair.here, TAKER, pair.now);
    assert_eq!(pair.origin.relays(pair.here).count(), 0);
    check_stream(&pair.far[&far], true);
    check_stream(&pair.beside[&near], true);
}

/// Whoever sits beside the publisher needs no more than one key frame of each encoding either.
#[test]
fn an_encoding_is_taken_up_with_the_key_frame_it_begins_with() {
    for pace in [Pace::Frames, Pace::Packets, Pace::SlowWords] {
        let mut pair = Pair::new(1);
        pair.pace = pace;
        let near = pair.subscribe_beside(up_to(3));
        let far = pair.subscribe_far(up_to(3));
        pair.run(1);
        for _ in 0..3 {
            assert_eq!(pair.far_encoding(far), Some(2), "{pace:?}");
            let newest = pair.far[&far].last().unwrap();
            assert_eq!(newest.encoding, 2, "{pace:?}");
            pair.camera.set_sending(2, false);
            pair.run(50);
            assert_eq!(pair.far_encoding(far), Some(1), "{pace:?}");
            pair.camera.set_sending(2, true);
            pair.run(1);
        }
        // What is asked for is what is gone back to.
        let asked: Vec<_> = pair.asked.keys().copied().collect();
        assert_eq!(asked, [1], "{pace:?}");
        // What is used is all that is passed on once it is known what there is.
        pair.run(25);
        let before = pair.passed.clone();
        pair.run(25);
        assert_eq!(pair.passed[&0], before[&0], "{pace:?}");
        assert_eq!(pair.passed[&1], before[&1], "{pace:?}");
        check_stream(&pair.far[&far], true);
        check_stream(&pair.beside[&near], true);
    }
}

/// A taker that cannot use what has begun, because its receivers' bandwidth does not allow it, says so
/// once.
#[test]
fn what_begins_and_is_not_used_is_soon_passed_on_no_more() {
    let mut pair = Pair::new(1);
    let far = pair.subscribe_far(up_to(3));
    let lowest = Layer {
        spatial: 0,
        ..Layer::MAX
    };
    pair.taker.set_limit(far, Limit::UpTo(lowest), pair.now);
    pair.run(2);
    let first = pair.passed.clone();
    pair.run(50);
    assert_eq!(pair.far_encoding(far), Some(0));
    assert_eq!(pair.passed.get(&1), first.get(&1));
    assert_eq!(pair.passed.get(&2), first.get(&2));
    assert_eq!(pair.passed[&0], first[&0] + 50);
    check_stream(&pair.far[&far], true);
}

#[test]
fn a_thousand_random_switches_leave_no_trace() {
    with_seeds(5, |seed| {
        let mut pair = Pair::new(seed);
        let near = pair.subscribe_beside(up_to(3));
        let far = [pair.subscribe_far(up_to(1)), pair.subscribe_far(up_to(3))];
        let (mut switches, mut last) = (0, None);
        while switches < 1000 {
            for key in far {
                let wish = up_to(1 + pair.rng.below(3) as u8);
                pair.taker.set_wish(key, wish, pair.now);
                pair.settle();
            }
            let frames = 1 + pair.rng.below(30) as u32;
            pair.run(frames);
            let current = pair.far_encoding(far[0]);
            switches += u32::from(current != last);
            last = current;
        }
        far.iter()
            .for_each(|key| check_stream(&pair.far[key], true));
        check_stream(&pair.beside[&near], true);
    });
}

#[test]
fn what_is_lost_in_between_is_asked_for_at_the_origin() {
    with_seeds(20, |seed| {
        let mut pair = Pair::new(seed);
        pair.loss = 5;
        let near = pair.subscribe_beside(up_to(3));
        let far = pair.subscribe_far(up_to(3));
        for _ in 0..40 {
            let wish = up_to(1 + pair.rng.below(3) as u8);
            pair.taker.set_wish(far, wish, pair.now);
            pair.settle();
            let frames = 1 + pair.rng.below(50) as u32;
            pair.run(frames);
        }
        pair.loss = 0;
        pair.run(30);
        check_stream(&pair.beside[&near], true);
        let received = &pair.far[&far];
        check_stream(received, false);
        let last = received.iter().map(|p| p.sequence).max().unwrap();
        let missing = last + 1 - received[0].sequence - received.len() as u64;
        assert!(pair.dropped > 100);
        // What is left was given up at a key frame.
        assert!(
            missing * 20 < pair.dropped,
            "{missing} missing of {} that were dropped",
            pair.dropped
        );
    });
}

#[test]
fn a_ring_that_was_full_goes_on_as_if_nothing_had_been() {
    let mut pair = Pair::new(1);
    let far = pair.subscribe_far(up_to(3));
    pair.run(50);
    pair.room = 1;
    pair.run(25);
    assert!(pair.dropped > 25);
    pair.room = usize::MAX;
    pair.run(50);
    let before = pair.far[&far].len();
    pair.run(25);
    let all = 25 * 5;
    assert!(pair.far[&far].len() >= before + all);
    check_stream(&pair.far[&far], false);
}

#[test]
fn key_frames_are_asked_for_as_if_all_sat_in_one_place() {
    let mut pair = Pair::new(1);
    pair.run(25);
    let before = pair.asked.get(&2).copied().unwrap_or_default();
    // Nobody has asked for half a second: a hundred at once are one request.
    let keys: Vec<_> = (0..50)
        .map(|_| {
            (
                pair.subscribe_beside(up_to(3)),
                pair.subscribe_far(up_to(3)),
            )
        })
        .collect();
    assert_eq!(pair.asked[&2], before + 1);
    pair.run(25);
    assert_eq!(pair.asked[&2], before + 1);
    for (near, far) in &keys {
        assert!(!pair.beside[near].is_empty() && !pair.far[far].is_empty());
        pair.origin.handle_key_frame_request(*near, pair.now);
        pair.taker.handle_key_frame_request(*far, pair.now);
    }
    pair.settle();
    assert_eq!(pair.asked[&2], before + 2);
}

#[test]
fn late_joiners_and_resubscriptions_begin_with_a_key_frame() {
    with_seeds(20, |seed| {
        let mut pair = Pair::new(seed);
        let mut watchers = Vec::new();
        for _ in 0..30 {
            let wish = up_to(1 + pair.rng.below(3) as u8);
            watchers.push(pair.subscribe_far(wish));
            let frames = 1 + pair.rng.below(40) as u32;
            pair.run(frames);
            if pair.rng.chance(50) {
                let leaving = pair.rng.below(watchers.len() as u64) as usize;
                let key = watchers.swap_remove(leaving);
                pair.unsubscribe_far(key);
                let before = pair.far[&key].len();
                pair.run(5);
                assert_eq!(
                    pair.far[&key].len(),
                    before,
                    "nothing flows after unsubscribe"
                );
            }
        }
        pair.run(40);
        watchers
            .iter()
            .for_each(|key| assert!(!pair.far[key].is_empty()));
        pair.far
            .values()
            .for_each(|received| check_stream(received, true));
    });
}

#[test]
fn mute_and_new_ssrcs_are_seen_on_the_other_side() {
    with_seeds(10, |seed| {
        let mut pair = Pair::new(seed);
        let far = pair.subscribe_far(up_to(3));
        for _ in 0..5 {
            pair.run(30);
            pair.set_muted(true);
            let (before, passed) = (pair.far[&far].len(), pair.passed());
            pair.run(10);
            assert_eq!((pair.far[&far].len(), pair.passed()), (before, passed));
            pair.set_muted(false);
            pair.run(25);
            let after = &pair.far[&far][before..];
            assert!(after[0].starts_key_frame);
            pair.restart();
            let before = pair.far[&far].len();
            pair.run(25);
            assert!(pair.far[&far].len() > before);
        }
        check_stream(&pair.far[&far], true);
    });
}

/// Numbers have wrapped around more than once while nobody watched.
#[test]
fn who_comes_back_after_hours_is_served() {
    let mut pair = Pair::new(1);
    let near = pair.subscribe_beside(up_to(1));
    let far = pair.subscribe_far(up_to(1));
    pair.run(25);
    pair.unsubscribe_far(far);
    pair.run(100_000);
    let far = pair.subscribe_far(up_to(1));
    pair.run(50);
    assert!(pair.far[&far].len() >= 30, "{}", pair.far[&far].len());
    check_stream(&pair.far[&far], true);
    check_stream(&pair.beside[&near], true);
}

#[test]
fn an_encoding_that_stops_is_left_on_the_other_side_too() {
    let mut pair = Pair::new(1);
    let far = pair.subscribe_far(up_to(3));
    pair.run(50);
    assert_eq!(pair.far_encoding(far), Some(2));
    pair.camera.set_sending(2, false);
    pair.run(50);
    assert_eq!(pair.far_encoding(far), Some(1));
    pair.camera.set_sending(2, true);
    pair.run(50);
    assert_eq!(pair.far_encoding(far), Some(2));
    check_stream(&pair.far[&far], true);
}

#[test]
fn packets_that_come_late_do_not_bring_back_what_has_no_room() {
    for with_key_frame in [false, true] {
        let mut pair = Pair::new(31);
        let far = pair.subscribe_far(up_to(3));
        pair.run(50);
        assert_eq!(pair.far_encoding(far), Some(2));
        pair.held = Some((2, Vec::new()));
        if with_key_frame {
            pair.camera.request_key_frame(2);
        }
        pair.run(1);
        pair.suspend(Some(2));
        // Nor is anybody told of it who takes the track from there.
        assert!(!pair.taker.live(pair.there).contains(2));
        pair.run(60);
        assert_eq!(pair.far_encoding(far), Some(1), "{with_key_frame}");
        let before = pair.far[&far].len();
        pair.run(10);
        assert!(pair.far[&far].len() >= before + 10, "it goes on");
        pair.suspend(None);
        pair.run(30);
        assert_eq!(pair.far_encoding(far), Some(2));
    }
}

#[test]
fn clocks_travel() {
    let mut pair = Pair::new(1);
    let far = pair.subscribe_far(up_to(3));
    pair.run(50);
    assert_eq!(pair.taker.sender_report(far, pair.now), None);
    let info = SenderInfo {
        ntp: 77 << 32,
        rtp: 1234,
        packets: 1,
        octets: 2,
    };
    let source = pair.source(2);
    pair.origin
        .handle_sender_report(source, info, Codec::Vp8, pair.now);
    let reports: Vec<RelayedReport> = pair.origin.reports(pair.here).collect();
    assert_eq!(reports.len(), 1);
    pair.to_taker
        .extend(reports.into_iter().map(ToTaker::Report));
    pair.settle();
    let told = pair.taker.sender_report(far, pair.now).unwrap();
    assert_eq!(told.ntp, info.ntp);
    // A clock of an SSRC that is no more does not come back, though its report comes late.
    let late = pair.origin.reports(pair.here).next().unwrap();
    pair.restart();
    assert_eq!(pair.origin.reports(pair.here).count(), 0);
    pair.run(25);
    let before = pair.far[&far].len();
    pair.to_taker.push_back(ToTaker::Report(late));
    pair.run(25);
    assert_eq!(pair.taker.sender_report(far, pair.now), None);
    // Nor does what goes on under the new one break off.
    assert_eq!(pair.far[&far].len(), before + 25 * 5);
    check_stream(&pair.far[&far], true);
}

#[test]
fn what_is_wanted_elsewhere_is_wanted() {
    let mut pair = Pair::new(1);
    let far = pair.subscribe_far(up_to(2));
    pair.run(150);
    assert_eq!(pair.demands, [2]);
    // More at once, whoever wants it; less after a while.
    let near = pair.subscribe_beside(up_to(1));
    pair.taker.set_wish(far, up_to(3), pair.now);
    pair.settle();
    assert_eq!(pair.demands, [2, 3]);
    pair.unsubscribe_far(far);
    pair.run(150);
    assert_eq!(pair.demands, [2, 3, 1]);
    pair.origin.unsubscribe(near, pair.now);
    pair.run(150);
    assert_eq!(pair.demands, [2, 3, 1, 0]);
    let paused = LayerWish {
        paused: true,
        ..up_to(3)
    };
    let far = pair.subscribe_far(paused);
    pair.run(150);
    assert_eq!(pair.demands.len(), 4);
    pair.taker.set_wish(far, up_to(3), pair.now);
    pair.settle();
    assert_eq!(pair.demands.last(), Some(&3));
    pair.origin.end_relay(pair.here, TAKER, pair.now);
    pair.run(150);
    assert_eq!(pair.demands.last(), Some(&0));
}

#[test]
fn rates_are_known_of_encodings_that_do_not_cross() {
    let mut pair = Pair::new(1);
    pair.subscribe_beside(up_to(3));
    pair.run(50);
    pair.subscribe_far(up_to(1));
    pair.run(100);
    assert_eq!(pair.passed.len(), 1, "{:?}", pair.passed);
    let rates = |router: &Router<Room, Person>, key| {
        let rates = router.layer_rates(key).unwrap();
        let layers = (0..3).map(|spatial| Layer {
            spatial,
            ..Layer::MAX
        });
        layers.map(|layer| rates.up_to(layer)).collect::<Vec<_>>()
    };
    let (here, there) = (
        rates(&pair.origin, pair.here),
        rates(&pair.taker, pair.there),
    );
    assert!(
        here[0] > 0 && here[1] > here[0] && here[2] > here[1],
        "{here:?}"
    );
    assert_eq!(here, there);
}
