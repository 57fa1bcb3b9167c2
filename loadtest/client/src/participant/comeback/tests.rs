//! Outages in virtual time.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

/// A participant that is there, and its clock.
struct Bench {
    back: ComeBack,
    now: Instant,
}

impl Bench {
    fn new(limit: u32, seed: u64) -> Self {
        let mut bench = Self {
            back: ComeBack::new(limit, PATIENCE, seed),
            now: Instant::now(),
        };
        bench.back.handle_flowing(bench.now);
        bench
    }

    fn loses(&mut self, loss: Loss) {
        self.back.handle_loss(loss, self.now);
    }

    /// Jumps to whatever is due next; answers how long that was, and what is attempted.
    fn next(&mut self) -> (Duration, Option<Way>) {
        let due = self.back.poll_timeout().expect("something is due");
        let pause = due.saturating_duration_since(self.now);
        self.now = due;
        (pause, self.back.handle_timeout(self.now))
    }

    fn attempts(&mut self) -> Way {
        self.next().1.expect("an attempt is due")
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.back.handle_refusal(refusal, self.now);
    }

    /// Media flows so long after the server let us in.
    fn flows_after(&mut self, pause: Duration) {
        self.back.handle_admitted(self.now);
        self.now += pause;
        self.back.handle_flowing(self.now);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.back.poll_event()).collect()
    }
}

fn signal() -> Loss {
    Loss::Signal("it broke".to_owned())
}

fn told(left: Left) -> Loss {
    Loss::Told(left, DisconnectReason::StateMismatch)
}

#[test]
fn each_loss_has_its_way() {
    for (loss, expected) in [
        (signal(), Way::Resume),
        (Loss::Media("no answer".to_owned()), Way::Resume),
        (told(Left::Resume), Way::Resume),
        (told(Left::Rejoin), Way::Rejoin),
        (Loss::Asked(Way::Resume), Way::Resume),
        (Loss::Asked(Way::Rejoin), Way::Rejoin),
    ] {
        let mut bench = Bench::new(TRIES, 1);
        let lost = bench.now;
        bench.loses(loss.clone());
        assert_eq!(bench.attempts(), expected, "{loss:?}");
        bench.flows_after(80 * MS);
        let events = bench.events();
        let [Event::Lost { at, .. }, Event::Back(back)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(*at, lost);
        assert_eq!((&back.loss, back.way, back.failed), (&loss, expected, 0));
        assert_eq!((back.at, back.took), (bench.now, bench.now - lost));
        assert_eq!(bench.back.poll_timeout(), None);
    }
}

#[test]
fn pauses_grow_and_nobody_comes_at_the_same_time() {
    let bounds = [
        (0, 500),
        (150, 450),
        (600, 1_800),
        (1_350, 4_050),
        (2_400, 7_200),
        (3_500, 10_500),
        (3_500, 10_500),
    ];
    let mut firsts = Vec::new();
    for seed in 0..50 {
        let mut bench = Bench::new(TRIES, seed);
        bench.loses(told(Left::Rejoin));
        for (place, (least, most)) in bounds.into_iter().enumerate() {
            let (pause, way) = bench.next();
            assert_eq!(way, Some(Way::Rejoin));
            let range = Duration::from_millis(least)..=Duration::from_millis(most);
            assert!(range.contains(&pause), "seed {seed}, {place}: {pause:?}");
            if place == 0 {
                firsts.push(pause);
            }
            bench.refused(&Refusal::Unreachable);
        }
    }
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > 45, "{firsts:?}");
}

#[test]
fn it_gives_up_after_so_many_attempts() {
    let mut bench = Bench::new(3, 1);
    bench.loses(signal());
    for _ in 0..3 {
        assert_eq!(bench.attempts(), Way::Resume);
        assert!(bench.back.may_come_back());
        bench.refused(&Refusal::Unreachable);
    }
    assert!(!bench.back.may_come_back());
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::Lost { .. }, Event::Over { tries: 3, at, .. }] if at == bench.now),
        "{events:?}"
    );
    bench.loses(signal());
    assert_eq!(bench.back.poll_timeout(), None);
    assert_eq!(bench.events(), []);
}

#[test]
fn attempts_are_counted_anew_once_it_was_there() {
    let mut bench = Bench::new(2, 1);
    for _ in 0..5 {
        bench.loses(signal());
        bench.attempts();
        bench.refused(&Refusal::Unreachable);
        bench.attempts();
        bench.flows_after(MS);
        let events = bench.events();
        assert!(
            matches!(&events[..], [_, Event::Back(back)] if back.failed == 1),
            "{events:?}"
        );
        bench.now += STAYS;
    }
}

#[test]
fn a_server_that_lets_in_and_drops_is_asked_ever_more_slowly() {
    let mut bench = Bench::new(4, 1);
    bench.loses(told(Left::Rejoin));
    for least in [0, 150, 600, 1_350] {
        let (pause, way) = bench.next();
        assert_eq!(way, Some(Way::Rejoin));
        assert!(pause >= MS * least, "{pause:?} instead of {least} ms");
        bench.flows_after(MS);
        bench.loses(told(Left::Rejoin));
    }
    let events = bench.events();
    let failed = events.iter().filter_map(|it| match it {
        Event::Back(back) => Some(back.failed),
        Event::Lost { .. } | Event::Over { .. } => None,
    });
    // Each was back at the first attempt of that outage.
    assert_eq!(failed.collect::<Vec<_>>(), [0; 4]);
    assert!(
        matches!(events.last(), Some(Event::Over { tries: 4, .. })),
        "{events:?}"
    );

    // Once it stays, all is well.
    let mut bench = Bench::new(2, 1);
    for _ in 0..5 {
        bench.loses(told(Left::Rejoin));
        bench.attempts();
        bench.flows_after(MS);
        bench.now += STAYS;
    }
    // So it is if it goes by itself.
    for _ in 0..5 {
        bench.loses(Loss::Asked(Way::Rejoin));
        bench.attempts();
        bench.flows_after(MS);
    }
    assert!(bench.back.may_come_back());
}

#[test]
fn a_session_that_is_not_known_is_joined_anew() {
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(signal());
    assert_eq!(bench.attempts(), Way::Resume);
    assert!(bench.back.holds());
    bench.refused(&Refusal::Unknown);
    assert_eq!(bench.attempts(), Way::Rejoin);
    assert!(!bench.back.holds());
    bench.flows_after(MS);
    let events = bench.events();
    assert!(
        matches!(&events[..], [_, Event::Back(back)] if back.way == Way::Rejoin),
        "{events:?}"
    );
}

#[test]
fn media_that_does_not_follow_in_time_is_joined_anew() {
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(signal());
    bench.attempts();
    bench.back.handle_admitted(bench.now);
    assert_eq!(bench.next(), (PATIENCE, None));
    assert_eq!(bench.attempts(), Way::Rejoin);
    // Nor does it the next time, as is said.
    bench.back.handle_admitted(bench.now);
    bench.now += MS;
    bench.loses(Loss::Media("no answer".to_owned()));
    assert_eq!(bench.attempts(), Way::Rejoin);
    bench.flows_after(MS);
    let events = bench.events();
    assert!(
        matches!(&events[..], [_, Event::Back(back)] if back.failed == 2),
        "{events:?}"
    );
}

#[test]
fn who_is_told_to_join_anew_while_he_tries_to_resume_does() {
    for waits in [true, false] {
        let mut bench = Bench::new(TRIES, 1);
        bench.loses(signal());
        if !waits {
            bench.attempts();
            bench.back.handle_admitted(bench.now);
        }
        bench.loses(told(Left::Rejoin));
        assert_eq!(bench.attempts(), Way::Rejoin);
    }
}

#[test]
fn what_breaks_as_well_does_not_begin_the_pause_anew() {
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(told(Left::Rejoin));
    let due = bench.back.poll_timeout();
    bench.now += MS;
    bench.loses(signal());
    bench.loses(Loss::Media("goodbye".to_owned()));
    assert_eq!(bench.back.poll_timeout(), due);
    assert_eq!(bench.attempts(), Way::Rejoin);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn who_is_sent_away_stays_away() {
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(told(Left::Over));
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::Over { tries: 0, .. }]),
        "{events:?}"
    );
    for trying in [true, false] {
        let mut bench = Bench::new(TRIES, 1);
        bench.loses(signal());
        if trying {
            bench.attempts();
        }
        bench.loses(told(Left::Over));
        assert!(!bench.back.may_come_back());
    }
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(signal());
    bench.attempts();
    bench.refused(&Refusal::Forbidden);
    assert!(!bench.back.may_come_back());
}

#[test]
fn who_may_not_come_back_is_over_at_once() {
    let mut bench = Bench::new(0, 1);
    bench.loses(signal());
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::Over { tries: 0, .. }]),
        "{events:?}"
    );
}

#[test]
fn who_was_never_there_does_not_come_back() {
    let mut back = ComeBack::new(TRIES, PATIENCE, 1);
    let now = Instant::now();
    back.handle_loss(signal(), now);
    back.handle_loss(told(Left::Rejoin), now);
    assert_eq!(back.poll_timeout(), None);
    assert_eq!(back.poll_event(), None);
}

#[test]
fn media_that_flows_before_the_server_has_answered_is_what_went_before() {
    let mut bench = Bench::new(TRIES, 1);
    bench.loses(signal());
    bench.attempts();
    bench.back.handle_flowing(bench.now);
    assert_eq!(bench.events().len(), 1);
    bench.flows_after(MS);
    assert_eq!(bench.events().len(), 1);
}
