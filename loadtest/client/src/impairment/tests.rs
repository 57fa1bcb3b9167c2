use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` packets of 1,000 bytes, `every` apart; answers number, departure and arrival of
/// those that come, in the order in which they come.
fn run(
    profile: Profile,
    seed: u64,
    count: u64,
    every: Duration,
) -> (Vec<(u64, Duration, Duration)>, Counts) {
    let start = Instant::now();
    let mut network = Impairment::new(profile, seed);
    let mut arrived = Vec::new();
    let mut take = |network: &mut Impairment<u64>, now: Instant| {
        while let Some(at) = network.poll_timeout().filter(|at| *at <= now) {
            let number = network.pop(at).unwrap();
            arrived.push((number, every * number as u32, at - start));
        }
    };
    for number in 0..count {
        let now = start + every * number as u32;
        take(&mut network, now);
        network.push(number, 1_000, now);
    }
    take(&mut network, start + Duration::from_secs(3_600));
    (arrived, network.counts())
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let profile = Profile {
        loss: 0.1,
        burst: 3.0,
        delay: MS * 20,
        jitter: MS * 10,
        reorder: 0.05,
        reorder_by: MS * 15,
        duplicate: 0.02,
        bandwidth: Some(Bandwidth {
            kbps: 9_000,
            queue: MS * 100,
        }),
    };
    for seed in 0..4 {
        assert_eq!(
            run(profile, seed, 2_000, MS),
            run(profile, seed, 2_000, MS),
            "seed {seed}"
        );
    }
    assert_ne!(run(profile, 1, 2_000, MS), run(profile, 2, 2_000, MS));
}

#[test]
fn loss_and_bursts_are_as_asked() {
    for (seed, burst) in [(1, 0.0), (2, 1.0), (3, 4.0), (4, 8.0)] {
        let profile = Profile {
            loss: 0.1,
            burst,
            ..Profile::default()
        };
        let (arrived, counts) = run(profile, seed, 50_000, MS);
        let share = counts.lost as f64 / counts.packets as f64;
        assert!((0.085..0.115).contains(&share), "seed {seed}: {share}");
        let gaps = arrived
            .windows(2)
            .filter(|pair| pair[1].0 > pair[0].0 + 1)
            .count();
        let mean = counts.lost as f64 / gaps as f64;
        assert!(
            (mean / burst.max(1.1) - 1.0).abs() < 0.15,
            "seed {seed}: bursts of {mean}"
        );
    }
}

#[test]
fn jitter_keeps_the_order_and_reordering_breaks_it() {
    let jitter = Profile {
        delay: MS * 20,
        jitter: MS * 30,
        ..Profile::default()
    };
    let (arrived, _) = run(jitter, 7, 5_000, MS);
    assert_eq!(arrived.len(), 5_000);
    assert!(arrived.is_sorted());
    let late = |(_, sent, came): &(u64, Duration, Duration)| *came - *sent;
    assert!(arrived.iter().map(late).min().unwrap() >= MS * 20);
    assert!(arrived.iter().map(late).max().unwrap() <= MS * 50);
    let reorder = Profile {
        reorder: 0.1,
        reorder_by: MS * 5,
        duplicate: 0.1,
        ..Profile::default()
    };
    let (arrived, counts) = run(reorder, 7, 5_000, MS);
    assert!(!arrived.is_sorted());
    assert_eq!(arrived.len() as u64, 5_000 + counts.duplicated);
    assert!((400..600).contains(&counts.reordered) && (400..600).contains(&counts.duplicated));
}

#[test]
fn the_bandwidth_limit_queues_and_then_drops() {
    // 8 Mbit/s come, 4 go.
    let bandwidth = Some(Bandwidth {
        kbps: 4_000,
        queue: MS * 50,
    });
    let profile = Profile {
        bandwidth,
        ..Profile::default()
    };
    let (arrived, counts) = run(profile, 1, 4_000, MS);
    assert!((1_950..2_100).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!(arrived.len() as u64 + counts.dropped, 4_000);
    let longest = arrived
        .iter()
        .map(|(_, sent, came)| *came - *sent)
        .max()
        .unwrap();
    assert!(longest <= MS * 53, "{longest:?}");
}

#[test]
fn a_cut_ends() {
    let start = Instant::now();
    let mut network = Impairment::new(Profile::default(), 1);
    assert!(network.is_transparent(start));
    network.cut(start + MS * 10);
    assert!(!network.is_transparent(start));
    network.push(1, 100, start + MS * 9);
    network.push(2, 100, start + MS * 10);
    assert_eq!(network.pop(start + MS * 10), Some(2));
    assert_eq!(
        (network.pop(start + MS * 99), network.counts().lost),
        (None, 1)
    );
    assert!(network.is_transparent(start + MS * 99));
}
