//! What both ends of a pipe make of it when one of them is not heard, or neither.

use std::time::Duration;

use super::found;
use super::plan::Size;
use super::story::Story;
use super::world::World;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Two nodes of a region that have a pipe.
fn pair() -> World {
    let size = Size {
        nodes: 2,
        regions: 1,
        members: 0,
        rooms: 1,
        episodes: 0,
    };
    let mut world = found(1, size, &mut StdRng::seed_from_u64(1), Story::default());
    world.start_node(0);
    world.start_node(1);
    run(&mut world, Duration::from_secs(5));
    assert!(world.coverage.connections >= 2);
    // Whoever came first did not know the other yet.
    (world.coverage.suspicions, world.coverage.losses) = (0, 0);
    world
}

fn run(world: &mut World, time: Duration) {
    world.settle();
    let until = world.now + time;
    world.run_until(until);
}

/// Both hear each other.
fn is_heard(world: &World) -> bool {
    let mut nodes = world.nodes.iter().flatten();
    nodes.all(|node| node.links.values().all(|link| link.ear.is_heard()))
}

/// Whoever of them dialled, and whichever way does not work: both suspect the other after a second, and give
/// it up after three.
#[test]
fn both_ends_miss_each_other_alike() {
    for ways in [&[(0, 1), (1, 0)][..], &[(0, 1)], &[(1, 0)]] {
        let mut world = pair();
        for (from, to) in ways {
            world.network.cut(*from, *to, true);
        }
        run(&mut world, Duration::from_millis(700));
        assert_eq!(world.coverage.suspicions, 0, "{ways:?}");
        run(&mut world, Duration::from_millis(900));
        assert_eq!(world.coverage.suspicions, 2, "{ways:?}");
        run(&mut world, Duration::from_millis(800));
        assert_eq!(world.coverage.losses, 0, "{ways:?}");
        run(&mut world, Duration::from_millis(800));
        assert_eq!(world.coverage.losses, 2, "{ways:?}");
        for (from, to) in ways {
            world.network.cut(*from, *to, false);
        }
        run(&mut world, Duration::from_secs(10));
        assert!(is_heard(&world), "{ways:?}");
    }
}

/// What was over in time leaves nothing behind.
#[test]
fn doubt_is_over_when_the_way_works_again() {
    let mut world = pair();
    world.network.cut(0, 1, true);
    run(&mut world, Duration::from_millis(1_600));
    assert_eq!(world.coverage.suspicions, 2);
    world.network.cut(0, 1, false);
    run(&mut world, Duration::from_secs(20));
    assert_eq!((world.coverage.suspicions, world.coverage.losses), (2, 0));
    assert!(is_heard(&world));
}
