#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use proptest::prelude::*;

use super::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn kbps(rate: u64) -> Bitrate {
    Bitrate::from_kbps(rate)
}

fn budget(all: Bitrate) -> Budget {
    Budget { all, lowest: all }
}

fn layer(spatial: u8, temporal: u8) -> Layer {
    Layer { spatial, temporal }
}

/// Encodings of 180, 360, 720 lines, each of one temporal layer.
fn ladder(rates: &[u64]) -> Ladder {
    let mut ladder = Ladder::default();
    for (spatial, rate) in rates.iter().enumerate() {
        ladder.push(Step {
            layer: layer(spatial as u8, 0),
            rate: kbps(*rate),
            pixels: (320 * 180) << (2 * spatial),
        });
    }
    ladder
}

fn camera(rates: &[u64]) -> Demand {
    Demand {
        media: Media::Video,
        priority: 1,
        view: Size::default(),
        ladder: ladder(rates),
        held: Held::New,
        sent: None,
    }
}

fn microphone() -> Demand {
    Demand {
        media: Media::Audio,
        ladder: ladder(&[40]),
        ..camera(&[])
    }
}

const CAMERA: &[u64] = &[150, 500, 1_700];

fn rank(choice: &Choice) -> Option<Layer> {
    match choice {
        Choice::Nothing | Choice::Paused => None,
        Choice::At(layer) => Some(*layer),
    }
}

/// Of what a demand is given; None: it is paused.
#[derive(Debug, Clone, Copy)]
struct Change {
    moment: usize,
    from: Option<Layer>,
    to: Option<Layer>,
}

/// What a subscriber's allocations do over time.
struct Subscriber {
    allocation: Allocation,
    damping: Damping,
    demands: Vec<Demand>,
    now: Instant,
}

impl Subscriber {
    fn new(demands: Vec<Demand>) -> Self {
        Self {
            allocation: Allocation::default(),
            damping: Damping::default(),
            demands,
            now: start(),
        }
    }

    fn decide(&mut self, all: Bitrate) -> Vec<Choice> {
        self.decide_within(budget(all))
    }

    fn decide_within(&mut self, budget: Budget) -> Vec<Choice> {
        let Self {
            allocation,
            damping,
            demands,
            now,
        } = self;
        allocation.decide(demands, budget, damping, *now);
        for (demand, choice) in demands.iter_mut().zip(&allocation.choices) {
            demand.held = choice.held();
            demand.sent = match choice {
                Choice::At(layer) => Some(*layer),
                Choice::Nothing | Choice::Paused => None,
            };
        }
        allocation.choices.clone()
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// Bandwidth and rates move by so many percent in each fifth of a second. Answers what has changed for each
    /// demand.
    fn shake(&mut self, around: Bitrate, noise: &[(u64, u64)]) -> Vec<Vec<Change>> {
        let of = |rate: Bitrate, percent: u64| Bitrate::from_bps(rate.as_bps() / 100 * percent);
        let ladders: Vec<Ladder> = self.demands.iter().map(|demand| demand.ladder).collect();
        let mut changes = vec![Vec::new(); ladders.len()];
        let mut before = self.allocation.choices.clone();
        for (moment, &(bandwidth, rate)) in noise.iter().enumerate() {
            for (demand, ladder) in self.demands.iter_mut().zip(&ladders) {
                demand.ladder = Ladder::default();
                for step in ladder.steps() {
                    let rate = of(step.rate, rate);
                    demand.ladder.push(Step { rate, ..*step });
                }
            }
            self.wait(200);
            let after = self.decide(of(around, bandwidth));
            for (place, changes) in changes.iter_mut().enumerate() {
                let (from, to) = (rank(&before[place]), rank(&after[place]));
                if from != to {
                    changes.push(Change { moment, from, to });
                }
            }
            before = after;
        }
        changes
    }

    /// Decides as often as asked to, until time changes nothing any more.
    fn settle(&mut self, all: Bitrate) -> Vec<Choice> {
        self.decide(all);
        while let Some(again) = self.allocation.again {
            self.now = again;
            self.decide(all);
        }
        self.allocation.choices.clone()
    }
}

/// Percent of a bandwidth, and of all rates, from one moment to the next.
fn few_percent() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((98u64..=102, 99u64..=101), 100)
}

/// As short as it gets: spatial layers, `-` for paused, `.` for nothing.
fn show(choices: &[Choice]) -> String {
    let show = |choice: &Choice| match choice {
        Choice::Nothing => ".".into(),
        Choice::Paused => "-".into(),
        Choice::At(layer) if layer.temporal == 0 => layer.spatial.to_string(),
        Choice::At(layer) => format!("{}+{}", layer.spatial, layer.temporal),
    };
    choices.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn bandwidth_is_given_away_in_order() {
    fn check(demands: &[Demand], bandwidth: u64, expected: &str) {
        let mut subscriber = Subscriber::new(demands.to_vec());
        let choices = subscriber.decide(kbps(bandwidth));
        assert_eq!(show(&choices), expected, "at {bandwidth}");
    }
    let three = [camera(CAMERA), camera(CAMERA), camera(CAMERA), microphone()];
    // One picture is sent whatever there is.
    check(&three, 0, "0 - - 0");
    check(&three, 190, "0 - - 0");
    check(&three, 489, "0 0 - 0");
    check(&three, 490, "0 0 0 0");
    // One step more needs headroom: (490 + 350) × 1.15.
    check(&three, 965, "0 0 0 0");
    check(&three, 967, "1 0 0 0");
    check(&three, 1_800, "1 1 1 0");
    check(&three, 6_000, "2 2 2 0");

    // Priority comes first, then the larger view.
    let mut screen = camera(&[400, 2_000]);
    screen.priority = 2;
    let share = [camera(CAMERA), screen, microphone()];
    check(&share, 439, "0 - 0");
    check(&share, 440, "- 0 0");
    check(&share, 590, "0 0 0");
    check(&share, 2_300, "1 0 0");
    check(&share, 2_600, "0 1 0");
    let view = |mut demand: Demand, width, height| {
        demand.view = Size { width, height };
        demand
    };
    let large_and_small = [
        view(camera(CAMERA), 200, 100),
        view(camera(CAMERA), 1_280, 720),
    ];
    check(&large_and_small, 200, "- 0");
    // More than the view shows is worth nothing.
    check(&large_and_small, 50_000, "0 2");

    // Nothing to choose from, and a single layer.
    check(&[camera(&[]), camera(&[300])], 300, ". 0");
    check(&[camera(&[]), camera(&[300])], 299, ". 0");
    // What is smaller still fits.
    check(&[camera(&[600]), camera(&[100])], 200, "- 0");
}

#[test]
fn frames_come_before_pixels_where_they_cost_less() {
    let mut demand = camera(&[]);
    for (spatial, temporal, rate) in [
        (0, 0, 90),
        (0, 1, 110),
        (0, 2, 150),
        (1, 0, 300),
        (1, 1, 400),
        (1, 2, 500),
    ] {
        demand.ladder.push(Step {
            layer: layer(spatial, temporal),
            rate: kbps(rate),
            pixels: (320 * 180) << (2 * spatial),
        });
    }
    let at = |bandwidth| show(&Subscriber::new(vec![demand, demand]).decide(kbps(bandwidth)));
    assert_eq!(at(180), "0 0");
    assert_eq!(at(300), "0+2 0+1");
    assert_eq!(at(400), "0+2 0+2");
    assert_eq!(at(1_200), "1+2 1+2");
}

#[test]
fn rates_that_are_not_known_are_guessed() {
    let unknown = camera(&[0, 0, 0]);
    let at = |bandwidth| show(&Subscriber::new(vec![unknown]).decide(kbps(bandwidth)));
    assert_eq!(at(160), "0");
    let two = |bandwidth| show(&Subscriber::new(vec![unknown; 2]).decide(kbps(bandwidth)));
    assert_eq!(two(290), "0 -");
    assert_eq!(two(310), "0 0");
    assert_eq!(at(700), "1");
    assert_eq!(at(2_000), "2");
    let mut unknown = microphone();
    unknown.ladder = ladder(&[0]);
    let mut subscriber = Subscriber::new(vec![unknown]);
    subscriber.decide(kbps(0));
    assert_eq!(subscriber.allocation.used, AUDIO_RATE);
}

/// The top layer is worth more for each bit, and does not fit with its headroom. The one before it does.
#[test]
fn what_is_worth_more_and_does_not_fit_is_in_nobodys_way() {
    let mut subscriber = Subscriber::new(vec![camera(&[344, 1_228, 1_940]), microphone()]);
    assert_eq!(show(&subscriber.settle(kbps(50))), "0 0");
    subscriber.wait(1_000);
    assert_eq!(show(&subscriber.settle(kbps(2_255))), "1 0");
    subscriber.wait(5_000);
    assert_eq!(show(&subscriber.settle(kbps(2_400))), "2 0");
}

#[test]
fn what_is_taken_is_given_back_after_a_hold() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA)]);
    assert_eq!(show(&subscriber.decide(kbps(2_000))), "2");
    subscriber.wait(20_000);
    // Kept as long as it fits, taken at once when it does not.
    assert_eq!(show(&subscriber.decide(kbps(1_700))), "2");
    assert_eq!(show(&subscriber.decide(kbps(1_699))), "1");
    assert_eq!(show(&subscriber.decide(kbps(1_900))), "1");
    assert_eq!(subscriber.allocation.next, kbps(1_955));
    // Enough: for a moment, and a second after it was taken.
    assert_eq!(show(&subscriber.decide(kbps(1_960))), "1");
    let again = subscriber.allocation.again.unwrap();
    assert_eq!(again - subscriber.now, HOLD);
    subscriber.wait(999);
    assert_eq!(show(&subscriber.decide(kbps(1_960))), "1");
    subscriber.wait(1);
    assert_eq!(show(&subscriber.decide(kbps(1_960))), "2");
    assert_eq!(subscriber.allocation.next, Bitrate::ZERO);
    // That was a mistake; the next hold is longer.
    subscriber.wait(2_000);
    assert_eq!(show(&subscriber.decide(kbps(1_000))), "1");
    subscriber.decide(kbps(2_000));
    assert_eq!(
        subscriber.allocation.again.unwrap() - subscriber.now,
        2 * HOLD
    );
}

#[test]
fn what_is_given_is_looked_for_before_more() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA)]);
    subscriber.decide_within(Budget {
        all: kbps(1_000),
        lowest: Bitrate::MAX,
    });
    assert_eq!(
        subscriber.allocation.wish(kbps(1_000)),
        (kbps(1_955), kbps(1_955))
    );
    // A stream that cannot be reduced.
    let mut subscriber = Subscriber::new(vec![camera(&[3_800])]);
    subscriber.decide(kbps(1_000));
    assert_eq!(subscriber.allocation.next, Bitrate::ZERO);
    assert_eq!(
        subscriber.allocation.wish(kbps(1_000)),
        (kbps(4_370), kbps(4_370))
    );
    assert_eq!(
        subscriber.allocation.wish(kbps(3_800)),
        (Bitrate::ZERO, Bitrate::ZERO)
    );
}

#[test]
fn a_fall_by_much_is_told_from_one_by_little() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA), microphone()]);
    let mut falls = |bandwidth| {
        subscriber.decide(kbps(6_000));
        subscriber.wait(60_000);
        assert_eq!(show(&subscriber.decide(kbps(6_000))), "2 0");
        subscriber.decide(kbps(bandwidth));
        subscriber.wait(60_000);
        subscriber.allocation.too_much
    };
    assert!(!falls(6_000));
    assert!(!falls(1_300));
    assert!(falls(1_000));
    assert!(falls(30));
}

#[test]
fn enough_for_a_moment_is_not_enough() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA)]);
    subscriber.decide(kbps(600));
    subscriber.wait(60_000);
    for _ in 0..50 {
        assert_eq!(show(&subscriber.decide(kbps(1_960))), "1");
        subscriber.wait(300);
        assert_eq!(show(&subscriber.decide(kbps(1_900))), "1");
        subscriber.wait(100);
    }
}

#[test]
fn nobody_is_paused_for_a_queue_that_drains() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA), camera(CAMERA)]);
    subscriber.decide(kbps(2_500));
    let draining = |all, lowest| Budget {
        all: kbps(all),
        lowest: kbps(lowest),
    };
    assert_eq!(show(&subscriber.decide_within(draining(200, 400))), "0 0");
    assert_eq!(show(&subscriber.decide_within(draining(200, 200))), "0 -");
}

#[test]
fn a_track_that_changes_is_followed() {
    let mut subscriber = Subscriber::new(vec![camera(CAMERA)]);
    assert_eq!(show(&subscriber.decide(kbps(3_000))), "2");
    // The publisher stops the highest; later it comes back.
    subscriber.demands[0].ladder = ladder(&CAMERA[..2]);
    assert_eq!(show(&subscriber.decide(kbps(3_000))), "1");
    assert_eq!(subscriber.damping.taken, None, "not for want of bandwidth");
    subscriber.demands[0].ladder = ladder(CAMERA);
    assert_eq!(show(&subscriber.settle(kbps(3_000))), "2");
    // Muted and unmuted.
    subscriber.demands[0].ladder = ladder(&[]);
    assert_eq!(show(&subscriber.decide(kbps(3_000))), ".");
    subscriber.demands[0].ladder = ladder(CAMERA);
    assert_eq!(show(&subscriber.decide(kbps(3_000))), "2");
}

fn any_demand() -> impl Strategy<Value = Demand> {
    let steps = prop::collection::vec((1u64..800, 0u8..2), 0..6);
    (steps, 0u32..3, 0u32..1_500, any::<bool>()).prop_map(|(steps, priority, width, audio)| {
        let mut demand = camera(&[]);
        let mut at = layer(0, 0);
        let mut rate = 0;
        for (more, same) in steps {
            rate += more;
            demand.ladder.push(Step {
                layer: at,
                rate: kbps(rate),
                pixels: (320 * 180) << (2 * at.spatial),
            });
            at = if same == 1 {
                layer(at.spatial, at.temporal + 1)
            } else {
                layer(at.spatial + 1, 0)
            };
        }
        demand.priority = priority;
        demand.view = Size {
            width,
            height: width / 2,
        };
        if audio {
            demand.media = Media::Audio;
        }
        demand
    })
}

fn rate_of(demand: &Demand, choice: Choice) -> Bitrate {
    let Choice::At(layer) = choice else {
        return Bitrate::ZERO;
    };
    let steps = demand.ladder.steps();
    steps.iter().find(|step| step.layer == layer).unwrap().rate
}

#[test]
fn who_has_all_it_wants_is_settled() {
    let mut subscriber = Subscriber::new(vec![microphone(), camera(CAMERA)]);
    let takes = kbps(40 + 1_700);
    for (all, settled) in [
        (kbps(5_000), Some(takes)),
        // Kept, though it was not given if it came to that.
        (takes, Some(takes)),
        (kbps(1_700), None),
        (kbps(30), None),
    ] {
        subscriber.decide(all);
        assert_eq!(
            subscriber.allocation.settled(budget(all)),
            settled,
            "{all:?}"
        );
    }
}

proptest! {
    /// Whatever there is and was: never more than the bandwidth but for audio and one picture, audio whole,
    /// and nobody paused whom the others' lowest layers leave room for.
    #[test]
    fn what_is_always_true(
        demands in prop::collection::vec(any_demand(), 0..20),
        bandwidths in prop::collection::vec((0u64..6_000, 0u64..3_000), 1..30),
    ) {
        let mut subscriber = Subscriber::new(demands.clone());
        for (bandwidth, pause) in bandwidths {
            subscriber.wait(pause);
            let choices = subscriber.decide(kbps(bandwidth));
            let used: Bitrate = demands.iter().zip(&choices).map(|(d, c)| rate_of(d, *c)).sum();
            prop_assert_eq!(used, subscriber.allocation.used);
            let (mut audio, mut lowest) = (Bitrate::ZERO, Bitrate::ZERO);
            for (demand, choice) in demands.iter().zip(&choices) {
                let steps = demand.ladder.steps();
                let (Some(first), Some(top)) = (steps.first(), steps.last()) else {
                    prop_assert_eq!(*choice, Choice::Nothing);
                    continue;
                };
                if demand.media == Media::Audio {
                    prop_assert_eq!(*choice, Choice::At(top.layer));
                    audio += top.rate;
                } else if *choice != Choice::Paused {
                    lowest += first.rate;
                }
            }
            let is_shown = |(demand, choice): &(&Demand, &Choice)| {
                demand.media == Media::Video && matches!(choice, Choice::At(_))
            };
            let shown: Vec<_> = demands.iter().zip(&choices).filter(is_shown).collect();
            let is_least = matches!(shown.as_slice(), [(demand, choice)]
                if **choice == Choice::At(demand.ladder.steps()[0].layer));
            prop_assert!(used <= kbps(bandwidth).max(audio) || is_least, "{:?}", choices);
            let is_video = |demand: &Demand| {
                demand.media == Media::Video && !demand.ladder.steps().is_empty()
            };
            prop_assert_eq!(shown.is_empty(), !demands.iter().any(is_video));
            for (demand, choice) in demands.iter().zip(&choices) {
                if *choice == Choice::Paused {
                    let least = demand.ladder.steps()[0].rate;
                    let now_or_held = (audio + lowest + least).scale(RESUME_HEADROOM) > kbps(bandwidth)
                        || !subscriber.damping.may_give(subscriber.now);
                    prop_assert!(now_or_held, "{demand:?}");
                }
            }
        }
    }

    /// Whatever was before: while bandwidth and rates move by a few percent around any value, nobody gets more
    /// who had to give away something, nor the other way round; but for those who were paused and for whom there
    /// is room since another, too, was.
    #[test]
    fn a_few_percent_turn_nobody_back(
        demands in prop::collection::vec(any_demand(), 1..12),
        before in prop::collection::vec(50u64..8_000, 0..4),
        bandwidth in 50u64..8_000,
        noise in few_percent(),
    ) {
        let mut subscriber = Subscriber::new(demands);
        for bandwidth in before.into_iter().chain([bandwidth]) {
            subscriber.settle(kbps(bandwidth));
            subscriber.wait(1_000);
        }
        let changes = subscriber.shake(kbps(bandwidth), &noise);
        let paused: Vec<usize> = changes
            .iter()
            .flatten()
            .filter(|change| change.to.is_none())
            .map(|change| change.moment)
            .collect();
        for changes in changes {
            for pair in changes.windows(2) {
                let [first, then] = pair else { unreachable!() };
                let turns = (first.from < first.to) != (then.from < then.to);
                let meanwhile = first.moment + 1..=then.moment;
                let has_room = first.to.is_none() && paused.iter().any(|at| meanwhile.contains(at));
                prop_assert!(!turns || has_room, "{changes:?}");
            }
        }
    }

    /// … and who is alone changes once at most: steps are further apart than that.
    #[test]
    fn a_few_percent_change_nobody_twice(
        lowest in 50u64..400,
        steps in prop::collection::vec(130u64..400, 0..5),
        before in prop::collection::vec(50u64..8_000, 0..4),
        bandwidth in 50u64..8_000,
        noise in few_percent(),
    ) {
        let next = |rate: &mut u64, percent: u64| {
            *rate = *rate * percent / 100;
            Some(*rate)
        };
        let rates: Vec<u64> = [100].into_iter().chain(steps).scan(lowest, next).collect();
        let mut subscriber = Subscriber::new(vec![camera(&rates), microphone()]);
        for bandwidth in before.into_iter().chain([bandwidth]) {
            subscriber.settle(kbps(bandwidth));
            subscriber.wait(1_000);
        }
        let changes = subscriber.shake(kbps(bandwidth), &noise);
        prop_assert!(changes[0].len() <= 1, "{changes:?} of {rates:?}");
    }

    /// The next step is given at the bandwidth that is said to allow it, and not below.
    #[test]
    fn the_next_step_is_foretold(
        demands in prop::collection::vec(any_demand(), 1..12),
        bandwidth in 100u64..8_000,
    ) {
        let mut subscriber = Subscriber::new(demands);
        subscriber.settle(kbps(bandwidth));
        let (used, next) = (subscriber.allocation.used, subscriber.allocation.next);
        let wanted = subscriber.allocation.wanted;
        prop_assert!(next <= wanted);
        if next.is_zero() {
            return Ok(());
        }
        subscriber.settle(next.scale(0.998));
        prop_assert_eq!(subscriber.allocation.used, used);
        subscriber.settle(next.scale(1.001));
        prop_assert!(subscriber.allocation.used > used);
        subscriber.settle(wanted.scale(1.001));
        prop_assert_eq!(subscriber.allocation.next, Bitrate::ZERO);
        prop_assert_eq!(subscriber.allocation.wanted, Bitrate::ZERO);
    }

    /// With more bandwidth one track gets no less, and no fewer are paused among equals.
    #[test]
    fn more_bandwidth_is_no_worse(
        demand in any_demand(),
        count in 1usize..8,
        (low, more) in (0u64..4_000, 0u64..4_000),
    ) {
        let decide = |bandwidth| Subscriber::new(vec![demand; count]).decide(kbps(bandwidth));
        let (less, more) = (decide(low), decide(low + more));
        if count == 1 {
            prop_assert!(rank(&less[0]) <= rank(&more[0]));
        }
        let shown = |choices: &[Choice]| choices.iter().filter_map(rank).count();
        prop_assert!(shown(&less) <= shown(&more));
    }
}

proptest! {
    /// Only less bandwidth than that, or other demands, change anything.
    #[test]
    fn who_is_settled_stays_so(
        cameras in prop::collection::vec(prop::collection::vec(50..2_000_u64, 0..4), 0..5),
        all in 0..12_000_u64,
        later in prop::collection::vec((0..3_000_u64, 0..5_000_u64), 1..8),
    ) {
        let mut cameras = cameras;
        // A layer takes more than those below.
        cameras.iter_mut().for_each(|rates| rates.sort_unstable());
        let demands = cameras.iter().map(|rates| camera(rates)).chain([microphone()]);
        let mut subscriber = Subscriber::new(demands.collect());
        let before = subscriber.decide(kbps(all));
        if let Some(takes) = subscriber.allocation.settled(budget(kbps(all))) {
            for (millis, more) in later {
                subscriber.wait(millis);
                let all = budget(takes + kbps(more));
                prop_assert_eq!(&subscriber.decide_within(all), &before);
                prop_assert_eq!(subscriber.allocation.settled(all), Some(takes));
            }
        }
    }
}
