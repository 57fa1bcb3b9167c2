//! Cuts what rtc-sctp sends into bursts. It sends all that its congestion window allows at once,
//! hundreds of packets of a long message, and what a socket's buffer or a queue on the way cannot
//! take of their end is noticed only by a timer of a second.

use std::time::{Duration, Instant};

/// Packets at once, and the pause behind them: 60 Mbit/s. More does not fit the default receive
/// buffer of a browser's socket twice.
const BURST: u32 = 32;
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// Left of this burst.
    left: u32,
    /// None before the first.
    pub(super) next_burst: Option<Instant>,
}

impl Pacer {
    /// Whether a packet may go.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if self.next_burst.is_none_or(|at| at <= now) {
            self.left = BURST;
            self.next_burst = Some(now + PAUSE);
        }
        let admit = self.left > 0;
        self.left -= u32::from(admit);
        admit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_a_pause() {
        let mut pacer = Pacer::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            assert_eq!((0..100).filter(|_| pacer.admit(now)).count(), 32);
            assert!(!pacer.admit(now + PAUSE - Duration::from_nanos(1)));
            assert_eq!(pacer.next_burst, Some(now + PAUSE));
            now += PAUSE;
        }
    }
}
