//! Which packets of a source are missing, and when to ask for them (again).

use std::time::{Duration, Instant};

use doubts::Doubts;

mod doubts;

/// Reordering shorter than this is not taken for loss. Networks that reorder do so within a few
/// milliseconds; waiting longer delays every repair.
const REORDERING: Duration = Duration::from_millis(10);
/// A repair later than this is of no use to anybody who watches live.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1000);
/// Asked this often, each time a round trip later.
const MAX_REQUESTS: u8 = 8;
/// More missing than this is an outage, which a key frame ends and retransmissions only prolong.
pub(crate) const MAX_MISSING: usize = 256;

/// Until a publisher has answered once. Longer than most paths, since a request too many is answered
/// with a packet too many by somebody whose uplink is full.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Losses of one encoding.
#[derive(Debug, Default)]
pub struct LossTracker {
    highest: Option<u64>,
    /// Ascending, and as long as [`MAX_MISSING`] at most. Keeps its memory: where packets get lost, they do
    /// so all the time.
    missing: Vec<Missing>,
    /// Between a request and the packet it asked for, smoothed.
    ///
    /// Measured where it is needed: a publisher is sent no media in a connection of its own, so reports
    /// about what we send, the usual source, do not exist there.
    round_trip: Option<Duration>,
    doubts: Doubts,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    since: Instant,
    first_request: Option<Instant>,
    requests: u8,
    next: Instant,
}

/// What a packet meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Next,
    /// Packets before it are missing.
    Gap,
    /// One that was missing, or a duplicate.
    Late,
    /// So many are missing that nothing is asked for.
    Outage,
}

impl LossTracker {
    /// A packet that came as a retransmission: on its way here it says how long that takes. To be
    /// called before [`Self::handle_packet`].
    ///
    /// Counted from the first request, since nobody knows which one was answered. So it is never too
    /// short, and nobody is asked twice for what is under way; a request that got lost makes it longer
    /// until the next answer.
    pub fn handle_repair(&mut self, sequence: u64, now: Instant) {
        if let Some((asked, _)) = self.request(sequence) {
            self.learn_round_trip(now.saturating_duration_since(asked));
        }
    }

    /// A packet of a source that sends again in place. Answers whether it came because it was asked for, as
    /// far as anybody can tell by now; [`Self::handle_copy`] may tell better. To be called before
    /// [`Self::handle_packet`].
    #[inline]
    pub fn handle_in_place(&mut self, sequence: u64, now: Instant) -> bool {
        if self.missing.is_empty() {
            return false;
        }
        let Some((asked, requests)) = self.request(sequence) else {
            return false;
        };
        // The copy of one that was asked for twice may be the second answer. Nothing is that late on its own.
        let sample = match requests {
            1 => self.doubts.add(sequence, asked, now),
            _ => Some(now.saturating_duration_since(asked)),
        };
        if let Some(sample) = sample {
            self.learn_round_trip(sample);
        }
        true
    }

    /// A second copy of a packet. Answers whether the first, taken for [sent again](Self::handle_in_place), was
    /// only late.
    pub fn handle_copy(&mut self, sequence: u64, now: Instant) -> bool {
        let Some(sample) = self.doubts.handle_copy(sequence, now) else {
            return false;
        };
        self.learn_round_trip(sample);
        true
    }

    /// When a packet that is missing was asked for first, and how often it was.
    fn request(&self, sequence: u64) -> Option<(Instant, u8)> {
        let missing = self.missing.get(self.place(sequence).ok()?)?;
        Some((missing.first_request?, missing.requests))
    }

    fn learn_round_trip(&mut self, sample: Duration) {
        let smoothed = self.round_trip.map(|known| (known * 7 + sample) / 8);
        self.round_trip = Some(smoothed.unwrap_or(sample));
    }

    /// How long the publisher takes to answer a request.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ASSUMED_ROUND_TRIP)
    }

    /// The source's numbers begin anew. Its path stays the same.
    pub fn restart(&mut self) {
        self.highest = None;
        self.missing.clear();
        self.doubts.clear();
    }

    /// Where a number is among those that are missing, or would be.
    fn place(&self, sequence: u64) -> Result<usize, usize> {
        self.missing
            .binary_search_by_key(&sequence, |missing| missing.sequence)
    }

    pub fn handle_packet(&mut self, sequence: u64, now: Instant) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return Arrival::Next;
        };
        if sequence <= highest {
            if let Ok(place) = self.place(sequence) {
                self.missing.remove(place);
            }
            return Arrival::Late;
        }
        self.highest = Some(sequence);
        let gap = (sequence - highest - 1) as usize;
        if gap == 0 {
            return Arrival::Next;
        }
        if gap + self.missing.len() > MAX_MISSING {
            self.missing.clear();
            return Arrival::Outage;
        }
        let missing = |sequence| Missing {
            sequence,
            since: now,
            first_request: None,
            requests: 0,
            next: now + REORDERING,
        };
        self.missing.extend((highest + 1..sequence).map(missing));
        Arrival::Gap
    }

    /// Nothing older is wanted any more, e.g. because a key frame began.
    pub fn forget_before(&mut self, sequence: u64) {
        let (Ok(place) | Err(place)) = self.place(sequence);
        self.missing.drain(..place);
    }

    /// Adds the numbers to ask for now, ascending, and gives up on those that are too old.
    pub fn due(&mut self, now: Instant, lost: &mut Vec<u16>) {
        self.settle(now);
        let pause = (self.round_trip().mul_f32(1.1) + Duration::from_millis(5))
            .max(Duration::from_millis(25));
        self.missing.retain_mut(|missing| {
            if now.saturating_duration_since(missing.since) >= GIVE_UP_AFTER {
                return false;
            }
            if missing.next <= now {
                missing.requests += 1;
                missing.first_request.get_or_insert(now);
                missing.next = now + pause;
                lost.push(missing.sequence as u16);
            }
            missing.requests < MAX_REQUESTS
        });
    }

    /// Of what was only late a copy would have come by now, even if the path became longer.
    fn settle(&mut self, now: Instant) {
        let patience = self.round_trip().max(ASSUMED_ROUND_TRIP) * 2;
        let Some(before) = now.checked_sub(patience) else {
            return;
        };
        while let Some(sample) = self.doubts.settle(before) {
            self.learn_round_trip(sample);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.next).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    fn due(tracker: &mut LossTracker, now: Instant) -> Vec<u16> {
        let mut lost = Vec::new();
        tracker.due(now, &mut lost);
        lost
    }

    #[test]
    fn a_loss_is_asked_for_until_it_comes_or_is_too_old() {
        let start = start();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut tracker = LossTracker {
            round_trip: Some(Duration::from_millis(40)),
            ..LossTracker::default()
        };
        assert_eq!(tracker.handle_packet(65_535, at(0)), Arrival::Next);
        assert_eq!(tracker.handle_packet(65_538, at(0)), Arrival::Gap);
        assert_eq!(due(&mut tracker, at(9)), []);
        assert_eq!(due(&mut tracker, at(10)), [0, 1]);
        assert_eq!(due(&mut tracker, at(50)), []);
        assert_eq!(tracker.handle_packet(65_536, at(50)), Arrival::Late);
        assert_eq!(due(&mut tracker, at(60)), [1]);
        let mut requests = 2;
        for millis in 60..2000 {
            requests += due(&mut tracker, at(millis)).len();
        }
        assert_eq!(requests, usize::from(MAX_REQUESTS));
        assert_eq!(tracker.next_deadline(), None);
    }

    /// Loses a packet of every ten on a path with this round trip; answers how often each was asked
    /// for, and the round trip that was learned.
    fn ask(round_trip: u64, answers_lost: impl Fn(u64, u8) -> bool) -> (Vec<u8>, Duration) {
        let start = start();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut tracker = LossTracker::default();
        let mut arriving: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut asked = BTreeMap::new();
        for millis in 0..20_000u64 {
            let now = at(millis);
            for sequence in arriving.remove(&millis).unwrap_or_default() {
                tracker.handle_repair(sequence, now);
                tracker.handle_packet(sequence, now);
            }
            // One packet each millisecond until the last second.
            if millis % 10 != 3 && millis < 19_000 {
                tracker.handle_packet(millis, now);
            }
            for sequence in due(&mut tracker, now) {
                let sequence = u64::from(sequence);
                let times: &mut u8 = asked.entry(sequence).or_default();
                *times += 1;
                if !answers_lost(sequence, *times) {
                    arriving
                        .entry(millis + round_trip)
                        .or_default()
                        .push(sequence);
                }
            }
        }
        (asked.into_values().collect(), tracker.round_trip())
    }

    #[test]
    fn a_publisher_is_asked_once_for_what_is_under_way() {
        for round_trip in [5, 20, 80, 150, 300] {
            let (asked, learned) = ask(round_trip, |_, _| false);
            assert_eq!(asked.len(), 1_900, "{round_trip} ms");
            // Before the first answer nobody knows how long it takes.
            let settled = asked.iter().skip(100);
            let more = settled.filter(|times| **times > 1).count();
            assert_eq!(more, 0, "{round_trip} ms");
            let learned = learned.as_millis() as u64;
            assert!(learned.abs_diff(round_trip) <= 1, "{round_trip}: {learned}");
        }
    }

    #[test]
    fn lost_requests_make_it_patient_and_not_impatient() {
        // Every third request is in vain, the first one or a later one.
        let (asked, learned) = ask(40, |sequence, times| {
            (sequence / 10 + u64::from(times)) % 3 == 0
        });
        let learned = learned.as_millis() as u64;
        assert!((40..120).contains(&learned), "{learned}");
        let total: u32 = asked.iter().map(|times| u32::from(*times)).sum();
        assert!(total < 1_900 * 16 / 10, "{total} requests for 1900 packets");
    }

    /// What becomes of a packet on its way.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Arrives,
        /// Overtaken for so many milliseconds.
        Late(u64),
        Lost,
        /// And so is the first request for it.
        LostTwice,
    }

    /// A microphone that sends again in place, on a path whose round trip may change: answers the packets that
    /// were taken for lost, and the round trip that was learned.
    fn listen(fate: impl Fn(u64) -> Fate, round_trip: impl Fn(u64) -> u64) -> (Vec<u64>, u64) {
        const PACKETS: u64 = 1_000;
        let start = start();
        let mut tracker = LossTracker::default();
        let mut arriving: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for sequence in 0..PACKETS {
            let sent = sequence * 20;
            let came = match fate(sequence) {
                Fate::Arrives => sent,
                Fate::Late(by) => sent + 20 + by,
                Fate::Lost | Fate::LostTwice => continue,
            };
            arriving.entry(came).or_default().push(sequence);
        }
        let mut asked: BTreeMap<u64, u8> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut lost = std::collections::BTreeSet::new();
        for millis in 0..PACKETS * 20 + 2_000 {
            let now = start + Duration::from_millis(millis);
            for sequence in arriving.remove(&millis).unwrap_or_default() {
                if !seen.insert(sequence) {
                    if tracker.handle_copy(sequence, now) {
                        assert!(lost.remove(&sequence));
                    }
                    continue;
                }
                if tracker.handle_in_place(sequence, now) {
                    lost.insert(sequence);
                }
                tracker.handle_packet(sequence, now);
            }
            for sequence in due(&mut tracker, now) {
                let sequence = u64::from(sequence);
                let times = asked.entry(sequence).or_default();
                *times += 1;
                if fate(sequence) != Fate::LostTwice || *times > 1 {
                    let answer = millis + round_trip(millis);
                    arriving.entry(answer).or_default().push(sequence);
                }
            }
        }
        let learned = tracker.round_trip().as_millis() as u64;
        (lost.into_iter().collect(), learned)
    }

    /// Every tenth packet has this fate, from `first` on.
    fn every_tenth(sequence: u64, first: u64, fate: Fate) -> Fate {
        match sequence >= first && sequence % 10 == 5 {
            true => fate,
            false => Fate::Arrives,
        }
    }

    fn tenths(range: std::ops::Range<u64>) -> Vec<u64> {
        range.filter(|sequence| sequence % 10 == 5).collect()
    }

    #[test]
    fn what_was_sent_again_in_place_was_lost_however_short_the_path_became() {
        // The first request is lost; later the path becomes a sixth as long.
        let fate = |sequence| match sequence {
            5 => Fate::LostTwice,
            _ => every_tenth(sequence, 0, Fate::Lost),
        };
        for (long, short) in [(300, 50), (60, 60), (40, 10)] {
            let round_trip = |millis| if millis < 5_000 { long } else { short };
            let (lost, learned) = listen(fate, round_trip);
            assert_eq!(lost, tenths(0..1_000), "{long}, {short}");
            assert!(learned.abs_diff(short) <= 1, "{short}: {learned}");
        }
    }

    #[test]
    fn what_came_late_before_it_could_be_sent_again_was_not_lost() {
        for late in [12, 20, 35] {
            // Late ones alone, late ones first, losses first.
            let (lost, learned) = listen(|n| every_tenth(n, 0, Fate::Late(late)), |_| 60);
            assert_eq!(lost, []);
            assert_eq!(learned, 60);
            for (first, then) in [
                (Fate::Late(late), Fate::Lost),
                (Fate::Lost, Fate::Late(late)),
            ] {
                let fate = |sequence| match sequence < 500 {
                    true => every_tenth(sequence, 0, first),
                    false => every_tenth(sequence, 0, then),
                };
                let (lost, learned) = listen(fate, |_| 60);
                let range = if first == Fate::Lost {
                    0..500
                } else {
                    500..1_000
                };
                assert_eq!(lost, tenths(range), "{late} ms late");
                assert!(learned.abs_diff(60) <= 1, "{learned}");
            }
        }
    }

    #[test]
    fn no_more_than_so_many_are_in_doubt() {
        let start = start();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut tracker = LossTracker::default();
        tracker.handle_packet(0, at(0));
        tracker.handle_packet(101, at(0));
        assert_eq!(due(&mut tracker, at(10)).len(), 100);
        for sequence in 1..=100 {
            assert!(tracker.handle_in_place(sequence, at(50)));
            tracker.handle_packet(sequence, at(50));
        }
        // The oldest are judged by then, and taught how long an answer takes.
        assert_eq!(tracker.round_trip(), Duration::from_millis(40));
        assert!(!tracker.handle_copy(68, at(70)));
        assert!(tracker.handle_copy(69, at(70)));
        assert!(!tracker.handle_copy(69, at(70)));
    }

    #[test]
    fn reordering_is_not_loss() {
        let start = start();
        let mut tracker = LossTracker::default();
        for sequence in [1, 3, 2, 5, 4, 6] {
            tracker.handle_packet(sequence, start);
        }
        assert_eq!(due(&mut tracker, start + Duration::from_secs(1)), []);
        assert_eq!(tracker.next_deadline(), None);
    }

    #[test]
    fn an_outage_and_a_key_frame_end_the_asking() {
        let start = start();
        let mut tracker = LossTracker::default();
        tracker.handle_packet(1, start);
        assert_eq!(tracker.handle_packet(1000, start), Arrival::Outage);
        assert_eq!(tracker.next_deadline(), None);
        assert_eq!(tracker.handle_packet(1003, start), Arrival::Gap);
        tracker.forget_before(1002);
        assert_eq!(due(&mut tracker, start + Duration::from_millis(20)), [1002]);
        tracker.forget_before(1004);
        tracker.forget_before(1);
        assert_eq!(tracker.next_deadline(), None);
        // So much is missing at a time, and no more.
        assert_eq!(tracker.handle_packet(1100, start), Arrival::Gap);
        assert_eq!(tracker.handle_packet(1260, start), Arrival::Gap);
        assert_eq!(tracker.missing.len(), MAX_MISSING - 1);
        assert_eq!(tracker.handle_packet(1263, start), Arrival::Outage);
        assert!(tracker.missing.is_empty());
    }
}
