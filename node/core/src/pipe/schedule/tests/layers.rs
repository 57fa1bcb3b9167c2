//! Layers that are suspended and resumed.

use super::*;

const FRAME: Duration = Duration::from_millis(20);

/// Publishers of steady rates over a line that carries so much, all of it at once each frame.
struct Line {
    bench: Bench,
    /// Alias, and bytes per frame.
    sources: Vec<(u32, usize)>,
    /// Bits per second.
    carries: u64,
    /// As the congestion controller would say.
    told: u64,
    /// On the path, beyond the schedule.
    queue: Duration,
    key_frame: Vec<u32>,
    suspended: Vec<u32>,
    history: Vec<(Duration, Event)>,
    began: Instant,
    sent: Vec<u32>,
    /// Bytes that the line has room for.
    space: usize,
    padding: usize,
}

impl Line {
    /// Rates in kbit/s; the line is told to carry what it does.
    fn new(sources: &[(u32, u64)], carries: u64) -> Self {
        let bench = Bench::new();
        Self {
            began: bench.now,
            bench,
            sources: sources
                .iter()
                .map(|&(alias, kbps)| (alias, (kbps * 1_000 / 8 / 50) as usize))
                .collect(),
            carries: carries * 1_000,
            told: carries * 1_000,
            queue: Duration::ZERO,
            key_frame: Vec::new(),
            suspended: Vec::new(),
            history: Vec::new(),
            sent: Vec::new(),
            space: 0,
            padding: 0,
        }
    }

    fn carries(&mut self, kbps: u64) {
        self.carries = kbps * 1_000;
        self.told = kbps * 1_000;
    }

    fn run(&mut self, time: Duration) {
        let end = self.bench.now + time;
        self.history.clear();
        self.sent.clear();
        self.padding = 0;
        while self.bench.now < end {
            let now = self.bench.now;
            let rate = Bitrate::from_bps(self.told);
            self.bench.schedule.set_path(rate, self.queue);
            for &(alias, bytes) in &self.sources {
                let key_frame = self.key_frame.contains(&alias);
                let mut left = bytes;
                while left > 0 {
                    let len = left.min(LEN);
                    left -= len;
                    let packet = Packet {
                        alias,
                        len,
                        key_frame,
                        frame_end: left == 0,
                        resend: false,
                    };
                    self.bench.schedule.push(packet, (alias, len as u32), now);
                }
            }
            self.key_frame.clear();
            let more = (self.carries / 8 / 50) as usize;
            self.space = (self.space + more).min(more.max(2 * LEN));
            while let Some((alias, len)) = self.bench.schedule.pop(now, self.space) {
                self.sent.push(alias);
                self.space -= len as usize;
            }
            while let Some(len) = self.bench.schedule.poll_padding(now, self.space) {
                self.padding += len;
                self.space -= len;
            }
            self.bench.wait(FRAME);
            if (self.bench.schedule.poll_timeout()).is_some_and(|at| at <= self.bench.now) {
                self.bench.schedule.handle_timeout(self.bench.now);
            }
            for event in self.bench.events() {
                match event {
                    Event::Suspended(alias) => self.suspended.push(alias),
                    Event::Resumed(alias) => self.suspended.retain(|&other| other != alias),
                    Event::KeyFrameNeeded(alias) => self.key_frame.push(alias),
                }
                self.history.push((self.bench.now - self.began, event));
            }
        }
    }

    fn resumptions(&self) -> usize {
        let resumed = |(_, event): &&(Duration, Event)| matches!(event, Event::Resumed(_));
        self.history.iter().filter(resumed).count()
    }
}

const ALL: [(u32, u64); 4] = [(AUDIO, 50), (BASE, 200), (MID, 700), (HIGH, 2_500)];

#[test]
fn what_fits_is_left_alone() {
    let mut line = Line::new(&ALL, 5_000);
    line.run(millis(20_000));
    assert_eq!(line.history, []);
    assert_eq!(line.padding, 0);
}

#[test]
fn the_top_goes_first_and_only_what_has_to() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(3_000));
    assert_eq!(line.suspended, [HIGH]);
    let (at, _) = line.history[0];
    assert!(at < millis(1_500), "{at:?}");
    let mut line = Line::new(&ALL, 700);
    line.run(millis(3_000));
    assert_eq!(line.suspended, [HIGH, MID]);
}

#[test]
fn a_moment_of_more_is_let_pass() {
    let mut line = Line::new(&ALL, 5_000);
    line.run(millis(3_000));
    line.told = 2_000_000;
    line.run(millis(200));
    line.told = 5_000_000;
    line.run(millis(3_000));
    assert_eq!(line.suspended, []);
}

#[test]
fn audio_and_base_layers_are_never_suspended() {
    let mut line = Line::new(&ALL, 150);
    line.run(millis(10_000));
    assert_eq!(line.suspended, [HIGH, MID]);
    // Audio is not even dropped.
    assert_eq!(line.bench.dropped(Class::Audio, Reason::Expired), 0);
    assert!(line.bench.dropped(Class::Base, Reason::Expired) > 0);
    assert!(line.sent.contains(&BASE));
}

#[test]
fn the_lesser_track_goes_first() {
    let mut line = Line::new(&ALL, 2_500);
    let now = line.bench.now;
    let schedule = &mut line.bench.schedule;
    for alias in [BASE, MID, HIGH] {
        schedule.set_demand(alias, 5, true);
    }
    schedule.open(20, layer(1), 0, now).unwrap();
    line.sources.push((20, 2_000));
    line.run(millis(3_000));
    assert_eq!(line.suspended, [20, HIGH]);
}

/// A second track beside the first, with a highest layer of its own.
fn two_tracks(carries: u64, rate: u64) -> Line {
    let mut line = Line::new(&[(BASE, 200), (HIGH, 2_500)], carries);
    let now = line.bench.now;
    line.bench
        .schedule
        .open(OTHER_HIGH, layer(2), 0, now)
        .unwrap();
    line.sources
        .push((OTHER_HIGH, (rate * 1_000 / 8 / 50) as usize));
    line
}

const OTHER_HIGH: u32 = 20;

fn speak(line: &mut Line, speaker: u32) {
    for alias in [HIGH, OTHER_HIGH] {
        let priority = u8::from(alias == speaker);
        line.bench.schedule.set_demand(alias, priority, true);
    }
}

#[test]
fn who_speaks_later_takes_the_place_of_who_spoke_before() {
    let mut line = two_tracks(4_000, 2_500);
    speak(&mut line, HIGH);
    line.run(millis(5_000));
    assert_eq!(line.suspended, [OTHER_HIGH]);
    speak(&mut line, OTHER_HIGH);
    line.run(millis(1_000));
    let events: Vec<Event> = line.history.iter().map(|&(_, event)| event).collect();
    let expected = [
        Event::Suspended(HIGH),
        Event::Resumed(OTHER_HIGH),
        Event::KeyFrameNeeded(OTHER_HIGH),
    ];
    assert!(expected.iter().all(|it| events.contains(it)), "{events:?}");
    assert_eq!((line.suspended.as_slice(), events.len()), (&[HIGH][..], 3));
    assert!(line.sent.contains(&OTHER_HIGH));
    line.run(millis(20_000));
    assert_eq!(line.history, []);
    assert_eq!(line.bench.dropped(Class::Base, Reason::Expired), 0);
}

#[test]
fn what_nobody_wants_takes_no_place_and_is_not_tried_out() {
    let mut line = two_tracks(4_000, 2_500);
    speak(&mut line, HIGH);
    line.run(millis(5_000));
    assert_eq!(line.suspended, [OTHER_HIGH]);
    // Whoever saw it looks at something smaller, and then its publisher speaks.
    line.sources.retain(|&(alias, _)| alias != OTHER_HIGH);
    line.bench.schedule.set_demand(HIGH, 0, true);
    line.bench.schedule.set_demand(OTHER_HIGH, 1, false);
    line.run(millis(10_000));
    assert_eq!((line.history.as_slice(), line.padding), (&[][..], 0));
    line.bench.schedule.set_demand(OTHER_HIGH, 1, true);
    line.run(millis(1_000));
    assert_eq!(line.suspended, [HIGH]);
}

#[test]
fn places_are_not_changed_with_every_word() {
    let mut line = two_tracks(4_000, 2_500);
    speak(&mut line, HIGH);
    line.run(millis(5_000));
    let mut changes = 0;
    for turn in 0..100 {
        speak(&mut line, if turn % 2 == 0 { OTHER_HIGH } else { HIGH });
        line.run(millis(100));
        let resumed = |(_, event): &&(Duration, Event)| matches!(event, Event::Resumed(_));
        changes += line.history.iter().filter(resumed).count();
    }
    assert!((3..=5).contains(&changes), "{changes} in ten seconds");
}

#[test]
fn a_layer_that_needs_more_than_there_would_be_takes_no_place() {
    let mut line = two_tracks(2_000, 500);
    speak(&mut line, OTHER_HIGH);
    line.run(millis(5_000));
    assert_eq!(line.suspended, [HIGH]);
    speak(&mut line, HIGH);
    line.run(millis(10_000));
    assert_eq!(line.history, []);
}

#[test]
fn a_queue_is_enough_though_the_rate_is_not_known() {
    let mut line = Line::new(&ALL, 2_500);
    line.told = 50_000_000;
    line.run(millis(3_000));
    assert_eq!(line.suspended, [HIGH]);
    assert_eq!(line.bench.dropped(Class::Mid, Reason::Expired), 0);
}

#[test]
fn a_layer_comes_back_when_there_has_been_room_for_it_and_with_a_key_frame() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(2_000));
    assert_eq!(line.suspended, [HIGH]);
    line.carries(20_000);
    line.run(millis(1_000));
    assert_eq!(line.history, []);
    line.run(millis(10_000));
    let events: Vec<Event> = line.history.iter().map(|&(_, event)| event).collect();
    assert_eq!(events, [Event::Resumed(HIGH), Event::KeyFrameNeeded(HIGH)]);
    // The path was tried out with at least what the layer needs.
    let tried = line.padding as u64 * 8 / FITS_FOR.as_secs();
    assert!((2_400_000..3_200_000).contains(&tried), "{tried}");
    assert!(line.sent.contains(&HIGH));
    line.run(millis(2_000));
    assert_eq!(line.padding, 0);
}

const FITS_FOR: Duration = Duration::from_secs(3);

#[test]
fn what_is_missed_most_comes_back_first() {
    let mut line = Line::new(&ALL, 700);
    line.run(millis(3_000));
    line.carries(20_000);
    line.run(millis(30_000));
    let resumed: Vec<Event> = (line.history.iter())
        .map(|&(_, event)| event)
        .filter(|event| matches!(event, Event::Resumed(_)))
        .collect();
    assert_eq!(resumed, [Event::Resumed(MID), Event::Resumed(HIGH)]);
}

#[test]
fn without_headroom_it_does_not_come_back() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(2_000));
    // Enough for all, but not enough more than that.
    line.carries(4_200);
    line.run(millis(30_000));
    assert_eq!(line.resumptions(), 0);
}

#[test]
fn what_came_back_in_vain_stays_away_for_longer_each_time() {
    let mut line = Line::new(&ALL, 2_500);
    // The path promises what it does not hold.
    line.told = 20_000_000;
    line.run(millis(120_000));
    let suspended: Vec<Duration> = (line.history.iter())
        .filter(|(_, event)| *event == Event::Suspended(HIGH))
        .map(|&(at, _)| at)
        .collect();
    let pauses: Vec<Duration> = suspended.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 3, "{pauses:?}");
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[2] > pauses[0] * 2, "{pauses:?}");
}

#[test]
fn a_path_that_does_not_carry_the_padding_is_left_alone() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(2_000));
    line.run(millis(60_000));
    assert_eq!(line.resumptions(), 0);
    let whole = 3_450_000 / 8 * 60;
    assert!(line.padding < whole / 20, "{}", line.padding);
}

#[test]
fn a_path_that_others_fill_is_left_alone() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(2_000));
    line.carries(20_000);
    line.queue = millis(20);
    line.run(millis(20_000));
    assert_eq!((line.resumptions(), line.padding), (0, 0));
    line.queue = Duration::ZERO;
    line.run(millis(10_000));
    assert_eq!(line.resumptions(), 1);
}

#[test]
fn a_layer_that_closes_is_waited_for_no_longer() {
    let mut line = Line::new(&ALL, 2_500);
    line.run(millis(3_000));
    assert_eq!(line.suspended, [HIGH]);
    line.bench.schedule.close(HIGH);
    line.sources.clear();
    line.run(millis(500));
    assert_eq!(line.bench.schedule.poll_timeout(), None);
}
