//! A mesh that is set up for one question: which nodes and people there are, and what each of them has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::TrackId;

use super::media::LAYERS;
use super::node::Dialect;
use super::people::{Member, Want};
use super::plan::Step;
use super::story::Story;
use super::world::{Event, Place, World};

/// Everybody has joined, and sees everybody.
const BEGUN: Duration = Duration::from_secs(8);

pub(super) struct Scene {
    pub(super) world: World,
}

/// What a receiver has had of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Runs of packets of one SSRC that followed each other as they were published.
    pub(super) runs: BTreeMap<u32, usize>,
    /// Packets, and numbers that were used for them from the first to the last.
    pub(super) packets: usize,
    pub(super) numbers: usize,
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

    pub(super) fn viewers(&self) -> Vec<usize> {
        let members = self.world.members.iter().enumerate();
        let viewers = members.filter(|(_, member)| member.watches);
        viewers.map(|(index, _)| index).collect()
    }

    pub(super) fn wants(&self, viewer: usize) -> &BTreeMap<TrackId, Want> {
        let seat = self.world.members[viewer].seat.as_ref();
        &seat.expect("they have joined").wants
    }

    pub(super) fn wants_mut(&mut self, viewer: usize) -> &mut BTreeMap<TrackId, Want> {
        let seat = self.world.members[viewer].seat.as_mut();
        &mut seat.expect("they have joined").wants
    }

    /// The layer that a viewer is sent of somebody's picture.
    pub(super) fn layer(&self, viewer: usize, publisher: usize) -> Option<u8> {
        let camera = self.world.members[publisher].camera()?;
        let seat = self.world.members[viewer].seat.as_ref()?;
        let node = self.world.nodes[seat.node].as_ref()?;
        node.shards[usize::from(seat.shard)].layer(seat.key, &camera.video_track)
    }

    /// When the last frame of each picture came that anybody sees.
    pub(super) fn frames(&self) -> Vec<(usize, TrackId, Instant)> {
        let mut frames = Vec::new();
        for viewer in self.viewers() {
            let pictures = self.wants(viewer).iter().filter(|(_, want)| want.is_video);
            frames.extend(
                pictures
                    .filter_map(|(track, want)| Some((viewer, track.clone(), want.got.frame_at?))),
            );
        }
        frames
    }
}

impl Want {
    pub(super) fn seen(&self) -> Seen {
        let packets = &self.got.packets;
        let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
        for (ssrc, number) in packets {
            let begins = !packets.contains(&(*ssrc, number.wrapping_sub(1)));
            *runs.entry(*ssrc).or_default() += usize::from(begins);
        }
        let numbers: BTreeSet<u64> = self.got.numbers.iter().copied().collect();
        let span = numbers.first().zip(numbers.last());
        Seen {
            runs,
            packets: packets.len(),
            numbers: span.map_or(0, |(first, last)| (last - first + 1) as usize),
        }
    }

    /// From now on it is looked at anew.
    pub(super) fn forget(&mut self) {
        self.got.packets.clear();
        self.got.numbers.clear();
    }
}
