//! Layer switching: whatever a receiver wishes and whichever encodings come and go, it sees one
//! unbroken stream.

mod sim;

use pipemesh_node_core::router::LayerWish;
use pipemesh_node_core::track::Size;
use sim::{Sim, check_stream, with_seeds};

fn up_to(encodings: u8) -> LayerWish {
    LayerWish {
        spatial_layers: encodings,
        ..LayerWish::default()
    }
}

#[test]
fn a_thousand_random_switches_leave_no_trace() {
    with_seeds(5, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let watcher = sim.subscribe(&camera, up_to(3));
        let (mut switches, mut last) = (0, None);
        while switches < 1000 {
            let wish = up_to(1 + sim.rng.below(3) as u8);
            sim.router.set_wish(watcher, wish, sim.now);
            let frames = 1 + sim.rng.below(30) as u32;
            sim.run(&mut camera, frames);
            let current = sim.current_encoding(watcher);
            switches += u32::from(current != last);
            last = current;
        }
        check_stream(&sim.received[&watcher], true);
    });
}

#[test]
fn switches_under_loss_show_only_real_losses() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        sim.loss = 5;
        let mut camera = sim.camera(1, 1);
        let watcher = sim.subscribe(&camera, up_to(3));
        for _ in 0..100 {
            let wish = up_to(1 + sim.rng.below(3) as u8);
            sim.router.set_wish(watcher, wish, sim.now);
            let frames = 1 + sim.rng.below(50) as u32;
            sim.run(&mut camera, frames);
        }
        let received = &sim.received[&watcher];
        check_stream(received, false);
        let (first, last) = (
            received[0].sequence,
            received.iter().map(|p| p.sequence).max().unwrap(),
        );
        let missing = last + 1 - first - received.len() as u64;
        // Asked for upstream and repaired; what is left was given up at a key frame.
        assert!(
            missing * 50 < last - first,
            "{missing} of {} missing",
            last - first
        );
    });
}

#[test]
fn an_encoding_that_stops_is_left_and_taken_again_when_it_returns() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 50);
    assert_eq!(sim.current_encoding(watcher), Some(2));
    camera.set_sending(2, false);
    sim.run(&mut camera, 50);
    assert_eq!(sim.current_encoding(watcher), Some(1));
    camera.set_sending(2, true);
    sim.run(&mut camera, 50);
    assert_eq!(sim.current_encoding(watcher), Some(2));
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn a_track_that_stops_altogether_is_kept() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 50);
    (0..3).for_each(|encoding| camera.set_sending(encoding, false));
    sim.run(&mut camera, 250);
    assert_eq!(
        sim.current_encoding(watcher),
        Some(2),
        "a still screen share is no reason to switch"
    );
}

#[test]
fn the_view_decides() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let view = Size {
        width: 600,
        height: 300,
    };
    let watcher = sim.subscribe(
        &camera,
        LayerWish {
            view,
            ..LayerWish::default()
        },
    );
    sim.run(&mut camera, 50);
    assert_eq!(sim.current_encoding(watcher), Some(1));
}

#[test]
fn late_joiners_and_resubscriptions_begin_with_a_key_frame() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let mut watchers = Vec::new();
        for _ in 0..30 {
            let wish = up_to(1 + sim.rng.below(3) as u8);
            watchers.push(sim.subscribe(&camera, wish));
            let frames = 1 + sim.rng.below(40) as u32;
            sim.run(&mut camera, frames);
            if sim.rng.chance(50) {
                let leaving = sim.rng.below(watchers.len() as u64) as usize;
                let key = watchers.swap_remove(leaving);
                sim.router.unsubscribe(key, sim.now);
                let before = sim.received[&key].len();
                sim.run(&mut camera, 5);
                assert_eq!(
                    sim.received[&key].len(),
                    before,
                    "nothing flows after unsubscribe"
                );
            }
        }
        sim.run(&mut camera, 40);
        for key in watchers {
            assert!(!sim.received[&key].is_empty());
        }
        sim.received
            .values()
            .for_each(|received| check_stream(received, true));
    });
}

#[test]
fn key_frames_are_asked_for_at_most_twice_a_second_however_many_join() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    sim.run(&mut camera, 25);
    for _ in 0..100 {
        sim.subscribe(&camera, up_to(3));
        sim.run(&mut camera, 1);
    }
    // 100 joins over four seconds.
    let most = sim.key_frame_requests.values().max().unwrap();
    assert!((2..=9).contains(most), "{most}");
    sim.run(&mut camera, 25);
    assert!(sim.received.values().all(|received| !received.is_empty()));
}

#[test]
fn mute_stops_at_once_and_unmute_goes_on_with_a_key_frame() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 50);
    let before = sim.received[&watcher].len();
    sim.router.set_muted(camera.key, true, sim.now);
    sim.run(&mut camera, 50);
    assert_eq!(sim.received[&watcher].len(), before);
    sim.router.set_muted(camera.key, false, sim.now);
    sim.run(&mut camera, 50);
    let after = &sim.received[&watcher][before..];
    assert!(after[0].starts_key_frame);
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn an_empty_room_holds_nothing() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 10);
    let sent = sim.received[&watcher].last().unwrap().sequence;
    assert_eq!(sim.router.unpublish(camera.key), [(watcher, sent + 1)]);
    assert_eq!(sim.router.unpublish(camera.key), []);
    sim.router.unsubscribe(watcher, sim.now);
    sim.run(&mut camera, 10);
    assert_eq!(sim.router.len(), (0, 0, 0));
}

#[test]
fn a_new_ssrc_continues_the_stream() {
    with_seeds(10, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let watcher = sim.subscribe(&camera, up_to(3));
        for _ in 0..5 {
            sim.run(&mut camera, 30);
            let restarted = sim::Camera::new(camera.key, &mut sim.rng);
            camera = restarted;
            for encoding in 0..3 {
                let source = pipemesh_node_core::router::Source {
                    track: camera.key,
                    encoding,
                };
                sim.router.restart(source, sim.now);
            }
        }
        let before = sim.received[&watcher].len();
        sim.run(&mut camera, 30);
        assert!(sim.received[&watcher].len() > before);
        check_stream(&sim.received[&watcher], true);
    });
}
