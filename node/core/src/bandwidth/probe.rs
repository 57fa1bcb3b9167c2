//! When to send more than there is to send, for a moment, to see whether it fits; and what a probe
//! showed.
//!
//! Nobody is probed for nothing: there has to be a layer that would be shown. A probe that fails is
//! followed by a longer pause and asks for less; one that succeeds is followed by the next at once, so that
//! after the end of a limit a few seconds lead back to full quality.

use std::time::Duration;

use super::history::Acknowledged;
use crate::units::{Bitrate, DataSize};

/// Two frames at least, so that their bursts even out; a tenth of a second of half as much again is a
/// queue of 50 ms on a path that has nothing to spare.
const LENGTH: Duration = Duration::from_millis(90);
/// … longer for so much to be measured, since what others send between makes a few packets come early or
/// late.
const MIN_SIZE: DataSize = DataSize::from_bytes(12_000);
const LONGEST: Duration = Duration::from_millis(200);
/// Without feedback for each packet only reports tell, and those come once a second.
const LENGTH_BY_REPORTS: Duration = Duration::from_millis(1_500);
/// Steps in which padding is asked for.
const STEP: u64 = 5_000;
/// Less than a packet is not worth asking for.
const LEAST_PADDING: DataSize = DataSize::from_bytes(200);
/// Of the estimate: behind the first as long as no limit was met, and from a low estimate; at first and
/// after a success; after a failure.
const BOLDEST: f64 = 3.0;
const BOLD: f64 = 2.0;
const LOW: Bitrate = Bitrate::from_kbps(300);
const CAREFUL: f64 = 1.5;
/// Less than this above the estimate is no news.
const LEAST: f64 = 1.15;
/// Pause after a failure, doubled by each that follows, in microseconds. A longer longest costs less and
/// finds the end of a limit later.
const PAUSE: u64 = 1_000_000;
const LONGEST_PAUSE: u64 = 4_000_000;
/// A result above the estimate by this factor is a success.
const GAIN: f64 = 1.05;
/// The path is full if this share of what was sent arrives in the same time.
const UNSATURATED: f64 = 0.9;
/// … and if its second half took longer than the first by this share of what follows from that.
const LATER: f64 = 0.5;
/// What of a full path's rate is used.
const UTILISATION: f64 = 0.95;
/// Share of the packets that has to arrive to measure anything, and the least number.
const MIN_SHARE: f64 = 0.5;
const MIN_PACKETS: u32 = 5;
/// After its end a probe may still be seen in the delays for this long, in microseconds.
const AFTERMATH: u64 = 250_000;

#[derive(Debug)]
pub(super) struct ProbeControl {
    running: Option<Probe>,
    /// When the next may begin.
    not_before: u64,
    /// Numbers probes from 1 on.
    last: u8,
    /// Since the last success.
    failures: u32,
    /// A limit has been met.
    limited: bool,
    /// What would be of use: the rate of the next step, and of all.
    next: Bitrate,
    wanted: Bitrate,
    /// When the last probe began and when its aftermath ends.
    disturbed: (u64, u64),
}

#[derive(Debug)]
struct Probe {
    id: u8,
    rate: Bitrate,
    phase: Phase,
    began: u64,
    middle: i64,
    /// End of the phase.
    until: u64,
    /// Up to when padding was asked for.
    asked: u64,
    sent: DataSize,
    sent_packets: u32,
    /// The number behind its last packet.
    end: u64,
    arrivals: Arrivals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sending,
    /// For feedback.
    Waiting,
}

#[derive(Debug, Default)]
struct Arrivals {
    packets: u32,
    bytes: u64,
    /// Sent first and last: time and size.
    first_sent: (i64, u16),
    last_sent: (i64, u16),
    /// Arrived first and last.
    first: (i64, u16),
    last: (i64, u16),
    /// The least time that packets of the first half took, and of the second.
    halves: [Option<i64>; 2],
}

/// The path as a probe finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) estimate: Bitrate,
    /// No queue builds and feedback comes.
    pub(super) calm: bool,
    /// Feedback speaks of each packet.
    pub(super) detailed: bool,
    /// How long feedback takes at most, in microseconds.
    pub(super) patience: u64,
}

/// What a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) rate: Bitrate,
    /// The path was full: there is no more.
    pub(super) saturated: bool,
}

impl ProbeControl {
    pub(super) fn new() -> Self {
        Self {
            running: None,
            not_before: 0,
            last: 0,
            failures: 0,
            limited: false,
            next: Bitrate::ZERO,
            wanted: Bitrate::ZERO,
            disturbed: (0, 0),
        }
    }

    pub(super) fn set_wish(&mut self, next: Bitrate, wanted: Bitrate) {
        (self.next, self.wanted) = (next, wanted);
    }

    /// When to call [`Self::advance`].
    pub(super) fn deadline(&self, estimate: Bitrate) -> Option<u64> {
        match &self.running {
            None => (self.next > estimate).then_some(self.not_before),
            Some(probe) if probe.phase == Phase::Sending => {
                Some((probe.asked + STEP).min(probe.until))
            }
            Some(probe) => Some(probe.until),
        }
    }

    /// Begins a probe if one is due, ends what is over, and answers the id of the one that is being sent,
    /// 0 for none.
    pub(super) fn advance(&mut self, path: Path, now: u64) -> u8 {
        match &mut self.running {
            None if self.next <= path.estimate || now < self.not_before => 0,
            None if !path.calm => {
                self.not_before = now + PAUSE / 2;
                0
            }
            None => self.begin(path, now),
            Some(probe) if now < probe.until => match probe.phase {
                Phase::Sending => probe.id,
                Phase::Waiting => 0,
            },
            Some(probe) if probe.phase == Phase::Sending => {
                probe.phase = Phase::Waiting;
                probe.until = now + path.patience;
                self.disturbed.1 = now + AFTERMATH;
                0
            }
            Some(_) => {
                self.forget(now);
                0
            }
        }
    }

    fn begin(&mut self, path: Path, now: u64) -> u8 {
        let (useful, factor) = match self.failures {
            0 if path.estimate < LOW || !self.limited && self.last > 0 => {
                (self.wanted.max(self.next), BOLDEST)
            }
            0 => (self.wanted.max(self.next), BOLD),
            _ => (self.next, CAREFUL),
        };
        let rate = useful
            .scale(GAIN)
            .min(path.estimate.scale(factor))
            .max(path.estimate.scale(LEAST));
        let length = if path.detailed {
            LENGTH.max(MIN_SIZE.at(rate)).min(LONGEST)
        } else {
            LENGTH_BY_REPORTS
        };
        let until = now + length.as_micros() as u64;
        self.last = self.last.wrapping_add(1).max(1);
        self.disturbed = (now, until + AFTERMATH);
        self.running = Some(Probe {
            id: self.last,
            rate,
            phase: Phase::Sending,
            began: now,
            middle: (now + length.as_micros() as u64 / 2) as i64,
            until,
            asked: now,
            sent: DataSize::ZERO,
            sent_packets: 0,
            end: 0,
            arrivals: Arrivals::default(),
        });
        self.last
    }

    fn sending(&mut self) -> Option<&mut Probe> {
        self.running
            .as_mut()
            .filter(|probe| probe.phase == Phase::Sending)
    }

    /// A packet leaves during a probe, whatever it is.
    pub(super) fn packet_sent(&mut self, number: u64, size: u16) {
        if let Some(probe) = self.sending() {
            probe.sent += DataSize::from_bytes(size.into());
            probe.sent_packets += 1;
            probe.end = number + 1;
        }
    }

    /// … without a number: it fills the path, but nobody will say when it arrived.
    pub(super) fn unnumbered_sent(&mut self, size: u16) {
        if let Some(probe) = self.sending() {
            probe.sent += DataSize::from_bytes(size.into());
        }
    }

    /// Padding to send now.
    pub(super) fn padding(&mut self, now: u64) -> Option<DataSize> {
        let probe = self.sending()?;
        probe.asked = now.min(probe.until);
        let due = Duration::from_micros(probe.asked.saturating_sub(probe.began) + STEP);
        let due = probe.rate.during(due).saturating_sub(probe.sent);
        (due >= LEAST_PADDING).then_some(due)
    }

    pub(super) fn receive(&mut self, packet: Acknowledged, arrival: i64) {
        if let Some(probe) = self.running.as_mut().filter(|p| p.id == packet.probe) {
            let half = usize::from(packet.sent >= probe.middle);
            probe.arrivals.add(packet, arrival, half);
        }
    }

    fn waiting(&self) -> Option<&Probe> {
        self.running
            .as_ref()
            .filter(|probe| probe.phase == Phase::Waiting)
    }

    /// Feedback has spoken of all packets before `reached`. Answers what the probe showed, if it is over.
    pub(super) fn evaluate(
        &mut self,
        reached: u64,
        estimate: Bitrate,
        now: u64,
    ) -> Option<Outcome> {
        let probe = self.waiting().filter(|probe| reached >= probe.end)?;
        let outcome = probe.outcome();
        let is_outgrown = probe.rate < estimate.scale(GAIN);
        match outcome {
            // The estimate has become as much meanwhile, by itself.
            Some(outcome) if is_outgrown && !outcome.saturated => self.succeed(now),
            Some(outcome) if outcome.rate >= estimate.scale(GAIN) => {
                self.succeed(now);
                // There is more than was known, and no more than that.
                if outcome.saturated {
                    self.failures = 1;
                    self.limited = true;
                    self.not_before = now + PAUSE;
                }
            }
            Some(_) => self.fail(now),
            None => self.forget(now),
        }
        outcome
    }

    /// Reports say whether what was sent during the probe arrived. Answers the rate that fits.
    pub(super) fn evaluate_by_reports(&mut self, arrived: bool, now: u64) -> Option<Bitrate> {
        let rate = self.waiting()?.rate;
        if arrived {
            self.succeed(now);
            return Some(rate);
        }
        self.fail(now);
        None
    }

    fn succeed(&mut self, now: u64) {
        self.running = None;
        self.failures = 0;
        self.not_before = now;
    }

    fn fail(&mut self, now: u64) {
        let pause = PAUSE << self.failures.min(4);
        self.running = None;
        self.limited = true;
        self.failures += 1;
        self.not_before = now + pause.min(LONGEST_PAUSE);
    }

    /// Nothing was learned.
    fn forget(&mut self, now: u64) {
        self.running = None;
        self.not_before = now + PAUSE / 2;
    }

    /// There is congestion: what goes on ends, the next waits, and is careful.
    pub(super) fn cancel(&mut self, now: u64) {
        if self.running.is_some() {
            self.fail(now);
        }
        self.limited = true;
        self.failures = self.failures.max(1);
        self.not_before = self.not_before.max(now + PAUSE);
    }

    /// A packet sent at this time may have waited behind a probe.
    pub(super) fn disturbs(&self, sent: i64) -> bool {
        let (began, ended) = self.disturbed;
        (began..ended).contains(&(sent.max(0) as u64))
    }
}

impl Probe {
    /// `None`: too little arrived to say.
    fn outcome(&self) -> Option<Outcome> {
        let arrivals = &self.arrivals;
        let enough = f64::from(self.sent_packets) * MIN_SHARE;
        if arrivals.packets < MIN_PACKETS || f64::from(arrivals.packets) < enough {
            return None;
        }
        let sending = span(arrivals.first_sent.0, arrivals.last_sent.0)?;
        let arriving = span(arrivals.first.0, arrivals.last.0)?;
        // The last packet's sending and the first one's way are outside of what was timed.
        let bytes =
            |without: u16| DataSize::from_bytes(arrivals.bytes.saturating_sub(without.into()));
        let sent = bytes(arrivals.last_sent.1).over(sending)?.min(self.rate);
        let received = bytes(arrivals.first.1).over(arriving)?;
        if received >= sent.scale(UNSATURATED) {
            let (rate, saturated) = (received.min(sent), false);
            return Some(Outcome { rate, saturated });
        }
        // A path that is full makes each packet later than the one before. If none is, the time between the
        // first and the last tells of the path's turns, as radio has them, and not of its rate.
        let missing = 1.0 - received.as_bps() as f64 / sent.as_bps().max(1) as f64;
        let expected = missing * sending.as_micros() as f64 / 2.0;
        let saturated = arrivals
            .growth()
            .is_none_or(|growth| growth as f64 >= expected * LATER);
        let rate = match saturated {
            true => received.scale(UTILISATION),
            false => sent,
        };
        Some(Outcome { rate, saturated })
    }
}

fn span(from: i64, to: i64) -> Option<Duration> {
    let micros = u64::try_from(to.checked_sub(from)?).ok()?;
    (1..10_000_000)
        .contains(&micros)
        .then(|| Duration::from_micros(micros))
}

impl Arrivals {
    /// By how much longer the second half took than the first.
    fn growth(&self) -> Option<i64> {
        let [first, second] = self.halves;
        Some(second? - first?)
    }

    fn add(&mut self, packet: Acknowledged, arrival: i64, half: usize) {
        if let Some(least) = self.halves.get_mut(half) {
            let delay = arrival - packet.sent;
            *least = Some(least.map_or(delay, |least| least.min(delay)));
        }
        if self.packets == 0 {
            self.first_sent = (packet.sent, packet.size);
            self.last_sent = self.first_sent;
            self.first = (arrival, packet.size);
            self.last = self.first;
        }
        if packet.sent < self.first_sent.0 {
            self.first_sent = (packet.sent, packet.size);
        }
        if packet.sent >= self.last_sent.0 {
            self.last_sent = (packet.sent, packet.size);
        }
        if arrival < self.first.0 {
            self.first = (arrival, packet.size);
        }
        if arrival >= self.last.0 {
            self.last = (arrival, packet.size);
        }
        self.packets += 1;
        self.bytes += u64::from(packet.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000;

    fn path(estimate: u64) -> Path {
        Path {
            estimate: Bitrate::from_kbps(estimate),
            calm: true,
            detailed: true,
            patience: 600 * MILLI,
        }
    }

    /// Runs probes for a time over a path that carries `capacity`, and answers the padding sent and the
    /// estimate at the end. Nothing else is sent.
    fn run(
        control: &mut ProbeControl,
        mut estimate: u64,
        capacity: u64,
        millis: u64,
    ) -> (u64, u64) {
        let (mut padding, mut number) = (0, 0);
        let mut free_at = 0;
        let mut arrivals: Vec<(Acknowledged, i64)> = Vec::new();
        for milli in 0..millis {
            let now = milli * MILLI;
            let id = match control.deadline(path(estimate).estimate) {
                Some(at) if at <= now => control.advance(path(estimate), now),
                _ => control.sending().map_or(0, |probe| probe.id),
            };
            while let Some(due) = (id != 0).then(|| control.padding(now)).flatten() {
                for _ in 0..due.as_bytes().div_ceil(250) {
                    control.packet_sent(number, 250);
                    free_at = now.max(free_at) + 250 * 8 * MILLI / capacity;
                    let packet = Acknowledged {
                        number,
                        sent: now as i64,
                        size: 250,
                        probe: id,
                    };
                    arrivals.push((packet, free_at as i64));
                    number += 1;
                    padding += 250;
                }
            }
            // Feedback every 100 ms.
            if milli % 100 == 0 {
                let (come, rest) = arrivals.into_iter().partition(|(_, at)| *at <= now as i64);
                arrivals = rest;
                let come: Vec<(Acknowledged, i64)> = come;
                let reached = come.last().map(|(packet, _)| packet.number + 1);
                come.into_iter()
                    .for_each(|(packet, at)| control.receive(packet, at));
                let found = reached
                    .and_then(|reached| control.evaluate(reached, path(estimate).estimate, now));
                estimate = found.map_or(estimate, |found| estimate.max(found.rate.as_bps() / 1000));
            }
        }
        (padding, estimate)
    }

    #[test]
    fn what_fits_is_found_in_a_second() {
        let mut control = ProbeControl::new();
        control.set_wish(Bitrate::from_kbps(6_000), Bitrate::from_kbps(6_000));
        let (_, estimate) = run(&mut control, 1_000, 20_000, 1_000);
        assert!(estimate >= 6_000, "{estimate}");
    }

    #[test]
    fn what_does_not_fit_is_asked_for_less_and_less() {
        let mut control = ProbeControl::new();
        control.set_wish(Bitrate::from_kbps(1_500), Bitrate::from_kbps(6_000));
        let (_, estimate) = run(&mut control, 1_000, 1_000, 10_000);
        assert!((950..=1_010).contains(&estimate), "{estimate}");
        let (padding, estimate) = run(&mut control, estimate, 1_000, 60_000);
        assert!((950..=1_010).contains(&estimate), "{estimate}");
        // Of what the path carries in a minute.
        let share = padding * 100 / (1_000 * 60 * 125);
        assert!((1..=4).contains(&share), "{share} %");
    }

    #[test]
    fn nothing_is_sent_for_nobody_or_into_congestion() {
        let mut control = ProbeControl::new();
        assert_eq!(run(&mut control, 1_000, 20_000, 5_000).0, 0);
        control.set_wish(Bitrate::from_kbps(900), Bitrate::from_kbps(900));
        assert_eq!(run(&mut control, 1_000, 20_000, 5_000).0, 0);
        control.set_wish(Bitrate::from_kbps(3_000), Bitrate::from_kbps(3_000));
        let congested = Path {
            calm: false,
            ..path(1_000)
        };
        assert_eq!(control.advance(congested, 0), 0);
        assert!(
            control
                .deadline(congested.estimate)
                .is_some_and(|at| at > 0)
        );
    }
}
