use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// How often a process looks.
const LOOK: Duration = Duration::from_millis(50);

/// How late a node's report of how many it has may be.
const REPORT: Duration = Duration::from_secs(1);

/// A node that drains, in virtual time.
struct Scene {
    /// Of each room, how many each process serves.
    rooms: BTreeMap<RoomName, Vec<u32>>,
    paces: Vec<Pace>,
    begin: Instant,
    now: Instant,
    reported: (Instant, u32),
    /// When how many moved.
    moves: Vec<(Duration, u32)>,
}

impl Scene {
    fn new(rooms: impl IntoIterator<Item = Vec<u32>>, processes: usize, rate: u32) -> Self {
        let now = Instant::now();
        let named = rooms.into_iter().enumerate();
        let rooms: BTreeMap<RoomName, Vec<u32>> = named
            .map(|(i, served)| (format!("room-{i:04}").parse().unwrap(), served))
            .collect();
        let all = rooms.values().flatten().sum();
        Self {
            rooms,
            paces: (0..processes).map(|_| Pace::new(rate, now)).collect(),
            begin: now,
            now,
            reported: (now, all),
            moves: Vec::new(),
        }
    }

    fn left(&self) -> u32 {
        self.rooms.values().flatten().sum()
    }

    /// One look of every process.
    fn step(&mut self, can_move: impl Fn(&RoomName) -> bool) {
        if self.now >= self.reported.0 + REPORT {
            self.reported = (self.now, self.left());
        }
        for process in 0..self.paces.len() {
            loop {
                let stays: Vec<Stay> = self
                    .rooms
                    .iter()
                    .filter(|(_, served)| served[process] > 0)
                    .map(|(room, served)| Stay {
                        room: room.clone(),
                        members: served.iter().sum(),
                        served: served[process],
                    })
                    .collect();
                let served = stays.iter().map(|stay| stay.served).sum();
                let pace = &mut self.paces[process];
                let Some(stay) = pace.poll(&stays, self.now) else {
                    break;
                };
                if can_move(&stay.room) {
                    pace.handle_moved(stay.members, served, self.reported.1, self.now);
                    self.moves.push((self.now - self.begin, stay.members));
                    self.rooms.remove(&stay.room);
                } else {
                    pace.handle_refused(&stay.room, self.now);
                }
            }
        }
        self.now += LOOK;
    }

    /// The most that moved within a second.
    fn fastest(&self) -> u32 {
        let within = |at: Duration| {
            let moves = self.moves.iter();
            let moves =
                moves.filter(|(when, _)| *when >= at && *when < at + Duration::from_secs(1));
            moves.map(|(_, members)| members).sum()
        };
        let starts = self.moves.iter().map(|(at, _)| within(*at));
        starts.max().unwrap_or(0)
    }
}

#[test]
fn processes_keep_to_one_rate_and_leave_nobody_behind() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let processes = random.random_range(1..=4);
        let largest = 12;
        let rooms: Vec<Vec<u32>> = (0..150)
            .map(|_| {
                let mut served = vec![0; processes];
                for _ in 0..random.random_range(1..=largest) {
                    served[random.random_range(0..processes)] += 1;
                }
                served
            })
            .collect();
        let rate = 40;
        let mut scene = Scene::new(rooms, processes, rate);
        let all = scene.left();
        while scene.left() > 0 {
            scene.step(|_| true);
            let elapsed = scene.now - scene.begin;
            assert!(
                elapsed < Duration::from_secs(120),
                "seed {seed}: {} left",
                scene.left()
            );
        }
        // A process may have moved a room just before the second and pay in it.
        let bound = rate + 2 * largest * u32::try_from(processes).unwrap();
        assert!(scene.fastest() <= bound, "seed {seed}: {}", scene.fastest());
        let took = (scene.now - scene.begin).as_secs_f64();
        let ideal = f64::from(all) / f64::from(rate);
        assert!(took < 1.5 * ideal + 2.0, "seed {seed}: {took} s for {all}");
        assert!(took > 0.7 * ideal - 1.0, "seed {seed}: {took} s for {all}");
    }
}

#[test]
fn a_large_room_moves_at_once_and_is_paid_for() {
    let mut scene = Scene::new([vec![100], vec![1]], 1, 10);
    let first = |room: &RoomName| room.as_str() == "room-0000";
    scene.step(first);
    assert_eq!(scene.moves, [(Duration::ZERO, 100)]);
    while scene.left() > 0 {
        scene.step(|_| true);
    }
    let (at, _) = scene.moves[1];
    let paid = Duration::from_secs_f64(100.0 / 10.0);
    assert!(at >= paid && at <= paid + 2 * LOOK, "{at:?}");
}

#[test]
fn a_room_that_no_node_takes_holds_up_no_other_and_is_tried_again() {
    let mut scene = Scene::new([vec![2], vec![2], vec![2]], 1, 100);
    let stuck: BTreeSet<RoomName> = ["room-0000".parse().unwrap()].into();
    for _ in 0..10 {
        scene.step(|room| !stuck.contains(room));
    }
    assert_eq!(scene.left(), 2);
    for _ in 0..30 {
        scene.step(|_| true);
    }
    assert_eq!(scene.left(), 0);
}

#[test]
fn whose_people_are_mostly_here_goes_first() {
    let now = Instant::now();
    let stay = |room: &str, members, served| Stay {
        room: room.parse().unwrap(),
        members,
        served,
    };
    let mut pace = Pace::new(10, now);
    let stays = [stay("a", 4, 1), stay("c", 2, 2), stay("b", 3, 3)];
    assert_eq!(pace.poll(&stays, now), Some(&stays[2]));
    pace.handle_moved(3, 6, 9, now);
    assert_eq!(pace.poll(&stays[..2], now), None);
    // Three of nine at two thirds of ten a second.
    let at = now + Duration::from_millis(450);
    assert_eq!(pace.poll_timeout(), at);
    assert_eq!(pace.poll(&stays[..2], at), Some(&stays[1]));
}
