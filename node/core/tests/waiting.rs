//! What is dropped on purpose leaves no trace: what waited in vain for its subscriber's bandwidth, and what
//! a publisher may not send.

mod sim;

use std::time::Duration;

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::{LayerWish, Source};
use pipemesh_node_core::rtp::Header;
use sim::{Sim, check_stream, with_seeds};

fn up_to(encodings: u8) -> LayerWish {
    LayerWish {
        spatial_layers: encodings,
        ..LayerWish::default()
    }
}

#[test]
fn packets_that_are_taken_back_leave_no_hole() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let watcher = sim.subscribe(&camera, LayerWish::default());
        for _ in 0..30 {
            let frames = 1 + sim.rng.below(30) as u32;
            sim.run(&mut camera, frames);
            let most = sim.received[&watcher].len() as u64;
            let taken = sim.rng.below(most.min(60) + 1) as usize;
            let received = sim.received.get_mut(&watcher).unwrap();
            let kept = received.len() - taken;
            let Some(next) = received.get(kept).map(|packet| packet.sequence) else {
                continue;
            };
            received.truncate(kept);
            sim.router.rewind(watcher, next, sim.now);
            let before = kept;
            sim.run(&mut camera, 15);
            let after = &sim.received[&watcher][before..];
            assert!(after[0].starts_key_frame, "it goes on with a key frame");
        }
        // Picture ids skip what was not sent, so holes in them are looked at no closer.
        let sent: Vec<u64> = sim.received[&watcher].iter().map(|p| p.sequence).collect();
        assert!(sent.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let times: Vec<u32> = sim.received[&watcher].iter().map(|p| p.timestamp).collect();
        assert!(
            times
                .windows(2)
                .all(|pair| pair[1].wrapping_sub(pair[0]) as i32 >= 0)
        );
    });
}

#[test]
fn what_is_taken_back_is_not_found_by_who_asks_again() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, LayerWish::default());
    sim.run(&mut camera, 25);
    let received = sim.received[&watcher].clone();
    let (kept, taken) = received.split_at(received.len() - 5);
    let round_trip = Duration::from_millis(50);
    sim.router.rewind(watcher, taken[0].sequence, sim.now);
    for packet in taken {
        let lost = sim
            .router
            .handle_loss(watcher, packet.sequence as u16, round_trip, sim.now);
        assert_eq!(lost.err(), Some(DropReason::NotKept), "{packet:?}");
    }
    let last = kept.last().unwrap().sequence as u16;
    let found = sim.router.handle_loss(watcher, last, round_trip, sim.now);
    assert_eq!(found.unwrap().rewrite.sequence, u64::from(last));
    // A number that is used again names what was sent under it.
    sim.run(&mut camera, 25);
    let again = &sim.received[&watcher];
    let begun = again.iter().rfind(|p| p.starts_key_frame).unwrap();
    let found = sim
        .router
        .handle_loss(watcher, begun.sequence as u16, round_trip, sim.now);
    assert_eq!(found.unwrap().rewrite.timestamp, begun.timestamp);
    check_stream(kept, true);
}

#[test]
fn what_became_too_much_ends_at_once_and_is_not_sent_again() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, LayerWish::default());
    sim.run(&mut camera, 25);
    let before = sim.received[&watcher].clone();
    let last = before.last().unwrap().sequence;
    let is_found = |sim: &mut Sim, sequence: u64| {
        sim.now += Duration::from_millis(60);
        let round_trip = Duration::from_millis(50);
        let found = sim
            .router
            .handle_loss(watcher, sequence as u16, round_trip, sim.now);
        found.is_ok()
    };
    // Where nothing lower is to follow it goes on.
    sim.router.abandon(watcher, sim.now);
    assert!(is_found(&mut sim, last));
    sim.router
        .set_limit(watcher, Limit::UpTo(Layer::default()), sim.now);
    sim.router.abandon(watcher, sim.now);
    assert_eq!(sim.router.current_layer(watcher), None);
    assert!(!is_found(&mut sim, last));
    sim.run(&mut camera, 15);
    let after = sim.received[&watcher][before.len()..].to_vec();
    assert!(after[0].starts_key_frame);
    assert_eq!(after[0].sequence, last + 1);
    assert_eq!(
        sim.router.current_layer(watcher).map(|layer| layer.spatial),
        Some(0)
    );
    assert!(!is_found(&mut sim, last));
    assert!(is_found(&mut sim, after.last().unwrap().sequence));
    check_stream(&sim.received[&watcher], true);
}

#[test]
fn what_a_publisher_may_not_send_is_not_missed() {
    with_seeds(20, |seed| {
        let mut sim = Sim::new(seed);
        let mut camera = sim.camera(1, 1);
        let low = sim.subscribe(&camera, up_to(1));
        let high = sim.subscribe(&camera, LayerWish::default());
        sim.run(&mut camera, 50);
        let mut left_out = 0;
        for _ in 0..200 {
            // Some frames come in part, and some packets long after they were made.
            for (encoding, packet) in camera.frame(Duration::from_millis(40)) {
                let source = Source {
                    track: camera.key,
                    encoding,
                };
                if !sim.rng.chance(3) {
                    sim.deliver(source, &packet, false);
                    continue;
                }
                left_out += 1;
                if !sim.router.is_torn(source) {
                    sim.forward();
                }
                let header = Header::parse(&packet).unwrap();
                sim.router.leave_out(source, header.sequence, sim.now);
            }
            sim.forward();
            sim.run(&mut camera, 1);
        }
        assert!(left_out > 20, "{left_out}");
        for watcher in [low, high] {
            let received = &sim.received[&watcher];
            assert!(received.len() > 100, "{}", received.len());
            let holes = received
                .windows(2)
                .filter(|pair| pair[1].sequence != pair[0].sequence + 1);
            assert_eq!(holes.count(), 0);
            let torn = received.windows(2).filter(|pair| {
                let goes_on =
                    pair[0].frame == pair[1].frame && pair[0].encoding == pair[1].encoding;
                !goes_on && !pair[0].marker && !pair[1].starts_key_frame
            });
            assert_eq!(
                torn.count(),
                0,
                "behind a frame that is torn comes a key frame"
            );
        }
        // What came and was dropped is not asked for.
        assert_eq!(sim.packet_requests, 0);
        assert!(sim.key_frame_requests.values().sum::<u64>() > 10);
    });
}

#[test]
fn packets_that_fit_no_path_are_refused() {
    let mut sim = Sim::new(1);
    let mut camera = sim.camera(1, 1);
    let watcher = sim.subscribe(&camera, LayerWish::default());
    sim.run(&mut camera, 25);
    let (encoding, mut packet) = camera.frame(Duration::from_millis(40)).swap_remove(0);
    packet.resize(1501, 0);
    let source = Source {
        track: camera.key,
        encoding,
    };
    let refused = sim
        .router
        .handle_media(source, sim::media(&packet, false), sim.now);
    assert_eq!(refused, Err(DropReason::Limit));
    sim.forward();
    check_stream(&sim.received[&watcher], true);
}
