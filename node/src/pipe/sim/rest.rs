//! What becomes of a pipe between regions that nobody needs any more, and of whoever needs it just then.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::found;
use super::plan::Size;
use super::story::Story;
use super::world::World;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Ann publishes in one region; Ben, in another one, has watched and left.
fn left() -> World {
    let size = Size {
        nodes: 2,
        regions: 2,
        members: 2,
        rooms: 1,
        episodes: 0,
    };
    let mut world = found(1, size, &mut StdRng::seed_from_u64(1), Story::default());
    for (index, member) in world.members.iter_mut().enumerate() {
        member.region = index;
        member.publishes = index == 0;
        member.watches = index == 1;
    }
    world.start_node(0);
    world.start_node(1);
    run(&mut world, 3_000);
    world.join(0, MILLISECOND);
    world.join(1, MILLISECOND);
    run(&mut world, 3_000);
    assert!(got(&world) > 10);
    (world.coverage.suspicions, world.coverage.losses) = (0, 0);
    world.leave(1);
    world
}

fn run(world: &mut World, millis: u64) {
    world.settle();
    let until = world.now + Duration::from_millis(millis);
    world.run_until(until);
}

/// Packets of Ann's that Ben has got.
fn got(world: &World) -> usize {
    let seat = world.members[1].seat.as_ref();
    let wants = seat.into_iter().flat_map(|seat| seat.wants.values());
    wants.map(|want| want.got.packets.len()).sum()
}

/// Both ends are at rest after so many milliseconds.
fn rests_after() -> u64 {
    let mut world = left();
    for millis in 0..5_000 {
        if world.coverage.rests == 2 {
            return millis;
        }
        run(&mut world, 1);
    }
    panic!("it is never let go of");
}

#[test]
fn a_pipe_that_is_let_go_of_is_missed_by_nobody() {
    let mut world = left();
    run(&mut world, rests_after() + 10_000);
    let coverage = &world.coverage;
    assert_eq!(coverage.rests, 2);
    assert_eq!((coverage.suspicions, coverage.losses), (0, 0));
    let mut nodes = world.nodes.iter().flatten();
    assert!(nodes.all(|node| node.links.values().all(|link| link.end.is_none())));
}

/// He comes back at any time: also while the one end has let go of it and the other has not heard so.
#[test]
fn what_is_asked_for_while_a_pipe_is_let_go_of_is_asked_again() {
    let rests = rests_after();
    let (mut renewed, mut kept) = (0, 0);
    for early in (0..400).step_by(7) {
        let mut world = left();
        run(&mut world, (rests + 40).saturating_sub(early));
        let before = world.coverage.connections;
        world.join(1, MILLISECOND);
        run(&mut world, 2_500);
        let heard = got(&world);
        run(&mut world, 1_000);
        let more = got(&world) - heard;
        assert!(more >= 8, "{early} ms before: {more} packets in a second");
        let coverage = &world.coverage;
        assert_eq!((coverage.suspicions, coverage.losses), (0, 0), "{early}");
        match coverage.connections > before {
            true => renewed += 1,
            false => kept += 1,
        }
    }
    assert!(renewed > 0 && kept > 0, "{renewed} {kept}");
}
