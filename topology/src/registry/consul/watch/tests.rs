use super::*;
use crate::snapshot::tests::record;

struct Scene {
    watch: Watch,
    now: Instant,
}

fn listing(living: &[&str], gone: &[&str]) -> Listing {
    let claim = Claim {
        generation: 1,
        boot_id: 1,
    };
    let id = |id: &&str| id.parse::<NodeId>().unwrap();
    Listing {
        living: living
            .iter()
            .map(|name| (id(name), record(name, "eu")))
            .collect(),
        holders: living
            .iter()
            .chain(gone)
            .map(|name| (id(name), claim))
            .collect(),
        unreadable: BTreeSet::new(),
    }
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let watch = Watch::new(now);
        Self { watch, now }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn answer(&mut self, index: u64, living: &[&str], gone: &[&str]) {
        let listing = listing(living, gone);
        self.watch.handle_answer(index, listing, self.now);
    }

    fn fail(&mut self, failure: Failure) -> Duration {
        self.watch.handle_failure(failure, 0.5, self.now);
        self.watch.due() - self.now
    }

    fn nodes(&self) -> Vec<String> {
        let snapshot = self.watch.snapshot();
        let ids = snapshot.nodes().iter().map(|node| node.id.to_string());
        ids.collect()
    }

    fn index(&self) -> u64 {
        self.watch.query(self.now).index
    }
}

#[test]
fn follows_what_is_listed() {
    let mut scene = Scene::new();
    assert_eq!(scene.index(), 0, "the first answer comes at once");
    assert_eq!(scene.watch.due(), scene.now);
    scene.answer(7, &["a", "b", "c"], &[]);
    assert_eq!(scene.nodes(), ["a", "b", "c"]);
    let expected = Query {
        index: 7,
        wait: WAIT,
    };
    assert_eq!(scene.watch.query(scene.now), expected);
    assert_eq!(scene.watch.due() - scene.now, APART);
    scene.answer(8, &["a", "c"], &["b"]);
    assert_eq!(scene.nodes(), ["a", "c"], "a critical one is gone");
    scene.answer(9, &["c"], &[]);
    assert_eq!(scene.nodes(), ["c"], "so is one that has deregistered");
    assert_eq!(scene.watch.holders().len(), 1);
    assert_eq!(scene.watch.trouble(), None);
}

#[test]
fn an_empty_answer_is_not_believed() {
    let mut scene = Scene::new();
    scene.answer(7, &["a", "b"], &[]);
    scene.answer(8, &[], &[]);
    assert_eq!(scene.nodes(), ["a", "b"]);
    assert_eq!(scene.watch.trouble(), Some(Trouble::Empty));
    scene.pass(Duration::from_secs(3600));
    scene.answer(9, &[], &[]);
    assert_eq!(scene.nodes(), ["a", "b"], "however long it lasts");
    scene.answer(10, &["a"], &[]);
    assert_eq!(scene.watch.trouble(), None);
    assert_eq!(scene.nodes(), ["a", "b"], "b may not have registered yet");
    scene.pass(ABSENCE);
    scene.answer(10, &["a"], &[]);
    assert_eq!(scene.nodes(), ["a"]);
}

#[test]
fn a_mesh_that_begins_has_nobody_to_keep() {
    let mut scene = Scene::new();
    scene.fail(Failure::Unreachable);
    scene.answer(3, &[], &[]);
    assert_eq!(scene.watch.trouble(), Some(Trouble::Empty));
    scene.answer(4, &["a", "b"], &[]);
    scene.answer(5, &["b"], &[]);
    assert_eq!(scene.nodes(), ["b"]);
}

#[test]
fn everybody_may_be_dead() {
    let mut scene = Scene::new();
    scene.answer(7, &["a", "b"], &[]);
    scene.answer(8, &[], &["a", "b"]);
    assert!(scene.nodes().is_empty(), "this answer is not empty");
    assert_eq!(scene.watch.trouble(), None);
}

#[test]
fn who_began_anew_is_asked_from_the_beginning() {
    let mut scene = Scene::new();
    scene.answer(1000, &["a", "b", "c"], &[]);
    scene.pass(WAIT);
    scene.answer(5, &["b"], &["c"]);
    assert_eq!(scene.index(), 0);
    assert_eq!(scene.nodes(), ["a", "b", "c"], "they have time");
    scene.pass(APART);
    scene.answer(5, &["b"], &["c"]);
    assert_eq!(scene.index(), 5);
    let rest = ABSENCE - APART;
    assert_eq!(
        scene.watch.query(scene.now).wait,
        rest,
        "to miss them in time"
    );
    scene.pass(rest);
    scene.answer(5, &["b"], &["c"]);
    assert_eq!(scene.nodes(), ["b"]);
    assert_eq!(scene.watch.query(scene.now).wait, WAIT);
}

#[test]
fn an_index_of_0_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.answer(9, &["a"], &[]);
    scene.answer(0, &["a"], &[]);
    assert_eq!(scene.index(), 0);
    assert_eq!(scene.watch.due() - scene.now, APART, "nor asked in a loop");
}

#[test]
fn failures_freeze_the_list_and_back_off() {
    let mut scene = Scene::new();
    scene.answer(9, &["a", "b"], &[]);
    let pauses: Vec<u128> = (0..9)
        .map(|_| scene.fail(Failure::Refused).as_millis())
        .collect();
    let expected = [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000];
    assert_eq!(pauses, expected);
    for _ in 0..9 {
        scene.fail(Failure::Unreachable);
    }
    assert_eq!(scene.fail(Failure::Unreachable), CONNECT_AT_MOST);
    assert_eq!(
        scene.fail(Failure::Refused),
        RETRY_AFTER,
        "it is coming back"
    );
    scene.pass(Duration::from_secs(3600));
    assert_eq!(scene.nodes(), ["a", "b"]);
    assert_eq!(scene.watch.trouble(), Some(Trouble::Failing));
    assert_eq!(scene.index(), 0, "the next answer comes at once");
    scene.answer(11, &["a"], &[]);
    assert_eq!(scene.watch.trouble(), None);
    assert_eq!(scene.nodes(), ["a", "b"], "b may not have registered yet");
    assert_eq!(scene.fail(Failure::Refused), RETRY_AFTER);
    scene.pass(ABSENCE);
    scene.answer(12, &["a"], &[]);
    scene.pass(ABSENCE);
    scene.answer(12, &["a"], &[]);
    assert_eq!(scene.nodes(), ["a"]);
}

#[test]
fn who_fails_again_and_again_keeps_nobody_for_ever() {
    let mut scene = Scene::new();
    scene.answer(9, &["a", "b"], &[]);
    let step = ABSENCE / 5;
    for passed in 0..5 {
        scene.fail(Failure::Refused);
        scene.answer(11, &["a"], &[]);
        assert_eq!(scene.nodes(), ["a", "b"], "after {:?}", step * passed);
        scene.pass(step);
    }
    scene.fail(Failure::Refused);
    scene.answer(11, &["a"], &[]);
    assert_eq!(scene.nodes(), ["a"]);

    // Another outage is another beginning, however long ago the last one ended.
    scene.answer(12, &["a", "c"], &[]);
    scene.fail(Failure::Unreachable);
    scene.answer(13, &["c"], &[]);
    scene.fail(Failure::Unreachable);
    scene.pass(Duration::from_secs(3600));
    scene.answer(13, &["c"], &[]);
    assert_eq!(scene.nodes(), ["a", "c"], "a has time to register again");
    scene.pass(ABSENCE);
    scene.answer(13, &["c"], &[]);
    assert_eq!(scene.nodes(), ["c"]);
}

#[test]
fn pauses_are_spread() {
    let mut scene = Scene::new();
    let now = scene.now;
    scene.watch.handle_failure(Failure::Refused, 0.0, now);
    let shortest = scene.watch.due() - now;
    let mut scene = Scene::new();
    let now = scene.now;
    scene.watch.handle_failure(Failure::Refused, 1.0, now);
    let longest = scene.watch.due() - now;
    assert_eq!((shortest.as_millis(), longest.as_millis()), (375, 625));
}
