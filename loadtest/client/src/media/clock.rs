//! The clock of all stamps and reports: the system's monotonic one, so that one-way latency is exact
//! between all participants of a machine, whichever process they are in.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A moment, and what the clock said then.
static EPOCH: OnceLock<(Instant, Duration)> = OnceLock::new();

/// A stamp that is older, or from the future, was made by another machine's clock.
const LONGEST_WAY: Duration = Duration::from_secs(60);

/// NTP seconds at the epoch. Nobody compares them with another clock.
const NTP_AT_EPOCH: u64 = 3_900_000_000;

pub(crate) fn nanos(at: Instant) -> u64 {
    let (epoch, said) = *EPOCH.get_or_init(|| {
        let said = clock_gettime(ClockId::Monotonic);
        let said = Duration::try_from(said).unwrap_or_default();
        (Instant::now(), said)
    });
    let since = match at.checked_duration_since(epoch) {
        Some(since) => said + since,
        None => said.saturating_sub(epoch - at),
    };
    since.as_nanos() as u64
}

/// How long ago that was. None: it is another machine's time.
pub(crate) fn age(sent: u64, now: Instant) -> Option<Duration> {
    let age = Duration::from_nanos(nanos(now).checked_sub(sent)?);
    (age <= LONGEST_WAY).then_some(age)
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
