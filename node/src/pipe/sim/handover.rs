//! A track comes another way: nobody who sees it notices.

use std::time::Duration;

use super::media::LOUD_FRAME;
use super::plan::Step;
use super::scene::Scene;

const ORIGIN: usize = 0;
/// Nodes of the region that watches.
const REGION: [usize; 4] = [1, 2, 3, 4];
/// What a frame may be late by: the ways differ by less.
const LATE: Duration = Duration::from_millis(200);

/// Runs, and sees to it that no picture stands still.
fn watch(scene: &mut Scene, time: Duration) {
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..time.as_millis() / STEP.as_millis() {
        scene.run(STEP);
        let now = scene.world.now;
        for (viewer, track, at) in scene.frames() {
            let since = now - at;
            assert!(
                since <= LOUD_FRAME + LATE,
                "{viewer} waits {since:?} for {track}"
            );
        }
    }
}

/// Gateways of a region are drained one after the other, and come back: tracks go over from one to the other while
/// both live, some of which are faster and some slower.
#[test]
fn who_takes_a_track_another_way_misses_nothing_and_gets_nothing_twice() {
    let mut landings = 0;
    for seed in 1..=6 {
        let people = [(0, true), (0, true), (1, false), (1, false), (1, false)];
        let mut scene = Scene::new(seed, &[0, 1, 1, 1, 1], &people);
        // The ways from the origin are not equally long.
        for (node, millis) in REGION.into_iter().zip([0, 60, 180, 120]) {
            let detour = Duration::from_millis(millis);
            scene.world.network.set_detour(ORIGIN, node, detour);
        }
        // More than one frame is on its way at a time.
        scene.step(Step::Loud(true));
        scene.begin();
        for viewer in scene.viewers() {
            scene
                .wants_mut(viewer)
                .values_mut()
                .for_each(|it| it.forget());
        }
        let before = (
            scene.world.coverage.key_frames,
            scene.world.coverage.landings,
        );
        for node in REGION {
            for drains in [true, false] {
                scene.step(Step::Drain(node, drains));
                watch(&mut scene, Duration::from_secs(4));
            }
        }
        landings += scene.world.coverage.landings - before.1;
        assert_eq!(
            scene.world.coverage.key_frames, before.0,
            "seed {seed}: nobody is asked for a key frame"
        );
        let mut least = usize::MAX;
        for viewer in scene.viewers() {
            for (track, want) in scene.wants(viewer) {
                let seen = want.seen();
                let name = format!("seed {seed}: {viewer} of {track}: {seen:?}");
                assert_eq!(seen.packets, seen.numbers, "a hole in the numbers, {name}");
                assert!(seen.runs.values().all(|runs| *runs == 1), "a hole, {name}");
                assert_eq!(seen.runs.len(), 1, "{name}");
                least = least.min(seen.packets);
            }
        }
        // Thirty-two seconds of audio, at fifteen packets a second.
        assert!(least >= 450, "{least}");
    }
    assert!(landings >= 40, "{landings} ways were changed");
}
