//! Wishes and bandwidth together: what is wished for is given if there is enough for it, whatever the
//! publisher announced of its layers.

use pipemesh_node_core::allocate::{Allocation, Budget, Choice, Damping, Demand, Held};
use pipemesh_node_core::layer::Limit;
use pipemesh_node_core::router::{LayerWish, SubscriptionKey};
use pipemesh_node_core::track::Size;
use pipemesh_node_core::units::Bitrate;

use crate::camera::{Camera, Naming, Sim, check};
use crate::descriptor::Mode;
use crate::{MODES, seen};

/// The only viewer of a track, with what its allocations remember.
struct Viewer {
    key: SubscriptionKey,
    damping: Damping,
    held: Held,
    allocation: Allocation,
}

impl Viewer {
    fn new(sim: &mut Sim, camera: &Camera) -> Self {
        Self {
            key: sim.subscribe(camera, LayerWish::default()),
            damping: Damping::default(),
            held: Held::New,
            allocation: Allocation::default(),
        }
    }

    fn allocate(&mut self, sim: &mut Sim, bandwidth: Bitrate) {
        let (media, ladder) = sim.router.ladder(self.key).unwrap();
        let demand = Demand {
            media,
            priority: 0,
            view: Size::default(),
            ladder,
            held: self.held,
            sent: sim.router.current_layer(self.key),
        };
        let budget = Budget {
            all: bandwidth,
            lowest: bandwidth,
        };
        self.allocation
            .decide(&[demand], budget, &mut self.damping, sim.now);
        let choice = self.allocation.choices[0];
        let limit = match choice {
            Choice::At(layer) => Limit::UpTo(layer),
            Choice::Paused => Limit::Paused,
            Choice::Nothing => Limit::NONE,
        };
        sim.router.set_limit(self.key, limit, sim.now);
        self.held = choice.held();
    }

    /// Six seconds, five decisions in each; answers the layers and pictures of the last one.
    fn settled(
        &mut self,
        sim: &mut Sim,
        camera: &mut Camera,
        bandwidth: Bitrate,
    ) -> (u8, u8, usize) {
        let mut before = 0;
        for step in 0..30 {
            if step == 25 {
                before = sim.received[&self.key].len();
            }
            self.allocate(sim, bandwidth);
            sim.run(camera, 6);
        }
        seen(sim, self.key, before)
    }
}

#[test]
fn every_wish_is_given_where_bandwidth_allows_all() {
    let plenty = Bitrate::from_kbps(50_000);
    for naming in Naming::ALL {
        for key_only in [true, false] {
            let mode = Mode::new(3, 3, key_only);
            let of = |spatial| mode.size(spatial);
            // Nothing, the whole, each layer.
            for announced in [
                vec![Size::default()],
                vec![of(2)],
                vec![of(0), of(1), of(2)],
            ] {
                let mut sim = Sim::new(1);
                let mut camera = sim.announced_camera(naming, mode, announced.clone());
                let mut viewer = Viewer::new(&mut sim, &camera);
                for wished in [1u8, 3, 2, 1, 2, 3] {
                    let wish = LayerWish {
                        spatial_layers: wished,
                        ..LayerWish::default()
                    };
                    sim.router.set_wish(viewer.key, wish, sim.now);
                    assert_eq!(
                        viewer.settled(&mut sim, &mut camera, plenty),
                        (wished - 1, 2, 30),
                        "{naming:?} {mode:?} {announced:?}: {wished} layers"
                    );
                }
                check(&sim.received[&viewer.key], &sim.lost, true);
            }
        }
    }
}

#[test]
fn with_less_bandwidth_no_more_is_given_than_fits() {
    for naming in Naming::ALL {
        for mode in MODES.into_iter().filter(|mode| mode.spatial > 1) {
            let mut sim = Sim::new(1);
            let whole = vec![mode.size(mode.spatial - 1)];
            let mut camera = sim.announced_camera(naming, mode, whole);
            let mut viewer = Viewer::new(&mut sim, &camera);
            let plenty = Bitrate::from_kbps(50_000);
            let top = viewer.settled(&mut sim, &mut camera, plenty).0;
            assert_eq!(top, mode.spatial - 1, "{naming:?} {mode:?}");
            let (_, ladder) = sim.router.ladder(viewer.key).unwrap();
            for step in ladder.steps().iter().rev() {
                let (spatial, temporal, _) =
                    viewer.settled(&mut sim, &mut camera, step.rate.scale(1.05));
                let given = ladder
                    .steps()
                    .iter()
                    .find(|step| (step.layer.spatial, step.layer.temporal) == (spatial, temporal));
                let given = given.unwrap();
                assert!(given.rate <= step.rate.scale(1.1), "{naming:?} {mode:?}");
            }
            let lowest = viewer.settled(&mut sim, &mut camera, ladder.steps()[0].rate.scale(1.05));
            assert_eq!((lowest.0, lowest.1), (0, 0), "{naming:?} {mode:?}");
            check(&sim.received[&viewer.key], &sim.lost, true);
        }
    }
}
