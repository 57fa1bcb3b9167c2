//! The clock of all stamps and reports: monotonic, one for the process, so that one-way latency
//! between its participants is exact.

use std::sync::OnceLock;
use std::time::Instant;

static EPOCH: OnceLock<Instant> = OnceLock::new();

/// NTP seconds at the epoch. Nobody compares them with another clock.
const NTP_AT_EPOCH: u64 = 3_900_000_000;

pub(crate) fn nanos(at: Instant) -> u64 {
    let epoch = *EPOCH.get_or_init(|| at);
    at.saturating_duration_since(epoch).as_nanos() as u64
}

/// 32 bits of seconds, 32 of their fraction.
pub(crate) fn ntp(at: Instant) -> u64 {
    let nanos = nanos(at);
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    ((NTP_AT_EPOCH + seconds) << 32) | ((rest << 32) / 1_000_000_000)
}

/// What reports say of a sender report's time, in 1/65536 s.
pub(crate) fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}
