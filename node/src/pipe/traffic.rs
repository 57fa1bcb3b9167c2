//! How much goes over a pipe at present, out of counters that begin anew with each connection. Pure.

use std::time::{Duration, Instant};

/// Rates follow the last second. Shorter, and a key frame is all that is seen.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Bits a second, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    counted: Option<(Instant, Bytes)>,
    rates: Rates,
}

/// What a connection has sent and received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Traffic {
    /// `None`: there is no connection.
    pub(super) fn count(&mut self, bytes: Option<Bytes>, now: Instant) -> Rates {
        let Some(bytes) = bytes else {
            *self = Self::default();
            return self.rates;
        };
        let (at, before) = *self.counted.get_or_insert((now, bytes));
        let elapsed = now.saturating_duration_since(at);
        let is_same = before.sent <= bytes.sent && before.received <= bytes.received;
        if !is_same {
            // Another connection has begun to count.
            self.counted = Some((now, bytes));
            return self.rates;
        }
        if elapsed >= MEASURE_EVERY {
            let rate = |before: u64, after: u64| {
                let bits = u128::from(after - before) * 8;
                (bits * 1000 / elapsed.as_millis().max(1)) as u64
            };
            self.rates = Rates {
                sent: rate(before.sent, bytes.sent),
                received: rate(before.received, bytes.received),
            };
            self.counted = Some((now, bytes));
        }
        self.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_second_whatever_the_connection() {
        let start = Instant::now();
        let mut traffic = Traffic::default();
        let mut check = |millis: u64, bytes: Option<(u64, u64)>, expected: (u64, u64)| {
            let bytes = bytes.map(|(sent, received)| Bytes { sent, received });
            let rates = traffic.count(bytes, start + Duration::from_millis(millis));
            assert_eq!((rates.sent, rates.received), expected, "{millis}");
        };
        check(0, None, (0, 0));
        check(100, Some((5_000, 900)), (0, 0));
        check(1_000, Some((9_000, 1_000)), (0, 0));
        check(1_100, Some((130_000, 1_900)), (1_000_000, 8_000));
        check(1_200, Some((999_000, 2_000)), (1_000_000, 8_000));
        // Another connection counts from the beginning.
        check(1_300, Some((100, 100)), (1_000_000, 8_000));
        check(3_300, Some((100, 25_100)), (0, 100_000));
        check(3_400, None, (0, 0));
    }
}
