//! Connections between nodes over simulated paths, in virtual time: what arrives, when, and what does
//! without.

use std::time::Duration;

use pipemesh_node_core::pipe::schedule::{Class, Reason};

use bytes::Bytes;
use link::Link;
use relay::{Relay, Track};
use world::World;

use super::super::transport::{MTU, Path};

mod link;
mod relay;
mod world;

const ONE_WAY: Duration = Duration::from_millis(50);
/// What the narrow place of a path holds before it drops.
const QUEUE: Duration = Duration::from_millis(100);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Mbit/s, of payloads.
fn mbps(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e6
}

/// Runs a scenario with a few seeds, and says which one failed.
fn with_seeds(seeds: u64, scenario: impl Fn(u64)) {
    for seed in 0..seeds {
        println!("seed {seed}");
        scenario(seed);
    }
}

fn wide(seed: u64) -> Link {
    Link::new(seed, ONE_WAY, 1_000_000_000, QUEUE)
}

/// 50 Mbit/s without layers to do without, so that all the loss is seen. What arrives from the second
/// second on, in Mbit/s.
fn fifty(seed: u64, forward: Link) -> f64 {
    let mut world = World::new(vec![forward, wide(1_000)]);
    let pair = world.connect(0, 1);
    let tracks = (0..10).map(|_| Track::single(5_000_000)).collect();
    let mut relay = Relay::new(&mut world, pair, tracks, seed);
    relay.run(&mut world, secs(1));
    let before = relay.received().bytes;
    let time = secs(5);
    relay.run(&mut world, time);
    let rate = mbps(relay.received().bytes - before, time);
    println!("{rate:.2} Mbit/s, {}", relay.summary(&world));
    rate
}

#[test]
fn what_long_paths_lose_by_themselves_does_not_slow_a_pipe() {
    with_seeds(2, |seed| {
        for loss in [0.0001, 0.001, 0.01] {
            let rate = fifty(seed, wide(seed).with_loss(loss));
            assert!(rate >= 49.0, "loss {loss}: {rate}");
        }
    });
}

#[test]
fn packets_that_overtake_each_other_do_not_slow_a_pipe() {
    with_seeds(2, |seed| {
        let rate = fifty(seed, wide(seed).with_jitter(Duration::from_millis(3)));
        assert!(rate >= 49.0, "{rate}");
    });
}

#[test]
fn a_longer_route_slows_a_pipe_for_a_moment_at_most() {
    with_seeds(2, |seed| {
        let mut world = World::new(vec![wide(seed), wide(1_000 + seed)]);
        let pair = world.connect(0, 1);
        let tracks = (0..10).map(|_| Track::single(5_000_000)).collect();
        let mut relay = Relay::new(&mut world, pair, tracks, seed);
        relay.run(&mut world, secs(3));
        world.links[0].delay += Duration::from_millis(60);
        relay.run(&mut world, secs(3));
        let before = relay.received().bytes;
        relay.run(&mut world, secs(4));
        let rate = mbps(relay.received().bytes - before, secs(4));
        println!("{rate:.2} Mbit/s, {}", relay.summary(&world));
        assert!(rate >= 49.0, "{rate}");
    });
}

/// Three publishers with 15 Mbit/s in all, on a line of 10: layers go, nothing else does, and control gets
/// through. They come back once there is room.
#[test]
fn layers_go_before_anything_else_does_and_come_back() {
    with_seeds(3, |seed| {
        let narrow = Link::new(seed, ONE_WAY, 10_000_000, QUEUE);
        let mut world = World::new(vec![narrow, wide(1_000 + seed)]);
        let pair = world.connect(0, 1);
        let tracks = (0..3).flat_map(|n| Track::simulcast(secs(n))).collect();
        let mut relay = Relay::new(&mut world, pair, tracks, seed);
        relay.run(&mut world, secs(20));
        relay.settle(&mut world);
        let narrow = relay.summary(&world);
        println!("narrow: {narrow}");
        assert!(relay.control_p99() < Duration::from_millis(150), "{narrow}");
        assert_eq!(relay.lost(Class::Audio), 0, "{narrow}");
        assert_eq!(relay.lost(Class::Base), 0, "{narrow}");
        assert!(relay.suspended(Class::High) > 0, "{narrow}");
        assert_eq!(relay.suspended(Class::Mid), 0, "{narrow}");
        let stats = relay.schedule.stats();
        assert!(stats.dropped(Class::High, Reason::Suspended).packets > 0);

        world.links[0].rate = 100_000_000;
        let widened = world.now;
        while relay.suspended(Class::High) > 0 {
            assert!(world.now - widened < secs(60), "{}", relay.summary(&world));
            relay.run(&mut world, secs(1));
        }
        println!("all back after {:?}", world.now - widened);
        let before = relay.received().bytes;
        relay.run(&mut world, secs(5));
        let rate = mbps(relay.received().bytes - before, secs(5));
        println!("wide: {rate:.2} Mbit/s, {}", relay.summary(&world));
        assert!(rate >= 14.5, "{rate}");
        assert_eq!(relay.suspended(Class::High), 0);
    });
}

/// In one building acknowledgements take longer than the way: it has to be seen all the same that there is
/// room again.
#[test]
fn layers_come_back_on_a_short_path() {
    with_seeds(3, |seed| {
        let way = Duration::from_micros(200);
        let link = |rate| Link::new(seed, way, rate, QUEUE);
        let mut world = World::new(vec![link(10_000_000), link(1_000_000_000)]);
        let pair = world.connect(0, 1);
        let tracks = (0..3).flat_map(|n| Track::simulcast(secs(n))).collect();
        let mut relay = Relay::new(&mut world, pair, tracks, seed);
        relay.run(&mut world, secs(20));
        relay.settle(&mut world);
        println!("narrow: {}", relay.summary(&world));
        assert_eq!(relay.lost(Class::Audio), 0);
        assert_eq!(relay.lost(Class::Base), 0);
        assert!(relay.suspended(Class::High) > 0);
        world.links[0].rate = 1_000_000_000;
        let widened = world.now;
        while relay.suspended(Class::High) > 0 {
            assert!(world.now - widened < secs(20), "{}", relay.summary(&world));
            relay.run(&mut world, secs(1));
        }
        println!("all back after {:?}", world.now - widened);
    });
}

/// Less than what makes a connection die.
#[test]
fn an_outage_is_over_when_it_is_over() {
    with_seeds(2, |seed| {
        let mut world = World::new(vec![wide(seed), wide(1_000 + seed)]);
        let pair = world.connect(0, 1);
        let tracks = (0..10).map(|_| Track::single(2_000_000)).collect();
        let mut relay = Relay::new(&mut world, pair, tracks, seed);
        relay.run(&mut world, secs(3));
        for loss in [1.0, 0.0] {
            world.links[0].loss = loss;
            world.links[1].loss = loss;
            relay.run(&mut world, Duration::from_millis(1_500));
        }
        let before = relay.received().bytes;
        relay.run(&mut world, secs(2));
        let rate = mbps(relay.received().bytes - before, secs(2));
        println!("{rate:.2} Mbit/s, {}", relay.summary(&world));
        assert!(rate >= 19.0, "{rate}");
    });
}

/// What two pipes have of a line of 20 Mbit/s in the end, in Mbit/s; the second comes later.
fn shared(seed: u64, tracks: fn() -> Vec<Track>) -> ([f64; 2], [Relay; 2]) {
    let link = Link::new(seed, ONE_WAY, 20_000_000, QUEUE);
    let mut world = World::new(vec![link, wide(1_000 + seed)]);
    let [first, second] = [world.connect(0, 1), world.connect(0, 1)];
    let mut first = Relay::new(&mut world, first, tracks(), seed);
    first.run(&mut world, secs(5));
    let second = Relay::new(&mut world, second, tracks(), 100 + seed);
    let mut relays = [first, second];
    Relay::run_both(&mut relays, &mut world, secs(10));
    let before = relays.each_ref().map(|relay| relay.received().bytes);
    let time = secs(15);
    Relay::run_both(&mut relays, &mut world, time);
    let after = relays.each_ref().map(|relay| relay.received().bytes);
    let rates = [0, 1].map(|of| mbps(after[of] - before[of], time));
    println!("{rates:.2?} Mbit/s of 20");
    for relay in &relays {
        println!("{}", relay.summary(&world));
    }
    (rates, relays)
}

/// Neither takes it all, whoever comes first.
#[test]
fn two_pipes_share_what_there_is() {
    with_seeds(3, |seed| {
        let greedy = || (0..4).map(|_| Track::single(4_000_000)).collect();
        let (rates, _) = shared(seed, greedy);
        for rate in rates {
            assert!(rate >= 5.0, "{rates:?}");
        }
    });
}

/// Who came first may keep a layer more than the other, as long as they do not fill the line.
#[test]
fn two_pipes_with_layers_leave_each_other_all_but_the_topmost() {
    with_seeds(3, |seed| {
        let publishers = || (0..3).flat_map(|n| Track::simulcast(secs(n))).collect();
        let (rates, relays) = shared(seed, publishers);
        for (relay, rate) in relays.iter().zip(rates) {
            assert_eq!(relay.suspended(Class::Mid), 0);
            assert!(rate >= 3.5, "{rates:?}");
            assert!(relay.control_p99() < Duration::from_millis(150));
        }
    });
}

/// A call that began small, since the one before had timed out.
#[test]
fn who_began_small_climbs_and_climbs_again() {
    let mut world = World::new(vec![wide(1), wide(2)]);
    let path = Path {
        mtu: 1200,
        ..Path::default()
    };
    let pair = world.connect_by(path, 0, 1);
    // Media, at 50 packets a second, each as long as it may be, and short ones.
    let run = |world: &mut World, time: Duration| {
        let end = world.now + time;
        while world.now < end {
            for _ in 0..2 {
                let mut datagrams = world.connection(pair.sender).datagrams();
                let longest = datagrams.max_size().unwrap();
                for len in [longest, 100] {
                    datagrams.send(Bytes::from(vec![0; len]), true).unwrap();
                }
                world.drive(pair.sender);
                let next = world.now + Duration::from_millis(20);
                world.run_until(next);
            }
        }
        world.connection(pair.sender).current_mtu()
    };
    assert!(run(&mut world, secs(3)) >= MTU, "it has climbed");
    world.links[0].mtu = 1250;
    assert!(run(&mut world, secs(3)) < MTU);
    world.links[0].mtu = usize::MAX;
    let mtu = run(&mut world, secs(8));
    assert!(mtu >= MTU, "{mtu}");
}
