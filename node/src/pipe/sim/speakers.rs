//! Where there is not room for everything, who speaks is seen best.

use std::time::Duration;

use super::network::Weather;
use super::plan::Step;
use super::scene::Scene;

const ANN: usize = 0;
const BEN: usize = 1;
const EVE: usize = 2;

fn say(scene: &mut Scene, speaker: usize) {
    for member in [ANN, BEN] {
        scene.world.members[member].speaks = member == speaker;
    }
}

/// Two people of one node are seen on another, over a path that carries the highest layer of one.
#[test]
fn the_picture_of_who_speaks_is_the_last_to_become_small() {
    for (first, second) in [(ANN, BEN), (BEN, ANN)] {
        let mut scene = Scene::new(7, &[0, 1], &[(0, true), (0, true), (1, false)]);
        scene.begin();
        let layers = |scene: &Scene| [scene.layer(EVE, first), scene.layer(EVE, second)];
        assert_eq!(layers(&scene), [Some(2), Some(2)]);
        say(&mut scene, first);
        scene.run(Duration::from_secs(2));
        let narrow = Weather {
            rate: Some(800_000),
            ..Weather::default()
        };
        scene.step(Step::Loud(true));
        scene.step(Step::Weather(0, 1, narrow));
        scene.run(Duration::from_secs(10));
        assert_eq!(layers(&scene), [Some(2), Some(1)]);
        // It is the other's turn; while nobody says anything it still is.
        say(&mut scene, second);
        scene.run(Duration::from_secs(6));
        assert_eq!(layers(&scene), [Some(1), Some(2)]);
        say(&mut scene, usize::MAX);
        scene.run(Duration::from_secs(10));
        assert_eq!(layers(&scene), [Some(1), Some(2)]);
        scene.step(Step::Weather(0, 1, Weather::default()));
        scene.run(Duration::from_secs(60));
        assert_eq!(layers(&scene), [Some(2), Some(2)]);
    }
}
