use pipemesh_topology::store::next_life;

use super::*;
use crate::rooms::Changes;
use crate::rooms::record::Presence;
use crate::rooms::view::tests::{put, snapshot, stored, stored_by};

struct Scene {
    belief: Belief,
    now: Instant,
    /// The sessions that another process may have taken to be gone.
    kept: Vec<&'static str>,
}

impl Scene {
    /// A room with Alice and Bob in it.
    fn of_two() -> Self {
        let mut belief = Belief::new("room".parse().unwrap());
        let now = Instant::now();
        let nobody = |_: &SessionId| false;
        belief.handle_snapshot(Some(snapshot(5)), nobody, now);
        assert!(belief.handle_event(&put(6, "bob", Presence::Here), nobody, now));
        Self {
            belief,
            now,
            kept: Vec::new(),
        }
    }

    fn reads(&mut self, snapshot: Option<RoomSnapshot>) {
        let keeps = |session: &SessionId| self.kept.contains(&session.as_str());
        self.belief.handle_snapshot(snapshot, keeps, self.now);
    }

    fn hears(&mut self, event: &RoomEvent) -> bool {
        let keeps = |session: &SessionId| self.kept.contains(&session.as_str());
        self.belief.handle_event(event, keeps, self.now)
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.belief.handle_timeout(self.now);
    }

    /// Who is seen, those that the store lacks with a `?`.
    fn seen(&self) -> Option<String> {
        let state = self.belief.state.as_ref()?;
        let shown = state.members.keys().map(|identity| {
            let lacks = if state.lacks(identity) { "?" } else { "" };
            format!("{identity}{lacks}")
        });
        Some(shown.collect::<Vec<_>>().join(" "))
    }
}

/// Brought back by Alice.
fn brought_back() -> RoomSnapshot {
    snapshot(next_life(6) + 2)
}

fn left(sequence: u64, who: &str) -> RoomEvent {
    RoomEvent {
        change: Change::MemberRemoved(who.parse().unwrap()),
        ..put(sequence, who, Presence::Here)
    }
}

fn ended(sequence: u64) -> RoomEvent {
    RoomEvent {
        change: Change::Ended,
        ..put(sequence, "bob", Presence::Here)
    }
}

#[test]
fn a_gap_or_another_room_is_noticed() {
    let mut scene = Scene::of_two();
    assert!(scene.hears(&put(4, "carol", Presence::Here)), "is older");
    assert_eq!(scene.seen().as_deref(), Some("alice bob"));
    assert!(
        !scene.hears(&put(8, "carol", Presence::Here)),
        "7 is missing"
    );
    let other = RoomEvent {
        room: "RM_2".parse().unwrap(),
        ..put(7, "carol", Presence::Here)
    };
    assert!(!scene.hears(&other));
    assert!(scene.hears(&ended(7)));
    assert_eq!(scene.seen(), None);
    assert!(!scene.hears(&put(1, "bob", Presence::Here)), "was not read");
}

#[test]
fn a_room_that_the_store_has_lost_stays_until_it_is_brought_back() {
    let mut scene = Scene::of_two();
    let before = scene.belief.state().unwrap();
    scene.reads(None);
    assert_eq!(scene.seen().as_deref(), Some("alice? bob?"));
    let lost = scene.belief.state().unwrap();
    assert!(lost.revision > before.revision, "it is told");
    scene.passes(KEEP / 2);
    scene.reads(Some(brought_back()));
    assert_eq!(scene.seen().as_deref(), Some("alice bob?"));
    // What was read again counts on from there.
    let next = next_life(6) + 3;
    assert!(scene.hears(&put(next, "bob", Presence::Here)));
    assert_eq!(scene.seen().as_deref(), Some("alice bob"));
    assert_eq!(scene.belief.poll_timeout(), None);
    scene.passes(KEEP);
    assert_eq!(scene.seen().as_deref(), Some("alice bob"));
}

#[test]
fn a_store_that_loses_the_room_again_and_again_keeps_nobody_for_ever() {
    let mut scene = Scene::of_two();
    for _ in 0..4 {
        scene.reads(None);
        scene.passes(KEEP / 4);
    }
    assert_eq!(scene.seen(), None);
}

#[test]
fn who_moved_to_another_process_meanwhile_is_seen() {
    let mut scene = Scene::of_two();
    let alice = "alice".parse().unwrap();
    let state = scene.belief.state.as_mut().unwrap();
    state.remember(&alice, None);
    assert_eq!(scene.seen().as_deref(), Some("bob"));
    // The record that is yet to be removed stays hidden.
    let mut read = snapshot(8);
    read.members.push(stored("bob", 6, Presence::Here));
    scene.reads(Some(read.clone()));
    assert_eq!(scene.seen().as_deref(), Some("bob"));
    read.members[0] = stored_by("s-elsewhere", "alice", 9, Presence::Here);
    read.sequence = 9;
    scene.reads(Some(read));
    assert_eq!(scene.seen().as_deref(), Some("alice bob"));
}

#[test]
fn who_came_and_went_meanwhile_hides_nobody() {
    let mut scene = Scene::of_two();
    let carol = "carol".parse().unwrap();
    let came = Member::decode(&stored("carol", 0, Presence::Here)).map(Arc::new);
    let state = scene.belief.state.as_mut().unwrap();
    state.remember(&carol, came);
    state.remember(&carol, None);
    let mut read = snapshot(8);
    read.members = vec![stored("carol", 8, Presence::Here)];
    scene.reads(Some(read.clone()));
    assert_eq!(scene.seen().as_deref(), Some(""), "it was written unheard");
    read.members[0] = stored_by("s-elsewhere", "carol", 8, Presence::Here);
    scene.reads(Some(read));
    assert_eq!(scene.seen().as_deref(), Some("carol"));
}

/// As when a replica takes over that had not heard of the last changes.
#[test]
fn what_the_store_has_gone_back_to_is_not_believed() {
    let check = |sequence| {
        let mut scene = Scene::of_two();
        assert!(scene.hears(&put(7, "alice", Presence::Away)));
        scene.reads(Some(snapshot(sequence)));
        assert_eq!(scene.seen().as_deref(), Some("alice? bob?"), "{sequence}");
        let alice: Identity = "alice".parse().unwrap();
        let state = scene.belief.state.as_ref().unwrap();
        assert_eq!(state.members[&alice].presence, Presence::Away);
        // Read again, it is still so.
        scene.reads(Some(snapshot(sequence)));
        assert_eq!(scene.seen().as_deref(), Some("alice? bob?"), "{sequence}");
        assert!(scene.hears(&put(sequence + 1, "bob", Presence::Here)));
        assert_eq!(scene.seen().as_deref(), Some("alice? bob"), "{sequence}");
        scene.passes(KEEP);
        assert_eq!(scene.seen().as_deref(), Some("alice bob"), "{sequence}");
    };
    check(5);
    check(next_life(7) + 1);
}

#[test]
fn whoever_is_not_written_again_is_gone() {
    let mut scene = Scene::of_two();
    scene.reads(Some(brought_back()));
    let before = scene.belief.state().unwrap();
    scene.passes(KEEP - Duration::from_millis(1));
    assert_eq!(scene.seen().as_deref(), Some("alice bob?"));
    scene.passes(Duration::from_millis(1));
    assert_eq!(scene.seen().as_deref(), Some("alice"));
    assert_eq!(scene.belief.state().unwrap().info().num_participants, 1);
    assert!(scene.belief.state().unwrap().revision > before.revision);

    let mut scene = Scene::of_two();
    scene.reads(None);
    scene.passes(KEEP);
    assert_eq!(scene.seen(), None);
}

#[test]
fn who_left_while_nothing_was_heard_is_gone_at_once() {
    let mut scene = Scene::of_two();
    scene.reads(Some(snapshot(7)));
    assert_eq!(scene.seen().as_deref(), Some("alice"));
    // Nor does the store's coming back a second time bring anybody back.
    let mut scene = Scene::of_two();
    scene.reads(Some(brought_back()));
    let mut later = brought_back();
    later.sequence += 1;
    later.members = vec![stored("bob", 9, Presence::Here)];
    scene.reads(Some(later));
    assert_eq!(scene.seen().as_deref(), Some("bob"));
}

#[test]
fn a_room_does_not_end_under_those_who_are_not_in_it_again_yet() {
    let mut scene = Scene::of_two();
    scene.reads(Some(brought_back()));
    assert!(scene.hears(&left(next_life(6) + 3, "alice")));
    assert!(scene.hears(&ended(next_life(6) + 4)));
    assert_eq!(scene.seen().as_deref(), Some("bob?"));
    let again = scene.belief.state().unwrap().to_bring_back();
    assert_eq!(again.after, next_life(next_life(6)));
}

#[test]
fn what_the_store_does_not_take_yet_is_seen_all_the_same() {
    let mut scene = Scene::of_two();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|who| who.parse::<Identity>().unwrap());
    let member = |who, version| Member::decode(&stored(who, version, Presence::Away)).map(Arc::new);
    let is_away = |scene: &Scene, who| {
        let state = scene.belief.state.as_ref().unwrap();
        state.members[who].presence == Presence::Away
    };
    let state = scene.belief.state.as_mut().unwrap();
    let before = state.revision;
    state.remember(&alice, member("alice", 1));
    state.remember(&bob, None);
    state.remember(&carol, member("carol", 0));
    assert_eq!(scene.seen().as_deref(), Some("alice carol"));
    let state = scene.belief.state.as_ref().unwrap();
    let told = [&alice, &bob, &carol].map(Identity::clone);
    assert_eq!(state.changes_since(before), Changes::Of(told.into()));

    // What was read meanwhile does not know of it.
    scene.reads(Some(snapshot(7)));
    assert_eq!(scene.seen().as_deref(), Some("alice carol"));
    assert!(is_away(&scene, &alice));
    // What the store says then is what counts.
    assert!(scene.hears(&put(8, "alice", Presence::Here)));
    assert!(!is_away(&scene, &alice));
    scene.belief.state.as_mut().unwrap().forget(&carol);
    assert_eq!(scene.seen().as_deref(), Some("alice"));
}

#[test]
fn whoever_the_store_has_yet_to_take_keeps_the_room_open() {
    let mut scene = Scene::of_two();
    let carol = Member::decode(&stored("carol", 0, Presence::Here)).map(Arc::new);
    let state = scene.belief.state.as_mut().unwrap();
    state.remember(&"carol".parse().unwrap(), carol);
    for (sequence, who) in [(7, "alice"), (8, "bob")] {
        assert!(scene.hears(&left(sequence, who)));
    }
    assert!(scene.hears(&ended(9)));
    assert_eq!(scene.seen().as_deref(), Some("carol?"));
    scene.passes(KEEP);
    assert_eq!(scene.seen().as_deref(), Some("carol"));
}

#[test]
fn another_room_of_the_name_is_another_room() {
    let mut scene = Scene::of_two();
    let mut other = brought_back();
    other.room.id = "RM_2".parse().unwrap();
    scene.reads(Some(other));
    assert_eq!(scene.seen().as_deref(), Some("alice"));
    assert_eq!(scene.belief.poll_timeout(), None);
}

/// This process was stopped for a while, or cut off from the store, and is not gone.
#[test]
fn who_was_removed_by_mistake_stays_until_written_again() {
    let mut scene = Scene::of_two();
    scene.kept = vec!["s-bob"];
    for (sequence, who) in [(7, "alice"), (8, "bob")] {
        assert!(scene.hears(&left(sequence, who)));
    }
    assert_eq!(scene.seen().as_deref(), Some("bob?"));
    assert!(scene.hears(&ended(9)), "somebody ends what is empty");
    assert_eq!(scene.seen().as_deref(), Some("bob?"));
    assert_eq!(scene.belief.poll_timeout(), Some(scene.now + KEEP));

    // The same, read instead of heard.
    let mut scene = Scene::of_two();
    scene.kept = vec!["s-bob"];
    scene.reads(Some(snapshot(8)));
    assert_eq!(scene.seen().as_deref(), Some("alice bob?"));
    assert!(scene.hears(&put(9, "bob", Presence::Here)));
    assert_eq!(scene.seen().as_deref(), Some("alice bob"));
}
