use super::*;

#[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
fn start() -> Instant {
    Instant::now()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two ends, and what the way between them does to probes.
struct Path {
    begin: Instant,
    now: Instant,
    ends: [Prober; 2],
    /// On their way: when they arrive, whose, and as long as what.
    underway: Vec<(Instant, usize, Probe, Size)>,
    /// From the first to the second, and back.
    delays: [Duration; 2],
    carries_full: bool,
    sizes: Vec<Size>,
}

impl Path {
    /// The second one's clock began a while before the first one's.
    fn new(delays: [Duration; 2], ahead: Duration) -> Self {
        let begin = start() + Duration::from_secs(10_000);
        let now = begin + millis(500);
        // They do not begin at once.
        let ends = [
            Prober::new(begin, now),
            Prober::new(begin - ahead, now + millis(270)),
        ];
        Self {
            begin,
            now,
            ends,
            underway: Vec::new(),
            delays,
            carries_full: true,
            sizes: Vec::new(),
        }
    }

    fn passes(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let due = self.ends.iter().map(Prober::poll_timeout);
            let arrivals = self.underway.iter().map(|(at, ..)| *at);
            let Some(next) = due.chain(arrivals).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for (index, end) in self.ends.iter_mut().enumerate() {
                if let Some((probe, size)) = end.poll(self.now) {
                    self.sizes.push(size);
                    if self.carries_full || size == Size::Small {
                        let at = self.now + self.delays[index];
                        self.underway.push((at, 1 - index, probe, size));
                    }
                }
            }
            let now = self.now;
            for (_, to, probe, _) in self.underway.extract_if(.., |(at, ..)| *at <= now) {
                self.ends[to].handle(&probe, now);
            }
        }
        self.now = end;
    }

    /// What the first one stamps a datagram with now.
    fn stamp(&self) -> u32 {
        micros(self.begin, self.now) as u32
    }
}

#[test]
fn clocks_are_compared_and_the_time_of_the_way_is_known() {
    let mut path = Path::new([millis(40), millis(40)], Duration::from_secs(5_000));
    assert_eq!(path.ends[1].latency(path.stamp(), path.now), None);
    path.passes(Duration::from_secs(5));
    let stamp = path.stamp();
    let arrives = path.now + millis(63);
    assert_eq!(path.ends[1].latency(stamp, arrives), Some(millis(63)));

    // Later than 2^32 microseconds after either began.
    path.passes(Duration::from_secs(4_500));
    let stamp = path.stamp();
    assert_eq!(
        path.ends[1].latency(stamp, path.now + millis(41)),
        Some(millis(41))
    );

    // Ways that differ are told apart no better than this.
    let mut path = Path::new([millis(30), millis(10)], Duration::ZERO);
    path.passes(Duration::from_secs(5));
    let latency = path.ends[1].latency(path.stamp(), path.now + millis(30));
    assert_eq!(latency, Some(millis(20)));
}

#[test]
fn a_probe_that_waited_on_its_way_does_not_move_the_clock() {
    let mut path = Path::new([millis(20), millis(20)], Duration::from_secs(7));
    path.passes(Duration::from_secs(8));
    path.delays = [millis(320), millis(20)];
    path.passes(Duration::from_secs(6));
    let latency = path.ends[1].latency(path.stamp(), path.now + millis(320));
    assert_eq!(latency, Some(millis(320)));
}

#[test]
fn a_path_that_carries_no_full_datagrams_is_found_out() {
    let mut path = Path::new([millis(40), millis(40)], Duration::ZERO);
    path.passes(Duration::from_secs(35));
    assert!(path.ends.iter().all(|end| !end.is_narrow()));
    let full = path
        .sizes
        .iter()
        .filter(|size| **size == Size::Full)
        .count();
    assert_eq!(full, 8, "at once and every ten seconds, of both");

    path.carries_full = false;
    path.passes(Duration::from_secs(5));
    assert!(
        path.ends.iter().all(|end| !end.is_narrow()),
        "one or two may be lost"
    );
    path.passes(Duration::from_secs(30));
    assert!(path.ends.iter().all(Prober::is_narrow));

    // From the first moment on.
    let mut path = Path::new([millis(40), millis(40)], Duration::ZERO);
    path.carries_full = false;
    path.passes(Duration::from_secs(20));
    assert!(path.ends.iter().all(Prober::is_narrow));
}

#[test]
fn a_path_that_carries_nothing_is_not_narrow() {
    let mut path = Path::new([millis(40), millis(40)], Duration::ZERO);
    path.passes(Duration::from_secs(5));
    path.delays = [Duration::from_secs(1_000_000); 2];
    path.passes(Duration::from_secs(100));
    assert!(path.ends.iter().all(|end| !end.is_narrow()));
}

#[test]
fn probes_that_make_no_sense_change_nothing() {
    let now = start();
    let mut prober = Prober::new(now, now);
    let (own, _) = prober.poll(now).unwrap();
    let later = now + millis(100);
    for echoed in [own.sent, u64::MAX, 5] {
        let probe = Probe {
            sequence: 9,
            sent: u64::MAX,
            echoed,
            echo_delay: u32::MAX,
        };
        prober.handle(&probe, later);
    }
    assert_eq!(prober.latency(0, later), None);
    assert!(!prober.is_narrow());
}
