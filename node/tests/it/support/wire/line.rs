//! A line behind the socket that carries so much and no more, and what the client says of it:
//! transport-wide feedback. What the line has no room for is dropped, as far as the client knows; the test
//! sees it all the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipemesh_node_core::rtcp::{ArrivalLog, CompoundWriter, MAX_FEEDBACK_LEN};

/// What would wait longer is dropped.
const QUEUE: Duration = Duration::from_millis(300);
const REPORT_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Line {
    bits_per_second: u64,
    /// When it has carried all that it took.
    free: Instant,
    /// Numbers, with the moment at which they are through.
    under_way: VecDeque<(Instant, u16)>,
    arrivals: ArrivalLog,
    pub(super) next_report: Instant,
}

impl Line {
    pub(super) fn new(bits_per_second: u64, now: Instant) -> Self {
        Self {
            bits_per_second,
            free: now,
            under_way: VecDeque::new(),
            arrivals: ArrivalLog::new(now),
            next_report: now + REPORT_EVERY,
        }
    }

    pub(super) fn set_rate(&mut self, bits_per_second: u64) {
        self.bits_per_second = bits_per_second;
    }

    pub(super) fn carry(&mut self, number: u16, len: usize, now: Instant) {
        let begins = self.free.max(now);
        if begins - now <= QUEUE {
            let takes = len as f64 * 8.0 / self.bits_per_second as f64;
            self.free = begins + Duration::from_secs_f64(takes);
            self.under_way.push_back((self.free, number));
        }
    }

    /// Feedback on what came through since the last one.
    pub(super) fn report(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next_report = now + REPORT_EVERY;
        while let Some(&(at, number)) = self.under_way.front()
            && at <= now
        {
            self.arrivals.handle_arrival(number, at);
            self.under_way.pop_front();
        }
        let mut body = [0; MAX_FEEDBACK_LEN];
        let len = self.arrivals.feedback(&mut body);
        if len == 0 {
            return None;
        }
        let mut out = [0; 1400];
        let mut writer = CompoundWriter::new(&mut out);
        assert!(writer.transport_feedback(1, 0, &body[..len]));
        let len = writer.len();
        Some(out[..len].to_vec())
    }
}
