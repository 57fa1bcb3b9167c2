//! Temporal layers of simulcast encodings: frames are left out and taken up again without a key frame,
//! and receivers see one unbroken count of pictures.

mod sim;

use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use sim::{Camera, Sim, check_stream, with_seeds};

fn up_to(spatial: u8, temporal: u8) -> Limit {
    Limit::UpTo(Layer { spatial, temporal })
}

fn layered(sim: &mut Sim) -> Camera {
    let mut camera = sim.camera(1, 1);
    camera.temporal = true;
    camera
}

/// Frames that came since there were `before` packets, by temporal layer.
fn frames(sim: &Sim, key: SubscriptionKey, before: usize) -> [usize; 3] {
    let mut count = [0; 3];
    let begun = sim.received[&key][before..].iter();
    begun
        .filter(|packet| packet.starts_frame)
        .filter_map(|packet| packet.temporal)
        .for_each(|layer| count[usize::from(layer)] += 1);
    count
}

#[test]
fn every_layer_is_left_and_taken_up_within_its_pattern() {
    let mut sim = Sim::new(1);
    let mut camera = layered(&mut sim);
    let watcher = sim.subscribe(&camera, LayerWish::default());
    sim.run(&mut camera, 40);
    let asked = sim.key_frame_requests.clone();
    for (temporal, expected) in [
        (0, [10, 0, 0]),
        (2, [10, 10, 20]),
        (1, [10, 10, 0]),
        (0, [10, 0, 0]),
        (1, [10, 10, 0]),
        (2, [10, 10, 20]),
    ] {
        sim.router.set_limit(watcher, up_to(2, temporal), sim.now);
        sim.run(&mut camera, 4);
        let before = sim.received[&watcher].len();
        sim.run(&mut camera, 40);
        assert_eq!(frames(&sim, watcher, before), expected, "{temporal}");
    }
    assert_eq!(sim.key_frame_requests, asked, "no key frame was needed");
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn random_limits_on_both_axes_leave_no_trace() {
    with_seeds(10, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = layered(&mut sim);
        let watcher = sim.subscribe(&camera, LayerWish::default());
        for _ in 0..300 {
            let limit = match sim.rng.below(10) {
                0 => Limit::Paused,
                _ => up_to(sim.rng.below(3) as u8, sim.rng.below(3) as u8),
            };
            sim.router.set_limit(watcher, limit, sim.now);
            let frames = 1 + sim.rng.below(20) as u32;
            sim.run(&mut camera, frames);
        }
        check_stream(&sim.received[&watcher], true);
    });
}

#[test]
fn a_frame_rate_is_enough_for_who_asks_for_it() {
    let mut sim = Sim::new(1);
    let mut camera = layered(&mut sim);
    let wish = LayerWish {
        frames_per_second: 12,
        ..LayerWish::default()
    };
    let watcher = sim.subscribe(&camera, wish);
    sim.run(&mut camera, 100);
    let before = sim.received[&watcher].len();
    sim.run(&mut camera, 40);
    assert_eq!(frames(&sim, watcher, before), [10, 10, 0]);
    check_stream(&sim.received[&watcher], true);
}
