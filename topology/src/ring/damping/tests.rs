use proptest::prelude::*;

use super::*;

/// A registry and a ring that is made as it is wanted, on a clock that jumps.
struct Sim {
    start: Instant,
    now: Instant,
    damping: Damping,
    ring: Members,
    listed: BTreeMap<NodeId, Member>,
    is_silent: bool,
    /// Whether the ring can be written.
    is_writable: bool,
    /// When the ring changed, in ms, and who is on it since.
    changes: Vec<(u128, Vec<String>)>,
}

/// `node@region`, in `eu` if it is not said.
fn member(id: &str) -> Member {
    let (id, region) = id.split_once('@').unwrap_or((id, "eu"));
    Member {
        id: id.parse().unwrap(),
        region: region.parse().unwrap(),
        weight: 1,
    }
}

fn ids(members: &Members) -> Vec<String> {
    members.iter().map(|member| member.id.to_string()).collect()
}

impl Sim {
    /// Long after these became the ring.
    fn of(nodes: &[&str]) -> Self {
        let mut sim = Self::beginning(nodes);
        sim.list(nodes);
        sim.wait(SETTLE);
        assert_eq!(sim.changes, []);
        sim
    }

    /// A keeper that begins with a ring.
    fn beginning(ring: &[&str]) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            damping: Damping::new(start),
            ring: Members::new(ring.iter().map(|id| member(id))),
            listed: BTreeMap::new(),
            is_silent: false,
            is_writable: true,
            changes: Vec::new(),
        }
    }

    fn list(&mut self, nodes: &[&str]) {
        for node in nodes {
            let member = member(node);
            self.listed.insert(member.id.clone(), member);
        }
        self.look();
    }

    fn lose(&mut self, nodes: &[&str]) {
        for node in nodes {
            self.listed.remove(&member(node).id).expect("it is listed");
        }
        self.look();
    }

    fn be_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
        self.look();
    }

    fn look(&mut self) {
        let listed = Members::new(self.listed.values().cloned());
        let listed = (!self.is_silent).then_some(&listed);
        let wanted = self.damping.handle(&self.ring, listed, self.now);
        if let Some(wanted) = wanted
            && self.is_writable
        {
            assert_ne!(wanted, self.ring, "a change changes something");
            self.ring = wanted;
            let at = (self.now - self.start).as_millis();
            self.changes.push((at, ids(&self.ring)));
            let again = self.damping.handle(&self.ring, listed, self.now);
            assert_eq!(again, None, "once made it is not wanted any more");
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.damping.poll_timeout().filter(|due| *due <= end) {
            assert!(due > self.now, "it does not spin");
            self.now = due;
            self.look();
        }
        self.now = end;
    }

    fn has(&self, nodes: &[&str]) -> bool {
        ids(&self.ring) == nodes
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_first_is_the_ring_at_once_and_the_others_come_together() {
    let mut sim = Sim::beginning(&[]);
    sim.list(&["a"]);
    assert!(sim.has(&["a"]));
    sim.wait(SECOND);
    sim.list(&["b"]);
    sim.wait(3 * SECOND);
    sim.list(&["c", "d"]);
    sim.wait(SECOND);
    assert!(sim.has(&["a"]));
    sim.wait(SECOND);
    assert!(sim.has(&["a", "b", "c", "d"]));
    sim.list(&["e"]);
    sim.wait(BATCH);
    assert_eq!(sim.changes.len(), 3, "{:?}", sim.changes);
}

#[test]
fn who_comes_and_goes_before_his_turn_never_was_there() {
    let mut sim = Sim::of(&["a"]);
    for _ in 0..5 {
        sim.list(&["b"]);
        sim.wait(4 * SECOND);
        sim.lose(&["b"]);
        sim.wait(SECOND);
    }
    assert_eq!(sim.changes, []);
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut sim = Sim::of(&["a", "b", "c", "d", "e", "f"]);
    let now = (sim.now - sim.start).as_millis();
    sim.lose(&["a", "b"]);
    assert_eq!(sim.changes.last().unwrap().0, now);
    assert!(sim.has(&["c", "d", "e", "f"]));
    // Whoever comes waits as long if somebody leaves meanwhile.
    sim.list(&["g"]);
    sim.wait(SECOND);
    sim.lose(&["c"]);
    assert_eq!(sim.damping.frozen(), Some(Frozen::Vanished));
    sim.wait(BATCH - SECOND);
    assert!(sim.has(&["c", "d", "e", "f", "g"]));
}

#[test]
fn of_two_nodes_either_may_leave() {
    let mut sim = Sim::of(&["a", "b"]);
    sim.lose(&["a"]);
    assert!(sim.has(&["b"]));
    sim.lose(&["b"]);
    assert!(sim.has(&[]));
    sim.list(&["a"]);
    assert!(sim.has(&["a"]));
}

#[test]
fn another_weight_or_region_is_taken_over_with_those_who_come() {
    let mut sim = Sim::of(&["a", "b"]);
    sim.listed.get_mut(&member("a").id).unwrap().weight = 3;
    sim.look();
    sim.list(&["c", "b@us"]);
    assert_eq!(sim.changes, []);
    sim.wait(BATCH);
    assert_eq!(sim.changes.len(), 1);
    let weights: Vec<u32> = sim.ring.iter().map(|member| member.weight).collect();
    assert_eq!(weights, [3, 1, 1]);
    assert_eq!(sim.ring.get(&member("b").id), Some(&member("b@us")));
}

#[test]
fn too_many_together_stay_until_they_are_back() {
    let mut sim = Sim::of(&["a", "b", "c", "d", "e", "f"]);
    sim.lose(&["a", "b", "c"]);
    assert_eq!(sim.changes, []);
    assert_eq!(sim.damping.frozen(), Some(Frozen::Vanished));
    // Whoever comes meanwhile is welcome, and who leaves is held too.
    sim.list(&["g"]);
    sim.wait(60 * SECOND);
    sim.lose(&["d"]);
    sim.wait(SECOND);
    assert!(sim.has(&["a", "b", "c", "d", "e", "f", "g"]));
    sim.list(&["a", "b", "c", "d"]);
    assert_eq!(sim.damping.frozen(), None);
    assert_eq!(sim.changes.len(), 1);
    sim.wait(60 * SECOND);
    sim.lose(&["a"]);
    assert!(sim.has(&["b", "c", "d", "e", "f", "g"]));
}

#[test]
fn too_many_within_half_a_minute_are_together() {
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut sim = Sim::of(&all);
    for node in ["a", "b", "c", "d"] {
        sim.lose(&[node]);
        sim.wait(SECOND);
    }
    assert!(sim.has(&["e", "f", "g", "h", "i", "j"]), "four of ten may");
    sim.lose(&["e"]);
    assert_eq!(sim.damping.frozen(), Some(Frozen::Vanished), "five may not");
    assert!(sim.has(&["e", "f", "g", "h", "i", "j"]));

    // One after the other they may all leave.
    let mut sim = Sim::of(&all);
    for node in all {
        sim.lose(&[node]);
        sim.wait(TOGETHER);
    }
    assert_eq!((ids(&sim.ring).len(), sim.changes.len()), (0, 10));
}

#[test]
fn a_region_is_frozen_without_the_others() {
    let us = ["a@us", "b@us", "c@us", "d@us"];
    let mut sim = Sim::of(&["e", "f", "g", "h", "i", "j"]);
    sim.list(&us);
    sim.wait(TOGETHER);
    sim.changes.clear();
    sim.lose(&us[..3]);
    assert_eq!(sim.damping.frozen(), Some(Frozen::Vanished));
    sim.lose(&["e"]);
    assert!(sim.has(&["a", "b", "c", "d", "f", "g", "h", "i", "j"]));
    sim.lose(&["d@us"]);
    assert_eq!(sim.changes.len(), 1, "{:?}", sim.changes);
}

#[test]
fn what_is_frozen_thaws() {
    // When enough are back, the others get half a minute.
    let mut sim = Sim::of(&["a", "b", "c", "d", "e"]);
    sim.lose(&["a", "b", "c"]);
    sim.wait(100 * SECOND);
    sim.list(&["a", "b"]);
    sim.wait(29 * SECOND);
    assert_eq!(sim.changes, []);
    sim.wait(SECOND);
    assert!(sim.has(&["a", "b", "d", "e"]));
    assert_eq!(sim.damping.frozen(), None);

    // If they never are, they are gone after all.
    sim.wait(TOGETHER);
    sim.lose(&["a", "b", "d"]);
    sim.wait(FREEZE_AT_MOST - SECOND);
    assert!(sim.has(&["a", "b", "d", "e"]));
    sim.wait(SECOND);
    assert!(sim.has(&["e"]));
    assert_eq!(sim.damping.frozen(), None);
}

#[test]
fn while_the_registry_is_silent_nothing_changes() {
    let mut sim = Sim::of(&["a", "b", "c", "d"]);
    sim.be_silent(true);
    assert_eq!(sim.damping.frozen(), Some(Frozen::Silence));
    sim.lose(&["a"]);
    sim.list(&["e"]);
    sim.wait(24 * 3600 * SECOND);
    assert_eq!(sim.changes, []);
    sim.be_silent(false);
    assert_eq!(sim.damping.frozen(), None);
    // It may list them little by little: who is there comes, nobody is missed yet.
    sim.wait(BATCH);
    assert!(sim.has(&["a", "b", "c", "d", "e"]));
    sim.wait(SETTLE - BATCH - SECOND);
    assert_eq!(sim.changes.len(), 1);
    sim.wait(SECOND);
    assert!(sim.has(&["b", "c", "d", "e"]));
}

#[test]
fn a_registry_that_has_forgotten_everybody_costs_nothing() {
    let all = ["a", "b", "c", "d", "e"];
    let mut sim = Sim::of(&all);
    sim.be_silent(true);
    sim.wait(10 * SECOND);
    sim.lose(&["b", "c", "d", "e"]);
    sim.be_silent(false);
    for node in ["b", "c", "d", "e"] {
        sim.wait(SECOND);
        sim.list(&[node]);
    }
    sim.wait(3600 * SECOND);
    assert_eq!(sim.changes, []);
}

#[test]
fn a_keeper_that_begins_misses_nobody_yet() {
    let mut sim = Sim::beginning(&["a", "b", "c", "d", "e"]);
    sim.list(&["a"]);
    sim.wait(3 * SECOND);
    sim.list(&["b", "c", "d"]);
    sim.wait(SETTLE);
    assert_eq!(sim.changes, []);
    // For a moment too many were missed, so the one gets half a minute.
    sim.wait(TOGETHER - SETTLE);
    assert!(sim.has(&["a", "b", "c", "d"]));
}

#[test]
fn what_cannot_be_written_stays_wanted() {
    let mut sim = Sim::of(&["a", "b"]);
    sim.is_writable = false;
    sim.lose(&["a"]);
    sim.list(&["c"]);
    sim.wait(3 * SECOND);
    sim.is_writable = true;
    sim.look();
    assert!(sim.has(&["b"]));
    sim.is_writable = false;
    sim.wait(BATCH);
    sim.is_writable = true;
    sim.look();
    assert!(sim.has(&["b", "c"]));
}

#[derive(Debug, Clone)]
enum Step {
    List(u8),
    Lose(u8),
    Silence(bool),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9_u8).prop_map(Step::List),
        4 => (0..9_u8).prop_map(Step::Lose),
        1 => any::<bool>().prop_map(Step::Silence),
        4 => (0..12_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens(steps in prop::collection::vec(any_step(), 0..120)) {
        let name = |i: u8| format!("n{i}@{}", if i < 4 { "us" } else { "eu" });
        let mut sim = Sim::beginning(&[]);
        for step in steps {
            let (before, was_silent) = (ids(&sim.ring), sim.is_silent);
            let was_frozen = sim.damping.frozen().is_some();
            match step {
                Step::List(i) => sim.list(&[&name(i)]),
                Step::Lose(i) => if sim.listed.contains_key(&member(&name(i)).id) {
                    sim.lose(&[&name(i)]);
                },
                Step::Silence(is) => sim.be_silent(is),
                Step::Wait(ms) => sim.wait(Duration::from_millis(ms)),
            }
            let after = ids(&sim.ring);
            if was_silent && sim.is_silent {
                prop_assert_eq!(&before, &after, "nothing is known, nothing changes");
            }
            for id in after.iter().filter(|id| !before.contains(id)) {
                prop_assert!(sim.listed.contains_key(&id.parse::<NodeId>().unwrap()), "it is there");
            }
            let gone: Vec<&String> = before.iter().filter(|id| !after.contains(id)).collect();
            for id in &gone {
                prop_assert!(!sim.listed.contains_key(&id.parse::<NodeId>().unwrap()), "it is gone");
            }
            prop_assert!(was_frozen || !too_many(gone.len(), before.len()), "{gone:?}");
        }
        // Left alone, the ring becomes what is listed.
        sim.be_silent(false);
        sim.wait(FREEZE_AT_MOST + SETTLE + TOGETHER);
        let listed = Members::new(sim.listed.values().cloned());
        prop_assert_eq!(&sim.ring, &listed);
        prop_assert_eq!(sim.damping.poll_timeout(), None);
        prop_assert_eq!(sim.damping.frozen(), None);
    }
}
