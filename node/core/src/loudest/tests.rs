use std::collections::BTreeSet;

use super::*;

/// As loud as a quiet room, and as somebody who speaks.
const NOISE: u8 = 60;
const VOICE: u8 = 105;

/// Routers that share a room, and how long a message takes from one to another.
struct Mesh {
    routers: Vec<Loudest<u32>>,
    /// Loudness of each microphone; microphone `n` is published at router `n % routers`.
    levels: BTreeMap<u32, Option<u8>>,
    on_their_way: Vec<(Instant, usize, usize, Told<u32>)>,
    delay: Duration,
    now: Instant,
    changes: usize,
}

impl Mesh {
    fn new(routers: usize, most: usize, delay: Duration) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        Self {
            routers: (0..routers).map(|_| Loudest::new(most)).collect(),
            levels: BTreeMap::new(),
            on_their_way: Vec::new(),
            delay,
            now,
            changes: 0,
        }
    }

    /// Microphones are opened, and taken everywhere.
    fn open(&mut self, microphones: impl IntoIterator<Item = u32>, loudness: u8) {
        let routers = self.routers.len();
        for microphone in microphones {
            self.levels.insert(microphone, Some(loudness));
            for (number, router) in self.routers.iter_mut().enumerate() {
                match microphone as usize % routers == number {
                    true => router.publish(microphone),
                    false => router.take(microphone),
                }
                router.choose(self.now);
            }
        }
    }

    fn set(&mut self, microphone: u32, loudness: u8) {
        self.levels.insert(microphone, Some(loudness));
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += WINDOW;
        let now = self.now;
        let on_their_way = std::mem::take(&mut self.on_their_way).into_iter();
        let (arrived, later): (Vec<_>, Vec<_>) = on_their_way.partition(|(at, ..)| *at <= now);
        self.on_their_way = later;
        for (_, from, to, told) in arrived {
            self.routers[to].handle_told(from as u16, &told);
        }
        let routers = self.routers.len();
        for number in 0..routers {
            let router = &mut self.routers[number];
            for (microphone, loudness) in &self.levels {
                if *microphone as usize % routers == number {
                    router.handle_window(microphone, *loudness);
                }
            }
            self.changes += usize::from(router.choose(now));
            for told in router.news() {
                let others = (0..routers).filter(|other| *other != number);
                let sent = others.map(|to| (now + self.delay, number, to, told.clone()));
                self.on_their_way.extend(sent);
            }
        }
    }

    fn heard(&self, router: usize) -> BTreeSet<u32> {
        let microphones = self.levels.keys().copied();
        microphones
            .filter(|it| self.routers[router].is_heard(it))
            .collect()
    }

    /// How long it takes until a router hears a microphone.
    fn until_heard(&mut self, router: usize, microphone: u32) -> Duration {
        let begin = self.now;
        while !self.routers[router].is_heard(&microphone) {
            assert!(self.now - begin < Duration::from_secs(5), "never heard");
            self.step();
        }
        self.now - begin
    }
}

const FAR: Duration = Duration::from_millis(80);

#[test]
fn as_long_as_there_is_room_everybody_is_heard() {
    let mut mesh = Mesh::new(2, 3, FAR);
    mesh.open([1, 2, 3], 0);
    for router in 0..2 {
        assert_eq!(mesh.heard(router).len(), 3);
    }
    // The fourth finds no room, before anything was measured.
    mesh.open([4], 0);
    assert_eq!(mesh.heard(0), BTreeSet::from([1, 2, 3]));
}

#[test]
fn who_begins_to_speak_is_heard_everywhere_within_two_windows_and_the_way() {
    let mut mesh = Mesh::new(3, 3, FAR);
    mesh.open(0..500, NOISE);
    mesh.run(Duration::from_secs(5));
    for (speaker, router) in [(100, 1), (101, 2), (102, 0)] {
        mesh.set(speaker, VOICE);
        let here = mesh.until_heard(router, speaker);
        assert!(here <= 2 * WINDOW, "{here:?}");
        let there = mesh.until_heard((router + 1) % 3, speaker);
        assert!(here + there <= 2 * WINDOW + FAR + WINDOW, "{there:?}");
    }
    mesh.run(Duration::from_secs(1));
    for router in 0..3 {
        assert_eq!(mesh.heard(router), BTreeSet::from([100, 101, 102]));
    }
}

#[test]
fn no_more_are_heard_than_may_be_and_no_router_tells_of_more() {
    let mut mesh = Mesh::new(2, 3, FAR);
    mesh.open(0..40, NOISE);
    for second in 0..60 {
        // One after the other, and each ever louder than those before.
        mesh.set(second % 40, VOICE + (second % 20) as u8);
        for _ in 0..20 {
            mesh.step();
            for (number, router) in mesh.routers.iter().enumerate() {
                assert!(mesh.heard(number).len() == 3, "{:?}", mesh.heard(number));
                assert!(router.told().len() <= 3);
            }
        }
    }
}

#[test]
fn whoever_has_begun_is_not_cut_off() {
    let mut mesh = Mesh::new(1, 2, Duration::ZERO);
    mesh.open(0..5, NOISE);
    mesh.run(Duration::from_secs(5));
    mesh.set(3, VOICE);
    mesh.set(4, VOICE);
    mesh.run(2 * WINDOW);
    assert_eq!(mesh.heard(0), BTreeSet::from([3, 4]));
    // Both cease after a word, and others shout.
    mesh.set(3, NOISE);
    mesh.set(4, NOISE);
    mesh.set(0, LOUDEST);
    mesh.set(1, LOUDEST);
    mesh.run(Duration::from_millis(1_800));
    assert_eq!(mesh.heard(0), BTreeSet::from([3, 4]));
    mesh.run(Duration::from_millis(300));
    assert_eq!(mesh.heard(0), BTreeSet::from([0, 1]));
}

#[test]
fn a_pause_between_words_is_none() {
    let mut mesh = Mesh::new(1, 1, Duration::ZERO);
    mesh.open(0..3, NOISE);
    mesh.set(1, VOICE);
    mesh.run(Duration::from_secs(10));
    for _ in 0..20 {
        mesh.set(1, NOISE);
        mesh.run(Duration::from_millis(400));
        // A little more noise than before.
        mesh.set(2, NOISE + 8);
        mesh.set(1, VOICE);
        mesh.run(Duration::from_millis(600));
        assert_eq!(mesh.heard(0), BTreeSet::from([1]));
    }
}

#[test]
fn a_click_is_no_voice() {
    let mut level = Level::default();
    for heard in [127 - NOISE, 127 - NOISE, 5] {
        level.add(Some(heard));
    }
    let mut mesh = Mesh::new(1, 1, Duration::ZERO);
    mesh.open(0..2, NOISE);
    mesh.run(Duration::from_secs(5));
    let before = mesh.heard(0);
    mesh.set(1, level.loudness().unwrap());
    mesh.step();
    mesh.set(1, NOISE);
    let speaks = mesh.routers[0].microphones[&1].loudness >= SPEECH;
    assert!(!speaks);
    assert_eq!(before, BTreeSet::from([0]));
}

#[test]
fn among_equals_nobody_is_changed_for_another() {
    let mut mesh = Mesh::new(2, 3, FAR);
    mesh.open(0..20, NOISE);
    mesh.run(Duration::from_secs(3));
    mesh.changes = 0;
    // The noise of rooms is never quite the same.
    for round in 0..400_u32 {
        for microphone in 0..20 {
            let jitter = (round * 7 + microphone * 13) % 5;
            mesh.set(microphone, NOISE - 2 + jitter as u8);
        }
        mesh.step();
    }
    assert_eq!(mesh.changes, 0);
    // Nor where all speak.
    for microphone in 0..20 {
        mesh.set(microphone, VOICE);
    }
    mesh.run(Duration::from_secs(3));
    mesh.changes = 0;
    mesh.run(Duration::from_secs(20));
    assert_eq!(mesh.changes, 0);
}

#[test]
fn who_is_muted_or_gone_makes_room_at_once() {
    let mut mesh = Mesh::new(1, 1, Duration::ZERO);
    mesh.open(0..3, NOISE);
    mesh.set(1, VOICE);
    mesh.set(2, VOICE - 10);
    mesh.run(Duration::from_secs(5));
    assert_eq!(mesh.heard(0), BTreeSet::from([1]));
    mesh.levels.insert(1, None);
    mesh.routers[0].handle_mute(&1);
    mesh.step();
    assert_eq!(mesh.heard(0), BTreeSet::from([2]));
    mesh.routers[0].end(&2);
    mesh.levels.remove(&2);
    mesh.step();
    assert_eq!(mesh.heard(0).len(), 1);
    assert_eq!(mesh.routers[0].len(), 2);
}

#[test]
fn who_leaves_makes_room_on_other_routers() {
    let mut mesh = Mesh::new(2, 2, FAR);
    mesh.open(0..6, NOISE);
    mesh.set(1, VOICE);
    mesh.set(2, VOICE);
    mesh.run(Duration::from_secs(5));
    assert_eq!(mesh.heard(0), BTreeSet::from([1, 2]));
    // It is gone at both before anybody says so.
    mesh.levels.remove(&1);
    for router in &mut mesh.routers {
        router.end(&1);
    }
    mesh.run(Duration::from_millis(200));
    for router in 0..2 {
        assert_eq!(mesh.routers[router].len(), 5);
        let heard = mesh.heard(router);
        assert!(heard.len() == 2 && heard.contains(&2), "{heard:?}");
    }
}

#[test]
fn what_another_router_told_ends_with_it() {
    let mut here = Loudest::new(1);
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    let now = Instant::now();
    here.publish("own");
    here.take("far");
    let told = |microphone, loudness| Told {
        microphone,
        loudness,
    };
    here.handle_told(7, &told("far", VOICE));
    // Nobody here takes it.
    here.handle_told(7, &told("unknown", VOICE - 20));
    // A word about one that is published here comes late.
    here.handle_told(7, &told("own", VOICE));
    here.choose(now);
    assert_eq!(here.len(), 3);
    assert!(here.is_heard(&"far") && !here.is_heard(&"own"));
    // Through another pipe by now: the former one's last word is nothing.
    here.handle_told(8, &told("far", VOICE));
    here.handle_told(7, &told("far", 0));
    assert_eq!(here.microphones["far"].loudness, VOICE);
    here.forget(7);
    assert_eq!(here.len(), 2);
    here.forget(8);
    assert_eq!(here.microphones["far"].loudness, 0);
    here.end(&"far");
    here.end(&"own");
    assert!(here.is_empty());
}

#[test]
fn who_does_not_say_how_loud_they_are_is_heard_before_noise() {
    let mut level = Level::default();
    assert_eq!(level.loudness(), None);
    level.add(None);
    let loudness = level.loudness().unwrap();
    assert!((NOISE..SPEECH).contains(&loudness), "{loudness}");
}
