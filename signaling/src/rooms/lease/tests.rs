use super::*;

const GRACE: Duration = Duration::from_secs(15);

struct Scene {
    others: Others,
    now: Instant,
}

fn held(said: &str) -> Lease {
    Lease::Held(said.to_owned())
}

fn id(process: &str) -> ProcessId {
    process.parse().unwrap()
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let others = Others::new(id("me"), GRACE);
        Self { others, now }
    }

    /// What is to be done once these leases were read.
    fn reads(&mut self, leases: &[(&str, Lease)]) -> Vec<Duty> {
        let leases = leases.iter();
        let leases = leases.map(|(process, lease)| (id(process), lease.clone()));
        self.others.handle_leases(leases.collect(), 0.0, self.now)
    }

    /// The same, second by second for some time, up to the first duty.
    fn reads_for(&mut self, time: Duration, leases: &[(&str, Lease)]) -> Vec<Duty> {
        let until = self.now + time;
        while self.now < until {
            self.now += RENEW;
            let duties = self.reads(leases);
            if !duties.is_empty() {
                return duties;
            }
        }
        Vec::new()
    }
}

#[test]
fn who_is_silent_for_longer_than_the_grace_is_gone() {
    let mut scene = Scene::new();
    let leases = [("dead", held("7"))];
    assert_eq!(scene.reads(&leases), []);
    let began = scene.now;
    let duties = scene.reads_for(Duration::from_secs(60), &leases);
    assert_eq!(duties, [Duty::End(id("dead"), held("7"))]);
    assert_eq!(scene.now - began, SILENCE + GRACE);
    // Somebody else was faster, or this one is killed before it has removed anything.
    let ended = [("dead", Lease::Ended)];
    assert_eq!(scene.reads(&ended), []);
    let began = scene.now;
    let duties = scene.reads_for(Duration::from_secs(60), &ended);
    assert_eq!(duties, [Duty::Remove(id("dead"))]);
    assert_eq!(scene.now - began, AGAIN);
    assert_eq!(scene.reads_for(AGAIN - RENEW, &ended), []);
    assert_eq!(scene.reads(&[]), [], "it is done");
}

#[test]
fn who_speaks_lives_however_seldom() {
    let mut scene = Scene::new();
    for said in 0..10 {
        let leases = [("slow", held(&said.to_string())), ("me", held("1"))];
        let duties = scene.reads_for(SILENCE + GRACE - RENEW, &leases);
        assert_eq!(duties, [], "{said}");
    }
}

#[test]
fn nobody_is_gone_who_could_not_speak() {
    let mut scene = Scene::new();
    let leases = [("other", held("7"))];
    assert_eq!(scene.reads_for(SILENCE + GRACE, &leases), []);
    // The store is away for an hour.
    scene.others.handle_failure();
    scene.now += Duration::from_secs(3600);
    assert_eq!(scene.reads(&leases), []);
    assert_eq!(scene.reads_for(SILENCE + GRACE - RENEW, &leases), []);
    assert_eq!(scene.reads_for(RENEW, &leases).len(), 1);
    // A grace of nothing is none for who reaches a store again that was away.
    let mut scene = Scene::new();
    scene.others = Others::new(id("me"), Duration::ZERO);
    assert_eq!(scene.reads_for(SILENCE * 2, &leases), []);
}

#[test]
fn several_who_look_find_them_one_after_the_other() {
    let mut scene = Scene::new();
    let leases = BTreeMap::from([(id("dead"), held("7"))]);
    let mut at = |seconds: f64| {
        let now = scene.now + Duration::from_secs_f64(seconds);
        let duties = scene.others.handle_leases(leases.clone(), 0.5, now);
        duties.len()
    };
    assert_eq!([at(0.0), at(20.0), at(20.4), at(20.5)], [0, 0, 0, 1]);
}

#[test]
fn a_process_knows_when_it_may_have_been_taken_to_be_gone() {
    let mut own = Own::default();
    let mut now = Instant::now();
    assert!(!own.may_have_ended(now), "it has not begun");
    assert_eq!(own.next(), "1");
    assert!(!own.handle_renewed(None, now));
    assert_eq!(own.next(), "2");
    now += SILENCE - Duration::from_millis(1);
    assert!(!own.may_have_ended(now));
    now += Duration::from_millis(1);
    assert!(own.may_have_ended(now));
    // It was not, as it turns out.
    assert!(!own.handle_renewed(Some(&held("1")), now));
    assert!(!own.may_have_ended(now));
    now += Duration::from_secs(60);
    assert!(own.handle_renewed(Some(&Lease::Ended), now));
    now += AFTERMATH - Duration::from_millis(1);
    assert!(!own.handle_renewed(Some(&held("3")), now));
    assert!(own.may_have_ended(now));
    now += Duration::from_millis(1);
    assert!(!own.may_have_ended(now));
    assert!(own.handle_renewed(None, now), "and nothing is left of it");
}

/// Others know it by the records of those whom it serves.
#[test]
fn a_process_that_never_said_a_word_may_be_taken_to_be_gone() {
    let begun = Instant::now();
    let mut own = Own::default();
    own.serve(begun);
    let now = begun + SILENCE - Duration::from_millis(1);
    own.serve(now);
    assert!(!own.may_have_ended(now));
    let mut in_time = Own::default();
    in_time.serve(begun);
    assert!(!in_time.handle_renewed(None, now), "nobody had reason to");
    assert!(!in_time.may_have_ended(now));
    let now = begun + SILENCE;
    assert!(own.may_have_ended(now));
    assert!(own.handle_renewed(None, now));
    let later = now + AFTERMATH - Duration::from_millis(1);
    assert!(!own.handle_renewed(Some(&held("1")), later));
    assert!(own.may_have_ended(later));
    assert!(!own.may_have_ended(now + AFTERMATH));
}
