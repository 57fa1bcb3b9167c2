//! Who comes shortly after a key frame begins with it, and nobody is asked for another.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod pair;
mod sim;

use std::time::Duration;

use pair::Pair;
use pipemesh_node_core::router::relay::Interest;
use pipemesh_node_core::router::{LayerWish, MAX_BURST, Source, SubscriptionKey};
use pipemesh_node_core::rtp::Header;
use sim::{Camera, Sim, check_stream, with_seeds};

const FRAME: Duration = Duration::from_millis(40);
/// Frames behind a key frame that is still young.
const YOUNG: u64 = 11;
/// Packets of the highest encoding's frames, and more of a key frame.
const PACKETS: usize = 5;
const MORE: usize = 4;

fn up_to(encodings: u8) -> LayerWish {
    LayerWish {
        spatial_layers: encodings,
        ..LayerWish::default()
    }
}

fn asked(sim: &Sim) -> u64 {
    sim.key_frame_requests.values().sum()
}

/// Somebody comes; what was not forwarded yet gathers with what follows.
fn come(sim: &mut Sim, camera: &Camera, wish: LayerWish) -> SubscriptionKey {
    let key = sim.subscribe(camera, wish);
    assert!(sim.received[&key].is_empty());
    sim.forward();
    key
}

#[test]
fn a_newcomer_sees_at_once_what_came_since_the_last_key_frame() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let since = sim.rng.below(YOUNG);
        sim.run(&mut camera, 1 + since as u32);
        let watcher = come(&mut sim, &camera, up_to(3));
        let expected = (1 + since as usize) * PACKETS + MORE;
        assert_eq!(sim.received[&watcher].len(), expected);
        assert_eq!(sim.current_encoding(watcher), Some(2));
        // What is missed of it is sent again.
        let first = sim.received[&watcher][0].sequence;
        let round_trip = Duration::from_millis(50);
        let (router, now) = (&mut sim.router, sim.now);
        let repair = router.handle_loss(watcher, first as u16, round_trip, now);
        assert_eq!(repair.unwrap().rewrite.sequence, first);
        sim.run(&mut camera, 50);
        let received = &sim.received[&watcher];
        assert_eq!(received.len(), expected + 50 * PACKETS);
        check_stream(received, true);
        assert_eq!(asked(&sim), 0);
        // Timestamps are the publisher's, which its sender reports speak of.
        let last = received.last().unwrap();
        let passed = last.timestamp.wrapping_sub(received[0].timestamp);
        assert_eq!(u64::from(passed), (since + 50) * 40 * 90);
    });
}

#[test]
fn temporal_layers_that_are_not_wanted_are_left_out_of_it() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        camera.temporal = true;
        let other = sim.subscribe(&camera, up_to(3));
        sim.run(&mut camera, 100);
        camera.request_key_frame(2);
        let since = sim.rng.below(YOUNG);
        sim.run(&mut camera, 1 + since as u32);
        let wish = LayerWish {
            frames_per_second: 6,
            ..up_to(3)
        };
        let before = asked(&sim);
        let watcher = come(&mut sim, &camera, wish);
        sim.run(&mut camera, 40);
        let received = &sim.received[&watcher];
        assert!(received.iter().all(|packet| packet.temporal == Some(0)));
        let frames = received.iter().filter(|packet| packet.starts_frame);
        assert_eq!(frames.count() as u64, (41 + since).div_ceil(4));
        check_stream(received, true);
        check_stream(&sim.received[&other], true);
        assert_eq!(asked(&sim), before);
    });
}

#[test]
fn a_key_frame_of_long_ago_is_none() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 2 + YOUNG as u32 + 1);
    let watcher = come(&mut sim, &camera, up_to(3));
    assert!(sim.received[&watcher].is_empty());
    sim.run(&mut camera, 25);
    assert_eq!(asked(&sim), 1);
    check_stream(&sim.received[&watcher], true);
    // Nor does it become young by another's coming.
    let before = sim.key_frame_requests.clone();
    camera.request_key_frame(2);
    sim.run(&mut camera, 1);
    for _ in 0..YOUNG {
        come(&mut sim, &camera, up_to(3));
        sim.run(&mut camera, 1);
    }
    assert_eq!(sim.key_frame_requests, before);
    sim.run(&mut camera, 3);
    let late = come(&mut sim, &camera, up_to(3));
    assert!(sim.received[&late].is_empty());
    sim.run(&mut camera, 25);
    assert_eq!(asked(&sim), 2);
    for received in sim.received.values() {
        check_stream(received, true);
    }
}

/// Delivers a frame of the highest encoding but for one packet, and answers that.
fn frame_with_gap(sim: &mut Sim, camera: &mut Camera, missing: usize) -> Vec<u8> {
    sim.now += FRAME;
    let source = Source {
        track: camera.key,
        encoding: 2,
    };
    let frame = camera.frame(FRAME).into_iter();
    let mut packets: Vec<_> = frame.filter(|(encoding, _)| *encoding == 2).collect();
    let (_, held) = packets.remove(missing);
    for (_, packet) in packets {
        sim.deliver(source, &packet, false);
    }
    sim.forward();
    held
}

#[test]
fn where_something_is_missing_since_another_is_asked_for() {
    for comes_late in [false, true] {
        let mut sim = Sim::new(1);
        let mut camera = sim.camera(1, 1);
        sim.run(&mut camera, 3);
        let held = frame_with_gap(&mut sim, &mut camera, 2);
        if comes_late {
            let source = Source {
                track: camera.key,
                encoding: 2,
            };
            sim.deliver(source, &held, true);
            sim.forward();
        }
        let watcher = come(&mut sim, &camera, up_to(3));
        let begun = sim.received[&watcher].len();
        assert_eq!(
            begun,
            if comes_late { 4 * PACKETS + MORE } else { 0 },
            "{comes_late}"
        );
        sim.run(&mut camera, 25);
        assert_eq!(asked(&sim), u64::from(!comes_late));
        check_stream(&sim.received[&watcher], true);
    }
}

#[test]
fn what_has_gathered_follows_behind() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 3);
    sim.now += FRAME;
    for (encoding, packet) in camera.frame(FRAME) {
        let source = Source {
            track: camera.key,
            encoding,
        };
        sim.deliver(source, &packet, false);
    }
    let watcher = come(&mut sim, &camera, up_to(3));
    assert_eq!(sim.received[&watcher].len(), 4 * PACKETS + MORE);
    // A key frame that has gathered is begun with, instead of what came before.
    camera.request_key_frame(2);
    for (encoding, packet) in camera.frame(FRAME) {
        let source = Source {
            track: camera.key,
            encoding,
        };
        sim.deliver(source, &packet, false);
    }
    let later = come(&mut sim, &camera, up_to(3));
    assert_eq!(sim.received[&later].len(), PACKETS + MORE);
    check_stream(&sim.received[&watcher], true);
    check_stream(&sim.received[&later], true);
    assert_eq!(asked(&sim), 0);
}

#[test]
fn what_was_broken_off_since_is_not_begun_with() {
    let check = |what: &str, change: fn(&mut Sim, &mut Camera)| {
        let mut sim = Sim::new(1);
        let mut camera = sim.camera(1, 1);
        sim.run(&mut camera, 3);
        change(&mut sim, &mut camera);
        let watcher = come(&mut sim, &camera, up_to(3));
        assert!(sim.received[&watcher].is_empty(), "{what}");
        sim.run(&mut camera, 25);
        assert_eq!(asked(&sim), 1, "{what}");
        check_stream(&sim.received[&watcher], true);
    };
    check("muted for a while", |sim, camera| {
        sim.router.set_muted(camera.key, true, sim.now);
        sim.run(camera, 2);
        sim.router.set_muted(camera.key, false, sim.now);
    });
    check("left out", |sim, camera| {
        let held = frame_with_gap(sim, camera, 4);
        let source = Source {
            track: camera.key,
            encoding: 2,
        };
        let sequence = Header::parse(&held).unwrap().sequence;
        sim.router.leave_out(source, sequence, sim.now);
    });
    check("another SSRC", |sim, camera| {
        let source = Source {
            track: camera.key,
            encoding: 2,
        };
        sim.router.restart(source, sim.now);
    });
}

#[test]
fn a_muted_track_is_not_begun_with() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 3);
    sim.router.set_muted(camera.key, true, sim.now);
    let watcher = come(&mut sim, &camera, up_to(3));
    sim.run(&mut camera, 5);
    assert!(sim.received[&watcher].is_empty());
    sim.router.set_muted(camera.key, false, sim.now);
    sim.run(&mut camera, 25);
    check_stream(&sim.received[&watcher], true);
}

/// Who is being sent a track has seen it already.
#[test]
fn nobody_goes_back() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let rising = sim.subscribe(&camera, up_to(1));
        let stumbling = sim.subscribe(&camera, up_to(3));
        sim.run(&mut camera, 30);
        camera.request_key_frame(2);
        let since = sim.rng.below(YOUNG) as u32;
        sim.run(&mut camera, 1 + since);
        let before = asked(&sim);
        sim.router.set_wish(rising, up_to(3), sim.now);
        let received = sim.received.get_mut(&stumbling).unwrap();
        let taken = received.split_off(received.len() - 3);
        let (next, newest) = (taken[0].sequence, taken[2].frame);
        sim.router.rewind(stumbling, next, sim.now);
        let (low, high) = (sim.received[&rising].len(), received_len(&sim, stumbling));
        sim.forward();
        assert_eq!(sim.received[&rising].len(), low);
        assert_eq!(received_len(&sim, stumbling), high);
        sim.run(&mut camera, 25);
        assert!(asked(&sim) > before);
        for (key, begun) in [(rising, low), (stumbling, high)] {
            let after = &sim.received[&key][begun..];
            let risen = after.iter().find(|packet| packet.encoding == 2).unwrap();
            assert!(risen.starts_key_frame && risen.frame > newest);
        }
        check_stream(&sim.received[&rising], true);
    });
}

fn received_len(sim: &Sim, key: SubscriptionKey) -> usize {
    sim.received[&key].len()
}

/// A crowd is shown it in as many bursts as one newcomer is.
#[test]
fn a_crowd_begins_together() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 10);
    let keys: Vec<_> = (0..100).map(|_| sim.subscribe(&camera, up_to(3))).collect();
    let packets = 10 * PACKETS + MORE;
    let mut bursts = 0;
    let mut shown = 0;
    let forwarded = sim.router.forward(sim.now, |burst| {
        bursts += 1;
        assert!(burst.packets().count() <= MAX_BURST);
        while burst.next_subscriber().is_some() {
            shown += burst.forwards().len();
        }
    });
    assert_eq!(forwarded, Ok(()));
    assert_eq!(bursts, packets.div_ceil(MAX_BURST));
    assert_eq!(shown, keys.len() * packets);
    assert!(!sim.router.has_gathered());
    sim.run(&mut camera, 5);
    assert_eq!(asked(&sim), 0);
}

/// Not all of it can be sent: it goes on with a key frame, without a hole.
#[test]
fn what_finds_no_room_is_taken_back() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 10);
    let watcher = sim.subscribe(&camera, up_to(3));
    let mut kept = Vec::new();
    let forwarded = sim.router.forward(sim.now, |burst| {
        while let Some(key) = burst.next_subscriber() {
            let next = burst.forwards()[0].rewrite.sequence;
            match kept.len() {
                0 => kept.push(burst.forwards().last().unwrap().rewrite.sequence),
                _ => burst.take_back(key, next),
            }
        }
    });
    assert_eq!(forwarded, Ok(()));
    sim.run(&mut camera, 25);
    assert_eq!(asked(&sim), 1);
    let after = &sim.received[&watcher];
    assert!(after[0].starts_key_frame);
    assert_eq!(after[0].sequence, kept[0] + 1);
}

#[test]
fn a_newcomer_far_away_begins_with_it_too() {
    for requests_overtake in [false, true] {
        with_seeds(20, |seed| {
            let mut pair = Pair::new(seed);
            pair.requests_overtake = requests_overtake;
            let near = pair.subscribe_beside(up_to(3));
            pair.run(30);
            pair.camera.request_key_frame(2);
            let since = pair.rng.below(YOUNG);
            pair.run(1 + since as u32);
            let before = pair.asked.clone();
            let far = pair.subscribe_far(up_to(3));
            let expected = (1 + since as usize) * PACKETS + MORE;
            assert_eq!(pair.far[&far].len(), expected);
            pair.run(50);
            assert_eq!(pair.far[&far].len(), expected + 50 * PACKETS);
            check_stream(&pair.far[&far], true);
            check_stream(&pair.beside[&near], true);
            assert_eq!(pair.asked, before);
            assert_eq!(pair.missed, 0);
        });
    }
}

/// It is there already, whoever it came for.
#[test]
fn a_second_newcomer_far_away_asks_nobody() {
    let mut pair = Pair::new(1);
    pair.run(30);
    pair.subscribe_far(up_to(3));
    pair.run(5);
    let (asked, passed) = (pair.asked.clone(), pair.passed());
    let second = pair.subscribe_far(up_to(3));
    assert!(pair.far[&second].len() >= 4 * PACKETS);
    assert_eq!((pair.passed(), &pair.asked), (passed, &asked));
    pair.run(50);
    check_stream(&pair.far[&second], true);
    assert_eq!(pair.asked, asked);
}

#[test]
fn nobody_goes_back_far_away_either() {
    for requests_overtake in [false, true] {
        with_seeds(20, |seed| {
            let mut pair = Pair::new(seed);
            pair.requests_overtake = requests_overtake;
            let near = pair.subscribe_beside(up_to(3));
            let far = pair.subscribe_far(up_to(1));
            pair.run(30);
            pair.camera.request_key_frame(2);
            let since = pair.rng.below(YOUNG);
            pair.run(1 + since as u32);
            let asked = |pair: &Pair| pair.asked.get(&2).copied().unwrap_or_default();
            let (begun, before) = (pair.far[&far].len(), asked(&pair));
            let newest = pair.beside[&near].last().unwrap().frame;
            pair.taker.set_wish(far, up_to(3), pair.now);
            pair.settle();
            assert_eq!(pair.far[&far].len(), begun);
            pair.run(25);
            assert_eq!(asked(&pair), before + 1);
            assert_eq!(pair.far_encoding(far), Some(2));
            let after = &pair.far[&far][begun..];
            let risen = after.iter().find(|packet| packet.encoding == 2).unwrap();
            assert!(risen.starts_key_frame && risen.frame > newest);
            check_stream(&pair.far[&far], true);
        });
    }
}

/// A taker of before this says nothing of newcomers.
#[test]
fn a_taker_that_does_not_know_of_it_is_served_as_before() {
    let mut pair = Pair::new(1);
    pair.run(30);
    pair.subscribe_beside(up_to(3));
    pair.run(5);
    let before = pair.asked.get(&2).copied().unwrap_or_default();
    let source = pair.source(2);
    let now = pair.now;
    // Its request overtakes its word.
    pair.origin
        .handle_relayed_key_frame_request(source, pair::TAKER, now);
    let interest = Interest {
        encodings: pair.origin.live(pair.here),
        known: pair.origin.live(pair.here),
        wanted: 3,
        ..Interest::default()
    };
    assert!(
        pair.origin
            .relay(pair.here, pair::TAKER, pair::ALIAS, interest, now)
    );
    let mut caught_up = 0;
    pair.origin
        .catch_up(pair.here, pair::TAKER, |_, _, _, _, _| {
            caught_up += 1;
            true
        });
    assert_eq!(caught_up, 0);
    pair.run(25);
    assert_eq!(pair.asked[&2], before + 1);
}
