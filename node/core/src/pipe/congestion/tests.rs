use std::collections::VecDeque;

use super::*;

const PACKET: u64 = 1_250;
const MTU: u16 = 1_350;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A sender over one path, a millisecond at a time.
struct Path {
    now: Instant,
    rule: Congestion,
    /// Both ways.
    round_trip: Duration,
    /// Bits per second through the narrow place, …
    rate: u64,
    /// … and the longest queue before it.
    queue: Duration,
    /// Every so many packets, one is lost.
    loses: Option<u64>,
    free_at: Instant,
    /// Sent at; known at; arrived.
    on_the_way: VecDeque<(Instant, Instant, bool)>,
    /// Bytes that wait to be sent, and may be by their pace.
    backlog: f64,
    tokens: f64,
    sent: u64,
    delivered: u64,
    overflowed: u64,
    longest_queue: Duration,
}

impl Path {
    fn new(round_trip: Duration, rate: u64) -> Self {
        Self::with_limits(Limits::default(), round_trip, rate)
    }

    fn with_limits(limits: Limits, round_trip: Duration, rate: u64) -> Self {
        let now = start();
        Self {
            now,
            rule: Congestion::new(limits, MTU, now),
            round_trip,
            rate,
            queue: millis(200),
            loses: None,
            free_at: now,
            on_the_way: VecDeque::new(),
            backlog: 0.0,
            tokens: 0.0,
            sent: 0,
            delivered: 0,
            overflowed: 0,
            longest_queue: Duration::ZERO,
        }
    }

    /// Mbit/s that arrive, and the longest queue, while so many are offered.
    fn run(&mut self, time: Duration, offered: u64) -> (f64, Duration) {
        let (end, before) = (self.now + time, self.delivered);
        self.longest_queue = Duration::ZERO;
        while self.now < end {
            self.now += millis(1);
            let app_limited = self.backlog < PACKET as f64;
            self.acknowledge(app_limited);
            // What waits for longer is dropped, as a schedule would.
            let most = offered as f64 / 8.0 / 4.0;
            self.backlog = (self.backlog + offered as f64 / 8e3).min(most);
            self.send();
        }
        let bits = 8.0 * (self.delivered - before) as f64;
        (bits / time.as_secs_f64() / 1e6, self.longest_queue)
    }

    /// As the other end does: after so many packets, or so much time.
    fn acknowledge(&mut self, app_limited: bool) {
        let (now, mut any) = (self.now, false);
        let arrived = self.on_the_way.iter().take_while(|it| it.1 <= now);
        let first = self.on_the_way.front().map(|it| it.1);
        let waited = first.is_some_and(|first| first + ACK_DELAY <= now);
        if !waited && arrived.count() < ACK_PACKETS as usize {
            return;
        }
        while let Some(&(sent_at, known_at, arrived)) = self.on_the_way.front()
            && known_at <= self.now
        {
            self.on_the_way.pop_front();
            any = true;
            if arrived {
                self.delivered += PACKET;
                self.rule.on_ack(sent_at, PACKET, app_limited, self.now);
            } else {
                self.rule.on_loss(sent_at, PACKET, false, self.now);
            }
        }
        if any {
            self.rule.on_acks_end(self.now);
        }
    }

    fn send(&mut self) {
        let in_flight = |path: &Self| path.on_the_way.len() as u64 * PACKET;
        let pace = 1.25 * self.rule.window() as f64 / self.round_trip.as_secs_f64() / 1e3;
        self.tokens = (self.tokens + pace).min(pace.max(15_000.0));
        while self.backlog >= PACKET as f64
            && self.tokens >= PACKET as f64
            && in_flight(self) + PACKET <= self.rule.window()
        {
            self.backlog -= PACKET as f64;
            self.tokens -= PACKET as f64;
            self.sent += 1;
            self.rule.on_sent(self.now);
            let begins = self.free_at.max(self.now);
            let waits = begins - self.now;
            let lost = self
                .loses
                .is_some_and(|every| self.sent.is_multiple_of(every));
            let overflows = waits > self.queue;
            self.overflowed += u64::from(overflows);
            if !overflows {
                self.longest_queue = self.longest_queue.max(waits);
                self.free_at = begins + Duration::from_nanos(8_000_000_000 * PACKET / self.rate);
            }
            let known_at = self.free_at.max(self.now) + self.round_trip;
            let known_at = known_at.max(self.on_the_way.back().map_or(known_at, |last| last.1));
            self.on_the_way
                .push_back((self.now, known_at, !lost && !overflows));
        }
    }
}

/// Any moment does: time is only ever compared.
#[expect(
    clippy::disallowed_methods,
    reason = "an origin is needed, and no test reads it again"
)]
fn start() -> Instant {
    Instant::now()
}

const MBPS: u64 = 1_000_000;
const ALL: u64 = 2_000 * MBPS;

#[test]
fn the_start_is_no_queue() {
    let mut path = Path::new(millis(20), 1_000 * MBPS);
    path.run(millis(100), 5 * MBPS);
    assert_eq!(path.rule.window(), Limits::default().initial);
    assert!(path.rule.queue() < millis(2), "{:?}", path.rule.queue());
    assert!(path.rule.rate() > Some(Bitrate::from_bps(100 * MBPS)));
}

#[test]
fn what_is_sent_first_does_not_wait_for_the_window() {
    let mut path = Path::new(millis(150), 1_000 * MBPS);
    path.run(millis(300), 20 * MBPS);
    let (rate, _) = path.run(millis(300), 20 * MBPS);
    assert!(rate > 19.0, "{rate}");
}

#[test]
fn loss_that_long_paths_have_is_tolerated() {
    for every in [10_000, 1_000, 100, 50] {
        let mut path = Path::new(millis(100), 1_000 * MBPS);
        path.loses = Some(every);
        path.run(millis(2_000), 50 * MBPS);
        let (rate, _) = path.run(millis(5_000), 50 * MBPS);
        let lossless = 50.0 * (1.0 - 1.0 / every as f64);
        assert!(rate > 0.99 * lossless, "one of {every}: {rate}");
    }
}

#[test]
fn loss_beyond_that_is_given_way_to() {
    let mut path = Path::new(millis(100), 1_000 * MBPS);
    path.loses = Some(20);
    path.run(millis(5_000), 50 * MBPS);
    let (rate, _) = path.run(millis(5_000), 50 * MBPS);
    assert!(rate < 40.0, "{rate}");
    assert!(
        (0.04..0.06).contains(&path.rule.loss()),
        "{}",
        path.rule.loss()
    );
}

/// So little is sent that a measurement of loss takes a quarter of a minute.
#[test]
fn what_was_lost_in_an_outage_is_not_held_against_the_path_long_after() {
    let mut path = Path::new(millis(80), 50_000_000);
    path.run(Duration::from_secs(5), 200_000);
    path.loses = Some(1);
    path.run(Duration::from_secs(1), 200_000);
    path.loses = None;
    path.run(Duration::from_secs(6), 200_000);
    for second in 0..40 {
        path.run(Duration::from_secs(1), 200_000);
        let rate = path.rule.rate().map(Bitrate::as_bps);
        assert!(rate > Some(1_000_000), "{rate:?} after {second} s");
    }
}

/// Five frames a second: between two there is a pause each time.
#[test]
fn a_limit_is_forgotten_by_who_sends_little() {
    let mut path = Path::new(millis(20), 50_000_000);
    path.loses = Some(8);
    path.run(Duration::from_secs(3), 2_000_000);
    let rate = path.rule.rate().map(Bitrate::as_bps);
    assert!(rate < Some(2_500_000), "{rate:?}");
    path.loses = None;
    for _ in 0..20 {
        path.run(millis(20), 2_000_000);
        path.run(millis(180), 0);
    }
    let rate = path.rule.rate().map(Bitrate::as_bps);
    assert!(rate > Some(3_000_000), "{rate:?}");
}

#[test]
fn a_path_that_breaks_down_is_left_alone() {
    let mut path = Path::new(millis(100), 1_000 * MBPS);
    path.run(millis(2_000), 50 * MBPS);
    path.loses = Some(5);
    path.run(millis(3_000), 50 * MBPS);
    let (broken, _) = path.run(millis(2_000), 50 * MBPS);
    assert!(broken < 5.0, "{broken}");
    path.loses = None;
    path.run(millis(6_000), 50 * MBPS);
    let (mended, _) = path.run(millis(2_000), 50 * MBPS);
    assert!(mended > 49.0, "{mended}");
}

#[test]
fn the_queue_is_bounded() {
    for (round_trip, rate) in [(10, 10), (20, 10), (100, 10), (100, 50), (200, 20)] {
        let mut path = Path::new(millis(round_trip), rate * MBPS);
        path.run(millis(5_000), ALL);
        let (arriving, queue) = path.run(millis(60_000), ALL);
        println!("{round_trip} ms, {rate} Mbit/s: {arriving:.1} with {queue:?}");
        assert!(
            arriving > 0.9 * rate as f64,
            "{round_trip} {rate}: {arriving}"
        );
        // What is seen a round trip late has grown by then.
        let bound = QUEUE + millis(round_trip) / 8 + millis(15);
        assert!(queue < bound, "{round_trip} {rate}: {queue:?}");
    }
}

#[test]
fn a_longer_route_is_not_a_queue() {
    // With room to spare, nothing is noticed; with none, for a moment.
    for (rate, offered, dip) in [(1_000, 50 * MBPS, 1_000), (50, ALL, 6_000)] {
        let mut path = Path::new(millis(100), rate * MBPS);
        path.run(millis(10_000), offered);
        path.round_trip += millis(60);
        path.run(millis(dip), offered);
        let (arriving, queue) = path.run(millis(10_000), offered);
        println!("of {rate}: {arriving:.1} with {queue:?}");
        assert!(arriving > 45.0, "of {rate}: {arriving}");
    }
}

#[test]
fn a_line_that_narrows_and_widens_is_followed() {
    let mut path = Path::new(millis(100), 100 * MBPS);
    path.run(millis(5_000), 50 * MBPS);
    path.rate = 10 * MBPS;
    path.run(millis(3_000), 50 * MBPS);
    let (narrow, queue) = path.run(millis(5_000), 50 * MBPS);
    assert!(narrow > 9.0 && queue < millis(60), "{narrow} {queue:?}");
    let rate = path.rule.rate().unwrap_or_default().as_bps();
    assert!((9 * MBPS..=13 * MBPS).contains(&rate), "{rate}");
    path.rate = 100 * MBPS;
    path.run(millis(4_000), 50 * MBPS);
    let (wide, _) = path.run(millis(2_000), 50 * MBPS);
    assert!(wide > 49.0, "{wide}");
}

#[test]
fn an_outage_is_followed_by_little_and_then_by_all() {
    let mut path = Path::new(millis(100), 1_000 * MBPS);
    path.run(millis(3_000), 50 * MBPS);
    path.rule.on_loss(path.now, PACKET, true, path.now);
    assert_eq!(path.rule.window(), AFTER_OUTAGE);
    path.run(millis(1_500), 50 * MBPS);
    let (rate, _) = path.run(millis(2_000), 50 * MBPS);
    assert!(rate > 49.0, "{rate}");
}

#[test]
fn the_window_is_capped() {
    let limits = Limits {
        initial: 512 << 10,
        cap: 1 << 20,
    };
    let mut path = Path::with_limits(limits, millis(100), 1_000 * MBPS);
    path.run(millis(5_000), ALL);
    assert_eq!(path.rule.window(), limits.cap);
}

#[test]
fn a_window_that_is_not_used_stays_as_it_is() {
    let mut path = Path::new(millis(100), 1_000 * MBPS);
    path.run(millis(30_000), MBPS / 2);
    assert_eq!(path.rule.window(), Limits::default().initial);
    // So a burst after hours of ease goes at once.
    path.run(millis(300), 30 * MBPS);
    let (rate, _) = path.run(millis(300), 30 * MBPS);
    assert!(rate > 29.0, "{rate}");
}

#[test]
fn little_traffic_and_a_sleepy_receiver_are_no_congestion() {
    let mut path = Path::new(millis(100), 1_000 * MBPS);
    path.run(millis(3_000), MBPS / 20);
    path.round_trip += millis(40);
    path.run(millis(500), MBPS / 20);
    path.round_trip -= millis(40);
    path.run(millis(3_000), MBPS / 20);
    assert_eq!(path.rule.window(), Limits::default().initial);
}

#[test]
fn a_receiver_that_stops_for_a_moment_is_no_path_that_changed() {
    let mut path = Path::new(millis(1), 1_000 * MBPS);
    path.run(millis(1_000), 100 * MBPS);
    let before = path.delivered;
    for _ in 0..10 {
        path.round_trip = millis(60);
        path.run(millis(2), 100 * MBPS);
        path.round_trip = millis(1);
        path.run(millis(998), 100 * MBPS);
        assert!(path.rule.window() < 2 << 20, "{}", path.rule.window());
        assert!(path.rule.queue() < millis(5), "{:?}", path.rule.queue());
    }
    let rate = 8.0 * (path.delivered - before) as f64 / 10.0 / 1e6;
    assert!(rate > 95.0, "{rate}");
}
