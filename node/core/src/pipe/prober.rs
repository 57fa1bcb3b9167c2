//! Probes of a pipe's path: whether it still carries full datagrams, and how far apart the clocks at its ends
//! are.
//!
//! QUIC is told to keep to a size that every sensible path carries ([`super`] says why), so it would not notice
//! one that does not: small packets arrive, full ones never. Both ends send a probe a second, which says when
//! the last one of the other side came, as in NTP (RFC 5905 section 8); some are as long as datagrams get. Pure:
//! time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::Probe;

/// Between two probes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Every so manieth is a full one. After one that did not arrive every second is, until it is known why.
const FULL_EVERY: u32 = 10;
/// Full ones in a row that did not arrive, while small ones did. Fewer are lost by chance on a bad path.
const NARROW: u32 = 4;
/// Probes that an answer may still come to.
const UNANSWERED: usize = 16;
/// Round trips of which the shortest tells how far apart the clocks are: it has waited least on its way.
const SAMPLES: usize = 16;

/// How long a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    /// As long as the longest datagram of media.
    Full,
}

/// See the module. One for each connection.
#[derive(Debug)]
pub struct Prober {
    /// Clocks of this side count from here, in microseconds.
    origin: Instant,
    sequence: u32,
    next_at: Instant,
    /// Oldest first.
    unanswered: VecDeque<(u64, Size)>,
    full_lost: u32,
    /// The last one of the other side: its clock, and when it came.
    heard: Option<(u64, Instant)>,
    /// Round trip, and what the other side's clock is ahead by, in microseconds.
    samples: VecDeque<(u64, i64)>,
}

impl Prober {
    /// `origin`: where the clock begins that datagrams are stamped by.
    pub fn new(origin: Instant, now: Instant) -> Self {
        Self {
            origin,
            sequence: 0,
            next_at: now,
            unanswered: VecDeque::new(),
            full_lost: 0,
            heard: None,
            samples: VecDeque::new(),
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Instant) -> Option<(Probe, Size)> {
        if now < self.next_at {
            return None;
        }
        let in_doubt = self.full_lost > 0 && self.sequence.is_multiple_of(2);
        let size = match self.sequence.is_multiple_of(FULL_EVERY) || in_doubt {
            true => Size::Full,
            false => Size::Small,
        };
        // The other side tells of the last one alone: a full one is to be the last for two of its turns.
        self.next_at = match size {
            Size::Full => now + 2 * INTERVAL,
            Size::Small => now + INTERVAL,
        };
        // 0 stands for none.
        let sent = micros(self.origin, now).max(1);
        let (echoed, since) = self.heard.unwrap_or((0, now));
        let probe = Probe {
            sequence: self.sequence,
            sent,
            echoed,
            echo_delay: u32::try_from(micros(since, now)).unwrap_or(u32::MAX),
        };
        self.sequence = self.sequence.wrapping_add(1);
        if self.unanswered.len() == UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((sent, size));
        Some((probe, size))
    }

    /// One of the other side's has come.
    pub fn handle(&mut self, probe: &Probe, now: Instant) {
        self.heard = Some((probe.sent, now));
        let place = self
            .unanswered
            .iter()
            .position(|(sent, _)| *sent == probe.echoed);
        // It says so until it hears the next one.
        let Some(place) = place else {
            return;
        };
        let mut answered = self.unanswered.drain(..=place);
        let last = answered.next_back();
        let lost = answered.filter(|(_, size)| *size == Size::Full).count();
        self.full_lost += u32::try_from(lost).unwrap_or(u32::MAX);
        if last.is_some_and(|(_, size)| size == Size::Full) {
            self.full_lost = 0;
        }
        let passed = micros(self.origin, now).saturating_sub(probe.echoed);
        let Some(round_trip) = passed.checked_sub(probe.echo_delay.into()) else {
            return;
        };
        let then = probe.sent.wrapping_add(round_trip / 2);
        let ahead = then.wrapping_sub(micros(self.origin, now)).cast_signed();
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((round_trip, ahead));
    }

    /// Whether full datagrams get lost where small ones do not.
    pub fn is_narrow(&self) -> bool {
        self.full_lost >= NARROW
    }

    /// How long what the other side has stamped with this was on its way. Wrong by at most half of what the
    /// ways there and back differ by; `None`: not known yet.
    pub fn latency(&self, sent: u32, now: Instant) -> Option<Duration> {
        let (_, ahead) = self.samples.iter().min()?;
        let there = micros(self.origin, now).wrapping_add_signed(*ahead);
        // Stamps count modulo 2^32. One that the clocks' error makes negative was as good as at once.
        let passed = (there as u32).wrapping_sub(sent).cast_signed();
        Some(Duration::from_micros(u64::try_from(passed).unwrap_or(0)))
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    let passed = to.saturating_duration_since(from).as_micros();
    u64::try_from(passed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
