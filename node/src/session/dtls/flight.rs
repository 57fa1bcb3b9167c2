//! Repeats the server's last flight until the client has it (RFC 6347 section 4.2.4).
//!
//! By a timer of its own, whatever the flight, also where the RFC leaves it to the client: a client's
//! pauses double, so that of the joins over a line that loses a fifth one in a thousand took ten
//! seconds. A HelloVerifyRequest need not wait to be asked for: an address that has not been proved gets no
//! more bytes than came from it, repetitions included (`ice/probation.rs`). Nor need the Finished of a
//! server, which a client that has it drops.
//!
//! rtc-dtls gives its own timer up as soon as anything of a handshake comes in, and browsers
//! repeat their flight long before that timer fires; so a lost flight of ours would never be sent
//! again. The datagrams are repeated as they were: a client that has seen them drops them by their
//! record numbers.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// First repetition. Chromium and Firefox repeat theirs after 50 ms; a lower value than theirs
/// would send everything twice on long paths.
const FIRST_TIMEOUT: Duration = Duration::from_millis(100);

/// Timed repetitions, each after twice the time of the one before: over 25 seconds, longer than SDKs wait
/// for a connection.
const MAX_TIMEOUTS: u32 = 8;

/// Fragments of one repeated flight of the client's arrive together.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// Repetitions on the client's demand. A browser asks about ten times within a handshake's
/// deadline; this bounds what someone who replays its datagrams can make us send.
const MAX_REPEATS: u32 = 20;

pub(super) struct Flight {
    datagrams: Vec<Bytes>,
    sent_at: Instant,
    deadline: Option<Instant>,
    timeouts: u32,
    repeats: u32,
}

impl Flight {
    /// `datagrams` have just been sent.
    pub(super) fn new(datagrams: Vec<Bytes>, now: Instant) -> Self {
        Self {
            datagrams,
            sent_at: now,
            deadline: Some(now + FIRST_TIMEOUT),
            timeouts: 0,
            repeats: 0,
        }
    }

    /// The client repeats its flight: what to send again.
    pub(super) fn handle_repeat(&mut self, now: Instant) -> &[Bytes] {
        let quiet = now.saturating_duration_since(self.sent_at) >= MIN_INTERVAL;
        if !quiet || self.repeats == MAX_REPEATS {
            return &[];
        }
        self.repeats += 1;
        self.sent_at = now;
        &self.datagrams
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What to send again because nothing came back.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> &[Bytes] {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return &[];
        }
        self.timeouts += 1;
        self.deadline =
            (self.timeouts < MAX_TIMEOUTS).then(|| now + FIRST_TIMEOUT * 2u32.pow(self.timeouts));
        self.sent_at = now;
        &self.datagrams
    }
}

#[cfg(test)]
mod tests;
