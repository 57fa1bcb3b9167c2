//! What loss says about the path. Congestion of a path with hardly a queue shows as loss and nothing else;
//! radio links lose packets whatever is sent. So only loss beyond what the path loses anyway counts, and
//! only if it is more than chance.

/// Loss beyond the usual from which on it is congestion (draft-ietf-rmcat-gcc-02 section 6).
const CONGESTION: f64 = 0.10;
/// Fewer packets prove nothing.
const MIN_PACKETS: u32 = 20;
/// A verdict is reached over at most this long, in microseconds; short of proof begins anew.
const PERIOD: i64 = 1_000_000;
/// More than this is never taken for the way of the path.
const MOST_USUAL: f64 = 0.25;
/// What a path loses anyway is the least of so many seconds.
const USUAL_PERIOD: i64 = 10_000_000;

/// What the packets of a moment say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Too little is known yet.
    Open,
    Fine,
    Congested,
}

#[derive(Debug, Default)]
pub(super) struct LossTrend {
    received: u32,
    lost: u32,
    since: i64,
    /// Least share of a finished period in the current and the last ten seconds.
    least: Option<f64>,
    least_before: Option<f64>,
    least_since: i64,
    last: f64,
}

impl LossTrend {
    /// `now` in microseconds.
    pub(super) fn judge(&mut self, received: u32, lost: u32, now: i64) -> Verdict {
        self.received = self.received.saturating_add(received);
        self.lost = self.lost.saturating_add(lost);
        let packets = self.received.saturating_add(self.lost);
        if packets < MIN_PACKETS {
            return Verdict::Open;
        }
        let (packets, lost) = (f64::from(packets), f64::from(self.lost));
        let share = lost / packets;
        let bound = CONGESTION + self.usual();
        // Twice the standard deviation of what chance does at the bound.
        let chance = 2.0 * (packets * bound * (1.0 - bound)).sqrt();
        if lost > bound * packets + chance {
            self.finish(share, now);
            return Verdict::Congested;
        }
        if now - self.since < PERIOD {
            return Verdict::Open;
        }
        self.finish(share, now);
        Verdict::Fine
    }

    fn finish(&mut self, share: f64, now: i64) {
        if now - self.least_since >= USUAL_PERIOD {
            self.least_before = self.least.take();
            self.least_since = now;
        }
        self.least = Some(self.least.map_or(share, |least| least.min(share)));
        (self.received, self.lost, self.since) = (0, 0, now);
        self.last = share;
    }

    /// What the path loses whatever is sent. Nothing until ten seconds have been seen.
    pub(super) fn usual(&self) -> f64 {
        match (self.least, self.least_before) {
            (Some(least), Some(before)) => least.min(before).min(MOST_USUAL),
            (None, Some(before)) => before.min(MOST_USUAL),
            (_, None) => 0.0,
        }
    }

    /// Share of the last finished period.
    pub(super) fn share(&self) -> f64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Verdicts of so many seconds with so much loss, a hundred packets each.
    fn verdicts(trend: &mut LossTrend, from: i64, seconds: i64, lost: u32) -> Vec<Verdict> {
        (from..from + seconds)
            .map(|second| trend.judge(100 - lost, lost, second * SECOND))
            .filter(|verdict| *verdict != Verdict::Open)
            .collect()
    }

    #[test]
    fn much_loss_is_congestion_and_some_is_not() {
        fn check(lost: u32, expected: Verdict) {
            let verdicts = verdicts(&mut LossTrend::default(), 1, 9, lost);
            assert!(!verdicts.is_empty());
            assert!(
                verdicts.iter().all(|v| *v == expected),
                "{lost}: {verdicts:?}"
            );
        }
        check(0, Verdict::Fine);
        check(5, Verdict::Fine);
        // Might be chance.
        check(15, Verdict::Fine);
        check(17, Verdict::Congested);
        check(60, Verdict::Congested);
    }

    #[test]
    fn few_packets_prove_nothing() {
        let mut trend = LossTrend::default();
        assert_eq!(trend.judge(0, 10, SECOND), Verdict::Open);
        assert_eq!(trend.judge(9, 0, 2 * SECOND), Verdict::Open);
        assert_eq!(trend.judge(1, 0, 3 * SECOND), Verdict::Congested);
    }

    #[test]
    fn what_a_path_always_loses_is_its_way() {
        let mut trend = LossTrend::default();
        verdicts(&mut trend, 1, 25, 20);
        assert!((trend.usual() - 0.2).abs() < 1e-9);
        assert_eq!(verdicts(&mut trend, 26, 5, 20), [Verdict::Fine; 5]);
        assert_eq!(verdicts(&mut trend, 31, 5, 45), [Verdict::Congested; 5]);
        // Ten good seconds later it is not any more.
        verdicts(&mut trend, 36, 25, 0);
        assert!(trend.usual() < 1e-9);
    }
}
