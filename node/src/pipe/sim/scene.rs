//! A mesh that is set up for one question: which nodes and people there are.

use std::time::Duration;

use super::media::LAYERS;
use super::node::Dialect;
use super::people::Member;
use super::plan::Step;
use super::story::Story;
use super::world::{Event, Place, World};

/// Everybody has joined, and sees everybody.
const BEGUN: Duration = Duration::from_secs(8);

pub(super) struct Scene {
    pub(super) world: World,
}

impl Scene {
    /// Nodes by their regions; people by theirs, and whether they publish or watch. All want everything.
    pub(super) fn new(seed: u64, regions: &[usize], people: &[(usize, bool)]) -> Self {
        let places = regions.iter().enumerate().map(|(index, region)| Place {
            id: format!("n{index:02}-r{region}")
                .parse()
                .expect("it is an id"),
            region: format!("r{region}").parse().expect("it is an id"),
            shards: 1,
            dialect: Dialect::Own,
        });
        let story = Story::default();
        let mut world = World::new(seed, places.collect(), regions.to_vec(), story);
        world.members = (0..)
            .zip(people)
            .map(|(index, (region, publishes))| Member {
                id: format!("PA_{index}").parse().expect("it is an id"),
                room: "RM_0".parse().expect("it is an id"),
                region: *region,
                publishes: *publishes,
                watches: !publishes,
                is_here: false,
                is_muted: false,
                is_loud: false,
                speaks: false,
                layers: LAYERS,
                seat: None,
                told_at: None,
            })
            .collect();
        for node in 0..regions.len() {
            world.after(Duration::ZERO, Event::Step(Step::Start(node)));
        }
        for member in 0..people.len() {
            let pause = Duration::from_millis(2_000 + 100 * member as u64);
            world.after(pause, Event::Step(Step::Join(member)));
        }
        Self { world }
    }

    pub(super) fn begin(&mut self) {
        self.run(BEGUN);
    }

    pub(super) fn step(&mut self, step: Step) {
        self.world.take_step(step);
        self.world.settle();
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.world.now + time;
        self.world.run_until(until);
        self.check();
    }

    /// What holds at any time.
    fn check(&mut self) {
        let story = std::mem::take(&mut self.world.story);
        if let Some(failure) = story.into_failure() {
            panic!("{failure}");
        }
    }

    /// The layer that a viewer is sent of somebody's picture.
    pub(super) fn layer(&self, viewer: usize, publisher: usize) -> Option<u8> {
        let camera = self.world.members[publisher].camera()?;
        let seat = self.world.members[viewer].seat.as_ref()?;
        let node = self.world.nodes[seat.node].as_ref()?;
        node.shards[usize::from(seat.shard)].layer(seat.key, &camera.video_track)
    }
}
