//! Spatial and temporal layers in one stream: whatever is wanted and allowed of them, what goes on can
//! be decoded, and nothing goes on that is not wanted.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod allocation;
mod camera;
mod descriptor;
mod recorded;
#[path = "../sim/mod.rs"]
mod sim;

use camera::{Camera, Naming, Sim, check};
use descriptor::Mode;
use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use pipemesh_node_core::track::Size;
use sim::with_seeds;

const MODES: [Mode; 7] = [
    Mode::new(1, 3, false),
    Mode::new(2, 1, false),
    Mode::new(3, 3, false),
    Mode::new(3, 3, true),
    Mode::new(2, 2, true),
    Mode::new(3, 1, true),
    // L3T2h.
    Mode {
        close: true,
        ..Mode::new(3, 2, false)
    },
];

fn up_to(spatial: u8, temporal: u8) -> Limit {
    Limit::UpTo(Layer { spatial, temporal })
}

/// The layers that came in since there were `before` packets: highest spatial and temporal ones, and
/// how many pictures.
fn seen(sim: &Sim, key: SubscriptionKey, before: usize) -> (u8, u8, usize) {
    let packets = sim.received[&key][before..].iter();
    let truths: Vec<_> = packets.filter_map(|packet| packet.truth.as_ref()).collect();
    let pictures: std::collections::BTreeSet<u32> =
        truths.iter().map(|truth| truth.picture).collect();
    (
        truths.iter().map(|truth| truth.spatial).max().unwrap_or(0),
        truths.iter().map(|truth| truth.temporal).max().unwrap_or(0),
        pictures.len(),
    )
}

/// Lets a switch come to its end, then looks at a second of pictures.
fn settled(sim: &mut Sim, camera: &mut Camera, key: SubscriptionKey) -> (u8, u8, usize) {
    sim.run(camera, 30);
    let before = sim.received[&key].len();
    sim.run(camera, 32);
    seen(sim, key, before)
}

#[test]
fn every_limit_is_reached_and_kept() {
    for naming in Naming::ALL {
        for mode in MODES {
            let mut sim = Sim::new(1);
            let mut camera = sim.camera(naming, mode);
            let watcher = sim.subscribe(&camera, LayerWish::default());
            let top = (mode.spatial - 1, mode.temporal - 1);
            assert_eq!(
                settled(&mut sim, &mut camera, watcher),
                (top.0, top.1, 32),
                "{naming:?} {mode:?}"
            );
            for spatial in (0..mode.spatial).chain([0, mode.spatial - 1]) {
                for temporal in (0..mode.temporal).rev() {
                    sim.router
                        .set_limit(watcher, up_to(spatial, temporal), sim.now);
                    let every = 1 << (mode.temporal - 1 - temporal);
                    assert_eq!(
                        settled(&mut sim, &mut camera, watcher),
                        (spatial, temporal, 32 / every),
                        "{naming:?} {mode:?}"
                    );
                    let current = sim.router.current_layer(watcher).unwrap();
                    assert_eq!(current.spatial, spatial);
                }
            }
            check(&sim.received[&watcher], &sim.lost, true);
        }
    }
}

#[test]
fn random_wishes_and_limits_leave_no_trace() {
    for naming in Naming::ALL {
        for mode in MODES {
            with_seeds(2, |seed| {
                let mut sim = Sim::new(seed);
                let mut camera = sim.camera(naming, mode);
                let mut watchers: Vec<_> = (0..3)
                    .map(|_| sim.subscribe(&camera, LayerWish::default()))
                    .collect();
                for _ in 0..80 {
                    let one = watchers[sim.rng.below(watchers.len() as u64) as usize];
                    let layer = (sim.rng.below(4) as u8, sim.rng.below(4) as u8);
                    match sim.rng.below(12) {
                        0 => sim.router.set_limit(one, Limit::Paused, sim.now),
                        1 => watchers.push(sim.subscribe(&camera, LayerWish::default())),
                        2..5 => {
                            let wish = LayerWish {
                                spatial_layers: layer.0,
                                ..LayerWish::default()
                            };
                            sim.router.set_wish(one, wish, sim.now);
                        }
                        _ => sim.router.set_limit(one, up_to(layer.0, layer.1), sim.now),
                    }
                    let pictures = 1 + sim.rng.below(25) as u32;
                    sim.run(&mut camera, pictures);
                }
                for received in sim.received.values() {
                    check(received, &sim.lost, true);
                }
            });
        }
    }
}

#[test]
fn packets_that_come_late_are_put_where_they_belong() {
    for naming in Naming::ALL {
        for mode in MODES {
            with_seeds(4, |seed| {
                let mut sim = Sim::new(seed);
                sim.late = 8;
                let mut camera = sim.camera(naming, mode);
                let watcher = sim.subscribe(&camera, LayerWish::default());
                for _ in 0..60 {
                    let layer = (sim.rng.below(3) as u8, sim.rng.below(3) as u8);
                    sim.router
                        .set_limit(watcher, up_to(layer.0, layer.1), sim.now);
                    let pictures = 1 + sim.rng.below(25) as u32;
                    sim.run(&mut camera, pictures);
                }
                sim.late = 0;
                sim.run(&mut camera, 30);
                check_numbers(&sim, watcher);
            });
        }
    }
}

/// Numbers come once each and without a hole, whatever was late.
fn check_numbers(sim: &Sim, key: SubscriptionKey) {
    let received = &sim.received[&key];
    let numbers: std::collections::BTreeSet<u64> =
        received.iter().map(|packet| packet.sequence).collect();
    assert_eq!(numbers.len(), received.len(), "a number twice");
    let (first, last) = (numbers.first().unwrap(), numbers.last().unwrap());
    assert_eq!(last - first + 1, numbers.len() as u64, "a hole");
}

#[test]
fn the_view_is_measured_against_what_the_media_says() {
    for naming in Naming::ALL {
        let mut sim = Sim::new(1);
        let mut camera = sim.camera(naming, Mode::new(3, 3, true));
        let view = |width, height| LayerWish {
            view: Size { width, height },
            ..LayerWish::default()
        };
        let watcher = sim.subscribe(&camera, view(640, 360));
        assert_eq!(settled(&mut sim, &mut camera, watcher).0, 1, "{naming:?}");
        sim.router.set_wish(watcher, view(100, 100), sim.now);
        assert_eq!(settled(&mut sim, &mut camera, watcher).0, 0);
        sim.router.set_wish(watcher, view(1920, 1080), sim.now);
        assert_eq!(settled(&mut sim, &mut camera, watcher).0, 2);
        let slow = LayerWish {
            frames_per_second: 15,
            ..view(1920, 1080)
        };
        sim.router.set_wish(watcher, slow, sim.now);
        assert_eq!(settled(&mut sim, &mut camera, watcher), (2, 1, 16));
        check(&sim.received[&watcher], &sim.lost, true);
    }
}

#[test]
fn rates_say_what_a_layer_takes() {
    for naming in Naming::ALL {
        for mode in [Mode::new(3, 3, false), Mode::new(3, 3, true)] {
            let mut sim = Sim::new(1);
            let mut camera = sim.camera(naming, mode);
            let watcher = sim.subscribe(&camera, LayerWish::default());
            sim.run(&mut camera, 120);
            for spatial in 0..3 {
                for temporal in 0..3 {
                    let limit = up_to(spatial, temporal);
                    sim.router.set_limit(watcher, limit, sim.now);
                    // The key picture that this may have cost counts for a second or two.
                    sim.run(&mut camera, 60);
                    let rates = sim.router.layer_rates(camera.key).unwrap();
                    let before = sim.received[&watcher].len();
                    sim.run(&mut camera, 120);
                    let bytes: usize = sim.received[&watcher][before..].iter().map(|p| p.len).sum();
                    let bits = bytes as f64 * 8.0 / (120.0 * 0.033);
                    let told = rates.up_to(Layer { spatial, temporal }) as f64;
                    assert!(
                        (0.8..1.25).contains(&(told / bits)),
                        "{naming:?} {mode:?} {spatial} {temporal}: {told} {bits}"
                    );
                }
            }
            let sent: Vec<Layer> = sim
                .router
                .layer_rates(camera.key)
                .unwrap()
                .layers()
                .map(|(layer, _)| layer)
                .collect();
            assert_eq!(sent.len(), 9);
        }
    }
}

#[test]
fn a_layer_is_taken_up_within_a_second_at_the_price_of_one_key_frame() {
    for naming in Naming::ALL {
        let mut sim = Sim::new(1);
        let mut camera = sim.camera(naming, Mode::new(3, 3, true));
        let watcher = sim.subscribe(&camera, LayerWish::default());
        sim.run(&mut camera, 30);
        let before = sim.key_frame_requests;
        sim.router.set_limit(watcher, up_to(0, 3), sim.now);
        sim.run(&mut camera, 30);
        sim.router.set_limit(watcher, Limit::NONE, sim.now);
        sim.run(&mut camera, 30);
        assert_eq!(sim.router.current_layer(watcher).unwrap().spatial, 2);
        assert_eq!(sim.key_frame_requests - before, 2);
        check(&sim.received[&watcher], &sim.lost, true);
    }
}

#[test]
fn a_layer_that_the_encoder_gives_up_and_takes_up_again_is_followed() {
    for naming in Naming::ALL {
        for key_only in [false, true] {
            let mut sim = Sim::new(1);
            let mut camera = sim.camera(naming, Mode::new(3, 3, key_only));
            let watcher = sim.subscribe(&camera, LayerWish::default());
            sim.run(&mut camera, 30);
            camera.active = 2;
            camera.request_key_frame();
            assert_eq!(settled(&mut sim, &mut camera, watcher), (1, 2, 32));
            camera.active = 3;
            camera.request_key_frame();
            assert_eq!(settled(&mut sim, &mut camera, watcher), (2, 2, 32));
            check(&sim.received[&watcher], &sim.lost, true);
        }
    }
}

/// Which is what an encoder does that runs short of bandwidth: the mask of active decode targets says it,
/// and no key frame comes with it.
#[test]
fn a_layer_that_ends_between_key_frames_leaves_the_one_below() {
    for naming in [Naming::Vp9Described, Naming::Av1] {
        for key_only in [false, true] {
            let mut sim = Sim::new(1);
            let mut camera = sim.camera(naming, Mode::new(3, 3, key_only));
            let watcher = sim.subscribe(&camera, LayerWish::default());
            sim.run(&mut camera, 30);
            let asked = sim.key_frame_requests;
            camera.active = 2;
            assert_eq!(settled(&mut sim, &mut camera, watcher), (1, 2, 32));
            // What needs the layers below has been sent them already.
            let needed = u64::from(key_only);
            assert_eq!(
                sim.key_frame_requests - asked,
                needed,
                "{naming:?} {key_only}"
            );
            camera.active = 3;
            if key_only {
                camera.request_key_frame();
            }
            assert_eq!(settled(&mut sim, &mut camera, watcher), (2, 2, 32));
            assert_eq!(
                sim.key_frame_requests - asked,
                needed,
                "{naming:?} {key_only}"
            );
            check(&sim.received[&watcher], &sim.lost, true);
        }
    }
}

/// A frame rate is not waited for without end.
#[test]
fn a_temporal_layer_without_a_way_into_it_costs_a_key_frame() {
    for naming in Naming::ALL {
        for key_only in [false, true] {
            let mode = Mode {
                chained: true,
                ..Mode::new(3, 3, key_only)
            };
            let mut sim = Sim::new(1);
            let mut camera = sim.camera(naming, mode);
            let watcher = sim.subscribe(&camera, LayerWish::default());
            for temporal in [0, 1, 2, 0, 2] {
                sim.router.set_limit(watcher, up_to(2, temporal), sim.now);
                sim.run(&mut camera, 75);
                let before = sim.received[&watcher].len();
                sim.run(&mut camera, 32);
                let every = 1 << (2 - temporal);
                let seen = seen(&sim, watcher, before);
                assert_eq!(seen, (2, temporal, 32 / every), "{naming:?} {mode:?}");
            }
            assert!(sim.key_frame_requests <= 4, "{}", sim.key_frame_requests);
            check(&sim.received[&watcher], &sim.lost, true);
        }
    }
}

#[test]
fn layers_that_are_close_to_each_other_are_told_apart_by_their_size() {
    for naming in Naming::ALL {
        let mode = Mode {
            close: true,
            ..Mode::new(3, 1, false)
        };
        let mut sim = Sim::new(1);
        let mut camera = sim.camera(naming, mode);
        let watcher = sim.subscribe(&camera, LayerWish::default());
        // 568, 853 and 1280 pixels wide.
        for (width, height, spatial) in [(560, 320, 0), (640, 360, 1), (853, 480, 1), (854, 480, 2)]
        {
            let wish = LayerWish {
                view: Size { width, height },
                ..LayerWish::default()
            };
            sim.router.set_wish(watcher, wish, sim.now);
            let seen = settled(&mut sim, &mut camera, watcher);
            assert_eq!(seen, (spatial, 0, 32), "{naming:?} {width}");
        }
        check(&sim.received[&watcher], &sim.lost, true);
    }
}

#[test]
fn losses_stay_losses() {
    for naming in Naming::ALL {
        for mode in MODES {
            with_seeds(4, |seed| {
                let mut sim = Sim::new(seed);
                sim.loss = 2;
                let mut camera = sim.camera(naming, mode);
                let watcher = sim.subscribe(&camera, LayerWish::default());
                for _ in 0..40 {
                    let layer = (sim.rng.below(3) as u8, sim.rng.below(3) as u8);
                    sim.router
                        .set_limit(watcher, up_to(layer.0, layer.1), sim.now);
                    let pictures = 1 + sim.rng.below(40) as u32;
                    sim.run(&mut camera, pictures);
                }
                let received = &sim.received[&watcher];
                let numbers: std::collections::BTreeSet<u64> =
                    received.iter().map(|packet| packet.sequence).collect();
                assert_eq!(numbers.len(), received.len(), "a number twice");
                let span = numbers.last().unwrap() - numbers.first().unwrap() + 1;
                let missing = span - numbers.len() as u64;
                assert!(missing * 100 <= span * 12, "{missing} of {span}");
            });
        }
    }
}
