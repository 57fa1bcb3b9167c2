//! A publisher sends only what somebody wants, and who wants it later gets it at once.

mod sim;

use std::time::Duration;

use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use sim::{Camera, Sim, check_stream, with_seeds};

/// Frames of the simulated camera in a second.
const SECOND: u32 = 25;

fn up_to(encodings: u8) -> LayerWish {
    LayerWish {
        spatial_layers: encodings,
        ..LayerWish::default()
    }
}

fn paused() -> LayerWish {
    LayerWish {
        paused: true,
        ..LayerWish::default()
    }
}

fn obeying(seed: u64) -> (Sim, Camera) {
    let mut sim = Sim::new(seed);
    sim.obeys_demand = true;
    let camera = sim.camera(1, 1);
    (sim, camera)
}

fn told(sim: &mut Sim) -> Vec<u8> {
    sim.demands.drain(..).map(|(_, told)| told).collect()
}

/// What a subscription got since the last look.
fn since(sim: &Sim, key: SubscriptionKey, before: usize) -> Vec<u8> {
    let mut encodings: Vec<u8> = sim.received[&key][before..]
        .iter()
        .map(|packet| packet.encoding)
        .collect();
    encodings.dedup();
    encodings
}

#[test]
fn nobody_wants_it_nothing_is_sent() {
    let (mut sim, mut camera) = obeying(1);
    sim.run(&mut camera, 3 * SECOND);
    assert_eq!(told(&mut sim), [], "somebody may be on their way");
    sim.run(&mut camera, 2 * SECOND);
    assert_eq!(told(&mut sim), [0]);
    sim.run(&mut camera, 30 * SECOND);
    assert_eq!(told(&mut sim), [], "told once");

    // Long after, somebody comes: it all starts again, within a frame or two.
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 3);
    assert_eq!(told(&mut sim), [3]);
    assert_eq!(sim.current_encoding(watcher), Some(2));
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn the_most_that_anybody_wants_counts() {
    let (mut sim, mut camera) = obeying(1);
    let small = sim.subscribe(&camera, up_to(1));
    let large = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 10 * SECOND);
    assert_eq!(told(&mut sim), [], "all of it is wanted");

    sim.router.set_wish(large, up_to(2), sim.now);
    sim.run(&mut camera, 3 * SECOND);
    assert_eq!(told(&mut sim), []);
    sim.run(&mut camera, 2 * SECOND);
    assert_eq!(told(&mut sim), [2]);
    sim.router.unsubscribe(large, sim.now);
    sim.run(&mut camera, 5 * SECOND);
    assert_eq!(told(&mut sim), [1]);

    // Who is hidden, paused or gone wants nothing.
    sim.router.set_wish(small, paused(), sim.now);
    sim.run(&mut camera, 5 * SECOND);
    assert_eq!(told(&mut sim), [0]);
    sim.router.set_wish(small, up_to(2), sim.now);
    sim.run(&mut camera, 1);
    assert_eq!(told(&mut sim), [2], "at once");
    sim.received.values().for_each(|r| check_stream(r, true));
}

#[test]
fn an_encoding_nobody_wanted_is_not_a_dead_one() {
    with_seeds(10, |seed| {
        let (mut sim, mut camera) = obeying(seed);
        let watcher = sim.subscribe(&camera, up_to(1));
        sim.run(&mut camera, 20 * SECOND);
        assert_eq!(told(&mut sim), [1]);
        for encodings in [2, 3] {
            sim.router.set_wish(watcher, up_to(encodings), sim.now);
            let before = sim.received[&watcher].len();
            // One frame for the publisher to be told, one for its key frame.
            sim.run(&mut camera, 2);
            assert_eq!(told(&mut sim), [encodings]);
            assert_eq!(since(&sim, watcher, before).last(), Some(&(encodings - 1)));
        }
        // What was seen meanwhile went on without a break.
        check_stream(&sim.received[&watcher], true);
    });
}

#[test]
fn after_a_silence_the_first_picture_there_is_is_shown() {
    let (mut sim, mut camera) = obeying(1);
    sim.run(&mut camera, 10 * SECOND);
    // The larger encodings take seconds to start, as those of browsers do.
    sim.obeys_demand = false;
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 1);
    camera.send_only(1);
    sim.run(&mut camera, SECOND);
    assert_eq!(since(&sim, watcher, 0), [0]);
    assert!(sim.received[&watcher].len() + 2 >= SECOND as usize);
    camera.send_only(3);
    sim.run(&mut camera, 1);
    assert_eq!(sim.current_encoding(watcher), Some(2));
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn coming_and_going_restarts_no_encoder() {
    let (mut sim, mut camera) = obeying(1);
    let watcher = sim.subscribe(&camera, up_to(3));
    for _ in 0..20 {
        sim.router.set_wish(watcher, paused(), sim.now);
        sim.run(&mut camera, 3 * SECOND);
        sim.router.set_wish(watcher, up_to(3), sim.now);
        sim.run(&mut camera, SECOND / 2);
    }
    assert_eq!(told(&mut sim), []);
}

#[test]
fn a_release_is_at_most_five_seconds_late_and_never_early() {
    let (mut sim, mut camera) = obeying(1);
    let watcher = sim.subscribe(&camera, up_to(3));
    sim.run(&mut camera, 7 * SECOND);
    let left = sim.now;
    sim.router.unsubscribe(watcher, left);
    sim.run(&mut camera, 10 * SECOND);
    let [(at, 0)] = sim.demands[..] else {
        panic!("{:?}", sim.demands);
    };
    let late = at - left;
    assert!(
        (Duration::from_secs(3)..=Duration::from_secs(5)).contains(&late),
        "{late:?}"
    );
}
